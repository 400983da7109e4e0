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
#include "cookie.h"
#include "format.h"
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
		chosen->name[chosen->count][15] = '\0';
		format_plain(chosen->name[chosen->count++]);
	}
	return 0;
}

/*
 * Of all interfaces that we hold, those that were named; a deleted device is known by its last name. Two
 * may have had one name: the one that is there now counts. What is there is there in one network namespace,
 * and this may be another.
 */
static int choose_named(const struct instance *instance, char **names, int count, struct chosen *chosen)
{
	const bool here = instance->set.netns_cookie == netns_cookie();
	struct chosen held = {};

	instance_each_interface(instance, choose, &held);
	for (int i = 0; i < count; i++) {
		int j = 0;

		while (j < held.count && (!here || held.ifindex[j] != if_nametoindex(names[i])))
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

/* ---- draining ---- */

/* Waits for the cookies in flight. False if a signal cut it short. */
static bool wait_for_cookies(unsigned long long life_ms)
{
	struct pollfd wait = { .events = POLLIN };
	sigset_t signals;
	bool waited;

	note("no longer answering; waiting %llu s for handshakes in flight (--now does not wait)",
	     (life_ms + 999) / 1000);
	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	wait.fd = signalfd(-1, &signals, SFD_CLOEXEC);
	waited = !poll(&wait, 1, (int)life_ms);
	if (wait.fd >= 0)
		close(wait.fd);
	if (!waited)
		fail("interrupted: the interfaces still validate, and pass every SYN to the stack; detach "
		     "again "
		     "to finish, or attach");
	return waited;
}

static int drain_failed(const char *name, int error)
{
	return fail(
		"cannot stop answering on %s: %s; attach it again, or detach --now, with which handshakes "
		"in flight are lost",
		name, strerror(-error));
}

/* Stops answering. *drained: there is something to wait for, as there is not for devices that are gone. */
static int drain(struct instance *instance, const struct chosen *chosen, bool *drained)
{
	int code = instance_lock(instance);
	char program[16];

	/* Under the lock, or an attach might have the last word on the program, and we on the notes. */
	for (int i = 0; !code && i < chosen->count; i++) {
		const bool answered = instance_link_read(instance, chosen->ifindex[i], LINK_XDP, program) &&
				      strcmp(program, "xdp_drain");
		int error = instance_drain_link(instance, chosen->ifindex[i]);
		const unsigned long long now_ms = monotonic_ms();
		struct interface interface;

		if (error && error != -ENOLINK) {
			code = drain_failed(chosen->name[i], error);
			break;
		}
		*drained |= !error;
		if (!bpf_map_lookup_elem(instance->interfaces, &chosen->ifindex[i], &interface)) {
			/* Another detach may have begun that, and been interrupted. */
			if (answered || !interface.draining_since_ms ||
			    interface.draining_since_ms > now_ms)
				interface.draining_since_ms = now_ms;
			bpf_map_update_elem(instance->interfaces, &chosen->ifindex[i], &interface,
					    BPF_EXIST);
		}
	}
	instance_unlock(instance);
	return code;
}

/* How long cookies live that were given out before the last of them began to drain. */
static unsigned long long life_left_ms(const struct instance *instance, const struct chosen *chosen)
{
	const unsigned long long now_ms = monotonic_ms(), life_ms = 2ULL * instance->set.epoch_ms;
	unsigned long long left_ms = 0;
	struct interface interface;

	for (int i = 0; i < chosen->count; i++) {
		if (bpf_map_lookup_elem(instance->interfaces, &chosen->ifindex[i], &interface) ||
		    !interface.draining_since_ms || interface.draining_since_ms > now_ms)
			continue;
		if (interface.draining_since_ms + life_ms > now_ms + left_ms)
			left_ms = interface.draining_since_ms + life_ms - now_ms;
	}
	return left_ms;
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
	unsigned long long left_ms;
	bool drained = false, gone;
	int left = 0, code = EXIT_DONE;

	if (!now && chosen->count)
		code = drain(instance, chosen, &drained);
	/* Not locked while waiting: others may look and attach meanwhile, or detach, or both. */
	do {
		code = code ?: instance_lock_there(instance, &gone);
		if (code)
			return code;
		if (gone) {
			note("somebody else has detached meanwhile");
			return EXIT_DONE;
		}
		left_ms = drained ? life_left_ms(instance, chosen) : 0;
		if (left_ms) {
			instance_unlock(instance);
			if (!wait_for_cookies(left_ms))
				return EXIT_FAILED;
		}
	} while (left_ms);
	for (int i = 0; i < chosen->count; i++) {
		struct interface interface;

		if (drained &&
		    !bpf_map_lookup_elem(instance->interfaces, &chosen->ifindex[i], &interface) &&
		    !interface.draining_since_ms) {
			note("%s was attached again meanwhile: left alone", chosen->name[i]);
			continue;
		}
		instance_forget_interface(instance, chosen->ifindex[i]);
	}
	instance_each_interface(instance, count_interface, &left);
	if (left)
		instance_end_validation(instance);
	else
		instance_remove(instance);
	return EXIT_DONE;
}

/* ---- what cannot be opened: of another layout, or left by somebody who was killed ---- */

struct unreadable {
	const struct instance *instance;
	bool drained, kept;
	int code;
};

static int drain_unreadable(unsigned int ifindex, void *context)
{
	struct unreadable *unreadable = context;
	int error = instance_drain_link(unreadable->instance, ifindex);
	char name[IF_NAMESIZE];

	if (!error)
		unreadable->drained = true;
	else if (error != -ENOLINK)
		unreadable->code = drain_failed(if_indextoname(ifindex, name) ?: "a device", error);
	return unreadable->code;
}

static bool is_unreadable(const char *pin_path)
{
	const enum instance_kind kind = instance_kind(pin_path);

	return kind == INSTANCE_UNREADABLE || kind == INSTANCE_REMAINS;
}

/* By links and programs alone, which are the same in all layouts. -1: it can be opened after all. */
static int detach_unreadable(const char *pin_path, bool now)
{
	unsigned long epoch_ms;
	__u32 drain_program;
	struct instance instance;
	struct unreadable unreadable = { .instance = &instance };

	instance_init(&instance, pin_path);
	instance.lock = instance_lock_path(pin_path);
	/* Its maker may have had the lock until now. */
	if (instance.lock < 0 || !is_unreadable(pin_path)) {
		instance_unlock(&instance);
		return -1;
	}
	epoch_ms = instance_epoch_ms(pin_path);
	if (epoch_ms < 1000 || epoch_ms > 3600000)
		epoch_ms = COOKIE_EPOCH_MS;
	drain_program = instance_drain_program(&instance);
	if (!now)
		instance_each_link(&instance, drain_unreadable, &unreadable);
	if (!unreadable.code && unreadable.drained) {
		instance_unlock(&instance);
		if (!wait_for_cookies(2ULL * epoch_ms))
			return EXIT_FAILED;
		instance.lock = instance_lock_path(pin_path);
		if (instance.lock == -ENOENT) {
			note("somebody else has detached meanwhile");
			return EXIT_DONE;
		}
		if (instance.lock < 0)
			unreadable.code = fail("cannot lock %s: %s", pin_path, strerror(-instance.lock));
		/* Whoever attaches brings a program of his own, whatever runs by now. */
		else if (instance_drain_program(&instance) != drain_program)
			unreadable.kept = true;
	}
	if (!unreadable.code && !unreadable.kept)
		instance_remove(&instance);
	instance_unlock(&instance);
	if (unreadable.code)
		return unreadable.code;
	if (unreadable.kept)
		note("%s was attached to again meanwhile: left alone", pin_path);
	else if (!access(pin_path, F_OK))
		note("%s holds something else as well, which is left there", pin_path);
	return EXIT_DONE;
}

struct detach_options {
	struct common_options common;
	bool all, now; /* without `all`: the interfaces are argv[optind] and those behind */
};

static int detach_parse(const struct command *command, int argc, char **argv,
			struct detach_options *options)
{
	static const struct option longs[] = { COMMON_LONG_OPTIONS,
					       { "all", no_argument, NULL, OPT_ALL },
					       { "now", no_argument, NULL, OPT_NOW },
					       {} };
	int option, code;

	*options = (struct detach_options){ .common.pin_path = PIN_PATH };
	while ((option = getopt_long(argc, argv, "vh", longs, NULL)) != -1) {
		if (option == OPT_ALL) {
			options->all = true;
		} else if (option == OPT_NOW) {
			options->now = true;
		} else {
			code = common_option(command, option, &options->common);
			if (code >= 0)
				return code;
		}
	}
	if (options->all == (optind < argc))
		return usage_fail("detach needs interfaces, or --all");
	if (argc - optind > INTERFACES_MAX)
		return usage_fail("more than %d interfaces", INTERFACES_MAX);
	return -1;
}

int command_detach(const struct command *command, int argc, char **argv)
{
	struct detach_options options;
	struct chosen chosen = {};
	struct instance instance;
	int code = detach_parse(command, argc, argv, &options);

	if (code >= 0)
		return code;
	if (options.all && is_unreadable(options.common.pin_path)) {
		code = detach_unreadable(options.common.pin_path, options.now);
		if (code >= 0)
			return code;
	}
	code = instance_open(&instance, options.common.pin_path, false);
	if (code)
		return code;
	if (options.all)
		instance_each_interface(&instance, choose, &chosen);
	else
		code = choose_named(&instance, argv + optind, argc - optind, &chosen);
	if (!code)
		code = detach(&instance, &chosen, options.now);
	instance_close(&instance);
	return code;
}
