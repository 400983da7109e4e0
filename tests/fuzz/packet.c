// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The readers of the XDP program, built for the host, against the one that `explain` reads captures with:
 * they were written apart, and what both of them take for a segment they must take for the same one. And
 * the headers that the program writes over a SYN's, read back.
 */
#include <linux/bpf.h>
#include <linux/types.h>

#include "../../user/segment.h"
#include "fuzz.h"

/* What bpf/maps.h and the BPF headers give to the programs. */
#define XDPH_MAPS_H
#define barrier_var(var) __asm__ volatile("" : "+r"(var))
#define __noinline	 static __attribute__((noinline, unused))

/* The frame under test: a context is too narrow for pointers of the host. */
static const uint8_t *frame;
static size_t frame_length;

static long load_bytes(__u32 at, void *to, __u32 length)
{
	if (at > frame_length || length > frame_length - at)
		return -1;
	memcpy(to, frame + at, length);
	return 0;
}

#define bpf_xdp_load_bytes(ctx, at, to, length) ((void)(ctx), load_bytes(at, to, length))
#define bpf_skb_load_bytes(skb, at, to, length) ((void)(skb), load_bytes(at, to, length))
#define bpf_loop(n, step, context, flags)                                                                  \
	do {                                                                                               \
		for (__u64 i_ = 0; i_ < (n) && !step(i_, context); i_++)                                   \
			;                                                                                  \
	} while (0)

struct tcp_header_copy {
	struct tcp_options_walk walk;
	__u32 offset;
	__u32 length;
	__u32 sum;
	__u32 pad;
};

#pragma clang diagnostic ignored "-Wunused-function"
#include "../../bpf/tcp.h"

static bool same_options(const struct tcp_options *a, const struct tcp_options *b)
{
	return a->tsval == b->tsval && a->tsecr == b->tsecr && a->mss == b->mss && a->wscale == b->wscale &&
	       a->has_wscale == b->has_wscale && a->has_sack == b->has_sack &&
	       a->has_timestamps == b->has_timestamps && a->has_signature == b->has_signature &&
	       a->has_fast_open == b->has_fast_open && a->malformed == b->malformed;
}

static void compare(struct packet *packet, void *ctx, bool xdp)
{
	struct tcp_header_copy copy = {};
	struct segment segment;
	struct tuple tuple, other;
	bool right;

	require(packet->tcp_length <= 65535 && (void *)(packet->tcp + 1) <= packet->end);
	if (!tcp_header_fits(packet))
		return;
	require(tcp_header_read(ctx, xdp, packet, &copy));
	require(copy.length == packet_tcp_header(packet) && copy.length <= 60);
	if (!segment_read(&segment, frame, frame_length, SEGMENT_ETHERNET))
		return;
	tcp_tuple(packet, &tuple);
	segment_tuple(&segment, true, &other);
	require(!memcmp(&tuple, &other, sizeof(tuple)));
	require(host32(packet->tcp->seq) == segment.sequence_number);
	require(packet->tcp_length == segment.data_offset * 4u + segment.data_length);
	require(same_options(&copy.walk.found, &segment.options));
	require((packet->vlan ? (int)(packet->vlan & 0xffff) - 1 : -1) == segment.vlan);
	/* Over the header alone, the sum of the one is that of the other only where there are no data. */
	if (packet->tcp_length != copy.length || segment.checksum_state == CHECKSUM_UNKNOWN)
		return;
	right = tcp_checksum_right(packet, &copy, false);
	require(right == (segment.checksum_state == CHECKSUM_RIGHT) ||
		segment.checksum_state == CHECKSUM_UNFINISHED);
	require(tcp_checksum_right(packet, &copy, true) == (segment.checksum_state != CHECKSUM_WRONG));
}

/* The headers in front of TCP turned round, as for a SYN-ACK of 24 bytes. */
static void turn(const struct packet *packet)
{
	const size_t front = (size_t)((uint8_t *)packet->ip - frame);
	const size_t header = packet->is_ipv4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	uint8_t *buffer = malloc(2 + front + header + 24), *answer = buffer + 2;
	struct segment before, after;
	struct packet again = {};
	__u64 sum = 0;

	require(buffer);
	memcpy(answer, frame, front + header);
	memset(answer + front + header, 0, 24);
	answer[front + header + 12] = 0x60;
	answer[front + header + 20] = 1;
	eth_turn((void *)answer);
	if (packet->is_ipv4)
		ipv4_turn((void *)(answer + front), 64, 0x28, 24);
	else
		ipv6_turn((void *)(answer + front), 64, 0x28, 24);
	require(!memcmp(answer, frame + 6, 6) && !memcmp(answer + 6, frame, 6));
	require(segment_read(&after, answer, front + header + 24, SEGMENT_ETHERNET));
	require(after.ttl == 64 && after.tos == 0x28 && after.dont_fragment && after.data_length == 0);
	if (packet->is_ipv4)
		for (size_t i = 0; i < header; i += 4) {
			__u32 word;

			memcpy(&word, answer + front + i, 4);
			sum += word;
		}
	require(!packet->is_ipv4 || csum_fold_sum(sum) == 0xffff);
	require(tcp_read(&again, answer, answer + front + header + 24, NULL, true));
	require(again.tcp_length == 24 && !again.ip_options && !again.fragment);
	if (segment_read(&before, frame, frame_length, SEGMENT_ETHERNET))
		require(address_equal(&before.source, &after.destination) &&
			address_equal(&before.destination, &after.source));
	free(buffer);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	static struct xdp_md xdp;
	static struct __sk_buff skb;
	struct packet packet = {}, by_tc = {};
	/* A copy that ends with its buffer: one byte too many is seen. The IP header is aligned, as in
	 * kernels. */
	uint8_t *buffer = malloc(size + 2), *copy = buffer + 2;
	bool read;

	require(buffer);
	memcpy(copy, bytes, size);
	frame = copy;
	frame_length = size;
	read = tcp_read(&packet, copy, copy + size, &xdp, true);
	require(tcp_read(&by_tc, copy, copy + size, &skb, false) == read);
	if (read) {
		require(packet.tcp == by_tc.tcp && packet.vlan == by_tc.vlan);
		compare(&packet, &xdp, true);
		compare(&by_tc, &skb, false);
		if (!packet.ip_options)
			turn(&packet);
	}
	free(buffer);
	return 0;
}
