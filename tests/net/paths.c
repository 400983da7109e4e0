// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Routes and owners: what is not ours reaches whom it always reached, and what the stack does not answer
 * is not answered, as soon as a canary can know. Each case runs without us first, then with us: its
 * clients must see the same.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <linux/bpf.h>

#include <bpf/bpf.h>

#include "abi.h"
#include "product.h"

enum {
	PORT = 8080,
	TIMES = 12, /* connections: enough for a service to be learned, confirmed and answered for */
	/* Sixteen SYNs or a second; then three seconds of patience; the rest is the machine's. */
	NOTICED_MS = 1000 + 3000 + 1000,
};

static const char *const server_ip[] = { SERVER_IP4, SERVER_IP6 };
static const char *const family[] = { "IPv4", "IPv6" };

/* ---- what a client sees ---- */

/* Whether a connection comes about, at this listener and no other, and carries a word each way. */
static bool talks(const struct netns *client, const char *address, int listener)
{
	int fd = tcp_connect(client, address, PORT, 2500), accepted = -1;
	char word[4];
	bool ok = false;

	if (fd >= 0)
		accepted = tcp_accept(listener, 1000);
	if (accepted >= 0)
		ok = write(fd, "ping", 4) == 4 && tcp_read(accepted, word, 4, 1000) == 4 &&
		     write(accepted, "pong", 4) == 4 && tcp_read(fd, word, 4, 1000) == 4;
	if (fd >= 0)
		close(fd);
	if (accepted >= 0)
		close(accepted);
	return ok;
}

static void all_talk(const struct netns *client, const char *address, int listener, const char *when)
{
	int good = 0;

	for (int i = 0; i < TIMES; i++)
		good += talks(client, address, listener);
	EXPECT_EQ(good, TIMES, "connections to %s, %s", address, when);
}

/* Whether a SYN of a fake client is answered: by a SYN-ACK, within 50 ms. */
static bool syn_gets_answer(struct wire *wire, int client, const char *address)
{
	static uint16_t port = 20000;
	struct hand hand = hand_new(wire, client, port++, address, PORT, true);
	struct tcp_frame frame;

	wire_send(wire, &hand.spec);
	return wire_recv_flags(wire, &hand.spec, SYN | ACK, RST, 50, &frame);
}

/* SYNs at 20 to 50 a second for @ms: when the last of them was answered that was, counted from now. */
static int64_t last_answer(struct wire *wire, int client, const char *address, int ms)
{
	const int64_t begin = now_ms();
	int64_t last = -1;

	while (now_ms() < begin + ms) {
		if (syn_gets_answer(wire, client, address)) {
			last = now_ms() - begin;
			poll(NULL, 0, 20);
		}
	}
	return last;
}

static void attach(const struct product *product, const char *arguments)
{
	char command[256];

	snprintf(command, sizeof(command), "attach %s --firewall-checked", arguments);
	product_must(product, command);
}

/* Whether `listeners` shows a service of the address as admitted. */
static bool admitted(const struct product *product, const char *address)
{
	json_t *rows = product_json(product, "listeners"), *row;
	bool any = false;
	size_t i;

	json_array_foreach (rows, i, row) {
		const char *local = json_string_value(json_object_get(row, "local"));

		if (strstr(local, address) && json_is_true(json_object_get(row, "admitted")))
			any = true;
	}
	json_decref(rows);
	return any;
}

/* Not one SYN was answered by the driver, and no service is admitted. */
static void never_ours(const struct product *product)
{
	EXPECT_EQ(counter(product, "syn_answered"), 0);
	EXPECT(counter(product, "syn_received") > 0, "no SYN was seen: the case shows nothing");
	for (int i = 0; i < 2; i++)
		EXPECT(!admitted(product, server_ip[i]), "%s is admitted", server_ip[i]);
}

/* Whether connections are answered for by the driver again: canaries are a second apart. */
static bool ours_again(const struct product *product, const char *address, int listener)
{
	long long before = counter(product, "syn_answered");

	return WAIT_FOR(talks(product->pair.client, address, listener) &&
				counter(product, "syn_answered") > before,
			4000);
}

/* ---- more namespaces ---- */

#define INSIDE_MAC  "02:88:00:00:00:02"
#define OUTSIDE_MAC "02:88:00:00:00:01"

static void forward(const struct netns *ns)
{
	netns_sysctl(ns, "net.ipv4.ip_forward", "1");
	netns_sysctl(ns, "net.ipv6.conf.all.forwarding", "1");
}

/*
 * Gives two devices that face each other addresses of 10.88.0.0/24 and fd88::/64, and neighbours, for the
 * devices have no link-local address to ask by.
 */
