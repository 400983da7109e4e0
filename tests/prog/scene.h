/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What mutated frames meet: services of every kind, connections that the stack has, cookies that are right
 * or nearly so; and the frames that begin from there.
 */
#ifndef XDPH_TESTS_SCENE_H
#define XDPH_TESTS_SCENE_H

#include "judge.h"
#include "mutator.h"

/* ---- services ---- */

enum kind {
	ANSWERS,
	GUARDED,
	FULL, /* its accept queue */
	SHADOW,
	DORMANT,   /* policy flood */
	SEES_SYNS, /* TCP_SAVE_SYN */
	WAITING,   /* not admitted yet */
	PLAIN,	   /* learned from SYNs without options */
	FAST_OPEN,
	SPEAKS,	 /* first */
	REFUSED, /* the stack did not take its promoted connections */
	GONE,	 /* its listener is closed */
	KINDS,
	NOBODY = KINDS, /* a protected port without service */
	LEARNED,	/* a port for SYN-ACKs to leave from */
	ALL_KINDS,
};

struct served {
	uint16_t port;
	int listener;
	bool here[PLACES];
	struct facts facts[PLACES];
};

extern struct served served[ALL_KINDS];

/* The service that a frame goes to. */
struct found {
	enum kind kind;
	const struct facts *facts; /* NULL: to none */
};

struct found scene_service(const struct reading *reading);
/* Whether the stack has a connection of this tuple. */
bool scene_held(const struct reading *reading);

/* For report_main(): environment_new(), and all of the above. */
void scene_new(void);

/* ---- frames ---- */

/* Any port, ANSWERS' half of the time. */
uint16_t scene_port(uint64_t *state);
struct parts scene_syn(uint64_t *state);
/* Neither SYN nor right cookie: of a connection that the stack has, or of none. */
struct parts scene_segment(uint64_t *state);
/* A SYN-ACK, or what else might leave a port. */
struct parts scene_leaving(uint64_t *state);

/* A cookie, and an ACK that bears it. */
struct baked {
	struct judge_bake bake;
	enum kind kind;
	enum place place;
	uint32_t acknowledgement;
	uint32_t echo;
	struct parts ack;
	/* The metadata that a segment of this handshake has had: those behind it get the same. */
	struct handshake_metadata metadata;
	uint64_t handed_ms; /* 0: none */
};

/* The cookie of client @n's port, right at this moment; @bits: of cookie_encode(). */
void scene_bake(struct baked *baked, enum kind kind, enum place place, unsigned int n, uint16_t sport,
		uint32_t bits, bool timestamps);
/* Any: most are right, some nearly. */
void scene_bake_any(struct baked *baked, uint16_t sport, uint64_t *state);
/* Makes the cookie of baked->bake, and writes it into the ACK. */
void scene_rebake(struct baked *baked);

#endif
