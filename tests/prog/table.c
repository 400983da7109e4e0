// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Frame in, verdict, counter and exact bytes out. */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <linux/bpf.h>
#include <netinet/tcp.h>

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>

#include "expect.h"

enum {
	ETH = 14,
	IPV4_HEADER = 20,
	IPV6_HEADER = 40,
	/* Listeners of their own kind. */
	PORT_FULL = 8081,
	PORT_SAVE_SYN = 8082,
	PORT_DEFER = 8083,
	PORT_SHADOW = 8084,
	PORT_PLAIN = 8085,   /* learned from SYNs without options */
	PORT_WAITING = 8086, /* learned, not admitted */
	PORT_CLOSING = 8087,
	PORT_NOBODY = 8088, /* protected, nobody listens */
	PORT_CHANGING = 8089,
	PORT_RESTARTED = 8090,
	PORT_FAST_OPEN = 8091,
	PORT_TAUGHT = 8092,
	PORT_FLOODED = 8099,
	PORT_REFLECTING = 8098,
	PORT_DORMANT = 8097,
	PORT_OUTSIDE = 8200,
};

/* No two frames share a tuple: what one leaves behind (marks, cookies) is none of the other's business. */
static uint16_t next_port(void)
{
	static uint16_t port = 30000;

	return port++;
}

static size_t tcp_at(const uint8_t *frame)
{
	return ETH + (frame[12] == 0x86 ? IPV6_HEADER : IPV4_HEADER);
}

static void put16(uint8_t *at, unsigned int value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

/* ---- SYNs ---- */

struct row {
	const char *name;
	void (*spec)(struct tcp_spec *syn);	       /* before the frame is built, may be NULL */
	void (*patch)(uint8_t *frame, size_t *length); /* behind it, may be NULL */
	enum counter counted;
	unsigned int verdict;
	enum {
		BOTH,
		ONLY_IPV4,
		ONLY_IPV6,
	} family;
	bool plain; /* expect_synack() */
};

static size_t row_frame(const struct row *row, enum place place, uint8_t *frame)
{
	struct tcp_spec syn = place_syn(place, next_port(), PORT);
	size_t length;

	if (row->spec)
		row->spec(&syn);
	length = frame_build(&syn, frame, RUN_MAX);
	if (row->patch)
		row->patch(frame, &length);
	return length;
}

static void run_rows(const struct row *rows, size_t count)
{
	static uint8_t frame[RUN_MAX];
	static struct run run;
	char name[128];

	for (size_t i = 0; i < count; i++)
		for (enum place place = IPV4; place <= IPV6; place++) {
			const struct row *row = &rows[i];
			size_t length;

			if (row->family == (place == IPV4 ? ONLY_IPV6 : ONLY_IPV4))
				continue;
			snprintf(name, sizeof(name), "%s over IPv%d", row->name, place == IPV4 ? 4 : 6);
			length = row_frame(row, place, frame);
			run_frame(env.xdp, frame, length, &run);
			EXPECT(counted_only(&run, row->counted), "%s: %s rose, expected %s", name,
			       counted_text(&run), counter_names[row->counted]);
			if (row->verdict == XDP_TX) {
				expect_synack(name, frame, length, &run, &env.facts[place], row->plain);
				continue;
			}
			EXPECT(run.verdict == row->verdict, "%s: %s, expected %s", name,
			       verdict_text(run.verdict), verdict_text(row->verdict));
			EXPECT(!run.handed, "%s: metadata", name);
			expect_unchanged(name, frame, length, &run);
		}
}

#define RUN_ROWS(rows) run_rows(rows, sizeof(rows) / sizeof(*(rows)))

#define SPEC(name, ...)                                                                                    \
	static void name(struct tcp_spec *syn)                                                             \
	{                                                                                                  \
		__VA_ARGS__;                                                                               \
	}
#define PATCH(name, ...)                                                                                   \
	static void name(uint8_t *frame, size_t *length)                                                   \
	{                                                                                                  \
		(void)frame, (void)length;                                                                 \
		__VA_ARGS__;                                                                               \
	}

/* clang-format off */
SPEC(linux_10, syn->options = options_linux(1460, 77, 10))
SPEC(linux_no_wscale, syn->options = options_linux(1460, 77, -1))
SPEC(linux_no_timestamps, syn->options = options_linux_no_ts(1460, 7))
SPEC(linux_no_timestamps_10, syn->options = options_linux_no_ts(1460, 10))
SPEC(windows, syn->options = options_windows(1460, 8))
SPEC(macos, syn->options = options_macos(1440, 0xfffffff0, 6))
SPEC(from_its_neighbour, syn->saddr = ip(syn->saddr.family == AF_INET ? "10.77.5.2" : "fd77:5::2"))
SPEC(mss_only, syn->options = options_mss(1460))
SPEC(no_options, syn->options = options_none())
SPEC(timestamps_alone, syn->options = options_text("ts 5 0"))
SPEC(timestamps_wscale, syn->options = options_text("mss 1400, nop, nop, ts 5 0, nop, ws 2"))
SPEC(odd_order, syn->options = options_text("ws 3, sack, ts 4294967295 9, nop, mss 1300"))
SPEC(behind_eol, syn->options = options_text("mss 1460, eol, raw 0402, nop"))
SPEC(wscale_0, syn->options = options_linux(1460, 77, 0))
SPEC(wscale_14, syn->options = options_linux(1460, 77, 14))
SPEC(wscale_15, syn->options = options_linux(1460, 77, 15))
SPEC(mss_least, syn->options = options_linux(syn->saddr.family == AF_INET ? 536 : 1220, 77, 7))
SPEC(mss_jumbo, syn->options = options_linux(8960, 77, 7))
SPEC(mss_65535, syn->options = options_linux(65535, 77, 7))
SPEC(mss_0, syn->options = options_text("mss 0, sack, ts 5 0"))
SPEC(fast_open, syn->options = options_text("mss 1460, sack, ts 5 0, nop, ws 7, fastopen"))
SPEC(fast_open_cookie, syn->options = options_text("mss 1460, sack, ts 5 0, fastopen 0102030405060708"))
SPEC(fast_open_experiment, syn->options = options_text("mss 1460, sack, ts 5 0, nop, ws 7, raw fe04f989"))
SPEC(fast_open_short, syn->options = options_text("mss 1460, sack, ts 5 0, fastopen 0102"))
SPEC(mptcp, syn->options = options_text("mss 1460, sack, ts 5 0, nop, ws 7, raw 1e040101"))
SPEC(unknown_kind, syn->options = options_text("mss 1460, raw fd0645524143, nop, nop"))
SPEC(impossible_length, syn->options = options_text("mss 1460, raw 0500, sack, nop, nop"))
SPEC(ecn, syn->flags |= ECE | CWR)
SPEC(ecn_ect, syn->flags |= ECE | CWR; syn->tos = 2)
SPEC(ece_alone, syn->flags |= ECE)
SPEC(cwr_alone, syn->flags |= CWR)
SPEC(odd_header, syn->ttl = 1; syn->tos = 0xb8; syn->id = 4711; syn->no_df = true; syn->flow_label = 0xabcde)
SPEC(isn_least, syn->seq = 0)
SPEC(isn_greatest, syn->seq = 0xffffffff)
SPEC(window_0, syn->zero_window = true)
SPEC(push_urgent, syn->flags |= PSH | URG; syn->urgent = 1)
SPEC(ack_number, syn->ack = 0x12345678)
SPEC(port_1, syn->sport = 1)
SPEC(other_client_mac, memcpy(syn->src_mac, "\x02\xaa\xbb\xcc\xdd\xee", 6))

PATCH(padded, memset(frame + *length, 0xa5, 60); *length = *length < 60 ? 60 : *length + 2)
PATCH(padded_long, memset(frame + *length, 0xa5, 300); *length += 300)
/* clang-format on */

/* A local sender's frame on a virtual device: the field holds the sum of the pseudo header. */
static void partial_checksum(uint8_t *frame, size_t *length)
{
	const bool ipv6 = frame[12] == 0x86;
	const uint8_t *addresses = frame + ETH + (ipv6 ? 8 : 12);
	uint32_t sum = IPPROTO_TCP + (uint32_t)(*length - tcp_at(frame));

	for (int i = 0; i < (ipv6 ? 32 : 8); i += 2)
		sum += (uint32_t)(addresses[i] << 8 | addresses[i + 1]);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	put16(frame + tcp_at(frame) + 16, sum);
}

static const struct row answered[] = {
#define ROW(n, s, p, counter, result, ...)                                                                 \
	{                                                                                                  \
		.name = n, .spec = s, .patch = p, .counted = COUNTER_##counter, .verdict = result,         \
		__VA_ARGS__                                                                                \
	}
#define ANSWERED(name, spec, patch) ROW(name, spec, patch, syn_answered, XDP_TX, .family = BOTH)
	ANSWERED("Linux", NULL, NULL),
	ANSWERED("Linux, scale 10", linux_10, NULL),
	ANSWERED("Linux without scale", linux_no_wscale, NULL),
	ANSWERED("Linux without timestamps", linux_no_timestamps, NULL),
	ANSWERED("Linux without timestamps, scale 10", linux_no_timestamps_10, NULL),
	ANSWERED("Windows", windows, NULL),
	ANSWERED("macOS", macos, NULL),
	ANSWERED("MSS alone", mss_only, NULL),
	ANSWERED("from a neighbour in another subnet of ours", from_its_neighbour, NULL),
	ANSWERED("no options", no_options, NULL),
	ANSWERED("timestamps alone", timestamps_alone, NULL),
	ANSWERED("timestamps and scale", timestamps_wscale, NULL),
	ANSWERED("options in an odd order", odd_order, NULL),
	ANSWERED("SACK behind the end of the list", behind_eol, NULL),
	ANSWERED("scale 0", wscale_0, NULL),
	ANSWERED("scale 14", wscale_14, NULL),
	ANSWERED("scale 15", wscale_15, NULL),
	ANSWERED("the least MSS", mss_least, NULL),
	ANSWERED("MSS 8960", mss_jumbo, NULL),
	ANSWERED("MSS 65535", mss_65535, NULL),
	ANSWERED("MSS 0", mss_0, NULL),
	ANSWERED("asking for fast open", fast_open, NULL),
	ANSWERED("a fast open cookie", fast_open_cookie, NULL),
	ANSWERED("the experiment that fast open was", fast_open_experiment, NULL),
	ANSWERED("MPTCP capable", mptcp, NULL),
	ANSWERED("an unknown option", unknown_kind, NULL),
	ANSWERED("ECN", ecn, NULL),
	ANSWERED("ECN, marked ECT", ecn_ect, NULL),
	ANSWERED("odd IP header", odd_header, NULL),
	ANSWERED("ISN 0", isn_least, NULL),
	ANSWERED("ISN ffffffff", isn_greatest, NULL),
	ANSWERED("window 0", window_0, NULL),
	ANSWERED("PSH and URG", push_urgent, NULL),
	ANSWERED("an acknowledgement number without ACK", ack_number, NULL),
	ANSWERED("from port 1", port_1, NULL),
	ANSWERED("from another MAC", other_client_mac, NULL),
	ANSWERED("padded", NULL, padded),
	ANSWERED("no options, padded", no_options, padded),
	ANSWERED("300 bytes behind the packet", NULL, padded_long),
	ANSWERED("checksum left to the hardware", NULL, partial_checksum),
};

CASE("SYNs of every layout are answered with the stack's SYN-ACK, byte for byte")
{
	RUN_ROWS(answered);
}

CASE("a SYN-ACK has the VLAN tags of its SYN")
{
	static struct run run;
	uint8_t frame[FRAME_MAX];

	struct tcp_spec syn = place_syn(IPV4_VLAN, next_port(), PORT);
	size_t length = frame_build(&syn, frame, sizeof(frame));

	run_frame(env.xdp, frame, length, &run);
	EXPECT(counted_only(&run, COUNTER_syn_answered), "%s", counted_text(&run));
	expect_synack("tagged", frame, length, &run, &env.facts[IPV4_VLAN], false);
	/* Priority and CFI are no part of the VLAN's number. */
	syn.sport = next_port();
	syn.vlan[0] |= 0xe000;
	length = frame_build(&syn, frame, sizeof(frame));
	run_frame(env.xdp, frame, length, &run);
	expect_synack("tagged with a priority", frame, length, &run, &env.facts[IPV4_VLAN], false);
}

/* The kernel takes no request socket from a frame that still has a tag on when tc sees it. */
CASE("behind two tags nothing is learned, so nothing is answered that could not be promoted")
{
	static struct run run;
	uint8_t frame[FRAME_MAX];
	struct tcp_spec syn = place_syn(IPV4_VLAN, next_port(), PORT);
	size_t length;

	syn.vlans = 2;
	syn.vlan[0] = 7;
	syn.vlan[1] = 5;
	for (int i = 0; i < 3; i++) {
		struct tcp_frame synack;

		vlan_synack(&syn, &synack);
		syn.sport = next_port();
		length = frame_build(&syn, frame, sizeof(frame));
		run_frame(env.xdp, frame, length, &run);
		EXPECT(run.verdict == XDP_PASS && counted_only(&run, COUNTER_syn_passed_not_learned), "%s",
		       counted_text(&run));
	}
}

CASE("a SYN in several buffers is answered, or passed where the first has no room for the answer")
{
	static const struct {
		void (*spec)(struct tcp_spec *);
		size_t padding;
	} rows[] = { { NULL, 0 }, { NULL, 9 }, { no_options, 1 }, { no_options, 7000 }, { macos, 300 } };
	static struct run run;
	static uint8_t frame[RUN_MAX];

	if (!run_chooses_linear())
		SKIP("this kernel lets nobody choose how much of a frame lies in its first buffer");
	for (enum place place = IPV4; place <= IPV6; place++)
		for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
			struct tcp_spec syn = place_syn(place, next_port(), PORT);
			size_t syn_length, length;

			if (rows[i].spec)
				rows[i].spec(&syn);
			syn_length = frame_build(&syn, frame, sizeof(frame));
			memset(frame + syn_length, 0xa5, rows[i].padding);
			length = syn_length + rows[i].padding;
			for (size_t linear = ETH; linear <= length && linear < 200; linear++) {
				run_xdp(env.xdp, frame, length, linear, &run);
				if (run.verdict == XDP_TX)
					expect_synack("in several buffers", frame, length, &run,
						      &env.facts[place], false);
				else
					expect_unchanged("in several buffers", frame, length, &run);
				/* An answer's TCP header has 40 bytes at the most. */
				EXPECT(run.verdict == (linear < syn_length ? XDP_PASS : XDP_TX) ||
					       (linear >= syn_length && linear < tcp_at(frame) + 40),
				       "%zu of %zu bytes in the first buffer: %s", linear, length,
				       verdict_text(run.verdict));
			}
		}
}

