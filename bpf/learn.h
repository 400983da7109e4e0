/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What leaves a protected port. A SYN-ACK that the stack itself has made shows what it answers, and how:
 * that is where services come from. A new connection's first segments show that its cookie is used up.
 */
#ifndef XDPH_LEARN_H
#define XDPH_LEARN_H

#include "count.h"
#include "known.h"
#include "lookup.h"
#include "service.h"
#include "tcp.h"
#include "track.h"

enum {
	LEARN_NEXT = -1,
	LEARN_OTHER_WAYS = 2,
	LEARN_RESETS = 3, /* of promoted connections in a row that show that the stack does not take them */
	LEARN_RESET_MS = 1000, /* after its promotion: what comes later has another reason */
	/* Of a connection that show that its cookie is used up: one alone may leave by another device. */
	LEARN_FIRST_SEGMENTS = 2,
};

/*
 * Whether a SYN-ACK of just now may be one of the kernel's own cookies, which leave out options for want
 * of room: what it does not show says nothing then.
 */
static __always_inline bool listener_under_pressure(struct tcp_sock *listener)
{
	struct sock *sk = &listener->inet_conn.icsk_inet.sk;

	return listener_net(listener)->ipv4.sysctl_tcp_syncookies == 2 ||
	       (__u32)listener->inet_conn.icsk_accept_queue.qlen.counter >= sk->sk_max_ack_backlog;
}

/* The window that so much room makes (net/ipv4/tcp_output.c:tcp_select_initial_window()), unscaled. */
static __always_inline __u32 window_fitting(__u32 space, __u32 segment)
{
	__u32 window = space > segment ? space - space % segment : space;

	return window > 65535 ? 65535 : window;
}

/*
 * The windows that we may announce. The stack counts in segments of our MSS, less what timestamps take of
 * each: from the window that it has shown to a client with timestamps, or without (@timestamps), follows
 * the other. And the request socket's window will count in segments of its own MSS, and may never be
 * smaller than announced: hence window_of, by MSS.
 * A global function: the verifier looks at its many ways once. @room: what the listener has for a window.
 */
__noinline int synack_windows(struct service_synack *synack, bool is_ipv4, __u32 window, bool timestamps,
			      __u32 room)
{
	const __u32 most = room > 65535 ? 65535 : room;
	__u32 mss, unit, other_unit, largest, other;
	bool by_segments;

	if (!synack)
		return 0;
	mss = synack->mss > 12 ? synack->mss : 13;
	unit = timestamps ? mss - 12 : mss;
	other_unit = timestamps ? mss : mss - 12;
	if (window_fitting(room, unit) == window)
		other = window_fitting(room, other_unit);
	else
		other = window % unit ? window : window_fitting(window, other_unit);
	largest = window > other ? window : other;
	if (largest > most)
		largest = most; /* a route's initrwnd is more than the socket has room for */
	/* A route's initrwnd counts segments: then smaller ones make a smaller window. */
	by_segments = window >= unit && !(window % unit) && window + unit <= most;
#pragma unroll
	for (int i = 0; i < 8; i++) {
		__u32 segment = cookie_mss(is_ipv4, i), limit = largest;

		if (by_segments && segment < unit)
			limit = window / unit * segment;
		synack->window_of[i] = window_fitting(limit, segment);
	}
	synack->window = timestamps || !(synack->granted & OPTION_TIMESTAMPS) ? window : other;
	synack->window_plain = timestamps ? other : window;
	return 0;
}

/* How much room for a window the listener's buffer has, its clamp observed. */
static __always_inline __u32 listener_room(struct tcp_sock *listener)
{
	__u32 room = listener->inet_conn.icsk_inet.sk.sk_rcvbuf, clamp = listener->window_clamp;

	if (bpf_core_field_exists(listener->scaling_ratio))
		room = (__u64)room * listener->scaling_ratio >> 8;
	return clamp && clamp < room ? clamp : room;
}

