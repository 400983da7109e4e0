/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Who answers: each row has a pair of namespaces of its own, with a listener on port BENCH_PORT. */
#pragma once

#include <stdio.h>

#include "../net/product.h"
#include "abi.h"
#include "generator.h"

enum {
	BENCH_PORT = 8080,
	BENCH_PORT_CLOSES = 8081, /* where a server closes first, if there is one */
	BENCH_UNPROTECTED = 7000,
	BENCH_UDP = 5353,
	BENCH_VLAN = 5,
	BENCH_BACKLOG = 1 << 16,
};

/* Sources of frames: nobody's, by way of the client. */
#define BENCH_NET4     "10.80.0.0"
#define BENCH_NET6     "fd80::"
#define BENCH_VLAN_IP4 "10.77.5.1"

enum answerer {
	ANSWERER_DROP,	 /* an empty XDP program: XDP_DROP */
	ANSWERER_MIRROR, /* XDP_TX */
	ANSWERER_HASH,	 /* a few SipHashes, and XDP_DROP */
	ANSWERER_STACK,	 /* an empty XDP program: XDP_PASS, and the stack's own handshakes */
	ANSWERER_OURS,
	ANSWERER_COOKIES,  /* XDP_PASS, and tcp_syncookies=2 */
	ANSWERER_SYNPROXY, /* XDP_PASS, and nftables' synproxy */
};

struct row {
	const char *name;
	enum answerer answerer;
	int connections; /* of ours: what the filter is sized for, 0: by default */
	int held;	 /* of ours: tuples that it knows */
	unsigned int queues;

	struct product product;
	uint32_t client_ifindex;
	uint32_t server_ifindex;
	int listener;
	int udp;		    /* a socket that nobody reads */
	int program;		    /* XDP on the server's device */
	int client_dev, server_dev; /* /proc/net/dev of either end */
	/* Of ours. */
	int counters;
	int settings;
	struct known_word *filter;
	size_t words;
	struct known_word *filled; /* what the filter's generations are to hold */
};

/* Makes it; lives until the case ends. The generator's sink is on the client's end then. */
void row_make(struct row *row, const struct generator *generator, const char *sink);

/* Packets that the client's or the server's device has received, be it for XDP or for a stack. */
long row_received(const struct row *row, bool server);
/* One of our counters, by its place in struct counters. */
uint64_t row_counter(const struct row *row, size_t offset);
/* The filter holds what it is to hold, no more: as after one turn of `run`. */
void row_refill(struct row *row);
/* No canaries for the time being: for what this stack cannot answer by itself. */
void row_canaries(const struct row *row, bool on);

/* Accepts and resets whatever waits; yields how many connections that were. */
long row_drain(const struct row *row);

/* The XDP program's run time since the program was loaded, while the kernel accounts for it. */
struct run_time {
	double ns;
	double runs;
};

struct run_time row_run_time(const struct row *row);

/*
 * Whether the kernel has accounted for run times since it did for @before. If it does so for somebody else,
 * every program takes longer, and this waits until it does no more.
 */
bool row_accounted(const struct row *row, struct generator *generator, struct run_time before);
