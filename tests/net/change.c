// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Under load: programs replaced, keys rotated, tuples used again at once; and what detach does to
 * handshakes. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "abi.h"
#include "product.h"

#define TOOLS "build/tests/tools/"

enum {
	PORT = 8080,
};

static void serve(const struct product *product, const char *how)
{
	netns_spawn(product->pair.server, "/dev/null", TOOLS "respond --port %d --backlog 4096 --quiet %s",
		    PORT, how);
	REQUIRE(WAIT_FOR(netns_listens(product->pair.server, PORT), 3000));
}

/* What a churn in the background has to say for itself. */
struct load {
	char output[64];
	pid_t pid;
};

static struct load load_start(const struct product *product, const char *arguments)
{
	static int number;
	struct load load;

	snprintf(load.output, sizeof(load.output), "build/tests/load-%d-%d", getpid(), number++);
	load.pid = netns_spawn(product->pair.client, load.output,
			       TOOLS "churn --connect " SERVER_IP4 " --port %d --deadline 20 %s", PORT,
			       arguments);
	return load;
}

/* Waits for its end; no connection may have failed. */
static void load_end(struct load *load, int ms, const char *name)
{
	int status = netns_stop(load->pid, 0, ms);

	EXPECT_EQ(status, 0, "%s: %s", name, netns_output(NULL, "tail -n 3 %s", load->output));
	netns_sh(NULL, "rm -f %s", load->output);
}

/* One round of all transfers: a block goes out on each connection, and must come back on it. */
static void transfer_round(const int *fds, int count, unsigned int round)
{
	char block[1024], echo[1024];

	for (int i = 0; i < count; i++) {
		memset(block, (int)(i + round), sizeof(block));
		if (!EXPECT(write(fds[i], block, sizeof(block)) == sizeof(block),
			    "transfer %d, round %u: %s", i, round, strerror(errno)))
			report_abandon();
	}
	for (int i = 0; i < count; i++) {
		memset(block, (int)(i + round), sizeof(block));
		if (!EXPECT(tcp_read(fds[i], echo, sizeof(echo), 5000) == sizeof(echo) &&
				    !memcmp(block, echo, sizeof(echo)),
			    "transfer %d, round %u: no echo, or another one", i, round))
			report_abandon();
	}
}

CASE("attach over a running attachment, 20 times, under 500 transfers and 2,000 connects a second")
{
	enum { TRANSFERS = 500 };
	struct product product = product_new(NULL, "--port 8080");
	unsigned int rounds = 0;
	struct load connects;
	int fds[TRANSFERS];

	long long promoted;

	/* Each attach has the verifier look at all programs, beside the load. */
	report_case_limit(400);
	/* The client closes first; its own TIME-WAIT would use up its ports. */
	netns_sysctl(product.pair.client, "net.ipv4.tcp_max_tw_buckets", "1");
	serve(&product, "--echo");
	product_admit(&product, SERVER_IP4, PORT);
	promoted = counter(&product, "promoted");
	for (int i = 0; i < TRANSFERS; i++) {
		fds[i] = tcp_connect(product.pair.client, SERVER_IP4, PORT, 3000);
		REQUIRE(fds[i] >= 0, "transfer %d: %s", i, strerror(errno));
	}
	EXPECT(counter(&product, "promoted") > promoted + TRANSFERS * 9 / 10,
	       "few transfers were promoted");
	connects = load_start(&product,
			      "--count 60000 --rate 2000 --concurrency 256 --payload 100 --expect-echo");
	for (int i = 0; i < 20; i++) {
		pid_t attach = netns_spawn(product.pair.server, NULL,
					   PROGRAM " attach " SERVER_IF
						   " --port 8080 --firewall-checked --pin-path %s "
						   "2>/dev/null",
					   product.pins);

		for (int j = 0; j < 3; j++)
			transfer_round(fds, TRANSFERS, rounds++);
		EXPECT_EQ(netns_stop(attach, 0, 60000), 0, "attach %d", i);
	}
	EXPECT(!kill(connects.pid, 0), "the load was over before the attaching was");
	load_end(&connects, 90000, "connects");
	transfer_round(fds, TRANSFERS, rounds);
	EXPECT(counter(&product, "promoted") > promoted + 30000, "few were promoted");
	for (int i = 0; i < TRANSFERS; i++)
		close(fds[i]);
}

