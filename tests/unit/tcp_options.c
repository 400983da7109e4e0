// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* tcp_options.h: reading whatever may stand in a header, and writing what the stack would. */
#include "tcp_options.h"

#include "options_reference.h"
#include "random.h"
#include "report.h"

enum {
	ROUNDS = 2000000,
};

struct layout {
	const char *name;
	const char *bytes;
	size_t length;
	struct tcp_options found;
};

#define BYTES(text) text, sizeof(text) - 1

static const struct layout layouts[] = {
	{ "Linux",
	  BYTES("\x02\x04\x05\xb4\x04\x02\x08\x0a\x01\x02\x03\x04\0\0\0\0\x01\x03\x03\x07"),
	  { .mss = 1460,
	    .has_sack = 1,
	    .has_timestamps = 1,
	    .tsval = 0x01020304,
	    .has_wscale = 1,
	    .wscale = 7 } },
	{ "Linux without timestamps",
	  BYTES("\x02\x04\x05\xb4\x01\x01\x04\x02\x01\x03\x03\x0a"),
	  { .mss = 1460, .has_sack = 1, .has_wscale = 1, .wscale = 10 } },
	{ "Windows",
	  BYTES("\x02\x04\x05\xb4\x01\x03\x03\x08\x01\x01\x04\x02"),
	  { .mss = 1460, .has_sack = 1, .has_wscale = 1, .wscale = 8 } },
	{ "macOS",
	  BYTES("\x02\x04\x05\xb4\x01\x03\x03\x06\x01\x01\x08\x0a\xff\xfe\xfd\xfc\x00\x00\x00\x00\x04\x02"
		"\x00\x00"),
	  { .mss = 1460,
	    .has_sack = 1,
	    .has_timestamps = 1,
	    .tsval = 0xfffefdfc,
	    .has_wscale = 1,
	    .wscale = 6 } },
	{ "ACK with timestamps",
	  BYTES("\x01\x01\x08\x0a\x00\x00\x00\x01\x80\x00\x00\x02"),
	  { .has_timestamps = 1, .tsval = 1, .tsecr = 0x80000002 } },
	{ "ACK with timestamps and SACK",
	  BYTES("\x01\x01\x08\x0a\0\0\0\x01\0\0\0\x02\x01\x01\x05\x0a\x02\x04\x05\xb4\x02\x04\x05\xb4"),
	  { .has_timestamps = 1, .tsval = 1, .tsecr = 2 } },
	{ "scanner: MSS alone", BYTES("\x02\x04\x05\xb4"), { .mss = 1460 } },
	{ "empty", BYTES(""), {} },
	{ "NOPs to the brim",
	  BYTES("\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01"
		"\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01"),
	  {} },
	{ "36 NOPs and an MSS",
	  BYTES("\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01"
		"\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x02\x04\x05\xb4"),
	  { .mss = 1460 } },
	{ "38 NOPs and SACK",
	  BYTES("\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01"
		"\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x04\x02"),
	  { .has_sack = 1 } },
	{ "end at once, an MSS behind it", BYTES("\x00\x02\x04\x05\xb4\x00\x00\x00"), {} },
	{ "end behind the MSS, a scale behind that",
	  BYTES("\x02\x04\x05\xb4\x00\x03\x03\x07"),
	  { .mss = 1460 } },
	{ "length 0", BYTES("\x02\x04\x05\xb4\x05\x00\x04\x02"), { .mss = 1460, .malformed = 1 } },
	{ "length 1", BYTES("\x02\x04\x05\xb4\x05\x01\x04\x02"), { .mss = 1460, .malformed = 1 } },
	{ "kind without length at the end", BYTES("\x04\x02\x01\x02"), { .has_sack = 1 } },
	{ "MSS cut by one", BYTES("\x04\x02\x02\x04\x05"), { .has_sack = 1, .malformed = 1 } },
	{ "timestamps that end behind the header",
	  BYTES("\x02\x04\x05\xb4\x08\x0a\x00\x00\x00\x01\x00\x00"),
	  { .mss = 1460, .malformed = 1 } },
	{ "length 255", BYTES("\x02\x04\x05\xb4\xfd\xff\x04\x02"), { .mss = 1460, .malformed = 1 } },
	{ "MSS twice: the later", BYTES("\x02\x04\x05\xb4\x02\x04\x05\x78"), { .mss = 1400 } },
	{ "MSS, then MSS 0", BYTES("\x02\x04\x05\xb4\x02\x04\x00\x00"), { .mss = 1460 } },
	{ "MSS 0", BYTES("\x02\x04\x00\x00"), {} },
	{ "MSS 65535", BYTES("\x02\x04\xff\xff"), { .mss = 65535 } },
	{ "MSS of length 3", BYTES("\x02\x03\x05\x04\x02\x01\x01\x01"), { .has_sack = 1 } },
	{ "scale twice: the later",
	  BYTES("\x03\x03\x07\x03\x03\x02\x01\x01"),
	  { .has_wscale = 1, .wscale = 2 } },
	{ "scale 0", BYTES("\x03\x03\x00\x01"), { .has_wscale = 1, .wscale = 0 } },
	{ "scale 14", BYTES("\x03\x03\x0e\x01"), { .has_wscale = 1, .wscale = 14 } },
	{ "scale 15 counts as 14", BYTES("\x03\x03\x0f\x01"), { .has_wscale = 1, .wscale = 14 } },
	{ "scale 255 counts as 14", BYTES("\x03\x03\xff\x01"), { .has_wscale = 1, .wscale = 14 } },
	{ "scale of length 4", BYTES("\x03\x04\x07\x07"), {} },
	{ "SACK-permitted of length 3", BYTES("\x04\x03\x00\x01"), {} },
	{ "timestamps of length 9", BYTES("\x08\x09\0\0\0\x01\0\0\0\x01\x01\x01"), {} },
	{ "timestamps twice: the later",
	  BYTES("\x08\x0a\0\0\0\x01\0\0\0\x02\x08\x0a\0\0\0\x03\0\0\0\x04"),
	  { .has_timestamps = 1, .tsval = 3, .tsecr = 4 } },
	{ "fast open cookie",
	  BYTES("\x02\x04\x05\xb4\x22\x0a\x01\x02\x03\x04\x05\x06\x07\x08\x04\x02"),
	  { .mss = 1460, .has_sack = 1, .has_fast_open = 1 } },
	{ "fast open, a request", BYTES("\x22\x02\x02\x04\x05\xb4"), { .mss = 1460, .has_fast_open = 1 } },
	{ "fast open, a cookie of 3 bytes", BYTES("\x22\x05\x01\x02\x03"), {} },
	{ "fast open, a cookie of 4 bytes", BYTES("\x22\x06\x01\x02\x03\x04"), { .has_fast_open = 1 } },
	{ "fast open, a cookie of 16 bytes",
	  BYTES("\x22\x12\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10"),
	  { .has_fast_open = 1 } },
	{ "fast open, a cookie of 18 bytes",
	  BYTES("\x22\x14\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12"),
	  {} },
	{ "fast open, a request, then a cookie of 2 bytes", BYTES("\x22\x02\x22\x04\x01\x02"), {} },
	{ "fast open, a request, then a cookie of 3 bytes",
	  BYTES("\x22\x02\x22\x05\x01\x02\x03"),
	  { .has_fast_open = 1 } },
	{ "experimental fast open, a request", BYTES("\xfe\x04\xf9\x89"), { .has_fast_open = 1 } },
	{ "experimental fast open, a cookie",
	  BYTES("\xfe\x0c\xf9\x89\x01\x02\x03\x04\x05\x06\x07\x08"),
	  { .has_fast_open = 1 } },
	{ "another experiment", BYTES("\xfe\x06\xe2\xd4\xc3\xd9"), {} },
	{ "an experiment without a number", BYTES("\xfe\x03\xf9\x89"), {} },
	{ "MPTCP", BYTES("\x02\x04\x05\xb4\x1e\x04\x01\x01"), { .mss = 1460 } },
	{ "kind 255, experimental 253", BYTES("\xff\x02\xfd\x04\x45\x52\x04\x02"), { .has_sack = 1 } },
	{ "TCP-MD5",
	  BYTES("\x02\x04\x05\xb4\x13\x12\0\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f"),
	  { .mss = 1460, .has_signature = 1 } },
	{ "TCP-AO",
	  BYTES("\x1d\x10\x01\x02\0\0\0\0\0\0\0\0\0\0\0\0\x02\x04\x05\xb4"),
	  { .mss = 1460, .has_signature = 1 } },
	{ "TCP-MD5 of a wrong length is the stack's all the same",
	  BYTES("\x13\x02\x01\x01"),
	  { .has_signature = 1 } },
};

