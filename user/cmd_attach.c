// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "attach.h"
#include "format.h"
#include "log.h"
#include "policy.h"

enum {
	OPT_PORT = OPT_COMMAND,
	OPT_ALL_LISTENERS,
	OPT_MODE,
	OPT_CANARY,
	OPT_POLICY,
	OPT_PROMOTE,
	OPT_CONNECTIONS,
	OPT_EPOCH,
	OPT_FIREWALL_CHECKED,
	OPT_MARK,
	OPT_FLOOD_RATE,
	OPT_FLOOD_HOLD,
	OPT_GUARD,
	OPT_GUARD_RATE,
	OPT_FORGING_RATE,
	OPT_PREFIX_BUDGET,
	OPT_PREFIX_SHARE,
	OPT_TURN,
};

static const struct option long_options[] = {
	COMMON_LONG_OPTIONS,
	{ "port", required_argument, NULL, OPT_PORT },
	{ "all-listeners", no_argument, NULL, OPT_ALL_LISTENERS },
	{ "mode", required_argument, NULL, OPT_MODE },
	{ "canary", required_argument, NULL, OPT_CANARY },
	{ "policy", required_argument, NULL, OPT_POLICY },
	{ "promote", required_argument, NULL, OPT_PROMOTE },
	{ "connections", required_argument, NULL, OPT_CONNECTIONS },
	{ "epoch", required_argument, NULL, OPT_EPOCH },
	{ "firewall-checked", no_argument, NULL, OPT_FIREWALL_CHECKED },
	{ "mark", required_argument, NULL, OPT_MARK },
	{ "flood-rate", required_argument, NULL, OPT_FLOOD_RATE },
	{ "flood-hold", required_argument, NULL, OPT_FLOOD_HOLD },
	{ "guard", required_argument, NULL, OPT_GUARD },
	{ "guard-rate", required_argument, NULL, OPT_GUARD_RATE },
	{ "forging-rate", required_argument, NULL, OPT_FORGING_RATE },
	{ "prefix-budget", required_argument, NULL, OPT_PREFIX_BUDGET },
	{ "prefix-share", required_argument, NULL, OPT_PREFIX_SHARE },
	{ "turn", required_argument, NULL, OPT_TURN },
	{},
};

static int parse_mode(struct attach_options *options)
{
	static const char *const names[] = { "auto", "native", "generic" };

	for (int i = 0; i < 3; i++)
		if (!strcmp(optarg, names[i])) {
			options->mode = i;
			return -1;
		}
	return usage_fail("--mode is auto, native or generic, not '%s'", optarg);
}

static int parse_policy(struct attach_options *options)
{
	options->policy_given = true;
	if (!policy_parse(optarg, &options->policy))
		return usage_fail("--policy is always, flood or shadow, not '%s'", optarg);
	return -1;
}

/* As `ip rule` and nft take it: 120, 0x78. */
static int parse_mark(struct attach_options *options)
{
	char *end = optarg;
	unsigned long long mark = 0;

	errno = 0;
	if (*optarg >= '0' && *optarg <= '9')
		mark = strtoull(optarg, &end, strncmp(optarg, "0x", 2) ? 10 : 16);
	if (end == optarg || *end || errno || mark > 0xffffffff)
		return usage_fail("--mark takes a number up to 0xffffffff, 0 for none, not '%s'", optarg);
	options->mark_given = true;
	options->mark = (__u32)mark;
	return -1;
}

