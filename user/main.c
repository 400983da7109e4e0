// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include <stdio.h>
#include <string.h>

#include "command.h"
#include "log.h"
#include "output.h"
#include "privilege.h"

#define ATTACH_ARGUMENTS "IFACE... (--port LIST | --all-listeners) [OPTIONS]"
#define ATTACH_DETAILS                                                                                     \
	"  --port LIST          ports to protect: 80,443,8000-8099\n"                                      \
	"  --all-listeners      every port on which something listens, now or later\n"                     \
	"  --mode MODE          auto (native, else generic; the default), native or generic XDP\n"         \
	"  --canary SECONDS     confirm each service at least so often (default 10); once: only once\n"    \
	"  --policy POLICY      of services: always (default), flood: only while there is one, or "        \
	"shadow:\n"                                                                                        \
	"                       answer none, count them\n"                                                 \
	"  --flood-rate N       policy flood: wake at so many SYNs a second and CPU (default 2000)\n"      \
	"  --flood-hold MS      and stay awake so long after them (default 5000)\n"                        \
	"  --guard MODE         segments of no connection: auto (dropped while too many, default), on, "   \
	"off\n"                                                                                            \
	"  --guard-rate N       too many: so many a second and CPU (default 1000)\n"                       \
	"  --forging-rate N     leave handshakes without timestamps to the stack while so many wrong\n"    \
	"                       cookies of theirs come a second (default 20000)\n"                         \
	"  --prefix-budget N    answer so many SYNs of a source's network (/24, IPv6 /56) a second and\n"  \
	"                       CPU, 0: as many as come (default)\n"                                       \
	"  --prefix-share N     above that, answer one in so many (default 8)\n"                           \
	"  --promote BACKEND    auto or reqsk: the request-socket kfunc of Linux 6.9 and later\n"          \
	"  --connections N      size the tables for so many connections at once (default 131072)\n"        \
	"  --epoch SECONDS      a cookie lives one to two epochs (default 16)\n"                           \
	"  --firewall-checked   attach although the firewall has rules that must see SYNs (see README)\n"  \
	"  --mark N             mark promoted segments for firewall rules; 0: do not (default)\n"

static const struct command commands[] = {
	{ "attach", ATTACH_ARGUMENTS, "answer SYNs on interfaces, from the stack's own SYN-ACKs on",
	  ATTACH_DETAILS, command_attach },
	{ "run", ATTACH_ARGUMENTS,
	  "attach, and stay to turn the filter's generations; on exit all goes on without",
	  ATTACH_DETAILS "  --turn SECONDS       turn the generations so often (default 30)\n",
	  command_run },
	{ "detach", "IFACE... | --all [--now]",
	  "stop answering, validate for one cookie life more, then go",
	  "  --all                every interface, and the maps with them\n"
	  "  --now                do not wait: handshakes in flight are reset\n",
	  command_detach },
	{ "status", "", "interfaces, keys, what is protected, warnings with their remedy", NULL,
	  command_status },
	{ "listeners", "", "listening sockets and their services: control information, admitted or why not",
	  NULL, command_listeners },
	{ "connections", "[OPTIONS]", "control information of each connection on the protected ports",
	  "  --state LIST         only those: established,time-wait,...\n"
	  "  --port LIST          only of these local ports: 80,443,8000-8099\n"
	  "  --local PREFIX       only of these local addresses: 192.0.2.0/24, 2001:db8::1\n"
	  "  --remote PREFIX      only from there\n"
	  "  --promoted           only those that the driver's handshake made\n"
	  "  --sort KEY           local (default), remote, state, age, mss; -KEY: the other way round\n",
	  command_connections },
	{ "stats", "", "every counter with its meaning", NULL, command_stats },
	{ "explain", "--pcap FILE | --live [--port P]", "walk through one handshake, field by field",
	  "  --pcap FILE          the first whole handshake of a capture file\n"
	  "  --live               the next one that the driver answers\n"
	  "  --port P             of this port only\n"
	  "  --wait SECONDS       live: give up after so long (default: wait)\n",
	  command_explain },
	{ "set", "ADDR:PORT KEY=VALUE...",
	  "change a service: policy=always|flood|shadow, guard=auto|on|off",
	  "  ADDR:PORT            as `listeners` prints it; *:PORT means every service of the port\n",
	  command_set },
	{ "key", "rotate | show", "put a new master key into use, or show its age and fingerprint", NULL,
	  command_key },
};

static char **command_words; /* for naming the one that is wrong */

static void help(FILE *out)
{
	fputs("Usage: xdp-handshake COMMAND [ARGUMENTS]\n"
	      "A TCP handshake responder in the NIC driver: XDP answers SYNs, the stack gets "
	      "connections.\n\n",
	      out);
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++)
		fprintf(out, "  %-12s %s\n", commands[i].name, commands[i].summary);
	fputs("\nEvery command takes --help, --pin-path DIR (default " PIN_PATH "), -v and -vv; every\n"
	      "reading command takes --json.\n",
	      out);
}

void command_help(const struct command *command)
{
	printf("Usage: xdp-handshake %s %s\n%s\n\n", command->name, command->arguments, command->summary);
	if (command->details)
		fputs(command->details, stdout);
	fputs("  --pin-path DIR       where maps and links are pinned (default " PIN_PATH ")\n"
	      "  --json               print JSON\n"
	      "  -v, -vv              show what libbpf and the verifier say\n",
	      stdout);
}

int common_option(const struct command *command, int option, struct common_options *options)
{
	switch (option) {
	case OPT_PIN_PATH:
		if (!*optarg)
			return usage_fail("--pin-path takes a directory of a bpf file system, not ''");
		options->pin_path = optarg;
		return -1;
	case OPT_JSON: options->json = true; return -1;
	case 'v': log_verbosity++; return -1;
	case 'h': command_help(command); return EXIT_DONE;
	default:
		return usage_fail(
			"%s does not take '%s', or it lacks its value: see xdp-handshake %s --help",
			command->name, command_words[optind - 1], command->name);
	}
}

int common_parse(const struct command *command, int argc, char **argv, struct common_options *options)
{
	static const struct option longs[] = { COMMON_LONG_OPTIONS, {} };
	int option, code;

	while ((option = getopt_long(argc, argv, "vh", longs, NULL)) != -1) {
		code = common_option(command, option, options);
		if (code >= 0)
			return code;
	}
	return -1;
}

int main(int argc, char **argv)
{
	privilege_hide();
	log_start();
	output_start();
	opterr = 0; /* we say it ourselves, in one line */
	command_words = argv + 1;
	if (argc < 2) {
		help(stderr);
		return EXIT_USAGE;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
		help(stdout);
		return EXIT_DONE;
	}
	if (!strcmp(argv[1], "--version")) {
		puts("xdp-handshake " XDPH_VERSION);
		return EXIT_DONE;
	}
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++)
		if (!strcmp(argv[1], commands[i].name))
			return commands[i].run(&commands[i], argc - 1, argv + 1);
	return usage_fail("no command is called '%s': see xdp-handshake --help", argv[1]);
}
