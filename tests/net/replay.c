// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * A cookie promotes once. A client that is no kernel, as fast as it can be, makes connections by the ten
 * thousand, and sends the final ACK and the first segment of each again: right behind themselves, when the
 * server has answered, when the connection is gone, and when many others have come and gone since. The
 * server must see each connection and each request once, and no client may be turned away.
 *
 *	build/tests/net/replay full [PART OF A CASE'S NAME]...
 *
 * goes on for longer than a cookie lives, with the table that attach makes.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>

#include "../lib/frame.h"
#include "product.h"

enum {
	PORT = 8080,
	REQUEST = 64,
	IN_FLIGHT = 96,
	ADDRESSES = 200, /* of either family */
	FIRST_PORT = 2000,
	AGAIN_US = 300000,     /* without an answer: like any client's retransmission */
	GIVEN_UP_US = 5000000, /* and like no client's */
	SCAN_US = 50000,
	LATER = 3000, /* connections later */
	FRAME_ROOM = 192,
	BURST = 64,
	RING_FRAMES = 8192,
	RING_FRAME = 512,
	TWIN_FRAMES = 4096,
	WAYS = 8, /* abi.h: USED_WAYS */
};

static bool full;

/* ---- frames ---- */

enum kind { KIND_SYN, KIND_ACK, KIND_DATA, KIND_FIN, KIND_LAST, KIND_RST, KINDS };

/* One of a client without numbers; by family and timestamps. */
struct form {
	uint8_t bytes[FRAME_ROOM];
	uint32_t length, source, tcp, echo;
};

static struct form forms[2][2][KINDS];

static struct tcp_spec spec_of(bool v6, bool timestamps, enum kind kind)
{
	static const uint8_t request[REQUEST] = "GET / HTTP/1.1\r\n";
	struct tcp_spec spec = syn_spec(ip(v6 ? FAKE_IP6 "1" : FAKE_IP4 "1"), 1,
					ip(v6 ? SERVER_IP6 : SERVER_IP4), PORT);
	const uint16_t mss = v6 ? 1440 : 1460;

	if (kind == KIND_SYN) {
		spec.options = timestamps ? options_linux(mss, 1000, 7) : options_windows(mss, 8);
		return spec;
	}
	spec.options = timestamps ? options_ts(1001, 0) : options_none();
	spec.window = 502;
	spec.flags = ACK;
	if (kind == KIND_DATA) {
		spec.flags |= PSH;
		spec.payload = request;
		spec.payload_len = sizeof(request);
	} else if (kind == KIND_FIN) {
		spec.flags |= FIN;
	} else if (kind == KIND_RST) {
		spec.flags |= RST;
	}
	return spec;
}

static void make_forms(void)
{
	for (int v6 = 0; v6 < 2; v6++)
		for (int timestamps = 0; timestamps < 2; timestamps++)
			for (int kind = 0; kind < KINDS; kind++) {
				struct tcp_spec spec = spec_of(v6, timestamps, (enum kind)kind);
				struct form *form = &forms[v6][timestamps][kind];

				form->length = (uint32_t)frame_build(&spec, form->bytes, FRAME_ROOM);
				form->source = v6 ? 14 + 8 + 15 : 14 + 12 + 3;
				form->tcp = 14 + (v6 ? 40 : 20);
				form->echo = timestamps && kind != KIND_SYN ? form->tcp + 20 + 8 : 0;
			}
}

static void put16(uint8_t *at, uint16_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static void put32(uint8_t *at, uint32_t value)
{
	put16(at, (uint16_t)(value >> 16));
	put16(at + 2, (uint16_t)value);
}

static uint16_t get16(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

static uint32_t get32(const uint8_t *at)
{
	return (uint32_t)get16(at) << 16 | get16(at + 2);
}

/* ---- the two directions of the wire ---- */

struct sender {
	int fd;
	unsigned int count;
	uint8_t bytes[BURST][FRAME_ROOM];
	size_t length[BURST];
};

static int packet_socket(int protocol)
{
	const struct sockaddr_ll address = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons((uint16_t)protocol),
		.sll_ifindex = (int)if_nametoindex(CLIENT_IF),
	};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0), on = 1;

	if (fd >= 0 && (setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on)) ||
			setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof(on)) ||
			bind(fd, (const struct sockaddr *)&address, sizeof(address)))) {
		close(fd);
		return -1;
	}
	return fd;
}

