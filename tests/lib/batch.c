// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "batch.h"
#include "inject.skel.h"
#include "live.h"
#include "report.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct batch {
	struct inject_bpf *skel;
	const struct netns *ns;
	uint32_t ifindex;
	uint32_t n;
	int hold;
};

struct batch *batch_open(const struct netns *ns, const char *ifname)
{
	struct batch *b = calloc(1, sizeof(*b));

	REQUIRE(b);
	b->ns = ns;
	b->ifindex = (uint32_t)netns_ifindex(ns, ifname);
	b->skel = inject_bpf__open_and_load();
	REQUIRE(b->skel, "loading the injector: %s", strerror(errno));
	b->hold = live_hold(bpf_program__fd(b->skel->progs.inject));
	REQUIRE(b->hold >= 0, "holding the injector: %s", strerror(-b->hold));
	return b;
}

void batch_close(struct batch *b)
{
	close(b->hold);
	inject_bpf__destroy(b->skel);
	free(b);
}

void batch_add_bytes(struct batch *b, const void *frame, size_t len)
{
	struct inject_frame f = { .len = (uint32_t)len };
	int err;

	REQUIRE(b->n < INJECT_FRAMES, "more than %d frames in a batch", INJECT_FRAMES);
	REQUIRE(len >= 14 && len <= INJECT_FRAME_SIZE, "a frame of %zu bytes", len);
	memcpy(f.bytes, frame, len);
	err = bpf_map_update_elem(bpf_map__fd(b->skel->maps.frames), &b->n, &f, BPF_ANY);
	REQUIRE(err == 0, "storing a frame: %s", strerror(errno));
	b->n++;
}

void batch_add(struct batch *b, const struct tcp_spec *spec)
{
	uint8_t frame[FRAME_MAX];

	batch_add_bytes(b, frame, frame_build(spec, frame, sizeof(frame)));
}

static int run_in_ns(void *arg)
{
	struct batch *b = arg;

	b->skel->bss->next = 0;
	return live_run(bpf_program__fd(b->skel->progs.inject), b->ifindex, INJECT_FRAME_SIZE, b->n,
			INJECT_FRAMES);
}

void batch_send(struct batch *b)
{
	int err = b->n ? netns_call(b->ns, run_in_ns, b) : 0;

	REQUIRE(err == 0, "running the injector: %s", strerror(-err));
	REQUIRE(b->skel->bss->next == b->n, "the injector ran %u times for %u frames", b->skel->bss->next,
		b->n);
	b->n = 0;
}
