/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The budget of answers for a source prefix: whoever spoofs the addresses of one network shall not have it
 * littered with our SYN-ACKs. Off unless asked for.
 */
#ifndef XDPH_PREFIX_H
#define XDPH_PREFIX_H

#include "maps.h"

enum {
	PREFIX_IPV4 = 24, /* the longest that is announced to others, as a rule */
	PREFIX_IPV6 = 56, /* what a household or an office is given (RFC 6177) */
};

/* The prefix that the remote end belongs to, and nothing else of its tuple. */
static __always_inline void prefix_of(const struct tuple *tuple, struct tuple *prefix)
{
	const int ipv4 = address_is_ipv4(&tuple->remote);

	__builtin_memset(prefix, 0, sizeof(*prefix));
	if (ipv4) {
		address_map_ipv4(&prefix->remote,
				 be32_from(host32(tuple->remote.word[3]) & ~0U << (32 - PREFIX_IPV4)));
		return;
	}
	prefix->remote.word[0] = tuple->remote.word[0];
	prefix->remote.word[1] = be32_from(host32(tuple->remote.word[1]) & ~0U << (64 - PREFIX_IPV6));
}

/*
 * Whether this CPU has answered as many SYNs from there in this second as it may. One in prefix_share is
 * answered all the same: who really is there gets through, if later.
 */
static __always_inline bool prefix_spent(const struct settings *set, const struct tuple *tuple,
					 __u64 now_ms)
{
	struct sketch_cell *first, *other;
	struct tuple prefix;
	__u32 index, count;
	__u64 hash;

	if (!set->prefix_budget)
		return false;
	prefix_of(tuple, &prefix);
	hash = tuple_hash(&prefix, set->hash_seed);
	index = sketch_index(hash, 0);
	first = bpf_map_lookup_elem(&prefixes, &index);
	index = sketch_index(hash, 1);
	other = bpf_map_lookup_elem(&prefixes, &index);
	if (!first || !other)
		return false;
	count = sketch_count(first, other, (__u32)(now_ms >> 10));
	return count > set->prefix_budget && (!set->prefix_share || count % set->prefix_share);
}

#endif
