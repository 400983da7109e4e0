// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Handshakes written segment by segment by a raw client, against a real listening socket: what becomes of
 * final ACKs and first segments that arrive together, late, twice, in the wrong order, or not at all.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <netinet/tcp.h>

#include "../lib/batch.h"
#include "product.h"

enum {
	PORT = 8080,
};

/* The two families, and with timestamps or without: each case runs through all four. */
struct variant {
	const char *name;
	const char *server;
	bool timestamps;
};

static const struct variant variants[] = {
	{ "IPv4 with timestamps", SERVER_IP4, true },
	{ "IPv4 without timestamps", SERVER_IP4, false },
	{ "IPv6 with timestamps", SERVER_IP6, true },
	{ "IPv6 without timestamps", SERVER_IP6, false },
};

#define EACH_VARIANT(v) for (const struct variant *v = variants; v < variants + 4; v++)

struct bench {
	struct product product;
	struct wire *wire;
	struct batch *batch;
	int listener;
	uint16_t client_port;
};

static void begin(struct bench *bench, const char *arguments, int backlog)
{
	bench->product = product_new(NULL, arguments);
	bench->listener = tcp_listen(bench->product.pair.server, NULL, PORT, 512);
	bench->wire = wire_open(bench->product.pair.client, CLIENT_IF);
	bench->batch = batch_open(bench->product.pair.client, CLIENT_IF);
	bench->client_port = 20000;
	product_admit(&bench->product, SERVER_IP4, PORT);
	product_admit(&bench->product, SERVER_IP6, PORT);
	tcp_accept_all(bench->listener);
	if (backlog)
		listen(bench->listener, backlog);
}

static void end(struct bench *bench)
{
	close(bench->listener);
	batch_close(bench->batch);
	wire_close(bench->wire);
}

static struct hand answered(struct bench *bench, const struct variant *v)
{
	long long before = counter(&bench->product, "syn_answered");
	struct hand hand = hand_new(bench->wire, 7, bench->client_port++, v->server, PORT, v->timestamps);

	REQUIRE(hand_syn(&hand), "%s: no SYN-ACK", v->name);
	REQUIRE(counter(&bench->product, "syn_answered") == before + 1, "%s: the stack answered", v->name);
	return hand;
}

static void expect_no_reset(struct bench *bench, const struct hand *hand, const char *name)
{
	struct tcp_frame frame;

	EXPECT(!wire_recv_flags(bench->wire, &hand->spec, RST, 0, 60, &frame), "%s: the client got an RST",
	       name);
}

/* Accepts, reads and compares; the connection's descriptor. */
static int expect_bytes(struct bench *bench, const char *name, const char *bytes)
{
	int fd = tcp_accept(bench->listener, 1000);
	char got[4096];
	long length;

	if (!EXPECT(fd >= 0, "%s: the server accepts nothing", name))
		return -1;
	length = tcp_read(fd, got, strlen(bytes), 1000);
	EXPECT(length == (long)strlen(bytes) && !memcmp(got, bytes, (size_t)length),
	       "%s: the server got %ld of %zu bytes", name, length, strlen(bytes));
	return fd;
}

static void expect_nothing_accepted(struct bench *bench, const char *name)
{
	int fd = tcp_accept(bench->listener, 100);

	EXPECT(fd < 0, "%s: the server accepted a connection", name);
	if (fd >= 0)
		close(fd);
}

CASE("a bare final ACK makes the connection, and data behind it arrives")
{
	struct bench bench;

	begin(&bench, "--port 8080 --canary once", 0);
	EACH_VARIANT(v)
	{
		struct hand hand = answered(&bench, v);
		struct tcp_spec data = hand_data(&hand, 0, "hello", 5);
		int fd;

		wire_send(bench.wire, &hand.spec);
		fd = tcp_accept(bench.listener, 1000);
		EXPECT(fd >= 0, "%s: not accepted", v->name);
		wire_send(bench.wire, &data);
		if (fd >= 0) {
			char got[8];

			EXPECT_EQ(tcp_read(fd, got, 5, 1000), 5, "%s", v->name);
		}
		expect_no_reset(&bench, &hand, v->name);
		close(fd);
	}
	end(&bench);
}

