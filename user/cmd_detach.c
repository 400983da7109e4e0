// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * `detach`: first the programs that only validate take the place of those that answer; when no cookie that
 * was given out can still be good, everything goes.
 */
#include <errno.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "command.h"
#include "instance.h"
#include "log.h"

enum {
	OPT_ALL = OPT_COMMAND,
	OPT_NOW,
	INTERFACES_MAX = 256,
};

struct chosen {
	unsigned int ifindex[INTERFACES_MAX];
	char name[INTERFACES_MAX][16];
	int count;
};

static int choose(unsigned int ifindex, const struct interface *interface, void *context)
{
	struct chosen *chosen = context;

	if (chosen->count < INTERFACES_MAX) {
		chosen->ifindex[chosen->count] = ifindex;
		memcpy(chosen->name[chosen->count], interface->name, sizeof(interface->name));
		chosen->name[chosen->count++][15] = '\0';
	}
	return 0;
}

/* Of all interfaces that we hold, those that were named; a deleted device is known by its last name. */
/* Two may have had one name: the one that is there now counts. */
static int choose_named(const struct instance *instance, char **names, int count, struct chosen *chosen)
{
	struct chosen held = {};

	instance_each_interface(instance, choose, &held);
	for (int i = 0; i < count; i++) {
		int j = 0;

		while (j < held.count && held.ifindex[j] != if_nametoindex(names[i]))
			j++;
		if (j == held.count)
			for (j = 0; j < held.count && strcmp(held.name[j], names[i]);)
				j++;
		if (j == held.count)
			return fail("%s is not attached: see xdp-handshake status", names[i]);
		chosen->ifindex[chosen->count] = held.ifindex[j];
		memcpy(chosen->name[chosen->count++], held.name[j], sizeof(held.name[j]));
	}
	return EXIT_DONE;
}

static void drain_one(const struct instance *instance, unsigned int ifindex)
{
	struct interface interface;
	char path[PATH_MAX];
	int link, program;

	instance_path(instance, path, "programs/xdp_drain");
	program = bpf_obj_get(path);
	link = instance_link_open(instance, ifindex, LINK_XDP);
	if (program >= 0 && link >= 0)
		bpf_link_update(link, program, NULL);
	if (program >= 0)
		close(program);
	if (link >= 0)
		close(link);
	if (!bpf_map_lookup_elem(instance->interfaces, &ifindex, &interface)) {
		interface.draining = 1;
		bpf_map_update_elem(instance->interfaces, &ifindex, &interface, BPF_EXIST);
	}
}

/* Stops answering, and waits for the cookies in flight. False if a signal cut it short. */
static bool drain(const struct instance *instance, const struct chosen *chosen)
{
	const int life_ms = (int)(2 * instance->set.epoch_ms);
	struct pollfd wait = { .events = POLLIN };
	sigset_t signals;
	bool waited;

	for (int i = 0; i < chosen->count; i++)
		drain_one(instance, chosen->ifindex[i]);
	note("no longer answering; waiting %d s for handshakes in flight (--now does not wait)",
	     life_ms / 1000);
	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	wait.fd = signalfd(-1, &signals, SFD_CLOEXEC);
	waited = !poll(&wait, 1, life_ms);
	if (wait.fd >= 0)
		close(wait.fd);
	return waited;
}

static int count_interface(unsigned int ifindex, const struct interface *interface, void *context)
{
	(void)ifindex;
	(void)interface;
	++*(int *)context;
	return 0;
}

static int detach(struct instance *instance, const struct chosen *chosen, bool now)
{
	int left = 0, code;

	if (!now && chosen->count && !drain(instance, chosen))
		return fail("interrupted: the interfaces still validate, and pass every SYN to the stack; "
			    "detach "
			    "again to finish, or attach");
	/* Not locked while waiting: others may look and attach meanwhile. */
	code = instance_lock(instance);
	if (code)
		return code;
	for (int i = 0; i < chosen->count; i++) {
		struct interface interface;

		if (!now && !bpf_map_lookup_elem(instance->interfaces, &chosen->ifindex[i], &interface) &&
		    !interface.draining) {
			note("%s was attached again meanwhile: left alone", chosen->name[i]);
			continue;
		}
		instance_forget_interface(instance, chosen->ifindex[i]);
	}
	instance_each_interface(instance, count_interface, &left);
	if (!left)
		instance_remove(instance);
	return EXIT_DONE;
}

int command_detach(const struct command *command, int argc, char **argv)
{
	static const struct option longs[] = { COMMON_LONG_OPTIONS,
					       { "all", no_argument, NULL, OPT_ALL },
					       { "now", no_argument, NULL, OPT_NOW },
					       {} };
	struct common_options common = { .pin_path = PIN_PATH };
	struct chosen chosen = {};
	bool all = false, now = false;
	struct instance instance;
	int option, code;

	while ((option = getopt_long(argc, argv, "vh", longs, NULL)) != -1) {
		if (option == OPT_ALL) {
			all = true;
		} else if (option == OPT_NOW) {
			now = true;
		} else {
			code = common_option(command, option, &common);
			if (code >= 0)
				return code;
		}
	}
	if (all == (optind < argc))
		return usage_fail("detach needs interfaces, or --all");
	if (argc - optind > INTERFACES_MAX)
		return usage_fail("more than %d interfaces", INTERFACES_MAX);
	code = instance_open(&instance, common.pin_path, false);
	if (code)
		return code;
	if (all)
		instance_each_interface(&instance, choose, &chosen);
	else
		code = choose_named(&instance, argv + optind, argc - optind, &chosen);
	if (!code)
		code = detach(&instance, &chosen, now);
	instance_close(&instance);
	return code;
}
