// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* `listeners`: what listens on the protected ports, and what has been learned of each. */
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/bpf.h>

#include "command.h"
#include "format.h"
#include "instance.h"
#include "log.h"
#include "output.h"
#include "policy.h"
#include "sockets.h"

enum {
	STATE_LISTEN = 10,
};

static const char *kind_reason(__u8 kind)
{
	if (kind & LISTENER_MPTCP)
		return "MPTCP listener: the stack must see its SYNs";
	if (kind & LISTENER_SIGNATURE)
		return "listener with TCP-MD5 or TCP-AO keys: the stack must see its SYNs";
	if (kind & LISTENER_SAVE_SYN)
		return "listener with TCP_SAVE_SYN: the stack must see its SYNs";
	if (kind & LISTENER_DEFER_ACCEPT)
		return "listener with TCP_DEFER_ACCEPT: the stack must see its SYNs";
	return "listener with DCTCP: the stack must see its SYNs";
}

/* Whether the socket takes connections to the service's address. */
static bool serves(const struct socket_record *socket, const struct service_key *key)
{
	const struct address any = {};
	struct address any4;

	address_map_ipv4(&any4, (XDPH_FORCE __be32)0);
	if (socket->tuple.local_port != key->port || (socket->ifindex && socket->ifindex != key->ifindex))
		return false;
	if (address_equal(&socket->tuple.local, &any))
		return !socket->ipv6_only || !address_is_ipv4(&key->address);
	if (address_equal(&socket->tuple.local, &any4))
		return address_is_ipv4(&key->address);
	return address_equal(&socket->tuple.local, &key->address);
}

static void add_socket(json_t *row, const struct socket_record *socket)
{
	char endpoint[FORMAT_ENDPOINT];

	if (!socket)
		return;
	format_endpoint(&socket->tuple.local, socket->tuple.local_port, endpoint);
	json_object_set_new(row, "socket", json_string(endpoint));
	json_object_set_new(row, "backlog", json_integer(socket->backlog));
	json_object_set_new(row, "backlog_max", json_integer(socket->backlog_max));
	json_object_set_new(row, "rcvbuf", json_integer(socket->rcvbuf));
	json_object_set_new(row, "uid", json_integer(socket->uid));
}

static const char *service_reason(const struct instance *instance, const struct service *service,
				  const struct socket_record *socket)
{
	if (!socket)
		return "nothing listens any more";
	if (service->synack.listener_kind)
		return kind_reason(service->synack.listener_kind);
	if (service->admission == SERVICE_WAITING)
		return "learned; waits for a canary";
	if (service->admission == SERVICE_OTHER_WAY)
		return "its answers leave by another way";
	if (instance_unanswered(instance, service))
		return "the stack does not answer";
	if (service->policy == POLICY_SHADOW)
		return "policy shadow";
	if (service->speaks_first_ms && monotonic_ms() < service->speaks_first_ms + SPEAKS_FIRST_KEPT_MS)
		return "speaks first: answered above the budget only";
	return NULL;
}

static json_t *granted(const struct service *service, __u8 option)
{
	if (service->synack.granted & option)
		return json_true();
	return service->synack.refused & option ? json_false() : json_null();
}

static json_t *service_row(const struct instance *instance, const struct service_key *key,
			   const struct service *service, const struct socket_record *socket)
{
	const char *reason = service_reason(instance, service, socket);
	char endpoint[FORMAT_ENDPOINT], device[IF_NAMESIZE] = "?", age[16];
	const unsigned long long now_ms = monotonic_ms();
	bool admitted = service->admission == SERVICE_ADMITTED && !service->synack.listener_kind &&
			socket && !instance_unanswered(instance, service);
	json_t *row = json_object();

	format_endpoint(&key->address, key->port, endpoint);
	if_indextoname(key->ifindex, device);
	json_object_set_new(row, "local", json_string(endpoint));
	json_object_set_new(row, "device", json_string(device));
	json_object_set_new(row, "vlan", key->vlan ? json_integer((key->vlan & 0xffff) - 1) : json_null());
	json_object_set_new(row, "policy", json_string(policy_names[service->policy & 1]));
	json_object_set_new(row, "admitted", json_boolean(admitted));
	json_object_set_new(row, "reason", reason ? json_string(reason) : json_null());
	json_object_set_new(row, "mss", json_integer(service->synack.mss));
	json_object_set_new(row, "rcv_wscale",
			    service->synack.granted & OPTION_WSCALE
				    ? json_integer(service->synack.rcv_wscale)
				    : json_null());
	json_object_set_new(row, "window", json_integer(service->synack.window));
	json_object_set_new(row, "sack", granted(service, OPTION_SACK));
	json_object_set_new(row, "timestamps", granted(service, OPTION_TIMESTAMPS));
	json_object_set_new(row, "ecn", granted(service, OPTION_ECN));
	json_object_set_new(row, "ttl", json_integer(service->synack.ttl));
	json_object_set_new(row, "tos", json_integer(service->synack.tos));
	if (service->confirmed_ms) {
		json_object_set_new(row, "confirmed_ms_ago",
				    json_integer((json_int_t)(now_ms - service->confirmed_ms)));
		format_age((now_ms - service->confirmed_ms) / 1000, age);
		json_object_set_new(row, "confirmed", json_string(age));
	}
	add_socket(row, socket);
	return row;
}

