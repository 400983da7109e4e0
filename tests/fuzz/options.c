// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The option walk against the independent parser, on bytes that libFuzzer chooses. */
#include <stdint.h>
#include <stdlib.h>

#include "../unit/options_reference.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct reference_options reference;
	struct tcp_options walk, common;

	if (size > TCP_OPTIONS_MAX)
		return 0;
	walk = walk_read(bytes, size);
	reference = reference_read(bytes, size);
	if (!options_agree(&walk, &reference))
		abort();
	if (common_read(bytes, size, &common) && !options_agree(&common, &reference))
		abort();
	return 0;
}
