// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Policy flood: asleep in calm times, awake when it matters, and nobody loses a connection on the way. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "product.h"

enum {
	PORT = 8080,
	NATIVE_PORT = 9090,
	WAKINGS = 100,
	HANDSHAKES = 10000,
};

/* On one CPU: what is a flood is a matter of each CPU. */
static pid_t flood_start(const struct product *product, int rate, int seconds)
{
	return netns_spawn(product->pair.client, "/dev/null",
			   "taskset -c 0 build/tests/tools/flood --iface " CLIENT_IF
			   " --src 10.77.1.0/24 --dst " SERVER_IP4
			   " --dport %d --rate %d --seconds %d --burst 4",
			   PORT, rate, seconds);
}

static bool awake(const struct product *product)
{
	json_t *rows = product_json(product, "listeners");
	bool is = false;
	json_t *row;
	size_t i;

	json_array_foreach (rows, i, row)
		if (!strcmp(json_string_value(json_object_get(row, "local")) ?: "", SERVER_IP4 ":8080"))
			is = json_is_true(json_object_get(row, "awake"));
	json_decref(rows);
	return is;
}

static void connects_to(const struct product *product, const char *address, int number)
{
	for (int i = 0; i < number; i++) {
		int fd = tcp_connect(product->pair.client, address, PORT, 3000);

		EXPECT(fd >= 0, "connection %d: %s", i, strerror(errno));
		close(fd);
		poll(NULL, 0, 2); /* calm */
	}
}

static void connects(const struct product *product, int number)
{
	connects_to(product, SERVER_IP4, number);
}

/* A wave that wakes the service, and how it falls asleep. */
static void wake(const struct product *product)
{
	netns_must(product->pair.client,
		   "build/tests/tools/flood --iface " CLIENT_IF " --src 10.77.1.0/24 --dst " SERVER_IP4
		   " --dport %d --rate 20000 --seconds 0.02 --burst 4",
		   PORT);
	REQUIRE(awake(product), "it does not wake");
}

CASE("dormant the stack answers; a flood wakes it within 10 ms, and it sleeps again when that is over")
{
	struct product product = product_new(NULL, "--port 8080 --policy flood --flood-hold 1000");
	int listener = tcp_listen(product.pair.server, NULL, PORT, 512);
	long long dormant, answered, woken;
	pid_t flood;

	connects(&product, 20);
	EXPECT_EQ(counter(&product, "syn_answered"), 0);
	dormant = counter(&product, "syn_passed_dormant");
	EXPECT(dormant >= 15, "%lld passed as dormant", dormant);
	EXPECT(!awake(&product));

	flood = flood_start(&product, 50000, 3);
	EXPECT(WAIT_FOR(counter(&product, "syn_answered") > 20000, 3000));
	EXPECT(awake(&product), "%s", netns_said());
	answered = counter(&product, "syn_answered");
	connects(&product, 20);
	EXPECT(counter(&product, "syn_answered") >= answered + 15);
	netns_stop(flood, SIGTERM, 2000);
	/* 10 ms of that flood are 500 SYNs, and 16 are more than is usual. */
	dormant = counter(&product, "syn_passed_dormant") - dormant;
	EXPECT(dormant <= 40, "%lld SYNs of the flood passed before it woke", dormant);
	EXPECT_EQ(counter(&product, "service_woken"), 1);

	EXPECT(WAIT_FOR(!awake(&product), 3000));
	tcp_accept_all(listener);
	answered = counter(&product, "syn_answered");
	woken = counter(&product, "service_woken");
	connects(&product, 20);
	EXPECT_EQ(counter(&product, "syn_answered"), answered);
	EXPECT_EQ(counter(&product, "service_woken"), woken);
	close(listener);
}

