// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Two cores against one: each makes SYNs of its own and answers them, on a queue of its own. What they
 * share shows in how much more they do together than each of them alone, and that is held against the same
 * of the mirror, which shares no more than the machine itself does.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "alone.h"
#include "packets.h"
#include "results.h"
#include "rows.h"

enum {
	CORES = 2,
	ROUNDS = 15,
	WARM = 8192,
	CHUNK = 8192,
	SAMPLE_NS = 25000000,
};

static struct row rows[] = {
	{ .name = ROW_MIRROR, .answerer = ANSWERER_MIRROR, .queues = CORES },
	{ .name = ROW_OURS, .answerer = ANSWERER_OURS, .held = 100000, .queues = CORES },
};

enum {
	ROWS = sizeof(rows) / sizeof(*rows),
};

/* In memory that the processes share. */
struct meeting {
	atomic_int here;
	double rate[CORES];
};

static struct generator *generators[CORES];
static struct meeting *meeting;
static uint64_t seed;

struct worker {
	const struct row *row;
	int core;
	int cores; /* that work at a time */
};

/* Until time is up; those that work at a time begin together. */
static int work(void *context)
{
	const struct worker *worker = context;
	struct generator *generator = generators[worker->core];
	const uint32_t ifindex = worker->row->client_ifindex;
	int64_t begin, now;
	long n = 0;

	if (!stay_on_cpu(worker->core))
		return 1;
	generator_seed(generator, seed + (uint64_t)worker->core, 0);
	generator_run(generator, ifindex, WARM);
	alone(true);
	atomic_fetch_add(&meeting->here, 1);
	while (atomic_load(&meeting->here) < worker->cores)
		;
	begin = now = now_ns();
	while (now - begin < SAMPLE_NS) {
		generator_run(generator, ifindex, CHUNK);
		n += CHUNK;
		now = now_ns();
	}
	alone(false);
	meeting->rate[worker->core] = (double)n * 1e9 / (double)(now - begin);
	return 0;
}

/* The sum of what these cores do at a time. */
static double rate_of(const struct row *row, int first, int cores)
{
	pid_t pids[CORES];
	double rate = 0;

	seed += CORES;
	atomic_store(&meeting->here, 0);
	for (int i = 0; i < cores; i++) {
		struct worker worker = { row, first + i, cores };

		pids[i] = netns_fork(row->product.pair.client, work, &worker);
	}
	for (int i = 0; i < cores; i++)
		REQUIRE(netns_stop(pids[i], 0, 10000) == 0, "core %d", first + i);
	for (int i = 0; i < cores; i++)
		rate += meeting->rate[first + i];
	usleep(SAMPLE_NS / 10000);
	return rate;
}

static void measure(const struct row *row)
{
	double one = 0, both;

	for (int core = 0; core < CORES; core++)
		one += rate_of(row, core, 1) / CORES;
	both = rate_of(row, 0, CORES);
	result_add(TWO_CORES, row->name, RATE, both);
	result_add(TWO_CORES, row->name, SCALING, both / one);
}

static bool accounted(struct run_time before)
{
	if (!row_accounted(&rows[0], generators[0], before))
		return false;
	result_undo();
	return true;
}

CASE("two cores against one")
{
	const int count = result_rounds(ROUNDS, ROUNDS);
	const struct tcp_spec spec = { .saddr = ip(BENCH_NET4),
				       .daddr = ip(SERVER_IP4),
				       .dport = BENCH_PORT,
				       .flags = SYN,
				       .options = options_text("mss 1460, sack, ts 1000 0, nop, ws 7") };

	report_case_limit(60 + 5 * (unsigned int)count);
	if (sysconf(_SC_NPROCESSORS_ONLN) < CORES)
		SKIP("there is one CPU");
	meeting = mmap(NULL, sizeof(*meeting), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	REQUIRE(meeting != MAP_FAILED);
	for (int core = 0; core < CORES; core++) {
		generators[core] = generator_new();
		generator_set(generators[core], &spec, 20, TRAFFIC_NO_ACK, false);
	}
	/* Not the sink that notes answers: it looks at what the generator writes. */
	for (int i = 0; i < ROWS; i++)
		row_make(&rows[i], generators[0], "drop");
	for (int round = 0; round < count; round++) {
		struct run_time before;

		do {
			before = row_run_time(&rows[0]);
			result_begin();
			for (int i = 0; i < ROWS; i++)
				measure(&rows[i]);
		} while (accounted(before));
	}
	printf("\nTwo cores, of one's rate: the mirror %s, ours %s; ours of the mirror's own scaling %s\n",
	       spread_text(result(TWO_CORES, ROW_MIRROR, SCALING), 1, 2),
	       spread_text(result(TWO_CORES, ROW_OURS, SCALING), 1, 2),
	       spread_text(result_ratio(TWO_CORES, ROW_OURS, TWO_CORES, ROW_MIRROR, SCALING), 1, 3));
	for (int core = 0; core < CORES; core++)
		generator_free(generators[core]);
}
