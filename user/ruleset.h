/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a ruleset of nftables does to connections whose SYN it never sees. Pure: a ruleset as `nft -j list
 * ruleset` prints it goes in, the rules that do not fit come out. What reads it from the kernel is
 * firewall.h.
 *
 * Packets to the protected ports are followed through the base chains of the hooks ingress, prerouting and
 * input, and through jumps and gotos, as sets of ports: a rule that accepts port 80 for certain ends the
 * way of port 80 through that base chain, one that matches some packets of it leaves it on its way. A rule
 * counts if packets to a protected port may reach it, if it asks for what only a SYN could have shown it,
 * and if something depends on the answer.
 */
#ifndef XDPH_RULESET_H
#define XDPH_RULESET_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

#include "ports.h"

enum rule_kind {
	RULE_FLAGS,    /* asks for TCP flags: that of a SYN, or what is none */
	RULE_RATE,     /* a limit, a quota, a count of connections, a set that packets fill */
	RULE_RECENT,   /* xt_recent */
	RULE_NEW,      /* drops what conntrack calls new, as it does what we promote */
	RULE_INVALID,  /* drops what conntrack calls invalid */
	RULE_LOOSE,    /* no rule: nf_conntrack_tcp_loose is 0 */
	RULE_SOURCE,   /* drops some sources, or accepts only some */
	RULE_FIELD,    /* another field that differs between SYN and ACK, or from client to client */
	RULE_QUEUE,    /* NFQUEUE */
	RULE_SYNPROXY, /* answers SYNs itself */
	RULE_NAT,      /* dnat, redirect, and snat on the way in */
	RULE_TPROXY,
	RULE_NAT_CHAIN, /* no rule: a chain of type nat, with which the kernel's NAT looks at all packets */
	RULE_LEGACY,	/* no rule: iptables-legacy has some, which cannot be read here */
	RULE_UNKNOWN,	/* asks or does what we do not know */
	RULE_ENDLESS,	/* no rule: more jumps than we follow */
	RULE_KINDS,
};

enum {
	RULE_TEXT = 256,
	/* Rules that are looked at before RULE_ENDLESS: a second or two. */
	RULESET_STEPS = 2000000,
};

/* What is asked of a ruleset. */
struct ruleset_question {
	const struct port_set *ports;
	const char *const *devices; /* by any of these packets may come in */
	int device_count;
	bool tcp_loose; /* nf_conntrack_tcp_loose is not 0 */
	unsigned long steps;
};

struct rule_finding {
	enum rule_kind kind;
	char rule[RULE_TEXT]; /* "inet filter input: tcp dport 80 limit rate 10/second accept" */
};

struct rule_findings {
	struct rule_finding *list;
	size_t count;
	bool short_of_memory;
};

/*
 * Adds to @findings what @ruleset does. @text is the same as `nft -a list ruleset` prints it, which knows
 * the parameters of xtables matches and is what users know their rules by; NULL if there is none. Returns
 * false if @ruleset is none.
 */
bool ruleset_judge(const json_t *ruleset, const char *text, const struct ruleset_question *question,
		   struct rule_findings *findings);

/* Adds one finding. */
void findings_add(struct rule_findings *findings, enum rule_kind kind, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

void findings_free(struct rule_findings *findings);

/* What is wrong with a rule of that kind: "… limits a rate: …". */
const char *rule_reason(enum rule_kind kind);
/* What to do about it. */
const char *rule_remedy(enum rule_kind kind);

#endif