CASE("a SYN whose answer has no room in the first buffer is passed within the budget, and dropped above it")
{
	struct tcp_spec syn = place_syn(IPV4, next_port(), PORT);
	static uint8_t frame[RUN_MAX];
	static struct run run;
	size_t length;

	if (!run_chooses_linear())
		SKIP("this kernel lets nobody choose how much of a frame lies in its first buffer");
	no_options(&syn);
	length = frame_build(&syn, frame, sizeof(frame));
	memset(frame + length, 0xa5, 7000);
	run_split_frame(env.xdp, frame, length + 7000, length, &run);
	EXPECT(run.verdict == XDP_PASS && counted_only(&run, COUNTER_syn_passed_no_room), "%s",
	       counted_text(&run));
	env.set.pass_budget = 0;
	settings_store();
	run_split_frame(env.xdp, frame, length + 7000, length, &run);
	EXPECT(run.verdict == XDP_DROP && counted_only(&run, COUNTER_syn_dropped_over_budget), "%s",
	       counted_text(&run));
	env.set.pass_budget = PLENTY;
	settings_store();
	/* Also where the answer to such SYNs is kept. As long as the answer is, in two buffers. */
	for (int i = 0; i < 20; i++)
		if (flooding()) {
			syn = place_syn(IPV4, next_port(), PORT);
			syn.options = options_ts(4711, 0);
			length = frame_build(&syn, frame, sizeof(frame));
			memset(frame + length, 0xa5, 4);
			run_split_frame(env.xdp, frame, length + 4, length, &run);
			EXPECT(run.verdict == XDP_PASS && counted_only(&run, COUNTER_syn_passed_no_room),
			       "%s", counted_text(&run));
			expect_unchanged("no room, in a flood", frame, length + 4, &run);
		}
}

CASE("a service is that of its VLAN tags and of no others")
{
	/* Tags of id 0 name no VLAN: less those, the last rows are a service's very own. */
	enum { PRIORITY = 2 };
	static const struct {
		enum place place;
		uint8_t vlans;
		uint16_t vlan[FRAME_VLANS];
	} rows[] = {
		{ IPV4_VLAN, 0, {} },	    { IPV4_VLAN, 1, { 7 } },	{ IPV4_VLAN, 2, { 7, 5 } },
		{ IPV4_VLAN, 2, { 0, 7 } }, { IPV4_VLAN, 2, { 5, 5 } }, { IPV4_VLAN, 2, { 5, 0 } },
		{ IPV4_VLAN, 2, { 0, 5 } },
	};
	static const size_t count = sizeof(rows) / sizeof(*rows);
	static struct run run;
	uint8_t frame[FRAME_MAX];

	for (size_t i = 0; i < count; i++) {
		struct tcp_spec syn = place_syn(rows[i].place, next_port(), PORT);
		const enum counter counter = i >= count - PRIORITY ? COUNTER_syn_passed_priority_tag
								   : COUNTER_syn_passed_not_learned;
		size_t length;

		syn.vlans = rows[i].vlans;
		memcpy(syn.vlan, rows[i].vlan, sizeof(syn.vlan));
		length = frame_build(&syn, frame, sizeof(frame));
		run_frame(env.xdp, frame, length, &run);
		EXPECT(run.verdict == XDP_PASS && counted_only(&run, counter), "row %zu: %s, %s", i,
		       verdict_text(run.verdict), counted_text(&run));
		expect_unchanged("other tags", frame, length, &run);
	}
}

/* clang-format off */
SPEC(vlan, syn->vlans = 1; syn->vlan[0] = 9)
SPEC(vlan_5, syn->vlans = 1; syn->vlan[0] = 5)
SPEC(vlan_priority, syn->vlans = 1; syn->vlan[0] = 0xe000)
SPEC(vlan_two, syn->vlans = 2; syn->vlan[0] = 5; syn->vlan[1] = 7)
SPEC(port_outside, syn->dport = PORT_OUTSIDE)
SPEC(port_below, syn->dport = PORT - 1)
SPEC(port_0, syn->dport = 0)
SPEC(port_nobody, syn->dport = PORT_NOBODY)
SPEC(not_local, syn->daddr = syn->daddr.family == AF_INET ? ip("10.77.0.99") : ip("fd77::99"))
SPEC(other_place, syn->daddr = syn->daddr.family == AF_INET ? ip("10.77.5.1") : ip("fd77:5::1"))
SPEC(other_mac, memcpy(syn->dst_mac, "\x02\x77\0\0\0\x09", 6))
SPEC(broadcast_mac, memset(syn->dst_mac, 0xff, 6))
SPEC(last_mac_bit, memcpy(syn->dst_mac, "\x02\x77\0\0\0\0", 6))
SPEC(first_fragment, syn->more_fragments = true; syn->no_df = true)
SPEC(later_fragment, syn->fragment = 1; syn->no_df = true)
SPEC(last_fragment, syn->fragment = 100; syn->no_df = true)
SPEC(ip_options, memset(syn->ip_options, 1, 4); syn->ip_options_len = 4)
SPEC(ip_options_most, memset(syn->ip_options, 1, 40); syn->ip_options_len = 40)
SPEC(record_route, memcpy(syn->ip_options, "\x07\x07\x04\0\0\0\0\0", 8); syn->ip_options_len = 8)
SPEC(hop_by_hop, memcpy(syn->ip_options, "\0\0\x01\x04\0\0\0\0", 8); syn->ip_options_len = 8)
SPEC(destination_options, hop_by_hop(syn); syn->ip_options_type = IPPROTO_DSTOPTS)
SPEC(fragment_header, syn->ip_options_len = 8; syn->ip_options_type = IPPROTO_FRAGMENT)
SPEC(later_fragment_header, fragment_header(syn); syn->ip_options[3] = 8)
SPEC(first_fragment_header, fragment_header(syn); syn->ip_options[3] = 1)
SPEC(two_headers, memcpy(syn->ip_options, "\x3c\0\x01\x04\0\0\0\0\x06\0\x01\x04\0\0\0\0", 16);
     syn->ip_options_len = 16)
SPEC(five_headers,
     memcpy(syn->ip_options,
	    "\x3c\0\x01\x04\0\0\0\0\x3c\0\x01\x04\0\0\0\0\x3c\0\x01\x04\0\0\0\0\x3c\0\x01\x04\0\0\0\0"
	    "\x06\0\x01\x04\0\0\0\0",
	    40);
     syn->ip_options_len = 40)
SPEC(header_too_long, hop_by_hop(syn); syn->ip_options[0] = 6; syn->ip_options[1] = 40)
SPEC(routing_done, memcpy(syn->ip_options, "\0\0\x04\0\0\0\0\0", 8); syn->ip_options_len = 8;
     syn->ip_options_type = IPPROTO_ROUTING)
SPEC(routing_on, routing_done(syn); syn->ip_options[3] = 1)
SPEC(from_zero_net, syn->saddr = ip("0.1.2.3"))
SPEC(from_zero, syn->saddr = ip("0.0.0.0"))
SPEC(from_loopback, syn->saddr = ip("127.0.0.1"))
SPEC(from_multicast, syn->saddr = ip("224.0.0.1"))
SPEC(from_reserved, syn->saddr = ip("240.0.0.1"))
SPEC(from_broadcast, syn->saddr = ip("255.255.255.255"))
SPEC(from_ourselves, syn->saddr = syn->daddr)
SPEC(from_another_of_ours, syn->saddr = ip(syn->saddr.family == AF_INET ? "10.77.5.1" : "fd77:5::1"))
SPEC(from_subnet_broadcast, syn->saddr = ip("10.77.5.255"))
SPEC(from_multicast6, syn->saddr = ip("ff02::1"))
SPEC(from_unspecified6, syn->saddr = ip("::"))
SPEC(from_loopback6, syn->saddr = ip("::1"))
SPEC(from_mapped6, syn->saddr = ip("::ffff:10.0.0.1"))
SPEC(tcp_checksum, syn->tcp_checksum_xor = 0x0100)
SPEC(tcp_checksum_ff, syn->tcp_checksum_xor = 0xffff)
SPEC(ip_checksum, syn->ip_checksum_xor = 0x0001)
SPEC(accurate_ecn, syn->flags |= AE | CWR | ECE)
SPEC(payload, syn->payload = "GET"; syn->payload_len = 3)
SPEC(fast_open_data, fast_open_cookie(syn); payload(syn))
SPEC(md5, syn->options = options_text("mss 1460, nop, nop, raw 131200112233445566778899aabbccddeeff"))
SPEC(ao, syn->options = options_text("mss 1460, raw 1d100102000102030405060708090a0b"))
SPEC(sack_alone, syn->options = options_text("mss 1460, nop, nop, sack"))
SPEC(wscale_alone, syn->options = options_text("mss 1460, nop, ws 7"))
SPEC(windows_scale_3, syn->options = options_windows(1460, 3))
SPEC(windows_ecn, syn->options = options_windows(1460, 8); syn->flags |= ECE | CWR)
SPEC(plain_ecn, syn->options = options_mss(1460); syn->flags |= ECE | CWR)
SPEC(mss_small, syn->options = options_linux(syn->saddr.family == AF_INET ? 535 : 1219, 7, 7))
SPEC(mss_1, syn->options = options_mss(1))
SPEC(syn_ack, syn->flags |= ACK; syn->ack = 99)
SPEC(syn_fin, syn->flags |= FIN)
SPEC(syn_rst, syn->flags |= RST)
SPEC(syn_rst_ack, syn->flags |= RST | ACK)
SPEC(rst, syn->flags = RST)
SPEC(rst_ack, syn->flags = RST | ACK)
SPEC(null, syn->flags = 0)
SPEC(fin, syn->flags = FIN)
SPEC(xmas, syn->flags = FIN | PSH | URG)
SPEC(everything, syn->flags = 0xff)

PATCH(arp, put16(frame + 12, 0x0806))
PATCH(pppoe, put16(frame + 12, 0x8864))
PATCH(length_field, put16(frame + 12, 60))
PATCH(udp, frame[ETH + (frame[12] == 0x86 ? 6 : 9)] = IPPROTO_UDP)
PATCH(icmp, frame[ETH + (frame[12] == 0x86 ? 6 : 9)] = frame[12] == 0x86 ? IPPROTO_ICMPV6 : IPPROTO_ICMP)
PATCH(sctp, frame[ETH + (frame[12] == 0x86 ? 6 : 9)] = 132)
PATCH(other_family, put16(frame + 12, frame[12] == 0x86 ? 0x0800 : 0x86dd))
PATCH(version_5, frame[ETH] = (uint8_t)(0x50 | (frame[ETH] & 15)))
PATCH(ihl_4, frame[ETH] = 0x44)
PATCH(ihl_0, frame[ETH] = 0x40)
PATCH(total_length_0, put16(frame + ETH + (frame[12] == 0x86 ? 4 : 2), 0))
PATCH(total_length_19, put16(frame + ETH + 2, 19))
PATCH(cut_in_tcp, put16(frame + ETH + (frame[12] == 0x86 ? 4 : 2), frame[12] == 0x86 ? 20 : 40))
PATCH(cut_before_options, put16(frame + ETH + (frame[12] == 0x86 ? 4 : 2), frame[12] == 0x86 ? 19 : 39))
PATCH(length_beyond, put16(frame + ETH + (frame[12] == 0x86 ? 4 : 2), 1400))
PATCH(doff_0, frame[tcp_at(frame) + 12] = 0x00)
PATCH(doff_4, frame[tcp_at(frame) + 12] = 0x40)
PATCH(doff_15, frame[tcp_at(frame) + 12] = 0xf0)
PATCH(doff_9, frame[tcp_at(frame) + 12] = 0x90)
PATCH(reserved_bit, frame[tcp_at(frame) + 12] |= 0x08; frame_fix_checksums(frame, *length))
PATCH(checksum_0, put16(frame + tcp_at(frame) + 16, 0))
PATCH(cut_short, *length -= 4)
/* clang-format on */

