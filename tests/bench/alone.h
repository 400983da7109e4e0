/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Time, and a CPU for a moment. */
#pragma once

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

/*
 * Other programs wait while a sample of some 20 ms is taken. False where that is not allowed: then they
 * take part of the time, and the spread shows it.
 */
static inline bool alone(bool on)
{
	const struct sched_param param = { .sched_priority = on ? 1 : 0 };

	return !sched_setscheduler(0, (on ? SCHED_FIFO : SCHED_OTHER) | SCHED_RESET_ON_FORK, &param);
}

static inline int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* For good. False if there is no such CPU for us. */
static inline bool stay_on_cpu(int cpu)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	return !sched_setaffinity(0, sizeof(one), &one);
}
