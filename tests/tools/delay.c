// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * A wire with a length: carries frames between two interfaces of the namespace it runs in, each
 * --ms milliseconds after it came, in order, both ways.
 *
 *	delay --ms N [--loss PERCENT [--seed N]] IFACE IFACE
 *
 * Prints "ready" when it carries, and at SIGTERM or SIGINT
 *	carried=N lost=N late_us=N	the last is by how much the latest frame was late
 *
 * All offloads of the devices and their peers must be off, for raw sockets see checksums that are
 * not yet there and segments beyond the MTU.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	FRAME_MAX = 65536 + 32,
	MACS = 12,
	VLAN_TAG = 4,
	SOCKET_BUFFER = 64 * 1024 * 1024,
};

struct frame {
	struct frame *next;
	int64_t due; /* ns of CLOCK_REALTIME, the clock of the kernel's receive stamps */
	size_t len;
	uint8_t bytes[];
};

/* One way: from a device into a queue and out of the other device. */
struct way {
	int in;
	int out;
	struct frame *first;
	struct frame **end;
};

static int64_t delay_ns;
static double loss;
static uint64_t random_state = 1;
static unsigned long carried, lost;
static int64_t latest;
static uint8_t buffer[FRAME_MAX];
static volatile sig_atomic_t told_to_end;

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "delay: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* xorshift64*: the same seed loses the same frames. */
static bool loses(void)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return (double)(random_state * 0x2545f4914f6cdd1dull >> 11) / (double)(1ull << 53) * 100 < loss;
}

static int open_device(const char *name)
{
	struct sockaddr_ll address = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_ALL),
		.sll_ifindex = (int)if_nametoindex(name),
	};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int on = 1, size = SOCKET_BUFFER;

	if (fd < 0 || !address.sll_ifindex)
		die(name);
	if (setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on)) ||
	    setsockopt(fd, SOL_PACKET, PACKET_AUXDATA, &on, sizeof(on)) ||
	    setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof(on)) ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) ||
	    bind(fd, (struct sockaddr *)&address, sizeof(address)))
		die(name);
	return fd;
}

/* A tag that the kernel has taken out of the frame belongs back into it. */
static size_t restore_tag(size_t len, const struct tpacket_auxdata *aux)
{
	uint16_t tag[2] = { htons(ETH_P_8021Q), htons(aux->tp_vlan_tci) };

	if (!(aux->tp_status & TP_STATUS_VLAN_VALID) || len < MACS)
		return len;
	if (aux->tp_status & TP_STATUS_VLAN_TPID_VALID)
		tag[0] = htons(aux->tp_vlan_tpid);
	memmove(buffer + MACS + VLAN_TAG, buffer + MACS, len - MACS);
	memcpy(buffer + MACS, tag, sizeof(tag));
	return len + VLAN_TAG;
}

static void enqueue(struct way *way, size_t len, int64_t arrived)
{
	struct frame *f;

	if (loses()) {
		lost++;
		return;
	}
	f = malloc(sizeof(*f) + len);
	if (!f)
		die("memory");
	f->due = arrived + delay_ns;
	f->len = len;
	f->next = NULL;
	memcpy(f->bytes, buffer, len);
	*way->end = f;
	way->end = &f->next;
}

/*
 * The stamp is from when the frame reached the socket, so that being scheduled late ourselves does
 * not lengthen the wire.
 */
static void take_in(struct way *way)
{
	for (;;) {
		struct iovec iov = { buffer, sizeof(buffer) - VLAN_TAG };
		char control[CMSG_SPACE(sizeof(struct tpacket_auxdata)) +
			     CMSG_SPACE(sizeof(struct timespec))];
		struct msghdr message = {
			.msg_iov = &iov,
			.msg_iovlen = 1,
			.msg_control = control,
			.msg_controllen = sizeof(control),
		};
		ssize_t n = recvmsg(way->in, &message, 0);
		int64_t now = now_ns(), arrived = now;
		struct cmsghdr *c;
		size_t len;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return;
		len = (size_t)n;
		for (c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
			if (c->cmsg_level == SOL_PACKET && c->cmsg_type == PACKET_AUXDATA) {
				len = restore_tag(len, (const void *)CMSG_DATA(c));
			} else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_TIMESTAMPNS) {
				struct timespec ts;

				memcpy(&ts, CMSG_DATA(c), sizeof(ts));
				arrived = (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
			}
		}
		/* Should the clock have been set in between. */
		if (arrived > now || arrived < now - 1000000000)
			arrived = now;
		enqueue(way, len, arrived);
	}
}

