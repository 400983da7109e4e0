// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The entries. xdp_handshake answers SYNs and validates ACKs, tc_promote makes connections of them,
 * tc_learn watches what the stack answers, track and the iterators keep the books.
 */
#include "kernel.h"

#include "abi.h"

#include <bpf/bpf_tracing.h>

#include "ack.h"
#include "answer.h"
#include "learn.h"
#include "promote.h"
#include "sockets.h"
#include "track.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

static __always_inline int handshake(struct xdp_md *ctx, bool answering)
{
	struct packet packet = {};
	struct settings *set;
	struct cpu *cpu;
	__u8 control;

	if (!tcp_read(&packet, (void *)(long)ctx->data, (void *)(long)ctx->data_end, ctx, true))
		return answering && packet.wrapped ? segment_wrapped(ctx) : XDP_PASS;
	if (!port_protected(packet.tcp->dest))
		return XDP_PASS;
	set = bpf_map_lookup_elem(&settings, &zero);
	cpu = bpf_map_lookup_elem(&cpus, &zero);
	if (!set || !cpu)
		return XDP_PASS;
	control = tcp_control(packet.tcp) & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN);
	if (control == TCP_SYN)
		return answering ? syn_decide(ctx, &packet, set, cpu) : syn_pass(&packet, set);
	if ((control & (TCP_SYN | TCP_RST | TCP_ACK)) == TCP_ACK)
		return ack_decide(ctx, &packet, set, cpu);
	return stray_decide(ctx, &packet, set, cpu);
}

/* A function of its own, since the stack has no room for this and for quick() at once. */
static __noinline int handshake_answering(struct xdp_md *ctx)
{
	return handshake(ctx, true);
}

SEC("xdp.frags")
int xdp_handshake(struct xdp_md *ctx)
{
	const int verdict = quick(ctx);

	return verdict == UNUSUAL ? handshake_answering(ctx) : verdict;
}

/* What `detach` puts in its place for one cookie life: SYNs are the stack's again, ACKs still promote. */
SEC("xdp.frags")
int xdp_drain(struct xdp_md *ctx)
{
	return handshake(ctx, false);
}

SEC("tc")
int tc_promote(struct __sk_buff *skb)
{
	return promote(skb);
}

SEC("tc")
int tc_learn(struct __sk_buff *skb)
{
	return learn(skb);
}

SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(track, struct sock *sk)
{
	track_gone(sk);
	return 0;
}

SEC("tp_btf/tcp_receive_reset")
int BPF_PROG(track_resets, struct sock *sk)
{
	track_reset(sk);
	return 0;
}

/* Marks every tuple that the stack holds on a protected port. Reading the pinned link runs it. */
SEC("iter/tcp")
int known_refill(struct bpf_iter__tcp *ctx)
{
	sockets_mark(ctx);
	return 0;
}

/* One struct socket_record a socket. */
SEC("iter/tcp")
int sockets(struct bpf_iter__tcp *ctx)
{
	sockets_print(ctx);
	return 0;
}
