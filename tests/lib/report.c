// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Runs the cases that CASE() has registered and prints a line for each. */
#include "report.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	MAX_CASES = 512,
	MAX_HOOKS = 8,
	HOOK_SECONDS = 20, /* giving back what a case made must end, too */
	WHY_SIZE = 16384,
	MAX_SHOWN = 10, /* failures of one case; the others are counted */
};

struct test_case {
	const char *name;
	void (*fn)(void);
};

static struct test_case cases[MAX_CASES];
static int n_cases;
static void (*hooks[MAX_HOOKS])(void);
static int n_hooks;

/* The case under way. */
static struct {
	sigjmp_buf end;
	volatile sig_atomic_t running;
	volatile sig_atomic_t timed_out;
	pid_t pid;
	unsigned int limit;
	int failures;
	bool skipped;
	char why[WHY_SIZE];
	size_t why_len;
} now;

void report_register(const char *name, void (*fn)(void))
{
	if (n_cases == MAX_CASES) {
		fprintf(stderr, "more than %d cases in one program\n", MAX_CASES);
		exit(1);
	}
	cases[n_cases++] = (struct test_case){ name, fn };
}

void report_at_case_end(void (*hook)(void))
{
	for (int i = 0; i < n_hooks; i++) {
		if (hooks[i] == hook)
			return;
	}
	if (n_hooks == MAX_HOOKS) {
		fprintf(stderr, "more than %d hooks\n", MAX_HOOKS);
		exit(1);
	}
	hooks[n_hooks++] = hook;
}

bool report_in_case(void)
{
	return now.running;
}

/* SLOWER=N where a machine is so many times slower than a real one (tests/vm/check). */
static unsigned int limit_here(unsigned int seconds)
{
	const char *slower = getenv("SLOWER");
	int times = slower ? atoi(slower) : 1;

	return times > 1 ? seconds * (unsigned int)times : seconds;
}

void report_case_limit(unsigned int seconds)
{
	now.limit = limit_here(seconds);
	alarm(now.limit);
}

static void vsay(const char *fmt, va_list args)
{
	size_t room = sizeof(now.why) - now.why_len;
	int n;

	if (now.failures > MAX_SHOWN)
		return;
	n = vsnprintf(now.why + now.why_len, room, fmt, args);

	if (n > 0)
		now.why_len += (size_t)n < room ? (size_t)n : room - 1;
}

__attribute__((format(printf, 1, 2))) static void say(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsay(fmt, args);
	va_end(args);
}

/* The caller's own text comes first: it knows what the failure means. */
static void begin_failure(const char *expression, const char *fmt, va_list args)
{
	if (now.failures++)
		say("\n     ");
	if (fmt[1]) {
		vsay(fmt + 1, args);
		say(": ");
	}
	say("%s", expression);
}

static void end_failure(const char *file, int line)
{
	const char *slash = strrchr(file, '/');

	say(" (%s:%d)", slash ? slash + 1 : file, line);
	/* A forked child's copy of this is lost, so its status has to tell. */
	if (now.running && getpid() != now.pid) {
		fprintf(stderr, "child: %s\n", now.why);
		_exit(1);
	}
	if (!now.running) {
		fprintf(stderr, "setup: %s\n", now.why);
		exit(1);
	}
}

void report_failed(const char *file, int line, const char *expression, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	begin_failure(expression, fmt, args);
	va_end(args);
	say(" does not hold");
	end_failure(file, line);
}

void report_differs(const char *file, int line, const char *expression, long long actual,
		    long long expected, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	begin_failure(expression, fmt, args);
	va_end(args);
	say(" is %lld (0x%llx), expected %lld (0x%llx)", actual, actual, expected, expected);
	end_failure(file, line);
}

bool report_string(const char *file, int line, const char *expression, const char *actual,
		   const char *expected, const char *fmt, ...)
{
	va_list args;

	if (actual == expected || (actual && expected && strcmp(actual, expected) == 0))
		return true;
	va_start(args, fmt);
	begin_failure(expression, fmt, args);
	va_end(args);
	say(" is \"%s\", expected \"%s\"", actual ? actual : "(null)", expected ? expected : "(null)");
	end_failure(file, line);
	return false;
}

bool report_memory(const char *file, int line, const char *expression, const void *actual,
		   const void *expected, size_t size, const char *fmt, ...)
{
	const uint8_t *a = actual, *e = expected;
	size_t at = 0;
	va_list args;

	while (at < size && a[at] == e[at])
		at++;
	if (at == size)
		return true;
	va_start(args, fmt);
	begin_failure(expression, fmt, args);
	va_end(args);
	say(" differs from byte %zu of %zu on: is", at, size);
	for (size_t i = at; i < size && i < at + 8; i++)
		say(" %02x", a[i]);
	say(", expected");
	for (size_t i = at; i < size && i < at + 8; i++)
		say(" %02x", e[i]);
	end_failure(file, line);
	return false;
}

