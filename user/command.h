/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The table of commands, and what all of them have in common. */
#ifndef XDPH_COMMAND_H
#define XDPH_COMMAND_H

#include <getopt.h>
#include <stdbool.h>

#define PIN_PATH "/sys/fs/bpf/xdp-handshake"

/* Options that every command takes. */
struct common_options {
	const char *pin_path;
	bool json;
};

struct command {
	const char *name;
	const char *arguments; /* as the help shows them */
	const char *summary;
	const char *details; /* more lines of help, may be NULL */
	int (*run)(const struct command *command, int argc, char **argv);
};

/* Values of common long options; a command's own begin above them. */
enum common_option {
	OPT_PIN_PATH = 256,
	OPT_JSON,
	OPT_COMMAND,
};

#define COMMON_LONG_OPTIONS                                                                                \
	{ "pin-path", required_argument, NULL, OPT_PIN_PATH }, { "json", no_argument, NULL, OPT_JSON },    \
		{ "verbose", no_argument, NULL, 'v' },                                                     \
	{                                                                                                  \
		"help", no_argument, NULL, 'h'                                                             \
	}

/*
 * Takes one option that is not the command's own. Returns -1 to go on, else the exit code to leave with
 * (after --help, or an option that nobody knows).
 */
int common_option(const struct command *command, int option, struct common_options *options);

/* For commands without options of their own: parses, and leaves optind at the first argument. */
int common_parse(const struct command *command, int argc, char **argv, struct common_options *options);

/* Prints the help of one command to standard output. */
void command_help(const struct command *command);

int command_attach(const struct command *command, int argc, char **argv);
int command_run(const struct command *command, int argc, char **argv);
int command_detach(const struct command *command, int argc, char **argv);
int command_status(const struct command *command, int argc, char **argv);
int command_listeners(const struct command *command, int argc, char **argv);
int command_connections(const struct command *command, int argc, char **argv);
int command_stats(const struct command *command, int argc, char **argv);
int command_explain(const struct command *command, int argc, char **argv);
int command_set(const struct command *command, int argc, char **argv);
int command_key(const struct command *command, int argc, char **argv);

#endif
