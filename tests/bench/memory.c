// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* What the maps take, by the kernel's own account, and for how many connections that is. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "memory.h"
#include "results.h"
#include "rows.h"

enum {
	MAPS_MAX = 64,
	PROGRAMS_MAX = 16,
};

struct maps {
	__u32 ids[MAPS_MAX];
	int count;
};

static void add_maps_of(struct maps *maps, int program)
{
	__u32 ids[MAPS_MAX], length;
	struct bpf_prog_info info = { .nr_map_ids = MAPS_MAX, .map_ids = (__u64)(unsigned long)ids };

	length = sizeof(info);
	REQUIRE(!bpf_obj_get_info_by_fd(program, &info, &length) && info.nr_map_ids <= MAPS_MAX);
	for (__u32 i = 0; i < info.nr_map_ids; i++) {
		bool had = false;

		for (int j = 0; j < maps->count; j++)
			had |= maps->ids[j] == ids[i];
		if (!had) {
			REQUIRE(maps->count < MAPS_MAX);
			maps->ids[maps->count++] = ids[i];
		}
	}
}

/* Of every program that is pinned, or held by a link that is. */
static struct maps maps_of(const struct row *row)
{
	char list[1024];
	struct maps maps = {};

	snprintf(list, sizeof(list), "%s",
		 netns_output(NULL,
			      "cd %s && find . -type f | grep -E 'links|programs|known_refill|sockets'",
			      row->product.pins));
	for (char *name = strtok(list, "\n"); name; name = strtok(NULL, "\n")) {
		struct bpf_link_info info = {};
		__u32 length = sizeof(info);
		char path[256];
		int fd, program;

		snprintf(path, sizeof(path), "%s/%s", row->product.pins, name);
		fd = bpf_obj_get(path);
		REQUIRE(fd >= 0, "%s: %s", path, strerror(errno));
		program = strstr(name, "programs/") ? dup(fd) : -1;
		if (program < 0 && !bpf_obj_get_info_by_fd(fd, &info, &length))
			program = bpf_prog_get_fd_by_id(info.prog_id);
		REQUIRE(program >= 0, "%s", path);
		add_maps_of(&maps, program);
		close(program);
		close(fd);
	}
	return maps;
}

static double bytes_of(const struct maps *maps, bool shown)
{
	double sum = 0;

	for (int i = 0; i < maps->count; i++) {
		struct bpf_map_info info = {};
		__u32 length = sizeof(info);
		const int fd = bpf_map_get_fd_by_id(maps->ids[i]);
		const char *said;

		REQUIRE(fd >= 0 && !bpf_obj_get_info_by_fd(fd, &info, &length));
		said = netns_output(NULL, "sed -n 's/^memlock:[^0-9]*//p' /proc/%d/fdinfo/%d", getpid(),
				    fd);
		REQUIRE(said && *said, "the kernel does not say what map %s takes", info.name);
		if (shown)
			printf("  %-16s%10u entries%8.2f MiB\n", info.name, info.max_entries,
			       atof(said) / (1 << 20));
		sum += atof(said);
		close(fd);
	}
	return sum;
}

/* As many connections as there is room for: no socket is needed for an entry. */
static unsigned int fill_connections(const struct row *row)
{
	struct bpf_map_info info = {};
	__u32 length = sizeof(info);
	char path[160];
	int fd;

	snprintf(path, sizeof(path), "%s/connections", row->product.pins);
	fd = bpf_obj_get(path);
	REQUIRE(fd >= 0 && !bpf_obj_get_info_by_fd(fd, &info, &length), "%s", strerror(errno));
	for (__u32 i = 0; i < info.max_entries; i++) {
		struct tuple tuple = { .remote.word = { 0, 0, 0, i } };
		struct connection connection = {};

		if (bpf_map_update_elem(fd, &tuple, &connection, BPF_ANY) && errno == E2BIG)
			return i;
	}
	close(fd);
	return info.max_entries;
}

CASE("memory: what the maps take")
{
	struct generator *generator = generator_new();
	struct row row = { .name = "ours", .answerer = ANSWERER_OURS };
	unsigned int connections;
	struct maps maps;
	double fresh, full;

	row_make(&row, generator, "pass");
	maps = maps_of(&row);
	printf("\nMemory of the maps as attached with default sizes\n");
	fresh = bytes_of(&maps, true);
	connections = fill_connections(&row);
	full = bytes_of(&maps, false);
	result_add(MEMORY, row.name, "bytes, no connection", fresh);
	result_add(MEMORY, row.name, MEMORY_FULL, full);
	result_add(MEMORY, row.name, MEMORY_CONNECTIONS, connections);
	printf("  %.1f MiB in all, %.1f with %u connections recorded (%ld CPUs)\n", fresh / (1 << 20),
	       full / (1 << 20), connections, sysconf(_SC_NPROCESSORS_ONLN));
	generator_free(generator);
}