CASE("just above its rate it wakes within 10 ms, below it never")
{
	enum { TRIALS = 8 };
	struct product product =
		product_new(NULL, "--port 8080 --policy flood --flood-hold 400 --flood-rate 5000");
	int listener = tcp_listen(product.pair.server, NULL, PORT, 4096);

	connects(&product, 5);
	netns_stop(flood_start(&product, 1000, 2), 0, 5000);
	EXPECT_EQ(counter(&product, "service_woken"), 0);
	/* Wherever in a window of the programs' it begins. */
	for (int i = 0; i < TRIALS; i++) {
		long long dormant = counter(&product, "syn_passed_dormant");

		netns_stop(flood_start(&product, 5600, 1), 0, 5000);
		dormant = counter(&product, "syn_passed_dormant") - dormant;
		printf("# %lld SYNs passed before it woke\n", dormant);
		/* 10 ms of it are 56; the two windows together see it within nine. */
		EXPECT(dormant <= 50, "%lld SYNs passed before it woke", dormant);
		EXPECT(WAIT_FOR(!awake(&product), 5000));
	}
	close(listener);
}

CASE("awake it stays so at less than its rate, and more than half of it; at little it falls asleep")
{
	struct product product = product_new(NULL,
					     "--port 8080 --policy flood --flood-hold 1500 --flood-rate "
					     "20000");
	int listener = tcp_listen(product.pair.server, NULL, PORT, 4096);

	connects(&product, 5);
	netns_stop(flood_start(&product, 40000, 1), 0, 5000);
	REQUIRE(awake(&product));
	netns_stop(flood_start(&product, 14000, 5), 0, 8000);
	EXPECT(awake(&product), "asleep at 0.7 of its rate");
	EXPECT_EQ(counter(&product, "service_woken"), 1);
	/* More would fill half of the SYN queue, asleep: that wakes it, too. */
	netns_stop(flood_start(&product, 300, 4), 0, 8000);
	EXPECT(!awake(&product), "awake at a hundredth of its rate");
	EXPECT_EQ(counter(&product, "service_woken"), 1);
	close(listener);
}

CASE("with --canary once it is admitted in calm times, too")
{
	struct product product = product_new(NULL, "--port 8080 --policy flood --canary once");
	int listener = tcp_listen(product.pair.server, NULL, PORT, 512);
	long long passed;

	connects(&product, 5);
	EXPECT(counter(&product, "canary_answered") >= 1);
	passed = counter(&product, "syn_received");
	wake(&product);
	EXPECT(counter(&product, "syn_answered") > (counter(&product, "syn_received") - passed) / 2);
	EXPECT_EQ(counter(&product, "syn_passed_not_admitted"), 0);
	close(listener);
}

CASE("a SYN that the stack took stays with the stack, one that we answered is ours, waking and falling "
     "asleep")
{
	struct product product = product_new(NULL, "--port 8080 --policy flood --flood-hold 700");
	int listener = tcp_listen(product.pair.server, NULL, PORT, 512), fd;
	struct wire *wire = wire_open(product.pair.client, CLIENT_IF);

	connects(&product, 5);
	for (int timestamps = 0; timestamps < 2; timestamps++) {
		struct hand hand, again;
		long long answered, held, ended;

		/* Taken by the stack, sent again when we are awake. */
		REQUIRE(WAIT_FOR(!awake(&product), 5000));
		tcp_accept_all(listener);
		hand = again = hand_new(wire, 210, (uint16_t)(35000 + timestamps), SERVER_IP4, PORT,
					timestamps);
		answered = counter(&product, "syn_answered");
		REQUIRE(hand_syn(&hand));
		EXPECT_EQ(counter(&product, "syn_answered"), answered, "answered while dormant");
		wake(&product);
		held = counter(&product, "syn_passed_held");
		REQUIRE(hand_syn(&again));
		EXPECT_EQ(again.synack.seq, hand.synack.seq, "another handshake was begun");
		EXPECT_EQ(counter(&product, "syn_passed_held"), held + 1);
		wire_send(wire, &hand.spec);
		fd = tcp_accept(listener, 2000);
		EXPECT(fd >= 0, "a native handshake is lost on waking");
		close(fd);

		/* Answered by us, sent again when we sleep; the client took our answer. */
		wake(&product);
		hand = again = hand_new(wire, 211, (uint16_t)(35000 + timestamps), SERVER_IP4, PORT,
					timestamps);
		answered = counter(&product, "syn_answered");
		REQUIRE(hand_syn(&hand));
		EXPECT(counter(&product, "syn_answered") > answered, "not answered while awake");
		REQUIRE(WAIT_FOR(!awake(&product), 5000));
		REQUIRE(hand_syn(&again));
		EXPECT(again.synack.seq != hand.synack.seq);
		ended = counter(&product, "promote_ended_other_handshake");
		wire_send(wire, &hand.spec);
		fd = tcp_accept(listener, 2000);
		EXPECT(fd >= 0, "our handshake is lost on falling asleep");
		EXPECT_EQ(counter(&product, "promote_ended_other_handshake"), ended + 1);
		close(fd);
	}
	wire_close(wire);
	close(listener);
}

