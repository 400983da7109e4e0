/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Sets of ports: the bitmap of map `ports`, and its text. */
#ifndef XDPH_PORTS_H
#define XDPH_PORTS_H

#include <stdbool.h>

#include "abi.h"

struct port_set {
	__u64 word[PORT_WORDS];
};

/*
 * Adds the ports of a list such as "80,443,8000-8099". On failure points *wrong at a copy of the part that
 * is no port or range (static storage), and adds nothing.
 */
bool port_set_parse(struct port_set *set, const char *list, const char **wrong);

/* Every port: what listens is then learned by itself, whenever it begins to. */
void port_set_fill(struct port_set *set);

/* "80,443,8000-8099"; to be freed. NULL if memory is short. */
char *port_set_format(const struct port_set *set);

static inline bool port_set_has(const struct port_set *set, unsigned int port)
{
	return set->word[port / 64] >> (port % 64) & 1;
}

static inline void port_set_add(struct port_set *set, unsigned int port)
{
	set->word[port / 64] |= (__u64)1 << (port % 64);
}

#endif
