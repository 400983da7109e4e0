// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * `listeners`: every listening socket on the protected ports with the control information that it keeps,
 * and each service that was learned for it.
 */
#include <net/if.h>
#include <pwd.h>
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
#include "process.h"
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

/* What about the socket matters for its handshakes: "mptcp save-syn", or "-". */
static void kind_names(__u8 kind, char text[64])
{
	static const struct {
		__u8 bit;
		const char *name;
	} names[] = {
		{ LISTENER_MPTCP, "mptcp" },	     { LISTENER_SIGNATURE, "signed" },
		{ LISTENER_SAVE_SYN, "save-syn" },   { LISTENER_DEFER_ACCEPT, "defer-accept" },
		{ LISTENER_NEEDS_ECN, "needs-ecn" },
	};

	*text = '\0';
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (kind & names[i].bit)
			sprintf(text + strlen(text), "%s%s", *text ? " " : "", names[i].name);
}

/* The control information that a listening socket keeps. */
static void add_socket(json_t *row, const struct socket_record *socket,
		       const struct process_table *processes)
{
	const struct passwd *user = getpwuid(socket->uid);
	char text[FORMAT_ENDPOINT], kinds[64];
	const char *process;

	format_endpoint(&socket->tuple.local, socket->tuple.local_port, text);
	json_object_set_new(row, "socket", json_string(text));
	json_object_set_new(row, "backlog", json_integer(socket->backlog));
	json_object_set_new(row, "backlog_max", json_integer(socket->backlog_max));
	json_object_set_new(row, "rcvbuf", json_integer(socket->rcvbuf));
	json_object_set_new(row, "window_clamp",
			    socket->window_clamp ? json_integer(socket->window_clamp) : json_null());
	kind_names(socket->listener_kind, kinds);
	json_object_set_new(row, "options", *kinds ? json_string(kinds) : json_null());
	json_object_set_new(row, "uid", json_integer(socket->uid));
	json_object_set_new(row, "user", user ? json_string(user->pw_name) : json_null());
	process = process_text(processes, socket->inode, text);
	json_object_set_new(row, "process", process ? json_string(process) : json_null());
}

