/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Generator and sink on the client's end of a pair, on this CPU.
 *
 *	   client namespace                              server namespace
 *	+--------------------------+                  +--------------------------+
 *	| BPF_PROG_RUN: generate --+--- XDP_TX -----> | what answers, or a stack |
 *	| sink  <------------------+------------------+-- XDP_TX, or an skb      |
 *	+--------------------------+                  +--------------------------+
 *
 * The kernel runs `generate` for 64 frames, a NAPI poll's worth, hands them to the device, and before it
 * goes on polls both of its ends: on the same CPU, since that is where a veth device's receive queue is
 * polled. So whatever becomes of a frame is paid for before the next 64 are made; nothing is queued,
 *nothing is lost, and the time that a run takes is that of the whole path: making a frame, handing it over,
 *what answers, handing over the answer, taking it. All of it but what answers is the same for all rows.
 */
#pragma once

#include <stdint.h>

#include "../lib/frame.h"
#include "../lib/netns.h"
#include "traffic.h"

struct generator;

/* A program and a state of its own. */
struct generator *generator_new(void);
void generator_free(struct generator *generator);

/* The generator's programs, to be attached: "sink", "drop", "pass", "mirror", "hash". */
int generator_program(const struct generator *generator, const char *name);

/*
 * What to send: frames like @spec from sources in its address's last @hosts bits, from any port. @ack says
 * what they acknowledge; @udp makes UDP of it.
 */
void generator_set(struct generator *generator, const struct tcp_spec *spec, unsigned int hosts,
		   enum traffic_ack ack, bool udp);
/* Which of those frames: the same seed makes the same ones, from number @first on. */
void generator_seed(struct generator *generator, uint64_t seed, uint64_t first);
/* How far into the stream; 0 for a SYN. */
void generator_ahead(struct generator *generator, uint32_t ahead);
/*
 * 2^@group connections send a frame each, 2^@turns times, each time @ahead further into their streams; then
 * the next ones. Until generator_set().
 */
void generator_turns(struct generator *generator, uint32_t group, uint32_t turns, uint32_t ahead);

/* Sends @n of them by the device, in the namespace of the caller. */
void generator_run(struct generator *generator, uint32_t ifindex, long n);
/* Makes @n of them and drops them. */
void generator_stay(struct generator *generator, uint32_t ifindex, long n);
/* Sends SYNs number 0 to @n - 1, notes the SYN-ACKs; yields how many of them came. */
long generator_handshakes(struct generator *generator, uint32_t ifindex, long n);
