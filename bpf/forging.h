/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Somebody tries cookies. Without timestamps a blind one is right once in 2^26 times, so a flood of them
 * would make a connection every few minutes. Above a rate that layout is refused: its SYNs go to the stack,
 * whose handshakes nobody can forge so, as long as it keeps their state.
 */
#ifndef XDPH_FORGING_H
#define XDPH_FORGING_H

#include "count.h"
#include "maps.h"

enum {
	FORGING_BATCH = 32,	 /* wrong cookies that a CPU counts by itself, before it tells the others */
	FORGING_GRACE_MS = 3000, /* what was answered until now has time to come back */
	FORGING_HOLD_MS = 10000, /* since the rate was last exceeded */
	FORGING_SAMPLE = 16,	 /* one in so many segments of known tuples is looked up */
};

/* Whether handshakes without timestamps are the stack's at this moment. */
static __always_inline bool forging(__u64 now_ms)
{
	const struct forging *forging = bpf_map_lookup_elem(&forgings, &zero);

	return forging && now_ms < forging->until_ms;
}

/* The same for cookies that were made before. */
static __always_inline bool forging_refuses(__u64 now_ms)
{
	const struct forging *forging = bpf_map_lookup_elem(&forgings, &zero);

	return forging && now_ms < forging->until_ms && now_ms > forging->since_ms + FORGING_GRACE_MS;
}

/* Counts @wrong cookies without timestamps. */
static __always_inline void forging_note(struct cpu *cpu, const struct settings *set, __u64 now_ms,
					 __u32 wrong)
{
	const __u64 second = now_ms >> 10;
	struct forging *forging;
	__u32 count;

	cpu->wrong_plain += wrong;
	if (cpu->wrong_plain < FORGING_BATCH)
		return;
	count = cpu->wrong_plain;
	cpu->wrong_plain = 0;
	forging = bpf_map_lookup_elem(&forgings, &zero);
	if (!forging)
		return;
	/* Two CPUs may both begin the second: what one has counted is lost, and no more. */
	if (forging->second != second) {
		forging->second = second;
		forging->wrong = 0;
	}
	if (__sync_fetch_and_add(&forging->wrong, count) + count <= set->forging_rate)
		return;
	if (now_ms >= forging->until_ms) {
		forging->since_ms = now_ms;
		COUNT(forging_refused);
	}
	/* Now and then: it is a line that all CPUs read. */
	if (now_ms + FORGING_HOLD_MS > forging->until_ms + FORGING_HOLD_MS / 8)
		forging->until_ms = now_ms + FORGING_HOLD_MS;
}

#endif
