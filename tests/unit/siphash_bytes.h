/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* SipHash of any bytes by the word-wise primitives of include/siphash.h: what the programs never need. */
#ifndef XDPH_TESTS_SIPHASH_BYTES_H
#define XDPH_TESTS_SIPHASH_BYTES_H

#include <stddef.h>

#include "siphash.h"

static inline __u64 siphash_bytes(const struct siphash_key *key, const void *message, size_t length)
{
	const __u8 *byte = message;
	struct siphash_state state;
	size_t at = 0;

	siphash_start(&state, key);
	for (;; at += 8) {
		__u64 word = 0;

		for (size_t i = 0; i < 8 && at + i < length; i++)
			word |= (__u64)byte[at + i] << 8 * i;
		if (at + 8 > length) {
			siphash_word(&state, siphash_last(word, length));
			return siphash_finish(&state);
		}
		siphash_word(&state, word);
	}
}

#endif
