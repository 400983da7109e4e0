/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The counters of all CPUs together. */
#ifndef XDPH_COUNTERS_H
#define XDPH_COUNTERS_H

#include "abi.h"
#include "instance.h"

/* Returns 0 or -errno. */
int counters_read(const struct instance *instance, struct counters *sum);

#endif
