/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * From a right cookie to a connection: the request socket that the stack would have had, given to the
 * segment that completes the handshake.
 *
 * GRO and list receive run tc for a whole batch before the stack sees its first segment. Of a final ACK
 * and a first data segment in one batch both have the right cookie and both meet the listener; two request
 * sockets would make two children, of which one fails, and its data with it. So the second one is sent
 * round the backlog once: by then the stack has dealt with the first, and either there is a connection, or
 * the first was dropped and the second may promote.
 */
#ifndef XDPH_PROMOTE_H
#define XDPH_PROMOTE_H

#include "ack.h"
#include "answer.h"
#include "track.h"
#include "used.h"

enum {
	PROMOTE_NEXT = -1, /* TCX_NEXT; to clsact TC_ACT_UNSPEC: whoever comes after us decides */
	PROMOTE_DROP = 2,  /* TC_ACT_SHOT */
	/* Ethernet with tags, IPv6 with some extension headers, TCP: of the longest kind that is likely. */
	PROMOTE_HEADERS = 22 + 40 + 64 + 60,
	PROMOTE_BATCH_MS = 2, /* where a segment cannot go round: how long its batch may take */
};

/* Sends @skb round the backlog. It must have its Ethernet header, which is put back in front of it. */
static __always_inline int promote_requeue(struct __sk_buff *skb)
{
	COUNT(promote_requeued);
	skb->tc_index = ABI_TC_INDEX_REQUEUED;
	return bpf_redirect(skb->ifindex, BPF_F_INGRESS);
}

/*
 * The stack has begun a handshake of its own on the tuple of a right cookie: the client's SYN was answered,
 * and its retransmission was passed. The client took our SYN-ACK, as this segment proves, and the stack,
 * which awaits the ACK of another ISN, would reset it. So its request is ended by a copy of the segment
 * that is an RST, and the segment itself goes round behind that. @at: of the TCP header in the segment.
 */
static __always_inline int promote_end_other(struct __sk_buff *skb, __u32 at)
{
	const __u32 sum_at = at + offsetof(struct tcphdr, check), word_at = at + 12;
	/* No options: the request would take no timestamps but those of its own SYN-ACK. */
	const __be16 reset = be16_from(sizeof(struct tcphdr) / 4 << 12 | TCP_RST);
	__be16 word; /* data offset and control bits */

	if (bpf_skb_load_bytes(skb, word_at, &word, sizeof(word)) ||
	    bpf_l4_csum_replace(skb, sum_at, raw16(word), raw16(reset), sizeof(word)) ||
	    bpf_skb_store_bytes(skb, word_at, &reset, sizeof(reset), 0))
		return PROMOTE_DROP;
	skb->tc_index = ABI_TC_INDEX_ENDING;
	if (bpf_clone_redirect(skb, skb->ifindex, BPF_F_INGRESS) ||
	    bpf_skb_store_bytes(skb, word_at, &word, sizeof(word), 0) ||
	    bpf_l4_csum_replace(skb, sum_at, raw16(reset), raw16(word), sizeof(word)))
		return PROMOTE_DROP;
	COUNT(promote_ended_other_handshake);
	return promote_requeue(skb);
}

/* Our own RST comes in: only a request may be ended by it, not the connection that may be there by now. */
static __always_inline int promote_ending(struct __sk_buff *skb, const struct packet *packet)
{
	struct tuple tuple;

	skb->tc_index = 0;
	tcp_tuple(packet, &tuple);
	return lookup_state(skb, &tuple, packet->is_ipv4) == KERNEL_TCP_NEW_SYN_RECV ? PROMOTE_NEXT
										     : PROMOTE_DROP;
}

/* Since its SYN-ACK left; an echo may be ahead of its time by what the ticks lag behind (validate.h). */
static __always_inline __u32 promote_age_ms(const struct handshake_metadata *metadata, __u64 now_ms)
{
	const __s32 age_ms = (__s32)((__u32)now_ms - metadata->sent_ms);

	return metadata->options & OPTION_TIMESTAMPS && age_ms > 0 ? (__u32)age_ms : 0;
}

