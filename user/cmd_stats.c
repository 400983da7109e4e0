// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "command.h"
#include "counters.h"
#include "instance.h"
#include "log.h"
#include "output.h"

static const struct {
	const char *name;
	const char *sentence;
} counter_texts[] = {
#define COUNTER(name, sentence) { #name, sentence },
#include "counters.def"
#undef COUNTER
};

int counters_read(const struct instance *instance, struct counters *sum)
{
	const int cpus = libbpf_num_possible_cpus();
	const __u32 zero = 0;
	struct counters *each;

	memset(sum, 0, sizeof(*sum));
	if (cpus < 0)
		return cpus;
	each = calloc((size_t)cpus, sizeof(*each));
	if (!each)
		return -ENOMEM;
	if (bpf_map_lookup_elem(instance->counters, &zero, each)) {
		free(each);
		return -errno;
	}
	for (int i = 0; i < cpus; i++)
		for (size_t j = 0; j < sizeof(*sum) / sizeof(__u64); j++)
			((__u64 *)sum)[j] += ((__u64 *)&each[i])[j];
	free(each);
	return 0;
}

static void print_plain(const struct counters *sum)
{
	const bool colours = output_colours();

	for (size_t i = 0; i < sizeof(*sum) / sizeof(__u64); i++) {
		unsigned long long value = ((const __u64 *)sum)[i];
		bool bold = colours && value;

		printf("%s%12llu  %-28s%s  %s\n", bold ? "\033[1m" : "", value, counter_texts[i].name,
		       bold ? "\033[0m" : "", counter_texts[i].sentence);
	}
}

static void print_json(const struct counters *sum)
{
	json_t *counters = json_object(), *top = json_object();

	for (size_t i = 0; i < sizeof(*sum) / sizeof(__u64); i++)
		json_object_set_new(counters, counter_texts[i].name,
				    json_integer((json_int_t)((const __u64 *)sum)[i]));
	json_object_set_new(top, "counters", counters);
	output_json(top);
	json_decref(top);
}

int command_stats(const struct command *command, int argc, char **argv)
{
	struct common_options common = { .pin_path = PIN_PATH };
	struct instance instance;
	struct counters sum;
	int error, code = common_parse(command, argc, argv, &common);

	if (code >= 0)
		return code;
	if (optind < argc)
		return usage_fail("stats takes no argument: '%s'", argv[optind]);
	code = instance_open(&instance, common.pin_path, false);
	if (code)
		return code;
	error = counters_read(&instance, &sum);
	instance_close(&instance);
	if (error)
		return fail("cannot read the counters: %s", strerror(-error));
	if (common.json)
		print_json(&sum);
	else
		print_plain(&sum);
	return EXIT_DONE;
}
