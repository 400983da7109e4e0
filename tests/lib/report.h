/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Named test cases.
 *
 *	CASE("a SYN of a learned service is answered")
 *	{
 *		REQUIRE(setup_worked());
 *		EXPECT_EQ(answers, 1, "answers to SYN %d", number);
 *	}
 *
 *	int main(int argc, char **argv)
 *	{
 *		return report_main(argc, argv, NULL);
 *	}
 *
 * One line a case on standard output: PASS name, FAIL name: why, SKIP name: why. Where CI=true a
 * skipped case is a failed one. Cases run in the order of the file, each whatever became of the
 * others. The exit status is 0 only if none failed.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum {
	REPORT_CASE_SECONDS = 120, /* a case that takes longer has hung, and fails */
};

/*
 * Runs the cases whose name contains one of the arguments (all, without arguments); --list prints
 * their names. @setup, if any, runs once before the first case: what it makes (namespaces, say)
 * lives until the program ends.
 */
int report_main(int argc, char **argv, void (*setup)(void));

/* Another limit than REPORT_CASE_SECONDS for the case that calls it, counted from now. */
void report_case_limit(unsigned int seconds);

/* What a case has made is given back by hooks, since a REQUIRE leaves it in the middle. */
void report_at_case_end(void (*hook)(void));
bool report_in_case(void);

#define CASE(name)		 CASE_AT_LINE(name, __LINE__)
#define CASE_AT_LINE(name, line) CASE_NUMBER(name, line)
#define CASE_NUMBER(name, number)                                                                          \
	static void case_##number(void);                                                                   \
	__attribute__((constructor)) static void case_register_##number(void)                              \
	{                                                                                                  \
		report_register(name, case_##number);                                                      \
	}                                                                                                  \
	static void case_##number(void)

/*
 * The text (a printf format, a literal) is optional. EXPECT notes a failure, goes on and yields
 * whether it held; REQUIRE ends the case. In a forked child either ends the child with status 1.
 * The blank lets the text be left out.
 */
#define EXPECT(condition, ...)                                                                             \
	({                                                                                                 \
		bool expect_ok_ = (condition);                                                             \
		if (!expect_ok_)                                                                           \
			report_failed(__FILE__, __LINE__, #condition, " " __VA_ARGS__);                    \
		expect_ok_;                                                                                \
	})

#define EXPECT_EQ(actual, expected, ...)                                                                   \
	({                                                                                                 \
		long long expect_a_ = (long long)(actual), expect_e_ = (long long)(expected);              \
		if (expect_a_ != expect_e_)                                                                \
			report_differs(__FILE__, __LINE__, #actual, expect_a_, expect_e_,                  \
				       " " __VA_ARGS__);                                                   \
		expect_a_ == expect_e_;                                                                    \
	})

#define EXPECT_STR(actual, expected, ...)                                                                  \
	report_string(__FILE__, __LINE__, #actual, actual, expected, " " __VA_ARGS__)

#define EXPECT_MEM(actual, expected, size, ...)                                                            \
	report_memory(__FILE__, __LINE__, #actual, actual, expected, size, " " __VA_ARGS__)

#define REQUIRE(condition, ...)                                                                            \
	do {                                                                                               \
		if (!EXPECT(condition, __VA_ARGS__))                                                       \
			report_abandon();                                                                  \
	} while (0)

#define SKIP(...) report_skip(__VA_ARGS__)

/* Behind the macros. A failure outside of any case (in a setup) ends the program. */
void report_register(const char *name, void (*fn)(void));
void report_failed(const char *file, int line, const char *expression, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
void report_differs(const char *file, int line, const char *expression, long long actual,
		    long long expected, const char *fmt, ...) __attribute__((format(printf, 6, 7)));
bool report_string(const char *file, int line, const char *expression, const char *actual,
		   const char *expected, const char *fmt, ...) __attribute__((format(printf, 6, 7)));
bool report_memory(const char *file, int line, const char *expression, const void *actual,
		   const void *expected, size_t size, const char *fmt, ...)
	__attribute__((format(printf, 7, 8)));
_Noreturn void report_abandon(void);
_Noreturn void report_skip(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
