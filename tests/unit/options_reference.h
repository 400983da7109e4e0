/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * TCP options read a second time, by the RFCs and without a thought for verifiers: what the walk of
 * include/tcp_options.h is held against, with random bytes (tests/unit) and with chosen ones (tests/fuzz).
 */
#ifndef XDPH_TESTS_OPTIONS_REFERENCE_H
#define XDPH_TESTS_OPTIONS_REFERENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "tcp_options.h"

struct reference_options {
	bool wscale_given, sack, timestamps, signature, fast_open, malformed;
	unsigned int mss, wscale;
	unsigned long tsval, tsecr;
};

static inline unsigned long reference_number(const unsigned char *byte, int size)
{
	unsigned long number = 0;

	while (size--)
		number = number * 256 + *byte++;
	return number;
}

/* RFC 7413 section 4.1.1: none to ask for a cookie; one of 4 to 16 bytes, an even number. */
static inline void reference_fast_open(struct reference_options *options, size_t size)
{
	if (size % 2 == 0)
		options->fast_open = size == 0 || (size > 3 && size < 17);
}

/* The value of one option, of @size bytes behind kind and length. */
static inline void reference_option(struct reference_options *options, unsigned int kind,
				    const unsigned char *value, size_t size)
{
	switch (kind) {
	case 2: /* RFC 9293 section 3.7.1 */
		if (size == 2 && reference_number(value, 2))
			options->mss = (unsigned int)reference_number(value, 2);
		return;
	case 3: /* RFC 7323 section 2 */
		if (size != 1)
			return;
		options->wscale_given = true;
		options->wscale = value[0] < 15 ? value[0] : 14;
		return;
	case 4: /* RFC 2018 section 2 */ options->sack |= size == 0; return;
	case 8: /* RFC 7323 section 3 */
		if (size != 8)
			return;
		options->timestamps = true;
		options->tsval = reference_number(value, 4);
		options->tsecr = reference_number(value + 4, 4);
		return;
	case 19: /* RFC 2385 */
	case 29: /* RFC 5925 */ options->signature = true; return;
	case 34: reference_fast_open(options, size); return;
	case 254: /* RFC 7413 appendix A */
		if (size >= 2 && reference_number(value, 2) == 0xf989)
			reference_fast_open(options, size - 2);
		return;
	default: return;
	}
}

static inline struct reference_options reference_read(const unsigned char *byte, size_t left)
{
	struct reference_options options = {};

	while (left && *byte) {
		size_t whole = 1;

		if (*byte != 1) {
			options.malformed = left >= 2 && (byte[1] < 2 || byte[1] > left);
			if (left < 2 || options.malformed)
				break;
			whole = byte[1];
			reference_option(&options, *byte, byte + 2, whole - 2);
		}
		byte += whole;
		left -= whole;
	}
	return options;
}

/* The walk as the programs do it: over a copy of the header, one step at a time, never more than 40. */
static inline struct tcp_options walk_read(const unsigned char *options, size_t length)
{
	struct tcp_options_walk walk;

	memset(&walk, 0, sizeof(walk));
	memcpy(walk.bytes + 20, options, length);
	walk.length = 20 + (__u32)length;
	walk.at = 20;
	for (int i = 0; i < TCP_OPTIONS_MAX; i++)
		if (tcp_options_step(&walk))
			break;
	return walk.found;
}

/* The quick way; false if it does not know the layout. */
static inline bool common_read(const unsigned char *options, size_t length, struct tcp_options *found)
{
	__be32 words[TCP_OPTIONS_MAX / 4];

	memset(found, 0, sizeof(*found));
	memcpy(words, options, length);
	return length % 4 == 0 && tcp_options_common(words, (__u32)length / 4, found);
}

/* Whether TSval is where it is said to be. @options: those of walk_read(). */
static inline bool options_place(const struct tcp_options *found, const unsigned char *options,
				 size_t length)
{
	__be32 word;

	if (!found->has_timestamps)
		return !found->tsval_at;
	if (found->tsval_at < 22 || found->tsval_at + 8u > 20 + length)
		return false;
	memcpy(&word, options + found->tsval_at - 20, sizeof(word));
	return host32(word) == found->tsval;
}

static inline bool options_agree(const struct tcp_options *walk, const struct reference_options *reference)
{
	return walk->mss == reference->mss && walk->has_wscale == reference->wscale_given &&
	       walk->wscale == reference->wscale && walk->has_sack == reference->sack &&
	       walk->has_timestamps == reference->timestamps && walk->tsval == reference->tsval &&
	       walk->tsecr == reference->tsecr && walk->has_signature == reference->signature &&
	       walk->has_fast_open == reference->fast_open && walk->malformed == reference->malformed;
}

#endif
