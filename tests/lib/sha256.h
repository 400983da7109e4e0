/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* SHA-256 (FIPS 180-4), so that bytes that arrived can be told by sha256sum's output. */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum {
	SHA256_HEX = 65, /* 64 digits and the zero */
};

struct sha256 {
	uint32_t state[8];
	uint64_t len;
	uint8_t block[64];
};

void sha256_begin(struct sha256 *s);
void sha256_add(struct sha256 *s, const void *bytes, size_t len);
void sha256_end(struct sha256 *s, char hex[SHA256_HEX]);
