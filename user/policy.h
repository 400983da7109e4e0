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

/* False if there is no such name. */
bool policy_parse(const char *name, enum service_policy *policy);
bool guard_parse(const char *name, enum service_guard *guard);

#endif
