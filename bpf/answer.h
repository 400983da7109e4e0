/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A SYN: passed, dropped, or answered with the SYN-ACK that the stack would have sent. */
#ifndef XDPH_ANSWER_H
#define XDPH_ANSWER_H

#include "clock.h"
#include "cookie.h"
#include "count.h"
#include "event.h"
#include "known.h"
#include "lately.h"
#include "lookup.h"
#include "own.h"
#include "prefix.h"
#include "quick.h"
#include "service.h"
#include "syn.h"
#include "tcp.h"
#include "validate.h"
#include "wrapped.h"

/* Which options the SYN offers. ECN by RFC 3168 section 6.1.1: ECE and CWR, and not ECT itself. */
static __always_inline __u8 syn_offers(const struct packet *packet, const struct tcp_options *options,
				       __u8 tos)
{
	const __u8 ecn = TCP_ECE | TCP_CWR;
	__u8 offered = 0;

	if (options->has_wscale)
		offered |= OPTION_WSCALE;
	if (options->has_sack)
		offered |= OPTION_SACK;
	if (options->has_timestamps)
		offered |= OPTION_TIMESTAMPS;
	if ((tcp_control(packet->tcp) & ecn) == ecn && !(tos & 3))
		offered |= OPTION_ECN;
	return offered;
}

/* Notes the SYN as a canary if one is allowed just now. */
static __always_inline bool syn_note(struct syn *syn, const struct packet *packet)
{
	return canary_note(syn->service, syn->set, syn->now_ms, packet->eth->h_source,
			   host32(packet->tcp->seq), syn->hash, syn->offered);
}

/*
 * The state of the socket by which the stack holds the tuple, or 0: where there is one, the stack alone can
 * answer, and a cookie could not be promoted.
 */
static __always_inline __u32 syn_held(struct xdp_md *ctx, const struct syn *syn, bool is_ipv4)
{
	__u32 state = 0;

	if (known(syn->set, syn->hash)) {
		state = lookup_state(ctx, syn->tuple, is_ipv4);
		if (state == KERNEL_TCP_LISTEN)
			state = 0;
		if (!state) {
			*known_stale_way(syn->cpu, syn->hash) = (__u32)syn->hash;
			/* Before this SYN is answered: its ACK will bear a cookie. */
			known_unsettle(known_note(syn->set, syn->hash), syn->hash);
		}
	}
	/* clang 19 would otherwise join the ways out and leave the verifier a register that no one has set.
	 */
	barrier_var(state);
	return state;
}

/* A SYN to a tuple that the stack holds. */
static __always_inline int syn_pass_held(struct xdp_md *ctx, const struct packet *packet,
					 const struct syn *syn, __u32 state)
{
	struct recent *recent = recent_way(syn->cpu, syn->tuple);

	if (!pass_budget(syn->cpu, syn->set, syn->now_ms, BUDGET_HELD))
		DROP_SYN(syn, over_budget);
	/*
	 * Not in SYN-RECEIVED: an earlier copy of the SYN may have been answered by us, and the client may
	 * have taken that answer.
	 */
	if (state == KERNEL_TCP_TIME_WAIT) {
		known_settle(syn->set, known_note(syn->set, syn->hash), syn->hash);
		/* The next ones of this tick by the short way (quick.h). */
		if (syn->service->policy == POLICY_ALWAYS) {
			recent_note(recent, syn->cpu, ctx->ingress_ifindex, packet->vlan, syn->tuple,
				    syn->service);
			recent->held = 1;
		}
	}
	PASS_SYN(syn, held);
}

enum choose {
	CHOOSE_DONE,
	CHOOSE_MSS,	  /* below the least that a request socket may have */
	CHOOSE_UNCARRIED, /* the cookie cannot say it; bits are those of the options without what it cannot
			   */
};

