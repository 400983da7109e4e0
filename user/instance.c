// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "instance.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <linux/magic.h>

#include <bpf/bpf.h>
#include <bpf/btf.h>

#include "format.h"
#include "log.h"
#include "netdev.h"
#include "settings.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

const char *const instance_link_names[LINKS] = { "xdp", "ingress", "egress" };

__u64 netns_cookie(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	socklen_t length = sizeof(__u64);
	__u64 cookie = 0;

	if (fd < 0)
		return 0;
	if (getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &length))
		cookie = 0;
	close(fd);
	return cookie;
}

void instance_path(const struct instance *instance, char path[PATH_MAX], const char *format, ...)
{
	int length = snprintf(path, PATH_MAX, "%s/", instance->pin_path);
	va_list arguments;

	if (length < 0 || length >= PATH_MAX)
		return;
	va_start(arguments, format);
	vsnprintf(path + length, (size_t)(PATH_MAX - length), format, arguments);
	va_end(arguments);
}

/* ---- the bpf file system ---- */

static bool on_bpffs(const char *path)
{
	struct statfs fs;

	return !statfs(path, &fs) && fs.f_type == BPF_FS_MAGIC;
}

/*
 * Whether this mount namespace is a private one, as `ip netns exec` makes: then a process that we come
 * from, or the first of all, has another.
 */
static bool mount_namespace_private(void)
{
	char own[64], other[64], path[64], line[512];
	pid_t pid = getpid();
	ssize_t length = readlink("/proc/self/ns/mnt", own, sizeof(own) - 1);

	if (length <= 0)
		return false;
	own[length] = '\0';
	while (pid > 0) {
		char *paren;
		FILE *stat;
		int parent = 0;

		snprintf(path, sizeof(path), "/proc/%d/ns/mnt", pid);
		length = readlink(path, other, sizeof(other) - 1);
		if (length > 0) {
			other[length] = '\0';
			if (strcmp(own, other))
				return true;
		}
		snprintf(path, sizeof(path), "/proc/%d/stat", pid);
		stat = fopen(path, "re");
		if (!stat)
			break;
		/* "pid (name) state ppid": the name may hold anything, so from its end on. */
		paren = fgets(line, sizeof(line), stat) ? strrchr(line, ')') : NULL;
		fclose(stat);
		if (!paren || sscanf(paren, ") %*c %d", &parent) != 1)
			break;
		pid = parent;
	}
	return false;
}

#define BPFFS "/sys/fs/bpf"

int bpffs_ensure(const char *pin_path, bool *mounted)
{
	static const char root[] = BPFFS;
	int code = EXIT_DONE, lock;
	char room[PATH_MAX], *path = room;

	*mounted = false;
	/* The deepest directory that is there already tells which file system it will be. */
	snprintf(room, sizeof(room), "%s", pin_path);
	while (access(path, F_OK) && strcmp(path, "/") && strcmp(path, "."))
		path = dirname(path);
	if (on_bpffs(path))
		return EXIT_DONE;
	if (strncmp(pin_path, root, sizeof(root) - 1) ||
	    (pin_path[sizeof(root) - 1] && pin_path[sizeof(root) - 1] != '/'))
		return fail("%s is not on a bpf file system: mount one (mount -t bpf bpf %s), or leave out "
			    "--pin-path",
			    pin_path, path);
	if (mount_namespace_private())
		return fail("no bpf file system at %s, and pins in this private mount namespace would die "
			    "with it: enter the network namespace alone (nsenter --net=/run/netns/NAME "
			    "xdp-handshake …) instead of ip netns exec",
			    root);
	/* One at a time, or the second file system would hide the first one, and the pins in it. */
	lock = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (lock < 0 || flock(lock, LOCK_EX))
		code = fail("cannot lock %s: %s", root, strerror(errno));
	else if (!on_bpffs(root))
		*mounted = !mount("bpf", root, "bpf", 0, "mode=0700");
	if (!code && !on_bpffs(root))
		code = fail(
			"cannot mount a bpf file system at %s: %s; as root: mount -t bpf bpf %s, or name "
			"a directory of another one with --pin-path",
			root, strerror(errno), root);
	if (lock >= 0)
		close(lock);
	return code;
}

