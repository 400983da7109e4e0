// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Guard: segments that belong to no connection end in the driver; whatever belongs to one does not. */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../lib/batch.h"
#include "product.h"

enum {
	PORT = 8080,
};

static const char *const servers[] = { SERVER_IP4, SERVER_IP6 };

/* A segment of no connection. */
static struct tcp_spec orphan(struct wire *wire, const char *server, int n, uint16_t flags)
{
	struct hand hand = hand_new(wire, n, (uint16_t)(40000 + n), server, PORT, true);

	hand.spec.flags = flags;
	hand.spec.ack = flags & ACK ? 123456789 : 0;
	hand.spec.options = options_none();
	return hand.spec;
}

/* False: IPv4 has none. */
static bool put_headers(struct tcp_spec *spec)
{
	static const uint8_t padding[8] = { IPPROTO_DSTOPTS, 0, 1, 4 };

	if (spec->saddr.family == AF_INET)
		return false;
	spec->ip_options_type = IPPROTO_DSTOPTS;
	for (int i = 0; i < 5; i++, spec->ip_options_len += sizeof(padding))
		memcpy(spec->ip_options + spec->ip_options_len, padding, sizeof(padding));
	spec->ip_options[spec->ip_options_len - sizeof(padding)] = IPPROTO_TCP;
	return true;
}

CASE("on: ACK, FIN, RST and SYN-ACK of no connection end in the driver; off: the stack answers them as "
     "ever")
{
	static const struct {
		const char *name;
		uint16_t flags;
		bool answered; /* by the stack, with an RST */
		const char *counter;
		enum {
			BARE,
			TAGGED,	 /* with a tag that names no VLAN, and which the stack takes off */
			HEADERS, /* behind more extension headers than anybody needs */
		} wrapped;
	} kinds[] = {
		{ "ACK", ACK, true, "ack_dropped_guard", BARE },
		{ "ACK with FIN", ACK | FIN, true, "ack_dropped_guard", BARE },
		{ "ACK with PSH", ACK | PSH, true, "ack_dropped_guard", BARE },
		{ "FIN alone", FIN, false, "stray_dropped_guard", BARE },
		{ "RST", RST, false, "stray_dropped_guard", BARE },
		{ "RST with ACK", RST | ACK, false, "stray_dropped_guard", BARE },
		{ "SYN-ACK", SYN | ACK, true, "stray_dropped_guard", BARE },
		{ "ACK with a priority tag", ACK, true, "stray_dropped_guard", TAGGED },
		{ "RST with a priority tag", RST, false, "stray_dropped_guard", TAGGED },
		{ "ACK behind extension headers", ACK, true, "stray_dropped_guard", HEADERS },
	};
	struct product product = product_new(NULL, "--port 8080 --guard on");
	int listener = tcp_listen(product.pair.server, NULL, PORT, 64), n = 1;
	struct wire *wire = wire_open(product.pair.client, CLIENT_IF);
	struct tcp_frame reset;

	for (int s = 0; s < 2; s++)
		product_admit(&product, servers[s], PORT);
	for (int on = 1; on >= 0; on--) {
		for (int s = 0; s < 2; s++)
			for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
				struct tcp_spec spec = orphan(wire, servers[s], n++, kinds[i].flags);
				const long long before = counter(&product, kinds[i].counter);

				spec.vlans = kinds[i].wrapped == TAGGED;
				if (kinds[i].wrapped == HEADERS && !put_headers(&spec))
					continue;
				wire_send(wire, &spec);
				if (on || !kinds[i].answered)
					EXPECT(wire_silent(wire, &spec, 40), "%s, guard %s: %s",
					       kinds[i].name, on ? "on" : "off", wire_last(wire));
				else
					EXPECT(wire_recv_flags(wire, &spec, RST, 0, 1000, &reset),
					       "%s, guard off: no RST", kinds[i].name);
				EXPECT_EQ(counter(&product, kinds[i].counter), before + on, "%s",
					  kinds[i].name);
			}
		if (on)
			product_must(&product, "set *:8080 guard=off");
	}
	EXPECT_EQ(product_run(&product, "set *:8080 guard=maybe"), 2);
	wire_close(wire);
	close(listener);
}

