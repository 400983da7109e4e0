/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The Internet checksum (RFC 1071). Sums are taken over 16- and 32-bit words as they lie in memory: the
 * one's complement sum does not depend on byte order, so nothing is swapped.
 */
#ifndef XDPH_CHECKSUM_H
#define XDPH_CHECKSUM_H

#include <linux/types.h>

#include "byteorder.h"

/* Folds a sum of words into 16 bits. The result is the sum itself, not yet complemented. */
static __always_inline __u16 csum_fold_sum(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	return (__u16)sum;
}

/*
 * Whether a sum of words with the checksum among them is that of a sound header: csum_fold_sum() would be
 * 0xffff. Of fewer than 65,535 words, as any header is: the first step is spared, and the last.
 */
static __always_inline int csum_right(__u64 sum)
{
	sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
	return sum == 0xffff || sum == 2 * 0xffff;
}

/* What goes into a header's checksum field, for a sum taken with that field zero. */
static __always_inline __u16 csum_field(__u64 sum)
{
	return (__u16)~csum_fold_sum(sum);
}

/* The pseudo header of RFC 9293 section 3.1 over IPv4: addresses, protocol, length of header and data. */
static __always_inline __u64 csum_pseudo_ipv4(__be32 saddr, __be32 daddr, __u8 protocol, __u32 length)
{
	return (__u64)raw32(saddr) + raw32(daddr) + raw16(be16_from(protocol)) +
	       raw16(be16_from((__u16)length));
}

/* The pseudo header of RFC 8200 section 8.1: addresses, upper-layer length, next header. */
static __always_inline __u64 csum_pseudo_ipv6(const __be32 saddr[4], const __be32 daddr[4], __u8 nexthdr,
					      __u32 length)
{
	__u64 sum = raw32(be32_from(length)) + (__u64)raw32(be32_from(nexthdr));

	for (int i = 0; i < 4; i++)
		sum += (__u64)raw32(saddr[i]) + raw32(daddr[i]);
	return sum;
}

#endif
