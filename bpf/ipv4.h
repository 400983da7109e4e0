/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* IPv4 (RFC 791). */
#ifndef XDPH_IPV4_H
#define XDPH_IPV4_H

#include "checksum.h"
#include "packet.h"

enum {
	IPV4_DONT_FRAGMENT = 0x4000,
	IPV4_MORE_FRAGMENTS = 0x2000,
	IPV4_OFFSET = 0x1fff,
};

/* Finds the TCP header. False: not TCP, or nothing that the stack would take for IPv4. */
static __always_inline bool ipv4_read(struct packet *packet)
{
	struct iphdr *ip = packet->ip;
	__u32 header, total;

	if ((void *)(ip + 1) > packet->end || ip->version != 4 || ip->protocol != IPPROTO_TCP)
		return false;
	header = ip->ihl * 4;
	total = host16(ip->tot_len);
	if (header < sizeof(*ip) || total < header)
		return false;
	if (ip->frag_off & be16_from(IPV4_OFFSET))
		return false; /* no TCP header in there */
	packet->is_ipv4 = true;
	packet->fragment = !!(ip->frag_off & be16_from(IPV4_MORE_FRAGMENTS));
	packet->ip_options = header != sizeof(*ip);
	packet->tcp_length = total - header;
	packet->tcp = (void *)ip + header;
	return true;
}

static __always_inline void ipv4_tuple(const struct iphdr *ip, struct tuple *tuple)
{
	address_map_ipv4(&tuple->remote, ip->saddr);
	address_map_ipv4(&tuple->local, ip->daddr);
}

/* The header has no options. */
static __always_inline bool ipv4_checksum_right(const struct iphdr *ip)
{
	const __u32 *word = (const __u32 *)ip;
	__u64 sum = 0;

#pragma unroll
	for (int i = 0; i < 5; i++)
		sum += word[i];
	return csum_right(sum);
}

/* A source that the stack would not answer: RFC 1122 section 3.2.1.3, RFC 6890. */
static __always_inline bool ipv4_source_martian(__be32 saddr, __be32 daddr)
{
	__u32 first = host32(saddr) >> 24;

	return first == 0 || first == 127 || first >= 224 || saddr == daddr;
}

/* Turns the header of a SYN into that of its SYN-ACK, as net/ipv4/ip_output.c builds it. */
static __always_inline void ipv4_turn(struct iphdr *ip, __u8 ttl, __u8 tos, __u32 tcp_length)
{
	const __be32 header[5] = {
		be32_from(0x45000000 | (__u32)tos << 16 | ((__u32)sizeof(*ip) + tcp_length)),
		be32_from(IPV4_DONT_FRAGMENT), /* id 0 */
		be32_from((__u32)ttl << 24 | IPPROTO_TCP << 16),
		ip->daddr,
		ip->saddr,
	};
	__u64 sum = 0;

#pragma unroll
	for (int i = 0; i < 5; i++) {
		((__be32 *)ip)[i] = header[i];
		sum += raw32(header[i]);
	}
	ip->check = csum_field(sum);
}

#endif
