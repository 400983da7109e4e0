// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The server's socket has what the same client's connection has without us: the very options and scales,
 * and its MSS or the next smaller one of the cookie's table. Two ports, one of them protected.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <arpa/inet.h>

#include "product.h"

enum {
	PROTECTED = 8080,
	NATIVE = 8081,
};

/* What `ss -tino` says of the server's end of a connection. */
struct seen {
	char options[128]; /* "ts sack ecn wscale:a,b", as far as they are there */
	int mss;
	int advmss;
	int pmtu;
};

static int number_behind(const char *line, const char *key)
{
	const char *at = strstr(line, key);

	return at ? atoi(at + strlen(key)) : -1;
}

static unsigned int local_port(int fd)
{
	struct sockaddr_storage name;
	socklen_t length = sizeof(name);

	getsockname(fd, (void *)&name, &length);
	return ntohs(((struct sockaddr_in6 *)&name)->sin6_port); /* at the same place for IPv4 */
}

/* Connects, says something, and looks at the server's socket. */
static struct seen look(const struct product *product, const char *address, int port, int listener)
{
	struct seen seen = {};
	const char *line, *wscale;
	int client, server;
	char byte;

	client = tcp_connect(product->pair.client, address, port, 3000);
	REQUIRE(client >= 0, "connect to port %d: %s", port, strerror(errno));
	server = tcp_accept(listener, 2000);
	REQUIRE(server >= 0, "port %d accepts nothing", port);
	EXPECT_EQ(write(client, "x", 1), 1);
	EXPECT_EQ(tcp_read(server, &byte, 1, 1000), 1);
	line = netns_output(product->pair.server, "ss -Htino 'sport = %d and dport = %u'", port,
			    local_port(client));
	REQUIRE(line && *line, "ss shows nothing: %s", netns_said());
	wscale = strstr(line, " wscale:");
	snprintf(seen.options, sizeof(seen.options), "%s%s%s%.*s", strstr(line, " ts ") ? " ts" : "",
		 strstr(line, " sack ") ? " sack" : "", strstr(line, " ecn ") ? " ecn" : "",
		 wscale ? (int)strcspn(wscale + 1, " ") + 1 : 0, wscale ? wscale : "");
	seen.mss = number_behind(line, " mss:");
	seen.advmss = number_behind(line, " advmss:");
	seen.pmtu = number_behind(line, " pmtu:");
	close(client);
	close(server);
	return seen;
}

/* The next smaller of the table, less what timestamps take; include/cookie.h says which there are. */
static int rounded(int mss, bool v6, bool timestamps)
{
	static const int table4[] = { 536, 1220, 1300, 1360, 1400, 1440, 1460, 8960 };
	static const int table6[] = { 1220, 1280, 1340, 1380, 1420, 1440, 8800, 8940 };
	const int overhead = timestamps ? 12 : 0;
	int best = 0;

	for (int i = 0; i < 8; i++) {
		int value = (v6 ? table6 : table4)[i];

		if (value <= mss + overhead)
			best = value - overhead;
	}
	return best;
}

static void compare(const struct product *product, const char *address, int protected_, int native_,
		    const char *name)
{
	struct seen with, without;

	without = look(product, address, NATIVE, native_);
	with = look(product, address, PROTECTED, protected_);
	EXPECT_STR(with.options, without.options, "%s", name);
	EXPECT(with.mss == without.mss || with.mss == rounded(without.mss, strchr(address, ':'),
							      !!strstr(without.options, "ts")),
	       "%s: MSS %d, without us %d", name, with.mss, without.mss);
	EXPECT_EQ(with.advmss, without.advmss, "%s", name);
	EXPECT_EQ(with.pmtu, without.pmtu, "%s", name);
}

static void all_combinations(const char *address)
{
	struct product product = product_new(NULL, "--port 8080 --canary once");
	int protected_ = tcp_listen(product.pair.server, NULL, PROTECTED, 64);
	int native_ = tcp_listen(product.pair.server, NULL, NATIVE, 64);

	product_admit(&product, address, PROTECTED);
	tcp_accept_all(protected_);
	for (int i = 0; i < 8; i++) {
		const bool timestamps = i & 4, sack = i & 2, scale = i & 1;
		long long promoted = counter(&product, "promoted");
		char name[64];

		snprintf(name, sizeof(name), "timestamps %d, SACK %d, scaling %d", timestamps, sack, scale);
		netns_sysctl(product.pair.client, "net.ipv4.tcp_timestamps", timestamps ? "1" : "0");
		netns_sysctl(product.pair.client, "net.ipv4.tcp_sack", sack ? "1" : "0");
		netns_sysctl(product.pair.client, "net.ipv4.tcp_window_scaling", scale ? "1" : "0");
		compare(&product, address, protected_, native_, name);
		/* Without timestamps, the cookie has room for common combinations only; others are the
		 * stack's. */
		if (timestamps || sack == scale)
			EXPECT_EQ(counter(&product, "promoted"), promoted + 1, "%s", name);
		else
			EXPECT_EQ(counter(&product, "syn_passed_option_uncarried"), sack ? 2 : 1, "%s",
				  name);
	}
	close(protected_);
	close(native_);
}

