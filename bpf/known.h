/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The filter of the tuples that the stack holds (abi.h: struct known_word). It may say yes wrongly, which
 * costs a SYN an exact lookup; it must never say no wrongly, which would cost a client its connection. So
 * whoever passes a SYN for a protected port marks it, and whoever sees a socket does.
 */
#ifndef XDPH_KNOWN_H
#define XDPH_KNOWN_H

#include "maps.h"

static __always_inline __u64 known_bits(__u64 hash)
{
	return 1ULL << (hash >> 52 & 63) | 1ULL << (hash >> 58);
}

static __always_inline struct known_word *known_word(const struct settings *set, __u64 hash)
{
	__u32 index = hash & set->known_mask;

	return bpf_map_lookup_elem(&known_tuples, &index);
}

/* What known_word.settled says of a tuple: never 0. The word's place says the rest of the hash. */
static __always_inline __u32 known_settled(__u64 hash)
{
	return (__u32)(hash >> 32) | 1;
}

/* Notes that no cookie is on its way to the tuple (abi.h). */
static __always_inline void known_settle(struct known_word *word, __u64 hash)
{
	if (word && word->settled != known_settled(hash))
		word->settled = known_settled(hash);
}

/* Whether the tuple is known, by its word. */
static __always_inline int known_in(const struct settings *set, const struct known_word *word, __u64 hash)
{
	__u64 bits = known_bits(hash);

	/* An absent word cannot be; were it so, the exact lookup decides. */
	return !word || (word->generation[set->known_generation & 1] & bits) == bits;
}

static __always_inline int known(const struct settings *set, __u64 hash)
{
	return known_in(set, known_word(set, hash), hash);
}

static __always_inline void known_mark(const struct settings *set, __u64 hash)
{
	struct known_word *word = known_word(set, hash);
	__u64 bits = known_bits(hash);

	if (!word)
		return;
	/* Look before writing: a marked word stays a shared cache line. */
	if ((word->generation[0] & bits) != bits)
		__sync_fetch_and_or(&word->generation[0], bits);
	if ((word->generation[1] & bits) != bits)
		__sync_fetch_and_or(&word->generation[1], bits);
}

#endif
