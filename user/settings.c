// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "settings.h"

#include "cookie.h"
#include "format.h"
#include "policy.h"

enum settings_defaults {
	CANARY_SILENCE_MS = 10000,
	CANARY_GAP_MS = 1000,
	CANARY_ANSWERS = 15,
	CANARY_PATIENCE_MS = 3000,
	/* A native handshake costs some 3 us: these budgets, 1 and 10 % of a CPU. */
	PASS_BUDGET = 4096,
	HELD_BUDGET = 32768,
	FLOOD_RATE = 2000,
	FLOOD_HOLD_MS = 5000,
	GUARD_RATE = 1000,
	FORGING_RATE = 20000, /* one in 2^26 is right: a connection an hour */
	PREFIX_SHARE = 8,
	/* Whoever reads events asks for them again long before so much has passed. */
	EVENTS_AHEAD_MS = 60000,
};

void settings_default(struct settings *set, __u32 known_words, __u32 used_buckets)
{
	*set = (struct settings){
		.layout = ABI_LAYOUT,
		.epoch_ms = COOKIE_EPOCH_MS,
		.known_mask = known_words - 1,
		.used_mask = used_buckets - 1,
		.own_mask = OWN_WORDS_LEAST - 1,
		.canary_gap_ms = CANARY_GAP_MS,
		.canary_silence_ms = CANARY_SILENCE_MS,
		.canary_answers = CANARY_ANSWERS,
		.canary_patience_ms = CANARY_PATIENCE_MS,
		.pass_budget = PASS_BUDGET,
		.held_budget = HELD_BUDGET,
		.flood_rate = FLOOD_RATE,
		.flood_hold_ms = FLOOD_HOLD_MS,
		.guard_rate = GUARD_RATE,
		.forging_rate = FORGING_RATE,
		.prefix_share = PREFIX_SHARE,
	};
}

/* *field within the bounds, or its default. Returns whether it was not. */
static bool mend(__u32 *field, __u32 least, __u32 most, __u32 otherwise)
{
	if (*field >= least && *field <= most)
		return false;
	*field = otherwise;
	return true;
}

bool settings_mend(struct settings *set, __u32 known_words, __u32 used_buckets)
{
	const __u32 flags = SETTING_CANARY_ONCE | SETTINGS_OF_PROGRAMS;
	const unsigned long long now_ms = monotonic_ms();
	struct settings usual;
	bool mended = false;

	settings_default(&usual, known_words, used_buckets);
#define MEND(field, least, most) (mended |= mend(&set->field, least, most, usual.field))
	/* The bounds of options where there are such (cmd_attach.c); else of what works. */
	MEND(epoch_ms, 1000, 3600000);
	MEND(known_mask, usual.known_mask, usual.known_mask);
	/* The programs look at this bit alone: the generation that they ask has all marks. */
	mended |= mend(&set->known_generation, 0, 1, set->known_generation & 1);
	MEND(used_mask, usual.used_mask, usual.used_mask);
	/* A power of two less one. What is put right is asked once attach has written the words to it. */
	MEND(own_mask, OWN_WORDS_LEAST - 1, set->own_mask & (set->own_mask + 1) ? 0 : OWN_WORDS - 1);
	MEND(canary_gap_ms, 1, 60000);
	MEND(canary_silence_ms, 1000, 86400000);
	MEND(canary_answers, 1, 1 << 20);
	MEND(canary_patience_ms, 1, 60000);
	/* Without a budget, SYNs are dropped that nobody but the stack can answer. */
	MEND(pass_budget, 1, ~0U);
	MEND(held_budget, 1, ~0U);
	MEND(flood_rate, 100, 10000000);
	MEND(flood_hold_ms, 10, 3600000);
	MEND(guard_rate, 1, 10000000);
	MEND(forging_rate, 100, 100000000);
	MEND(prefix_budget, 0, 10000000);
	MEND(prefix_share, 2, 1000);
	MEND(turn_ms, 0, 3600000);
#undef MEND
	if ((__u32)set->policy >= POLICIES) {
		set->policy = usual.policy;
		mended = true;
	}
	if ((__u32)set->guard >= GUARDS) {
		set->guard = usual.guard;
		mended = true;
	}
	if (set->flags & ~flags) {
		set->flags &= flags;
		mended = true;
	}
	if (set->turned_ms > now_ms) {
		set->turned_ms = 0;
		mended = true;
	}
	if (set->events_until_ms > now_ms + EVENTS_AHEAD_MS) {
		set->events_until_ms = 0;
		mended = true;
	}
	return mended;
}
