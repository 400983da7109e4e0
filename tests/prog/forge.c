// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The odds of forging: ACKs that nobody was asked for, through the XDP program as it is attached.
 *
 * What such an ACK needs, whatever its addresses, ports, numbers and option bits are (each choice of them
 * has a MAC, and an offset, of its own):
 *
 *	without timestamps	the MAC, 26 bits: right once in 2^26 tries
 *	with timestamps		the MAC, 22 bits, and an echo that, less the offset, is one of the last
 *				2 * epoch + 1 milliseconds, out of 2^32. MAC and offset are two halves of
 *				one hash, so neither tells of the other: with epochs of 16 s,
 *				2^-22 * 32001 / 2^32 = 2^-39.03
 *
 * That cannot be counted in a test's time. So the same program is also built with so many bits of the MAC
 * unchecked (include/cookie.h), which leaves fewer to guess: if each of them doubles what is counted, those
 * that are checked in earnest halve it. Echoes have better odds where epochs are longer.
 *
 * A count must lie within five standard deviations of the binomial distribution's mean: by chance it does
 * not, once in some hundred thousand times.
 *
 *	build/tests/prog/forge full [PART OF A CASE'S NAME]...
 *
 * makes 2^27 tries at full width, and more of the others (make forge).
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/random.h>

#include <linux/bpf.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "expect.h"
#include "forge.h"
#include "forge.skel.h"
#include "live.h"

enum {
	ETH = 14,
	SPORT = 30000,
	AT_ONCE = 1 << 22, /* tries between two signals */
	LONG_EPOCH_MS = 3600000,
	COUNTED_LEAST = 50,
	DERIVED = 2 << (32 - 22), /* all that share the MAC, of two numbers */
	MAC_BITS = 26,
	MAC_BITS_TIMESTAMPS = 22,
	FULL_BITS = 27, /* tries, as a power of two */
	CHECK_BITS = 19,
};

/* The programs with bits unchecked: build/tests/forge/unchecked_N.bpf.o of the Makefile. */
static const int unchecked[] = { 12, 16, 20 };

enum {
	WIDTHS = sizeof(unchecked) / sizeof(*unchecked),
	FULL_WIDTH = -1, /* the program that is attached */
	TWELVE = 0,
	SIXTEEN,
	TWENTY,
};

static struct forge_bpf *forger;
static int narrow[WIDTHS];
static int services;
static bool full;

/* ---- programs ---- */

/* A build of the programs that works on the maps of the one that is attached. */
static int load_narrow(int bits)
{
	struct bpf_object *object;
	struct bpf_program *program;
	struct bpf_map *map;
	char path[128];

	snprintf(path, sizeof(path), "build/tests/forge/unchecked_%d.bpf.o", bits);
	object = bpf_object__open_file(path, NULL);
	REQUIRE(object, "%s: %s", path, strerror(errno));
	bpf_object__for_each_program(program, object)
		bpf_program__set_autoload(program, !strcmp(bpf_program__name(program), "xdp_handshake"));
	bpf_object__for_each_map(map, object)
	{
		int fd;

		snprintf(path, sizeof(path), "%s/%s", env.pins, bpf_map__name(map));
		fd = bpf_obj_get(path);
		if (fd < 0)
			continue;
		REQUIRE(!bpf_map__reuse_fd(map, fd), "%s: %s", path, strerror(errno));
		close(fd);
	}
	REQUIRE(!bpf_object__load(object), "%d bits unchecked: %s", bits, strerror(errno));
	return bpf_program__fd(bpf_object__find_program_by_name(object, "xdp_handshake"));
}

static int program_of(int width)
{
	return width == FULL_WIDTH ? env.xdp : narrow[width];
}

static int bits_unchecked(int width)
{
	return width == FULL_WIDTH ? 0 : unchecked[width];
}

static void setup(void)
{
	char path[128];

	environment_new();
	/* What is tried here would have the layout without timestamps refused (tests/net/forging.c). */
	env.set.forging_rate = UINT32_MAX;
	settings_store();
	forger = forge_bpf__open_and_load();
	REQUIRE(forger, "loading the forger: %s", strerror(errno));
	REQUIRE(live_hold(bpf_program__fd(forger->progs.forge)) >= 0);
	REQUIRE(getrandom(&forger->bss->random_state, sizeof(__u64), 0) == sizeof(__u64));
	for (int i = 0; i < WIDTHS; i++)
		narrow[i] = load_narrow(unchecked[i]);
	snprintf(path, sizeof(path), "%s/services", env.pins);
	services = bpf_obj_get(path);
	REQUIRE(services >= 0, "%s: %s", path, strerror(errno));
}

/* ---- attacks ---- */

struct attack {
	const char *name;
	int width;
	enum place place;
	bool timestamps;
	uint16_t payload;
	bool one_tuple; /* and one client ISN */
	/* An echo that is known to be right for somebody else, within 256 ms. */
	bool known_echo;
	uint32_t echo;
	double tries;
};

/* Of the tries: what became of them. */
struct outcome {
	double validated;
	double mac_right; /* validated, or with a wrong echo */
	double early;	  /* ack_dropped_early */
	double ns;	  /* a try, the forger's work included */
};

/* The frame whose numbers the forger writes anew; IPv4 and IPv6 only. */
static size_t forge_frame(enum place place, bool timestamps, uint16_t payload, uint8_t *frame,
			  struct forge_shape *shape)
{
	static const uint8_t data[1400];
	struct tcp_spec ack = place_syn(place, SPORT, PORT);

	ack.flags = ACK;
	ack.options = timestamps ? options_ts(1, 1) : options_none();
	ack.payload = data;
	ack.payload_len = payload;
	*shape = (struct forge_shape){
		.source = ETH + (place == IPV6 ? 8 + 12 : 12), /* the last word of an address */
		.tcp = ETH + (place == IPV6 ? 40 : 20),
		.ip_check = place == IPV6 ? 0 : ETH + 10,
		.local_port = PORT,
		.port.base = SPORT,
	};
	shape->echo = timestamps ? shape->tcp + 20 + 8 : 0;
	return frame_build(&ack, frame, FRAME_MAX);
}

static uint32_t word_at(const uint8_t *frame, uint32_t at)
{
	return (uint32_t)frame[at] << 24 | (uint32_t)frame[at + 1] << 16 | (uint32_t)frame[at + 2] << 8 |
	       frame[at + 3];
}

/* Runs @program over @tries frames that the forger makes of this one. */
static void forge_run(int program, const uint8_t *frame, size_t length, const struct forge_shape *shape,
		      double tries)
{
	static uint8_t out[FRAME_MAX];
	struct xdp_md in = { .data_end = (__u32)length, .ingress_ifindex = env.ifindex };
	const __u32 zero = 0;

	netns_enter(env.pair.server);
	REQUIRE(!bpf_map_update_elem(bpf_map__fd(forger->maps.judge), &zero, &program, BPF_ANY),
		"the forger and the program do not go together: %s", strerror(errno));
	forger->bss->shape = *shape;
	forger->bss->tries = 0;
	while (tries > 0) {
		const int now = tries < AT_ONCE ? (int)tries : AT_ONCE;
		LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame, .data_size_in = (__u32)length,
			    .data_out = out, .data_size_out = sizeof(out), .ctx_in = &in,
			    .ctx_size_in = sizeof(in), .repeat = now);
		const int error = bpf_prog_test_run_opts(bpf_program__fd(forger->progs.forge), &opts);

		REQUIRE(!error && opts.retval != XDP_ABORTED, "%s, %s", strerror(-error),
			verdict_text(opts.retval));
		tries -= now;
	}
}

