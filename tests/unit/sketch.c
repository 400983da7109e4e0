// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The sketch that counts source prefixes: never too low, too high by how much at what load. */
#include <stdio.h>
#include <string.h>

#include "random.h"
#include "report.h"
#include "sketch.h"

static uint64_t state = 1;
static struct sketch_cell cells[SKETCH_CELLS];

static __u32 count(__u64 hash, __u32 second)
{
	return sketch_count(&cells[sketch_index(hash, 0)], &cells[sketch_index(hash, 1)], second);
}

CASE("alone, a class is counted exactly, and anew in every second")
{
	memset(cells, 0, sizeof(cells));
	for (__u32 second = 7; second < 10; second++)
		for (__u32 i = 1; i <= 1000; i++)
			EXPECT_EQ(count(0x123456789abcdef0, second), i);
	EXPECT(sketch_index(~0ULL, 0) < SKETCH_ROW);
	EXPECT(sketch_index(~0ULL, 1) < SKETCH_CELLS && sketch_index(~0ULL, 1) >= SKETCH_ROW);
}

CASE("among others a class is never counted too low")
{
	enum { CLASSES = 500 };
	static __u32 true_count[CLASSES];
	__u64 hash[CLASSES];

	memset(cells, 0, sizeof(cells));
	for (int i = 0; i < CLASSES; i++)
		hash[i] = random_next(&state);
	for (int i = 0; i < 200000; i++) {
		const __u32 class = random_below(&state, CLASSES);

		/* And some that come once. */
		count(random_next(&state), 1);
		EXPECT(count(hash[class], 1) >= ++true_count[class]);
	}
}

CASE("a million random sources a second count some hundred to a class that is none of theirs, not more")
{
	__u32 most = 0;

	memset(cells, 0, sizeof(cells));
	/* More than once: nothing of a second may remain in the next. */
	for (__u32 second = 1; second <= 3; second++)
		for (int i = 0; i < 1000000; i++)
			count(random_next(&state), second);
	for (int i = 0; i < 1000; i++) {
		const __u64 hash = random_next(&state);
		const __u32 first = cells[sketch_index(hash, 0)].count;
		const __u32 other = cells[sketch_index(hash, 1)].count;
		const __u32 least = first < other ? first : other;

		most = least > most ? least : most;
	}
	printf("# at most %u\n", most);
	/* Without conservative update it would be 1,000,000 / 8192 = 122 on average. */
	EXPECT(most < 100, "%u", most);
}

int main(int argc, char **argv)
{
	return report_main(argc, argv, NULL);
}
