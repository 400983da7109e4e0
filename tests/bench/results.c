// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "results.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "../lib/netns.h"
#include "../lib/report.h"
#include "../lib/toolchain.h"

enum {
	SERIES_MAX = 1024,
	TEXTS = 16,
};

struct series {
	const char *workload;
	const char *row;
	const char *what;
	double value[ROUNDS_MAX];
	int count;
	int begun; /* count of result_begin() */
};

static struct series all[SERIES_MAX];
static int count;

static struct series *find(const char *workload, const char *row, const char *what)
{
	for (int i = 0; i < count; i++)
		if (!strcmp(all[i].workload, workload) && !strcmp(all[i].row, row) &&
		    !strcmp(all[i].what, what))
			return &all[i];
	return NULL;
}

void result_add(const char *workload, const char *row, const char *what, double value)
{
	struct series *series = find(workload, row, what);

	if (!series) {
		REQUIRE(count < SERIES_MAX);
		series = &all[count++];
		series->workload = workload;
		series->row = row;
		series->what = what;
	}
	REQUIRE(series->count < ROUNDS_MAX, "%s, %s, %s", workload, row, what);
	series->value[series->count++] = value;
}

void result_begin(void)
{
	for (int i = 0; i < count; i++)
		all[i].begun = all[i].count;
}

void result_undo(void)
{
	for (int i = 0; i < count; i++)
		all[i].count = all[i].begun;
}

double result_last(const char *workload, const char *row, const char *what)
{
	const struct series *series = find(workload, row, what);

	return series ? series->value[series->count - 1] : NAN;
}

static int compare(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* The value below which a part of @n sorted ones lies. */
static double quantile(const double *sorted, int n, double part)
{
	const double at = part * (n - 1);
	const int i = (int)at;

	return i + 1 < n ? sorted[i] + (at - i) * (sorted[i + 1] - sorted[i]) : sorted[i];
}

static struct spread spread_of(double *values, int n)
{
	if (!n)
		return (struct spread){};
	qsort(values, (size_t)n, sizeof(*values), compare);
	return (struct spread){ quantile(values, n, 0.5), quantile(values, n, 0.25),
				quantile(values, n, 0.75), n };
}

struct spread result(const char *workload, const char *row, const char *what)
{
	const struct series *series = find(workload, row, what);
	double values[ROUNDS_MAX];

	if (!series)
		return (struct spread){};
	memcpy(values, series->value, sizeof(values));
	return spread_of(values, series->count);
}

struct spread result_ratio(const char *workload, const char *row, const char *by_workload,
			   const char *by_row, const char *what)
{
	const struct series *one = find(workload, row, what), *by = find(by_workload, by_row, what);
	double values[ROUNDS_MAX];
	int n = 0;

	if (!one || !by)
		return (struct spread){};
	REQUIRE(one->count == by->count, "%s: %s, %s and %s, %s are not of the same rounds", what, workload,
		row, by_workload, by_row);
	for (int i = 0; i < one->count; i++)
		if (by->value[i] > 0)
			values[n++] = one->value[i] / by->value[i];
	return spread_of(values, n);
}

int result_rounds(int rounds, int of)
{
	const char *asked = getenv("BENCH_ROUNDS");
	long wanted = asked ? atol(asked) : of;

	REQUIRE(wanted > 0, "BENCH_ROUNDS=%s", asked);
	wanted = (wanted * rounds + of - 1) / of;
	return wanted > ROUNDS_MAX ? ROUNDS_MAX : (int)wanted;
}

const char *spread_text(struct spread spread, double unit, int digits)
{
	static char texts[TEXTS][48];
	static int turn;
	char *text = texts[turn++ % TEXTS];

	if (!spread.count)
		return "-";
	snprintf(text, sizeof(texts[0]), "%.*f ±%.*f", digits, spread.median / unit, digits,
		 (spread.high - spread.low) / 2 / unit);
	return text;
}

static void cpu_model(char *text, size_t size)
{
	FILE *file = fopen("/proc/cpuinfo", "r");
	char line[256];

	snprintf(text, size, "unknown");
	while (file && fgets(line, sizeof(line), file)) {
		char *value = strstr(line, "model name") ? strchr(line, ':') : NULL;

		if (!value)
			continue;
		value[strcspn(value, "\n")] = '\0';
		snprintf(text, size, "%s", value + 2);
		break;
	}
	if (file)
		fclose(file);
}

void result_machine(FILE *file, const char *before)
{
	const char *clang = toolchain_clang("build/bpf/handshake.bpf.o");
	const char *revision;
	char cpu[128], load[64] = "";
	struct utsname kernel;
	FILE *loadavg;

	uname(&kernel);
	cpu_model(cpu, sizeof(cpu));
	loadavg = fopen("/proc/loadavg", "r");
	if (loadavg) {
		if (!fgets(load, sizeof(load), loadavg))
			*load = '\0';
		load[strcspn(load, "\n")] = '\0';
		fclose(loadavg);
	}
	fprintf(file, "%skernel    %s %s, %s\n", before, kernel.sysname, kernel.release, kernel.machine);
	fprintf(file, "%sCPU       %s, %ld of them\n", before, cpu, sysconf(_SC_NPROCESSORS_ONLN));
	fprintf(file, "%scompiler  %s\n", before, clang ? clang : "unknown");
	revision = netns_output(NULL, "git describe --always --dirty --abbrev=12");
	fprintf(file, "%srevision  %s\n", before, revision ? revision : "unknown");
	fprintf(file, "%sload      %s\n", before, load);
}

bool result_csv(const char *path)
{
	FILE *file = fopen(path, "w");

	if (!file)
		return false;
	result_machine(file, "# ");
	fprintf(file, "workload,row,what,median,low,high,rounds\n");
	for (int i = 0; i < count; i++) {
		const struct spread spread = result(all[i].workload, all[i].row, all[i].what);

		fprintf(file, "\"%s\",\"%s\",\"%s\",%.6g,%.6g,%.6g,%d\n", all[i].workload, all[i].row,
			all[i].what, spread.median, spread.low, spread.high, spread.count);
	}
	return !fclose(file);
}
