// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* What is not ours goes where it always went: other ports, closed ports, other protocols, other owners. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <arpa/inet.h>

#include <bpf/bpf.h>

#include "product.h"

enum {
	PORT = 8080,
	OTHER = 8081,
};

CASE("a protected port on which nothing listens refuses, as do closed ports beside it")
{
	struct product product = product_new(NULL, "--port 8080,8082");
	static const char *const addresses[] = { SERVER_IP4, SERVER_IP6 };

	for (int i = 0; i < 4; i++) {
		int64_t begin = now_ms();
		int fd = tcp_connect(product.pair.client, addresses[i & 1], i < 2 ? 8082 : 8083, 2000);

		EXPECT(fd < 0 && errno == ECONNREFUSED, "port %d of %s: %s", i < 2 ? 8082 : 8083,
		       addresses[i & 1], fd < 0 ? strerror(errno) : "connected");
		EXPECT(now_ms() - begin < 500, "the refusal took %lld ms", (long long)(now_ms() - begin));
	}
	EXPECT_EQ(counter(&product, "syn_received"), 2);
	EXPECT_EQ(counter(&product, "syn_passed_not_learned"), 2);
}

CASE("a listener that closes refuses at once, and one that opens again is answered for again")
{
	struct product product = product_new(NULL, "--port 8080 --canary once");
	int listener = tcp_listen(product.pair.server, NULL, PORT, 64), fd;
	long long before;

	product_admit(&product, SERVER_IP4, PORT);
	tcp_accept_all(listener);
	close(listener);
	fd = tcp_connect(product.pair.client, SERVER_IP4, PORT, 2000);
	EXPECT(fd < 0 && errno == ECONNREFUSED, "%s",
	       fd < 0 ? strerror(errno) : "connected to a closed port");
	EXPECT_EQ(counter(&product, "syn_passed_listener_gone"), 1);
	listener = tcp_listen(product.pair.server, NULL, PORT, 64);
	fd = tcp_connect(product.pair.client, SERVER_IP4, PORT, 2000);
	EXPECT(fd >= 0, "%s", strerror(errno));
	close(fd);
	before = counter(&product, "syn_answered");
	fd = tcp_connect(product.pair.client, SERVER_IP4, PORT, 2000);
	EXPECT(fd >= 0, "%s", strerror(errno));
	close(fd);
	EXPECT_EQ(counter(&product, "syn_answered"), before + 1, "the new listener is not answered for");
	close(listener);
}

CASE("other ports, UDP and ICMP are untouched")
{
	struct product product = product_new(NULL, "--port 8080");
	int listener = tcp_listen(product.pair.server, NULL, OTHER, 64), fd, udp[2];
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(PORT) };
	char word[8];

	fd = tcp_connect(product.pair.client, SERVER_IP4, OTHER, 2000);
	EXPECT(fd >= 0, "port %d: %s", OTHER, strerror(errno));
	close(fd);
	inet_pton(AF_INET, SERVER_IP4, &address.sin_addr);
	netns_enter(product.pair.server);
	udp[0] = socket(AF_INET, SOCK_DGRAM, 0);
	netns_enter(product.pair.client);
	udp[1] = socket(AF_INET, SOCK_DGRAM, 0);
	netns_enter(NULL);
	REQUIRE(!bind(udp[0], (void *)&address, sizeof(address)));
	EXPECT_EQ(sendto(udp[1], "datagram", 8, 0, (void *)&address, sizeof(address)), 8);
	EXPECT_EQ(tcp_read(udp[0], word, 8, 1000), 8, "UDP to the protected port's number");
	close(udp[0]);
	/* Now nothing has that UDP port: an ICMP error must find its way back. */
	EXPECT_EQ(connect(udp[1], (void *)&address, sizeof(address)), 0);
	EXPECT_EQ(send(udp[1], "x", 1, 0), 1);
	EXPECT(WAIT_FOR(recv(udp[1], word, 1, MSG_DONTWAIT) < 0 && errno == ECONNREFUSED, 1000),
	       "no ICMP error");
	close(udp[1]);
	EXPECT_EQ(counter(&product, "syn_received"), 0);
	close(listener);
}

CASE("a SYN for another MAC, or to an address that is not local, is not answered")
{
	struct product product = product_new(NULL, "--port 8080 --canary once");
	int listener = tcp_listen(product.pair.server, NULL, PORT, 64);
	struct wire *wire = wire_open(product.pair.client, CLIENT_IF);
	struct tcp_frame frame;
	struct hand hand;

	product_admit(&product, SERVER_IP4, PORT);
	hand = hand_new(wire, 3, 30000, SERVER_IP4, PORT, true);
	memcpy(hand.spec.dst_mac, "\x02\x77\x00\x00\x00\x99", 6);
	wire_send(wire, &hand.spec);
	EXPECT(!wire_recv(wire, &hand.spec, 200, &frame), "answered to another's MAC");
	EXPECT_EQ(counter(&product, "syn_passed_other_mac"), 1);
	hand = hand_new(wire, 3, 30001, "10.99.0.1", PORT, true);
	wire_send(wire, &hand.spec);
	EXPECT(!wire_recv_flags(wire, &hand.spec, SYN, 0, 200, &frame), "answered for another's address");
	wire_close(wire);
	close(listener);
}

