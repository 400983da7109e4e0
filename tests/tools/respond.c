// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * A plain TCP server, unaware of what answers the SYNs before it.
 *
 * Prints (or, with --record, appends to a file) one line an event:
 *	ready ADDR:PORT
 *	open id=N remote=A:P local=A:P mss=N snd_wscale=N rcv_wscale=N sack=B timestamps=B ecn=B
 *	     rtt_us=N
 *	close id=N bytes=N end=eof|reset|closed sha256=HEX
 * The first of the two tells what TCP_INFO says when the connection is accepted, on one line; a
 * scale that was not negotiated is -. bytes is what was received, in all modes; sha256 comes with
 * --digest only.
 *
 * SIGUSR1 begins to accept (--no-accept), SIGTERM and SIGINT end it with
 *	accepted=N open=N bytes=N
 */
#include "sha256.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

enum {
	BUFFER = 256 * 1024,
	EVENTS = 256,
	ECHO_KEPT = 1024 * 1024, /* not yet taken by the peer; above it, we stop reading */
};

static const char banner[] = "respond speaks first\r\n";

enum mode { SINK, ECHO_BACK, DIGEST };

static struct {
	const char *address;
	int port;
	int backlog;
	int rcvbuf;
	int maxseg;
	int tos;
	int defer;
	int fastopen;
	bool no_accept;
	bool banner;
	bool close_first;
	bool quiet;
	bool mptcp;
	bool save_syn;
	bool reuseport;
	bool v6only;
	const char *congestion;
	const char *device;
	const char *record;
	enum mode mode;
} args = { .address = "::", .backlog = 4096 };

struct connection {
	struct connection *next_free;
	int fd;
	unsigned long id;
	uint64_t bytes;
	struct sha256 digest;
	bool eof;
	uint8_t *kept; /* echo: what the peer has not taken */
	size_t kept_len;
};

static FILE *out;
static int epoll_fd;
static unsigned long accepted, open_now;
static uint64_t total;
static uint8_t buffer[BUFFER];

/* What an epoll event belongs to. */
static char the_listener, the_signals;

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "respond: %s: %s\n", what, strerror(errno));
	exit(1);
}

static const char *address_text(const struct sockaddr_storage *a, char *text, size_t size)
{
	const struct sockaddr_in6 *a6 = (const void *)a;
	const struct sockaddr_in *a4 = (const void *)a;
	char host[INET6_ADDRSTRLEN];

	if (a->ss_family == AF_INET) {
		inet_ntop(AF_INET, &a4->sin_addr, host, sizeof(host));
		snprintf(text, size, "%s:%u", host, ntohs(a4->sin_port));
	} else if (IN6_IS_ADDR_V4MAPPED(&a6->sin6_addr)) {
		inet_ntop(AF_INET, &a6->sin6_addr.s6_addr[12], host, sizeof(host));
		snprintf(text, size, "%s:%u", host, ntohs(a6->sin6_port));
	} else {
		inet_ntop(AF_INET6, &a6->sin6_addr, host, sizeof(host));
		snprintf(text, size, "[%s]:%u", host, ntohs(a6->sin6_port));
	}
	return text;
}

static const char *scale_text(bool negotiated, unsigned int scale, char text[4])
{
	if (negotiated)
		snprintf(text, 4, "%u", scale);
	else
		strcpy(text, "-");
	return text;
}

static void print_open(const struct connection *c, const struct sockaddr_storage *remote)
{
	char remote_text[64], local_text[64], snd[4], rcv[4];
	struct sockaddr_storage local = { 0 };
	socklen_t size = sizeof(local);
	struct tcp_info info = { 0 };

	getsockname(c->fd, (struct sockaddr *)&local, &size);
	size = sizeof(info);
	getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, &info, &size);
	fprintf(out,
		"open id=%lu remote=%s local=%s mss=%u snd_wscale=%s rcv_wscale=%s sack=%d "
		"timestamps=%d ecn=%d rtt_us=%u\n",
		c->id, address_text(remote, remote_text, sizeof(remote_text)),
		address_text(&local, local_text, sizeof(local_text)), info.tcpi_snd_mss,
		scale_text(info.tcpi_options & TCPI_OPT_WSCALE, info.tcpi_snd_wscale, snd),
		scale_text(info.tcpi_options & TCPI_OPT_WSCALE, info.tcpi_rcv_wscale, rcv),
		!!(info.tcpi_options & TCPI_OPT_SACK), !!(info.tcpi_options & TCPI_OPT_TIMESTAMPS),
		!!(info.tcpi_options & TCPI_OPT_ECN), info.tcpi_rtt);
}

