// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * A lossy path: what a client waits for, and whether it gets it, natively and with us.
 *
 *	client ── relay: 10 ms each way, loses frames either way ── server
 *	                                            8080, 8082: answered by the driver
 *	                                            8081, 8083: the stack's alone
 *
 * Both kinds of port run at the same time over the same wire, IPv4 and IPv6 by turns. Each cell makes a
 * few hundred connections in `make check`, and 2,000 with
 *
 *	build/tests/net/loss full [PART OF A CASE'S NAME]...
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <netinet/tcp.h>

#include "product.h"

enum {
	PORT = 8080,
	PORT_NATIVE,
	SPEAKER,
	SPEAKER_NATIVE,
	PORTS = 4,

	ONE_WAY_MS = 10,
	DEADLINE_MS = 30000, /* what a patient client allows for all of it */
	RATE = 50, /* connections begun a second and stream: the machine must not be the bottleneck */
	COUNT_FULL = 2000,
	STREAMS = 6,
	SEGMENTS_MAX = 10,
	EVENTS = 256,
	NEVER = INT32_MAX, /* in microseconds: a first byte that did not come in time */
};

static long count_of_check = 300; /* of a cell */

/* ---- the server ---- */

/* A request begins with its length; the answer to the whole of it is one byte. */
struct served {
	int fd;
	uint32_t need; /* 0: not known yet */
	uint32_t have;
};

static int listeners[PORTS];

static void serve_accept(int queue, int index)
{
	int fd;

	while ((fd = accept4(listeners[index], NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		struct served *served = calloc(1, sizeof(*served));
		struct epoll_event event = { .events = EPOLLIN, .data.ptr = served };

		served->fd = fd;
		if (index >= SPEAKER - PORT && send(fd, "!", 1, MSG_NOSIGNAL) != 1)
			abort();
		epoll_ctl(queue, EPOLL_CTL_ADD, fd, &event);
	}
}

static void serve_read(struct served *served)
{
	static uint8_t bytes[65536];
	ssize_t size;

	while ((size = recv(served->fd, bytes, sizeof(bytes), 0)) > 0) {
		if (!served->need && size >= 4)
			memcpy(&served->need, bytes, 4);
		served->have += (uint32_t)size;
		if (served->have >= served->need && send(served->fd, "!", 1, MSG_NOSIGNAL) == 1) {
			size = 0;
			break;
		}
	}
	if (!size || errno != EAGAIN) {
		close(served->fd);
		free(served);
	}
}

static int serve(void *unused)
{
	int queue = epoll_create1(EPOLL_CLOEXEC);

	(void)unused;
	for (int i = 0; i < PORTS; i++)
		epoll_ctl(queue, EPOLL_CTL_ADD, listeners[i],
			  &(struct epoll_event){ .events = EPOLLIN, .data.u64 = (uint64_t)i });
	for (;;) {
		struct epoll_event events[EVENTS];
		int n = epoll_wait(queue, events, EVENTS, -1);

		for (int i = 0; i < n; i++) {
			if (events[i].data.u64 < PORTS)
				serve_accept(queue, (int)events[i].data.u64);
			else
				serve_read(events[i].data.ptr);
		}
	}
	return 0;
}

/* ---- the client ---- */

/* Connections of one kind, begun at an even pace. */
struct stream {
	int port;
	unsigned int segments; /* of the first flight; 0: the server speaks first */
	long count;
	long started;
	int32_t first_byte_us[COUNT_FULL];
	long failed;
	long reset;
};

struct client {
	struct client *next; /* in the order of their beginning */
	struct stream *stream;
	int fd; /* -1: settled */
	bool connected;
	long number;
	int64_t begin_us;
	uint32_t size;
	uint32_t sent;
};

static struct client *waiting, **waiting_end = &waiting;
static long unsettled;

static void client_settle(struct client *client, int32_t us)
{
	struct linger linger = { .l_onoff = 1 };

	/* Resets: whatever the server still has of it shall not be in anybody's way. */
	setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(client->fd);
	client->fd = -1;
	client->stream->first_byte_us[client->number] = us;
	client->stream->failed += us == NEVER;
	unsettled--;
}

static void client_send(struct client *client, int queue)
{
	static uint8_t request[SEGMENTS_MAX * 1460];
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = client };
	socklen_t length = sizeof(int);
	int mss = 0;
	ssize_t size;

	if (!client->size) {
		getsockopt(client->fd, IPPROTO_TCP, TCP_MAXSEG, &mss, &length);
		client->size = client->stream->segments * (uint32_t)mss;
	}
	memcpy(request, &client->size, sizeof(client->size));
	size = send(client->fd, request + client->sent, client->size - client->sent, MSG_NOSIGNAL);
	if (size > 0)
		client->sent += (uint32_t)size;
	if (client->sent == client->size)
		epoll_ctl(queue, EPOLL_CTL_MOD, client->fd, &event);
}

static void client_advance(struct client *client, uint32_t happened, int queue)
{
	char byte;
	ssize_t size;

	if (client->fd < 0)
		return;
	if (happened & EPOLLOUT && !(happened & EPOLLERR))
		client_send(client, queue);
	size = recv(client->fd, &byte, 1, 0);
	if (size == 1) {
		client_settle(client, (int32_t)(now_us() - client->begin_us));
	} else if (!size || errno != EAGAIN) {
		client->stream->reset++;
		client_settle(client, NEVER);
	}
}

static void client_start(struct stream *stream, int queue)
{
	const bool v6 = stream->started & 1;
	struct client *client = calloc(1, sizeof(*client));
	struct epoll_event event = { .events = EPOLLIN | EPOLLOUT, .data.ptr = client };
	struct sockaddr_in6 a6 = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)stream->port) };
	struct sockaddr_in a4 = { .sin_family = AF_INET, .sin_port = htons((uint16_t)stream->port) };
	int size = 256 * 1024;

	inet_pton(AF_INET, SERVER_IP4, &a4.sin_addr);
	inet_pton(AF_INET6, SERVER_IP6, &a6.sin6_addr);
	client->stream = stream;
	client->number = stream->started++;
	client->fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	REQUIRE(client->fd >= 0, "%s", strerror(errno));
	setsockopt(client->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	if (!stream->segments)
		event.events = EPOLLIN;
	client->begin_us = now_us();
	REQUIRE(connect(client->fd, v6 ? (void *)&a6 : (void *)&a4, v6 ? sizeof(a6) : sizeof(a4)) &&
			errno == EINPROGRESS,
		"%s", strerror(errno));
	epoll_ctl(queue, EPOLL_CTL_ADD, client->fd, &event);
	*waiting_end = client;
	waiting_end = &client->next;
	unsettled++;
}

