// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Floods from random sources, out of an interface of the namespace it runs in.
 *
 *	flood --iface NAME --src PREFIX --dst ADDR --dport N [--dst-mac MAC] [--seconds S]
 *	      [--rate N] [--burst N] [--seed N] [--options TEXT] [--ack]
 *
 * SYNs with Linux's options, or others ("mss 1460, nop, ws 8": see options_text() in frame.h), or
 * with --ack bare ACKs of random numbers. Source port, ISN and TSval are random, too; the same
 * seed makes the same flood.
 *
 * Prints sent=N seconds=S. What is sent is what was handed to the device, with a rate exactly rate
 * times seconds; a peer that is too slow drops some of it. What the peer needs is in live.h.
 */
#include "flood.h"
#include "flood.skel.h"
#include "frame.h"
#include "live.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <getopt.h>
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	BATCH = 64,	  /* a NAPI poll's budget; veth's ring holds 256 */
	AT_ONCE = 8192,	  /* frames between two looks at the clock, without a rate */
	TICK_NS = 500000, /* between bursts, with one */
};

static struct {
	const char *iface;
	const char *src;
	const char *dst;
	const char *dst_mac;
	const char *options;
	int dport;
	double seconds;
	double rate;
	long burst;
	uint64_t seed;
	bool ack;
} args = { .seconds = 1, .seed = 1, .burst = BATCH };

static volatile sig_atomic_t told_to_end;

__attribute__((format(printf, 1, 2))) static _Noreturn void die(const char *fmt, ...)
{
	va_list list;

	va_start(list, fmt);
	fputs("flood: ", stderr);
	vfprintf(stderr, fmt, list);
	fputc('\n', stderr);
	exit(1);
}

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static void own_mac(uint8_t mac[6])
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request = { 0 };

	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", args.iface);
	if (ioctl(fd, SIOCGIFHWADDR, &request))
		die("%s: %s", args.iface, strerror(errno));
	memcpy(mac, request.ifr_hwaddr.sa_data, 6);
	close(fd);
}

/* "10.80.0.0/12": the network's address, and which of its last 64 bits are the host's. */
static struct ip_addr parse_prefix(uint64_t *network, uint64_t *hosts)
{
	char text[64], *slash;
	struct ip_addr a;
	int bits, len, free;

	snprintf(text, sizeof(text), "%s", args.src);
	slash = strchr(text, '/');
	if (slash)
		*slash = '\0';
	a = ip(text);
	bits = a.family == AF_INET ? 32 : 128;
	len = slash ? atoi(slash + 1) : bits;
	if (len < 0 || len > bits)
		die("%s is no prefix", args.src);
	free = bits - len;
	/* More than 64 random bits make no flood wilder. */
	*hosts = free >= 64 ? UINT64_MAX : (1ull << free) - 1;
	if (a.family == AF_INET) {
		*network = ntohl(a.v4.s_addr) & ~*hosts;
		a.v4.s_addr = htonl((uint32_t)*network);
	} else {
		*network = 0;
		for (int i = 8; i < 16; i++)
			*network = *network << 8 | a.v6.s6_addr[i];
		*network &= ~*hosts;
		for (int i = 0; i < 8; i++)
			a.v6.s6_addr[8 + i] = (uint8_t)(*network >> (56 - 8 * i));
	}
	return a;
}

/* Where TSval is, behind the beginning of the options; 0: nowhere. */
static uint32_t find_ts(const struct tcp_options *o)
{
	for (uint32_t at = 0; at + 1 < o->len;) {
		uint8_t kind = o->bytes[at];

		if (kind == 8)
			return at + 2;
		if (kind == 0 || (kind != 1 && o->bytes[at + 1] < 2))
			return 0;
		at += kind == 1 ? 1 : o->bytes[at + 1];
	}
	return 0;
}

static void make_shape(struct flood_shape *shape)
{
	uint64_t network, hosts;
	struct tcp_spec spec = {
		.saddr = parse_prefix(&network, &hosts),
		.daddr = ip(args.dst),
		.dport = (uint16_t)args.dport,
		.flags = args.ack ? ACK : SYN,
	};
	bool v4 = spec.saddr.family == AF_INET;
	uint32_t in_options;

	own_mac(spec.src_mac);
	if (args.dst_mac &&
	    sscanf(args.dst_mac, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &spec.dst_mac[0], &spec.dst_mac[1],
		   &spec.dst_mac[2], &spec.dst_mac[3], &spec.dst_mac[4], &spec.dst_mac[5]) != 6)
		die("%s is no MAC", args.dst_mac);
	if (args.options)
		spec.options = options_text(args.options);
	else if (args.ack)
		spec.options = options_ts(0, 0);
	else
		spec.options = options_linux(v4 ? 1460 : 1440, 0, 7);

	shape->len = (uint32_t)frame_build(&spec, shape->frame, sizeof(shape->frame));
	shape->ip = v4 ? 14 : 0;
	shape->saddr = v4 ? 14 + 12 : 14 + 8 + 8;
	shape->tcp = 14 + (v4 ? 20 : 40);
	in_options = find_ts(&spec.options);
	shape->ts = in_options ? shape->tcp + 20 + in_options : 0;
	shape->network = network;
	shape->hosts = hosts;
	shape->random_ack = args.ack;
	/* What varies is 0 here, so that the sums want nothing but to have it added. */
	shape->tcp_sum = (uint16_t)~get16(shape->frame + shape->tcp + 16);
	memset(shape->frame + shape->tcp + 16, 0, 2);
	if (shape->ts)
		memset(shape->frame + shape->ts, 0, 4);
	if (v4) {
		shape->ip_sum = (uint16_t)~get16(shape->frame + shape->ip + 10);
		memset(shape->frame + shape->ip + 10, 0, 2);
	}
}