CASE("final ACK and first data in one NAPI batch: all bytes, one connection, no RST")
{
	struct bench bench;

	begin(&bench, "--port 8080 --canary once", 0);
	EACH_VARIANT(v)
	{
		long long promoted = counter(&bench.product, "promoted");
		struct hand hand = answered(&bench, v);
		struct tcp_spec first = hand_data(&hand, 0, "first ", 6),
				second = hand_data(&hand, 6, "second", 6);
		struct tcp_frame ack;
		bool heard;
		int fd;

		batch_add(bench.batch, &hand.spec);
		batch_add(bench.batch, &first);
		batch_add(bench.batch, &second);
		batch_send(bench.batch);
		fd = expect_bytes(&bench, v->name, "first second");
		/* No retransmission was needed: the server acknowledges all of it by itself. */
		while ((heard = wire_recv_flags(bench.wire, &hand.spec, ACK, RST | SYN, 1000, &ack)))
			if (ack.ack == hand.spec.seq + 12)
				break;
		EXPECT(heard, "%s: not all is acknowledged", v->name);
		expect_no_reset(&bench, &hand, v->name);
		EXPECT_EQ(counter(&bench.product, "promoted"), promoted + 1, "%s", v->name);
		close(fd);
	}
	end(&bench);
}

CASE("final ACK with data, and final ACK with data and FIN")
{
	struct bench bench;

	begin(&bench, "--port 8080 --canary once", 0);
	EACH_VARIANT(v)
	{
		for (int fin = 0; fin < 2; fin++) {
			struct hand hand = answered(&bench, v);
			struct tcp_spec data = hand_data(&hand, 0, "all at once", 11);
			char byte;
			int fd;

			if (fin)
				data.flags |= FIN;
			wire_send(bench.wire, &data);
			fd = expect_bytes(&bench, v->name, "all at once");
			if (fin && fd >= 0)
				EXPECT(WAIT_FOR(recv(fd, &byte, 1, MSG_DONTWAIT) == 0, 500),
				       "%s: the FIN is lost", v->name);
			expect_no_reset(&bench, &hand, v->name);
			close(fd);
		}
	}
	end(&bench);
}

CASE("a final ACK that is bare but for a FIN opens and closes")
{
	struct bench bench;

	begin(&bench, "--port 8080 --canary once", 0);
	EACH_VARIANT(v)
	{
		struct hand hand = answered(&bench, v);
		char byte;
		int fd;

		hand.spec.flags = ACK | FIN;
		wire_send(bench.wire, &hand.spec);
		fd = tcp_accept(bench.listener, 1000);
		EXPECT(fd >= 0, "%s: not accepted", v->name);
		EXPECT(fd >= 0 && WAIT_FOR(recv(fd, &byte, 1, MSG_DONTWAIT) == 0, 500), "%s: no end",
		       v->name);
		expect_no_reset(&bench, &hand, v->name);
		close(fd);
	}
	end(&bench);
}

/* Fills the accept queue; yields the connected sockets. */
static int fill_queue(struct bench *bench, int *fds, int most)
{
	int count = 0;

	while (count < most && !counter(&bench->product, "syn_dropped_queue_full")) {
		int fd = tcp_connect(bench->product.pair.client, SERVER_IP4, PORT, 300);

		if (fd < 0)
			break;
		fds[count++] = fd;
	}
	return count;
}

CASE("with the accept queue full nothing is reset, and retransmissions promote once it drains")
{
	struct bench bench;
	struct hand hands[4];
	int fds[64], filled;

	begin(&bench, "--port 8080 --canary once", 2);
	/* The SYN-ACKs are out before the queue is full: afterwards there are none. */
	for (int i = 0; i < 4; i++)
		hands[i] = answered(&bench, &variants[i]);
	filled = fill_queue(&bench, fds, 64);
	EXPECT(filled >= 2 && filled < 64, "%d connections in a queue of 2", filled);
	EXPECT(counter(&bench.product, "syn_dropped_queue_full") > 0,
	       "SYNs are answered though it is full");
	for (int i = 0; i < 4; i++) {
		struct tcp_spec data = hand_data(&hands[i], 0, "patience", 8);

		batch_add(bench.batch, &hands[i].spec);
		batch_add(bench.batch, &data);
		batch_send(bench.batch);
		expect_no_reset(&bench, &hands[i], variants[i].name);
	}
	tcp_accept_all(bench.listener);
	for (int i = 0; i < 4; i++) {
		struct tcp_spec data = hand_data(&hands[i], 0, "patience", 8);

		wire_send(bench.wire, &data);
		close(expect_bytes(&bench, variants[i].name, "patience"));
	}
	while (filled > 0)
		close(fds[--filled]);
	end(&bench);
}

