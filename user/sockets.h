/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The stack's sockets on the protected ports, by the pinned iterator, and the books joined with them. */
#ifndef XDPH_SOCKETS_USER_H
#define XDPH_SOCKETS_USER_H

#include <stddef.h>

#include "abi.h"
#include "command.h"
#include "instance.h"

/*
 * What the commands that list sockets begin with, after their options: opens the instance and reads all
 * sockets. Returns EXIT_DONE, with *instance open and *records to be freed; else it has said why not.
 */
int sockets_open(const struct common_options *common, struct instance *instance,
		 struct socket_record **records, long *count);

/* Reads all sockets. *records is to be freed. Returns their number, or -errno. */
long sockets_read(const struct instance *instance, struct socket_record **records);

/* An entry of map `connections` with its key. */
struct connection_record {
	struct tuple tuple;
	struct connection connection;
};

/*
 * Reads all entries of `connections`, in the order of their tuples. *records is to be freed. Returns their
 * number, or -errno.
 */
long connections_read(const struct instance *instance, struct connection_record **records);

/* The tuple's entry among them, or NULL. */
const struct connection *connections_find(const struct connection_record *records, long count,
					  const struct tuple *tuple);

/*
 * Forgets connections that the stack no longer has: whose closing no event told, and those whose TIME-WAIT
 * is over. Returns how many, or -errno.
 */
long connections_sweep(const struct instance *instance);

#endif
