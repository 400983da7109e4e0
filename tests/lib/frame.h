/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * TCP frames: built from a description by libnet, read back by code of our own, so that neither
 * judge shares a line with the product.
 */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	FRAME_MAX = 9100, /* a jumbo frame, two VLAN tags and a little */
	FRAME_VLANS = 2,
	FRAME_TCP_OPTIONS = 40,
	FRAME_IP_OPTIONS = 40,
	FRAME_SACK_BLOCKS = 4,
};

/* In tcp_spec.flags and tcp_frame.flags; AE is the bit that was NS. */
enum {
	FIN = 0x001,
	SYN = 0x002,
	RST = 0x004,
	PSH = 0x008,
	ACK = 0x010,
	URG = 0x020,
	ECE = 0x040,
	CWR = 0x080,
	AE = 0x100,
};

struct ip_addr {
	sa_family_t family;
	union {
		struct in_addr v4;
		struct in6_addr v6;
	};
};

/* From text; what is no address ends the program. */
struct ip_addr ip(const char *text);
/* @text with a number put behind: ip_n(FAKE_IP4, 7). */
struct ip_addr ip_n(const char *text, unsigned int n);
bool ip_equal(const struct ip_addr *a, const struct ip_addr *b);
/* Into one of four static buffers, in turn. */
const char *ip_text(const struct ip_addr *a);

/* Numbers are in host order throughout. */
struct tcp_options {
	uint8_t bytes[FRAME_TCP_OPTIONS];
	uint8_t len;
};

/* Fields left 0 get a default where one is named. */
struct tcp_spec {
	uint8_t src_mac[6];	    /* CLIENT_MAC of netns.h */
	uint8_t dst_mac[6];	    /* SERVER_MAC of netns.h */
	uint16_t vlan[FRAME_VLANS]; /* whole TCI, the outermost first */
	uint8_t vlans;		    /* how many; the outer of two is 802.1ad */

	struct ip_addr saddr; /* its family is the frame's */
	struct ip_addr daddr;
	uint8_t ttl; /* 64; the hop limit */
	uint8_t tos; /* the traffic class */
	bool no_df;
	bool more_fragments; /* IPv4 */
	uint16_t fragment;   /* IPv4, in units of eight bytes */
	uint16_t id;	     /* IPv4 */
	uint32_t flow_label; /* IPv6 */
	/*
	 * IPv4 options; for IPv6 an extension header of type ip_options_type, whole, or several, if the
	 * first one's byte for the next header is not 0.
	 */
	uint8_t ip_options[FRAME_IP_OPTIONS];
	uint8_t ip_options_len;	 /* a multiple of 4, of 8 for IPv6 */
	uint8_t ip_options_type; /* IPv6: IPPROTO_HOPOPTS is 0 ... */

	uint16_t sport;
	uint16_t dport;
	uint32_t seq;
	uint32_t ack;
	uint16_t flags;
	uint16_t window; /* 64240; zero_window says that 0 is meant */
	bool zero_window;
	uint16_t urgent;
	struct tcp_options options;
	const void *payload;
	uint16_t payload_len;

	/* Spoil what would be right: these are XORed into the finished checksums. */
	uint16_t ip_checksum_xor;
	uint16_t tcp_checksum_xor;
};

/* Yields the length, without padding to 60 bytes; a frame that cannot be ends the program. */
size_t frame_build(const struct tcp_spec *spec, void *buf, size_t size);

/* A SYN with the Linux options, ISN made from the ports. */
struct tcp_spec syn_spec(struct ip_addr saddr, uint16_t sport, struct ip_addr daddr, uint16_t dport);

/* The options of SYNs as systems write them; wscale below 0 leaves it (and its NOP) out. */
struct tcp_options options_linux(uint16_t mss, uint32_t tsval, int wscale);
struct tcp_options options_linux_no_ts(uint16_t mss, int wscale);
struct tcp_options options_windows(uint16_t mss, int wscale);
struct tcp_options options_macos(uint16_t mss, uint32_t tsval, int wscale);
struct tcp_options options_mss(uint16_t mss);
struct tcp_options options_none(void);
/* Of every segment once timestamps are agreed: NOP, NOP, TS. */
struct tcp_options options_ts(uint32_t tsval, uint32_t tsecr);
/*
 * Any other: "mss 1460, sack, ts 1 0, nop, ws 7, eol, fastopen 0a0b, raw 1e0c00". Malformed text
 * ends the program.
 */
struct tcp_options options_text(const char *text);

/* A frame taken apart. */
struct tcp_frame {
	uint8_t src_mac[6];
	uint8_t dst_mac[6];
	uint16_t vlan[FRAME_VLANS];
	uint8_t vlans;

	struct ip_addr saddr;
	struct ip_addr daddr;
	uint8_t ttl;
	uint8_t tos;
	bool df;
	uint16_t id;
	uint32_t flow_label;
	uint8_t ip_options_len; /* of IPv6 extension headers */

	uint16_t sport;
	uint16_t dport;
	uint32_t seq;
	uint32_t ack;
	uint16_t flags;
	uint16_t window;
	uint16_t urgent;
	const uint8_t *payload; /* inside of the frame that was parsed */
	uint32_t payload_len;	/* by the IP header, so without padding */

	struct tcp_options options;
	/* As tcpdump has it: "mss,sackOK,TS,nop,wscale"; "eol" or what is "bad" ends it. */
	char layout[128];
	int mss;    /* -1: option absent */
	int wscale; /* -1: option absent */
	bool sack_ok;
	bool timestamps;
	uint32_t tsval;
	uint32_t tsecr;
	struct {
		uint32_t from;
		uint32_t to;
	} sack[FRAME_SACK_BLOCKS];
	uint8_t sacks;

	/* Computed in full over what arrived. */
	bool ip_checksum_ok; /* true for IPv6 */
	bool tcp_checksum_ok;
	/* By wire.h: the kernel left the checksum to the hardware, so it is not right yet. */
	bool checksum_partial;
};

/* False if it is no whole TCP segment (fragments are not; a segment GRO has merged is). */
bool frame_parse(const void *buf, size_t len, struct tcp_frame *out);

/* One line for a failure's text, in a static buffer. */
const char *frame_text(const struct tcp_frame *f);

/* Rights the checksums of a frame that was changed by hand. */
void frame_fix_checksums(void *buf, size_t len);

/*
 * The answer to a frame: addresses and ports turned round, seq what it acknowledged, ack what it
 * took up, flags ACK, the timestamp echoed if it carried one (tsval as given).
 */
struct tcp_spec frame_answer(const struct tcp_frame *f, uint32_t tsval);