/* What this SYN-ACK shows. Fields that it does not show keep what an earlier one showed. */
static __always_inline void synack_read(struct service_synack *synack, const struct packet *packet,
					const struct tcp_options *options, struct tcp_sock *listener)
{
	if (packet->is_ipv4) {
		synack->ttl = packet->ipv4->ttl;
		synack->tos = packet->ipv4->tos & ~3;
	} else {
		synack->ttl = packet->ipv6->hop_limit;
		synack->tos = ipv6_traffic_class(packet->ipv6) & ~3;
	}
	synack->mss = options->mss;
	synack->user_mss = listener->rx_opt.user_mss;
	synack->reflects_tos = listener_net(listener)->ipv4.sysctl_tcp_reflect_tos;
}

static __always_inline __u8 synack_grants(const struct packet *packet, const struct tcp_options *options)
{
	return (options->has_wscale ? OPTION_WSCALE : 0) | (options->has_sack ? OPTION_SACK : 0) |
	       (options->has_timestamps ? OPTION_TIMESTAMPS : 0) |
	       (tcp_control(packet->tcp) & TCP_ECE ? OPTION_ECN : 0);
}

/* A service that has not been seen before: waits for a canary. */
static __always_inline struct service *service_add(const struct service_key *key,
						   const struct settings *set, __u64 now_ms)
{
	struct interface *interface = bpf_map_lookup_elem(&interfaces, &key->ifindex);
	struct service fresh = {
		.admission = SERVICE_WAITING,
		.policy = set->policy,
		.guard = set->guard,
		.learned_ms = now_ms,
		.slot = bpf_get_prandom_u32() & (PACE_SLOTS - 1),
	};

	if (interface)
		fresh.checksum_partial = interface->checksum_partial;
	switch (bpf_map_update_elem(&services, key, &fresh, BPF_NOEXIST)) {
	case 0: COUNT(service_learned); break;
	case -7: /* E2BIG */ COUNT(service_full);
	}
	return bpf_map_lookup_elem(&services, key);
}

/* The answer to our canary: confirms the service, or shows that its answers go another way. */
static __always_inline void canary_answer(struct service *service, const struct packet *packet,
					  __u64 now_ms)
{
	service->canary.waiting_since_ms = 0;
	if (service->admission == SERVICE_REFUSED)
		return;
	if (!eth_mac_equal(packet->eth->h_dest, service->canary.source_mac)) {
		COUNT(canary_other_way);
		/*
		 * One source whose answers go elsewhere (a neighbour's address, sent by way of the gateway)
		 * must not take a service from all the others. Two in a row, and the way has changed.
		 */
		if (service->canary.other_ways < LEARN_OTHER_WAYS)
			service->canary.other_ways++;
		if (service->admission != SERVICE_ADMITTED ||
		    service->canary.other_ways >= LEARN_OTHER_WAYS)
			service->admission = SERVICE_OTHER_WAY;
		return;
	}
	service->canary.other_ways = 0;
	if (service->admission != SERVICE_ADMITTED)
		service->admitted_ms = now_ms;
	service->confirmed_ms = now_ms;
	service->admission = SERVICE_ADMITTED;
	COUNT(canary_answered);
}

/* The first answer to the service's canary: the stack sends it again if the client keeps silent. */
static __always_inline bool synack_of_canary(const struct service *service, const struct packet *packet,
					     __u64 hash)
{
	return service->canary.waiting_since_ms && service->canary.tuple_hash == hash &&
	       host32(packet->tcp->ack_seq) - 1 == service->canary.client_isn;
}

/*
 * Whether a SYN-ACK like this one was read just now. Most of those that the stack sends are answers to
 * tuples in TIME-WAIT: to read each of them would cost more than it tells, and two CPUs would write one
 * cache line.
 */
static __always_inline bool synack_read_lately(const struct service *service, const struct settings *set,
					       __u32 shape, __u64 now_ms)
{
	return service->synack.shapes & shape &&
	       elapsed_ms(now_ms, service->synack.read_ms) < set->canary_gap_ms;
}

static __always_inline __u32 synack_shape(const struct packet *packet)
{
	return 1U << (packet->tcp->doff | (tcp_control(packet->tcp) & TCP_ECE ? 16 : 0));
}