static int parse_option(const struct command *command, int option, struct attach_options *options)
{
	const char *wrong;
	unsigned long number;

	switch (option) {
	case OPT_PORT:
		if (!port_set_parse(&options->ports, optarg, &wrong))
			return usage_fail(
				"--port: '%s' is no port or range from 1 to 65535, as in 80,443,8000-8099",
				wrong);
		options->ports_given = true;
		return -1;
	case OPT_ALL_LISTENERS:
		port_set_fill(&options->ports);
		options->ports_given = true;
		return -1;
	case OPT_MODE: return parse_mode(options);
	case OPT_CANARY:
		options->canary_once = !strcmp(optarg, "once");
		if (!options->canary_once && !parse_number(optarg, 1, 86400, &number))
			return usage_fail("--canary takes 1 to 86400 seconds, or once, not '%s'", optarg);
		options->canary_seconds = options->canary_once ? 0 : (unsigned int)number;
		return -1;
	case OPT_POLICY: return parse_policy(options);
	case OPT_PROMOTE:
		if (strcmp(optarg, "auto") && strcmp(optarg, "reqsk"))
			return usage_fail("--promote is auto or reqsk in this version, not '%s'", optarg);
		return -1;
	case OPT_CONNECTIONS:
		if (!parse_number(optarg, 1024, 1 << 24, &options->connections))
			return usage_fail("--connections takes 1024 to 16777216, not '%s'", optarg);
		return -1;
	case OPT_EPOCH:
		if (!parse_number(optarg, 1, 3600, &number))
			return usage_fail("--epoch takes 1 to 3600 seconds, not '%s'", optarg);
		options->epoch_seconds = (unsigned int)number;
		return -1;
	case OPT_TURN:
		if (strcmp(command->name, "run"))
			return usage_fail("--turn is an option of run: %s does not stay", command->name);
		if (!parse_number(optarg, 1, 3600, &number))
			return usage_fail("--turn takes 1 to 3600 seconds, not '%s'", optarg);
		options->turn_seconds = (unsigned int)number;
		return -1;
	case OPT_FIREWALL_CHECKED: options->firewall_checked = true; return -1;
	case OPT_MARK: return parse_mark(options);
	case OPT_FLOOD_RATE:
		if (!parse_number(optarg, 100, 10000000, &number))
			return usage_fail("--flood-rate takes 100 to 10000000 SYNs a second, not '%s'",
					  optarg);
		options->flood_rate = (__u32)number;
		return -1;
	case OPT_GUARD:
		if (!guard_parse(optarg, &options->guard))
			return usage_fail("--guard is auto, on or off, not '%s'", optarg);
		options->guard_given = true;
		return -1;
	case OPT_GUARD_RATE:
		if (!parse_number(optarg, 1, 10000000, &number))
			return usage_fail("--guard-rate takes 1 to 10000000 segments a second, not '%s'",
					  optarg);
		options->guard_rate = (__u32)number;
		return -1;
	case OPT_FORGING_RATE:
		if (!parse_number(optarg, 100, 100000000, &number))
			return usage_fail("--forging-rate takes 100 to 100000000 wrong cookies a second, "
					  "not '%s'",
					  optarg);
		options->forging_rate = (__u32)number;
		return -1;
	case OPT_PREFIX_BUDGET:
		if (!parse_number(optarg, 0, 10000000, &number))
			return usage_fail("--prefix-budget takes 1 to 10000000 answers a second, 0 for no "
					  "budget, not '%s'",
					  optarg);
		options->prefix_budget_given = true;
		options->prefix_budget = (__u32)number;
		return -1;
	case OPT_PREFIX_SHARE:
		if (!parse_number(optarg, 2, 1000, &number))
			return usage_fail("--prefix-share takes 2 to 1000, not '%s'", optarg);
		options->prefix_share = (__u32)number;
		return -1;
	case OPT_FLOOD_HOLD:
		if (!parse_number(optarg, 10, 3600000, &number))
			return usage_fail("--flood-hold takes 10 to 3600000 milliseconds, not '%s'",
					  optarg);
		options->flood_hold_ms = (__u32)number;
		return -1;
	default: return common_option(command, option, &options->common);
	}
}

int attach_parse(const struct command *command, int argc, char **argv, struct attach_options *options)
{
	int option, code;

	memset(options, 0, sizeof(*options));
	options->common.pin_path = PIN_PATH;
	while ((option = getopt_long(argc, argv, "vh", long_options, NULL)) != -1) {
		code = parse_option(command, option, options);
		if (code >= 0)
			return code;
	}
	options->interfaces = argv + optind;
	options->interface_count = argc - optind;
	if (!options->interface_count)
		return usage_fail("%s needs an interface: see `ip link`", command->name);
	if (!options->ports_given)
		return usage_fail("%s needs --port LIST or --all-listeners: what shall be protected?",
				  command->name);
	return -1;
}

int command_attach(const struct command *command, int argc, char **argv)
{
	struct attach_options options;
	int code = attach_parse(command, argc, argv, &options);

	return code >= 0 ? code : attach(&options);
}
