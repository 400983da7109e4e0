// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * A load client: connects, sends, closes, again and again, and says how long connecting took.
 *
 * Prints when all connections are settled:
 *	ok=N failed=N p50_us=N p99_us=N max_us=N seconds=S timeout=N reset=N refused=N
 *	short=N other=N
 *
 * The microseconds are those from connect() to its completion, of connections that got so far. A
 * connection is ok if it connected, its payload was taken, what was expected back came, and both
 * sides closed in peace, all of that within the deadline; the fields behind seconds tell why the
 * others failed (short: the server closed before its time). Exit status 0 if all were ok, 1
 * otherwise, 2 for wrong usage.
 *
 * How a connection ends:
 *	--close-first    (the default) we shut down, wait for the server's end: TIME_WAIT is here
 *	--server-closes  we wait for the server's end and then close: TIME_WAIT is there
 *	--reset          we reset: TIME_WAIT is nowhere
 *	--hold           not until SIGTERM or SIGINT; the result is printed when all are connected
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	EVENTS = 256,
	CHUNK = 64 * 1024,
	NEVER = -1,
};

enum ending { CLOSE_FIRST, SERVER_CLOSES, RESET, HOLD };

static struct {
	const char *address;
	int port;
	long count;
	long concurrency;
	double rate;
	int bind_port;
	const char *latencies;
	uint64_t payload;
	bool expect_echo;
	double deadline;
	enum ending ending;
} args = { .count = 1, .concurrency = 1, .deadline = 10 };

enum phase { FREE, CONNECTING, TALKING, ENDING, HELD };

struct connection {
	enum phase phase;
	int fd;
	int64_t begin;
	uint64_t sent;
	uint64_t echoed;
	struct connection *earlier, *later; /* in the order of their deadlines */
};

static struct sockaddr_storage target;
static socklen_t target_size;
static struct connection *connections, *first, *last;
static struct connection **free_list;
static long n_free;
static int epoll_fd;
static uint32_t *latencies;
static long n_latencies, started, ok, failed;
static long timeouts, resets, refusals, shorts, others;
static uint8_t pattern[CHUNK + 256], received[CHUNK];
static volatile sig_atomic_t told_to_end;

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "churn: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static int64_t deadline_of(const struct connection *c)
{
	return c->begin + (int64_t)(args.deadline * 1e6);
}

static void unlink_connection(struct connection *c)
{
	*(c->earlier ? &c->earlier->later : &first) = c->later;
	*(c->later ? &c->later->earlier : &last) = c->earlier;
}

static void link_connection(struct connection *c)
{
	c->earlier = last;
	c->later = NULL;
	*(last ? &last->later : &first) = c;
	last = c;
}

static void reset_on_close(int fd)
{
	struct linger linger = { .l_onoff = 1 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
}

static void finish(struct connection *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	c->phase = FREE;
	unlink_connection(c);
	free_list[n_free++] = c;
}

static void succeed(struct connection *c)
{
	ok++;
	if (args.ending == HOLD) {
		c->phase = HELD;
		unlink_connection(c);
		epoll_ctl(epoll_fd, EPOLL_CTL_DEL, c->fd, NULL);
		return;
	}
	if (args.ending == RESET)
		reset_on_close(c->fd);
	finish(c);
}

static void fail(struct connection *c, long *why)
{
	failed++;
	++*why;
	/* Whatever is left of it must not answer to the next connection's tuple. */
	if (c->fd >= 0)
		reset_on_close(c->fd);
	finish(c);
}

static void fail_errno(struct connection *c, int err)
{
	if (err == ECONNREFUSED) {
		fail(c, &refusals);
	} else if (err == ECONNRESET || err == EPIPE) {
		fail(c, &resets);
	} else if (err == ETIMEDOUT) {
		fail(c, &timeouts);
	} else {
		fprintf(stderr, "churn: %s\n", strerror(err));
		fail(c, &others);
	}
}

static bool all_said(const struct connection *c)
{
	return c->sent == args.payload && (!args.expect_echo || c->echoed == args.payload);
}

/* The next byte of the payload depends on its position alone. */
static const uint8_t *payload_at(uint64_t position)
{
	return pattern + position % 251;
}

/* False if the connection is settled. */
static bool talk(struct connection *c)
{
	while (c->sent < args.payload) {
		uint64_t left = args.payload - c->sent;
		ssize_t n = send(c->fd, payload_at(c->sent), left < CHUNK ? left : CHUNK, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return true;
		if (n < 0) {
			fail_errno(c, errno);
			return false;
		}
		c->sent += (uint64_t)n;
	}
	return true;
}

static void finish_talking(struct connection *c)
{
	if (args.ending == RESET || args.ending == HOLD) {
		succeed(c);
		return;
	}
	if (args.ending == CLOSE_FIRST)
		shutdown(c->fd, SHUT_WR);
	c->phase = ENDING;
}

static void hear(struct connection *c)
{
	for (;;) {
		ssize_t n = recv(c->fd, received, sizeof(received), 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			fail_errno(c, errno);
			return;
		}
		if (n == 0) {
			if (c->phase == ENDING || (args.ending == SERVER_CLOSES && all_said(c)))
				succeed(c);
			else if (args.ending == SERVER_CLOSES && !args.expect_echo)
				return; /* it has said its all; we have not */
			else
				fail(c, &shorts);
			return;
		}
		if (!args.expect_echo)
			continue;
		if (c->echoed + (uint64_t)n > args.payload ||
		    memcmp(received, payload_at(c->echoed), (size_t)n) != 0) {
			fail(c, &others);
			return;
		}
		c->echoed += (uint64_t)n;
	}
}

static void advance(struct connection *c, uint32_t events)
{
	if (c->phase == CONNECTING) {
		int err = 0;
		socklen_t size = sizeof(err);

		if (!(events & (EPOLLOUT | EPOLLERR | EPOLLHUP)))
			return;
		getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &size);
		if (err) {
			fail_errno(c, err);
			return;
		}
		latencies[n_latencies++] = (uint32_t)(now_us() - c->begin);
		c->phase = TALKING;
	}
	if (c->phase == TALKING && !talk(c))
		return;
	if (c->phase == TALKING && c->sent == args.payload) {
		/* From here on only what comes matters. */
		struct epoll_event event = { .events = EPOLLIN, .data.ptr = c };

		epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &event);
		if (!args.expect_echo)
			finish_talking(c);
	}
	if (c->phase == TALKING || c->phase == ENDING)
		hear(c);
	if (c->phase == TALKING && args.expect_echo && all_said(c))
		finish_talking(c);
}