static struct connection *free_connections;

static void end(struct connection *c, const char *how)
{
	char hex[SHA256_HEX] = "";

	if (args.mode == DIGEST)
		sha256_end(&c->digest, hex);
	close(c->fd);
	open_now--;
	if (!args.quiet)
		fprintf(out, "close id=%lu bytes=%llu end=%s%s%s\n", c->id, (unsigned long long)c->bytes,
			how, *hex ? " sha256=" : "", hex);
	free(c->kept);
	c->kept = NULL;
	c->kept_len = 0;
	/* Not freed: events of it may still be in the list that epoll_wait() returned. */
	c->fd = -1;
	c->next_free = free_connections;
	free_connections = c;
}

/* Interest follows state: an echo that the peer does not read must not be read for either. */
static void watch(struct connection *c, int op)
{
	struct epoll_event event = { .data.ptr = c };

	if (!c->eof && c->kept_len < ECHO_KEPT)
		event.events |= EPOLLIN;
	if (c->kept_len)
		event.events |= EPOLLOUT;
	if (epoll_ctl(epoll_fd, op, c->fd, &event))
		die("epoll_ctl");
}

/* False if the connection is gone. */
static bool flush_kept(struct connection *c)
{
	while (c->kept_len) {
		ssize_t n = send(c->fd, c->kept, c->kept_len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return true;
		if (n < 0) {
			end(c, "reset");
			return false;
		}
		c->kept_len -= (size_t)n;
		memmove(c->kept, c->kept + n, c->kept_len);
	}
	return true;
}

static void keep(struct connection *c, const uint8_t *bytes, size_t len)
{
	c->kept = realloc(c->kept, c->kept_len + len);
	if (!c->kept)
		die("memory");
	memcpy(c->kept + c->kept_len, bytes, len);
	c->kept_len += len;
}

static void serve(struct connection *c)
{
	while (!c->eof && c->kept_len < ECHO_KEPT) {
		ssize_t n = recv(c->fd, buffer, sizeof(buffer), 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			end(c, "reset");
			return;
		}
		if (n == 0) {
			c->eof = true;
			break;
		}
		c->bytes += (uint64_t)n;
		total += (uint64_t)n;
		if (args.mode == DIGEST)
			sha256_add(&c->digest, buffer, (size_t)n);
		if (args.mode == ECHO_BACK) {
			keep(c, buffer, (size_t)n);
			if (!flush_kept(c))
				return;
		}
	}
	if (!flush_kept(c))
		return;
	if (c->eof && !c->kept_len) {
		end(c, "eof");
		return;
	}
	watch(c, EPOLL_CTL_MOD);
}

/*
 * Closing with unread data would send an RST, so the server that closes first says that it has no
 * more to say and closes when the client is done.
 */
static void greet(struct connection *c)
{
	if (args.banner)
		send(c->fd, banner, sizeof(banner) - 1, MSG_NOSIGNAL);
	if (args.close_first)
		shutdown(c->fd, SHUT_WR);
}

static struct connection *new_connection(void)
{
	struct connection *c = free_connections;

	if (c) {
		free_connections = c->next_free;
		memset(c, 0, sizeof(*c));
	} else {
		c = calloc(1, sizeof(*c));
	}
	if (!c)
		die("memory");
	return c;
}

static void accept_all(int listener)
{
	for (;;) {
		struct sockaddr_storage remote = { 0 };
		socklen_t size = sizeof(remote);
		int fd = accept4(listener, (struct sockaddr *)&remote, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
		struct connection *c;

		if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
			continue;
		if (fd < 0 && errno == EAGAIN)
			return;
		if (fd < 0)
			die("accept");
		c = new_connection();
		c->fd = fd;
		c->id = ++accepted;
		open_now++;
		sha256_begin(&c->digest);
		if (!args.quiet)
			print_open(c, &remote);
		greet(c);
		watch(c, EPOLL_CTL_ADD);
	}
}

static void set(int fd, int level, int name, int value, const char *what)
{
	if (setsockopt(fd, level, name, &value, sizeof(value)))
		die(what);
}

static void set_text(int fd, int level, int name, const char *value, const char *what)
{
	if (setsockopt(fd, level, name, value, (socklen_t)strlen(value)))
		die(what);
}

static int listen_socket(void)
{
	struct sockaddr_storage address = { 0 };
	struct sockaddr_in6 *a6 = (void *)&address;
	struct sockaddr_in *a4 = (void *)&address;
	socklen_t size = sizeof(address);
	bool v4 = !strchr(args.address, ':');
	char text[64];
	int fd;

	address.ss_family = v4 ? AF_INET : AF_INET6;
	if (inet_pton(address.ss_family, args.address,
		      v4 ? (void *)&a4->sin_addr : (void *)&a6->sin6_addr) != 1) {
		fprintf(stderr, "respond: %s is no address\n", args.address);
		exit(2);
	}
	a6->sin6_port = htons((uint16_t)args.port); /* lies where sin_port does */
	fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
		    args.mptcp ? IPPROTO_MPTCP : 0);
	if (fd < 0)
		die("socket");
	set(fd, SOL_SOCKET, SO_REUSEADDR, 1, "SO_REUSEADDR");
	if (!v4)
		set(fd, IPPROTO_IPV6, IPV6_V6ONLY, args.v6only, "IPV6_V6ONLY");
	if (args.reuseport)
		set(fd, SOL_SOCKET, SO_REUSEPORT, 1, "SO_REUSEPORT");
	if (args.device)
		set_text(fd, SOL_SOCKET, SO_BINDTODEVICE, args.device, "--device");
	if (args.rcvbuf)
		set(fd, SOL_SOCKET, SO_RCVBUF, args.rcvbuf, "--rcvbuf");
	if (args.maxseg)
		set(fd, IPPROTO_TCP, TCP_MAXSEG, args.maxseg, "--maxseg");
	if (args.tos)
		set(fd, v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_TOS : IPV6_TCLASS, args.tos, "--tos");
	if (args.tos && !v4)
		set(fd, IPPROTO_IP, IP_TOS, args.tos, "--tos");
	if (args.defer)
		set(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, args.defer, "--defer-accept");
	if (args.fastopen)
		set(fd, IPPROTO_TCP, TCP_FASTOPEN, args.fastopen, "--fastopen");
	if (args.save_syn)
		set(fd, IPPROTO_TCP, TCP_SAVE_SYN, 1, "--save-syn");
	if (args.congestion)
		set_text(fd, IPPROTO_TCP, TCP_CONGESTION, args.congestion, "--congestion");
	if (bind(fd, (struct sockaddr *)&address, size) || listen(fd, args.backlog))
		die("listen");
	getsockname(fd, (struct sockaddr *)&address, &size);
	fprintf(out, "ready %s\n", address_text(&address, text, sizeof(text)));
	fflush(out);
	return fd;
}

static void add_event(int fd, void *what)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = what };

	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event))
		die("epoll_ctl");
}

