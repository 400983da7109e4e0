/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The host's own addresses, for the programs: a SYN from one of them is never answered in the driver. */
#ifndef XDPH_ADDRESSES_H
#define XDPH_ADDRESSES_H

#include "instance.h"

/*
 * Writes the addresses of this network namespace into the map `own_addresses`, and the broadcast addresses
 * of its subnets, which are nobody's source either; takes out what is gone. instance->set.own_mask and
 * own_ends become what they need, and are stored. Returns 0 or -errno.
 */
int addresses_store(struct instance *instance);

#endif
