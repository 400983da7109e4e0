/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Frames in parts, to be mutated by someone who knows what they are made of, and then by someone who does
 * not: options are shuffled, headers put in between, lengths falsified, and last bits turned anywhere. All
 * of it follows from a state of random.h, so that a seed makes the same frames again.
 */
#ifndef XDPH_TESTS_MUTATOR_H
#define XDPH_TESTS_MUTATOR_H

#include "../unit/random.h"
#include "environment.h"

enum {
	MUTANT_MAX = RUN_MAX,
	PARTS_TAGS = 3,
	PARTS_BETWEEN = 96,
	PARTS_HEADERS = 6,
	PARTS_OPTIONS = 40,
};

enum parts_sums {
	SUMS_RIGHT,
	SUMS_PARTIAL, /* TCP's is left to be finished */
	SUMS_WRONG_TCP,
	SUMS_WRONG_IP,
	SUMS_ZERO,
};

struct parts {
	uint8_t macs[12];
	uint8_t tags;
	uint16_t tag[PARTS_TAGS][2]; /* type, TCI */
	bool ipv6;
	uint8_t ip[40]; /* lengths, next header and checksum are filled in */
	/* IPv4 options, or extension headers. */
	uint8_t between[PARTS_BETWEEN];
	uint8_t between_length;
	uint8_t headers;
	uint8_t header_kind[PARTS_HEADERS];
	uint8_t header_at[PARTS_HEADERS];
	uint8_t tcp[20];
	uint8_t options[PARTS_OPTIONS];
	uint8_t options_length;
	uint16_t payload; /* bytes of no importance */
	uint16_t trailer; /* behind the packet */
	/* What is said falsely. */
	int16_t total_skew;
	int8_t ihl_skew;
	int8_t offset_skew;
	enum parts_sums sums;
};

struct parts parts_of(const struct tcp_spec *spec);
/* Yields the length. */
size_t parts_write(const struct parts *parts, uint8_t frame[MUTANT_MAX]);

/* Another value for one of the parts. */
void parts_mutate(struct parts *parts, uint64_t *state);

/* Bytes changed, cut, put in or taken out, mostly in the first @headers ones. Yields the new length. */
size_t bytes_mutate(uint8_t frame[MUTANT_MAX], size_t length, size_t headers, uint64_t *state);

#endif