static const char *service_reason(const struct instance *instance, const struct service *service,
				  const struct socket_record *socket)
{
	if (!socket)
		return "nothing listens any more";
	if (service->synack.listener_kind)
		return kind_reason(service->synack.listener_kind);
	if (service->admission == SERVICE_REFUSED)
		return "the stack reset what was promoted: see status";
	if (service->admission == SERVICE_OTHER_WAY)
		return "its answers leave by another way";
	if (service->admission != SERVICE_ADMITTED)
		return "learned; waits for a canary";
	if (instance_unanswered(instance, service))
		return "the stack does not answer";
	if (service->policy == POLICY_SHADOW)
		return "policy shadow";
	if (service->policy == POLICY_FLOOD && monotonic_ms() >= service->awake_until_ms)
		return "dormant: there is no flood";
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

static json_t *vlan_id(__u32 number)
{
	return number & 0xffff ? json_integer((number & 0xffff) - 1) : json_null();
}

/* How long ago that was, as a number and for people; nothing if it never was. */
static void add_moment(json_t *row, const char *name, unsigned long long then_ms)
{
	const unsigned long long ago_ms = elapsed_ms(then_ms);
	char key[32], age[16];

	if (!then_ms)
		return;
	snprintf(key, sizeof(key), "%s_ms_ago", name);
	json_object_set_new(row, key, json_integer((json_int_t)ago_ms));
	snprintf(key, sizeof(key), "%s_ago", name);
	format_age(ago_ms / 1000, age);
	json_object_set_new(row, key, json_string(age));
}

static json_t *service_row(const struct instance *instance, const struct service_key *key,
			   const struct service *service, const struct socket_record *socket,
			   const struct process_table *processes)
{
	const char *reason = service_reason(instance, service, socket);
	char endpoint[FORMAT_ENDPOINT], device[IF_NAMESIZE] = "?";
	bool admitted = service->admission == SERVICE_ADMITTED && !service->synack.listener_kind &&
			socket && !instance_unanswered(instance, service);
	json_t *row = json_object();

	format_endpoint(&key->address, key->port, endpoint);
	if_indextoname(key->ifindex, device);
	format_plain(device);
	json_object_set_new(row, "local", json_string(endpoint));
	json_object_set_new(row, "device", json_string(device));
	json_object_set_new(row, "vlan", vlan_id(key->vlan));
	json_object_set_new(row, "vlan_outer", vlan_id(key->vlan >> 16));
	json_object_set_new(row, "policy", json_string(policy_name(service->policy)));
	json_object_set_new(row, "guard", json_string(guard_name(service->guard)));
	json_object_set_new(row, "awake",
			    service->policy == POLICY_FLOOD
				    ? json_boolean(monotonic_ms() < service->awake_until_ms)
				    : json_null());
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
	if (admitted)
		add_moment(row, "admitted", service->admitted_ms);
	add_moment(row, "confirmed", service->confirmed_ms);
	if (socket)
		add_socket(row, socket, processes);
	return row;
}

static json_t *bare_row(const struct instance *instance, const struct socket_record *socket,
			const struct process_table *processes)
{
	char endpoint[FORMAT_ENDPOINT];
	json_t *row = json_object();

	format_endpoint(&socket->tuple.local, socket->tuple.local_port, endpoint);
	json_object_set_new(row, "local", json_string(endpoint));
	json_object_set_new(row, "policy", json_string(policy_name(instance->set.policy)));
	json_object_set_new(row, "admitted", json_false());
	json_object_set_new(row, "reason",
			    json_string(socket->listener_kind ? kind_reason(socket->listener_kind)
							      : "no SYN-ACK seen yet"));
	json_object_set_new(row, "mss", json_null());
	json_object_set_new(row, "rcv_wscale", json_null());
	json_object_set_new(row, "window", json_null());
	add_socket(row, socket, processes);
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
static json_t *collect(const struct instance *instance, const struct socket_record *sockets, long count,
		       const struct process_table *processes)
{
	bool *shown = calloc((size_t)count + 1, sizeof(*shown));
	struct service_key key, next;
	json_t *rows = json_array();
	struct service service;
	bool more = !bpf_map_get_next_key(instance->services, NULL, &next);

	while (more && shown) {
		const struct socket_record *socket = NULL;
		json_t *row, *group;

		key = next;
		more = !bpf_map_get_next_key(instance->services, &key, &next);
		if (bpf_map_lookup_elem(instance->services, &key, &service))
			continue;
		/* One on the very address goes before one on any. */
		for (long i = 0; i < count; i++)
			if (serves(&sockets[i], &key) &&
			    (!socket || address_equal(&sockets[i].tuple.local, &key.address)))
				socket = &sockets[i];
		row = service_row(instance, &key, &service, socket, processes);
		/* All of a SO_REUSEPORT group. */
		group = json_array();
		for (long i = 0; i < count; i++)
			if (socket && serves(&sockets[i], &key) &&
			    address_equal(&sockets[i].tuple.local, &socket->tuple.local)) {
				json_t *member = json_object();

				add_socket(member, &sockets[i], processes);
				json_array_append_new(group, member);
				shown[i] = true;
			}
		json_object_set_new(row, "sockets", group);
		json_array_append_new(rows, row);
	}
	for (long i = 0; i < count && shown; i++)
		if (!shown[i])
			json_array_append_new(rows, bare_row(instance, &sockets[i], processes));
	free(shown);
	return rows;
}

/* For people: the sockets, and what was learned for them. */
static void print_plain(const json_t *rows, const struct socket_record *sockets, long count,
			const struct process_table *processes)
{
	static const struct column socket_columns[] = {
		{ "socket", "Socket", false },
		{ "backlog", "Queue", true },
		{ "backlog_max", "Of", true },
		{ "rcvbuf", "Rcvbuf", true },
		{ "window_clamp", "Clamp", true },
		{ "user", "User", false },
		{ "process", "Process", false },
		{ "options", "Options", false },
		{},
	};
	static const struct column service_columns[] = {
		{ "local", "Service", false },
		{ "device", "Device", false },
		{ "vlan", "VLAN", true },
		{ "policy", "Policy", false },
		{ "guard", "Guard", false },
		{ "admitted", "Admitted", false },
		{ "admitted_ago", "Since", true },
		{ "confirmed_ago", "Confirmed", true },
		{ "mss", "MSS", true },
		{ "window", "Window", true },
		{ "rcv_wscale", "Scale", true },
		{ "sack", "SACK", false },
		{ "timestamps", "TS", false },
		{ "ecn", "ECN", false },
		{ "ttl", "TTL", true },
		{ "reason", "Why not", false },
		{},
	};
	struct output_list list;
	json_t *row;
	size_t i;

	output_begin(&list, socket_columns, false);
	for (long j = 0; j < count; j++) {
		row = json_object();
		add_socket(row, &sockets[j], processes);
		output_row(&list, row);
	}
	output_end(&list, "nothing listens on the protected ports");
	putchar('\n');
	output_begin(&list, service_columns, false);
	json_array_foreach (rows, i, row)
		if (json_object_get(row, "device"))
			output_row(&list, json_incref(row));
	output_end(&list, "no service is learned yet: the first SYN to each will show it");
}

int command_listeners(const struct command *command, int argc, char **argv)
{
	struct common_options common = { .pin_path = PIN_PATH };
	struct socket_record *sockets = NULL;
	struct process_table processes;
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
	count = only_listeners(sockets, count);
	process_table_read(&processes);
	rows = collect(&instance, sockets, count, &processes);
	instance_close(&instance);
	if (common.json)
		output_json(rows);
	else
		print_plain(rows, sockets, count, &processes);
	process_table_free(&processes);
	free(sockets);
	json_decref(rows);
	return EXIT_DONE;
}
