/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A service as the XDP program sees it: is it ours to answer, does its listener live, is a canary due. */
#ifndef XDPH_SERVICE_H
#define XDPH_SERVICE_H

#include "count.h"
#include "packet.h"

static __always_inline bool port_protected(__be16 port)
{
	__u32 number = host16(port), word = number / 64;
	__u64 *bits = bpf_map_lookup_elem(&ports, &word);

	return bits && *bits >> (number & 63) & 1;
}

static __always_inline struct service *service_find(__u32 ifindex, __u32 vlan, const struct tuple *tuple)
{
	struct service_key key = {
		.ifindex = ifindex,
		.vlan = vlan,
		.address = tuple->local,
		.port = tuple->local_port,
	};

	return bpf_map_lookup_elem(&services, &key);
}

/*
 * The listening socket, if what lies there still is it. The memory may have become another socket
 * (SLAB_TYPESAFE_BY_RCU) or nothing: a read of it never faults, and is believed only where state, port,
 * namespace and address fit.
 */
static __always_inline struct tcp_sock *service_listener(const struct service *service,
							 const struct settings *set, __u32 ifindex,
							 const struct tuple *tuple, bool is_ipv4)
{
	struct tcp_sock *listener = service->listener;
	struct sock_common *common;
	struct net *net;

	if (!listener)
		return NULL;
	common = &listener->inet_conn.icsk_inet.sk.__sk_common;
	if (common->skc_state != KERNEL_TCP_LISTEN || common->skc_num != host16(tuple->local_port))
		return NULL;
	if (common->skc_bound_dev_if && common->skc_bound_dev_if != (int)ifindex)
		return NULL;
	net = common->skc_net.net;
	if (!net || net->net_cookie != set->netns_cookie)
		return NULL;
	if (common->skc_family == KERNEL_AF_INET)
		return is_ipv4 && (!common->skc_rcv_saddr || common->skc_rcv_saddr == tuple->local.word[3])
			       ? listener
			       : NULL;
	if (common->skc_family != KERNEL_AF_INET6 ||
	    (is_ipv4 && BPF_CORE_READ_BITFIELD(common, skc_ipv6only)))
		return NULL;
	/* A listener on :: takes either family, one on an address takes that address. */
	struct in6_addr bound = common->skc_v6_rcv_saddr;

	if (!(bound.s6_addr32[0] | bound.s6_addr32[1] | bound.s6_addr32[2] | bound.s6_addr32[3]))
		return listener;
	return address_equal((const struct address *)&bound, &tuple->local) ? listener : NULL;
}

/*
 * The same, and if it is gone, that is kept: the memory may become a listener of this port again, or its
 * socket listen once more, and that is another one, of which all is read anew (learn.h: learn_service()).
 */
static __always_inline struct tcp_sock *service_listener_or_forget(struct service *service,
								   const struct settings *set,
								   __u32 ifindex, const struct tuple *tuple,
								   bool is_ipv4)
{
	const struct tcp_sock *before = service->listener;
	struct tcp_sock *listener = service_listener(service, set, ifindex, tuple, is_ipv4);

	/* Not one that another CPU has just learned. */
	if (!listener && before && service->listener == before)
		service->listener = NULL;
	return listener;
}

static __always_inline struct net *listener_net(struct tcp_sock *listener)
{
	return listener->inet_conn.icsk_inet.sk.__sk_common.skc_net.net;
}

/*
 * A number for what of a listener's options shows in its SYN-ACKs: MSS, window, scale. If it is another one
 * than when the last SYN-ACK was read, options have been set since, or a restarted server's socket lies
 * where the old one was, which is where the kernel puts it as a rule.
 */
static __always_inline __u32 listener_traits(struct tcp_sock *listener)
{
	return (__u32)listener->inet_conn.icsk_inet.sk.sk_rcvbuf * 0x9e3779b1 ^
	       listener->window_clamp * 0x85ebca6b ^ listener->rx_opt.user_mss;
}

/*
 * Whether another connection would find no room in the accept queue (include/net/sock.h:
 * sk_acceptq_is_full()). Of a SO_REUSEPORT group nobody knows but the stack: whom it gives a promoted
 * segment to is decided anew, and another one than the lookup finds. If that one's queue is full, it drops
 * the segment as we would.
 */
