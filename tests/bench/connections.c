// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Connections a second, and how long a handshake takes, with a server that accepts: in calm, and under a
 * flood of SYNs. All of it on one core, client, server and flood: so whatever a SYN takes is missing
 * elsewhere.
 *
 * Rates: a client a row that connects as fast as it can, of which one runs at any moment, for a twentieth
 * of a second by turns; and once more where the server closes first, and most tuples are used again while
 * it has them in TIME-WAIT. Else the client closes first, and no tuple has been used before.
 *
 * Times: of 4000 connections a second, which leave a core idle for most of the time.
 *
 * The flood comes before all else, as what a NIC brings does: every half millisecond what is due by then.
 * But who has been busy with it for two milliseconds on end lets others run for as long, as a kernel does
 * whose softirq thread has to share its core; what cannot be sent meanwhile is lost, as in a NIC's ring.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <fcntl.h>

#include "alone.h"
#include "connections.h"
#include "results.h"
#include "rows.h"
#include "table.h"

enum {
	ROUNDS = 10,
	OF_ROUNDS = 15, /* the default of the largest part */
	FLOODS = 4,
	TURNS = 4, /* in a round */
	TURN_MS = 50,
	AT_A_TIME = 32,
	PACED = 4000, /* connections a second */
	PACED_MS = 100,
	START_MS = 40, /* that a client takes to begin, at the most */
	PATIENCE_S = 2,
	ADDRESSES = 250,
	TIMES_MAX = ROUNDS_MAX * (PACED * PACED_MS / 1000),
	TICK_NS = 500000,
	BUSY_NS = 2000000,
};

static const char *const names[CONNECTION_ROWS] = { "empty program", "ours", "synproxy" };
static const int floods[FLOODS] = { 0, 50000, 300000, 1000000 };
static const char *const flood_names[FLOODS] = { CALM, "50k SYN/s", FLOODED, "1M SYN/s" };

/* Where the flood's SYN-ACKs end: tests/demo/far_end.bpf.c. The rest is the client's. */
#define FAR_END "build/tests/demo/far_end.bpf.o"
/* Of client and server, against whatever else this machine does. */
#define PRIORITY "nice -n -10 "

struct times {
	double us[TIMES_MAX];
	int count;
};

struct server {
	struct row row;
	pid_t churns[2]; /* by which side closes first */
	int snmp;	 /* /proc/net/snmp of the server */
	int address;	 /* of the client's, that was used last */
	struct times times[FLOODS];
};

static struct server servers[CONNECTION_ROWS];
static struct generator *generator;
static uint64_t seed;
static int cpu;

/* ---- flood ---- */

static void sleep_until(int64_t ns)
{
	const struct timespec until = { ns / 1000000000, ns % 1000000000 };

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}

/* For so long; yields how many SYNs were sent a second. */
static double flood(const struct server *server, int rate, int ms)
{
	const int64_t begin = now_ns(), end = begin + (int64_t)ms * 1000000;
	int64_t now = begin, from = begin, idle = begin;
	long sent = 0;

	if (!rate) {
		sleep_until(end);
		return 0;
	}
	generator_seed(generator, ++seed, 0);
	netns_enter(server->row.product.pair.client);
	alone(true);
	while (now < end) {
		const long due = (long)((double)(now - from) * rate / 1e9);
		int64_t next;

		if (due) {
			generator_run(generator, server->row.client_ifindex, due);
			sent += due;
			from = now;
		}
		now = now_ns();
		next = (from / TICK_NS + 1) * TICK_NS;
		if (now < next) {
			sleep_until(next);
			idle = now = now_ns();
		} else if (now - idle > BUSY_NS) {
			sleep_until(now + (now - idle));
			/* What came meanwhile is lost. */
			idle = now = now_ns();
			from = now - TICK_NS;
		}
	}
	alone(false);
	netns_enter(NULL);
	return (double)sent * 1e9 / (double)(now - begin);
}

/* ---- servers and clients ---- */

static void start_respond(const struct server *server, const char *arguments, int port)
{
	netns_spawn(server->row.product.pair.server, "/dev/null",
		    PRIORITY "taskset -c %d build/tests/tools/respond --port %d --sink --quiet %s", cpu,
		    port, arguments);
	REQUIRE(WAIT_FOR(netns_listens(server->row.product.pair.server, port), 3000));
}

/* What is connected from here on has another address than what was before, so that no tuple is used twice.
 */