/* A global function: the verifier looks at its many combinations once (validate.h). */
__noinline int syn_choose(struct choice *choice)
{
	struct cookie_options *options;
	__u32 mss;
	int index;

	if (!choice)
		return CHOOSE_MSS;
	options = &choice->options;
	mss = choice->mss;
	if (!mss)
		mss = choice->is_ipv4 ? TCP_MSS_DEFAULT_IPV4 : TCP_MSS_DEFAULT_IPV6;
	if (choice->user_mss && choice->user_mss < mss)
		mss = choice->user_mss;
	index = cookie_mss_index(choice->is_ipv4, mss);
	if (index < 0)
		return CHOOSE_MSS;
	options->mss_index = index;
	options->wscale = choice->wscale;
	options->has_wscale = !!(choice->granted & OPTION_WSCALE);
	options->has_sack = !!(choice->granted & OPTION_SACK);
	options->has_ecn = !!(choice->granted & OPTION_ECN);
	options->has_timestamps = !!(choice->granted & OPTION_TIMESTAMPS);
	choice->bits = cookie_encode(options);
	if (choice->bits >= 0)
		return CHOOSE_DONE;
	/* As the kernel's own cookies would: without timestamps, the MSS alone. */
	options->has_wscale = options->has_sack = options->has_ecn = 0;
	choice->bits = cookie_encode(options);
	return CHOOSE_UNCARRIED;
}

/* Writes the SYN-ACK over the SYN. A global function: the verifier looks at its many ways once. */
__noinline int syn_transmit(struct xdp_md *ctx, const struct synack_frame *frame)
{
	__u32 ip_offset, ip_header, words, tcp_length, length, whole;
	__be32 header[5];
	void *data, *end, *ip;
	struct tcphdr *tcp;
	__be32 *word;
	__u64 sum;
	int growth;

	if (!frame)
		return -1;
	ip_offset = frame->ip_offset;
	ip_header = frame->is_ipv4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	words = frame->options;
	if (words > 5)
		return -1;
	tcp_length = sizeof(struct tcphdr) + words * 4;
	length = ip_offset + ip_header + tcp_length;
	whole = xdp_length(ctx);
	/* In several buffers, and the first one too short for the answer: it would end in another one. */
	if (ctx->data_end - ctx->data < length && ctx->data_end - ctx->data < whole)
		return -1;
	growth = (int)length - (int)whole;
	if (growth && bpf_xdp_adjust_tail(ctx, growth))
		return -1;

	/* The frame may have moved. The offsets are ours and small: 14, 18 or 22, and 20 or 40. */
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if (ip_offset > sizeof(struct ethhdr) + VLAN_TAGS * sizeof(struct vlan_tag))
		return -1;
	ip = data + ip_offset;
	tcp = ip + ip_header;
	word = (void *)(tcp + 1);
	if (data + sizeof(struct ethhdr) > end || (void *)(tcp + 1) > end)
		return -1;

	/* Whole words, each written once and summed up before: what is read back from halves has to wait.
	 */
	eth_turn(data);
	if (frame->is_ipv4) {
		ipv4_turn(ip, frame->ttl, frame->tos, tcp_length);
		sum = csum_pseudo_ipv4(((struct iphdr *)ip)->saddr, ((struct iphdr *)ip)->daddr,
				       IPPROTO_TCP, tcp_length);
	} else {
		struct ipv6hdr *ipv6 = ip;

		ipv6_turn(ipv6, frame->ttl, frame->tos, tcp_length);
		sum = csum_pseudo_ipv6((const __be32 *)&ipv6->saddr, (const __be32 *)&ipv6->daddr,
				       IPPROTO_TCP, tcp_length);
	}

	header[0] = frame->ports;
	header[1] = be32_from(frame->isn);
	header[2] = be32_from(frame->client_isn + 1);
	header[3] = be32_from(frame->control);
	header[4] = be32_from(0);
#pragma unroll
	for (int i = 0; i < 5; i++) {
		((__be32 *)tcp)[i] = header[i];
		sum += raw32(header[i]);
	}
	for (__u32 i = 0; i < 5; i++) {
		if (i >= words || (void *)(word + i + 1) > end)
			break;
		word[i] = frame->option[i];
		sum += raw32(frame->option[i]);
	}
	tcp->check = csum_field(sum);
	return 0;
}

enum answer {
	ANSWER_SENT,
	ANSWER_NO_KEY,
	ANSWER_NO_ROOM, /* the frame would not grow: it is as it came */
};

