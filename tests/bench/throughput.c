// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * What established connections notice: nginx behind us and behind an empty program, requests for a small
 * page and for a large file, all on connections that stay. A server and a client a row, of which one client
 * runs at any moment, by turns of a twentieth of a second; what is counted are the bytes that have left.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "alone.h"
#include "results.h"
#include "rows.h"
#include "table.h"
#include "throughput.h"

enum {
	ROUNDS = 15,
	TURNS = 12, /* in a round: each too short for a figure of its own */
	TURN_MS = 50,
	BIG_MB = 4,
	ROWS = 2,
	LOADS = 2,
};

static const char *const loads[LOADS] = { REQUESTS, BULK };
static const char *const pages[LOADS] = { "", "big" };
static const char *const names[ROWS] = { "empty program", "ours" };

struct site {
	struct row row;
	pid_t wrk[LOADS];
};

static struct site sites[ROWS];
static char folder[64];

static void remove_folder(void)
{
	netns_sh(NULL, "rm -rf /tmp/xdp-handshake-bench-%d-*", getpid());
}

static void make_pages(void)
{
	snprintf(folder, sizeof(folder), "/tmp/xdp-handshake-bench-%d-XXXXXX", getpid());
	REQUIRE(mkdtemp(folder));
	report_at_case_end(remove_folder);
	netns_must(NULL,
		   "cd %s && mkdir tmp && echo hello >index.html && head -c %dM /dev/zero >big"
		   " && chmod -R a+rwX .",
		   folder, BIG_MB);
}

/* Each end on a CPU of its own, where there are two. */
static const char *on_cpu(int which)
{
	static const char *const commands[] = { "nice -n -10 taskset -c 0 ", "nice -n -10 taskset -c 1 " };

	return sysconf(_SC_NPROCESSORS_ONLN) > 1 ? commands[which] : "nice -n -10 ";
}

static void make_site(struct site *site, enum answerer answerer, const struct generator *generator)
{
	const int number = (int)(site - sites);
	char path[128];
	FILE *conf;

	site->row = (struct row){ .name = names[number], .answerer = answerer };
	row_make(&site->row, generator, "pass");
	close(site->row.listener);
	snprintf(path, sizeof(path), "%s/%d.conf", folder, number);
	conf = fopen(path, "w");
	REQUIRE(conf);
	fprintf(conf,
		"worker_processes 1;\npid %s/%d.pid;\nerror_log %s/error.log;\n"
		"events { worker_connections 1024; }\n"
		"http { access_log off; sendfile on; keepalive_requests 1000000000;\n"
		"  client_body_temp_path %s/tmp; proxy_temp_path %s/tmp; fastcgi_temp_path %s/tmp;\n"
		"  uwsgi_temp_path %s/tmp; scgi_temp_path %s/tmp;\n"
		"  server { listen %d; root %s; } }\n",
		folder, number, folder, folder, folder, folder, folder, folder, BENCH_PORT, folder);
	fclose(conf);
	netns_spawn(site->row.product.pair.server, "/dev/null", "%snginx -g 'daemon off;' -c %s", on_cpu(1),
		    path);
	REQUIRE(WAIT_FOR(netns_listens(site->row.product.pair.server, BENCH_PORT), 5000),
		"nginx does not listen");
	for (int load = 0; load < LOADS; load++) {
		site->wrk[load] = netns_spawn(site->row.product.pair.client, "/dev/null",
					      "%swrk -t1 -c16 -d1000000 http://" SERVER_IP4 ":%d/%s",
					      on_cpu(0), BENCH_PORT, pages[load]);
		usleep(300000);
		kill(-site->wrk[load], SIGSTOP);
	}
}

/* Bytes that have left the server's device. */
static double sent(const struct site *site)
{
	char text[2048], *at;
	const ssize_t length = pread(site->row.server_dev, text, sizeof(text) - 1, 0);
	double bytes = -1;

	if (length > 0) {
		text[length] = '\0';
		at = strstr(text, SERVER_IF ":");
		if (at)
			sscanf(strchr(at, ':') + 1, "%*d %*d %*d %*d %*d %*d %*d %*d %lf", &bytes);
	}
	REQUIRE(bytes >= 0);
	return bytes;
}

/* Bytes a second in one turn. */
static double turn(struct site *site, int load)
{
	const double before = sent(site);
	const int64_t began = now_ns();

	kill(-site->wrk[load], SIGCONT);
	usleep(TURN_MS * 1000);
	kill(-site->wrk[load], SIGSTOP);
	return (sent(site) - before) * 1e9 / (double)(now_ns() - began);
}

/* The first round is for the caches, and for what TCP needs to get going. */
static void load_round(int load, bool counts)
{
	double rate[ROWS] = {};

	for (int t = 0; t < TURNS; t++)
		for (int j = 0; j < ROWS; j++) {
			/* In another order each time. */
			const int i = t & 1 ? ROWS - 1 - j : j;

			rate[i] += turn(&sites[i], load) / TURNS;
		}
	for (int i = 0; counts && i < ROWS; i++)
		result_add(loads[load], names[i], BYTES, rate[i]);
}

CASE("throughput: requests and bulk")
{
	const int count = result_rounds(ROUNDS, ROUNDS);
	struct generator *generator = generator_new();

	report_case_limit(60 + 5 * (unsigned int)count);
	make_pages();
	make_site(&sites[0], ANSWERER_STACK, generator);
	make_site(&sites[1], ANSWERER_OURS, generator);
	/* One load after the other: what has been sent to a client that sleeps goes on for a while. */
	for (int load = 0; load < LOADS; load++)
		for (int round = -1; round < count; round++)
			load_round(load, round >= 0);
	table_print("nginx on connections that stay, each end on a core of its own: Mbit/s sent", loads,
		    LOADS, names, ROWS, BYTES, 1e6 / 8, 0);
	printf("ours of the empty program's: requests %s, bulk %s\n",
	       spread_text(result_ratio(REQUESTS, names[1], REQUESTS, names[0], BYTES), 1, 3),
	       spread_text(result_ratio(BULK, names[1], BULK, names[0], BYTES), 1, 3));
	generator_free(generator);
}
