// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * An accept queue that is full, at a port that the driver answers for and at one that is the stack's alone:
 * SYNs go unanswered, so that clients try again, and are answered again as soon as the server has accepted.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "product.h"

enum {
	PORT = 8080,
	NATIVE, /* not protected */
	BACKLOG = 3,
	PACE_MS = 10,
	AT_MOST_MS = 100,
};

struct bench {
	struct product product;
	struct wire *wire;
	int listeners[2];
	int clients[2 * (BACKLOG + 1)];
};

/* Both queues full, the service admitted. */
static struct bench full_new(const char *address)
{
	struct bench bench = { .product = product_new(NULL, "--port 8080") };
	const struct pair *pair = &bench.product.pair;

	for (int i = 0; i < 2; i++)
		bench.listeners[i] = tcp_listen(pair->server, NULL, PORT + i, 64);
	product_admit(&bench.product, address, PORT);
	tcp_accept_all(bench.listeners[0]);
	for (int i = 0; i < 2 * (BACKLOG + 1); i++) {
		if (i < 2)
			listen(bench.listeners[i], BACKLOG);
		bench.clients[i] = tcp_connect(pair->client, address, PORT + (i & 1), 1000);
		REQUIRE(bench.clients[i] >= 0, "filling: %s", strerror(errno));
	}
	bench.wire = wire_open(pair->client, CLIENT_IF);
	return bench;
}

static void full_end(struct bench *bench)
{
	for (int i = 0; i < 2 * (BACKLOG + 1); i++)
		close(bench->clients[i]);
	for (int i = 0; i < 2; i++)
		close(bench->listeners[i]);
	wire_close(bench->wire);
}

/* Makes room: accepts all there are. */
static int drain(int listener)
{
	int number = 0, fd;

	while ((fd = tcp_accept(listener, 0)) >= 0) {
		close(fd);
		number++;
	}
	return number;
}

/* One SYN to each port; which were answered, as bits. */
static int syns(struct bench *bench, const char *address)
{
	static uint16_t port = 20000;
	const int64_t begin = now_ms();
	struct hand hands[2];
	struct tcp_frame frame;
	int answered = 0;

	for (int i = 0; i < 2; i++) {
		hands[i] = hand_new(bench->wire, 3 + i, port++, address, (uint16_t)(PORT + i), true);
		wire_send(bench->wire, &hands[i].spec);
	}
	for (int i = 0; i < 2; i++) {
		int left = (int)(begin + PACE_MS - now_ms());

		if (wire_recv_flags(bench->wire, &hands[i].spec, SYN | ACK, RST, left > 1 ? left : 1,
				    &frame))
			answered |= 1 << i;
	}
	while (now_ms() < begin + PACE_MS)
		nap();
	return answered;
}

/* @full_ms: for how long SYNs come to a full queue before it drains. */
static void drains(const char *address, int full_ms)
{
	struct bench bench = full_new(address);
	const int64_t begin = now_ms();
	int64_t first[2] = { -1, -1 }, drained;
	long long dropped = counter(&bench.product, "syn_dropped_queue_full");
	int answered = 0;

	while (now_ms() < begin + full_ms)
		answered |= syns(&bench, address);
	EXPECT(!(answered & 2), "%s: the stack answers although the queue is full: the case shows nothing",
	       address);
	EXPECT(!(answered & 1), "%s: answered although the queue is full", address);
	EXPECT(counter(&bench.product, "syn_dropped_queue_full") > dropped, "%s", address);
	drained = now_ms();
	for (int i = 0; i < 2; i++)
		EXPECT_EQ(drain(bench.listeners[i]), BACKLOG + 1, "%s: port %d", address, PORT + i);
	while (now_ms() < drained + 1000 && (first[0] < 0 || first[1] < 0)) {
		answered = syns(&bench, address);
		for (int i = 0; i < 2; i++)
			if (first[i] < 0 && answered & 1 << i)
				first[i] = now_ms() - drained;
	}
	printf("# %s, full for %d ms: the first answer %lld ms after the queue drained, natively %lld ms\n",
	       address, full_ms, (long long)first[0], (long long)first[1]);
	EXPECT(first[0] >= 0 && first[0] <= AT_MOST_MS, "%s: the first answer came after %lld ms", address,
	       (long long)first[0]);
	full_end(&bench);
}

CASE("a full accept queue: SYNs go unanswered, and are answered within 100 ms when it drains")
{
	drains(SERVER_IP4, 300);
	drains(SERVER_IP6, 300);
}

/* Longer than the canary's patience: then the SYNs are the stack's to drop. */
CASE("an accept queue that was full for six seconds: answered within 100 ms when it drains")
{
	drains(SERVER_IP4, 6000);
	drains(SERVER_IP6, 6000);
}

struct retry {
	const struct netns *client;
	const char *address;
	int port;
};

/* In a process of its own: connects, and speaks, within three seconds. */
static int retry(void *arg)
{
	const struct retry *r = arg;
	int fd = tcp_connect(r->client, r->address, r->port, 3000);

	return fd < 0 || write(fd, "late", 4) != 4;
}

CASE("a client that met a full queue is connected by its next SYN, as natively")
{
	static const char *const addresses[] = { SERVER_IP4, SERVER_IP6 };

	for (int i = 0; i < 2; i++) {
		struct bench bench = full_new(addresses[i]);
		const int64_t begin = now_ms();
		struct retry retries[2];
		pid_t pids[2];

		for (int j = 0; j < 2; j++) {
			retries[j] = (struct retry){ bench.product.pair.client, addresses[i], PORT + j };
			pids[j] = netns_fork(bench.product.pair.client, retry, &retries[j]);
		}
		EXPECT(WAIT_FOR(counter(&bench.product, "syn_dropped_queue_full") == 1, 1000), "%s",
		       addresses[i]);
		poll(NULL, 0, 100);
		for (int j = 0; j < 2; j++)
			EXPECT_EQ(drain(bench.listeners[j]), BACKLOG + 1, "%s: port %d", addresses[i],
				  PORT + j);
		for (int j = 0; j < 2; j++) {
			int fd = tcp_accept(bench.listeners[j], 3000);
			char word[4];

			EXPECT(fd >= 0 && tcp_read(fd, word, 4, 1000) == 4,
			       "%s: port %d: nobody came again", addresses[i], PORT + j);
			EXPECT(now_ms() - begin < 1500, "%s: port %d: after %lld ms", addresses[i],
			       PORT + j, (long long)(now_ms() - begin));
			EXPECT_EQ(netns_stop(pids[j], 0, 1000), 0);
			close(fd);
		}
		full_end(&bench);
	}
}

int main(int argc, char **argv)
{
	return report_main(argc, argv, NULL);
}