CASE("a new port while attached: connections that exist on it are known from the first SYN on")
{
	struct product product = product_new(NULL, "--port 9999");
	int listener = tcp_listen(product.pair.server, NULL, PORT, 64), client, server;
	char byte;

	client = tcp_connect(product.pair.client, SERVER_IP4, PORT, 2000);
	server = tcp_accept(listener, 1000);
	REQUIRE(client >= 0 && server >= 0);
	product_must(&product, "attach " SERVER_IF " --port 8080 --firewall-checked");
	product_admit(&product, SERVER_IP4, PORT);
	EXPECT_EQ(write(client, "x", 1), 1);
	EXPECT_EQ(tcp_read(server, &byte, 1, 1000), 1);
	EXPECT_EQ(counter(&product, "ack_connected"), 0,
		  "an exact lookup had to find it: the filter was not filled");
	EXPECT(counter(&product, "ack_known") > 0);
	close(client);
	close(server);
	close(listener);
}

CASE("detach drains: a handshake in flight still gets its connection; --now does not wait")
{
	struct product product = product_new(NULL, "--port 8080 --canary once --epoch 1");
	int listener = tcp_listen(product.pair.server, NULL, PORT, 64), fd;
	struct wire *wire = wire_open(product.pair.client, CLIENT_IF);
	struct tcp_frame reset;
	struct hand hand;
	int64_t begin;
	pid_t detach;

	product_admit(&product, SERVER_IP4, PORT);
	tcp_accept_all(listener);
	hand = hand_new(wire, 5, 20000, SERVER_IP4, PORT, true);
	REQUIRE(hand_syn(&hand));
	begin = now_ms();
	detach = netns_spawn(product.pair.server, "/dev/null",
			     PROGRAM " detach " SERVER_IF " --pin-path %s", product.pins);
	REQUIRE(WAIT_FOR(strstr(netns_output(product.pair.server, PROGRAM " status --pin-path %s",
					     product.pins),
				"draining"),
			 1000));
	poll(NULL, 0, 500);
	wire_send(wire, &hand.spec);
	fd = tcp_accept(listener, 1000);
	EXPECT(fd >= 0, "a handshake in flight is lost");
	close(fd);
	/* Meanwhile SYNs are the stack's. */
	fd = tcp_connect(product.pair.client, SERVER_IP4, PORT, 1000);
	EXPECT(fd >= 0, "while draining: %s", strerror(errno));
	close(fd);
	EXPECT_EQ(counter(&product, "syn_passed_draining"), 1);
	EXPECT_EQ(netns_stop(detach, 0, 5000), 0, "detach");
	EXPECT(now_ms() - begin >= 1900, "detach took %lld ms, less than a cookie's life",
	       (long long)(now_ms() - begin));
	EXPECT(netns_sh(NULL, "test -e %s", product.pins), "pins are left");

	product_must(&product,
		     "attach " SERVER_IF " --port 8080 --canary once --epoch 1 --firewall-checked");
	product_admit(&product, SERVER_IP4, PORT);
	tcp_accept_all(listener);
	hand = hand_new(wire, 5, 20001, SERVER_IP4, PORT, true);
	REQUIRE(hand_syn(&hand));
	begin = now_ms();
	product_must(&product, "detach " SERVER_IF " --now");
	EXPECT(now_ms() - begin < 1500, "detach --now took %lld ms", (long long)(now_ms() - begin));
	wire_send(wire, &hand.spec);
	EXPECT(wire_recv_flags(wire, &hand.spec, RST, 0, 1000, &reset), "after --now a cookie is nobody's");
	wire_close(wire);
	close(listener);
}

CASE("50 key rotations at an epoch of one second under 10,000 handshakes of 100 ms: none lost")
{
	struct pair_spec spec = { .relay = true };
	struct product product = product_new(&spec, "--port 8080 --canary once --epoch 1");
	struct load load;
	char first[64], last[64];

	serve(&product, "--echo");
	netns_spawn(product.pair.relay, "/dev/null",
		    TOOLS "delay --ms 50 " RELAY_CLIENT_IF " " RELAY_SERVER_IF);
	product_admit(&product, SERVER_IP4, PORT);
	product_must(&product, "key show");
	snprintf(first, sizeof(first), "%.20s", netns_said());
	load = load_start(&product,
			  "--count 10000 --rate 190 --concurrency 256 --payload 10 --expect-echo");
	for (int i = 0; i < 50; i++) {
		product_must(&product, "key rotate");
		poll(NULL, 0, 1000);
	}
	load_end(&load, 60000, "handshakes");
	product_must(&product, "key show");
	snprintf(last, sizeof(last), "%.20s", netns_said());
	EXPECT(strcmp(first, last), "the key is still %s", last);
	EXPECT_EQ(counters(&product, "ack_rejected_"), 0);
	EXPECT(counter(&product, "promoted") >= 9900, "few were promoted");
}

