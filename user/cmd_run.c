// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * `run`: attaches, then turns the filter of held tuples, so that those long gone stop costing exact
 * lookups. The datapath needs none of this to be right and goes on when we leave.
 *
 * Attaching takes capabilities. The rounds of upkeep take none: whoever owns the pins may open them, and
 * what is done to open maps and iterators asks for nothing else.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "addresses.h"
#include "attach.h"
#include "counters.h"
#include "format.h"
#include "instance.h"
#include "log.h"
#include "privilege.h"
#include "sockets.h"

enum {
	TURN_SECONDS = 30,
	/* After a word is emptied, a SYN that was passed just before has become a socket within this. */
	SETTLE_MS = 200,
};

/*
 * Empties the generation that is not asked, fills it with what the stack holds, and asks it from then on.
 * Bits that the programs set meanwhile go into both generations.
 */
static int turn_generation(struct instance *instance)
{
	const __u32 spare = !(instance->set.known_generation & 1);
	const size_t count = (size_t)instance->set.known_mask + 1;
	struct known_word *words, *word;
	size_t size;
	int error;

	words = instance_known_words(instance, &size);
	if (!words)
		return -errno;
	word = words + spare * count;
	for (size_t i = 0; i < count; i++)
		__atomic_store_n(&word[i].bits, 0, __ATOMIC_RELAXED);
	munmap(words, size);
	poll(NULL, 0, SETTLE_MS);
	error = instance_refill(instance);
	error = error ?: instance_unsettle(instance);
	if (error)
		return error;
	instance->set.known_generation = spare;
	instance->set.turned_ms = monotonic_ms();
	return instance_store_settings(instance);
}

/* What is remembered from one round to the next. */
struct memory {
	__u32 turn_ms;
	bool told;		       /* that the settings are damaged */
	bool told_addresses;	       /* that the host's addresses cannot be read */
	unsigned long long lost;       /* connections that found no room, so far */
	unsigned long long changed_ms; /* when that was another number last */
};

/* How many connections found no room, so far. */
static int count_lost(const struct instance *instance, unsigned long long *lost)
{
	struct counters counters;
	int error = counters_read(instance, &counters);

	if (!error)
		*lost = counters.connections_full;
	return error;
}

/*
 * When the table of connections has been full, the programs go by the long way for every connection. Once
 * all that were not recorded are older than any cookie, that is over.
 */
static void end_fullness(struct instance *instance, struct memory *memory)
{
	const unsigned long long now_ms = monotonic_ms();
	unsigned long long lost;

	if (count_lost(instance, &lost))
		return;
	if (lost != memory->lost || !memory->changed_ms) {
		memory->lost = lost;
		memory->changed_ms = now_ms;
	}
	if (!(instance->set.flags & SETTING_CONNECTIONS_FULL) ||
	    now_ms <= memory->changed_ms + 2 * instance->set.epoch_ms)
		return;
	instance_clear_flag(instance, SETTING_CONNECTIONS_FULL);
	/* The programs count first: whoever took the flag for set before this is counted by now. */
	if (count_lost(instance, &lost) || lost != memory->lost) {
		instance->set.flags |= SETTING_CONNECTIONS_FULL;
		instance_store_settings(instance);
	}
}

/* Whether no client has come to the service for so long that no handshake of ours can be under way. */
static bool service_idle(const struct instance *instance, const struct service *service,
			 unsigned long long now_ms)
{
	const struct settings *set = &instance->set;
	unsigned long long seen_ms = service->learned_ms;

	/* Where clients come, canaries go, whether they are answered (which confirms the service) or not.
	 */
	if (seen_ms < service->confirmed_ms)
		seen_ms = service->confirmed_ms;
	if (seen_ms < service->canary.sent_ms)
		seen_ms = service->canary.sent_ms;

	return now_ms > seen_ms + 4ULL * set->epoch_ms + 2ULL * set->canary_silence_ms;
}

