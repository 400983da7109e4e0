// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * `connections`: the stack's connections on the protected ports, as ss would list them, and what the
 * handshake of each settled.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "format.h"
#include "instance.h"
#include "log.h"
#include "output.h"
#include "ports.h"
#include "process.h"
#include "sockets.h"

enum {
	STATE_TIME_WAIT = 6,
	STATE_LISTEN = 10,
	STATES = 13,
};

/* One line: a socket, and the facts of its handshake if it was promoted and they are recorded. */
struct line {
	const struct socket_record *socket;
	const struct connection *facts;
};

struct filter {
	unsigned int states; /* bits; 0: all */
	struct port_set ports;
	bool by_port;
	struct prefix local, remote;
	bool promoted;
};

enum sort_key {
	SORT_LOCAL,
	SORT_REMOTE,
	SORT_STATE,
	SORT_AGE,
	SORT_MSS,
	SORT_KEYS,
};

static const char *const sort_names[SORT_KEYS] = { "local", "remote", "state", "age", "mss" };

/* "ts sack ecn wscale:7,10", in the manner of ss. */
static void options_text(const struct connection *connection, char text[64])
{
	char *at = text;

	if (connection->options & OPTION_TIMESTAMPS)
		at += sprintf(at, "ts ");
	if (connection->options & OPTION_SACK)
		at += sprintf(at, "sack ");
	if (connection->options & OPTION_ECN)
		at += sprintf(at, "ecn ");
	if (connection->options & OPTION_WSCALE)
		at += sprintf(at, "wscale:%u,%u ", connection->snd_wscale, connection->rcv_wscale);
	at[at > text ? -1 : 0] = '\0';
}

/* The facts belong to this socket, and not to an earlier one on the same tuple. */
static bool same_connection(const struct connection *connection, const struct socket_record *socket)
{
	/* What is left of a socket in TIME-WAIT does not know how it began. */
	if (socket->state == STATE_TIME_WAIT)
		return connection->state == CONNECTION_CLOSED;
	/* A FIN received or acknowledged counts for one. */
	return socket->irs - connection->client_isn <= 1 && socket->iss - connection->server_isn <= 1;
}

static void add_facts(json_t *row, const struct connection *connection)
{
	const bool scaled = connection->options & OPTION_WSCALE;
	const unsigned long long age_ms = elapsed_ms(connection->promoted_ms);
	char text[64], age[16];

	options_text(connection, text);
	format_age(age_ms / 1000, age);
	json_object_set_new(row, "promoted", json_true());
	json_object_set_new(row, "mss", json_integer(connection->mss));
	json_object_set_new(row, "snd_wscale", scaled ? json_integer(connection->snd_wscale) : json_null());
	json_object_set_new(row, "rcv_wscale", scaled ? json_integer(connection->rcv_wscale) : json_null());
	json_object_set_new(row, "sack", json_boolean(connection->options & OPTION_SACK));
	json_object_set_new(row, "timestamps", json_boolean(connection->options & OPTION_TIMESTAMPS));
	json_object_set_new(row, "ecn", json_boolean(connection->options & OPTION_ECN));
	json_object_set_new(row, "client_isn", json_integer(connection->client_isn));
	json_object_set_new(row, "server_isn", json_integer(connection->server_isn));
	json_object_set_new(row, "cookie_age_ms",
			    connection->options & OPTION_TIMESTAMPS
				    ? json_integer(connection->cookie_age_ms)
				    : json_null());
	json_object_set_new(row, "age_ms", json_integer((json_int_t)age_ms));
	json_object_set_new(row, "age", json_string(age));
	json_object_set_new(row, "options", json_string(text));
}

/* A connection that the stack made by itself: what its handshake settled is not ours to know. */
static void add_no_facts(json_t *row)
{
	static const char *const keys[] = {
		"mss", "snd_wscale", "rcv_wscale", "sack", "timestamps", "ecn"
	};

	json_object_set_new(row, "promoted", json_false());
	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++)
		json_object_set_new(row, keys[i], json_null());
}

