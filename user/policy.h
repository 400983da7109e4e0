/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The names of enum service_policy and enum service_guard. */
#ifndef XDPH_POLICY_H
#define XDPH_POLICY_H

#include <stdbool.h>

#include "abi.h"

enum {
	POLICIES = POLICY_FLOOD + 1,
	GUARDS = GUARD_OFF + 1,
};

extern const char *const policy_names[POLICIES];

extern const char *const guard_names[GUARDS];

/* By what the programs do: a policy that nobody knows is none, and as good as always. */
static inline const char *policy_name(enum service_policy policy)
{
	return policy_names[(__u32)policy < POLICIES ? policy : POLICY_ALWAYS];
}

static inline const char *guard_name(enum service_guard guard)
{
	return guard_names[(__u32)guard < GUARDS ? guard : GUARD_AUTO];
}

/* False if there is no such name. */
bool policy_parse(const char *name, enum service_policy *policy);
bool guard_parse(const char *name, enum service_guard *guard);

#endif
