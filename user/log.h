/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What goes to standard error: one clear line that names the thing and the remedy. */
#ifndef XDPH_LOG_H
#define XDPH_LOG_H

/* What a command returns and the process exits with. */
enum exit_code {
	EXIT_DONE = 0,
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
};

/* How much libbpf may say: 0 nothing, 1 its warnings (-v), 2 everything (-vv). */
extern int log_verbosity;

void log_start(void);

/* Prints "xdp-handshake: …" and returns EXIT_FAILED or EXIT_USAGE, so that callers can return it. */
int fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
int usage_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same for what does not stop us. */
void note(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
