// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * SYNs to tuples that the stack holds: in every state that a connection may be left in by a client which
 * crashed, or closed and came again; with any sequence number. What a client and the server see must be
 * what they see without us, wherever the tuple came from: held before attach, begun while we did not
 * answer, or promoted by us.
 *
 * A cell is one tuple: a way of being held, a kind of SYN, a variant of the two families. All cells of a
 * world are begun, then tried at once, and what became of each is written down in words. Those of the world
 * without us are what is expected.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <netinet/in.h>

#include <linux/bpf.h>

#include <bpf/bpf.h>

#include "abi.h"

#include "product.h"

#define TOOLS "build/tests/tools/"

enum {
	PORT = 8080, /* the listener takes both families */
	PORT_IPV4,   /* this one IPv4 alone */
	LISTENERS = 2,
	CLIENT = 7,	  /* FAKE_IP4 and FAKE_IP6 */
	SPORT = 20000,	  /* of the first cell */
	ROUNDS = 4,	  /* SYNs that a client sends at the most */
	SILENT_MS = 1000, /* nothing here is met by silence: spent only where something is wrong */
	FAR = 1000000,	  /* beyond every window */
	NEAR = 100,	  /* within it */
	TSVAL = 1000000,  /* of the first SYN (hand_new()) */
	LATER = 2000,
	TURNS = 3, /* of the filter's generations, before the SYNs come */
};

struct variant {
	const char *name;
	const char *server;
	int port;
	bool timestamps;
};

static const struct variant variants[] = {
	{ "IPv4", SERVER_IP4, PORT_IPV4, true },
	{ "IPv4 without timestamps", SERVER_IP4, PORT_IPV4, false },
	{ "IPv4 at a listener of both families", SERVER_IP4, PORT, true },
	{ "IPv6", SERVER_IP6, PORT, true },
	{ "IPv6 without timestamps", SERVER_IP6, PORT, false },
};

enum kind {
	KIND_SAME,  /* the first SYN once more: a duplicate, or in SYN-RECEIVED a retransmission */
	KIND_NEWER, /* a client that has crashed and come up again, or used its port again */
	KIND_WITHIN,
	KIND_OLDER,
	KIND_OLDER_LATER, /* older by its sequence number, newer by its timestamp */
	KIND_FINAL_ACK,	  /* no SYN at all: the handshake goes on */
	KINDS,
};

static const char *const kinds[] = { "the same SYN",
				     "a newer SYN",
				     "a SYN within the window",
				     "an older SYN",
				     "an older SYN with a later timestamp",
				     "the final ACK" };

struct cell {
	const struct way *way;
	const struct variant *variant;
	enum kind kind;
	uint16_t sport;

	struct hand hand; /* of the first handshake */
	uint32_t isn;	  /* of the client's first SYN */
	uint32_t snd_nxt; /* the client's */
	uint32_t rcv_nxt; /* what the server has sent, its FIN included, be it acknowledged or not */
	int old;	  /* the server's sockets: of the connection that holds the tuple, */
	int fresh;	  /* and of the one behind it */

	struct hand again; /* of the second handshake */
	bool connected;
	bool done;
	char outcome[256];
};

enum { CELLS_MAX = 400 };

static struct cell cells[CELLS_MAX];
static int cell_count;
/* What became of each without us. */
static char expected[CELLS_MAX][sizeof(cells->outcome)];
static bool expected_known;

/* When the tuples come to be held. */
enum when {
	WHEN_NATIVE,   /* and we never come */
	WHEN_ANSWERED, /* while we answer: what can be is promoted */
	WHEN_BEFORE,   /* before attach */
	WHEN_SHADOW,   /* under policy shadow */
	WHEN_DRAINING, /* while detach drains; then attached again */
};

struct plan {
	enum when when;
	bool daemon;	/* `run`, and the filter's generations have turned before the SYNs come */
	bool steered;	/* receive packet steering spreads segments over both CPUs */
	bool untracked; /* the tracing program is gone: no event is seen, where others miss some */
	bool full;	/* the filter knows every tuple there is */
};

struct world {
	struct product product;
	struct wire *wire;
	int listeners[LISTENERS];
	struct plan plan;
};

/* ---- what is written down ---- */

