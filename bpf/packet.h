/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A frame taken apart: where its headers lie and what they say of it. Each layer fills in its part. */
#ifndef XDPH_PACKET_H
#define XDPH_PACKET_H

#include <stdbool.h>

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>

#include "maps.h"

struct packet {
	void *end;
	void *start;	    /* of the frame, or of what we see of it */
	struct ethhdr *eth; /* NULL where the frame has lost it (promote.h) */
	union {
		void *ip;
		struct iphdr *ipv4;
		struct ipv6hdr *ipv6;
	};
	struct tcphdr *tcp;
	__u32 vlan;	  /* as in struct service_key */
	__u32 ip_offset;  /* bytes in front of the IP header */
	__u32 tcp_length; /* TCP header and data, by the IP header */
	__be16 protocol;  /* of the IP header */
	bool is_ipv4;
	bool fragment; /* the first of several */
	bool ip_options;
	bool wrapped; /* there may be a TCP header, in more than is taken off at once (wrapped.h) */
};

/* Bytes of the TCP header with its options. At least 20 after tcp_read(). */
static __always_inline __u32 packet_tcp_header(const struct packet *packet)
{
	return packet->tcp->doff * 4;
}

#endif
