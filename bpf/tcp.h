/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The TCP header (RFC 9293 section 3.1): read from a segment, written for a SYN-ACK. */
#ifndef XDPH_TCP_H
#define XDPH_TCP_H

#include "checksum.h"
#include "eth.h"
#include "ipv4.h"
#include "ipv6.h"
#include "tcp_options.h"

/* The control bits, as they lie in the header's 14th byte, and AE (RFC 9768) in the 13th. */
enum tcp_control_bits {
	TCP_FIN = 0x01,
	TCP_SYN = 0x02,
	TCP_RST = 0x04,
	TCP_PSH = 0x08,
	TCP_ACK = 0x10,
	TCP_URG = 0x20,
	TCP_ECE = 0x40,
	TCP_CWR = 0x80,
};

static __always_inline __u8 tcp_control(const struct tcphdr *tcp)
{
	return ((const __u8 *)tcp)[13];
}

/* The accurate-ECN bit and the three reserved ones in front of it. */
static __always_inline __u8 tcp_reserved(const struct tcphdr *tcp)
{
	return ((const __u8 *)tcp)[12] & 0x0f;
}

/* Behind Ethernet: finds the TCP header. False: this is no TCP segment. @ctx, @xdp: see ipv6_read(). */
static __always_inline bool tcp_read_network(struct packet *packet, void *ctx, bool xdp)
{
	struct tcphdr *tcp;

	if (packet->protocol == be16_from(ETH_P_IP)) {
		if (!ipv4_read(packet))
			return false;
	} else if (packet->protocol == be16_from(ETH_P_IPV6)) {
		if (!ipv6_read(packet, ctx, xdp))
			return false;
	} else {
		packet->wrapped = eth_is_vlan(packet->protocol);
		return false;
	}
	/* One register for the pointer that is checked and used: the compiler would compute it twice. */
	tcp = packet->tcp;
	barrier_var(tcp);
	packet->tcp = tcp;
	if ((void *)(tcp + 1) <= packet->end && !(packet->fragment && packet->tcp_length < sizeof(*tcp)))
		return true;
	packet->wrapped = packet->fragment || packet->ip_options;
	return false;
}

/* Its ports, as its answer has them. */
static __always_inline __be32 tcp_ports_turned(const struct tcphdr *tcp)
{
	return be32_from((__u32)host16(tcp->dest) << 16 | host16(tcp->source));
}

/* Takes a frame apart as far as the TCP header's 20 bytes. */
static __always_inline bool tcp_read(struct packet *packet, void *data, void *end, void *ctx, bool xdp)
{
	return eth_read(packet, data, end) && tcp_read_network(packet, ctx, xdp);
}

/* The tuple of a segment that came in. */
static __always_inline void tcp_tuple(const struct packet *packet, struct tuple *tuple)
{
	if (packet->is_ipv4)
		ipv4_tuple(packet->ipv4, tuple);
	else
		ipv6_tuple(packet->ipv6, tuple);
	tuple->remote_port = packet->tcp->source;
	tuple->local_port = packet->tcp->dest;
}

/* The same connection's tuple, from a segment that goes out. */
static __always_inline void tcp_tuple_outgoing(const struct packet *packet, struct tuple *tuple)
{
	struct tuple turned;

	tcp_tuple(packet, &turned);
	tuple->remote = turned.local;
	tuple->local = turned.remote;
	tuple->remote_port = turned.local_port;
	tuple->local_port = turned.remote_port;
}

/* The header, its options included, fits the segment and lies in the frame as far as we can see it. */
static __always_inline bool tcp_header_fits(const struct packet *packet)
{
	__u32 header = packet_tcp_header(packet);

	return header >= sizeof(struct tcphdr) && header <= packet->tcp_length &&
	       (void *)packet->tcp + header <= packet->end;
}

/*
 * A TCP header with its options, copied out of the packet: how long it is and what it says then do not
 * multiply the states that the verifier has to go through. The functions that do it are global: looked at
 * once.
 */
struct tcp_walk_context {
	struct tcp_options_walk *walk;
};

static long tcp_walk_step(__attribute__((unused)) __u64 index, struct tcp_walk_context *context)
{
	return tcp_options_step(context->walk);
}

