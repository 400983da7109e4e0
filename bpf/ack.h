/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A segment with ACK, without SYN and RST, to a service. The cookie speaks first: a filter that says
 * "known" wrongly must not keep a final ACK from being promoted.
 */
#ifndef XDPH_ACK_H
#define XDPH_ACK_H

#include "count.h"
#include "event.h"
#include "forging.h"
#include "known.h"
#include "lately.h"
#include "lookup.h"
#include "service.h"
#include "validate.h"
#include "wrapped.h"

enum {
	/* In front of a TCP header, at most. */
	ACK_HEADERS = sizeof(struct ethhdr) + VLAN_TAGS * sizeof(struct vlan_tag) + sizeof(struct ipv6hdr) +
		      IPV6_HEADERS * IPV6_EXTENSION_MAX,
	FOLLOWING_BYTES = 1 << 16, /* a first flight is not longer than the window that we announced */
	EARLY_SEGMENTS = 9, /* lost in front of an orphan: the rest of an initial window (RFC 6928) */
};

/*
 * Whether the stack will take a segment for one: what it would drop for its lengths or checksums shall
 * promote nothing, either. Asked where there is a right cookie, so once or twice a connection. The
 * checksum over data is left to the stack.
 */
static __always_inline bool ack_intact(struct xdp_md *ctx, const struct packet *packet, struct cpu *cpu,
				       bool checksum_partial)
{
	if (!tcp_segment_whole(ctx, true, packet, xdp_length(ctx), &cpu->header))
		return false;
	return packet_tcp_header(packet) != packet->tcp_length ||
	       (tcp_sum_read(ctx, packet, &cpu->header) &&
		tcp_checksum_right(packet, &cpu->header, checksum_partial));
}

/*
 * An orphan with data may be the second or a later segment of a first flight whose bare ACK and first
 * segments were lost or overtaken. A stack that had kept SYN-RECEIVED would keep the segment; our listener
 * would reset the client. Does the cookie fit an ISN one to nine segments back?
 */
static __always_inline bool ack_early(struct claim *claim, struct orphan *orphan, __u32 service_mss)
{
	const __u32 overhead = claim->timestamps ? 12 : 0;
	struct cookie_options options;

	cookie_decode(cookie_option_bits(claim->server_isn, claim->timestamps), claim->is_ipv4,
		      claim->timestamps, &options);
	/* As long as this one; as our MSS allows; as the client's own says, which is its path's. */
	orphan->sizes[0] = orphan->payload;
	orphan->sizes[1] = service_mss - overhead;
	orphan->sizes[2] = options.mss - overhead;
	for (int s = 0; s < 3; s++) {
		const __u32 size = orphan->sizes[s];

		if (!size || (s && size == orphan->sizes[0]) || (s == 2 && size == orphan->sizes[1]))
			continue;
		for (int k = 1; k <= EARLY_SEGMENTS; k++) {
			claim->client_isn = orphan->seq - 1 - k * size;
			if (claim_judge(claim) == VERDICT_RIGHT)
				return true;
		}
	}
	return false;
}

/* Names what is wrong with an orphan's cookie: for whoever reads the counters. */
static __always_inline void ack_count_rejected(struct claim *claim, int verdict, __u32 now_epoch)
{
	if (verdict == VERDICT_NO_KEY) {
		COUNT(ack_rejected_no_key);
		return;
	}
	if (verdict == VERDICT_ECHO) {
		COUNT(ack_rejected_echo);
		return;
	}
	if (verdict == VERDICT_REFUSED) {
		COUNT(ack_rejected_forging);
		return;
	}
	/* The same parity, two epochs ago: its key can still be derived, the cookie is no longer good. */
	claim->epoch -= 2;
	verdict = claim_judge(claim);
	if (verdict == VERDICT_RIGHT || verdict == VERDICT_ECHO) {
		COUNT(ack_rejected_expired);
		return;
	}
	if (!claim->timestamps) {
		claim->timestamps = 1;
		claim->epoch = cookie_epoch(claim->server_isn, now_epoch, 1);
		verdict = claim_judge(claim);
		if (verdict == VERDICT_RIGHT || verdict == VERDICT_ECHO) {
			COUNT(ack_rejected_timestamps);
			return;
		}
	}
	COUNT(ack_rejected_cookie);
}

