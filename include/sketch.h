/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Counts, second by second, what falls into classes of which there may be any number, in memory of a fixed
 * size: a count-min sketch of two rows (Cormode and Muthukrishnan, 2005) with conservative update (Estan
 * and Varghese, 2002). A class shares its cells with others, so it may be counted too high, never too low.
 */
#ifndef XDPH_SKETCH_H
#define XDPH_SKETCH_H

#include <linux/types.h>

enum sketch {
	SKETCH_ROW = 8192, /* cells of a row, a power of two */
	SKETCH_CELLS = 2 * SKETCH_ROW,
};

struct sketch_cell {
	__u32 second; /* the one that is counted; a cell of another second is empty */
	__u32 count;
};

/* Where the class of @hash has its cell in row 0 or 1. */
static __always_inline __u32 sketch_index(__u64 hash, int row)
{
	return row ? SKETCH_ROW + (hash >> 32 & (SKETCH_ROW - 1)) : hash & (SKETCH_ROW - 1);
}

/* Counts one more for the class whose cells these are. Returns how many it has in @second, or more. */
static __always_inline __u32 sketch_count(struct sketch_cell *first, struct sketch_cell *other,
					  __u32 second)
{
	__u32 count;

	if (first->second != second)
		*first = (struct sketch_cell){ .second = second };
	if (other->second != second)
		*other = (struct sketch_cell){ .second = second };
	count = (first->count < other->count ? first->count : other->count) + 1;
	/* A cell that is higher already counts others as well, and need not count this. */
	if (first->count < count)
		first->count = count;
	if (other->count < count)
		other->count = count;
	return count;
}

#endif
