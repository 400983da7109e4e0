// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* An unmodified nginx behind it: requests one by one and at once, large transfers, connections in a hurry.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "product.h"

enum {
	PORT = 80,
	SEQUENTIAL = 1000,
	CONCURRENT = 200,
	WRK_SECONDS = 20,
	WRK_CONNECTIONS = 64,
	BIG_MB = 100,
};

static char folder[128];

static void remove_folders(void)
{
	netns_sh(NULL, "rm -rf /tmp/xdp-handshake-nginx-%d-*", getpid());
}

/*
 * nginx in the server's namespace, with a page, room for uploads, and a configuration of its own. @prefix:
 * of its command.
 */
static void start_nginx(const struct product *product, const char *prefix)
{
	char path[256];
	FILE *conf;

	snprintf(folder, sizeof(folder), "/tmp/xdp-handshake-nginx-%d-XXXXXX", getpid());
	REQUIRE(mkdtemp(folder), "%s", strerror(errno));
	report_at_case_end(remove_folders);
	netns_must(NULL,
		   "mkdir %s/www %s/www/put %s/tmp && chmod -R a+rwx %s && echo hello > %s/www/index.html",
		   folder, folder, folder, folder, folder);
	snprintf(path, sizeof(path), "%s/nginx.conf", folder);
	conf = fopen(path, "w");
	REQUIRE(conf);
	fprintf(conf,
		"worker_processes 1;\npid %s/pid;\nerror_log %s/error.log;\n"
		"events { worker_connections 4096; }\n"
		"http { access_log off; client_max_body_size 0;\n"
		"  client_body_temp_path %s/tmp; proxy_temp_path %s/tmp; fastcgi_temp_path %s/tmp;\n"
		"  uwsgi_temp_path %s/tmp; scgi_temp_path %s/tmp;\n"
		"  server { listen %d backlog=4096; listen [::]:%d backlog=4096; root %s/www;\n"
		"    location /put/ { dav_methods PUT; } } }\n",
		folder, folder, folder, folder, folder, folder, folder, PORT, PORT, folder);
	fclose(conf);
	netns_spawn(product->pair.server, NULL, "%s nginx -g 'daemon off;' -c %s", prefix, path);
	REQUIRE(WAIT_FOR(netns_listens(product->pair.server, PORT), 5000), "nginx does not listen");
}

/* What the stack got, by a counter of its own firewall; our own counters are asked as well. */
static void watch_syns(const struct product *product)
{
	netns_must(
		product->pair.server,
		"nft 'add table inet watch; add chain inet watch in { type filter hook input priority 0; };"
		" add counter inet watch syns; add rule inet watch in tcp dport %d"
		" tcp flags & (fin|syn|rst|ack) == syn counter name syns'",
		PORT);
}

static long long syns_seen(const struct product *product)
{
	const char *said = netns_output(
		product->pair.server,
		"nft list counter inet watch syns | sed -n 's/.*packets \\([0-9]*\\).*/\\1/p'");

	REQUIRE(said && *said, "no counter of SYNs: %s", netns_said());
	return atoll(said);
}

static long long syns_passed(const struct product *product)
{
	return counters(product, "syn_passed_");
}

static void many_requests(const char *host)
{
	struct product product = product_new(NULL, "--port 80 --canary once");
	long long promoted, passed, ok;

	start_nginx(&product, "");
	product_admit(&product, strchr(host, '[') ? SERVER_IP6 : SERVER_IP4, PORT);
	watch_syns(&product);
	passed = syns_passed(&product);
	promoted = counter(&product, "promoted");
	ok = atoll(netns_output(product.pair.client,
				"for i in $(seq %d); do curl -sg -m 10 http://%s/; done | grep -c hello",
				SEQUENTIAL, host));
	EXPECT_EQ(ok, SEQUENTIAL, "one after the other");
	ok = atoll(netns_output(
		product.pair.client,
		"for i in $(seq %d); do curl -sg -m 20 http://%s/ & done | grep -c hello; wait", CONCURRENT,
		host));
	EXPECT_EQ(ok, CONCURRENT, "at once");
	EXPECT_EQ(syns_passed(&product), passed, "SYNs were passed");
	EXPECT_EQ(syns_seen(&product), 0, "the stack got SYNs");
	EXPECT_EQ(counter(&product, "promoted"), promoted + SEQUENTIAL + CONCURRENT);
}

CASE("IPv4: 1,000 requests one by one and 200 at once, and the stack saw no SYN")
{
	many_requests(SERVER_IP4);
}

