/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Master keys: made from the kernel's random source, put into use, described. Never shown. */
#ifndef XDPH_KEYS_USER_H
#define XDPH_KEYS_USER_H

#include "abi.h"

/* The epoch of this moment. */
__u32 key_epoch(const struct settings *set);

/* Writes the first key, which applies from the beginning. Returns 0 or -errno. */
int key_first(int keys);

/*
 * Writes a new key, to be used from the epoch after the next on, so that no CPU is taken by surprise while
 * it is written. *from_epoch tells which. Returns 0, -EBUSY if all slots hold keys that are still needed,
 * or -errno.
 */
int key_rotate(int keys, const struct settings *set, __u32 *from_epoch);

/* The key that applies now, to be wiped by the caller (explicit_bzero). Returns its slot, or -1. */
int key_current(int keys, const struct settings *set, struct master_key *key);

/* Seconds since it was made. */
unsigned long long key_age_s(const struct master_key *key);

/* Eight hexadecimal digits that tell keys apart and nothing of their content. */
void key_fingerprint(const struct master_key *key, char text[9]);

#endif
