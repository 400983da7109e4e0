// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * ACKs that nobody was asked for, as many as BPF_PROG_RUN has repeats: the frame is the same one in all of
 * them, so each run writes other numbers into it and then becomes the program that is to judge it.
 * Checksums are kept right: what the stack would drop for them promotes nothing, whatever its cookie.
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

/* Writes a word. Returns by how much the sum of the words around it changes. */
static __u64 put(struct xdp_md *ctx, __u32 at, __u32 value)
{
	void *end = (void *)(long)ctx->data_end, *field;
	__u32 old;

	if (at > FORGE_FRAME_MAX)
		return 0;
	field = (void *)(long)ctx->data + at;
	if (field + sizeof(__be32) > end)
		return 0;
	old = *(__u32 *)field;
	*(__be32 *)field = bpf_htonl(value);
	return (__u64)(__u32)~old + *(__u32 *)field;
}

/* RFC 1624: HC' = ~(~HC + ~m + m'). */
static void mend(struct xdp_md *ctx, __u32 at, __u64 change)
{
	void *end = (void *)(long)ctx->data_end, *field;

	if (at > FORGE_FRAME_MAX)
		return;
	field = (void *)(long)ctx->data + at;
	if (field + sizeof(__u16) > end)
		return;
	change += (__u16) ~*(__u16 *)field;
	for (int i = 0; i < 4; i++)
		change = (change & 0xffff) + (change >> 16);
	*(__u16 *)field = (__u16)~change;
}

SEC("xdp.frags")
int forge(struct xdp_md *ctx)
{
	const __u64 a = any(), b = any();
	const int ahead = (int)(ctx->data - ctx->data_meta);
	const __u32 port = pick(&shape.port, a);
	__u64 address, change;

	/* What the try before this one was right with. */
	if (ahead)
		bpf_xdp_adjust_meta(ctx, ahead);
	address = put(ctx, shape.source, pick(&shape.address, a >> 16));
	if (shape.ip_check)
		mend(ctx, shape.ip_check, address);
	change = address + put(ctx, shape.tcp, port << 16 | (shape.local_port & 0xffff));
	change += put(ctx, shape.tcp + 4, pick(&shape.client_isn, b) + 1);
	change += put(ctx, shape.tcp + 8, pick(&shape.server_isn, shape.in_turn ? tries : b >> 32) + 1);
	if (shape.echo)
		change += put(ctx, shape.echo, pick(&shape.tsecr, any()));
	mend(ctx, shape.tcp + 16, change);
	tries++;
	bpf_tail_call(ctx, &judge, 0);
	return XDP_ABORTED;
}

char _license[] SEC("license") = "Dual BSD/GPL";