static void join(const struct netns *outside, const char *outside_if, const struct netns *inside,
		 const char *inside_if)
{
	netns_must(outside, "ip addr add 10.88.0.1/24 dev %s && ip addr add fd88::1/64 dev %s nodad",
		   outside_if, outside_if);
	netns_must(inside, "ip addr add 10.88.0.2/24 dev %s && ip addr add fd88::2/64 dev %s nodad",
		   inside_if, inside_if);
	netns_neighbour(outside, outside_if, "10.88.0.2", INSIDE_MAC);
	netns_neighbour(outside, outside_if, "fd88::2", INSIDE_MAC);
	netns_neighbour(inside, inside_if, "10.88.0.1", OUTSIDE_MAC);
	netns_neighbour(inside, inside_if, "fd88::1", OUTSIDE_MAC);
	netns_must(inside, "ip route add default via 10.88.0.1 && ip route add default via fd88::1");
}

/* ---- not ours ---- */

/*
 *   client ── veth ── router: listens on 8080 ── veth ── inside: listens on 8080
 */
CASE("a router: what it forwards reaches the host behind it, either way, and its own port is answered for")
{
	static const char *const behind[] = { "10.88.0.2", "fd88::2" }, *const own[] = { "10.88.0.1",
											 "fd88::1" };
	static const char *const clients[] = { CLIENT_IP4, CLIENT_IP6 };
	struct product product = product_new(NULL, NULL);
	struct netns *router = product.pair.server, *inside = netns_new("inside");
	int at_router, at_inside, at_client;
	long long answered;

	netns_veth(router, "to-inside", OUTSIDE_MAC, inside, "eth0", INSIDE_MAC, NULL);
	netns_xdp(inside, "eth0", XDP_PASS);
	join(router, "to-inside", inside, "eth0");
	forward(router);
	at_router = tcp_listen(router, NULL, PORT, 64);
	at_inside = tcp_listen(inside, NULL, PORT, 64);
	at_client = tcp_listen(product.pair.client, NULL, PORT, 64);
	for (int i = 0; i < 2; i++) {
		all_talk(product.pair.client, behind[i], at_inside, "natively");
		all_talk(inside, clients[i], at_client, "natively, from behind");
	}
	attach(&product, SERVER_IF " to-inside --port 8080");
	for (int i = 0; i < 2; i++) {
		all_talk(product.pair.client, behind[i], at_inside, "with us");
		all_talk(inside, clients[i], at_client, "with us, from behind");
	}
	EXPECT_EQ(counter(&product, "syn_answered"), 0, "answered for somebody else");
	EXPECT_EQ(counter(&product, "service_learned"), 0);
	/* The router's own port, by an address on either side of it, from either side. */
	for (int i = 0; i < 2; i++) {
		answered = counter(&product, "syn_answered");
		all_talk(product.pair.client, server_ip[i], at_router, "the router's own");
		all_talk(product.pair.client, own[i], at_router, "the router's far address");
		all_talk(inside, own[i], at_router, "the router's own, from behind");
		EXPECT(counter(&product, "syn_answered") >= answered + 3 * (TIMES - 4), "%s: %lld answered",
		       family[i], counter(&product, "syn_answered") - answered);
	}
	/* And still what is forwarded is not ours. */
	answered = counter(&product, "syn_answered");
	for (int i = 0; i < 2; i++)
		all_talk(product.pair.client, behind[i], at_inside, "beside admitted services");
	EXPECT_EQ(counter(&product, "syn_answered"), answered);
	close(at_router);
	close(at_inside);
	close(at_client);
}

/*
 *   client ── veth ── server: listens on 8080 ── br0 ── container: listens on 8080
 */
CASE("a container behind a bridge, routed to: it answers its own port")
{
	static const char *const container_ip[] = { "10.88.0.2", "fd88::2" };
	struct product product = product_new(NULL, NULL);
	struct netns *server = product.pair.server, *container = netns_new("container");
	int local, inside;

	netns_veth(server, "port1", NULL, container, "eth0", INSIDE_MAC, NULL);
	netns_must(server, "ip link add br0 address " OUTSIDE_MAC " type bridge && "
			   "ip link set br0 addrgenmode none up && ip link set port1 master br0");
	join(server, "br0", container, "eth0");
	forward(server);
	local = tcp_listen(server, NULL, PORT, 64);
	inside = tcp_listen(container, NULL, PORT, 64);
	for (int i = 0; i < 2; i++)
		all_talk(product.pair.client, container_ip[i], inside, "natively");
	attach(&product, SERVER_IF " --port 8080");
	for (int i = 0; i < 2; i++)
		all_talk(product.pair.client, container_ip[i], inside, "with us");
	EXPECT_EQ(counter(&product, "syn_answered"), 0);
	EXPECT_EQ(counter(&product, "service_learned"), 0);
	for (int i = 0; i < 2; i++)
		all_talk(product.pair.client, server_ip[i], local, "the host's own");
	EXPECT(counter(&product, "syn_answered") > 0, "the host's own port is not answered for");
	close(local);
	close(inside);
}

