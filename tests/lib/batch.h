/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Frames that reach the peer of a veth device in one NAPI poll.
 *
 * The kernel runs a program over up to 16 live frames with bottom halves disabled, collects what it
 * sends by XDP_TX in the device's bulk queue and flushes that with one ndo_xdp_xmit call: veth puts
 * all of them into the ring of the peer's queue and schedules its NAPI once. The poll runs when
 * bottom halves are enabled again, by when all have been queued. (selftest.c watches the
 * napi_poll tracepoint report them in one call.)
 * What the peer needs for it is in live.h.
 */
#pragma once

#include "frame.h"
#include "inject.h"
#include "netns.h"

struct batch;

/* Sends out of @ifname of @ns, so the frames arrive at its peer. */
struct batch *batch_open(const struct netns *ns, const char *ifname);
void batch_close(struct batch *b);

/* Adds to the batch in the making, at most INJECT_FRAMES. */
void batch_add(struct batch *b, const struct tcp_spec *spec);
void batch_add_bytes(struct batch *b, const void *frame, size_t len);
/* Sends and empties it. */
void batch_send(struct batch *b);
