// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "output.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	COLUMNS_MAX = 24,
};

bool output_colours(void)
{
	return isatty(STDOUT_FILENO) && !getenv("NO_COLOR");
}

void output_json(const json_t *value)
{
	json_dumpf(value, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
	putchar('\n');
}

static const char *cell(const json_t *row, const char *key, char room[32])
{
	const json_t *value = json_object_get(row, key);

	switch (value ? json_typeof(value) : JSON_NULL) {
	case JSON_STRING: return json_string_value(value);
	case JSON_INTEGER: snprintf(room, 32, "%lld", (long long)json_integer_value(value)); return room;
	case JSON_REAL: snprintf(room, 32, "%.1f", json_real_value(value)); return room;
	case JSON_TRUE: return "yes";
	case JSON_FALSE: return "no";
	default: return "-";
	}
}

static void print_cell(const char *text, const struct column *column, int width, bool last)
{
	if (column->right)
		printf("%*s", width, text);
	else if (last)
		fputs(text, stdout);
	else
		printf("%-*s", width, text);
	fputs(last ? "\n" : "  ", stdout);
}

void output_table(const json_t *rows, const struct column *columns, const char *empty)
{
	int width[COLUMNS_MAX], count = 0;
	bool colours = output_colours();
	char room[32];
	json_t *row;
	size_t i;

	if (!json_array_size(rows)) {
		puts(empty);
		return;
	}
	for (; columns[count].key && count < COLUMNS_MAX; count++)
		width[count] = (int)strlen(columns[count].title);
	json_array_foreach (rows, i, row)
		for (int c = 0; c < count; c++) {
			int length = (int)strlen(cell(row, columns[c].key, room));

			if (length > width[c])
				width[c] = length;
		}
	if (colours)
		fputs("\033[1m", stdout);
	for (int c = 0; c < count; c++)
		print_cell(columns[c].title, &columns[c], width[c], c == count - 1);
	if (colours)
		fputs("\033[0m", stdout);
	json_array_foreach (rows, i, row)
		for (int c = 0; c < count; c++)
			print_cell(cell(row, columns[c].key, room), &columns[c], width[c], c == count - 1);
}