static struct outcome attack(const struct attack *with)
{
	__u64 before[COUNTERS], after[COUNTERS], told = 0;
	uint8_t frame[FRAME_MAX];
	struct forge_shape shape;
	struct outcome outcome;
	size_t length = forge_frame(with->place, with->timestamps, with->payload, frame, &shape);
	int64_t began;

	shape.address.base = word_at(frame, shape.source);
	shape.server_isn.varies = 0xffffffff;
	if (!with->one_tuple) {
		shape.address.varies = 0xff;
		shape.port.varies = 0x3fff;
		shape.client_isn.varies = 0xffffffff;
	}
	shape.tsecr.base = with->echo;
	shape.tsecr.varies = with->known_echo ? 0xff : 0xffffffff;
	counters_read(before);
	began = now_us();
	forge_run(program_of(with->width), frame, length, &shape, with->tries);
	outcome.ns = (double)(now_us() - began) * 1000 / with->tries;
	counters_read(after);
	for (int i = 0; i < COUNTERS; i++) {
		after[i] -= before[i];
		told += after[i];
	}
	/* Each try was judged, once. */
	REQUIRE(told == (__u64)with->tries, "%s: of %.0f tries, %llu were counted", with->name, with->tries,
		(unsigned long long)told);
	outcome.validated = (double)after[COUNTER_ack_validated];
	outcome.mac_right = (double)(after[COUNTER_ack_validated] + after[COUNTER_ack_rejected_echo]);
	outcome.early = (double)after[COUNTER_ack_dropped_early];
	return outcome;
}