CASE("IPv6: 1,000 requests one by one and 200 at once, and the stack saw no SYN")
{
	many_requests("[" SERVER_IP6 "]");
}

CASE("with canaries on, the stack sees them and no other SYN")
{
	struct product product = product_new(NULL, "--port 80");
	long long before, canaries;

	start_nginx(&product, "");
	product_admit(&product, SERVER_IP4, PORT);
	watch_syns(&product);
	before = syns_passed(&product);
	canaries = counter(&product, "syn_passed_canary");
	netns_must(product.pair.client,
		   "for i in $(seq 300); do curl -sg -m 10 http://" SERVER_IP4 "/; done");
	canaries = counter(&product, "syn_passed_canary") - canaries;
	EXPECT(canaries > 0, "300 connections and no canary");
	EXPECT_EQ(syns_passed(&product) - before, canaries, "SYNs other than canaries were passed");
	EXPECT_EQ(syns_seen(&product), canaries, "the stack got other SYNs than canaries");
	EXPECT_EQ(counter(&product, "canary_answered"), counter(&product, "syn_passed_canary") + 1,
		  "the first one is passed because the service is not admitted yet");
}

static void big_transfers(const char *host)
{
	struct product product = product_new(NULL, "--port 80 --canary once");
	char sum[80];

	start_nginx(&product, "");
	product_admit(&product, strchr(host, '[') ? SERVER_IP6 : SERVER_IP4, PORT);
	netns_must(NULL, "head -c %dM /dev/urandom > %s/www/big", BIG_MB, folder);
	snprintf(sum, sizeof(sum), "%.64s", netns_output(NULL, "sha256sum < %s/www/big", folder));
	EXPECT_STR(netns_output(product.pair.client, "curl -sg -m 60 http://%s/big | sha256sum | cut -c-64",
				host),
		   sum, "download");
	netns_must(product.pair.client, "curl -sgf -m 60 -T %s/www/big http://%s/put/big", folder, host);
	EXPECT_STR(netns_output(NULL, "sha256sum < %s/www/put/big | cut -c-64", folder), sum, "upload");
	EXPECT_EQ(counter(&product, "promoted"), counter(&product, "syn_answered"));
}

CASE("IPv4: 100 MB each way, digests match")
{
	big_transfers(SERVER_IP4);
}

CASE("IPv6: 100 MB each way, digests match")
{
	big_transfers("[" SERVER_IP6 "]");
}

/* ---- connections in a hurry: each is closed by the server, and its port is used again at once ---- */

/* What is on the server's end of the pair. */
enum behind {
	NO_PROGRAM, /* native, and the device's receive path is that of a veth without XDP */
	NO_OP,	    /* native, behind an XDP program that passes everything */
	OURS,
	BEHINDS,
};

static const char *const behind_names[] = { "no program", "a program that passes everything", "us" };

struct hurry {
	struct product product;
	pid_t wrk;
	FILE *snmp;	/* the server's */
	char said[160]; /* the file that has what wrk said */
};

/* nginx and wrk, each end on a CPU of its own: where the scheduler puts them makes more than what is
 * measured. */
static void hurry_start(struct hurry *hurry, enum behind behind, int seconds)
{
	const bool cpus = sysconf(_SC_NPROCESSORS_ONLN) > 1;
	const struct product *product = &hurry->product;

	hurry->product = product_new(NULL, behind == OURS ? "--port 80" : NULL);
	start_nginx(product, cpus ? "taskset -c 1" : "");
	/*
	 * A client that happens to close first keeps its port in TIME-WAIT, and would soon be out of ports:
	 * that limit is the client's own, so it keeps none here. The server keeps all of its.
	 */
	netns_sysctl(product->pair.client, "net.ipv4.tcp_max_tw_buckets", "1");
	netns_sysctl(product->pair.server, "net.ipv4.tcp_max_tw_buckets", "262144");
	if (behind == NO_OP)
		netns_xdp(product->pair.server, SERVER_IF, 2 /* XDP_PASS */);
	netns_enter(product->pair.server);
	hurry->snmp = fopen("/proc/thread-self/net/snmp", "r");
	netns_enter(NULL);
	REQUIRE(hurry->snmp, "%s", strerror(errno));
	snprintf(hurry->said, sizeof(hurry->said), "%s/wrk", folder);
	hurry->wrk = netns_spawn(product->pair.client, hurry->said,
				 "%s wrk -t1 -c%d -d%d -H 'Connection: close' http://" SERVER_IP4 "/",
				 cpus ? "taskset -c 0" : "", WRK_CONNECTIONS, seconds);
}