/*
 * Whether an orphan bears one of the kernel's own SYN cookies: they leave no trace but the time of the last
 * one, which the listener knows.
 */
static __always_inline bool ack_kernel_cookie(struct xdp_md *ctx, const struct orphan *orphan,
					      const struct claim *claim)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end, *ip, *tcp;
	const __u32 ip_offset = orphan->ip_offset, tcp_offset = orphan->tcp_offset;
	__u32 ip_header = claim->is_ipv4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	struct bpf_sock *found;
	bool right = true;

	barrier_var(ip_header); /* read once: it is what is checked */
	if (ip_offset > ACK_HEADERS || tcp_offset > ACK_HEADERS)
		return true;
	ip = data + ip_offset;
	barrier_var(ip);
	tcp = data + tcp_offset;
	barrier_var(tcp);
	/* They were there when it was taken apart. */
	if (ip + ip_header > end || tcp + sizeof(struct tcphdr) > end)
		return true;
	found = lookup_exact(ctx, &claim->tuple, claim->is_ipv4, claim->tuple.remote_port);
	if (!found)
		return false;
	/* A connection that has come to be just now is let pass as well. */
	if (found->state == KERNEL_TCP_LISTEN)
		right = !bpf_tcp_check_syncookie(found, ip, ip_header, tcp, sizeof(struct tcphdr));
	bpf_sk_release(found);
	return right;
}

/* A fragment, or nobody's by its tags, of which one names no VLAN. */
static __always_inline bool segment_is_wrapped(const struct packet *packet, const struct service *service)
{
	return packet->fragment || (!service && vlan_names_none(packet->vlan));
}

/*
 * What is neither SYN nor ACK: RST, FIN or nothing alone, and SYN-ACKs, which no listener asked for. With
 * guard, those that belong to no connection end here.
 */
static __always_inline int stray_decide(struct xdp_md *ctx, const struct packet *packet,
					const struct settings *set, struct cpu *cpu)
{
	struct service *service;
	struct tuple tuple;
	__u64 hash, now_ms;
	__u32 state;
	bool held;

	tcp_tuple(packet, &tuple);
	hash = tuple_hash(&tuple, set->hash_seed);
	held = known(set, hash);
	if (held && !known_stale(cpu, hash))
		return XDP_PASS;
	now_ms = clock_coarse_ms();
	/* Right behind a final ACK that has not become a connection yet: an impatient client's reset. */
	if (validated_lately(validated_way(cpu, hash), hash, now_ms))
		return XDP_PASS;
	service = service_find(ctx->ingress_ifindex, packet->vlan, &tuple);
	if (segment_is_wrapped(packet, service))
		return segment_wrapped(ctx);
	if (!service || !guard_drops(service, set, now_ms))
		return XDP_PASS;
	state = lookup_state(ctx, &tuple, packet->is_ipv4);
	if (state == KERNEL_TCP_LISTEN) {
		COUNT(stray_dropped_guard);
		return XDP_DROP;
	}
	if (state)
		known_held(cpu, set, hash);
	return XDP_PASS;
}

/* Whether a segment carries the cookie that @way was found right with, or is of the same first flight. */
static __always_inline bool ack_follows(const struct packet *packet, const struct validated *way,
					__u64 hash, __u32 seq, __u64 now_ms)
{
	return validated_lately(way, hash, now_ms) && way->vlan == packet->vlan && !packet->fragment &&
	       tcp_header_fits(packet) && host32(packet->tcp->ack_seq) - 1 == way->metadata.server_isn &&
	       seq - way->metadata.client_isn - 1 < FOLLOWING_BYTES;
}

/*
 * A segment without a right cookie: of a connection that is known, or is found now, or of none. A function
 * of its own, which knows of the frame no more than is in cpu->orphan: the verifier need not look at it for
 * each way that a frame may be built.
 */
static __noinline int ack_decide_orphan(struct xdp_md *ctx, const struct service *service,
					struct settings *set, struct cpu *cpu)
{
	struct orphan *orphan = &cpu->orphan;
	struct claim *claim = &cpu->claim;
	const struct tuple *tuple = &claim->tuple;
	const __u64 hash = orphan->hash;
	const int verdict = orphan->verdict;
	const bool held = orphan->held && !known_stale(cpu, hash);
	__u32 state;

