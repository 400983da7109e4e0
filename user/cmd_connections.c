// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* `connections`: the stack's connections on the protected ports, and what the handshake of each settled. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/bpf.h>

#include "command.h"
#include "format.h"
#include "instance.h"
#include "log.h"
#include "output.h"
#include "sockets.h"

enum {
	STATE_TIME_WAIT = 6,
	STATE_LISTEN = 10,
};

/* "wscale:7,10 sack ts ecn", in the manner of ss. */
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
	const unsigned long long age_ms = monotonic_ms() - connection->promoted_ms;
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

static json_t *connection_row(const struct instance *instance, const struct socket_record *socket)
{
	char endpoint[FORMAT_ENDPOINT];
	struct connection connection;
	json_t *row = json_object();

	json_object_set_new(row, "proto",
			    json_string(address_is_ipv4(&socket->tuple.local) ? "tcp" : "tcp6"));
	format_endpoint(&socket->tuple.local, socket->tuple.local_port, endpoint);
	json_object_set_new(row, "local", json_string(endpoint));
	format_endpoint(&socket->tuple.remote, socket->tuple.remote_port, endpoint);
	json_object_set_new(row, "remote", json_string(endpoint));
	json_object_set_new(row, "state", json_string(format_state(socket->state)));
	if (!bpf_map_lookup_elem(instance->connections, &socket->tuple, &connection) &&
	    same_connection(&connection, socket))
		add_facts(row, &connection);
	else
		add_no_facts(row);
	return row;
}

int command_connections(const struct command *command, int argc, char **argv)
{
	static const struct column columns[] = {
		{ "proto", "Proto", false },
		{ "local", "Local", false },
		{ "remote", "Remote", false },
		{ "state", "State", false },
		{ "promoted", "Promoted", false },
		{ "mss", "MSS", true },
		{ "age", "Age", true },
		{ "options", "Options", false },
		{},
	};
	struct common_options common = { .pin_path = PIN_PATH };
	struct socket_record *sockets = NULL;
	struct instance instance;
	json_t *rows;
	long count;
	int code = sockets_command(command, argc, argv, &common, &instance, &sockets, &count);

	if (code >= 0)
		return code;
	rows = json_array();
	for (long i = 0; i < count; i++)
		if (sockets[i].state != STATE_LISTEN)
			json_array_append_new(rows, connection_row(&instance, &sockets[i]));
	free(sockets);
	instance_close(&instance);
	if (common.json)
		output_json(rows);
	else
		output_table(rows, columns, "no connection on the protected ports");
	json_decref(rows);
	return EXIT_DONE;
}