/* Forgets what is settled, ends what is too old. */
static void clients_expire(int64_t now)
{
	while (waiting && (waiting->fd < 0 || waiting->begin_us + DEADLINE_MS * 1000LL <= now)) {
		struct client *client = waiting;

		if (client->fd >= 0)
			client_settle(client, NEVER);
		waiting = client->next;
		if (!waiting)
			waiting_end = &waiting;
		free(client);
	}
}

static void run_streams(struct stream *streams, int number)
{
	const int64_t begin = now_us();
	int queue = epoll_create1(EPOLL_CLOEXEC);
	bool more = true;

	while (more || unsettled) {
		struct epoll_event events[EVENTS];
		int n = epoll_wait(queue, events, EVENTS, more ? 2 : 20);

		for (int i = 0; i < n; i++)
			client_advance(events[i].data.ptr, events[i].events, queue);
		clients_expire(now_us());
		more = false;
		for (int i = 0; i < number; i++) {
			struct stream *stream = &streams[i];

			/* By turns, and not all of them at the same moment. */
			while (stream->started < stream->count &&
			       begin + (stream->started * number + i) * 1000000LL / RATE / number <=
				       now_us())
				client_start(stream, queue);
			more |= stream->started < stream->count;
		}
	}
	clients_expire(INT64_MAX);
	close(queue);
}

/* ---- what is compared ---- */

static int by_value(const void *a, const void *b)
{
	int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;

	return x < y ? -1 : x > y;
}

static double quantile_ms(const struct stream *stream, double percent)
{
	int32_t us = stream->first_byte_us[(long)((double)(stream->count - 1) * percent / 100)];

	return us == NEVER ? INFINITY : us / 1000.0;
}

static double mean_ms(const struct stream *stream)
{
	double sum = 0;

	for (long i = 0; i < stream->count; i++)
		sum += stream->first_byte_us[i] == NEVER ? DEADLINE_MS : stream->first_byte_us[i] / 1000.0;
	return sum / (double)stream->count;
}

static double failed_percent(const struct stream *stream)
{
	return 100.0 * (double)stream->failed / (double)stream->count;
}

/* What chance makes of the difference of two counts of failures, in points: three standard deviations. */
static double chance_points(const struct stream *a, const struct stream *b)
{
	double p = (double)(a->failed + b->failed) / (double)(a->count + b->count);

	return 300 * sqrt(2 * p * (1 - p) / (double)a->count);
}

/* And of the difference of two medians, in ranks of a hundred. */
static double chance_ranks(const struct stream *stream)
{
	return 3 * sqrt(2) * 50 / sqrt((double)stream->count);
}

static void stream_print(const char *what, const char *way, struct stream *stream)
{
	qsort(stream->first_byte_us, (size_t)stream->count, sizeof(stream->first_byte_us[0]), by_value);
	printf("# %s, %-8s %ld connections, %ld failed (%ld reset), first byte: median %.1f ms, "
	       "90 %% %.1f, 99 %% %.1f, mean %.1f\n",
	       what, way, stream->count, stream->failed, stream->reset, quantile_ms(stream, 50),
	       quantile_ms(stream, 90), quantile_ms(stream, 99), mean_ms(stream));
	fflush(stdout);
}

