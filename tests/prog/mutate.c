// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Valid frames, mutated at random: whatever comes in, an answer is a right SYN-ACK to a right SYN, what is
 * passed is untouched, what is dropped is counted, and every SYN is counted once.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/bpf.h>

#include "../unit/random.h"
#include "expect.h"

enum {
	FRAMES = 200000,
	SEEDS_MAX = 64,
};

static uint64_t state;

static uint32_t below(uint32_t limit)
{
	return random_below(&state, limit);
}

/* ---- frames to begin with ---- */

struct seed {
	uint8_t bytes[RUN_MAX / 2];
	size_t length;
	enum place place;
};

static struct seed seeds[SEEDS_MAX];
static int seed_count;

static void add_seed(const struct tcp_spec *spec, enum place place)
{
	struct seed *seed = &seeds[seed_count++];

	REQUIRE(seed_count <= SEEDS_MAX);
	seed->length = frame_build(spec, seed->bytes, sizeof(seed->bytes));
	seed->place = place;
}

static void add_ack(enum place place, bool timestamps, bool right)
{
	static const uint8_t data[600];
	struct bake with = {
		.place = place,
		.sport = (uint16_t)(30000 + seed_count),
		.dport = PORT,
		.client_isn = 1000,
		.epoch = (uint32_t)((uint64_t)now_ms() / env.set.epoch_ms),
		.options = { .mss_index = 5,
			     .wscale = 7,
			     .has_wscale = 1,
			     .has_sack = 1,
			     .has_timestamps = timestamps },
	};
	struct cookie cookie = bake(&with);
	struct tcp_spec ack = place_syn(place, with.sport, PORT);

	ack.flags = ACK;
	ack.seq = with.client_isn + 1;
	ack.ack = cookie.isn + (right ? 1 : 1u << 20);
	ack.options = timestamps ? options_ts(1, (uint32_t)now_ms() + cookie.offset) : options_none();
	add_seed(&ack, place);
	ack.payload = data;
	ack.payload_len = sizeof(data);
	add_seed(&ack, place);
}

static void make_seeds(void)
{
	static const char *const layouts[] = { "mss 1460, sack, ts 77 0, nop, ws 7",
					       "mss 1460, nop, ws 8, nop, nop, sack",
					       "mss 1440, nop, ws 6, nop, nop, ts 99 0, sack, eol, eol",
					       "mss 1400", "" };

	seed_count = 0;
	for (int place = 0; place < PLACES; place++) {
		for (size_t i = 0; i < sizeof(layouts) / sizeof(*layouts); i++) {
			struct tcp_spec syn = place_syn((enum place)place, (uint16_t)(30000 + seed_count),
							PORT);

			syn.options = options_text(layouts[i]);
			if (i == 0 && place & 1)
				syn.flags |= ECE | CWR;
			add_seed(&syn, (enum place)place);
		}
		add_ack((enum place)place, true, true);
		add_ack((enum place)place, false, true);
		add_ack((enum place)place, true, false);
	}
}

/* ---- mutations ---- */

static size_t ip_at(const uint8_t *frame)
{
	size_t at = 12;

	while (frame[at] == 0x81 || frame[at] == 0x88)
		at += 4;
	return at + 2;
}

/* Where the TCP header was before anything was mutated. */
static size_t tcp_at(const struct seed *seed)
{
	return ip_at(seed->bytes) + (seed->place == IPV6 ? 40 : 20);
}

static void mutate_options(const struct seed *seed, uint8_t *frame, size_t length)
{
	static const uint8_t kinds[] = { 0, 1, 2, 3, 4, 5, 8, 19, 29, 30, 34, 255 };
	size_t at = tcp_at(seed) + 20;

	if (at < length)
		frame[at + below((uint32_t)(length - at))] = kinds[below(sizeof(kinds))];
}

