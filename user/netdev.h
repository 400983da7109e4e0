/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the kernel says of a network device. */
#ifndef XDPH_NETDEV_H
#define XDPH_NETDEV_H

#include <net/if.h>
#include <stdbool.h>

#include <linux/types.h>

struct netdev {
	char name[IF_NAMESIZE];
	unsigned int ifindex;
	char driver[32];  /* "" if it has none */
	bool strips_tags; /* takes VLAN tags out of frames before XDP sees them */
	/* A VLAN device on it, "" if there is none: tagged frames may be for this host. */
	char vlan_device[IF_NAMESIZE];
	bool virtual;	   /* local senders deliver unfinished checksums through it */
	__u32 xdp_program; /* id of the XDP program that it carries, 0: none; netdev_read_xdp() */
	bool xdp_native;   /* and it runs in the driver */
};

/* Returns 0 or -errno; -ENODEV: no such device. */
int netdev_read(struct netdev *dev, const char *name);

/* Reads which XDP program the device carries now, and how. Returns 0 or -errno. */
int netdev_read_xdp(struct netdev *dev);

/* The command that takes it off. */
void netdev_xdp_off(const struct netdev *dev, char command[64]);

/* Whether a program of that name is ours on XDP. */
bool program_is_xdp(const char *name);

/* A device of this network namespace that carries such a program, whoever pinned it. Sets name, index and
 * program. */
bool netdev_find_ours(struct netdev *dev);

/* The name of a loaded program, "" if it is gone. */
void program_name(__u32 id, char name[16]);

#endif
