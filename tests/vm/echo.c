// SPDX-License-Identifier: GPL-2.0
/*
 * echo: the TCP server and the client of the kernel tests.
 *
 *   echo listen ADDR PORT          listens, then goes to the background: when it returns, the port is open
 *   echo connect ADDR PORT COUNT   COUNT connections one after another; prints "N ok, N failed"
 *   echo hold ADDR PORT SECONDS    one connection, over which something goes and comes back every 100 ms
 *
 * A connection is ok when it opens, every byte that was sent comes back in order, and the server's end
 * closes after ours, all of it within DEADLINE_MS. The server is written against nothing but the sockets
 * API on purpose: it stands for the unmodified program that must not notice who answered the SYN.
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	/* room for the retransmissions of a lost SYN after 1 s and 3 s on an emulated CPU */
	DEADLINE_MS = 15000,
	BACKLOG = 128,
	LARGEST = 20000,
};

/* One byte, one segment, several segments: the first flight is what a handshake may lose. */
static const size_t sizes[] = { 1, 100, 1460, 4000, LARGEST };

static long long now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

static void die(const char *what, const char *why)
{
	fprintf(stderr, "echo: %s: %s\n", what, why);
	exit(1);
}

static struct addrinfo *resolve(const char *addr, const char *port)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV };
	struct addrinfo *found;
	int err = getaddrinfo(addr, port, &hints, &found);

	if (err)
		die(addr, gai_strerror(err));
	return found;
}

static void serve(int fd)
{
	char buf[4096];
	ssize_t got;

	while ((got = read(fd, buf, sizeof(buf))) > 0)
		for (ssize_t at = 0; at < got;) {
			ssize_t put = write(fd, buf + at, got - at);

			if (put < 0)
				return;
			at += put;
		}
}

static int cmd_listen(const char *addr, const char *port)
{
	struct addrinfo *to = resolve(addr, port);
	int one = 1, fd = socket(to->ai_family, SOCK_STREAM, 0);

	if (fd < 0)
		die("socket", strerror(errno));
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, to->ai_addr, to->ai_addrlen) || listen(fd, BACKLOG))
		die(addr, strerror(errno));
	freeaddrinfo(to);
	if (daemon(1, 1))
		die("daemon", strerror(errno));

	signal(SIGCHLD, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	for (;;) {
		int peer = accept(fd, NULL, NULL);

		if (peer < 0)
			continue;
		if (fork() == 0) {
			/* a client that vanished must not leave a process behind */
			alarm(2 * DEADLINE_MS / 1000);
			close(fd);
			serve(peer);
			_exit(0);
		}
		close(peer);
	}
}

static bool ready(int fd, short events, long long deadline)
{
	struct pollfd p = { .fd = fd, .events = events };
	long long left = deadline - now_ms();

	if (left > 0 && poll(&p, 1, left) > 0)
		return true;
	errno = ETIMEDOUT;
	return false;
}

static bool opened(int fd, const struct addrinfo *to, long long deadline)
{
	int err = 0;
	socklen_t len = sizeof(err);

	if (connect(fd, to->ai_addr, to->ai_addrlen) == 0)
		return true;
	if (errno != EINPROGRESS || !ready(fd, POLLOUT, deadline))
		return false;
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len);
	errno = err;
	return !err;
}

/* Sends and receives at once, so that no size can fill both directions and stall. */
static bool exchanged(int fd, size_t size, unsigned int seed, long long deadline)
{
	static unsigned char out[LARGEST], in[LARGEST];
	size_t sent = 0, received = 0;

	for (size_t i = 0; i < size; i++)
		out[i] = (unsigned char)(i * 31 + i / 256 + seed);
	while (received < size) {
		ssize_t n;

		if (!ready(fd, sent < size ? POLLIN | POLLOUT : POLLIN, deadline))
			return false;
		if (sent < size) {
			n = send(fd, out + sent, size - sent, MSG_NOSIGNAL);
			if (n < 0 && errno != EAGAIN)
				return false;
			if (n > 0)
				sent += n;
		}
		n = recv(fd, in + received, size - received, 0);
		if (n == 0) {
			errno = EPIPE;
			return false;
		}
		if (n < 0 && errno != EAGAIN)
			return false;
		if (n > 0)
			received += n;
	}
	errno = EBADMSG;
	return !memcmp(in, out, size);
}

static bool closed(int fd, long long deadline)
{
	char byte;
	ssize_t n;

	if (shutdown(fd, SHUT_WR) || !ready(fd, POLLIN, deadline))
		return false;
	n = recv(fd, &byte, 1, 0);
	if (n > 0)
		errno = EBADMSG;
	return n == 0;
}

static int cmd_connect(const char *addr, const char *port, int count)
{
	struct addrinfo *to = resolve(addr, port);
	int ok = 0, failed = 0;

	for (int i = 0; i < count; i++) {
		long long start = now_ms(), deadline = start + DEADLINE_MS;
		int fd = socket(to->ai_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
		const char *step = NULL;

		if (fd < 0)
			die("socket", strerror(errno));
		if (!opened(fd, to, deadline))
			step = "connect";
		else if (!exchanged(fd, sizes[i % (sizeof(sizes) / sizeof(sizes[0]))], i, deadline))
			step = "exchange";
		else if (!closed(fd, deadline))
			step = "close";
		if (step) {
			fprintf(stderr, "echo: connection %d to %s port %s: %s: %s after %lld ms\n", i + 1,
				addr, port, step, strerror(errno), now_ms() - start);
			failed++;
		} else {
			ok++;
		}
		close(fd);
	}
	freeaddrinfo(to);
	printf("%d ok, %d failed\n", ok, failed);
	return failed != 0;
}

static int cmd_hold(const char *addr, const char *port, int seconds)
{
	struct addrinfo *to = resolve(addr, port);
	long long end = now_ms() + seconds * 1000LL;
	int fd = socket(to->ai_family, SOCK_STREAM | SOCK_NONBLOCK, 0), rounds = 0;

	if (fd < 0 || !opened(fd, to, now_ms() + DEADLINE_MS))
		die("connect", strerror(errno));
	while (now_ms() < end) {
		if (!exchanged(fd, sizes[1], rounds++, now_ms() + DEADLINE_MS))
			die("exchange", strerror(errno));
		poll(NULL, 0, 100);
	}
	if (!closed(fd, now_ms() + DEADLINE_MS))
		die("close", strerror(errno));
	freeaddrinfo(to);
	printf("held for %d rounds\n", rounds);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "listen"))
		return cmd_listen(argv[2], argv[3]);
	if (argc == 5 && !strcmp(argv[1], "connect") && atoi(argv[4]) > 0)
		return cmd_connect(argv[2], argv[3], atoi(argv[4]));
	if (argc == 5 && !strcmp(argv[1], "hold") && atoi(argv[4]) > 0)
		return cmd_hold(argv[2], argv[3], atoi(argv[4]));
	fprintf(stderr, "usage: echo listen ADDR PORT | echo connect ADDR PORT COUNT | echo hold ADDR PORT "
			"SECONDS\n");
	return 2;
}
