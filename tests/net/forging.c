// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Somebody tries cookies: above a rate, handshakes without timestamps are the stack's, and nobody suffers.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "product.h"

enum {
	PORT = 8080,
	GRACE_MS = 3000, /* bpf/forging.h */
	HOLD_MS = 10000,
};

static const char *const servers[] = { SERVER_IP4, SERVER_IP6 };

#define PLAIN "nop, nop, nop, nop"

/* ACKs of random numbers. */
static pid_t wrong_cookies(const struct product *product, int rate, int seconds, const char *options)
{
	return netns_spawn(product->pair.client, "/dev/null",
			   "build/tests/tools/flood --iface " CLIENT_IF
			   " --src 10.77.1.0/24 --dst " SERVER_IP4
			   " --dport %d --rate %d --seconds %d --ack --options '%s'",
			   PORT, rate, seconds, options);
}

/* A client of the namespace connects and is heard. */
static void expect_connects(const struct product *product, int listener, const char *server,
			    const char *what)
{
	int client = tcp_connect(product->pair.client, server, PORT, 3000), fd = tcp_accept(listener, 1000);
	char byte;

	EXPECT(client >= 0 && fd >= 0, "%s, %s: %s", server, what, strerror(errno));
	EXPECT(write(client, "x", 1) == 1 && tcp_read(fd, &byte, 1, 1000) == 1, "%s, %s", server, what);
	close(client);
	close(fd);
}

static bool warned(const struct product *product)
{
	product_must(product, "status");
	return strstr(netns_said(), "wrong cookies without timestamps") != NULL;
}

CASE("wrong cookies above the rate: clients without timestamps are the stack's and connect, the others are "
     "ours; "
     "then as before")
{
	struct product product = product_new(NULL, "--port 8080 --forging-rate 5000");
	int listener = tcp_listen(product.pair.server, NULL, PORT, 512), fd;
	struct wire *wire = wire_open(product.pair.client, CLIENT_IF);
	struct hand early = hand_new(wire, 3, 31000, SERVER_IP4, PORT, false);
	struct hand late = hand_new(wire, 3, 31001, SERVER_IP4, PORT, false);
	long long answered, passed;
	int64_t began;
	pid_t flood;

	for (int s = 0; s < 2; s++)
		product_admit(&product, servers[s], PORT);
	tcp_accept_all(listener);
	EXPECT(!warned(&product));
	/* Answered before it begins. */
	REQUIRE(hand_syn(&early) && hand_syn(&late));
	flood = wrong_cookies(&product, 20000, 5, PLAIN);
	began = now_ms();
	REQUIRE(WAIT_FOR(counter(&product, "forging_refused") == 1, 3000), "not noticed");
	EXPECT(warned(&product), "status says nothing");
	wire_send(wire, &early.spec);
	fd = tcp_accept(listener, 1000);
	EXPECT(fd >= 0, "a handshake that was under way is lost");
	close(fd);

	netns_sysctl(product.pair.client, "net.ipv4.tcp_timestamps", "0");
	passed = counter(&product, "syn_passed_forging");
	for (int i = 0; i < 20; i++)
		expect_connects(&product, listener, servers[i & 1], "without timestamps");
	/* A canary may be among them. */
	EXPECT(counter(&product, "syn_passed_forging") >= passed + 15);
	netns_sysctl(product.pair.client, "net.ipv4.tcp_timestamps", "1");
	answered = counter(&product, "syn_answered");
	for (int i = 0; i < 20; i++)
		expect_connects(&product, listener, servers[i & 1], "with timestamps");
	EXPECT(counter(&product, "syn_answered") >= answered + 15);

	/* Whoever waited longer than clients do is taken for one who tries. */
	WAIT_FOR(now_ms() > began + GRACE_MS + 1200, GRACE_MS + 1500);
	wire_send(wire, &late.spec);
	EXPECT(WAIT_FOR(counter(&product, "ack_rejected_forging") == 1, 1000));
	EXPECT(tcp_accept(listener, 100) < 0);
	netns_stop(flood, 0, 5000);

	REQUIRE(WAIT_FOR(!warned(&product), HOLD_MS + 3000), "it does not end");
	/* status goes by the clock, the programs by its last tick (bpf/clock.h: CLOCK_LAG_MS). */
	poll(NULL, 0, 100);
	netns_sysctl(product.pair.client, "net.ipv4.tcp_timestamps", "0");
	passed = counter(&product, "syn_passed_forging");
	for (int i = 0; i < 4; i++)
		expect_connects(&product, listener, servers[i & 1], "without timestamps, afterwards");
	EXPECT_EQ(counter(&product, "syn_passed_forging"), passed);
	EXPECT_EQ(counter(&product, "forging_refused"), 1);
	wire_close(wire);
	close(listener);
}

CASE("a few wrong cookies, or many with timestamps, refuse nothing")
{
	struct product product = product_new(NULL, "--port 8080 --forging-rate 5000");
	int listener = tcp_listen(product.pair.server, NULL, PORT, 512);
	pid_t flood;

	product_admit(&product, SERVER_IP4, PORT);
	flood = wrong_cookies(&product, 3000, 2, PLAIN);
	EXPECT(WAIT_FOR(counter(&product, "ack_rejected_cookie") > 5000, 4000));
	netns_stop(flood, 0, 5000);
	flood = wrong_cookies(&product, 20000, 2, "nop, nop, ts 1 2");
	EXPECT(WAIT_FOR(counter(&product, "ack_rejected_cookie") > 30000, 4000));
	netns_stop(flood, 0, 5000);
	EXPECT_EQ(counter(&product, "forging_refused"), 0);
	close(listener);
}

CASE("cookies tried on a tuple that the filter knows and the stack does not hold are noticed as well")
{
	struct product product = product_new(NULL, "--port 8080 --forging-rate 100");
	int listener = tcp_listen(product.pair.server, NULL, PORT, 512);
	struct wire *wire = wire_open(product.pair.client, CLIENT_IF);
	struct hand hand;
	long long known;

	product_admit(&product, SERVER_IP4, PORT);
	product_must(&product, "set *:8080 policy=shadow");
	hand = hand_new(wire, 4, 32000, SERVER_IP4, PORT, false);
	REQUIRE(hand_syn(&hand));
	/* The stack forgets it, the filter does not. */
	hand.spec.flags = RST;
	wire_send(wire, &hand.spec);
	product_must(&product, "set *:8080 policy=always");
	known = counter(&product, "ack_known");
	hand.spec.flags = ACK;
	for (int i = 0; i < 2000; i++) {
		hand.spec.ack += 7919;
		wire_send(wire, &hand.spec);
	}
	EXPECT(WAIT_FOR(counter(&product, "ack_known") >= known + 1900, 2000));
	EXPECT_EQ(counter(&product, "forging_refused"), 1);
	wire_close(wire);
	close(listener);
}

int main(int argc, char **argv)
{
	return report_main(argc, argv, NULL);
}