CASE("final ACK lost, the second of two segments first: all bytes arrive, no RST")
{
	static char big[1200 + 1], small[] = "and the rest of it";
	char all[1200 + sizeof(small)];
	struct bench bench;

	memset(big, 'x', 1200);
	snprintf(all, sizeof(all), "%s%s", big, small);
	begin(&bench, "--port 8080 --canary once", 0);
	EACH_VARIANT(v)
	{
		for (int together = 0; together < 2; together++) {
			/* The first one is full-sized: as long as our MSS allows. */
			const size_t full = strchr(v->server, ':') ? (v->timestamps ? 1428 : 1440)
								   : (v->timestamps ? 1448 : 1460);
			static char first_bytes[1460 + 1], text[2048];
			struct hand hand = answered(&bench, v);
			struct tcp_spec first, second;

			memset(first_bytes, 'f', sizeof(first_bytes) - 1);
			first_bytes[full] = '\0';
			snprintf(text, sizeof(text), "%s%s", first_bytes, small);
			first = hand_data(&hand, 0, first_bytes, full);
			second = hand_data(&hand, (unsigned int)full, small, strlen(small));
			first.flags = ACK;
			if (together) {
				batch_add(bench.batch, &second);
				batch_add(bench.batch, &first);
				batch_send(bench.batch);
			} else {
				wire_send(bench.wire, &second);
				expect_no_reset(&bench, &hand, v->name);
				wire_send(bench.wire, &first);
			}
			expect_no_reset(&bench, &hand, v->name);
			wire_send(bench.wire, &second); /* its retransmission */
			close(expect_bytes(&bench, v->name, text));
			first_bytes[full] = 'f';
		}
	}
	end(&bench);
}

CASE("final ACK and first segment lost: no RST, the retransmission promotes")
{
	struct bench bench;

	begin(&bench, "--port 8080 --canary once", 0);
	EACH_VARIANT(v)
	{
		struct hand hand = answered(&bench, v);
		struct tcp_spec first = hand_data(&hand, 0, "0123456789", 10);
		struct tcp_spec second = hand_data(&hand, 10, "abcdefghij", 10);

		wire_send(bench.wire, &second);
		expect_no_reset(&bench, &hand, v->name);
		expect_nothing_accepted(&bench, v->name);
		wire_send(bench.wire, &first);
		wire_send(bench.wire, &second);
		close(expect_bytes(&bench, v->name, "0123456789abcdefghij"));
		expect_no_reset(&bench, &hand, v->name);
	}
	EXPECT_EQ(counter(&bench.product, "ack_dropped_early"), 4);
	end(&bench);
}

/*
 * A SYN, not yet sent, on a tuple that has had a connection, which was promoted by this CPU and ended by
 * its client's reset.
 */
static struct hand used_before(struct bench *bench, const struct variant *v)
{
	struct hand hand = answered(bench, v);
	struct tcp_spec first = hand_data(&hand, 0, "x", 1), reset = hand.spec;
	struct tcp_frame ack;
	char byte;
	int fd;

	/* The server's ACK shows that the connection is established. */
	wire_send(bench->wire, &first);
	fd = tcp_accept(bench->listener, 1000);
	REQUIRE(fd >= 0, "%s: not accepted", v->name);
	EXPECT(wire_recv_flags(bench->wire, &hand.spec, ACK, SYN | RST, 1000, &ack), "%s", v->name);
	EXPECT_EQ(tcp_read(fd, &byte, 1, 1000), 1, "%s", v->name);
	reset.seq++;
	reset.flags = RST;
	wire_send(bench->wire, &reset);
	EXPECT(WAIT_FOR(tcp_is_reset(fd), 1000), "%s", v->name);
	close(fd);
	hand = hand_new(bench->wire, 7, hand.spec.sport, v->server, PORT, v->timestamps);
	hand.spec.seq += 1000000;
	return hand;
}