__attribute__((format(printf, 2, 3))) static void tell(struct cell *cell, const char *fmt, ...)
{
	size_t at = strlen(cell->outcome);
	va_list args;

	if (at && at < sizeof(cell->outcome) - 3) {
		strcpy(cell->outcome + at, ", ");
		at += 2;
	}
	va_start(args, fmt);
	vsnprintf(cell->outcome + at, sizeof(cell->outcome) - at, fmt, args);
	va_end(args);
}

static struct cell *cell_of_port(unsigned int port)
{
	return port >= SPORT && port < SPORT + (unsigned int)cell_count ? &cells[port - SPORT] : NULL;
}

/* What the server's stack has of each tuple, by cell: the state's name, or "nothing". */
static void read_states(const struct world *world, char states[CELLS_MAX][16])
{
	const char *line = netns_output(world->product.pair.server, "ss -Htan | awk '{ print $1, $5 }'");

	REQUIRE(line, "%s", netns_said());
	for (int i = 0; i < cell_count; i++)
		strcpy(states[i], "nothing");
	for (; *line; line += strcspn(line, "\n") + 1) {
		const size_t end = strcspn(line, "\n");
		const char *colon = memrchr(line, ':', end);
		const struct cell *cell = colon ? cell_of_port((unsigned int)atoi(colon + 1)) : NULL;

		if (cell)
			snprintf(states[cell - cells], 16, "%.*s", (int)strcspn(line, " "), line);
		if (!line[end])
			break;
	}
}

/* ---- ways of being held ---- */

/* A segment of the client's, next in its stream. */
static void say(struct world *world, struct cell *cell, uint16_t flags, const char *payload, uint32_t ack)
{
	struct tcp_spec spec = cell->hand.spec;

	spec.flags = flags;
	spec.seq = cell->snd_nxt;
	spec.ack = ack;
	spec.payload = payload;
	spec.payload_len = payload ? (uint16_t)strlen(payload) : 0;
	wire_send(world->wire, &spec);
	cell->snd_nxt += spec.payload_len + !!(flags & FIN);
}

static void begin_established(struct world *world, struct cell *cell)
{
	char word[4];

	REQUIRE(hand_syn(&cell->hand), "no SYN-ACK");
	cell->snd_nxt = cell->hand.spec.seq;
	cell->rcv_nxt = cell->hand.spec.ack;
	say(world, cell, ACK, NULL, cell->rcv_nxt);
	/* The client speaks: of a server that speaks first we would answer no SYN. */
	say(world, cell, ACK | PSH, "held", cell->rcv_nxt);
	cell->old = tcp_accept(world->listeners[cell->variant->port - PORT], 1000);
	REQUIRE(cell->old >= 0 && tcp_read(cell->old, word, 4, 1000) == 4, "no connection");
}

/* The server closes; its FIN is seen, and not yet acknowledged. */
static void server_closes(struct world *world, struct cell *cell)
{
	struct tcp_frame fin;

	close(cell->old);
	cell->old = -1;
	REQUIRE(wire_recv_flags(world->wire, &cell->hand.spec, FIN, RST, 1000, &fin), "no FIN");
	cell->rcv_nxt = fin.seq + fin.payload_len + 1;
}

static void client_closes(struct world *world, struct cell *cell)
{
	struct pollfd wait = { .fd = cell->old, .events = POLLIN };

	say(world, cell, FIN | ACK, NULL, cell->rcv_nxt);
	REQUIRE(poll(&wait, 1, 1000) == 1, "the client's FIN is lost");
}

static void begin_unacknowledged(struct world *world, struct cell *cell)
{
	begin_established(world, cell);
	EXPECT_EQ(write(cell->old, "told", 4), 4);
}

static void begin_close_wait(struct world *world, struct cell *cell)
{
	begin_established(world, cell);
	client_closes(world, cell);
}

static void begin_last_ack(struct world *world, struct cell *cell)
{
	begin_close_wait(world, cell);
	server_closes(world, cell);
}

static void begin_client_first(struct world *world, struct cell *cell)
{
	begin_last_ack(world, cell);
	say(world, cell, ACK, NULL, cell->rcv_nxt);
}

static void begin_fin_wait_1(struct world *world, struct cell *cell)
{
	begin_established(world, cell);
	server_closes(world, cell);
}

static void begin_fin_wait_2(struct world *world, struct cell *cell)
{
	begin_fin_wait_1(world, cell);
	say(world, cell, ACK, NULL, cell->rcv_nxt);
}