/* What the SYN-ACK says to a SYN with such options, of @synack's kind. */
static __always_inline void synack_prepare(struct synack_frame *frame, const struct choice *choice,
					   const struct service_synack *synack)
{
	const struct cookie_options *options = &choice->options;
	const struct tcp_synack_options written = {
		.mss = synack->mss,
		.has_wscale = options->has_wscale,
		.wscale = synack->rcv_wscale,
		.has_sack = options->has_sack,
		.has_timestamps = options->has_timestamps,
	};
	__u16 most = options->has_timestamps ? synack->window : synack->window_plain;
	__u16 window = synack->window_of[options->mss_index & COOKIE_MSS_MASK];
	__u32 words;

	words = tcp_synack_options_write(&written, frame->option);
	frame->options = words;
	frame->control = (sizeof(struct tcphdr) / 4 + words) << 28 |
			 (TCP_SYN | TCP_ACK | (options->has_ecn ? TCP_ECE : 0)) << 16 |
			 (window < most ? window : most);
	frame->bits = (__u32)choice->bits;
	frame->timestamps = options->has_timestamps;
	frame->promised_wscale = options->has_wscale ? synack->rcv_wscale : COOKIE_WSCALE_ABSENT;
	frame->is_ipv4 = choice->is_ipv4;
	frame->ttl = synack->ttl;
}

/* Everything allows it: makes the cookie, and the SYN-ACK that was prepared carries it. @tsval: the SYN's.
 */
static __always_inline enum answer syn_answer(struct xdp_md *ctx, const struct packet *packet,
					      const struct syn *syn, struct synack_frame *frame,
					      const struct service_synack *synack, __u32 tsval)
{
	struct claim *claim = &syn->cpu->claim;
	__u64 now_ms;

	/* Policy flood has asked already. */
	now_ms = syn->exact_ms ?: clock_syn_ms(syn->cpu);
	claim->client_isn = host32(packet->tcp->seq);
	claim->epoch = clock_epoch(syn->cpu, syn->set, now_ms);
	claim->service_wscale = synack->rcv_wscale;
	claim->is_ipv4 = packet->is_ipv4;
	claim->timestamps = frame->timestamps;
	claim->server_isn = cookie_clear(frame->bits, claim->epoch, frame->timestamps);
	if (claim_make(claim))
		return ANSWER_NO_KEY;
	frame->isn = claim->server_isn;
	frame->client_isn = claim->client_isn;
	frame->ip_offset = packet->ip_offset;
	frame->ports = tcp_ports_turned(packet->tcp);
	frame->tos = synack->reflects_tos ? syn->tos & ~3 : synack->tos;
	if (frame->timestamps) {
		frame->option[2] = be32_from((__u32)now_ms + cookie_timestamp_offset(claim->hash));
		frame->option[3] = be32_from(tsval);
	}
	return syn_transmit(ctx, frame) ? ANSWER_NO_ROOM : ANSWER_SENT;
}

/* The same, for whoever looks on as well. */
static __always_inline int syn_answer_shown(struct xdp_md *ctx, const struct packet *packet,
					    const struct syn *syn, const struct choice *choice)
{
	const bool shown = event_wanted(syn->set, syn->now_ms, syn->tuple) && xdp_event(ctx, EVENT_SYN);
	struct synack_frame *frame = &syn->cpu->answer;
	enum answer answer;

	synack_prepare(frame, choice, &syn->service->synack);
	answer = syn_answer(ctx, packet, syn, frame, &syn->service->synack, syn->options->tsval);
	if (answer == ANSWER_NO_KEY)
		PASS_OR_DROP_SYN(syn, no_key, BUDGET_PASS);
	if (answer == ANSWER_NO_ROOM)
		PASS_OR_DROP_SYN(syn, no_room, BUDGET_PASS);
	if (shown)
		xdp_event(ctx, EVENT_SYNACK);
	service_answered(syn->service);
	COUNT(syn_answered);
	return XDP_TX;
}

/* A choice among what a SYN offers; what it may be is set, and what the service grants. */
static __always_inline void syn_choice(struct choice *choice, const struct packet *packet,
				       const struct syn *syn, const struct service_synack *synack)
{
	choice->mss = syn->options->mss;
	choice->user_mss = synack->user_mss;
	choice->wscale = syn->options->wscale;
	choice->granted = syn->offered & synack->granted;
	choice->is_ipv4 = packet->is_ipv4;
}

/* Whether the SYN's source is one that the stack would not answer. */
static __always_inline bool syn_source_martian(const struct packet *packet, const struct syn *syn)
{
	if (address_own(&syn->tuple->remote, syn->set))
		return true;
	return packet->is_ipv4 ? ipv4_source_martian(packet->ipv4->saddr, packet->ipv4->daddr)
			       : ipv6_source_martian(&syn->tuple->remote, &syn->tuple->local);
}

