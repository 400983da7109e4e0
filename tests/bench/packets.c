// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * What a packet costs: SYNs of several layouts, segments of connections, and what is none of ours, through
 * the whole path on one core (generator.h); and, with the kernel's accounting of programs' run time
 * switched on, through the program alone. Each figure is held against that of an empty program, or of one
 * that sends each frame back (XDP_TX), on the same path a moment before or after.
 *
 * An empty program stands for what the machine takes with nobody answering: for SYNs it drops, for segments
 * that are the stack's it passes them, to a stack that does with them what it does behind ours.
 */
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "alone.h"
#include "packets.h"
#include "results.h"
#include "rows.h"
#include "table.h"

enum {
	ROUNDS = 15,
	SAMPLE_MS = 20,
	SAMPLE_MOST = 100000,
	SAMPLE_LEAST = 2048,
	WARM_UP = 16384, /* SYNs that come to nearly all lines of a filter, of which there are 4,096 */
	CHAIN = 8192,	 /* handshakes of a sample */
	DATA = 100,	 /* bytes of a segment */
	DATA_SEGMENTS = 3,
	TURNS_BITS = 6,
	FEW_BITS = 4, /* 16 sources */
	MANY_BITS = 20,
};

/* ---- who answers ---- */

enum {
	DROPS,
	MIRROR,
	HASHES,
	STACK,
	OURS_0,
	OURS,
	OURS_1M,
	OURS_1M_WIDE,
	COOKIES,
	SYNPROXY,
	ROWS,
};

/* Filters are by default for 131,072 connections; a million needs a larger one, or a turn of it. */
static struct row rows[ROWS] = {
	[DROPS] = { .name = ROW_EMPTY, .answerer = ANSWERER_DROP },
	[MIRROR] = { .name = ROW_MIRROR, .answerer = ANSWERER_MIRROR },
	[HASHES] = { .name = ROW_HASH, .answerer = ANSWERER_HASH },
	[STACK] = { .name = ROW_STACK, .answerer = ANSWERER_STACK },
	[OURS_0] = { .name = ROW_OURS_0, .answerer = ANSWERER_OURS },
	[OURS] = { .name = ROW_OURS, .answerer = ANSWERER_OURS, .held = 100000 },
	[OURS_1M] = { .name = ROW_OURS_1M, .answerer = ANSWERER_OURS, .held = 1000000 },
	[OURS_1M_WIDE] = { .name = ROW_WIDE,
			   .answerer = ANSWERER_OURS,
			   .held = 1000000,
			   .connections = 1 << 20 },
	[COOKIES] = { .name = ROW_COOKIES, .answerer = ANSWERER_COOKIES },
	[SYNPROXY] = { .name = ROW_SYNPROXY, .answerer = ANSWERER_SYNPROXY },
};

static bool is_ours(int row)
{
	return row >= OURS_0 && row <= OURS_1M_WIDE;
}

/* ---- what is sent ---- */

#define COUNTED(name) offsetof(struct counters, name)
#define ROW(row)      (1u << (row))
#define ALL_OURS      (ROW(OURS_0) | ROW(OURS) | ROW(OURS_1M) | ROW(OURS_1M_WIDE))
#define ANSWERED      (ROW(DROPS) | ROW(MIRROR) | ALL_OURS)
#define ALL_ANSWER    (ANSWERED | ROW(COOKIES) | ROW(SYNPROXY))

struct workload {
	const char *name;
	const char *options; /* of a SYN, see frame.h */
	bool ipv6, vlan, udp;
	bool few; /* sources */
	uint16_t dport;
	uint16_t flags;
	bool spoiled; /* by its checksum: the stack drops it */
	unsigned int rows;
	size_t counter; /* of ours: what becomes of it; 0: nothing is counted */
};

#define LINUX_OPTIONS "mss 1460, sack, ts 1000 0, nop, ws 7"