/* Everything but getting at the bytes, which XDP and tc do each in its way. */
static __always_inline void tcp_header_parse(struct tcp_header_copy *copy)
{
	struct tcp_walk_context context = { &copy->walk };
	__u64 sum = 0;

#pragma unroll
	for (int i = 0; i < 15; i++)
		sum += copy->walk.word[i];
	copy->sum = csum_fold_sum(sum);
	copy->walk.length = copy->length;
	copy->walk.at = sizeof(struct tcphdr);
	bpf_loop(TCP_OPTIONS_MAX, tcp_walk_step, &context, 0);
}

/* The bytes to copy, within bounds that the verifier can see. */
static __always_inline __u32 tcp_header_bounds(const struct tcp_header_copy *copy)
{
	__u32 length = copy->length;

	if (length < sizeof(struct tcphdr))
		return 0;
	return length > 60 ? 60 : length;
}

__noinline int xdp_tcp_header(struct xdp_md *ctx, struct tcp_header_copy *copy)
{
	__u32 length;

	if (!copy)
		return -1;
	length = tcp_header_bounds(copy);
	__builtin_memset(&copy->walk, 0, sizeof(copy->walk));
	if (!length || bpf_xdp_load_bytes(ctx, copy->offset, copy->walk.bytes, length))
		return -1;
	tcp_header_parse(copy);
	return 0;
}

/* @words of options in the frame itself, in one of the layouts that tcp_options_common() knows. */
static __always_inline bool tcp_common_words(const __be32 *word, const void *end, const __u32 words,
					     struct tcp_header_copy *copy)
{
	__u64 sum = 0;

	barrier_var(word);
	if ((const void *)(word + 5 + words) > end ||
	    !tcp_options_common(word + 5, words, &copy->walk.found))
		return false;
	for (__u32 i = 0; i < 5 + words; i++)
		sum += raw32(word[i]);
	copy->sum = csum_fold_sum(sum);
	return true;
}

/*
 * The same as xdp_tcp_header() for what nearly all SYNs look like: compared where they lie, and not
 * copied. Sets walk.found and sum, or returns -1.
 */
__noinline int xdp_tcp_common(struct xdp_md *ctx, struct tcp_header_copy *copy)
{
	const void *data = (const void *)(long)ctx->data, *end = (const void *)(long)ctx->data_end;
	const __be32 *word;
	__u32 offset;
	bool common;

	if (!copy)
		return -1;
	offset = copy->offset;
	if (offset > sizeof(struct ethhdr) + VLAN_TAGS * sizeof(struct vlan_tag) + sizeof(struct ipv6hdr))
		return -1;
	word = data + offset;
	copy->walk.found = (struct tcp_options){};
	switch (copy->length) {
	case 24: common = tcp_common_words(word, end, 1, copy); break;
	case 32: common = tcp_common_words(word, end, 3, copy); break;
	case 40: common = tcp_common_words(word, end, 5, copy); break;
	case 44: common = tcp_common_words(word, end, 6, copy); break;
	default: return -1;
	}
	return common ? 0 : -1;
}

__noinline int skb_tcp_header(struct __sk_buff *skb, struct tcp_header_copy *copy)
{
	__u32 length;

	if (!copy)
		return -1;
	length = tcp_header_bounds(copy);
	__builtin_memset(&copy->walk, 0, sizeof(copy->walk));
	if (!length || bpf_skb_load_bytes(skb, copy->offset, copy->walk.bytes, length))
		return -1;
	tcp_header_parse(copy);
	return 0;
}

/* Reads header and options of a segment. tcp_header_fits() must hold. @ctx: of XDP if @xdp, else of tc. */
static __always_inline bool tcp_header_read(void *ctx, bool xdp, const struct packet *packet,
					    struct tcp_header_copy *copy)
{
	copy->offset = (__u32)((void *)packet->tcp - packet->start);
	copy->length = packet_tcp_header(packet);
	return !(xdp ? xdp_tcp_header(ctx, copy) : skb_tcp_header(ctx, copy));
}

/*
 * The timestamps of an ACK, the only option that matters there, and nearly always alone behind two NOPs
 * (RFC 7323 appendix A).
 */
static __always_inline bool tcp_timestamps_read(void *ctx, bool xdp, const struct packet *packet,
						struct tcp_header_copy *copy, struct tcp_options *options)
{
	const __be32 *word = (const void *)(packet->tcp + 1);
	__u32 header = packet_tcp_header(packet);

