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

enum {
	/* A promoted segment is a socket long before this, or the stack has dropped it (a full queue). */
	NEVER_A_SOCKET_MS = 5000,
};

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

int sockets_open(const struct common_options *common, struct instance *instance,
		 struct socket_record **records, long *count)
{
	int code = instance_open(instance, common->pin_path, true);

	if (code)
		return code;
	*count = sockets_read(instance, records);
	if (*count >= 0)
		return EXIT_DONE;
	instance_close(instance);
	if (*count == -ENOENT)
		return fail(
			"cannot list sockets: an attach to %s was cut short; xdp-handshake attach again",
			common->pin_path);
	return fail("cannot list sockets: %s", strerror((int)-*count));
}

static int compare_tuples(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct tuple));
}

/* Deletes an entry of `connections`, and counts it off where the programs count it (abi.h: known_note). */
static int forget_connection(const struct instance *instance, const struct tuple *tuple,
			     struct known_note *notes)
{
	const __u64 hash = tuple_hash(tuple, instance->set.hash_seed);

	if (bpf_map_delete_elem(instance->connections, tuple))
		return 0;
	__atomic_fetch_sub(&notes[known_note_index(hash, instance->set.known_mask)].recorded, 1,
			   __ATOMIC_RELAXED);
	return 1;
}

long connections_read(const struct instance *instance, struct connection_record **records)
{
	enum { BATCH = 4096 };
	struct tuple *keys = malloc(BATCH * sizeof(*keys));
	struct connection *values = malloc(BATCH * sizeof(*values));
	struct connection_record *all = NULL, *more;
	size_t have = 0;
	__u32 token, *in = NULL, count;
	int error = keys && values ? 0 : -ENOMEM;
	bool last = false;

	while (!error && !last) {
		count = BATCH;
		/* ENOENT: this was the last batch. A bucket larger than a batch (ENOSPC) cannot be. */
		if (bpf_map_lookup_batch(instance->connections, in, &token, keys, values, &count, NULL)) {
			last = errno == ENOENT;
			error = last ? 0 : -errno;
		}
		if (error || !count)
			continue;
		in = &token;
		more = realloc(all, (have + count) * sizeof(*all));
		if (!more) {
			error = -ENOMEM;
			continue;
		}
		all = more;
		for (__u32 i = 0; i < count; i++)
			all[have++] = (struct connection_record){ keys[i], values[i] };
	}
	free(keys);
	free(values);
	if (error) {
		free(all);
		return error;
	}
	if (have)
		qsort(all, have, sizeof(*all), compare_tuples);
	*records = all;
	return (long)have;
}

const struct connection *connections_find(const struct connection_record *records, long count,
					  const struct tuple *tuple)
{
	const struct connection_record *found = count ? bsearch(tuple, records, (size_t)count,
								sizeof(*records), compare_tuples)
						      : NULL;

	return found ? &found->connection : NULL;
}

long connections_sweep(const struct instance *instance)
{
	const unsigned long long now_ms = monotonic_ms();
	struct connection_record *connections = NULL;
	struct socket_record *records = NULL;
	long count, connection_count, swept = 0;
	struct known_note *notes;
	struct connection now;
	size_t size;

	notes = instance_known_notes(instance, &size);
	if (!notes)
		return -errno;
	/* In this order: what is promoted in between, on a tuple of its own, is not among the connections.
	 */
	connection_count = connections_read(instance, &connections);
	count = connection_count < 0 ? connection_count : sockets_read(instance, &records);
	if (count < 0) {
		munmap(notes, size);
		free(connections);
		return count;
	}
	if (count)
		qsort(records, (size_t)count, sizeof(*records), compare_tuples);
	for (long i = 0; i < connection_count; i++) {
		const struct connection_record *record = &connections[i];

		if (count &&
		    bsearch(&record->tuple, records, (size_t)count, sizeof(*records), compare_tuples))
			continue;
		/* Kept while its cookie lives; one that never became a socket takes no other's place. */
		if (now_ms <
		    record->connection.promoted_ms + (record->connection.state == CONNECTION_PROMOTED
							      ? NEVER_A_SOCKET_MS
							      : 2 * instance->set.epoch_ms))
			continue;
		/* The tuple may have been used again since: then the entry is the new connection's. */
		if (bpf_map_lookup_elem(instance->connections, &record->tuple, &now) ||
		    now.promoted_ms != record->connection.promoted_ms)
			continue;
		swept += forget_connection(instance, &record->tuple, notes);
	}
	munmap(notes, size);
	free(connections);
	free(records);
	return swept;
}