/*
 *   client ── veth ── veth-server ─ br0 (the host's addresses; listens on 8080)
 *                                    └ port1 ── container, on the same wire: listens on 8080
 */
CASE("the interface is a port of a bridge: the container on it answers for itself, so does the host")
{
	static const char *const container_ip[] = { "10.77.0.7", "fd77::7" };
	struct product product = product_new(NULL, NULL);
	struct netns *server = product.pair.server, *container = netns_new("container");
	long long answered;
	int local, inside;

	netns_veth(server, "port1", NULL, container, "eth0", INSIDE_MAC, NULL);
	netns_must(server, "ip addr flush dev " SERVER_IF " && ip link add br0 address " SERVER_MAC
			   " type bridge && ip link set br0 addrgenmode none up && "
			   "ip link set port1 master br0 && ip link set " SERVER_IF " master br0");
	netns_must(server,
		   "ip addr add " SERVER_IP4 "/24 dev br0 && ip addr add " SERVER_IP6 "/64 dev br0 nodad");
	netns_neighbour(server, "br0", CLIENT_IP4, CLIENT_MAC);
	netns_neighbour(server, "br0", CLIENT_IP6, CLIENT_MAC);
	netns_must(container, "ip addr add 10.77.0.7/24 dev eth0 && ip addr add fd77::7/64 dev eth0 nodad");
	for (int i = 0; i < 2; i++) {
		netns_neighbour(container, "eth0", i ? CLIENT_IP6 : CLIENT_IP4, CLIENT_MAC);
		netns_neighbour(product.pair.client, CLIENT_IF, container_ip[i], INSIDE_MAC);
	}
	local = tcp_listen(server, NULL, PORT, 64);
	inside = tcp_listen(container, NULL, PORT, 64);
	for (int i = 0; i < 2; i++) {
		all_talk(product.pair.client, container_ip[i], inside, "natively");
		all_talk(product.pair.client, server_ip[i], local, "natively");
	}
	attach(&product, SERVER_IF " --port 8080");
	for (int i = 0; i < 2; i++)
		all_talk(product.pair.client, container_ip[i], inside, "with us");
	EXPECT_EQ(counter(&product, "syn_answered"), 0);
	EXPECT_EQ(counter(&product, "service_learned"), 0);
	for (int i = 0; i < 2; i++)
		all_talk(product.pair.client, server_ip[i], local, "the host's own");
	/* Netfilter in the bridge would take the request sockets from what we promote. */
	if (netns_sh(server, "test -e /proc/sys/net/bridge"))
		EXPECT(counter(&product, "syn_answered") > 0, "the host is not answered for");
	else
		EXPECT_EQ(counter(&product, "syn_answered"), 0, "with br_netfilter");
	/* What can always be had: the bridge's own device. */
	product_must(&product, "detach --all --now");
	attach(&product, "br0 --mode generic --port 8080");
	for (int i = 0; i < 2; i++) {
		answered = counter(&product, "syn_answered");
		all_talk(product.pair.client, server_ip[i], local, "the host's own, by br0");
		EXPECT(counter(&product, "syn_answered") > answered, "%s: the host is not answered for",
		       family[i]);
	}
	for (int i = 0; i < 2; i++)
		all_talk(product.pair.client, container_ip[i], inside, "beside an admitted service");
	close(local);
	close(inside);
}

/*
 *   client ── veth ── veth-server: the host listens on 8080, at any address
 *                      └ macvlan in another namespace, with an address and a MAC of its own: listens on
 * 8080
 *
 * What the container sends leaves by veth-server as if it were made here.
 */
CASE("a container on a macvlan of the interface: it answers for itself, though the host listens there, too")
{
	static const char *const container_ip[] = { "10.77.0.7", "fd77::7" };
	struct product product = product_new(NULL, NULL);
	struct netns *server = product.pair.server, *container = netns_new("container");
	int local, inside;

	netns_must(server,
		   "ip link add macvlan0 link " SERVER_IF " address " INSIDE_MAC
		   " type macvlan mode bridge && ip link set macvlan0 netns %s",
		   container->name);
	netns_must(container,
		   "ip link set macvlan0 addrgenmode none up && ip addr add 10.77.0.7/24 dev macvlan0 "
		   "&& ip addr add fd77::7/64 dev macvlan0 nodad");
	for (int i = 0; i < 2; i++) {
		netns_neighbour(container, "macvlan0", i ? CLIENT_IP6 : CLIENT_IP4, CLIENT_MAC);
		netns_neighbour(product.pair.client, CLIENT_IF, container_ip[i], INSIDE_MAC);
	}
	local = tcp_listen(server, NULL, PORT, 64);
	inside = tcp_listen(container, NULL, PORT, 64);
	for (int i = 0; i < 2; i++)
		all_talk(product.pair.client, container_ip[i], inside, "natively");
	attach(&product, SERVER_IF " --port 8080");
	for (int i = 0; i < 2; i++)
		all_talk(product.pair.client, container_ip[i], inside, "with us");
	/* The kernel's own cookies belong to no socket that would tell whose they are. */
	netns_sysctl(server, "net.ipv4.tcp_syncookies", "2");
	netns_sysctl(container, "net.ipv4.tcp_syncookies", "2");
	for (int i = 0; i < 2; i++)
		all_talk(product.pair.client, container_ip[i], inside, "with us, by cookies");
	EXPECT_EQ(counter(&product, "service_learned"), 0);
	EXPECT_EQ(counter(&product, "syn_answered"), 0);
	for (int i = 0; i < 2; i++)
		all_talk(product.pair.client, server_ip[i], local, "the host's own");
	EXPECT(counter(&product, "syn_answered") > 0, "the host's own port is not answered for");
	close(local);
	close(inside);
}