static __always_inline bool listener_queue_full(struct tcp_sock *listener)
{
	struct sock *sk = &listener->inet_conn.icsk_inet.sk;

	return sk->sk_ack_backlog > sk->sk_max_ack_backlog &&
	       (!sk->sk_reuseport_cb || sk->sk_reuseport_cb->num_socks == 1);
}

/*
 * Whether it looks like a listener that is closed in this moment: it has left its SO_REUSEPORT group
 * (net/ipv4/inet_hashtables.c:inet_unhash()). Or the option was set after listen(), and it never was in
 * one.
 */
static __always_inline bool listener_leaves_group(struct tcp_sock *listener)
{
	struct sock *sk = &listener->inet_conn.icsk_inet.sk;

	return BPF_CORE_READ_BITFIELD(&sk->__sk_common, skc_reuseport) && !sk->sk_reuseport_cb;
}

/*
 * Whether half of the SYN queue is taken: more SYNs passed would soon bring the stack to its own cookies,
 * which have to leave out options.
 */
static __always_inline bool listener_requests_many(struct tcp_sock *listener)
{
	return (__u32)listener->inet_conn.icsk_accept_queue.qlen.counter >
	       listener->inet_conn.icsk_inet.sk.sk_max_ack_backlog / 2;
}

/* Whether the stack gives Fast Open cookies for this listener, and takes them (RFC 7413 section 4.1.2). */
static __always_inline bool listener_fast_open(struct tcp_sock *listener)
{
	return listener->inet_conn.icsk_accept_queue.fastopenq.max_qlen &&
	       listener_net(listener)->ipv4.sysctl_tcp_fastopen & KERNEL_TFO_SERVER_ENABLE;
}

/* What makes this listener one that must see its SYNs itself (enum listener_kind), as it is now. */
static __always_inline __u8 listener_kind(struct tcp_sock *listener)
{
	struct inet_connection_sock *connection = &listener->inet_conn;
	__u8 kind = 0;

	if (bpf_core_field_exists(listener->is_mptcp) && listener->is_mptcp)
		kind |= LISTENER_MPTCP;
	if (bpf_core_field_exists(listener->md5sig_info) && listener->md5sig_info)
		kind |= LISTENER_SIGNATURE;
	if (bpf_core_field_exists(listener->ao_info) && listener->ao_info)
		kind |= LISTENER_SIGNATURE;
	if (BPF_CORE_READ_BITFIELD(listener, save_syn))
		kind |= LISTENER_SAVE_SYN;
	if (connection->icsk_accept_queue.rskq_defer_accept)
		kind |= LISTENER_DEFER_ACCEPT;
	if (connection->icsk_ca_ops && connection->icsk_ca_ops->flags & KERNEL_TCP_CONG_NEEDS_ECN)
		kind |= LISTENER_NEEDS_ECN;
	return kind;
}

/*
 * The options of a SYN that the stack takes no notice of (net/ipv4/tcp_input.c:tcp_parse_options()), as
 * sysctls are at this moment: a canary shows only what it asks for itself, and what is promised against
 * them is not promoted.
 */
static __always_inline __u8 listener_ignores(struct tcp_sock *listener)
{
	struct net *net = listener_net(listener);

	return (net->ipv4.sysctl_tcp_window_scaling ? 0 : OPTION_WSCALE) |
	       (net->ipv4.sysctl_tcp_sack ? 0 : OPTION_SACK) |
	       (net->ipv4.sysctl_tcp_timestamps ? 0 : OPTION_TIMESTAMPS);
}

enum {
	SPEAKS_FIRST_WITHIN_MS = 2000, /* of its promotion: no idle client's time-out is so short */
	SPEAKS_FIRST_SHARE = 8,	       /* of the budget for passing: this part is for such services */
	FLOOD_WINDOW_MS = 8,	       /* noticed within 10 ms */
	FLOOD_LIMIT_MS =
		7,	 /* what comes in a window is set against what the rate makes in this: see below */
	FLOOD_SYNS = 16, /* in a window are no flood yet, whatever the rate: a page's connections */
};

/*
 * A server that speaks first (SSH, SMTP) does not know of its client until the final ACK is there. If that
 * is lost, the stack sends its SYN-ACK again; we, who keep nothing, cannot, and the client would wait in
 * vain.
 */
static __always_inline bool service_speaks_first(const struct service *service, __u64 now_ms)
{
	return service->speaks_first_ms && now_ms < service->speaks_first_ms + SPEAKS_FIRST_KEPT_MS;
}