static __always_inline bool syn_checksums_right(const struct packet *packet, const struct syn *syn,
						bool partial_allowed)
{
	return (!packet->is_ipv4 || ipv4_checksum_right(packet->ipv4)) &&
	       tcp_checksum_right(packet, &syn->cpu->header, partial_allowed);
}

/*
 * A SYN to a service of which enough was found out in this tick (lately.h). UNUSUAL, and nothing is done
 * or counted yet, if the SYN is not one of those that a flood, or a crowd, is made of. Whatever this
 * answers, syn_decide() would answer with the same SYN-ACK.
 */
static __always_inline int syn_lately(struct xdp_md *ctx, const struct packet *packet, struct syn *syn)
{
	const struct settings *set = syn->set;
	struct cpu *cpu = syn->cpu;
	struct lately *lately = lately_way(cpu, syn->tuple);
	const struct service_synack *synack = &lately->synack;
	struct synack_frame *frame = &cpu->answer;
	struct choice *choice = &cpu->choice;
	enum answer answer;

	if (!lately_holds(lately, cpu, ctx->ingress_ifindex, packet->vlan, syn->tuple) ||
	    !eth_mac_equal(packet->eth->h_dest, lately->device_mac) || known(set, syn->hash))
		return UNUSUAL;
	if (set->prefix_budget || syn->now_ms < set->events_until_ms)
		return UNUSUAL;
	if (packet->fragment || packet->ip_options || syn_source_martian(packet, syn) ||
	    !tcp_header_fits(packet) || packet_tcp_header(packet) != packet->tcp_length ||
	    tcp_reserved(packet->tcp) || tcp_control(packet->tcp) & (TCP_ECE | TCP_CWR))
		return UNUSUAL;
	if (!tcp_syn_read(ctx, packet, &cpu->header) ||
	    !syn_checksums_right(packet, syn, lately->checksum_partial))
		return UNUSUAL;
	syn->options = &cpu->header.walk.found;
	if (syn->options->malformed || syn->options->has_signature || syn->options->has_fast_open)
		return UNUSUAL;
	syn->offered = syn_offers(packet, syn->options, syn->tos) & ~lately->ignored;
	if (syn->offered & ~(synack->granted | synack->refused))
		return UNUSUAL;
	syn_choice(choice, packet, syn, synack);
	if (syn_choose(choice) != CHOOSE_DONE)
		return UNUSUAL;
	synack_prepare(frame, choice, synack);
	quick_keep(ctx, lately, frame, cpu->header.offset);
	COUNT(syn_received);
	answer = syn_answer(ctx, packet, syn, frame, synack, syn->options->tsval);
	if (answer == ANSWER_NO_KEY)
		PASS_OR_DROP_SYN(syn, no_key, BUDGET_PASS);
	if (answer == ANSWER_NO_ROOM)
		PASS_OR_DROP_SYN(syn, no_room, BUDGET_PASS);
	lately->answered++;
	COUNT(syn_answered);
	return XDP_TX;
}

/*
 * There is no flood: the stack answers, as if we were not there. But what it answers is looked at as ever,
 * so that all is known when there is one.
 */
static __always_inline int syn_dormant(struct xdp_md *ctx, struct syn *syn, const struct packet *packet)
{
	const bool look = canary_due(syn->service, syn->set, syn->now_ms) ||
			  (syn->service->admission != SERVICE_ADMITTED &&
			   canary_allowed(syn->service, syn->set, syn->now_ms));

	if (look && !packet->fragment && tcp_header_fits(packet) &&
	    tcp_syn_read(ctx, packet, &syn->cpu->header)) {
		syn->options = &syn->cpu->header.walk.found;
		syn->offered = syn_offers(packet, syn->options, syn->tos);
		if (syn_note(syn, packet))
			PASS_SYN(syn, canary);
	}
	PASS_SYN(syn, dormant);
}

/*
 * Whether nothing keeps the SYNs of a service from being answered: what keeps some, keeps none of lately.h.
 * One of policy flood is awake, or its SYN would not have come as far as this.
 */
static __always_inline bool service_usual(const struct service *service, const struct settings *set,
					  struct tcp_sock *listener, __u64 now_ms)
{
	return service->policy != POLICY_SHADOW && service->admission == SERVICE_ADMITTED &&
	       !canary_unanswered(service, set, now_ms) && !service_speaks_first(service, now_ms) &&
	       listener_traits(listener) == service->traits && !forging(now_ms);
}