static void expect_odds(const struct attack *with, const char *what, double counted, double odds)
{
	const double mean = with->tries * odds, deviation = sqrt(mean * (1 - odds));

	printf("# %s, %d bits of the MAC unchecked: %s %.0f of %.0f times, %.1f expected\n", with->name,
	       bits_unchecked(with->width), what, counted, with->tries, mean);
	/* Of what is rarer, nothing can be said. */
	EXPECT(mean < COUNTED_LEAST || fabs(counted - mean) <= 5 * deviation,
	       "%s, %d bits unchecked: %s %.0f of %.0f times, and not %.1f, give or take %.1f", with->name,
	       bits_unchecked(with->width), what, counted, with->tries, mean, 5 * deviation);
}

/* Of a MAC. */
static double odds_of(const struct attack *with)
{
	return exp2(bits_unchecked(with->width) - (with->timestamps ? MAC_BITS_TIMESTAMPS : MAC_BITS));
}

static double odds_of_echo(void)
{
	return (2.0 * env.set.epoch_ms + 1) / exp2(32);
}

/* So many tries that what is counted says something, in the time that there is. */
static double tries_for(int bits)
{
	return exp2(full ? bits + 4 : bits);
}

CASE("without timestamps a blind ACK is right once in two to the MAC's bits")
{
	const struct attack attacks[] = {
		{ .name = "IPv4, any client", .width = TWELVE, .tries = tries_for(20) },
		{ .name = "IPv4, any client", .width = SIXTEEN, .tries = tries_for(18) },
		{ .name = "IPv4, any client", .width = TWENTY, .tries = tries_for(15) },
		{ .name = "IPv6, any client", .width = SIXTEEN, .place = IPV6, .tries = tries_for(18) },
		{ .name = "IPv4, one client, one ISN",
		  .width = SIXTEEN,
		  .one_tuple = true,
		  .tries = tries_for(18) },
		{ .name = "IPv6, one client, one ISN",
		  .width = TWENTY,
		  .place = IPV6,
		  .one_tuple = true,
		  .tries = tries_for(15) },
	};

	report_case_limit(600);
	for (size_t i = 0; i < sizeof(attacks) / sizeof(*attacks); i++)
		expect_odds(&attacks[i], "right", attack(&attacks[i]).validated, odds_of(&attacks[i]));
}

/* What an orphan with data fits otherwise, nine segments back, is dropped: it must never promote. */
CASE("a first segment has no better odds than a bare ACK: what fits at another place is dropped")
{
	const struct attack with = {
		.name = "with data", .width = TWENTY, .payload = 100, .tries = tries_for(15)
	};
	const struct outcome outcome = attack(&with);

	report_case_limit(600);
	expect_odds(&with, "right", outcome.validated, odds_of(&with));
	EXPECT(outcome.early > 9 * outcome.validated, "%.0f are dropped as early: the case shows nothing",
	       outcome.early);
}

/* Of a SYN-ACK that the attacker got himself, from another port. */
static uint32_t own_echo(enum place place)
{
	struct tcp_spec syn = place_syn(place, 61001, PORT);
	uint8_t frame[FRAME_MAX];
	struct tcp_frame synack;
	static struct run run;

	run_frame(env.xdp, frame, frame_build(&syn, frame, sizeof(frame)), &run);
	REQUIRE(run.verdict == XDP_TX && frame_parse(run.bytes, run.length, &synack) && synack.timestamps,
		"%s", counted_text(&run));
	return synack.tsval;
}