	__builtin_memset(options, 0, sizeof(*options));
	if (header == sizeof(struct tcphdr))
		return true;
	barrier_var(word); /* as in tcp_read_network() */
	if ((void *)(word + 3) <= packet->end && header >= sizeof(struct tcphdr) + 12 &&
	    word[0] == be32_from(TCP_WORD_NOP_TIMESTAMPS)) {
		options->has_timestamps = 1;
		options->tsval = host32(word[1]);
		options->tsecr = host32(word[2]);
		return true;
	}
	if (!tcp_header_read(ctx, xdp, packet, copy))
		return false;
	*options = copy->walk.found;
	return true;
}

/* Sums up a header with its options; where it lies, if those are none or timestamps. */
static __always_inline bool tcp_sum_read(struct xdp_md *ctx, const struct packet *packet,
					 struct tcp_header_copy *copy)
{
	const __u32 length = packet_tcp_header(packet);
	const __be32 *word = (const void *)packet->tcp;
	__u64 sum = 0;

	barrier_var(word); /* as in tcp_read_network() */
	if ((const void *)(word + 5) > packet->end ||
	    (length != sizeof(struct tcphdr) && length != sizeof(struct tcphdr) + 12))
		return tcp_header_read(ctx, true, packet, copy);
	for (int i = 0; i < 5; i++)
		sum += raw32(word[i]);
	if (length != sizeof(struct tcphdr)) {
		if ((const void *)(word + 8) > packet->end)
			return tcp_header_read(ctx, true, packet, copy);
		for (int i = 5; i < 8; i++)
			sum += raw32(word[i]);
	}
	copy->sum = csum_fold_sum(sum);
	return true;
}

/* A SYN's header with its options, if those are laid out in one of a few common ways. */
static __always_inline bool tcp_syn_read_common(struct xdp_md *ctx, const struct packet *packet,
						struct tcp_header_copy *copy)
{
	copy->offset = (__u32)((void *)packet->tcp - packet->start);
	copy->length = packet_tcp_header(packet);
	return !xdp_tcp_common(ctx, copy);
}

/* The same in any way. */
static __always_inline bool tcp_syn_read(struct xdp_md *ctx, const struct packet *packet,
					 struct tcp_header_copy *copy)
{
	return tcp_syn_read_common(ctx, packet, copy) || !xdp_tcp_header(ctx, copy);
}

/*
 * All of the segment, as the IP header has it, lies in a frame of @length bytes, and that header's checksum
 * is right. @ctx: of XDP if @xdp, else of tc.
 */
static __always_inline bool tcp_segment_whole(void *ctx, bool xdp, const struct packet *packet,
					      __u32 length, struct tcp_header_copy *copy)
{
	__u64 tcp = (__u64)((void *)packet->tcp - packet->start);

	barrier_var(tcp); /* the difference first: a sum with a pointer in it is none to subtract from */
	if (tcp + packet->tcp_length > length)
		return false;
	if (!packet->is_ipv4)
		return true;
	if (!packet->ip_options)
		return ipv4_checksum_right(packet->ipv4);
	/* As long as a TCP header may be, and summed up like one. */
	copy->offset = (__u32)(packet->ip - packet->start);
	copy->length = packet->ipv4->ihl * 4;
	return !(xdp ? xdp_tcp_header(ctx, copy) : skb_tcp_header(ctx, copy)) && copy->sum == 0xffff;
}

static __always_inline __u64 tcp_pseudo_sum(const struct packet *packet, __u32 length)
{
	if (packet->is_ipv4)
		return csum_pseudo_ipv4(packet->ipv4->saddr, packet->ipv4->daddr, IPPROTO_TCP, length);
	return csum_pseudo_ipv6((const __be32 *)&packet->ipv6->saddr, (const __be32 *)&packet->ipv6->daddr,
				IPPROTO_TCP, length);
}

/*
 * The checksum of a segment without data. On a virtual device, a local sender may have left it to be
 * finished by hardware that never comes; the field then holds the pseudo header's sum.
 */
static __always_inline bool tcp_checksum_right(const struct packet *packet,
					       const struct tcp_header_copy *copy, bool partial_allowed)
{
	__u64 pseudo = tcp_pseudo_sum(packet, packet->tcp_length);

	if (csum_right(pseudo + copy->sum))
		return true;
	return partial_allowed && packet->tcp->check == csum_fold_sum(pseudo);
}

#endif
