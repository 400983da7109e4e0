// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Command lines, words between bytes 0, as all the commands with options of their own read them. Whatever
 * is typed, it is taken within its bounds or refused in one line; nothing is done.
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
#include "../../user/cmd_detach.c"
#define show explain_show
#include "../../user/cmd_explain.c"
#undef show
#include "../../user/cmd_key.c"
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

/* What detach, explain and key go on to behind their command line, where nobody gets. */
#pragma weak instance_drain_link
#pragma weak instance_drain_program
#pragma weak instance_each_interface
#pragma weak instance_each_link
#pragma weak instance_end_validation
#pragma weak instance_epoch_ms
#pragma weak instance_forget_interface
#pragma weak instance_init
#pragma weak instance_kind
#pragma weak instance_link_read
#pragma weak instance_lock_path
#pragma weak instance_lock_there
#pragma weak instance_path
#pragma weak instance_remove
#pragma weak instance_store_settings
#pragma weak instance_unlock
#pragma weak key_current
#pragma weak key_fingerprint
#pragma weak key_rotate
#pragma weak note
#pragma weak pcap_close
#pragma weak pcap_datalink
#pragma weak pcap_datalink_val_to_name
#pragma weak pcap_geterr
#pragma weak pcap_next_ex
#pragma weak pcap_open_offline
#pragma weak ring_buffer__consume
#pragma weak ring_buffer__epoll_fd
#pragma weak ring_buffer__free
#pragma weak ring_buffer__new

/* ---- the command lines ---- */

/* -1: to go on, or what a refusal, or help, returns. */
static bool is_taken(int code)
{
	require(code == -1	    ? !refusals
		: code == EXIT_DONE ? !refusals
				    : code == EXIT_USAGE && refusals == 1);
	return code == -1;
}

static void try_attach(const struct command *command, int argc, char **argv)
{
	struct attach_options options;

	if (!is_taken(attach_parse(command, argc, argv, &options)))
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

	if (!is_taken(connections_parse(command, argc, argv, &common, &filter)))
		return;
	require(filter.states >> STATES == 0 && !(filter.states >> STATE_LISTEN & 1));
	require(filter.local.length <= 128 && filter.remote.length <= 128 && sort_key < SORT_KEYS);
}

static void try_explain(const struct command *command, int argc, char **argv)
{
	struct explain_options options;

	if (!is_taken(explain_parse(command, argc, argv, &options)))
		return;
	require(optind == argc && !options.pcap != !options.live);
	require(options.port <= 65535 && options.seconds <= 86400 && !(options.pcap && options.seconds));
}

static void try_key(const struct command *command, int argc, char **argv)
{
	struct common_options common;
	bool rotating;

	if (is_taken(key_parse(command, argc, argv, &common, &rotating)))
		require(optind == argc - 1 && !strcmp(argv[optind], rotating ? "rotate" : "show"));
}

static void try_detach(const struct command *command, int argc, char **argv)
{
	struct detach_options options;

	if (!is_taken(detach_parse(command, argc, argv, &options)))
		return;
	require(options.all ? optind == argc : argc > optind && argc - optind <= INTERFACES_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	static const struct command commands[] = {
		{ .name = "attach" },  { .name = "run" }, { .name = "set" },	{ .name = "connections" },
		{ .name = "explain" }, { .name = "key" }, { .name = "detach" },
	};
	struct input input = { bytes, size };
	const unsigned int which = (unsigned int)draw_number(&input, 1) % 7;
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
	case 3: try_connections(command, count, words); break;
	case 4: try_explain(command, count, words); break;
	case 5: try_key(command, count, words); break;
	default: try_detach(command, count, words);
	}
	/* getopt has put them in another order, and lost none. */
	for (int i = 0; i < count; i++)
		if (words[i] != command->name)
			free(words[i]);
	free(text);
	return 0;
}