static bool same(const struct tcp_options *a, const struct tcp_options *b)
{
	return a->mss == b->mss && a->has_wscale == b->has_wscale && a->wscale == b->wscale &&
	       a->has_sack == b->has_sack && a->has_timestamps == b->has_timestamps &&
	       a->tsval == b->tsval && a->tsecr == b->tsecr && a->has_signature == b->has_signature &&
	       a->has_fast_open == b->has_fast_open && a->malformed == b->malformed;
}

CASE("the walk reads every layout for what it says")
{
	for (size_t i = 0; i < sizeof(layouts) / sizeof(*layouts); i++) {
		const struct layout *layout = &layouts[i];
		struct tcp_options found = walk_read((const void *)layout->bytes, layout->length);

		EXPECT(same(&found, &layout->found),
		       "%s: mss %u wscale %u/%u sack %u ts %u %u/%u signed %u fast open %u malformed %u",
		       layout->name, found.mss, found.has_wscale, found.wscale, found.has_sack,
		       found.has_timestamps, found.tsval, found.tsecr, found.has_signature,
		       found.has_fast_open, found.malformed);
	}
}

CASE("every prefix of every layout reads as the reference reads it")
{
	for (size_t i = 0; i < sizeof(layouts) / sizeof(*layouts); i++)
		for (size_t length = 0; length <= layouts[i].length; length++) {
			struct tcp_options walk = walk_read((const void *)layouts[i].bytes, length);
			struct reference_options reference = reference_read((const void *)layouts[i].bytes,
									    length);

			EXPECT(options_agree(&walk, &reference), "%s, %zu bytes", layouts[i].name, length);
		}
}

