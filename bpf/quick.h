/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What most frames are, in calm and in a flood, each by as few looks as it takes. Whatever is not just so
 * is UNUSUAL and goes the long way, nothing done or counted yet; what is done here, that would have done.
 *
 * In a flood, or in a crowd, those are SYNs to a service of which enough was found out in this tick
 * (lately.h), with options of which the answer is kept. They are compared with what is kept, where they lie
 * in the frame; what differs from SYN to SYN is looked at, and nothing is taken apart. The answer is the
 * SYN-ACK that syn_decide() would send (answer.h).
 *
 * In calm, those are the segments of connections; and final ACKs, and SYNs to tuples in TIME-WAIT, to a
 * service to which another one has come in this tick.
 */
#ifndef XDPH_QUICK_H
#define XDPH_QUICK_H

#include "clock.h"
#include "cookie.h"
#include "count.h"
#include "keys.h"
#include "known.h"
#include "lately.h"
#include "lookup.h"
#include "own.h"
#include "tcp.h"
#include "used.h"
#include "validate.h"

enum {
	UNUSUAL = -1,				       /* none of these: go the long way */
	QUICK_ACK_HEADER = sizeof(struct tcphdr) + 12, /* a final ACK's, with timestamps alone */
	QUICK_KEEP_EVERY = 4, /* options that have no answer kept, where another's is: one in so many */
};

/* How many words of options, and which of them has TSval (0: there is none). */
#define QUICK_LOOK(words, tsval_word) ((words) << 4 | (tsval_word))

/* The header's 13th and 14th byte: its length, and SYN alone. */
static __always_inline __be16 quick_control(const __be32 *tcp)
{
	return ((const __be16 *)tcp)[6];
}

/*
 * Keeps the answer to SYNs like this one, whose options cpu->header has, at @offset of the frame. A global
 * function: the verifier looks at it once. What it returns is of no interest.
 */
__noinline int quick_keep(struct xdp_md *ctx, struct lately *lately, const struct synack_frame *frame,
			  __u32 offset)
{
	const void *data = (const void *)(long)ctx->data, *end = (const void *)(long)ctx->data_end;
	struct cpu *cpu = bpf_map_lookup_elem(&cpus, &zero);
	const struct siphash_key *key;
	struct lately_answer *kept;
	const __be32 *tcp;
	__u32 words, size, at;
	__be16 control;
	__u64 sum;

	if (!cpu || !lately || !frame ||
	    offset > sizeof(struct ethhdr) + VLAN_TAGS * sizeof(struct vlan_tag) + sizeof(struct ipv6hdr))
		return -1;
	tcp = data + offset;
	barrier_var(tcp);
	if ((const void *)(tcp + 6) > end)
		return -1;
	control = quick_control(tcp);
	words = (host16(control) >> 12) - 5;
	at = cpu->header.walk.found.tsval_at;
	/* TSval is looked for in a word of its own. */
	if ((host16(control) & 0xfff) != TCP_SYN || !words || words > LATELY_OPTION_WORDS || at % 4)
		return -1;
	kept = lately_answer(lately, control, tcp[5]);
	/* Whoever sends ever other options keeps nobody else from being answered at once. */
	if (raw16(kept->control) && cpu->tick_syns % QUICK_KEEP_EVERY)
		return -1;
	kept->control = be16_from(0);
	key = epoch_key(cpu, cpu->epoch);
	size = words * 4;
	barrier_var(size);
	if (!key || size < sizeof(kept->option[0]) || size > sizeof(kept->option) ||
	    bpf_xdp_load_bytes(ctx, offset + sizeof(struct tcphdr), kept->option, size))
		return -1;
	kept->clear = cookie_clear(frame->bits, cpu->epoch, frame->timestamps);
	kept->common = cookie_common(lately->service.port, frame->timestamps, frame->promised_wscale);
	cookie_hash_begin(&kept->begun, key, &lately->service.address, frame->is_ipv4, kept->common);
	kept->length = be16_from((frame->is_ipv4 ? sizeof(struct iphdr) : 0) + sizeof(struct tcphdr) +
				 size);
	kept->look = QUICK_LOOK(words, at ? at / 4 - 5 : 0);
	kept->timestamps = frame->timestamps;
	kept->synack_words = frame->options;
	kept->synack_control = be32_from(frame->control);
	sum = raw16(be16_from(IPPROTO_TCP));
	for (int i = frame->is_ipv4 ? 3 : 0; i < 4; i++)
		sum += raw32(lately->service.address.word[i]);
	kept->synack_sum = sum + raw16(be16_from(sizeof(struct tcphdr) + frame->options * 4)) +
			   raw16(lately->service.port) + raw32(kept->synack_control);
	for (__u32 i = 0; i < 5; i++) {
		kept->synack_option[i] = frame->option[i];
		if (i < frame->options)
			kept->synack_sum += raw32(frame->option[i]);
	}
	kept->syn_sum = sum + raw16(be16_from(sizeof(struct tcphdr) + size));
	for (__u32 i = 0; i < LATELY_OPTION_WORDS; i++)
		if (i < words && (!at || (i != at / 4 - 5 && i != at / 4 - 4)))
			kept->syn_sum += raw32(kept->option[i]);
	kept->control = control;
	return 0;
}