static size_t mutate(const struct seed *seed, uint8_t *frame)
{
	static const uint16_t interesting[] = { 0,	1,	0xff,	0x100,	0x7fff, 0x8000,
						0xffff, 0x0800, 0x86dd, 0x8100, 0x88a8, 0x0006,
						0x4000, 0x2000, 0x5002, 0xa002 };
	size_t length = seed->length;
	uint16_t value;
	size_t at;

	memcpy(frame, seed->bytes, length);
	for (uint32_t n = below(4); n; n--) {
		switch (below(9)) {
		case 0: /* one bit */
		case 1: frame[below((uint32_t)length)] ^= (uint8_t)(1 << below(8)); break;
		case 2: /* one bit of the headers */
			frame[below((uint32_t)tcp_at(seed) + 20)] ^= (uint8_t)(1 << below(8));
			break;
		case 3: frame[below((uint32_t)length)] = (uint8_t)random_next(&state); break;
		case 4:
			value = interesting[below(sizeof(interesting) / sizeof(*interesting))];
			at = below((uint32_t)length / 2) * 2;
			frame[at] = (uint8_t)(value >> 8);
			if (at + 1 < length)
				frame[at + 1] = (uint8_t)value;
			break;
		case 5: mutate_options(seed, frame, length); break;
		case 6: /* the data offset, or the control bits */
			frame[tcp_at(seed) + 12 + below(2)] = (uint8_t)random_next(&state);
			break;
		case 7: /* cut, a device's least frame remains */
			if (!below(4))
				length = 14 + below((uint32_t)length - 13);
			/* So that later mutations find the headers where they were. */
			if (length < tcp_at(seed) + 20)
				return length;
			break;
		default: /* padded */
			at = below(64);
			random_fill(&state, frame + length, at);
			length += at;
		}
	}
	return length;
}

/* Whatever else is wrong with an IPv4 header: a fragment's, one with options. */
static void right_ipv4_checksum(const struct seed *seed, uint8_t *frame, size_t length)
{
	uint8_t *ip = frame + ip_at(seed->bytes);
	const size_t size = (size_t)(ip[0] & 15) * 4;
	uint32_t sum = 0;

	if (seed->place == IPV6 || size < 20 || ip + size > frame + length)
		return;
	ip[10] = ip[11] = 0;
	for (size_t i = 0; i < size; i += 2)
		sum += (uint32_t)(ip[i] << 8 | ip[i + 1]);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	ip[10] = (uint8_t)(~sum >> 8);
	ip[11] = (uint8_t)~sum;
}

/* Most mutations would end at the checksums; so that they get behind them, those are mostly righted. */
static void right_checksums(const struct seed *seed, uint8_t *frame, size_t length)
{
	struct tcp_frame parsed;

	if (!below(8))
		return;
	right_ipv4_checksum(seed, frame, length);
	if (frame_parse(frame, length, &parsed))
		frame_fix_checksums(frame, length);
}

/* ---- what must hold ---- */

static const char *describe(const uint8_t *frame, size_t length)
{
	static char text[512];
	size_t at = 0;

	for (size_t i = 0; i < length && i < 100; i++)
		at += (size_t)snprintf(text + at, sizeof(text) - at, "%02x", frame[i]);
	return text;
}

static __u64 counted_like(const struct run *run, const char *prefix)
{
	__u64 sum = 0;

	for (int i = 0; i < COUNTERS; i++)
		if (!strncmp(counter_names[i], prefix, strlen(prefix)))
			sum += run->counted[i];
	return sum;
}

static const struct facts *facts_of(const struct tcp_frame *frame)
{
	for (int place = 0; place < PLACES; place++) {
		const struct ip_addr server = server_ip((enum place)place);

		if (ip_equal(&server, &frame->daddr))
			return &env.facts[place];
	}
	return NULL;
}

static bool check_answer(const uint8_t *frame, size_t length, const struct run *run)
{
	static const uint8_t server_mac[6] = { 0x02, 0x77, 0, 0, 0, 0x01 };
	struct tcp_frame syn;

	if (!EXPECT(frame_parse(frame, length, &syn), "an answer to no segment: %s",
		    describe(frame, length)))
		return false;
	return EXPECT(run->counted[COUNTER_syn_answered] == 1 && !run->handed, "%s", counted_text(run)) &&
	       EXPECT((syn.flags & (SYN | ACK | RST | FIN | AE)) == SYN && !syn.payload_len &&
			      !syn.ip_options_len && syn.dport == PORT,
		      "an answer to %s", frame_text(&syn)) &&
	       EXPECT(syn.ip_checksum_ok && syn.tcp_checksum_ok, "an answer to wrong checksums: %s",
		      describe(frame, length)) &&
	       EXPECT(!memcmp(syn.dst_mac, server_mac, 6), "an answer to another MAC's SYN") &&
	       EXPECT(facts_of(&syn), "an answer for %s", ip_text(&syn.daddr)) &&
	       expect_synack("mutated", frame, length, run, facts_of(&syn), !env.set.pass_budget);
}

