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

#include "format.h"
#include "log.h"

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

int bpffs_ensure(const char *pin_path, bool *mounted)
{
	static const char root[] = "/sys/fs/bpf";
	char path[PATH_MAX];

	*mounted = false;
	/* The deepest directory that is there already tells which file system it will be. */
	snprintf(path, sizeof(path), "%s", pin_path);
	while (access(path, F_OK) && strcmp(path, "/") && strcmp(path, "."))
		dirname(path);
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
	if (mount("bpf", root, "bpf", 0, "mode=0700"))
		return fail("cannot mount a bpf file system at %s: %s", root, strerror(errno));
	*mounted = true;
	return EXIT_DONE;
}

/* ---- opening ---- */

static const struct {
	const char *name;
	size_t offset;
} instance_maps[] = {
	/* The first one to be looked for, and the last one to be pinned: where it is, all are. */
	{ "settings", offsetof(struct instance, settings) },
	{ "services", offsetof(struct instance, services) },
	{ "connections", offsetof(struct instance, connections) },
	{ "known_tuples", offsetof(struct instance, known_tuples) },
	{ "used_cookies", offsetof(struct instance, used_cookies) },
	{ "keys", offsetof(struct instance, keys) },
	{ "ports", offsetof(struct instance, ports) },
	{ "interfaces", offsetof(struct instance, interfaces) },
	{ "counters", offsetof(struct instance, counters) },
	{ "forgings", offsetof(struct instance, forgings) },
	{ "events", offsetof(struct instance, events) },
};

static int *instance_map(struct instance *instance, size_t i)
{
	return (int *)((char *)instance + instance_maps[i].offset);
}

void instance_close(struct instance *instance)
{
	for (size_t i = 0; i < sizeof(instance_maps) / sizeof(*instance_maps); i++)
		if (*instance_map(instance, i) >= 0)
			close(*instance_map(instance, i));
	if (instance->lock >= 0)
		close(instance->lock);
}

/*
 * Reads the settings, if they are of our layout. Their size is looked at first: the kernel copies as much
 * as the map has, and those of another version may have more. Other versions may lack other maps, too.
 */
static int read_settings(struct instance *instance)
{
	const __u32 zero = 0;
	struct bpf_map_info info = {};
	__u32 length = sizeof(info), *value;
	int error;

	if (bpf_obj_get_info_by_fd(instance->settings, &info, &length))
		return fail("cannot look at %s/settings: %s", instance->pin_path, strerror(errno));
	value = calloc(1, info.value_size + sizeof(instance->set));
	if (!value)
		return fail("cannot read %s/settings: %s", instance->pin_path, strerror(ENOMEM));
	error = bpf_map_lookup_elem(instance->settings, &zero, value) ? errno : 0;
	memcpy(&instance->set, value, sizeof(instance->set));
	free(value);
	if (error)
		return fail("cannot read %s/settings: %s", instance->pin_path, strerror(error));
	if (instance->set.layout != ABI_LAYOUT || info.value_size != sizeof(instance->set))
		return fail("the maps under %s have layout %u, this program has %u: use the version that "
			    "attached, or `detach --all` with it first",
			    instance->pin_path, instance->set.layout, ABI_LAYOUT);
	return EXIT_DONE;
}

int instance_open(struct instance *instance, const char *pin_path, bool same_netns)
{
	char path[PATH_MAX];
	int code;

	memset(instance, 0, sizeof(*instance));
	instance->pin_path = pin_path;
	instance->lock = -1;
	for (size_t i = 0; i < sizeof(instance_maps) / sizeof(*instance_maps); i++)
		*instance_map(instance, i) = -1;
	for (size_t i = 0; i < sizeof(instance_maps) / sizeof(*instance_maps); i++) {
		int fd;

		instance_path(instance, path, "%s", instance_maps[i].name);
		fd = bpf_obj_get(path);
		if (fd >= 0) {
			*instance_map(instance, i) = fd;
			code = i ? EXIT_DONE : read_settings(instance);
			if (!code)
				continue;
			instance_close(instance);
			return code;
		}
		fd = errno;
		instance_close(instance);
		if (fd == ENOENT && !i)
			return fail(
				"nothing is attached under %s: run `xdp-handshake attach` first, or name "
				"the place with --pin-path",
				pin_path);
		if (fd == EACCES || fd == EPERM)
			return fail("not allowed to open %s: run as root, or as the user who attached",
				    path);
		return fail("cannot open %s: %s; half an instance is left there: remove it (rm -r %s), "
			    "then attach",
			    path, strerror(fd), pin_path);
	}
	if (same_netns && instance->set.netns_cookie != netns_cookie()) {
		instance_close(instance);
		return fail("%s belongs to another network namespace: enter it (nsenter "
			    "--net=/run/netns/NAME), "
			    "or give this one its own --pin-path",
			    pin_path);
	}
	return EXIT_DONE;
}

