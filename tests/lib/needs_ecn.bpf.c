// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * A congestion control that needs ECN, as DCTCP (RFC 8257) does, and is nothing else: for kernels that have
 * no DCTCP. It exists for as long as the link that registers it.
 */
#include <linux/bpf.h>
#include <linux/types.h>

#include <bpf/bpf_helpers.h>

enum {
	CONG_NEEDS_ECN = 2, /* include/net/tcp.h: TCP_CONG_NEEDS_ECN */
};

struct sock;

/* What we set of the kernel's structure: found there by name. */
struct tcp_congestion_ops {
	__u32 (*ssthresh)(struct sock *sk);
	void (*cong_avoid)(struct sock *sk, __u32 ack, __u32 acked);
	__u32 (*undo_cwnd)(struct sock *sk);
	__u32 flags;
	char name[16];
};

SEC("struct_ops/needs_ecn_ssthresh")
__u32 needs_ecn_ssthresh(__attribute__((unused)) void *ctx)
{
	return 10;
}

SEC("struct_ops/needs_ecn_cong_avoid")
void needs_ecn_cong_avoid(__attribute__((unused)) void *ctx)
{
}

SEC("struct_ops/needs_ecn_undo_cwnd")
__u32 needs_ecn_undo_cwnd(__attribute__((unused)) void *ctx)
{
	return 10;
}

SEC(".struct_ops")
struct tcp_congestion_ops needs_ecn = {
	.ssthresh = (void *)needs_ecn_ssthresh,
	.cong_avoid = (void *)needs_ecn_cong_avoid,
	.undo_cwnd = (void *)needs_ecn_undo_cwnd,
	.flags = CONG_NEEDS_ECN,
	.name = "xdph_needs_ecn",
};

char LICENSE[] SEC("license") = "Dual BSD/GPL";
