/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Plain tables and JSON from the same rows: an array of objects, and the columns to show of them. */
#ifndef XDPH_OUTPUT_H
#define XDPH_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

struct column {
	const char *key; /* of the row's object; a dash is shown where it is absent or null */
	const char *title;
	bool right; /* numbers */
};

/* Before anything is printed: long lists leave in large pieces where nobody watches them come. */
void output_start(void);

/*
 * Rows one after the other, for long lists: as a table, whose rows are printed at the end, or as an array
 * of JSON, a row a line, printed as they come.
 */
struct output_list {
	const struct column *columns;
	bool json;
	size_t count;
	char **lines; /* of a table: its cells one after the other, each with its end */
};

void output_begin(struct output_list *list, const struct column *columns, bool json);
/* Takes @row over. False if memory is short. */
bool output_row(struct output_list *list, json_t *row);
/* Prints what there is to print still: @empty for a table without rows. */
void output_end(struct output_list *list, const char *empty);

/* Prints @rows as an aligned table, the title bold on a terminal. Nothing but @empty if there are none. */
void output_table(const json_t *rows, const struct column *columns, const char *empty);

/* Prints @value as JSON, and a newline. */
void output_json(const json_t *value);

/* True if standard output shows colours: a terminal, and NO_COLOR is not set. */
bool output_colours(void);

#endif