CASE("the server closes first, the client uses its port again at once: 500 times on one tuple")
{
	struct product product = product_new(NULL, "--port 8080");
	struct load load;

	serve(&product, "--close-first");
	product_admit(&product, SERVER_IP4, PORT);
	load = load_start(&product, "--count 500 --concurrency 1 --bind-port 40000 --server-closes");
	load_end(&load, 100000, "one tuple");
	EXPECT(counter(&product, "syn_passed_held") >= 490, "TIME-WAIT went unnoticed");
	/* And by IPv6. */
	product_admit(&product, SERVER_IP6, PORT);
	EXPECT_EQ(netns_sh(product.pair.client,
			   TOOLS "churn --connect " SERVER_IP6
				 " --port %d --deadline 20 --count 500 --concurrency 1 "
				 "--bind-port 40000 --server-closes",
			   PORT),
		  0, "%s", netns_said());
}

/* It is late when three turns have been left out, however long it is from one to the next. */
static void expect_turns_told(const struct product *product)
{
	static const __u32 turns_ms[] = { 1000, 30000, 3600000 };
	const int fd = product_pin(product, "settings");
	const __u32 zero = 0;
	struct settings set;

	REQUIRE(!bpf_map_lookup_elem(fd, &zero, &set), "%s", strerror(errno));
	/* Of a machine that has just been started nothing can be old. */
	set.turned_ms = now_ms() > 200000 ? (__u64)now_ms() - 200000 : 1;
	for (size_t i = 0; i < 3; i++) {
		const bool late = now_ms() - (int64_t)set.turned_ms > 125000 && turns_ms[i] <= 30000;

		set.turn_ms = turns_ms[i];
		REQUIRE(!bpf_map_update_elem(fd, &zero, &set, BPF_EXIST));
		product_must(product, "status");
		EXPECT_EQ(!!strstr(netns_said(), "nobody empties"), late, "every %u ms: %s", turns_ms[i],
			  netns_said());
	}
	close(fd);
}

CASE("run attaches, turns the filter's generation, and leaves the datapath in place")
{
	struct product product = product_new(NULL, NULL);
	int listener = tcp_listen(product.pair.server, NULL, PORT, 64), client, server;
	char byte, before[16];
	pid_t run;

	run = netns_spawn(product.pair.server, "build/tests/run.log",
			  PROGRAM " run " SERVER_IF " --port 8080 --firewall-checked --pin-path %s",
			  product.pins);
	REQUIRE(WAIT_FOR(!product_run(&product, "status") && strstr(netns_said(), "answering"), 20000),
		"%s", netns_said());
	/* From the beginning on it is told that it does. */
	EXPECT(WAIT_FOR(!product_run(&product, "status") && !strstr(netns_said(), "nobody empties"), 5000),
	       "%s", netns_said());
	product_admit(&product, SERVER_IP4, PORT);
	tcp_accept_all(listener);
	client = tcp_connect(product.pair.client, SERVER_IP4, PORT, 2000);
	server = tcp_accept(listener, 1000);
	REQUIRE(client >= 0 && server >= 0);
	snprintf(
		before, sizeof(before), "%s",
		netns_output(
			NULL,
			"bpftool -j map dump pinned %s/settings | jq .[0].formatted.value.known_generation",
			product.pins));
	EXPECT(WAIT_FOR(strcmp(before, netns_output(NULL,
						    "bpftool -j map dump pinned %s/settings | jq "
						    ".[0].formatted.value.known_generation",
						    product.pins)),
			40000),
	       "the generation stays %s", before);
	EXPECT_EQ(netns_stop(run, SIGTERM, 3000), 0, "run at SIGTERM");
	/* What the new generation holds is what the stack holds: our connection is in it. */
	EXPECT_EQ(write(client, "x", 1), 1);
	EXPECT_EQ(tcp_read(server, &byte, 1, 1000), 1);
	EXPECT_EQ(counter(&product, "ack_connected"), 0, "the refill has missed a connection");
	close(client);
	close(server);
	/* Nobody runs; all goes on. */
	product_admit(&product, SERVER_IP4, PORT);
	expect_turns_told(&product);
	netns_sh(NULL, "rm -f build/tests/run.log");
	close(listener);
}