static void send_frames(const struct flood_bpf *skel, const struct flood_shape *shape, long n)
{
	int err = live_run(bpf_program__fd(skel->progs.flood), if_nametoindex(args.iface), shape->len,
			   (uint32_t)n, (uint32_t)args.burst);

	/* A signal ends a long run early, and is seen to afterwards. */
	if (err && err != -EINTR)
		die("sending: %s", strerror(-err));
}

/* How many frames are due @ns after the beginning, and not yet sent. */
static long due(const struct flood_bpf *skel, int64_t ns)
{
	double seconds = (double)ns / 1e9;

	if (args.rate <= 0)
		return AT_ONCE;
	if (seconds > args.seconds)
		seconds = args.seconds;
	return (long)(args.rate * seconds) - (long)skel->bss->written;
}

static void run(struct flood_bpf *skel, const struct flood_shape *shape)
{
	int64_t begin = now_ns(), end = begin + (int64_t)(args.seconds * 1e9), now = begin;
	long n;

	while (now < end && !told_to_end) {
		n = due(skel, now - begin);
		if (n > 0)
			send_frames(skel, shape, n < AT_ONCE ? n : AT_ONCE);
		if (args.rate > 0) {
			int64_t next = (now_ns() / TICK_NS + 1) * TICK_NS;
			struct timespec tick = { next / 1000000000, next % 1000000000 };

			clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &tick, NULL);
		}
		now = now_ns();
	}
	/* The last sleep may have been too long. */
	n = args.rate > 0 && !told_to_end ? due(skel, now - begin) : 0;
	if (n > 0)
		send_frames(skel, shape, n);
	printf("sent=%llu seconds=%.3f\n", (unsigned long long)skel->bss->written,
	       (double)(now_ns() - begin) / 1e9);
}

static void on_signal(int sig)
{
	(void)sig;
	told_to_end = 1;
}

static void usage(FILE *f)
{
	fputs("usage: flood --iface NAME --src PREFIX --dst ADDR --dport N [OPTION]...\n"
	      "  --dst-mac MAC      (02:77:00:00:00:01)\n"
	      "  --seconds S        (1)\n"
	      "  --rate N           frames a second (as fast as it goes)\n"
	      "  --burst N          frames at a time, up to 256 (64)\n"
	      "  --seed N           (1)\n"
	      "  --options TEXT     other TCP options than Linux's\n"
	      "  --ack              bare ACKs instead of SYNs\n",
	      f);
}

static void parse(int argc, char **argv)
{
	static const struct option options[] = {
		{ "iface", required_argument, NULL, 'i' },
		{ "src", required_argument, NULL, 's' },
		{ "dst", required_argument, NULL, 'd' },
		{ "dport", required_argument, NULL, 'p' },
		{ "dst-mac", required_argument, NULL, 'm' },
		{ "seconds", required_argument, NULL, 't' },
		{ "rate", required_argument, NULL, 'r' },
		{ "burst", required_argument, NULL, 'b' },
		{ "seed", required_argument, NULL, 'e' },
		{ "options", required_argument, NULL, 'o' },
		{ "ack", no_argument, NULL, 'a' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'i': args.iface = optarg; break;
		case 's': args.src = optarg; break;
		case 'd': args.dst = optarg; break;
		case 'p': args.dport = atoi(optarg); break;
		case 'm': args.dst_mac = optarg; break;
		case 't': args.seconds = atof(optarg); break;
		case 'r': args.rate = atof(optarg); break;
		case 'b': args.burst = atol(optarg); break;
		case 'e': args.seed = strtoull(optarg, NULL, 0); break;
		case 'o': args.options = optarg; break;
		case 'a': args.ack = true; break;
		case 'h': usage(stdout); exit(0);
		default: usage(stderr); exit(2);
		}
	}
	if (optind != argc || !args.iface || !args.src || !args.dst || args.dport <= 0 ||
	    args.dport > 65535 || args.burst < 1 || args.burst > 256) {
		usage(stderr);
		exit(2);
	}
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = on_signal };
	struct flood_shape shape = { 0 };
	struct flood_bpf *skel;
	int hold;

	parse(argc, argv);
	make_shape(&shape);
	skel = flood_bpf__open();
	if (!skel)
		die("%s", strerror(errno));
	memcpy((void *)&skel->rodata->shape, &shape, sizeof(shape));
	skel->bss->random_state = args.seed;
	if (flood_bpf__load(skel))
		die("loading: %s", strerror(errno));
	hold = live_hold(bpf_program__fd(skel->progs.flood));
	if (hold < 0)
		die("holding the program: %s", strerror(-hold));
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	prctl(PR_SET_TIMERSLACK, 1);
	run(skel, &shape);
	close(hold);
	flood_bpf__destroy(skel);
	return 0;
}