static __always_inline void promote_record(struct __sk_buff *skb, struct settings *set,
					   const struct settling *settling, __u64 now_ms)
{
	const struct handshake_metadata *metadata = &settling->metadata;
	struct connection connection = {
		.promoted_ms = now_ms,
		.client_isn = metadata->client_isn,
		.server_isn = metadata->server_isn,
		.state = CONNECTION_PROMOTED,
		.cookie_age_ms = promote_age_ms(metadata, now_ms),
		.ifindex = skb->ifindex,
		.mss = metadata->mss,
		.snd_wscale = metadata->snd_wscale,
		.rcv_wscale = metadata->rcv_wscale,
		.options = metadata->options,
	};

	__builtin_memcpy(connection.client_mac, settling->client_mac, ETH_ALEN);
	if (!track_promoted(set, &settling->tuple, &connection))
		return;
	COUNT(connections_full);
	/* From now on, the absence of an entry does not say that a connection is none of ours. */
	if (!(set->flags & SETTING_CONNECTIONS_FULL))
		__sync_fetch_and_or(&set->flags, SETTING_CONNECTIONS_FULL);
}

static __always_inline void promote_count_failure(int error)
{
	switch (-error) {
	case 22: /* EINVAL */ COUNT(promote_failed_options); break;
	case 101: /* ENETUNREACH */ COUNT(promote_failed_netns); break;
	case 12: /* ENOMEM */ COUNT(promote_failed_memory); break;
	default: COUNT(promote_failed_other);
	}
}

/* Gives the segment its request socket. */
static __always_inline int promote_assign(struct __sk_buff *skb, struct tcp_sock *listener,
					  const struct handshake_metadata *metadata, __u64 now_ms)
{
	struct bpf_tcp_req_attrs attrs = {
		.rcv_tsval = metadata->tsval,
		/*
		 * Not the echoed value: the stack takes ours to be the timestamp clock of this moment, and
		 * computes its offset from it. With the echo, the path would seem to have no length.
		 */
		.rcv_tsecr = (__u32)now_ms + metadata->timestamp_offset,
		.mss = metadata->mss,
		.rcv_wscale = metadata->rcv_wscale,
		.snd_wscale = metadata->snd_wscale,
		.ecn_ok = !!(metadata->options & OPTION_ECN),
		.wscale_ok = !!(metadata->options & OPTION_WSCALE),
		.sack_ok = !!(metadata->options & OPTION_SACK),
		.tstamp_ok = !!(metadata->options & OPTION_TIMESTAMPS),
	};

	return bpf_sk_assign_tcp_reqsk(skb, (struct sock *)listener, &attrs, sizeof(attrs));
}

/* Promoted by this CPU just now: then the stack has not seen the first segment of the batch yet. */
static __always_inline bool promote_in_batch(const struct cpu *cpu, __u64 hash, __u64 now_ms)
{
	return cpu->promoted_hash == hash && now_ms - cpu->promoted_ms <= PROMOTE_BATCH_MS;
}

/*
 * The listener is closed in this moment. Another one of its SO_REUSEPORT group may be there, to which the
 * connection would have belonged natively from its SYN on: the next lookup finds it.
 */
static __always_inline int promote_closing(struct __sk_buff *skb, const struct settling *settling)
{
	if (settling->may_go_round)
		return promote_requeue(skb);
	COUNT(promote_dropped_closing);
	return PROMOTE_DROP;
}

/*
 * Settles a segment that carries a right cookie, or follows one that did, or came round. A global function:
 * the verifier looks at it once, and not for each of the ways that a frame may be built.
 */