/* The first byte comes as soon as natively: within 10 % in the median. */
static void expect_as_soon(const char *what, const struct stream *with, const struct stream *native)
{
	/* Where many wait for a timer, medians of few connections differ by chance. */
	double limit = 1.1 * quantile_ms(native, 50 + chance_ranks(native));

	EXPECT(quantile_ms(with, 50) <= limit, "%s: the median is %.1f ms, natively %.1f", what,
	       quantile_ms(with, 50), quantile_ms(native, 50));
}

static void expect_as_often(const char *what, const struct stream *with, const struct stream *native)
{
	EXPECT(failed_percent(with) <= failed_percent(native) + 0.5 + chance_points(with, native),
	       "%s: %ld of %ld connections failed, natively %ld", what, with->failed, with->count,
	       native->failed);
}

static struct product lossy_new(int loss)
{
	static const struct pair_spec spec = { .relay = true };
	struct product product = product_new(&spec, "--port 8080,8082");
	const struct netns *ends[] = { product.pair.client, product.pair.server };

	report_case_limit(180);
	for (int i = 0; i < 2; i++) {
		netns_sysctl(ends[i], "net.ipv4.tcp_congestion_control", "reno");
		/* Each connection for itself: none learns from those before it. */
		netns_sysctl(ends[i], "net.ipv4.tcp_no_metrics_save", "1");
	}
	netns_sysctl(product.pair.server, "net.core.somaxconn", "8192");
	for (int i = 0; i < PORTS; i++)
		listeners[i] = tcp_listen(product.pair.server, NULL, PORT + i, 8192);
	netns_fork(product.pair.server, serve, NULL);
	for (int i = 0; i < PORTS; i++)
		close(listeners[i]);
	netns_spawn(product.pair.relay, "/dev/null",
		    "build/tests/tools/delay --ms %d --loss %d --seed 7 " RELAY_CLIENT_IF
		    " " RELAY_SERVER_IF,
		    ONE_WAY_MS, loss);
	return product;
}

/* Runs them, with the driver answering from the first one on. */
static void lossy_run(const struct product *product, struct stream *streams, int number)
{
	struct rlimit files;

	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	for (int i = 0; i < number; i++)
		REQUIRE(streams[i].count <= COUNT_FULL);
	netns_enter(product->pair.client);
	run_streams(streams, number);
	netns_enter(NULL);
}

static void first_flights(int loss)
{
	static const unsigned int flights[] = { 1, 2, 10 };
	struct product product = lossy_new(loss);
	struct stream *streams = calloc(STREAMS, sizeof(*streams));

	for (int i = 0; i < STREAMS; i++) {
		streams[i].port = PORT + (i & 1);
		streams[i].segments = flights[i / 2];
		streams[i].count = count_of_check;
	}
	lossy_run(&product, streams, STREAMS);
	for (int i = 0; i < STREAMS; i += 2) {
		struct stream *with = &streams[i], *native = &streams[i + 1];
		char what[64];

		snprintf(what, sizeof(what), "%d %% loss, first flight %u segments", loss, with->segments);
		stream_print(what, "natively", native);
		stream_print(what, "with us", with);
		expect_as_often(what, with, native);
		expect_as_soon(what, with, native);
	}
	EXPECT(counter(&product, "syn_answered") > STREAMS / 2 * count_of_check * 9 / 10,
	       "few were answered for");
	EXPECT(counter(&product, "promoted") > STREAMS / 2 * count_of_check * 8 / 10, "few were promoted");
	free(streams);
}

CASE("1 % loss each way: success and first byte as natively")
{
	first_flights(1);
}

CASE("10 % loss each way: success and first byte as natively")
{
	first_flights(10);
}

CASE("30 % loss each way: success and first byte as natively")
{
	first_flights(30);
}

/*
 * The stack sends its SYN-ACK again when no ACK comes; the driver has no state to do so. Where the final
 * ACK was lost and the client waited for the server to speak, it would wait for good. So once the server
 * has been seen to speak first, its SYNs are the stack's; what was answered before that may be unlucky.
 */
CASE("a server that speaks first, 10 % loss each way: success and first byte as natively")
{
	enum { LOSS = 10 };
	struct product product = lossy_new(LOSS);
	struct stream *with = calloc(2, sizeof(*with)), *native = with + 1;
	long long answered;

	with->port = SPEAKER;
	native->port = SPEAKER_NATIVE;
	with->count = native->count = count_of_check;
	lossy_run(&product, with, 2);
	stream_print("10 % loss, the server speaks first", "natively", native);
	stream_print("10 % loss, the server speaks first", "with us", with);
	expect_as_soon("the server speaks first", with, native);
	expect_as_often("the server speaks first", with, native);
	EXPECT_EQ(with->reset, 0);
	answered = counter(&product, "syn_answered");
	EXPECT(answered > 0 && answered < count_of_check / 10, "%lld SYNs answered", answered);
	EXPECT(counter(&product, "syn_passed_speaks_first") > count_of_check * 8 / 10, "few were passed");
	free(with);
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "full")) {
		count_of_check = COUNT_FULL;
		argv[1] = argv[0];
		argc--;
		argv++;
	}
	return report_main(argc, argv, NULL);
}
