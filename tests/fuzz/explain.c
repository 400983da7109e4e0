// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * A capture file's frames, one after the other: whatever they are, a handshake is told in words and as
 * JSON. The input: a byte for the kind of link, then frames, each behind a byte that says how long it is.
 */
#include <stdio.h>

#include "../../user/explain.h"
#include "fuzz.h"

static void tell(const struct handshake *handshake)
{
	static FILE *nowhere;
	FILE *out = stdout;
	json_t *json = explain_json(handshake);
	char *text;

	require(json && json_array_size(json_object_get(json, "segments")) == STEPS);
	require(json_is_string(json_object_get(json_object_get(json, "cookie"), "is_ours")));
	text = json_dumps(json, 0);
	require(text);
	free(text);
	json_decref(json);
	if (!nowhere)
		nowhere = fopen("/dev/null", "we");
	require(nowhere);
	stdout = nowhere;
	explain_print(handshake);
	stdout = out;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct input input = { bytes, size };
	const uint8_t first = (uint8_t)draw_number(&input, 1);
	struct handshake handshake = { .answered_here = first >> 7 };
	unsigned long long at_us = 0;

	while (input.left) {
		size_t length = (size_t)draw_number(&input, 1);
		struct segment segment;
		uint8_t *frame;
		bool read;

		if (length > input.left)
			length = input.left;
		frame = malloc(length);
		require(frame || !length);
		draw(&input, frame, length);
		read = segment_read(&segment, frame, length,
				    (enum segment_link)((first & 127) % (SEGMENT_SLL2 + 1)));
		free(frame);
		/* The clock of a capture may go backwards. */
		at_us += length % 7 ? length : -length;
		if (!read || !handshake_take(&handshake, &segment, at_us))
			continue;
		require(handshake.seen[STEP_SYN] && handshake.seen[STEP_SYNACK] &&
			handshake.seen[STEP_ACK]);
		tell(&handshake);
	}
	return 0;
}
