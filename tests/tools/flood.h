/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Shared by flood.bpf.c and flood.c: what the frames look like. */
#pragma once

#include <linux/types.h>

enum {
	FLOOD_FRAME_MAX = 256,
};

/* Offsets are from the beginning of the frame; sums are of 16-bit words in host order. */
struct flood_shape {
	__u8 frame[FLOOD_FRAME_MAX]; /* whatever varies, and the checksums, are 0 */
	__u32 len;
	__u32 ip;    /* the IPv4 header; 0: the frame is IPv6 */
	__u32 saddr; /* the last 64 bits of the source address; for IPv4, its 32 */
	__u32 tcp;
	__u32 ts; /* TSval; 0: no timestamps */
	__u32 ip_sum;
	__u32 tcp_sum;	  /* and the pseudo-header's */
	__u32 random_ack; /* the acknowledged number varies as well */
	__u64 network;	  /* those last bits of the address */
	__u64 hosts;	  /* of them, which vary */
};
