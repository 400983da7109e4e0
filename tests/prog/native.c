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
#include "syns.h"

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

static void maxseg_small_buffer(int fd)
{
	maxseg(fd);
	small_buffer(fd);
}

static void maxseg_least(int fd)
{
	set_int(fd, IPPROTO_TCP, TCP_MAXSEG, 1220);
}

#define SYSCTL(name, value) "sysctl -w net." name "='" value "'"
#define ROUTES(options)                                                                                    \
	"ip route replace " FAKE_NET4 " via " CLIENT_IP4 " " options " && ip -6 route replace " FAKE_NET6  \
	" via " CLIENT_IP6 " " options
/* A sysctl that is another for the time being; its usual value at the end. */
#define CHANGED(name, value, usual) .begin = SYSCTL(name, value), .end = SYSCTL(name, usual)
#define ROUTED(options)		    .begin = ROUTES(options), .end = ROUTES("")
#define RMEM(value)		    CHANGED("ipv4.tcp_rmem", value, "4096 131072 6291456")

static const struct configuration {
	const char *name;
	void (*prepare)(int fd); /* what is NULL is left out */
	const char *begin;	 /* commands in the server's namespace */
	const char *end;
	bool counts_segments; /* a route's initrwnd: the window is so many segments */
	bool seems_to_count;  /* what looks like it: the window may be smaller for that */
	bool refuses;	      /* an option: what is left may have no room in the cookie */
} configurations[] = {
	{ .name = "the defaults" },
	{ .name = "IP_TOS", .prepare = tos },
	{ .name = "IP_TTL", .prepare = ttl },
	{ .name = "IP_MTU_DISCOVER off", .prepare = no_dont_fragment },
	{ .name = "TCP_MAXSEG", .prepare = maxseg },
	{ .name = "a small SO_RCVBUF", .prepare = small_buffer },
	{ .name = "a large SO_RCVBUF", .prepare = large_buffer },
	{ .name = "TCP_WINDOW_CLAMP", .prepare = window_clamp },
	{ .name = "tcp_reflect_tos", CHANGED("ipv4.tcp_reflect_tos", "1", "0") },
	{ .name = "tcp_timestamps=0", CHANGED("ipv4.tcp_timestamps", "0", "1"), .refuses = true },
	{ .name = "tcp_timestamps=2", CHANGED("ipv4.tcp_timestamps", "2", "1") },
	{ .name = "tcp_sack=0", CHANGED("ipv4.tcp_sack", "0", "1"), .refuses = true },
	{ .name = "tcp_window_scaling=0", CHANGED("ipv4.tcp_window_scaling", "0", "1"), .refuses = true },
	{ .name = "tcp_ecn=0", CHANGED("ipv4.tcp_ecn", "0", "2") },
	{ .name = "tcp_ecn=1", CHANGED("ipv4.tcp_ecn", "1", "2") },
	/* AccECN, which is not in every kernel. */
	{ .name = "tcp_ecn=3 where there is such a value",
	  .begin = SYSCTL("ipv4.tcp_ecn", "3") " || true",
	  .end = SYSCTL("ipv4.tcp_ecn", "2") },
	{ .name = "ip_default_ttl=200", CHANGED("ipv4.ip_default_ttl", "200", "64") },
	{ .name = "ip_no_pmtu_disc=1", CHANGED("ipv4.ip_no_pmtu_disc", "1", "0") },
	{ .name = "a greatest tcp_rmem of 64 MiB", RMEM("4096 131072 67108864") },
	{ .name = "a default tcp_rmem of 1 MiB", RMEM("4096 1048576 6291456") },
	{ .name = "a small tcp_rmem", RMEM("4096 16384 32768") },
	{ .name = "a tiny tcp_rmem", RMEM("4096 4096 4096") },
	{ .name = "tcp_adv_win_scale=-2", CHANGED("ipv4.tcp_adv_win_scale", "-2", "1") },
	{ .name = "tcp_workaround_signed_windows",
	  CHANGED("ipv4.tcp_workaround_signed_windows", "1", "0") },
	{ .name = "another hop_limit",
	  .begin = SYSCTL("ipv6.conf." SERVER_IF ".hop_limit", "77"),
	  .end = SYSCTL("ipv6.conf." SERVER_IF ".hop_limit", "64") },
	{ .name = "another hop_limit of all devices",
	  .begin = SYSCTL("ipv6.conf.all.hop_limit", "78") " && " SYSCTL("ipv6.conf.default.hop_limit",
									 "79"),
	  .end = SYSCTL("ipv6.conf.all.hop_limit", "64") " && " SYSCTL("ipv6.conf.default.hop_limit",
								       "64") },
	{ .name = "auto_flowlabels=0", CHANGED("ipv6.auto_flowlabels", "0", "1") },
	{ .name = "auto_flowlabels=3", CHANGED("ipv6.auto_flowlabels", "3", "1") },
	{ .name = "flowlabel_reflect=7", CHANGED("ipv6.flowlabel_reflect", "7", "0") },
	{ .name = "flowlabel_state_ranges=1", CHANGED("ipv6.flowlabel_state_ranges", "1", "0") },
	{ .name = "an MTU of 1400",
	  .begin = "ip link set " SERVER_IF " mtu 1400",
	  .end = "ip link set " SERVER_IF " mtu 1500 && ip -6 addr replace " SERVER_IP6 "/64 dev " SERVER_IF
		 " nodad" },
	{ .name = "a route's mtu", ROUTED("mtu 1350") },
	{ .name = "a route's mtu, locked", ROUTED("mtu lock 1350") },
	{ .name = "a route's advmss", ROUTED("advmss 1250") },
	{ .name = "a route's advmss above the MTU's", ROUTED("advmss 8000") },
	{ .name = "a route's hoplimit", ROUTED("hoplimit 33") },
	{ .name = "a route's window", ROUTED("window 20000"), .seems_to_count = true },
	{ .name = "a route's initrwnd", ROUTED("initrwnd 10"), .counts_segments = true },
	{ .name = "a route's initrwnd beyond the buffer", ROUTED("initrwnd 60") },
	{ .name = "a route's hoplimit and initrwnd",
	  ROUTED("hoplimit 33 initrwnd 4"),
	  .counts_segments = true },
	{ .name = "a route that asks for ECN",
	  .begin = SYSCTL("ipv4.tcp_ecn", "0") " && " ROUTES("features ecn"),
	  .end = SYSCTL("ipv4.tcp_ecn", "2") " && " ROUTES("") },
	{ .name = "TCP_MAXSEG and a small buffer", .prepare = maxseg_small_buffer },
	{ .name = "TCP_MAXSEG of 1220", .prepare = maxseg_least },
	{ .name = "TCP_WINDOW_CLAMP and initrwnd",
	  .prepare = window_clamp,
	  ROUTED("initrwnd 5"),
	  .counts_segments = true },
};

