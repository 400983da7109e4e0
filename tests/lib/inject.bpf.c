// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Run by BPF_PROG_RUN over live frames: the k-th run sends the k-th frame of the array out of the
 * device that the context names.
 *
 * The pages come back from the receiver as it left them, so each run writes a frame from its first
 * byte to its last.
 */
#include "inject.h"

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, INJECT_FRAMES);
	__type(key, __u32);
	__type(value, struct inject_frame);
} frames SEC(".maps");

/* Runs follow one another on one CPU. */
__u32 next;

SEC("xdp")
int inject(struct xdp_md *ctx)
{
	__u32 k = next++;
	struct inject_frame *frame = bpf_map_lookup_elem(&frames, &k);
	int size = (int)(ctx->data_end - ctx->data);
	__u32 len;

	if (!frame)
		return XDP_ABORTED;
	len = frame->len;
	if (len < 14 || len > INJECT_FRAME_SIZE)
		return XDP_ABORTED;
	if (bpf_xdp_adjust_tail(ctx, (int)len - size))
		return XDP_ABORTED;
	if (bpf_xdp_store_bytes(ctx, 0, frame->bytes, len))
		return XDP_ABORTED;
	return XDP_TX;
}

char _license[] SEC("license") = "Dual BSD/GPL";