static void sender_flush(struct sender *sender)
{
	struct mmsghdr messages[BURST] = {};
	struct iovec iov[BURST];
	unsigned int done = 0;

	for (unsigned int i = 0; i < sender->count; i++) {
		iov[i] = (struct iovec){ sender->bytes[i], sender->length[i] };
		messages[i].msg_hdr.msg_iov = &iov[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
	while (done < sender->count) {
		int sent = sendmmsg(sender->fd, messages + done, sender->count - done, 0);

		/* A ring that is full empties by itself; what is lost, clients send again. */
		done += sent > 0 ? (unsigned int)sent : 1;
	}
	sender->count = 0;
}

static void sender_add(struct sender *sender, const uint8_t *bytes, size_t length)
{
	memcpy(sender->bytes[sender->count], bytes, length);
	sender->length[sender->count] = length;
	if (++sender->count == BURST)
		sender_flush(sender);
}

/* Frames as they come, in memory shared with the kernel. */
struct receiver {
	int fd;
	uint8_t *ring;
	unsigned int next;
};

static void receiver_open(struct receiver *receiver)
{
	struct tpacket_req request = {
		.tp_block_size = RING_FRAMES * RING_FRAME / 64,
		.tp_block_nr = 64,
		.tp_frame_size = RING_FRAME,
		.tp_frame_nr = RING_FRAMES,
	};
	int version = TPACKET_V2;

	receiver->next = 0;
	receiver->fd = packet_socket(ETH_P_ALL);
	REQUIRE(receiver->fd >= 0, "%s", strerror(errno));
	REQUIRE(!setsockopt(receiver->fd, SOL_PACKET, PACKET_VERSION, &version, sizeof(version)) &&
			!setsockopt(receiver->fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof(request)),
		"%s", strerror(errno));
	receiver->ring = mmap(NULL, (size_t)RING_FRAMES * RING_FRAME, PROT_READ | PROT_WRITE, MAP_SHARED,
			      receiver->fd, 0);
	REQUIRE(receiver->ring != MAP_FAILED, "%s", strerror(errno));
}

static void receiver_close(struct receiver *receiver)
{
	munmap(receiver->ring, (size_t)RING_FRAMES * RING_FRAME);
	close(receiver->fd);
}

/* ---- a second sender, on another CPU ---- */

/* Takes frames from the crowd and sends them at once: copies that race with what they are copies of. */
struct twin {
	pthread_t thread;
	int fd;
	atomic_uint put, taken;
	atomic_bool over;
	struct {
		uint8_t bytes[FRAME_ROOM];
		size_t length;
	} frames[TWIN_FRAMES];
};

static void stay_on(int cpu)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	sched_setaffinity(0, sizeof(one), &one);
}

static void *twin_main(void *arg)
{
	struct twin *twin = arg;

	stay_on(1);
	while (!atomic_load(&twin->over)) {
		const unsigned int at = atomic_load(&twin->taken);

		if (at == atomic_load(&twin->put)) {
			sched_yield();
			continue;
		}
		send(twin->fd, twin->frames[at % TWIN_FRAMES].bytes, twin->frames[at % TWIN_FRAMES].length,
		     0);
		atomic_store(&twin->taken, at + 1);
	}
	return NULL;
}

/* What there is no room for is not sent: it is but a copy. */
static void twin_add(struct twin *twin, const uint8_t *bytes, size_t length)
{
	const unsigned int at = atomic_load(&twin->put);

	if (at - atomic_load(&twin->taken) == TWIN_FRAMES)
		return;
	memcpy(twin->frames[at % TWIN_FRAMES].bytes, bytes, length);
	twin->frames[at % TWIN_FRAMES].length = length;
	atomic_store(&twin->put, at + 1);
}

/* ---- clients ---- */

enum stage { STAGE_SYN_SENT, STAGE_ASKED, STAGE_CLOSING, STAGE_CLOSED, STAGE_FAILED };

struct client {
	int64_t began_us;
	int64_t sent_us; /* what it waits for an answer to */
	uint32_t isn;
	uint32_t server_isn;
	uint32_t echo;
	uint32_t answered; /* bytes */
	enum stage stage;
};

/* Client after client; each has the next tuple, and when there are no more, the first one's comes again. */
struct crowd {
	struct sender sender;
	struct receiver receiver;
	struct twin *twin; /* or NULL */
	struct client *clients;
	uint32_t *settled; /* clients in the order in which they were done */
	uint32_t count, tuples, begun, done;
	uint32_t in_flight[IN_FLIGHT], flying;
	uint32_t failed, refused, sent_again;
	unsigned long long replays;
	int64_t us;
};

static bool closes_by_reset(uint32_t number)
{
	return number % 5 == 3;
}

/* Tuples: by turns IPv4 and IPv6, in pairs with and without timestamps. */
static bool is_v6(uint32_t tuple)
{
	return tuple & 1;
}

static bool has_timestamps(uint32_t tuple)
{
	return tuple & 2;
}

static void crowd_send(struct crowd *crowd, uint32_t number, enum kind kind, bool by_twin)
{
	const struct client *client = &crowd->clients[number];
	const uint32_t tuple = number % crowd->tuples, host = tuple / 2;
	const struct form *form = &forms[is_v6(tuple)][has_timestamps(tuple)][kind];
	uint32_t seq = client->isn, ack = client->server_isn + 1;
	uint8_t bytes[FRAME_ROOM];

	switch (kind) {
	case KIND_SYN: ack = 0; break;
	case KIND_ACK:
	case KIND_DATA: seq += 1; break;
	case KIND_FIN:
	case KIND_RST:
		seq += 1 + REQUEST;
		ack += client->answered;
		break;
	default: seq += 2 + REQUEST; ack += client->answered + 1;
	}
	memcpy(bytes, form->bytes, form->length);
	bytes[form->source] = (uint8_t)(1 + host % ADDRESSES);
	put16(bytes + form->tcp, (uint16_t)(FIRST_PORT + host / ADDRESSES));
	put32(bytes + form->tcp + 4, seq);
	put32(bytes + form->tcp + 8, ack);
	if (form->echo)
		put32(bytes + form->echo, client->echo);
	frame_fix_checksums(bytes, form->length);
	if (by_twin)
		twin_add(crowd->twin, bytes, form->length);
	else
		sender_add(&crowd->sender, bytes, form->length);
}

static void replay(struct crowd *crowd, uint32_t number)
{
	crowd_send(crowd, number, KIND_ACK, crowd->twin);
	crowd_send(crowd, number, KIND_DATA, crowd->twin);
	crowd->replays += 2;
}

static void ask(struct crowd *crowd, uint32_t number)
{
	crowd_send(crowd, number, KIND_ACK, false);
	crowd_send(crowd, number, KIND_DATA, false);
}

static void begin_client(struct crowd *crowd)
{
	const uint32_t number = crowd->begun++;
	struct client *client = &crowd->clients[number];

	client->isn = (number + 1) * 0x9e3779b1;
	client->stage = STAGE_SYN_SENT;
	client->began_us = client->sent_us = now_us();
	crowd->in_flight[crowd->flying++] = number;
	crowd_send(crowd, number, KIND_SYN, false);
}

static void settle(struct crowd *crowd, uint32_t number, enum stage stage)
{
	crowd->clients[number].stage = stage;
	for (uint32_t i = 0; i < crowd->flying; i++)
		if (crowd->in_flight[i] == number) {
			crowd->in_flight[i] = crowd->in_flight[--crowd->flying];
			break;
		}
	crowd->failed += stage == STAGE_FAILED;
	crowd->settled[crowd->done++] = number;
	if (stage == STAGE_CLOSED)
		replay(crowd, number);
	if (crowd->done > LATER &&
	    crowd->clients[crowd->settled[crowd->done - LATER]].stage == STAGE_CLOSED)
		replay(crowd, crowd->settled[crowd->done - LATER]);
}

/* TSval of a SYN-ACK. */
static uint32_t timestamp_of(const uint8_t *tcp, uint32_t length)
{
	for (uint32_t at = 20; at + 10 <= length && tcp[at];) {
		if (tcp[at] == 8)
			return get32(tcp + at + 2);
		at += tcp[at] == 1 ? 1 : tcp[at + 1];
	}
	return 0;
}

static void client_hears(struct crowd *crowd, uint32_t number, const uint8_t *tcp, uint32_t length)
{
	struct client *client = &crowd->clients[number];
	const uint32_t seq = get32(tcp + 4), ack = get32(tcp + 8), header = (uint32_t)(tcp[12] >> 4) * 4;
	const uint8_t flags = tcp[13];
	const uint32_t payload = length > header ? length - header : 0;

	if (flags & RST) {
		/* Of the client that is there now, and not one that had the tuple before. */
		if (client->stage == STAGE_ASKED && seq == client->server_isn + 1) {
			crowd->refused++;
			settle(crowd, number, STAGE_FAILED);
		}
		return;
	}
	switch (client->stage) {
	case STAGE_SYN_SENT:
		if ((flags & (SYN | ACK)) != (SYN | ACK) || ack != client->isn + 1)
			return;
		client->server_isn = seq;
		client->echo = timestamp_of(tcp, header);
		client->stage = STAGE_ASKED;
		if (crowd->twin)
			replay(crowd, number);
		ask(crowd, number);
		if (!crowd->twin)
			replay(crowd, number);
		break;
	case STAGE_ASKED:
		if (!payload || seq != client->server_isn + 1)
			return;
		client->answered = payload;
		replay(crowd, number);
		if (closes_by_reset(number)) {
			crowd_send(crowd, number, KIND_RST, false);
			settle(crowd, number, STAGE_CLOSED);
			return;
		}
		client->stage = STAGE_CLOSING;
		crowd_send(crowd, number, KIND_FIN, false);
		break;
	case STAGE_CLOSING:
		if (!(flags & FIN) || seq != client->server_isn + 1 + client->answered)
			return;
		crowd_send(crowd, number, KIND_LAST, false);
		settle(crowd, number, STAGE_CLOSED);
		return;
	default: return;
	}
	client->sent_us = now_us();
}

/* Whom a frame is for: the client that has its tuple. */
static void crowd_hears(struct crowd *crowd, const uint8_t *frame, uint32_t size)
{
	const bool v6 = get16(frame + 12) == ETH_P_IPV6;
	const uint8_t *ip = frame + 14, *tcp = ip + (v6 ? 40 : 20);
	uint32_t length, host, tuple, number;

	if (size < 14u + 20 + (v6 ? 40 : 20) || (!v6 && get16(frame + 12) != ETH_P_IP) ||
	    ip[v6 ? 6 : 9] != IPPROTO_TCP || get16(tcp) != PORT || get16(tcp + 2) < FIRST_PORT)
		return;
	length = v6 ? get16(ip + 4) : get16(ip + 2) - 20u;
	host = (uint32_t)(get16(tcp + 2) - FIRST_PORT) * ADDRESSES + (uint32_t)(v6 ? ip[39] : ip[19]) - 1;
	tuple = host * 2 + v6;
	if (tuple >= crowd->tuples || tuple >= crowd->begun)
		return;
	number = (crowd->begun - 1 - tuple) / crowd->tuples * crowd->tuples + tuple;
	client_hears(crowd, number, tcp, length);
}

static bool crowd_listen(struct crowd *crowd)
{
	struct receiver *receiver = &crowd->receiver;
	bool any = false;

	for (;;) {
		uint8_t *slot = receiver->ring + (size_t)receiver->next * RING_FRAME;
		struct tpacket2_hdr *header = (void *)slot;

		if (!(__atomic_load_n(&header->tp_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER))
			break;
		crowd_hears(crowd, slot + header->tp_mac, header->tp_snaplen);
		__atomic_store_n(&header->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
		receiver->next = (receiver->next + 1) % RING_FRAMES;
		any = true;
	}
	return any;
}

/* What was lost on the way is sent again, as by any client. */
static void crowd_patience(struct crowd *crowd)
{
	const int64_t now = now_us();

	for (uint32_t i = crowd->flying; i-- > 0;) {
		const uint32_t number = crowd->in_flight[i];
		struct client *client = &crowd->clients[number];

		if (now - client->began_us > GIVEN_UP_US) {
			settle(crowd, number, STAGE_FAILED);
			continue;
		}
		if (now - client->sent_us < AGAIN_US)
			continue;
		client->sent_us = now;
		crowd->sent_again++;
		if (client->stage == STAGE_SYN_SENT)
			crowd_send(crowd, number, KIND_SYN, false);
		else if (client->stage == STAGE_ASKED)
			ask(crowd, number);
		else
			crowd_send(crowd, number, KIND_FIN, false);
	}
}

static void crowd_run(struct crowd *crowd)
{
	const int64_t began = now_us();
	int64_t looked = began;

	while (crowd->done < crowd->count) {
		while (crowd->flying < IN_FLIGHT && crowd->begun < crowd->count)
			begin_client(crowd);
		sender_flush(&crowd->sender);
		if (!crowd_listen(crowd))
			sched_yield();
		if (now_us() - looked > SCAN_US) {
			crowd_patience(crowd);
			looked = now_us();
		}
	}
	sender_flush(&crowd->sender);
	crowd->us = now_us() - began;
}

/* Those of @from to @to once more, in the order in which they were done. */
static void crowd_replay(struct crowd *crowd, uint32_t from, uint32_t to)
{
	for (uint32_t i = from; i < to; i++) {
		if (crowd->clients[crowd->settled[i]].stage == STAGE_CLOSED)
			replay(crowd, crowd->settled[i]);
		if (i % IN_FLIGHT == 0) {
			sender_flush(&crowd->sender);
			crowd_listen(crowd);
		}
	}
	sender_flush(&crowd->sender);
	poll(NULL, 0, 100);
	crowd_listen(crowd);
}

static void crowd_new(struct crowd *crowd, const struct netns *ns, uint32_t count, uint32_t tuples)
{
	memset(crowd, 0, sizeof(*crowd));
	crowd->count = count;
	crowd->tuples = tuples;
	crowd->clients = calloc(count, sizeof(*crowd->clients));
	crowd->settled = calloc(count, sizeof(*crowd->settled));
	REQUIRE(crowd->clients && crowd->settled);
	make_forms();
	netns_enter(ns);
	receiver_open(&crowd->receiver);
	crowd->sender.fd = packet_socket(0);
	netns_enter(NULL);
	REQUIRE(crowd->sender.fd >= 0, "%s", strerror(errno));
}

static void crowd_free(struct crowd *crowd)
{
	receiver_close(&crowd->receiver);
	close(crowd->sender.fd);
	free(crowd->clients);
	free(crowd->settled);
}

/* ---- the server ---- */

#define SERVER_SAID "build/tests/replay-server"

static pid_t server_start(const struct product *product)
{
	const bool cpus = sysconf(_SC_NPROCESSORS_ONLN) > 1;
	pid_t server = netns_spawn(product->pair.server, SERVER_SAID,
				   "%s build/tests/tools/respond --port %d --backlog 4096 --echo --quiet",
				   cpus ? "taskset -c 1" : "", PORT);

	/* The clients, and the server's receive path with them. */
	if (cpus)
		stay_on(0);
	REQUIRE(WAIT_FOR(netns_listens(product->pair.server, PORT), 5000));
	product_admit(product, SERVER_IP4, PORT);
	product_admit(product, SERVER_IP6, PORT);
	return server;
}

/* "accepted=9990 open=0 …": one of the numbers. */
static long long server_said(const char *name)
{
	const char *said = netns_output(NULL, "sed -n 's/.*%s=\\([0-9]*\\).*/\\1/p' " SERVER_SAID, name);

	REQUIRE(said && *said, "%s is not in what the server said", name);
	return atoll(said);
}

/* Connections that the server's stack has made so far (PassiveOpens of RFC 4022). */
static long long passive_opens(const struct product *product)
{
	return atoll(netns_output(product->pair.server, "awk '/^Tcp: [0-9]/ { print $7 }' /proc/net/snmp")
			     ?: "");
}

/* Connections that are open now (CurrEstab). */
static long long open_connections(const struct product *product)
{
	return atoll(netns_output(product->pair.server, "awk '/^Tcp: [0-9]/ { print $10 }' /proc/net/snmp")
			     ?: "");
}

/* When it has come to the end of them. */
static void server_stop(const struct product *product, pid_t server)
{
	EXPECT(WAIT_FOR(!open_connections(product), 5000), "%lld connections are open",
	       open_connections(product));
	poll(NULL, 0, 100);
	netns_stop(server, SIGTERM, 3000);
}

struct books {
	long long opens, promoted, used, evicted;
};

static struct books books_read(const struct product *product)
{
	return (struct books){
		.opens = passive_opens(product),
		.promoted = counter(product, "promoted"),
		.used = counter(product, "promote_failed_used"),
		.evicted = counter(product, "used_evicted"),
	};
}

static void crowd_print(const struct crowd *crowd, const char *what)
{
	printf("# %s: %u connections, %.0f a second, %llu segments replayed, %u clients sent again\n", what,
	       crowd->count, crowd->count / ((double)crowd->us / 1e6), crowd->replays, crowd->sent_again);
}

static void expect_none_failed(const struct crowd *crowd)
{
	EXPECT_EQ(crowd->refused, 0);
	EXPECT_EQ(crowd->failed, 0);
}

/*
 * So many as would fill the table to the same part that 20,000 a second fill that which attach makes: for
 * 131,072 connections, 1,048,576 ways, of which a cookie takes one for at most 33.8 s.
 */
static uint32_t twenty_thousand_a_second(uint32_t connections)
{
	return (uint32_t)(20000 * 33.8 / (131072.0 * WAYS) * connections * WAYS);
}

CASE("as many as 20,000 a second, each replayed at once, later, and when it is gone: none is promoted "
     "twice")
{
	const uint32_t size = full ? 131072 : 4096, count = twenty_thousand_a_second(size);
	static struct crowd crowd;
	struct product product;
	struct books before, after;
	char arguments[64];
	pid_t server;

	report_case_limit(full ? 600 : 120);
	snprintf(arguments, sizeof(arguments), "--port %d --canary once --connections %u", PORT, size);
	product = product_new(NULL, arguments);
	server = server_start(&product);
	before = books_read(&product);
	/* One in four has a tuple that another one had before it. */
	crowd_new(&crowd, product.pair.client, count, count * 3 / 4 & ~3U);
	crowd_run(&crowd);
	crowd_replay(&crowd, 0, count);
	crowd_print(&crowd, "replays");
	expect_none_failed(&crowd);
	after = books_read(&product);
	EXPECT_EQ(after.opens - before.opens, count);
	EXPECT_EQ(after.promoted - before.promoted, count);
	EXPECT_EQ(after.evicted, 0);
	/* Those behind its end, those later, and all once more: nothing but this held them. */
	EXPECT(after.used - before.used > 3LL * count, "only %lld met a listener",
	       after.used - before.used);
	EXPECT_EQ(counter(&product, "promote_reset"), 0);
	server_stop(&product, server);
	EXPECT_EQ(server_said("accepted"), after.opens);
	EXPECT_EQ(server_said("bytes"), (long long)count * REQUEST);
	crowd_free(&crowd);
}

CASE("half as many again as the table holds: no client is refused, and status says what was forgotten")
{
	enum { SIZE = 1024, COUNT = SIZE * WAYS * 3 / 2 };
	static struct crowd crowd;
	struct product product = product_new(NULL, "--port 8080 --canary once --connections 1024");
	pid_t server = server_start(&product);
	struct books before = books_read(&product), after;
	long long twice;

	crowd_new(&crowd, product.pair.client, COUNT, COUNT);
	crowd_run(&crowd);
	crowd_replay(&crowd, 0, COUNT);
	after = books_read(&product);
	twice = after.promoted - before.promoted - COUNT;
	crowd_print(&crowd, "a small table");
	printf("# a small table: %lld cookies were forgotten, %lld promoted twice\n", after.evicted, twice);
	expect_none_failed(&crowd);
	EXPECT(after.evicted > COUNT / 8 && twice <= after.evicted, "%lld forgotten", after.evicted);
	/* Who wants to know is told, and what would help. */
	product_must(&product, "status");
	EXPECT(strstr(netns_said(), "used cookies were forgotten before their time: --connections"), "%s",
	       netns_said());
	netns_stop(server, SIGTERM, 3000);
	crowd_free(&crowd);
}

CASE("copies that arrive on another CPU at the same moment make no second connection")
{
	static const struct pair_spec spec = { .veth.queues = 2 };
	static struct crowd crowd;
	static struct twin twin;
	const uint32_t count = full ? 200000 : 10000;
	struct product product;
	struct books before, after;
	pid_t server;

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP("one CPU");
	report_case_limit(240);
	product = product_new(&spec, "--port 8080 --canary once");
	server = server_start(&product);
	before = books_read(&product);
	crowd_new(&crowd, product.pair.client, count, count);
	memset(&twin, 0, sizeof(twin));
	netns_enter(product.pair.client);
	twin.fd = packet_socket(0);
	netns_enter(NULL);
	REQUIRE(twin.fd >= 0 && !pthread_create(&twin.thread, NULL, twin_main, &twin));
	crowd.twin = &twin;
	crowd_run(&crowd);
	REQUIRE(WAIT_FOR(atomic_load(&twin.taken) == atomic_load(&twin.put), 3000));
	atomic_store(&twin.over, true);
	pthread_join(twin.thread, NULL);
	close(twin.fd);
	after = books_read(&product);
	crowd_print(&crowd, "on two CPUs");
	/*
	 * A CPU that has promoted the one, and has not yet come to hand it to the stack, cannot be seen by
	 * the other; the stack then makes one connection of the two.
	 */
	printf("# on two CPUs: %lld copies were promoted in the same moment\n",
	       after.promoted - before.promoted - count);
	expect_none_failed(&crowd);
	server_stop(&product, server);
	EXPECT_EQ(server_said("accepted"), before.opens + count);
	EXPECT_EQ(server_said("bytes"), (long long)count * REQUEST);
	crowd_free(&crowd);
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "full")) {
		full = true;
		argv[1] = argv[0];
		argc--;
		argv++;
	}
	return report_main(argc, argv, NULL);
}