CASE("a macvlan of the interface in the same namespace: its address is served")
{
	static const char *const more[] = { "10.77.0.8", "fd77::8" };
	struct product product = product_new(NULL, NULL);
	struct netns *server = product.pair.server;
	int listener = tcp_listen(server, NULL, PORT, 64);

	netns_must(server,
		   "ip link add macvlan0 link " SERVER_IF " address " INSIDE_MAC
		   " type macvlan mode bridge && ip link set macvlan0 addrgenmode none up && "
		   "ip addr add 10.77.0.8/32 dev macvlan0 && ip addr add fd77::8/128 dev macvlan0 nodad && "
		   "ip rule add from 10.77.0.8 lookup 100 && ip -6 rule add from fd77::8 lookup 100 && "
		   "ip route add " CLIENT_IP4 " dev macvlan0 table 100 && "
		   "ip route add " CLIENT_IP6 " dev macvlan0 table 100");
	for (int i = 0; i < 2; i++) {
		netns_neighbour(server, "macvlan0", i ? CLIENT_IP6 : CLIENT_IP4, CLIENT_MAC);
		netns_neighbour(product.pair.client, CLIENT_IF, more[i], INSIDE_MAC);
		all_talk(product.pair.client, more[i], listener, "natively");
	}
	attach(&product, SERVER_IF " --port 8080");
	for (int i = 0; i < 2; i++)
		all_talk(product.pair.client, more[i], listener, "with us");
	EXPECT(counter(&product, "service_learned") > 0, "its SYN-ACKs leave by another device");
	EXPECT(counter(&product, "syn_answered") > 0, "never answered for");
	close(listener);
}

/* ---- what the stack no longer answers ---- */

CASE("an address removed while attached: its SYNs go unanswered, the other address is served on")
{
	static const char *const more[] = { "10.77.0.20", "fd77::20" };
	struct product product = product_new(NULL, NULL);
	struct netns *server = product.pair.server;
	int listener = tcp_listen(server, NULL, PORT, 1024);
	struct wire *wire = wire_open(product.pair.client, CLIENT_IF);
	long long answered;

	for (int i = 0; i < 2; i++) {
		netns_neighbour(product.pair.client, CLIENT_IF, more[i], SERVER_MAC);
		netns_must(server, "ip addr add %s/%d dev " SERVER_IF "%s", more[i], i ? 64 : 24,
			   i ? " nodad" : "");
		all_talk(product.pair.client, more[i], listener, "natively");
		netns_must(server, "ip addr del %s/%d dev " SERVER_IF, more[i], i ? 64 : 24);
		EXPECT(!syn_gets_answer(wire, 3, more[i]), "%s: answered natively after removal",
		       family[i]);
		netns_must(server, "ip addr add %s/%d dev " SERVER_IF "%s", more[i], i ? 64 : 24,
			   i ? " nodad" : "");
	}
	attach(&product, SERVER_IF " --port 8080");
	for (int i = 0; i < 2; i++) {
		int64_t last;

		all_talk(product.pair.client, more[i], listener, "with us");
		all_talk(product.pair.client, server_ip[i], listener, "with us");
		netns_must(server, "ip addr del %s/%d dev " SERVER_IF, more[i], i ? 64 : 24);
		last = last_answer(wire, 3, more[i], NOTICED_MS + 1000);
		EXPECT(last < NOTICED_MS, "%s: still answered after %lld ms", family[i], (long long)last);
		printf("# %s: an address removed was answered for %lld ms longer\n", family[i],
		       (long long)last);
		answered = counter(&product, "syn_answered");
		EXPECT(last_answer(wire, 3, more[i], 300) < 0);
		EXPECT_EQ(counter(&product, "syn_answered"), answered, "SYNs to an address that is gone");
		/* Nobody else has noticed anything. */
		all_talk(product.pair.client, server_ip[i], listener, "beside an address removed");
		EXPECT(counter(&product, "syn_answered") > answered,
		       "the other address is not answered for");
		/* It comes back: served at once, and before long by the driver. */
		netns_must(server, "ip addr add %s/%d dev " SERVER_IF "%s", more[i], i ? 64 : 24,
			   i ? " nodad" : "");
		all_talk(product.pair.client, more[i], listener, "after its return");
		EXPECT(ours_again(&product, more[i], listener), "%s: not answered for after its return",
		       family[i]);
	}
	wire_close(wire);
	close(listener);
}