CASE("the same on a tuple that was used before: the filter still knows it, and must not be believed")
{
	struct bench bench;

	begin(&bench, "--port 8080 --canary once", 0);
	EACH_VARIANT(v)
	{
		struct hand hand = used_before(&bench, v);
		struct tcp_spec first, second;

		REQUIRE(hand_syn(&hand), "%s: no SYN-ACK", v->name);
		first = hand_data(&hand, 0, "0123456789", 10);
		second = hand_data(&hand, 10, "abcdefghij", 10);
		wire_send(bench.wire, &second);
		expect_no_reset(&bench, &hand, v->name);
		expect_nothing_accepted(&bench, v->name);
		wire_send(bench.wire, &first);
		wire_send(bench.wire, &second);
		close(expect_bytes(&bench, v->name, "0123456789abcdefghij"));
		expect_no_reset(&bench, &hand, v->name);
	}
	EXPECT_EQ(counter(&bench.product, "ack_dropped_early"), 4);
	EXPECT_EQ(counter(&bench.product, "syn_passed_held"), 0);
	end(&bench);
}

CASE("a flight of nine full segments whose first is missing is not reset")
{
	struct bench bench;

	begin(&bench, "--port 8080 --canary once", 0);
	EACH_VARIANT(v)
	{
		const unsigned int full = strchr(v->server, ':') ? (v->timestamps ? 1428 : 1440)
								 : (v->timestamps ? 1448 : 1460);
		static char bytes[1460];
		struct hand hand = answered(&bench, v);

		memset(bytes, 'n', sizeof(bytes));
		for (unsigned int i = 1; i < 10; i++) {
			struct tcp_spec data = hand_data(&hand, i * full, bytes, full);

			wire_send(bench.wire, &data);
		}
		expect_no_reset(&bench, &hand, v->name);
		expect_nothing_accepted(&bench, v->name);
	}
	end(&bench);
}

CASE("a copy of the first segment after the connection has closed promotes nothing")
{
	struct bench bench;

	begin(&bench, "--port 8080 --canary once", 0);
	EACH_VARIANT(v)
	{
		struct hand hand = answered(&bench, v);
		struct tcp_spec data = hand_data(&hand, 0, "POST", 4),
				finish = hand_data(&hand, 4, NULL, 0), copy;
		struct tcp_frame fin;
		long long promoted;
		int fd;

		wire_send(bench.wire, &hand.spec);
		wire_send(bench.wire, &data);
		fd = expect_bytes(&bench, v->name, "POST");
		finish.flags = FIN | ACK;
		wire_send(bench.wire, &finish);
		if (fd >= 0) {
			char byte;

			EXPECT(WAIT_FOR(recv(fd, &byte, 1, MSG_DONTWAIT) == 0, 500), "%s: no end", v->name);
			close(fd);
		}
		EXPECT(wire_recv_flags(bench.wire, &hand.spec, FIN, RST, 1000, &fin), "%s: no FIN",
		       v->name);
		finish.flags = ACK;
		finish.seq++;
		finish.ack = fin.seq + 1;
		wire_send(bench.wire, &finish);
		/* LAST-ACK is over: nothing on the server holds the tuple. */
		EXPECT(WAIT_FOR(!strcmp(netns_output(bench.product.pair.server, "ss -Htan 'dport = %u'",
						     hand.spec.sport),
					""),
				1000),
		       "%s: still there: %s", v->name, netns_said());
		promoted = counter(&bench.product, "promoted");
		copy = data;
		wire_send(bench.wire, &copy);
		wire_send(bench.wire, &hand.spec);
		expect_nothing_accepted(&bench, v->name);
		EXPECT_EQ(counter(&bench.product, "promoted"), promoted, "%s", v->name);
	}
	EXPECT_EQ(counter(&bench.product, "promote_failed_used"), 8);
	end(&bench);
}

