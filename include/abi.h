/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The contract: everything that crosses between the BPF programs and user space, or between the XDP and
 * the tc program. `bpftool map dump` shows it by these names. Times are milliseconds of CLOCK_MONOTONIC
 * unless a name says otherwise; 0 means never. Fields of type __be16 and __be32 are in network order, all
 * else in host order. Padding is explicit.
 */
#ifndef XDPH_ABI_H
#define XDPH_ABI_H

#include <linux/types.h>

#include "siphash.h"
#include "tuple.h"

enum abi {
	/* Layout of maps, metadata and cookies. A loader replaces programs only over maps of its own. */
	ABI_LAYOUT = 11,
	/* In front of the metadata, so that another program's is never taken for ours. */
	ABI_METADATA_MAGIC = 0x78647068, /* "xdph" */
	/* In skb->tc_index: this segment has been round the backlog once (promote.h). */
	ABI_TC_INDEX_REQUEUED = 0x7868,
	/* The same field of an RST of our own making (promote.h: promote_end_other()). */
	ABI_TC_INDEX_ENDING = 0x7872,
};

#ifdef __bpf__
#define ABI_UNTRUSTED_KPTR __attribute__((btf_type_tag("kptr_untrusted")))
#else
#define ABI_UNTRUSTED_KPTR
#endif

struct tcp_sock;
/* Through a typedef: clang 14 loses the tag on a pointer that leads to a struct at once. */
typedef struct tcp_sock listening_sock;

/* ---- services: what the stack has been seen to answer ---------------------------------------------- */

struct service_key {
	__u32 ifindex;
	__u32 vlan; /* outer tag's id << 16 | inner tag's id + 1 each; 0: untagged */
	struct address address;
	__be16 port;
	__u16 pad;
};

enum service_admission {
	SERVICE_WAITING,   /* learned; the next SYN is passed as a canary */
	SERVICE_ADMITTED,  /* the stack answers, by the way the SYN came: so do we */
	SERVICE_OTHER_WAY, /* the stack's answer took another way: the stack's alone */
	SERVICE_REFUSED,   /* it reset what was promoted, several times in a row: the stack's alone */
};

enum service_policy {
	POLICY_ALWAYS, /* answer every SYN that can be answered */
	POLICY_SHADOW, /* answer none, count what would have been answered */
	POLICY_FLOOD,  /* dormant: answer only while there is a flood */
};

/* What becomes of segments that belong to no connection and carry no right cookie. */
enum service_guard {
	GUARD_AUTO, /* the stack's, which resets them; dropped while there are too many */
	GUARD_ON,   /* dropped */
	GUARD_OFF,  /* the stack's */
};

enum service_times {
	SPEAKS_FIRST_KEPT_MS = 10 * 60000, /* since speaks_first_ms: then one connection is tried again */
};

/* What a SYN offers, what a SYN-ACK grants: options of RFC 7323, RFC 2018, RFC 3168. */
enum handshake_option {
	OPTION_WSCALE = 1 << 0,
	OPTION_SACK = 1 << 1,
	OPTION_TIMESTAMPS = 1 << 2,
	OPTION_ECN = 1 << 3,
};

/* What makes a listener one that must see its SYNs itself. */
enum listener_kind {
	LISTENER_MPTCP = 1 << 0,
	LISTENER_SIGNATURE = 1 << 1, /* TCP-MD5 or TCP-AO keys */
	LISTENER_SAVE_SYN = 1 << 2,
	LISTENER_DEFER_ACCEPT = 1 << 3,
	LISTENER_NEEDS_ECN = 1 << 4, /* congestion control that asks for ECN by itself (DCTCP) */
};

/* The SYN-ACK of the stack, as it was seen leaving. */
struct service_synack {
	__u8 ttl;	    /* IPv4 TTL or IPv6 hop limit */
	__u8 tos;	    /* IPv4 TOS or IPv6 traffic class, without the ECN bits */
	__u8 rcv_wscale;    /* valid if OPTION_WSCALE is granted */
	__u8 granted;	    /* enum handshake_option: seen granted */
	__u8 refused;	    /* seen offered and not granted */
	__u8 reflects_tos;  /* tcp_reflect_tos: the TOS is the SYN's */
	__u8 listener_kind; /* enum listener_kind, when the SYN-ACK left; XDP looks at the socket itself */
	__u8 rcv_wscale_before; /* until lately: cookies with it are still under way */
	__u64 rcv_wscale_changed_ms;
	__u16 mss;
	__u16 user_mss;	    /* TCP_MAXSEG of the listener, 0: none */
	__u16 window;	    /* to a SYN with timestamps, if they are granted */
	__u16 window_of[8]; /* by MSS index: what we announce at most, never above the request socket's */
	__u16 window_plain; /* to a SYN without timestamps */
	/*
	 * The shapes of SYN-ACKs that have been read since read_ms: bit n of a TCP header of n words, bit
	 * 16 + n with ECE. One more of them is not read again before long.
	 */
	__u32 shapes;
	__u8 tcp_ecn; /* that sysctl: with another one, it is to be seen anew whether ECN is granted */
	__u8 pad2[3];
	__u64 read_ms;
};

