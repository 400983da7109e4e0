// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Run by BPF_PROG_RUN over live frames: each run writes a segment from a random source and sends it
 * out of the device that the context names. Pages come back as the receiver left them, so a frame
 * is written from its first byte to its last.
 */
#include "flood.h"

#include <linux/bpf.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

const volatile struct flood_shape shape;

/* Runs follow one another on one CPU at a time. */
__u64 random_state;
__u64 written;

/* SplitMix64: cheaper than the kernel's generator, and the same flood for the same seed. */
static __u64 any(void)
{
	__u64 z = random_state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static __u64 words(__u64 v)
{
	return (v >> 48) + (v >> 32 & 0xffff) + (v >> 16 & 0xffff) + (v & 0xffff);
}

static __be16 checksum(__u64 sum)
{
	sum = (sum >> 16) + (sum & 0xffff);
	sum = (sum >> 16) + (sum & 0xffff);
	return bpf_htons((__u16)~sum);
}

struct __attribute__((packed)) tcp_fields {
	__be16 sport;
	__be16 dport;
	__be32 seq;
	__be32 ack;
	__be16 flags;
	__be16 window;
	__be16 check;
};

SEC("xdp")
int flood(struct xdp_md *ctx)
{
	__u64 a = any(), b = any(), host = any() & shape.hosts, c = shape.random_ack ? any() : 0;
	__u32 seq = (__u32)b, ts = (__u32)(b >> 32), ack = (__u32)c;
	__u16 sport = (__u16)(1024 + (a & 0xffff) % (65536 - 1024));
	__u64 sum = shape.tcp_sum + words(host) + words(seq) + words(ack) + sport;
	__u32 len = shape.len;
	struct tcp_fields *tcp;
	void *data, *end, *at;

	if (len < 14 || len > FLOOD_FRAME_MAX)
		return XDP_ABORTED;
	if (bpf_xdp_store_bytes(ctx, 0, (void *)shape.frame, len))
		return XDP_ABORTED;
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;

	at = data + shape.saddr;
	if (shape.ip) {
		if (at + sizeof(__be32) > end)
			return XDP_ABORTED;
		*(__be32 *)at = bpf_htonl((__u32)(shape.network | host));
		at = data + shape.ip + 10;
		if (at + sizeof(__be16) > end)
			return XDP_ABORTED;
		*(__be16 *)at = checksum(shape.ip_sum + words(host));
	} else {
		if (at + sizeof(__be64) > end)
			return XDP_ABORTED;
		*(__be64 *)at = bpf_cpu_to_be64(shape.network | host);
	}
	if (shape.ts) {
		at = data + shape.ts;
		if (at + sizeof(__be32) > end)
			return XDP_ABORTED;
		*(__be32 *)at = bpf_htonl(ts);
		sum += words(ts);
	}
	tcp = data + shape.tcp;
	if ((void *)(tcp + 1) > end)
		return XDP_ABORTED;
	tcp->sport = bpf_htons(sport);
	tcp->seq = bpf_htonl(seq);
	tcp->ack = bpf_htonl(ack);
	tcp->check = checksum(sum);
	written++;
	return XDP_TX;
}

char _license[] SEC("license") = "Dual BSD/GPL";