/* Metadata is only ever in front of a segment whose cookie is right, or that follows one. */
static bool check_handed(const uint8_t *frame, size_t length, const struct run *run)
{
	struct tcp_frame ack;

	if (!EXPECT(run->verdict == XDP_PASS, "%s", verdict_text(run->verdict)) ||
	    !EXPECT(run->counted[COUNTER_ack_validated] + run->counted[COUNTER_ack_following] == 1, "%s",
		    counted_text(run)))
		return false;
	if (run->counted[COUNTER_ack_following] || !frame_parse(frame, length, &ack))
		return true;
	return EXPECT((ack.flags & (SYN | ACK | RST)) == ACK && facts_of(&ack), "metadata: %s",
		      frame_text(&ack)) &&
	       EXPECT(cookie_right(&ack, facts_of(&ack), run->after_ms), "a wrong cookie is validated: %s",
		      frame_text(&ack)) &&
	       EXPECT_EQ(run->metadata.client_isn, ack.seq - 1) &&
	       EXPECT_EQ(run->metadata.server_isn, ack.ack - 1);
}

static bool check(const uint8_t *frame, size_t length, const struct run *run)
{
	const __u64 syns = run->counted[COUNTER_syn_received];
	const __u64 outcomes = run->counted[COUNTER_syn_answered] + counted_like(run, "syn_passed_") +
			       counted_like(run, "syn_dropped_");

	if (!EXPECT(syns <= 1 && syns == outcomes, "%s: %s", counted_text(run), describe(frame, length)))
		return false;
	switch (run->verdict) {
	case XDP_TX: return check_answer(frame, length, run);
	case XDP_DROP:
		return EXPECT(counted_like(run, "syn_dropped_") + run->counted[COUNTER_ack_dropped_early] ==
				      1,
			      "dropped, %s", counted_text(run));
	case XDP_PASS:
		if (!expect_unchanged("passed", frame, length, run))
			return false;
		return !run->handed || check_handed(frame, length, run);
	default: return EXPECT(false, "%s: %s", verdict_text(run->verdict), describe(frame, length));
	}
}

static void try_frames(uint64_t seed, uint32_t budget)
{
	static uint8_t frame[RUN_MAX];
	static struct run run;
	unsigned int verdicts[5] = {}, handed = 0, syns = 0;

	state = seed;
	env.set.pass_budget = budget;
	settings_store();
	for (int i = 0; i < FRAMES / 2; i++) {
		const struct seed *from;
		size_t length;

		/* Cookies grow old. */
		if (i % 10000 == 0)
			make_seeds();
		from = &seeds[below((uint32_t)seed_count)];
		length = mutate(from, frame);
		right_checksums(from, frame, length);
		run_frame(env.xdp, frame, length, &run);
		if (!check(frame, length, &run))
			break;
		verdicts[run.verdict]++;
		handed += run.handed;
		syns += run.counted[COUNTER_syn_received] != 0;
	}
	env.set.pass_budget = PLENTY;
	settings_store();
	/* That everything has been tried, and much of it. */
	EXPECT(verdicts[XDP_TX] > FRAMES / 20 && verdicts[XDP_PASS] > FRAMES / 10 && handed > FRAMES / 50 &&
		       syns > verdicts[XDP_TX] + FRAMES / 50 &&
		       (budget || verdicts[XDP_DROP] > FRAMES / 50),
	       "%u answered, %u passed, %u dropped, %u handed over, %u SYNs", verdicts[XDP_TX],
	       verdicts[XDP_PASS], verdicts[XDP_DROP], handed, syns);
}

CASE("100,000 mutated frames: answers are right, what is passed is untouched, drops are counted")
{
	try_frames(1, PLENTY);
}

CASE("100,000 mutated frames over budget")
{
	try_frames(2, 0);
}

int main(int argc, char **argv)
{
	return report_main(argc, argv, environment_new);
}