	/* A tuple that is known and no longer held is one to try cookies on, too: a look now and then. */
	if (held && (claim->timestamps || ++cpu->known_plain % FORGING_SAMPLE)) {
		COUNT(ack_known);
		return XDP_PASS;
	}

	state = lookup_state(ctx, tuple, claim->is_ipv4);
	if (held) {
		if (state == KERNEL_TCP_LISTEN)
			forging_note(cpu, set, claim->now_ms, FORGING_SAMPLE);
		COUNT(ack_known);
		return XDP_PASS;
	}
	if (!state) {
		COUNT(ack_no_listener);
		return XDP_PASS;
	}
	if (state != KERNEL_TCP_LISTEN) {
		known_held(cpu, set, hash);
		COUNT(ack_connected);
		return XDP_PASS;
	}
	/* Twenty-seven hashes: not for a flood, of which guard drops all the same. */
	if (orphan->payload && verdict == VERDICT_WRONG && !guard_is_on(service, set, clock_coarse_ms()) &&
	    ack_early(claim, orphan, service->synack.mss)) {
		COUNT(ack_dropped_early);
		return XDP_DROP;
	}
	claim->client_isn = orphan->seq - 1;
	if (!claim->timestamps && verdict != VERDICT_REFUSED)
		forging_note(cpu, set, claim->now_ms, 1);
	ack_count_rejected(claim, verdict, clock_epoch(cpu, set, claim->now_ms));
	if (!guard_drops(service, set, clock_coarse_ms()) || ack_kernel_cookie(ctx, orphan, claim))
		return XDP_PASS;
	COUNT(ack_dropped_guard);
	return XDP_DROP;
}

static __always_inline int ack_decide(struct xdp_md *ctx, struct packet *packet, struct settings *set,
				      struct cpu *cpu)
{
	struct validated *way;
	struct service *service;
	struct claim *claim = &cpu->claim;
	struct tuple *tuple = &claim->tuple;
	struct orphan *orphan;
	__u32 payload, seq;
	__u64 hash;
	bool held;
	int verdict;

	tcp_tuple(packet, tuple);
	hash = tuple_hash(tuple, set->hash_seed);
	held = known(set, hash);
	/* What is settled is known: a flood need not wait for its notes. */
	if (held && known_is_settled(known_note(set, hash), hash)) {
		COUNT(ack_known);
		return XDP_PASS;
	}
	seq = host32(packet->tcp->seq);
	/* The same cookie once more, or what follows it: as a rule right behind it. */
	way = validated_way(cpu, hash);
	if (ack_follows(packet, way, hash, seq, clock_tick_ms(cpu))) {
		if (!ack_intact(ctx, packet, cpu, way->checksum_partial))
			return XDP_PASS;
		if (seq == way->metadata.client_isn + 1)
			COUNT(ack_validated);
		else
			COUNT(ack_following);
		return claim_hand_over(ctx, &way->metadata, set);
	}
	service = service_find(ctx->ingress_ifindex, packet->vlan, tuple);
	if (segment_is_wrapped(packet, service))
		return segment_wrapped(ctx);
	if (!service || !tcp_header_fits(packet))
		return XDP_PASS;
	payload = packet->tcp_length - packet_tcp_header(packet);
	if (!claim_of(ctx, true, claim, packet, tuple, service, set, cpu))
		return XDP_PASS;

	verdict = claim_judge_service(claim);
	if (verdict == VERDICT_RIGHT) {
		if (!ack_intact(ctx, packet, cpu, service->checksum_partial))
			return XDP_PASS;
		claim_metadata(claim, &way->metadata);
		validated_note(way, hash, claim->now_ms, packet->vlan, service->checksum_partial);
		recent_note(recent_way(cpu, tuple), cpu, ctx->ingress_ifindex, packet->vlan, tuple,
			    service);
		COUNT(ack_validated);
		if (event_wanted(set, claim->now_ms, tuple))
			xdp_event(ctx, EVENT_ACK);
		return claim_hand_over(ctx, &way->metadata, set);
	}

	orphan = &cpu->orphan;
	orphan->hash = hash;
	orphan->seq = seq;
	orphan->payload = payload;
	orphan->verdict = verdict;
	orphan->ip_offset = packet->ip_offset;
	orphan->tcp_offset = (__u32)((void *)packet->tcp - packet->start);
	orphan->held = held;
	return ack_decide_orphan(ctx, service, set, cpu);
}

#endif
