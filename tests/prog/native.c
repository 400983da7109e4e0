// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Our SYN-ACK is the kernel's: two listeners alike, one on a protected port, one beside it, get the same
 * SYNs, and a client must not be able to tell the answers apart but by what it cannot predict anyway.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/bpf.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>

#include "expect.h"

enum {
	OURS = 8100,   /* the first configuration's protected port */
	BESIDE = 9100, /* and the one that is not protected */
};

/* ---- configurations of the server ---- */

static void set_int(int fd, int level, int option, int value)
{
	REQUIRE(!setsockopt(fd, level, option, &value, sizeof(value)), "option %d of level %d: %s", option,
		level, strerror(errno));
}

static void tos(int fd)
{
	set_int(fd, IPPROTO_IP, IP_TOS, 0x28);
	set_int(fd, IPPROTO_IPV6, IPV6_TCLASS, 0x28);
}

static void ttl(int fd)
{
	set_int(fd, IPPROTO_IP, IP_TTL, 99);
	set_int(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 98);
}

static void no_dont_fragment(int fd)
{
	set_int(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT);
}

static void maxseg(int fd)
{
	set_int(fd, IPPROTO_TCP, TCP_MAXSEG, 1300);
}

static void small_buffer(int fd)
{
	set_int(fd, SOL_SOCKET, SO_RCVBUF, 8192);
}

static void large_buffer(int fd)
{
	set_int(fd, SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20);
}

static void window_clamp(int fd)
{
	set_int(fd, IPPROTO_TCP, TCP_WINDOW_CLAMP, 20000);
}

static const struct configuration {
	const char *name;
	void (*prepare)(int fd); /* what is NULL is left out */
	const char *begin;	 /* commands in the server's namespace */
	const char *end;
} configurations[] = {
	{ "the defaults", NULL, NULL, NULL },
	{ "IP_TOS", tos, NULL, NULL },
	{ "IP_TTL", ttl, NULL, NULL },
	{ "IP_MTU_DISCOVER off", no_dont_fragment, NULL, NULL },
	{ "TCP_MAXSEG", maxseg, NULL, NULL },
	{ "a small SO_RCVBUF", small_buffer, NULL, NULL },
	{ "a large SO_RCVBUF", large_buffer, NULL, NULL },
	{ "TCP_WINDOW_CLAMP", window_clamp, NULL, NULL },
	{ "tcp_reflect_tos", NULL, "sysctl -w net.ipv4.tcp_reflect_tos=1",
	  "sysctl -w net.ipv4.tcp_reflect_tos=0" },
	{ "tcp_timestamps=0", NULL, "sysctl -w net.ipv4.tcp_timestamps=0",
	  "sysctl -w net.ipv4.tcp_timestamps=1" },
	{ "tcp_timestamps=2", NULL, "sysctl -w net.ipv4.tcp_timestamps=2",
	  "sysctl -w net.ipv4.tcp_timestamps=1" },
	{ "tcp_sack=0", NULL, "sysctl -w net.ipv4.tcp_sack=0", "sysctl -w net.ipv4.tcp_sack=1" },
	{ "tcp_window_scaling=0", NULL, "sysctl -w net.ipv4.tcp_window_scaling=0",
	  "sysctl -w net.ipv4.tcp_window_scaling=1" },
	{ "tcp_ecn=0", NULL, "sysctl -w net.ipv4.tcp_ecn=0", "sysctl -w net.ipv4.tcp_ecn=2" },
	{ "tcp_ecn=1", NULL, "sysctl -w net.ipv4.tcp_ecn=1", "sysctl -w net.ipv4.tcp_ecn=2" },
	{ "ip_default_ttl=200", NULL, "sysctl -w net.ipv4.ip_default_ttl=200",
	  "sysctl -w net.ipv4.ip_default_ttl=64" },
	{ "ip_no_pmtu_disc=1", NULL, "sysctl -w net.ipv4.ip_no_pmtu_disc=1",
	  "sysctl -w net.ipv4.ip_no_pmtu_disc=0" },
	{ "a greatest tcp_rmem of 64 MiB", NULL, "sysctl -w net.ipv4.tcp_rmem='4096 131072 67108864'",
	  "sysctl -w net.ipv4.tcp_rmem='4096 131072 6291456'" },
	{ "a default tcp_rmem of 1 MiB", NULL, "sysctl -w net.ipv4.tcp_rmem='4096 1048576 6291456'",
	  "sysctl -w net.ipv4.tcp_rmem='4096 131072 6291456'" },
	{ "an MTU of 1400", NULL, "ip link set " SERVER_IF " mtu 1400",
	  "ip link set " SERVER_IF " mtu 1500 && ip -6 addr replace " SERVER_IP6 "/64 dev " SERVER_IF
	  " nodad" },
	{ "a route's advmss", NULL,
	  "ip route replace " FAKE_NET4 " via " CLIENT_IP4 " advmss 1250"
	  " && ip -6 route replace " FAKE_NET6 " via " CLIENT_IP6 " advmss 1250",
	  "ip route replace " FAKE_NET4 " via " CLIENT_IP4 " && ip -6 route replace " FAKE_NET6
	  " via " CLIENT_IP6 },
	{ "a route's hoplimit and initrwnd", NULL,
	  "ip route replace " FAKE_NET4 " via " CLIENT_IP4 " hoplimit 33 initrwnd 4"
	  " && ip -6 route replace " FAKE_NET6 " via " CLIENT_IP6 " hoplimit 33 initrwnd 4",
	  "ip route replace " FAKE_NET4 " via " CLIENT_IP4 " && ip -6 route replace " FAKE_NET6
	  " via " CLIENT_IP6 },
	{ "a route that asks for ECN", NULL,
	  "sysctl -w net.ipv4.tcp_ecn=0 && ip route replace " FAKE_NET4 " via " CLIENT_IP4 " features ecn"
	  " && ip -6 route replace " FAKE_NET6 " via " CLIENT_IP6 " features ecn",
	  "sysctl -w net.ipv4.tcp_ecn=2 && ip route replace " FAKE_NET4 " via " CLIENT_IP4
	  " && ip -6 route replace " FAKE_NET6 " via " CLIENT_IP6 },
};