static json_t *connection_row(const struct line *line, const struct process_table *processes)
{
	const struct socket_record *socket = line->socket;
	char endpoint[FORMAT_ENDPOINT], text[PROCESS_TEXT];
	const char *process = process_text(processes, socket->inode, text);
	json_t *row = json_object();

	json_object_set_new(row, "proto",
			    json_string(address_is_ipv4(&socket->tuple.local) ? "tcp" : "tcp6"));
	format_endpoint(&socket->tuple.local, socket->tuple.local_port, endpoint);
	json_object_set_new(row, "local", json_string(endpoint));
	format_endpoint(&socket->tuple.remote, socket->tuple.remote_port, endpoint);
	json_object_set_new(row, "remote", json_string(endpoint));
	json_object_set_new(row, "state", json_string(format_state(socket->state)));
	json_object_set_new(row, "process", process ? json_string(process) : json_null());
	if (line->facts)
		add_facts(row, line->facts);
	else
		add_no_facts(row);
	return row;
}

/* ---- which lines ---- */

/* The states of a list such as "established,time-wait". */
static bool states_parse(const char *list, unsigned int *states)
{
	while (*list) {
		const size_t length = strcspn(list, ",");
		bool found = false;

		for (unsigned int state = 1; state < STATES; state++)
			if (state != STATE_LISTEN && strlen(format_state(state)) == length &&
			    !strncasecmp(format_state(state), list, length)) {
				*states |= 1U << state;
				found = true;
			}
		if (!found)
			return false;
		list += length;
		if (*list == ',')
			list++;
	}
	return *states != 0;
}

static bool filter_takes(const struct filter *filter, const struct line *line)
{
	const struct tuple *tuple = &line->socket->tuple;

	return line->socket->state != STATE_LISTEN &&
	       (!filter->states || filter->states >> line->socket->state & 1) &&
	       (!filter->by_port || port_set_has(&filter->ports, host16(tuple->local_port))) &&
	       prefix_has(&filter->local, &tuple->local) && prefix_has(&filter->remote, &tuple->remote) &&
	       (!filter->promoted || line->facts);
}

/* ---- in which order ---- */

static enum sort_key sort_key = SORT_LOCAL;
static bool sort_descending;

static int compare_endpoints(const struct address *a, __be16 a_port, const struct address *b, __be16 b_port)
{
	const int order = memcmp(a, b, sizeof(*a));

	return order ? order : (int)host16(a_port) - (int)host16(b_port);
}

/* What is not known comes last, whichever way. */
static int compare_facts(const struct connection *a, const struct connection *b)
{
	if (!a || !b)
		return sort_descending ? !!a - !!b : !!b - !!a;
	if (sort_key == SORT_MSS)
		return (int)a->mss - (int)b->mss;
	/* The younger one was promoted later. */
	return (a->promoted_ms < b->promoted_ms) - (a->promoted_ms > b->promoted_ms);
}

static int compare_lines(const void *x, const void *y)
{
	const struct line *a = x, *b = y;
	const struct tuple *s = &a->socket->tuple, *t = &b->socket->tuple;
	int order = 0;

	switch (sort_key) {
	case SORT_STATE:
		order = strcmp(format_state(a->socket->state), format_state(b->socket->state));
		break;
	case SORT_AGE:
	case SORT_MSS: order = compare_facts(a->facts, b->facts); break;
	case SORT_REMOTE:
		order = compare_endpoints(&s->remote, s->remote_port, &t->remote, t->remote_port);
		break;
	default: order = compare_endpoints(&s->local, s->local_port, &t->local, t->local_port);
	}
	if (sort_descending)
		order = -order;
	if (!order)
		order = compare_endpoints(&s->local, s->local_port, &t->local, t->local_port);
	return order ? order : compare_endpoints(&s->remote, s->remote_port, &t->remote, t->remote_port);
}

static bool sort_parse(const char *text)
{
	sort_descending = *text == '-';
	for (int i = 0; i < SORT_KEYS; i++)
		if (!strcmp(text + sort_descending, sort_names[i])) {
			sort_key = (enum sort_key)i;
			return true;
		}
	return false;
}

/* ---- the command ---- */

