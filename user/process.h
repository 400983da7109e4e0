/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which process holds a socket, by the links in /proc/PID/fd: of those that this PID namespace shows. */
#ifndef XDPH_PROCESS_H
#define XDPH_PROCESS_H

#include <stdbool.h>
#include <stddef.h>

#include <linux/types.h>

struct process_socket {
	__u64 inode;
	int pid;
	unsigned int name; /* index into names */
};

struct process_table {
	struct process_socket *sockets; /* in the order of inode and PID */
	size_t count;
	char (*names)[16];
	size_t name_count;
};

enum {
	PROCESS_TEXT = 48,
};

/* Reads all that may be read. What cannot be is left out: an empty table is no error. */
void process_table_read(struct process_table *table);
void process_table_free(struct process_table *table);

/*
 * "PID/program" of the process with the lowest PID that holds the socket, and " +N" for N others. Returns
 * NULL where none is known.
 */
const char *process_text(const struct process_table *table, __u64 inode, char text[PROCESS_TEXT]);

#endif