/* Whether a SYN from that source gets an answer that leaves by the wire. */
static bool source_gets_answer(struct wire *wire, const char *source, int to)
{
	static uint16_t port = 30000;
	struct hand hand = hand_new(wire, 1, port++, server_ip[to], PORT, true);
	struct tcp_frame frame;

	hand.spec.saddr = ip(source);
	wire_send(wire, &hand.spec);
	return wire_recv_flags(wire, &hand.spec, SYN | ACK, RST, 50, &frame);
}

/* By which a flood's SYNs are told from the host's own addresses, nearly all of them (abi.h). */
static bool ends_as_own(const struct product *product, const char *address)
{
	struct address parsed = { .word[3] = ip(address).v4.s_addr };
	const int fd = product_pin(product, "settings");
	const __u32 zero = 0;
	struct settings set;

	REQUIRE(!bpf_map_lookup_elem(fd, &zero, &set), "%s", strerror(errno));
	close(fd);
	return set.own_ends & own_end(&parsed);
}

/* An address of the host, as the source of SYNs from outside. */
CASE("SYNs from another address of the host's own: never answered, as natively, and those that come later "
     "soon")
{
	static const char *const own[] = { "10.77.8.1", "fd77:8::1" }, *const late[] = { "10.77.9.1",
											 "fd77:9::1" };
	struct product product = product_new(NULL, NULL);
	struct netns *server = product.pair.server;
	int listener = tcp_listen(server, NULL, PORT, 1024);
	struct wire *wire = wire_open(product.pair.client, CLIENT_IF);
	pid_t run;

	for (int i = 0; i < 2; i++) {
		netns_must(server, "ip addr add %s/%d dev " SERVER_IF "%s", own[i], i ? 64 : 24,
			   i ? " nodad" : "");
		EXPECT(!source_gets_answer(wire, own[i], i), "%s: answered natively", own[i]);
		/* These are somebody else's still, behind the client. */
		netns_must(server, "ip route add %s/%d via %s dev " SERVER_IF, late[i], i ? 128 : 32,
			   i ? CLIENT_IP6 : CLIENT_IP4);
		EXPECT(source_gets_answer(wire, late[i], i), "%s: not answered natively", late[i]);
	}
	run = netns_spawn(server, "/dev/null",
			  PROGRAM " run " SERVER_IF
				  " --port 8080 --firewall-checked --turn 1 --pin-path %s",
			  product.pins);
	REQUIRE(WAIT_FOR(!product_run(&product, "status") && strstr(netns_said(), "answering"), 20000),
		"%s", netns_said());
	for (int i = 0; i < 2; i++) {
		const long long passed = counter(&product, "syn_passed_source");
		long long answered, passed_peer;

		product_admit(&product, server_ip[i], PORT);
		answered = counter(&product, "syn_answered");
		EXPECT(!source_gets_answer(wire, own[i], i), "%s: answered", own[i]);
		EXPECT_EQ(counter(&product, "syn_passed_source"), passed + 1, "%s", own[i]);
		EXPECT_EQ(counter(&product, "syn_answered"), answered, "%s", own[i]);
		EXPECT(source_gets_answer(wire, late[i], i), "%s: not answered", late[i]);
		EXPECT_EQ(counter(&product, "syn_passed_source"), passed + 1, "%s", late[i]);
		netns_must(server, "ip addr add %s/%d dev " SERVER_IF "%s", late[i], i ? 64 : 24,
			   i ? " nodad" : "");
		/* Not by a canary's fate. */
		EXPECT(WAIT_FOR(!source_gets_answer(wire, late[i], i) &&
					counter(&product, "syn_passed_source") > passed + 1,
				4000),
		       "%s: still answered", late[i]);
		EXPECT(!source_gets_answer(wire, late[i], i), "%s: answered", late[i]);
		/* A point-to-point peer is another host, and its SYNs are answered. */
		if (!i) {
			netns_must(server, "ip addr add 10.77.10.1 peer 10.77.10.2/32 dev " SERVER_IF);
			passed_peer = counter(&product, "syn_passed_source");
			poll(NULL, 0, 2200); /* two turns */
			source_gets_answer(wire, "10.77.10.2", i);
			EXPECT_EQ(counter(&product, "syn_passed_source"), passed_peer, "the peer");
		}
		/* And when it is another host's again, that one is served. */
		netns_must(server, "ip addr del %s/%d dev " SERVER_IF, late[i], i ? 64 : 24);
		EXPECT(WAIT_FOR(source_gets_answer(wire, late[i], i), 4000), "%s: not answered", late[i]);
	}
	netns_must(server, "ip addr add 10.77.11.37/32 dev lo");
	EXPECT(WAIT_FOR(ends_as_own(&product, "10.77.11.37"), 4000));
	EXPECT(ends_as_own(&product, own[0]));
	netns_must(server, "ip addr del 10.77.11.37/32 dev lo");
	EXPECT(WAIT_FOR(!ends_as_own(&product, "10.77.11.37"), 4000));
	EXPECT(ends_as_own(&product, own[0]));
	/* With many more of them, and again without, their filter is of another size. */
	for (int many = 1; many >= 0; many--) {
		netns_must(server,
			   "for n in $(seq 250); do echo addr %s 10.88.0.$n/32 dev lo; done | ip -batch -",
			   many ? "add" : "del");
		poll(NULL, 0, 2200); /* two turns */
		for (int i = 0; i < 2; i++) {
			const long long passed = counter(&product, "syn_passed_source");

			EXPECT(!source_gets_answer(wire, own[i], i), "%s: answered", own[i]);
			EXPECT_EQ(counter(&product, "syn_passed_source"), passed + 1, "%s", own[i]);
		}
		for (int n = 10; n <= 250; n += 60) {
			const long long passed = counter(&product, "syn_passed_source");
			char address[32];

			snprintf(address, sizeof(address), "10.88.0.%d", n);
			source_gets_answer(wire, address, 0);
			EXPECT_EQ(counter(&product, "syn_passed_source"), passed + many, "%s, %s", address,
				  many ? "the host's own" : "which was the host's own");
		}
	}
	EXPECT_EQ(netns_stop(run, SIGTERM, 3000), 0, "run at SIGTERM");
	wire_close(wire);
	close(listener);
}