/* The difference of the @i-th word of options; of the two with the timestamps' values, there is none. */
static __always_inline __u32 quick_difference(const __be32 *tcp, const struct lately_answer *kept,
					      const __u32 words, const __u32 tsval_word, const __u32 i)
{
	if (i >= words || (tsval_word && (i == tsval_word || i == tsval_word + 1)))
		return 0;
	return raw32(tcp[5 + i]) ^ raw32(kept->option[i]);
}

/*
 * Whether the SYN's options are those that are kept, whatever its timestamps, which are added up. Without a
 * loop, which compilers leave one.
 */
static __always_inline bool quick_same(const __be32 *tcp, const void *end, const __u32 words,
				       const __u32 tsval_word, const struct lately_answer *kept, __u64 *sum,
				       __be32 *tsval)
{
	if ((const void *)(tcp + 5 + words) > end)
		return false;
	if (tsval_word) {
		*tsval = tcp[5 + tsval_word];
		*sum += (__u64)raw32(*tsval) + raw32(tcp[6 + tsval_word]);
	}
#define DIFFERENCE(i) quick_difference(tcp, kept, words, tsval_word, i)
	return !(DIFFERENCE(0) | DIFFERENCE(1) | DIFFERENCE(2) | DIFFERENCE(3) | DIFFERENCE(4) |
		 DIFFERENCE(5));
#undef DIFFERENCE
}

/* The SYN's, or the segment's, tuple. */
static __always_inline void quick_tuple(const void *ip, const __be32 *tcp, const bool is_ipv4,
					struct tuple *tuple)
{
	if (is_ipv4)
		ipv4_tuple(ip, tuple);
	else
		ipv6_tuple(ip, tuple);
	tuple->remote_port = ((const __be16 *)tcp)[0];
	tuple->local_port = ((const __be16 *)tcp)[1];
}

/* What ipv4_read() and ipv6_read() ask as well, of a header without options or extensions. */
static __always_inline bool quick_sound(const void *ip, const struct tuple *tuple, const bool is_ipv4)
{
	if (is_ipv4)
		return host16(((const struct iphdr *)ip)->tot_len) >= sizeof(struct iphdr);
	return !address_is_ipv4(&tuple->remote) && !address_is_ipv4(&tuple->local);
}

/* quick_same() of the look that is kept, each by code of its own, without a loop or a test. */
static __always_inline bool quick_alike(const __be32 *tcp, const void *end,
					const struct lately_answer *kept, __u64 *sum, __be32 *tsval)
{
#define QUICK_SAME(words, tsval_word)                                                                      \
	case QUICK_LOOK(words, tsval_word): return quick_same(tcp, end, words, tsval_word, kept, sum, tsval)

	switch (kept->look) {
		QUICK_SAME(1, 0);
		QUICK_SAME(2, 0);
		QUICK_SAME(3, 0);
		QUICK_SAME(3, 1);
		QUICK_SAME(4, 0);
		QUICK_SAME(4, 1);
		QUICK_SAME(4, 2);
		QUICK_SAME(5, 0);
		QUICK_SAME(5, 1);
		QUICK_SAME(5, 2);
		QUICK_SAME(5, 3);
		QUICK_SAME(6, 0);
		QUICK_SAME(6, 1);
		QUICK_SAME(6, 2);
		QUICK_SAME(6, 3);
		QUICK_SAME(6, 4);
	default: return false;
	}
#undef QUICK_SAME
}

