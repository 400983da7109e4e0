// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Sequence numbers and timestamps, as a client sees them: what the cookies in them must not cost. Beside
 * the protected port is one that is the stack's alone, to compare with.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "product.h"

enum {
	PROTECTED = 8080,
	NATIVE = 8081,
	OFF = 16,	   /* bytes that an ACK is off by, at most */
	EARLY = 9,	   /* segments that may be missing in front of one (bpf/ack.h) */
	QUIET_MS = 40,	   /* without an RST: there is none */
	BYTES_MAX = 16384, /* of a first flight */
};

struct variant {
	const char *name;
	const char *server;
	bool timestamps;
	size_t full; /* a full-sized segment of the client */
};

static const struct variant variants[] = {
	{ "IPv4 with timestamps", SERVER_IP4, true, 1448 },
	{ "IPv4 without timestamps", SERVER_IP4, false, 1460 },
	{ "IPv6 with timestamps", SERVER_IP6, true, 1428 },
	{ "IPv6 without timestamps", SERVER_IP6, false, 1440 },
};

enum {
	VARIANTS = sizeof(variants) / sizeof(*variants),
};

#define EACH_VARIANT(v) for (const struct variant *v = variants; v < variants + VARIANTS; v++)

struct bench {
	struct product product;
	struct wire *wire;
	int listeners[2]; /* of PROTECTED, of NATIVE */
	uint16_t client_port;
};

static void begin(struct bench *bench, const char *arguments)
{
	/* Where epochs are long, none begins: a SYN that is sent again would get another ISN and timestamp.
	 */
	while (strstr(arguments, "--epoch 3600") && now_ms() % 3600000 > 3600000 - 30000)
		nap();
	bench->product = product_new(NULL, arguments);
	bench->wire = wire_open(bench->product.pair.client, CLIENT_IF);
	bench->client_port = 20000;
	product_beside(&bench->product, PROTECTED, NATIVE, bench->listeners);
}

static void end(struct bench *bench)
{
	for (int i = 0; i < 2; i++)
		close(bench->listeners[i]);
	wire_close(bench->wire);
}

/* A client that has got its SYN-ACK, of the driver's or, on the other port, of the stack's. */
static struct hand answered(struct bench *bench, const struct variant *v, uint16_t port)
{
	struct hand hand = hand_new(bench->wire, 7, bench->client_port++, v->server, port, v->timestamps);

	REQUIRE(hand_syn(&hand), "%s, port %u: no SYN-ACK", v->name, port);
	return hand;
}

static void give_up(struct bench *bench, const struct hand *hand)
{
	struct tcp_spec reset = hand->spec;

	reset.flags = RST;
	reset.options = options_none();
	wire_send(bench->wire, &reset);
}

static void expect_no_reset(struct bench *bench, const struct hand *hand, const char *name)
{
	struct tcp_frame frame;

	EXPECT(!wire_recv_flags(bench->wire, &hand->spec, RST, 0, QUIET_MS, &frame),
	       "%s: the client got an RST", name);
}

static void expect_nothing_accepted(int listener, const char *name)
{
	int fd = tcp_accept(listener, QUIET_MS);

	EXPECT(fd < 0, "%s: the server accepted a connection", name);
	if (fd >= 0)
		close(fd);
}

/* Accepts, reads and compares; yields the connection. */
static int expect_bytes(int listener, const char *name, const char *bytes, size_t size)
{
	static char got[BYTES_MAX];
	int fd = tcp_accept(listener, 1000);
	long length;

	if (!EXPECT(fd >= 0, "%s: the server accepts nothing", name))
		return -1;
	length = tcp_read(fd, got, size, 1000);
	EXPECT(length == (long)size && !memcmp(got, bytes, size), "%s: the server got %ld of %zu bytes",
	       name, length, size);
	return fd;
}

/* ---- initial sequence numbers ---- */