_Noreturn void report_abandon(void)
{
	if (!now.running || getpid() != now.pid)
		_exit(1);
	siglongjmp(now.end, 1);
}

_Noreturn void report_skip(const char *fmt, ...)
{
	va_list args;

	if (!now.running) {
		fprintf(stderr, "SKIP belongs into a case\n");
		exit(1);
	}
	/* A failure noted before outweighs the skip. */
	if (!now.failures) {
		va_start(args, fmt);
		vsay(fmt, args);
		va_end(args);
		now.skipped = true;
	}
	siglongjmp(now.end, 1);
}

/*
 * Leaving a signal handler by a jump is safe enough here: a case that hangs does so in a system
 * call. Should it be inside of malloc after all, the second alarm ends the program.
 */
static void on_alarm(int sig)
{
	(void)sig;
	if (!now.running || now.timed_out) {
		static const char text[] = "a case hung, and so did its cleanup\n";

		(void)!write(STDERR_FILENO, text, sizeof(text) - 1);
		/* SIGTERM's handler, where there is one, removes the namespaces. */
		raise(SIGTERM);
		_exit(1);
	}
	now.timed_out = 1;
	siglongjmp(now.end, 1);
}

static void verdict(const char *word, const char *colour, const char *name)
{
	bool tty = isatty(STDOUT_FILENO);

	printf("%s%s%s %s%s%s\n", tty ? colour : "", word, tty ? "\033[0m" : "", name,
	       now.why_len ? ": " : "", now.why);
}

static bool run_case(const struct test_case *c)
{
	const char *ci = getenv("CI");

	now.failures = 0;
	now.skipped = false;
	now.why[0] = '\0';
	now.why_len = 0;
	now.timed_out = 0;
	now.limit = limit_here(REPORT_CASE_SECONDS);
	now.pid = getpid();

	if (sigsetjmp(now.end, 1) == 0) {
		now.running = 1;
		alarm(now.limit);
		c->fn();
	}
	if (now.timed_out) {
		if (now.failures++)
			say("\n     ");
		say("did not end within %u seconds", now.limit);
	}
	if (now.failures > MAX_SHOWN) {
		int more = now.failures - MAX_SHOWN;

		now.failures = 1;
		say("\n     and %d more", more);
	}
	/* From here on an alarm ends the program. */
	now.running = 0;
	alarm(limit_here(HOOK_SECONDS));
	for (int i = n_hooks - 1; i >= 0; i--)
		hooks[i]();
	alarm(0);

	if (now.skipped && ci && strcmp(ci, "true") == 0) {
		now.failures = 1;
		say(" (skipped, which CI=true does not allow)");
	}
	if (now.failures)
		verdict("FAIL", "\033[31m", c->name);
	else if (now.skipped)
		verdict("SKIP", "\033[33m", c->name);
	else
		verdict("PASS", "\033[32m", c->name);
	return !now.failures;
}

static bool selected(const char *name, char **filters)
{
	bool any = false;

	for (; *filters; filters++) {
		any = true;
		if (strstr(name, *filters))
			return true;
	}
	return !any;
}

int report_main(int argc, char **argv, void (*setup)(void))
{
	struct sigaction alarm_action = { .sa_handler = on_alarm };
	bool list = false, failed = false, any = false;
	char **filters = argv + 1;

	(void)argc;
	/* Lines appear as they happen, also in a pipe, and are not printed twice by a fork. */
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (*filters && (*filters)[0] == '-') {
		if (strcmp(*filters, "--help") == 0) {
			printf("usage: %s [--list] [PART OF A CASE'S NAME]...\n", argv[0]);
			return 0;
		}
		if (strcmp(*filters, "--list") != 0) {
			fprintf(stderr, "%s: unknown option %s\n", argv[0], *filters);
			return 2;
		}
		list = true;
		filters++;
	}
	sigaction(SIGALRM, &alarm_action, NULL);
	for (int i = 0; i < n_cases; i++) {
		if (!selected(cases[i].name, filters))
			continue;
		if (list) {
			puts(cases[i].name);
		} else {
			if (!any && setup)
				setup();
			failed |= !run_case(&cases[i]);
		}
		any = true;
	}
	if (!any) {
		fprintf(stderr, "%s: no case's name contains that\n", argv[0]);
		return 1;
	}
	return failed;
}