/* A way to sources that is not the one their SYNs come by. */
static void elsewhere(const struct product *product)
{
	struct netns *nobody = netns_new("nobody");

	netns_veth(product->pair.server, "elsewhere", NULL, nobody, "eth0", NULL, NULL);
	netns_must(product->pair.server, "ip addr add 10.66.0.1/24 dev elsewhere && "
					 "ip addr add fd66::1/64 dev elsewhere nodad");
}

CASE("strict rp_filter: a source that fails it is not answered once a canary knows; others are served on")
{
	static const char *const source_net[] = { FAKE_NET4, FAKE_NET6 };
	struct product product = product_new(NULL, NULL);
	struct netns *server = product.pair.server;
	int listener = tcp_listen(server, NULL, PORT, 1024), accepted;
	struct wire *wire = wire_open(product.pair.client, CLIENT_IF);

	elsewhere(&product);
	/* IPv6 has no such sysctl; this is how it is done there. */
	netns_sysctl(server, "net.ipv4.conf." SERVER_IF ".rp_filter", "1");
	netns_must(
		server,
		"nft 'add table ip6 f; add chain ip6 f p { type filter hook prerouting priority -300; }; "
		"add rule ip6 f p fib saddr . iif oif missing drop'");
	for (int i = 0; i < 2; i++) {
		EXPECT(syn_gets_answer(wire, 3, server_ip[i]), "%s: not answered natively", family[i]);
		netns_must(server, "ip route replace %s dev elsewhere", source_net[i]);
		EXPECT(!syn_gets_answer(wire, 3, server_ip[i]), "%s: answered natively though it fails",
		       family[i]);
	}

	/* Alone it teaches us nothing. */
	attach(&product, SERVER_IF " --port 8080");
	for (int i = 0; i < 2; i++)
		EXPECT(last_answer(wire, 3, server_ip[i], 500) < 0, "%s: answered", family[i]);
	EXPECT_EQ(counter(&product, "service_learned"), 0);

	for (int i = 0; i < 2; i++) {
		int64_t last;
		struct hand hand;

		/* Where others are served it gets a SYN-ACK, but no connection. */
		all_talk(product.pair.client, server_ip[i], listener, "beside a source that fails");
		hand = hand_new(wire, 3, 30000, server_ip[i], PORT, true);
		if (EXPECT(hand_syn(&hand), "%s: a difference less: the README names it", family[i])) {
			hand.spec = hand_data(&hand, 0, "ping", 4);
			wire_send(wire, &hand.spec);
			accepted = tcp_accept(listener, 200);
			EXPECT(accepted < 0, "%s: a source that fails got a connection", family[i]);
			EXPECT(wire_silent(wire, &hand.spec, 100), "%s: %s", family[i], wire_last(wire));
		}
		/* When only such sources come, that is noticed. */
		last = last_answer(wire, 3, server_ip[i], NOTICED_MS + 1000);
		EXPECT(last < NOTICED_MS, "%s: still answered after %lld ms", family[i], (long long)last);
		printf("# %s: a source that fails rp_filter was answered for %lld ms\n", family[i],
		       (long long)last);
		/* Others do not notice, neither now nor while such SYNs keep coming. */
		all_talk(product.pair.client, server_ip[i], listener, "after SYNs of a source that fails");
		for (int j = 0; j < 8; j++) {
			for (int k = 0; k < 5; k++)
				syn_gets_answer(wire, 3, server_ip[i]);
			EXPECT(talks(product.pair.client, server_ip[i], listener), "%s: connection %d",
			       family[i], j);
		}
		EXPECT(ours_again(&product, server_ip[i], listener), "%s: no longer admitted", family[i]);
	}
	wire_close(wire);
	close(listener);
}