/* What this CPU counts of the service's SYNs. */
static __always_inline struct pace *service_pace(const struct service *service)
{
	__u32 slot = service->slot & (PACE_SLOTS - 1);

	return bpf_map_lookup_elem(&paces, &slot);
}

/* ---- canaries ---- */

/* Another CPU may have written a moment that is a little ahead of this one's. */
static __always_inline __u64 elapsed_ms(__u64 now_ms, __u64 then_ms)
{
	return now_ms > then_ms ? now_ms - then_ms : 0;
}

static __always_inline bool canary_allowed(const struct service *service, const struct settings *set,
					   __u64 now_ms)
{
	return elapsed_ms(now_ms, service->canary.sent_ms) >= set->canary_gap_ms;
}

/* Whether the stack should be asked again whether it still answers. */
static __always_inline bool canary_due(const struct service *service, const struct settings *set,
				       __u64 now_ms)
{
	struct pace *pace;

	if (set->flags & SETTING_CANARY_ONCE || !canary_allowed(service, set, now_ms))
		return false;
	if (elapsed_ms(now_ms, service->confirmed_ms) >= set->canary_silence_ms)
		return true;
	pace = service_pace(service);
	return pace && pace->answered >= set->canary_answers;
}

/*
 * Whether the stack has ceased to answer: two canaries have remained without an answer, the second one
 * until the next is due, or, where SYNs are rare, one for longer than we trust its predecessor.
 */
static __always_inline bool canary_unanswered(const struct service *service, const struct settings *set,
					      __u64 now_ms)
{
	__u64 since = service->canary.waiting_since_ms;

	if (!since || set->flags & SETTING_CANARY_ONCE)
		return false;
	return elapsed_ms(now_ms, since) > set->canary_patience_ms ||
	       service->canary.unanswered > CANARIES_UNANSWERED ||
	       (service->canary.unanswered == CANARIES_UNANSWERED && canary_allowed(service, set, now_ms));
}

/* Notes a SYN that is being passed, so that the answer to it is known when it leaves (learn.h). */
static __always_inline bool canary_note(struct service *service, const struct settings *set, __u64 now_ms,
					const __u8 *source_mac, __u32 client_isn, __u64 tuple_hash,
					__u8 offered)
{
	struct service_canary *canary = &service->canary;
	__u64 last = canary->sent_ms;
	struct pace *pace;

	if (elapsed_ms(now_ms, last) < set->canary_gap_ms)
		return false;
	/* One CPU alone writes the note; it is the only thing that a SYN writes to shared memory. */
	if (__sync_val_compare_and_swap(&canary->sent_ms, last, now_ms) != last)
		return false;
	canary->client_isn = client_isn;
	canary->tuple_hash = tuple_hash;
	canary->offered = offered;
	__builtin_memcpy(canary->source_mac, source_mac, ETH_ALEN);
	if (!canary->waiting_since_ms) {
		canary->waiting_since_ms = now_ms;
		canary->unanswered = 0;
	}
	if (canary->unanswered <= CANARIES_UNANSWERED)
		canary->unanswered++;
	pace = service_pace(service);
	if (pace)
		pace->answered = 0;
	return true;
}

static __always_inline void service_answered(const struct service *service)
{
	struct pace *pace = service_pace(service);

	if (pace)
		pace->answered++;
}

/* ---- policy flood ---- */

/*
 * Whether this CPU gets as many SYNs of the service as flood_rate, by the last FLOOD_WINDOW_MS: those of
 * the present window, and of the one before it the share that is not that long ago. A flood that begins
 * within a window is thought to fill all of it, so for one just above the rate to be noticed within 10 ms,
 * seven eighths of the rate are enough. Few at once are no flood.
 */
static __always_inline bool flood_begins(struct pace *pace, const struct settings *set, __u64 now_ms)
{
	const __u64 window = now_ms / FLOOD_WINDOW_MS;
	const __u32 left = FLOOD_WINDOW_MS - now_ms % FLOOD_WINDOW_MS;
	__u32 limit = set->flood_rate * FLOOD_LIMIT_MS / 1000;

	if (pace->window != window) {
		pace->syns_before = window - pace->window == 1 ? pace->syns : 0;
		pace->syns = 0;
		pace->window = window;
	}
	if (limit < FLOOD_SYNS)
		limit = FLOOD_SYNS;
	return ++pace->syns + pace->syns_before * left / FLOOD_WINDOW_MS > limit;
}

