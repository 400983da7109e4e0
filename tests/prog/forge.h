/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Shared by forge.bpf.c and forge.c: what each try writes into the frame. */
#ifndef XDPH_TESTS_FORGE_H
#define XDPH_TESTS_FORGE_H

#include <linux/types.h>

enum {
	FORGE_FRAME_MAX = 256,
};

/* A number in host order: which of its bits vary, and what the others are. */
struct forge_field {
	__u32 base;
	__u32 varies;
};

struct forge_shape {
	__u32 source;	/* where in the frame: the last 32 bits of the source address */
	__u32 ip_check; /* the IPv4 header's checksum; 0: IPv6 */
	__u32 tcp;	/* the TCP header */
	__u32 echo;	/* TSecr; 0: no timestamps */
	__u32 local_port;
	__u32 in_turn; /* server_isn goes through what varies of it, else it is at random */
	struct forge_field address;
	struct forge_field port;
	struct forge_field client_isn; /* seq less 1 */
	struct forge_field server_isn; /* what is acknowledged, less 1 */
	struct forge_field tsecr;
};

#endif