static void begin_server_first(struct world *world, struct cell *cell)
{
	begin_fin_wait_2(world, cell);
	say(world, cell, FIN | ACK, NULL, cell->rcv_nxt);
}

static void begin_both(struct world *world, struct cell *cell)
{
	begin_fin_wait_1(world, cell);
	say(world, cell, FIN | ACK, NULL, cell->rcv_nxt - 1); /* it has crossed the server's */
	say(world, cell, ACK, NULL, cell->rcv_nxt);
}

static void begin_syn_received(struct world *world, struct cell *cell)
{
	/* Where we answer, a SYN is only the stack's if it must be: one with data, say. */
	if (world->plan.when == WHEN_ANSWERED) {
		cell->hand.spec.payload = "x";
		cell->hand.spec.payload_len = 1;
	}
	REQUIRE(hand_syn(&cell->hand), "no SYN-ACK");
	cell->hand.spec.payload_len = 0;
	cell->snd_nxt = cell->hand.spec.seq;
	cell->rcv_nxt = cell->hand.spec.ack;
}

static const struct way {
	const char *name;
	void (*begin)(struct world *world, struct cell *cell);
	const char *state; /* as `ss` has it */
	/*
	 * net.ipv4.tcp_fin_timeout: up to 60 an orphan in FIN-WAIT-2 is kept like one in TIME-WAIT, above
	 * that as a socket of full size.
	 */
	int fin_timeout;
} ways[] = {
	{ "TIME-WAIT, the server closed first", begin_server_first, "TIME-WAIT", 60 },
	{ "TIME-WAIT, both closed at once", begin_both, "TIME-WAIT", 60 },
	{ "the client closed first", begin_client_first, "nothing", 60 },
	{ "FIN-WAIT-2, an orphan", begin_fin_wait_2, "FIN-WAIT-2", 60 },
	{ "FIN-WAIT-1, an orphan", begin_fin_wait_1, "FIN-WAIT-1", 60 },
	{ "CLOSE-WAIT", begin_close_wait, "CLOSE-WAIT", 60 },
	{ "LAST-ACK", begin_last_ack, "LAST-ACK", 60 },
	{ "ESTABLISHED", begin_established, "ESTAB", 60 },
	{ "ESTABLISHED, data on the way", begin_unacknowledged, "ESTAB", 60 },
	{ "SYN-RECEIVED", begin_syn_received, "SYN-RECV", 60 },
	{ "FIN-WAIT-2, an orphan of full size", begin_fin_wait_2, "FIN-WAIT-2", 120 },
};

static void begin_all(struct world *world)
{
	int fin_timeout = 60;

	for (int i = 0; i < cell_count; i++) {
		struct cell *cell = &cells[i];
		char seconds[8];

		if (cell->way->fin_timeout != fin_timeout) {
			fin_timeout = cell->way->fin_timeout;
			snprintf(seconds, sizeof(seconds), "%d", fin_timeout);
			netns_sysctl(world->product.pair.server, "net.ipv4.tcp_fin_timeout", seconds);
		}
		cell->hand = hand_new(world->wire, CLIENT, cell->sport, cell->variant->server,
				      (uint16_t)cell->variant->port, cell->variant->timestamps);
		cell->isn = cell->hand.spec.seq;
		cell->way->begin(world, cell);
	}
}

/* ---- the client comes again ---- */

static struct hand second_syn(struct world *world, const struct cell *cell)
{
	const struct variant *v = cell->variant;
	struct hand hand = hand_new(world->wire, CLIENT, cell->sport, v->server, (uint16_t)v->port,
				    v->timestamps);
	uint32_t tsval = TSVAL + LATER;

	switch (cell->kind) {
	case KIND_NEWER: hand.spec.seq = cell->snd_nxt + FAR; break;
	case KIND_WITHIN: hand.spec.seq = cell->snd_nxt + NEAR; break;
	case KIND_OLDER: tsval = TSVAL - LATER; /* fall through */
	case KIND_OLDER_LATER: hand.spec.seq = cell->isn - FAR; break;
	default: return hand;
	}
	if (v->timestamps)
		hand.spec.options = options_linux(strchr(v->server, ':') ? 1440 : 1460, tsval, 7);
	return hand;
}

/* A copy of a SYN that the network has kept: nobody is in SYN-SENT. */
static bool is_duplicate(const struct cell *cell)
{
	return cell->kind == KIND_SAME && cell->way->begin != begin_syn_received;
}

