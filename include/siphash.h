/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * SipHash-2-4 (Aumasson, Bernstein: "SipHash: a fast short-input PRF", 2012), the function that the
 * kernel's own SYN cookies rest on (net/ipv4/syncookies.c).
 *
 * Fed a 64-bit word at a time. The last word carries the message's remaining bytes in its low end and the
 * message's length in its highest byte, as the paper asks; siphash_last() puts them together. Words are
 * little-endian, so on such a machine a word is what lies in memory.
 */
#ifndef XDPH_SIPHASH_H
#define XDPH_SIPHASH_H

#include <linux/types.h>

#include "byteorder.h"

struct siphash_key {
	__u64 k0;
	__u64 k1;
};

struct siphash_state {
	__u64 v0, v1, v2, v3;
};

static __always_inline __u64 siphash_rotl(__u64 x, unsigned int by)
{
	return (x << by) | (x >> (64 - by));
}

static __always_inline void siphash_round(struct siphash_state *s)
{
	s->v0 += s->v1;
	s->v1 = siphash_rotl(s->v1, 13);
	s->v1 ^= s->v0;
	s->v0 = siphash_rotl(s->v0, 32);
	s->v2 += s->v3;
	s->v3 = siphash_rotl(s->v3, 16);
	s->v3 ^= s->v2;
	s->v0 += s->v3;
	s->v3 = siphash_rotl(s->v3, 21);
	s->v3 ^= s->v0;
	s->v2 += s->v1;
	s->v1 = siphash_rotl(s->v1, 17);
	s->v1 ^= s->v2;
	s->v2 = siphash_rotl(s->v2, 32);
}

static __always_inline void siphash_start(struct siphash_state *s, const struct siphash_key *key)
{
	s->v0 = key->k0 ^ 0x736f6d6570736575ULL; /* "somepseudorandomlygeneratedbytes" */
	s->v1 = key->k1 ^ 0x646f72616e646f6dULL;
	s->v2 = key->k0 ^ 0x6c7967656e657261ULL;
	s->v3 = key->k1 ^ 0x7465646279746573ULL;
}

static __always_inline void siphash_word(struct siphash_state *s, __u64 m)
{
	s->v3 ^= m;
	siphash_round(s);
	siphash_round(s);
	s->v0 ^= m;
}

/* The last word of a message of @length bytes, of which @rest holds the length % 8 trailing ones. */
static __always_inline __u64 siphash_last(__u64 rest, __u64 length)
{
	return rest | length << 56;
}

static __always_inline __u64 siphash_finish(struct siphash_state *s)
{
	s->v2 ^= 0xff;
	siphash_round(s);
	siphash_round(s);
	siphash_round(s);
	siphash_round(s);
	return s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
}

#endif