CASE("SYNs of one tuple with other ISNs get other ISNs; the same SYN gets the same within an epoch")
{
	enum { SYNS = 16 };
	struct bench bench;

	begin(&bench, "--port 8080 --canary once --epoch 3600");
	EACH_VARIANT(v)
	{
		long long before = counter(&bench.product, "syn_answered");

		for (int port = PROTECTED; port <= NATIVE; port++) {
			const uint16_t client_port = bench.client_port++;
			uint32_t isns[SYNS];

			for (uint32_t i = 0; i < SYNS; i++) {
				struct hand hand = hand_new(bench.wire, 7, client_port, v->server,
							    (uint16_t)port, v->timestamps);
				struct tcp_spec syn;

				hand.spec.seq += i;
				syn = hand.spec;
				REQUIRE(hand_syn(&hand), "%s, port %d", v->name, port);
				isns[i] = hand.synack.seq;
				for (uint32_t j = 0; j < i; j++)
					EXPECT(isns[j] != isns[i], "%s, port %d: ISN %08x again", v->name,
					       port, isns[i]);
				if (port == NATIVE || !i) {
					struct tcp_frame again;

					wire_send(bench.wire, &syn);
					REQUIRE(wire_recv_flags(bench.wire, &syn, SYN | ACK, RST, 2000,
								&again));
					EXPECT_EQ(again.seq, isns[i], "%s, port %d: a retransmitted SYN",
						  v->name, port);
				}
				if (port == NATIVE)
					give_up(&bench, &hand);
			}
		}
		EXPECT_EQ(counter(&bench.product, "syn_answered"), before + SYNS + 1, "%s", v->name);
	}
	end(&bench);
}

CASE("a SYN retransmitted across an epoch: whichever SYN-ACK the client took, it has its connection")
{
	struct hand hands[VARIANTS][2][2]; /* by which of them is taken, and which it is */
	struct bench bench;
	long long promoted;

	begin(&bench, "--port 8080 --canary once --epoch 2");
	promoted = counter(&bench.product, "promoted");
	for (int v = 0; v < VARIANTS; v++)
		for (int take = 0; take < 2; take++)
			hands[v][take][0] = answered(&bench, &variants[v], PROTECTED);
	for (int v = 0; v < VARIANTS; v++)
		for (int take = 0; take < 2; take++) {
			const struct hand *first = &hands[v][take][0];
			struct hand *second = &hands[v][take][1];
			bool turned;

			turned = WAIT_FOR((*second = hand_new(bench.wire, 7, first->spec.sport,
							      variants[v].server, PROTECTED,
							      variants[v].timestamps),
					   hand_syn(second) && second->synack.seq != first->synack.seq),
					  2500);
			REQUIRE(turned, "%s: the epoch does not turn", variants[v].name);
		}
	for (int v = 0; v < VARIANTS; v++)
		for (int take = 0; take < 2; take++) {
			struct hand *hand = &hands[v][take][take];
			struct tcp_spec data = hand_data(hand, 0, "hello", 5);
			char name[64];

			snprintf(name, sizeof(name), "%s, SYN-ACK %d", variants[v].name, take + 1);
			wire_send(bench.wire, &hand->spec);
			wire_send(bench.wire, &data);
			close(expect_bytes(bench.listeners[0], name, "hello", 5));
			expect_no_reset(&bench, hand, name);
		}
	EXPECT_EQ(counter(&bench.product, "promoted"), promoted + 2LL * VARIANTS);
	end(&bench);
}

/* ---- timestamps ---- */

/* A timestamp, and between which moments it was made. */
struct stamp {
	uint32_t tsval;
	int64_t from_ms;
	int64_t to_ms;
};

static void expect_advance(const char *name, const struct stamp *earlier, const struct stamp *later)
{
	int32_t advance = (int32_t)(later->tsval - earlier->tsval);

	EXPECT(advance >= 0, "%s: back by %d ms", name, -advance);
	EXPECT(advance >= later->from_ms - earlier->to_ms - 1 &&
		       advance <= later->to_ms - earlier->from_ms + 1,
	       "%s: %d ms ahead, while %lld to %lld went by", name, advance,
	       (long long)(later->from_ms - earlier->to_ms), (long long)(later->to_ms - earlier->from_ms));
}