static void send_final_ack(struct world *world, struct cell *cell, const struct hand *hand)
{
	struct tcp_spec data = hand_data(hand, 0, "hello", 5);

	wire_send(world->wire, &hand->spec);
	wire_send(world->wire, &data);
	cell->connected = cell->done = true;
}

static void send_reset(struct world *world, const struct cell *cell, uint32_t seq)
{
	struct tcp_spec reset = cell->again.spec;

	reset.flags = RST;
	reset.seq = seq;
	reset.options = options_none();
	wire_send(world->wire, &reset);
}

/* What the stack sends again by itself, a second after the first SYN: no answer to this one. */
static bool is_sent_again(const struct cell *cell, const struct tcp_frame *frame)
{
	return cell->way->begin == begin_syn_received && frame->flags & SYN &&
	       frame->seq == cell->hand.synack.seq && frame->ack != cell->again.spec.seq + 1;
}

/* In SYN-SENT (RFC 9293 section 3.10.7.3): what the client makes of the answer, if one is there by @end. */
static void react(struct world *world, struct cell *cell, int64_t end)
{
	const struct tcp_spec *syn = &cell->again.spec;
	struct tcp_frame frame;
	bool answered;

	do {
		const int left = (int)(end - now_ms());

		answered = wire_recv(world->wire, syn, left > 0 ? left : 0, &frame);
	} while (answered && is_sent_again(cell, &frame));
	if (!answered) {
		tell(cell, "silence");
	} else if (frame.flags & RST) {
		tell(cell, "RST");
		/* Refused. Whoever tries once more takes another sequence number. */
		cell->again.spec.seq += 5 * FAR;
	} else if (frame.flags & SYN && frame.ack == syn->seq + 1) {
		const uint32_t ahead = frame.seq - cell->rcv_nxt;

		/*
		 * The stack keeps clear of what a connection in TIME-WAIT has sent, by 65,537 (RFC 6191,
		 * tcp_timewait_state_process). A number by hash falls that near once in 2^28 times.
		 */
		if (cell->way->begin == begin_syn_received && frame.seq == cell->hand.synack.seq)
			tell(cell, "the same SYN-ACK");
		else if (!strcmp(cell->way->state, "TIME-WAIT") && ahead - 65530 < 16)
			tell(cell, "SYN-ACK %u ahead", ahead);
		else
			tell(cell, "SYN-ACK");
		if (is_duplicate(cell)) {
			send_reset(world, cell, frame.ack);
			return;
		}
		cell->again.synack = frame;
		cell->again.spec.flags = ACK;
		cell->again.spec.seq = syn->seq + 1;
		cell->again.spec.ack = frame.seq + 1;
		cell->again.spec.options = cell->variant->timestamps
						   ? options_ts(TSVAL + LATER + 1, frame.tsval)
						   : options_none();
		send_final_ack(world, cell, &cell->again);
	} else {
		/* It acknowledges nothing of ours. */
		tell(cell, "ACK %d", (int)(frame.ack - cell->snd_nxt));
		if (!is_duplicate(cell))
			send_reset(world, cell, frame.ack);
	}
}

static void try_round(struct world *world)
{
	int64_t end;

	poll(NULL, 0, 20);
	wire_drain(world->wire); /* retransmissions of what was before */
	for (int i = 0; i < cell_count; i++) {
		struct cell *cell = &cells[i];

		if (!cell->done && cell->kind == KIND_FINAL_ACK)
			send_final_ack(world, cell, &cell->hand);
		else if (!cell->done)
			wire_send(world->wire, &cell->again.spec);
		/* A veth device has room for 256 frames, and the answers come as fast as this. */
		if (i % 64 == 63)
			nap();
	}
	end = now_ms() + SILENT_MS;
	for (int i = 0; i < cell_count; i++) {
		struct cell *cell = &cells[i];

		if (!cell->done)
			react(world, cell, end);
		if (is_duplicate(cell))
			cell->done = true;
	}
}

/* Of the first SYNs, all to tuples that the stack holds were passed for that, and all others answered. */
static void expect_counted(struct world *world, char states[CELLS_MAX][16], long long held,
			   long long answered)
{
	int holding = 0, free = 0;

	for (int i = 0; i < cell_count; i++)
		if (cells[i].kind != KIND_FINAL_ACK)
			++*(strcmp(states[i], "nothing") ? &holding : &free);
	EXPECT_EQ(counter(&world->product, "syn_passed_held") - held, holding);
	EXPECT_EQ(counter(&world->product, "syn_answered") - answered, free);
}

