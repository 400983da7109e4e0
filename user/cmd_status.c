// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include <errno.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "command.h"
#include "counters.h"
#include "firewall.h"
#include "format.h"
#include "instance.h"
#include "keys.h"
#include "log.h"
#include "netdev.h"
#include "output.h"
#include "ports.h"
#include "probe.h"

enum {
	TURN_LATE_MS = 120000, /* or three turns, where they are longer */
	RULES_SHOWN = 10,      /* of the firewall */
};

struct status {
	const struct instance *instance;
	json_t *interfaces;
	json_t *warnings;
	bool generic; /* at least one interface */
	unsigned int *ifindex;
	int interface_count;
};

static void warn(struct status *status, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void warn(struct status *status, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	json_array_append_new(status->warnings, json_vsprintf(format, arguments));
	va_end(arguments);
}

/* What has become of a device of that number, which is not there any more; @name is its last one. */
static void warn_of_gone(struct status *status, const char *name)
{
	if (if_nametoindex(name))
		warn(status,
		     "interface %s is gone, and another one has its name now: xdp-handshake attach %s "
		     "protects "
		     "that",
		     name, name);
	else
		warn(status, "interface %s is gone: xdp-handshake detach %s forgets it", name, name);
}

/* What the device is doing, by the programs that its links hold. */
static const char *interface_state(struct status *status, unsigned int ifindex, const char *name,
				   bool there)
{
	char program[16];

	if (!there) {
		warn_of_gone(status, name);
		return "gone";
	}
	if (!instance_link_read(status->instance, ifindex, LINK_XDP, program)) {
		warn(status,
		     "no program is on %s, its SYNs go to the stack: xdp-handshake attach %s puts it on, "
		     "detach %s forgets it",
		     name, name, name);
		return "off";
	}
	if (!strcmp(program, "xdp_drain")) {
		warn(status,
		     "%s is draining, its SYNs go to the stack: xdp-handshake detach %s finishes, "
		     "attach resumes",
		     name, name);
		return "draining";
	}
	if (!instance_link_read(status->instance, ifindex, LINK_INGRESS, program) ||
	    !instance_link_read(status->instance, ifindex, LINK_EGRESS, program)) {
		warn(status,
		     "tc programs of %s were taken off, so what it answers does not become a connection, "
		     "or is no "
		     "longer learned: xdp-handshake attach %s puts them on",
		     name, name);
		return "failing";
	}
	return "answering";
}

static int add_interface(unsigned int ifindex, const struct interface *interface, void *context)
{
	struct status *status = context;
	const unsigned long long age = elapsed_ms(interface->attached_ms) / 1000;
	char name[IF_NAMESIZE], age_text[16];
	struct netdev dev = { .ifindex = ifindex };
	unsigned int *ifindexes;
	bool native, there;

	/* What was noted of it may be an older name, or anything, if others have written there. */
	there = if_indextoname(ifindex, name);
	ifindexes = there ? realloc(status->ifindex,
				    ((size_t)status->interface_count + 1) * sizeof(*ifindexes))
			  : NULL;
	if (ifindexes) {
		status->ifindex = ifindexes;
		status->ifindex[status->interface_count++] = ifindex;
	}
	if (!there)
		snprintf(name, sizeof(name), "%.*s", (int)sizeof(interface->name) - 1, interface->name);
	format_plain(name);
	native = there && !netdev_read_xdp(&dev) && dev.xdp_program ? dev.xdp_native : interface->native;
	format_age(age, age_text);
	json_array_append_new(status->interfaces,
			      json_pack("{s:s, s:i, s:s, s:s, s:s, s:I, s:s}", "name", name, "ifindex",
					(int)ifindex, "mode", native ? "native" : "generic", "promote",
					"reqsk", "state", interface_state(status, ifindex, name, there),
					"attached_s", (json_int_t)age, "attached", age_text));
	status->generic |= !native;
	if (!native && there)
		warn(status,
		     "%s is attached in generic mode, which is slower: a driver with native XDP, then "
		     "detach and attach again",
		     name);
	return 0;
}

/* What has not found room, and what nobody sees to. */
static void warn_of_losses(struct status *status)
{
	const struct settings *set = &status->instance->set;
	const unsigned long long turns_ms = 3ULL * set->turn_ms;
	struct counters counters;

	if (!set->turned_ms ||
	    elapsed_ms(set->turned_ms) > (turns_ms > TURN_LATE_MS ? turns_ms : TURN_LATE_MS))
		warn(status, "nobody empties the filter of held tuples, so that it slowly fills: slower, "
			     "never wrong; "
			     "xdp-handshake run does it");
	if (counters_read(status->instance, &counters))
		return;
	if (counters.connections_full)
		warn(status,
		     "%llu promoted connections are not recorded, the table was full: xdp-handshake run "
		     "forgets "
		     "what is closed, --connections N makes it larger",
		     (unsigned long long)counters.connections_full);
	if (counters.used_evicted)
		warn(status,
		     "%llu used cookies were forgotten before their time: --connections N makes the table "
		     "larger",
		     (unsigned long long)counters.used_evicted);
	if (counters.service_full)
		warn(status,
		     "%llu times there was no room to learn a service, which is the stack's then: "
		     "xdp-handshake run forgets idle ones, or protect fewer ports",
		     (unsigned long long)counters.service_full);
}

/* Whether somebody tries cookies, at this moment. */
static void warn_of_forging(struct status *status)
{
	const unsigned long long now_ms = monotonic_ms();
	const __u32 zero = 0;
	struct forging forging;
	char since[16];

	if (bpf_map_lookup_elem(status->instance->forgings, &zero, &forging) || now_ms >= forging.until_ms)
		return;
	format_age(elapsed_ms(forging.since_ms) / 1000, since);
	warn(status,
	     "more than %u wrong cookies without timestamps a second: for %s handshakes without them are "
	     "left "
	     "to the stack, which hurts nobody but in a flood of SYNs; --forging-rate N sets how many",
	     status->instance->set.forging_rate, since);
}

static json_t *keys_status(struct status *status)
{
	struct master_key key;
	char fingerprint[9];
	json_t *object;

	if (key_current(status->instance->keys, &status->instance->set, &key) < 0) {
		warn(status, "no master key applies, so nothing is answered: xdp-handshake key rotate");
		return json_object();
	}
	key_fingerprint(&key, fingerprint);
	object = json_pack("{s:s, s:I, s:i}", "fingerprint", fingerprint, "age_s",
			   (json_int_t)key_age_s(&key), "epoch_ms", (int)status->instance->set.epoch_ms);
	explicit_bzero(&key, sizeof(key));
	return object;
}

struct service_counts {
	int learned, admitted, refused;
};

static struct service_counts count_services(const struct instance *instance)
{
	struct service_counts counts = {};
	struct service_key key, next;
	struct service service;
	bool more = !bpf_map_get_next_key(instance->services, NULL, &next);

	while (more) {
		key = next;
		more = !bpf_map_get_next_key(instance->services, &key, &next);
		if (bpf_map_lookup_elem(instance->services, &key, &service))
			continue;
		counts.learned++;
		counts.refused += service.admission == SERVICE_REFUSED;
		counts.admitted += service.admission == SERVICE_ADMITTED &&
				   !instance_unanswered(instance, &service);
	}
	return counts;
}

static void read_ports(const struct instance *instance, struct port_set *ports)
{
	for (__u32 i = 0; i < PORT_WORDS; i++)
		bpf_map_lookup_elem(instance->ports, &i, &ports->word[i]);
}

/* Rules may have come since we attached, and some may have been let pass. */
static void warn_of_firewall(struct status *status, const struct port_set *ports)
{
	struct rule_findings findings = {};
	const char *why = firewall_read(ports, status->ifindex, status->interface_count, &findings);

	if (why && status->interface_count)
		warn(status, "cannot read the firewall's ruleset (%s): README says what to look for in it",
		     why);
	for (size_t i = 0; i < findings.count && i < RULES_SHOWN; i++)
		warn(status, "firewall: '%s' %s: %s", findings.list[i].rule,
		     rule_reason(findings.list[i].kind), rule_remedy(findings.list[i].kind));
	if (findings.count > RULES_SHOWN)
		warn(status, "firewall: %zu more rules like these: nft list ruleset",
		     findings.count - RULES_SHOWN);
	findings_free(&findings);
}

static void print_plain(const json_t *top)
{
	static const struct column columns[] = {
		{ "name", "Interface", false },	  { "state", "State", false },
		{ "mode", "Mode", false },	  { "promote", "Promote", false },
		{ "attached", "Attached", true }, {},
	};
	const json_t *keys = json_object_get(top, "keys"), *warnings = json_object_get(top, "warnings");
	const char *yellow = output_colours() ? "\033[33m" : "", *plain = output_colours() ? "\033[0m" : "";
	char age[16];
	size_t i;
	json_t *warning;

	output_table(json_object_get(top, "interfaces"), columns, "no interface is attached");
	printf("\nPorts     %s\n", json_string_value(json_object_get(top, "ports")));
	if (json_integer_value(json_object_get(top, "mark")))
		printf("Mark      0x%llx\n",
		       (unsigned long long)json_integer_value(json_object_get(top, "mark")));
	printf("Services  %lld admitted of %lld learned\n",
	       (long long)json_integer_value(json_object_get(top, "services_admitted")),
	       (long long)json_integer_value(json_object_get(top, "services_learned")));
	if (json_object_get(keys, "fingerprint")) {
		format_age((unsigned long long)json_integer_value(json_object_get(keys, "age_s")), age);
		printf("Key       %s, made %s ago; a cookie lives %lld to %lld s\n",
		       json_string_value(json_object_get(keys, "fingerprint")), age,
		       (long long)json_integer_value(json_object_get(keys, "epoch_ms")) / 1000,
		       (long long)json_integer_value(json_object_get(keys, "epoch_ms")) / 500);
	}
	json_array_foreach (warnings, i, warning)
		printf("%sWarning:  %s%s\n", yellow, json_string_value(warning), plain);
}

int command_status(const struct command *command, int argc, char **argv)
{
	struct common_options common = { .pin_path = PIN_PATH };
	struct service_counts services;
	struct instance instance;
	struct status status = { .instance = &instance };
	struct port_set port_set = {};
	json_t *top, *keys;
	char *ports;
	int code = common_parse(command, argc, argv, &common);

	if (code >= 0)
		return code;
	if (optind < argc)
		return usage_fail("status takes no argument: '%s'", argv[optind]);
	code = instance_open(&instance, common.pin_path, true);
	if (code)
		return code;
	status.interfaces = json_array();
	status.warnings = json_array();
	if (instance.damaged)
		warn(&status, "the settings hold what was never set: xdp-handshake attach puts them right");
	instance_each_interface(&instance, add_interface, &status);
	keys = keys_status(&status);
	services = count_services(&instance);
	if (services.refused)
		warn(&status,
		     "%d services are left to the stack, which reset connections that the driver had "
		     "answered: "
		     "exempt their ports from conntrack if there is NAT (README, Firewalls), then attach "
		     "again",
		     services.refused);
	if (!probe_syncookies())
		warn(&status, "net.ipv4.tcp_syncookies is 0, so the stack refuses promoted connections: "
			      "sysctl -w net.ipv4.tcp_syncookies=1");
	if (instance.set.flags & SETTING_TC_VALIDATES && !status.generic)
		warn(&status,
		     "a driver has no XDP metadata: cookies are validated twice, in XDP and in tc");
	warn_of_losses(&status);
	warn_of_forging(&status);
	read_ports(&instance, &port_set);
	warn_of_firewall(&status, &port_set);
	ports = port_set_format(&port_set);
	top = json_pack("{s:o, s:s, s:I, s:i, s:i, s:o, s:o}", "interfaces", status.interfaces, "ports",
			ports ?: "", "mark", (json_int_t)instance.set.mark, "services_learned",
			services.learned, "services_admitted", services.admitted, "keys", keys, "warnings",
			status.warnings);
	free(ports);
	free(status.ifindex);
	instance_close(&instance);
	if (common.json)
		output_json(top);
	else
		print_plain(top);
	json_decref(top);
	return EXIT_DONE;
}
