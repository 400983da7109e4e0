/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What this process may do, and who may look into it. */
#ifndef XDPH_PRIVILEGE_H
#define XDPH_PRIVILEGE_H

#include <stdbool.h>

/*
 * Keeps this process' memory out of core dumps, and other processes of the same user out of it: master keys
 * pass through here.
 */
void privilege_hide(void);

/* Whether this process has what attaching takes: CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, or CAP_SYS_ADMIN.
 */
bool privilege_to_attach(void);

/*
 * Gives up every capability, for good: nothing that is executed from here gets one back. Returns EXIT_DONE,
 * or says why not and returns EXIT_FAILED.
 */
int privilege_drop(void);

#endif