__noinline int promote_settle(struct __sk_buff *skb, struct settling *settling)
{
	struct settings *set = bpf_map_lookup_elem(&settings, &zero);
	struct cpu *cpu = bpf_map_lookup_elem(&cpus, &zero);
	const struct handshake_metadata *metadata;
	struct tcp_sock *listener, *seen;
	const struct tuple *tuple;
	struct bpf_sock *found;
	int used, noted, error;
	__u64 hash, isn_tag, now_ms;
	__u32 state;
	bool first;

	if (!set || !cpu || !settling)
		return PROMOTE_NEXT;
	tuple = &settling->tuple;
	metadata = &settling->metadata;
	hash = tuple_hash(tuple, set->hash_seed);
	isn_tag = used_isn_tag(metadata->client_isn, metadata->server_isn);
	first = settling->seq == metadata->client_isn + 1 && settling->ack == metadata->server_isn + 1;
	found = lookup_exact(skb, tuple, settling->is_ipv4, tuple->remote_port);
	if (!found) {
		COUNT(promote_failed_no_listener);
		return PROMOTE_NEXT;
	}
	state = found->state;
	if (state == KERNEL_TCP_CLOSE) {
		bpf_sk_release(found);
		return promote_closing(skb, settling);
	}
	if (state != KERNEL_TCP_LISTEN) {
		bpf_sk_release(found);
		known_mark(set, hash);
		if (state == KERNEL_TCP_NEW_SYN_RECV) {
			/* Segments behind the first one of a batch: to go round behind that is enough. */
			if (settling->may_go_round)
				return first ? promote_end_other(skb, settling->tcp_offset)
					     : promote_requeue(skb);
			/* It would draw an RST. The next one finds the request expired, or ended. */
			COUNT(promote_dropped_other_handshake);
			return PROMOTE_DROP;
		}
		if (state != KERNEL_TCP_TIME_WAIT)
			used_made(hash, clock_coarse_ms());
		COUNT(promote_connected);
		return PROMOTE_NEXT;
	}

	now_ms = clock_ms();
	used = used_look(hash, isn_tag, now_ms);
	if (used == USED_CONNECTED) {
		bpf_sk_release(found);
		COUNT(promote_failed_used);
		return PROMOTE_NEXT;
	}
	if (!settling->requeued && (used == USED_TRIED || !first)) {
		if (settling->may_go_round) {
			bpf_sk_release(found);
			return promote_requeue(skb);
		}
		if (promote_in_batch(cpu, hash, now_ms)) {
			bpf_sk_release(found);
			COUNT(promote_connected);
			return PROMOTE_NEXT;
		}
	}
	if (!first) {
		/* The one before it made no connection. A listener would reset the client: say nothing. */
		bpf_sk_release(found);
		COUNT(promote_dropped_early);
		return PROMOTE_DROP;
	}

	listener = bpf_skc_to_tcp_sock(found);
	if (!listener) {
		bpf_sk_release(found);
		COUNT(promote_failed_no_listener);
		return PROMOTE_NEXT;
	}
	seen = KERNEL_READ_ONLY(listener);
	if (listener_leaves_group(seen) && settling->may_go_round) {
		bpf_sk_release(found);
		return promote_closing(skb, settling);
	}
	if (listener_queue_full(seen)) {
		bpf_sk_release(found);
		COUNT(promote_dropped_queue_full);
		return PROMOTE_DROP;
	}
	/* Noted before it is done: whoever has the same cookie on another CPU at this moment goes round. */
	noted = used_try(hash, isn_tag, now_ms);
	if (noted == USED_NOTED_BEFORE && used == USED_NEVER && settling->may_go_round) {
		bpf_sk_release(found);
		return promote_requeue(skb);
	}
	if (noted == USED_GAVE_WAY)
		COUNT(used_evicted);
	error = promote_assign(skb, listener, metadata, now_ms);
	state = found->state;
	bpf_sk_release(found);
	if (error && state == KERNEL_TCP_CLOSE)
		return promote_closing(skb, settling);
	if (error) {
		promote_count_failure(error);
		return PROMOTE_NEXT;
	}
	/* For firewall rules, which have never seen the SYN. Of this segment alone. */
	if (set->mark)
		skb->mark = set->mark;
	cpu->promoted_hash = hash;
	cpu->promoted_ms = now_ms;
	/* What comes from now on belongs to a connection; what has passed XDP already, has its metadata. */
	validated_promote(validated_way(cpu, hash), hash);
	known_mark(set, hash);
	known_promote(known_note(set, hash), hash);
	promote_record(skb, set, settling, now_ms);
	COUNT(promoted);
	return PROMOTE_NEXT;
}

/* Looks at the cookie once more, where metadata is missing. False: it is not right. */
static __always_inline bool promote_validate(struct __sk_buff *skb, const struct packet *packet,
					     const struct settings *set, struct cpu *cpu,
					     const struct tuple *tuple, struct handshake_metadata *metadata)
{
	struct service *service = service_find(skb->ifindex, skb_vlan(skb, packet), tuple);
	struct claim *claim = &cpu->claim;

	if (!service || packet->fragment || !tcp_header_fits(packet) ||
	    !tcp_segment_whole(skb, false, packet, skb->len, &cpu->header))
		return false;
	if (!claim_of(skb, false, claim, packet, tuple, service, set, cpu) ||
	    claim_judge_service(claim) != VERDICT_RIGHT)
		return false;
	claim_metadata(claim, metadata);
	return true;
}

enum handed {
	HANDED_NOTHING,
	HANDED_OTHER, /* of a program with another layout: the cookie is looked at once more */
	HANDED_OURS,
};