CASE("IPv4: eight combinations of timestamps, SACK and window scaling, as without us")
{
	all_combinations(SERVER_IP4);
}

CASE("IPv6: eight combinations of timestamps, SACK and window scaling, as without us")
{
	all_combinations(SERVER_IP6);
}

CASE("IPv4 and IPv6: ECN is negotiated as without us, also when the client asks for it first of all")
{
	struct product product = product_new(NULL, "--port 8080 --canary once");
	int protected_ = tcp_listen(product.pair.server, NULL, PROTECTED, 64);
	int native_ = tcp_listen(product.pair.server, NULL, NATIVE, 64);
	long long promoted;

	product_admit(&product, SERVER_IP4, PROTECTED);
	product_admit(&product, SERVER_IP6, PROTECTED);
	tcp_accept_all(protected_);
	netns_sysctl(product.pair.client, "net.ipv4.tcp_ecn", "1");
	for (int round = 0; round < 2; round++) {
		compare(&product, SERVER_IP4, protected_, native_, "IPv4");
		compare(&product, SERVER_IP6, protected_, native_, "IPv6");
	}
	/* The first asked for what no SYN-ACK had shown and was passed; the second was ours. */
	EXPECT_EQ(counter(&product, "syn_passed_option_unlearned"), 2);
	promoted = counter(&product, "promoted");
	compare(&product, SERVER_IP4, protected_, native_, "IPv4");
	EXPECT_EQ(counter(&product, "promoted"), promoted + 1);
	netns_sysctl(product.pair.server, "net.ipv4.tcp_ecn", "0");
	close(protected_);
	close(native_);
}

CASE("client MSS of common paths: as without us, or the next smaller of the table")
{
	static const int mtus[] = { 9000, 1500, 1492, 1480, 1452, 1430, 1420, 1400, 1340, 1280 };
	struct pair_spec spec = { .veth.mtu = 9000, .no_client_xdp = true };
	struct product product = product_new(&spec, NULL);
	int protected_, native_;

	/* In generic mode, which has to take large frames as well; native mode: layers.c. */
	product_must(&product,
		     "attach " SERVER_IF " --port 8080 --canary once --mode generic --firewall-checked");
	protected_ = tcp_listen(product.pair.server, NULL, PROTECTED, 64);
	native_ = tcp_listen(product.pair.server, NULL, NATIVE, 64);
	product_admit(&product, SERVER_IP4, PROTECTED);
	product_admit(&product, SERVER_IP6, PROTECTED);
	tcp_accept_all(protected_);
	for (size_t i = 0; i < sizeof(mtus) / sizeof(*mtus); i++) {
		char name[32];

		snprintf(name, sizeof(name), "MTU %d", mtus[i]);
		netns_must(product.pair.client, "ip link set dev " CLIENT_IF " mtu %d", mtus[i]);
		compare(&product, SERVER_IP4, protected_, native_, name);
		netns_must(product.pair.client,
			   "ip -6 addr replace " CLIENT_IP6 "/64 dev " CLIENT_IF " nodad");
		compare(&product, SERVER_IP6, protected_, native_, name);
	}
	close(protected_);
	close(native_);
}

/*
 * Frames that generic mode has copied have lost their Ethernet header: where it would have its protocol,
 * there is the third and fourth byte of the IP header's fourth word, the client's address.
 */
CASE("in generic mode, clients whose addresses look like the protocol of a frame")
{
	static const struct {
		const char *client, *server, *route;
	} rows[] = { { "8.0.1.2", SERVER_IP4, "ip route add 8.0.0.0/16 via " CLIENT_IP4 },
		     { "2001:db8:86dd::2", SERVER_IP6,
		       "ip -6 route add 2001:db8:86dd::/48 via " CLIENT_IP6 } };
	struct pair_spec spec = { .no_client_xdp = true };
	struct product product = product_new(&spec, NULL);
	struct wire *wire = wire_open(product.pair.client, CLIENT_IF);
	int listener;

	product_must(&product,
		     "attach " SERVER_IF " --port 8080 --canary once --mode generic --firewall-checked");
	listener = tcp_listen(product.pair.server, NULL, PROTECTED, 64);
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct hand hand = hand_new(wire, 1, 5000, rows[i].server, PROTECTED, true);
		long long promoted;
		int fd = -1;

		product_admit(&product, rows[i].server, PROTECTED);
		tcp_accept_all(listener);
		netns_must(product.pair.server, "%s", rows[i].route);
		hand.spec.saddr = ip(rows[i].client);
		promoted = counter(&product, "promoted");
		REQUIRE(hand_syn(&hand), "%s is not answered", rows[i].client);
		wire_send(wire, &hand.spec);
		EXPECT(WAIT_FOR((fd = accept(listener, NULL, NULL)) >= 0, 2000), "%s", rows[i].client);
		EXPECT_EQ(counter(&product, "promoted"), promoted + 1);
		close(fd);
	}
	wire_close(wire);
	close(listener);
}

int main(int argc, char **argv)
{
	return report_main(argc, argv, NULL);
}