/*
 * Whether the SYN-ACK goes by a route that is its client's alone, because of a lowered path MTU
 * (net/ipv4/route.c:rt_bind_exception(), net/ipv6/route.c:ip6_rt_cache_alloc()). Any client may bring that
 * about, and its MSS is nobody else's.
 */
static __always_inline bool learn_path_mtu(struct __sk_buff *skb, bool is_ipv4)
{
	struct sk_buff *kernel_skb = bpf_cast_to_kern_ctx(skb);
	void *route = (void *)(kernel_skb->_skb_refdst & ~KERNEL_SKB_DST_NOREF);

	if (is_ipv4) {
		struct rtable *route4 = bpf_rdonly_cast(route, bpf_core_type_id_kernel(struct rtable));

		return BPF_CORE_READ_BITFIELD(route4, rt_pmtu);
	} else {
		struct rt6_info *route6 = bpf_rdonly_cast(route, bpf_core_type_id_kernel(struct rt6_info));

		return route6->rt6i_flags & KERNEL_RTF_CACHE;
	}
}

static __always_inline void learn_service(struct __sk_buff *skb, const struct packet *packet,
					  const struct settings *set, struct cpu *cpu,
					  const struct tuple *tuple, const struct service_key *key,
					  struct service *service, struct tcp_sock *listener, __u64 now_ms)
{
	const struct tcp_options *options = &cpu->header.walk.found;
	const __u32 shape = synack_shape(packet);
	bool fresh = !service, gone, replaced, canary, smaller, of_client;
	__u8 granted, offered;

	/* The stack makes no other ones; whoever may send what he likes shall teach us nothing. */
	if (packet->fragment || !tcp_header_fits(packet) ||
	    !tcp_header_read(skb, false, packet, &cpu->header) || options->malformed || !options->mss)
		return;
	granted = synack_grants(packet, options);
	/*
	 * Behind two tags: tc sees the frame with the inner one still on, and the kernel then takes no
	 * request socket from it (net/core/filter.c:bpf_sk_assign_tcp_reqsk()).
	 */
	if (!service && !(key->vlan >> 16))
		service = service_add(key, set, now_ms);
	if (!service)
		return;
	canary = synack_of_canary(service, packet, tuple_hash(tuple, set->hash_seed));
	gone = !fresh && !service_listener(service, set, skb->ifindex, tuple, packet->is_ipv4);
	/* Its listener has closed, and there is another one, or it has other options: all is read anew. */
	replaced = gone || (!fresh && listener_traits(listener) != service->traits);
	if (elapsed_ms(now_ms, service->synack.read_ms) >= set->canary_gap_ms) {
		service->synack.read_ms = now_ms;
		service->synack.shapes = shape;
	} else {
		service->synack.shapes |= shape;
	}
	/* Not only with a canary: SYNs for another MAC are none, so a new MAC would never be learned. */
	__builtin_memcpy(service->device_mac, packet->eth->h_source, ETH_ALEN);
	service->listener = listener;
	service->synack.listener_kind = listener_kind(listener);
	/* Routes may ask for ECN as well, so what this sysctl means for it is to be seen. */
	if (service->synack.tcp_ecn != listener_net(listener)->ipv4.sysctl_tcp_ecn) {
		service->synack.tcp_ecn = listener_net(listener)->ipv4.sysctl_tcp_ecn;
		service->synack.granted &= ~OPTION_ECN;
		service->synack.refused &= ~OPTION_ECN;
	}
	/* Another listener may grant other options. */
	if (replaced)
		service->synack.granted = service->synack.refused = 0;
	/* What is granted once is granted to whoever asks for it. */
	service->synack.granted |= granted;
	service->synack.refused &= ~granted;
	if (granted & OPTION_WSCALE && options->wscale != service->synack.rcv_wscale) {
		/* Cookies on their way carry the old one. */
		service->synack.rcv_wscale_before = service->synack.rcv_wscale;
		service->synack.rcv_wscale = options->wscale;
		service->synack.rcv_wscale_changed_ms = fresh ? 0 : now_ms;
	}
	if (gone && !canary) {
		/* It listens again. Canaries that met a closed port say nothing of it. */
		service->canary.waiting_since_ms = 0;
		service->canary.unanswered = 0;
		service->canary.sent_ms = 0;
	}
	/*
	 * Where the first canary is awaited, any answer that leaves by the way the canary came will do:
	 * under a flood of sources that the stack cannot answer, canaries are theirs, and clients would
	 * wait for good.
	 */
	if (!canary && service->admission == SERVICE_WAITING && service->canary.waiting_since_ms &&
	    eth_mac_equal(packet->eth->h_dest, service->canary.source_mac))
		canary_answer(service, packet, now_ms);
	if (!fresh && !replaced && !canary)
		return;
	/* What sysctls forbid at the moment says nothing of what comes after them. */
	offered = canary ? service->canary.offered & ~listener_ignores(listener) : 0;
	if (!listener_under_pressure(listener)) {
		service->synack.granted &= ~(offered & ~granted);
		service->synack.refused |= offered & ~granted;
	}
	/*
	 * A route of one client's own (a tunnel) may have a smaller MSS: it becomes that of all only if the
	 * next canary says the same; by a lowered path MTU, never. Then a listener that was replaced is not
	 * read yet: until another client shows what it answers, its SYNs are the stack's.
	 */
	smaller = options->mss < service->synack.mss;
	of_client = smaller && learn_path_mtu(skb, packet->is_ipv4);
	if (!of_client)
		service->canary.smaller = smaller && !replaced && !service->canary.smaller;
	if (!of_client && !service->canary.smaller) {
		service->traits = listener_traits(listener);
		synack_read(&service->synack, packet, options, listener);
		synack_windows(&service->synack, packet->is_ipv4, host16(packet->tcp->window),
			       options->has_timestamps, listener_room(listener));
	}
	if (canary)
		canary_answer(service, packet, now_ms);
}

