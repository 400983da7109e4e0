/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Keeps `connections` in step with the stack. Events can be missed (a tracing program does not interrupt
 * itself), so nothing but what is shown may depend on them.
 */
#ifndef XDPH_TRACK_H
#define XDPH_TRACK_H

#include "clock.h"
#include "count.h"
#include "maps.h"
#include "service.h"
#include "used.h"

/* The tuple of a socket of any state. False if it is neither IPv4 nor IPv6. */
static __always_inline bool track_tuple(struct sock_common *common, struct tuple *tuple)
{
	if (common->skc_family == KERNEL_AF_INET) {
		address_map_ipv4(&tuple->remote, common->skc_daddr);
		address_map_ipv4(&tuple->local, common->skc_rcv_saddr);
	} else if (common->skc_family == KERNEL_AF_INET6) {
		struct in6_addr remote = common->skc_v6_daddr, local = common->skc_v6_rcv_saddr;

		__builtin_memcpy(&tuple->remote, &remote, sizeof(tuple->remote));
		__builtin_memcpy(&tuple->local, &local, sizeof(tuple->local));
	} else {
		return false;
	}
	tuple->remote_port = common->skc_dport;
	tuple->local_port = be16_from(common->skc_num);
	return true;
}

static __always_inline void track_state(struct sock *sk, int old, int new)
{
	struct sock_common *common = &sk->__sk_common;
	const struct settings *set;
	struct connection *connection;
	struct tuple tuple = {};
	struct net *net;

	if ((new != KERNEL_TCP_CLOSE &&new != KERNEL_TCP_ESTABLISHED) ||
	    !port_protected(be16_from(common->skc_num)))
		return;
	set = bpf_map_lookup_elem(&settings, &zero);
	if (!set)
		return;
	net = common->skc_net.net;
	if (net->net_cookie != set->netns_cookie || !track_tuple(common, &tuple))
		return;
	/* Where the event comes, it comes before the first segment: a connection that never sends is seen,
	 * too. */
	if (new == KERNEL_TCP_ESTABLISHED)
		used_made(tuple_hash(&tuple, set->hash_seed));
	connection = bpf_map_lookup_elem(&connections, &tuple);
	if (!connection)
		return;
	if (new == KERNEL_TCP_ESTABLISHED) {
		connection->state = CONNECTION_ESTABLISHED;
		return;
	}
	/* Whoever closes first keeps the tuple in TIME-WAIT; who does not is gone. */
	if (old == KERNEL_TCP_FIN_WAIT1 || old == KERNEL_TCP_FIN_WAIT2 || old == KERNEL_TCP_CLOSING) {
		connection->state = CONNECTION_CLOSED;
		connection->closed_ms = clock_ms();
		return;
	}
	bpf_map_delete_elem(&connections, &tuple);
}

#endif
