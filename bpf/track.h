/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Keeps `connections` in step with the stack: segments that leave show what a connection begins and ends
 * with, and one event tells that its socket is gone. One, and not every change of state: an event costs
 * each socket of the host, ours or not. Events can be missed (a tracing program does not interrupt itself),
 * so little may depend on them: what is shown, and that the cookie of a connection which ended without a
 * segment of the server's own is known to be used up.
 */
#ifndef XDPH_TRACK_H
#define XDPH_TRACK_H

#include "clock.h"
#include "count.h"
#include "known.h"
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

/* Writes what a handshake has settled. A tuple's earlier entry gives way. Returns 0 or -errno: no room. */
static __always_inline long track_promoted(const struct settings *set, const struct tuple *tuple,
					   const struct connection *connection)
{
	struct known_note *note = known_note(set, tuple_hash(tuple, set->hash_seed));
	long error;

	if (!note)
		return -7; /* E2BIG */
	if (note->recorded && !bpf_map_update_elem(&connections, tuple, connection, BPF_EXIST))
		return 0;
	__sync_fetch_and_add(&note->recorded, 1);
	error = bpf_map_update_elem(&connections, tuple, connection, BPF_NOEXIST);
	if (!error)
		return 0;
	__sync_fetch_and_add(&note->recorded, -1);
	/* Meanwhile another CPU has put in the same tuple's. */
	return bpf_map_update_elem(&connections, tuple, connection, BPF_EXIST) ? error : 0;
}

/* Takes out a tuple's entry, if there is one. */
static __always_inline void track_forget(struct known_note *note, const struct tuple *tuple)
{
	if (note && note->recorded && !bpf_map_delete_elem(&connections, tuple))
		__sync_fetch_and_add(&note->recorded, -1);
}

/*
 * A connection's first segment leaves: its cookie is used up. Or its FIN does, before the client's: then
 * the tuple stays in TIME-WAIT when the socket is gone.
 * Yields the connection if it is the first one of one that was promoted just now, else NULL.
 */
static __always_inline struct connection *track_leaving(struct settings *set, const struct tuple *tuple,
							bool closing)
{
	const __u64 hash = tuple_hash(tuple, set->hash_seed);
	struct known_note *note = known_note(set, hash);
	struct connection *connection = NULL;
	bool begins, soon;

	if (note && note->recorded)
		connection = bpf_map_lookup_elem(&connections, tuple);
	begins = connection && connection->state == CONNECTION_PROMOTED;
	/* In a full table the entry may be missing, or that of an earlier connection. */
	if (begins || set->flags & SETTING_CONNECTIONS_FULL)
		used_made(hash, clock_coarse_ms());
	/* Of any connection's first segments, ours or not: it is established, or has been. */
	if (!closing)
		known_settle(set, note, hash);
	if (begins && set->resets)
		set->resets = 0;
	if (!connection)
		return NULL;
	soon = begins && clock_coarse_ms() < connection->promoted_ms + SPEAKS_FIRST_WITHIN_MS;
	if (closing) {
		connection->state = CONNECTION_CLOSED;
		connection->closed_ms = clock_coarse_ms();
	} else if (begins) {
		connection->state = CONNECTION_ESTABLISHED;
	}
	return soon ? connection : NULL;
}

/* A socket of our namespace's on a protected port, and what is kept of its tuple. */
struct tracked {
	struct tcp_sock *full;
	struct tuple tuple;
	__u64 hash;
	struct known_note *note;
	struct connection *connection; /* NULL: there is no entry */
};

static __always_inline bool track_socket(struct sock *sk, struct tracked *tracked)
{
	struct sock_common *common = &sk->__sk_common;
	struct tcp_sock *full = bpf_skc_to_tcp_sock(sk);
	const struct settings *set;
	__be16 local_port;

	if (!full || !common->skc_dport)
		return false;
	/* A socket that is destroyed has lost its port, but not its name. */
	local_port = full->inet_conn.icsk_inet.inet_sport;
	if (!port_protected(local_port))
		return false;
	set = bpf_map_lookup_elem(&settings, &zero);
	if (!set || common->skc_net.net->net_cookie != set->netns_cookie ||
	    !track_tuple(common, &tracked->tuple))
		return false;
	tracked->full = full;
	tracked->tuple.local_port = local_port;
	tracked->hash = tuple_hash(&tracked->tuple, set->hash_seed);
	tracked->note = known_note(set, tracked->hash);
	if (tracked->note && tracked->note->recorded)
		tracked->connection = bpf_map_lookup_elem(&connections, &tracked->tuple);
	return true;
}

/*
 * A connection takes a client's reset (net/ipv4/tcp_input.c:tcp_reset()). It may never have sent a segment,
 * and its socket may wait for accept() as before: nothing else would tell that its cookie is used up, and
 * that what the stack resets after this, it resets because of this (learn.h: learn_reset()). By the stack's
 * own word: it takes resets that we do not see, and not all that we see.
 */
static __always_inline void track_reset(struct sock *sk)
{
	struct tracked tracked = {};

	if (!track_socket(sk, &tracked))
		return;
	used_made(tracked.hash, clock_ms());
	if (tracked.connection && tracked.connection->state == CONNECTION_PROMOTED)
		tracked.connection->state = CONNECTION_ESTABLISHED;
}

/* A socket is destroyed (net/ipv4/tcp_ipv4.c:tcp_v4_destroy_sock()). */
static __always_inline void track_gone(struct sock *sk)
{
	struct tracked tracked = {};
	struct connection *connection;
	struct tcp_sock *full;

	if (!track_socket(sk, &tracked))
		return;
	full = tracked.full;
	connection = tracked.connection;
	known_unsettle(tracked.note, tracked.hash);
	/* Of a tuple that is in use again already, the entry is the new connection's. One more: its FIN. */
	if (!connection || full->snd_una - (__u32)full->bytes_acked - 1 - connection->server_isn > 1)
		return;
	/* Also one that never said a word. */
	if (connection->state == CONNECTION_PROMOTED)
		used_made(tracked.hash, clock_ms());
	if (connection->state != CONNECTION_CLOSED)
		track_forget(tracked.note, &tracked.tuple);
}

#endif
