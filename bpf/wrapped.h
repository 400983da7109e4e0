/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Segments in more than is taken off at a glance, and that the stack takes off all the same: tags that name
 * no VLAN, as many as there is room for; more extension headers than ipv6.h walks; fragments. Hardly
 * anybody sends such but to get by. SYNs are the stack's to answer, within the budget; what belongs to no
 * connection is subject to guard like others.
 */
#ifndef XDPH_WRAPPED_H
#define XDPH_WRAPPED_H

#include "syn.h"
#include "tcp.h"
#include "validate.h"

enum {
	WRAPPED_MOST = 1 << 13, /* tags, or extension headers: no frame has room for more */
	WRAPPED_TCP = 14,	/* bytes of the TCP header, as far as its control bits */
};

/* Where the unwrapping stands. */
struct wrapped {
	struct xdp_md *ctx;
	struct ipv6_walk walk;
	__u32 at; /* of what has not been taken off yet */
	__u32 vlan;
	__be16 protocol;
};

/* Takes off a tag. One with id 0 names no VLAN, and unless there is a device for it, the stack ignores it.
 */
static long wrapped_tag(__attribute__((unused)) __u64 index, struct wrapped *wrapped)
{
	struct vlan_tag tag;

	if (!eth_is_vlan(wrapped->protocol) ||
	    bpf_xdp_load_bytes(wrapped->ctx, wrapped->at, &tag, sizeof(tag)))
		return 1;
	if (host16(tag.tci) & VLAN_ID) {
		/* No service is in a third VLAN: this is of no protocol that we know. */
		if (wrapped->vlan >> 16)
			return 1;
		wrapped->vlan = wrapped->vlan << 16 | vlan_number(host16(tag.tci));
	}
	wrapped->at += sizeof(tag);
	wrapped->protocol = tag.protocol;
	return 0;
}

static long wrapped_header(__attribute__((unused)) __u64 index, struct wrapped *wrapped)
{
	struct ipv6_walk *walk = &wrapped->walk;
	struct ipv6_extension header;

	return walk->kind == IPPROTO_TCP ||
	       bpf_xdp_load_bytes(wrapped->ctx, walk->at, &header, sizeof(header)) ||
	       !ipv6_step(walk, &header);
}

/* What the macros of syn.h ask for. A struct syn is more than the stack of both programs has room for. */
struct wrapped_syn {
	const struct settings *set;
	struct cpu *cpu;
	struct service *service;
	bool shadow;
	__u64 hash;
	__u64 now_ms;
};

/* No SYN: guard asks of such a segment what it asks of others (ack.h). */
static __always_inline int wrapped_orphan(struct xdp_md *ctx, const struct wrapped_syn *syn,
					  const struct tuple *tuple, __u32 vlan, bool is_ipv4)
{
	const struct service *service;

	if (known(syn->set, syn->hash) ||
	    validated_lately(validated_way(syn->cpu, syn->hash), syn->hash, syn->now_ms))
		return XDP_PASS;
	service = service_find(ctx->ingress_ifindex, vlan, tuple);
	if (!service || lookup_state(ctx, tuple, is_ipv4) != KERNEL_TCP_LISTEN ||
	    !guard_drops(service, syn->set, syn->now_ms))
		return XDP_PASS;
	COUNT(stray_dropped_guard);
	return XDP_DROP;
}

/* From the frame's first byte. A global function: the verifier looks at it once, and few frames get here.
 */
