// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "attach.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/if_link.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "addresses.h"
#include "cookie.h"
#include "firewall.h"
#include "format.h"
#include "handshake.skel.h"
#include "instance.h"
#include "keys.h"
#include "log.h"
#include "netdev.h"
#include "policy.h"
#include "probe.h"
#include "settings.h"
#include "sockets.h"

/* include/uapi/linux/bpf.h of Linux 6.6; older headers, which we build with, do not have them. */
enum {
	ATTACH_TCX_INGRESS = 46,
	ATTACH_TCX_EGRESS = 47,
	ATTACH_BEFORE = 1 << 3, /* BPF_F_BEFORE: in front of all others */
};

enum attach_sizes {
	DEFAULT_CONNECTIONS = 131072,
	FORGING_AHEAD_MS = 60000,
	KNOWN_TUPLES_A_WORD = 4, /* 0.9 % false hits at the nominal number (tests/unit) */
	USED_A_BUCKET =
		1, /* of eight ways: a cookie is remembered for longer than many a connection lives */
};

/* One attachment in the making: what has been done of it, so that it can be undone. */
struct attachment {
	const struct attach_options *options;
	struct netdev *devices;
	struct handshake_bpf *skeleton;
	struct instance instance;
	int lock;
	bool fresh;		     /* nothing was pinned here before */
	bool mounted;		     /* the bpf file system is our doing */
	bool made_path;		     /* and the directory */
	bool opened;		     /* as an instance, which is all there then */
	int pinned;		     /* maps of a fresh one, so far */
	bool *is_new;		     /* devices whose links are new */
	struct interface *old_notes; /* of devices, all zero where there were none */
	struct netdev *answered;     /* of these only the number: what answered before and is interrupted */
	int answered_count;
	bool changed; /* settings, and perhaps ports, are no longer these: */
	bool ports_changed;
	struct settings old_settings;
	struct port_set old_ports;
};

static unsigned long power_of_two(unsigned long least)
{
	unsigned long power = 64;

	while (power < least)
		power *= 2;
	return power;
}

/* ---- checks that change nothing ---- */

/* Whether the XDP program on a device is the one that we pinned for it. */
static bool program_is_ours(const struct instance *instance, const struct netdev *dev)
{
	struct bpf_link_info info = {};
	__u32 length = sizeof(info);
	int fd = instance_link_open(instance, dev->ifindex, LINK_XDP);
	bool ours = false;

	if (fd < 0)
		return false;
	if (!bpf_obj_get_info_by_fd(fd, &info, &length))
		ours = info.prog_id == dev->xdp_program && info.xdp.ifindex == dev->ifindex;
	close(fd);
	return ours;
}

static int check_devices(struct attachment *attachment)
{
	const struct attach_options *options = attachment->options;

	attachment->devices = calloc((size_t)options->interface_count, sizeof(*attachment->devices));
	attachment->is_new = calloc((size_t)options->interface_count, sizeof(*attachment->is_new));
	attachment->old_notes = calloc((size_t)options->interface_count, sizeof(*attachment->old_notes));
	if (!attachment->devices || !attachment->is_new || !attachment->old_notes)
		return fail("out of memory");
	for (int i = 0; i < options->interface_count; i++) {
		struct netdev *dev = &attachment->devices[i];
		int error = netdev_read(dev, options->interfaces[i]);

		if (error == -ENODEV || error == -ENXIO)
			return fail("no interface is called '%s' here: see `ip link`",
				    options->interfaces[i]);
		if (error)
			return fail("cannot read interface %s: %s", options->interfaces[i],
				    strerror(-error));
		/*
		 * A SYN that has lost its tag would be answered without one. Drivers can tell of such tags,
		 * but only to programs that are loaded for one device, and a kernel dies of those, when
		 * they are large, as soon as the device goes (net: bpf_dev_bound_netdev_unregister()).
		 */
		if (*dev->vlan_device)
			return fail(
				"%s takes VLAN tags out of frames before XDP sees them, and %s is on it: "
				"ethtool -K %s rxvlan off, then attach; or attach %s --mode generic",
				dev->name, dev->vlan_device, dev->name, dev->vlan_device);
		for (int j = 0; j < i; j++)
			if (attachment->devices[j].ifindex == dev->ifindex)
				return usage_fail("interface %s is named twice", dev->name);
	}
	return EXIT_DONE;
}

/* The device is ours already: perhaps in a mode that is not the one asked for. */
static int check_mode(const struct attachment *attachment, const struct netdev *dev)
{
	const enum attach_mode mode = attachment->options->mode;

	if ((mode == MODE_NATIVE && !dev->xdp_native) || (mode == MODE_GENERIC && dev->xdp_native))
		return fail("%s is attached in %s mode: detach it first to change that", dev->name,
			    dev->xdp_native ? "native" : "generic");
	return EXIT_DONE;
}

/* Another's program, or one of ours whose pins are elsewhere. */
static int refuse_program(const struct netdev *dev)
{
	char name[16], command[64];

	program_name(dev->xdp_program, name);
	netdev_xdp_off(dev, command);
	if (program_is_xdp(name))
		return fail(
			"%s already carries a program of ours (id %u), which is not pinned here: name its "
			"place with --pin-path; if that was unmounted, %s",
			dev->name, dev->xdp_program, command);
	return fail(
		"%s already carries another XDP program (id %u%s%s): take it off first (%s, or stop what "
		"attached it)",
		dev->name, dev->xdp_program, *name ? ", " : "", name, command);
}