CASE("a promotion that a firewall dropped succeeds on the retransmission")
{
	struct bench bench;

	begin(&bench, "--port 8080 --canary once", 0);
	EACH_VARIANT(v)
	{
		struct hand hand = answered(&bench, v);
		struct tcp_spec data = hand_data(&hand, 0, "through", 7);

		netns_must(
			bench.product.pair.server,
			"nft 'add table inet t; add chain inet t i { type filter hook input priority 0; }; "
			"add rule inet t i tcp dport 8080 drop'");
		batch_add(bench.batch, &hand.spec);
		batch_add(bench.batch, &data);
		batch_send(bench.batch);
		expect_nothing_accepted(&bench, v->name);
		expect_no_reset(&bench, &hand, v->name);
		poll(NULL, 0, 1000);
		netns_must(bench.product.pair.server, "nft delete table inet t");
		wire_send(bench.wire, &data);
		close(expect_bytes(&bench, v->name, "through"));
		expect_no_reset(&bench, &hand, v->name);
	}
	end(&bench);
}

CASE("a client of a narrower path: its first segment lost, the second one short, no RST")
{
	struct bench bench;

	begin(&bench, "--port 8080 --canary once", 0);
	EACH_VARIANT(v)
	{
		const bool v6 = strchr(v->server, ':');
		const unsigned int mss = v6 ? 1380 : 1400, full = mss - (v->timestamps ? 12 : 0);
		struct hand hand = hand_new(bench.wire, 7, bench.client_port++, v->server, PORT,
					    v->timestamps);
		struct tcp_spec second;

		hand.spec.options = v->timestamps ? options_linux((uint16_t)mss, 1000000, 7)
						  : options_windows((uint16_t)mss, 8);
		REQUIRE(hand_syn(&hand), "%s", v->name);
		second = hand_data(&hand, full, "the rest", 8);
		wire_send(bench.wire, &second);
		expect_no_reset(&bench, &hand, v->name);
	}
	end(&bench);
}

CASE("a connection that the client reset before the server said a word is not made again")
{
	struct bench bench;

	begin(&bench, "--port 8080 --canary once", 0);
	EACH_VARIANT(v)
	{
		struct hand hand = answered(&bench, v);
		long long promoted = counter(&bench.product, "promoted");
		struct tcp_spec reset = hand.spec;

		wire_send(bench.wire, &hand.spec);
		EXPECT(WAIT_FOR(counter(&bench.product, "promoted") == promoted + 1, 1000), "%s", v->name);
		reset.flags = RST | ACK;
		wire_send(bench.wire, &reset);
		poll(NULL, 0, 50);
		wire_send(bench.wire, &hand.spec);
		poll(NULL, 0, 50);
		EXPECT_EQ(counter(&bench.product, "promoted"), promoted + 1, "%s: the duplicate promoted",
			  v->name);
	}
	/* What the stack reset then, it reset because of that: nothing speaks against the service. */
	EXPECT_EQ(counter(&bench.product, "promote_reset"), 0);
	end(&bench);
}

/*
 * The stack resets what comes after a client's own reset, and nothing of that speaks against the service:
 * else one client could take it from all others. The reset right behind the ACK, before anybody knows the
 * connection; and where the driver does not see it, behind extension headers.
 */
CASE("clients that reset their connections, and go on sending, do not take a service from others")
{
	static const uint8_t padding[8] = { IPPROTO_DSTOPTS, 0, 1, 4 };
	long long promoted;
	struct batch *batch;
	struct bench bench;
	int handshakes = 0;

	begin(&bench, "--port 8080 --canary once", 0);
	promoted = counter(&bench.product, "promoted");
	batch = batch_open(bench.product.pair.client, CLIENT_IF);
	for (int round = 0; round < 6; round++)
		EACH_VARIANT(v)
		{
			struct hand hand = answered(&bench, v);
			struct tcp_spec reset = hand.spec, late = hand.spec;

			reset.flags = RST;
			late.seq -= 100;
			if (round & 1 && strchr(v->server, ':')) {
				reset.ip_options_type = IPPROTO_DSTOPTS;
				for (int i = 0; i < 5; i++, reset.ip_options_len += sizeof(padding))
					memcpy(reset.ip_options + reset.ip_options_len, padding,
					       sizeof(padding));
				reset.ip_options[reset.ip_options_len - sizeof(padding)] = IPPROTO_TCP;
			}
			batch_add(batch, &hand.spec);
			batch_add(batch, &reset);
			for (int i = 0; i < 3; i++)
				batch_add(batch, &late);
			batch_send(batch);
			poll(NULL, 0, 20);
			/* Nor does the cookie make a second connection. */
			wire_send(bench.wire, &hand.spec);
			poll(NULL, 0, 20);
			handshakes++;
		}
	EXPECT_EQ(counter(&bench.product, "promote_reset"), 0);
	EXPECT_EQ(counter(&bench.product, "syn_passed_refused"), 0);
	EXPECT_EQ(counter(&bench.product, "promoted"), promoted + handshakes);
	batch_close(batch);
	end(&bench);
}