CASE("it does not fall asleep between two waves")
{
	struct product product = product_new(NULL, "--port 8080 --policy flood --flood-hold 1500");
	int listener = tcp_listen(product.pair.server, NULL, PORT, 512);

	connects(&product, 5);
	for (int wave = 0; wave < 4; wave++) {
		netns_stop(flood_start(&product, 20000, 1), 0, 3000);
		poll(NULL, 0, 500);
		EXPECT(awake(&product), "after wave %d", wave);
	}
	EXPECT_EQ(counter(&product, "service_woken"), 1);
	close(listener);
}

CASE("a slow flood that fills half of the SYN queue wakes it, too")
{
	struct product product =
		product_new(NULL, "--port 8080 --policy flood --flood-hold 2000 --flood-rate 100000");
	int listener = tcp_listen(product.pair.server, NULL, PORT, 16);
	struct wire *wire;
	long long answered;

	connects(&product, 5);
	tcp_accept_all(listener);
	wire = wire_open(product.pair.client, CLIENT_IF);
	for (int i = 0; i < 20; i++) {
		struct hand hand = hand_new(wire, 1 + i, 31000, SERVER_IP4, PORT, true);

		wire_send(wire, &hand.spec);
		poll(NULL, 0, 20);
	}
	EXPECT_EQ(counter(&product, "service_woken"), 1);
	EXPECT(awake(&product));
	answered = counter(&product, "syn_answered");
	EXPECT(answered > 5, "%lld are answered", answered);
	connects(&product, 3);
	EXPECT(counter(&product, "syn_answered") >= answered + 3);
	wire_close(wire);
	close(listener);
}

CASE("set and attach change the policy of a service while it is used")
{
	struct product product = product_new(NULL, "--port 8080");
	int listener = tcp_listen(product.pair.server, NULL, PORT, 512);
	long long answered;

	product_admit(&product, SERVER_IP4, PORT);
	product_must(&product, "set *:8080 policy=flood");
	connects(&product, 2);
	answered = counter(&product, "syn_answered");
	connects(&product, 10);
	EXPECT_EQ(counter(&product, "syn_answered"), answered);
	EXPECT(counter(&product, "syn_passed_dormant") >= 9);
	product_must(&product, "attach " SERVER_IF " --port 8080 --policy always --firewall-checked");
	connects(&product, 10);
	EXPECT(counter(&product, "syn_answered") >= answered + 6);
	EXPECT_EQ(product_run(&product, "set *:8080 policy=sometimes"), 2);
	EXPECT_EQ(product_run(&product, "attach " SERVER_IF " --port 8080 --flood-rate 1"), 2);
	close(listener);
}

/* "ok=9990 failed=10 …": one of the numbers. */
static long number_of(const char *file, const char *name)
{
	const char *said = netns_output(NULL, "grep -o ' *%s=[0-9]*' %s | grep -o '[0-9]*'", name, file);

	REQUIRE(said && *said, "%s is not in what churn said", name);
	return atol(said);
}

