/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * TCP options (RFC 9293 section 3.1, RFC 7323, RFC 2018, RFC 7413): read from a SYN or an ACK, written into
 * a SYN-ACK. Reading follows net/ipv4/tcp_input.c:tcp_parse_options(), writing follows
 * net/ipv4/tcp_output.c:tcp_options_write(), since a client must not be able to tell us from the stack.
 */
#ifndef XDPH_TCP_OPTIONS_H
#define XDPH_TCP_OPTIONS_H

#include <linux/types.h>

#include "byteorder.h"

enum tcp_option_kind {
	TCP_OPTION_END = 0,
	TCP_OPTION_NOP = 1,
	TCP_OPTION_MSS = 2,
	TCP_OPTION_WINDOW_SCALE = 3,
	TCP_OPTION_SACK_PERMITTED = 4,
	TCP_OPTION_TIMESTAMPS = 8,
	TCP_OPTION_MD5 = 19,
	TCP_OPTION_AO = 29,
	TCP_OPTION_FAST_OPEN = 34,
	TCP_OPTION_EXPERIMENT = 254, /* RFC 6994: two bytes behind the length say which */
};

enum tcp_option_length {
	TCP_OPTION_MSS_LENGTH = 4,
	TCP_OPTION_WINDOW_SCALE_LENGTH = 3,
	TCP_OPTION_SACK_PERMITTED_LENGTH = 2,
	TCP_OPTION_TIMESTAMPS_LENGTH = 10,
	TCP_OPTIONS_MAX = 40, /* the data offset counts to 15 words, five of them are the header */
};

enum tcp_limits {
	TCP_WINDOW_SCALE_MAX = 14,  /* RFC 7323 section 2.3; a larger one counts as 14 */
	TCP_MSS_DEFAULT_IPV4 = 536, /* RFC 9293 section 3.7.1: no MSS option */
	TCP_MSS_DEFAULT_IPV6 = 1220,
	TCP_FAST_OPEN_COOKIE_MIN = 4, /* RFC 7413 section 4.1.1 */
	TCP_FAST_OPEN_COOKIE_MAX = 16,
	TCP_EXPERIMENT_FAST_OPEN = 0xf989, /* RFC 7413 appendix A: as it was before it had a number */
};

/* What one segment's options say. Everything is in host order. */
struct tcp_options {
	__u32 tsval;
	__u32 tsecr;
	__u16 mss;   /* 0: no MSS option, or one that says 0 */
	__u8 wscale; /* at most 14 */
	__u8 has_wscale : 1;
	__u8 has_sack : 1;
	__u8 has_timestamps : 1;
	__u8 has_signature : 1; /* TCP-MD5 or TCP-AO: such a segment is the stack's */
	__u8 has_fast_open : 1; /* asks for a Fast Open cookie, or shows one */
	__u8 malformed : 1;	/* an option's length is impossible: the stack may drop such a segment */
	__u8 tsval_at;		/* where TSval is, in bytes from the header's beginning; 0: nowhere */
	__u8 pad[3];
};

/*
 * A walk through the options of one segment: a copy of its TCP header, how long that is, where we stand (at
 * byte 20 to begin with), and what has been found. In 64 bytes, a mask is proof enough for the verifier.
 */
struct tcp_options_walk {
	union {
		__u8 bytes[64];
		__u32 word[16];
	};
	__u32 length;
	__u32 at;
	struct tcp_options found;
};

static __always_inline __u8 tcp_options_byte(const struct tcp_options_walk *walk, __u32 at)
{
	return walk->bytes[at & 63];
}

static __always_inline __u16 tcp_options_u16(const struct tcp_options_walk *walk, __u32 at)
{
	return (__u16)(tcp_options_byte(walk, at) << 8 | tcp_options_byte(walk, at + 1));
}

static __always_inline __u32 tcp_options_u32(const struct tcp_options_walk *walk, __u32 at)
{
	return (__u32)tcp_options_u16(walk, at) << 16 | tcp_options_u16(walk, at + 2);
}

/*
 * A Fast Open option whose cookie has @length bytes. One that is too short or too long takes back an
 * earlier option, one of an odd length is none at all (net/ipv4/tcp_input.c:tcp_parse_fastopen_option()).
 */
static __always_inline void tcp_options_fast_open(struct tcp_options *found, __u32 length)
{
	if (length & 1)
		return;
	found->has_fast_open = !length ||
			       (length >= TCP_FAST_OPEN_COOKIE_MIN && length <= TCP_FAST_OPEN_COOKIE_MAX);
}

