/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Network namespaces, veth pairs between them, and what runs inside.
 *
 *	   client namespace                        server namespace
 *	+----------------------+                +---------------------+
 *	| veth-client          |----------------| veth-server         |
 *	| 02:77:00:00:00:02    |                | 02:77:00:00:00:01   |
 *	| 10.77.0.2  fd77::2   |                | 10.77.0.1  fd77::1  |
 *	+----------------------+                +---------------------+
 *	    behind it, in no kernel's hands: 10.77.1.0/24, fd77:1::/64
 *
 * The server routes the last two by way of the client's address, whose MAC is a static neighbour:
 * frames to them arrive at veth-client, whose kernel neither owns nor forwards those addresses and
 * so never answers with an RST. A raw client (wire.h) may be all of them.
 *
 * What a case makes here goes when the case ends; what is made outside of cases goes at exit, at
 * SIGINT and at SIGTERM. What a killed program has left behind, the next one removes.
 * VERBOSE=1 prints every command and what it said. None of this is for threads.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define SERVER_IF  "veth-server"
#define SERVER_MAC "02:77:00:00:00:01"
#define SERVER_IP4 "10.77.0.1"
#define SERVER_IP6 "fd77::1"
#define CLIENT_IF  "veth-client"
#define CLIENT_MAC "02:77:00:00:00:02"
#define CLIENT_IP4 "10.77.0.2"
#define CLIENT_IP6 "fd77::2"
#define FAKE_NET4  "10.77.1.0/24"
#define FAKE_NET6  "fd77:1::/64"
#define FAKE_IP4   "10.77.1." /* and a number from 1 to 254 */
#define FAKE_IP6   "fd77:1::" /* and up to four digits */

/* The ends of the relay's namespace, where a pair has one. */
#define RELAY_CLIENT_IF "relay-client"
#define RELAY_SERVER_IF "relay-server"

struct netns {
	char name[32]; /* below /run/netns, for ip -n and nsenter --net= */
	char tag[16];
	char path[48];
	int fd;
	bool of_case;
};

/* An empty namespace, lo up. Never NULL: what cannot be had ends the case. */
struct netns *netns_new(const char *tag);
void netns_delete(struct netns *ns);

/*
 * The calling thread enters the namespace; files and sockets that it opens belong there for good.
 * It is a bare setns(): no mount namespace, so bpffs pins are seen by everybody, but /sys/class/net
 * is that of the namespace the program was started in. NULL means where it was started.
 */
void netns_enter(const struct netns *ns);
/* Calls @fn there and comes back. */
int netns_call(const struct netns *ns, int (*fn)(void *), void *arg);

/* Shell commands. What they print, on both outputs, is shown if VERBOSE=1. */
int netns_sh(const struct netns *ns, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Likewise, and a failure ends the case with what the command said. */
void netns_must(const struct netns *ns, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* What it printed, less the last newline, valid until the next command; NULL if it failed. */
const char *netns_output(const struct netns *ns, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* What the last of the above printed. */
const char *netns_said(void);

/*
 * A command in the background, in a process group of its own, killed with the namespace at the
 * latest. @output (may be NULL: inherited) is a file that takes both of its outputs.
 */
pid_t netns_spawn(const struct netns *ns, const char *output, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* A C function in a forked child; its result is the exit status. */
pid_t netns_fork(const struct netns *ns, int (*fn)(void *), void *arg);
/* Sends @sig (0: none), waits at most @ms (then kills), yields the status as the shell has it. */
int netns_stop(pid_t pid, int sig, int ms);

/* "net.ipv4.tcp_syncookies" or with slashes, where a name has dots in it. */
void netns_sysctl(const struct netns *ns, const char *name, const char *value);
const char *netns_sysctl_get(const struct netns *ns, const char *name);

/* A device's index in its namespace; ends the case if there is no such device. */
int netns_ifindex(const struct netns *ns, const char *ifname);

/*
 * Attaches a program that does nothing but return @verdict (XDP_PASS, XDP_DROP ...). veth delivers
 * what the peer has sent by XDP_TX or XDP_REDIRECT only where the receiving end has a program.
 */
void netns_xdp(const struct netns *ns, const char *ifname, int verdict);

/*
 * Turns off whatever makes raw sockets see frames that were never on a wire: partial checksums,
 * segments beyond the MTU, merged segments. After netns_xdp(), since attaching turns GRO on.
 */
void netns_offloads_off(const struct netns *ns, const char *ifname);
/* Whether VLAN tags travel beside the frame (veth's default) or in it. */
void netns_vlan_offload(const struct netns *ns, const char *ifname, bool rx, bool tx);

/* A static neighbour, IPv4 or IPv6. */
void netns_neighbour(const struct netns *ns, const char *ifname, const char *ip, const char *mac);

struct veth_spec {
	unsigned int queues; /* of each kind at both ends; 0 means 1 */
	unsigned int mtu;    /* 0 means 1500 */
};

/* Joins two namespaces, both ends up; MACs may be NULL. */
void netns_veth(const struct netns *a, const char *a_if, const char *a_mac, const struct netns *b,
		const char *b_if, const char *b_mac, const struct veth_spec *spec);

struct pair_spec {
	struct veth_spec veth;
	/*
	 * A third namespace between the two, without addresses, for tools/delay to carry the
	 * frames across; offloads are off on all four ends, and XDP passes on the server's side.
	 */
	bool relay;
	bool no_client_xdp; /* leave out the XDP program that XDP_TX of the server needs */
};

struct pair {
	struct netns *client;
	struct netns *server;
	struct netns *relay; /* or NULL */
};

/* The topology drawn above. @spec may be NULL. */
struct pair pair_new(const struct pair_spec *spec);

/* Tries @condition every millisecond until it holds or @ms have passed: whether it held. */
#define WAIT_FOR(condition, ms)                                                                            \
	({                                                                                                 \
		int64_t wait_end_ = now_ms() + (ms);                                                       \
		bool wait_ok_;                                                                             \
		while (!(wait_ok_ = (condition)) && now_ms() < wait_end_)                                  \
			nap();                                                                             \
		wait_ok_;                                                                                  \
	})

int64_t now_ms(void); /* monotonic */
int64_t now_us(void);
void nap(void); /* a millisecond */

/* Whether something listens there: TCP, by the kernel's own list. */
bool netns_listens(const struct netns *ns, int port);