void bpffs_release(void)
{
	DIR *dir = opendir(BPFFS);
	struct dirent *entry;
	bool used = false;

	/* What has a dot in its name is the kernel's own. */
	while (dir && (entry = readdir(dir)))
		used |= !strchr(entry->d_name, '.');
	if (dir)
		closedir(dir);
	if (dir && !used)
		umount(BPFFS);
}

/* ---- opening ---- */

static const struct {
	const char *name;
	size_t offset;
	enum bpf_map_type type;
} instance_maps[] = {
	/* The first one to be looked for, and the last one to be pinned: where it is, all are. */
	{ "settings", offsetof(struct instance, settings), BPF_MAP_TYPE_ARRAY },
	{ "services", offsetof(struct instance, services), BPF_MAP_TYPE_HASH },
	{ "connections", offsetof(struct instance, connections), BPF_MAP_TYPE_HASH },
	{ "known_tuples", offsetof(struct instance, known_tuples), BPF_MAP_TYPE_ARRAY },
	{ "known_notes", offsetof(struct instance, known_notes), BPF_MAP_TYPE_ARRAY },
	{ "used_cookies", offsetof(struct instance, used_cookies), BPF_MAP_TYPE_ARRAY },
	{ "keys", offsetof(struct instance, keys), BPF_MAP_TYPE_ARRAY },
	{ "ports", offsetof(struct instance, ports), BPF_MAP_TYPE_ARRAY },
	{ "own_addresses", offsetof(struct instance, own_addresses), BPF_MAP_TYPE_ARRAY },
	{ "interfaces", offsetof(struct instance, interfaces), BPF_MAP_TYPE_HASH },
	{ "counters", offsetof(struct instance, counters), BPF_MAP_TYPE_PERCPU_ARRAY },
	{ "forgings", offsetof(struct instance, forgings), BPF_MAP_TYPE_ARRAY },
	{ "events", offsetof(struct instance, events), BPF_MAP_TYPE_RINGBUF },
};

/* What else we pin, in the order of removal: what is in a directory before the directory. */
static const char *const instance_pins[] = {
	"links/track",
	"links/track_new",
	"links/track_resets",
	"links/track_resets_new",
	"links",
	"sockets",
	"sockets_new",
	"known_refill",
	"known_refill_new",
	"programs/xdp_drain",
	"programs/xdp_drain_new",
	"programs",
};

#define LENGTH(array) (sizeof(array) / sizeof(*(array)))

static int *instance_map(struct instance *instance, size_t i)
{
	return (int *)((char *)instance + instance_maps[i].offset);
}

void instance_init(struct instance *instance, const char *pin_path)
{
	memset(instance, 0, sizeof(*instance));
	instance->pin_path = pin_path;
	instance->lock = -1;
	for (size_t i = 0; i < LENGTH(instance_maps); i++)
		*instance_map(instance, i) = -1;
}

void instance_close(struct instance *instance)
{
	for (size_t i = 0; i < LENGTH(instance_maps); i++) {
		if (*instance_map(instance, i) >= 0)
			close(*instance_map(instance, i));
		*instance_map(instance, i) = -1;
	}
	instance_unlock(instance);
}

__u32 map_entries(int fd)
{
	struct bpf_map_info info = {};
	__u32 length = sizeof(info);

	return bpf_obj_get_info_by_fd(fd, &info, &length) ? 0 : info.max_entries;
}

/*
 * Reads the settings, if they are of our layout. Their size is looked at first: the kernel copies as much
 * as the map has, and those of another version may have more. Other versions may lack other maps, too.
 * Returns 0, -EPROTO for another layout, -EMEDIUMTYPE for what no version of ours has made, or another
 * -errno.
 */
static int read_settings(int settings, struct settings *set)
{
	const __u32 zero = 0;
	struct bpf_map_info info = {};
	__u32 length = sizeof(info), *value;
	int error;

	if (bpf_obj_get_info_by_fd(settings, &info, &length))
		return -errno;
	/* Of other kinds, more than the size of one value might be copied. */
	if (info.type != instance_maps[0].type || info.max_entries != 1 ||
	    strcmp(info.name, instance_maps[0].name))
		return -EMEDIUMTYPE;
	value = calloc(1, info.value_size + sizeof(*set));
	if (!value)
		return -ENOMEM;
	error = bpf_map_lookup_elem(settings, &zero, value) ? -errno : 0;
	memcpy(set, value, sizeof(*set));
	free(value);
	if (!error && (set->layout != ABI_LAYOUT || info.value_size != sizeof(*set)))
		error = -EPROTO;
	return error;
}

