/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The clock that the stack's timestamps use (tcp_clock_ms() of include/net/tcp.h), and epochs of it. */
#ifndef XDPH_CLOCK_H
#define XDPH_CLOCK_H

#include "cookie.h"
#include "maps.h"

static __always_inline __u64 clock_ms(void)
{
	return bpf_ktime_get_ns() / 1000000;
}

/* The same, as of the last tick: for whatever is a matter of seconds. It costs next to nothing. */
static __always_inline __u64 clock_coarse_ms(void)
{
	return bpf_ktime_get_coarse_ns() / 1000000;
}

static __always_inline __u32 clock_epoch(struct cpu *cpu, const struct settings *set, __u64 now_ms)
{
	if (now_ms - cpu->epoch_start_ms >= set->epoch_ms || !cpu->epoch_start_ms) {
		__u32 length = set->epoch_ms ?: COOKIE_EPOCH_MS;

		cpu->epoch = now_ms / length;
		cpu->epoch_start_ms = (__u64)cpu->epoch * length;
	}
	return cpu->epoch;
}

#endif
