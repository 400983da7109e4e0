/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Every map. The pinned ones are described in abi.h; sizes marked 1 are set by the loader. */
#ifndef XDPH_MAPS_H
#define XDPH_MAPS_H

#include "abi.h"
#include "cookie.h"
#include "kernel.h"
#include "sketch.h"
#include "tcp_options.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, struct service_key);
	__type(value, struct service);
} services SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct tuple);
	__type(value, struct connection);
} connections SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE); /* a generation is emptied word by word, beside the other one */
	__type(key, __u32);
	__type(value, struct known_word);
} known_tuples SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct known_note);
} known_notes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct used_bucket);
} used_cookies SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, KEY_SLOTS);
	__type(key, __u32);
	__type(value, struct master_key);
} keys SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct settings);
} settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PORT_WORDS);
	__type(key, __u32);
	__type(value, __u64);
} ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, OWN_WORDS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct own_word);
} own_addresses SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, struct interface);
} interfaces SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counters);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct forging);
} forgings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 18);
} events SEC(".maps");

/* ---- private to the programs, made anew at each attach ---- */

enum {
	EPOCH_KEYS = 4, /* this epoch, the one before, and two that are named when a cookie is too old */
	VALIDATED_WAYS = 64,
	STALE_WAYS = 1024,
	LATELY_WAYS = 8,
	LATELY_ANSWERS = 8,
	LATELY_OPTION_WORDS = 6, /* hardly any SYN has more */
	RECENT_RIGHT = 4,
	RECENT_NONE = 0xffff, /* more than cookie_clear_of() can be */
	PACE_SLOTS = 4096,
};

struct epoch_key {
	struct siphash_key key;
	__u32 epoch;
	__u32 set;
};

/* A cookie that this CPU has just found right: the segments behind it belong to the same handshake. */
struct validated {
	__u64 hash; /* of the tuple */
	__u64 at_ms;
	__u32 vlan; /* struct service_key */
	struct handshake_metadata metadata;
	__u8 checksum_partial; /* struct service */
	__u8 pad[7];
};

/* What a cookie is made and judged by, and the hash that came out (validate.h). */
struct claim {
	struct tuple tuple;
	__u64 hash;
	__u64 now_ms;
	__u64 wscale_changed_ms; /* the service's, 0: it never was another */
	__u32 tsval;
	__u32 tsecr;
	__u32 client_isn;
	__u32 server_isn;
	__u32 epoch; /* the one that server_isn names */
	__u32 life_ms;
	__u8 service_wscale;
	__u8 is_ipv4;
	__u8 timestamps; /* the layout to judge by */
	__u8 wscale_before;
	__u8 pad[4];
};

/* A segment that is to be settled (promote.h): what must be known of it. Host order, but for the tuple. */
struct settling {
	struct tuple tuple;
	struct handshake_metadata metadata; /* 0 where it only came round */
	__u32 seq;
	__u32 ack;
	__u32 tcp_offset; /* of the TCP header in the frame */
	__u8 client_mac[6];
	__u8 is_ipv4;
	__u8 requeued;	   /* it came round */
	__u8 may_go_round; /* it has its Ethernet header, and has not yet */
	__u8 pad[7];
};

/*
 * A segment with ACK whose cookie is not right (ack.h): what must be known of it beside struct claim. Host
 * order.
 */
struct orphan {
	__u64 hash; /* of the tuple */
	__u32 seq;
	__u32 payload;	/* bytes of it */
	__u32 sizes[3]; /* of the segments that may be missing in front of it (ack_early()) */
	__s32 verdict;	/* enum verdict */
	__u32 ip_offset;
	__u32 tcp_offset;
	__u8 held; /* known_tuples knows it */
	__u8 pad[7];
};

/* A TCP header with its options, copied out of the packet (tcp.h). */
struct tcp_header_copy {
	struct tcp_options_walk walk;
	__u32 offset; /* in: of the header in the frame */
	__u32 length; /* in: its bytes, options included */
	__u32 sum;    /* out: folded sum of the header's words */
	__u32 pad;
};

/* What the connection will have: of what is offered, what the service grants and the cookie can carry. */
struct choice {
	struct cookie_options options;
	__s32 bits; /* for the cookie */
	__u16 mss;  /* in: the client's, 0 if it named none; */
	__u16 user_mss;
	__u8 wscale;
	__u8 granted; /* enum handshake_option */
	__u8 is_ipv4;
	__u8 pad;
};

/* What a SYN-ACK says, and where it goes in the frame of its SYN. Host order, but for what says __be32. */
struct synack_frame {
	/* The same for all SYNs with the same options (answer.h: synack_prepare()). */
	__be32 option[5]; /* those of the timestamps' values, 2 and 3, are not */
	__u32 options;	  /* of these words: 1 to 5 */
	__u32 control;	  /* the header's fourth word: data offset, control bits and window */
	__u32 bits;	  /* for the cookie */
	__u8 timestamps;
	__u8 promised_wscale; /* as cookie_hash() takes it */
	__u8 is_ipv4;
	__u8 ttl;
	/* That SYN's own. */
	__u32 isn;
	__u32 client_isn;
	__u32 ip_offset;
	__be32 ports; /* as the SYN-ACK has them */
	__u8 tos;
	__u8 pad[3];
};