/* A connection of the client's kernel, at once given up: a canary if one is due. */
static void refresh(struct bench *bench, const char *server)
{
	close(tcp_connect(bench->product.pair.client, server, PORT, 1000));
	close(tcp_accept(bench->listener, 1000));
}

/* Where canaries are often due: a handshake that the driver answers, in the end. */
static struct hand answered_at_last(struct bench *bench, const struct variant *v)
{
	for (int i = 0; i < 20; i++) {
		long long before = counter(&bench->product, "syn_answered");
		struct hand hand = hand_new(bench->wire, 7, bench->client_port++, v->server, PORT,
					    v->timestamps);

		REQUIRE(hand_syn(&hand), "%s: no SYN-ACK", v->name);
		if (counter(&bench->product, "syn_answered") == before + 1)
			return hand;
	}
	REQUIRE(false, "%s: the stack answers, and the stack alone", v->name);
	return (struct hand){};
}

CASE("the service's window scale changes between SYN-ACK and ACK: the connection has the one promised")
{
	struct bench bench;

	begin(&bench, "--port 8080 --canary 1", 0);
	/* Kernels differ in what they begin with. */
	netns_sysctl(bench.product.pair.server, "net.ipv4.tcp_rmem", "4096 131072 33554432");
	poll(NULL, 0, 1100);
	EACH_VARIANT(v)
	{
		struct hand hand;
		int fd;

		refresh(&bench, v->server);
		hand = answered_at_last(&bench, v);
		netns_sysctl(bench.product.pair.server, "net.ipv4.tcp_rmem", "4096 131072 4194304");
		poll(NULL, 0, 1100); /* a canary is due; its answer shows another scale */
		refresh(&bench, v->server);
		wire_send(bench.wire, &hand.spec);
		fd = tcp_accept(bench.listener, 1000);
		EXPECT(fd >= 0, "%s: refused", v->name);
		EXPECT(strstr(netns_output(bench.product.pair.server, "ss -Htino 'dport = %u'",
					   hand.spec.sport),
			      v->timestamps ? "wscale:7,10" : "wscale:8,10"),
		       "%s: %s", v->name, netns_said());
		close(fd);
		netns_sysctl(bench.product.pair.server, "net.ipv4.tcp_rmem", "4096 131072 33554432");
		poll(NULL, 0, 1100);
		refresh(&bench, v->server);
	}
	end(&bench);
}

/* @used: on tuples that have had a connection of the driver's making. */
static void expect_first_taken(bool used)
{
	struct bench bench;

	begin(&bench, "--port 8080 --canary once", 0);
	EACH_VARIANT(v)
	{
		struct hand again = used ? used_before(&bench, v)
					 : hand_new(bench.wire, 7, bench.client_port++, v->server, PORT,
						    v->timestamps);
		struct hand hand = again;
		long long before = counter(&bench.product, "promote_ended_other_handshake");
		struct tcp_spec data, more;
		struct tcp_frame second;

		REQUIRE(hand_syn(&hand), "%s: no SYN-ACK", v->name);
		data = hand_data(&hand, 0, "hello", 5);
		more = hand_data(&hand, 5, " again", 6);
		/* The very same SYN once more, which now goes to the stack: it holds SYN-RECEIVED then. */
		product_must(&bench.product, "set *:8080 policy=shadow");
		wire_send(bench.wire, &again.spec);
		EXPECT(wire_recv_flags(bench.wire, &again.spec, SYN | ACK, RST, 2000, &second),
		       "%s: passed, and no answer", v->name);
		/* And a third time: now the stack holds the tuple. */
		wire_send(bench.wire, &again.spec);
		EXPECT(wire_recv_flags(bench.wire, &again.spec, SYN | ACK, RST, 2000, &second), "%s",
		       v->name);
		/* Bare ACK and data in one batch: the stack's own request must not end the connection. */
		batch_add(bench.batch, &hand.spec);
		batch_add(bench.batch, &data);
		batch_add(bench.batch, &more);
		batch_send(bench.batch);
		close(expect_bytes(&bench, v->name, "hello again"));
		expect_no_reset(&bench, &hand, v->name);
		EXPECT(counter(&bench.product, "promote_ended_other_handshake") > before, "%s", v->name);
		expect_nothing_accepted(&bench, v->name);
		/* What `set` writes empties the reference to the listener: of both services. */
		product_must(&bench.product, "set *:8080 policy=always");
		product_admit(&bench.product, SERVER_IP4, PORT);
		product_admit(&bench.product, SERVER_IP6, PORT);
		tcp_accept_all(bench.listener);
	}
	end(&bench);
}