static const struct workload workloads[] = {
	{ .name = LINUX,
	  .options = LINUX_OPTIONS,
	  .flags = SYN,
	  .rows = ALL_ANSWER | ROW(HASHES),
	  .counter = COUNTED(syn_answered) },
	{ .name = WINDOWS,
	  .options = "mss 1460, nop, ws 8, nop, nop, sack",
	  .flags = SYN,
	  .rows = ALL_ANSWER,
	  .counter = COUNTED(syn_answered) },
	{ .name = MACOS,
	  .options = "mss 1460, nop, ws 6, nop, nop, ts 1000 0, sack, eol, eol",
	  .flags = SYN,
	  .rows = ALL_ANSWER,
	  .counter = COUNTED(syn_answered) },
	/* As Solaris has it. */
	{ .name = ODD,
	  .options = "sack, ts 1000 0, mss 1460, nop, ws 5",
	  .flags = SYN,
	  .rows = ALL_ANSWER,
	  .counter = COUNTED(syn_answered) },
	{ .name = LINUX_IPV6,
	  .options = "mss 1440, sack, ts 1000 0, nop, ws 7",
	  .ipv6 = true,
	  .flags = SYN,
	  .rows = ALL_ANSWER,
	  .counter = COUNTED(syn_answered) },
	{ .name = "SYN, Linux, 16 sources",
	  .options = LINUX_OPTIONS,
	  .few = true,
	  .flags = SYN,
	  .rows = ALL_ANSWER,
	  .counter = COUNTED(syn_answered) },
	/* Not every kernel has VLAN devices, so the stack is left out. */
	{ .name = "SYN, Linux, VLAN",
	  .options = LINUX_OPTIONS,
	  .vlan = true,
	  .flags = SYN,
	  .rows = ANSWERED,
	  .counter = COUNTED(syn_answered) },
	{ .name = WRONG_ACK,
	  .options = "nop, nop, ts 1001 1",
	  .flags = ACK,
	  .rows = ROW(DROPS) | ROW(STACK) | ALL_OURS | ROW(COOKIES) | ROW(SYNPROXY),
	  .counter = COUNTED(ack_dropped_guard) },
	{ .name = UNPROTECTED,
	  .options = "nop, nop, ts 1001 1",
	  .dport = BENCH_UNPROTECTED,
	  .flags = ACK,
	  .spoiled = true,
	  .rows = ROW(DROPS) | ROW(STACK) | ALL_OURS },
	{ .name = "UDP",
	  .options = "",
	  .udp = true,
	  .dport = BENCH_UDP,
	  .flags = ACK,
	  .rows = ROW(DROPS) | ROW(STACK) | ALL_OURS },
};

enum {
	WORKLOADS = sizeof(workloads) / sizeof(*workloads),
};

/* Of the handshakes that are made in full (chain_run()). */
static const char *const chain_workloads[] = { VALID_ACK, FIRST_DATA, MORE_DATA, FEW_DATA };

enum {
	CHAIN_WORKLOADS = 4,
	CHAIN_ROWS = ROW(STACK) | ALL_OURS | ROW(COOKIES) | ROW(SYNPROXY),
};

static struct tcp_spec spec_of(const struct workload *workload)
{
	struct tcp_spec spec = {
		.saddr = ip(workload->ipv6 ? BENCH_NET6 : BENCH_NET4),
		.daddr = ip(workload->ipv6   ? SERVER_IP6
			    : workload->vlan ? BENCH_VLAN_IP4
					     : SERVER_IP4),
		.dport = workload->dport ? workload->dport : BENCH_PORT,
		.flags = workload->flags,
		.options = options_text(workload->options),
		.vlans = workload->vlan,
		.vlan = { BENCH_VLAN },
		.tcp_checksum_xor = workload->spoiled ? 0x5555 : 0,
	};

	return spec;
}

/* ---- one sample ---- */

static struct generator *generator;
static uint64_t seed;

/* Sends what the generator has been set to; yields nanoseconds a frame. */
static double send_timed(const struct row *row, long n)
{
	long before, received;
	int64_t took;

	before = row_received(row, true);
	netns_enter(row->product.pair.client);
	alone(true);
	took = now_ns();
	generator_run(generator, row->client_ifindex, n);
	took = now_ns() - took;
	alone(false);
	netns_enter(NULL);
	received = row_received(row, true) - before;
	REQUIRE(received >= n && received <= n + n / 100 + 64, "of %ld frames, %ld arrived", n, received);
	usleep((useconds_t)(took / 10000));
	return (double)took / (double)n;
}

/*
 * Whether the right thing has become of what was sent: of 2 in 100 another may (canaries, budgets). A
 * filter with far too many tuples takes more for known, which are the stack's.
 */
static void check_outcome(const struct workload *workload, int i, long n, long answers, uint64_t counted)
{
	const long least = i == OURS_1M && workload->flags != SYN ? 40 : 98;

	if (workload->flags == SYN && i != DROPS && i != HASHES)
		REQUIRE(answers >= n * 98 / 100, "%s, %s: %ld answers to %ld SYNs", workload->name,
			rows[i].name, answers, n);
	if (is_ours(i) && workload->counter)
		REQUIRE((long)counted >= n * least / 100, "%s, %s: %ld of %ld frames", workload->name,
			rows[i].name, (long)counted, n);
}

