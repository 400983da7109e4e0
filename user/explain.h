/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One handshake, told field by field: what the TCP headers say, what each side keeps in its socket because
 * of it, and how the cookie carries what a server's socket would have kept.
 */
#ifndef XDPH_EXPLAIN_H
#define XDPH_EXPLAIN_H

#include <jansson.h>

#include "cookie.h"
#include "segment.h"

enum handshake_step {
	STEP_SYN,
	STEP_SYNACK,
	STEP_ACK,
	STEPS,
};

struct handshake {
	struct segment segment[STEPS];
	unsigned long long at_us[STEPS]; /* any clock; only differences are shown */
	bool seen[STEPS];
	bool answered_here; /* the driver has answered: no guess about the cookie */
};

enum handshake_cookie {
	COOKIE_NONE,   /* the ISN's bits contradict the options: it is a plain one */
	COOKIE_LIKELY, /* they agree, which one of some hundreds of plain ones does as well */
	COOKIE_CERTAIN,
};

/*
 * Gives a segment to the handshake. Returns true when it is whole: an ACK has come for a SYN-ACK for a SYN.
 * A SYN that is no retransmission begins anew, whosever it is; what else belongs to another connection, or
 * is no next step, is left out.
 */
bool handshake_take(struct handshake *handshake, const struct segment *segment, unsigned long long at_us);

/* Whether the SYN-ACK's ISN reads as a cookie of ours, and the options that it carries. */
enum handshake_cookie handshake_cookie(const struct handshake *handshake, struct cookie_options *options);

/* For people. */
void explain_print(const struct handshake *handshake);
/* The same as JSON. */
json_t *explain_json(const struct handshake *handshake);

#endif