/*
 *   client ── veth ── server: DNAT 8080 ── veth ── container: listens on 8080
 *                       └ listens on 8080 as well, and is not asked
 */
CASE("a published port that DNAT sends to a container reaches it, though a local socket listens there, too")
{
	struct product product = product_new(NULL, NULL);
	struct netns *container = netns_new("container");
	int local, inside, reached = 0;

	netns_veth(product.pair.server, "to-container", NULL, container, "eth0", NULL, NULL);
	netns_must(product.pair.server, "ip addr add 172.31.0.1/24 dev to-container");
	netns_must(container, "ip addr add 172.31.0.2/24 dev eth0 && ip route add default via 172.31.0.1");
	netns_sysctl(product.pair.server, "net.ipv4.ip_forward", "1");
	netns_must(product.pair.server,
		   "nft 'add table ip n; add chain ip n p { type nat hook prerouting priority -100; }; "
		   "add rule ip n p iifname " SERVER_IF " tcp dport 8080 dnat to 172.31.0.2:8080'");
	local = tcp_listen(product.pair.server, NULL, PORT, 64);
	inside = tcp_listen(container, NULL, PORT, 64);
	product_must(&product, "attach " SERVER_IF " --port 8080 --firewall-checked");
	for (int i = 0; i < 20; i++) {
		int fd = tcp_connect(product.pair.client, SERVER_IP4, PORT, 3000), accepted;

		EXPECT(fd >= 0, "connection %d: %s", i, strerror(errno));
		accepted = tcp_accept(inside, 500);
		reached += accepted >= 0;
		close(accepted);
		close(fd);
	}
	EXPECT_EQ(reached, 20, "connections to the container");
	EXPECT(tcp_accept(local, 50) < 0, "the local socket got a connection");
	EXPECT_EQ(counter(&product, "service_learned"), 0);
	EXPECT_EQ(counter(&product, "syn_answered"), 0);
	close(local);
	close(inside);
}

CASE("a listener in another namespace, on another address, or bound to another device is never answered "
     "for")
{
	struct product product = product_new(NULL, "--port 8080");
	struct netns *other = netns_new("other");
	int fd, listeners[3], on = 1;

	listeners[0] = tcp_listen(product.pair.server, "127.0.0.1", PORT, 64);
	listeners[1] = tcp_listen(other, NULL, PORT, 64);
	netns_enter(product.pair.server);
	listeners[2] = socket(AF_INET6, SOCK_STREAM, 0);
	netns_enter(NULL);
	REQUIRE(!setsockopt(listeners[2], SOL_SOCKET, SO_BINDTODEVICE, "lo", 3));
	REQUIRE(!setsockopt(listeners[2], IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)));
	REQUIRE(!bind(listeners[2],
		      (void *)&(struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = htons(PORT) },
		      sizeof(struct sockaddr_in6)) &&
			!listen(listeners[2], 64),
		"%s", strerror(errno));
	for (int i = 0; i < 5; i++) {
		fd = tcp_connect(product.pair.client, SERVER_IP4, PORT, 1000);
		EXPECT(fd < 0 && errno == ECONNREFUSED, "connection %d: %s", i,
		       fd < 0 ? strerror(errno) : "made");
	}
	EXPECT_EQ(counter(&product, "service_learned"), 0);
	for (int i = 0; i < 3; i++)
		close(listeners[i]);
}

CASE("a port that a rule redirects to another local one reaches that one, though a socket listens on it, "
     "too")
{
	struct product product = product_new(NULL, "--port 8080,8081");
	int first = tcp_listen(product.pair.server, NULL, PORT, 64);
	int second = tcp_listen(product.pair.server, NULL, OTHER, 64), reached = 0;

	netns_must(product.pair.server,
		   "nft 'add table ip n; add chain ip n p { type nat hook prerouting priority -100; }; "
		   "add rule ip n p tcp dport 8080 redirect to :8081'");
	for (int i = 0; i < 20; i++) {
		int fd = tcp_connect(product.pair.client, SERVER_IP4, PORT, 2000), accepted;

		EXPECT(fd >= 0, "connection %d: %s", i, strerror(errno));
		accepted = tcp_accept(second, 300);
		reached += accepted >= 0;
		close(accepted);
		close(fd);
	}
	EXPECT_EQ(reached, 20, "connections to the port behind the rule");
	EXPECT(tcp_accept(first, 20) < 0, "the socket in front of it got one");
	close(first);
	close(second);
}