/* Begins to count the SYNs of a second, if that is not yet counted. */
static __always_inline void pace_second(struct pace *pace, __u64 now_ms)
{
	if (pace->second == now_ms >> 10)
		return;
	pace->second = now_ms >> 10;
	pace->syns_second = 0;
}

/* Whether there are still half as many, by the second. */
static __always_inline bool flood_goes_on(struct pace *pace, const struct settings *set, __u64 now_ms)
{
	pace_second(pace, now_ms);
	return ++pace->syns_second > set->flood_rate / 2;
}

/*
 * Whether a service of policy flood answers at this moment. It wakes when this CPU gets more SYNs than are
 * usual, or when half of the listener's SYN queue is taken; it goes on while there is half as much, and for
 * a while after that, so that it does not fall asleep between two waves.
 */
static __always_inline bool flood_awake(struct service *service, const struct settings *set,
					struct tcp_sock *listener, __u64 now_ms)
{
	const __u64 until_ms = service->awake_until_ms;
	const bool awake = now_ms < until_ms;
	struct pace *pace = service_pace(service);
	bool flood = listener && listener_requests_many(listener);

	if (pace) {
		bool goes_on = flood_goes_on(pace, set, now_ms);

		flood |= flood_begins(pace, set, now_ms) || (awake && goes_on);
	}
	/* Written by the one who wakes it, and now and then: it is a line that all CPUs read. */
	if (flood && elapsed_ms(now_ms + set->flood_hold_ms, until_ms) > set->flood_hold_ms / 8 &&
	    __sync_val_compare_and_swap(&service->awake_until_ms, until_ms, now_ms + set->flood_hold_ms) ==
		    until_ms &&
	    !awake)
		COUNT(service_woken);
	return awake || flood;
}

/* ---- guard ---- */

/* What this CPU counts of the service's orphans, or NULL where none is ever dropped. */
static __always_inline struct pace *guard_pace(const struct service *service, const struct settings *set,
					       __u64 now_ms)
{
	/* Where the stack does not answer, or somebody else may, nothing is known to be an orphan. */
	if (service->guard == GUARD_OFF || service->policy == POLICY_SHADOW ||
	    service->admission != SERVICE_ADMITTED || canary_unanswered(service, set, now_ms))
		return NULL;
	return service_pace(service);
}

/* Whether orphans are dropped, by what has been counted until now. */
static __always_inline bool guard_is_on(const struct service *service, const struct settings *set,
					__u64 now_ms)
{
	const struct pace *pace = guard_pace(service, set, now_ms);
	const __u64 second = now_ms >> 10;

	return pace && (service->guard == GUARD_ON ||
			(pace->orphan_second == second &&
			 (pace->orphans > set->guard_rate || pace->orphans_before > set->guard_rate)));
}

/* Counts an orphan, and tells whether it is to be dropped. */
static __always_inline bool guard_drops(const struct service *service, const struct settings *set,
					__u64 now_ms)
{
	struct pace *pace = guard_pace(service, set, now_ms);
	const __u64 second = now_ms >> 10;

	if (!pace)
		return false;
	if (pace->orphan_second != second) {
		pace->orphans_before = second - pace->orphan_second == 1 ? pace->orphans : 0;
		pace->orphans = 0;
		pace->orphan_second = second;
	}
	pace->orphans++;
	return service->guard == GUARD_ON || pace->orphans > set->guard_rate ||
	       pace->orphans_before > set->guard_rate;
}

/* ---- the budget for passing ---- */

/*
 * Passing a SYN costs what a native handshake costs. So no choice of options, addresses or tuples may
 * bring more than a certain number a second (and CPU) through to the stack.
 */
static __always_inline bool pass_budget(struct cpu *cpu, const struct settings *set, __u64 now_ms,
					enum budget budget)
{
	__u64 second = now_ms >> 10;
	__u32 limit = set->pass_budget;

	if (cpu->budget_second != second) {
		cpu->budget_second = second;
		__builtin_memset(cpu->passed, 0, sizeof(cpu->passed));
	}
	if (budget == BUDGET_HELD)
		limit = set->held_budget;
	else if (budget == BUDGET_SPEAKS_FIRST)
		limit /= SPEAKS_FIRST_SHARE;
	return cpu->passed[budget]++ < limit;
}

#endif
