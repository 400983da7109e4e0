// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include <string.h>

#include <bpf/bpf.h>

#include "command.h"
#include "format.h"
#include "instance.h"
#include "log.h"
#include "policy.h"

const char *const policy_names[POLICIES] = { "always", "shadow" };

bool policy_parse(const char *name, enum service_policy *policy)
{
	for (int i = 0; i < POLICIES; i++)
		if (!strcmp(name, policy_names[i])) {
			*policy = i;
			return true;
		}
	return false;
}

/* Changes every service of the address and port, on whatever device and VLAN. Returns how many. */
static int set_policy(const struct instance *instance, const struct address *address, __be16 port, bool any,
		      enum service_policy policy)
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
		if (service.policy != policy) {
			service.policy = policy;
			if (bpf_map_update_elem(instance->services, &key, &service, BPF_EXIST))
				continue;
		}
		changed++;
	}
	return changed;
}

int command_set(const struct command *command, int argc, char **argv)
{
	struct common_options common = { .pin_path = PIN_PATH };
	enum service_policy policy = POLICY_ALWAYS;
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
		if (strncmp(argv[i], "policy=", 7) || !policy_parse(argv[i] + 7, &policy))
			return usage_fail("'%s' is nothing to set: policy=always or policy=shadow",
					  argv[i]);
	code = instance_open(&instance, common.pin_path, false);
	if (code)
		return code;
	code = instance_lock(&instance);
	changed = code ? 0 : set_policy(&instance, &address, port, any, policy);
	instance_close(&instance);
	if (!code && !changed)
		return fail("no service %s is learned: see xdp-handshake listeners", argv[optind]);
	return code;
}
