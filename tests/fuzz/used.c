// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The tables of used cookies and of known tuples, small ones, through any sequence of what the programs do
 * to them: what was noted is known for as long as a cookie lives, or was said to give way.
 */
#include "abi.h"
#include "cookie.h"
#include "fuzz.h"

/* As in tests/unit/known.c. */
#define XDPH_MAPS_H
#define barrier_var(var) __asm__ volatile("" : "+r"(var))
#define __noinline	 static __attribute__((noinline))

enum {
	WORDS = 8,
	BUCKETS = 4,
	CONNECTIONS = 64, /* that may be in play */
	STEPS = 512,
	LIFE_MS = 2 * COOKIE_EPOCH_MS,
};

static struct settings settings = {
	.epoch_ms = COOKIE_EPOCH_MS,
	.known_mask = WORDS - 1,
	.used_mask = BUCKETS - 1,
};
static struct known_word words[2][WORDS], *known_tuples = words[0];
static struct known_note notes[WORDS * KNOWN_NOTES_A_WORD], *known_notes = notes;
static struct used_bucket buckets[BUCKETS], *used_cookies = buckets;
static const __u32 zero = 0;

static inline void *lookup_settings(void)
{
	return &settings;
}

#define bpf_map_lookup_elem(map, key)                                                                      \
	_Generic((map),                                                                                    \
		struct settings *: lookup_settings(),                                                      \
		struct known_word **: (void *)&known_tuples[*(key)],                                       \
		struct known_note **: (void *)&known_notes[*(key)],                                        \
		struct used_bucket **: (void *)&used_cookies[*(key)])

#pragma clang diagnostic ignored "-Wunused-function"
#include "../../bpf/known.h"
#include "../../bpf/used.h"

static struct {
	__u64 tried_ms; /* 0: never, or it was said to be forgotten */
	bool made;
	bool made_perhaps; /* by another one's tuple with the same tag */
	bool marked[2];
} model[CONNECTIONS];

static __u64 hash_of(unsigned int connection)
{
	/* A hash of 0 and ISNs of 0 would look like an empty way: nobody has such a seed. */
	const struct tuple tuple = { .remote_port = be16_from((__u16)(connection + 1)) };

	return tuple_hash(&tuple, settings.hash_seed);
}

static __u64 isn_of(unsigned int connection)
{
	return used_isn_tag(connection * 7919, connection + 1);
}

/* Notes a cookie, and in the model what is then known. */
static void try_cookie(unsigned int connection, __u64 hash, __u64 isn, __u64 now_ms)
{
	const int noted = used_try(hash, isn, now_ms);

	if (noted == USED_NOTED_BEFORE) {
		/* The first trial's moment holds. If its time is over by the millisecond, nobody knows. */
		if (now_ms - model[connection].tried_ms > LIFE_MS)
			model[connection].tried_ms = 0;
		return;
	}
	/* One had to give way, nobody knows which. */
	for (unsigned int i = 0; noted == USED_GAVE_WAY && i < CONNECTIONS; i++)
		model[i].tried_ms = 0;
	model[connection].tried_ms = now_ms;
	model[connection].made = model[connection].made_perhaps = false;
}

static void make_cookies(unsigned int connection, __u64 hash, __u64 now_ms)
{
	used_made(hash, now_ms);
	model[connection].made |= model[connection].tried_ms != 0;
	for (unsigned int i = 0; i < CONNECTIONS; i++)
		if (i != connection && used_tuple_tag(hash_of(i)) == used_tuple_tag(hash))
			model[i].made_perhaps = true;
}

static void step(struct input *input, __u64 *now_ms)
{
	const unsigned int what = (unsigned int)draw_number(input, 1), generation = what >> 3 & 1;
	const unsigned int c = (unsigned int)draw_number(input, 1) % CONNECTIONS;
	const __u64 hash = hash_of(c), isn = isn_of(c);
	int found;

	switch (what & 7) {
	case 0:
	case 1:
	case 2: try_cookie(c, hash, isn, *now_ms); break;
	case 3: make_cookies(c, hash, *now_ms); break;
	case 4: *now_ms += draw_number(input, 2); break;
	case 5:
		known_mark(&settings, hash);
		model[c].marked[0] = model[c].marked[1] = true;
		break;
	case 6:
		settings.known_generation = generation;
		known_settle(&settings, known_note(&settings, hash), hash);
		model[c].marked[0] = model[c].marked[1] = true;
		break;
	default: /* a generation is emptied */
		for (int i = 0; i < WORDS; i++)
			words[generation][i].bits = 0;
		for (int i = 0; i < WORDS * KNOWN_NOTES_A_WORD; i++)
			notes[i].settled = 0;
		for (int i = 0; i < CONNECTIONS; i++)
			model[i].marked[generation] = false;
	}
	found = used_look(hash, isn, *now_ms);
	if (model[c].tried_ms && *now_ms - model[c].tried_ms <= LIFE_MS)
		require(found == (model[c].made ? USED_CONNECTED : USED_TRIED) ||
			(found == USED_CONNECTED && model[c].made_perhaps));
	require(!model[c].marked[settings.known_generation & 1] || known(&settings, hash));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct input input = { bytes, size };
	__u64 now_ms = 1 + draw_number(&input, 5);

	memset(words, 0, sizeof(words));
	memset(notes, 0, sizeof(notes));
	memset(buckets, 0, sizeof(buckets));
	memset(model, 0, sizeof(model));
	settings.known_generation = 0;
	settings.hash_seed = draw_number(&input, 8);
	for (int i = 0; i < STEPS && input.left; i++)
		step(&input, &now_ms);
	return 0;
}
