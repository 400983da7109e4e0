/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Cookies: made for a SYN-ACK, and judged on an ACK, by the XDP program and where it must by tc. The work
 * is in global functions, which the verifier looks at once, and not again for each of the places, some of
 * them loops, that call them. Such functions take flat structures without pointers.
 */
#ifndef XDPH_VALIDATE_H
#define XDPH_VALIDATE_H

#include "abi.h"
#include "clock.h"
#include "cookie.h"
#include "forging.h"
#include "keys.h"
#include "tcp.h"

enum verdict {
	VERDICT_RIGHT,
	VERDICT_WRONG,
	VERDICT_ECHO, /* right, but the timestamp echo names no moment of the cookie's life */
	VERDICT_NO_KEY,
	VERDICT_REFUSED, /* right, without timestamps, and too many of that kind are tried */
};

enum {
	FOLLOWING_MS = 1000, /* a first flight arrives within this */
};

/* Where this CPU keeps what it has found right, of the tuple's or of another one's. */
static __always_inline struct validated *validated_way(struct cpu *cpu, __u64 hash)
{
	return &cpu->validated[hash >> 32 & (VALIDATED_WAYS - 1)];
}

/* Whether @way holds a final ACK of the tuple, which may not have become a connection yet. */
static __always_inline bool validated_lately(const struct validated *way, __u64 hash, __u64 now_ms)
{
	return way->hash == hash && elapsed_ms(now_ms, way->at_ms) < FOLLOWING_MS;
}

/* Whether that is of the handshake with these sequence numbers. */
static __always_inline bool validated_same(const struct validated *way, __u64 hash, __u32 vlan,
					   __u32 client_isn, __u32 server_isn, __u64 now_ms)
{
	return validated_lately(way, hash, now_ms) && way->vlan == vlan &&
	       way->metadata.client_isn == client_isn && way->metadata.server_isn == server_isn;
}

/* Notes whose metadata @way holds now. */
static __always_inline void validated_note(struct validated *way, __u64 hash, __u64 now_ms, __u32 vlan,
					   __u8 checksum_partial)
{
	way->hash = hash;
	way->at_ms = now_ms;
	way->vlan = vlan;
	way->checksum_partial = checksum_partial;
}

/* The final ACK that @way holds has become a connection, or was given its request socket at least. */
static __always_inline void validated_promote(struct validated *way, __u64 hash)
{
	if (way->hash == hash)
		way->at_ms = 0;
}

/* The window scale that the SYN-ACK promised, as cookie_hash() takes it. */
static __always_inline __u8 claim_promised_wscale(const struct claim *claim)
{
	struct cookie_options options;

	cookie_decode(cookie_option_bits(claim->server_isn, claim->timestamps), claim->is_ipv4,
		      claim->timestamps, &options);
	return options.has_wscale ? claim->service_wscale : COOKIE_WSCALE_ABSENT;
}

static __always_inline __u64 claim_hash(const struct claim *claim, const struct siphash_key *key)
{
	return cookie_hash(key, &claim->tuple, claim->is_ipv4, claim->client_isn,
			   cookie_clear_of(claim->server_isn, claim->timestamps), claim->timestamps,
			   claim_promised_wscale(claim));
}

/* When the SYN-ACK left whose timestamp the client echoes, in milliseconds. */
static __always_inline __u32 claim_sent_ms(const struct claim *claim)
{
	return claim->tsecr - cookie_timestamp_offset(claim->hash);
}

/* Whether that was within a cookie's life. Of now we know the last tick: it may have been a little later.
 */
static __always_inline bool claim_echo_fits(const struct claim *claim)
{
	return (__u32)claim->now_ms + CLOCK_LAG_MS - claim_sent_ms(claim) <= claim->life_ms + CLOCK_LAG_MS;
}

/* Makes the cookie whose clear bits are in @claim->server_isn. Sets hash and server_isn, or returns -1. */
__noinline int claim_make(struct claim *claim)
{
	struct cpu *cpu = bpf_map_lookup_elem(&cpus, &zero);
	const struct siphash_key *key;

	if (!claim || !cpu)
		return -1;
	key = epoch_key(cpu, claim->epoch);
	if (!key)
		return -1;
	claim->hash = claim_hash(claim, key);
	claim->server_isn = cookie_isn(claim->hash, claim->server_isn, claim->timestamps);
	return 0;
}

/* Judges @claim and sets its hash. */
__noinline int claim_judge(struct claim *claim)
{
	struct cpu *cpu = bpf_map_lookup_elem(&cpus, &zero);
	const struct siphash_key *key;

	if (!claim || !cpu)
		return VERDICT_NO_KEY;
	key = epoch_key(cpu, claim->epoch);
	if (!key)
		return VERDICT_NO_KEY;
	claim->hash = claim_hash(claim, key);
	if (!cookie_mac_right(claim->hash, claim->server_isn, claim->timestamps))
		return VERDICT_WRONG;
	if (claim->timestamps && !claim_echo_fits(claim))
		return VERDICT_ECHO;
	return VERDICT_RIGHT;
}

/* The epoch that a claim's ISN names at its moment. */
static __always_inline __u32 claim_epoch(const struct claim *claim, const struct settings *set,
					 struct cpu *cpu)
{
	return cookie_epoch(claim->server_isn, clock_epoch(cpu, set, claim->now_ms), claim->timestamps);
}

