/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Shared by traffic.bpf.c and traffic.c: what the frames of a workload look like. */
#pragma once

#include <linux/types.h>

#include "siphash.h"

enum {
	TRAFFIC_HEADERS_MAX = 128,
	TRAFFIC_CHAIN_MAX = 1 << 14, /* handshakes whose SYN-ACKs are kept */
	TRAFFIC_HASHES = 8,	     /* in one run of the program that is the unit of all others */
};

enum traffic_ack {
	TRAFFIC_NO_ACK,
	TRAFFIC_RANDOM_ACK,
	TRAFFIC_RIGHT_ACK, /* what the SYN-ACK to the SYN of the same number asks for */
};

/* Offsets are from the beginning of the frame; sums are of 16-bit words in host order. */
struct traffic {
	__u8 headers[TRAFFIC_HEADERS_MAX]; /* whatever varies, and the checksums, are 0 */
	__u64 seed;
	__u64 next;   /* number of the next frame: its addresses and ports follow from it and the seed */
	__u32 length; /* of the headers: what is behind them never changes */
	__u32 ip;     /* the IPv4 header; 0: the frame is IPv6 */
	__u32 saddr;  /* the last 32 bits of the source address */
	__u32 l4;     /* TCP or UDP */
	__u32 udp;    /* without a checksum */
	__u32 tsecr;  /* 0: no timestamps */
	__u32 ip_sum;
	__u32 tcp_sum; /* and the pseudo header's */
	__u32 network; /* those last bits of the address */
	__u32 hosts;   /* of them, which vary */
	__u32 isn;     /* the sequence number of SYN number 0; each has one more than the one before */
	__u32 ahead;   /* how far a segment is into its stream, SYN included */
	/* So many connections take turns before the next ones do, so many times; both in powers of two. */
	__u32 group_bits;
	__u32 turn_bits;
	__u32 turn_ahead; /* how much further into its stream a connection is with each turn */
	enum traffic_ack ack;
};

/* A SYN-ACK that came back. */
struct traffic_answer {
	__u32 isn;
	__u32 tsval;
	__u32 seen;
	__u32 pad;
};
