/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The names of enum service_policy. */
#ifndef XDPH_POLICY_H
#define XDPH_POLICY_H

#include <stdbool.h>

#include "abi.h"

enum {
	POLICIES = POLICY_SHADOW + 1,
};

extern const char *const policy_names[POLICIES];

bool policy_parse(const char *name, enum service_policy *policy);

#endif