/* Opens the map number @i. Returns -errno if that fails; of the first one, also what read_settings() does.
 */
static int open_map(struct instance *instance, size_t i)
{
	char path[PATH_MAX];
	int fd;

	instance_path(instance, path, "%s", instance_maps[i].name);
	fd = bpf_obj_get(path);
	if (fd < 0)
		return -errno;
	*instance_map(instance, i) = fd;
	return i ? 0 : read_settings(fd, &instance->set);
}

enum remains {
	REMAINS_OURS,
	REMAINS_OTHER,	  /* a name that we do not use */
	REMAINS_CONFLICT, /* one that we do, on what is not ours */
};

/* What the pin of that name is, where there are no settings. */
static enum remains remains_of(const struct instance *instance, const char *name)
{
	struct bpf_map_info info = {};
	__u32 length = sizeof(info);
	char path[PATH_MAX];
	bool ours;
	size_t i;
	int fd;

	for (i = 0; i < LENGTH(instance_maps) && strcmp(instance_maps[i].name, name);)
		i++;
	if (i == LENGTH(instance_maps))
		return REMAINS_OTHER;
	instance_path(instance, path, "%s", name);
	fd = bpf_obj_get(path);
	if (fd < 0)
		return REMAINS_CONFLICT;
	ours = !bpf_obj_get_info_by_fd(fd, &info, &length) && !strcmp(info.name, name) &&
	       info.type == instance_maps[i].type;
	close(fd);
	return ours ? REMAINS_OURS : REMAINS_CONFLICT;
}

/* There are no settings, which are the last to come and the first to go: did others of our maps stay? */
static enum instance_kind remains_kind(const struct instance *instance)
{
	int found[3] = {};
	struct dirent *entry;
	DIR *dir;

	if (!on_bpffs(instance->pin_path))
		return INSTANCE_NONE;
	dir = opendir(instance->pin_path);
	if (!dir)
		return INSTANCE_NONE;
	while ((entry = readdir(dir)))
		if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
			found[remains_of(instance, entry->d_name)]++;
	closedir(dir);
	/* Or was it killed before the first one was there, or after the last one had gone? */
	return !found[REMAINS_CONFLICT] && (found[REMAINS_OURS] || !found[REMAINS_OTHER]) ? INSTANCE_REMAINS
											  : INSTANCE_NONE;
}

enum instance_kind instance_kind(const char *pin_path)
{
	struct instance instance;
	enum instance_kind kind;
	int error;

	instance_init(&instance, pin_path);
	error = open_map(&instance, 0);
	if (error == -ENOENT) {
		kind = remains_kind(&instance);
	} else {
		for (size_t i = 1; i < LENGTH(instance_maps) && !error; i++)
			error = open_map(&instance, i);
		kind = !error				      ? INSTANCE_WHOLE
		       : error == -EPROTO || error == -ENOENT ? INSTANCE_UNREADABLE
							      : INSTANCE_NONE;
	}
	instance_close(&instance);
	return kind;
}

/* For instance_each_link(). */
static int link_lives(unsigned int ifindex, void *context)
{
	char program[16];

	return instance_link_read(context, ifindex, LINK_XDP, program);
}

/* The same: whether the link is on a device of this network namespace. */
static int link_is_here(unsigned int ifindex, void *context)
{
	struct netdev dev = { .ifindex = ifindex };
	struct bpf_link_info info = {};
	__u32 length = sizeof(info);
	int fd = instance_link_open(context, ifindex, LINK_XDP);
	bool here = false;

	if (fd < 0)
		return false;
	if (!bpf_obj_get_info_by_fd(fd, &info, &length) && info.xdp.ifindex == ifindex)
		here = !netdev_read_xdp(&dev) && dev.xdp_program == info.prog_id;
	close(fd);
	return here;
}