/*
 * Reads the option at walk->at and steps behind it. Returns 1 when the walk is over: at the end, at an End
 * of Option List, or at an option whose length is impossible. There the stack stops as well; but one that
 * can look for signatures (CONFIG_TCP_MD5SIG) has dropped many such segments before.
 */
static __always_inline int tcp_options_step(struct tcp_options_walk *walk)
{
	__u32 at = walk->at;
	struct tcp_options *found = &walk->found;
	__u8 kind, length;

	if (at >= walk->length)
		return 1;
	kind = tcp_options_byte(walk, at);
	if (kind == TCP_OPTION_END)
		return 1;
	if (kind == TCP_OPTION_NOP) {
		walk->at = at + 1;
		return 0;
	}
	if (at + 1 >= walk->length)
		return 1;
	length = tcp_options_byte(walk, at + 1);
	if (length < 2 || at + length > walk->length) {
		found->malformed = 1;
		return 1;
	}

	if (kind == TCP_OPTION_MSS && length == TCP_OPTION_MSS_LENGTH) {
		__u16 mss = tcp_options_u16(walk, at + 2);

		if (mss)
			found->mss = mss;
	} else if (kind == TCP_OPTION_WINDOW_SCALE && length == TCP_OPTION_WINDOW_SCALE_LENGTH) {
		__u8 wscale = tcp_options_byte(walk, at + 2);

		found->wscale = wscale > TCP_WINDOW_SCALE_MAX ? TCP_WINDOW_SCALE_MAX : wscale;
		found->has_wscale = 1;
	} else if (kind == TCP_OPTION_SACK_PERMITTED && length == TCP_OPTION_SACK_PERMITTED_LENGTH) {
		found->has_sack = 1;
	} else if (kind == TCP_OPTION_TIMESTAMPS && length == TCP_OPTION_TIMESTAMPS_LENGTH) {
		found->tsval = tcp_options_u32(walk, at + 2);
		found->tsecr = tcp_options_u32(walk, at + 6);
		found->has_timestamps = 1;
		found->tsval_at = (__u8)(at + 2);
	} else if (kind == TCP_OPTION_MD5 || kind == TCP_OPTION_AO) {
		found->has_signature = 1;
	} else if (kind == TCP_OPTION_FAST_OPEN) {
		tcp_options_fast_open(found, length - 2);
	} else if (kind == TCP_OPTION_EXPERIMENT && length >= 4 &&
		   tcp_options_u16(walk, at + 2) == TCP_EXPERIMENT_FAST_OPEN) {
		tcp_options_fast_open(found, length - 4);
	}
	walk->at = at + length;
	return 0;
}

/* The words, four option bytes each, that the SYNs of common systems are made of. */
enum tcp_option_word {
	TCP_WORD_MSS = TCP_OPTION_MSS << 24 | TCP_OPTION_MSS_LENGTH << 16, /* the MSS in the other half */
	/* NOP, window scale; the scale in the last byte. */
	TCP_WORD_WINDOW_SCALE = TCP_OPTION_NOP << 24 | TCP_OPTION_WINDOW_SCALE << 16 |
				TCP_OPTION_WINDOW_SCALE_LENGTH << 8,
	TCP_WORD_NOP_SACK = TCP_OPTION_NOP << 24 | TCP_OPTION_NOP << 16 | TCP_OPTION_SACK_PERMITTED << 8 |
			    TCP_OPTION_SACK_PERMITTED_LENGTH,
	TCP_WORD_SACK_END = TCP_OPTION_SACK_PERMITTED << 24 | TCP_OPTION_SACK_PERMITTED_LENGTH << 16,
	/* The beginning of timestamps, which have two words more. */
	TCP_WORD_SACK_TIMESTAMPS = TCP_OPTION_SACK_PERMITTED << 24 |
				   TCP_OPTION_SACK_PERMITTED_LENGTH << 16 | TCP_OPTION_TIMESTAMPS << 8 |
				   TCP_OPTION_TIMESTAMPS_LENGTH,
	TCP_WORD_NOP_TIMESTAMPS = TCP_OPTION_NOP << 24 | TCP_OPTION_NOP << 16 | TCP_OPTION_TIMESTAMPS << 8 |
				  TCP_OPTION_TIMESTAMPS_LENGTH,
	TCP_WORDS_COMMON_MAX = 6,
};

/*
 * Reads the options of a SYN as Linux, Windows, macOS and the plainest clients write them, by comparing
 * whole words. Returns 1, or 0 if they are laid out in another way: then tcp_options_step() has to walk. It
 * finds the same (tests/fuzz/options.c). @word: the words behind the header's first five, @words: how
 * many; @found must be empty.
 */
