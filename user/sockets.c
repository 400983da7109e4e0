// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "sockets.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "format.h"
#include "log.h"

static int open_iterator(const struct instance *instance)
{
	char path[PATH_MAX];
	int link, iterator;

	instance_path(instance, path, "sockets");
	link = bpf_obj_get(path);
	if (link < 0)
		return -errno;
	iterator = bpf_iter_create(link);
	if (iterator < 0)
		iterator = -errno;
	close(link);
	return iterator;
}

long sockets_read(const struct instance *instance, struct socket_record **records)
{
	size_t room = 1 << 16, have = 0;
	int fd = open_iterator(instance);
	char *bytes, *more;

	if (fd < 0)
		return fd;
	bytes = malloc(room);
	while (bytes) {
		ssize_t length = read(fd, bytes + have, room - have);

		if (length < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (length < 0) {
			have = 0;
			length = -errno;
			free(bytes);
			close(fd);
			return length;
		}
		if (!length)
			break;
		have += (size_t)length;
		if (have < room)
			continue;
		more = realloc(bytes, room * 2);
		if (!more) {
			free(bytes);
			bytes = NULL;
			break;
		}
		bytes = more;
		room *= 2;
	}
	close(fd);
	if (!bytes)
		return -ENOMEM;
	*records = (struct socket_record *)bytes;
	return (long)(have / sizeof(**records));
}

int sockets_command(const struct command *command, int argc, char **argv, struct common_options *common,
		    struct instance *instance, struct socket_record **records, long *count)
{
	int code = common_parse(command, argc, argv, common);

	if (code >= 0)
		return code;
	if (optind < argc)
		return usage_fail("%s takes no argument: '%s'", command->name, argv[optind]);
	code = instance_open(instance, common->pin_path, true);
	if (code)
		return code;
	*count = sockets_read(instance, records);
	if (*count >= 0)
		return -1;
	instance_close(instance);
	return fail("cannot list sockets: %s", strerror((int)-*count));
}

static int compare_tuples(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct tuple));
}

/* Deletes an entry of `connections`, and counts it off where the programs count it (abi.h: known_word). */
static int forget_connection(const struct instance *instance, const struct tuple *tuple,
			     struct known_word *words)
{
	const __u64 hash = tuple_hash(tuple, instance->set.hash_seed);

	if (bpf_map_delete_elem(instance->connections, tuple))
		return 0;
	__atomic_fetch_sub(&words[hash & instance->set.known_mask].recorded, 1, __ATOMIC_RELAXED);
	return 1;
}

long connections_sweep(const struct instance *instance)
{
	struct socket_record *records = NULL;
	const unsigned long long now_ms = monotonic_ms();
	struct connection connection;
	struct known_word *words;
	struct tuple key, next;
	long count, swept = 0;
	size_t size;
	bool more;

	words = instance_known_words(instance, &size);
	if (!words)
		return -errno;
	count = sockets_read(instance, &records);
	if (count < 0) {
		munmap(words, size);
		return count;
	}
	qsort(records, (size_t)count, sizeof(*records), compare_tuples);
	more = !bpf_map_get_next_key(instance->connections, NULL, &next);
	while (more) {
		key = next;
		more = !bpf_map_get_next_key(instance->connections, &key, &next);
		if (bpf_map_lookup_elem(instance->connections, &key, &connection) ||
		    bsearch(&key, records, (size_t)count, sizeof(*records), compare_tuples))
			continue;
		/* One promoted since the sockets were read is not in the list yet. */
		if (now_ms < connection.promoted_ms + 2 * instance->set.epoch_ms)
			continue;
		swept += forget_connection(instance, &key, words);
	}
	munmap(words, size);
	free(records);
	return swept;
}