/* ---- SYNs ---- */

static const struct {
	const char *name;
	const char *options; /* NULL: those of Linux */
	uint16_t flags;
	uint8_t tos;
} syns[] = {
	{ "Linux", NULL, 0, 0 },
	{ "Linux, ECN", NULL, ECE | CWR, 0 },
	{ "Linux, ECN and ECT", NULL, ECE | CWR, 1 },
	{ "Linux, TOS b8", NULL, 0, 0xb8 },
	{ "Linux, ECN, TOS 28", NULL, ECE | CWR, 0x28 },
	{ "Linux without timestamps", "mss 1400, nop, nop, sack, nop, ws 7", 0, 0 },
	{ "Windows", "mss 1460, nop, ws 8, nop, nop, sack", 0, 0 },
	{ "macOS", "mss 1460, nop, ws 6, nop, nop, ts 99 0, sack, eol, eol", 0, 0 },
	{ "timestamps and scale", "mss 1300, nop, nop, ts 99 0, nop, ws 3", 0, 0 },
	{ "timestamps and SACK", "mss 1300, sack, ts 99 0", 0, 0 },
	{ "timestamps alone", "ts 99 0", 0, 0 },
	{ "MSS alone", "mss 1460", 0, 0 },
	{ "a small MSS", "mss 1220, sack, ts 99 0, nop, ws 7", 0, 0 },
	{ "a large MSS", "mss 8960, sack, ts 99 0, nop, ws 7", 0, 0 },
	{ "no options", "", 0, 0 },
	{ "fast open", "mss 1460, sack, ts 99 0, nop, ws 7, fastopen", 0, 0 },
	{ "a scale of 15", "mss 1460, sack, ts 99 0, nop, ws 15", 0, 0 },
};

