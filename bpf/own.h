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
static __always_inline bool address_own(const struct address *address, const struct settings *set)
{
	const __u64 hash = address_hash(address, set->hash_seed), bits = known_bits(hash);
	const __u32 index = hash & set->own_mask;
	const struct own_word *word = bpf_map_lookup_elem(&own_addresses, &index);

	return word && (word->bits & bits) == bits;
}

#endif
