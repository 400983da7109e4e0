/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which cookies have promoted: a right cookie must make one connection and never a second one, or a stale
 * copy of a first segment would deliver its request again. A promotion that the stack then dropped (a
 * firewall, no memory) must be repeatable, though. So a cookie is first noted as tried, and as made once
 * its connection is seen to exist: when the new socket sends its first segment, or when a lookup finds it.
 *
 * Two pairs of buckets are chosen by the tuple, so that an outgoing segment, which does not know the
 * handshake's ISNs, finds them; the pair with more room takes the cookie. So as long as four fifths of all
 * ways are enough, none is forgotten before its time (tests/unit/known.c); above that the oldest ones are.
 *
 * While the first ways of its first bucket are not all taken, a tuple's cookies are put there: the table is
 * much larger than the processor's caches, and up to some thousand connections a second one line of it is
 * enough to look at, as a rule.
 */
#ifndef XDPH_USED_H
#define XDPH_USED_H

#include "maps.h"

enum used_state {
	USED_NEVER,
	USED_TRIED,
	USED_CONNECTED, /* it has made its connection */
};

enum used_noted {
	USED_NOTED,
	USED_NOTED_BEFORE, /* the same handshake, by us or by another CPU just now */
	USED_GAVE_WAY,	   /* and an unexpired one had to give way for it */
};

enum {
	USED_PAIR_SHIFT = 20,
	USED_PAIR = 2,
	USED_BUCKETS = 2 * USED_PAIR,
	USED_PLACES = USED_BUCKETS * USED_WAYS,
	USED_ALONE = 5, /* ways of the first bucket that are taken before those of others are */
};

static __always_inline __u64 used_tuple_tag(__u64 hash)
{
	return hash >> USED_TUPLE_SHIFT;
}

static __always_inline __u64 used_isn_tag(__u32 client_isn, __u32 server_isn)
{
	__u64 mixed = ((__u64)client_isn << 32 | server_isn) * 0x9e3779b97f4a7c15ULL;

	return mixed >> 32;
}

/* The @n-th of a tuple's buckets. Two pairs that have nothing to do with each other are seldom full both.
 */
static __always_inline struct used_bucket *used_bucket(const struct settings *set, __u64 hash, int n)
{
	/* Neighbours: one bucket is a cache line, and processors fetch lines in pairs. */
	__u32 index = ((n < USED_PAIR ? hash : hash >> USED_PAIR_SHIFT) ^ (n & 1)) & set->used_mask;

	return bpf_map_lookup_elem(&used_cookies, &index);
}

/* What follows are global functions, so that the verifier looks at each of them once. */

/* For how long a way has been taken, in its units, and one more: another CPU's clock may be a little ahead.
 */
static __always_inline __u32 used_age(__u64 way, __u64 now_ms)
{
	return ((now_ms >> 10) + 1 - (way >> USED_TIME_SHIFT)) & USED_TIME_MASK;
}

/* A cookie lives two epochs at the most; one unit more for the rounding. */
static __always_inline __u32 used_life(const struct settings *set)
{
	return (2 * set->epoch_ms >> 10) + 2;
}

static __always_inline int used_expired(const struct settings *set, __u64 way, __u64 now_ms)
{
	return used_age(way, now_ms) > used_life(set);
}

/*
 * Whether a cookie is to be put in this bucket, the first one of a pair, and in none behind it: the ways
 * are taken in their order, and not all of the first ones are.
 */
static __always_inline bool used_alone(const struct settings *set, const struct used_bucket *bucket,
				       __u64 now_ms)
{
	const __u64 last = bucket->way[USED_ALONE - 1];

	return !last || used_expired(set, last, now_ms);
}

/*
 * Whether no cookie that is still good lies behind this bucket, the first one of a pair. When one was put
 * there, the last of the first ways was taken by one that was good, so for two lives from then on this one
 * is no older.
 */
static __always_inline bool used_none_behind(const struct settings *set, const struct used_bucket *bucket,
					     __u64 now_ms)
{
	const __u64 last = bucket->way[USED_ALONE - 1];

	return !last || used_age(last, now_ms) > 2 * used_life(set);
}

/* Whether the cookie of this handshake has been tried, or has made its connection. */
__noinline int used_look(__u64 hash, __u64 isn_tag, __u64 now_ms)
{
	const struct settings *set = bpf_map_lookup_elem(&settings, &zero);
	const __u64 tag = used_tuple_tag(hash) << USED_TUPLE_SHIFT | isn_tag << USED_ISN_SHIFT;

	if (!set)
		return USED_NEVER;
	for (int n = 0; n < USED_BUCKETS; n++) {
		barrier_var(n);
		struct used_bucket *bucket = used_bucket(set, hash, n);

		if (!bucket)
			continue;
		for (int i = 0; i < USED_WAYS; i++) {
			__u64 way = bucket->way[i];

			if (!way)
				break;
			if (way >> USED_ISN_SHIFT == tag >> USED_ISN_SHIFT &&
			    !used_expired(set, way, now_ms))
				return way & USED_MADE ? USED_CONNECTED : USED_TRIED;
		}
		if (!(n % USED_PAIR) && used_none_behind(set, bucket, now_ms))
			break;
	}
	return USED_NEVER;
}

