// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * For the far end of a veth pair: a frame sent with XDP_TX arrives there only if that end carries an XDP
 * program, too (drivers/net/veth.c). These let everything pass; where frames may take several buffers (an
 * MTU above 3506), the second one has to be there.
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("xdp")
int xdp_pass(struct xdp_md *ctx)
{
	(void)ctx;
	return XDP_PASS;
}

SEC("xdp.frags")
int xdp_pass_frags(struct xdp_md *ctx)
{
	(void)ctx;
	return XDP_PASS;
}
