/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The programs as they are attached to a device, run over single frames by BPF_PROG_RUN: a pair of
 * namespaces (tests/lib/netns.h), xdp-handshake attached to the server's end, its maps in our hands.
 * Services are learned as always, from SYNs that a raw client sends and the stack answers.
 */
#ifndef XDPH_TESTS_ENVIRONMENT_H
#define XDPH_TESTS_ENVIRONMENT_H

#include "abi.h"
#include "cookie.h"

#include "frame.h"
#include "netns.h"
#include "report.h"
#include "wire.h"

enum {
	PORT = 8080,	  /* the listener of environment_new() */
	PORT_LAST = 8199, /* up to here, ports are protected */
	RUN_MAX = 11264,  /* the longest frame: a jumbo frame, and something behind it */
	PLENTY = 1 << 30, /* a budget that no test spends */
};

/* Where a SYN may arrive: families and VLAN tags. */
enum place {
	IPV4,
	IPV6,
	IPV4_VLAN,
	PLACES,
};

/* What the stack's own SYN-ACK showed: to a SYN with the options of Linux, ECN and the greatest MSS. */
struct facts {
	struct tcp_frame native;
	bool admitted;
};

struct environment {
	struct pair pair;
	struct wire *wire;
	char pins[64];
	unsigned int ifindex;
	int xdp;   /* xdp_handshake as it is attached */
	int drain; /* xdp_drain */
	int promote;
	int learn;
	int services;
	int settings;
	int keys;
	int known_tuples;
	int known_notes;
	int own_addresses;
	int counters;
	int listener;
	struct settings set;
	struct facts facts[PLACES]; /* of port PORT */
};

#define PROGRAM "build/xdp-handshake"

extern struct environment env;

/* For report_main(): all of the above, port PORT admitted in all places. */
void environment_new(void);

/* The other end's addresses: the @n-th client of a place, and the server. */
struct ip_addr client_ip(enum place place, unsigned int n);
struct ip_addr server_ip(enum place place);
/* A SYN with the options of Linux. */
struct tcp_spec place_syn(enum place place, uint16_t sport, uint16_t dport);
/* The same from the client's own address, by whose kernel own_connect() makes a connection of that tuple.
 */
struct tcp_spec own_syn(enum place place, uint16_t sport, uint16_t dport);
int own_connect(const struct tcp_spec *syn);
/* Sends the SYN-ACK to a tagged SYN by a raw socket: tc_learn cannot tell. */
void vlan_synack(const struct tcp_spec *syn, struct tcp_frame *synack);

/* A listening socket in the server's namespace, on any address; non-blocking. @prepare may be NULL. */
int listen_on(uint16_t port, int backlog, void (*prepare)(int fd));
/* Sends a SYN by the wire and yields the stack's SYN-ACK to it; the stack then forgets the SYN. */
bool native_synack(const struct tcp_spec *syn, struct tcp_frame *synack);
/* Has a service learned and admitted; @facts may be NULL. */
void admit(enum place place, uint16_t port, struct facts *facts);

/* A pinned map or program of the instance. */
int open_pin(const char *name);

/* Writes env.set, which may have been changed, to the pinned map. */
void settings_store(void);

/* ---- counters by their names in counters.def ---- */

enum counter {
#define COUNTER(name, sentence) COUNTER_##name,
#include "counters.def"
#undef COUNTER
	COUNTERS,
	COUNTER_none = COUNTERS, /* no counter at all */
};

extern const char *const counter_names[COUNTERS + 1];

void counters_read(__u64 value[COUNTERS]);
/* Of the CPU that we are bound to. */
void counters_read_here(__u64 value[COUNTERS]);

/* ---- running a program ---- */

enum {
	/* In a flood, which tests are, a SYN-ACK's moment may be a tick ago (bpf/clock.h). HZ is 100 at the
	 * least. */
	SYN_LAG_MS = 10,
};

struct run {
	unsigned int verdict;
	uint8_t bytes[RUN_MAX];
	size_t length;
	bool handed; /* there was metadata in front */
	struct handshake_metadata metadata;
	uint32_t mark;		 /* of run_tc(), which begins with 0 */
	__u64 counted[COUNTERS]; /* by how much each counter rose */
	uint64_t before_ms;	 /* CLOCK_MONOTONIC around it */
	uint64_t after_ms;
};

/*
 * In a flood, what was found out about a service holds until the tick of the coarse clock is over
 * (bpf/lately.h). tick_over() returns when the next one has begun: nothing holds then. flooding() makes a
 * flood of PORT's services, unless one has been made in this tick; false if it was over before that.
 */
void tick_over(void);
bool flooding(void);

/* Runs env.xdp or env.drain over a frame that has come in by the server's device. */
void run_frame(int program, const void *frame, size_t length, struct run *run);
/* The same, with the first @linear bytes in its first buffer (run_xdp()). */
void run_split_frame(int program, const void *frame, size_t length, size_t linear, struct run *run);

/*
 * For whoever runs millions: no counters, and the caller is in the server's namespace. Of the frame, XDP
 * sees the first @linear bytes at once, if the kernel lets us choose (run_chooses_linear()), and as many as
 * fit into a page.
 */
void run_xdp(int program, const void *frame, size_t length, size_t linear, struct run *run);
bool run_chooses_linear(void);
/* Likewise, env.promote or env.learn. False if the kernel makes no such packet of it. */
bool run_tc(int program, const void *frame, size_t length, unsigned int ingress_ifindex, struct run *run);

/* Whether just @counter rose, once: and syn_received with it, if it is one of a SYN's outcomes. */
bool counted_only(const struct run *run, enum counter counter);
/* The names of the counters that rose, in a static buffer. */
const char *counted_text(const struct run *run);

const char *verdict_text(unsigned int verdict);

#endif
