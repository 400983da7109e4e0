// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The budget of answers for a source prefix: what a network hears of us that is spoofed, and who else does.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "product.h"

enum {
	PORT = 8080,
	BUDGET = 200,
	SHARE = 8,
	RATE = 16000,
	SECONDS = 2,
};

/* The SYN-ACKs that the other side has got, by address family, since it was last asked. */
static long long synacks(const struct product *product, const char *rule)
{
	const char *packets = netns_output(product->pair.client,
					   "nft -j list counters | jq '[.nftables[].counter | select(. and "
					   ".name == \"%s\").packets] | add'",
					   rule);

	REQUIRE(packets);
	return atoll(packets);
}

CASE("a flood from one prefix is answered within its budget and one in some; another prefix, and in time a "
     "client "
     "within it, connect")
{
	static const struct {
		const char *name, *source, *server;
	} floods[] = {
		{ "ipv4", "10.77.1.0/24", SERVER_IP4 },
		{ "ipv6", "fd77:1::/64", SERVER_IP6 },
	};
	struct product product = product_new(NULL,
					     "--port 8080 --canary once --prefix-budget 200 --guard on");
	int listener = tcp_listen(product.pair.server, NULL, PORT, 512);
	struct wire *wire = wire_open(product.pair.client, CLIENT_IF);

	netns_must(product.pair.client,
		   "nft 'table inet t { counter ipv4 { }; counter ipv6 { }; chain c { type filter hook "
		   "prerouting priority -300; tcp flags & (syn | ack) != syn | ack return; ip daddr "
		   "10.77.1.0/24 counter name ipv4; ip6 daddr fd77:1::/64 counter name ipv6; }; }'");
	for (size_t i = 0; i < sizeof(floods) / sizeof(*floods); i++) {
		long long before, dropped, got;
		struct hand hand = hand_new(wire, 7, (uint16_t)(35000 + i), floods[i].server, PORT, true);
		pid_t flood;
		int tries = 0;

		product_admit(&product, floods[i].server, PORT);
		tcp_accept_all(listener);
		before = synacks(&product, floods[i].name);
		dropped = counter(&product, "syn_dropped_prefix");
		flood = netns_spawn(product.pair.client, "/dev/null",
				    "build/tests/tools/flood --iface " CLIENT_IF
				    " --src %s --dst %s --dport %d --rate %d --seconds %d",
				    floods[i].source, floods[i].server, PORT, RATE, SECONDS);
		REQUIRE(WAIT_FOR(counter(&product, "syn_dropped_prefix") > dropped + RATE / 2, 3000));
		/* Of another prefix: at once. */
		for (int k = 0; k < 20; k++) {
			int client = tcp_connect(product.pair.client, floods[i].server, PORT, 900);
			int server = tcp_accept(listener, 500);

			EXPECT(client >= 0 && server >= 0, "%s: %s", floods[i].name, strerror(errno));
			close(client);
			close(server);
		}
		/* Of this one: (7/8)^150 is once in 500 million times. */
		while (tries < 150) {
			struct tcp_spec syn = hand.spec;

			wire_send(wire, &syn);
			tries++;
			if (wire_recv_flags(wire, &syn, SYN | ACK, 0, 5, &hand.synack))
				break;
		}
		EXPECT(tries < 150, "%s: a client of the prefix is locked out", floods[i].name);
		netns_stop(flood, 0, 5000);
		got = synacks(&product, floods[i].name) - before;
		/* Seconds of 1024 ms: it may lie in three of them. And what a slow machine drops of it. */
		EXPECT(got <= 3 * BUDGET + RATE * SECONDS / SHARE + 150, "%s: %lld SYN-ACKs",
		       floods[i].name, got);
		EXPECT(got > RATE * SECONDS / SHARE / 2, "%s: %lld SYN-ACKs", floods[i].name, got);
	}
	/* Off again: all that come. */
	product_must(&product, "attach " SERVER_IF " --port 8080 --prefix-budget 0");
	product_admit(&product, SERVER_IP4, PORT);
	{
		const long long dropped = counter(&product, "syn_dropped_prefix");

		netns_must(product.pair.client,
			   "build/tests/tools/flood --iface " CLIENT_IF
			   " --src 10.77.1.0/24 --dst " SERVER_IP4 " --dport 8080 --rate 5000 --seconds 1");
		EXPECT_EQ(counter(&product, "syn_dropped_prefix"), dropped);
	}
	wire_close(wire);
	close(listener);
}

int main(int argc, char **argv)
{
	cpu_set_t one;

	/* The budget is a CPU's, and a veth device receives on the CPU of whoever sends. */
	CPU_ZERO(&one);
	CPU_SET(0, &one);
	sched_setaffinity(0, sizeof(one), &one);
	return report_main(argc, argv, NULL);
}