CASE("auto: a stale peer gets its RST in calm times, a flood of ACKs gets none")
{
	struct product product = product_new(NULL, "--port 8080 --guard-rate 500");
	int listener = tcp_listen(product.pair.server, NULL, PORT, 512), n = 1;
	struct wire *wire = wire_open(product.pair.client, CLIENT_IF);
	long long dropped;
	struct tcp_spec spec;
	struct tcp_frame reset;
	pid_t flood;

	product_admit(&product, SERVER_IP4, PORT);
	spec = orphan(wire, SERVER_IP4, n++, ACK);
	wire_send(wire, &spec);
	EXPECT(wire_recv_flags(wire, &spec, RST, 0, 1000, &reset), "calm: no RST");
	EXPECT_EQ(counter(&product, "ack_dropped_guard"), 0);

	flood = netns_spawn(product.pair.client, "/dev/null",
			    "build/tests/tools/flood --iface " CLIENT_IF
			    " --src 10.77.1.0/24 --dst " SERVER_IP4
			    " --dport %d --rate 50000 --seconds 3 --ack",
			    PORT);
	EXPECT(WAIT_FOR(counter(&product, "ack_dropped_guard") > 10000, 3000));
	tcp_accept_all(listener);
	/* Whoever connects meanwhile does so, and talks. */
	for (int i = 0; i < 50; i++) {
		int client = tcp_connect(product.pair.client, SERVER_IP4, PORT, 3000);
		int server = tcp_accept(listener, 1000);
		char byte;

		EXPECT(client >= 0 && server >= 0, "connection %d: %s", i, strerror(errno));
		EXPECT(write(client, "x", 1) == 1 && tcp_read(server, &byte, 1, 1000) == 1);
		close(client);
		close(server);
	}
	netns_stop(flood, 0, 5000);
	dropped = counter(&product, "ack_dropped_guard");
	/* A flood of the second before still counts; then it is calm again. */
	poll(NULL, 0, 2300);
	wire_drain(wire);
	spec = orphan(wire, SERVER_IP4, n++, ACK);
	wire_send(wire, &spec);
	EXPECT(wire_recv_flags(wire, &spec, RST, 0, 1000, &reset), "after the flood: no RST");
	EXPECT_EQ(counter(&product, "ack_dropped_guard"), dropped);
	wire_close(wire);
	close(listener);
}

/* Data both ways, and both closings, on a connection that is there. */
static void expect_alive(int client, int server, const char *what)
{
	char bytes[8];

	EXPECT(write(client, "to", 2) == 2 && tcp_read(server, bytes, 2, 2000) == 2, "%s", what);
	EXPECT(write(server, "fro", 3) == 3 && tcp_read(client, bytes, 3, 2000) == 3, "%s", what);
	shutdown(client, SHUT_WR);
	EXPECT_EQ(tcp_read(server, bytes, 1, 2000), 0, "%s", what);
	shutdown(server, SHUT_WR);
	EXPECT_EQ(tcp_read(client, bytes, 1, 2000), 0, "%s", what);
	close(client);
	close(server);
}

CASE("connections of before, and those that the kernel's own cookies make, lose nothing")
{
	struct product product = product_new(NULL, NULL);
	int listener = tcp_listen(product.pair.server, NULL, PORT, 512), client[2][20], server[2][20];
	char arguments[160];

	netns_must(product.pair.server,
		   "ip link set dev " SERVER_IF " gso_max_segs 1"); /* each segment for itself */
	for (int s = 0; s < 2; s++)
		for (int i = 0; i < 20; i++) {
			client[s][i] = tcp_connect(product.pair.client, servers[s], PORT, 1000);
			server[s][i] = tcp_accept(listener, 1000);
			REQUIRE(client[s][i] >= 0 && server[s][i] >= 0);
		}
	snprintf(arguments, sizeof(arguments),
		 "attach " SERVER_IF " --port 8080 --guard on --firewall-checked");
	product_must(&product, arguments);
	for (int s = 0; s < 2; s++)
		for (int i = 0; i < 10; i++)
			expect_alive(client[s][i], server[s][i], "made before attach");

	/* Now every SYN gets a cookie of the kernel's, and nothing marks where it went. */
	netns_sysctl(product.pair.server, "net.ipv4.tcp_syncookies", "2");
	for (int s = 0; s < 2; s++)
		for (int i = 0; i < 10; i++) {
			int new_client, new_server;

			new_client = tcp_connect(product.pair.client, servers[s], PORT, 1000);
			new_server = tcp_accept(listener, 1000);
			REQUIRE(new_client >= 0 && new_server >= 0, "%s: %s", servers[s], strerror(errno));
			expect_alive(new_client, new_server, "made by the kernel's cookie");
		}
	for (int s = 0; s < 2; s++)
		for (int i = 10; i < 20; i++)
			expect_alive(client[s][i], server[s][i], "made before attach, later");
	EXPECT_EQ(counter(&product, "ack_dropped_guard"), 0);
	EXPECT_EQ(counter(&product, "stray_dropped_guard"), 0);
	close(listener);
}

CASE("a client that resets right behind its ACK: the server hears of it")
{
	struct product product = product_new(NULL, "--port 8080 --guard on --canary once");
	int listener = tcp_listen(product.pair.server, NULL, PORT, 64), fd;
	struct wire *wire = wire_open(product.pair.client, CLIENT_IF);
	struct batch *batch = batch_open(product.pair.client, CLIENT_IF);

	for (int s = 0; s < 2; s++) {
		struct hand hand;
		struct tcp_spec reset;

		product_admit(&product, servers[s], PORT);
		tcp_accept_all(listener);
		hand = hand_new(wire, 6, (uint16_t)(34000 + s), servers[s], PORT, true);
		REQUIRE(hand_syn(&hand));
		reset = hand.spec;
		reset.flags = RST;
		batch_add(batch, &hand.spec);
		batch_add(batch, &reset);
		batch_send(batch);
		fd = tcp_accept(listener, 1000);
		/* Natively it is accepted, and found reset; or it is gone before. */
		EXPECT(fd < 0 || WAIT_FOR(tcp_is_reset(fd), 1000), "%s: the server keeps what is dead",
		       servers[s]);
		close(fd);
	}
	EXPECT_EQ(counter(&product, "stray_dropped_guard"), 0);
	batch_close(batch);
	wire_close(wire);
	close(listener);
}

