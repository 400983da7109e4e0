/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Counting an outcome by its name in counters.def. */
#ifndef XDPH_COUNT_H
#define XDPH_COUNT_H

#include "maps.h"

#define COUNT(name)                                                                                        \
	do {                                                                                               \
		struct counters *_counters = bpf_map_lookup_elem(&counters, &zero);                        \
		if (_counters)                                                                             \
			_counters->name++;                                                                 \
	} while (0)

#endif