/* A tcx program on the server's device that lets everything pass and ends the chain. Yields its link. */
static int tcx_in_front(const struct netns *ns)
{
	const struct bpf_insn ok[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 0 /* TC_ACT_OK */ },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	int program = bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "ends_chain", "GPL", ok, 2, NULL), link;

	REQUIRE(program >= 0);
	netns_enter(ns);
	link = bpf_link_create(program, netns_ifindex(ns, SERVER_IF), 46 /* BPF_TCX_INGRESS */, NULL);
	netns_enter(NULL);
	close(program);
	REQUIRE(link >= 0, "%s", strerror(errno));
	return link;
}

CASE("another tc program in front that ends the chain does not keep ACKs from being promoted")
{
	struct product product = product_new(NULL, NULL);
	int listener = tcp_listen(product.pair.server, NULL, PORT, 64);

	int ends_chain = tcx_in_front(product.pair.server);

	product_must(&product, "attach " SERVER_IF " --port 8080 --canary once --firewall-checked");
	product_admit(&product, SERVER_IP4, PORT);
	close(tcp_connect(product.pair.client, SERVER_IP4, PORT, 1000));
	EXPECT_EQ(counter(&product, "promoted"), counter(&product, "syn_answered"));
	close(ends_chain);
	close(listener);
}

CASE("tcp_syncookies set to 0 while attached: SYNs go to the stack, clients connect")
{
	struct product product = product_new(NULL, "--port 8080 --canary once");
	int listener = tcp_listen(product.pair.server, NULL, PORT, 64), fd, accepted;
	long long answered;

	product_admit(&product, SERVER_IP4, PORT);
	while ((accepted = tcp_accept(listener, 20)) >= 0)
		close(accepted);
	netns_sysctl(product.pair.server, "net.ipv4.tcp_syncookies", "0");
	answered = counter(&product, "syn_answered");
	fd = tcp_connect(product.pair.client, SERVER_IP4, PORT, 1000);
	accepted = tcp_accept(listener, 1000);
	EXPECT(fd >= 0 && accepted >= 0, "%s", strerror(errno));
	EXPECT_EQ(counter(&product, "syn_answered"), answered);
	EXPECT_EQ(counter(&product, "syn_passed_syncookies_off"), 1);
	EXPECT(strstr(netns_output(product.pair.server, PROGRAM " status --pin-path %s", product.pins),
		      "tcp_syncookies"),
	       "status does not warn: %s", netns_said());
	close(fd);
	close(accepted);
	close(listener);
}

CASE("one canary whose answer goes to another MAC does not end an admission; several do")
{
	struct product product = product_new(NULL, "--port 8080 --canary 1");
	int listener = tcp_listen(product.pair.server, NULL, PORT, 64);
	struct wire *wire = wire_open(product.pair.client, CLIENT_IF);
	struct tcp_frame frame;
	struct hand hand;
	long long answered;

	product_admit(&product, SERVER_IP4, PORT);
	for (int i = 0; i < 4; i++) {
		/* By way of the client's MAC, from a neighbour that has another one. */
		char neighbour[32];

		snprintf(neighbour, sizeof(neighbour), "10.77.0.%d", 60 + i);
		netns_neighbour(product.pair.server, SERVER_IF, neighbour, "02:77:00:00:00:77");
		poll(NULL, 0, 1100);
		hand = hand_new(wire, 1, (uint16_t)(31000 + i), SERVER_IP4, PORT, true);
		hand.spec.saddr = ip(neighbour);
		wire_send(wire, &hand.spec);
		REQUIRE(WAIT_FOR(counter(&product, "canary_other_way") == i + 1, 1000), "canary %d: %s", i,
			netns_output(NULL, PROGRAM " stats --pin-path %s | grep -v '^ *0 '", product.pins));
		if (i)
			continue;
		answered = counter(&product, "syn_answered");
		hand = hand_new(wire, 2, 32000, SERVER_IP4, PORT, true);
		EXPECT(hand_syn(&hand));
		EXPECT_EQ(counter(&product, "syn_answered"), answered + 1,
			  "one such canary has ended the admission");
		hand.spec.flags = RST;
		wire_send(wire, &hand.spec);
	}
	answered = counter(&product, "syn_answered");
	hand = hand_new(wire, 2, 32001, SERVER_IP4, PORT, true);
	wire_send(wire, &hand.spec);
	EXPECT(wire_recv(wire, &hand.spec, 1000, &frame));
	EXPECT_EQ(counter(&product, "syn_answered"), answered,
		  "answers go another way, and still it is admitted");
	wire_close(wire);
	close(listener);
}