/* Random options that are mostly in order: pure noise ends at its first impossible length. */
static size_t random_options(uint64_t *random, __u8 *bytes)
{
	static const __u8 kinds[] = { 0, 1, 1, 2, 3, 4, 5, 8, 19, 29, 30, 34, 254 };
	static const __u8 lengths[] = { 2, 4, 3, 2, 10, 10, 18, 4, 12, 2, 2 };
	size_t size = random_below(random, TCP_OPTIONS_MAX + 1), at = 0;

	random_fill(random, bytes, size);
	while (at < size && random_below(random, 16)) {
		__u32 pick = random_below(random, sizeof(kinds));

		bytes[at] = kinds[pick];
		if (pick < 3) {
			at++;
			continue;
		}
		if (at + 1 < size && random_below(random, 8))
			bytes[at + 1] = lengths[pick - 3 + (pick < 8 ? 1 : 0)];
		else if (at + 1 < size)
			bytes[at + 1] %= 12;
		at += at + 1 < size && bytes[at + 1] > 1 ? bytes[at + 1] : 2;
	}
	return size;
}

CASE("random options read as the reference reads them")
{
	__u8 bytes[TCP_OPTIONS_MAX];
	uint64_t random = 5;
	long seen[6] = {};

	for (int i = 0; i < ROUNDS; i++) {
		size_t length = random_options(&random, bytes);
		struct tcp_options walk = walk_read(bytes, length);
		struct reference_options reference = reference_read(bytes, length);

		if (!EXPECT(options_agree(&walk, &reference), "round %d", i))
			return;
		seen[0] += !!walk.mss;
		seen[1] += walk.has_wscale;
		seen[2] += walk.has_sack;
		seen[3] += walk.has_timestamps;
		seen[4] += walk.has_signature;
		seen[5] += walk.has_fast_open;
	}
	for (int i = 0; i < 6; i++)
		EXPECT(seen[i] > ROUNDS / 50, "option %d seen %ld times only", i, seen[i]);
}

CASE("the layouts of common systems are read the quick way, and whatever is read so, as by the walk")
{
	static const char *const common[] = { "Linux",	  "Linux without timestamps", "Windows",
					      "macOS",	  "scanner: MSS alone",	      "MSS 0",
					      "MSS 65535" };
	const size_t commons = sizeof(common) / sizeof(*common);
	struct tcp_options found, walk;
	uint64_t random = 8;
	long quick = 0;

	for (size_t i = 0; i < sizeof(layouts) / sizeof(*layouts); i++) {
		bool is_common = false;

		for (size_t k = 0; k < commons; k++)
			is_common |= !strcmp(layouts[i].name, common[k]);
		EXPECT_EQ(common_read((const void *)layouts[i].bytes, layouts[i].length, &found), is_common,
			  "%s", layouts[i].name);
		EXPECT(!is_common || same(&found, &layouts[i].found), "%s", layouts[i].name);
	}
	/* Now with some bytes of any value. */
	for (int i = 0; i < ROUNDS; i++) {
		const struct layout *layout = &layouts[random_below(&random, 4)];
		__u8 bytes[TCP_OPTIONS_MAX];

		memcpy(bytes, layout->bytes, layout->length);
		for (__u32 k = random_below(&random, 3); k; k--)
			bytes[random_below(&random, (__u32)layout->length)] = (__u8)random_next(&random);
		if (!common_read(bytes, layout->length, &found))
			continue;
		quick++;
		walk = walk_read(bytes, layout->length);
		if (!EXPECT(same(&found, &walk), "%s, round %d", layout->name, i))
			return;
	}
	EXPECT(quick > ROUNDS / 4 && quick < ROUNDS, "%ld of %d", quick, ROUNDS);
}