static double sample(const struct workload *workload, int i, long n)
{
	const struct row *row = &rows[i];
	const bool counts = is_ours(i) && workload->counter;
	const struct tcp_spec spec = spec_of(workload);
	uint64_t counted;
	long answers;
	double ns;

	generator_set(generator, &spec, workload->few ? FEW_BITS : MANY_BITS,
		      workload->flags & SYN ? TRAFFIC_NO_ACK : TRAFFIC_RANDOM_ACK, workload->udp);
	generator_seed(generator, ++seed, 0);
	if (workload->vlan)
		row_canaries(row, false);
	/* Caches warm, and a guard awake, as in the midst of a flood. */
	send_timed(row, n < WARM_UP ? SAMPLE_LEAST : WARM_UP);
	counted = counts ? row_counter(row, workload->counter) : 0;
	answers = row_received(row, false);
	ns = send_timed(row, n);
	if (workload->vlan)
		row_canaries(row, true);
	check_outcome(workload, i, n, row_received(row, false) - answers,
		      counts ? row_counter(row, workload->counter) - counted : 0);
	return ns;
}

static long sample_size(double ns)
{
	const long n = (long)(SAMPLE_MS * 1e6 / ns);

	return n < SAMPLE_LEAST ? SAMPLE_LEAST : n > SAMPLE_MOST ? SAMPLE_MOST : n;
}

/* ---- whole handshakes, and what comes behind them ---- */

struct chain {
	double ns[CHAIN_WORKLOADS];
	double run_ns[CHAIN_WORKLOADS];
};

/* Sends one segment of each connection, or several; yields the program's run time beside the path's. */
static void chain_step(struct row *row, struct chain *chain, int step, uint32_t ahead, int times)
{
	const struct run_time before = row_run_time(row);
	struct run_time after;
	double ns = 0;

	for (int i = 0; i < times; i++) {
		generator_seed(generator, seed, 0);
		generator_ahead(generator, ahead + (uint32_t)i * DATA);
		ns += send_timed(row, CHAIN) / times;
	}
	after = row_run_time(row);
	chain->ns[step] = ns;
	chain->run_ns[step] = after.runs > before.runs ? (after.ns - before.ns) / (after.runs - before.runs)
						       : 0;
}

/*
 * SYNs, the ACKs that complete their handshakes, a first segment of data, some more; all at the generator's
 * pace, and by the numbers that the SYN-ACKs brought. Thousands of connections, one after the other, find
 * nothing of theirs in a processor's caches; so at last each sixteen of them send by turns for a while.
 * Then the server accepts them all, and resets them.
 */
static struct chain chain_run(int i)
{
	struct row *row = &rows[i];
	const size_t counter = COUNTED(ack_validated);
	const uint64_t validated = is_ours(i) ? row_counter(row, counter) : 0;
	struct tcp_spec spec = spec_of(&workloads[0]);
	struct chain chain;
	long opened, n;

	row_drain(row);
	generator_set(generator, &spec, MANY_BITS, TRAFFIC_NO_ACK, false);
	generator_seed(generator, ++seed, 0);
	netns_enter(row->product.pair.client);
	n = generator_handshakes(generator, row->client_ifindex, CHAIN);
	netns_enter(NULL);
	REQUIRE(n >= CHAIN * 98 / 100, "%s: %ld answers to %d SYNs", row->name, n, CHAIN);

	spec.flags = ACK;
	spec.options = options_text("nop, nop, ts 1001 0");
	generator_set(generator, &spec, MANY_BITS, TRAFFIC_RIGHT_ACK, false);
	chain_step(row, &chain, 0, 1, 1);
	if (is_ours(i)) {
		n = (long)(row_counter(row, counter) - validated);
		REQUIRE(n >= CHAIN * 95 / 100, "%s: %ld of %d ACKs were right", row->name, n, CHAIN);
	}
	spec.flags = ACK | PSH;
	spec.payload_len = DATA;
	spec.payload = (const char[DATA]){};
	generator_set(generator, &spec, MANY_BITS, TRAFFIC_RIGHT_ACK, false);
	chain_step(row, &chain, 1, 1, 1);
	chain_step(row, &chain, 2, 1 + DATA, DATA_SEGMENTS);
	generator_turns(generator, FEW_BITS, TURNS_BITS, DATA);
	chain_step(row, &chain, 3, 1 + (1 + DATA_SEGMENTS) * DATA, 1);
	opened = row_drain(row);
	REQUIRE(opened >= CHAIN * 95 / 100, "%s: %ld connections of %d handshakes", row->name, opened,
		CHAIN);
	row_refill(row);
	return chain;
}