/* Connects from the namespace, from a port of its own choice. */
static int connect_from(const struct netns *ns, int port, const char *address, int to)
{
	struct sockaddr_in from = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	struct sockaddr_in peer = { .sin_family = AF_INET, .sin_port = htons((uint16_t)to) };
	int fd, on = 1;

	netns_enter(ns);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	netns_enter(NULL);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	inet_pton(AF_INET, address, &peer.sin_addr);
	if (bind(fd, (struct sockaddr *)&from, sizeof(from)) ||
	    connect(fd, (struct sockaddr *)&peer, sizeof(peer))) {
		close(fd);
		return -1;
	}
	return fd;
}

CASE("what is masqueraded to the host's address and a protected port is nobody's orphan")
{
	struct product product = product_new(NULL, "--port 8080 --guard on");
	struct netns *inside = netns_new("inside");
	int listener = tcp_listen(product.pair.server, NULL, PORT, 64), far, near;
	pid_t turning;

	netns_veth(product.pair.server, "to-inside", NULL, inside, "eth0", NULL, NULL);
	netns_must(product.pair.server, "ip addr add 172.31.0.1/24 dev to-inside");
	netns_must(inside, "ip addr add 172.31.0.2/24 dev eth0 && ip route add default via 172.31.0.1");
	netns_sysctl(product.pair.server, "net.ipv4.ip_forward", "1");
	product_admit(&product, SERVER_IP4, PORT);
	netns_must(product.pair.server,
		   "nft 'add table ip n; add chain ip n p { type nat hook postrouting priority 100; }; "
		   "add rule ip n p oifname " SERVER_IF " masquerade'");
	far = tcp_listen(product.pair.client, NULL, 9000, 64);
	near = connect_from(inside, PORT, CLIENT_IP4, 9000);
	REQUIRE(near >= 0, "%s", strerror(errno));
	far = tcp_accept(far, 1000);
	REQUIRE(far >= 0);
	/* The filter forgets, but for what goes on. */
	turning = netns_spawn(product.pair.server, "/dev/null",
			      PROGRAM " run " SERVER_IF
				      " --port 8080 --turn 1 --firewall-checked --pin-path %s",
			      product.pins);
	for (int i = 0; i < 4; i++) {
		char bytes[4];

		poll(NULL, 0, 1100);
		EXPECT(write(near, "to", 2) == 2 && tcp_read(far, bytes, 2, 2000) == 2, "second %d", i);
		EXPECT(write(far, "fro", 3) == 3 && tcp_read(near, bytes, 3, 2000) == 3, "second %d", i);
	}
	EXPECT_EQ(counter(&product, "ack_dropped_guard"), 0);
	EXPECT_EQ(counter(&product, "stray_dropped_guard"), 0);
	netns_stop(turning, SIGTERM, 2000);
	close(near);
	close(far);
	close(listener);
}

CASE("the ACK to a kernel cookie of before the programs knew its tuple is let pass")
{
	struct product product = product_new(NULL, NULL);
	int listener = tcp_listen(product.pair.server, NULL, PORT, 512), fd;
	struct wire *wire = wire_open(product.pair.client, CLIENT_IF);

	netns_sysctl(product.pair.server, "net.ipv4.tcp_syncookies", "2");
	for (int s = 0; s < 2; s++) {
		struct hand hand = hand_new(wire, 5, (uint16_t)(33000 + s), servers[s], PORT, true);

		/* Answered natively, with a cookie: the stack keeps nothing that attach could find. */
		REQUIRE(hand_syn(&hand), "%s: no SYN-ACK", servers[s]);
		product_must(&product, "attach " SERVER_IF " --port 8080 --guard on --firewall-checked");
		netns_sysctl(product.pair.server, "net.ipv4.tcp_syncookies", "1");
		product_admit(&product, servers[s], PORT);
		tcp_accept_all(listener);
		wire_send(wire, &hand.spec);
		fd = tcp_accept(listener, 1000);
		EXPECT(fd >= 0, "%s: the kernel's cookie is not let pass", servers[s]);
		close(fd);
		netns_sysctl(product.pair.server, "net.ipv4.tcp_syncookies", "2");
		product_must(&product, "detach " SERVER_IF " --now");
	}
	wire_close(wire);
	close(listener);
}

int main(int argc, char **argv)
{
	return report_main(argc, argv, NULL);
}
