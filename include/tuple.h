/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The control information that names a connection: two addresses and two ports. The remote end is the one
 * that sent the SYN, the local one is ours; an ACK that comes in and a SYN-ACK that goes out have the same
 * tuple.
 */
#ifndef XDPH_TUPLE_H
#define XDPH_TUPLE_H

#include <linux/types.h>

#include "byteorder.h"

/* An IPv6 address, or an IPv4 one mapped into it (RFC 4291 section 2.5.5.2). Network order. */
struct address {
	__be32 word[4];
};

struct tuple {
	struct address remote;
	struct address local;
	__be16 remote_port;
	__be16 local_port;
};

static __always_inline void address_map_ipv4(struct address *address, __be32 ipv4)
{
	address->word[0] = be32_from(0);
	address->word[1] = be32_from(0);
	address->word[2] = be32_from(0xffff);
	address->word[3] = ipv4;
}

static __always_inline int address_is_ipv4(const struct address *address)
{
	return !(raw32(address->word[0]) | raw32(address->word[1])) &&
	       address->word[2] == be32_from(0xffff);
}

static __always_inline int address_equal(const struct address *a, const struct address *b)
{
	return !((raw32(a->word[0]) ^ raw32(b->word[0])) | (raw32(a->word[1]) ^ raw32(b->word[1])) |
		 (raw32(a->word[2]) ^ raw32(b->word[2])) | (raw32(a->word[3]) ^ raw32(b->word[3])));
}

/*
 * Spreads a tuple over 64 bits, for filters that are sized for the false hits of random input. @seed is
 * secret, so that nobody can choose tuples that fall together. This is no MAC: nothing is believed for it.
 */
static __always_inline __u64 tuple_hash(const struct tuple *tuple, __u64 seed)
{
	const __u64 odd = 0x9e3779b97f4a7c15ULL; /* 2^64 / golden ratio */
	__u64 hash = seed;

	hash = (hash ^ ((__u64)raw32(tuple->remote.word[3]) << 32 | raw32(tuple->local.word[3]))) * odd;
	hash ^= hash >> 32;
	hash = (hash ^ ((__u64)raw16(tuple->remote_port) << 16 | raw16(tuple->local_port))) * odd;
	hash ^= hash >> 29;
	if (!address_is_ipv4(&tuple->remote)) {
		hash = (hash ^ ((__u64)raw32(tuple->remote.word[0]) << 32 | raw32(tuple->remote.word[1]))) *
		       odd;
		hash ^= hash >> 32;
		hash = (hash ^ ((__u64)raw32(tuple->remote.word[2]) << 32 | raw32(tuple->local.word[2]))) *
		       odd;
		hash ^= hash >> 32;
		hash = (hash ^ ((__u64)raw32(tuple->local.word[0]) << 32 | raw32(tuple->local.word[1]))) *
		       odd;
		hash ^= hash >> 29;
	}
	hash *= odd;
	return hash ^ hash >> 32;
}

/* The same for an address alone. */
static __always_inline __u64 address_hash(const struct address *address, __u64 seed)
{
	const __u64 odd = 0x9e3779b97f4a7c15ULL;
	__u64 hash = seed;

	hash = (hash ^ ((__u64)raw32(address->word[3]) << 32 | raw32(address->word[2]))) * odd;
	hash ^= hash >> 32;
	if (!address_is_ipv4(address)) {
		hash = (hash ^ ((__u64)raw32(address->word[0]) << 32 | raw32(address->word[1]))) * odd;
		hash ^= hash >> 29;
	}
	hash *= odd;
	return hash ^ hash >> 32;
}

#endif