__noinline int segment_wrapped(struct xdp_md *ctx)
{
	struct wrapped wrapped = { .ctx = ctx, .at = sizeof(struct ethhdr) };
	struct settings *set = bpf_map_lookup_elem(&settings, &zero);
	struct cpu *cpu = bpf_map_lookup_elem(&cpus, &zero);
	struct wrapped_syn syn = { .set = set, .cpu = cpu };
	struct ethhdr *eth;
	struct ipv6hdr *ipv6;
	struct tcphdr *tcp;
	struct iphdr *ipv4;
	struct tuple *tuple;
	bool is_syn = true;
	__u32 length;

	if (!set || !cpu)
		return XDP_PASS;
	tuple = &cpu->claim.tuple;
	/* One header after the other is copied to the same place. */
	eth = (void *)cpu->header.walk.bytes;
	ipv4 = (void *)eth;
	ipv6 = (void *)eth;
	tcp = (void *)eth;

	if (bpf_xdp_load_bytes(ctx, 0, eth, sizeof(*eth)))
		return XDP_PASS;
	wrapped.protocol = eth->h_proto;
	bpf_loop(WRAPPED_MOST, wrapped_tag, &wrapped, 0);
	if (wrapped.protocol == be16_from(ETH_P_IP)) {
		if (bpf_xdp_load_bytes(ctx, wrapped.at, ipv4, sizeof(*ipv4)) || ipv4->version != 4 ||
		    ipv4->protocol != IPPROTO_TCP || ipv4->frag_off & be16_from(IPV4_OFFSET))
			return XDP_PASS;
		wrapped.walk.at = wrapped.at + ipv4->ihl * 4;
		wrapped.walk.fragment = !!(ipv4->frag_off & be16_from(IPV4_MORE_FRAGMENTS));
		length = host16(ipv4->tot_len) - ipv4->ihl * 4;
		address_map_ipv4(&tuple->remote, ipv4->saddr);
		address_map_ipv4(&tuple->local, ipv4->daddr);
	} else if (wrapped.protocol == be16_from(ETH_P_IPV6)) {
		if (bpf_xdp_load_bytes(ctx, wrapped.at, ipv6, sizeof(*ipv6)) || ipv6->version != 6)
			return XDP_PASS;
		wrapped.at += sizeof(*ipv6);
		wrapped.walk.at = wrapped.at;
		wrapped.walk.kind = ipv6->nexthdr;
		bpf_loop(WRAPPED_MOST, wrapped_header, &wrapped, 0);
		if (wrapped.walk.kind != IPPROTO_TCP)
			return XDP_PASS;
		length = host16(ipv6->payload_len) - (wrapped.walk.at - wrapped.at);
		__builtin_memcpy(&tuple->remote, &ipv6->saddr, sizeof(tuple->remote));
		__builtin_memcpy(&tuple->local, &ipv6->daddr, sizeof(tuple->local));
	} else {
		return XDP_PASS;
	}
	/* What does not show its control bits may well be a SYN. */
	if (length < WRAPPED_TCP) {
		if (bpf_xdp_load_bytes(ctx, wrapped.walk.at, tcp, sizeof(tcp->source) + sizeof(tcp->dest)))
			return XDP_PASS;
	} else if (bpf_xdp_load_bytes(ctx, wrapped.walk.at, tcp, WRAPPED_TCP)) {
		return XDP_PASS;
	} else {
		is_syn = (tcp_control(tcp) & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN;
	}
	if (!port_protected(tcp->dest))
		return XDP_PASS;

	tuple->remote_port = tcp->source;
	tuple->local_port = tcp->dest;
	syn.hash = tuple_hash(tuple, set->hash_seed);
	syn.now_ms = clock_coarse_ms();
	if (!is_syn)
		return wrapped_orphan(ctx, &syn, tuple, wrapped.vlan,
				      wrapped.protocol == be16_from(ETH_P_IP));
	COUNT(syn_received);
	syn.service = service_find(ctx->ingress_ifindex, wrapped.vlan, tuple);
	if (!syn.service)
		PASS_SYN(&syn, not_learned);
	syn.shadow = syn.service->policy == POLICY_SHADOW;
	if (bpf_xdp_load_bytes(ctx, 0, eth, sizeof(*eth)) ||
	    !eth_mac_equal(eth->h_dest, syn.service->device_mac))
		PASS_SYN(&syn, other_mac);
	if (wrapped.walk.fragment)
		PASS_OR_DROP_SYN(&syn, fragment, BUDGET_PASS);
	if (wrapped.protocol == be16_from(ETH_P_IPV6) && wrapped.walk.at != wrapped.at)
		PASS_OR_DROP_SYN(&syn, ip_options, BUDGET_PASS);
	PASS_OR_DROP_SYN(&syn, priority_tag, BUDGET_PASS);
}

#endif
