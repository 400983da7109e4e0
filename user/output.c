// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "output.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	COLUMNS_MAX = 24,
};

void output_start(void)
{
	enum { BUFFER = 1 << 18 };

	if (!isatty(STDOUT_FILENO))
		setvbuf(stdout, NULL, _IOFBF, BUFFER);
}

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

/* Without printf(), which took half of the time of a long list. */
static void print_cell(const char *text, const struct column *column, int width, bool last)
{
	const int length = (int)strlen(text);

	for (int i = length; column->right && i < width; i++)
		putchar_unlocked(' ');
	fwrite_unlocked(text, 1, (size_t)length, stdout);
	for (int i = length; !column->right && !last && i < width; i++)
		putchar_unlocked(' ');
	fwrite_unlocked("  ", 1, last ? 0 : 2, stdout);
	if (last)
		putchar_unlocked('\n');
}

void output_begin(struct output_list *list, const struct column *columns, bool json)
{
	*list = (struct output_list){ .columns = columns, .json = json };
}

/* All cells of a row in one piece. */
static char *row_cells(const json_t *row, const struct column *columns)
{
	char text[1024], room[32];
	size_t at = 0;
	char *copy;

	for (; columns->key; columns++) {
		const int length = snprintf(text + at, sizeof(text) - at, "%s",
					    cell(row, columns->key, room));

		if (length < 0 || at + (size_t)length + 2 > sizeof(text)) {
			text[sizeof(text) - 1] = '\0'; /* too long a row is cut */
			at = sizeof(text);
			break;
		}
		at += (size_t)length + 1;
	}
	copy = calloc(1, at + COLUMNS_MAX); /* missing cells are empty */
	if (copy)
		memcpy(copy, text, at);
	return copy;
}

bool output_row(struct output_list *list, json_t *row)
{
	bool done = true;

	if (list->json) {
		char text[2048];
		const size_t length = json_dumpb(row, text, sizeof(text), JSON_PRESERVE_ORDER);

		fputs(list->count ? ",\n" : "[\n", stdout);
		if (length && length <= sizeof(text))
			fwrite(text, 1, length, stdout);
		else
			json_dumpf(row, stdout, JSON_PRESERVE_ORDER);
		list->count++;
	} else {
		if (!(list->count & (list->count - 1))) {
			char **more = realloc(list->lines,
					      (list->count ? list->count * 2 : 1) * sizeof(*more));

			list->lines = more ?: list->lines;
			done = more;
		}
		if (done)
			done = (list->lines[list->count] = row_cells(row, list->columns));
		list->count += done;
	}
	json_decref(row);
	return done;
}

void output_end(struct output_list *list, const char *empty)
{
	int width[COLUMNS_MAX], count = 0;
	const bool colours = output_colours();

	if (list->json) {
		puts(list->count ? "\n]" : "[]");
		return;
	}
	if (!list->count) {
		puts(empty);
		return;
	}
	for (; list->columns[count].key && count < COLUMNS_MAX; count++)
		width[count] = (int)strlen(list->columns[count].title);
	for (size_t i = 0; i < list->count; i++) {
		const char *text = list->lines[i];

		for (int c = 0; c < count; c++) {
			const int length = (int)strlen(text);

			if (length > width[c])
				width[c] = length;
			text += length + 1;
		}
	}
	if (colours)
		fputs("\033[1m", stdout);
	for (int c = 0; c < count; c++)
		print_cell(list->columns[c].title, &list->columns[c], width[c], c == count - 1);
	if (colours)
		fputs("\033[0m", stdout);
	for (size_t i = 0; i < list->count; i++) {
		const char *text = list->lines[i];

		for (int c = 0; c < count; c++) {
			print_cell(text, &list->columns[c], width[c], c == count - 1);
			text += strlen(text) + 1;
		}
		free(list->lines[i]);
	}
	free(list->lines);
	list->lines = NULL;
}

void output_table(const json_t *rows, const struct column *columns, const char *empty)
{
	struct output_list list;
	json_t *row;
	size_t i;

	output_begin(&list, columns, false);
	json_array_foreach (rows, i, row)
		output_row(&list, json_incref(row));
	output_end(&list, empty);
}
