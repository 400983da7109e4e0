// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "log.h"

#include <stdarg.h>
#include <stdio.h>

#include <bpf/libbpf.h>

int log_verbosity;

static int log_libbpf(enum libbpf_print_level level, const char *format, va_list arguments)
{
	/* One level quieter than libbpf's own: what a user must know, we say ourselves. */
	if ((level == LIBBPF_WARN ? 1 : 2) > log_verbosity)
		return 0;
	return vfprintf(stderr, format, arguments);
}

void log_start(void)
{
	libbpf_set_print(log_libbpf);
}

static void log_line(const char *format, va_list arguments)
{
	fputs("xdp-handshake: ", stderr);
	vfprintf(stderr, format, arguments);
	fputc('\n', stderr);
}

int fail(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	log_line(format, arguments);
	va_end(arguments);
	return EXIT_FAILED;
}

int usage_fail(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	log_line(format, arguments);
	va_end(arguments);
	return EXIT_USAGE;
}

void note(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	log_line(format, arguments);
	va_end(arguments);
}
