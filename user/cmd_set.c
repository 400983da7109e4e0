// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include <string.h>

#include <bpf/bpf.h>

#include "command.h"
#include "format.h"
#include "instance.h"
#include "log.h"
#include "policy.h"

const char *const policy_names[POLICIES] = { "always", "shadow", "flood" };

const char *const guard_names[GUARDS] = { "auto", "on", "off" };

static bool name_parse(const char *name, const char *const *names, int count, unsigned int *value)
{
	for (int i = 0; i < count; i++)
		if (!strcmp(name, names[i])) {
			*value = (unsigned int)i;
			return true;
		}
	return false;
}

bool policy_parse(const char *name, enum service_policy *policy)
{
	return name_parse(name, policy_names, POLICIES, (unsigned int *)policy);
}

bool guard_parse(const char *name, enum service_guard *guard)
{
	return name_parse(name, guard_names, GUARDS, (unsigned int *)guard);
}

/* What is to be changed; the rest stays. */
struct change {
	bool policy_given, guard_given;
	enum service_policy policy;
	enum service_guard guard;
};

/* Changes every service of the address and port, on whatever device and VLAN. Returns how many. */
static int change_services(const struct instance *instance, const struct address *address, __be16 port,
			   bool any, const struct change *change)
{
	struct service_key key, next;
	struct service service;
	bool more = !bpf_map_get_next_key(instance->services, NULL, &next);
	int changed = 0;

	while (more) {
		key = next;
		more = !bpf_map_get_next_key(instance->services, &key, &next);
		if (key.port != port || (!any && !address_equal(&key.address, address)) ||
		    bpf_map_lookup_elem(instance->services, &key, &service))
			continue;
		/* A write from here empties the reference to the listener; the next SYN-ACK brings it back.
		 */
		if ((change->policy_given && service.policy != change->policy) ||
		    (change->guard_given && service.guard != change->guard)) {
			if (change->policy_given)
				service.policy = change->policy;
			if (change->guard_given)
				service.guard = change->guard;
			if (bpf_map_update_elem(instance->services, &key, &service, BPF_EXIST))
				continue;
		}
		changed++;
	}
	return changed;
}

static bool change_parse(struct change *change, const char *text)
{
	if (!strncmp(text, "policy=", 7))
		return change->policy_given = policy_parse(text + 7, &change->policy);
	if (!strncmp(text, "guard=", 6))
		return change->guard_given = guard_parse(text + 6, &change->guard);
	return false;
}

int command_set(const struct command *command, int argc, char **argv)
{
	struct common_options common = { .pin_path = PIN_PATH };
	struct change change = {};
	struct instance instance;
	struct address address = {};
	__be16 port;
	bool any;
	int changed, code = common_parse(command, argc, argv, &common);

	if (code >= 0)
		return code;
	if (argc - optind < 2)
		return usage_fail("set needs ADDR:PORT and KEY=VALUE, as in 192.0.2.1:443 policy=shadow");
	if (!parse_endpoint(argv[optind], &address, &port, &any))
		return usage_fail("'%s' is no ADDR:PORT: 192.0.2.1:443, [2001:db8::1]:443, or *:443",
				  argv[optind]);
	for (int i = optind + 1; i < argc; i++)
		if (!change_parse(&change, argv[i]))
			return usage_fail(
				"'%s' is nothing to set: policy=always|flood|shadow, guard=auto|on|off",
				argv[i]);
	code = instance_open(&instance, common.pin_path, false);
	if (code)
		return code;
	code = instance_lock(&instance);
	changed = code ? 0 : change_services(&instance, &address, port, any, &change);
	instance_close(&instance);
	if (!code && !changed)
		return fail("no service %s is learned: see xdp-handshake listeners", argv[optind]);
	return code;
}
