/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What this kernel, and this process, can do. Each check says what is missing and what helps. */
#ifndef XDPH_PROBE_H
#define XDPH_PROBE_H

/* Returns EXIT_DONE, or says what is missing and returns EXIT_FAILED. */
int probe_all(void);

/* net.ipv4.tcp_syncookies of this network namespace, or -1. */
int probe_syncookies(void);

#endif