enum {
	CONFIGURATIONS = sizeof(configurations) / sizeof(*configurations),
	SYNS = sizeof(syns) / sizeof(*syns),
};

static struct tcp_spec syn_of(int i, enum place place, uint16_t sport, uint16_t dport)
{
	struct tcp_spec syn = place_syn(place, sport, dport);

	if (syns[i].options)
		syn.options = options_text(syns[i].options);
	syn.flags |= syns[i].flags;
	syn.tos = syns[i].tos;
	return syn;
}

/* All bytes of the options but the timestamp's value. */
static void expect_same_options(const char *name, const struct tcp_frame *ours,
				const struct tcp_frame *native)
{
	struct tcp_options a = ours->options, b = native->options;

	for (int side = 0; side < 2; side++) {
		struct tcp_options *options = side ? &a : &b;

		for (int at = 0; at + 10 <= options->len; at += 4)
			if (options->bytes[at + 2] == 8 && options->bytes[at + 3] == 10)
				memset(options->bytes + at + 4, 0, 4);
	}
	EXPECT_STR(ours->layout, native->layout, "%s", name);
	if (EXPECT_EQ(a.len, b.len, "%s", name))
		EXPECT_MEM(a.bytes, b.bytes, a.len, "%s", name);
}

static void expect_same(const char *name, const struct tcp_frame *ours, const struct tcp_frame *native)
{
	EXPECT_MEM(ours->src_mac, native->src_mac, 6, "%s", name);
	EXPECT_MEM(ours->dst_mac, native->dst_mac, 6, "%s", name);
	EXPECT_EQ(ours->ttl, native->ttl, "%s", name);
	EXPECT_EQ(ours->tos, native->tos, "%s", name);
	EXPECT_EQ(ours->df, native->df, "%s", name);
	/* Without DF the stack's is random. */
	if (native->df)
		EXPECT_EQ(ours->id, native->id, "%s", name);
	EXPECT_EQ(ours->ip_options_len, native->ip_options_len, "%s", name);
	EXPECT_EQ(ours->ack, native->ack, "%s", name);
	EXPECT_EQ(ours->flags, native->flags, "%s", name);
	EXPECT_EQ(ours->urgent, native->urgent, "%s", name);
	EXPECT_EQ(ours->payload_len, native->payload_len, "%s", name);
	EXPECT(ours->ip_checksum_ok && ours->tcp_checksum_ok, "%s: checksums", name);
	expect_same_options(name, ours, native);
}

/*
 * The window that we announce is one for the cookie's MSS: at most what the stack has announced to any SYN
 * (KERNEL, trap 3), and at most a segment of either size less than that, or than as
 * many segments.
 */
static void expect_window(const char *name, const struct tcp_frame *ours, const struct tcp_frame *native,
			  const struct facts *facts)
{
	const bool ipv4 = ours->saddr.family == AF_INET;
	struct cookie_options said;
	int most = native->window, unit = native->mss - (native->timestamps ? 12 : 0), segments;

	if (facts->native.window > most)
		most = facts->native.window;
	cookie_decode(cookie_option_bits(ours->seq, ours->timestamps), ipv4, ours->timestamps, &said);
	segments = native->window / unit * said.mss;
	EXPECT(ours->window % said.mss == 0 || ours->window < said.mss, "%s: window %u for MSS %u", name,
	       ours->window, said.mss);
	EXPECT(ours->window <= most, "%s: window %u, the stack's is %u at the most", name, ours->window,
	       most);
	EXPECT(native->window - ours->window < said.mss + unit || ours->window + said.mss >= segments,
	       "%s: window %u for MSS %u, the stack's is %u for MSS %u", name, ours->window, said.mss,
	       native->window, native->mss);
}

