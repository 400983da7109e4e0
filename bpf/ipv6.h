/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* IPv6 (RFC 8200). */
#ifndef XDPH_IPV6_H
#define XDPH_IPV6_H

#include "checksum.h"
#include "packet.h"

enum {
	IPV6_HEADERS = 4, /* extension headers walked: one of each kind, and one more destination options */
	IPV6_EXTENSION_MAX = 256 * 8,
	IPV6_OFFSET = 0xfff8,
	IPV6_MORE_FRAGMENTS = 0x0001,
};

/* The first eight bytes of every extension header; what follows the second byte differs. */
struct ipv6_extension {
	__u8 nexthdr;
	__u8 length; /* in eight bytes, the first eight not counted; reserved in a fragment header */
	__u8 type;
	__u8 segments_left;    /* of a routing header */
	__be32 identification; /* of a fragment header */
};

/* Where the walk over extension headers stands. */
struct ipv6_walk {
	__u32 at; /* in: of the first extension header in the frame; out: of the TCP header */
	__u8 kind;
	__u8 fragment; /* out: the first of several */
	__u16 pad;
};

/*
 * Steps over one extension header (RFC 8200 section 4). False if it is none that leads to a TCP header: it
 * is no extension header, the rest of a fragmented packet, on its way to somebody else.
 */
static __always_inline bool ipv6_step(struct ipv6_walk *walk, const struct ipv6_extension *header)
{
	__u16 offset;

	switch (walk->kind) {
	case IPPROTO_FRAGMENT:
		offset = (__u16)(header->type << 8 | header->segments_left);
		if (offset & IPV6_OFFSET)
			return false;
		walk->fragment |= !!(offset & IPV6_MORE_FRAGMENTS);
		walk->at += sizeof(*header);
		break;
	case IPPROTO_ROUTING:
		if (header->segments_left)
			return false;
		walk->at += (header->length + 1) * 8;
		break;
	case IPPROTO_HOPOPTS:
	case IPPROTO_DSTOPTS: walk->at += (header->length + 1) * 8; break;
	default: return false;
	}
	walk->kind = header->nexthdr;
	return true;
}

/*
 * Global functions, and only called where there are extension headers: the verifier looks at them once.
 * They yield 0 at a TCP header, 1 where there are more headers than they walk.
 */
__noinline int xdp_ipv6_walk(struct xdp_md *ctx, struct ipv6_walk *walk)
{
	struct ipv6_extension header;

	if (!walk)
		return -1;
	for (int i = 0; i < IPV6_HEADERS && walk->kind != IPPROTO_TCP; i++)
		if (bpf_xdp_load_bytes(ctx, walk->at, &header, sizeof(header)) || !ipv6_step(walk, &header))
			return -1;
	return walk->kind != IPPROTO_TCP;
}

__noinline int skb_ipv6_walk(struct __sk_buff *skb, struct ipv6_walk *walk)
{
	struct ipv6_extension header;

	if (!walk)
		return -1;
	for (int i = 0; i < IPV6_HEADERS && walk->kind != IPPROTO_TCP; i++)
		if (bpf_skb_load_bytes(skb, walk->at, &header, sizeof(header)) || !ipv6_step(walk, &header))
			return -1;
	return walk->kind != IPPROTO_TCP;
}

/*
 * Finds the TCP header, behind a few extension headers if need be. False: not TCP, or not to be found.
 * @ctx: of XDP if @xdp, else of tc; NULL if extension headers are not to be walked.
 */
static __always_inline bool ipv6_read(struct packet *packet, void *ctx, bool xdp)
{
	struct ipv6hdr *ip = packet->ip;
	__u32 headers = 0;

	if ((void *)(ip + 1) > packet->end || ip->version != 6)
		return false;
	packet->fragment = false;
	if (ip->nexthdr != IPPROTO_TCP) {
		const __u32 first = (__u32)((void *)(ip + 1) - packet->start);
		struct ipv6_walk walk = { .at = first, .kind = ip->nexthdr };
		int more;

		if (!ctx)
			return false;
		more = xdp ? xdp_ipv6_walk(ctx, &walk) : skb_ipv6_walk(ctx, &walk);
		if (more) {
			packet->wrapped = more > 0;
			return false;
		}
		headers = walk.at - first;
		packet->fragment = walk.fragment;
	}
	if (headers > IPV6_HEADERS * IPV6_EXTENSION_MAX || host16(ip->payload_len) < headers) {
		/* Behind hop-by-hop options, no length means the frame's (net/ipv6/ip6_input.c). */
		packet->wrapped = !raw16(ip->payload_len) && ip->nexthdr == IPPROTO_HOPOPTS;
		return false;
	}
	/* Mapped addresses do not travel (RFC 4291 section 2.5.5.2), and would be taken for IPv4 ones. */
	if (address_is_ipv4((const struct address *)&ip->saddr) ||
	    address_is_ipv4((const struct address *)&ip->daddr))
		return false;
	packet->is_ipv4 = false;
	packet->ip_options = headers != 0;
	packet->tcp_length = host16(ip->payload_len) - headers;
	packet->tcp = (void *)(ip + 1) + headers;
	return true;
}

static __always_inline void ipv6_tuple(const struct ipv6hdr *ip, struct tuple *tuple)
{
	__builtin_memcpy(&tuple->remote, &ip->saddr, sizeof(tuple->remote));
	__builtin_memcpy(&tuple->local, &ip->daddr, sizeof(tuple->local));
}

/* Multicast, the unspecified address, loopback, our own: RFC 4291 sections 2.5.2, 2.5.3, 2.7. */
static __always_inline bool ipv6_source_martian(const struct address *source, const struct address *local)
{
	__u32 high = raw32(source->word[0]) | raw32(source->word[1]) | raw32(source->word[2]);

	return host32(source->word[0]) >> 24 == 0xff || (!high && host32(source->word[3]) <= 1) ||
	       address_equal(source, local);
}

static __always_inline __u8 ipv6_traffic_class(const struct ipv6hdr *ip)
{
	return (__u8)(host32(*(const __be32 *)ip) >> 20);
}

/* Turns the header of a SYN into that of its SYN-ACK. Flow label 0 (RFC 6437 section 3: unlabelled). */
static __always_inline void ipv6_turn(struct ipv6hdr *ip, __u8 ttl, __u8 tos, __u32 tcp_length)
{
	struct in6_addr local = ip->daddr;

	*(__be32 *)ip = be32_from(6u << 28 | (__u32)tos << 20);
	ip->payload_len = be16_from(tcp_length);
	ip->nexthdr = IPPROTO_TCP;
	ip->hop_limit = ttl;
	ip->daddr = ip->saddr;
	ip->saddr = local;
}

#endif
