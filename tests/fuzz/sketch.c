// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The sketch of source prefixes, through any sequence of classes and seconds: whoever is counted, is never
 * counted too low, and never higher than all that fell into one of its cells.
 */
#include "sketch.h"
#include "fuzz.h"

enum {
	CLASSES = 64,
	STEPS = 512,
};

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	static struct sketch_cell cells[SKETCH_CELLS];
	/* What earlier inputs have left is of earlier seconds. */
	static __u32 second;
	struct input input = { bytes, size };
	__u64 hash[CLASSES];
	__u32 counted[CLASSES] = {}, fell[SKETCH_CELLS / SKETCH_ROW][CLASSES] = {}, known = 0;

	second++;
	for (int step = 0; step < STEPS && input.left; step++) {
		const __u8 what = (__u8)draw_number(&input, 1);
		const __u32 class = what % CLASSES;
		struct sketch_cell *first, *other;
		__u32 count;

		/* Rows of few cells, in effect: collisions are what there is to find. */
		while (known <= class)
			hash[known++] = draw_number(&input, 1) % 8 | (draw_number(&input, 1) % 8) << 32;
		if (what >= 0xfc) {
			second++;
			memset(counted, 0, sizeof(counted));
			memset(fell, 0, sizeof(fell));
			continue;
		}
		first = &cells[sketch_index(hash[class], 0)];
		other = &cells[sketch_index(hash[class], 1)];
		require(first < cells + SKETCH_ROW && other >= cells + SKETCH_ROW &&
			other < cells + SKETCH_CELLS);
		count = sketch_count(first, other, second);
		counted[class]++;
		fell[0][hash[class] & 7]++;
		fell[1][hash[class] >> 32 & 7]++;
		require(count >= counted[class]);
		require(count <= fell[0][hash[class] & 7] && count <= fell[1][hash[class] >> 32 & 7]);
	}
	return 0;
}