/*
 * Whether a SYN-ACK is of our namespace: its socket is, or, since the kernel's own cookies belong to none,
 * its route. What a container sends by a macvlan on our device leaves as if it were made here; a listener
 * of ours on the same port has nothing to do with it.
 */
static __always_inline bool made_here(struct __sk_buff *skb, struct bpf_sock *maker,
				      const struct settings *set)
{
	struct net *net;

	if (maker) {
		struct sock_common *common = bpf_rdonly_cast(maker,
							     bpf_core_type_id_kernel(struct sock_common));

		net = common->skc_net.net;
	} else {
		struct sk_buff *kernel_skb = bpf_cast_to_kern_ctx(skb);
		struct dst_entry *route = bpf_rdonly_cast((void *)(kernel_skb->_skb_refdst &
								   ~KERNEL_SKB_DST_NOREF),
							  bpf_core_type_id_kernel(struct dst_entry));

		net = route->dev->nd_net.net;
	}
	return net && net->net_cookie == set->netns_cookie;
}

/*
 * Whether the device is a port of a bridge whose frames netfilter looks at (br_netfilter). On that way a
 * segment loses the request socket that it was given, and the listener resets the client.
 */
static __always_inline bool behind_bridge_filter(struct __sk_buff *skb)
{
	struct sk_buff *kernel_skb = bpf_cast_to_kern_ctx(skb);
	struct net_device *dev = KERNEL_READ_ONLY(kernel_skb)->dev;
	struct net *net = dev->nd_net.net;

	return BPF_CORE_READ_BITFIELD(dev, priv_flags) & KERNEL_IFF_BRIDGE_PORT &&
	       bpf_core_field_exists(net->nf.hooks_bridge) && net->nf.hooks_bridge[0];
}

