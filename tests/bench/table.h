/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Tables of results on the terminal. */
#pragma once

/* One line a workload, one column a row of results: @what, in units of @unit. */
void table_print(const char *title, const char *const *workloads, int lines, const char *const *rows,
		 int columns, const char *what, double unit, int digits);
