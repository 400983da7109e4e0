// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * ACKs that nobody was asked for, as many as BPF_PROG_RUN has repeats: the frame is the same one in all of
 * them, so each run writes other numbers into it and then becomes the program that is to judge it.
 * Checksums stay as they were: the driver leaves those of an ACK to the stack.
 */
#include "forge.h"

#include <linux/bpf.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} judge SEC(".maps");

struct forge_shape shape;
/* Runs follow one another on one CPU. */
__u64 random_state;
__u64 tries;

/* SplitMix64: cheaper than the kernel's generator. */
static __u64 any(void)
{
	__u64 z = random_state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static __u32 pick(const struct forge_field *field, __u64 from)
{
	return field->base ^ ((__u32)from & field->varies);
}

static void put(struct xdp_md *ctx, __u32 at, __u32 value)
{
	void *end = (void *)(long)ctx->data_end, *field;

	if (at > FORGE_FRAME_MAX)
		return;
	field = (void *)(long)ctx->data + at;
	if (field + sizeof(__be32) <= end)
		*(__be32 *)field = bpf_htonl(value);
}

SEC("xdp.frags")
int forge(struct xdp_md *ctx)
{
	const __u64 a = any(), b = any();
	const int ahead = (int)(ctx->data - ctx->data_meta);
	const __u32 port = pick(&shape.port, a);

	/* What the try before this one was right with. */
	if (ahead)
		bpf_xdp_adjust_meta(ctx, ahead);
	put(ctx, shape.source, pick(&shape.address, a >> 16));
	put(ctx, shape.tcp, port << 16 | (shape.local_port & 0xffff));
	put(ctx, shape.tcp + 4, pick(&shape.client_isn, b) + 1);
	put(ctx, shape.tcp + 8, pick(&shape.server_isn, shape.in_turn ? tries : b >> 32) + 1);
	if (shape.echo)
		put(ctx, shape.echo, pick(&shape.tsecr, any()));
	tries++;
	bpf_tail_call(ctx, &judge, 0);
	return XDP_ABORTED;
}

char _license[] SEC("license") = "Dual BSD/GPL";