/* A SYN-ACK leaves that was made here: by which listener? */
static __always_inline void learn_synack(struct __sk_buff *skb, const struct packet *packet,
					 const struct settings *set, struct cpu *cpu,
					 const struct tuple *tuple)
{
	struct service_key key = {
		.ifindex = skb->ifindex,
		.vlan = skb_vlan(skb, packet),
		.address = tuple->local,
		.port = tuple->local_port,
	};
	const __u64 hash = tuple_hash(tuple, set->hash_seed);
	const __u64 now_ms = clock_coarse_ms();
	struct bpf_sock *maker = skb->sk, *found;
	struct tcp_sock *listener;
	struct service *service;

	/* Also one that XDP could not take apart (extension headers), or that came by another device. */
	known_mark(set, hash);
	/* The stack makes this connection by itself: what is recorded is of the tuple's last one. */
	track_forget(known_note(set, hash), tuple);
	service = bpf_map_lookup_elem(&services, &key);
	if (service && service->admission != SERVICE_WAITING && !synack_of_canary(service, packet, hash) &&
	    synack_read_lately(service, set, synack_shape(packet), now_ms) &&
	    eth_mac_equal(service->device_mac, packet->eth->h_source)) {
		listener = service_listener(service, set, skb->ifindex, tuple, packet->is_ipv4);
		if (listener && listener_traits(listener) == service->traits)
			return;
	}
	/* Redirected to another local port: what leaves looks like a listener's answer, and is not. */
	if (maker && (maker->family == KERNEL_AF_INET || maker->family == KERNEL_AF_INET6) &&
	    maker->src_port != host16(tuple->local_port))
		return;
	if (!made_here(skb, maker, set) || behind_bridge_filter(skb))
		return;
	/* No connection has the remote port 0, so what is found is a listener. */
	found = lookup_exact(skb, tuple, packet->is_ipv4, be16_from(0));
	if (!found)
		return;
	if (found->state == KERNEL_TCP_LISTEN) {
		listener = bpf_skc_to_tcp_sock(found);
		/* Without a socket: a cookie of this listener's, or it is of somebody else's making
		 * (SYNPROXY). */
		if (listener) {
			listener = KERNEL_READ_ONLY(listener);
			if (maker || listener_under_pressure(listener))
				learn_service(skb, packet, set, cpu, tuple, &key, service, listener,
					      now_ms);
		}
	}
	bpf_sk_release(found);
}

/*
 * The first segment of a connection that was promoted just now leaves, the server's @data or none.
 *
 * So the stack takes what we promote. If it leaves by the way that the client came, canaries that remained
 * without an answer, or whose answers went another way, tell of their sources and not of the service:
 * whoever floods may choose sources that the stack cannot answer. A canary of just now is waited for all
 * the same.
 */
static __always_inline void learn_connection(struct __sk_buff *skb, const struct packet *packet,
					     const struct settings *set, const struct tuple *tuple,
					     const struct connection *connection, bool data)
{
	struct service *service = service_find(skb->ifindex, skb_vlan(skb, packet), tuple);
	const __u64 now_ms = clock_coarse_ms();
	struct service_canary *canary;

	if (!service)
		return;
	/* Before any data has come. */
	if (data)
		service->speaks_first_ms = now_ms;
	canary = &service->canary;
	if (!eth_mac_equal(packet->eth->h_dest, connection->client_mac))
		return;
	if (canary->other_ways)
		canary->other_ways = 0;
	if (canary->waiting_since_ms && elapsed_ms(now_ms, canary->sent_ms) >= set->canary_gap_ms / 2)
		canary->waiting_since_ms = 0;
}

/*
 * Whether the stack's own resets belong to a socket, so that one which does not is netfilter's rejection of
 * a client: that one says nothing of the others. Over IPv6 they have since Linux 6.13.
 */
static __always_inline bool resets_name_sockets(bool is_ipv4)
{
	return is_ipv4 || LINUX_KERNEL_VERSION >= KERNEL_VERSION(6, 13, 0);
}

/*
 * The stack resets what belongs to no socket. If that is a connection which was promoted just now, its
 * request socket was lost on the way: NAT does that, and whatever else steps in between. One may have been
 * the server's doing; several in a row, and none that lived, are a service that is the stack's alone, until
 * somebody has seen to it and attaches again.
 */
static __always_inline void learn_reset(struct __sk_buff *skb, const struct packet *packet,
					struct settings *set, const struct tuple *tuple)
{
	const struct known_note *note = known_note(set, tuple_hash(tuple, set->hash_seed));
	struct connection *connection;
	struct service *service;