/* The next segment to the client that is no RST. */
static struct stamp stamp_of(struct bench *bench, const struct hand *hand, int64_t from_ms,
			     const char *name)
{
	struct tcp_frame frame;
	struct stamp stamp = { .from_ms = from_ms };

	REQUIRE(wire_recv_flags(bench->wire, &hand->spec, ACK, RST, 1000, &frame), "%s: nothing comes",
		name);
	stamp.to_ms = now_ms();
	stamp.tsval = frame.tsval;
	EXPECT(frame.timestamps, "%s: no timestamps", name);
	return stamp;
}

static void timestamps_advance(struct bench *bench, const char *server, uint16_t port, int listener,
			       const char *name)
{
	struct hand hand = hand_new(bench->wire, 7, bench->client_port++, server, port, true);
	const struct tcp_spec syn = hand.spec;
	struct tcp_spec data;
	struct stamp stamps[5];
	int fd, number = 0;
	int64_t from_ms;

	/* Twice, as if the first SYN-ACK had been lost. */
	for (; number < 2; number++) {
		from_ms = now_ms();
		hand.spec = syn;
		REQUIRE(hand_syn(&hand), "%s: no SYN-ACK", name);
		stamps[number] = (struct stamp){ hand.synack.tsval, from_ms, now_ms() };
		poll(NULL, 0, 150);
	}
	wire_send(bench->wire, &hand.spec);
	fd = tcp_accept(listener, 1000);
	REQUIRE(fd >= 0, "%s: not accepted", name);
	for (unsigned int i = 0; number < 4; number++, i++) {
		data = hand_data(&hand, 5 * i, "hello", 5);
		data.options = options_ts(1000002 + i, stamps[number - 1].tsval);
		from_ms = now_ms();
		wire_send(bench->wire, &data);
		stamps[number] = stamp_of(bench, &hand, from_ms, name);
		poll(NULL, 0, 250);
	}
	from_ms = now_ms();
	REQUIRE(write(fd, "answer", 6) == 6);
	stamps[number] = stamp_of(bench, &hand, from_ms, name);
	for (int i = 0; i < number; i++)
		expect_advance(name, &stamps[i], &stamps[i + 1]);
	expect_advance(name, &stamps[0], &stamps[number]);
	give_up(bench, &hand);
	close(fd);
}

CASE("timestamps go with the clock from SYN-ACK through promotion and after, and never back, as natively")
{
	struct bench bench;
	long long promoted;

	begin(&bench, "--port 8080 --canary once --epoch 3600");
	promoted = counter(&bench.product, "promoted");
	timestamps_advance(&bench, SERVER_IP4, NATIVE, bench.listeners[1], "IPv4, natively");
	timestamps_advance(&bench, SERVER_IP6, NATIVE, bench.listeners[1], "IPv6, natively");
	timestamps_advance(&bench, SERVER_IP4, PROTECTED, bench.listeners[0], "IPv4");
	timestamps_advance(&bench, SERVER_IP6, PROTECTED, bench.listeners[0], "IPv6");
	EXPECT_EQ(counter(&bench.product, "promoted"), promoted + 2);
	end(&bench);
}

CASE("timestamps tell nothing of the uptime, nor one of a client's those of its others")
{
	enum { CLIENTS = 16, PORTS = 16, NEAR = 1 << 24 };
	static const char *const server_ip[] = { SERVER_IP4, SERVER_IP6 };
	struct bench bench;

	begin(&bench, "--port 8080 --canary once --epoch 3600");
	for (int f = 0; f < 2; f++) {
		long long before = counter(&bench.product, "syn_answered");
		unsigned int values = 0, near = 0;

		for (int c = 0; c < CLIENTS; c++) {
			unsigned int first = 0, alike = 0;

			for (int p = 0; p < PORTS; p++) {
				struct hand hand = hand_new(bench.wire, 20 + c, bench.client_port++,
							    server_ip[f], PROTECTED, true);
				int32_t distance;

				REQUIRE(hand_syn(&hand));
				values |= 1u << (hand.synack.tsval >> 28);
				distance = (int32_t)(hand.synack.tsval - (uint32_t)now_ms());
				near += distance > -NEAR && distance < NEAR;
				if (!p)
					first = hand.synack.tsval >> 24;
				alike += hand.synack.tsval >> 24 == first;
			}
			/* One of them is the first; each other one with a chance of 1 in 256. */
			EXPECT(alike < 1 + PORTS / 4, "client %d: %u of %d ports alike", c, alike, PORTS);
		}
		/* Of 256, one of the 16 is missing once in a million times; two are near. */
		EXPECT_EQ(values, 0xffff, "%s: the uppermost four bits that were seen", server_ip[f]);
		EXPECT(near < CLIENTS * PORTS / 16, "%s: %u of %d are near the uptime", server_ip[f], near,
		       CLIENTS * PORTS);
		EXPECT_EQ(counter(&bench.product, "syn_answered"), before + CLIENTS * PORTS);
	}
	end(&bench);
}