static __always_inline int tcp_options_common(const __be32 *word, const __u32 words,
					      struct tcp_options *found)
{
	__u32 scale, first, second;

	if (words < 1 || (host32(word[0]) & 0xffff0000) != TCP_WORD_MSS)
		return 0;
	switch (words) {
	case 1: /* MSS alone */ scale = 0; break;
	case 3:
		first = host32(word[1]);
		second = host32(word[2]);
		if (first == TCP_WORD_NOP_SACK) /* Linux without timestamps */
			scale = second;
		else if (second == TCP_WORD_NOP_SACK) /* Windows */
			scale = first;
		else
			return 0;
		if ((scale & 0xffffff00) != TCP_WORD_WINDOW_SCALE)
			return 0;
		found->has_sack = 1;
		break;
	case 5: /* Linux */
		scale = host32(word[4]);
		if (host32(word[1]) != TCP_WORD_SACK_TIMESTAMPS ||
		    (scale & 0xffffff00) != TCP_WORD_WINDOW_SCALE)
			return 0;
		found->tsval = host32(word[2]);
		found->tsecr = host32(word[3]);
		found->tsval_at = (5 + 2) * 4;
		found->has_timestamps = 1;
		found->has_sack = 1;
		break;
	case 6: /* macOS */
		scale = host32(word[1]);
		if ((scale & 0xffffff00) != TCP_WORD_WINDOW_SCALE ||
		    host32(word[2]) != TCP_WORD_NOP_TIMESTAMPS ||
		    (host32(word[5]) & 0xffffff00) != TCP_WORD_SACK_END)
			return 0;
		found->tsval = host32(word[3]);
		found->tsecr = host32(word[4]);
		found->tsval_at = (5 + 3) * 4;
		found->has_timestamps = 1;
		found->has_sack = 1;
		break;
	default: return 0;
	}
	found->mss = (__u16)host32(word[0]);
	if (words > 1) {
		scale &= 0xff;
		found->wscale = (__u8)(scale > TCP_WINDOW_SCALE_MAX ? TCP_WINDOW_SCALE_MAX : scale);
		found->has_wscale = 1;
	}
	return 1;
}

/* What a SYN-ACK says in its options. Host order. */
struct tcp_synack_options {
	__u32 tsval;
	__u32 tsecr;
	__u16 mss;
	__u8 wscale;
	__u8 has_wscale : 1;
	__u8 has_sack : 1;
	__u8 has_timestamps : 1;
};

/* Bytes that tcp_synack_options_word() will write: a multiple of four, 4 to 20. */
static __always_inline __u32 tcp_synack_options_length(const struct tcp_synack_options *options)
{
	return 4 +
	       (options->has_timestamps ? 12
		: options->has_sack	? 4
					: 0) +
	       (options->has_wscale ? 4 : 0);
}

/*
 * Writes the options in the stack's order, four bytes a word: MSS; SACK-permitted within the padding of
 * the timestamps where there are any, else in a word of its own; window scale behind a NOP. @words has
 * room for five. Returns the number of words.
 */
static __always_inline __u32 tcp_synack_options_write(const struct tcp_synack_options *options,
						      __be32 words[5])
{
	const __u32 nop2 = TCP_OPTION_NOP << 24 | TCP_OPTION_NOP << 16;
	const __u32 sack = TCP_OPTION_SACK_PERMITTED << 8 | TCP_OPTION_SACK_PERMITTED_LENGTH;
	const __u32 timestamps = TCP_OPTION_TIMESTAMPS << 8 | TCP_OPTION_TIMESTAMPS_LENGTH;
	const __u32 wscale = TCP_OPTION_NOP << 24 | TCP_OPTION_WINDOW_SCALE << 16 |
			     TCP_OPTION_WINDOW_SCALE_LENGTH << 8 | options->wscale;

	words[0] = be32_from((__u32)TCP_OPTION_MSS << 24 | TCP_OPTION_MSS_LENGTH << 16 | options->mss);
	if (options->has_timestamps) {
		words[1] = be32_from((options->has_sack ? sack << 16 : nop2) | timestamps);
		words[2] = be32_from(options->tsval);
		words[3] = be32_from(options->tsecr);
		words[4] = be32_from(wscale);
		return options->has_wscale ? 5 : 4;
	}
	if (options->has_sack) {
		words[1] = be32_from(nop2 | sack);
		words[2] = be32_from(wscale);
		return options->has_wscale ? 3 : 2;
	}
	words[1] = be32_from(wscale);
	return options->has_wscale ? 2 : 1;
}

#endif