CASE("a SYN answered, its retransmission passed, the first SYN-ACK taken: it is the connection")
{
	expect_first_taken(false);
}

CASE("a SYN answered, its retransmission passed, the first SYN-ACK taken, on a tuple that was used before")
{
	expect_first_taken(true);
}

/*
 * With the final ACK lost, nobody but the server's stack can move: natively it sends its SYN-ACK again. We
 * keep nothing to send it from.
 */
CASE("once a server has been seen to speak first, its SYN-ACK is the stack's, and is sent again")
{
	struct bench bench;
	struct tcp_frame again;
	struct hand hand;
	char banner[16];
	int client, server;
	long long passed;

	begin(&bench, "--port 8080 --canary once", 0);
	client = tcp_connect(bench.product.pair.client, SERVER_IP4, PORT, 1000);
	server = tcp_accept(bench.listener, 1000);
	REQUIRE(client >= 0 && server >= 0);
	EXPECT_EQ(counter(&bench.product, "syn_passed_speaks_first"), 0);
	EXPECT_EQ(write(server, "220 ready\r\n", 11), 11);
	EXPECT_EQ(tcp_read(client, banner, 11, 1000), 11);
	close(client);
	close(server);

	passed = counter(&bench.product, "syn_passed_speaks_first");
	hand = hand_new(bench.wire, 7, bench.client_port++, SERVER_IP4, PORT, true);
	REQUIRE(hand_syn(&hand), "no SYN-ACK");
	EXPECT_EQ(counter(&bench.product, "syn_passed_speaks_first"), passed + 1);
	EXPECT(wire_recv_flags(bench.wire, &hand.spec, SYN | ACK, RST, 4000, &again),
	       "it is not sent again");
	EXPECT_EQ(again.seq, hand.synack.seq);
	wire_send(bench.wire, &hand.spec);
	server = tcp_accept(bench.listener, 1000);
	EXPECT(server >= 0, "not accepted");
	close(server);
	end(&bench);
}

CASE("a server that answers is not taken for one that speaks first")
{
	struct bench bench;
	char word[8];
	int client, server;

	begin(&bench, "--port 8080 --canary once", 0);
	for (int i = 0; i < 3; i++) {
		client = tcp_connect(bench.product.pair.client, SERVER_IP4, PORT, 1000);
		server = tcp_accept(bench.listener, 1000);
		REQUIRE(client >= 0 && server >= 0);
		EXPECT_EQ(write(client, "hello", 5), 5);
		EXPECT_EQ(tcp_read(server, word, 5, 1000), 5);
		EXPECT_EQ(write(server, "hello", 5), 5);
		EXPECT_EQ(tcp_read(client, word, 5, 1000), 5);
		close(client);
		close(server);
	}
	EXPECT_EQ(counter(&bench.product, "syn_passed_speaks_first"), 0);
	end(&bench);
}

/* ---- cookies that are not right ---- */

/* Sends @ack; expects the counter to rise, no connection, and the RST that a listener sends. */
static void expect_rejected(struct bench *bench, const struct variant *v, const struct tcp_spec *ack,
			    const char *name, const char *what)
{
	long long before = counter(&bench->product, name), promoted = counter(&bench->product, "promoted");
	struct tcp_frame reset;

	wire_send(bench->wire, ack);
	EXPECT(wire_recv_flags(bench->wire, ack, RST, 0, 1000, &reset), "%s, %s: no RST", v->name, what);
	EXPECT_EQ(counter(&bench->product, name), before + 1, "%s, %s: %s", v->name, what, name);
	EXPECT_EQ(counter(&bench->product, "promoted"), promoted, "%s, %s", v->name, what);
	expect_nothing_accepted(bench, what);
}