/* Decides on a SYN to a protected port, in the order of the design: what costs least comes first. */
static __always_inline int syn_decide(struct xdp_md *ctx, struct packet *packet, const struct settings *set,
				      struct cpu *cpu)
{
	struct syn syn = { .set = set, .cpu = cpu, .tuple = &cpu->claim.tuple };
	struct choice *choice = &cpu->choice;
	struct tcp_sock *listener;
	__u8 unlearned, ignored;
	int chosen, verdict;
	__u32 held;

	tcp_tuple(packet, syn.tuple);
	syn.hash = tuple_hash(syn.tuple, set->hash_seed);
	syn.now_ms = clock_tick_ms(cpu);
	syn.tos = packet->is_ipv4 ? packet->ipv4->tos : ipv6_traffic_class(packet->ipv6);
	if (cpu->tick_syns >= CLOCK_FLOOD) {
		verdict = syn_lately(ctx, packet, &syn);
		if (verdict != UNUSUAL)
			return verdict;
	}
	syn.service = service_find(ctx->ingress_ifindex, packet->vlan, syn.tuple);
	/* Without a device for the id 0 the stack ignores such a tag, and what it then takes the SYN for is
	 * ours. */
	if (!syn.service && vlan_names_none(packet->vlan))
		return segment_wrapped(ctx);
	COUNT(syn_received);
	if (!syn.service)
		PASS_SYN(&syn, not_learned);
	syn.shadow = syn.service->policy == POLICY_SHADOW;
	if (!eth_mac_equal(packet->eth->h_dest, syn.service->device_mac))
		PASS_SYN(&syn, other_mac);
	if (syn.service->admission == SERVICE_REFUSED)
		PASS_SYN(&syn, refused);

	lately_count(lately_way(cpu, syn.tuple), syn.now_ms);
	if (syn.service->policy == POLICY_FLOOD) {
		listener = service_listener_or_forget(syn.service, set, ctx->ingress_ifindex, syn.tuple,
						      packet->is_ipv4);
		/* Not by the coarse clock: its ticks may be longer than the time to wake in. */
		syn.exact_ms = clock_syn_ms(cpu);
		if (!flood_awake(syn.service, set, listener, syn.exact_ms))
			return syn_dormant(ctx, &syn, packet);
	}

	/* Before anything that costs: most of an impatient client's SYNs come to tuples in TIME-WAIT. */
	held = syn_held(ctx, &syn, packet->is_ipv4);
	if (held)
		return syn_pass_held(ctx, packet, &syn, held);

	if (packet->fragment)
		PASS_OR_DROP_SYN(&syn, fragment, BUDGET_PASS);
	if (packet->ip_options)
		PASS_OR_DROP_SYN(&syn, ip_options, BUDGET_PASS);
	if (syn_source_martian(packet, &syn))
		PASS_OR_DROP_SYN(&syn, source, BUDGET_PASS);
	if (!tcp_header_fits(packet))
		PASS_OR_DROP_SYN(&syn, malformed, BUDGET_PASS);
	if (packet_tcp_header(packet) != packet->tcp_length || !tcp_syn_read(ctx, packet, &cpu->header))
		PASS_OR_DROP_SYN(&syn, payload, BUDGET_PASS);
	if (!syn_checksums_right(packet, &syn, syn.service->checksum_partial))
		PASS_OR_DROP_SYN(&syn, checksum, BUDGET_PASS);
	/* RFC 3168 sets both of ECE and CWR or none: one alone is AccECN (RFC 9768 section 3.1.2). */
	if (tcp_reserved(packet->tcp) ||
	    !(tcp_control(packet->tcp) & TCP_ECE) != !(tcp_control(packet->tcp) & TCP_CWR))
		PASS_OR_DROP_SYN(&syn, control_bits, BUDGET_PASS);
	syn.options = &cpu->header.walk.found;
	if (syn.options->malformed)
		PASS_OR_DROP_SYN(&syn, malformed, BUDGET_PASS);
	if (syn.options->has_signature)
		PASS_OR_DROP_SYN(&syn, signature, BUDGET_PASS);
	syn.offered = syn_offers(packet, syn.options, syn.tos);