static json_t *bare_row(const struct socket_record *socket)
{
	char endpoint[FORMAT_ENDPOINT];
	json_t *row = json_object();

	format_endpoint(&socket->tuple.local, socket->tuple.local_port, endpoint);
	json_object_set_new(row, "local", json_string(endpoint));
	json_object_set_new(row, "policy", json_null());
	json_object_set_new(row, "admitted", json_false());
	json_object_set_new(row, "reason",
			    json_string(socket->listener_kind ? kind_reason(socket->listener_kind)
							      : "no SYN-ACK seen yet"));
	json_object_set_new(row, "mss", json_null());
	json_object_set_new(row, "rcv_wscale", json_null());
	json_object_set_new(row, "window", json_null());
	add_socket(row, socket);
	return row;
}

/* Moves the listening sockets to the front; their number. */
static long only_listeners(struct socket_record *sockets, long count)
{
	long listening = 0;

	for (long i = 0; i < count; i++)
		if (sockets[i].state == STATE_LISTEN)
			sockets[listening++] = sockets[i];
	return listening;
}

/* One row a service, with the socket behind it; then the sockets of which nothing has been learned. */
static json_t *collect(const struct instance *instance, const struct socket_record *sockets, long count)
{
	bool *shown = calloc((size_t)count + 1, sizeof(*shown));
	struct service_key key, next;
	json_t *rows = json_array();
	struct service service;
	bool more = !bpf_map_get_next_key(instance->services, NULL, &next);

	while (more && shown) {
		const struct socket_record *socket = NULL;

		key = next;
		more = !bpf_map_get_next_key(instance->services, &key, &next);
		if (bpf_map_lookup_elem(instance->services, &key, &service))
			continue;
		for (long i = 0; i < count; i++)
			if (serves(&sockets[i], &key)) {
				/* One on the very address goes before one on any. */
				if (!socket || address_equal(&sockets[i].tuple.local, &key.address))
					socket = &sockets[i];
				shown[i] = true;
			}
		json_array_append_new(rows, service_row(instance, &key, &service, socket));
	}
	for (long i = 0; i < count && shown; i++)
		if (!shown[i])
			json_array_append_new(rows, bare_row(&sockets[i]));
	free(shown);
	return rows;
}

int command_listeners(const struct command *command, int argc, char **argv)
{
	static const struct column columns[] = {
		{ "local", "Local", false },
		{ "device", "Device", false },
		{ "policy", "Policy", false },
		{ "admitted", "Admitted", false },
		{ "confirmed", "Confirmed", true },
		{ "mss", "MSS", true },
		{ "window", "Window", true },
		{ "rcv_wscale", "Scale", true },
		{ "sack", "SACK", false },
		{ "timestamps", "TS", false },
		{ "ecn", "ECN", false },
		{ "backlog", "Queue", true },
		{ "backlog_max", "Of", true },
		{ "reason", "Why not", false },
		{},
	};
	struct common_options common = { .pin_path = PIN_PATH };
	struct socket_record *sockets = NULL;
	struct instance instance;
	json_t *rows;
	long count;
	int code = common_parse(command, argc, argv, &common);

	if (code >= 0)
		return code;
	if (optind < argc)
		return usage_fail("listeners takes no argument: '%s'", argv[optind]);
	code = sockets_open(&common, &instance, &sockets, &count);
	if (code)
		return code;
	rows = collect(&instance, sockets, only_listeners(sockets, count));
	free(sockets);
	instance_close(&instance);
	if (common.json)
		output_json(rows);
	else
		output_table(rows, columns, "nothing listens on the protected ports");
	json_decref(rows);
	return EXIT_DONE;
}
