// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "table.h"

#include <stdio.h>
#include <string.h>

#include "results.h"

enum {
	FIRST_WIDTH = 24,
	WIDTH = 14,
};

/* Right-justified; what is beyond ASCII takes one place a character. */
static void print_cell(const char *text, int width)
{
	int length = 0;

	for (const char *c = text; *c; c++)
		length += (*c & 0xc0) != 0x80;
	printf("%*s%s", width > length ? width - length : 0, "", text);
}

void table_print(const char *title, const char *const *workloads, int lines, const char *const *rows,
		 int columns, const char *what, double unit, int digits)
{
	if (title) {
		printf("\n%s\n%-*s", title, FIRST_WIDTH, "");
		for (int column = 0; column < columns; column++)
			print_cell(rows[column], WIDTH);
		printf("\n");
	}
	for (int line = 0; line < lines; line++) {
		printf("%-*s", FIRST_WIDTH, workloads[line]);
		for (int column = 0; column < columns; column++)
			print_cell(spread_text(result(workloads[line], rows[column], what), unit, digits),
				   WIDTH);
		printf("\n");
	}
}
