// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* checksum.h against RFC 1071 and against a sum that is taken byte by byte. */
#include "checksum.h"

#include <stdio.h>
#include <string.h>

#include "random.h"
#include "report.h"

enum {
	ROUNDS = 200000,
	BYTES_MAX = 256,
};

/* RFC 1071 section 1: big-endian 16-bit words, the carries added at the end. Yields the sum. */
static __u16 naive_sum(const __u8 *byte, size_t length)
{
	__u64 sum = 0;

	for (size_t i = 0; i < length; i += 2)
		sum += (__u32)byte[i] << 8 | (i + 1 < length ? byte[i + 1] : 0);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (__u16)sum;
}

/* As the programs do it: words as they lie in memory. */
static __u64 sum32(const __u8 *byte, size_t length)
{
	__u64 sum = 0;

	for (size_t i = 0; i < length; i += 4) {
		__u32 word = 0;

		memcpy(&word, byte + i, length - i < 4 ? length - i : 4);
		sum += word;
	}
	return sum;
}

static __u16 in_memory(__u16 wire)
{
	return raw16(be16_from(wire));
}

CASE("RFC 1071 section 3: the sum of 0001 f203 f4f5 f6f7 is ddf2")
{
	const __u8 bytes[] = { 0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7 };

	EXPECT_EQ(csum_fold_sum(sum32(bytes, sizeof(bytes))), in_memory(0xddf2));
	EXPECT_EQ(csum_field(sum32(bytes, sizeof(bytes))), in_memory(0x220d));
}

CASE("an IPv4 header that everybody knows has the checksum b861")
{
	const __u8 header[20] = { 0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11,
				  0x00, 0x00, 0xc0, 0xa8, 0x00, 0x01, 0xc0, 0xa8, 0x00, 0xc7 };

	EXPECT_EQ(csum_field(sum32(header, sizeof(header))), in_memory(0xb861));
}

CASE("random data of any length sums up as it does byte by byte")
{
	uint64_t random = 1;
	__u8 bytes[BYTES_MAX];

	for (int i = 0; i < ROUNDS; i++) {
		size_t length = random_below(&random, BYTES_MAX + 1);

		random_fill(&random, bytes, length);
		if (!EXPECT_EQ(csum_fold_sum(sum32(bytes, length)), in_memory(naive_sum(bytes, length)),
			       "round %d, %zu bytes", i, length))
			return;
	}
}

CASE("data that carries most folds right")
{
	__u8 bytes[65536];

	memset(bytes, 0xff, sizeof(bytes));
	for (size_t length = 2; length <= sizeof(bytes); length += 2)
		if (!EXPECT_EQ(csum_fold_sum(sum32(bytes, length)), 0xffff, "%zu bytes of ff", length))
			return;
	EXPECT_EQ(csum_fold_sum(0), 0);
	EXPECT_EQ(csum_fold_sum(0xffffffffffffffffULL), 0xffff);
	EXPECT_EQ(csum_fold_sum(0xffffffff00000000ULL), 0xffff);
	EXPECT_EQ(csum_fold_sum(0xffffffff), 0xffff);
	EXPECT_EQ(csum_fold_sum(0x1fffe), 0xffff);
	EXPECT_EQ(csum_fold_sum(0x10000), 1);
}

CASE("64-bit sums of any value fold to what they are modulo ffff")
{
	uint64_t random = 2;

	for (int i = 0; i < ROUNDS; i++) {
		__u64 sum = random_next(&random) >> random_below(&random, 64);
		__u16 folded = csum_fold_sum(sum);

		if (!EXPECT(folded % 0xffff == sum % 0xffff && !folded == !sum, "%llx folds to %x",
			    (unsigned long long)sum, folded))
			return;
	}
}

static void put16(__u8 *byte, __u32 value)
{
	byte[0] = (__u8)(value >> 8);
	byte[1] = (__u8)value;
}

CASE("a sum of fewer than 65,535 words is right where it folds to ffff, whatever was carried")
{
	const __u64 beyond = 65535ULL << 32;
	uint64_t random = 11;

	for (int i = 0; i < ROUNDS; i++) {
		const __u64 any = (random_next(&random) >> random_below(&random, 64)) % beyond,
			    sound = any - any % 0xffff;

		EXPECT_EQ(csum_right(any), csum_fold_sum(any) == 0xffff, "%llx", (unsigned long long)any);
		EXPECT_EQ(csum_right(sound), sound != 0, "%llx", (unsigned long long)sound);
	}
	EXPECT(csum_right(beyond - 1 - 0xfffe) && csum_right(2 * 0xffff) && csum_right(0xffff) &&
	       !csum_right(0));
}

CASE("the pseudo header of IPv4 is that of RFC 9293 section 3.1")
{
	uint64_t random = 3;
	__u8 header[12];

	for (int i = 0; i < ROUNDS; i++) {
		__u32 length = random_below(&random, 65536);
		__u8 protocol = (__u8)random_next(&random);
		__be32 saddr, daddr;

		random_fill(&random, header, 8);
		memcpy(&saddr, header, 4);
		memcpy(&daddr, header + 4, 4);
		header[8] = 0;
		header[9] = protocol;
		put16(header + 10, length);
		if (!EXPECT_EQ(csum_fold_sum(csum_pseudo_ipv4(saddr, daddr, protocol, length)),
			       in_memory(naive_sum(header, sizeof(header)))))
			return;
	}
}

CASE("the pseudo header of IPv6 is that of RFC 8200 section 8.1")
{
	uint64_t random = 4;
	__u8 header[40] = {};

	for (int i = 0; i < ROUNDS; i++) {
		__u32 length = (__u32)random_next(&random);
		__u8 nexthdr = (__u8)random_next(&random);
		__be32 saddr[4], daddr[4];

		random_fill(&random, header, 32);
		memcpy(saddr, header, 16);
		memcpy(daddr, header + 16, 16);
		put16(header + 32, length >> 16);
		put16(header + 34, length);
		header[39] = nexthdr;
		if (!EXPECT_EQ(csum_fold_sum(csum_pseudo_ipv6(saddr, daddr, nexthdr, length)),
			       in_memory(naive_sum(header, sizeof(header)))))
			return;
	}
}

int main(int argc, char **argv)
{
	return report_main(argc, argv, NULL);
}