/* Whether the IP header is sound, and its source one that the stack would answer. */
static __always_inline bool quick_source(const void *ip, const struct tuple *tuple, const bool is_ipv4,
					 const struct lately *lately)
{
	const struct iphdr *ipv4 = ip;

	if (is_ipv4) {
		if (!ipv4_checksum_right(ipv4) || ipv4_source_martian(ipv4->saddr, ipv4->daddr))
			return false;
	} else if (address_is_ipv4(&tuple->remote) || address_is_ipv4(&tuple->local) ||
		   ipv6_source_martian(&tuple->remote, &tuple->local)) {
		return false;
	}
	return !address_ends_as_own(&tuple->remote, lately->own_ends) ||
	       !address_own_by(&tuple->remote, lately->hash_seed, lately->own_mask);
}

/*
 * Writes the SYN-ACK's TCP header. @sum: of what has been written for its checksum, and is not in
 * kept->synack_sum. The frame is as long as the answer: false cannot be, but the verifier does not know.
 */
static __always_inline bool quick_write(__be32 *tcp, const void *end, const struct lately_answer *kept,
					__u32 isn, __u32 client_isn, __be32 tsval, __be32 tsecr, __u64 sum)
{
	tcp[0] = tcp_ports_turned((const struct tcphdr *)tcp);
	tcp[1] = be32_from(isn);
	tcp[2] = be32_from(client_isn + 1);
	tcp[3] = kept->synack_control;
	tcp[5] = kept->synack_option[0];
	sum += kept->synack_sum + raw32(tcp[1]) + raw32(tcp[2]);
	if (kept->timestamps) {
		if ((const void *)(tcp + 9) > end)
			return false;
		sum += (__u64)raw32(tsval) + raw32(tsecr);
		tcp[6] = kept->synack_option[1];
		tcp[7] = tsval;
		tcp[8] = tsecr;
		if (kept->synack_words == 5) {
			if ((const void *)(tcp + 10) > end)
				return false;
			tcp[9] = kept->synack_option[4];
		}
	} else {
		for (__u32 i = 1; i < 3; i++) {
			if (i >= kept->synack_words || (const void *)(tcp + 6 + i) > end)
				break;
			tcp[5 + i] = kept->synack_option[i];
		}
	}
	tcp[4] = be32_from(0);
	((__u16 *)tcp)[8] = csum_field(sum);
	return true;
}

/*
 * A SYN to a tuple that the stack holds in TIME-WAIT, as nearly all are of a client whose server closes
 * first. It is what syn_decide() would do (answer.h).
 */
static __always_inline int quick_held(struct xdp_md *ctx, struct cpu *cpu, const struct tuple *tuple,
				      const void *eth, const void *ip, __u32 vlan, const bool is_ipv4)
{
	const struct settings *set = bpf_map_lookup_elem(&settings, &zero);
	const struct recent *recent = recent_way(cpu, tuple);
	struct counters *count;
	__u64 hash;

	if (!set || !recent->held || !recent_holds(recent, cpu, ctx->ingress_ifindex, vlan, tuple) ||
	    !eth_mac_equal(eth, recent->device_mac))
		return UNUSUAL;
	if (!quick_sound(ip, tuple, is_ipv4))
		return UNUSUAL;
	hash = tuple_hash(tuple, set->hash_seed);
	if (!known(set, hash) || lookup_state(ctx, tuple, is_ipv4) != KERNEL_TCP_TIME_WAIT ||
	    !pass_budget(cpu, set, cpu->tick_ms, BUDGET_HELD))
		return UNUSUAL;
	known_settle(set, known_note(set, hash), hash);
	known_held(cpu, set, hash);
	count = bpf_map_lookup_elem(&counters, &zero);
	if (count) {
		count->syn_received++;
		count->syn_passed_held++;
	}
	return XDP_PASS;
}

