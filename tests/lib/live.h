/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Sending by BPF_PROG_RUN: a program runs over live frames, which are as if received by a device
 * and leave by it where the program returns XDP_TX. The peer needs NAPI, that is an XDP program or
 * GRO, and as many transmit as receive queues at both ends.
 */
#pragma once

#include <stdint.h>

/*
 * A run of more than one frame enters the program into the kernel's XDP dispatcher and takes it out
 * again, at some ten milliseconds each. This attaches it to a device in a namespace that nobody
 * else sees, so that it is there already. Yields a file that holds it, or -errno.
 */
int live_hold(int prog_fd);

/*
 * Runs it @n times, in batches (of at most 256), over frames of @size bytes, whose content is for
 * the program to write. @ifindex is looked up in the namespace of the caller. Yields 0 or -errno.
 */
int live_run(int prog_fd, uint32_t ifindex, uint32_t size, uint32_t n, uint32_t batch);