static void three_tags(uint8_t *frame, size_t *length)
{
	static const uint8_t tags[12] = { 0x88, 0xa8, 0, 7, 0x81, 0, 0, 5, 0x81, 0, 0, 5 };

	memmove(frame + 12 + sizeof(tags), frame + 12, *length - 12);
	memcpy(frame + 12, tags, sizeof(tags));
	*length += sizeof(tags);
}

/* In front of what tags there are. */
static void priority_tags(uint8_t *frame, size_t *length)
{
	static const uint8_t tags[16] = { 0x88, 0xa8, 0xe0, 0, 0x81, 0, 0,    0,
					  0x81, 0,    0,    0, 0x81, 0, 0x10, 0 };

	memmove(frame + 12 + sizeof(tags), frame + 12, *length - 12);
	memcpy(frame + 12, tags, sizeof(tags));
	*length += sizeof(tags);
}

/* The first of several, with so many bytes of TCP. */
static void fragment_of(uint8_t *frame, size_t *length, unsigned int bytes)
{
	put16(frame + ETH + 2, IPV4_HEADER + bytes);
	put16(frame + ETH + 6, 0x2000);
	*length = ETH + IPV4_HEADER + bytes;
}

static void fragment_of_16(uint8_t *frame, size_t *length)
{
	fragment_of(frame, length, 16);
}

/* As Ethernet pads what is shorter: no control bits, but it is to be seen that there are none. */
static void fragment_of_8_padded(uint8_t *frame, size_t *length)
{
	fragment_of(frame, length, 8);
	memset(frame + *length, 0, 18);
	*length += 18;
}

static void many_headers(uint8_t *frame, size_t *length)
{
	static const uint8_t header[8] = { IPPROTO_DSTOPTS, 0, 1, 4 };
	enum { HEADERS = 300 };
	uint8_t *at = frame + ETH + IPV6_HEADER;

	memmove(at + HEADERS * sizeof(header), at, *length - ETH - IPV6_HEADER);
	for (int i = 0; i < HEADERS; i++)
		memcpy(at + i * sizeof(header), header, sizeof(header));
	at[(HEADERS - 1) * sizeof(header)] = IPPROTO_TCP;
	*length += HEADERS * sizeof(header);
	frame[ETH + 6] = IPPROTO_DSTOPTS;
	put16(frame + ETH + 4, (unsigned int)*length - ETH - IPV6_HEADER);
}

static const struct row passed[] = {
#define PASSED(name, spec, patch, counter)  ROW(name, spec, patch, counter, XDP_PASS, .family = BOTH)
#define PASSED4(name, spec, patch, counter) ROW(name, spec, patch, counter, XDP_PASS, .family = ONLY_IPV4)
#define PASSED6(name, spec, patch, counter) ROW(name, spec, patch, counter, XDP_PASS, .family = ONLY_IPV6)
	PASSED("ARP", NULL, arp, none),
	PASSED("PPPoE", NULL, pppoe, none),
	PASSED("an 802.3 length", NULL, length_field, none),
	PASSED("UDP", NULL, udp, none),
	PASSED("ICMP", NULL, icmp, none),
	PASSED("SCTP", NULL, sctp, none),
	PASSED("the other family's Ethertype", NULL, other_family, none),
	PASSED("IP version 5", NULL, version_5, none),
	PASSED("three VLAN tags", NULL, three_tags, none),
	PASSED("a VLAN without services", vlan, NULL, syn_passed_not_learned),
	PASSED("a VLAN with a service on another address", vlan_5, NULL, syn_passed_not_learned),
	PASSED("a priority tag", vlan_priority, NULL, syn_passed_priority_tag),
	PASSED("five priority tags", vlan_priority, priority_tags, syn_passed_priority_tag),
	PASSED("priority tags, and a VLAN without services", vlan, priority_tags, syn_passed_not_learned),
	PASSED("two VLAN tags the wrong way round", vlan_two, NULL, syn_passed_not_learned),
	PASSED("a port that is not protected", port_outside, NULL, none),
	PASSED("the port below", port_below, NULL, none),
	PASSED("port 0", port_0, NULL, none),
	PASSED("a port where nobody listens", port_nobody, NULL, syn_passed_not_learned),
	PASSED("an address that is not ours", not_local, NULL, syn_passed_not_learned),
	PASSED("an address of another VLAN", other_place, NULL, syn_passed_not_learned),
	PASSED("another MAC", other_mac, NULL, syn_passed_other_mac),
	PASSED("the broadcast MAC", broadcast_mac, NULL, syn_passed_other_mac),
	PASSED("a MAC that differs in its last bit", last_mac_bit, NULL, syn_passed_other_mac),
	PASSED4("the first fragment", first_fragment, NULL, syn_passed_fragment),
	PASSED4("the first fragment, which ends within the TCP header", NULL, fragment_of_16,
		syn_passed_fragment),
	PASSED4("such a fragment, padded", NULL, fragment_of_8_padded, syn_passed_fragment),
	PASSED4("such a fragment, for a port that is not protected", port_outside, fragment_of_16, none),
	PASSED4("such a fragment, for a port where nobody listens", port_nobody, fragment_of_16,
		syn_passed_not_learned),
	PASSED4("such a fragment, for another MAC", other_mac, fragment_of_16, syn_passed_other_mac),
	PASSED4("a later fragment", later_fragment, NULL, none),
	PASSED4("the last fragment", last_fragment, NULL, none),
	PASSED4("IP options", ip_options, NULL, syn_passed_ip_options),
	PASSED4("40 bytes of IP options", ip_options_most, NULL, syn_passed_ip_options),
	PASSED4("record route", record_route, NULL, syn_passed_ip_options),
	PASSED6("hop-by-hop options", hop_by_hop, NULL, syn_passed_ip_options),
	PASSED6("destination options", destination_options, NULL, syn_passed_ip_options),
	PASSED6("a fragment header", fragment_header, NULL, syn_passed_ip_options),
	PASSED6("a fragment header of the first", first_fragment_header, NULL, syn_passed_fragment),
	PASSED6("a fragment header of a later one", later_fragment_header, NULL, none),
	PASSED6("two extension headers", two_headers, NULL, syn_passed_ip_options),
	PASSED6("five extension headers", five_headers, NULL, syn_passed_ip_options),
	PASSED6("three hundred extension headers", NULL, many_headers, syn_passed_ip_options),
	PASSED6("an extension header beyond the frame's end", header_too_long, NULL, none),
	PASSED6("a routing header that is through", routing_done, NULL, syn_passed_ip_options),
	PASSED6("a routing header on its way", routing_on, NULL, none),
	PASSED4("from 0/8", from_zero_net, NULL, syn_passed_source),
	PASSED4("from 0.0.0.0", from_zero, NULL, syn_passed_source),
	PASSED4("from loopback", from_loopback, NULL, syn_passed_source),
	PASSED4("from a multicast address", from_multicast, NULL, syn_passed_source),
	PASSED4("from 240/4", from_reserved, NULL, syn_passed_source),
	PASSED4("from broadcast", from_broadcast, NULL, syn_passed_source),
	PASSED("from our own address", from_ourselves, NULL, syn_passed_source),
	PASSED("from another address of ours", from_another_of_ours, NULL, syn_passed_source),
	PASSED4("from broadcast to a subnet of ours", from_subnet_broadcast, NULL, syn_passed_source),
	PASSED6("from a multicast address", from_multicast6, NULL, syn_passed_source),
	PASSED6("from ::", from_unspecified6, NULL, syn_passed_source),
	PASSED6("from ::1", from_loopback6, NULL, syn_passed_source),
	PASSED6("from a mapped address", from_mapped6, NULL, none),
	PASSED("a wrong TCP checksum", tcp_checksum, NULL, syn_passed_checksum),
	PASSED("the inverse of the TCP checksum", tcp_checksum_ff, NULL, syn_passed_checksum),
	PASSED("a TCP checksum of 0", NULL, checksum_0, syn_passed_checksum),
	PASSED4("a wrong IP checksum", ip_checksum, NULL, syn_passed_checksum),
	PASSED4("a header of 16 bytes", NULL, ihl_4, none),
	PASSED4("a header of 0 bytes", NULL, ihl_0, none),
	PASSED4("a total length of 0", NULL, total_length_0, none),
	PASSED4("a total length of 19", NULL, total_length_19, none),
	PASSED6("a payload length of 0", NULL, total_length_0, syn_passed_malformed),
	PASSED("a length that ends behind the fixed header", NULL, cut_in_tcp, syn_passed_malformed),
	PASSED("a length that ends within the fixed header", NULL, cut_before_options,
	       syn_passed_malformed),
	PASSED("a length beyond the frame", NULL, length_beyond, syn_passed_payload),
	PASSED("a frame cut short", NULL, cut_short, syn_passed_malformed),
	PASSED("an option of length 0", impossible_length, NULL, syn_passed_malformed),
	PASSED("data offset 0", NULL, doff_0, syn_passed_malformed),
	PASSED("data offset 4", NULL, doff_4, syn_passed_malformed),
	PASSED("data offset 9 instead of 10", NULL, doff_9, syn_passed_payload),
	PASSED("data offset 15 behind the end", NULL, doff_15, syn_passed_malformed),
	PASSED("AccECN", accurate_ecn, NULL, syn_passed_control_bits),
	PASSED("ECE alone", ece_alone, NULL, syn_passed_control_bits),
	PASSED("CWR alone", cwr_alone, NULL, syn_passed_control_bits),
	PASSED("a reserved bit", NULL, reserved_bit, syn_passed_control_bits),
	PASSED("data", payload, NULL, syn_passed_payload),
	PASSED("fast open with data", fast_open_data, NULL, syn_passed_payload),
	PASSED("TCP-MD5", md5, NULL, syn_passed_signature),
	PASSED("TCP-AO", ao, NULL, syn_passed_signature),
	PASSED("SACK without timestamps and scale", sack_alone, NULL, syn_passed_option_uncarried),
	PASSED("scale without timestamps and SACK", wscale_alone, NULL, syn_passed_option_uncarried),
	PASSED("Windows with scale 3", windows_scale_3, NULL, syn_passed_option_uncarried),
	PASSED("Windows with ECN", windows_ecn, NULL, syn_passed_option_uncarried),
	PASSED("ECN alone", plain_ecn, NULL, syn_passed_option_uncarried),
	PASSED("an MSS one below the least", mss_small, NULL, syn_passed_mss),
	PASSED("MSS 1", mss_1, NULL, syn_passed_mss),
	PASSED("SYN and ACK", syn_ack, NULL, none),
	PASSED("SYN and FIN", syn_fin, NULL, none),
	PASSED("SYN and RST", syn_rst, NULL, none),
	PASSED("SYN, RST and ACK", syn_rst_ack, NULL, none),
	PASSED("RST", rst, NULL, none),
	PASSED("RST and ACK", rst_ack, NULL, none),
	PASSED("no control bit", null, NULL, none),
	PASSED("FIN", fin, NULL, none),
	PASSED("FIN, PSH, URG", xmas, NULL, none),
	PASSED("all control bits", everything, NULL, none),
};

CASE("what is not ours to answer is passed untouched, under its name")
{
	RUN_ROWS(passed);
}

CASE("a SYN that ends anywhere but at its end is passed untouched")
{
	static struct run run;
	uint8_t frame[FRAME_MAX];

	for (int place = 0; place < PLACES; place++) {
		struct tcp_spec syn = place_syn((enum place)place, next_port(), PORT);
		size_t whole = frame_build(&syn, frame, sizeof(frame));

		for (size_t length = ETH; length < whole; length++) {
			run_frame(env.xdp, frame, length, &run);
			EXPECT(run.verdict == XDP_PASS, "%zu of %zu bytes: %s", length, whole,
			       verdict_text(run.verdict));
			expect_unchanged("cut", frame, length, &run);
		}
	}
}

