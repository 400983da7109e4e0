/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * SYNs as clients send them, and as nobody should: a table of named ones, and any number that a generator
 * makes of a seed, the same ones for the same seed.
 */
#ifndef XDPH_TESTS_SYNS_H
#define XDPH_TESTS_SYNS_H

#include "frame.h"

enum {
	SYNS_SEED = 20240611,
	SYNS_GENERATED = 400, /* beside the named ones */
};

struct syn_kind {
	const char *name;    /* for a generated one in a static buffer: until the next call */
	bool ordinary;	     /* sent by a system in common use: must never be passed */
	struct tcp_spec set; /* what differs from a SYN of Linux: everything but addresses and ports */
	bool options;	     /* set.options is meant, be they none */
	bool seq;	     /* set.seq is meant */
};

int syns_named(void);
struct syn_kind syns_get(int i); /* the named ones first, then generated ones */
/* @syn, with addresses and ports, becomes one of this kind. */
void syns_apply(const struct syn_kind *kind, struct tcp_spec *syn);

#endif
