/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The key of an epoch, derived from the master key that applies to it, and kept by each CPU for itself. */
#ifndef XDPH_KEYS_H
#define XDPH_KEYS_H

#include "cookie.h"
#include "maps.h"

/*
 * Derives the key of @epoch into this CPU's cache. Returns 0 if no master key applies. A global function,
 * so that the verifier looks at it once.
 */
__noinline int epoch_key_derive(__u32 epoch)
{
	struct cpu *cpu = bpf_map_lookup_elem(&cpus, &zero);
	__u32 best = 0, found = 0, best_slot = 0;
	struct master_key *master;
	struct epoch_key *entry;

	if (!cpu)
		return 0;
	for (__u32 i = 0; i < KEY_SLOTS; i++) {
		__u32 slot = i;

		master = bpf_map_lookup_elem(&keys, &slot);
		if (!master || !master->set || master->from_epoch > epoch ||
		    (found && master->from_epoch < best))
			continue;
		best = master->from_epoch;
		best_slot = slot;
		found = 1;
	}
	master = bpf_map_lookup_elem(&keys, &best_slot);
	if (!found || !master)
		return 0;
	entry = &cpu->epoch_keys[epoch & (EPOCH_KEYS - 1)];
	entry->set = 0;
	cookie_epoch_key(&master->key, epoch, &entry->key);
	entry->epoch = epoch;
	entry->set = 1;
	return 1;
}

static __always_inline const struct siphash_key *epoch_key(struct cpu *cpu, __u32 epoch)
{
	struct epoch_key *entry = &cpu->epoch_keys[epoch & (EPOCH_KEYS - 1)];

	if (entry->set && entry->epoch == epoch)
		return &entry->key;
	return epoch_key_derive(epoch) ? &entry->key : NULL;
}

#endif