/* Under the lock: what the devices carry. A program of ours may be replaced, another's may not. */
static int check_programs(struct attachment *attachment)
{
	for (int i = 0; i < attachment->options->interface_count; i++) {
		struct netdev *dev = &attachment->devices[i];
		int code, error = netdev_read_xdp(dev);

		if (error)
			return fail("cannot read interface %s: %s", dev->name, strerror(-error));
		if (!dev->xdp_program)
			continue;
		if (!attachment->fresh && program_is_ours(&attachment->instance, dev)) {
			code = check_mode(attachment, dev);
			if (code)
				return code;
			continue;
		}
		return refuse_program(dev);
	}
	return EXIT_DONE;
}

/* ---- loading ---- */

static int reuse_map(struct bpf_map *map, int fd)
{
	/* libbpf duplicates the descriptor. */
	return bpf_map__reuse_fd(map, fd);
}

/* Sizes the maps of a fresh instance, or hands the programs the maps of the one that runs. */
static int prepare_maps(struct attachment *attachment)
{
	struct handshake_bpf *skeleton = attachment->skeleton;
	const struct instance *instance = &attachment->instance;
	unsigned long connections = attachment->options->connections ?: DEFAULT_CONNECTIONS;
	__u32 words;
	int error;

	if (attachment->fresh) {
		error = bpf_map__set_max_entries(skeleton->maps.connections, (__u32)connections);
		words = (__u32)power_of_two(connections / KNOWN_TUPLES_A_WORD);
		error = error ?: bpf_map__set_max_entries(skeleton->maps.known_tuples, 2 * words);
		error = error
				?: bpf_map__set_max_entries(skeleton->maps.known_notes,
							    words * KNOWN_NOTES_A_WORD);
		return error
			       ?: bpf_map__set_max_entries(skeleton->maps.used_cookies,
							   (__u32)power_of_two(connections /
									       USED_A_BUCKET));
	}
	error = reuse_map(skeleton->maps.services, instance->services);
	error = error ?: reuse_map(skeleton->maps.connections, instance->connections);
	error = error ?: reuse_map(skeleton->maps.known_tuples, instance->known_tuples);
	error = error ?: reuse_map(skeleton->maps.known_notes, instance->known_notes);
	error = error ?: reuse_map(skeleton->maps.used_cookies, instance->used_cookies);
	error = error ?: reuse_map(skeleton->maps.keys, instance->keys);
	error = error ?: reuse_map(skeleton->maps.settings, instance->settings);
	error = error ?: reuse_map(skeleton->maps.ports, instance->ports);
	error = error ?: reuse_map(skeleton->maps.own_addresses, instance->own_addresses);
	error = error ?: reuse_map(skeleton->maps.interfaces, instance->interfaces);
	error = error ?: reuse_map(skeleton->maps.events, instance->events);
	error = error ?: reuse_map(skeleton->maps.forgings, instance->forgings);
	return error ?: reuse_map(skeleton->maps.counters, instance->counters);
}

static int load(struct attachment *attachment)
{
	int error;

	attachment->skeleton = handshake_bpf__open();
	if (!attachment->skeleton)
		return fail("cannot open the programs: %s (-v shows more)", strerror(errno));
	error = prepare_maps(attachment);
	if (error)
		return fail("cannot set up the maps: %s (-v shows more)", strerror(-error));
	error = handshake_bpf__load(attachment->skeleton);
	if (error == -ENOMEM || error == -E2BIG)
		return fail("cannot load: %s; --connections N asks for smaller tables, or the control "
			    "group needs a higher memory limit",
			    strerror(-error));
	if (error)
		return fail("the kernel does not take the programs: %s (-v shows why)", strerror(-error));
	return EXIT_DONE;
}

/* ---- pinning a fresh instance ---- */

