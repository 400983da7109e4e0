/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The stack's sockets on the protected ports, by the pinned iterator, and the books joined with them. */
#ifndef XDPH_SOCKETS_USER_H
#define XDPH_SOCKETS_USER_H

#include <stddef.h>

#include "abi.h"
#include "command.h"
#include "instance.h"

/*
 * What the commands that list sockets begin with: parses options of which none is their own, opens the
 * instance and reads all sockets. Returns -1 to go on, with *instance open and *records to be freed; else
 * the exit code.
 */
int sockets_command(const struct command *command, int argc, char **argv, struct common_options *common,
		    struct instance *instance, struct socket_record **records, long *count);

/* Reads all sockets. *records is to be freed. Returns their number, or -errno. */
long sockets_read(const struct instance *instance, struct socket_record **records);

/*
 * Forgets connections that the stack no longer has: whose closing no event told, and those whose TIME-WAIT
 * is over. Returns how many, or -errno.
 */
long connections_sweep(const struct instance *instance);

#endif