/*
 * The claim that a segment makes: that its sequence numbers answer a SYN-ACK of ours. False if its header
 * cannot be read. @ctx: of XDP if @xdp, else of tc.
 */
static __always_inline bool claim_of(void *ctx, bool xdp, struct claim *claim, const struct packet *packet,
				     const struct tuple *tuple, const struct service *service,
				     const struct settings *set, struct cpu *cpu)
{
	struct tcp_options options;

	if (!tcp_timestamps_read(ctx, xdp, packet, &cpu->header, &options))
		return false;
	claim->tuple = *tuple;
	claim->now_ms = clock_ack_ms(cpu, set);
	claim->tsval = options.tsval;
	claim->tsecr = options.tsecr;
	claim->client_isn = host32(packet->tcp->seq) - 1;
	claim->server_isn = host32(packet->tcp->ack_seq) - 1;
	claim->service_wscale = service->synack.rcv_wscale;
	claim->wscale_before = service->synack.rcv_wscale_before;
	claim->wscale_changed_ms = service->synack.rcv_wscale_changed_ms;
	claim->is_ipv4 = packet->is_ipv4;
	claim->timestamps = options.has_timestamps;
	claim->life_ms = 2 * set->epoch_ms;
	claim->epoch = claim_epoch(claim, set, cpu);
	return true;
}

/*
 * Judges @claim, and once more by the window scale that the service had until lately: the cookies of that
 * time are right, and the client goes by what it was promised.
 */
__noinline int claim_judge_scales(struct claim *claim)
{
	__u8 wscale;
	int verdict;

	if (!claim)
		return VERDICT_NO_KEY;
	verdict = claim_judge(claim);
	if (verdict != VERDICT_WRONG || !claim->wscale_changed_ms ||
	    claim->now_ms > claim->wscale_changed_ms + claim->life_ms)
		return verdict;
	wscale = claim->service_wscale;
	claim->service_wscale = claim->wscale_before;
	verdict = claim_judge(claim);
	if (verdict == VERDICT_WRONG)
		claim->service_wscale = wscale;
	return verdict;
}

/*
 * Judges @claim by the last tick and, where that says no, by the clock: the tick may be long ago, as where
 * a virtual machine's processor has been taken away.
 */
__noinline int claim_judge_service(struct claim *claim)
{
	struct settings *set = bpf_map_lookup_elem(&settings, &zero);
	struct cpu *cpu = bpf_map_lookup_elem(&cpus, &zero);
	__u32 epoch;
	int verdict;

	if (!claim || !set || !cpu)
		return VERDICT_NO_KEY;
	verdict = claim_judge_scales(claim);
	if (verdict != VERDICT_RIGHT) {
		claim->now_ms = clock_ms();
		epoch = claim_epoch(claim, set, cpu);
		if (verdict == VERDICT_ECHO || epoch != claim->epoch) {
			claim->epoch = epoch;
			verdict = claim_judge_scales(claim);
		}
	}
	return verdict == VERDICT_RIGHT && !claim->timestamps && forging_refuses(claim->now_ms)
		       ? VERDICT_REFUSED
		       : verdict;
}

/* What the promoter needs to know of a right cookie. */
static __always_inline void claim_metadata(const struct claim *claim, struct handshake_metadata *metadata)
{
	struct cookie_options options;

	cookie_decode(cookie_option_bits(claim->server_isn, claim->timestamps), claim->is_ipv4,
		      claim->timestamps, &options);
	metadata->magic = ABI_METADATA_MAGIC;
	metadata->layout = ABI_LAYOUT;
	metadata->client_isn = claim->client_isn;
	metadata->server_isn = claim->server_isn;
	metadata->timestamp_offset = 0;
	metadata->tsval = 0;
	metadata->sent_ms = 0;
	if (claim->timestamps) {
		metadata->timestamp_offset = cookie_timestamp_offset(claim->hash);
		metadata->tsval = claim->tsval;
		metadata->sent_ms = claim_sent_ms(claim);
	}
	metadata->mss = options.mss;
	metadata->options = (options.has_wscale ? OPTION_WSCALE : 0) |
			    (options.has_sack ? OPTION_SACK : 0) |
			    (claim->timestamps ? OPTION_TIMESTAMPS : 0) |
			    (options.has_ecn ? OPTION_ECN : 0);
	metadata->snd_wscale = options.wscale;
	metadata->rcv_wscale = options.has_wscale ? claim->service_wscale : 0;
}

/* Puts the metadata in front of the frame, which goes on to the stack, and first to tc_promote. */
static __always_inline int claim_hand_over(struct xdp_md *ctx, const struct handshake_metadata *metadata,
					   struct settings *set)
{
	void *data, *meta;

	if (bpf_xdp_adjust_meta(ctx, -(int)sizeof(*metadata))) {
		/* A driver without XDP metadata: from now on tc looks at cookies itself. */
		__sync_fetch_and_or(&set->flags, SETTING_TC_VALIDATES);
		return XDP_PASS;
	}
	data = (void *)(long)ctx->data;
	meta = (void *)(long)ctx->data_meta;
	if (meta + sizeof(*metadata) <= data)
		__builtin_memcpy(meta, metadata, sizeof(*metadata));
	return XDP_PASS;
}

#endif