/* ---- answers ---- */

enum {
	CONFIGURATIONS = sizeof(configurations) / sizeof(*configurations),
	AT_IP = 14,
	REFLECT = 8, /* the configuration of that name */
	EVERY = 3,   /* of the generated SYNs, so many are left out where not all of them run */
};

/* How the SYNs of a configuration ended. */
struct tally {
	int room; /* the greatest window of the stack's, with timestamps or without */
	int answered;
	int passed[COUNTERS];
};

/* What no SYN-ACK shares with another one: in a copy of the frame, all of that is zero. */
static size_t comparable(const void *frame, size_t length, const struct tcp_frame *parsed, uint8_t *copy)
{
	const bool ipv4 = parsed->saddr.family == AF_INET;
	const size_t tcp = AT_IP + (ipv4 ? 20 : 40);
	uint8_t *option = copy + tcp + 20, *end = option + parsed->options.len;

	REQUIRE(length <= RUN_MAX && !parsed->vlans && !parsed->ip_options_len);
	memcpy(copy, frame, length);
	if (!ipv4) {
		copy[AT_IP + 1] &= 0xf0; /* the flow label: the stack's is random */
		copy[AT_IP + 2] = copy[AT_IP + 3] = 0;
	} else if (!parsed->df) {
		memset(copy + AT_IP + 4, 0, 2); /* the identification, random without DF, and its sum */
		memset(copy + AT_IP + 10, 0, 2);
	}
	memset(copy + tcp, 0, 2);      /* the two listeners' ports differ */
	memset(copy + tcp + 4, 0, 4);  /* ISN */
	memset(copy + tcp + 14, 0, 4); /* window: expect_window(), and checksum */
	while (option < end && *option) {
		if (*option == 1) {
			option++;
			continue;
		}
		if (*option == 8)
			memset(option + 2, 0, 4); /* timestamp value */
		option += option[1];
	}
	return length;
}

