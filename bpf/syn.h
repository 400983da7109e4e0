/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A SYN on its way through the decision, and the ways that end it: all but the answer. */
#ifndef XDPH_SYN_H
#define XDPH_SYN_H

#include "clock.h"
#include "count.h"
#include "known.h"
#include "lookup.h"
#include "service.h"
#include "tcp_options.h"

/* What has been found out about a SYN while deciding on it. */
struct syn {
	struct tuple *tuple; /* where the cookie is made of it */
	__u64 hash;	     /* of the tuple */
	__u64 now_ms;	     /* as of the last tick */
	__u64 exact_ms;	     /* 0: not asked */
	const struct settings *set;
	struct cpu *cpu;
	struct service *service;
	const struct tcp_options *options;
	bool shadow;  /* policy shadow drops nothing */
	__u8 offered; /* enum handshake_option */
	__u8 tos;
};

/* Whoever passes a SYN marks its tuple: the stack will hold it, whatever was found before. */
#define PASS_SYN(syn, reason)                                                                              \
	do {                                                                                               \
		known_held((syn)->cpu, (syn)->set, (syn)->hash);                                           \
		COUNT(syn_passed_##reason);                                                                \
		return XDP_PASS;                                                                           \
	} while (0)

#define DROP_SYN(syn, reason)                                                                              \
	do {                                                                                               \
		if ((syn)->shadow)                                                                         \
			PASS_SYN(syn, shadow_drop);                                                        \
		COUNT(syn_dropped_##reason);                                                               \
		return XDP_DROP;                                                                           \
	} while (0)

/* Passes within the budget, drops above it: for SYNs that cannot be answered whatever may come. */
#define PASS_OR_DROP_SYN(syn, reason, budget)                                                              \
	do {                                                                                               \
		if (pass_budget((syn)->cpu, (syn)->set, (syn)->now_ms, budget))                            \
			PASS_SYN(syn, reason);                                                             \
		DROP_SYN(syn, over_budget);                                                                \
	} while (0)

#endif