static void compare(const struct configuration *configuration, enum place place, uint16_t ours,
		    uint16_t beside, const struct facts *facts, int *compared)
{
	static uint16_t sport = 40000;
	static struct run run;
	uint8_t frame[FRAME_MAX];
	char name[160];

	for (int i = 0; i < SYNS; i++) {
		struct tcp_spec mine = syn_of(i, place, sport, ours),
				other = syn_of(i, place, sport, beside);
		struct tcp_frame reply, native;
		size_t length;

		sport++;
		snprintf(name, sizeof(name), "%s, %s over IPv%d", configuration->name, syns[i].name,
			 place == IPV4 ? 4 : 6);
		other.seq = mine.seq;
		REQUIRE(native_synack(&other, &native), "%s: the stack does not answer", name);
		length = frame_build(&mine, frame, sizeof(frame));
		run_frame(env.xdp, frame, length, &run);
		/* What cannot be carried is the stack's to answer, which is as native as can be. */
		if (run.verdict == XDP_PASS && counted_only(&run, COUNTER_syn_passed_option_uncarried))
			continue;
		if (!EXPECT(run.verdict == XDP_TX && frame_parse(run.bytes, run.length, &reply),
			    "%s: %s, %s", name, verdict_text(run.verdict), counted_text(&run)))
			continue;
		reply.sport = native.sport;
		expect_same(name, &reply, &native);
		expect_window(name, &reply, &native, facts);
		++*compared;
	}
}

static void try_configuration(int i)
{
	const struct configuration *configuration = &configurations[i];
	const uint16_t ours = (uint16_t)(OURS + i), beside = (uint16_t)(BESIDE + i);
	int mine, other, compared = 0;

	if (configuration->begin)
		netns_must(env.pair.server, "%s", configuration->begin);
	mine = listen_on(ours, 64, configuration->prepare);
	other = listen_on(beside, 64, configuration->prepare);
	for (enum place place = IPV4; place <= IPV6; place++) {
		struct facts facts;

		admit(place, ours, &facts);
		compare(configuration, place, ours, beside, &facts, &compared);
	}
	EXPECT(compared >= 6, "%s: compared %d SYN-ACKs only", configuration->name, compared);
	if (configuration->end)
		netns_must(env.pair.server, "%s", configuration->end);
	close(mine);
	close(other);
}

#define CONFIGURATION(i, text)                                                                             \
	CASE("our SYN-ACK is the stack's with " text)                                                      \
	{                                                                                                  \
		REQUIRE(!strcmp(configurations[i].name, text));                                            \
		try_configuration(i);                                                                      \
	}

/* clang-format off */
CONFIGURATION(0, "the defaults")
CONFIGURATION(1, "IP_TOS")
CONFIGURATION(2, "IP_TTL")
CONFIGURATION(3, "IP_MTU_DISCOVER off")
CONFIGURATION(4, "TCP_MAXSEG")
CONFIGURATION(5, "a small SO_RCVBUF")
CONFIGURATION(6, "a large SO_RCVBUF")
CONFIGURATION(7, "TCP_WINDOW_CLAMP")
CONFIGURATION(8, "tcp_reflect_tos")
CONFIGURATION(9, "tcp_timestamps=0")
CONFIGURATION(10, "tcp_timestamps=2")
CONFIGURATION(11, "tcp_sack=0")
CONFIGURATION(12, "tcp_window_scaling=0")
CONFIGURATION(13, "tcp_ecn=0")
CONFIGURATION(14, "tcp_ecn=1")
CONFIGURATION(15, "ip_default_ttl=200")
CONFIGURATION(16, "ip_no_pmtu_disc=1")
CONFIGURATION(17, "a greatest tcp_rmem of 64 MiB")
CONFIGURATION(18, "a default tcp_rmem of 1 MiB")
CONFIGURATION(19, "an MTU of 1400")
CONFIGURATION(20, "a route's advmss")
CONFIGURATION(21, "a route's hoplimit and initrwnd")
CONFIGURATION(22, "a route that asks for ECN")
/* clang-format on */

int main(int argc, char **argv)
{
	_Static_assert(CONFIGURATIONS == 23, "a case for each configuration");

	return report_main(argc, argv, environment_new);
}