/* Every byte of the frame, but what comparable() takes out. */
static bool expect_same(const char *name, const struct run *run, const struct tcp_frame *ours,
			const void *bytes, size_t length, const struct tcp_frame *native)
{
	static uint8_t a[RUN_MAX], b[RUN_MAX];
	size_t a_length = comparable(run->bytes, run->length, ours, a);
	size_t b_length = comparable(bytes, length, native, b);
	bool same = EXPECT(ours->ip_checksum_ok && ours->tcp_checksum_ok, "%s: checksums", name);

	same &= EXPECT_STR(ours->layout, native->layout, "%s", name);
	same &= EXPECT_EQ(a_length, b_length, "%s", name);
	return same && EXPECT_MEM(a, b, a_length, "%s", name);
}

/*
 * The window that we announce is never above the stack's, nor more than a segment below it. It must not be
 * above the request socket's either (KERNEL, trap 3): that one is a multiple of its own MSS, taken of as
 * much room as the stack's windows show to be there (@room), or as many segments, where it is a route that
 * counts them.
 */
static bool expect_window(const char *name, const struct configuration *configuration,
			  const struct tcp_frame *ours, const struct tcp_frame *native, int room)
{
	const int unit = native->mss - (native->timestamps ? 12 : 0);
	struct cookie_options said;
	int least, most = native->window;

	cookie_decode(cookie_option_bits(ours->seq, ours->timestamps), ours->saddr.family == AF_INET,
		      ours->timestamps, &said);
	least = most - (said.mss > native->mss ? said.mss : native->mss);
	if ((configuration->counts_segments || configuration->seems_to_count) && said.mss < unit)
		least = native->window / unit * said.mss - said.mss;
	if (configuration->counts_segments && said.mss < unit) {
		most = native->window / unit * said.mss;
	} else if (room > said.mss && most > room - room % said.mss) {
		most = room - room % said.mss;
	}
	return EXPECT(ours->window <= most && ours->window >= least,
		      "%s: window %u for MSS %u, the stack's is %u for MSS %u", name, ours->window,
		      said.mss, native->window, native->mss);
}

/* Whether a SYN went to the stack for a reason of its own, which it has. */
static bool pass_expected(const struct configuration *configuration, const struct run *run,
			  const struct tcp_frame *syn, enum counter *counter)
{
	const int mss = syn->mss > 0 ? syn->mss : 536;
	const struct {
		enum counter counter;
		bool fits;
	} reasons[] = {
		/* Without timestamps, few choices of scale and SACK have room in the cookie. */
		{ COUNTER_syn_passed_option_uncarried, !syn->timestamps || configuration->refuses },
		{ COUNTER_syn_passed_mss, mss < (syn->saddr.family == AF_INET ? 536 : 1220) },
		/* ECN as of RFC 3168 has both of them, AccECN any other choice of the three. */
		{ COUNTER_syn_passed_control_bits,
		  syn->flags & AE || !(syn->flags & ECE) != !(syn->flags & CWR) },
		{ COUNTER_syn_passed_signature,
		  strstr(syn->layout, "unknown-19") || strstr(syn->layout, "unknown-29") },
		{ COUNTER_syn_passed_malformed, strstr(syn->layout, "bad") },
	};

	for (size_t i = 0; i < sizeof(reasons) / sizeof(*reasons); i++) {
		*counter = reasons[i].counter;
		if (reasons[i].fits && counted_only(run, *counter))
			return true;
	}
	return false;
}