/* ---- ACKs that are off ---- */

/* Whether the segment draws an RST within @ms; if so, that it is the RST which natively any listener sends.
 */
static bool is_reset(struct bench *bench, const struct tcp_spec *spec, int ms, const char *name)
{
	struct tcp_spec beside = *spec;
	struct tcp_frame ours, native;

	wire_send(bench->wire, spec);
	if (!wire_recv_flags(bench->wire, spec, RST, 0, ms, &ours))
		return false;
	beside.dport = NATIVE;
	wire_send(bench->wire, &beside);
	REQUIRE(wire_recv_flags(bench->wire, &beside, RST, 0, 1000, &native), "%s: natively no RST", name);
	EXPECT(ours.seq == native.seq && ours.flags == native.flags && ours.ttl == native.ttl &&
		       ours.window == native.window && ours.options.len == native.options.len,
	       "%s: an RST of another kind", name);
	return true;
}

static void off_by(struct bench *bench, const struct variant *v, const char *payload)
{
	const int size = (int)strlen(payload);
	struct hand hand = answered(bench, v, PROTECTED);
	long long promoted = counter(&bench->product, "promoted"),
		  rejected = counters(&bench->product, "ack_rejected_"),
		  early = counter(&bench->product, "ack_dropped_early");
	int resets = 0, silent = 0;

	for (int number = 0; number < 2; number++)
		for (int off = -OFF; off <= OFF; off++) {
			struct tcp_spec ack = size ? hand_data(&hand, 0, payload, (size_t)size) : hand.spec;
			/* So many bytes ahead as if segments of its length were lost: those are awaited. */
			const bool awaited = size && !number && off > 0 && !(off % size);
			char name[64];

			if (!off)
				continue;
			snprintf(name, sizeof(name), "%s, %s off by %d", v->name, number ? "ack" : "seq",
				 off);
			if (number)
				ack.ack += (uint32_t)off;
			else
				ack.seq += (uint32_t)off;
			EXPECT_EQ(is_reset(bench, &ack, awaited ? QUIET_MS : 1000, name), !awaited,
				  "%s: reset", name);
			resets += !awaited;
			silent += awaited;
		}
	expect_nothing_accepted(bench->listeners[0], v->name);
	EXPECT_EQ(counter(&bench->product, "promoted"), promoted, "%s", v->name);
	EXPECT_EQ(counters(&bench->product, "ack_rejected_"), rejected + resets, "%s", v->name);
	EXPECT_EQ(counter(&bench->product, "ack_dropped_early"), early + silent, "%s", v->name);
	/* The right one still makes the connection, and all of it arrives. */
	hand.spec = hand_data(&hand, 0, "right", 5);
	wire_send(bench->wire, &hand.spec);
	close(expect_bytes(bench->listeners[0], v->name, "right", 5));
}

CASE("an ACK whose seq or ack is off by 1 to 16 never promotes: counted, and the listener's RST as "
     "natively")
{
	struct bench bench;

	begin(&bench, "--port 8080 --canary once --epoch 3600");
	EACH_VARIANT(v)
	{
		off_by(&bench, v, "");
		off_by(&bench, v, "five!");
	}
	end(&bench);
}

/*
 * A first flight of "abc…", of which the bare ACK and @lost bytes are lost: does what arrives make a
 * connection, although bytes are missing? @lost and @acked: how far seq and ack are off.
 */