CASE("the walk ends within 40 steps and never reads behind the header")
{
	struct tcp_options_walk walk;
	uint64_t random = 6;
	int steps;

	for (int i = 0; i < ROUNDS / 10; i++) {
		memset(&walk, 0, sizeof(walk));
		/* An MSS waits behind the end: nobody may find it. */
		memset(walk.bytes, TCP_OPTION_NOP, sizeof(walk.bytes));
		walk.length = 20 + random_below(&random, TCP_OPTIONS_MAX + 1);
		memcpy(walk.bytes + walk.length, "\x02\x04\x05\xb4", 4);
		walk.at = 20;
		for (steps = 0; steps < TCP_OPTIONS_MAX && !tcp_options_step(&walk); steps++)
			;
		EXPECT(walk.at == walk.length && !walk.found.mss, "length %u: at %u, mss %u", walk.length,
		       walk.at, walk.found.mss);
	}
}

static const struct {
	const char *bytes;
	size_t length;
} written[8] = {
	/* By what is set: 1 timestamps, 2 SACK, 4 window scale. As Linux sends it. */
	{ BYTES("\x02\x04\x05\xa0") },
	{ BYTES("\x02\x04\x05\xa0\x01\x01\x08\x0a\x11\x22\x33\x44\x55\x66\x77\x88") },
	{ BYTES("\x02\x04\x05\xa0\x01\x01\x04\x02") },
	{ BYTES("\x02\x04\x05\xa0\x04\x02\x08\x0a\x11\x22\x33\x44\x55\x66\x77\x88") },
	{ BYTES("\x02\x04\x05\xa0\x01\x03\x03\x09") },
	{ BYTES("\x02\x04\x05\xa0\x01\x01\x08\x0a\x11\x22\x33\x44\x55\x66\x77\x88\x01\x03\x03\x09") },
	{ BYTES("\x02\x04\x05\xa0\x01\x01\x04\x02\x01\x03\x03\x09") },
	{ BYTES("\x02\x04\x05\xa0\x04\x02\x08\x0a\x11\x22\x33\x44\x55\x66\x77\x88\x01\x03\x03\x09") },
};

CASE("a SYN-ACK's options are written as the stack writes them, byte for byte")
{
	for (unsigned int set = 0; set < 8; set++) {
		const struct tcp_synack_options options = {
			.mss = 1440,
			.has_timestamps = set & 1,
			.tsval = 0x11223344,
			.tsecr = 0x55667788,
			.has_sack = set >> 1 & 1,
			.has_wscale = set >> 2 & 1,
			.wscale = 9,
		};
		__be32 words[5];
		__u32 count;

		memset(words, 0xee, sizeof(words));
		count = tcp_synack_options_write(&options, words);
		EXPECT_EQ(count * 4, written[set].length, "choice %u", set);
		EXPECT_EQ(tcp_synack_options_length(&options), written[set].length, "choice %u", set);
		EXPECT_MEM(words, written[set].bytes, written[set].length, "choice %u", set);
	}
}

CASE("what is written into a SYN-ACK reads back, for all choices and any values")
{
	uint64_t random = 7;

	for (int i = 0; i < ROUNDS / 10; i++) {
		const struct tcp_synack_options options = {
			.mss = (__u16)(random_next(&random) | 1),
			.has_timestamps = i & 1,
			.tsval = (__u32)random_next(&random),
			.tsecr = (__u32)random_next(&random),
			.has_sack = i >> 1 & 1,
			.has_wscale = i >> 2 & 1,
			.wscale = (__u8)random_below(&random, TCP_WINDOW_SCALE_MAX + 1),
		};
		__be32 words[5];
		__u32 count = tcp_synack_options_write(&options, words);
		struct tcp_options read = walk_read((const void *)words, count * 4);
		const struct tcp_options expected = {
			.mss = options.mss,
			.has_timestamps = options.has_timestamps,
			.tsval = options.has_timestamps ? options.tsval : 0,
			.tsecr = options.has_timestamps ? options.tsecr : 0,
			.has_sack = options.has_sack,
			.has_wscale = options.has_wscale,
			.wscale = options.has_wscale ? options.wscale : 0,
		};

		if (!EXPECT(same(&read, &expected), "round %d", i))
			return;
	}
}

int main(int argc, char **argv)
{
	return report_main(argc, argv, NULL);
}
