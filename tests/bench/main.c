// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * What it all costs, beside what others cost, in one run: `make bench`. Parts can be named, as cases of
 * tests can; BENCH_ROUNDS=N makes more rounds than there is time for by default (15).
 */
#include <stdio.h>
#include <stdlib.h>

#include "../lib/report.h"
#include "alone.h"
#include "results.h"

#define CSV   "build/bench/bench.csv"
#define CHART "build/bench/bench.svg"

int main(int argc, char **argv)
{
	int failed;

	if (!alone(true))
		printf("# no real-time priority is allowed here: whatever else runs is measured as well\n");
	alone(false);
	failed = report_main(argc, argv, NULL);
	if (failed || (argc > 1 && argv[1][0] == '-'))
		return failed;
	if (system("mkdir -p build/bench") || !result_csv(CSV)) {
		fprintf(stderr, "%s cannot be written\n", CSV);
		return 1;
	}
	if (!chart_svg(CHART)) {
		fprintf(stderr, "%s cannot be written\n", CHART);
		return 1;
	}
	targets_print();
	printf("\n");
	result_machine(stdout, "");
	printf("All figures: " CSV "; a chart: " CHART "\n");
	return 0;
}
