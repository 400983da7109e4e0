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

enum {
	CLOCK_LAG_MS = 30,    /* of the tick behind the clock, as a rule: ticks are 1 to 10 ms apart */
	CLOCK_FLOOD = 64,     /* SYNs on one CPU within a tick (1 to 10 ms) are a flood, */
	CLOCK_SYNS = 16,      /* and in a flood so many of them share a look at the clock; */
	CLOCK_TORRENT = 1024, /* from so many on, four times as many */
};

/* clock_coarse_ms(), without a look at the clock if this is still the same tick: jiffies are a load. */
static __always_inline __u64 clock_tick_ms(struct cpu *cpu)
{
	const __u64 tick = bpf_jiffies64();

	if (cpu->tick != tick) {
		cpu->tick = tick;
		cpu->tick_ms = clock_coarse_ms();
		cpu->tick_syns = 0;
	}
	return cpu->tick_ms;
}

/*
 * The moment of a SYN, after clock_tick_ms(). A look at the clock costs as much as a cookie, since the
 * processor first ends all that it has begun. So in a flood the moment is that of up to fifteen SYNs ago,
 * or 63 where that is still less: a fraction of a tick, never more than one, and never ahead.
 */
static __always_inline __u64 clock_syn_ms(struct cpu *cpu)
{
	const __u32 syns = cpu->tick_syns++;

	if (syns < CLOCK_FLOOD || !(syns % (syns < CLOCK_TORRENT ? CLOCK_SYNS : 4 * CLOCK_SYNS)))
		cpu->syn_ms = clock_ms();
	return cpu->syn_ms;
}

/*
 * The moment by which an ACK is judged at first: that of the last tick, unless an epoch may have begun
 * since. Then it could name one that is still to come.
 */
static __always_inline __u64 clock_ack_ms(struct cpu *cpu, const struct settings *set)
{
	const __u64 now_ms = clock_tick_ms(cpu);

	return now_ms < cpu->epoch_start_ms ||
			       now_ms + set->epoch_ms / 16 >= cpu->epoch_start_ms + set->epoch_ms
		       ? clock_ms()
		       : now_ms;
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