static int parse(const struct command *command, int argc, char **argv, struct common_options *common,
		 struct filter *filter)
{
	enum { OPT_STATE = OPT_COMMAND, OPT_PORT, OPT_LOCAL, OPT_REMOTE, OPT_PROMOTED, OPT_SORT };
	static const struct option longs[] = {
		{ "state", required_argument, NULL, OPT_STATE },
		{ "port", required_argument, NULL, OPT_PORT },
		{ "local", required_argument, NULL, OPT_LOCAL },
		{ "remote", required_argument, NULL, OPT_REMOTE },
		{ "promoted", no_argument, NULL, OPT_PROMOTED },
		{ "sort", required_argument, NULL, OPT_SORT },
		COMMON_LONG_OPTIONS,
		{},
	};
	const char *wrong;
	int option, code;

	while ((option = getopt_long(argc, argv, "vh", longs, NULL)) != -1) {
		switch (option) {
		case OPT_STATE:
			if (!states_parse(optarg, &filter->states))
				return usage_fail(
					"'%s' is no state of a connection: established, time-wait, "
					"close-wait, fin-wait-1, fin-wait-2, last-ack, closing, "
					"syn-received; several with commas",
					optarg);
			break;
		case OPT_PORT:
			if (!port_set_parse(&filter->ports, optarg, &wrong))
				return usage_fail("'%s' is no port or range: 80,443,8000-8099", wrong);
			filter->by_port = true;
			break;
		case OPT_LOCAL:
		case OPT_REMOTE:
			if (!parse_prefix(optarg, option == OPT_LOCAL ? &filter->local : &filter->remote))
				return usage_fail("'%s' is no address or prefix: 192.0.2.1, 192.0.2.0/24, "
						  "2001:db8::/32",
						  optarg);
			break;
		case OPT_PROMOTED: filter->promoted = true; break;
		case OPT_SORT:
			if (!sort_parse(optarg))
				return usage_fail(
					"'%s' is nothing to sort by: local, remote, state, age, mss; "
					"-age is the other way round",
					optarg);
			break;
		default:
			code = common_option(command, option, common);
			if (code >= 0)
				return code;
		}
	}
	if (optind < argc)
		return usage_fail("connections takes no argument: '%s'", argv[optind]);
	return -1;
}

static int print(const struct line *lines, long count, bool json)
{
	static const struct column columns[] = {
		{ "proto", "Proto", false },
		{ "local", "Local", false },
		{ "remote", "Remote", false },
		{ "state", "State", false },
		{ "promoted", "Promoted", false },
		{ "mss", "MSS", true },
		{ "age", "Age", true },
		{ "process", "Process", false },
		{ "options", "Options", false },
		{},
	};
	struct process_table processes;
	struct output_list list;
	bool done = true;

	process_table_read(&processes);
	output_begin(&list, columns, json);
	for (long i = 0; i < count && done; i++)
		done = output_row(&list, connection_row(&lines[i], &processes));
	output_end(&list, "no such connection on the protected ports");
	process_table_free(&processes);
	return done ? EXIT_DONE : fail("cannot list the connections: %s", strerror(ENOMEM));
}

int command_connections(const struct command *command, int argc, char **argv)
{
	struct common_options common = { .pin_path = PIN_PATH };
	struct connection_record *connections = NULL;
	struct socket_record *sockets = NULL;
	long count, connection_count, lines_count = 0;
	struct filter filter = {};
	struct instance instance;
	struct line *lines;
	int code = parse(command, argc, argv, &common, &filter);

	if (code >= 0)
		return code;
	code = sockets_open(&common, &instance, &sockets, &count);
	if (code)
		return code;
	connection_count = connections_read(&instance, &connections);
	instance_close(&instance);
	lines = calloc((size_t)count + 1, sizeof(*lines));
	if (connection_count < 0 || !lines) {
		free(sockets);
		free(lines);
		free(connections);
		return fail("cannot read the connections: %s",
			    strerror(connection_count < 0 ? (int)-connection_count : ENOMEM));
	}
	for (long i = 0; i < count; i++) {
		struct line line = { .socket = &sockets[i] };

		line.facts = connections_find(connections, connection_count, &sockets[i].tuple);
		if (line.facts && !same_connection(line.facts, &sockets[i]))
			line.facts = NULL;
		if (filter_takes(&filter, &line))
			lines[lines_count++] = line;
	}
	qsort(lines, (size_t)lines_count, sizeof(*lines), compare_lines);
	code = print(lines, lines_count, common.json);
	free(lines);
	free(connections);
	free(sockets);
	return code;
}
