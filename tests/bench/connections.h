/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The names under which connections.c keeps its results. */
#pragma once

enum {
	CONNECTION_ROWS = 3, /* "empty program", "ours", "synproxy" */
};

#define CALM	      "calm"
#define FLOODED	      "300k SYN/s"
#define SERVER_CLOSES "calm, server closes"

#define CONNECTIONS "connections a second"
#define FLOODED_BY  "SYNs of the flood a second"
#define P50	    "handshake, median us"
#define P99	    "handshake, 99 % us"
#define P999	    "handshake, 99.9 % us"
