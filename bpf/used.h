/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which cookies have promoted: a right cookie must make one connection and never a second one, or a stale
 * copy of a first segment would deliver its request again. A promotion that the stack then dropped (a
 * firewall, no memory) must be repeatable, though. So a cookie is first noted as tried, and as made once
 * its connection is seen to exist: when the new socket sends its first segment, or when a lookup finds it.
 *
 * A bucket is chosen by the tuple, so that an outgoing segment, which does not know the handshake's ISNs,
 * finds it; a second bucket takes what the first has no room for.
 */
#ifndef XDPH_USED_H
#define XDPH_USED_H

#include "maps.h"

enum used_state {
	USED_NEVER,
	USED_TRIED,
	USED_CONNECTED, /* it has made its connection */
};

static __always_inline __u64 used_tuple_tag(__u64 hash)
{
	return hash >> 40 & USED_TAG_MASK;
}

static __always_inline __u64 used_isn_tag(__u32 client_isn, __u32 server_isn)
{
	__u64 mixed = ((__u64)client_isn << 32 | server_isn) * 0x9e3779b97f4a7c15ULL;

	return mixed >> 40 & USED_TAG_MASK;
}

static __always_inline struct used_bucket *used_bucket(const struct settings *set, __u64 hash, int second)
{
	/* Its neighbour: one bucket is a cache line, and processors fetch lines in pairs. */
	__u32 index = (hash ^ second) & set->used_mask;

	return bpf_map_lookup_elem(&used_cookies, &index);
}

/* What follows are global functions, so that the verifier looks at each of them once. */

static __always_inline int used_expired(const struct settings *set, __u64 way, __u64 now_ms)
{
	__u32 age = ((now_ms >> 10) - (way >> USED_TIME_SHIFT)) & USED_TIME_MASK;

	/* A cookie lives two epochs at the most; one unit more for the rounding. */
	return age > (2 * set->epoch_ms >> 10) + 1;
}

/* Whether the cookie of this handshake has been tried, or has made its connection. */
__noinline int used_look(__u64 hash, __u64 isn_tag, __u64 now_ms)
{
	const struct settings *set = bpf_map_lookup_elem(&settings, &zero);
	const __u64 tag = used_tuple_tag(hash) << USED_TUPLE_SHIFT | isn_tag << USED_ISN_SHIFT;

	if (!set)
		return USED_NEVER;
	for (int second = 0; second < 2; second++) {
		struct used_bucket *bucket = used_bucket(set, hash, second);

		if (!bucket)
			continue;
		for (int i = 0; i < USED_WAYS; i++) {
			barrier_var(i);
			__u64 way = bucket->way[i];

			if (way && way >> USED_ISN_SHIFT == tag >> USED_ISN_SHIFT &&
			    !used_expired(set, way, now_ms))
				return way & USED_MADE ? USED_CONNECTED : USED_TRIED;
		}
	}
	return USED_NEVER;
}

/* Notes that a cookie is tried. Returns 1 if an unexpired one had to give way. */
__noinline int used_try(__u64 hash, __u64 isn_tag, __u64 now_ms)
{
	const struct settings *set = bpf_map_lookup_elem(&settings, &zero);
	const __u64 way = used_tuple_tag(hash) << USED_TUPLE_SHIFT | isn_tag << USED_ISN_SHIFT |
			  (now_ms >> 10 & USED_TIME_MASK) << USED_TIME_SHIFT;
	struct used_bucket *bucket = NULL;

	if (!set)
		return 0;
	for (int second = 0; second < 2; second++) {
		bucket = used_bucket(set, hash, second);
		if (!bucket)
			return 0;
		for (int i = 0; i < USED_WAYS; i++) {
			barrier_var(i);
			__u64 old = bucket->way[i];

			/* The same handshake tried again, or a way that is free. */
			if (old && old >> USED_ISN_SHIFT != way >> USED_ISN_SHIFT &&
			    !used_expired(set, old, now_ms))
				continue;
			if (__sync_val_compare_and_swap(&bucket->way[i], old, way) == old)
				return 0;
		}
	}
	bucket->way[now_ms & (USED_WAYS - 1)] = way;
	return 1;
}

/*
 * The connection of @hash's tuple exists: whatever was tried on this tuple has made it. An older trial of
 * the same tuple that was dropped counts as made as well: the client has moved on from it.
 */
__noinline int used_made(__u64 hash)
{
	const struct settings *set = bpf_map_lookup_elem(&settings, &zero);

	if (!set)
		return 0;
	for (int second = 0; second < 2; second++) {
		struct used_bucket *bucket = used_bucket(set, hash, second);

		if (!bucket)
			continue;
		for (int i = 0; i < USED_WAYS; i++) {
			barrier_var(i);
			__u64 way = bucket->way[i];

			if (way && way >> USED_TUPLE_SHIFT == used_tuple_tag(hash) && !(way & USED_MADE))
				__sync_fetch_and_or(&bucket->way[i], USED_MADE);
		}
	}
	return 0;
}

#endif