/* The answer to a SYN whose IP header lies at @offset, behind @vlan (struct service_key), or UNUSUAL. */
static __always_inline int quick_answer(struct xdp_md *ctx, __u32 offset, __u32 vlan, const bool is_ipv4)
{
	const __u32 ip_header = is_ipv4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end, *ip;
	struct cpu *cpu = bpf_map_lookup_elem(&cpus, &zero);
	__u32 client_isn, isn, tcp_length, length, whole, tos;
	struct lately_answer *kept;
	struct siphash_state state;
	struct counters *count;
	struct lately *lately;
	__u64 hash, sum, remote_sum, now_ms;
	__be32 *tcp, tsval = 0;
	struct tuple tuple;
	__be16 ip_length;
	int growth;

	if (!cpu || offset > sizeof(struct ethhdr) + sizeof(struct vlan_tag))
		return UNUSUAL;
	ip = data + offset;
	barrier_var(ip);
	tcp = ip + ip_header;
	if (data + sizeof(struct ethhdr) > end || (void *)(tcp + 6) > end)
		return UNUSUAL;
	quick_tuple(ip, tcp, is_ipv4, &tuple);
	ip_length = is_ipv4 ? ((struct iphdr *)ip)->tot_len : ((struct ipv6hdr *)ip)->payload_len;
	tos = is_ipv4 ? ((struct iphdr *)ip)->tos : ipv6_traffic_class(ip);

	if (bpf_jiffies64() != cpu->tick)
		return UNUSUAL;
	lately = lately_way(cpu, &tuple);
	if (!lately_holds(lately, cpu, ctx->ingress_ifindex, vlan, &tuple))
		return quick_held(ctx, cpu, &tuple, data, ip, vlan, is_ipv4);
	if (!eth_mac_equal(data, lately->device_mac))
		return UNUSUAL;
	kept = lately_answer(lately, quick_control(tcp), tcp[5]);
	if (kept->control != quick_control(tcp) || kept->length != ip_length)
		return UNUSUAL;
	remote_sum = 0;
	for (int i = is_ipv4 ? 3 : 0; i < 4; i++)
		remote_sum += raw32(tuple.remote.word[i]);
	sum = kept->syn_sum + remote_sum + raw32(tcp[0]) + raw32(tcp[1]) + raw32(tcp[2]) + raw32(tcp[3]) +
	      raw32(tcp[4]);
	if (!quick_alike(tcp, end, kept, &sum, &tsval) || !csum_right(sum) ||
	    !quick_source(ip, &tuple, is_ipv4, lately))
		return UNUSUAL;

	client_isn = host32(tcp[1]);
	state = kept->begun;
	hash = cookie_hash_end(&state, &tuple.remote, tuple.remote_port, is_ipv4, kept->common, kept->clear,
			       client_isn);
	isn = cookie_isn(hash, kept->clear, kept->timestamps);

	/* Asked last: where nothing is waited for but this, processors run ahead of what is far away. */
	if (known_by(tuple_hash(&tuple, lately->hash_seed), lately->known_mask, lately->known_base))
		return UNUSUAL;
	now_ms = clock_syn_ms(cpu);
	tcp_length = sizeof(struct tcphdr) + kept->synack_words * 4;
	length = offset + ip_header + tcp_length;
	/* As a rule the frame is as long as its answer. */
	if (end - data != length || xdp_has_frags(ctx)) {
		whole = xdp_length(ctx);
		if (data + length > end && end - data < whole)
			return UNUSUAL;
		growth = (int)length - (int)whole;
		if (growth && bpf_xdp_adjust_tail(ctx, growth))
			return UNUSUAL;
		data = (void *)(long)ctx->data;
		end = (void *)(long)ctx->data_end;
		ip = data + offset;
		barrier_var(ip);
		tcp = ip + ip_header;
		if (data + sizeof(struct ethhdr) > end || (void *)(tcp + 6) > end)
			return UNUSUAL;
	}
	eth_turn(data);
	tos = lately->synack.reflects_tos ? tos & ~3u : lately->synack.tos;
	if (is_ipv4)
		ipv4_turn(ip, lately->synack.ttl, tos, tcp_length);
	else
		ipv6_turn(ip, lately->synack.ttl, tos, tcp_length);
	if (!quick_write(tcp, end, kept, isn, client_isn,
			 be32_from((__u32)now_ms + cookie_timestamp_offset(hash)), tsval,
			 remote_sum + raw16(tuple.remote_port)))
		return XDP_DROP;

	lately->answered++;
	count = bpf_map_lookup_elem(&counters, &zero);
	if (count) {
		count->syn_received++;
		count->syn_answered++;
	}
	return XDP_TX;
}