/* A route to one source that leads nowhere, set while the service is admitted. */
static void dead_route(const char *kind)
{
	static const char *const source[] = { FAKE_IP4 "5/32", FAKE_IP6 "5/128" };
	struct product product = product_new(NULL, NULL);
	struct netns *server = product.pair.server;
	int listener = tcp_listen(server, NULL, PORT, 1024);
	struct wire *wire = wire_open(product.pair.client, CLIENT_IF);
	struct tcp_frame frame;
	struct hand hand;

	for (int i = 0; i < 2; i++) {
		EXPECT(syn_gets_answer(wire, 5, server_ip[i]), "%s: not answered natively", family[i]);
		netns_must(server, "ip route add %s %s", kind, source[i]);
		hand = hand_new(wire, 5, 29000, server_ip[i], PORT, true);
		wire_send(wire, &hand.spec);
		EXPECT(!wire_recv(wire, &hand.spec, 200, &frame), "%s: natively answered: %s", family[i],
		       frame_text(&frame));
		netns_must(server, "ip route del %s %s", kind, source[i]);
	}
	attach(&product, SERVER_IF " --port 8080");
	for (int i = 0; i < 2; i++) {
		long long answered;
		int accepted;

		all_talk(product.pair.client, server_ip[i], listener, "before");
		netns_must(server, "ip route add %s %s", kind, source[i]);
		/* That client believes that it is connected, and hears no more: neither data nor a reset.
		 */
		hand = hand_new(wire, 5, 30000, server_ip[i], PORT, true);
		EXPECT(hand_syn(&hand), "%s: a difference less: the README names it", family[i]);
		hand.spec = hand_data(&hand, 0, "ping", 4);
		wire_send(wire, &hand.spec);
		accepted = tcp_accept(listener, 100);
		EXPECT(accepted < 0, "%s: accepted", family[i]);
		EXPECT(wire_silent(wire, &hand.spec, 100), "%s: %s", family[i], wire_last(wire));
		/* The others: served, and by the driver, though that client's SYNs be canaries. */
		answered = counter(&product, "syn_answered");
		for (int j = 0; j < 30; j++)
			syn_gets_answer(wire, 5, server_ip[i]);
		all_talk(product.pair.client, server_ip[i], listener, "beside a source with such a route");
		EXPECT(counter(&product, "syn_answered") >= answered + TIMES / 2, "%s: not admitted",
		       family[i]);
		EXPECT(admitted(&product, server_ip[i]), "%s: not admitted", family[i]);
	}
	wire_close(wire);
	close(listener);
}

CASE("a blackhole route to one source: the others are served on")
{
	dead_route("blackhole");
}

CASE("a prohibit route to one source: the others are served on")
{
	dead_route("prohibit");
}

CASE("an unreachable route to one source: the others are served on")
{
	dead_route("unreachable");
}

/* ---- replies that take another way ---- */

#define SECOND_CLIENT_MAC "02:77:00:00:02:02"
#define SECOND_SERVER_MAC "02:77:00:00:02:01"

/*
 *   client ── veth-client ───── veth-server ── server
 *        └─── second-client ── second-server ───┘
 */
static void second_wire(const struct product *product)
{
	netns_veth(product->pair.client, "second-client", SECOND_CLIENT_MAC, product->pair.server,
		   "second-server", SECOND_SERVER_MAC, NULL);
	netns_xdp(product->pair.client, "second-client", XDP_PASS);
	netns_neighbour(product->pair.server, "second-server", CLIENT_IP4, SECOND_CLIENT_MAC);
	netns_neighbour(product->pair.server, "second-server", CLIENT_IP6, SECOND_CLIENT_MAC);
}

/* @divert: a command of the server's that makes replies leave by the second wire; both interfaces are ours.
 */
static void other_device(const char *divert)
{
	struct product product = product_new(NULL, NULL);
	int listener = tcp_listen(product.pair.server, NULL, PORT, 64);

	second_wire(&product);
	netns_must(product.pair.server, "%s", divert);
	for (int i = 0; i < 2; i++)
		all_talk(product.pair.client, server_ip[i], listener, "natively");
	attach(&product, SERVER_IF " second-server --port 8080");
	for (int i = 0; i < 2; i++)
		all_talk(product.pair.client, server_ip[i], listener, "with us");
	never_ours(&product);
	close(listener);
}

