// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "format.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void format_endpoint(const struct address *address, __be16 port, char text[FORMAT_ENDPOINT])
{
	char plain[INET6_ADDRSTRLEN];

	if (address_is_ipv4(address)) {
		inet_ntop(AF_INET, &address->word[3], plain, sizeof(plain));
		snprintf(text, FORMAT_ENDPOINT, "%s:%u", plain, host16(port));
	} else {
		inet_ntop(AF_INET6, address, plain, sizeof(plain));
		snprintf(text, FORMAT_ENDPOINT, "[%s]:%u", plain, host16(port));
	}
}

bool parse_number(const char *text, unsigned long least, unsigned long most, unsigned long *number)
{
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	*number = strtoul(text, &end, 10);
	return !errno && !*end && *number >= least && *number <= most;
}

/* An address without brackets, of @length characters. */
static bool parse_address(const char *text, size_t length, struct address *address)
{
	char plain[INET6_ADDRSTRLEN];
	struct in_addr ipv4;

	if (length >= sizeof(plain))
		return false;
	memcpy(plain, text, length);
	plain[length] = '\0';
	if (inet_pton(AF_INET, plain, &ipv4) == 1) {
		address_map_ipv4(address, (XDPH_FORCE __be32)ipv4.s_addr);
		return true;
	}
	return inet_pton(AF_INET6, plain, address) == 1;
}

bool parse_endpoint(const char *text, struct address *address, __be16 *port, bool *any)
{
	const char *colon = strrchr(text, ':');
	unsigned long number;
	size_t length;

	if (!colon || !parse_number(colon + 1, 1, 65535, &number))
		return false;
	*port = be16_from((__u16)number);
	length = (size_t)(colon - text);
	*any = length == 1 && *text == '*';
	if (*any)
		return true;
	if (length > 2 && text[0] == '[' && text[length - 1] == ']') {
		text++;
		length -= 2;
	}
	return parse_address(text, length, address);
}

bool parse_prefix(const char *text, struct prefix *prefix)
{
	const char *slash = strchr(text, '/');
	const size_t length = slash ? (size_t)(slash - text) : strlen(text);
	unsigned long all, bits;

	if (!parse_address(text, length, &prefix->address))
		return false;
	all = memchr(text, ':', length) ? 128 : 32;
	bits = all;
	if (slash && !parse_number(slash + 1, 0, all, &bits))
		return false;
	prefix->length = (unsigned int)(128 - all + bits);
	return true;
}

bool prefix_has(const struct prefix *prefix, const struct address *address)
{
	const __u8 *a = (const __u8 *)&prefix->address, *b = (const __u8 *)address;
	const unsigned int bytes = prefix->length / 8, bits = prefix->length % 8;

	return !memcmp(a, b, bytes) && (!bits || !((a[bytes] ^ b[bytes]) >> (8 - bits)));
}

const char *format_state(unsigned int state)
{
	static const char *const names[] = {
		[1] = "ESTABLISHED", [2] = "SYN-SENT",	[3] = "SYN-RECEIVED", [4] = "FIN-WAIT-1",
		[5] = "FIN-WAIT-2",  [6] = "TIME-WAIT", [7] = "CLOSED",	      [8] = "CLOSE-WAIT",
		[9] = "LAST-ACK",    [10] = "LISTEN",	[11] = "CLOSING",     [12] = "SYN-RECEIVED",
	};

	return state < sizeof(names) / sizeof(*names) && names[state] ? names[state] : "UNKNOWN";
}

void format_age(unsigned long long seconds, char text[16])
{
	if (seconds < 60)
		snprintf(text, 16, "%llus", seconds);
	else if (seconds < 3600)
		snprintf(text, 16, "%llum%02llus", seconds / 60, seconds % 60);
	else if (seconds < 86400)
		snprintf(text, 16, "%lluh%02llum", seconds / 3600, seconds / 60 % 60);
	else
		snprintf(text, 16, "%llud%02lluh", seconds / 86400 % 100000, seconds / 3600 % 24);
}

unsigned long long monotonic_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (unsigned long long)now.tv_sec * 1000 + (unsigned long long)now.tv_nsec / 1000000;
}

unsigned long long elapsed_ms(unsigned long long then_ms)
{
	const unsigned long long now_ms = monotonic_ms();

	return now_ms > then_ms ? now_ms - then_ms : 0;
}

void format_plain(char *text)
{
	for (; *text; text++)
		if (*text < 0x20 || *text > 0x7e)
			*text = '?';
}