__noinline int quick_ipv4(struct xdp_md *ctx, __u32 offset, __u32 vlan)
{
	return quick_answer(ctx, offset, vlan, true);
}

__noinline int quick_ipv6(struct xdp_md *ctx, __u32 offset, __u32 vlan)
{
	return quick_answer(ctx, offset, vlan, false);
}

/* TCP header and data, by the IP header, which has no options or extensions. */
static __always_inline __u32 quick_tcp_length(const void *ip, const bool is_ipv4)
{
	return is_ipv4 ? host16(((const struct iphdr *)ip)->tot_len) - sizeof(struct iphdr)
		       : host16(((const struct ipv6hdr *)ip)->payload_len);
}

/*
 * Whether a segment without data looks like a final ACK, of a client like those whose cookies were right in
 * this tick. Of a connection's other ACKs that is one in a thousand. Its note need not be looked at, which
 * is far away in memory as a rule: if the cookie is not right after all, the long way sees to that.
 */
static __always_inline bool quick_expected(const struct recent *recent, const struct cpu *cpu,
					   const void *ip, const __be32 *tcp, const bool is_ipv4)
{
	return quick_tcp_length(ip, is_ipv4) == QUICK_ACK_HEADER && recent->tick == cpu->tick &&
	       recent_was_right(recent, host32(tcp[2]) - 1);
}

/*
 * claim_hash(), of a claim with timestamps. What the ACKs to a service have in common is hashed once in a
 * tick. False: there is no key.
 */
static __always_inline bool quick_claim_hash(struct claim *claim, struct cpu *cpu, struct recent *recent)
{
	const __u32 common = cookie_common(claim->tuple.local_port, 1, claim_promised_wscale(claim));
	const struct siphash_key *key;
	struct siphash_state state;

	if (recent->begun_common != common || recent->begun_epoch != claim->epoch) {
		key = epoch_key(cpu, claim->epoch);
		if (!key)
			return false;
		cookie_hash_begin(&recent->begun, key, &claim->tuple.local, claim->is_ipv4, common);
		recent->begun_common = common;
		recent->begun_epoch = claim->epoch;
	}
	state = recent->begun;
	claim->hash = cookie_hash_end(&state, &claim->tuple.remote, claim->tuple.remote_port,
				      claim->is_ipv4, common, cookie_clear_of(claim->server_isn, 1),
				      claim->client_isn);
	return true;
}

/*
 * The final ACK of a handshake: XDP_PASS, with what the promoter needs to know, if its cookie is right.
 * Only where a service was found for one a moment ago, and with timestamps alone, as nearly all have them.
 * It is what ack_decide() would do (ack.h).
 */