CASE("a reply route out of another device: never admitted, served natively")
{
	other_device("ip route add " CLIENT_IP4 "/32 dev second-server && "
		     "ip route add " CLIENT_IP6 "/128 dev second-server");
}

CASE("policy routing by source address sends replies out of another device: never admitted, served "
     "natively")
{
	other_device("ip rule add from " SERVER_IP4 " lookup 100 && ip -6 rule add from " SERVER_IP6
		     " lookup 100 && ip route add " CLIENT_IP4 " dev second-server table 100 && "
		     "ip route add " CLIENT_IP6 " dev second-server table 100");
}

CASE("policy routing by source port sends replies out of another device: never admitted, served natively")
{
	other_device("ip rule add ipproto tcp sport 8080 lookup 100 && "
		     "ip -6 rule add ipproto tcp sport 8080 lookup 100 && ip route add " CLIENT_IP4
		     " dev second-server table 100 && "
		     "ip route add " CLIENT_IP6 " dev second-server table 100");
}

CASE("a reply route moves to another device while admitted: every connection works, and we step back")
{
	static const char *const client_ip[] = { CLIENT_IP4 "/32", CLIENT_IP6 "/128" };
	struct product product = product_new(NULL, NULL);
	int listener = tcp_listen(product.pair.server, NULL, PORT, 64);

	second_wire(&product);
	attach(&product, SERVER_IF " --port 8080");
	for (int i = 0; i < 2; i++) {
		int64_t begin;
		long long answered;

		all_talk(product.pair.client, server_ip[i], listener, "before");
		EXPECT(admitted(&product, server_ip[i]), "%s: not admitted", family[i]);
		netns_must(product.pair.server, "ip route add %s dev second-server", client_ip[i]);
		begin = now_ms();
		while (now_ms() < begin + NOTICED_MS) {
			REQUIRE(talks(product.pair.client, server_ip[i], listener), "%s: after %lld ms",
				family[i], (long long)(now_ms() - begin));
			poll(NULL, 0, 30);
		}
		answered = counter(&product, "syn_answered");
		all_talk(product.pair.client, server_ip[i], listener, "after");
		EXPECT_EQ(counter(&product, "syn_answered"), answered, "%s: still answered", family[i]);
		netns_must(product.pair.server, "ip route del %s dev second-server", client_ip[i]);
		all_talk(product.pair.client, server_ip[i], listener, "after its return");
		EXPECT(ours_again(&product, server_ip[i], listener), "%s: not admitted again", family[i]);
	}
	close(listener);
}

/*
 * What a server sees of a direct-return balancer: frames to it come from the balancer's MAC, replies go to
 * the gateway's, here the client's. The client's frames leave by a macvlan with a MAC of its own.
 */
CASE("a direct-return balancer in front: never admitted, served natively")
{
	struct product product = product_new(NULL, NULL);
	int listener = tcp_listen(product.pair.server, NULL, PORT, 64);
	long long answered;

	netns_must(product.pair.client,
		   "ip link add balancer link " CLIENT_IF
		   " address 02:77:00:00:00:99 type macvlan mode bridge && "
		   "ip link set balancer addrgenmode none up && ip route add " SERVER_IP4
		   "/32 dev balancer src " CLIENT_IP4 " && ip route add " SERVER_IP6
		   "/128 dev balancer src " CLIENT_IP6);
	netns_neighbour(product.pair.client, "balancer", SERVER_IP4, SERVER_MAC);
	netns_neighbour(product.pair.client, "balancer", SERVER_IP6, SERVER_MAC);
	for (int i = 0; i < 2; i++)
		all_talk(product.pair.client, server_ip[i], listener, "natively");
	attach(&product, SERVER_IF " --port 8080 --canary 1");
	for (int i = 0; i < 2; i++)
		all_talk(product.pair.client, server_ip[i], listener, "with us");
	never_ours(&product);
	EXPECT(counter(&product, "canary_other_way") > 0, "no canary has shown the other way");
	/* Seconds later, too. */
	answered = counter(&product, "canary_other_way");
	REQUIRE(WAIT_FOR(talks(product.pair.client, SERVER_IP4, listener) &&
				 counter(&product, "canary_other_way") >= answered + 3,
			 8000));
	never_ours(&product);
	/* The balancer is taken away. */
	netns_must(product.pair.client, "ip link del balancer");
	REQUIRE(WAIT_FOR(talks(product.pair.client, SERVER_IP4, listener) &&
				 counter(&product, "syn_answered") > 0,
			 8000),
		"never admitted again");
	close(listener);
}

int main(int argc, char **argv)
{
	return report_main(argc, argv, NULL);
}
