/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What settings are to begin with, and what they cannot be, whoever wrote them. */
#ifndef XDPH_SETTINGS_H
#define XDPH_SETTINGS_H

#include <stdbool.h>

#include "abi.h"

/* Those that do not depend on the host, with tables of so many words and buckets. */
void settings_default(struct settings *set, __u32 known_words, __u32 used_buckets);

/*
 * Puts right what no version of ours would write: everybody who may write maps may write anything. What the
 * default is for a field that cannot be, it becomes. Returns whether there was such a field.
 */
bool settings_mend(struct settings *set, __u32 known_words, __u32 used_buckets);

#endif
