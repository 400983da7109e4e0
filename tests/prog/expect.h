/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What must come out: SYN-ACKs byte for byte, cookies by include/cookie.h and the pinned keys. */
#ifndef XDPH_TESTS_EXPECT_H
#define XDPH_TESTS_EXPECT_H

#include "environment.h"

/* The key of an epoch, from the pinned master keys. */
struct siphash_key key_of_epoch(uint32_t epoch);

/* What a cookie is made of. */
struct bake {
	enum place place;
	uint16_t sport;
	uint16_t dport;
	uint32_t client_isn;
	uint32_t epoch;
	struct cookie_options options; /* mss_index and flags */
};

struct cookie {
	uint32_t isn;
	uint32_t offset; /* of the timestamp clock */
};

struct cookie bake(const struct bake *bake);

/* Whether an ACK's numbers and its timestamp echo are those of a cookie of ours that is still good. */
bool cookie_right(const struct tcp_frame *ack, const struct facts *facts, uint64_t now_ms);

/*
 * That @run answered the SYN as the stack would have: its whole SYN-ACK but for ISN, timestamp and window,
 * which are checked by rule. @plain: over budget, so that a choice of options which the cookie cannot carry
 * is answered without them. Yields whether all of it held.
 */
bool expect_synack(const char *name, const void *syn, size_t length, const struct run *run,
		   const struct facts *facts, bool plain);
/* That the frame came out as it went in. */
bool expect_unchanged(const char *name, const void *frame, size_t length, const struct run *run);

/* While it is set, a SYN-ACK's timestamp has to be of the very millisecond (environment.h: SYN_LAG_MS). */
extern bool expect_exact_moment;

#endif