/* What SYNs of one look are, and what answers them (quick.h). */
struct lately_answer {
	__be16 control; /* of the TCP header: data offset and SYN, nothing else; 0: nothing is kept */
	__be16 length;	/* the SYN's by its IP header: total length, over IPv6 payload length */
	__u8 look;	/* QUICK_LOOK() of its options */
	__u8 pad;
	__u8 timestamps;		    /* whether the answer has any */
	__u8 synack_words;		    /* of the answer's options, 1 to 5 */
	__be32 option[LATELY_OPTION_WORDS]; /* the SYN's */
	__be32 synack_option[5];    /* words 2 and 3 are each SYN-ACK's own if there are timestamps */
	__be32 synack_control;	    /* the fourth word of its TCP header */
	__u32 clear;		    /* of the cookie */
	__u32 common;		    /* cookie_common() */
	__u64 syn_sum;		    /* of what all these SYNs have in common, pseudo header included; */
	__u64 synack_sum;	    /* and all these SYN-ACKs */
	struct siphash_state begun; /* cookie_hash_begin() */
};

/* What was found out about a service, good until the tick is over (lately.h). */
struct lately {
	__u64 tick;
	__u64 noted_ms;
	struct service_key service;
	__u32 slot;
	__u32 answered; /* by it, and not counted yet */
	__u8 device_mac[6];
	__u8 checksum_partial;
	__u8 ignored; /* enum handshake_option: which the stack takes no notice of */
	struct service_synack synack;
	/* Of the settings, so that they need not be looked up. */
	__u64 hash_seed;
	__u64 own_ends;
	__u32 known_mask;
	__u32 known_base;
	__u32 own_mask;
	__u32 pad;
	struct lately_answer answers[LATELY_ANSWERS];
};

/* A service that a look at the table led to in this tick, and what the short ways take of it (lately.h). */
struct recent {
	__u64 tick;
	struct service_key service;
	__u8 device_mac[6];
	__u8 rcv_wscale;
	__u8 checksum_partial;
	__u8 held; /* SYNs to tuples in TIME-WAIT come to it, and nothing but their budget keeps them from
		      passing */
	__u8 pad[3];
	__u16 right[RECENT_RIGHT];  /* of cookies that were right: cookie_clear_of(), or RECENT_NONE */
	struct siphash_state begun; /* cookie_hash_begin() of begun_common, with begun_epoch's key */
	__u32 begun_common;	    /* cookie_common(); 0: none */
	__u32 begun_epoch;
};

/* Budgets for passing SYNs to the stack. A flood that spends one leaves the others. */
enum budget {
	BUDGET_PASS,	     /* what cannot be answered, for whatever reason */
	BUDGET_HELD,	     /* the stack holds the tuple for certain */
	BUDGET_SPEAKS_FIRST, /* could be answered, and is better passed */
	BUDGETS,
};

/* What a CPU keeps to itself, and room for what would be too large for the stack. */
struct cpu {
	__u64 epoch_start_ms; /* the epoch that was current when last looked, to spare a division */
	__u64 budget_second;
	__u64 tick; /* in jiffies, when last looked (clock.h) */
	__u64 tick_ms;
	__u64 syn_ms; /* the moment of this SYN, or of one a little before */
	__u32 tick_syns;
	__u32 epoch;
	__u32 passed[BUDGETS];
	__u64 events_second;
	__u32 syn_events; /* in this second */
	__u32 ack_events;
	__u32 wrong_plain;   /* cookies without timestamps, not yet told (forging.h) */
	__u32 known_plain;   /* segments of known tuples without timestamps */
	__u64 promoted_hash; /* the tuple that was promoted last, and when */
	__u64 promoted_ms;
	struct epoch_key epoch_keys[EPOCH_KEYS];
	struct recent recent[LATELY_WAYS];
	struct lately lately[LATELY_WAYS];
	struct validated validated[VALIDATED_WAYS];
	struct settling settling;
	struct orphan orphan;
	__u32 stale[STALE_WAYS]; /* tuples that known_tuples knows and the stack does not hold (known.h) */
	struct tcp_header_copy header;
	struct claim claim;
	struct choice choice;
	struct synack_frame answer;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct cpu);
} cpus SEC(".maps");

/*
 * What a CPU counts of a service's SYNs, a slot a service. Two services may fall on one slot: then canaries
 * come sooner, and one wakes, or guards itself, with the other.
 */
struct pace {
	__u32 answered; /* since the last canary */
	/* Of policy flood: SYNs in this window, in the one before it, and in this second. */
	__u32 syns;
	__u32 syns_before;
	__u32 syns_second;
	__u64 window;
	__u64 second;
	/* Of guard: segments of no connection. */
	__u64 orphan_second;
	__u32 orphans;	      /* in this second */
	__u32 orphans_before; /* in the one before it */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, PACE_SLOTS);
	__type(key, __u32);
	__type(value, struct pace);
} paces SEC(".maps");

/* Of the budget for source prefixes (prefix.h). */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SKETCH_CELLS);
	__type(key, __u32);
	__type(value, struct sketch_cell);
} prefixes SEC(".maps");

static const __u32 zero = 0;

#endif