	listener = service_listener_or_forget(syn.service, set, ctx->ingress_ifindex, syn.tuple,
					      packet->is_ipv4);
	if (!listener) {
		/*
		 * Its port is closed, or another socket has it now: the answer of the stack will tell. A
		 * canary needs no budget: a flood of another service must not keep this one from being
		 * seen.
		 */
		if (!syn_note(&syn, packet) && !pass_budget(cpu, set, syn.now_ms, BUDGET_PASS))
			DROP_SYN(&syn, over_budget);
		PASS_SYN(&syn, listener_gone);
	}
	if (listener_kind(listener))
		PASS_OR_DROP_SYN(&syn, listener_kind, BUDGET_PASS);
	/* The stack would refuse what we promote. */
	if (!listener_net(listener)->ipv4.sysctl_tcp_syncookies)
		PASS_OR_DROP_SYN(&syn, syncookies_off, BUDGET_PASS);
	/* Above the budget, an MSS or a window of old is better than no answer. */
	if (listener_traits(listener) != syn.service->traits &&
	    pass_budget(cpu, set, syn.now_ms, BUDGET_PASS)) {
		syn_note(&syn, packet);
		PASS_SYN(&syn, not_admitted);
	}
	ignored = listener_ignores(listener);
	syn.offered &= ~ignored;
	if (syn.service->admission != SERVICE_ADMITTED || canary_unanswered(syn.service, set, syn.now_ms)) {
		/* Under pressure the last verdict stands: nobody shall talk us out of answering. */
		if (syn_note(&syn, packet) || pass_budget(cpu, set, syn.now_ms, BUDGET_PASS))
			PASS_SYN(&syn, not_admitted);
		if (!syn.service->confirmed_ms)
			DROP_SYN(&syn, over_budget);
	}
	if (canary_due(syn.service, set, syn.now_ms) && syn_note(&syn, packet))
		PASS_SYN(&syn, canary);

	if (listener_queue_full(listener))
		DROP_SYN(&syn, queue_full);

	/* Above the budget without a cookie, as by a server without Fast Open: the client sends its data
	 * later. */
	if (syn.options->has_fast_open && listener_fast_open(listener) &&
	    pass_budget(cpu, set, syn.now_ms, BUDGET_PASS))
		PASS_SYN(&syn, fast_open);
	/* Above the budget they are answered: in a flood, most clients' ACKs are better than none's. */
	if (service_speaks_first(syn.service, syn.now_ms) && !listener_requests_many(listener) &&
	    pass_budget(cpu, set, syn.now_ms, BUDGET_SPEAKS_FIRST))
		PASS_SYN(&syn, speaks_first);
	unlearned = syn.offered & ~(syn.service->synack.granted | syn.service->synack.refused);
	if (unlearned && pass_budget(cpu, set, syn.now_ms, BUDGET_PASS)) {
		syn_note(&syn, packet);
		PASS_SYN(&syn, option_unlearned);
	}
	syn_choice(choice, packet, &syn, &syn.service->synack);
	chosen = syn_choose(choice);
	if (chosen == CHOOSE_MSS)
		PASS_OR_DROP_SYN(&syn, mss, BUDGET_PASS);
	if (chosen == CHOOSE_UNCARRIED && pass_budget(cpu, set, syn.now_ms, BUDGET_PASS))
		PASS_SYN(&syn, option_uncarried);

	if (!(choice->granted & OPTION_TIMESTAMPS) && forging(syn.now_ms))
		PASS_OR_DROP_SYN(&syn, forging, BUDGET_PASS);

	if (prefix_spent(set, syn.tuple, syn.now_ms))
		DROP_SYN(&syn, prefix);
	if (syn.shadow)
		PASS_SYN(&syn, shadow);
	/* The next ones of this tick need not ask all that again. */
	if (cpu->tick_syns >= CLOCK_FLOOD - 1 && service_usual(syn.service, set, listener, syn.now_ms))
		lately_note(lately_way(cpu, syn.tuple), cpu, ctx->ingress_ifindex, packet->vlan, syn.tuple,
			    syn.service, set, ignored);
	return syn_answer_shown(ctx, packet, &syn, choice);
}

/* While draining: every SYN is the stack's. */
static __always_inline int syn_pass(const struct packet *packet, const struct settings *set)
{
	struct tuple tuple;

	COUNT(syn_received);
	tcp_tuple(packet, &tuple);
	known_mark(set, tuple_hash(&tuple, set->hash_seed));
	COUNT(syn_passed_draining);
	return XDP_PASS;
}

#endif