static const char *hex_of(const struct tcp_options *options)
{
	static char text[2 * FRAME_TCP_OPTIONS + 1];

	text[0] = 0;
	for (int i = 0; i < options->len; i++)
		sprintf(text + (size_t)2 * i, "%02x", options->bytes[i]);
	return text;
}

/* Sends one SYN to us and, if we answer it, to the listener beside. */
static void compare(const struct configuration *configuration, const struct syn_kind *kind,
		    enum place place, uint16_t ours, uint16_t beside, struct tally *tally)
{
	static uint16_t sport = 20480;
	static struct run run;
	struct tcp_spec mine = place_syn(place, ++sport, ours), other = place_syn(place, sport, beside);
	struct tcp_frame syn, reply, native;
	enum counter counter;
	uint8_t frame[FRAME_MAX];
	const uint8_t *bytes;
	char name[160];
	size_t length;

	snprintf(name, sizeof(name), "%s, %s over IPv%d", configuration->name, kind->name,
		 place == IPV4 ? 4 : 6);
	other.seq = mine.seq;
	syns_apply(kind, &mine);
	syns_apply(kind, &other);
	length = frame_build(&mine, frame, sizeof(frame));
	run_frame(env.xdp, frame, length, &run);
	if (run.verdict == XDP_PASS && frame_parse(frame, length, &syn) &&
	    pass_expected(configuration, &run, &syn, &counter)) {
		/* The stack answers it, or not: as native as can be. */
		EXPECT(!kind->ordinary || configuration->refuses, "%s: an ordinary SYN, passed: %s", name,
		       counter_names[counter]);
		tally->passed[counter]++;
		return;
	}
	if (!EXPECT(run.verdict == XDP_TX && frame_parse(run.bytes, run.length, &reply), "%s: %s, %s", name,
		    verdict_text(run.verdict), counted_text(&run)))
		return;
	if (!EXPECT(native_synack(&other, &native), "%s: we answer it, the stack does not", name))
		return;
	tally->answered++;
	bytes = wire_bytes(env.wire, &length);
	if (!expect_same(name, &run, &reply, bytes, length, &native) ||
	    !expect_window(name, configuration, &reply, &native, tally->room)) {
		printf("# %s: to <%s> window %u\n#   the stack: %s\n", name, hex_of(&mine.options),
		       mine.window, frame_text(&native));
		printf("#   we:        %s\n", frame_text(&reply));
	}
}

static void print_tally(const struct tally *tally, int sent)
{
	printf("# seed %d: of %d SYNs %d answered, the same as by the stack", SYNS_SEED, sent,
	       tally->answered);
	for (int i = 0; i < COUNTERS; i++)
		if (tally->passed[i])
			printf(", %d %s", tally->passed[i], counter_names[i]);
	putchar('\n');
}

/* Has the port admitted in a place, and sees how large the stack's windows are there. */
static void begin_place(enum place place, uint16_t ours, uint16_t beside, struct tally *tally)
{
	static uint16_t sport = 10000;

	admit(place, ours, NULL);
	tally->room = 0;
	for (int plain = 0; plain < 2; plain++) {
		struct tcp_spec syn = place_syn(place, sport++, beside);
		struct tcp_frame native;

		if (plain)
			syn.options = options_windows(1460, 8);
		REQUIRE(native_synack(&syn, &native));
		if (native.window > tally->room)
			tally->room = native.window;
		/* Where timestamps are refused, there may be room for nearly another segment. */
		if (!plain && !native.timestamps)
			tally->room += native.mss - 1;
	}
}

/* All SYNs, or some of the generated ones. */
static void compare_place(const struct configuration *configuration, enum place place, uint16_t ours,
			  uint16_t beside, bool all, struct tally *tally)
{
	begin_place(place, ours, beside, tally);
	for (int i = 0; i < syns_named() + SYNS_GENERATED; i += all || i < syns_named() ? 1 : EVERY) {
		const struct syn_kind kind = syns_get(i);

		compare(configuration, &kind, place, ours, beside, tally);
	}
}

