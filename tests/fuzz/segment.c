// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Frames of capture files, which anybody may have written: read within their bounds, told without end. */
#include "../../user/segment.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct segment segment;
	char text[128];
	size_t at = 0;
	int options = 0;
	uint8_t *frame;
	bool read;

	if (!size)
		return 0;
	/* A copy of its very size: one byte too many is seen. */
	frame = malloc(size);
	require(frame);
	memcpy(frame, bytes + 1, size - 1);
	read = segment_read(&segment, frame, size - 1, (enum segment_link)(bytes[0] % (SEGMENT_SLL2 + 1)));
	free(frame);
	if (!read)
		return 0;
	require(segment.data_offset >= 5 && segment.option_length == (segment.data_offset - 5) * 4u);
	require(segment.data_length <= 65535);
	while (segment_option_text(&segment, &at, text)) {
		require(strlen(text) < sizeof(text) && *text);
		require(++options <= TCP_OPTIONS_MAX);
	}
	require(at == segment.option_length);
	segment_control_text(segment.control, text);
	require(strlen(text) < 48);
	return 0;
}
