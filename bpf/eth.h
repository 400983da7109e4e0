/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Ethernet and VLAN tags (IEEE 802.1Q, 802.1ad). */
#ifndef XDPH_ETH_H
#define XDPH_ETH_H

#include "packet.h"

enum {
	VLAN_TAGS = 2,
	VLAN_ID = 0xfff,
};

struct vlan_tag {
	__be16 tci;
	__be16 protocol;
};

/* The number of a tag in struct service_key: its id + 1, so that id 0 (a priority tag) is not "none". */
static __always_inline __u32 vlan_number(__u16 tci)
{
	return (tci & VLAN_ID) + 1;
}

/* Whether a tag of a frame's has id 0. */
static __always_inline bool vlan_names_none(__u32 vlan)
{
	return (vlan & 0xffff) == vlan_number(0) || vlan >> 16 == vlan_number(0);
}

static __always_inline bool eth_is_vlan(__be16 protocol)
{
	return protocol == be16_from(ETH_P_8021Q) || protocol == be16_from(ETH_P_8021AD);
}

/* At once: the header's type promises no alignment, so its fields would be read byte by byte. */
static __always_inline __be16 eth_protocol(const struct ethhdr *eth)
{
	return ((const __be16 *)eth)[ETH_ALEN];
}

/* Reads the Ethernet header and up to two tags. False if the frame is too short. */
static __always_inline bool eth_read(struct packet *packet, void *data, void *end)
{
	struct ethhdr *eth = data;
	void *next = eth + 1;

	if (next > end)
		return false;
	packet->start = data;
	packet->eth = eth;
	packet->end = end;
	packet->vlan = 0;
	packet->protocol = eth_protocol(eth);
	packet->ip_offset = sizeof(*eth);
#pragma unroll
	for (int i = 0; i < VLAN_TAGS; i++) {
		struct vlan_tag *tag = next;

		if (!eth_is_vlan(packet->protocol))
			break;
		if ((void *)(tag + 1) > end)
			return false;
		packet->vlan = packet->vlan << 16 | vlan_number(host16(tag->tci));
		packet->protocol = tag->protocol;
		packet->ip_offset += sizeof(*tag);
		next = tag + 1;
	}
	packet->ip = next;
	return true;
}

/* Of an skb: the outermost tag lies beside the frame, wherever it came from. */
static __always_inline __u32 skb_vlan(struct __sk_buff *skb, const struct packet *packet)
{
	if (!skb->vlan_present)
		return packet->vlan;
	return vlan_number((__u16)skb->vlan_tci) << (packet->vlan ? 16 : 0) | packet->vlan;
}

static __always_inline bool eth_mac_equal(const __u8 *a, const __u8 *b)
{
	return !((*(const __u32 *)a ^ *(const __u32 *)b) |
		 (*(const __u16 *)(a + 4) ^ *(const __u16 *)(b + 4)));
}

/* Turns the frame round: it goes back to the MAC it came from, with the tags it came with. */
static __always_inline void eth_turn(struct ethhdr *eth)
{
	/* Not byte by byte: see eth_protocol(). */
	__u16 *dest = (__u16 *)eth->h_dest, *source = (__u16 *)eth->h_source;

#pragma unroll
	for (int i = 0; i < ETH_ALEN / 2; i++) {
		const __u16 half = source[i];

		source[i] = dest[i];
		dest[i] = half;
	}
}

#endif
