/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The host's own addresses, and its subnets' broadcast addresses (RFC 1122 section 3.2.1.3): whoever sends
 * from them is an impostor, and we would answer ourselves.
 */
#ifndef XDPH_OWN_H
#define XDPH_OWN_H

#include "maps.h"
#include "tuple.h"

/* Whether an address may be one of the host's own (abi.h: struct own_word). */
static __always_inline bool address_own_by(const struct address *address, __u64 seed, __u32 mask)
{
	const __u64 hash = address_hash(address, seed);
	const __u32 index = hash & mask;
	const struct own_word *word = bpf_map_lookup_elem(&own_addresses, &index);
	__u64 bits;

	/* Most are empty. */
	if (!word || !word->bits)
		return false;
	bits = known_bits(hash);
	return (word->bits & bits) == bits;
}

/* Whether it may be, by its end alone: see settings.own_ends. */
static __always_inline bool address_ends_as_own(const struct address *address, __u64 own_ends)
{
	return own_ends & own_end(address);
}

static __always_inline bool address_own(const struct address *address, const struct settings *set)
{
	return address_own_by(address, set->hash_seed, set->own_mask);
}

#endif
