/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One instance of the product: what is pinned under a directory of a bpf file system, for one network
 * namespace.
 *
 *   DIR/services …            maps, by the names of DESIGN (abi.h)
 *   DIR/sockets, known_refill iterators: opening one runs it in the opener's network namespace
 *   DIR/programs/xdp_drain    what detach puts in the place of xdp_handshake
 *   DIR/links/track           the tracing program
 *   …_new                     what is about to take the place of such a pin
 *   DIR/links/IFINDEX/{xdp,ingress,egress}
 */
#ifndef XDPH_INSTANCE_H
#define XDPH_INSTANCE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "abi.h"

enum instance_link {
	LINK_XDP,
	LINK_INGRESS, /* tcx: tc_promote */
	LINK_EGRESS,  /* tcx: tc_learn */
	LINKS,
};

extern const char *const instance_link_names[LINKS];

/* Descriptors of the pinned maps, -1 where there is none. */
struct instance {
	const char *pin_path;
	bool same_netns; /* asked for when opened */
	int lock;
	int services;
	int connections;
	int known_tuples;
	int known_notes;
	int used_cookies;
	int keys;
	int settings;
	int ports;
	int own_addresses;
	int interfaces;
	int counters;
	int forgings;
	int events;
	struct settings set; /* as read when opened, and mended */
	bool damaged;	     /* they had to be */
};

/* What lies under a pin path. */
enum instance_kind {
	INSTANCE_NONE,	     /* nothing, or nothing of ours */
	INSTANCE_REMAINS,    /* what an attach or a detach has left that was killed: no settings */
	INSTANCE_UNREADABLE, /* of another layout, or with maps missing */
	INSTANCE_WHOLE,
};

enum instance_kind instance_kind(const char *pin_path);

/* One that is not open: no descriptors. */
void instance_init(struct instance *instance, const char *pin_path);

/*
 * Opens the instance under @pin_path. Returns EXIT_DONE, or says why not and returns EXIT_FAILED: nothing
 * attached there, not allowed, another layout, or (if @same_netns) another network namespace.
 */
int instance_open(struct instance *instance, const char *pin_path, bool same_netns);
void instance_close(struct instance *instance);

/*
 * One loader at a time: locks the directory at @pin_path, which must exist. Returns a descriptor that holds
 * the lock until it is closed, -ENOENT if the directory is gone, or another -errno.
 */
int instance_lock_path(const char *pin_path);

/* Locks an instance that is open, and opens it again: it may be another one by now. Says why not. */
int instance_lock(struct instance *instance);
/* The same for whom it is all right that it is *gone, and not locked then. */
int instance_lock_there(struct instance *instance, bool *gone);
void instance_unlock(struct instance *instance);

/* How many entries an open map has room for; 0: it cannot be told. */
__u32 map_entries(int fd);

/* The path of something under the pin path, as printf would write it. */
void instance_path(const struct instance *instance, char path[PATH_MAX], const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Writes instance->set back, but for what the programs write. Returns 0 or -errno. */
int instance_store_settings(const struct instance *instance);

/* Takes back a flag that the programs have set. The lock must be held. Returns 0 or -errno. */
int instance_clear_flag(struct instance *instance, enum settings_flag flag);

/* The same for their count of resets. */
int instance_clear_resets(struct instance *instance);

/* tc need not look at cookies, unless an interface has generic XDP. Where a driver needs it, it is set
 * anew. */
void instance_end_validation(struct instance *instance);

/* The pinned link of a device, as a descriptor to be closed, or -errno. */
int instance_link_open(const struct instance *instance, unsigned int ifindex, enum instance_link which);

/*
 * Whether that link is on the device still, and by the name of @program (of 16 bytes) what it runs there.
 * Links stay pinned when their device goes.
 */
bool instance_link_read(const struct instance *instance, unsigned int ifindex, enum instance_link which,
			char program[16]);

/* Puts the draining program in the place of the answering one. Returns 0 or -errno; -ENOLINK: no link. */
int instance_drain_link(const struct instance *instance, unsigned int ifindex);

/* The id of the draining program, 0 if it cannot be told: each attach pins another one. */
__u32 instance_drain_program(const struct instance *instance);

/* Removes links and books of one device; its services are forgotten. */
void instance_forget_interface(const struct instance *instance, unsigned int ifindex);

/* Removes every pin of ours. */
void instance_unpin(const struct instance *instance);

/* The directory as well, if nothing else is in it. */
void instance_remove(const struct instance *instance);

/* Calls @each with every device that has links, until it returns non-zero, which is then returned. */
int instance_each_link(const struct instance *instance, int (*each)(unsigned int ifindex, void *context),
		       void *context);

/* How long an epoch is by the settings of whatever layout, 0 if they do not tell. */
unsigned long instance_epoch_ms(const char *pin_path);

/* Calls @each with every device that we hold, until it returns non-zero, which is then returned. */
int instance_each_interface(const struct instance *instance,
			    int (*each)(unsigned int ifindex, const struct interface *interface,
					void *context),
			    void *context);

/* Whether SYNs of a service go to the stack because its last canaries have had no answer (service.h of
 * bpf/). */
bool instance_unanswered(const struct instance *instance, const struct service *service);

/* Runs the iterator known_refill in this network namespace: marks every tuple the stack holds. */
int instance_refill(const struct instance *instance);

/*
 * A settled tuple is known (abi.h: struct known_note): takes back what is settled of tuples that are not,
 * in either generation. Returns 0 or -errno.
 */
int instance_unsettle(const struct instance *instance);

/*
 * Map the filter, both generations of its words, and the notes beside them: *size bytes, for munmap(). NULL
 * and errno if that fails.
 */
struct known_word *instance_known_words(const struct instance *instance, size_t *size);
struct known_note *instance_known_notes(const struct instance *instance, size_t *size);
/* Likewise the filter of own addresses. */
struct own_word *instance_own_words(const struct instance *instance, size_t *size);

/* The cookie that names this network namespace (SO_NETNS_COOKIE), 0 if the kernel does not tell. */
__u64 netns_cookie(void);

/*
 * Makes sure that @pin_path lies on a bpf file system: mounts one at /sys/fs/bpf if it must and may. Says
 * why not. *mounted tells whether it did.
 */
int bpffs_ensure(const char *pin_path, bool *mounted);

/* Takes it off again, unless somebody has pinned something there meanwhile. */
void bpffs_release(void);

#endif