	if (!note || !note->recorded)
		return;
	connection = bpf_map_lookup_elem(&connections, tuple);
	if (!connection || connection->state != CONNECTION_PROMOTED ||
	    elapsed_ms(clock_coarse_ms(), connection->promoted_ms) > LEARN_RESET_MS ||
	    host32(packet->tcp->seq) != connection->server_isn + 1)
		return;
	COUNT(promote_reset);
	/* One connection counts once, whatever else comes for it. */
	connection->state = CONNECTION_ESTABLISHED;
	if (__sync_fetch_and_add(&set->resets, 1) + 1 < LEARN_RESETS)
		return;
	service = service_find(skb->ifindex, skb_vlan(skb, packet), tuple);
	if (service)
		service->admission = SERVICE_REFUSED;
}

/* Past its first segments, a connection's say nothing. Nearly all that leaves is such, and costs this. */
static __always_inline bool learn_concerns(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	struct tcp_sock *sender;

	if (!sk || sk->state != KERNEL_TCP_ESTABLISHED)
		return true;
	sender = bpf_skc_to_tcp_sock(sk);
	return !sender || sender->segs_out <= LEARN_FIRST_SEGMENTS - 1 + skb->gso_segs;
}

static __noinline int learn_segment(struct __sk_buff *skb)
{
	struct settings *set = bpf_map_lookup_elem(&settings, &zero);
	struct cpu *cpu = bpf_map_lookup_elem(&cpus, &zero);
	struct packet packet = {};
	struct connection *connection;
	struct tcp_sock *sender;
	struct bpf_sock *sk;
	struct tuple tuple;
	bool closing;
	__u8 control;

	if (!set || !cpu ||
	    !tcp_read(&packet, (void *)(long)skb->data, (void *)(long)skb->data_end, NULL, false) ||
	    !port_protected(packet.tcp->source))
		return LEARN_NEXT;
	control = tcp_control(packet.tcp) & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN);
	if (skb->ingress_ifindex) {
		/* Forwarded: not ours to answer. No socket tells of such a connection, its segments do. */
		tcp_tuple_outgoing(&packet, &tuple);
		known_mark(set, tuple_hash(&tuple, set->hash_seed));
		return LEARN_NEXT;
	}
	if (control & TCP_SYN) {
		tcp_tuple_outgoing(&packet, &tuple);
		if (control == (TCP_SYN | TCP_ACK))
			learn_synack(skb, &packet, set, cpu, &tuple);
		else if (control == TCP_SYN)
			known_mark(set, tuple_hash(&tuple, set->hash_seed));
		return LEARN_NEXT;
	}

	sk = skb->sk;
	closing = sk && control & TCP_FIN && sk->state == KERNEL_TCP_FIN_WAIT1;
	sender = sk ? bpf_skc_to_tcp_sock(sk) : NULL;
	/*
	 * RSTs to nobody's segments are sent from a socket of the stack's own, which is smaller than it is
	 * taken for; later kernels name the listener.
	 */
	if (sender && (sk->state == KERNEL_TCP_LISTEN ||
		       sender->inet_conn.icsk_inet.inet_sport != packet.tcp->source))
		sender = NULL;
	if (!sender && control & TCP_RST) {
		if (!sk && resets_name_sockets(packet.is_ipv4))
			return LEARN_NEXT;
		tcp_tuple_outgoing(&packet, &tuple);
		learn_reset(skb, &packet, set, &tuple);
		return LEARN_NEXT;
	}
	if (!closing && (!sender || sender->segs_out > LEARN_FIRST_SEGMENTS - 1 + skb->gso_segs))
		return LEARN_NEXT;
	tcp_tuple_outgoing(&packet, &tuple);
	connection = track_leaving(set, &tuple, closing);
	if (connection)
		learn_connection(skb, &packet, set, &tuple, connection,
				 sender && !sender->bytes_received &&
					 packet.tcp_length > packet_tcp_header(&packet));
	return LEARN_NEXT;
}

static __always_inline int learn(struct __sk_buff *skb)
{
	return learn_concerns(skb) ? learn_segment(skb) : LEARN_NEXT;
}

#endif
