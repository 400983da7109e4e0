// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* `explain`: one handshake, from a capture file or as the driver answers it now, field by field. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <bpf/libbpf.h>
/* Its struct bpf_insn is of another BPF. */
#define PCAP_DONT_INCLUDE_PCAP_BPF_H
#include <pcap/dlt.h>
#include <pcap/pcap.h>

#include "command.h"
#include "cookie.h"
#include "explain.h"
#include "format.h"
#include "instance.h"
#include "log.h"
#include "output.h"

enum {
	REFRESH_MS = 1000,
	WANTED_MS = 3000,  /* so long do the programs go on when we are killed */
	HANDSHAKES = 4096, /* begun ones, in one table by tuple */
};

struct explain_options {
	struct common_options common;
	const char *pcap;
	bool live;
	unsigned long port;    /* of the server; 0: any */
	unsigned long seconds; /* to wait; 0: until a handshake comes */
};

static int show(const struct handshake *handshake, bool json)
{
	json_t *value;

	if (!json) {
		explain_print(handshake);
		return EXIT_DONE;
	}
	value = explain_json(handshake);
	output_json(value);
	json_decref(value);
	return EXIT_DONE;
}

/* ---- from a file ---- */

static bool link_of(int type, enum segment_link *link)
{
	switch (type) {
	case DLT_EN10MB: *link = SEGMENT_ETHERNET; return true;
	case DLT_RAW:
	case DLT_IPV4:
	case DLT_IPV6: *link = SEGMENT_IP; return true;
	case DLT_LINUX_SLL: *link = SEGMENT_SLL; return true;
	case DLT_LINUX_SLL2: *link = SEGMENT_SLL2; return true;
	default: return false;
	}
}

/* Where a segment's handshake is kept, with whoever else falls there: a SYN takes the place. */
static struct handshake *handshake_of(struct handshake *handshakes, const struct segment *segment)
{
	const __u16 both = SEGMENT_SYN | SEGMENT_ACK;
	struct tuple tuple;

	segment_tuple(segment, (segment->control & both) != both, &tuple);
	return &handshakes[tuple_hash(&tuple, 0) % HANDSHAKES];
}

static int explain_file(const struct explain_options *options)
{
	struct handshake *handshakes, *handshake = NULL;
	struct pcap_pkthdr *header;
	char error[PCAP_ERRBUF_SIZE];
	pcap_t *pcap = pcap_open_offline(options->pcap, error);
	enum segment_link link;
	unsigned long frames = 0, segments = 0;
	const unsigned char *bytes;
	bool whole = false;
	int got = 0, code = EXIT_DONE;

	if (!pcap) {
		/* Some of libpcap's messages begin with the name. */
		const size_t name = strlen(options->pcap);
		const bool named = !strncmp(error, options->pcap, name) && !strncmp(error + name, ": ", 2);

		return fail("cannot read %s: %s", options->pcap, named ? error + name + 2 : error);
	}
	handshakes = calloc(HANDSHAKES, sizeof(*handshakes));
	if (!handshakes) {
		pcap_close(pcap);
		return fail("cannot read %s: %s", options->pcap, strerror(ENOMEM));
	}
	if (!link_of(pcap_datalink(pcap), &link)) {
		const int type = pcap_datalink(pcap);

		pcap_close(pcap);
		free(handshakes);
		return fail("%s was captured on a link of kind %s: Ethernet, IP and 'any' can be read",
			    options->pcap, pcap_datalink_val_to_name(type) ?: "unknown");
	}
	while (!whole && (got = pcap_next_ex(pcap, &header, &bytes)) == 1) {
		const __be16 port = be16_from((__u16)options->port);
		struct segment segment;

		frames++;
		if (!segment_read(&segment, bytes, header->caplen, link))
			continue;
		segments++;
		if (options->port && segment.source_port != port && segment.destination_port != port)
			continue;
		handshake = handshake_of(handshakes, &segment);
		whole = handshake_take(handshake, &segment,
				       (unsigned long long)header->ts.tv_sec * 1000000 +
					       (unsigned long long)header->ts.tv_usec);
	}
	snprintf(error, sizeof(error), "%s", got == -1 ? pcap_geterr(pcap) : "");
	pcap_close(pcap);
	if (whole)
		code = show(handshake, options->common.json);
	free(handshakes);
	if (whole)
		return code;
	if (*error)
		return fail("%s is damaged behind frame %lu: %s", options->pcap, frames, error);
	return fail("%s has no whole handshake%s (%lu frames, %lu TCP segments): SYN, SYN-ACK and ACK must "
		    "be in it; "
		    "of a handshake that the driver answers, tcpdump sees only the ACK, xdpdump sees all",
		    options->pcap, options->port ? " with that port" : "", frames, segments);
}

/* ---- live ---- */

struct live {
	struct handshake *handshakes; /* by a hash of the tuple: the last one wins */
	const struct handshake *whole;
};

static int on_event(void *context, void *data, size_t size)
{
	struct live *live = context;
	const struct event *event = data;
	struct handshake *handshake;
	struct segment segment;
	size_t captured;

	if (size < sizeof(*event) || live->whole)
		return 0;
	captured = event->length < EVENT_BYTES ? event->length : EVENT_BYTES;
	if (!segment_read(&segment, event->bytes, captured, SEGMENT_ETHERNET))
		return 0;
	handshake = handshake_of(live->handshakes, &segment);
	handshake->answered_here = true;
	if (handshake_take(handshake, &segment, event->time_ns / 1000))
		live->whole = handshake;
	return 0;
}