enum {
	CANARIES_UNANSWERED = 2, /* in a row: the stack answers no more */
};

/* A SYN that was passed to see what the stack does with it. */
struct service_canary {
	__u64 sent_ms;
	__u64 waiting_since_ms; /* of the first canary that no answer followed; 0: none is awaited */
	__u64 tuple_hash;	/* tuple.h: anybody may send a SYN with the same port and number */
	__u32 client_isn;
	__u8 pad[2];
	__u8 offered; /* enum handshake_option */
	__u8 source_mac[6];
	__u8 other_ways; /* canaries in a row whose answers went another way */
	__u8 smaller;	 /* the last one showed a smaller MSS than those before it */
	__u8 unanswered; /* sent since waiting_since_ms, as far as CANARIES_UNANSWERED and one more */
};

struct service {
	/* The listening socket. Memory that may be reused at any time: believed only where state, port and
	 * namespace fit (service.h). User space sees 0. */
	listening_sock ABI_UNTRUSTED_KPTR *listener;
	enum service_admission admission;
	enum service_policy policy;
	__u64 learned_ms;
	__u64 admitted_ms;
	__u64 confirmed_ms;
	__u64 speaks_first_ms; /* when a connection was last seen whose first data came from the server */
	__u64 awake_until_ms;  /* of policy flood: so long it answers, if nothing prolongs it */
	struct service_synack synack;
	struct service_canary canary;
	__u8 device_mac[6];
	__u8 checksum_partial; /* a virtual device: frames of local senders have unfinished checksums */
	__u8 pad;
	__u32 slot;   /* of what each CPU counts (maps.h: struct pace) */
	__u32 traits; /* of the listener whose SYN-ACK was read (service.h: listener_traits()) */
	enum service_guard guard;
	__u32 pad2;
};

/* ---- connections: what each promoted connection's handshake settled --------------------------------- */

enum connection_state {
	CONNECTION_PROMOTED,	/* handed to the stack */
	CONNECTION_ESTABLISHED, /* seen sending */
	CONNECTION_CLOSED,	/* seen closing first: TIME-WAIT follows */
};

struct connection {
	__u64 promoted_ms;
	__u64 closed_ms;
	__u32 client_isn; /* IRS of RFC 9293 section 3.3.1 */
	__u32 server_isn; /* ISS */
	enum connection_state state;
	__u32 cookie_age_ms; /* known with timestamps only, else 0 */
	__u32 ifindex;
	__u16 mss;
	__u8 snd_wscale;    /* the client's; valid if OPTION_WSCALE is in options */
	__u8 rcv_wscale;    /* ours */
	__u8 options;	    /* enum handshake_option */
	__u8 client_mac[6]; /* where its ACK came from; 0: unknown */
	__u8 pad;
};

/* ---- known tuples: the filter of what the stack holds ----------------------------------------------- */

/*
 * The three bits of a tuple lie in one word. There are two generations of words, one behind the other: each
 * SYN looks at the one that is asked, so that one alone should fit into a processor's cache. Bits are set
 * in both; the generation that is not asked is emptied and refilled from the stack's sockets, then asked.
 */
struct known_word {
	__u64 bits;
};

/*
 * What is noted of a fourth of the tuples of a word, for both generations of it.
 *
 * How many entries of `connections` belong to them: whoever would look one up in vain is spared a search in
 * a large table. It may count too many (what is deleted by hand), never too few.
 *
 * And one tuple, by a part of its hash. Of a settled one it is certain that no cookie of ours is on its way
 * to it: its connection is established, or the stack had it in TIME-WAIT when its last SYN came. Its
 * segments are none to look for a cookie in. Such a tuple is always known, in the generation that is asked:
 * whoever answers a SYN of it thus comes by here, and takes the note back first. Of one that was promoted,
 * and no more, nothing is certain: the stack is asked for its connection before its cookie is judged.
 */
struct known_note {
	__u32 recorded;
	__u32 settled; /* 0: none; else the hash's upper half, its lowest bit set; clear: only promoted */
};

/*
 * So there are as many notes as connections. With fewer of them more segments would find a note that is
 * another tuple's, and have their cookie judged. A flood does not come by: its tuples are not known.
 */
enum {
	KNOWN_NOTES_A_WORD = 4,
};

/* Where a tuple's note lies, given settings.known_mask: its word's place, with two bits more in front. */
static inline __u32 known_note_index(__u64 hash, __u32 known_mask)
{
	return (__u32)hash & (known_mask * KNOWN_NOTES_A_WORD + KNOWN_NOTES_A_WORD - 1);
}

