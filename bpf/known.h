/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The filter of the tuples that the stack holds (abi.h: struct known_word). It may say yes wrongly, which
 * costs a SYN an exact lookup; it must never say no wrongly, which would cost a client its connection. So
 * whoever passes a SYN for a protected port marks it, and whoever sees a socket does.
 */
#ifndef XDPH_KNOWN_H
#define XDPH_KNOWN_H

#include "maps.h"

/* Where a generation's words begin. */
static __always_inline __u32 known_base(const struct settings *set, __u32 generation)
{
	return generation & 1 ? set->known_mask + 1 : 0;
}

static __always_inline struct known_word *known_word(__u64 hash, __u32 mask, __u32 base)
{
	const __u32 index = (hash & mask) + base;

	return bpf_map_lookup_elem(&known_tuples, &index);
}

static __always_inline struct known_note *known_note(const struct settings *set, __u64 hash)
{
	__u32 index = known_note_index(hash, set->known_mask);

	return bpf_map_lookup_elem(&known_notes, &index);
}

/* Whether the stack may hold the tuple, by the generation of @base. */
static __always_inline bool known_by(__u64 hash, __u32 mask, __u32 base)
{
	const struct known_word *word = known_word(hash, mask, base);
	const __u64 bits = known_bits(hash);

	/* An absent word cannot be; were it so, the exact lookup decides. */
	return !word || (word->bits & bits) == bits;
}

static __always_inline bool known(const struct settings *set, __u64 hash)
{
	return known_by(hash, set->known_mask, known_base(set, set->known_generation));
}

static __always_inline void known_mark(const struct settings *set, __u64 hash)
{
	__u64 bits = known_bits(hash);

	for (__u32 generation = 0; generation < 2; generation++) {
		struct known_word *word = known_word(hash, set->known_mask, known_base(set, generation));

		/* Look before writing: a marked word stays a shared cache line. */
		if (word && (word->bits & bits) != bits)
			__sync_fetch_and_or(&word->bits, bits);
	}
}

/* What known_note.settled says of a tuple: never 0. The note's place says the rest of the hash. */
static __always_inline __u32 known_settled(__u64 hash)
{
	return (__u32)(hash >> 32) | 1;
}

/*
 * Notes that no cookie is on its way to the tuple (abi.h). Marked first: a SYN of a tuple that is not known
 * is answered without a look at its note.
 */
static __always_inline void known_settle(const struct settings *set, struct known_note *note, __u64 hash)
{
	if (!note || note->settled == known_settled(hash))
		return;
	known_mark(set, hash);
	note->settled = known_settled(hash);
	/* If we were held up in between, the mark may be gone. From here on, unsettled is who has none. */
	known_mark(set, hash);
}

static __always_inline bool known_is_settled(const struct known_note *note, __u64 hash)
{
	return note && note->settled == known_settled(hash);
}

/* What it says of a tuple that was promoted, and is not settled yet: never 0, nor what it says of that. */
static __always_inline __u32 known_promoted(__u64 hash)
{
	return (__u32)(hash >> 32) & ~1U ?: 2;
}

/* Notes that a segment of the tuple has been given its request socket. */
static __always_inline void known_promote(struct known_note *note, __u64 hash)
{
	if (note && note->settled != known_settled(hash))
		note->settled = known_promoted(hash);
}

static __always_inline bool known_is_promoted(const struct known_note *note, __u64 hash)
{
	return note && note->settled == known_promoted(hash);
}

/* The connection is gone: the tuple's next handshake may be answered elsewhere. */
static __always_inline void known_unsettle(struct known_note *note, __u64 hash)
{
	if (known_is_settled(note, hash) || known_is_promoted(note, hash))
		note->settled = 0;
}

#endif