static void accept_all(struct world *world)
{
	struct sockaddr_in6 peer;
	int fd;

	for (int i = 0; i < LISTENERS; i++)
		while ((fd = tcp_accept(world->listeners[i], 100)) >= 0) {
			socklen_t size = sizeof(peer);
			struct cell *cell;

			REQUIRE(!getpeername(fd, (void *)&peer, &size));
			cell = cell_of_port(ntohs(peer.sin6_port)); /* at the same place for IPv4 */
			if (!cell || cell->fresh >= 0) {
				EXPECT(false, "accepted from port %u", ntohs(peer.sin6_port));
				close(fd);
				continue;
			}
			cell->fresh = fd;
		}
}

/* What the server has of the connection that held the tuple, and whether that goes on. */
static void tell_old(struct world *world, struct cell *cell)
{
	char word[8];
	ssize_t length;

	if (cell->old < 0)
		return;
	if (is_duplicate(cell) && !strcmp(cell->way->state, "ESTAB")) {
		say(world, cell, ACK | PSH, "more", cell->rcv_nxt);
		tell(cell, "the old one takes %ld bytes", tcp_read(cell->old, word, 4, 500));
		return;
	}
	length = recv(cell->old, word, sizeof(word), MSG_DONTWAIT);
	tell(cell, "the old one: %s", length > 0 ? "bytes" : !length ? "end" : strerror(errno));
}

static void tell_fresh(struct world *world, struct cell *cell)
{
	struct tcp_frame frame;
	char word[8];

	if (!cell->connected)
		return;
	if (cell->fresh < 0) {
		tell(cell, "not accepted");
		return;
	}
	tell(cell, "accepted, %ld bytes", tcp_read(cell->fresh, word, 5, 500));
	tell(cell, "%s",
	     write(cell->fresh, "world", 5) == 5 &&
			     wire_recv_flags(world->wire, &cell->hand.spec, PSH, RST, 500, &frame) &&
			     frame.payload_len == 5 && !memcmp(frame.payload, "world", 5)
		     ? "an answer"
		     : "no answer");
}

/* ---- a world ---- */

static void talk(struct world *world, const char *address, int port)
{
	close(tcp_connect(world->product.pair.client, address, port, 1000));
}

static void forget_accepted(struct world *world)
{

	for (int i = 0; i < LISTENERS; i++)
		tcp_accept_all(world->listeners[i]);
}

/* Takes the tracing program out of the kernel: nobody else holds it. */
static void untrack(const struct product *product)
{
	const char *id = netns_output(NULL, "bpftool -j link show pinned %s/links/track | jq .prog_id",
				      product->pins);
	int program = id ? atoi(id) : 0;

	REQUIRE(program > 0, "%s", netns_said());
	netns_must(NULL, "rm %s/links/track", product->pins);
	REQUIRE(WAIT_FOR(netns_sh(NULL, "bpftool prog show id %d", program), 3000), "it is still there");
}

/* Sets all bits of both generations. */
static void know_all(const struct world *world)
{
	struct bpf_map_info info = {};
	struct known_word *words;
	__u32 length = sizeof(info);
	char path[96];
	size_t size;
	int fd;

	snprintf(path, sizeof(path), "%s/known_tuples", world->product.pins);
	fd = bpf_obj_get(path);
	REQUIRE(fd >= 0 && !bpf_obj_get_info_by_fd(fd, &info, &length), "%s: %s", path, strerror(errno));
	size = info.max_entries * sizeof(*words);
	words = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	REQUIRE(words != MAP_FAILED, "%s", strerror(errno));
	for (__u32 i = 0; i < info.max_entries; i++)
		words[i].bits = ~0ULL;
	munmap(words, size);
	close(fd);
}

static void attach(struct world *world, const char *arguments)
{
	netns_must(world->product.pair.server,
		   PROGRAM " attach " SERVER_IF
			   " --port 8080,8081 --canary once --firewall-checked --pin-path %s %s",
		   world->product.pins, arguments);
}