/* The bits of a tuple, by its hash. Those of known_note.settled, too, which is all of it that they need. */
static __always_inline __u64 known_bits(__u64 hash)
{
	return 1ULL << (hash >> 46 & 63) | 1ULL << (hash >> 52 & 63) | 1ULL << (hash >> 58);
}

/*
 * The host's own addresses: a filter as known_tuples is one, by address_hash() (tuple.h), which may say yes
 * wrongly, to one source in ten thousand. Then the stack answers, within the budget. Written by attach and
 * `run`. Of the map's words as many are in use as the addresses need (settings.own_mask): few addresses
 * leave the processor's cache to others. And most sources end otherwise than all of them do
 * (settings.own_ends): those are not looked for.
 */
enum own {
	OWN_WORDS_LEAST = 64,
	OWN_WORDS = 32768,
	OWN_WORDS_AN_ADDRESS = 4,
};

struct own_word {
	__u64 bits; /* known_bits() of the addresses whose hashes fall to this word */
};

/* What an address ends in, its last six bits, as one bit of settings.own_ends. */
static inline __u64 own_end(const struct address *address)
{
	return 1ULL << (host32(address->word[3]) & 63);
}

/* How many words of the filter so many addresses need: a power of two. */
static inline __u32 own_words_for(unsigned long addresses)
{
	__u32 words = OWN_WORDS_LEAST;

	while (words < OWN_WORDS && words < addresses * OWN_WORDS_AN_ADDRESS)
		words *= 2;
	return words;
}

/* ---- used cookies: a cookie promotes once ------------------------------------------------------------ */

enum used {
	USED_WAYS = 8,
	/*
	 * One way: | tuple tag 16 | ISN tag 32 | moment of promotion, in units of 1024 ms, 15 | made 1 |
	 * Handshakes of one tuple have the first in common: that a fresh cookie is not taken for an earlier
	 * one is the second's to see to. The first need only tell tuples apart whose ways lie in one
	 * bucket: a cookie that was tried is taken for made where it does not, once in 65536 times.
	 */
	USED_MADE = 1,
	USED_TIME_SHIFT = 1,
	USED_TIME_MASK = 0x7fff,
	USED_ISN_SHIFT = 16,
	USED_TUPLE_SHIFT = 48,
};

struct used_bucket {
	__u64 way[USED_WAYS];
};

/* ---- keys ---------------------------------------------------------------------------------------------
 */

enum keys {
	KEY_SLOTS = 8,
};

/*
 * A master key applies from an epoch on, until a key with a later from_epoch applies. from_epoch lies in
 * the future when a slot is written, so that a half-written slot is never used; but for the first key's,
 * which is there before any program.
 */
struct master_key {
	struct siphash_key key;
	__u32 from_epoch;
	__u32 set;	  /* 0: this slot holds no key */
	__u64 created_ms; /* for `key show` */
};

/* ---- settings ---------------------------------------------------------------------------------------- */

enum settings_flag {
	SETTING_CANARY_ONCE = 1 << 0,	   /* no canary after the first confirmation */
	SETTING_TC_VALIDATES = 1 << 1,	   /* the driver has no XDP metadata: tc looks at cookies itself */
	SETTING_CONNECTIONS_FULL = 1 << 2, /* connections were promoted that have no entry */
	/* What the programs set: kept by whoever writes settings, but for instance_clear_flag(). */
	SETTINGS_OF_PROGRAMS = SETTING_TC_VALIDATES | SETTING_CONNECTIONS_FULL,
};

struct settings {
	__u32 layout; /* ABI_LAYOUT */
	__u32 flags;  /* enum settings_flag */
	__u64 netns_cookie;
	__u64 hash_seed;
	__u32 epoch_ms;
	__u32 known_mask;	    /* words of known_tuples less one */
	__u32 known_generation;	    /* the one that is asked */
	__u32 used_mask;	    /* buckets of used_cookies less one */
	__u32 own_mask;		    /* words of own_addresses in use less one */
	__u64 own_ends;		    /* own_end() of all that it holds */
	__u32 canary_gap_ms;	    /* between two canaries of a service, at the least */
	__u32 canary_silence_ms;    /* a confirmation older than this calls for a canary */
	__u32 canary_answers;	    /* so many answers on one CPU call for a canary */
	__u32 canary_patience_ms;   /* an unanswered canary ends the admission after this */
	__u32 pass_budget;	    /* SYNs passed a CPU and second, whatever the reason */
	__u32 held_budget;	    /* the same for SYNs whose tuple the stack holds for certain */
	enum service_policy policy; /* of services to be learned */
	__u64 turned_ms;	    /* when the filter's generation was turned last */
	__u64 events_until_ms;	    /* somebody reads `events`, and says so again before this is over */
	__be16 events_port;	    /* the local port of interest, 0: any */
	__u16 pad;
	__u32 flood_rate;	  /* SYNs a second and CPU at which a dormant service wakes */
	__u32 flood_hold_ms;	  /* and stays awake after the last time that half of it was exceeded */
	__u32 guard_rate;	  /* orphans a second and CPU above which GUARD_AUTO drops them */
	enum service_guard guard; /* of services to be learned */
	__u32 resets;	    /* of promoted connections in a row, until one lived (learn.h: learn_reset()) */
	__u32 forging_rate; /* wrong cookies without timestamps a second above which that layout is refused
			     */
	__u32 prefix_budget; /* answers to a source prefix, a CPU and second, 0: no such budget */
	__u32 prefix_share;  /* above it, one in so many SYNs is answered */
	__u32 turn_ms;	     /* how often `run` turns the filter's generation, 0: not yet */
	__u32 mark;	     /* of the segments that are promoted (skb->mark), 0: left as it is */
	__u32 reserved;
};

