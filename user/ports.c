// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "ports.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format.h"

bool port_set_parse(struct port_set *set, const char *list, const char **wrong)
{
	static char part[32];
	struct port_set parsed = {};
	unsigned long first, last;

	for (;;) {
		size_t length = strcspn(list, ",");
		char *dash;

		snprintf(part, sizeof(part), "%.*s", (int)(length < 31 ? length : 31), list);
		*wrong = part;
		if (length >= sizeof(part))
			return false;
		dash = strchr(part, '-');
		if (dash) {
			bool fits;

			*dash = '\0';
			fits = parse_number(part, 1, 65535, &first) &&
			       parse_number(dash + 1, first, 65535, &last);
			*dash = '-';
			if (!fits)
				return false;
		} else {
			if (!parse_number(part, 1, 65535, &first))
				return false;
			last = first;
		}
		for (; first <= last; first++)
			port_set_add(&parsed, (unsigned int)first);
		if (!list[length])
			break;
		list += length + 1;
	}
	for (int i = 0; i < PORT_WORDS; i++)
		set->word[i] |= parsed.word[i];
	return true;
}

void port_set_fill(struct port_set *set)
{
	memset(set->word, 0xff, sizeof(set->word));
	set->word[0] &= ~(__u64)1; /* there is no port 0 */
}

char *port_set_format(const struct port_set *set)
{
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return NULL;
	for (unsigned int port = 1; port < 65536; port++) {
		unsigned int last = port;

		if (!port_set_has(set, port))
			continue;
		while (last < 65535 && port_set_has(set, last + 1))
			last++;
		fprintf(out, ftell(out) ? ",%u" : "%u", port);
		if (last > port)
			fprintf(out, "-%u", last);
		port = last;
	}
	return fclose(out) ? NULL : text;
}
