// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "command.h"
#include "format.h"
#include "instance.h"
#include "keys.h"
#include "log.h"
#include "output.h"

static int show(const struct instance *instance, bool json)
{
	struct master_key key;
	char fingerprint[9], age_text[16];
	unsigned long long age;
	int slot = key_current(instance->keys, &instance->set, &key);
	json_t *top;

	if (slot < 0)
		return fail("no master key applies: xdp-handshake key rotate makes one");
	age = key_age_s(&key);
	key_fingerprint(&key, fingerprint);
	explicit_bzero(&key, sizeof(key));
	if (!json) {
		format_age(age, age_text);
		printf("fingerprint %s, made %s ago\n", fingerprint, age_text);
		return EXIT_DONE;
	}
	top = json_pack("{s:s, s:I}", "fingerprint", fingerprint, "age_s", (json_int_t)age);
	output_json(top);
	json_decref(top);
	return EXIT_DONE;
}

static int rotate(struct instance *instance)
{
	unsigned long long begins;
	__u32 from_epoch;
	int error, code = instance_lock(instance);

	if (code)
		return code;
	error = key_rotate(instance->keys, &instance->set, &from_epoch);
	if (error == -EBUSY)
		return fail(
			"all %d key slots hold keys that cookies in flight still need: try again in %u s",
			KEY_SLOTS, instance->set.epoch_ms / 1000);
	if (error)
		return fail("cannot write a key: %s", strerror(-error));
	begins = (unsigned long long)from_epoch * instance->set.epoch_ms - monotonic_ms();
	note("a new master key is in use in %.1f s; cookies of the old one stay good for their life",
	     (double)begins / 1000);
	return EXIT_DONE;
}

static int key_parse(const struct command *command, int argc, char **argv, struct common_options *common,
		     bool *rotating)
{
	int code;

	*common = (struct common_options){ .pin_path = PIN_PATH };
	code = common_parse(command, argc, argv, common);
	if (code >= 0)
		return code;
	if (argc - optind != 1 || (strcmp(argv[optind], "rotate") && strcmp(argv[optind], "show")))
		return usage_fail("key takes rotate or show");
	*rotating = !strcmp(argv[optind], "rotate");
	return -1;
}

int command_key(const struct command *command, int argc, char **argv)
{
	struct common_options common;
	struct instance instance;
	bool rotating = false;
	int code = key_parse(command, argc, argv, &common, &rotating);

	if (code >= 0)
		return code;
	code = instance_open(&instance, common.pin_path, false);
	if (code)
		return code;
	code = rotating ? rotate(&instance) : show(&instance, common.json);
	instance_close(&instance);
	return code;
}