static void let_out(struct way *way)
{
	int64_t now = now_ns();

	while (way->first && way->first->due <= now) {
		struct frame *f = way->first;

		/* A frame that the device refuses is lost, as on any wire. */
		if (send(way->out, f->bytes, f->len, 0) < 0)
			lost++;
		else
			carried++;
		if (now - f->due > latest)
			latest = now - f->due;
		way->first = f->next;
		if (!way->first)
			way->end = &way->first;
		free(f);
		now = now_ns();
	}
}

static void forget(struct way *way)
{
	while (way->first) {
		struct frame *f = way->first;

		way->first = f->next;
		free(f);
	}
}

static void carry(struct way ways[2])
{
	sigset_t awake;

	sigemptyset(&awake);
	while (!told_to_end) {
		struct pollfd p[2] = {
			{ .fd = ways[0].in, .events = POLLIN },
			{ .fd = ways[1].in, .events = POLLIN },
		};
		struct timespec wait, *timeout = NULL;
		int64_t due = INT64_MAX;

		for (int i = 0; i < 2; i++) {
			if (ways[i].first && ways[i].first->due < due)
				due = ways[i].first->due;
		}
		if (due != INT64_MAX) {
			int64_t left = due - now_ns();

			left = left < 0 ? 0 : left;
			wait = (struct timespec){ left / 1000000000, left % 1000000000 };
			timeout = &wait;
		}
		/* Signals come here and nowhere else. */
		ppoll(p, 2, timeout, &awake);
		for (int i = 0; i < 2; i++) {
			take_in(&ways[i]);
			let_out(&ways[i]);
		}
	}
}

static void on_signal(int sig)
{
	(void)sig;
	told_to_end = 1;
}

static void usage(FILE *f)
{
	fputs("usage: delay --ms N [--loss PERCENT [--seed N]] IFACE IFACE\n", f);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "ms", required_argument, NULL, 'm' },
		{ "loss", required_argument, NULL, 'l' },
		{ "seed", required_argument, NULL, 's' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	struct sched_param param = { .sched_priority = 1 };
	struct sigaction action = { .sa_handler = on_signal };
	struct way ways[2] = { 0 };
	sigset_t set;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'm': delay_ns = (int64_t)(atof(optarg) * 1e6); break;
		case 'l': loss = atof(optarg); break;
		case 's':
			random_state = strtoull(optarg, NULL, 0) * 2 + 1; /* never 0 */
			break;
		case 'h': usage(stdout); return 0;
		default: usage(stderr); return 2;
		}
	}
	if (argc - optind != 2 || delay_ns < 0 || loss < 0 || loss > 100) {
		usage(stderr);
		return 2;
	}
	for (int i = 0; i < 2; i++) {
		ways[i].in = open_device(argv[optind + i]);
		ways[i].end = &ways[i].first;
	}
	ways[0].out = ways[1].in;
	ways[1].out = ways[0].in;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	/* Half a millisecond matters; where real-time scheduling is refused, it is still fair. */
	prctl(PR_SET_TIMERSLACK, 1);
	sched_setscheduler(0, SCHED_FIFO, &param);

	puts("ready");
	fflush(stdout);
	carry(ways);
	for (int i = 0; i < 2; i++)
		forget(&ways[i]);
	printf("carried=%lu lost=%lu late_us=%lld\n", carried, lost, (long long)latest / 1000);
	return 0;
}