/* ---- rounds ---- */

static long sizes[WORKLOADS][ROWS];

static void path_round(int round)
{
	for (int w = 0; w < WORKLOADS; w++)
		for (int turn = 0; turn < ROWS; turn++) {
			/* In another order each time. */
			const int i = round & 1 ? ROWS - 1 - turn : turn;
			double ns;

			if (!(workloads[w].rows & ROW(i)) || i == HASHES)
				continue;
			ns = sample(&workloads[w], i, sizes[w][i]);
			result_add(workloads[w].name, rows[i].name, PATH, ns);
			result_add(workloads[w].name, rows[i].name, RATE, 1e9 / ns);
		}
	for (int i = 0; i < ROWS; i++) {
		struct chain chain;

		if (!(CHAIN_ROWS & ROW(i)))
			continue;
		chain = chain_run(i);
		for (int step = 0; step < CHAIN_WORKLOADS; step++) {
			result_add(chain_workloads[step], rows[i].name, PATH, chain.ns[step]);
			result_add(chain_workloads[step], rows[i].name, RATE, 1e9 / chain.ns[step]);
		}
	}
}

/* What is compared, from the values of this round. */
static void compare_round(void)
{
	for (int w = 0; w < WORKLOADS; w++) {
		const struct workload *workload = &workloads[w];
		const char *floor = rows[workload->flags == SYN ? MIRROR : STACK].name;
		const double least = result_last(workload->name, floor, PATH);
		const double ours = result_last(workload->name, rows[OURS].name, PATH) - least;

		if (workload->flags != SYN && !(workload->rows & ROW(STACK)))
			continue;
		for (int i = 0; i < ROWS; i++) {
			const double ns = result_last(workload->name, rows[i].name, PATH);

			if (isnan(ns))
				continue;
			if (workload->flags != SYN) {
				result_add(workload->name, rows[i].name, BESIDE, ns - least);
				continue;
			}
			result_add(workload->name, rows[i].name, OF, least / ns);
			result_add(workload->name, rows[i].name, ABOVE, ns - least);
			result_add(workload->name, rows[i].name, TIMES, (ns - least) / ours);
		}
	}
	for (int step = 0; step < CHAIN_WORKLOADS; step++)
		for (int i = 0; i < ROWS; i++)
			if (CHAIN_ROWS & ROW(i))
				result_add(chain_workloads[step], rows[i].name, BESIDE,
					   result_last(chain_workloads[step], rows[i].name, PATH) -
						   result_last(chain_workloads[step], rows[STACK].name,
							       PATH));
}

/*
 * The program's own time, by the kernel's accounting, less that of the empty program, whose time is the
 * accounting itself.
 */
static void program_round(void)
{
	const int stats = bpf_enable_stats(BPF_STATS_RUN_TIME);
	double empty = 0;

	REQUIRE(stats >= 0, "the kernel does not account for programs' run time");
	for (int w = 0; w < WORKLOADS; w++)
		for (int i = 0; i < ROWS; i++) {
			struct run_time before, after;
			double ns;

			if (!(workloads[w].rows & ROW(i)) || (i != DROPS && i != HASHES && !is_ours(i)))
				continue;
			before = row_run_time(&rows[i]);
			sample(&workloads[w], i, sizes[w][i] / 2);
			after = row_run_time(&rows[i]);
			ns = (after.ns - before.ns) / (after.runs - before.runs);
			if (i == DROPS)
				empty = ns;
			result_add(workloads[w].name, rows[i].name, RUN, ns);
			result_add(workloads[w].name, rows[i].name, NET,
				   i == HASHES ? (ns - empty) / TRAFFIC_HASHES : ns - empty);
		}
	empty = result_last(LINUX, rows[DROPS].name, RUN);
	for (int i = OURS_0; i <= OURS_1M_WIDE; i++) {
		const struct chain chain = chain_run(i);

		for (int step = 0; step < CHAIN_WORKLOADS; step++) {
			result_add(chain_workloads[step], rows[i].name, RUN, chain.run_ns[step]);
			result_add(chain_workloads[step], rows[i].name, NET, chain.run_ns[step] - empty);
		}
	}
	close(stats);
}

