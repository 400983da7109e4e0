// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "toolchain.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char begins[] = "clang version ";

const char *toolchain_clang(const char *object)
{
	static char text[64];
	FILE *file = fopen(object, "r");
	char *bytes = NULL, *found;
	size_t size = 0;

	if (!file)
		return NULL;
	*text = '\0';
	while (!*text && getdelim(&bytes, &size, '\0', file) > 0) {
		found = strstr(bytes, begins);
		if (found)
			snprintf(text, sizeof(text), "%s", found);
	}
	free(bytes);
	fclose(file);
	return *text ? text : NULL;
}

int toolchain_clang_major(const char *object)
{
	const char *text = toolchain_clang(object);

	return text ? atoi(text + strlen(begins)) : 0;
}