static const struct row dropped[] = {
#define DROPPED(name, spec, patch) ROW(name, spec, patch, syn_dropped_over_budget, XDP_DROP, .family = BOTH)
	ROW("the first fragment", first_fragment, NULL, syn_dropped_over_budget, XDP_DROP,
	    .family = ONLY_IPV4),
	ROW("a fragment that ends within the TCP header", NULL, fragment_of_16, syn_dropped_over_budget,
	    XDP_DROP, .family = ONLY_IPV4),
	DROPPED("a priority tag", vlan_priority, NULL),
	DROPPED("five priority tags", vlan_priority, priority_tags),
	ROW("IP options", ip_options, NULL, syn_dropped_over_budget, XDP_DROP, .family = ONLY_IPV4),
	ROW("many extension headers", NULL, many_headers, syn_dropped_over_budget, XDP_DROP,
	    .family = ONLY_IPV6),
	ROW("extension headers", two_headers, NULL, syn_dropped_over_budget, XDP_DROP, .family = ONLY_IPV6),
	DROPPED("from our own address", from_ourselves, NULL),
	DROPPED("from another address of ours", from_another_of_ours, NULL),
	DROPPED("data offset 4", NULL, doff_4),
	DROPPED("data", payload, NULL),
	DROPPED("a wrong TCP checksum", tcp_checksum, NULL),
	DROPPED("AccECN", accurate_ecn, NULL),
	DROPPED("TCP-MD5", md5, NULL),
	DROPPED("an MSS one below the least", mss_small, NULL),
	/* What the stack alone knows of is not limited: it was never ours. */
	PASSED("a port where nobody listens", port_nobody, NULL, syn_passed_not_learned),
	PASSED("another MAC", other_mac, NULL, syn_passed_other_mac),
	/* And what can be answered with fewer options is. */
	ROW("Windows with scale 3", windows_scale_3, NULL, syn_answered, XDP_TX, .plain = true),
	ROW("SACK alone", sack_alone, NULL, syn_answered, XDP_TX, .plain = true),
	ROW("Windows with ECN", windows_ecn, NULL, syn_answered, XDP_TX, .plain = true),
	ANSWERED("Linux", NULL, NULL),
	ANSWERED("Windows", windows, NULL),
};

CASE("when the budget is spent, what cannot be answered is dropped, nothing else")
{
	env.set.pass_budget = 0;
	settings_store();
	RUN_ROWS(dropped);
	env.set.pass_budget = PLENTY;
	settings_store();
}

CASE("the budget is a number of SYNs a second, and there is a new one in the next")
{
	static struct run run;
	struct tcp_spec syn = place_syn(IPV4, next_port(), PORT);
	uint8_t frame[FRAME_MAX];
	size_t length;
	int passes = 0, drops = 0;

	payload(&syn);
	length = frame_build(&syn, frame, sizeof(frame));
	env.set.pass_budget = 20;
	settings_store();
	/* Wait for a second to begin (the programs' unit is 1024 ms), so that none begins meanwhile. */
	do
		run_frame(env.xdp, frame, length, &run);
	while (run.after_ms % 1024 > 300 && WAIT_FOR(true, 1));
	WAIT_FOR((now_ms() & 1023) > 900, 2000);
	/* The programs go by a clock that is a tick behind. */
	WAIT_FOR((now_ms() & 1023) > 20 && (now_ms() & 1023) < 300, 2000);
	for (int i = 0; i < 50; i++) {
		run_frame(env.xdp, frame, length, &run);
		passes += run.verdict == XDP_PASS;
		drops += run.verdict == XDP_DROP;
	}
	EXPECT_EQ(passes, 20);
	EXPECT_EQ(drops, 30);
	env.set.pass_budget = PLENTY;
	settings_store();
}

/* ---- services ---- */

static void run_syn(enum place place, uint16_t dport, void (*spec)(struct tcp_spec *), struct run *run,
		    uint8_t *frame, size_t *length)
{
	struct tcp_spec syn = place_syn(place, next_port(), dport);

	if (spec)
		spec(&syn);
	*length = frame_build(&syn, frame, FRAME_MAX);
	run_frame(env.xdp, frame, *length, run);
}

static void expect_syn(enum place place, uint16_t dport, void (*spec)(struct tcp_spec *),
		       unsigned int verdict, enum counter counted)
{
	static struct run run;
	uint8_t frame[FRAME_MAX];
	size_t length;

	run_syn(place, dport, spec, &run, frame, &length);
	EXPECT(run.verdict == verdict, "port %u: %s, %s", dport, verdict_text(run.verdict),
	       counted_text(&run));
	EXPECT(counted_only(&run, counted), "port %u: %s rose, expected %s", dport, counted_text(&run),
	       counter_names[counted]);
	if (run.verdict != XDP_TX)
		expect_unchanged("SYN", frame, length, &run);
}

static void save_syn(int fd)
{
	int on = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_SAVE_SYN, &on, sizeof(on));
}

static void defer_accept(int fd)
{
	int seconds = 5;

	setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &seconds, sizeof(seconds));
}

CASE("listeners that must see their SYNs see them")
{
	int save = listen_on(PORT_SAVE_SYN, 16, save_syn), defer = listen_on(PORT_DEFER, 16, defer_accept);

	for (enum place place = IPV4; place <= IPV6; place++) {
		admit(place, PORT_SAVE_SYN, NULL);
		admit(place, PORT_DEFER, NULL);
		expect_syn(place, PORT_SAVE_SYN, NULL, XDP_PASS, COUNTER_syn_passed_listener_kind);
		expect_syn(place, PORT_DEFER, NULL, XDP_PASS, COUNTER_syn_passed_listener_kind);
	}
	close(save);
	close(defer);
}

static void fast_open_queue(int fd)
{
	int length = 16;

	setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN, &length, sizeof(length));
}

CASE("a listener with a Fast Open queue sees the SYNs that ask for a cookie or show one, within the budget")
{
	static void (*const asking[])(struct tcp_spec *) = { fast_open, fast_open_cookie,
							     fast_open_experiment };
	int fd = listen_on(PORT_FAST_OPEN, 16, fast_open_queue);

	netns_sysctl(env.pair.server, "net.ipv4.tcp_fastopen", "3");
	for (enum place place = IPV4; place <= IPV6; place++) {
		admit(place, PORT_FAST_OPEN, NULL);
		for (size_t i = 0; i < sizeof(asking) / sizeof(*asking); i++)
			expect_syn(place, PORT_FAST_OPEN, asking[i], XDP_PASS,
				   COUNTER_syn_passed_fast_open);
		expect_syn(place, PORT_FAST_OPEN, NULL, XDP_TX, COUNTER_syn_answered);
		expect_syn(place, PORT_FAST_OPEN, fast_open_short, XDP_TX, COUNTER_syn_answered);
		expect_syn(place, PORT_FAST_OPEN, fast_open_data, XDP_PASS, COUNTER_syn_passed_payload);
		env.set.pass_budget = 0;
		settings_store();
		expect_syn(place, PORT_FAST_OPEN, fast_open, XDP_TX, COUNTER_syn_answered);
		env.set.pass_budget = PLENTY;
		settings_store();
		/* The client's side alone is on: no cookies are given, whatever the socket says. */
		netns_sysctl(env.pair.server, "net.ipv4.tcp_fastopen", "1");
		expect_syn(place, PORT_FAST_OPEN, fast_open, XDP_TX, COUNTER_syn_answered);
		netns_sysctl(env.pair.server, "net.ipv4.tcp_fastopen", "3");
	}
	netns_sysctl(env.pair.server, "net.ipv4.tcp_fastopen", "1");
	close(fd);
}

CASE("a service of policy shadow is counted, not answered")
{
	int fd = listen_on(PORT_SHADOW, 16, NULL);

	env.set.policy = POLICY_SHADOW;
	settings_store();
	admit(IPV4, PORT_SHADOW, NULL);
	env.set.policy = POLICY_ALWAYS;
	settings_store();
	expect_syn(IPV4, PORT_SHADOW, NULL, XDP_PASS, COUNTER_syn_passed_shadow);
	expect_syn(IPV4, PORT_SHADOW, windows_scale_3, XDP_PASS, COUNTER_syn_passed_option_uncarried);
	/* What would be dropped is the stack's all the same. */
	env.set.pass_budget = 0;
	settings_store();
	expect_syn(IPV4, PORT_SHADOW, payload, XDP_PASS, COUNTER_syn_passed_shadow_drop);
	expect_syn(IPV4, PORT_SHADOW, ip_options, XDP_PASS, COUNTER_syn_passed_shadow_drop);
	/* Above the budget, answered with what the cookie can carry. */
	expect_syn(IPV4, PORT_SHADOW, windows_scale_3, XDP_PASS, COUNTER_syn_passed_shadow);
	env.set.pass_budget = PLENTY;
	env.set.prefix_budget = 1;
	env.set.prefix_share = 1000;
	settings_store();
	/* Within a second of the programs'. */
	WAIT_FOR((now_ms() & 1023) > 900, 2000);
	WAIT_FOR((now_ms() & 1023) > 20 && (now_ms() & 1023) < 300, 2000);
	expect_syn(IPV4, PORT_SHADOW, NULL, XDP_PASS, COUNTER_syn_passed_shadow);
	expect_syn(IPV4, PORT_SHADOW, NULL, XDP_PASS, COUNTER_syn_passed_shadow_drop);
	env.set.prefix_budget = 0;
	settings_store();
	close(fd);
}

CASE("a service that is learned is not answered for before a canary confirms it")
{
	struct tcp_spec syn = place_syn(IPV4, next_port(), PORT_WAITING);
	int fd = listen_on(PORT_WAITING, 16, NULL);
	struct tcp_frame synack;

	expect_syn(IPV4, PORT_WAITING, NULL, XDP_PASS, COUNTER_syn_passed_not_learned);
	REQUIRE(native_synack(&syn, &synack));
	/* Passed as a canary by us, that is to nobody: the stack never answers it. */
	expect_syn(IPV4, PORT_WAITING, NULL, XDP_PASS, COUNTER_syn_passed_not_admitted);
	expect_syn(IPV4, PORT_WAITING, NULL, XDP_PASS, COUNTER_syn_passed_not_admitted);
	env.set.pass_budget = 0;
	settings_store();
	expect_syn(IPV4, PORT_WAITING, NULL, XDP_DROP, COUNTER_syn_dropped_over_budget);
	env.set.pass_budget = PLENTY;
	settings_store();
	close(fd);
}

CASE("what is no SYN-ACK of the stack's teaches nothing, though it leaves by the device")
{
	static const struct {
		const char *name, *options;
		bool fragment, learned;
	} rows[] = {
		{ "no MSS", "sack, nop, nop", false, false },
		{ "an option of an impossible length", "mss 1460, raw 0500", false, false },
		{ "an option longer than the header", "mss 1460, nop, raw 08ff00", false, false },
		{ "a fragment", "mss 1460", true, false },
		{ "a sound one", "mss 1460", false, true },
	};
	struct wire *wire = wire_open(env.pair.server, SERVER_IF);
	int fd = listen_on(PORT_TAUGHT, 16, NULL);
	__u64 before[COUNTERS], after[COUNTERS];

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct tcp_spec synack = place_syn(IPV4, PORT_TAUGHT, next_port());
		const struct ip_addr client = synack.saddr;

		synack.saddr = synack.daddr;
		synack.daddr = client;
		synack.flags = SYN | ACK;
		synack.options = options_text(rows[i].options);
		synack.more_fragments = synack.no_df = rows[i].fragment;
		counters_read(before);
		wire_send(wire, &synack);
		counters_read(after);
		EXPECT_EQ(after[COUNTER_service_learned] - before[COUNTER_service_learned], rows[i].learned,
			  "%s", rows[i].name);
	}
	close(fd);
	wire_close(wire);
}

CASE("an option that no SYN-ACK has shown is the stack's to grant")
{
	static struct run run;
	int fd = listen_on(PORT_PLAIN, 16, NULL);
	struct facts facts = {};
	uint8_t frame[FRAME_MAX];
	size_t length;

	for (int i = 0; i < 2; i++) {
		struct tcp_spec syn = place_syn(IPV4, next_port(), PORT_PLAIN);

		syn.options = options_mss(1460);
		REQUIRE(native_synack(&syn, &facts.native));
	}
	run_syn(IPV4, PORT_PLAIN, mss_only, &run, frame, &length);
	expect_synack("MSS alone", frame, length, &run, &facts, false);
	expect_syn(IPV4, PORT_PLAIN, NULL, XDP_PASS, COUNTER_syn_passed_option_unlearned);
	expect_syn(IPV4, PORT_PLAIN, windows, XDP_PASS, COUNTER_syn_passed_option_unlearned);
	expect_syn(IPV4, PORT_PLAIN, plain_ecn, XDP_PASS, COUNTER_syn_passed_option_unlearned);
	/* Above the budget it is answered without what is not known. */
	env.set.pass_budget = 0;
	settings_store();
	run_syn(IPV4, PORT_PLAIN, NULL, &run, frame, &length);
	expect_synack("over budget", frame, length, &run, &facts, false);
	env.set.pass_budget = PLENTY;
	settings_store();
	close(fd);
}