static void set_epoch(uint32_t ms)
{
	env.set.epoch_ms = ms;
	settings_store();
}

static void usual_epoch(void)
{
	set_epoch(COOKIE_EPOCH_MS);
}

CASE("with timestamps it needs the MAC and a moment of the cookie's life, which no other SYN-ACK tells of")
{
	struct attack attacks[] = {
		{ .name = "IPv4, blind", .width = TWELVE, .tries = tries_for(18) },
		{ .name = "IPv4, blind", .width = SIXTEEN, .tries = tries_for(17) },
		{ .name = "IPv4, blind", .width = TWENTY, .tries = tries_for(19) },
		{ .name = "IPv6, blind", .width = TWENTY, .place = IPV6, .tries = tries_for(18) },
		{ .name = "IPv4, one client, one ISN",
		  .width = TWENTY,
		  .one_tuple = true,
		  .tries = tries_for(18) },
		{ .name = "IPv4, an echo of its own",
		  .width = TWENTY,
		  .known_echo = true,
		  .tries = tries_for(19) },
		{ .name = "IPv6, an echo of its own",
		  .width = TWENTY,
		  .place = IPV6,
		  .known_echo = true,
		  .tries = tries_for(18) },
		/* Too rare for the time that make check has. */
		{ .name = "IPv4, blind, the usual epoch", .width = TWENTY, .tries = exp2(26) },
	};
	const size_t count = sizeof(attacks) / sizeof(*attacks);

	report_case_limit(900);
	report_at_case_end(usual_epoch);
	for (size_t i = 0; i < (full ? count : count - 1); i++) {
		struct attack *with = &attacks[i], once;
		struct outcome outcome;

		with->timestamps = true;
		if (with->known_echo)
			with->echo = own_echo(with->place);
		/* A CPU keeps the number of the epoch that it has seen last, for which there is a key. */
		once = *with;
		once.tries = 1;
		attack(&once);
		if (i < count - 1)
			set_epoch(LONG_EPOCH_MS);
		outcome = attack(with);
		expect_odds(with, "MAC right", outcome.mac_right, odds_of(with));
		expect_odds(with, "both right", outcome.validated, odds_of(with) * odds_of_echo());
		usual_epoch();
	}
}

/* Lets the IPv4 service have had another scale until just now. Its listener is to be learned anew then. */
static void change_scale(void)
{
	const struct ip_addr server = server_ip(IPV4);
	struct service_key key = { .ifindex = env.ifindex, .port = be16_from(PORT) };
	struct service service;

	address_map_ipv4(&key.address, server.v4.s_addr);
	REQUIRE(!bpf_map_lookup_elem(services, &key, &service), "%s", strerror(errno));
	service.synack.rcv_wscale_before = service.synack.rcv_wscale ^ 1;
	service.synack.rcv_wscale_changed_ms = (__u64)now_ms();
	REQUIRE(!bpf_map_update_elem(services, &key, &service, BPF_EXIST), "%s", strerror(errno));
}

CASE("for a cookie's life after the window scale has changed, those that carry a scale have two MACs")
{
	const struct attack with = { .name = "after a change of scale",
				     .width = TWENTY,
				     .tries = tries_for(15) };

	report_case_limit(600);
	change_scale();
	/* Of four classes of profiles, one has no scale. */
	expect_odds(&with, "right", attack(&with).validated, odds_of(&with) * 1.75);
	admit(IPV4, PORT, NULL);
}

/* ---- what can be derived from a SYN-ACK ---- */

struct derived {
	__u64 right;
	__u64 lacking; /* cookies of handshakes with timestamps */
};

/* Tries whatever shares the MAC with a SYN-ACK's ISN, or with its timestamp less the clock. */
static struct derived derive(const struct bake *of)
{
	const struct cookie cookie = bake(of);
	const uint32_t bases[] = { cookie.isn, cookie.offset };
	const uint32_t varies = DERIVED / 2 - 1;
	__u64 before[COUNTERS], after[COUNTERS];
	uint8_t frame[FRAME_MAX];
	struct forge_shape shape;
	size_t length = forge_frame(of->place, false, 0, frame, &shape);