static void try_configuration(int i)
{
	const struct configuration *configuration = &configurations[i];
	const uint16_t ours = (uint16_t)(OURS + i), beside = (uint16_t)(BESIDE + i);
	struct tally tally = {};
	int mine, other, sent;

	if (configuration->begin)
		netns_must(env.pair.server, "%s", configuration->begin);
	mine = listen_on(ours, 64, configuration->prepare);
	other = listen_on(beside, 64, configuration->prepare);
	for (enum place place = IPV4; place <= IPV6; place++)
		compare_place(configuration, place, ours, beside, !i, &tally);
	sent = tally.answered;
	for (int counter = 0; counter < COUNTERS; counter++)
		sent += tally.passed[counter];
	EXPECT(tally.answered * (configuration->refuses ? 6 : 2) >= sent,
	       "%s: of %d SYNs only %d were answered", configuration->name, sent, tally.answered);
	if (!i)
		print_tally(&tally, sent);
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
CONFIGURATION(15, "tcp_ecn=3 where there is such a value")
CONFIGURATION(16, "ip_default_ttl=200")
CONFIGURATION(17, "ip_no_pmtu_disc=1")
CONFIGURATION(18, "a greatest tcp_rmem of 64 MiB")
CONFIGURATION(19, "a default tcp_rmem of 1 MiB")
CONFIGURATION(20, "a small tcp_rmem")
CONFIGURATION(21, "a tiny tcp_rmem")
CONFIGURATION(22, "tcp_adv_win_scale=-2")
CONFIGURATION(23, "tcp_workaround_signed_windows")
CONFIGURATION(24, "another hop_limit")
CONFIGURATION(25, "another hop_limit of all devices")
CONFIGURATION(26, "auto_flowlabels=0")
CONFIGURATION(27, "auto_flowlabels=3")
CONFIGURATION(28, "flowlabel_reflect=7")
CONFIGURATION(29, "flowlabel_state_ranges=1")
CONFIGURATION(30, "an MTU of 1400")
CONFIGURATION(31, "a route's mtu")
CONFIGURATION(32, "a route's mtu, locked")
CONFIGURATION(33, "a route's advmss")
CONFIGURATION(34, "a route's advmss above the MTU's")
CONFIGURATION(35, "a route's hoplimit")
CONFIGURATION(36, "a route's window")
CONFIGURATION(37, "a route's initrwnd")
CONFIGURATION(38, "a route's initrwnd beyond the buffer")
CONFIGURATION(39, "a route's hoplimit and initrwnd")
CONFIGURATION(40, "a route that asks for ECN")
CONFIGURATION(41, "TCP_MAXSEG and a small buffer")
CONFIGURATION(42, "TCP_MAXSEG of 1220")
CONFIGURATION(43, "TCP_WINDOW_CLAMP and initrwnd")
/* clang-format on */

CASE("with tcp_reflect_tos, every TOS of a SYN, with ECN and without, comes back as from the stack")
{
	const struct configuration *configuration = &configurations[REFLECT];
	const uint16_t ours = OURS + CONFIGURATIONS, beside = BESIDE + CONFIGURATIONS;
	struct tally tally = {};
	int mine, other;

	netns_must(env.pair.server, "%s", configuration->begin);
	mine = listen_on(ours, 64, NULL);
	other = listen_on(beside, 64, NULL);
	for (enum place place = IPV4; place <= IPV6; place++) {
		begin_place(place, ours, beside, &tally);
		for (int tos = 0; tos < 256; tos++) {
			const struct syn_kind kind = {
				.name = "any TOS",
				.ordinary = true,
				.set.tos = (uint8_t)tos,
				.set.flags = tos & 4 ? ECE | CWR : 0,
			};

			compare(configuration, &kind, place, ours, beside, &tally);
		}
	}
	EXPECT_EQ(tally.answered, 512);
	netns_must(env.pair.server, "%s", configuration->end);
	close(mine);
	close(other);
}

int main(int argc, char **argv)
{
	_Static_assert(CONFIGURATIONS == 44, "a case for each configuration");

	return report_main(argc, argv, environment_new);
}