CASE("a full accept queue means no answer")
{
	uint16_t port = PORT_FULL;
	const struct tcp_spec syn = own_syn(IPV4, next_port(), port);
	int fd = listen_on(port, 0, NULL), client;

	admit(IPV4, port, NULL);
	expect_syn(IPV4, port, NULL, XDP_TX, COUNTER_syn_answered);
	client = own_connect(&syn);
	expect_syn(IPV4, port, NULL, XDP_DROP, COUNTER_syn_dropped_queue_full);
	expect_syn(IPV4, port, windows, XDP_DROP, COUNTER_syn_dropped_queue_full);
	close(accept(fd, NULL, NULL));
	expect_syn(IPV4, port, NULL, XDP_TX, COUNTER_syn_answered);
	close(client);
	close(fd);
}

/* How many of @count SYNs from @source are answered; the others must be dropped, under their name. */
static int answered_of(const char *source, enum place place, int count)
{
	static struct run run;
	struct tcp_spec syn;
	uint8_t frame[FRAME_MAX];
	size_t length;
	int answered = 0;

	for (int i = 0; i < count; i++) {
		syn = place_syn(place, next_port(), PORT);
		syn.saddr = ip(source);
		length = frame_build(&syn, frame, sizeof(frame));
		run_frame(env.xdp, frame, length, &run);
		answered += run.verdict == XDP_TX;
		if (run.verdict != XDP_TX)
			EXPECT(run.verdict == XDP_DROP && counted_only(&run, COUNTER_syn_dropped_prefix),
			       "%s: %s, %s", source, verdict_text(run.verdict), counted_text(&run));
	}
	return answered;
}

CASE("a budget of answers for a source prefix: /24 and /56, others have their own, one in some is answered")
{
	env.set.prefix_budget = 10;
	env.set.prefix_share = 5;
	settings_store();
	/* Wait for a second of the programs' (1024 ms of a clock that is a tick behind) to begin. */
	WAIT_FOR((now_ms() & 1023) > 900, 2000);
	WAIT_FOR((now_ms() & 1023) > 20 && (now_ms() & 1023) < 300, 2000);
	EXPECT_EQ(answered_of("203.0.113.1", IPV4, 6), 6);
	EXPECT_EQ(answered_of("203.0.113.254", IPV4, 4), 4);
	/* The 15th, the 20th … */
	EXPECT_EQ(answered_of("203.0.113.77", IPV4, 20), 4);
	EXPECT_EQ(answered_of("203.0.112.77", IPV4, 10), 10);
	EXPECT_EQ(answered_of("203.0.114.77", IPV4, 10), 10);
	EXPECT_EQ(answered_of("2001:db8:1:200::1", IPV6, 10), 10);
	EXPECT_EQ(answered_of("2001:db8:1:2ff:ffff::1", IPV6, 10), 2);
	EXPECT_EQ(answered_of("2001:db8:1:300::1", IPV6, 10), 10);
	EXPECT_EQ(answered_of("2001:db8:1:1ff::1", IPV6, 10), 10);
	/* What the stack answers is none of it. */
	env.set.prefix_budget = 0;
	settings_store();
	EXPECT_EQ(answered_of("203.0.113.1", IPV4, 20), 20);
}

/* ---- ACKs ---- */

static uint64_t clock_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* A handshake that is about to be completed. */
struct deal {
	struct bake bake;
	struct cookie cookie;
	uint32_t age_ms; /* of the cookie, when the ACK comes */
	struct tcp_spec ack;
};

static const struct cookie_options with_timestamps = {
	.mss_index = 6, .wscale = 7, .has_wscale = 1, .has_sack = 1, .has_ecn = 1, .has_timestamps = 1
};
static const struct cookie_options without_timestamps = {
	.mss_index = 6, .wscale = 8, .has_wscale = 1, .has_sack = 1
};

/* The ACK to a cookie of @back epochs ago; @age_ms is what the timestamp echo says. */
static struct deal deal_of(enum place place, const struct cookie_options *options, uint32_t back,
			   uint32_t age_ms)
{
	const uint64_t now = clock_now();
	struct deal deal = {
		.bake = { .place = place,
			  .sport = next_port(),
			  .dport = PORT,
			  .client_isn = 0xfffffff0u + next_port(),
			  .epoch = (uint32_t)(now / env.set.epoch_ms) - back,
			  .options = *options },
		.age_ms = age_ms,
	};

	deal.cookie = bake(&deal.bake);
	deal.ack = place_syn(place, deal.bake.sport, PORT);
	deal.ack.flags = ACK;
	deal.ack.seq = deal.bake.client_isn + 1;
	deal.ack.ack = deal.cookie.isn + 1;
	deal.ack.options = options->has_timestamps
				   ? options_ts(4711, (uint32_t)now - age_ms + deal.cookie.offset)
				   : options_none();
	return deal;
}

/* No epoch begins within the next second nor began within the last, so that a case may count them. */
static void settle_epoch(void)
{
	WAIT_FOR(clock_now() % env.set.epoch_ms < env.set.epoch_ms - 1000, 3000);
	WAIT_FOR(clock_now() % env.set.epoch_ms > 1000, 3000);
}

static void run_ack(int program, const struct tcp_spec *ack, struct run *run, uint8_t *frame,
		    size_t *length)
{
	*length = frame_build(ack, frame, FRAME_MAX);
	run_frame(program, frame, *length, run);
}

/* Or a SYN that is not answered. */
static void expect_ack(const char *name, const struct tcp_spec *ack, enum counter counted,
		       unsigned int verdict)
{
	static struct run run;
	uint8_t frame[FRAME_MAX];
	size_t length;

	run_ack(env.xdp, ack, &run, frame, &length);
	EXPECT(run.verdict == verdict, "%s: %s", name, verdict_text(run.verdict));
	EXPECT(counted_only(&run, counted), "%s: %s rose, expected %s", name, counted_text(&run),
	       counter_names[counted]);
	EXPECT(!run.handed, "%s: metadata", name);
	expect_unchanged(name, frame, length, &run);
}

static void expect_validated(const char *name, int program, const struct deal *deal, enum counter counted)
{
	const struct cookie_options *options = &deal->bake.options;
	const bool ipv4 = deal->bake.place != IPV6;
	static struct run run;
	uint8_t frame[FRAME_MAX];
	size_t length;

	run_ack(program, &deal->ack, &run, frame, &length);
	EXPECT(run.verdict == XDP_PASS, "%s: %s", name, verdict_text(run.verdict));
	EXPECT(counted_only(&run, counted), "%s: %s rose", name, counted_text(&run));
	expect_unchanged(name, frame, length, &run);
	if (!EXPECT(run.handed, "%s: no metadata", name))
		return;
	EXPECT_EQ(run.metadata.magic, ABI_METADATA_MAGIC, "%s", name);
	EXPECT_EQ(run.metadata.layout, ABI_LAYOUT, "%s", name);
	EXPECT_EQ(run.metadata.client_isn, deal->bake.client_isn, "%s", name);
	EXPECT_EQ(run.metadata.server_isn, deal->cookie.isn, "%s", name);
	EXPECT_EQ(run.metadata.mss, cookie_mss(ipv4, options->mss_index), "%s", name);
	EXPECT_EQ(run.metadata.options,
		  (options->has_wscale ? OPTION_WSCALE : 0) | (options->has_sack ? OPTION_SACK : 0) |
			  (options->has_timestamps ? OPTION_TIMESTAMPS : 0) |
			  (options->has_ecn ? OPTION_ECN : 0),
		  "%s", name);
	EXPECT_EQ(run.metadata.snd_wscale, options->has_wscale ? options->wscale : 0, "%s", name);
	EXPECT_EQ(run.metadata.rcv_wscale,
		  options->has_wscale ? env.facts[deal->bake.place].native.wscale : 0, "%s", name);
	EXPECT_EQ(run.metadata.timestamp_offset, options->has_timestamps ? deal->cookie.offset : 0, "%s",
		  name);
	EXPECT_EQ(run.metadata.tsval, options->has_timestamps ? 4711 : 0, "%s", name);
	if (options->has_timestamps)
		EXPECT((__u32)run.after_ms - run.metadata.sent_ms - deal->age_ms < 500, "%s: sent at %u",
		       name, run.metadata.sent_ms);
	else
		EXPECT_EQ(run.metadata.sent_ms, 0, "%s", name);
}

CASE("an ACK with a right cookie goes on to the promoter, with all that the handshake settled")
{
	for (int place = 0; place < PLACES; place++) {
		struct deal deal;

		settle_epoch();
		deal = deal_of((enum place)place, &with_timestamps, 0, 20);
		/* An ACK does not come from before its epoch began. */
		expect_validated("timestamps", env.xdp, &deal, COUNTER_ack_validated);
		deal = deal_of((enum place)place, &with_timestamps, 1, 16500);
		expect_validated("the epoch before", env.xdp, &deal, COUNTER_ack_validated);
		deal = deal_of((enum place)place, &without_timestamps, 0, 0);
		expect_validated("no timestamps", env.xdp, &deal, COUNTER_ack_validated);
		deal = deal_of((enum place)place, &without_timestamps, 1, 0);
		expect_validated("no timestamps, the epoch before", env.xdp, &deal, COUNTER_ack_validated);
		deal = deal_of((enum place)place, &with_timestamps, 0, 0);
		deal.ack.payload = "GET / HTTP/1.1\r\n\r\n";
		deal.ack.payload_len = 18;
		deal.ack.flags |= PSH;
		expect_validated("with data", env.xdp, &deal, COUNTER_ack_validated);
		deal = deal_of((enum place)place, &with_timestamps, 0, 0);
		deal.ack.flags |= FIN;
		expect_validated("with FIN", env.xdp, &deal, COUNTER_ack_validated);
		deal = deal_of((enum place)place, &with_timestamps, 0, 5);
		expect_validated("while draining", env.drain, &deal, COUNTER_ack_validated);
	}
}

CASE("every choice of options comes through a cookie")
{
	settle_epoch();
	for (enum place place = IPV4; place <= IPV6; place++)
		for (unsigned int i = 0; i < 512 + 32; i++) {
			struct cookie_options options;
			struct deal deal;

			cookie_decode(i & 511, place == IPV4, i < 512, &options);
			deal = deal_of(place, &options, 0, 0);
			expect_validated("a choice", env.xdp, &deal, COUNTER_ack_validated);
		}
}

CASE("timestamps anywhere among an ACK's options are found")
{
	static const char *const layouts[] = { "ts 4711 %u",
					       "nop, ts 4711 %u",
					       "ts 4711 %u, nop, nop",
					       "nop, nop, ts 4711 %u, nop, nop, raw 050a0000000100000002",
					       "nop, nop, raw 050a0000000100000002, nop, nop, ts 4711 %u",
					       "raw fd04beef, ts 4711 %u" };

	for (size_t i = 0; i < sizeof(layouts) / sizeof(*layouts); i++) {
		struct deal deal;
		char text[128];

		settle_epoch();
		deal = deal_of(IPV4, &with_timestamps, 0, 20);
		snprintf(text, sizeof(text), layouts[i], (uint32_t)clock_now() - 20 + deal.cookie.offset);
		deal.ack.options = options_text(text);
		expect_validated(layouts[i], env.xdp, &deal, COUNTER_ack_validated);
	}
}

