/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Addresses and names as text, and back. */
#ifndef XDPH_FORMAT_H
#define XDPH_FORMAT_H

#include <stdbool.h>
#include <stddef.h>

#include "abi.h"

enum {
	FORMAT_ENDPOINT = 64, /* room for "[A::B]:P" and its end */
};

/* "A.B.C.D:P" or "[A::B]:P"; v4-mapped addresses as IPv4. Port in network order. */
void format_endpoint(const struct address *address, __be16 port, char text[FORMAT_ENDPOINT]);

/* The inverse. "*:P" sets *any. False if @text is neither. */
bool parse_endpoint(const char *text, struct address *address, __be16 *port, bool *any);

/* The first @length of the 128 bits of an address; an IPv4 prefix is that of mapped addresses. */
struct prefix {
	struct address address;
	unsigned int length;
};

/* "ADDRESS" or "ADDRESS/LENGTH". False if @text is neither. */
bool parse_prefix(const char *text, struct prefix *prefix);

bool prefix_has(const struct prefix *prefix, const struct address *address);

/* A whole decimal number from @least to @most. */
bool parse_number(const char *text, unsigned long least, unsigned long most, unsigned long *number);

/* "ESTABLISHED", "TIME-WAIT", …: RFC 9293's names of the kernel's states. */
const char *format_state(unsigned int state);

/* "42s", "3m05s", "2h10m", "5d03h". */
void format_age(unsigned long long seconds, char text[16]);

/* Milliseconds of CLOCK_MONOTONIC: the clock of abi.h. */
unsigned long long monotonic_ms(void);

/* Milliseconds since then; none since what is yet to come. */
unsigned long long elapsed_ms(unsigned long long then_ms);

/* Anybody may choose a name, and root reads it on a terminal: what is not plain ASCII becomes a question
 * mark. */
void format_plain(char *text);

#endif