	shape.address.base = word_at(frame, shape.source);
	shape.client_isn.base = of->client_isn;
	shape.server_isn.varies = varies;
	shape.in_turn = 1;
	counters_read(before);
	for (int i = 0; i < 2; i++) {
		shape.server_isn.base = bases[i];
		forge_run(env.xdp, frame, length, &shape, varies + 1);
	}
	counters_read(after);
	return (struct derived){
		after[COUNTER_ack_validated] - before[COUNTER_ack_validated],
		after[COUNTER_ack_rejected_timestamps] - before[COUNTER_ack_rejected_timestamps],
	};
}

static uint32_t epoch_now(void)
{
	return (uint32_t)((uint64_t)now_ms() / env.set.epoch_ms);
}

/* For a handshake of this epoch, or of the one before it. */
static struct derived derive_in_epoch(struct bake *of, uint32_t back)
{
	struct derived derived;
	uint32_t epoch;

	do {
		epoch = epoch_now();
		of->epoch = epoch - back;
		derived = derive(of);
	} while (epoch_now() != epoch);
	return derived;
}

CASE("a handshake with timestamps whose ACK lacks them: nothing is right that can be derived from its "
     "SYN-ACK")
{
	static const struct cookie_options choices[] = {
		{ .has_timestamps = 1 },
		{ .has_timestamps = 1, .has_wscale = 1, .wscale = 7, .has_sack = 1 },
		{ .has_timestamps = 1, .has_wscale = 1, .wscale = 8, .has_sack = 1, .has_ecn = 1 },
		{ .has_timestamps = 1, .has_wscale = 1, .wscale = 10, .has_sack = 1 },
	};
	struct bake of = { .sport = SPORT, .dport = PORT, .client_isn = 1000 };
	int tries = 0, right = 0;
	struct derived derived;

	for (int place = IPV4; place <= IPV6; place++)
		for (uint8_t mss = 0; mss < 8; mss++)
			for (int choice = 0; choice < 4; choice++)
				for (uint32_t back = 0; back < 2; back++) {
					of.place = (enum place)place;
					of.client_isn += 977;
					of.options = choices[choice];
					of.options.mss_index = mss;
					derived = derive_in_epoch(&of, back);
					EXPECT(derived.lacking, "the very cookie is not known as such");
					right += (int)derived.right;
					tries += DERIVED;
				}
	printf("# of %d tries %d were right\n", tries, right);
	/* 2^18 tries: by chance one is right in 256 runs of this, two in 130,000. */
	EXPECT(right <= 1, "%d of %d tries were right", right, tries);
}

/* ---- at full width ---- */

CASE("at full width: without timestamps once in 2^26, with them never")
{
	const struct attack attacks[] = {
		{ .name = "IPv4 without timestamps", .width = FULL_WIDTH },
		{ .name = "IPv4 with timestamps", .width = FULL_WIDTH, .timestamps = true },
	};

	report_case_limit(3600);
	for (int i = 0; i < 2; i++) {
		struct attack with = attacks[i];
		struct outcome outcome;
		double mean;

		with.tries = exp2(full ? FULL_BITS : CHECK_BITS);
		mean = with.tries * odds_of(&with);
		outcome = attack(&with);
		printf("# %s: of %.0f tries %.0f were right, in %.0f the MAC was: %.3f expected; %.0f ns a "
		       "try\n",
		       with.name, with.tries, outcome.validated, outcome.mac_right, mean, outcome.ns);
		/* Of what is so rare, more than this comes once in a million times. */
		EXPECT(outcome.mac_right <= mean + 5 * sqrt(mean) + 3,
		       "%s: the MAC was right in %.0f of %.0f tries", with.name, outcome.mac_right,
		       with.tries);
		/* By chance once in 4,000 times at 2^27 tries. */
		if (with.timestamps)
			EXPECT_EQ((long long)outcome.validated, 0);
	}
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "full")) {
		full = true;
		argv[1] = argv[0];
		argc--;
		argv++;
	}
	return report_main(argc, argv, setup);
}