static void admit(struct world *world)
{
	product_admit(&world->product, SERVER_IP4, PORT_IPV4);
	product_admit(&world->product, SERVER_IP4, PORT);
	product_admit(&world->product, SERVER_IP6, PORT);
	forget_accepted(world);
}

static bool says(struct world *world, const char *word)
{
	return !product_run(&world->product, "status") && strstr(netns_said(), word);
}

/* Begins what shall be held; then we answer. */
static void begin_world(struct world *world)
{
	long long promoted = 0;
	pid_t detach;

	switch (world->plan.when) {
	case WHEN_NATIVE: begin_all(world); return;
	case WHEN_BEFORE:
		begin_all(world);
		attach(world, "");
		if (world->plan.untracked)
			untrack(&world->product);
		break;
	case WHEN_SHADOW:
		attach(world, "--policy shadow");
		for (int i = 0; i < 4; i++) {
			talk(world, SERVER_IP4, PORT_IPV4);
			talk(world, SERVER_IP4, PORT);
			talk(world, SERVER_IP6, PORT);
		}
		forget_accepted(world);
		begin_all(world);
		EXPECT(counter(&world->product, "syn_passed_shadow") >= cell_count);
		EXPECT_EQ(counter(&world->product, "syn_answered"), 0);
		product_must(&world->product, "set *:8080 policy=always");
		product_must(&world->product, "set *:8081 policy=always");
		break;
	case WHEN_DRAINING:
		attach(world, "");
		admit(world);
		detach = netns_spawn(world->product.pair.server, "/dev/null",
				     PROGRAM " detach --all --pin-path %s", world->product.pins);
		REQUIRE(WAIT_FOR(says(world, "draining"), 3000), "%s", netns_said());
		begin_all(world);
		EXPECT(counter(&world->product, "syn_passed_draining") >= cell_count);
		attach(world, "");
		netns_stop(detach, SIGKILL, 1000);
		break;
	case WHEN_ANSWERED:
		if (world->plan.daemon) {
			netns_spawn(world->product.pair.server, "/dev/null",
				    PROGRAM " run " SERVER_IF
					    " --port 8080,8081 --canary once --turn 1 --firewall-checked "
					    "--pin-path %s",
				    world->product.pins);
			REQUIRE(WAIT_FOR(says(world, "answering"), 20000), "%s", netns_said());
		} else {
			attach(world, "");
		}
		if (world->plan.untracked)
			untrack(&world->product);
		if (world->plan.full)
			know_all(world);
		admit(world);
		promoted = counter(&world->product, "promoted");
		begin_all(world);
		for (int i = 0; i < cell_count; i++)
			promoted += cells[i].way->begin != begin_syn_received;
		EXPECT_EQ(counter(&world->product, "promoted"), promoted);
	}
	admit(world);
}

static long long turned(const struct world *world)
{
	const char *ms = netns_output(
		NULL, "bpftool -j map dump pinned %s/settings | jq .[0].formatted.value.turned_ms",
		world->product.pins);

	REQUIRE(ms, "%s", netns_said());
	return atoll(ms);
}

static void wait_turns(const struct world *world)
{
	for (int i = 0; i < TURNS; i++) {
		const long long last = turned(world);

		REQUIRE(WAIT_FOR(turned(world) != last, 5000), "the generations do not turn");
	}
}

/*
 * Both CPUs take what the device receives, by hash of the tuple. /sys/class/net shows the namespace that it
 * was mounted in (netns.h).
 */
static bool steer(const struct netns *ns)
{
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		return false;
	netns_must(ns, "unshare -m sh -c 'mount -t sysfs sysfs /sys && "
		       "cd /sys/class/net/" SERVER_IF "/queues/rx-0 && echo 3 >rps_cpus && "
		       "grep -q [^0,] rps_cpus'");
	return true;
}

static void make_cells(void)
{
	cell_count = 0;
	for (size_t w = 0; w < sizeof(ways) / sizeof(*ways); w++)
		for (size_t v = 0; v < sizeof(variants) / sizeof(*variants); v++)
			for (enum kind kind = 0; kind < KINDS; kind++) {
				if (kind == KIND_OLDER_LATER && !variants[v].timestamps)
					continue;
				if (kind == KIND_FINAL_ACK && ways[w].begin != begin_syn_received)
					continue;
				REQUIRE(cell_count < CELLS_MAX);
				cells[cell_count] = (struct cell){
					.way = &ways[w],
					.variant = &variants[v],
					.kind = kind,
					.sport = (uint16_t)(SPORT + cell_count),
					.old = -1,
					.fresh = -1,
				};
				cell_count++;
			}
}