static bool made_off(struct bench *bench, const struct variant *v, uint16_t port, int listener, int lost,
		     int acked, char *got)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz";
	struct hand hand = answered(bench, v, port);
	struct tcp_spec rest = hand_data(&hand, (unsigned int)lost, letters + (lost > 0 ? lost : 0), 5);
	struct tcp_spec whole = hand_data(&hand, 0, letters, 10);
	struct tcp_frame frame;
	bool made;
	int fd;

	rest.ack += (uint32_t)acked;
	wire_send(bench->wire, &rest);
	/* Natively something always comes; we say nothing where the offset is that of whole segments. */
	made = wire_recv(bench->wire, &hand.spec, port == NATIVE ? 1000 : 4 * QUIET_MS, &frame) &&
	       !(frame.flags & RST);
	*got = '\0';
	if (!made)
		return false;
	/* The client sends again what was not acknowledged from its beginning. */
	whole.ack += (uint32_t)acked;
	wire_send(bench->wire, &whole);
	fd = tcp_accept(listener, 1000);
	REQUIRE(fd >= 0, "%s: answered, and not accepted", v->name);
	got[tcp_read(fd, got, 10, 200)] = '\0';
	give_up(bench, &hand);
	close(fd);
	return true;
}

/* The offsets at which a connection was made, as text. */
static const char *offsets_made(struct bench *bench, const struct variant *v, uint16_t port, int listener,
				bool ack, char *got)
{
	static char text[256];
	int at = 0;

	text[0] = '\0';
	for (int off = -OFF; off <= OFF; off++) {
		char read[16];

		if (!off || !made_off(bench, v, port, listener, ack ? 0 : off, ack ? off : 0, read))
			continue;
		at += snprintf(text + at, sizeof(text) - (size_t)at, "%s%+d", at ? " " : "", off);
		if (!ack && off == 1)
			strcpy(got, read);
	}
	return text;
}

/*
 * net/ipv4/syncookies.c adds the client's sequence number to the cookie: an ACK that is off by some bytes
 * then seems to name another MSS, of four, which is a connection that lacks the bytes, and nobody knows.
 */
CASE("kernel SYN cookies make connections of ACKs that are off, and lose the bytes; ours make none")
{
	/* By the place of the client's MSS in the kernel's table: the last one of IPv4, the third of IPv6.
	 */
	static const char *const seq_off[] = { "+1 +2 +3", "-1 +1 +2" };
	static const char *const ack_off[] = { "-3 -2 -1", "-2 -1 +1" };
	struct bench bench;
	long long promoted;

	begin(&bench, "--port 8080 --canary once --epoch 3600");
	netns_sysctl(bench.product.pair.server, "net.ipv4.tcp_syncookies", "2");
	promoted = counter(&bench.product, "promoted");
	EACH_VARIANT(v)
	{
		const int f = v->server[0] == 'f';
		char got[16] = "", none[16] = "";
		const char *made;

		made = offsets_made(&bench, v, NATIVE, bench.listeners[1], false, got);
		EXPECT_STR(made, seq_off[f], "%s: kernel cookies, seq", v->name);
		EXPECT_STR(got, "bcdefghij", "%s: what the server reads of abcdefghij", v->name);
		printf("# %s, kernel cookies: connections with seq off by %s; of abcdefghij the server "
		       "reads %s\n",
		       v->name, made, got);
		made = offsets_made(&bench, v, NATIVE, bench.listeners[1], true, got);
		EXPECT_STR(made, ack_off[f], "%s: kernel cookies, ack", v->name);
		EXPECT_STR(offsets_made(&bench, v, PROTECTED, bench.listeners[0], false, none), "",
			   "%s: ours, seq", v->name);
		EXPECT_STR(offsets_made(&bench, v, PROTECTED, bench.listeners[0], true, none), "",
			   "%s: ours, ack", v->name);
	}
	EXPECT_EQ(counter(&bench.product, "promoted"), promoted);
	expect_nothing_accepted(bench.listeners[0], "ours");
	end(&bench);
}

/* ---- segments ahead of the first ---- */

