/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* IPv6 (RFC 8200). */
#ifndef XDPH_IPV6_H
#define XDPH_IPV6_H

#include "checksum.h"
#include "packet.h"

/* Finds the TCP header. False: not TCP, or behind extension headers: such a segment is the stack's. */
static __always_inline bool ipv6_read(struct packet *packet)
{
	struct ipv6hdr *ip = packet->ip;

	if ((void *)(ip + 1) > packet->end || ip->version != 6 || ip->nexthdr != IPPROTO_TCP)
		return false;
	/* Mapped addresses do not travel (RFC 4291 section 2.5.5.2), and would be taken for IPv4 ones. */
	if (address_is_ipv4((const struct address *)&ip->saddr) ||
	    address_is_ipv4((const struct address *)&ip->daddr))
		return false;
	packet->is_ipv4 = false;
	packet->fragment = false;
	packet->ip_options = false;
	packet->tcp_length = host16(ip->payload_len);
	packet->tcp = (void *)(ip + 1);
	return true;
}

static __always_inline void ipv6_tuple(const struct packet *packet, struct tuple *tuple)
{
	__builtin_memcpy(&tuple->remote, &packet->ipv6->saddr, sizeof(tuple->remote));
	__builtin_memcpy(&tuple->local, &packet->ipv6->daddr, sizeof(tuple->local));
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
static __always_inline void ipv6_turn(struct ipv6hdr *ip, const struct service_synack *synack, __u8 tos,
				      __u32 tcp_length)
{
	struct in6_addr local = ip->daddr;

	*(__be32 *)ip = be32_from(6u << 28 | (__u32)tos << 20);
	ip->payload_len = be16_from(tcp_length);
	ip->nexthdr = IPPROTO_TCP;
	ip->hop_limit = synack->ttl;
	ip->daddr = ip->saddr;
	ip->saddr = local;
}

#endif