CASE("wrong cookies are passed untouched, under the name of what is wrong with them")
{
	for (enum place place = IPV4; place <= IPV6; place++) {
		struct deal deal;

		settle_epoch();
		/* The MAC, bit by bit. */
		for (int bit = 10; bit < 32; bit++) {
			deal = deal_of(place, &with_timestamps, 0, 5);
			deal.ack.ack = (deal.cookie.isn ^ 1u << bit) + 1;
			expect_ack("MAC", &deal.ack, COUNTER_ack_rejected_cookie, XDP_PASS);
		}
		for (int bit = 6; bit < 32; bit++) {
			deal = deal_of(place, &without_timestamps, 0, 0);
			deal.ack.ack = (deal.cookie.isn ^ 1u << bit) + 1;
			expect_ack("MAC", &deal.ack, COUNTER_ack_rejected_cookie, XDP_PASS);
		}
		/* What it binds. */
		deal = deal_of(place, &with_timestamps, 0, 5);
		deal.ack.ack++;
		expect_ack("another MSS or scale", &deal.ack, COUNTER_ack_rejected_cookie, XDP_PASS);
		deal = deal_of(place, &with_timestamps, 0, 5);
		deal.ack.seq++;
		expect_ack("one byte ahead", &deal.ack, COUNTER_ack_rejected_cookie, XDP_PASS);
		deal = deal_of(place, &with_timestamps, 0, 5);
		deal.ack.seq--;
		expect_ack("one byte behind (a keepalive)", &deal.ack, COUNTER_ack_rejected_cookie,
			   XDP_PASS);
		deal = deal_of(place, &with_timestamps, 0, 5);
		deal.ack.sport = next_port();
		expect_ack("another port", &deal.ack, COUNTER_ack_rejected_cookie, XDP_PASS);
		deal = deal_of(place, &with_timestamps, 0, 5);
		deal.ack.saddr = client_ip(place, 2);
		expect_ack("another address", &deal.ack, COUNTER_ack_rejected_cookie, XDP_PASS);
		deal = deal_of(place, &without_timestamps, 0, 0);
		deal.ack.options = options_ts(1, 2);
		expect_ack("timestamps that were not agreed on", &deal.ack, COUNTER_ack_rejected_cookie,
			   XDP_PASS);
		deal = deal_of(place, &with_timestamps, 0, 5);
		deal.ack.options = options_none();
		expect_ack("timestamps forgotten", &deal.ack, COUNTER_ack_rejected_timestamps, XDP_PASS);
		/* When it was made. */
		deal = deal_of(place, &with_timestamps, 0, (uint32_t)-1000);
		expect_ack("an echo of the future", &deal.ack, COUNTER_ack_rejected_echo, XDP_PASS);
		deal = deal_of(place, &with_timestamps, 1, 2 * env.set.epoch_ms + 100);
		expect_ack("an echo of the past", &deal.ack, COUNTER_ack_rejected_echo, XDP_PASS);
		deal = deal_of(place, &with_timestamps, 0, 5);
		deal.ack.options = options_ts(1, 0);
		expect_ack("an echo of 0", &deal.ack, COUNTER_ack_rejected_echo, XDP_PASS);
		deal = deal_of(place, &with_timestamps, 2, 2 * env.set.epoch_ms);
		expect_ack("two epochs ago", &deal.ack, COUNTER_ack_rejected_expired, XDP_PASS);
		deal = deal_of(place, &with_timestamps, 3, 3 * env.set.epoch_ms);
		expect_ack("three epochs ago", &deal.ack, COUNTER_ack_rejected_expired, XDP_PASS);
		deal = deal_of(place, &without_timestamps, 2, 0);
		expect_ack("two epochs ago, no timestamps", &deal.ack, COUNTER_ack_rejected_expired,
			   XDP_PASS);
		deal = deal_of(place, &with_timestamps, 4, 5);
		expect_ack("four epochs ago", &deal.ack, COUNTER_ack_rejected_cookie, XDP_PASS);
		deal = deal_of(place, &with_timestamps, (uint32_t)-1, 5);
		expect_ack("the next epoch", &deal.ack, COUNTER_ack_rejected_cookie, XDP_PASS);
	}
}

CASE("an ACK that the stack will drop for its checksums or lengths is not handed to the promoter")
{
	static const struct {
		const char *name;
		uint16_t tcp_xor, ip_xor;
		size_t cut;
		uint16_t payload;
		bool ip_options;
	} rows[] = {
		{ .name = "TCP's checksum", .tcp_xor = 0x0100 },
		{ .name = "IP's checksum", .ip_xor = 0x0100 },
		{ .name = "IP's checksum, with data", .ip_xor = 0x0001, .payload = 100 },
		{ .name = "IP's checksum, with IP options", .ip_xor = 0x0001, .ip_options = true },
		{ .name = "its last byte missing", .cut = 1, .payload = 100 },
		{ .name = "all of its data missing", .cut = 100, .payload = 100 },
	};
	static const uint8_t data[100];
	static struct run run;
	uint8_t frame[FRAME_MAX];

	settle_epoch();
	for (enum place place = IPV4; place <= IPV6; place++)
		for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
			struct deal deal = deal_of(place, &with_timestamps, 0, 5);
			size_t length;

			if (rows[i].ip_xor && place == IPV6)
				continue;
			if (rows[i].ip_options)
				ip_options(&deal.ack);
			deal.ack.payload = data;
			deal.ack.payload_len = rows[i].payload;
			/* The right one of the same handshake behind it: nothing has been spoiled. */
			for (int right = 0; right < 2; right++) {
				deal.ack.tcp_checksum_xor = right ? 0 : rows[i].tcp_xor;
				deal.ack.ip_checksum_xor = right ? 0 : rows[i].ip_xor;
				length = frame_build(&deal.ack, frame, sizeof(frame)) -
					 (right ? 0 : rows[i].cut);
				run_frame(env.xdp, frame, length, &run);
				EXPECT(run.verdict == XDP_PASS && run.handed == right &&
					       counted_only(&run,
							    right ? COUNTER_ack_validated : COUNTER_none),
				       "%s over IPv%d: %s, %s", rows[i].name, place == IPV4 ? 4 : 6,
				       run.handed ? "metadata" : "none", counted_text(&run));
				expect_unchanged(rows[i].name, frame, length, &run);
			}
		}
}

CASE("what is no ACK to a service of ours is passed untouched and uncounted")
{
	static const struct {
		const char *name;
		uint16_t flags;
		uint16_t dport;
	} rows[] = {
		{ "RST and ACK", RST | ACK, PORT },
		{ "SYN and ACK", SYN | ACK, PORT },
		{ "FIN without ACK", FIN, PORT },
		{ "PSH without ACK", PSH, PORT },
		{ "an unprotected port", ACK, PORT_OUTSIDE },
		{ "a port without service", ACK, PORT_NOBODY },
	};
	struct deal deal;

	settle_epoch();
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		deal = deal_of(IPV4, &with_timestamps, 0, 5);
		deal.ack.flags = rows[i].flags;
		deal.ack.dport = rows[i].dport;
		expect_ack(rows[i].name, &deal.ack, COUNTER_none, XDP_PASS);
	}
	deal = deal_of(IPV4, &with_timestamps, 0, 5);
	deal.ack.more_fragments = true;
	expect_ack("a fragment", &deal.ack, COUNTER_none, XDP_PASS);
	deal = deal_of(IPV4, &with_timestamps, 0, 5);
	deal.ack.vlans = 1;
	deal.ack.vlan[0] = 9;
	expect_ack("another VLAN", &deal.ack, COUNTER_none, XDP_PASS);
}

CASE("the segments behind a final ACK follow it, with the same metadata")
{
	static const uint8_t data[1448];

	/* Each twice: the second time, as a rule, by what was found out about the service for the first. */
	for (int i = 0; i < 4; i++) {
		const enum place place = i < 2 ? IPV4 : IPV6;
		struct deal deal;

		if (!(i & 1))
			settle_epoch();
		deal = deal_of(place, &with_timestamps, 0, 20);
		expect_validated("the first", env.xdp, &deal, COUNTER_ack_validated);
		deal.ack.payload = data;
		deal.ack.payload_len = sizeof(data);
		deal.ack.options.bytes[7]++; /* of TSval */
		expect_validated("data with the same numbers", env.xdp, &deal, COUNTER_ack_validated);
		deal.ack.seq += sizeof(data);
		/* The last of a flight is seldom a full one, and PSH and a later timestamp change nothing.
		 */
		deal.ack.payload_len = 500;
		deal.ack.flags |= PSH;
		expect_validated("the second", env.xdp, &deal, COUNTER_ack_following);
		deal.ack.seq = deal.bake.client_isn + 1 + 65536;
		expect_ack("too far ahead", &deal.ack, COUNTER_ack_rejected_cookie, XDP_PASS);
	}
}

CASE("data ahead of a lost final ACK is dropped, not passed into a reset")
{
	static const uint8_t data[1448];

	for (enum place place = IPV4; place <= IPV6; place++) {
		const uint16_t size = place == IPV4 ? 1448 : 1428;
		struct deal deal;

		settle_epoch();
		for (unsigned int back = 1; back <= 9; back++) {
			deal = deal_of(place, &with_timestamps, 0, 20);
			deal.ack.seq += back * size;
			deal.ack.payload = data;
			deal.ack.payload_len = size;
			expect_ack("a full segment", &deal.ack, COUNTER_ack_dropped_early, XDP_DROP);
			deal = deal_of(place, &with_timestamps, 0, 20);
			deal.ack.seq += back * size;
			deal.ack.payload = data;
			deal.ack.payload_len = 77;
			expect_ack("the flight's last segment", &deal.ack, COUNTER_ack_dropped_early,
				   XDP_DROP);
		}
		deal = deal_of(place, &with_timestamps, 0, 20);
		deal.ack.seq += 10 * size;
		deal.ack.payload = data;
		deal.ack.payload_len = size;
		expect_ack("ten segments ahead", &deal.ack, COUNTER_ack_rejected_cookie, XDP_PASS);
		deal = deal_of(place, &with_timestamps, 0, 20);
		deal.ack.seq += size;
		expect_ack("without data", &deal.ack, COUNTER_ack_rejected_cookie, XDP_PASS);
	}
}

static void filter_empty(void)
{
	const size_t size = 2 * ((size_t)env.set.known_mask + 1) * sizeof(struct known_word);
	void *words = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, env.known_tuples, 0);

	REQUIRE(words != MAP_FAILED, "known_tuples: %s", strerror(errno));
	memset(words, 0, size);
	munmap(words, size);
}

static void set_guard(const char *guard)
{
	netns_must(env.pair.server, PROGRAM " set " SERVER_IP4 ":%d guard=%s --pin-path %s", PORT, guard,
		   env.pins);
	admit(IPV4, PORT, NULL);
}

CASE("with guard, fragments and priority tags of a connection are let pass, also where no filter knows it")
{
	struct tcp_spec segment = own_syn(IPV4, next_port(), PORT), wrapped;
	int client;

	set_guard("on");
	client = own_connect(&segment);
	segment.flags = ACK;
	segment.seq = segment.ack = 1;
	segment.options = options_ts(1, 2);
	for (int known = 1; known >= 0; known--) {
		if (!known)
			filter_empty();
		wrapped = segment;
		wrapped.more_fragments = wrapped.no_df = true;
		expect_ack("a fragment", &wrapped, COUNTER_none, XDP_PASS);
		if (!known)
			filter_empty();
		wrapped = segment;
		wrapped.vlans = 1;
		wrapped.vlan[0] = 0xe000;
		expect_ack("a priority tag", &wrapped, known ? COUNTER_ack_known : COUNTER_none, XDP_PASS);
	}
	close(client);
	client = accept(env.listener, NULL, NULL);
	close(client);
	segment.sport = next_port();
	wrapped = segment;
	wrapped.vlans = 1;
	wrapped.vlan[0] = 0xe000;
	expect_ack("a priority tag of nobody's", &wrapped, COUNTER_stray_dropped_guard, XDP_DROP);
	set_guard("off");
}

CASE("with guard, a fragment of nobody's ends here, and one right behind a final ACK does not")
{
	struct deal deal;
	struct tcp_spec fragment;

	set_guard("on");
	settle_epoch();
	deal = deal_of(IPV4, &with_timestamps, 0, 20);
	fragment = deal.ack;
	fragment.more_fragments = fragment.no_df = true;
	expect_ack("before the ACK", &fragment, COUNTER_stray_dropped_guard, XDP_DROP);
	expect_validated("the ACK", env.xdp, &deal, COUNTER_ack_validated);
	expect_ack("behind it", &fragment, COUNTER_none, XDP_PASS);
	set_guard("off");
}

/* ---- what the stack holds ---- */

/* @spec over IPv4, whose length is less than that of its header: the stack drops it, and it counts as
 * nothing. */
static void expect_no_segment(const struct tcp_spec *spec)
{
	static struct run run;
	uint8_t frame[FRAME_MAX];
	size_t size = frame_build(spec, frame, sizeof(frame));

	frame[16] = 0;
	frame[17] = 19;
	run_frame(env.xdp, frame, size, &run);
	EXPECT(run.verdict == XDP_PASS && counted_only(&run, COUNTER_none), "no segment: %s, %s",
	       verdict_text(run.verdict), counted_text(&run));
}

/* Whether the cookie of the tuple's only handshake is noted as tried, or as made. */
static bool cookie_made(const struct tcp_spec *segment)
{
	struct tuple tuple = { .remote_port = be16_from(segment->sport),
			       .local_port = be16_from(segment->dport) };
	const int map = open_pin("used_cookies");
	struct used_bucket bucket;
	int tried = 0, made = 0;
	__u64 hash;
	__u32 index;

	address_map_ipv4(&tuple.remote, segment->saddr.v4.s_addr);
	address_map_ipv4(&tuple.local, segment->daddr.v4.s_addr);
	hash = tuple_hash(&tuple, env.set.hash_seed);
	index = hash & env.set.used_mask;
	REQUIRE(!bpf_map_lookup_elem(map, &index, &bucket), "used_cookies: %s", strerror(errno));
	close(map);
	for (int i = 0; i < USED_WAYS; i++)
		if (bucket.way[i] >> USED_TUPLE_SHIFT == hash >> USED_TUPLE_SHIFT) {
			tried++;
			made += bucket.way[i] & USED_MADE;
		}
	EXPECT_EQ(tried, 1, "its cookies");
	return made;
}