CASE("two loaders at once: one instance, both attached, nothing torn")
{
	struct product product = product_new(NULL, NULL);
	int listener = tcp_listen(product.pair.server, NULL, PORT, 64);

	netns_must(product.pair.server,
		   "ip link add second type veth peer name third && ip link set second up");
	for (int i = 0; i < 5; i++) {
		pid_t a = netns_spawn(product.pair.server, "/dev/null",
				      PROGRAM " attach " SERVER_IF
					      " --port 8080 --firewall-checked --pin-path %s",
				      product.pins);
		pid_t b = netns_spawn(product.pair.server, "/dev/null",
				      PROGRAM " attach second --port 8080 --firewall-checked --pin-path %s",
				      product.pins);

		EXPECT_EQ(netns_stop(a, 0, 60000), 0, "round %d", i);
		EXPECT_EQ(netns_stop(b, 0, 60000), 0, "round %d", i);
		product_must(&product, "status");
		EXPECT(strstr(netns_said(), SERVER_IF) && strstr(netns_said(), "second"), "round %d: %s", i,
		       netns_said());
		product_admit(&product, SERVER_IP4, PORT);
		product_must(&product, "detach --all --now");
	}
	close(listener);
}

CASE("attach while detach waits: the interface stays")
{
	struct product product = product_new(NULL, "--port 8080 --epoch 1");
	int listener = tcp_listen(product.pair.server, NULL, PORT, 64);
	pid_t detach = netns_spawn(product.pair.server, "/dev/null", PROGRAM " detach --all --pin-path %s",
				   product.pins);

	REQUIRE(WAIT_FOR(!product_run(&product, "status") && strstr(netns_said(), "draining"), 2000));
	product_must(&product, "attach " SERVER_IF " --port 8080 --firewall-checked");
	EXPECT_EQ(netns_stop(detach, 0, 6000), 0);
	product_must(&product, "status");
	EXPECT(strstr(netns_said(), "answering"), "%s", netns_said());
	product_admit(&product, SERVER_IP4, PORT);
	close(listener);
}

CASE("detach, attach, detach: the first one takes nothing off before the second one may")
{
	struct product product = product_new(NULL, "--port 8080 --canary once --epoch 3");
	int listener = tcp_listen(product.pair.server, NULL, PORT, 64), fd;
	struct wire *wire = wire_open(product.pair.client, CLIENT_IF);
	const int64_t life_ms = 6000;
	pid_t detach[2];
	struct hand hand;
	int64_t begin[2];

	for (int i = 0; i < 2; i++) {
		begin[i] = now_ms();
		detach[i] = netns_spawn(product.pair.server, "/dev/null",
					PROGRAM " detach --all --pin-path %s", product.pins);
		REQUIRE(WAIT_FOR(!product_run(&product, "status") && strstr(netns_said(), "draining"),
				 2000));
		if (i)
			break;
		product_must(&product, "attach " SERVER_IF " --port 8080 --canary once --firewall-checked");
		product_admit(&product, SERVER_IP4, PORT);
		/* A cookie lives for half as long as detach waits, at the least. */
		while (now_ms() < begin[0] + life_ms - 1500)
			poll(NULL, 0, 50);
		tcp_accept_all(listener);
		hand = hand_new(wire, 5, 20000, SERVER_IP4, PORT, true);
		REQUIRE(hand_syn(&hand));
	}
	while (now_ms() < begin[0] + life_ms + 300)
		poll(NULL, 0, 50);
	wire_send(wire, &hand.spec);
	fd = tcp_accept(listener, 1000);
	EXPECT(fd >= 0, "a handshake in flight is lost");
	close(fd);
	for (int i = 0; i < 2; i++)
		EXPECT_EQ(netns_stop(detach[i], 0, 20000), 0, "detach %d", i);
	EXPECT(now_ms() >= begin[1] + life_ms, "%lld ms", (long long)(now_ms() - begin[1]));
	EXPECT(netns_sh(NULL, "test -e %s", product.pins), "pins are left");
	wire_close(wire);
	close(listener);
}

CASE("an attach that fails leaves a running attachment as it was")
{
	struct product product = product_new(NULL, "--port 8080");
	int listener = tcp_listen(product.pair.server, NULL, PORT, 64);
	char before[2048];

	product_admit(&product, SERVER_IP4, PORT);
	product_must(&product, "status --json");
	snprintf(before, sizeof(before), "%.*s", (int)strcspn(strstr(netns_said(), "\"ports\""), "\n"),
		 strstr(netns_said(), "\"ports\""));
	EXPECT_EQ(product_run(&product,
			      "attach " SERVER_IF " lo --port 8080,9090 --mode native --firewall-checked"),
		  1);
	product_must(&product, "status --json");
	EXPECT(strstr(netns_said(), before) && strstr(netns_said(), "answering") &&
		       !strstr(netns_said(), "\"lo\""),
	       "%s", netns_said());
	product_admit(&product, SERVER_IP4, PORT);
	close(listener);
}

int main(int argc, char **argv)
{
	return report_main(argc, argv, NULL);
}
