/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Byte order for code that is built for BPF and for the host alike. Values that stand in a header are
 * typed __be16 and __be32, so that sparse (make sparse) finds a forgotten conversion.
 */
#ifndef XDPH_BYTEORDER_H
#define XDPH_BYTEORDER_H

#include <linux/types.h>

#ifdef __CHECKER__
#define XDPH_FORCE __attribute__((force))
#else
#define XDPH_FORCE
#endif

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define XDPH_SWAP16(x) __builtin_bswap16(x)
#define XDPH_SWAP32(x) __builtin_bswap32(x)
#else
#define XDPH_SWAP16(x) (x)
#define XDPH_SWAP32(x) (x)
#endif

static __always_inline __be16 be16_from(__u16 host)
{
	return (XDPH_FORCE __be16)XDPH_SWAP16(host);
}

static __always_inline __be32 be32_from(__u32 host)
{
	return (XDPH_FORCE __be32)XDPH_SWAP32(host);
}

static __always_inline __u16 host16(__be16 wire)
{
	return XDPH_SWAP16((XDPH_FORCE __u16)wire);
}

static __always_inline __u32 host32(__be32 wire)
{
	return XDPH_SWAP32((XDPH_FORCE __u32)wire);
}

/* The bits of a wire value as they lie in memory: for hashing and for sums, where order is immaterial. */
static __always_inline __u16 raw16(__be16 wire)
{
	return (XDPH_FORCE __u16)wire;
}

static __always_inline __u32 raw32(__be32 wire)
{
	return (XDPH_FORCE __u32)wire;
}

#endif
