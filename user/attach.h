/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Attaching: checks, loads, pins, and swaps programs so that no packet misses them. */
#ifndef XDPH_ATTACH_H
#define XDPH_ATTACH_H

#include <stdbool.h>

#include "command.h"
#include "ports.h"

enum attach_mode {
	MODE_AUTO,
	MODE_NATIVE,
	MODE_GENERIC,
};

struct attach_options {
	struct common_options common;
	char **interfaces;
	int interface_count;
	struct port_set ports;
	bool ports_given;
	enum attach_mode mode;
	bool canary_once;
	unsigned int canary_seconds; /* 0: default, or as it is */
	enum service_policy policy;
	bool policy_given;
	unsigned long connections;  /* 0: default, or as it is */
	unsigned int epoch_seconds; /* the same */
	unsigned int turn_seconds;  /* of `run`, 0: default */
	bool firewall_checked;
	bool mark_given;
	__u32 mark;			 /* of promoted segments, 0: none */
	__u32 flood_rate, flood_hold_ms; /* 0: default, or as it is */
	bool guard_given;
	enum service_guard guard;
	__u32 guard_rate;   /* 0: default, or as it is */
	__u32 forging_rate; /* the same */
	bool prefix_budget_given;
	__u32 prefix_budget; /* 0: none */
	__u32 prefix_share;  /* 0: default, or as it is */
};

/* Parses the arguments of `attach` and `run`. Returns -1 to go on, else the exit code. */
int attach_parse(const struct command *command, int argc, char **argv, struct attach_options *options);

/*
 * Attaches. Returns an exit code. On failure settings, ports and interfaces are as they were, though some
 * may run the programs of this version by then.
 */
int attach(const struct attach_options *options);

#endif