/* There is no instance: has a device programs of ours all the same? */
static int fail_nothing(const char *pin_path)
{
	struct netdev dev;
	char command[64];

	if (!netdev_find_ours(&dev))
		return fail("nothing is attached under %s: run `xdp-handshake attach` first, or name the "
			    "place with --pin-path",
			    pin_path);
	netdev_xdp_off(&dev, command);
	return fail("nothing is attached under %s, but %s carries our program: name its place with "
		    "--pin-path; if that was unmounted, %s, then xdp-handshake attach",
		    pin_path, dev.name, command);
}

/* Of another network namespace, or of one that is no more. */
static int fail_namespace(const struct instance *instance)
{
	if (!instance_each_link(instance, link_lives, (void *)instance))
		return fail(
			"%s belongs to another network namespace, and the interfaces are gone that it was "
			"attached to: `xdp-handshake detach --all` removes it",
			instance->pin_path);
	return fail("%s belongs to another network namespace: enter it (nsenter --net=/run/netns/NAME), "
		    "or give this one its own --pin-path",
		    instance->pin_path);
}

/* Says why map number @i does not open. */
static int fail_open(const struct instance *instance, size_t i, int error)
{
	char path[PATH_MAX], settings[PATH_MAX];

	instance_path(instance, path, "%s", instance_maps[i].name);
	if (error == -EPROTO)
		return fail("the maps under %s have layout %u, this program has %u: use the version that "
			    "attached, or `xdp-handshake detach --all`, then attach",
			    instance->pin_path, instance->set.layout, ABI_LAYOUT);
	if (error == -EMEDIUMTYPE)
		return fail("%s is no instance of ours: name another directory with --pin-path",
			    instance->pin_path);
	instance_path(instance, settings, "%s", instance_maps[0].name);
	/* Settings are the first to go: somebody is detaching. */
	if (error == -ENOENT && access(settings, F_OK))
		return fail_nothing(instance->pin_path);
	if (error == -EACCES || error == -EPERM)
		return fail("not allowed to open %s: run as root, or as the user who attached", path);
	if (error == -ENOENT)
		return fail("cannot open %s: %s; half an instance is left there: `xdp-handshake detach "
			    "--all` "
			    "removes it, then attach",
			    path, strerror(-error));
	return fail("cannot open %s: %s; try again", path, strerror(-error));
}

int instance_open(struct instance *instance, const char *pin_path, bool same_netns)
{
	int code = EXIT_DONE, error;

	instance_init(instance, pin_path);
	instance->same_netns = same_netns;
	for (size_t i = 0; !code && i < LENGTH(instance_maps); i++) {
		error = open_map(instance, i);
		if (error)
			code = fail_open(instance, i, error);
	}
	if (!code && same_netns && instance->set.netns_cookie != netns_cookie()) {
		/* Its devices know better where it belongs. */
		instance->damaged = instance_each_link(instance, link_is_here, instance);
		if (instance->damaged)
			instance->set.netns_cookie = netns_cookie();
		else
			code = fail_namespace(instance);
	}
	if (code)
		instance_close(instance);
	else
		instance->damaged |= settings_mend(&instance->set, map_entries(instance->known_tuples) / 2,
						   map_entries(instance->used_cookies));
	return code;
}

