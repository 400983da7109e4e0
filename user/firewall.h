/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the firewall of this network namespace does to connections whose SYN it never sees. */
#ifndef XDPH_FIREWALL_H
#define XDPH_FIREWALL_H

#include "ruleset.h"

/*
 * Reads ruleset and sysctls, and adds to @findings what does not fit the ports, for packets that come in by
 * the
 * @count @interfaces or by what lies on them (VLANs, bonds, bridges). Returns NULL, or why the ruleset
 * cannot be read (static storage).
 */
const char *firewall_read(const struct port_set *ports, const unsigned int *interfaces, int count,
			  struct rule_findings *findings);

#endif
