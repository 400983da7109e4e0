/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * In a flood thousands of SYNs come to a service within one tick of the clock. What was found out about
 * service and listener for one of them holds for the others, until that tick is over: only what differs
 * from SYN to SYN is looked at. Whatever is not as usual, about the SYN or the service, goes the long way
 * (answer.h: syn_decide()), and so do the first SYNs of each tick, which in calm times are nearly all.
 *
 * In calm, some tens of final ACKs, and of SYNs to tuples in TIME-WAIT, come within a tick: for those the
 * table of services is asked once (struct recent).
 */
#ifndef XDPH_LATELY_H
#define XDPH_LATELY_H

#include "clock.h"
#include "known.h"
#include "maps.h"
#include "service.h"
#include "tuple.h"

/* Where a service is noted, by what its segments have in common. */
static __always_inline __u32 lately_index(const struct tuple *tuple)
{
	__u32 mixed = (raw32(tuple->local.word[3]) ^ raw16(tuple->local_port)) * 0x9e3779b1;

	return mixed >> 29 & (LATELY_WAYS - 1);
}

static __always_inline struct lately *lately_way(struct cpu *cpu, const struct tuple *tuple)
{
	return &cpu->lately[lately_index(tuple)];
}

static __always_inline struct recent *recent_way(struct cpu *cpu, const struct tuple *tuple)
{
	return &cpu->recent[lately_index(tuple)];
}

static __always_inline bool service_key_fits(const struct service_key *key, __u32 ifindex, __u32 vlan,
					     const struct tuple *tuple)
{
	return key->ifindex == ifindex && key->vlan == vlan && key->port == tuple->local_port &&
	       address_equal(&key->address, &tuple->local);
}

/* Whether what is there was found out in this tick, of the service that a segment is for. */
static __always_inline bool recent_holds(const struct recent *recent, const struct cpu *cpu, __u32 ifindex,
					 __u32 vlan, const struct tuple *tuple)
{
	return recent->tick == cpu->tick && service_key_fits(&recent->service, ifindex, vlan, tuple);
}

/* Notes the service that a segment has led to. */
static __always_inline void recent_note(struct recent *recent, const struct cpu *cpu, __u32 ifindex,
					__u32 vlan, const struct tuple *tuple,
					const struct service *service)
{
	if (recent_holds(recent, cpu, ifindex, vlan, tuple))
		return;
	recent->tick = cpu->tick;
	recent->service.ifindex = ifindex;
	recent->service.vlan = vlan;
	recent->service.address = tuple->local;
	recent->service.port = tuple->local_port;
	__builtin_memcpy(recent->device_mac, service->device_mac, ETH_ALEN);
	recent->rcv_wscale = service->synack.rcv_wscale;
	recent->checksum_partial = service->checksum_partial;
	recent->held = 0;
	recent->begun_common = 0;
	for (int i = 0; i < RECENT_RIGHT; i++)
		recent->right[i] = RECENT_NONE;
}

/* Of clients' window scales, those that are common lie each in a place of its own. */
static __always_inline __u32 recent_right_at(__u16 clear)
{
	return clear & (RECENT_RIGHT - 1);
}

/* Notes that a cookie with timestamps was right: of clients of a kind all have the same in clear. */
static __always_inline void recent_note_right(struct recent *recent, __u32 server_isn)
{
	const __u16 clear = cookie_clear_of(server_isn, 1);

	recent->right[recent_right_at(clear)] = clear;
}

/* Whether one like this was, in the tick that @recent is of. */
static __always_inline bool recent_was_right(const struct recent *recent, __u32 server_isn)
{
	const __u16 clear = cookie_clear_of(server_isn, 1);

	return recent->right[recent_right_at(clear)] == clear;
}

/* Whether what is there was found out in this tick, of the service that a SYN is for. */
static __always_inline bool lately_holds(const struct lately *lately, const struct cpu *cpu, __u32 ifindex,
					 __u32 vlan, const struct tuple *tuple)
{
	return lately->tick == cpu->tick && service_key_fits(&lately->service, ifindex, vlan, tuple);
}

/* Where the answer to SYNs is kept, by their header's length and their first option, the MSS.
 */
static __always_inline struct lately_answer *lately_answer(struct lately *lately, __be16 control,
							   __be32 option)
{
	const __u32 mixed = (raw32(option) ^ raw16(control)) * 0x9e3779b1;

	return &lately->answers[mixed >> 29 & (LATELY_ANSWERS - 1)];
}

/* SYNs that were answered by it are counted where canary_due() and flood_goes_on() look. */
static __always_inline void lately_count(struct lately *lately, __u64 now_ms)
{
	__u32 slot = lately->slot & (PACE_SLOTS - 1);
	struct pace *pace;

	if (!lately->answered)
		return;
	pace = bpf_map_lookup_elem(&paces, &slot);
	if (pace) {
		pace->answered += lately->answered;
		/* Those of a flood that is over are none of this second's. */
		if (elapsed_ms(now_ms, lately->noted_ms) < 1000) {
			pace_second(pace, now_ms);
			pace->syns_second += lately->answered;
		}
	}
	lately->answered = 0;
}

/* Notes the service of a SYN that is about to be answered, about which nothing was unusual. */
static __always_inline void lately_note(struct lately *lately, const struct cpu *cpu, __u32 ifindex,
					__u32 vlan, const struct tuple *tuple,
					const struct service *service, const struct settings *set,
					__u8 ignored)
{
	if (lately_holds(lately, cpu, ifindex, vlan, tuple))
		return;
	lately->tick = cpu->tick;
	lately->noted_ms = cpu->tick_ms;
	lately->service.ifindex = ifindex;
	lately->service.vlan = vlan;
	lately->service.address = tuple->local;
	lately->service.port = tuple->local_port;
	lately->slot = service->slot;
	lately->synack = service->synack;
	for (int i = 0; i < LATELY_ANSWERS; i++)
		lately->answers[i].control = be16_from(0);
	__builtin_memcpy(lately->device_mac, service->device_mac, ETH_ALEN);
	lately->checksum_partial = service->checksum_partial;
	lately->ignored = ignored;
	lately->hash_seed = set->hash_seed;
	lately->known_mask = set->known_mask;
	lately->known_base = known_base(set, set->known_generation);
	lately->own_mask = set->own_mask;
	lately->own_ends = set->own_ends;
}

#endif