/* False when it is time to go. */
static bool take_signal(int fd, int listener)
{
	struct signalfd_siginfo info;

	if (read(fd, &info, sizeof(info)) != sizeof(info))
		return true;
	if (info.ssi_signo != SIGUSR1)
		return false;
	if (args.no_accept) {
		args.no_accept = false;
		add_event(listener, &the_listener);
	}
	return true;
}

static void run(int listener, int signals)
{
	struct epoll_event events[EVENTS];

	for (;;) {
		int n = epoll_wait(epoll_fd, events, EVENTS, -1);

		if (n < 0 && errno != EINTR)
			die("epoll_wait");
		for (int i = 0; i < n; i++) {
			struct connection *c = events[i].data.ptr;

			if (events[i].data.ptr == &the_signals) {
				if (!take_signal(signals, listener))
					return;
			} else if (events[i].data.ptr == &the_listener) {
				accept_all(listener);
			} else if (c->fd >= 0) {
				serve(c);
			}
		}
		fflush(out);
	}
}

static void usage(FILE *f)
{
	fputs("usage: respond --port N [--listen ADDR] [OPTION]...\n"
	      "  --listen ADDR      ::, the default, is both families; see --v6only\n"
	      "  --backlog N        of listen()\n"
	      "  --no-accept        accept only after SIGUSR1\n"
	      "  --sink             read and forget (the default)\n"
	      "  --digest           and tell the SHA-256 of what came\n"
	      "  --echo             send it back\n"
	      "  --banner           speak first\n"
	      "  --close-first      shut down sending at once, so that TIME_WAIT is here\n"
	      "  --record FILE      append the lines there instead of printing them\n"
	      "  --quiet            no lines for connections\n"
	      "  --rcvbuf N, --maxseg N, --tos N, --defer-accept S, --fastopen N, --save-syn,\n"
	      "  --congestion NAME, --device NAME, --mptcp, --reuseport, --v6only\n"
	      "                     of the listening socket\n",
	      f);
}