static __always_inline int quick_ack(struct xdp_md *ctx, struct settings *set, struct cpu *cpu,
				     struct recent *recent, const struct tuple *tuple, __u64 hash,
				     const __be32 *tcp, __u32 offset, __u32 vlan, const bool is_ipv4)
{
	const void *end = (const void *)(long)ctx->data_end;
	const __u32 ip_header = is_ipv4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	const __u32 header = QUICK_ACK_HEADER;
	struct validated *way = validated_way(cpu, hash);
	const void *ip = (const void *)tcp - ip_header;
	const __u64 now_ms = cpu->tick_ms;
	struct claim claim;
	__u64 pseudo, sum;
	__u32 length;

	if ((const void *)(tcp + 8) > end || bpf_jiffies64() != cpu->tick ||
	    !recent_holds(recent, cpu, ctx->ingress_ifindex, vlan, tuple))
		return UNUSUAL;
	if (((const __u8 *)tcp)[12] >> 4 != header / 4 || tcp[5] != be32_from(TCP_WORD_NOP_TIMESTAMPS))
		return UNUSUAL;
	/* What the stack would drop shall promote nothing. The checksum over data is left to it. */
	length = quick_tcp_length(ip, is_ipv4);
	if (length < header || (length > header && offset + ip_header + length > xdp_length(ctx)) ||
	    (is_ipv4 && !ipv4_checksum_right(ip)))
		return UNUSUAL;
	if (length == header) {
		pseudo = is_ipv4 ? csum_pseudo_ipv4(tuple->remote.word[3], tuple->local.word[3],
						    IPPROTO_TCP, length)
				 : csum_pseudo_ipv6(tuple->remote.word, tuple->local.word, IPPROTO_TCP,
						    length);
		sum = pseudo;
#pragma unroll
		for (int i = 0; i < 8; i++)
			sum += raw32(tcp[i]);
		/* Or left unfinished, as tcp_checksum_right() says. */
		if (!csum_right(sum) && !(recent->checksum_partial &&
					  ((const struct tcphdr *)tcp)->check == csum_fold_sum(pseudo)))
			return UNUSUAL;
	}
	/* Not where the clock must be asked (clock_ack_ms()), nor while somebody looks on. */
	if (now_ms < cpu->epoch_start_ms ||
	    now_ms + set->epoch_ms / 16 >= cpu->epoch_start_ms + set->epoch_ms ||
	    now_ms < set->events_until_ms)
		return UNUSUAL;

	claim.tuple = *tuple;
	claim.now_ms = now_ms;
	claim.tsval = host32(tcp[6]);
	claim.tsecr = host32(tcp[7]);
	claim.client_isn = host32(tcp[1]) - 1;
	claim.server_isn = host32(tcp[2]) - 1;
	claim.service_wscale = recent->rcv_wscale;
	claim.is_ipv4 = is_ipv4;
	claim.timestamps = 1;
	claim.life_ms = 2 * set->epoch_ms;
	claim.epoch = cookie_epoch(claim.server_isn, cpu->epoch, 1);
	if (!quick_claim_hash(&claim, cpu, recent))
		return UNUSUAL;
	if (!cookie_mac_right(claim.hash, claim.server_isn, 1) || !claim_echo_fits(&claim))
		return UNUSUAL;
	/* The same cookie once more goes on with the same metadata (abi.h: struct handshake_metadata). */
	if (!validated_same(way, hash, vlan, claim.client_isn, claim.server_isn, now_ms)) {
		claim_metadata(&claim, &way->metadata);
		validated_note(way, hash, now_ms, vlan, recent->checksum_partial);
	}
	recent_note_right(recent, claim.server_isn);
	COUNT(ack_validated);
	return claim_hand_over(ctx, &way->metadata, set);
}

/*
 * A segment with ACK: XDP_PASS if its connection is established, of which the note of its tuple is proof
 * (abi.h: struct known_note). Or if its tuple was promoted and the stack has a socket for it, as before the
 * server's first segment leaves: then the cookie of a client's first data need not be judged again. Or if
 * it completes a handshake.
 */
static __always_inline int quick_segment(struct xdp_md *ctx, __u32 offset, __u32 vlan, const bool is_ipv4)
{
	const void *data = (const void *)(long)ctx->data, *end = (const void *)(long)ctx->data_end, *ip;
	struct settings *set = bpf_map_lookup_elem(&settings, &zero);
	struct known_note *note;
	const __be32 *tcp;
	struct tuple tuple;
	__u32 state = KERNEL_TCP_LISTEN; /* at the most, as far as we know */
	struct cpu *cpu = bpf_map_lookup_elem(&cpus, &zero);
	struct recent *recent;
	__u64 hash;

	if (!set || !cpu || offset > sizeof(struct ethhdr) + sizeof(struct vlan_tag))
		return UNUSUAL;
	ip = data + offset;
	barrier_var(ip);
	tcp = ip + (is_ipv4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr));
	if ((const void *)(tcp + 5) > end)
		return UNUSUAL;
	quick_tuple(ip, tcp, is_ipv4, &tuple);
	if (!quick_sound(ip, &tuple, is_ipv4))
		return UNUSUAL;
	hash = tuple_hash(&tuple, set->hash_seed);
	recent = recent_way(cpu, &tuple);
	/* Who is not known has no note: a flood need not wait for one. */
	if (!quick_expected(recent, cpu, ip, tcp, is_ipv4) && known(set, hash)) {
		note = known_note(set, hash);
		if (known_is_settled(note, hash)) {
			COUNT(ack_known);
			return XDP_PASS;
		}
		if (known_is_promoted(note, hash))
			state = lookup_state(ctx, &tuple, is_ipv4);
	}
	if (state == KERNEL_TCP_LISTEN)
		return quick_ack(ctx, set, cpu, recent, &tuple, hash, tcp, offset, vlan, is_ipv4);
	/* In CLOSE it may be a listener that closes at this moment: promote_closing() sees to that. */
	if (!state || state == KERNEL_TCP_NEW_SYN_RECV || state == KERNEL_TCP_CLOSE)
		return UNUSUAL;
	if (state != KERNEL_TCP_TIME_WAIT)
		used_made(hash, clock_tick_ms(cpu));
	COUNT(ack_known);
	return XDP_PASS;
}

