/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The stack's own list of TCP sockets, of the network namespace of whoever reads it. */
#ifndef XDPH_SOCKETS_H
#define XDPH_SOCKETS_H

#include "known.h"
#include "learn.h"
#include "track.h"

static __always_inline void sockets_mark(struct bpf_iter__tcp *ctx)
{
	const struct settings *set = bpf_map_lookup_elem(&settings, &zero);
	struct sock_common *common = ctx->sk_common;
	struct tuple tuple = {};

	if (!set || !common || common->skc_state == KERNEL_TCP_LISTEN || !track_tuple(common, &tuple) ||
	    !port_protected(tuple.local_port))
		return;
	known_mark(set, tuple_hash(&tuple, set->hash_seed));
}

static __always_inline __u64 sockets_inode(struct tcp_sock *full)
{
	struct socket *socket = full->inet_conn.icsk_inet.sk.sk_socket;
	struct socket_alloc *alloc;

	if (!socket)
		return 0;
	alloc = bpf_rdonly_cast(socket, bpf_core_type_id_kernel(struct socket_alloc));
	return alloc->vfs_inode.i_ino;
}

static __always_inline void sockets_print(struct bpf_iter__tcp *ctx)
{
	struct sock_common *common = ctx->sk_common;
	struct socket_record record = {};
	struct tcp_sock *full;

	if (!common || !track_tuple(common, &record.tuple) || !port_protected(record.tuple.local_port))
		return;
	record.state = common->skc_state;
	record.family = common->skc_family;
	record.uid = ctx->uid;
	record.ifindex = common->skc_bound_dev_if;
	record.ipv6_only = BPF_CORE_READ_BITFIELD(common, skc_ipv6only);
	record.cookie = common->skc_cookie.counter;
	full = bpf_skc_to_tcp_sock(common);
	if (full)
		record.inode = sockets_inode(full);
	if (full && record.state == KERNEL_TCP_LISTEN) {
		struct sock *sk = &full->inet_conn.icsk_inet.sk;

		record.backlog = sk->sk_ack_backlog;
		record.backlog_max = sk->sk_max_ack_backlog;
		record.rcvbuf = sk->sk_rcvbuf;
		record.window_clamp = full->window_clamp;
		record.listener_kind = listener_kind(full);
	} else if (full) {
		record.irs = full->rcv_nxt - (__u32)full->bytes_received - 1;
		record.iss = full->snd_una - (__u32)full->bytes_acked - 1;
	}
	bpf_seq_write(ctx->meta->seq, &record, sizeof(record));
}

#endif