CASE("the device gets another MAC: it is learned, and the driver answers by it")
{
	struct product product = product_new(NULL, "--port 8080");
	int listener = tcp_listen(product.pair.server, NULL, PORT, 64);
	long long answered, passed;

	product_admit(&product, SERVER_IP4, PORT);
	netns_must(product.pair.server, "ip link set dev " SERVER_IF " address 02:77:00:00:00:99");
	netns_neighbour(product.pair.client, CLIENT_IF, SERVER_IP4, "02:77:00:00:00:99");
	/* Its first SYNs are passed as another device's, until the stack's answer shows the MAC. */
	product_admit(&product, SERVER_IP4, PORT);
	answered = counter(&product, "syn_answered");
	passed = counter(&product, "syn_passed_other_mac");
	for (int i = 0; i < 10; i++) {
		int fd = tcp_connect(product.pair.client, SERVER_IP4, PORT, 1000);

		EXPECT(fd >= 0, "connection %d fails", i);
		close(fd);
	}
	EXPECT(counter(&product, "syn_answered") >= answered + 9);
	EXPECT_EQ(counter(&product, "syn_passed_other_mac"), passed, "SYNs for the new MAC are passed");
	close(listener);
}

CASE("a SYN behind an IPv6 extension header leaves a mark, so that its TIME-WAIT is respected")
{
	struct product product = product_new(NULL, "--port 8080 --canary once");
	int listener = tcp_listen(product.pair.server, NULL, PORT, 64);
	struct wire *wire = wire_open(product.pair.client, CLIENT_IF);
	struct hand hand = hand_new(wire, 4, 33000, SERVER_IP6, PORT, true), plain;

	product_admit(&product, SERVER_IP6, PORT);
	hand.spec.ip_options_type = 60; /* destination options: one of padding */
	hand.spec.ip_options_len = 8;
	memcpy(hand.spec.ip_options, "\x06\x00\x01\x04\x00\x00\x00\x00", 8);
	REQUIRE(hand_syn(&hand), "the stack does not answer");
	plain = hand_new(wire, 4, 33000, SERVER_IP6, PORT, true);
	plain.spec.seq += 1000;
	wire_send(wire, &plain.spec);
	EXPECT(WAIT_FOR(counter(&product, "syn_passed_held") == 1, 1000),
	       "answered although the stack holds the tuple");
	wire_close(wire);
	close(listener);
}

CASE("a final ACK and its data behind IPv6 extension headers make the connection")
{
	struct product product = product_new(NULL, "--port 8080 --canary once");
	int listener = tcp_listen(product.pair.server, NULL, PORT, 64), fd;
	struct wire *wire = wire_open(product.pair.client, CLIENT_IF);
	struct hand hand = hand_new(wire, 4, 33000, SERVER_IP6, PORT, true);
	struct tcp_spec data;
	char got[8];

	product_admit(&product, SERVER_IP6, PORT);
	tcp_accept_all(listener);
	REQUIRE(hand_syn(&hand), "no answer");
	hand.spec.ip_options_type = 60; /* destination options: one of padding */
	hand.spec.ip_options_len = 8;
	memcpy(hand.spec.ip_options, "\x00\x00\x01\x04\x00\x00\x00\x00", 8);
	data = hand_data(&hand, 0, "hello", 5);
	wire_send(wire, &hand.spec);
	wire_send(wire, &data);
	fd = tcp_accept(listener, 1000);
	EXPECT(fd >= 0, "not accepted");
	EXPECT(fd < 0 || tcp_read(fd, got, 5, 1000) == 5, "the data is lost");
	EXPECT_EQ(counter(&product, "syn_answered"), counter(&product, "promoted"));
	close(fd);
	wire_close(wire);
	close(listener);
}

CASE("an MPTCP listener keeps its SYNs")
{
	struct product product = product_new(NULL, "--port 8080");
	int fd;

	netns_spawn(product.pair.server, "/dev/null", "build/tests/tools/respond --port %d --mptcp --echo",
		    PORT);
	REQUIRE(WAIT_FOR(netns_listens(product.pair.server, PORT), 3000));
	for (int i = 0; i < 5; i++) {
		fd = tcp_connect(product.pair.client, SERVER_IP4, PORT, 1000);
		EXPECT(fd >= 0, "connection %d: %s", i, strerror(errno));
		close(fd);
	}
	EXPECT_EQ(counter(&product, "syn_answered"), 0);
	EXPECT_EQ(counter(&product, "syn_passed_listener_kind"), 4);
}

int main(int argc, char **argv)
{
	return report_main(argc, argv, NULL);
}