CASE("10,000 handshakes at 10 % loss over 100 wakings and sleepings: no more fail than natively")
{
	static const struct pair_spec spec = { .relay = true };
	struct product product =
		product_new(&spec, "--port 8080 --policy flood --flood-hold 60 --flood-rate 4000");
	/* Ours and native ones, by IPv4 and by IPv6. */
	static const char *const files[] = { "build/tests/flood-ours", "build/tests/flood-native",
					     "build/tests/flood-ours6", "build/tests/flood-native6" };
	long failed[4], ok[4];
	pid_t churn[4];

	report_case_limit(240);
	netns_sysctl(product.pair.server, "net.core.somaxconn", "8192");
	netns_spawn(product.pair.server, "/dev/null",
		    "build/tests/tools/respond --port %d --backlog 4096 --echo --quiet", PORT);
	netns_spawn(product.pair.server, "/dev/null",
		    "build/tests/tools/respond --port %d --backlog 4096 --echo --quiet", NATIVE_PORT);
	REQUIRE(WAIT_FOR(netns_listens(product.pair.server, PORT) &&
				 netns_listens(product.pair.server, NATIVE_PORT),
			 5000));
	/* What the flood sends goes across the relay as well. */
	netns_xdp(product.pair.relay, RELAY_CLIENT_IF, 2 /* XDP_PASS */);
	netns_offloads_off(product.pair.relay, RELAY_CLIENT_IF);
	netns_spawn(product.pair.relay, "/dev/null",
		    "build/tests/tools/delay --ms 5 --loss 10 --seed 11 " RELAY_CLIENT_IF
		    " " RELAY_SERVER_IF);
	connects(&product, 5);
	connects_to(&product, SERVER_IP6, 5);
	for (int i = 0; i < 4; i++)
		churn[i] = netns_spawn(product.pair.client, files[i],
				       "build/tests/tools/churn --connect %s --port %d --count %d "
				       "--concurrency 2000 --rate 175 --payload 100 --expect-echo "
				       "--deadline 30 --close-first",
				       i < 2 ? SERVER_IP4 : SERVER_IP6, i & 1 ? NATIVE_PORT : PORT,
				       HANDSHAKES / 2);
	/* Waves that wake it, and pauses in which it falls asleep. */
	for (int wave = 0; wave < WAKINGS + 15; wave++) {
		for (int family = 0; family < 2; family++)
			netns_must(product.pair.client,
				   "build/tests/tools/flood --iface " CLIENT_IF
				   " --src %s --dst %s --dport %d --rate 20000 --seconds 0.01 --burst 4 "
				   "--seed %d",
				   family ? FAKE_NET6 : FAKE_NET4, family ? SERVER_IP6 : SERVER_IP4, PORT,
				   wave + 1);
		poll(NULL, 0, 150);
	}
	for (int i = 0; i < 4; i++) {
		netns_stop(churn[i], 0, 120000);
		failed[i] = number_of(files[i], "failed");
		ok[i] = number_of(files[i], "ok");
		EXPECT_EQ(ok[i] + failed[i], HANDSHAKES / 2);
	}
	printf("# %lld wakings, %lld SYNs answered, %lld passed while dormant; %lld promoted; failed: %ld "
	       "and %ld, natively %ld and %ld\n",
	       counter(&product, "service_woken"), counter(&product, "syn_answered"),
	       counter(&product, "syn_passed_dormant"), counter(&product, "promoted"), failed[0], failed[2],
	       failed[1], failed[3]);
	EXPECT(counter(&product, "service_woken") >= 2 * WAKINGS);
	/* Or both ways of a handshake are not there to be mixed up. */
	EXPECT(counter(&product, "promoted") >= HANDSHAKES / 20, "%lld of %d were ours",
	       counter(&product, "promoted"), HANDSHAKES);
	EXPECT(counter(&product, "syn_passed_dormant") >= HANDSHAKES / 20);
	/* By chance alone: of so few, a handful more. */
	EXPECT(failed[0] + failed[2] <= failed[1] + failed[3] + 5, "%ld failed, natively %ld",
	       failed[0] + failed[2], failed[1] + failed[3]);
}

int main(int argc, char **argv)
{
	return report_main(argc, argv, NULL);
}
