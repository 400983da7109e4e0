// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "keys.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include <bpf/bpf.h>

#include "cookie.h"
#include "format.h"

__u32 key_epoch(const struct settings *set)
{
	return (__u32)(monotonic_ms() / set->epoch_ms);
}

static int key_write(int keys, __u32 slot, __u32 from_epoch)
{
	struct master_key key = {
		.from_epoch = from_epoch,
		.set = 1,
		.created_ms = monotonic_ms(),
	};
	int error = -EIO;

	if (getrandom(&key.key, sizeof(key.key), 0) == sizeof(key.key))
		error = bpf_map_update_elem(keys, &slot, &key, BPF_ANY) ? -errno : 0;
	explicit_bzero(&key, sizeof(key));
	return error;
}

int key_first(int keys)
{
	return key_write(keys, 0, 0);
}

/*
 * Whether a slot holds a key that one of ours has written: each rotation goes an epoch further than the one
 * before it, and there are only so many slots.
 */
static bool key_is_sound(const struct master_key *key, __u32 now)
{
	return key->set && (key->from_epoch <= now || key->from_epoch - now <= 2 + KEY_SLOTS);
}

int key_rotate(int keys, const struct settings *set, __u32 *from_epoch)
{
	struct master_key key[KEY_SLOTS];
	const __u32 now = key_epoch(set);
	/* Cookies of the epoch before are still good, and those of two before still named: see ack.h. */
	const __u32 oldest = now < 3 ? 0 : now - 3;
	__u32 latest = 0, begin = 0;
	int error = -EBUSY;

	for (__u32 slot = 0; slot < KEY_SLOTS; slot++) {
		if (bpf_map_lookup_elem(keys, &slot, &key[slot]))
			return -errno;
		key[slot].set = key_is_sound(&key[slot], now);
		/* From when on it applies is all that matters here. */
		explicit_bzero(&key[slot].key, sizeof(key[slot].key));
		if (key[slot].set && key[slot].from_epoch > latest)
			latest = key[slot].from_epoch;
		/* The key that applies to the oldest epoch that matters began at `begin`. */
		if (key[slot].set && key[slot].from_epoch <= oldest && key[slot].from_epoch > begin)
			begin = key[slot].from_epoch;
	}
	*from_epoch = latest + 1 > now + 2 ? latest + 1 : now + 2;
	for (__u32 slot = 0; slot < KEY_SLOTS; slot++) {
		if (key[slot].set && key[slot].from_epoch >= begin)
			continue;
		error = key_write(keys, slot, *from_epoch);
		break;
	}
	return error;
}

int key_current(int keys, const struct settings *set, struct master_key *key)
{
	const __u32 now = key_epoch(set);
	struct master_key other;
	int found = -1;

	for (__u32 slot = 0; slot < KEY_SLOTS; slot++) {
		if (bpf_map_lookup_elem(keys, &slot, &other) || !other.set || other.from_epoch > now ||
		    (found >= 0 && other.from_epoch < key->from_epoch))
			continue;
		*key = other;
		found = (int)slot;
	}
	explicit_bzero(&other, sizeof(other));
	return found;
}

unsigned long long key_age_s(const struct master_key *key)
{
	return elapsed_ms(key->created_ms) / 1000;
}

void key_fingerprint(const struct master_key *key, char text[9])
{
	struct siphash_state state;

	/* A pseudo-random function of the key, on an input that no epoch has: 32 bits of 2^96 keys each. */
	siphash_start(&state, &key->key);
	siphash_word(&state, siphash_last(0x746e697270ULL, 5)); /* "print" */
	snprintf(text, 9, "%08x", (__u32)siphash_finish(&state));
	/* All of it would lead back to the key. */
	explicit_bzero(&state, sizeof(state));
}