int instance_lock_path(const char *pin_path)
{
	for (;;) {
		struct stat locked, there;
		int fd = open(pin_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		if (fd < 0)
			return -errno;
		if (!flock(fd, LOCK_EX) && !fstat(fd, &locked) && !stat(pin_path, &there) &&
		    locked.st_ino == there.st_ino && locked.st_dev == there.st_dev)
			return fd;
		/* Removed, or made anew, while we waited: what we hold is a lock on nothing. */
		close(fd);
		if (access(pin_path, F_OK))
			return -errno;
	}
}

int instance_lock(struct instance *instance)
{
	const __u32 zero = 0;

	instance->lock = instance_lock_path(instance->pin_path);
	if (instance->lock < 0)
		return fail("cannot lock %s: %s", instance->pin_path, strerror(-instance->lock));
	if (bpf_map_lookup_elem(instance->settings, &zero, &instance->set))
		return fail("cannot read %s/settings: %s", instance->pin_path, strerror(errno));
	return EXIT_DONE;
}

int instance_store_settings(const struct instance *instance)
{
	const __u32 zero = 0;
	struct settings set = instance->set, now;

	/* The programs may have set a flag of theirs since ours were read. */
	if (bpf_map_lookup_elem(instance->settings, &zero, &now))
		return -errno;
	set.flags |= now.flags & SETTINGS_OF_PROGRAMS;
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
	__u32 ifindex, next, *previous = NULL;
	struct interface interface;
	int result;

	/* The next key is asked for before @each may delete this one. */
	if (bpf_map_get_next_key(instance->interfaces, NULL, &next))
		return 0;
	for (;;) {
		int more;

		ifindex = next;
		previous = &ifindex;
		more = !bpf_map_get_next_key(instance->interfaces, previous, &next);
		if (!bpf_map_lookup_elem(instance->interfaces, &ifindex, &interface)) {
			result = each(ifindex, &interface, context);
			if (result)
				return result;
		}
		if (!more)
			return 0;
	}
}

void instance_forget_interface(const struct instance *instance, unsigned int ifindex)
{
	struct service_key key, next;
	char path[PATH_MAX];
	bool more;

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
	bpf_map_delete_elem(instance->interfaces, &ifindex);
	more = !bpf_map_get_next_key(instance->services, NULL, &next);
	while (more) {
		key = next;
		more = !bpf_map_get_next_key(instance->services, &key, &next);
		if (key.ifindex == ifindex)
			bpf_map_delete_elem(instance->services, &key);
	}
}

/* Unlinks what @names name under the pin path. Nothing else there is ours to remove. */
static void unlink_all(const struct instance *instance, const char *const *names)
{
	char path[PATH_MAX];

	for (; *names; names++) {
		instance_path(instance, path, "%s", *names);
		if (unlink(path))
			rmdir(path);
	}
}

/* Whatever is left under links/, of devices that are gone as well. */
static void remove_links(const struct instance *instance)
{
	char path[PATH_MAX];
	struct dirent *entry;
	DIR *dir;

	instance_path(instance, path, "links");
	dir = opendir(path);
	if (!dir)
		return;
	while ((entry = readdir(dir))) {
		unsigned int ifindex = (unsigned int)strtoul(entry->d_name, NULL, 10);

		if (ifindex)
			instance_forget_interface(instance, ifindex);
	}
	closedir(dir);
}

void instance_remove(const struct instance *instance)
{
	static const char *const names[] = { "links/track",	   "links",    "sockets", "known_refill",
					     "programs/xdp_drain", "programs", NULL };
	char path[PATH_MAX];

	remove_links(instance);
	unlink_all(instance, names);
	for (size_t i = 0; i < sizeof(instance_maps) / sizeof(*instance_maps); i++) {
		instance_path(instance, path, "%s", instance_maps[i].name);
		unlink(path);
	}
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

struct known_word *instance_known_words(const struct instance *instance, size_t *size)
{
	void *words;

	*size = ((size_t)instance->set.known_mask + 1) * sizeof(struct known_word);
	words = mmap(NULL, *size, PROT_READ | PROT_WRITE, MAP_SHARED, instance->known_tuples, 0);
	return words == MAP_FAILED ? NULL : words;
}
