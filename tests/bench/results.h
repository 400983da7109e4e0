/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What was measured: series of one value a round, each named by what was sent (the workload), who answered
 * (the row) and what the value is. Values of one round were taken within a second or so of one another, so
 * what is compared is compared round by round, and only then is a median taken.
 */
#pragma once

#include <stdbool.h>
#include <stdio.h>

enum {
	ROUNDS_MAX = 200,
};

struct spread {
	double median;
	double low; /* the middle half lies between these two */
	double high;
	int count; /* of values; 0: not measured */
};

/* Adds the value of this round. The texts must live on. */
void result_add(const char *workload, const char *row, const char *what, double value);
/* Begins what may have to be taken back, and takes it back: all that was added since. */
void result_begin(void);
void result_undo(void);
/* The value added last. */
double result_last(const char *workload, const char *row, const char *what);
struct spread result(const char *workload, const char *row, const char *what);
/* Of @row's values, each divided by that of @by_row (and @by_workload) in the same round. */
struct spread result_ratio(const char *workload, const char *row, const char *by_workload,
			   const char *by_row, const char *what);

/* BENCH_ROUNDS, or else @rounds; in proportion to @of, which is the default of the largest part. */
int result_rounds(int rounds, int of);

/* "2.43 ±0.04": the median, and half of the middle half's width. Into one of several static buffers. */
const char *spread_text(struct spread spread, double unit, int digits);

/* Everything, one line a series. False if the file cannot be written. */
bool result_csv(const char *path);
/* On what it was measured, a line each, with @before in front. */
void result_machine(FILE *file, const char *before);

/* A chart of the main figures, for the README. */
bool chart_svg(const char *path);
/* A line for each of the targets: the figure, the target, met or not. */
void targets_print(void);