CASE("wrong cookies never promote, are counted by name, and the listener answers as ever")
{
	struct bench bench;

	/* Long epochs: on a slow machine the cookies would expire on the way. */
	begin(&bench, "--port 8080 --canary once --epoch 300", 0);
	EACH_VARIANT(v)
	{
		struct hand hand = answered(&bench, v);
		struct tcp_spec ack;

		for (int bit = 0; bit < 32; bit++) {
			char what[32];

			/* The epoch's bit names another key: of the next epoch, which is none of ours yet.
			 */
			snprintf(what, sizeof(what), "bit %d", bit);
			ack = hand.spec;
			ack.ack = ((ack.ack - 1) ^ 1u << bit) + 1;
			expect_rejected(&bench, v, &ack, "ack_rejected_cookie", what);
		}
		ack = hand.spec;
		ack.seq++;
		expect_rejected(&bench, v, &ack, "ack_rejected_cookie", "sequence number one too high");
		ack.seq -= 2;
		expect_rejected(&bench, v, &ack, "ack_rejected_cookie", "sequence number one too low");
		ack = hand.spec;
		ack.sport += 1000;
		expect_rejected(&bench, v, &ack, "ack_rejected_cookie", "another port");
		ack = hand.spec;
		ack.saddr = ip_n(strchr(v->server, ':') ? FAKE_IP6 : FAKE_IP4, 8);
		expect_rejected(&bench, v, &ack, "ack_rejected_cookie", "another address");
		ack = hand.spec;
		if (v->timestamps) {
			ack.options = options_none();
			expect_rejected(&bench, v, &ack, "ack_rejected_timestamps", "timestamps left out");
			ack.options = options_ts(1000001, hand.synack.tsval + 1000000);
			expect_rejected(&bench, v, &ack, "ack_rejected_echo", "an echo of the future");
			ack.options = options_ts(1000001, hand.synack.tsval - 1000000);
			expect_rejected(&bench, v, &ack, "ack_rejected_echo", "an echo of long ago");
		} else {
			ack.options = options_ts(1000001, 12345);
			expect_rejected(&bench, v, &ack, "ack_rejected_cookie", "timestamps put in");
		}
		/* And the right one still promotes. */
		wire_send(bench.wire, &hand.spec);
		close(tcp_accept(bench.listener, 1000));
		EXPECT(netns_output(bench.product.pair.server, "ss -Htan 'dport = %u'", hand.spec.sport)[0],
		       "%s: the right cookie no longer promotes", v->name);
	}
	end(&bench);
}

CASE("a cookie that is too old, and one without a key, never promote")
{
	struct bench bench;

	begin(&bench, "--port 8080 --canary once --epoch 1", 0);
	EACH_VARIANT(v)
	{
		struct hand hand = answered(&bench, v);

		poll(NULL, 0, 2100); /* two epochs, and less than four: a cookie's age is what is tested */
		expect_rejected(&bench, v, &hand.spec, "ack_rejected_expired", "two epochs later");
	}
	EACH_VARIANT(v)
	{
		struct hand hand = answered(&bench, v);
		const char *zeros = "0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0";
		long long before;

		/* Every slot is emptied; what a CPU has derived lasts for its epoch. */
		netns_must(bench.product.pair.server,
			   "bpftool map dump pinned %s/keys > %s.keys && for i in 0 1 2 3 4 5 6 7; do "
			   "bpftool map "
			   "update pinned %s/keys key $i 0 0 0 value %s; done",
			   bench.product.pins, "build/tests/saved", bench.product.pins, zeros);
		poll(NULL, 0, 4100);
		expect_rejected(&bench, v, &hand.spec, "ack_rejected_no_key", "no key");
		before = counter(&bench.product, "syn_passed_no_key");
		hand = hand_new(bench.wire, 9, bench.client_port++, v->server, PORT, v->timestamps);
		EXPECT(hand_syn(&hand), "%s: without a key the stack does not answer", v->name);
		EXPECT_EQ(counter(&bench.product, "syn_passed_no_key"), before + 1, "%s", v->name);
		product_must(&bench.product, "key rotate");
		poll(NULL, 0, 3100);
	}
	end(&bench);
}

int main(int argc, char **argv)
{
	return report_main(argc, argv, NULL);
}