CASE("segments and SYNs of a connection that the stack has are the stack's")
{
	const struct tcp_spec syn = own_syn(IPV4, next_port(), PORT);
	struct tcp_spec segment = syn;
	int client = own_connect(&syn);

	segment.flags = ACK;
	segment.seq = 1;
	segment.ack = 1;
	segment.options = options_ts(1, 2);

	EXPECT(!cookie_made(&segment), "nothing has shown yet that its cookie has made a connection");
	expect_ack("marked by its promotion", &segment, COUNTER_ack_known, XDP_PASS);
	EXPECT(cookie_made(&segment), "a segment has found its connection, and its cookie is good still");
	filter_empty();
	expect_ack("looked up", &segment, COUNTER_ack_connected, XDP_PASS);
	expect_ack("marked by the lookup", &segment, COUNTER_ack_known, XDP_PASS);
	expect_no_segment(&segment);
	{
		static struct run run;
		uint8_t frame[FRAME_MAX];
		size_t size = frame_build(&syn, frame, sizeof(frame));

		run_frame(env.xdp, frame, size, &run);
		EXPECT(run.verdict == XDP_PASS && counted_only(&run, COUNTER_syn_passed_held),
		       "a SYN: %s, %s", verdict_text(run.verdict), counted_text(&run));
		/* Also where the answer to such SYNs is kept. */
		for (int i = 0; i < 20; i++)
			if (flooding()) {
				run_frame(env.xdp, frame, size, &run);
				EXPECT(run.verdict == XDP_PASS &&
					       counted_only(&run, COUNTER_syn_passed_held),
				       "in a flood: %s, %s", verdict_text(run.verdict), counted_text(&run));
			}
		env.set.held_budget = 0;
		settings_store();
		run_frame(env.xdp, frame, size, &run);
		EXPECT(run.verdict == XDP_DROP && counted_only(&run, COUNTER_syn_dropped_over_budget),
		       "over budget: %s, %s", verdict_text(run.verdict), counted_text(&run));
		env.set.held_budget = PLENTY;
		settings_store();
	}
	close(client);
	close(accept(env.listener, NULL, NULL));
}

/* ---- the short ways (bpf/quick.h) ---- */

/* The map `cpus` of the XDP program, which is not pinned. */
static int cpus_map(struct bpf_map_info *info)
{
	struct bpf_prog_info program = {};
	__u32 ids[64], length = sizeof(program);

	program.nr_map_ids = sizeof(ids) / sizeof(*ids);
	program.map_ids = (uintptr_t)ids;
	REQUIRE(!bpf_obj_get_info_by_fd(env.xdp, &program, &length), "%s", strerror(errno));
	for (__u32 i = 0; i < program.nr_map_ids; i++) {
		const int fd = bpf_map_get_fd_by_id(ids[i]);

		length = sizeof(*info);
		REQUIRE(fd >= 0 && !bpf_obj_get_info_by_fd(fd, info, &length), "%s", strerror(errno));
		if (!strcmp(info->name, "cpus"))
			return fd;
		close(fd);
	}
	REQUIRE(false, "the program has no map `cpus`");
	return -1;
}

/* Where a member of a struct is, in bytes. *@type becomes its type. */
static size_t member(const struct btf *btf, __u32 *type, const char *name)
{
	const struct btf_type *of = btf__type_by_id(btf, *type);

	for (__u16 i = 0; i < btf_vlen(of); i++)
		if (!strcmp(btf__name_by_offset(btf, btf_members(of)[i].name_off), name)) {
			*type = btf_members(of)[i].type;
			return btf_members(of)[i].offset / 8;
		}
	REQUIRE(false, "%s: no such member", name);
	return 0;
}

/* Whether what was last taken apart, on this CPU, came from this port: the short ways take nothing apart.
 */
static bool went_long(uint16_t sport)
{
	static struct bpf_map_info info;
	static uint8_t *values;
	static size_t at, size;
	static int map;
	const __u32 zero = 0;
	__be16 port;

	if (!values) {
		struct btf *btf;
		__u32 type;

		map = cpus_map(&info);
		btf = btf__load_from_kernel_by_id(info.btf_id);
		REQUIRE(btf, "%s", strerror(errno));
		type = info.btf_value_type_id;
		at = member(btf, &type, "claim");
		at += member(btf, &type, "tuple");
		at += offsetof(struct tuple, remote_port);
		btf__free(btf);
		size = (info.value_size + 7) & ~7u;
		values = calloc((size_t)libbpf_num_possible_cpus(), size);
	}
	REQUIRE(values && !bpf_map_lookup_elem(map, &zero, values), "%s", strerror(errno));
	memcpy(&port, values + (size_t)sched_getcpu() * size + at, sizeof(port));
	return port == be16_from(sport);
}

/* A tick may be over in between, and what is kept of a service is that of few others. */
enum {
	SHORT_ATTEMPTS = 40,
};

/* Whether it ever goes the short way, and counts the same as any. Each attempt is from a port of its own.
 */
static bool goes_short(const struct tcp_spec *spec, bool flood, enum counter counter, uint32_t verdict)
{
	static struct run run;
	struct tcp_spec one = *spec, other = place_syn(IPV4, 1, PORT);
	uint8_t frame[FRAME_MAX];

	for (int attempt = 0; attempt < SHORT_ATTEMPTS; attempt++) {
		if (flood && !flooding())
			continue;
		if (flood) {
			one.sport = next_port();
		} else {
			/* Of a service's first frames in a tick, which go the long way, another one's is
			 * last. */
			tick_over();
			run_frame(env.xdp, frame, frame_build(&one, frame, sizeof(frame)), &run);
			other.sport = next_port();
			run_frame(env.xdp, frame, frame_build(&other, frame, sizeof(frame)), &run);
		}
		run_frame(env.xdp, frame, frame_build(&one, frame, sizeof(frame)), &run);
		EXPECT(run.verdict == verdict && counted_only(&run, counter), "%s, %s",
		       verdict_text(run.verdict), counted_text(&run));
		if (!went_long(one.sport))
			return true;
	}
	return false;
}

/* Whatever goes the long way has the same outcome, and only takes longer: nothing else would tell. */
CASE("in a flood, SYNs of each common layout are answered the short way")
{
	for (int place = 0; place < PLACES; place++) {
		const uint16_t mss = place == IPV6 ? 1440 : 1460;
		const struct tcp_options layouts[] = { place_syn((enum place)place, 1, PORT).options,
						       options_windows(mss, 8), options_macos(mss, 1, 6),
						       options_linux_no_ts(mss, 7), options_mss(mss) };

		for (size_t i = 0; i < sizeof(layouts) / sizeof(*layouts); i++) {
			struct tcp_spec syn = place_syn((enum place)place, 1, PORT);

			syn.options = layouts[i];
			EXPECT(goes_short(&syn, true, COUNTER_syn_answered, XDP_TX), "place %d, layout %zu",
			       place, i);
		}
	}
}

CASE("final ACKs behind another one go the short way, with data and without; and a connection's segments")
{
	for (int place = 0; place < PLACES; place++)
		for (int data = 0; data < 2; data++) {
			bool shortly = false;

			for (int attempt = 0; attempt < SHORT_ATTEMPTS && !shortly; attempt++) {
				static struct run run;
				uint8_t frame[FRAME_MAX];
				struct deal deal;
				size_t length;

				settle_epoch();
				deal = deal_of((enum place)place, &with_timestamps, 0, 0);
				if (data) {
					deal.ack.payload = "GET /";
					deal.ack.payload_len = 5;
				}
				run_ack(env.xdp, &deal.ack, &run, frame, &length);
				EXPECT(run.handed && counted_only(&run, COUNTER_ack_validated), "%s",
				       counted_text(&run));
				shortly = !went_long(deal.ack.sport);
			}
			EXPECT(shortly, "place %d, with data: %d", place, data);
		}
	for (enum place place = IPV4; place <= IPV6; place++) {
		struct tcp_spec segment = own_syn(place, next_port(), PORT);
		const int client = own_connect(&segment), server = accept(env.listener, NULL, NULL);

		REQUIRE(server >= 0, "accept: %s", strerror(errno));
		segment.flags = ACK;
		segment.seq = segment.ack = 1;
		segment.options = options_ts(1, 2);
		EXPECT(goes_short(&segment, false, COUNTER_ack_known, XDP_PASS), "promoted");
		/* The server's ACK settles it. It does not speak first, which would be learned. */
		REQUIRE(write(client, "a", 1) == 1);
		EXPECT(goes_short(&segment, false, COUNTER_ack_known, XDP_PASS), "settled");
		close(client);
		close(server);
	}
}

/* A connection that the server has closed first. Yields the SYN of its tuple. */
static struct tcp_spec time_wait(enum place place)
{
	const struct tcp_spec syn = own_syn(place, next_port(), PORT);
	int client = own_connect(&syn), server = accept(env.listener, NULL, NULL);
	char byte;

	REQUIRE(server >= 0, "accept: %s", strerror(errno));
	shutdown(server, SHUT_WR);
	EXPECT_EQ(read(client, &byte, 1), 0);
	close(client);
	EXPECT_EQ(read(server, &byte, 1), 0);
	close(server);
	return syn;
}

/* The first of a tick by the long way, those behind it by the short one, and nobody can tell which. */
CASE("SYNs to tuples in TIME-WAIT are the stack's, the first one and a crowd of them")
{
	for (enum place place = IPV4; place <= IPV6; place++) {
		struct tcp_spec syn = time_wait(place), again = time_wait(place), other = syn, ack = syn;
		struct tcp_spec free = place_syn(place, next_port(), PORT), odd = free;
		static struct run run;
		uint8_t frame[FRAME_MAX];
		size_t length;

		memcpy(other.dst_mac, "\x02\x77\0\0\0\x09", 6);
		ack.flags = ACK;
		tick_over();
		for (int i = 0; i < 6; i++)
			expect_ack("one", i & 1 ? &again : &syn, COUNTER_syn_passed_held, XDP_PASS);
		EXPECT(goes_short(&syn, false, COUNTER_syn_passed_held, XDP_PASS), "by the long way");
		tick_over();
		for (int i = 0; i < 3; i++)
			expect_ack("one", &again, COUNTER_syn_passed_held, XDP_PASS);
		/* One that the filter knows, and nobody holds. */
		tcp_checksum(&odd);
		expect_ack("a wrong checksum", &odd, COUNTER_syn_passed_checksum, XDP_PASS);
		expect_ack("one", &syn, COUNTER_syn_passed_held, XDP_PASS);
		run_ack(env.xdp, &free, &run, frame, &length);
		EXPECT(run.verdict == XDP_TX && counted_only(&run, COUNTER_syn_answered), "%s, %s",
		       verdict_text(run.verdict), counted_text(&run));
		expect_ack("another MAC", &other, COUNTER_syn_passed_other_mac, XDP_PASS);
		expect_ack("the ACK behind it", &ack, COUNTER_ack_known, XDP_PASS);
		if (place == IPV4)
			expect_no_segment(&syn);
		env.set.held_budget = 0;
		settings_store();
		expect_ack("over budget", &syn, COUNTER_syn_dropped_over_budget, XDP_DROP);
		env.set.held_budget = PLENTY;
		settings_store();
	}
}

CASE("a SYN that was passed leaves a mark, so that what follows asks the stack")
{
	static const struct {
		const char *name;
		void (*spec)(struct tcp_spec *syn);
	} rows[] = { { "data", payload },
		     { "uncarried options", sack_alone },
		     { "IP options", ip_options },
		     { "a wrong checksum", tcp_checksum },
		     { "not learned", port_nobody },
		     { "TCP-MD5", md5 } };
	static struct run run;
	struct known_word word[2];
	uint8_t frame[FRAME_MAX];

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct tcp_spec syn = place_syn(IPV4, next_port(), PORT);
		struct tuple tuple = { .remote_port = be16_from(syn.sport) };
		__u64 hash, bits;
		__u32 index, spare;

		rows[i].spec(&syn);
		tuple.local_port = be16_from(syn.dport);
		address_map_ipv4(&tuple.remote, syn.saddr.v4.s_addr);
		address_map_ipv4(&tuple.local, syn.daddr.v4.s_addr);
		hash = tuple_hash(&tuple, env.set.hash_seed);
		bits = known_bits(hash);
		index = (__u32)hash & env.set.known_mask;
		spare = index + env.set.known_mask + 1;
		filter_empty();
		run_frame(env.xdp, frame, frame_build(&syn, frame, sizeof(frame)), &run);
		REQUIRE(run.verdict == XDP_PASS);
		REQUIRE(!bpf_map_lookup_elem(env.known_tuples, &index, &word[0]));
		REQUIRE(!bpf_map_lookup_elem(env.known_tuples, &spare, &word[1]));
		EXPECT(word[0].bits == bits && word[1].bits == bits, "%s: %llx %llx, not %llx",
		       rows[i].name, word[0].bits, word[1].bits, bits);
	}
}

