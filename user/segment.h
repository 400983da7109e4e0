/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A frame taken apart on the host, for people to read: what each field of the TCP header says. Pure. */
#ifndef XDPH_SEGMENT_H
#define XDPH_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>

#include "abi.h"
#include "tcp_options.h"

enum segment_link {
	SEGMENT_ETHERNET,
	SEGMENT_IP,   /* begins with the IP header */
	SEGMENT_SLL,  /* of Linux' device "any": 16 bytes in front, the protocol in the last two */
	SEGMENT_SLL2, /* 20 bytes, the protocol in the first two */
};

/* The control bits of RFC 9293 section 3.1, and AE of RFC 9768. */
enum segment_control {
	SEGMENT_FIN = 0x001,
	SEGMENT_SYN = 0x002,
	SEGMENT_RST = 0x004,
	SEGMENT_PSH = 0x008,
	SEGMENT_ACK = 0x010,
	SEGMENT_URG = 0x020,
	SEGMENT_ECE = 0x040,
	SEGMENT_CWR = 0x080,
	SEGMENT_AE = 0x100,
};

enum segment_checksum {
	CHECKSUM_RIGHT,
	CHECKSUM_WRONG,
	CHECKSUM_UNFINISHED, /* the pseudo header's sum: left to hardware, and captured before */
	CHECKSUM_UNKNOWN,    /* not all of the segment was captured */
};

/* Numbers in host order. */
struct segment {
	struct address source, destination;
	__be16 source_port, destination_port;
	__u32 sequence_number;
	__u32 acknowledgement_number;
	__u16 control;
	__u16 window;
	__u16 checksum;
	__u16 urgent_pointer;
	__u8 data_offset; /* in words of 32 bits */
	__u8 ttl;
	__u8 tos;
	bool dont_fragment;
	int vlan; /* the inner tag's id, -1: none */
	enum segment_checksum checksum_state;
	__u32 data_length; /* by the IP header */
	size_t option_length;
	__u8 option_bytes[TCP_OPTIONS_MAX];
	struct tcp_options options;
};

/*
 * Takes apart @captured bytes of a frame. False if they are not a TCP segment with its whole header:
 * another protocol, a later fragment, lengths that contradict one another, too little captured.
 */
bool segment_read(struct segment *segment, const __u8 *frame, size_t captured, enum segment_link link);

/* The segment's tuple, if it goes to the server (@to_server) or comes from there. */
void segment_tuple(const struct segment *segment, bool to_server, struct tuple *tuple);

/* "SYN ACK ECE"; "none" without any. */
void segment_control_text(__u16 control, char text[48]);

/*
 * The option at *@at of the option bytes as "kind 2, length 4: MSS 1460", and *@at behind it. False at the
 * end.
 */
bool segment_option_text(const struct segment *segment, size_t *at, char text[128]);

#endif