static void bind_local(int fd)
{
	struct sockaddr_storage local = { .ss_family = target.ss_family };
	int on = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	((struct sockaddr_in *)&local)->sin_port = htons((uint16_t)args.bind_port);
	if (bind(fd, (struct sockaddr *)&local, target_size))
		die("--bind-port");
}

/*
 * One local port means one tuple: until the server has acknowledged our FIN, it is taken by the
 * connection before.
 */
static int begin_connect(const struct connection *c)
{
	int err;

	do {
		err = connect(c->fd, (struct sockaddr *)&target, target_size) ? errno : 0;
		if (err != EADDRNOTAVAIL || !args.bind_port)
			break;
		nanosleep(&(struct timespec){ .tv_nsec = 100000 }, NULL);
	} while (now_us() < deadline_of(c));
	return err;
}

static void start(void)
{
	struct connection *c = free_list[--n_free];
	struct epoll_event event = { .events = EPOLLIN | EPOLLOUT, .data.ptr = c };
	int err;

	memset(c, 0, sizeof(*c));
	c->fd = socket(target.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		die("socket");
	if (args.bind_port)
		bind_local(c->fd);
	c->phase = CONNECTING;
	c->begin = now_us();
	started++;
	link_connection(c);
	err = begin_connect(c);
	if (err && err != EINPROGRESS) {
		fail_errno(c, err);
		return;
	}
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event))
		die("epoll_ctl");
}

/* When the next connection may begin; 0: now. */
static int64_t next_start(int64_t begin)
{
	if (started == args.count || !n_free)
		return NEVER;
	return args.rate > 0 ? begin + (int64_t)((double)started / args.rate * 1e6) : 0;
}

