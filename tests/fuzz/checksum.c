// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The Internet checksum against RFC 1071 taken by its word, 16 bits at a time and in network order. */
#include "checksum.h"
#include "fuzz.h"

static unsigned int plain(const uint8_t *bytes, size_t size, unsigned long sum)
{
	for (size_t i = 0; i < size; i++)
		sum += i & 1 ? bytes[i] : (unsigned long)bytes[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (unsigned int)sum;
}

/* As it lies in memory; 0 and ffff are the same number, but only what is all zeros sums up to 0. */
static bool same(__u16 sum, unsigned int expected)
{
	return host16(be16_from(sum)) == sum && raw16(be16_from((__u16)expected)) == sum;
}

static __u64 sum_words(const uint8_t *bytes, size_t size)
{
	__u64 sum = 0;
	__u32 word;

	for (; size >= 4; bytes += 4, size -= 4) {
		memcpy(&word, bytes, 4);
		sum += word;
	}
	word = 0;
	memcpy(&word, bytes, size);
	return sum + word;
}

static void try_pseudo(struct input *input)
{
	__be32 source[4], destination[4];
	const __u32 length = (__u32)draw_number(input, 3);
	const __u8 protocol = (__u8)draw_number(input, 1);
	uint8_t header[40] = {};

	draw(input, source, sizeof(source));
	draw(input, destination, sizeof(destination));
	memcpy(header, source, 4);
	memcpy(header + 4, destination, 4);
	header[9] = protocol;
	header[10] = (uint8_t)(length >> 8);
	header[11] = (uint8_t)length;
	require(same(csum_fold_sum(csum_pseudo_ipv4(source[0], destination[0], protocol, (__u16)length)),
		     plain(header, 12, 0)));
	memcpy(header, source, 16);
	memcpy(header + 16, destination, 16);
	memset(header + 32, 0, 8);
	header[33] = (uint8_t)(length >> 16);
	header[34] = (uint8_t)(length >> 8);
	header[35] = (uint8_t)length;
	header[39] = protocol;
	require(same(csum_fold_sum(csum_pseudo_ipv6(source, destination, protocol, length)),
		     plain(header, 40, 0)));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct input input = { bytes, size };
	uint8_t *copy = malloc(size + 2);
	__u64 sum;
	__u16 field;

	require(copy);
	memcpy(copy, bytes, size);
	sum = sum_words(copy, size);
	require(same(csum_fold_sum(sum), plain(copy, size, 0)));
	/* What csum_field() gives completes the sum to ffff. */
	field = csum_field(sum);
	require(size > 65536 || csum_fold_sum(sum + field) == 0xffff);
	/* Of any 64 bits, whatever they are the sum of: the same modulo ffff. */
	sum = draw_number(&input, 8);
	require(csum_fold_sum(sum) % 0xffff == sum % 0xffff && (!sum || csum_fold_sum(sum)));
	/* Of as many words as it takes. */
	sum %= 65535ULL << 32;
	require(csum_right(sum) == (csum_fold_sum(sum) == 0xffff));
	require(csum_right(sum - sum % 0xffff) == (sum >= 0xffff));
	try_pseudo(&input);
	free(copy);
	return 0;
}