/* Sends the first @number segments of a flight. */
static void send_flight(struct bench *bench, const struct hand *hand, const char *bytes, size_t size,
			int number)
{
	for (int i = 0; i < number; i++) {
		struct tcp_spec data = hand_data(hand, (unsigned int)((size_t)i * size),
						 bytes + (size_t)i * size, size);

		wire_send(bench->wire, &data);
	}
}

/*
 * The bare ACK and @missing segments of @size bytes are lost, and the one behind them arrives. The stack,
 * which has kept SYN-RECEIVED, makes a connection and waits for them. (handshake.c: a flight whose lengths
 * differ, and the same in one batch.)
 */
static void ahead(struct bench *bench, const struct variant *v, size_t size, int missing)
{
	static char bytes[BYTES_MAX];
	const long long promoted = counter(&bench->product, "promoted");
	char name[80];

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (char)('a' + i / size % 26);
	for (int port = NATIVE; port >= PROTECTED; port--) {
		const int listener = bench->listeners[port - PROTECTED];
		struct hand hand = answered(bench, v, (uint16_t)port);
		struct tcp_spec data = hand_data(&hand, (unsigned int)((size_t)missing * size),
						 bytes + (size_t)missing * size, size);

		snprintf(name, sizeof(name), "%s, port %d: %d segments of %zu bytes missing", v->name, port,
			 missing, size);
		wire_send(bench->wire, &data);
		if (missing > EARLY && port == PROTECTED) {
			struct tcp_frame reset;

			EXPECT(wire_recv_flags(bench->wire, &data, RST, 0, 1000, &reset),
			       "%s: a difference less: the README names it", name);
			continue;
		}
		expect_no_reset(bench, &hand, name);
		if (port == PROTECTED)
			EXPECT_EQ(counter(&bench->product, "promoted"), promoted, "%s", name);
		send_flight(bench, &hand, bytes, size, missing + 1);
		close(expect_bytes(listener, name, bytes, size * (size_t)(missing + 1)));
		expect_no_reset(bench, &hand, name);
		give_up(bench, &hand);
	}
	EXPECT_EQ(counter(&bench->product, "promoted"), promoted + (missing <= EARLY), "%s", name);
}

CASE("bare ACK and up to nine segments lost: no RST, as natively, and the retransmission promotes")
{
	struct bench bench;

	begin(&bench, "--port 8080 --canary once --epoch 3600");
	EACH_VARIANT(v)
	{
		for (int missing = 1; missing <= EARLY; missing++) {
			ahead(&bench, v, v->full, missing);
			ahead(&bench, v, 100, missing);
		}
	}
	end(&bench);
}

CASE("bare ACK and a first segment of some other length lost: the client is reset, natively it is not")
{
	static char bytes[300 + 1000];
	struct bench bench;

	memset(bytes, 'o', sizeof(bytes));
	begin(&bench, "--port 8080 --canary once --epoch 3600");
	EACH_VARIANT(v)
	{
		for (int port = NATIVE; port >= PROTECTED; port--) {
			struct hand hand = answered(&bench, v, (uint16_t)port);
			struct tcp_spec first = hand_data(&hand, 0, bytes, 300),
					second = hand_data(&hand, 300, bytes + 300, 1000);
			struct tcp_frame reset;

			wire_send(bench.wire, &second);
			if (port == PROTECTED) {
				EXPECT(wire_recv_flags(bench.wire, &second, RST, 0, 1000, &reset),
				       "%s: a difference less: the README names it", v->name);
				continue;
			}
			expect_no_reset(&bench, &hand, v->name);
			wire_send(bench.wire, &first);
			close(expect_bytes(bench.listeners[1], v->name, bytes, sizeof(bytes)));
			give_up(&bench, &hand);
		}
	}
	end(&bench);
}

CASE("bare ACK and ten segments lost: the client is reset, natively it is not")
{
	struct bench bench;

	begin(&bench, "--port 8080 --canary once --epoch 3600");
	EACH_VARIANT(v)
	{
		ahead(&bench, v, v->full, EARLY + 1);
	}
	end(&bench);
}

int main(int argc, char **argv)
{
	return report_main(argc, argv, NULL);
}
