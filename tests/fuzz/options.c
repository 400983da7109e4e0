// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The option walk against the independent parser, on bytes that libFuzzer chooses; and what is written into
 * a SYN-ACK, read back by both.
 */
#include "../unit/options_reference.h"
#include "fuzz.h"

static void try_writer(struct input *input)
{
	const __u8 flags = (__u8)draw_number(input, 1);
	const struct tcp_synack_options options = {
		.tsval = (__u32)draw_number(input, 4),
		.tsecr = (__u32)draw_number(input, 4),
		.mss = (__u16)draw_number(input, 2),
		.wscale = (flags >> 3) % 15,
		.has_wscale = flags & 1,
		.has_sack = flags >> 1 & 1,
		.has_timestamps = flags >> 2 & 1,
	};
	const __u32 length = tcp_synack_options_length(&options);
	struct reference_options reference;
	struct tcp_options walk;
	__be32 words[5];

	require(tcp_synack_options_write(&options, words) * 4 == length && length <= sizeof(words));
	walk = walk_read((const unsigned char *)words, length);
	reference = reference_read((const unsigned char *)words, length);
	require(options_agree(&walk, &reference) && !walk.malformed);
	require(walk.mss == options.mss && walk.has_wscale == options.has_wscale &&
		walk.has_sack == options.has_sack && walk.has_timestamps == options.has_timestamps);
	require(!walk.has_wscale || walk.wscale == options.wscale);
	require(!walk.has_timestamps || (walk.tsval == options.tsval && walk.tsecr == options.tsecr));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct input input = { bytes, size };
	struct reference_options reference;
	struct tcp_options walk, common;

	if (size > TCP_OPTIONS_MAX)
		return 0;
	walk = walk_read(bytes, size);
	reference = reference_read(bytes, size);
	require(options_agree(&walk, &reference));
	require(options_place(&walk, bytes, size));
	require(!common_read(bytes, size, &common) ||
		(options_agree(&common, &reference) && common.tsval_at == walk.tsval_at));
	try_writer(&input);
	return 0;
}