int instance_lock_path(const char *pin_path)
{
	for (;;) {
		struct stat locked, there;
		int error, fd = open(pin_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		if (fd < 0)
			return -errno;
		if (flock(fd, LOCK_EX)) {
			error = -errno;
			close(fd);
			return error;
		}
		if (!fstat(fd, &locked) && !stat(pin_path, &there) && locked.st_ino == there.st_ino &&
		    locked.st_dev == there.st_dev)
			return fd;
		/* Removed, or made anew, while we waited: what we hold is a lock on nothing. */
		close(fd);
		if (access(pin_path, F_OK))
			return -errno;
	}
}

int instance_lock(struct instance *instance)
{
	bool gone;
	int code = instance_lock_there(instance, &gone);

	return gone ? fail("nothing is attached under %s any more", instance->pin_path) : code;
}

int instance_lock_there(struct instance *instance, bool *gone)
{
	const char *pin_path = instance->pin_path;
	const bool same_netns = instance->same_netns;
	int code, lock = instance_lock_path(pin_path);

	*gone = lock == -ENOENT;
	if (*gone)
		return EXIT_DONE;
	if (lock < 0)
		return fail("cannot lock %s: %s", pin_path, strerror(-lock));
	instance_close(instance);
	code = instance_open(instance, pin_path, same_netns);
	if (code)
		close(lock);
	else
		instance->lock = lock;
	return code;
}

void instance_unlock(struct instance *instance)
{
	if (instance->lock >= 0)
		close(instance->lock);
	instance->lock = -1;
}

int instance_store_settings(const struct instance *instance)
{
	const __u32 zero = 0;
	struct settings set = instance->set, now;

	/* The programs may have set a flag of theirs, or counted, since ours were read. */
	if (bpf_map_lookup_elem(instance->settings, &zero, &now))
		return -errno;
	set.flags |= now.flags & SETTINGS_OF_PROGRAMS;
	set.resets = now.resets;
	return bpf_map_update_elem(instance->settings, &zero, &set, BPF_EXIST) ? -errno : 0;
}

int instance_clear_flag(struct instance *instance, enum settings_flag flag)
{
	const __u32 zero = 0;
	struct settings now;

	if (bpf_map_lookup_elem(instance->settings, &zero, &now))
		return -errno;
	now.flags &= ~(__u32)flag;
	instance->set = now;
	return bpf_map_update_elem(instance->settings, &zero, &now, BPF_EXIST) ? -errno : 0;
}

static int is_generic(unsigned int ifindex, const struct interface *interface, void *context)
{
	(void)ifindex;
	(void)context;
	return !interface->native;
}

void instance_end_validation(struct instance *instance)
{
	if (!instance_each_interface(instance, is_generic, NULL))
		instance_clear_flag(instance, SETTING_TC_VALIDATES);
}

int instance_clear_resets(struct instance *instance)
{
	const __u32 zero = 0;
	struct settings now;

	if (bpf_map_lookup_elem(instance->settings, &zero, &now))
		return -errno;
	now.resets = 0;
	instance->set = now;
	return bpf_map_update_elem(instance->settings, &zero, &now, BPF_EXIST) ? -errno : 0;
}

int instance_link_open(const struct instance *instance, unsigned int ifindex, enum instance_link which)
{
	char path[PATH_MAX];
	int fd;

	instance_path(instance, path, "links/%u/%s", ifindex, instance_link_names[which]);
	fd = bpf_obj_get(path);
	return fd < 0 ? -errno : fd;
}

int instance_each_interface(const struct instance *instance,
			    int (*each)(unsigned int ifindex, const struct interface *interface,
					void *context),
			    void *context)
{
	__u32 ifindex, next;
	struct interface interface;
	int result;

	/* The next key is asked for before @each may delete this one. */
	if (bpf_map_get_next_key(instance->interfaces, NULL, &next))
		return 0;
	for (;;) {
		int more;

		ifindex = next;
		more = !bpf_map_get_next_key(instance->interfaces, &ifindex, &next);
		if (!bpf_map_lookup_elem(instance->interfaces, &ifindex, &interface)) {
			result = each(ifindex, &interface, context);
			if (result)
				return result;
		}
		if (!more)
			return 0;
	}
}

__u32 instance_drain_program(const struct instance *instance)
{
	struct bpf_prog_info info = {};
	__u32 length = sizeof(info);
	char path[PATH_MAX];
	int fd;

	instance_path(instance, path, "programs/xdp_drain");
	fd = bpf_obj_get(path);
	if (fd < 0)
		return 0;
	if (bpf_obj_get_info_by_fd(fd, &info, &length))
		info.id = 0;
	close(fd);
	return info.id;
}

/*
 * To find a program by its id takes CAP_SYS_ADMIN. Without it, what runs on a device answers if the notes
 * say so: what detach would put there now may be another program than it was when it drained.
 */
static bool program_answers(const struct instance *instance, unsigned int ifindex, __u32 id)
{
	struct interface interface;

	if (!bpf_map_lookup_elem(instance->interfaces, &ifindex, &interface))
		return interface.answers == id;
	/* Of another layout: drained just now, or not at all. */
	return id != instance_drain_program(instance);
}

bool instance_link_read(const struct instance *instance, unsigned int ifindex, enum instance_link which,
			char program[16])
{
	struct bpf_link_info info = {};
	__u32 length = sizeof(info);
	int fd = instance_link_open(instance, ifindex, which);
	bool there;

	if (fd < 0)
		return false;
	/* Links of tcx, which older headers do not know, have the device's number at the same place. */
	there = !bpf_obj_get_info_by_fd(fd, &info, &length) && info.xdp.ifindex;
	close(fd);
	if (!there)
		return false;
	program_name(info.prog_id, program);
	if (!*program && which == LINK_XDP)
		strcpy(program,
		       program_answers(instance, ifindex, info.prog_id) ? "xdp_handshake" : "xdp_drain");
	return true;
}

int instance_drain_link(const struct instance *instance, unsigned int ifindex)
{
	char path[PATH_MAX], running[16];
	int link, program, error;

	if (!instance_link_read(instance, ifindex, LINK_XDP, running))
		return -ENOLINK;
	instance_path(instance, path, "programs/xdp_drain");
	program = bpf_obj_get(path);
	/* An attach that was killed before it had pinned one has put its own there. */
	if (program < 0)
		return errno == ENOENT && !strcmp(running, "xdp_drain") ? 0 : -errno;
	link = instance_link_open(instance, ifindex, LINK_XDP);
	error = link < 0 ? link : bpf_link_update(link, program, NULL) ? -errno : 0;
	close(program);
	if (link >= 0)
		close(link);
	return error;
}

void instance_forget_interface(const struct instance *instance, unsigned int ifindex)
{
	struct service_key key, next;
	char path[PATH_MAX];
	bool more;

	/* What validates goes before what promotes. The notes go last: by them, what is left of this is
	 * found if we are killed. */
	for (int i = 0; i < LINKS; i++) {
		int fd = instance_link_open(instance, ifindex, i);

		if (fd >= 0) {
			bpf_link_detach(fd);
			close(fd);
		}
		instance_path(instance, path, "links/%u/%s", ifindex, instance_link_names[i]);
		unlink(path);
	}
	instance_path(instance, path, "links/%u", ifindex);
	rmdir(path);
	more = !bpf_map_get_next_key(instance->services, NULL, &next);
	while (more) {
		key = next;
		more = !bpf_map_get_next_key(instance->services, &key, &next);
		if (key.ifindex == ifindex)
			bpf_map_delete_elem(instance->services, &key);
	}
	bpf_map_delete_elem(instance->interfaces, &ifindex);
}

int instance_each_link(const struct instance *instance, int (*each)(unsigned int ifindex, void *context),
		       void *context)
{
	char path[PATH_MAX];
	struct dirent *entry;
	int result = 0;
	DIR *dir;

	instance_path(instance, path, "links");
	dir = opendir(path);
	if (!dir)
		return 0;
	while (!result && (entry = readdir(dir))) {
		unsigned int ifindex = (unsigned int)strtoul(entry->d_name, NULL, 10);

		if (ifindex)
			result = each(ifindex, context);
	}
	closedir(dir);
	return result;
}

static int forget_link(unsigned int ifindex, void *context)
{
	instance_forget_interface(context, ifindex);
	return 0;
}

void instance_unpin(const struct instance *instance)
{
	char path[PATH_MAX];

	/* Of devices that are gone as well. */
	instance_each_link(instance, forget_link, (void *)instance);
	for (size_t i = 0; i < LENGTH(instance_pins); i++) {
		instance_path(instance, path, "%s", instance_pins[i]);
		if (unlink(path))
			rmdir(path);
	}
	/* Settings first: what is there without them counts for remains. */
	for (size_t i = 0; i < LENGTH(instance_maps); i++) {
		instance_path(instance, path, "%s", instance_maps[i].name);
		unlink(path);
	}
}

void instance_remove(const struct instance *instance)
{
	instance_unpin(instance);
	rmdir(instance->pin_path);
}

bool instance_unanswered(const struct instance *instance, const struct service *service)
{
	const struct service_canary *canary = &service->canary;
	const struct settings *set = &instance->set;
	const unsigned long long now_ms = monotonic_ms();

	/* As bpf/service.h: canary_unanswered(). */
	if (!canary->waiting_since_ms || set->flags & SETTING_CANARY_ONCE)
		return false;
	return now_ms > canary->waiting_since_ms + set->canary_patience_ms ||
	       canary->unanswered > CANARIES_UNANSWERED ||
	       (canary->unanswered == CANARIES_UNANSWERED &&
		now_ms >= canary->sent_ms + set->canary_gap_ms);
}

int instance_refill(const struct instance *instance)
{
	char path[PATH_MAX], room[4096];
	int link, iterator;
	ssize_t length;

	instance_path(instance, path, "known_refill");
	link = bpf_obj_get(path);
	if (link < 0)
		return -errno;
	iterator = bpf_iter_create(link);
	close(link);
	if (iterator < 0)
		return -errno;
	do {
		length = read(iterator, room, sizeof(room));
	} while (length > 0 || (length < 0 && (errno == EAGAIN || errno == EINTR)));
	length = length < 0 ? -errno : 0;
	close(iterator);
	return (int)length;
}

unsigned long instance_epoch_ms(const char *pin_path)
{
	struct bpf_map_info info = {};
	const struct btf_type *type;
	const struct btf_member *member;
	__u32 length = sizeof(info), epoch_ms = 0;
	const __u32 zero = 0;
	struct btf *btf;
	char path[PATH_MAX], *value;
	int fd;

	snprintf(path, sizeof(path), "%s/settings", pin_path);
	fd = bpf_obj_get(path);
	if (fd < 0)
		return 0;
	btf = bpf_obj_get_info_by_fd(fd, &info, &length) ? NULL : btf__load_from_kernel_by_id(info.btf_id);
	type = btf ? btf__type_by_id(btf, info.btf_value_type_id) : NULL;
	value = calloc(1, info.value_size + 1);
	if (type && btf_is_struct(type) && value && !bpf_map_lookup_elem(fd, &zero, value)) {
		member = btf_members(type);
		for (int i = 0; i < btf_vlen(type); i++)
			if (!strcmp(btf__name_by_offset(btf, member[i].name_off), "epoch_ms") &&
			    member[i].offset / 8 + sizeof(epoch_ms) <= info.value_size)
				memcpy(&epoch_ms, value + member[i].offset / 8, sizeof(epoch_ms));
	}
	free(value);
	btf__free(btf);
	close(fd);
	return epoch_ms;
}

/* @size bytes of a map, noted in @mapped_size; NULL and errno if it cannot be mapped. */
static void *map_mapped(int map, size_t size, size_t *mapped_size)
{
	void *mapped = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, map, 0);

	*mapped_size = size;
	return mapped == MAP_FAILED ? NULL : mapped;
}

