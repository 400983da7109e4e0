/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Frames read once more, by the RFCs and with no line of the product's, and what may come of them: what
 * the programs' verdicts on mutated frames are held against (mutate.c). Unlike tests/lib/frame.h this reads
 * whatever comes, fragments and impossible lengths included, and is quick enough for millions of frames.
 * All that is shared with the product is the cookie's format (include/cookie.h).
 */
#ifndef XDPH_TESTS_JUDGE_H
#define XDPH_TESTS_JUDGE_H

#include "environment.h"
#include "expect.h"

/* Numbers in host order. Where @tcp does not hold, nothing else does. */
struct reading {
	const uint8_t *frame;
	size_t length;
	bool tcp; /* a TCP header's 20 bytes lie where the IP header says */
	bool ipv4;
	uint8_t tags;
	uint16_t tci[2];
	size_t ip_at;
	size_t tcp_at;
	uint8_t headers;     /* extension headers */
	bool plain;	     /* none of them, no IPv4 options */
	bool fragment;	     /* the first of several */
	uint32_t tcp_length; /* header and data, by the IP header */
	bool whole;	     /* all of which lies in the frame */
	bool ip_sum_right;
	bool tcp_sum_right;
	bool tcp_sum_partial; /* left to be finished: the pseudo header's sum */
	struct tuple tuple;   /* remote: the source */
	uint32_t seq;
	uint32_t ack;
	uint16_t flags; /* AE and the reserved bits in front */
	bool fits;	/* the header with its options, into the segment and the frame */
	uint32_t payload;
	bool malformed; /* an option's length is impossible */
	bool signature;
	bool fast_open;
	bool sack;
	uint8_t timestamps; /* how many */
	uint32_t tsval;	    /* the last one's */
	uint32_t tsecr;
	int mss;    /* -1: none, or 0 */
	int wscale; /* -1: none */
};

/* Of the frame, XDP sees the first @linear bytes at once. */
void judge_read(struct reading *reading, const uint8_t *frame, size_t length, size_t linear);

/* The sum of RFC 1071, as it lies in memory: 0xffff if a right checksum is among the bytes. */
uint16_t judge_sum(const void *bytes, size_t length, uint32_t begin);
/* The sum of the pseudo header in front of a segment of @length bytes, to begin with. */
uint32_t judge_pseudo_sum(const uint8_t *ip, bool ipv4, uint32_t length);
/* Rights the checksums of a frame that has been read. */
void judge_right_sums(const struct reading *reading, uint8_t *frame);

/* A SYN that has nothing wrong, and nothing in it that the stack alone can answer. */
bool judge_answerable(const struct reading *reading);
/* Whether it asks for any option beside an MSS. */
bool judge_asks(const struct reading *reading);
/* Whether the cookie can carry what such a SYN asks for. */
bool judge_carried(const struct reading *reading, const struct facts *facts);

enum certainty {
	CERTAINLY_NOT,
	PERHAPS, /* an epoch, or the cookie's life, ended while the program ran */
	CERTAINLY,
};

/*
 * Whether a segment's numbers are those of a good cookie for a client whose ISN was @client_isn; what it
 * says goes to @metadata. The program ran between two moments.
 */
enum certainty judge_cookie(const struct reading *reading, uint32_t client_isn, const struct facts *facts,
			    uint64_t before_ms, uint64_t after_ms, struct handshake_metadata *metadata);
/* Data that came before the ACK: a cookie is right for a client ISN one to nine segments back. */
bool judge_early(const struct reading *reading, const struct facts *facts, uint64_t before_ms,
		 uint64_t after_ms);

/*
 * What is wrong with the answer to a SYN, or NULL. @plain: over budget, where options that the cookie
 * cannot carry are left out.
 */
const char *judge_answer(const struct reading *syn, const struct facts *facts, const struct run *run,
			 bool plain);

/* Makes a cookie; its timestamps began @age_ms ago. */
struct judge_bake {
	struct tuple tuple;
	bool ipv4;
	uint32_t client_isn;
	uint32_t bits; /* of cookie_encode() */
	bool timestamps;
	uint32_t epochs_ago;
	uint32_t age_ms;
};

void judge_bake(const struct judge_bake *bake, const struct facts *facts, uint64_t now_ms,
		uint32_t *acknowledgement, uint32_t *echo);

/* Master keys have been changed. */
void judge_forget_keys(void);

#endif