/* All cells through a world; their outcomes are left in them. */
static void run_world(struct plan plan)
{
	static char before[CELLS_MAX][16], after[CELLS_MAX][16];
	struct world world = { .product = product_new(NULL, NULL), .plan = plan };
	const struct pair *pair = &world.product.pair;
	long long held = 0, answered = 0;

	make_cells();
	if (plan.steered && !steer(pair->server))
		SKIP("receive packet steering needs two CPUs");
	/* Whether a challenge ACK is left out must not depend on how fast this machine is. */
	netns_sysctl(pair->server, "net.ipv4.tcp_invalid_ratelimit", "0");
	world.listeners[0] = tcp_listen(pair->server, NULL, PORT, 1024);
	world.listeners[1] = tcp_listen(pair->server, SERVER_IP4, PORT_IPV4, 1024);
	world.wire = wire_open(pair->client, CLIENT_IF);
	begin_world(&world);
	read_states(&world, before);
	for (int i = 0; i < cell_count; i++)
		EXPECT_STR(before[i], cells[i].way->state, "%s, %s", cells[i].way->name,
			   cells[i].variant->name);
	if (plan.daemon)
		wait_turns(&world);
	for (int i = 0; i < cell_count; i++)
		cells[i].again = second_syn(&world, &cells[i]);
	if (plan.when != WHEN_NATIVE) {
		held = counter(&world.product, "syn_passed_held");
		answered = counter(&world.product, "syn_answered");
	}
	for (int round = 0; round < ROUNDS; round++) {
		try_round(&world);
		if (!round && plan.when != WHEN_NATIVE)
			expect_counted(&world, before, held, answered);
	}
	accept_all(&world);
	for (int i = 0; i < cell_count; i++) {
		tell_old(&world, &cells[i]);
		tell_fresh(&world, &cells[i]);
	}
	read_states(&world, after);
	for (int i = 0; i < cell_count; i++) {
		tell(&cells[i], "%s", after[i]);
		close(cells[i].old);
		close(cells[i].fresh);
	}
	for (int i = 0; i < LISTENERS; i++)
		close(world.listeners[i]);
	wire_close(world.wire);
}

static void expect_as_native(struct plan plan)
{
	if (!expected_known) {
		run_world((struct plan){ .when = WHEN_NATIVE });
		for (int i = 0; i < cell_count; i++) {
			strcpy(expected[i], cells[i].outcome);
			if (getenv("VERBOSE"))
				printf("# %s, %s, %s: %s\n", cells[i].way->name, kinds[cells[i].kind],
				       cells[i].variant->name, expected[i]);
		}
		expected_known = true;
	}
	run_world(plan);
	for (int i = 0; i < cell_count; i++)
		EXPECT_STR(cells[i].outcome, expected[i], "%s, %s, %s", cells[i].way->name,
			   kinds[cells[i].kind], cells[i].variant->name);
}

CASE("SYNs to connections that we promoted, in every state: as natively")
{
	expect_as_native((struct plan){ .when = WHEN_ANSWERED });
}

CASE("the same where receive packet steering spreads the segments over both CPUs")
{
	expect_as_native((struct plan){ .when = WHEN_ANSWERED, .steered = true });
}

CASE("the same with receive packet steering, and the tracing program sees no event at all")
{
	expect_as_native((struct plan){ .when = WHEN_ANSWERED, .steered = true, .untracked = true });
}

CASE("the same with a filter that says yes to every tuple")
{
	expect_as_native((struct plan){ .when = WHEN_ANSWERED, .full = true });
}

CASE("SYNs to connections and handshakes from before attach: as natively")
{
	expect_as_native((struct plan){ .when = WHEN_BEFORE });
}

CASE("from before attach, with receive packet steering and without the tracing program: as natively")
{
	expect_as_native((struct plan){ .when = WHEN_BEFORE, .steered = true, .untracked = true });
}

CASE("SYNs to connections and handshakes that were begun under policy shadow: as natively, steered as well")
{
	expect_as_native((struct plan){ .when = WHEN_SHADOW });
	expect_as_native((struct plan){ .when = WHEN_SHADOW, .steered = true });
}