/* mkdir -p; bpf file systems know no owner but root's. */
static int make_directory(const char *path)
{
	char part[PATH_MAX];

	if (snprintf(part, sizeof(part), "%s", path) >= (int)sizeof(part))
		return -ENAMETOOLONG;
	for (char *slash = strchr(part + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (mkdir(part, 0700) && errno != EEXIST)
			return -errno;
		*slash = '/';
	}
	return mkdir(part, 0700) && errno != EEXIST ? -errno : 0;
}

/* The maps in the order of pinning: where settings is, all are. */
static struct bpf_map *pinned_map(const struct attachment *attachment, int i)
{
	const struct handshake_bpf *skeleton = attachment->skeleton;
	struct bpf_map *const maps[] = {
		skeleton->maps.services,    skeleton->maps.connections,	 skeleton->maps.known_tuples,
		skeleton->maps.known_notes, skeleton->maps.used_cookies, skeleton->maps.keys,
		skeleton->maps.ports,	    skeleton->maps.interfaces,	 skeleton->maps.counters,
		skeleton->maps.events,	    skeleton->maps.forgings,	 skeleton->maps.own_addresses,
		skeleton->maps.settings,
	};

	return i < (int)(sizeof(maps) / sizeof(*maps)) ? maps[i] : NULL;
}

static int pin_maps(struct attachment *attachment, char path[PATH_MAX])
{
	struct bpf_map *map;

	while ((map = pinned_map(attachment, attachment->pinned))) {
		instance_path(&attachment->instance, path, "%s", bpf_map__name(map));
		if (bpf_obj_pin(bpf_map__fd(map), path))
			return -errno;
		attachment->pinned++;
		if (chmod(path, 0600))
			return -errno;
	}
	return 0;
}

/* What a fresh instance begins with. */
static int fill_settings(const struct attachment *attachment)
{
	const struct attach_options *options = attachment->options;
	const struct handshake_bpf *skeleton = attachment->skeleton;
	const __u32 zero = 0;
	struct settings set;

	settings_default(&set, bpf_map__max_entries(skeleton->maps.known_tuples) / 2,
			 bpf_map__max_entries(skeleton->maps.used_cookies));
	set.netns_cookie = netns_cookie();
	set.policy = options->policy;
	set.guard = options->guard;
	if (options->epoch_seconds)
		set.epoch_ms = options->epoch_seconds * 1000;
	if (getrandom(&set.hash_seed, sizeof(set.hash_seed), 0) != sizeof(set.hash_seed))
		return -EIO;
	if (bpf_map_update_elem(bpf_map__fd(skeleton->maps.settings), &zero, &set, BPF_ANY))
		return -errno;
	return key_first(bpf_map__fd(skeleton->maps.keys));
}

static int create_instance(struct attachment *attachment)
{
	const char *pin_path = attachment->options->common.pin_path;
	char path[PATH_MAX];
	int error = fill_settings(attachment);

	if (error)
		return fail("cannot write settings and keys: %s", strerror(-error));
	error = pin_maps(attachment, path);
	if (error == -EEXIST)
		return fail("%s is there already, and no instance of ours: remove it, or name another "
			    "directory "
			    "with --pin-path",
			    path);
	if (error)
		return fail("cannot pin maps under %s: %s; name a directory of a bpf file system with "
			    "--pin-path",
			    pin_path, strerror(-error));
	return EXIT_DONE;
}

/* ---- iterators, the tracing program, the draining program ---- */

/* Pins @fd in the place of what may be pinned there. Whenever we are killed, one of the two is there. */
static int pin_over(int fd, const char *path)
{
	char fresh[PATH_MAX];

	if (snprintf(fresh, sizeof(fresh), "%s_new", path) >= (int)sizeof(fresh))
		return -ENAMETOOLONG;
	unlink(fresh);
	return bpf_obj_pin(fd, fresh) || rename(fresh, path) ? -errno : 0;
}

static int pin_iterator(const struct attachment *attachment, struct bpf_program *program)
{
	struct bpf_link *link = bpf_program__attach_iter(program, NULL);
	char path[PATH_MAX];
	int error;

	if (!link)
		return -errno;
	instance_path(&attachment->instance, path, "%s", bpf_program__name(program));
	error = pin_over(bpf_link__fd(link), path);
	bpf_link__destroy(link);
	return error;
}

static int pin_tracing(const struct attachment *attachment, struct bpf_program *program, const char *name)
{
	struct bpf_link *link = bpf_program__attach(program);
	char path[PATH_MAX];
	int error;

	if (!link)
		return -errno;
	instance_path(&attachment->instance, path, name);
	error = pin_over(bpf_link__fd(link), path);
	bpf_link__destroy(link);
	return error;
}

/* What detach takes, so that it comes before what is to be detached. */
static int pin_drain(const struct attachment *attachment)
{
	char path[PATH_MAX];

	instance_path(&attachment->instance, path, "programs");
	if (mkdir(path, 0700) && errno != EEXIST)
		return -errno;
	instance_path(&attachment->instance, path, "programs/xdp_drain");
	return pin_over(bpf_program__fd(attachment->skeleton->progs.xdp_drain), path);
}

static int attach_helpers(const struct attachment *attachment)
{
	const struct handshake_bpf *skeleton = attachment->skeleton;
	int error;

	error = pin_iterator(attachment, skeleton->progs.known_refill);
	error = error ?: pin_iterator(attachment, skeleton->progs.sockets);
	if (error)
		return error;
	error = pin_tracing(attachment, skeleton->progs.track, "links/track");
	return error ?: pin_tracing(attachment, skeleton->progs.track_resets, "links/track_resets");
}

/* ---- devices ---- */

/* Whether the device has an XDP link of ours that works; by what name runs there? */
static bool is_attached(const struct attachment *attachment, const struct netdev *dev, char program[16])
{
	return instance_link_read(&attachment->instance, dev->ifindex, LINK_XDP, program);
}

static bool is_answering(const struct attachment *attachment, const struct netdev *dev)
{
	char program[16];

	return is_attached(attachment, dev, program) && !strcmp(program, "xdp_handshake");
}

static int link_create(const struct attachment *attachment, const struct netdev *dev,
		       enum instance_link which, int program, int attach_type, __u32 flags)
{
	LIBBPF_OPTS(bpf_link_create_opts, opts, .flags = flags);
	char path[PATH_MAX];
	int fd, error = 0;

	fd = bpf_link_create(program, (int)dev->ifindex, attach_type, &opts);
	if (fd < 0)
		return fd;
	instance_path(&attachment->instance, path, "links/%u/%s", dev->ifindex, instance_link_names[which]);
	unlink(path);
	if (bpf_obj_pin(fd, path))
		error = -errno;
	close(fd);
	return error;
}

/* Puts @program in the place of the one that a pinned link holds. -ENOENT: there is no such link. */
static int link_swap(const struct attachment *attachment, const struct netdev *dev,
		     enum instance_link which, int program)
{
	int fd = instance_link_open(&attachment->instance, dev->ifindex, which), error;

	if (fd < 0)
		return fd;
	error = bpf_link_update(fd, program, NULL) ? -errno : 0;
	close(fd);
	return error;
}

/* Begins to answer: the program is noted first, so that what is not noted is never believed to answer. */
static int link_answer(const struct attachment *attachment, const struct netdev *dev)
{
	const int program = bpf_program__fd(attachment->skeleton->progs.xdp_handshake);
	const int notes = attachment->instance.interfaces;
	struct bpf_prog_info info = {};
	__u32 length = sizeof(info);
	struct interface interface;

	if (bpf_obj_get_info_by_fd(program, &info, &length) ||
	    bpf_map_lookup_elem(notes, &dev->ifindex, &interface))
		return -errno;
	interface.answers = info.id;
	if (bpf_map_update_elem(notes, &dev->ifindex, &interface, BPF_EXIST))
		return -errno;
	return link_swap(attachment, dev, LINK_XDP, program);
}

/*
 * The tc programs: in front of all others on the way in, since a program before ours that ends the chain
 * would keep ACKs from being promoted; behind them on the way out: what they drop is not to be learned.
 */
static int link_tc(const struct attachment *attachment, const struct netdev *dev, enum instance_link which)
{
	const struct handshake_bpf *skeleton = attachment->skeleton;

	if (which == LINK_INGRESS)
		return link_create(attachment, dev, which, bpf_program__fd(skeleton->progs.tc_promote),
				   ATTACH_TCX_INGRESS, ATTACH_BEFORE);
	return link_create(attachment, dev, which, bpf_program__fd(skeleton->progs.tc_learn),
			   ATTACH_TCX_EGRESS, 0);
}

/* Notes what the programs cannot see of a device, in the place of what may be noted of it. */
static int write_notes(const struct attachment *attachment, const struct netdev *dev, bool native)
{
	const int notes = attachment->instance.interfaces;
	struct interface interface = {
		.checksum_partial = dev->virtual,
		.native = native,
		.attached_ms = monotonic_ms(),
	};
	struct interface before;

	memcpy(interface.name, dev->name, sizeof(interface.name));
	if (!bpf_map_lookup_elem(notes, &dev->ifindex, &before) &&
	    before.attached_ms < interface.attached_ms) {
		interface.attached_ms = before.attached_ms;
		interface.answers = before.answers;
	}
	if (!bpf_map_update_elem(notes, &dev->ifindex, &interface, BPF_ANY))
		return EXIT_DONE;
	if (errno == E2BIG)
		return fail("cannot attach to %s: an instance holds 256 interfaces at the most; name "
			    "another directory for it with --pin-path",
			    dev->name);
	return fail("cannot note interface %s: %s", dev->name, strerror(errno));
}

/* The metadata of a generic program does not survive the copy that the kernel makes of a frame. */
static int validate_in_tc(struct attachment *attachment)
{
	int error;

	attachment->instance.set.flags |= SETTING_TC_VALIDATES;
	error = instance_store_settings(&attachment->instance);
	return error ? fail("cannot write the settings: %s", strerror(-error)) : EXIT_DONE;
}

static int attach_xdp(struct attachment *attachment, const struct netdev *dev, int program)
{
	enum attach_mode mode = attachment->options->mode;
	int error = -EOPNOTSUPP, code;

	if (mode != MODE_GENERIC) {
		code = write_notes(attachment, dev, true);
		if (code)
			return code;
		error = link_create(attachment, dev, LINK_XDP, program, BPF_XDP, XDP_FLAGS_DRV_MODE);
		if (!error && !strcmp(dev->driver, "veth"))
			note("%s is a veth: its answers arrive only if its peer carries an XDP program too "
			     "(README, Requirements)",
			     dev->name);
		if (!error)
			return EXIT_DONE;
		if (mode == MODE_NATIVE && error == -EOPNOTSUPP)
			return fail("the driver of %s (%s) has no native XDP: --mode generic works, slower",
				    dev->name, *dev->driver ? dev->driver : "none");
		if (mode == MODE_NATIVE)
			return fail("the driver of %s (%s) refuses native XDP: %s; fewer queues or a "
				    "smaller MTU "
				    "may help, --mode generic works, slower",
				    dev->name, *dev->driver ? dev->driver : "none", strerror(-error));
	}
	if (mode == MODE_AUTO)
		note("%s: no native XDP (%s), using generic XDP, which is slower", dev->name,
		     strerror(-error));
	code = write_notes(attachment, dev, false);
	code = code ?: validate_in_tc(attachment);
	if (code)
		return code;
	error = link_create(attachment, dev, LINK_XDP, program, BPF_XDP, XDP_FLAGS_SKB_MODE);
	if (error)
		return fail("cannot attach XDP to %s: %s", dev->name, strerror(-error));
	return EXIT_DONE;
}

/*
 * Whenever we are killed, what is there can be attached again, or detached: the notes come first, and by
 * them status and detach find the rest.
 */
static int attach_new_device(struct attachment *attachment, int i)
{
	const struct netdev *dev = &attachment->devices[i];
	char path[PATH_MAX];
	int code, error;

	/* What is left of a device that had this number, if anything. */
	instance_forget_interface(&attachment->instance, dev->ifindex);
	attachment->is_new[i] = true;
	code = write_notes(attachment, dev, attachment->options->mode != MODE_GENERIC);
	if (code)
		return code;
	instance_path(&attachment->instance, path, "links/%u", dev->ifindex);
	error = make_directory(path);
	if (error)
		return fail("cannot make %s: %s", path, strerror(-error));
	/* Whoever validates must find the promoter in place, so that comes first. */
	error = link_tc(attachment, dev, LINK_INGRESS);
	error = error ?: link_tc(attachment, dev, LINK_EGRESS);
	if (error)
		return fail("cannot attach tc programs to %s: %s", dev->name, strerror(-error));
	return attach_xdp(attachment, dev, bpf_program__fd(attachment->skeleton->progs.xdp_drain));
}

/* Puts the new tc program in the place of the old one; where that was taken off, on the device. */
static int renew_tc(const struct attachment *attachment, const struct netdev *dev, enum instance_link which,
		    int program)
{
	int error = link_swap(attachment, dev, which, program);

	return error == -ENOENT || error == -ENOLINK ? link_tc(attachment, dev, which) : error;
}

/* The device is ours already: swaps the programs, the promoter first. */
static int swap_device(struct attachment *attachment, int i, bool drain)
{
	const struct handshake_bpf *skeleton = attachment->skeleton;
	const struct netdev *dev = &attachment->devices[i];
	int error, code = dev->xdp_native ? EXIT_DONE : validate_in_tc(attachment);

	if (code)
		return code;
	error = renew_tc(attachment, dev, LINK_INGRESS, bpf_program__fd(skeleton->progs.tc_promote));
	error = error ?: renew_tc(attachment, dev, LINK_EGRESS, bpf_program__fd(skeleton->progs.tc_learn));
	/* A detach that waits for this device must see that it is wanted again. */
	if (!error)
		code = write_notes(attachment, dev, dev->xdp_native);
	if (code)
		return code;
	if (!error && drain)
		error = link_swap(attachment, dev, LINK_XDP, bpf_program__fd(skeleton->progs.xdp_drain));
	else if (!error)
		error = link_answer(attachment, dev);
	if (error)
		return fail("cannot replace the programs on %s: %s; detach it first", dev->name,
			    strerror(-error));
	return EXIT_DONE;
}

static bool is_named(const struct attachment *attachment, unsigned int ifindex)
{
	for (int i = 0; i < attachment->options->interface_count; i++)
		if (attachment->devices[i].ifindex == ifindex)
			return true;
	return false;
}

/* For instance_each_interface(): of what answers. */
static int list_answering(unsigned int ifindex, const struct interface *interface, void *context)
{
	struct attachment *attachment = context;
	const size_t count = (size_t)attachment->answered_count;
	struct netdev dev = { .ifindex = ifindex }, *more;

	(void)interface;
	if (!is_answering(attachment, &dev))
		return 0;
	more = realloc(attachment->answered, (count + 1) * sizeof(*more));
	if (!more)
		return -ENOMEM;
	attachment->answered = more;
	attachment->answered[attachment->answered_count++] = dev;
	return 0;
}

/* SYNs go to the stack from here on. What is gone meanwhile (-ENOLINK) answers nobody. */
static int stop_answering(const struct attachment *attachment)
{
	const int program = bpf_program__fd(attachment->skeleton->progs.xdp_drain);
	int error = 0;

	for (int i = 0; !error && i < attachment->answered_count; i++) {
		error = link_swap(attachment, &attachment->answered[i], LINK_XDP, program);
		if (error == -ENOLINK)
			error = 0;
	}
	return error;
}

/* The same for those that are not named, with the programs that belong together. */
static int answer_again(const struct attachment *attachment)
{
	const struct handshake_bpf *skeleton = attachment->skeleton;
	int error = 0;

	for (int i = 0; !error && i < attachment->answered_count; i++) {
		const struct netdev *dev = &attachment->answered[i];

		if (is_named(attachment, dev->ifindex))
			continue;
		link_swap(attachment, dev, LINK_INGRESS, bpf_program__fd(skeleton->progs.tc_promote));
		link_swap(attachment, dev, LINK_EGRESS, bpf_program__fd(skeleton->progs.tc_learn));
		error = link_answer(attachment, dev);
		if (error == -ENOLINK)
			error = 0;
	}
	return error;
}

/* ---- ports ---- */

struct ports_change {
	const struct attachment *attachment;
	bool others; /* interfaces are attached, and there, that this call does not name */
};

static int see_interface(unsigned int ifindex, const struct interface *interface, void *context)
{
	struct ports_change *change = context;
	char name[IF_NAMESIZE], program[16];

	(void)interface;
	/* What has gone to another network namespace has a link still. */
	if (if_indextoname(ifindex, name) ||
	    instance_link_read(&change->attachment->instance, ifindex, LINK_XDP, program))
		change->others |= !is_named(change->attachment, ifindex);
	return 0;
}

/*
 * The ports to be. They hold for all interfaces of an instance: a call that names all that are attached
 * replaces them, one that names some adds to them. Sets *added if a port is new.
 */
static void merge_ports(struct attachment *attachment, struct port_set *ports, bool *added)
{
	struct ports_change change = { .attachment = attachment };

	*added = false;
	if (!attachment->fresh)
		instance_each_interface(&attachment->instance, see_interface, &change);
	for (__u32 i = 0; i < PORT_WORDS; i++) {
		__u64 *old = &attachment->old_ports.word[i];

		bpf_map_lookup_elem(attachment->instance.ports, &i, old);
		ports->word[i] = attachment->options->ports.word[i] | (change.others ? *old : 0);
		*added |= (ports->word[i] & ~*old) != 0;
	}
}

static int write_ports(const struct instance *instance, const struct port_set *ports)
{
	for (__u32 i = 0; i < PORT_WORDS; i++)
		if (bpf_map_update_elem(instance->ports, &i, &ports->word[i], BPF_ANY))
			return -errno;
	return 0;
}

/* Forgets services of ports that are no longer protected. */
static void forget_services(const struct instance *instance, const struct port_set *ports)
{
	struct service_key key, next;
	bool more = !bpf_map_get_next_key(instance->services, NULL, &next);

	while (more) {
		key = next;
		more = !bpf_map_get_next_key(instance->services, &key, &next);
		if (!port_set_has(ports, host16(key.port)))
			bpf_map_delete_elem(instance->services, &key);
	}
}

/* Puts right what no program of ours would write. Whatever else a service is learned from, it is learned
 * anew. */
static void mend_service(const struct instance *instance, const struct service_key *key,
			 struct service *service)
{
	const unsigned long long now_ms = monotonic_ms();
	const struct settings *set = &instance->set;
	struct interface interface;

	if (!bpf_map_lookup_elem(instance->interfaces, &key->ifindex, &interface))
		service->checksum_partial = interface.checksum_partial;
	if ((__u32)service->admission > SERVICE_REFUSED)
		service->admission = SERVICE_WAITING;
	if ((__u32)service->policy >= POLICIES)
		service->policy = set->policy;
	if ((__u32)service->guard >= GUARDS)
		service->guard = set->guard;
	if (service->speaks_first_ms > now_ms)
		service->speaks_first_ms = 0;
	if (service->awake_until_ms > now_ms + set->flood_hold_ms)
		service->awake_until_ms = 0;
}

/*
 * Services whose policy or guard has changed, and those that the stack had refused, which are tried again.
 * The listener is found with the next SYN-ACK.
 */
static void write_services(const struct instance *instance, const struct attach_options *options)
{
	struct service_key key, next;
	struct service service, before;
	bool more = !bpf_map_get_next_key(instance->services, NULL, &next);

	while (more) {
		key = next;
		more = !bpf_map_get_next_key(instance->services, &key, &next);
		if (bpf_map_lookup_elem(instance->services, &key, &service))
			continue;
		before = service;
		if (options->policy_given)
			service.policy = options->policy;
		if (options->guard_given)
			service.guard = options->guard;
		if (service.admission == SERVICE_REFUSED)
			service.admission = SERVICE_WAITING;
		mend_service(instance, &key, &service);
		if (memcmp(&service, &before, sizeof(service)))
			bpf_map_update_elem(instance->services, &key, &service, BPF_EXIST);
	}
}

/* The same for the refusal of a layout of cookies, which ends by itself within seconds (bpf/forging.h). */
static void mend_forging(const struct instance *instance)
{
	const struct forging none = {};
	const __u32 zero = 0;
	struct forging forging;

	if (!bpf_map_lookup_elem(instance->forgings, &zero, &forging) &&
	    forging.until_ms > monotonic_ms() + FORGING_AHEAD_MS)
		bpf_map_update_elem(instance->forgings, &zero, &none, BPF_ANY);
}

static int change_settings(struct attachment *attachment)
{
	const struct attach_options *options = attachment->options;
	struct settings *set = &attachment->instance.set;
	int error;

	if (options->canary_once)
		set->flags |= SETTING_CANARY_ONCE;
	if (options->canary_seconds) {
		set->flags &= ~(__u32)SETTING_CANARY_ONCE;
		set->canary_silence_ms = options->canary_seconds * 1000;
	}
	if (options->policy_given)
		set->policy = options->policy;
	if (options->guard_given)
		set->guard = options->guard;
	if (options->guard_rate)
		set->guard_rate = options->guard_rate;
	if (options->forging_rate)
		set->forging_rate = options->forging_rate;
	if (options->prefix_budget_given)
		set->prefix_budget = options->prefix_budget;
	if (options->prefix_share)
		set->prefix_share = options->prefix_share;
	if (options->mark_given)
		set->mark = options->mark;
	if (options->flood_rate)
		set->flood_rate = options->flood_rate;
	if (options->flood_hold_ms)
		set->flood_hold_ms = options->flood_hold_ms;
	mend_forging(&attachment->instance);
	error = instance_store_settings(&attachment->instance);
	return error ?: instance_clear_resets(&attachment->instance);
}

/* ---- all of it ---- */

/* The ports of before. What has connected on them meanwhile has left no mark. */
static int restore_ports(const struct attachment *attachment)
{
	int error = stop_answering(attachment);

	error = error ?: write_ports(&attachment->instance, &attachment->old_ports);
	return error ?: instance_refill(&attachment->instance);
}

/* Puts back what was before: nothing of a new device or instance stays, a running one goes on as it did. */
static void undo_devices(struct attachment *attachment)
{
	const int notes = attachment->instance.interfaces;
	int error = 0;

	if (attachment->changed) {
		attachment->instance.set = attachment->old_settings;
		instance_store_settings(&attachment->instance);
	}
	/* And what was damaged has been put right: marks are where it says from now on. */
	if (attachment->ports_changed || (attachment->changed && attachment->instance.damaged))
		error = restore_ports(attachment);
	for (int i = 0; i < attachment->options->interface_count; i++) {
		const struct netdev *dev = &attachment->devices[i];

		if (attachment->is_new[i])
			instance_forget_interface(&attachment->instance, dev->ifindex);
		if (attachment->old_notes[i].attached_ms)
			bpf_map_update_elem(notes, &dev->ifindex, &attachment->old_notes[i], BPF_ANY);
	}
	for (int i = 0; !error && i < attachment->answered_count; i++)
		link_answer(attachment, &attachment->answered[i]);
	if (error)
		note("the filter cannot be filled (%s): interfaces are left draining, their SYNs go to the "
		     "stack; attach again",
		     strerror(-error));
}

static void undo(struct attachment *attachment)
{
	char path[PATH_MAX];

	if (attachment->opened)
		undo_devices(attachment);
	if (attachment->fresh && attachment->opened)
		instance_remove(&attachment->instance);
	else
		while (attachment->pinned > 0) {
			instance_path(&attachment->instance, path, "%s",
				      bpf_map__name(pinned_map(attachment, --attachment->pinned)));
			unlink(path);
		}
	if (attachment->made_path)
		rmdir(attachment->options->common.pin_path);
	if (attachment->mounted)
		bpffs_release();
}

static void release(struct attachment *attachment)
{
	instance_close(&attachment->instance);
	if (attachment->lock >= 0)
		close(attachment->lock);
	handshake_bpf__destroy(attachment->skeleton);
	free(attachment->devices);
	free(attachment->is_new);
	free(attachment->old_notes);
	free(attachment->answered);
}

/*
 * Forgets a device that is gone, if one that is to be attached has its name now, or if it never was:
 * `detach` would take the name for the new one's.
 */
static int forget_gone(unsigned int ifindex, const struct interface *interface, void *context)
{
	const struct attachment *attachment = context;
	bool named = false, namesake = false;
	char path[PATH_MAX], program[16];

	for (int i = 0; i < attachment->options->interface_count; i++) {
		named |= attachment->devices[i].ifindex == ifindex;
		namesake |= !strncmp(attachment->devices[i].name, interface->name, sizeof(interface->name));
	}
	instance_path(&attachment->instance, path, "links/%u", ifindex);
	if (!named && !instance_link_read(&attachment->instance, ifindex, LINK_XDP, program) &&
	    (namesake || access(path, F_OK)))
		instance_forget_interface(&attachment->instance, ifindex);
	return 0;
}

/*
 * Which interfaces are interrupted. Those that are named and do not answer: a detach is under way, or an
 * attach was cut short before the filter was filled. All, where a new port has connections that nobody has
 * marked, or where nobody knows what the settings were when marks were made. While they are being marked,
 * SYNs go to the stack and leave marks themselves. Where neither port nor device is new, nothing is
 * interrupted.
 */
static int begin_drain(struct attachment *attachment, bool everywhere, bool *drain)
{
	const struct attach_options *options = attachment->options;
	int error = instance_each_interface(&attachment->instance, list_answering, attachment), kept = 0;

	*drain = everywhere;
	for (int i = 0; i < options->interface_count; i++) {
		*drain |= !is_answering(attachment, &attachment->devices[i]);
		bpf_map_lookup_elem(attachment->instance.interfaces, &attachment->devices[i].ifindex,
				    &attachment->old_notes[i]);
	}
	for (int i = 0; i < attachment->answered_count; i++)
		if (everywhere || is_named(attachment, attachment->answered[i].ifindex))
			attachment->answered[kept++] = attachment->answered[i];
	attachment->answered_count = kept;
	if (!error && *drain)
		error = stop_answering(attachment);
	return error ? fail("cannot replace the programs: %s", strerror(-error)) : EXIT_DONE;
}

/* Programs on, filter filled, and only then answering. What can fail comes first. */
static int go_live(struct attachment *attachment)
{
	const struct attach_options *options = attachment->options;
	struct port_set ports = {};
	bool drain, added;
	char program[16];
	int code, error;

	instance_each_interface(&attachment->instance, forget_gone, attachment);
	error = pin_drain(attachment);
	if (error)
		return fail("cannot pin the draining program: %s", strerror(-error));
	merge_ports(attachment, &ports, &added);
	code = begin_drain(attachment, added || attachment->instance.damaged, &drain);
	if (code)
		return code;
	attachment->changed = !attachment->fresh;
	for (int i = 0; i < options->interface_count; i++) {
		if (is_attached(attachment, &attachment->devices[i], program))
			continue;
		code = attach_new_device(attachment, i);
		if (code)
			return code;
	}
	error = attach_helpers(attachment);
	if (error)
		return fail("cannot attach the iterators and the tracing program: %s (-v shows more)",
			    strerror(-error));
	error = change_settings(attachment);
	if (error)
		return fail("cannot write the settings: %s", strerror(-error));
	for (int i = 0; i < options->interface_count; i++)
		if (!attachment->is_new[i]) {
			code = swap_device(attachment, i, drain);
			if (code)
				return code;
		}
	attachment->ports_changed = !attachment->fresh;
	error = write_ports(&attachment->instance, &ports);
	if (error)
		return fail("cannot write the ports: %s", strerror(-error));
	/* Also where nothing is new: somebody may have written to the filter. */
	error = instance_refill(&attachment->instance);
	if (error)
		return fail("cannot list the stack's connections: %s; attach again", strerror(-error));
	error = instance_unsettle(&attachment->instance);
	if (error)
		return fail("cannot map the filter: %s; attach again", strerror(-error));
	error = addresses_store(&attachment->instance);
	if (error)
		return fail("cannot write the host's addresses: %s", strerror(-error));
	for (int i = 0; drain && i < options->interface_count; i++) {
		error = link_answer(attachment, &attachment->devices[i]);
		if (error)
			return fail("cannot begin to answer on %s: %s", attachment->devices[i].name,
				    strerror(-error));
	}
	error = drain ? answer_again(attachment) : 0;
	if (error)
		return fail("cannot begin to answer again: %s", strerror(-error));
	instance_end_validation(&attachment->instance);
	write_services(&attachment->instance, options);
	forget_services(&attachment->instance, &ports);
	connections_sweep(&attachment->instance);
	return EXIT_DONE;
}

/* ---- the firewall ---- */

/* The devices that the ports will hold for. */
struct device_list {
	unsigned int *ifindex;
	int count;
};

static int list_device(unsigned int ifindex, const struct interface *interface, void *context)
{
	struct device_list *list = context;
	unsigned int *more = realloc(list->ifindex, ((size_t)list->count + 1) * sizeof(*more));

	(void)interface;
	if (!more)
		return -ENOMEM;
	list->ifindex = more;
	list->ifindex[list->count++] = ifindex;
	return 0;
}

static int refuse_rules(const struct rule_findings *findings)
{
	const struct rule_finding *first = findings->list;
	char others[64] = "";

	if (findings->count > 1)
		snprintf(others, sizeof(others), "; %zu more like it, -v shows all", findings->count - 1);
	for (size_t i = 1; log_verbosity && i < findings->count; i++)
		note("firewall: '%s' %s: %s", findings->list[i].rule, rule_reason(findings->list[i].kind),
		     rule_remedy(findings->list[i].kind));
	return fail(
		"firewall: '%s' %s: %s, or, if README's section on firewalls says that it may stay, give "
		"--firewall-checked%s",
		first->rule, rule_reason(first->kind), rule_remedy(first->kind), others);
}

/* Refuses where rules must see SYNs that we would answer. */
static int check_firewall(struct attachment *attachment)
{
	const struct attach_options *options = attachment->options;
	struct rule_findings findings = {};
	struct device_list devices = {};
	struct port_set ports = options->ports;
	const char *why = "out of memory";
	int error = 0, code = EXIT_DONE;
	bool added;

	if (options->firewall_checked)
		return EXIT_DONE;
	if (!attachment->fresh)
		merge_ports(attachment, &ports, &added);
	for (int i = 0; !error && i < options->interface_count; i++)
		error = list_device(attachment->devices[i].ifindex, NULL, &devices);
	if (!error && !attachment->fresh)
		error = instance_each_interface(&attachment->instance, list_device, &devices);
	if (!error)
		why = firewall_read(&ports, devices.ifindex, devices.count, &findings);
	if (why)
		code = fail(
			"cannot read the firewall's ruleset (%s): check it yourself as README's section on "
			"firewalls says, then give --firewall-checked",
			why);
	else if (findings.count)
		code = refuse_rules(&findings);
	findings_free(&findings);
	free(devices.ifindex);
	return code;
}

/* The directory, and the lock on it: from here on nobody else changes what is in there. */
static int take_path(struct attachment *attachment)
{
	const char *pin_path = attachment->options->common.pin_path;
	int error;

	for (;;) {
		attachment->made_path = access(pin_path, F_OK) != 0;
		error = make_directory(pin_path);
		if (error)
			return fail(
				"cannot make %s: %s; name a directory of a bpf file system with --pin-path",
				pin_path, strerror(-error));
		attachment->lock = instance_lock_path(pin_path);
		if (attachment->lock >= 0)
			return EXIT_DONE;
		if (attachment->lock != -ENOENT)
			return fail("cannot lock %s: %s", pin_path, strerror(-attachment->lock));
		/* Its last interface was detached just now. */
	}
}

static int open_running(struct attachment *attachment)
{
	const struct attach_options *options = attachment->options;
	int code = instance_open(&attachment->instance, options->common.pin_path, true);

	if (code)
		return code;
	attachment->opened = true;
	attachment->old_settings = attachment->instance.set;
	if (options->connections)
		note("the tables keep their size: --connections takes effect after detach --all");
	if (options->epoch_seconds && options->epoch_seconds * 1000 != attachment->instance.set.epoch_ms)
		note("the epoch keeps its length: --epoch takes effect after detach --all");
	return EXIT_DONE;
}

static int attach_all(struct attachment *attachment)
{
	const struct attach_options *options = attachment->options;
	char path[PATH_MAX];
	int code;

	code = probe_all();
	code = code ?: check_devices(attachment);
	code = code ?: bpffs_ensure(options->common.pin_path, &attachment->mounted);
	code = code ?: take_path(attachment);
	if (code)
		return code;
	instance_path(&attachment->instance, path, "settings");
	attachment->fresh = access(path, F_OK) != 0;
	if (!attachment->fresh)
		code = open_running(attachment);
	else if (instance_kind(options->common.pin_path) == INSTANCE_REMAINS)
		instance_unpin(&attachment->instance);
	code = code ?: check_programs(attachment);
	code = code ?: check_firewall(attachment);
	code = code ?: load(attachment);
	if (!code && attachment->fresh) {
		code = create_instance(attachment);
		code = code ?: instance_open(&attachment->instance, options->common.pin_path, true);
		attachment->opened = !code;
	}
	return code ?: go_live(attachment);
}

int attach(const struct attach_options *options)
{
	struct attachment attachment = { .options = options, .lock = -1 };
	int code;

	instance_init(&attachment.instance, options->common.pin_path);
	code = attach_all(&attachment);
	if (code)
		undo(&attachment);
	release(&attachment);
	return code;
}