CASE("a SYN that is answered leaves no mark")
{
	const size_t words = 2 * ((size_t)env.set.known_mask + 1);
	const __u64 *mapped;

	filter_empty();
	RUN_ROWS(answered);
	mapped = mmap(NULL, words * sizeof(struct known_word), PROT_READ, MAP_SHARED, env.known_tuples, 0);
	REQUIRE(mapped != MAP_FAILED);
	for (size_t i = 0; i < words; i++)
		if (!EXPECT(!mapped[i], "word %zu", i))
			break;
	munmap((void *)mapped, words * sizeof(struct known_word));
}

CASE("while draining, SYNs are passed and marked")
{
	static struct run run;
	uint8_t frame[FRAME_MAX];

	for (int place = 0; place < PLACES; place++) {
		struct tcp_spec syn = place_syn((enum place)place, next_port(), PORT);
		size_t length = frame_build(&syn, frame, sizeof(frame));

		run_frame(env.drain, frame, length, &run);
		EXPECT(run.verdict == XDP_PASS && counted_only(&run, COUNTER_syn_passed_draining), "%s, %s",
		       verdict_text(run.verdict), counted_text(&run));
		expect_unchanged("draining", frame, length, &run);
	}
}

CASE("when the listener is closed, SYNs and orphans go to the stack")
{
	int fd = listen_on(PORT_CLOSING, 16, NULL);
	struct tcp_spec ack;

	admit(IPV4, PORT_CLOSING, NULL);
	expect_syn(IPV4, PORT_CLOSING, NULL, XDP_TX, COUNTER_syn_answered);
	close(fd);
	WAIT_FOR(!netns_listens(env.pair.server, PORT_CLOSING), 2000);
	tick_over();
	expect_syn(IPV4, PORT_CLOSING, NULL, XDP_PASS, COUNTER_syn_passed_listener_gone);
	ack = place_syn(IPV4, next_port(), PORT_CLOSING);
	ack.flags = ACK;
	ack.options = options_none();
	expect_ack("an orphan", &ack, COUNTER_ack_no_listener, XDP_PASS);
}

CASE("a listener that begins to need its SYNs gets them from then on")
{
	int fd = listen_on(PORT_CHANGING, 16, NULL);

	admit(IPV4, PORT_CHANGING, NULL);
	expect_syn(IPV4, PORT_CHANGING, NULL, XDP_TX, COUNTER_syn_answered);
	save_syn(fd);
	tick_over();
	expect_syn(IPV4, PORT_CHANGING, NULL, XDP_PASS, COUNTER_syn_passed_listener_kind);
	close(fd);
}

CASE("a restarted listener that needs its SYNs gets them, whatever memory it lives in")
{
	/* The kernel gives freed sockets out again soon: of so many, some are where the first one was. */
	int fd = listen_on(PORT_RESTARTED, 16, NULL);

	admit(IPV4, PORT_RESTARTED, NULL);
	for (int i = 0; i < 20; i++) {
		static struct run run;
		uint8_t frame[FRAME_MAX];
		size_t length;

		close(fd);
		WAIT_FOR(!netns_listens(env.pair.server, PORT_RESTARTED), 2000);
		usleep(20000);
		fd = listen_on(PORT_RESTARTED, 16, save_syn);
		run_syn(IPV4, PORT_RESTARTED, NULL, &run, frame, &length);
		if (!EXPECT(run.verdict == XDP_PASS, "restart %d: %s, %s", i, verdict_text(run.verdict),
			    counted_text(&run)))
			break;
	}
	close(fd);
}

/* What would be a SYN, were it TCP. */
static void expect_not_tcp(void)
{
	static struct run run;
	uint8_t frame[FRAME_MAX];

	for (int i = 0; i < 2; i++) {
		const struct tcp_spec syn = place_syn(i ? IPV6 : IPV4, next_port(), PORT);
		const size_t length = frame_build(&syn, frame, sizeof(frame));
		uint8_t *ip = frame + ETH;

		ip[i ? 6 : 9] = IPPROTO_UDP;
		if (!i) {
			uint32_t sum = (uint32_t)(ip[10] << 8 | ip[11]) + IPPROTO_TCP - IPPROTO_UDP;

			sum += sum >> 16;
			ip[10] = (uint8_t)(sum >> 8);
			ip[11] = (uint8_t)sum;
		}
		run_frame(env.xdp, frame, length, &run);
		EXPECT(run.verdict == XDP_PASS && !run.counted[COUNTER_syn_received], "%s, %s",
		       verdict_text(run.verdict), counted_text(&run));
		expect_unchanged("not TCP", frame, length, &run);
	}
}

/*
 * A flood's answers are, byte for byte, those of calm: mutate.c asks an independent judge. Here: that they
 * are given by what was found out, and for how long that counts.
 */
CASE("in a flood, what was found out about a listener holds until the tick is over, and no longer")
{
	int shown = 0;

	for (int round = 0; round < 50 && shown < 5; round++) {
		int fd = listen_on(PORT_FLOODED, 16, NULL);
		static struct run run;
		uint8_t frame[FRAME_MAX];
		size_t length;

		admit(IPV4, PORT_FLOODED, NULL);
		tick_over();
		if (!flooding()) {
			close(fd);
			continue;
		}
		expect_syn(IPV4, PORT_FLOODED, NULL, XDP_TX, COUNTER_syn_answered);
		close(fd);
		run_syn(IPV4, PORT_FLOODED, NULL, &run, frame, &length);
		/* Else the tick was over by then. */
		shown += run.verdict == XDP_TX && counted_only(&run, COUNTER_syn_answered);
		tick_over();
		expect_syn(IPV4, PORT_FLOODED, NULL, XDP_PASS, COUNTER_syn_passed_listener_gone);
		/* What differs from SYN to SYN is looked at all the same. */
		if (!flooding())
			continue;
		expect_syn(IPV4, PORT, payload, XDP_PASS, COUNTER_syn_passed_payload);
		expect_syn(IPV4, PORT, tcp_checksum, XDP_PASS, COUNTER_syn_passed_checksum);
		expect_not_tcp();
	}
	EXPECT(shown == 5, "%d times: a flood is answered the long way", shown);
}

CASE("in a flood, a type of service is reflected without its ECN bits, as in calm")
{
	static struct run run;
	uint8_t frame[FRAME_MAX];
	struct tcp_frame synack;
	int fd;

	netns_sysctl(env.pair.server, "net.ipv4.tcp_reflect_tos", "1");
	fd = listen_on(PORT_REFLECTING, 16, NULL);
	for (int i = 0; i < 2; i++) {
		struct tcp_spec syn = place_syn(i ? IPV6 : IPV4, next_port(), PORT_REFLECTING);
		size_t length;

		admit(i ? IPV6 : IPV4, PORT_REFLECTING, NULL);
		syn.tos = 0xb9;
		length = frame_build(&syn, frame, sizeof(frame));
		for (int round = 0; round < 20; round++) {
			flooding();
			run_frame(env.xdp, frame, length, &run);
			EXPECT(run.verdict == XDP_TX && frame_parse(run.bytes, run.length, &synack) &&
				       synack.tos == 0xb8,
			       "%s, type of service %02x", verdict_text(run.verdict), synack.tos);
		}
	}
	netns_sysctl(env.pair.server, "net.ipv4.tcp_reflect_tos", "0");
	close(fd);
}

/* Most of such a flood's SYNs are answered by what was found out in the tick, and must count all the same.
 */
CASE("policy flood: as long as half of its rate comes, a service stays awake, and then falls asleep")
{
	enum { RATE = 40000, HOLD_MS = 100, MS = 2500 };
	const struct settings before = env.set;
	static struct run run;
	uint8_t frame[FRAME_MAX];
	int64_t until = 0;
	int fd, answered = 0;
	size_t length;

	env.set.policy = POLICY_FLOOD;
	env.set.flood_rate = RATE;
	env.set.flood_hold_ms = HOLD_MS;
	settings_store();
	fd = listen_on(PORT_DORMANT, 64, NULL);
	admit(IPV4, PORT_DORMANT, NULL);
	expect_syn(IPV4, PORT_DORMANT, NULL, XDP_PASS, COUNTER_syn_passed_dormant);
	netns_enter(env.pair.server);
	for (until = now_ms() + MS; now_ms() < until;) {
		const struct tcp_spec syn = place_syn(IPV4, next_port(), PORT_DORMANT);

		length = frame_build(&syn, frame, sizeof(frame));
		run_xdp(env.xdp, frame, length, length, &run);
		/* Until enough have come to wake it. */
		if (run.verdict != XDP_TX && !answered)
			continue;
		if (!EXPECT(run.verdict == XDP_TX, "%s after %d answers", verdict_text(run.verdict),
			    answered))
			break;
		answered++;
	}
	EXPECT(answered > RATE, "%d answers: not enough to show anything", answered);
	usleep(2 * HOLD_MS * 1000);
	expect_syn(IPV4, PORT_DORMANT, NULL, XDP_PASS, COUNTER_syn_passed_dormant);
	close(fd);
	env.set = before;
	settings_store();
}

CASE("in a flood, a canary is due after as many answers as in calm")
{
	enum { ANSWERS = 500, A_TICK = 4500 };
	const struct settings before = env.set;
	static struct run run;
	uint8_t frame[FRAME_MAX];
	size_t length;
	int answered = 0;

	tick_over();
	env.set.flags &= ~(__u32)SETTING_CANARY_ONCE;
	env.set.canary_gap_ms = 1;
	env.set.canary_silence_ms = 86400000;
	env.set.canary_answers = ANSWERS;
	settings_store();
	/* The first one begins the count. */
	do
		run_syn(IPV4, PORT, NULL, &run, frame, &length);
	while (run.verdict == XDP_TX && answered++ < 100000);
	EXPECT(counted_only(&run, COUNTER_syn_passed_canary), "%s", counted_text(&run));
	answered = 0;
	do
		run_syn(IPV4, PORT, NULL, &run, frame, &length);
	while (run.verdict == XDP_TX && answered++ < 100000);
	EXPECT(counted_only(&run, COUNTER_syn_passed_canary), "%s", counted_text(&run));
	EXPECT(answered >= ANSWERS && answered <= ANSWERS + A_TICK, "the next canary came after %d",
	       answered);
	env.set = before;
	settings_store();
}

static void expect_answer(enum place place)
{
	static struct run run;
	uint8_t frame[FRAME_MAX];
	size_t length;

	run_syn(place, PORT, NULL, &run, frame, &length);
	if (EXPECT(run.verdict == XDP_TX, "%s, %s", verdict_text(run.verdict), counted_text(&run)))
		expect_synack("answered", frame, length, &run, &env.facts[place], false);
}

CASE("a SYN-ACK bears the millisecond it was made in, also one behind a flood")
{
	for (int round = 0; round < 5; round++) {
		for (int i = 0; i < 500; i++)
			expect_answer(IPV4);
		usleep(SYN_LAG_MS * 1000);
		expect_exact_moment = true;
		for (int i = 0; i < 20; i++) {
			expect_answer(i & 1 ? IPV6 : IPV4);
			usleep(1300);
		}
		expect_exact_moment = false;
	}
}

/* The last case: it leaves the programs with another clock of epochs. */
CASE("without a master key nothing is answered and nothing validated")
{
	struct deal deal;

	settle_epoch();
	deal = deal_of(IPV4, &with_timestamps, 0, 5);
	for (__u32 slot = 0; slot < KEY_SLOTS; slot++) {
		const struct master_key none = {};

		REQUIRE(!bpf_map_update_elem(env.keys, &slot, &none, BPF_ANY));
	}
	/* Keys of epochs that were in use are remembered; epochs of another length have other numbers. */
	env.set.epoch_ms = 500;
	settings_store();
	expect_syn(IPV4, PORT, NULL, XDP_PASS, COUNTER_syn_passed_no_key);
	expect_syn(IPV6, PORT, windows, XDP_PASS, COUNTER_syn_passed_no_key);
	env.set.pass_budget = 0;
	settings_store();
	expect_syn(IPV4, PORT, NULL, XDP_DROP, COUNTER_syn_dropped_over_budget);
	expect_syn(IPV6, PORT, windows, XDP_DROP, COUNTER_syn_dropped_over_budget);
	env.set.pass_budget = PLENTY;
	settings_store();
	expect_ack("no key", &deal.ack, COUNTER_ack_rejected_no_key, XDP_PASS);
}

int main(int argc, char **argv)
{
	return report_main(argc, argv, environment_new);
}