CASE("SYNs to connections and handshakes that were begun while detach drained: as natively, steered as "
     "well")
{
	expect_as_native((struct plan){ .when = WHEN_DRAINING });
	expect_as_native((struct plan){ .when = WHEN_DRAINING, .steered = true });
}

CASE("with the daemon, when the filter's generations have turned: as natively")
{
	expect_as_native((struct plan){ .when = WHEN_ANSWERED, .daemon = true });
}

CASE("with the daemon and receive packet steering, when the generations have turned: as natively")
{
	expect_as_native((struct plan){ .when = WHEN_ANSWERED, .daemon = true, .steered = true });
}

/* ---- many ---- */

/*
 * 10,000 connections. The server closes first, and the client has so few ports that nearly each is used
 * while its last connection is in TIME-WAIT; but the stack keeps 500 of those more than before, for the
 * thousand ports that connect() prefers. Without us @rate is what the machine can do.
 */
static void churn(const struct product *product, const char *address, int rate)
{
	static int buckets;
	char number[16];

	snprintf(number, sizeof(number), "%d", buckets += 500);
	netns_sysctl(product->pair.server, "net.ipv4.tcp_max_tw_buckets", number);
	EXPECT_EQ(netns_sh(product->pair.client,
			   "timeout 30 " TOOLS "churn --connect %s --port %d --deadline 5 --count 10000 "
			   "--rate %d --concurrency 32 --payload 10 --server-closes",
			   address, PORT, rate),
		  0, "%s: %s", address, netns_said());
}

/* Likewise, with us: SYNs were passed for their tuple, others answered. */
static void churn_with_us(const struct product *product, const char *address)
{
	const long long held = counter(product, "syn_passed_held"),
			answered = counter(product, "syn_answered");
	long long more_held, more_answered;

	/* So slowly that generations turn meanwhile, and not all tuples come again while one does. */
	churn(product, address, 3000);
	more_held = counter(product, "syn_passed_held") - held;
	more_answered = counter(product, "syn_answered") - answered;
	printf("# %s: %lld SYNs passed, their tuple was held; %lld answered\n", address, more_held,
	       more_answered);
	EXPECT(more_held > 1000 && more_answered > 1000, "%s: %lld passed, %lld answered: it shows nothing",
	       address, more_held, more_answered);
}

/* Events that the tracing program did not see, because it would have interrupted itself. */
static long long missed(const struct product *product)
{
	const char *number = netns_output(
		NULL,
		"bpftool -j prog show id $(bpftool -j link show pinned %s/links/track | jq .prog_id) | "
		"jq '.recursion_misses // 0'",
		product->pins);

	REQUIRE(number, "%s", netns_said());
	return atoll(number);
}

CASE("20,000 connections, each tuple used many times, steered to both CPUs, while generations turn: none "
     "fails")
{
	struct product product = product_new(NULL, NULL);
	const struct pair *pair = &product.pair;

	if (!steer(pair->server))
		SKIP("receive packet steering needs two CPUs");
	netns_sysctl(pair->client, "net.ipv4.ip_local_port_range", "42000 43999");
	netns_spawn(pair->server, "/dev/null",
		    TOOLS "respond --port %d --backlog 4096 --quiet --close-first", PORT);
	REQUIRE(WAIT_FOR(netns_listens(pair->server, PORT), 3000));
	churn(&product, SERVER_IP4, 20000);
	churn(&product, SERVER_IP6, 20000);
	netns_spawn(pair->server, "/dev/null",
		    PROGRAM " run " SERVER_IF " --port 8080 --turn 1 --firewall-checked --pin-path %s",
		    product.pins);
	REQUIRE(WAIT_FOR(!product_run(&product, "status") && strstr(netns_said(), "answering"), 5000), "%s",
		netns_said());
	/* Other ports: a service is learned from SYNs, but not from those to tuples that are held. */
	netns_sysctl(pair->client, "net.ipv4.ip_local_port_range", "40000 41999");
	product_admit(&product, SERVER_IP4, PORT);
	product_admit(&product, SERVER_IP6, PORT);
	churn_with_us(&product, SERVER_IP4);
	printf("# %lld events missed\n", missed(&product));
	untrack(&product); /* and now all of them */
	churn_with_us(&product, SERVER_IP6);
}

int main(int argc, char **argv)
{
	return report_main(argc, argv, NULL);
}