/* ---- forgings: wrong cookies without timestamps, above a rate of which that layout is refused ---------
 */

struct forging {
	__u64 since_ms; /* refused since then, */
	__u64 until_ms; /* and until then, if nothing prolongs it */
	__u64 second;	/* the one that is counted, in units of 1024 ms */
	__u32 wrong;	/* wrong cookies without timestamps in it, of all CPUs */
	__u32 pad;
};

enum ports {
	PORT_WORDS = 65536 / 64, /* map `ports`: bit port % 64 of word port / 64, ports in host order */
};

/* What attach knows of a device and the datapath cannot see. */
struct interface {
	char name[16];
	__u8 checksum_partial;
	__u8 native; /* 1: native XDP, 0: generic */
	__u8 pad[2];
	__u32 answers; /* the id of the program that answers there; with another one, it drains */
	__u64 attached_ms;
	__u64 draining_since_ms; /* by detach; 0: it does not, or by an attach that was killed */
};

/* ---- metadata: from the XDP program to tc_promote, in front of the frame ----------------------------- */

/*
 * The same for all segments of a first flight, whichever of them it was made for: GRO merges only segments
 * of equal metadata, and the flight must stay in order (ack.h).
 */
struct handshake_metadata {
	__u32 magic;
	__u32 layout;
	__u32 client_isn;
	__u32 server_isn;
	__u32 timestamp_offset;
	__u32 tsval;   /* of the client */
	__u32 sent_ms; /* when the SYN-ACK left, by the lower half of the clock; only with timestamps */
	__u16 mss;
	__u8 options; /* enum handshake_option: granted */
	__u8 snd_wscale : 4;
	__u8 rcv_wscale : 4;
};

/* ---- events: handshakes that the driver answers, for whoever wants to look ----------------------------
 */

enum event_kind {
	EVENT_SYN,    /* about to be answered */
	EVENT_SYNACK, /* our answer */
	EVENT_ACK,    /* its cookie is right: on its way to the promoter */
};

enum event_sizes {
	EVENT_BYTES = 128,     /* Ethernet, two tags, IPv6, TCP with all options: 122 */
	EVENTS_A_SECOND = 512, /* SYNs, and as many ACKs, and CPU: a flood leaves most of its SYNs out */
};

struct event {
	__u64 time_ns; /* CLOCK_MONOTONIC */
	__u32 ifindex;
	enum event_kind kind;
	__u32 length; /* of the frame, of which `bytes` has the beginning */
	__u32 pad;
	__u8 bytes[EVENT_BYTES];
};

/* ---- counters ---------------------------------------------------------------------------------------- */

struct counters {
#define COUNTER(name, sentence) __u64 name;
#include "counters.def"
#undef COUNTER
};

/* ---- sockets: what iter/tcp prints, one record a socket ---------------------------------------------- */

struct socket_record {
	struct tuple tuple;
	__u32 state; /* TCP_ESTABLISHED … of <netinet/tcp.h>; 12: SYN-RECEIVED */
	__u32 uid;
	__u32 ifindex; /* bound device, 0: any */
	__u32 backlog;
	__u32 backlog_max;
	__u32 rcvbuf;
	__u32 window_clamp;
	__u32 family;
	__u8 listener_kind; /* enum listener_kind */
	__u8 ipv6_only;
	__u8 pad[2];
	__u64 cookie;
	__u64 inode; /* by which /proc/PID/fd names it; 0: of no process (not accepted yet, orphaned) */
	/*
	 * Of a connection that has sockets' full size: its initial sequence numbers by what it has received
	 * and what was acknowledged. One more, each, when a FIN has been.
	 */
	__u32 irs;
	__u32 iss;
};

#endif
