/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The exact lookup: asks the stack's own tables who owns a tuple. From XDP and from tc alike. */
#ifndef XDPH_LOOKUP_H
#define XDPH_LOOKUP_H

#include "known.h"
#include "packet.h"

/*
 * net/core/filter.c:bpf_skc_lookup_tcp(): connections (SYN-RECEIVED and TIME-WAIT among them), then
 * listeners, of the namespace of the device. @remote_port 0 finds none but listeners. What is found must
 * be given back with bpf_sk_release().
 */
static __always_inline struct bpf_sock *lookup_exact(void *ctx, const struct tuple *tuple, bool is_ipv4,
						     __be16 remote_port)
{
	struct bpf_sock_tuple find = {};

	if (is_ipv4) {
		find.ipv4.saddr = tuple->remote.word[3];
		find.ipv4.daddr = tuple->local.word[3];
		find.ipv4.sport = remote_port;
		find.ipv4.dport = tuple->local_port;
		return bpf_skc_lookup_tcp(ctx, &find, sizeof(find.ipv4), BPF_F_CURRENT_NETNS, 0);
	}
	__builtin_memcpy(find.ipv6.saddr, &tuple->remote, sizeof(find.ipv6.saddr));
	__builtin_memcpy(find.ipv6.daddr, &tuple->local, sizeof(find.ipv6.daddr));
	find.ipv6.sport = remote_port;
	find.ipv6.dport = tuple->local_port;
	return bpf_skc_lookup_tcp(ctx, &find, sizeof(find.ipv6), BPF_F_CURRENT_NETNS, 0);
}

/* The state of the socket that owns @tuple, or 0 if none does. KERNEL_TCP_LISTEN: a listener at the most.
 */
static __always_inline __u32 lookup_state(void *ctx, const struct tuple *tuple, bool is_ipv4)
{
	struct bpf_sock *found = lookup_exact(ctx, tuple, is_ipv4, tuple->remote_port);
	__u32 state;

	if (!found)
		return 0;
	state = found->state;
	bpf_sk_release(found);
	return state;
}

/*
 * A tuple used again is known from its last connection. What its SYN's exact lookup has found is kept for
 * the segments behind it, or early data would be the listener's to reset (ack.h). Only a hint, and one
 * CPU's: overwritten, or on another CPU, the filter is believed.
 */
static __always_inline __u32 *known_stale_way(struct cpu *cpu, __u64 hash)
{
	return &cpu->stale[hash >> 32 & (STALE_WAYS - 1)];
}

static __always_inline bool known_stale(struct cpu *cpu, __u64 hash)
{
	return *known_stale_way(cpu, hash) == (__u32)hash;
}

/* The stack has the tuple after all, or will have it: marks it, and takes the hint back. */
static __always_inline void known_held(struct cpu *cpu, const struct settings *set, __u64 hash)
{
	known_mark(set, hash);
	if (known_stale(cpu, hash))
		*known_stale_way(cpu, hash) = 0;
}

#endif