static void hurry_end(struct hurry *hurry, enum behind behind)
{
	netns_stop(hurry->wrk, SIGKILL, 1000);
	fclose(hurry->snmp);
	if (behind == OURS)
		EXPECT(counter(&hurry->product, "syn_passed_held") > 1000,
		       "no tuple in TIME-WAIT was used again");
	netns_delete(hurry->product.pair.client);
	netns_delete(hurry->product.pair.server);
}

/* Connections that the server's stack has accepted so far (PassiveOpens of RFC 4022). */
static long hurry_connections(struct hurry *hurry)
{
	char line[512];
	long opens = -1;

	rewind(hurry->snmp);
	while (fgets(line, sizeof(line), hurry->snmp))
		sscanf(line, "Tcp: %*d %*d %*d %*d %*d %ld", &opens);
	REQUIRE(opens >= 0, "no PassiveOpens in /proc/net/snmp");
	return opens;
}

CASE("wrk with 64 connections for 20 s, each closed by the server: none hangs")
{
	struct hurry hurry;
	const char *said;

	hurry_start(&hurry, OURS, WRK_SECONDS);
	EXPECT_EQ(netns_stop(hurry.wrk, 0, WRK_SECONDS * 1000 + 5000), 0);
	said = netns_output(NULL, "cat %s", hurry.said);
	EXPECT(said && strstr(said, "Requests/sec:") && !strstr(said, "Socket errors"), "%s", netns_said());
	EXPECT(hurry_connections(&hurry) > 1000);
	hurry_end(&hurry, OURS);
}

static int compare_ratios(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* The middle, and the middle half, of @count ratios; sorts them. */
static double middle(double *ratios, int count, double *low, double *high)
{
	qsort(ratios, (size_t)count, sizeof(*ratios), compare_ratios);
	*low = ratios[count / 4];
	*high = ratios[count - 1 - count / 4];
	return ratios[count / 2];
}

/*
 * All three servers at once, but one of their clients running at any moment, for a twentieth of a second by
 * turns: whatever else the machine does falls on all of them alike. Each turn of ours is set against the
 * native ones beside it. WRK_ROUNDS=N for more rounds than a test has time for.
 */
CASE("wrk's rate is near the native one")
{
	enum { ROUNDS = 3, ROUNDS_MAX = 100, TURNS = 60, TURN_MS = 50, WARMING = 5 };
	static double ratio[BEHINDS][ROUNDS_MAX * TURNS];
	const char *more = getenv("WRK_ROUNDS");
	int rounds = more ? atoi(more) : ROUNDS, count = 0;

	REQUIRE(rounds > 0 && rounds <= ROUNDS_MAX, "WRK_ROUNDS=%s", more);
	report_case_limit((unsigned int)rounds * 40);
	for (int round = 0; round < rounds; round++) {
		struct hurry hurry[BEHINDS];

		for (int j = 0; j < BEHINDS; j++) {
			hurry_start(&hurry[j], (enum behind)j, 600);
			kill(-hurry[j].wrk, SIGSTOP);
		}
		for (int turn = 0; turn < TURNS + WARMING; turn++) {
			long connections[BEHINDS];

			for (int i = 0; i < BEHINDS; i++) {
				/* In another order each time. */
				const int j = (turn & 1 ? BEHINDS - 1 - i : i);
				const long before = hurry_connections(&hurry[j]);

				kill(-hurry[j].wrk, SIGCONT);
				poll(NULL, 0, TURN_MS);
				kill(-hurry[j].wrk, SIGSTOP);
				connections[j] = hurry_connections(&hurry[j]) - before;
			}
			if (turn < WARMING)
				continue;
			for (enum behind behind = NO_PROGRAM; behind < OURS; behind++)
				ratio[behind][count] = connections[behind] ? (double)connections[OURS] /
										     connections[behind]
									   : 0;
			count++;
		}
		for (int j = 0; j < BEHINDS; j++)
			hurry_end(&hurry[j], (enum behind)j);
	}
	for (enum behind behind = NO_PROGRAM; behind < OURS; behind++) {
		double low, high, it = middle(ratio[behind], count, &low, &high);

		printf("# connections a second, of the native rate with %s: %.3f (middle half %.3f to "
		       "%.3f)\n",
		       behind_names[behind], it, low, high);
		/* A veth device with any XDP program at all receives by another, slower way. */
		EXPECT(it >= (behind == NO_OP ? 0.85 : 0.7), "%.3f of the native rate with %s", it,
		       behind_names[behind]);
	}
}

int main(int argc, char **argv)
{
	return report_main(argc, argv, NULL);
}