/* Asks the programs for events, for a little while. */
static int want_events(const struct explain_options *options, unsigned long long until_ms)
{
	struct instance instance;
	int error, code = instance_open(&instance, options->common.pin_path, true);

	if (code)
		return code;
	code = instance_lock(&instance);
	/* Put right under programs that answer, they would look for marks where none are (attach.c). */
	if (!code && instance.damaged)
		code = until_ms ? fail("the settings hold what was never set: xdp-handshake attach puts "
				       "them "
				       "right")
				: EXIT_FAILED;
	if (!code) {
		instance.set.events_until_ms = until_ms;
		instance.set.events_port = be16_from((__u16)options->port);
		error = instance_store_settings(&instance);
		if (error)
			code = fail("cannot ask for events: %s", strerror(-error));
	}
	instance_close(&instance);
	return code;
}

/* One reader at a time: two would share the events out between them. */
static int lock_events(const struct instance *instance)
{
	char path[PATH_MAX];
	int fd;

	instance_path(instance, path, "links");
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return fail("cannot open %s: %s", path, strerror(errno));
	if (flock(fd, LOCK_EX | LOCK_NB)) {
		close(fd);
		return fail("another `explain --live` is looking on: wait for it, or end it");
	}
	/* Held until we exit. */
	return EXIT_DONE;
}

static int watch(const struct explain_options *options, struct ring_buffer *ring, struct live *live)
{
	const unsigned long long began_ms = monotonic_ms();
	unsigned long long asked_ms = 0;
	struct pollfd fds[2] = { { .events = POLLIN, .fd = ring_buffer__epoll_fd(ring) },
				 { .events = POLLIN } };
	sigset_t signals;
	int code;

	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	fds[1].fd = signalfd(-1, &signals, SFD_CLOEXEC);
	if (fds[1].fd < 0)
		return fail("cannot wait for signals: %s", strerror(errno));
	while (!live->whole) {
		const unsigned long long now_ms = monotonic_ms();

		if (now_ms >= asked_ms + REFRESH_MS) {
			code = want_events(options, now_ms + WANTED_MS);
			if (code)
				return code;
			asked_ms = now_ms;
		}
		if (options->seconds && now_ms >= began_ms + options->seconds * 1000)
			return fail("no handshake was answered by the driver within %lu s: see "
				    "xdp-handshake listeners",
				    options->seconds);
		if (poll(fds, 2, REFRESH_MS / 4) > 0 && fds[1].revents)
			return fail("interrupted before a handshake came");
		ring_buffer__consume(ring);
	}
	return EXIT_DONE;
}

static int explain_live(const struct explain_options *options)
{
	struct live live = { .handshakes = calloc(HANDSHAKES, sizeof(*live.handshakes)) };
	struct ring_buffer *ring = NULL;
	struct instance instance;
	int code = instance_open(&instance, options->common.pin_path, true);

	if (code) {
		free(live.handshakes);
		return code;
	}
	code = lock_events(&instance);
	if (!code && !live.handshakes)
		code = fail("cannot look on: %s", strerror(ENOMEM));
	if (!code) {
		ring = ring_buffer__new(instance.events, on_event, &live, NULL);
		if (!ring)
			code = fail("cannot read %s/events: %s", options->common.pin_path, strerror(errno));
	}
	if (ring) {
		if (isatty(STDERR_FILENO))
			note("waiting for a handshake that the driver answers (^C ends)");
		/* What nobody has read is of an earlier time. */
		live.whole = live.handshakes;
		ring_buffer__consume(ring);
		live.whole = NULL;
		code = watch(options, ring, &live);
		if (access(options->common.pin_path, F_OK) == 0)
			want_events(options, 0);
	}
	if (live.whole)
		code = show(live.whole, options->common.json);
	ring_buffer__free(ring);
	instance_close(&instance);
	free(live.handshakes);
	return code;
}

static int explain_parse(const struct command *command, int argc, char **argv,
			 struct explain_options *options)
{
	enum { OPT_PCAP = OPT_COMMAND, OPT_LIVE, OPT_PORT, OPT_WAIT };
	static const struct option longs[] = {
		{ "pcap", required_argument, NULL, OPT_PCAP },
		{ "live", no_argument, NULL, OPT_LIVE },
		{ "port", required_argument, NULL, OPT_PORT },
		{ "wait", required_argument, NULL, OPT_WAIT },
		COMMON_LONG_OPTIONS,
		{},
	};
	int option, code;

	*options = (struct explain_options){ .common.pin_path = PIN_PATH };
	while ((option = getopt_long(argc, argv, "vh", longs, NULL)) != -1) {
		switch (option) {
		case OPT_PCAP: options->pcap = optarg; break;
		case OPT_LIVE: options->live = true; break;
		case OPT_PORT:
			if (!parse_number(optarg, 1, 65535, &options->port))
				return usage_fail("'%s' is no port: 1 to 65535", optarg);
			break;
		case OPT_WAIT:
			if (!parse_number(optarg, 1, 86400, &options->seconds))
				return usage_fail("'%s' is no number of seconds: 1 to 86400", optarg);
			break;
		default:
			code = common_option(command, option, &options->common);
			if (code >= 0)
				return code;
		}
	}
	if (optind < argc)
		return usage_fail("explain takes no argument: '%s'", argv[optind]);
	if (!options->pcap == !options->live)
		return usage_fail("explain needs either --pcap FILE or --live");
	if (options->pcap && options->seconds)
		return usage_fail("--wait goes with --live only");
	return -1;
}

int command_explain(const struct command *command, int argc, char **argv)
{
	struct explain_options options;
	int code = explain_parse(command, argc, argv, &options);

	if (code >= 0)
		return code;
	return options.pcap ? explain_file(&options) : explain_live(&options);
}