static void next_address(struct server *server)
{
	server->address = server->address % ADDRESSES + 1;
	netns_must(server->row.product.pair.client,
		   "ip route replace " SERVER_IP4 "/32 dev " CLIENT_IF " src " FAKE_IP4 "%d",
		   server->address);
	row_refill(&server->row);
}

static pid_t start_churn(const struct server *server, const char *arguments, int port)
{
	return netns_spawn(server->row.product.pair.client, "/dev/null",
			   PRIORITY "taskset -c %d build/tests/tools/churn --connect " SERVER_IP4
				    " --port %d %s",
			   cpu, port, arguments);
}

static void make_server(struct server *server, enum answerer answerer)
{
	static const char *const arguments[2] = { "", "--server-closes" };
	const struct netns *client;

	server->row = (struct row){ .name = names[server - servers], .answerer = answerer };
	row_make(&server->row, generator, "pass");
	close(server->row.listener);
	client = server->row.product.pair.client;
	netns_must(client, "ip link set dev " CLIENT_IF " xdp off && ip link set dev " CLIENT_IF
			   " xdp obj " FAR_END " sec xdp");
	netns_must(client,
		   "for n in $(seq %d); do echo addr add " FAKE_IP4 "$n/32 dev lo; done | ip -batch -",
		   ADDRESSES);
	netns_sysctl(client, "net.ipv4.ip_local_port_range", "1024 65535");
	netns_sysctl(client, "net.ipv4.tcp_max_tw_buckets", "1000000");
	netns_sysctl(server->row.product.pair.server, "net.core.somaxconn", "4096");
	netns_enter(server->row.product.pair.server);
	server->snmp = open("/proc/thread-self/net/snmp", O_RDONLY | O_CLOEXEC);
	netns_enter(NULL);
	REQUIRE(server->snmp >= 0);
	start_respond(server, "", BENCH_PORT);
	start_respond(server, "--close-first", BENCH_PORT_CLOSES);
	for (int i = 0; i < 2; i++) {
		char text[128];
		const int port = i ? BENCH_PORT_CLOSES : BENCH_PORT;

		/* The service is learned, the caches are warm. */
		snprintf(text, sizeof(text), "--count 200 --concurrency 1 %s", arguments[i]);
		REQUIRE(netns_stop(start_churn(server, text, port), 0, 10000) == 0, "%s: %s",
			server->row.name, text);
		snprintf(text, sizeof(text), "--count 10000000 --concurrency %d --deadline 60 %s",
			 AT_A_TIME, arguments[i]);
		server->churns[i] = start_churn(server, text, port);
		usleep(100000);
		kill(-server->churns[i], SIGSTOP);
	}
}

/* Connections that the server's stack has accepted so far (PassiveOpens of RFC 4022). */
static long accepted(const struct server *server)
{
	char text[4096], *at;
	const ssize_t length = pread(server->snmp, text, sizeof(text) - 1, 0);
	long opens = -1;

	if (length > 0) {
		text[length] = '\0';
		at = strstr(text, "\nTcp:");
		at = at ? strstr(at + 1, "\nTcp:") : NULL;
		if (at)
			sscanf(at, "\nTcp: %*d %*d %*d %*d %*d %ld", &opens);
	}
	REQUIRE(opens >= 0, "no PassiveOpens in /proc/net/snmp");
	return opens;
}

/* ---- rates ---- */

/* Yields connections a second in one turn. */
static double turn(struct server *server, int closing, int rate, double *flooded)
{
	const pid_t pid = server->churns[closing];
	int64_t began;
	long before;
	double per_second;

	next_address(server);
	before = accepted(server);
	began = now_ns();
	kill(-pid, SIGCONT);
	*flooded = flood(server, rate, TURN_MS);
	kill(-pid, SIGSTOP);
	per_second = (double)(accepted(server) - before) * 1e9 / (double)(now_ns() - began);
	return per_second;
}

static void rates_round(void)
{
	double rate[FLOODS + 1][CONNECTION_ROWS] = {}, flooded[FLOODS][CONNECTION_ROWS] = {};

	for (int t = 0; t < TURNS; t++)
		for (int f = 0; f <= FLOODS; f++)
			for (int j = 0; j < CONNECTION_ROWS; j++) {
				/* In another order each time. */
				const int i = t & 1 ? CONNECTION_ROWS - 1 - j : j;
				double sent;

				rate[f][i] += turn(&servers[i], f == FLOODS, f == FLOODS ? 0 : floods[f],
						   &sent) /
					      TURNS;
				if (f < FLOODS)
					flooded[f][i] += sent / TURNS;
			}
	for (int i = 0; i < CONNECTION_ROWS; i++) {
		for (int f = 0; f < FLOODS; f++) {
			result_add(flood_names[f], names[i], CONNECTIONS, rate[f][i]);
			result_add(flood_names[f], names[i], FLOODED_BY, flooded[f][i]);
		}
		result_add(SERVER_CLOSES, names[i], CONNECTIONS, rate[FLOODS][i]);
	}
}