static void wait_for_events(int64_t begin)
{
	struct epoll_event events[EVENTS];
	int64_t until = next_start(begin), wait, now = now_us();
	struct timespec timeout;
	int n;

	if (first && (until == NEVER || deadline_of(first) < until))
		until = deadline_of(first);
	wait = until == NEVER ? 0 : until - now;
	if (wait < 0)
		wait = 0;
	timeout = (struct timespec){ wait / 1000000, wait % 1000000 * 1000 };
	n = epoll_pwait2(epoll_fd, events, EVENTS, &timeout, NULL);
	if (n < 0 && errno != EINTR)
		die("epoll_wait");
	for (int i = 0; i < n; i++)
		advance(events[i].data.ptr, events[i].events);
	now = now_us();
	while (first && deadline_of(first) <= now)
		fail(first, &timeouts);
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static uint32_t percentile(int p)
{
	return n_latencies ? latencies[(n_latencies - 1) * p / 100] : 0;
}

static void on_signal(int sig)
{
	(void)sig;
	told_to_end = 1;
}

static void run(void)
{
	int64_t begin = now_us();

	while (ok + failed < args.count && !told_to_end) {
		int64_t due;

		while ((due = next_start(begin)) != NEVER && due <= now_us())
			start();
		if (ok + failed < args.count)
			wait_for_events(begin);
	}
	qsort(latencies, (size_t)n_latencies, sizeof(latencies[0]), compare);
	printf("ok=%ld failed=%ld p50_us=%u p99_us=%u max_us=%u seconds=%.3f timeout=%ld reset=%ld "
	       "refused=%ld short=%ld other=%ld\n",
	       ok, failed, percentile(50), percentile(99), percentile(100),
	       (double)(now_us() - begin) / 1e6, timeouts, resets, refusals, shorts, others);
	fflush(stdout);
}

/* One line each; who did not get through has waited for as long as there was. */
static void write_latencies(void)
{
	FILE *file = fopen(args.latencies, "ae");

	if (!file)
		die(args.latencies);
	for (long i = 0; i < n_latencies; i++)
		fprintf(file, "%u\n", latencies[i]);
	for (long i = n_latencies; i < started; i++)
		fprintf(file, "%.0f\n", args.deadline * 1e6);
	if (fclose(file))
		die(args.latencies);
}

static void usage(FILE *f)
{
	fputs("usage: churn --connect ADDR --port N [OPTION]...\n"
	      "  --count N          connections in all (1)\n"
	      "  --concurrency N    at a time (1)\n"
	      "  --rate N           begun a second (as fast as it goes)\n"
	      "  --bind-port N      the same local port each time\n"
	      "  --payload N        bytes that each one sends (0)\n"
	      "  --expect-echo      and wants back\n"
	      "  --deadline S       for all of a connection (10)\n"
	      "  --latencies FILE   append the microseconds that each took to connect\n"
	      "  --close-first | --server-closes | --reset | --hold\n"
	      "                     how a connection ends\n",
	      f);
}

static void parse(int argc, char **argv)
{
	int ending = CLOSE_FIRST, echo = 0, c;
	const struct option options[] = {
		{ "connect", required_argument, NULL, 'a' },
		{ "port", required_argument, NULL, 'p' },
		{ "count", required_argument, NULL, 'n' },
		{ "concurrency", required_argument, NULL, 'c' },
		{ "rate", required_argument, NULL, 'r' },
		{ "bind-port", required_argument, NULL, 'b' },
		{ "payload", required_argument, NULL, 'l' },
		{ "deadline", required_argument, NULL, 'd' },
		{ "latencies", required_argument, NULL, 't' },
		{ "expect-echo", no_argument, &echo, 1 },
		{ "close-first", no_argument, &ending, CLOSE_FIRST },
		{ "server-closes", no_argument, &ending, SERVER_CLOSES },
		{ "reset", no_argument, &ending, RESET },
		{ "hold", no_argument, &ending, HOLD },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 0: break;
		case 'a': args.address = optarg; break;
		case 'p': args.port = atoi(optarg); break;
		case 'n': args.count = atol(optarg); break;
		case 'c': args.concurrency = atol(optarg); break;
		case 'r': args.rate = atof(optarg); break;
		case 'b': args.bind_port = atoi(optarg); break;
		case 'l': args.payload = strtoull(optarg, NULL, 0); break;
		case 'd': args.deadline = atof(optarg); break;
		case 't': args.latencies = optarg; break;
		case 'h': usage(stdout); exit(0);
		default: usage(stderr); exit(2);
		}
	}
	args.ending = (enum ending)ending;
	args.expect_echo = echo;
	/* What is held takes a place for good. */
	if (args.ending == HOLD)
		args.concurrency = args.count;
	if (optind != argc || !args.address || args.port <= 0 || args.port > 65535 || args.count <= 0 ||
	    args.concurrency <= 0 || args.deadline <= 0) {
		usage(stderr);
		exit(2);
	}
}

static void set_target(void)
{
	struct sockaddr_in6 *a6 = (void *)&target;
	struct sockaddr_in *a4 = (void *)&target;

	if (inet_pton(AF_INET, args.address, &a4->sin_addr) == 1) {
		target.ss_family = AF_INET;
		target_size = sizeof(*a4);
	} else if (inet_pton(AF_INET6, args.address, &a6->sin6_addr) == 1) {
		target.ss_family = AF_INET6;
		target_size = sizeof(*a6);
	} else {
		fprintf(stderr, "churn: %s is no address\n", args.address);
		exit(2);
	}
	a4->sin_port = htons((uint16_t)args.port); /* lies where sin6_port does */
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = on_signal };
	struct rlimit files;

	parse(argc, argv);
	set_target();
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);

	for (size_t i = 0; i < sizeof(pattern); i++)
		pattern[i] = (uint8_t)(i % 251);
	connections = calloc((size_t)args.concurrency, sizeof(*connections));
	free_list = calloc((size_t)args.concurrency, sizeof(*free_list));
	latencies = calloc((size_t)args.count, sizeof(*latencies));
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (!connections || !free_list || !latencies || epoll_fd < 0)
		die("starting");
	while (n_free < args.concurrency) {
		free_list[n_free] = &connections[n_free];
		n_free++;
	}
	run();
	if (args.latencies)
		write_latencies();
	if (args.ending == HOLD) {
		sigset_t none;

		sigemptyset(&none);
		while (!told_to_end)
			sigsuspend(&none);
	}
	return ok != args.count;
}
