/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the XDP program shows of the handshakes that it answers, while somebody looks (abi.h: events). */
#ifndef XDPH_EVENT_H
#define XDPH_EVENT_H

#include "maps.h"

static __always_inline bool event_wanted(const struct settings *set, __u64 now_ms,
					 const struct tuple *tuple)
{
	return now_ms < set->events_until_ms &&
	       (!raw16(set->events_port) || set->events_port == tuple->local_port);
}

/*
 * Returns 1 if the frame is shown, 0 if not: too many in this second, or nobody reads fast enough.
 * A global function: the verifier looks at it once, and not at each of its places.
 */
__noinline int xdp_event(struct xdp_md *ctx, __u32 kind)
{
	__u32 length = bpf_xdp_get_buff_len(ctx), seen = length;
	struct cpu *cpu = bpf_map_lookup_elem(&cpus, &zero);
	const __u64 now_ns = bpf_ktime_get_ns();
	struct event *event;
	bool got = false;

	if (!cpu)
		return 0;
	if (cpu->events_second != now_ns >> 30) {
		cpu->events_second = now_ns >> 30;
		cpu->syn_events = 0;
		cpu->ack_events = 0;
	}
	/* A SYN-ACK is shown if its SYN was. ACKs have a number of their own, or they would use up the
	 * SYNs'. */
	if ((kind == EVENT_SYN && cpu->syn_events >= EVENTS_A_SECOND) ||
	    (kind == EVENT_ACK && cpu->ack_events >= EVENTS_A_SECOND))
		return 0;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event)
		return 0;
	cpu->syn_events += kind == EVENT_SYN;
	cpu->ack_events += kind == EVENT_ACK;
	event->time_ns = now_ns;
	event->ifindex = ctx->ingress_ifindex;
	event->kind = kind;
	event->length = length;
	event->pad = 0;
	__builtin_memset(event->bytes, 0, sizeof(event->bytes));
	if (seen > sizeof(event->bytes))
		seen = sizeof(event->bytes);
	/* One compare for each bound: of both in one, older verifiers learn nothing. */
	if (seen >= 1) {
		barrier_var(seen);
		if (seen <= sizeof(event->bytes))
			got = !bpf_xdp_load_bytes(ctx, 0, event->bytes, seen);
	}
	if (!got)
		event->length = 0;
	bpf_ringbuf_submit(event, 0);
	return 1;
}

#endif
