// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Command lines, words between bytes 0, as `attach`, `run`, `set` and `connections` read them. Whatever is
 * typed, it is taken within its bounds or refused in one line; nothing is done.
 */
#include <stdarg.h>
#include <stdio.h>

#include "fuzz.h"

/* Names that two of the files have. */
#define parse connections_parse
#define print connections_print
#include "../../user/cmd_connections.c"
#undef parse
#undef print
#include "../../user/cmd_attach.c"
#include "../../user/cmd_set.c"

enum {
	WORDS = 32,
};

/* ---- what they would go on to ---- */

int log_verbosity;
static int refusals;

static int refuse(int code, const char *format, va_list arguments)
{
	char line[4096];

	refusals++;
	require(vsnprintf(line, sizeof(line), format, arguments) > 0);
	return code;
}

int fail(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	refuse(EXIT_FAILED, format, arguments);
	va_end(arguments);
	return EXIT_FAILED;
}

int usage_fail(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	refuse(EXIT_USAGE, format, arguments);
	va_end(arguments);
	return EXIT_USAGE;
}

/* As in main.c, but that help is nothing. */
int common_option(const struct command *command, int option, struct common_options *options)
{
	switch (option) {
	case OPT_PIN_PATH: options->pin_path = optarg; return -1;
	case OPT_JSON: options->json = true; return -1;
	case 'v': return -1;
	case 'h': return EXIT_DONE;
	default: return usage_fail("%s does not take that", command->name);
	}
}

int common_parse(const struct command *command, int argc, char **argv, struct common_options *options)
{
	static const struct option longs[] = { COMMON_LONG_OPTIONS, {} };
	int option, code;

	while ((option = getopt_long(argc, argv, "vh", longs, NULL)) != -1) {
		code = common_option(command, option, options);
		if (code >= 0)
			return code;
	}
	return -1;
}

int attach(const struct attach_options *options)
{
	(void)options;
	return EXIT_DONE;
}

int instance_open(struct instance *instance, const char *pin_path, bool same_netns)
{
	(void)instance, (void)same_netns;
	require(pin_path);
	return fail("nothing is attached");
}

void instance_close(struct instance *instance)
{
	(void)instance;
}

int instance_lock(struct instance *instance)
{
	(void)instance;
	return EXIT_DONE;
}

int sockets_open(const struct common_options *common, struct instance *instance,
		 struct socket_record **records, long *count)
{
	(void)common, (void)instance, (void)records, (void)count;
	return fail("nothing is attached");
}

long connections_read(const struct instance *instance, struct connection_record **records)
{
	(void)instance, (void)records;
	return 0;
}

const struct connection *connections_find(const struct connection_record *records, long count,
					  const struct tuple *tuple)
{
	(void)records, (void)count, (void)tuple;
	return NULL;
}

void process_table_read(struct process_table *table)
{
	memset(table, 0, sizeof(*table));
}

void process_table_free(struct process_table *table)
{
	(void)table;
}

const char *process_text(const struct process_table *table, __u64 inode, char text[PROCESS_TEXT])
{
	(void)table, (void)inode, (void)text;
	return NULL;
}

/* libbpf's, which is not linked. */
int bpf_map_get_next_key(int fd, const void *key, void *next_key)
{
	(void)fd, (void)key, (void)next_key;
	return -1;
}

int bpf_map_lookup_elem(int fd, const void *key, void *value)
{
	(void)fd, (void)key, (void)value;
	return -1;
}

int bpf_map_update_elem(int fd, const void *key, const void *value, __u64 flags)
{
	(void)fd, (void)key, (void)value, (void)flags;
	return -1;
}

/* ---- the command lines ---- */

static void try_attach(const struct command *command, int argc, char **argv)
{
	struct attach_options options;
	int code = attach_parse(command, argc, argv, &options);

	require(code == -1	    ? !refusals
		: code == EXIT_DONE ? !refusals
				    : code == EXIT_USAGE && refusals == 1);
	if (code != -1)
		return;
	require(options.interface_count > 0 && options.ports_given && !port_set_has(&options.ports, 0));
	require(options.interfaces + options.interface_count == argv + argc);
	require(options.mode <= MODE_GENERIC && options.policy <= POLICY_FLOOD &&
		options.guard <= GUARD_OFF);
	require(!options.connections || (options.connections >= 1024 && options.connections <= 1 << 24));
	require(options.canary_seconds <= 86400 && options.epoch_seconds <= 3600 &&
		options.turn_seconds <= 3600);
	require(!(options.canary_once && options.canary_seconds));
	require(options.flood_rate <= 10000000 && options.flood_hold_ms <= 3600000 &&
		options.guard_rate <= 10000000);
	require(!options.turn_seconds || !strcmp(command->name, "run"));
}

static void try_connections(const struct command *command, int argc, char **argv)
{
	struct common_options common = {};
	struct filter filter = {};
	int code = connections_parse(command, argc, argv, &common, &filter);

	require(code == -1	    ? !refusals
		: code == EXIT_DONE ? !refusals
				    : code == EXIT_USAGE && refusals == 1);
	if (code != -1)
		return;
	require(filter.states >> STATES == 0 && !(filter.states >> STATE_LISTEN & 1));
	require(filter.local.length <= 128 && filter.remote.length <= 128 && sort_key < SORT_KEYS);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	static const struct command commands[] = {
		{ .name = "attach" }, { .name = "run" }, { .name = "set" }, { .name = "connections" }
	};
	struct input input = { bytes, size };
	const unsigned int which = (unsigned int)draw_number(&input, 1) % 4;
	const struct command *command = &commands[which];
	char *words[WORDS + 1] = { (char *)command->name };
	char *text = draw_text(&input);
	int count = 1, code;

	/* Each word of its own size, so that a read behind its end is seen. */
	for (size_t at = 0; at < input.left && count < WORDS; at += strlen(text + at) + 1)
		words[count++] = strdup(text + at);
	opterr = 0;
	optind = 0;
	refusals = 0;
	switch (which) {
	case 0:
	case 1: try_attach(command, count, words); break;
	case 2:
		code = command_set(command, count, words);
		require(code == EXIT_DONE ? !refusals : refusals == 1);
		break;
	default: try_connections(command, count, words);
	}
	/* getopt has put them in another order, and lost none. */
	for (int i = 0; i < count; i++)
		if (words[i] != command->name)
			free(words[i]);
	free(text);
	return 0;
}