/*
 * Listeners come and go: passive FTP, RPC. What was learned of them stays, so that a restarted server need
 * not be learned anew, but not so long that there is no room for others. One that comes back is learned
 * from its next SYN; what somebody has set for it would be lost, and nobody would know.
 */
static void services_sweep(const struct instance *instance)
{
	const unsigned long long now_ms = monotonic_ms();
	const __u32 room = map_entries(instance->services);
	struct service_key key, next;
	struct service service;
	__u32 count = 0;
	bool more;

	/* Without canaries nothing tells whether clients come. */
	if (!room || instance->set.flags & SETTING_CANARY_ONCE)
		return;
	for (more = !bpf_map_get_next_key(instance->services, NULL, &next); more && count <= room;
	     count++) {
		key = next;
		more = !bpf_map_get_next_key(instance->services, &key, &next);
	}
	if (count <= room / 2)
		return;
	more = !bpf_map_get_next_key(instance->services, NULL, &next);
	while (more) {
		key = next;
		more = !bpf_map_get_next_key(instance->services, &key, &next);
		if (!bpf_map_lookup_elem(instance->services, &key, &service) &&
		    service.admission != SERVICE_REFUSED && service.policy == instance->set.policy &&
		    service.guard == instance->set.guard && service_idle(instance, &service, now_ms))
			bpf_map_delete_elem(instance->services, &key);
	}
}

/* One round of upkeep. The settings are read again: another command may have changed them. */
static int upkeep(const char *pin_path, struct memory *memory)
{
	struct instance instance;
	int error, code = instance_open(&instance, pin_path, true);

	if (code)
		return code;
	code = instance_lock(&instance);
	/* Put right under programs that answer, they would look for marks where none are (attach.c). */
	if (!code && instance.damaged && !memory->told)
		note("the settings hold what was never set, so that the filter is not turned: "
		     "xdp-handshake "
		     "attach "
		     "puts them right");
	memory->told = !code && instance.damaged;
	if (!code && !instance.damaged) {
		instance.set.turn_ms = memory->turn_ms;
		error = turn_generation(&instance);
		if (error)
			code = fail("cannot turn the filter's generation: %s", strerror(-error));
		/* Those of the turn before stand: at worst, one that is new may be an impostor's. */
		error = addresses_store(&instance);
		if (error && !memory->told_addresses)
			note("cannot read the host's addresses: %s; the next turn tries again",
			     strerror(-error));
		memory->told_addresses = error;
		connections_sweep(&instance);
		services_sweep(&instance);
		end_fullness(&instance, memory);
	}
	instance_close(&instance);
	return code;
}

/* Whether the pins open without capabilities: not so where they lie in a folder of another user's. */
static int still_opens(const char *pin_path)
{
	struct instance instance;
	int code = instance_open(&instance, pin_path, true);

	if (!code)
		instance_close(&instance);
	return code;
}

int command_run(const struct command *command, int argc, char **argv)
{
	struct attach_options options;
	struct pollfd wait = { .events = POLLIN };
	struct memory memory = {};
	sigset_t signals;
	int lock, code = attach_parse(command, argc, argv, &options);

	if (code >= 0)
		return code;
	/* To wait for another command is nothing that must be brought to an end; to attach is. */
	lock = instance_lock_path(options.common.pin_path);
	if (lock >= 0)
		close(lock);
	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	wait.fd = signalfd(-1, &signals, SFD_CLOEXEC);
	if (wait.fd < 0)
		return fail("cannot wait for signals: %s", strerror(errno));
	code = attach(&options);
	code = code ?: privilege_drop();
	code = code ?: still_opens(options.common.pin_path);
	if (code)
		return code;
	memory.turn_ms = (options.turn_seconds ?: TURN_SECONDS) * 1000;
	note("attached; turning the filter every %u s, until SIGTERM or SIGINT", memory.turn_ms / 1000);
	do {
		code = upkeep(options.common.pin_path, &memory);
		if (code)
			return code;
	} while (poll(&wait, 1, (int)memory.turn_ms) <= 0);
	note("leaving; the programs stay attached (xdp-handshake detach takes them off)");
	return EXIT_DONE;
}