struct known_word *instance_known_words(const struct instance *instance, size_t *size)
{
	return map_mapped(instance->known_tuples,
			  2 * ((size_t)instance->set.known_mask + 1) * sizeof(struct known_word), size);
}

struct known_note *instance_known_notes(const struct instance *instance, size_t *size)
{
	return map_mapped(instance->known_notes,
			  ((size_t)instance->set.known_mask + 1) * KNOWN_NOTES_A_WORD *
				  sizeof(struct known_note),
			  size);
}

/* @count words of one generation. */
static void unsettle(struct known_note *note, const struct known_word *word, size_t count)
{
	for (size_t i = 0; i < count * KNOWN_NOTES_A_WORD; i++) {
		__u32 settled = __atomic_load_n(&note[i].settled, __ATOMIC_RELAXED);
		const __u64 bits = known_bits((__u64)settled << 32);

		/* Unless a program has just settled another one, which it marks first. */
		if (settled && (__atomic_load_n(&word[i % count].bits, __ATOMIC_RELAXED) & bits) != bits)
			__atomic_compare_exchange_n(&note[i].settled, &settled, 0, false, __ATOMIC_RELAXED,
						    __ATOMIC_RELAXED);
	}
}

int instance_unsettle(const struct instance *instance)
{
	const size_t count = (size_t)instance->set.known_mask + 1;
	size_t words_size, notes_size;
	struct known_word *words = instance_known_words(instance, &words_size);
	struct known_note *notes;
	int error = 0;

	if (!words)
		return -errno;
	notes = instance_known_notes(instance, &notes_size);
	if (notes) {
		unsettle(notes, words, count);
		unsettle(notes, words + count, count);
		munmap(notes, notes_size);
	} else {
		error = -errno;
	}
	munmap(words, words_size);
	return error;
}

struct own_word *instance_own_words(const struct instance *instance, size_t *size)
{
	return map_mapped(instance->own_addresses, OWN_WORDS * sizeof(struct own_word), size);
}
