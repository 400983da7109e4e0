// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * For the client's end of the demo's veth pair: SYN-ACKs to the flood's sources (10.80.0.0/12) end
 * here, as they would with hosts that do not exist; the client has all the rest.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("xdp")
int far_end(struct xdp_md *ctx)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(eth + 1);

	if ((void *)(ip + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	return (ip->daddr & bpf_htonl(0xfff00000)) == bpf_htonl(0x0a500000) ? XDP_DROP : XDP_PASS;
}