/* ---- times ---- */

static int compare(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double part(double *us, int count, double p)
{
	qsort(us, (size_t)count, sizeof(*us), compare);
	return us[(int)(p * (count - 1))];
}

static void times_turn(struct server *server, int f)
{
	struct times *times = &server->times[f];
	double us[PACED * PACED_MS / 1000];
	char path[64], text[160], line[32];
	int count = 0;
	FILE *file;
	pid_t pid;

	next_address(server);
	snprintf(path, sizeof(path), "/tmp/xdp-handshake-bench-%d", getpid());
	snprintf(text, sizeof(text), "--count %d --rate %d --concurrency %d --deadline %d --latencies %s",
		 PACED * PACED_MS / 1000, PACED, PACED, PATIENCE_S, path);
	pid = start_churn(server, text, BENCH_PORT);
	flood(server, floods[f], START_MS + PACED_MS);
	netns_stop(pid, 0, PATIENCE_S * 1000 + 2000);
	file = fopen(path, "r");
	REQUIRE(file, "%s, %s: no times", server->row.name, flood_names[f]);
	while (fgets(line, sizeof(line), file) && count < PACED * PACED_MS / 1000)
		us[count++] = atof(line);
	fclose(file);
	unlink(path);
	REQUIRE(count == PACED * PACED_MS / 1000);
	memcpy(times->us + times->count, us, sizeof(us));
	times->count += count;
	result_add(flood_names[f], server->row.name, P50, part(us, count, 0.5));
	result_add(flood_names[f], server->row.name, P99, part(us, count, 0.99));
}

static void times_round(int round)
{
	for (int f = 0; f < FLOODS; f++)
		for (int j = 0; j < CONNECTION_ROWS; j++)
			times_turn(&servers[round & 1 ? CONNECTION_ROWS - 1 - j : j], f);
}

/* ---- */

static void print_tables(int rounds)
{
	static const char *const workloads[] = { CALM, "50k SYN/s", FLOODED, "1M SYN/s", SERVER_CLOSES };

	printf("\nConnections with a server that accepts, one core for client, server and flood; medians "
	       "of %d rounds\n",
	       rounds);
	table_print("Connections a second", workloads, FLOODS + 1, names, CONNECTION_ROWS, CONNECTIONS, 1,
		    0);
	table_print("Handshakes of 4000 a second, microseconds: median", workloads, FLOODS, names,
		    CONNECTION_ROWS, P50, 1, 0);
	table_print("99 of 100 within", workloads, FLOODS, names, CONNECTION_ROWS, P99, 1, 0);
	table_print("999 of 1000 within, of all rounds", workloads, FLOODS, names, CONNECTION_ROWS, P999, 1,
		    0);
	table_print("SYNs a second that the flood got rid of, thousands", workloads + 1, FLOODS - 1, names,
		    CONNECTION_ROWS, FLOODED_BY, 1000, 0);
}

CASE("connections: a second, and how long a handshake takes")
{
	static const enum answerer answerers[] = { ANSWERER_STACK, ANSWERER_OURS, ANSWERER_SYNPROXY };
	const struct tcp_spec spec = { .saddr = ip(BENCH_NET4),
				       .daddr = ip(SERVER_IP4),
				       .dport = BENCH_PORT,
				       .flags = SYN,
				       .options = options_text("mss 1460, sack, ts 1000 0, nop, ws 7") };
	const int count = result_rounds(ROUNDS, OF_ROUNDS);

	report_case_limit(60 + 30 * (unsigned int)count);
	cpu = sched_getcpu();
	REQUIRE(stay_on_cpu(cpu));
	generator = generator_new();
	generator_set(generator, &spec, 20, TRAFFIC_NO_ACK, false);
	for (int i = 0; i < CONNECTION_ROWS; i++)
		make_server(&servers[i], answerers[i]);
	for (int round = 0; round < count; round++) {
		rates_round();
		times_round(round);
	}
	for (int i = 0; i < CONNECTION_ROWS; i++)
		for (int f = 0; f < FLOODS; f++)
			result_add(flood_names[f], names[i], P999,
				   part(servers[i].times[f].us, servers[i].times[f].count, 0.999));
	print_tables(count);
	generator_free(generator);
}