/* What making a frame takes, of the path's time. */
static void generator_round(void)
{
	const struct row *row = &rows[MIRROR];
	const struct tcp_spec spec = spec_of(&workloads[0]);
	const long n = SAMPLE_MOST;
	int64_t took;

	generator_set(generator, &spec, MANY_BITS, TRAFFIC_NO_ACK, false);
	generator_seed(generator, ++seed, 0);
	netns_enter(row->product.pair.client);
	alone(true);
	took = now_ns();
	generator_stay(generator, row->client_ifindex, n);
	took = now_ns() - took;
	alone(false);
	netns_enter(NULL);
	result_add(LINUX, "generator", PATH, (double)took / (double)n);
}

/* Finds out how many frames make a sample, and has every service know what it needs to. */
static void warm_up(void)
{
	for (int w = 0; w < WORKLOADS; w++)
		for (int i = 0; i < ROWS; i++)
			if (workloads[w].rows & ROW(i)) {
				sizes[w][i] = SAMPLE_LEAST;
				sizes[w][i] = sample_size(sample(&workloads[w], i, 4 * SAMPLE_LEAST));
			}
	for (int i = 0; i < ROWS; i++)
		row_refill(&rows[i]);
}

/* ---- what it comes to ---- */

static void print_tables(int rounds)
{
	static const char *const heads[] = { ROW_EMPTY,	  ROW_MIRROR, ROW_OURS_0,  ROW_OURS,
					     ROW_OURS_1M, ROW_WIDE,   ROW_COOKIES, ROW_SYNPROXY };
	static const char *const stack_heads[] = { ROW_STACK, ROW_OURS_0,  ROW_OURS,	ROW_OURS_1M,
						   ROW_WIDE,  ROW_COOKIES, ROW_SYNPROXY };
	const char *names[WORKLOADS];
	int syns = 0, others = 0;

	for (int w = 0; w < WORKLOADS; w++)
		if (workloads[w].flags == SYN)
			names[syns++] = workloads[w].name;
	printf("\nMedians of %d rounds, ± half of the middle half's width. \"ours, N\": N tuples are held, "
	       "in a filter\n"
	       "for 131,072; \"wide\": for 1,048,576. Whole path, one core; making a frame takes %s ns of "
	       "it.\n",
	       rounds, spread_text(result(LINUX, "generator", PATH), 1, 0));
	table_print("Millions of SYNs a second, whole path", names, syns, heads, 8, RATE, 1e6, 2);
	table_print("Of the mirror's rate", names, syns, heads, 8, OF, 1, 2);
	table_print("ns a SYN above the mirror", names, syns, heads, 8, ABOVE, 1, 0);
	for (int w = 0; w < WORKLOADS; w++)
		if (workloads[w].flags != SYN)
			names[others++] = workloads[w].name;
	for (int step = 0; step < CHAIN_WORKLOADS; step++)
		names[others++] = chain_workloads[step];
	table_print("Millions of segments a second, whole path (the stack: behind an empty program)", names,
		    others, stack_heads, 7, RATE, 1e6, 2);
	table_print("ns a segment above an empty program in front of the stack", names, others, stack_heads,
		    7, BESIDE, 1, 0);
	for (int w = 0; w < WORKLOADS; w++)
		names[w] = workloads[w].name;
	table_print("The program alone, ns, net of an empty one's", names, WORKLOADS, heads + 2, 4, NET, 1,
		    0);
	table_print(NULL, chain_workloads, CHAIN_WORKLOADS, heads + 2, 4, NET, 1, 0);
	printf("\nAn empty program is accounted %s ns, SipHash-2-4 of 16 bytes takes %s ns.\n",
	       spread_text(result(LINUX, ROW_EMPTY, RUN), 1, 1),
	       spread_text(result(LINUX, ROW_HASH, NET), 1, 1));
}

/* Then what was measured meanwhile is of no use. */
static bool accounted(struct run_time before)
{
	if (!row_accounted(&rows[MIRROR], generator, before))
		return false;
	result_undo();
	return true;
}

CASE("packets: whole path and program alone")
{
	const int count = result_rounds(ROUNDS, ROUNDS);
	cpu_set_t one;

	report_case_limit(120 + 15 * (unsigned int)count);
	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	REQUIRE(!sched_setaffinity(0, sizeof(one), &one));
	generator = generator_new();
	for (int i = 0; i < ROWS; i++)
		row_make(&rows[i], generator, "sink");
	warm_up();
	for (int round = 0; round < count; round++) {
		struct run_time before;

		do {
			before = row_run_time(&rows[MIRROR]);
			result_begin();
			generator_round();
			path_round(round);
			compare_round();
		} while (accounted(before));
		program_round();
	}
	print_tables(count);
}
