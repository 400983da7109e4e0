/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the targets have in common: what must hold, and values drawn from libFuzzer's bytes. */
#ifndef XDPH_TESTS_FUZZ_H
#define XDPH_TESTS_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static inline void require(bool condition)
{
	if (!condition)
		abort();
}

/* What is left of the input. */
struct input {
	const uint8_t *at;
	size_t left;
};

/* The next bytes; zeros where there are none left. */
static inline void draw(struct input *input, void *value, size_t size)
{
	const size_t had = size < input->left ? size : input->left;

	memset(value, 0, size);
	memcpy(value, input->at, had);
	input->at += had;
	input->left -= had;
}

static inline uint64_t draw_number(struct input *input, size_t size)
{
	uint64_t number = 0;

	draw(input, &number, size);
	return number;
}

/* All that is left, of its own size and with a 0 behind it, so that a read beyond is seen. To be freed. */
static inline char *draw_text(struct input *input)
{
	char *text = malloc(input->left + 1);

	require(text);
	memcpy(text, input->at, input->left);
	text[input->left] = '\0';
	return text;
}

#endif