/* What metadata the frame carries. */
static __always_inline enum handed promote_metadata(struct __sk_buff *skb,
						    struct handshake_metadata *metadata)
{
	void *data = (void *)(long)skb->data;
	struct handshake_metadata *meta = (void *)(long)skb->data_meta;

	if ((void *)(meta + 1) > data || meta->magic != ABI_METADATA_MAGIC)
		return HANDED_NOTHING;
	if (meta->layout != ABI_LAYOUT) {
		COUNT(promote_failed_metadata);
		return HANDED_OTHER;
	}
	*metadata = *meta;
	return HANDED_OURS;
}

/*
 * Takes the frame apart. After generic XDP, kernels may have copied the frame and forgotten how long its
 * Ethernet header is (skb_pp_cow_data() and skb->mac_len): it then begins with the IP header.
 */
static __always_inline bool promote_read(struct __sk_buff *skb, struct packet *packet)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	const __be16 protocol = (XDPH_FORCE __be16)skb->protocol;
	struct sk_buff *kernel_skb = bpf_cast_to_kern_ctx(skb);
	const __u64 network = (__u64)kernel_skb->head + kernel_skb->network_header;

	if (network != (__u64)kernel_skb->data) {
		if (!eth_read(packet, data, end) || packet->protocol != protocol)
			return false;
	} else {
		packet->start = data;
		packet->eth = NULL;
		packet->ip = data;
		packet->end = end;
		packet->vlan = 0;
		packet->protocol = protocol;
	}
	return tcp_read_network(packet, skb, false);
}

/* Whether a segment is one to look at: nearly all are not, and cost no more than this. */
static __always_inline bool promote_concerns(struct __sk_buff *skb, const struct settings *set)
{
	return (void *)(long)skb->data_meta < (void *)(long)skb->data ||
	       skb->tc_index == ABI_TC_INDEX_REQUEUED || skb->tc_index == ABI_TC_INDEX_ENDING ||
	       set->flags & SETTING_TC_VALIDATES;
}

static __noinline int promote_segment(struct __sk_buff *skb, struct settings *set)
{
	struct cpu *cpu = bpf_map_lookup_elem(&cpus, &zero);
	struct settling *settling;
	struct packet packet = {};
	enum handed handed;
	bool requeued, ending;

	if (!cpu)
		return PROMOTE_NEXT;
	settling = &cpu->settling;
	requeued = skb->tc_index == ABI_TC_INDEX_REQUEUED;
	ending = skb->tc_index == ABI_TC_INDEX_ENDING;
	handed = promote_metadata(skb, &settling->metadata);
	if (handed == HANDED_NOTHING && !requeued && !ending && !(set->flags & SETTING_TC_VALIDATES))
		return PROMOTE_NEXT;
	if (requeued)
		skb->tc_index = 0;

	if (!promote_read(skb, &packet)) {
		/* Drivers may leave headers outside the linear part. */
		bpf_skb_pull_data(skb, skb->len < PROMOTE_HEADERS ? skb->len : PROMOTE_HEADERS);
		if (!promote_read(skb, &packet))
			return PROMOTE_NEXT;
	}
	if (ending)
		return promote_ending(skb, &packet);
	if (!port_protected(packet.tcp->dest) ||
	    (tcp_control(packet.tcp) & (TCP_ACK | TCP_SYN | TCP_RST)) != TCP_ACK)
		return PROMOTE_NEXT;
	tcp_tuple(&packet, &settling->tuple);
	if (handed != HANDED_OURS &&
	    !promote_validate(skb, &packet, set, cpu, &settling->tuple, &settling->metadata)) {
		if (!requeued)
			return PROMOTE_NEXT;
		__builtin_memset(&settling->metadata, 0, sizeof(settling->metadata));
	}
	settling->seq = host32(packet.tcp->seq);
	settling->ack = host32(packet.tcp->ack_seq);
	settling->tcp_offset = (__u32)((void *)packet.tcp - packet.start);
	settling->is_ipv4 = packet.is_ipv4;
	settling->requeued = requeued;
	settling->may_go_round = packet.eth && !requeued;
	if (packet.eth)
		__builtin_memcpy(settling->client_mac, packet.eth->h_source, ETH_ALEN);
	else
		__builtin_memset(settling->client_mac, 0, ETH_ALEN);
	return promote_settle(skb, settling);
}

static __always_inline int promote(struct __sk_buff *skb)
{
	struct settings *set = bpf_map_lookup_elem(&settings, &zero);

	return set && promote_concerns(skb, set) ? promote_segment(skb, set) : PROMOTE_NEXT;
}

#endif