__noinline int quick_segment_ipv4(struct xdp_md *ctx, __u32 offset, __u32 vlan)
{
	return quick_segment(ctx, offset, vlan, true);
}

__noinline int quick_segment_ipv6(struct xdp_md *ctx, __u32 offset, __u32 vlan)
{
	return quick_segment(ctx, offset, vlan, false);
}

/*
 * What most frames are: not TCP, or to a port that is not protected, or a connection's, or a handshake's
 * final ACK, or a SYN to a tuple in TIME-WAIT, which all are passed; or a flood's SYN, which is answered.
 * UNUSUAL: any other, and those of the last three for which nothing is at hand.
 */
static __always_inline int quick(struct xdp_md *ctx)
{
	const void *data = (const void *)(long)ctx->data, *end = (const void *)(long)ctx->data_end, *ip;
	const struct ethhdr *eth = data;
	__u32 offset = sizeof(*eth), vlan = 0;
	const struct vlan_tag *tag;
	const struct ipv6hdr *ipv6;
	const struct iphdr *ipv4;
	__be16 protocol;
	__u8 control;

	if (data + sizeof(*eth) + sizeof(*ipv4) + sizeof(struct tcphdr) > end)
		return UNUSUAL;
	protocol = eth_protocol(eth);
	if (eth_is_vlan(protocol)) {
		tag = data + sizeof(*eth);
		if (data + sizeof(*eth) + sizeof(*tag) + sizeof(*ipv4) + sizeof(struct tcphdr) > end)
			return UNUSUAL;
		vlan = vlan_number(host16(tag->tci));
		protocol = tag->protocol;
		offset += sizeof(*tag);
	}
	ip = data + offset;
	if (protocol == be16_from(ETH_P_IP)) {
		ipv4 = ip;
		if (*(const __u8 *)ip != 0x45 ||
		    ipv4->frag_off & be16_from(IPV4_MORE_FRAGMENTS | IPV4_OFFSET))
			return UNUSUAL;
		if (ipv4->protocol != IPPROTO_TCP ||
		    !port_protected(((const struct tcphdr *)(ip + sizeof(*ipv4)))->dest))
			return XDP_PASS;
		control = tcp_control(ip + sizeof(*ipv4));
		if (control == TCP_SYN)
			return quick_ipv4(ctx, offset, vlan);
		if ((control & (TCP_SYN | TCP_RST | TCP_ACK)) == TCP_ACK)
			return quick_segment_ipv4(ctx, offset, vlan);
	}
	if (protocol == be16_from(ETH_P_IPV6)) {
		ipv6 = ip;
		if (ip + sizeof(*ipv6) + sizeof(struct tcphdr) > end || ipv6->version != 6 ||
		    ipv6->nexthdr != IPPROTO_TCP)
			return UNUSUAL;
		if (!port_protected(((const struct tcphdr *)(ip + sizeof(*ipv6)))->dest))
			return XDP_PASS;
		control = tcp_control(ip + sizeof(*ipv6));
		if (control == TCP_SYN)
			return quick_ipv6(ctx, offset, vlan);
		if ((control & (TCP_SYN | TCP_RST | TCP_ACK)) == TCP_ACK)
			return quick_segment_ipv6(ctx, offset, vlan);
	}
	return UNUSUAL;
}

#endif