/* Options without an argument set a bool, the others have a letter of their own. */
static void parse(int argc, char **argv)
{
	int no_accept = 0, with_banner = 0, close_first = 0, quiet = 0, mptcp = 0, save_syn = 0,
	    reuseport = 0, v6only = 0, mode = SINK, c;
	const struct option options[] = {
		{ "listen", required_argument, NULL, 'l' },
		{ "port", required_argument, NULL, 'p' },
		{ "backlog", required_argument, NULL, 'b' },
		{ "rcvbuf", required_argument, NULL, 'r' },
		{ "maxseg", required_argument, NULL, 'm' },
		{ "tos", required_argument, NULL, 't' },
		{ "defer-accept", required_argument, NULL, 'd' },
		{ "fastopen", required_argument, NULL, 'f' },
		{ "congestion", required_argument, NULL, 'c' },
		{ "device", required_argument, NULL, 'i' },
		{ "record", required_argument, NULL, 'R' },
		{ "no-accept", no_argument, &no_accept, 1 },
		{ "banner", no_argument, &with_banner, 1 },
		{ "close-first", no_argument, &close_first, 1 },
		{ "quiet", no_argument, &quiet, 1 },
		{ "mptcp", no_argument, &mptcp, 1 },
		{ "save-syn", no_argument, &save_syn, 1 },
		{ "reuseport", no_argument, &reuseport, 1 },
		{ "v6only", no_argument, &v6only, 1 },
		{ "sink", no_argument, &mode, SINK },
		{ "echo", no_argument, &mode, ECHO_BACK },
		{ "digest", no_argument, &mode, DIGEST },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 0: break;
		case 'l': args.address = optarg; break;
		case 'p': args.port = atoi(optarg); break;
		case 'b': args.backlog = atoi(optarg); break;
		case 'r': args.rcvbuf = atoi(optarg); break;
		case 'm': args.maxseg = atoi(optarg); break;
		case 't': args.tos = (int)strtol(optarg, NULL, 0); break;
		case 'd': args.defer = atoi(optarg); break;
		case 'f': args.fastopen = atoi(optarg); break;
		case 'c': args.congestion = optarg; break;
		case 'i': args.device = optarg; break;
		case 'R': args.record = optarg; break;
		case 'h': usage(stdout); exit(0);
		default: usage(stderr); exit(2);
		}
	}
	if (optind != argc || args.port < 0 || args.port > 65535) {
		usage(stderr);
		exit(2);
	}
	args.no_accept = no_accept;
	args.banner = with_banner;
	args.close_first = close_first;
	args.quiet = quiet;
	args.mptcp = mptcp;
	args.save_syn = save_syn;
	args.reuseport = reuseport;
	args.v6only = v6only;
	args.mode = (enum mode)mode;
}

int main(int argc, char **argv)
{
	struct rlimit files;
	int listener, signals;
	sigset_t set;

	parse(argc, argv);
	out = args.record ? fopen(args.record, "ae") : stdout;
	if (!out)
		die(args.record);
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signals = signalfd(-1, &set, SFD_CLOEXEC);
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (signals < 0 || epoll_fd < 0)
		die("epoll");
	add_event(signals, &the_signals);
	listener = listen_socket();
	if (!args.no_accept)
		add_event(listener, &the_listener);
	run(listener, signals);
	fprintf(out, "accepted=%lu open=%lu bytes=%llu\n", accepted, open_now, (unsigned long long)total);
	return 0;
}