/* How many ways of a pair of buckets are free. */
__noinline int used_room(__u64 hash, int pair, __u64 now_ms)
{
	const struct settings *set = bpf_map_lookup_elem(&settings, &zero);
	int room = 0;

	if (!set)
		return 0;
	for (int n = 0; n < USED_PAIR; n++) {
		struct used_bucket *bucket = used_bucket(set, hash, pair * USED_PAIR + n);

		if (!bucket)
			continue;
		for (int i = 0; i < USED_WAYS; i++) {
			room += !bucket->way[i] || used_expired(set, bucket->way[i], now_ms);
		}
	}
	return room;
}

/*
 * Which way of a bucket has been taken for the longest time: that time * USED_PLACES + its place among all
 * of the tuple's ways, turned by @turn, so that among equals it is not always the same one's turn.
 */
__noinline int used_oldest(__u64 hash, int n, __u64 now_ms, __u32 turn)
{
	const struct settings *set = bpf_map_lookup_elem(&settings, &zero);
	struct used_bucket *bucket;
	__u32 oldest = 0;

	if (!set)
		return 0;
	bucket = used_bucket(set, hash, n);
	if (!bucket)
		return 0;
	for (int i = 0; i < USED_WAYS; i++) {
		barrier_var(i);
		__u32 place = ((n * USED_WAYS + i) ^ turn) & (USED_PLACES - 1);
		__u32 at = used_age(bucket->way[i], now_ms) * USED_PLACES + place;

		if (at > oldest)
			oldest = at;
	}
	return oldest;
}

enum used_taken {
	USED_NO_ROOM,
	USED_TAKEN,
	USED_TAKEN_BEFORE, /* by another CPU, for the same cookie */
};

/* Takes a free way of a bucket. Yields enum used_taken. */
__noinline int used_take(__u64 hash, int n, __u64 way, __u64 now_ms)
{
	const struct settings *set = bpf_map_lookup_elem(&settings, &zero);
	struct used_bucket *bucket;

	if (!set)
		return USED_NO_ROOM;
	bucket = used_bucket(set, hash, n);
	if (!bucket)
		return USED_NO_ROOM;
	for (int i = 0; i < USED_WAYS; i++) {
		barrier_var(i);
		__u64 old = bucket->way[i], found;

		if (old && !used_expired(set, old, now_ms)) {
			if (old >> USED_ISN_SHIFT == way >> USED_ISN_SHIFT)
				return USED_TAKEN_BEFORE;
			continue;
		}
		found = __sync_val_compare_and_swap(&bucket->way[i], old, way);
		if (found == old)
			return USED_TAKEN;
		if (found >> USED_ISN_SHIFT == way >> USED_ISN_SHIFT)
			return USED_TAKEN_BEFORE;
	}
	return USED_NO_ROOM;
}

/* Notes that a cookie is tried. */
__noinline int used_try(__u64 hash, __u64 isn_tag, __u64 now_ms)
{
	const struct settings *set = bpf_map_lookup_elem(&settings, &zero);
	const __u64 way = used_tuple_tag(hash) << USED_TUPLE_SHIFT | isn_tag << USED_ISN_SHIFT |
			  (now_ms >> 10 & USED_TIME_MASK) << USED_TIME_SHIFT;
	const __u32 turn = now_ms;
	struct used_bucket *bucket;
	int first = 0, taken, oldest = 0;
	__u32 place;

	/* The moment that is noted then is the first trial's: until the cookie is over, it holds. */
	if (!set || used_look(hash, isn_tag, now_ms) != USED_NEVER)
		return USED_NOTED_BEFORE;
	bucket = used_bucket(set, hash, 0);
	if (bucket && !used_alone(set, bucket, now_ms) &&
	    used_room(hash, 1, now_ms) > used_room(hash, 0, now_ms))
		first = USED_PAIR;
	for (int n = 0; n < USED_BUCKETS; n++) {
		taken = used_take(hash, n ^ first, way, now_ms);
		if (taken)
			return taken == USED_TAKEN ? USED_NOTED : USED_NOTED_BEFORE;
	}
	for (int n = 0; n < USED_BUCKETS; n++) {
		int at = used_oldest(hash, n, now_ms, turn);

		if (at > oldest)
			oldest = at;
	}
	place = oldest ^ turn;
	bucket = used_bucket(set, hash, place / USED_WAYS & (USED_BUCKETS - 1));
	if (!bucket)
		return USED_NOTED;
	bucket->way[place & (USED_WAYS - 1)] = way;
	return USED_GAVE_WAY;
}

/*
 * The connection of @hash's tuple exists: whatever was tried on this tuple has made it. An older trial of
 * the same tuple that was dropped counts as made as well: the client has moved on from it.
 */
__noinline int used_made(__u64 hash, __u64 now_ms)
{
	const struct settings *set = bpf_map_lookup_elem(&settings, &zero);

	if (!set)
		return 0;
	for (int n = 0; n < USED_BUCKETS; n++) {
		barrier_var(n);
		struct used_bucket *bucket = used_bucket(set, hash, n);

		if (!bucket)
			continue;
		for (int i = 0; i < USED_WAYS; i++) {
			__u64 way = bucket->way[i];

			if (!way)
				break;
			if (way >> USED_TUPLE_SHIFT == used_tuple_tag(hash) && !(way & USED_MADE))
				__sync_fetch_and_or(&bucket->way[i], USED_MADE);
		}
		if (!(n % USED_PAIR) && used_none_behind(set, bucket, now_ms))
			break;
	}
	return 0;
}

#endif
