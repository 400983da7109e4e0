// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Frames mutated by the million, and what must hold for each of them, by a reader of our own (judge.h):
 * whatever comes in, an answer is the stack's own SYN-ACK to a SYN that has nothing wrong, and every such
 * SYN gets one; metadata are in front of what bears a right cookie, of all of that, and of nothing else;
 * what is passed is untouched; what is dropped has a reason whose condition is met; nothing that is wrong
 * makes a service or a connection.
 *
 *	FRAMES=10000000 SEED=7 build/tests/prog/mutate
 *
 * A frame that fails is written to tests/prog/corpus, from where it is tried first in every run; with
 *KEEP=1 the first frame of every outcome is, too. The seed is printed: with it the same frames come again,
 *but for the cookies in them, which are made anew.
 */
#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <linux/bpf.h>
#include <linux/if_packet.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "scene.h"

#define CORPUS "tests/prog/corpus"

enum {
	FRAMES = 2000000, /* if nobody asks for more */
	SLICE = 2000,	  /* frames under one condition */
	ENOUGH = 100000,  /* for every outcome to have been had */
	POOL = 64,	  /* cookies at a time */
	POOL_PORT = 20000,
	MARK = 0x7868,
	/* What tc programs return. */
	TC_NEXT = 0xffffffff,
	TC_DROP = 2,
	TC_REDIRECT = 7,
};

static uint64_t state;

static uint32_t below(uint32_t limit)
{
	return random_below(&state, limit);
}

/* ---- conditions ---- */

enum condition {
	CALM,
	OVER_BUDGET,
	EMPTIED,  /* the filter of held tuples: exact lookups decide */
	WATCHED,  /* somebody reads events */
	CANARIES, /* are due, and never answered */
	AWAKE,	  /* what is dormant */
	FLOODED,  /* what was found out in this tick holds */
	SPLIT,	  /* the frame, anywhere */
	DRAINING,
	COOKIES_OFF, /* tcp_syncookies=0 */
	VALIDATING,  /* tc_promote, which looks at cookies itself */
	IDLE,	     /* tc_promote, for frames without metadata */
	LEAVING,     /* tc_learn */
	CONDITIONS,
};

static const struct {
	const char *name;
	unsigned int weight;
} conditions[CONDITIONS] = {
	[CALM] = { "calm", 28 },
	[OVER_BUDGET] = { "over budget", 20 },
	[EMPTIED] = { "emptied", 6 },
	[WATCHED] = { "watched", 4 },
	[CANARIES] = { "canaries", 4 },
	[AWAKE] = { "awake", 5 },
	[FLOODED] = { "flooded", 20 },
	[SPLIT] = { "split", 6 },
	[DRAINING] = { "draining", 5 },
	[COOKIES_OFF] = { "cookies off", 2 },
	[VALIDATING] = { "validating", 10 },
	[IDLE] = { "idle", 3 },
	[LEAVING] = { "leaving", 7 },
};

/* A frame, and all that it needs to come again. */
struct attempt {
	enum condition condition;
	uint8_t frame[MUTANT_MAX];
	size_t length;
	size_t linear;
	struct baked *baked; /* whose ACK it was, NULL: nobody's */
	bool forwarded;	     /* LEAVING: it came in by another device */
};

static struct baked pool[POOL];
static struct run run;
static __u64 counted_before[COUNTERS];
static __u64 counted_in_all[COUNTERS];
static uint64_t awake_until_ms;
static struct ring_buffer *events;
static struct settings usual;

static void empty_filter(void)
{
	const size_t words = (size_t)env.set.known_mask + 1;
	static struct known_word *word;
	static struct known_note *note;

	if (!word) {
		word = mmap(NULL, 2 * words * sizeof(*word), PROT_READ | PROT_WRITE, MAP_SHARED,
			    env.known_tuples, 0);
		note = mmap(NULL, words * KNOWN_NOTES_A_WORD * sizeof(*note), PROT_READ | PROT_WRITE,
			    MAP_SHARED, env.known_notes, 0);
	}
	REQUIRE(word != MAP_FAILED && note != MAP_FAILED, "known_tuples: %s", strerror(errno));
	memset(word, 0, 2 * words * sizeof(*word));
	for (size_t i = 0; i < words * KNOWN_NOTES_A_WORD; i++)
		note[i].settled = 0;
}

/* Handshakes as they are shown: what they are said to be. */
static int on_event(void *context, void *data, size_t size)
{
	static const uint16_t flags[] = {
		[EVENT_SYN] = SYN, [EVENT_SYNACK] = SYN | ACK, [EVENT_ACK] = ACK
	};
	const struct event *event = data;
	struct reading reading;
	size_t seen;

	(void)context;
	if (!EXPECT(size == sizeof(*event) && event->kind <= EVENT_ACK && event->ifindex == env.ifindex))
		return -1;
	seen = event->length < EVENT_BYTES ? event->length : EVENT_BYTES;
	judge_read(&reading, event->bytes, seen, seen);
	/* Behind many extension headers it is out of sight. */
	EXPECT(!reading.tcp || (reading.flags & (SYN | ACK)) == flags[event->kind],
	       "an event of kind %u has the flags %x", event->kind, reading.flags);
	return 0;
}

static void begin(enum condition condition)
{
	switch (condition) {
	case OVER_BUDGET: env.set.pass_budget = env.set.held_budget = 0; break;
	case EMPTIED: empty_filter(); break;
	case WATCHED: env.set.events_until_ms = (__u64)now_ms() + 600000; break;
	case CANARIES:
		env.set.flags &= ~(__u32)SETTING_CANARY_ONCE;
		env.set.canary_gap_ms = env.set.canary_silence_ms = 1;
		break;
	case AWAKE:
		env.set.flood_rate = 100;
		env.set.flood_hold_ms = 10;
		break;
	case COOKIES_OFF: netns_sysctl(env.pair.server, "net.ipv4.tcp_syncookies", "0"); break;
	case VALIDATING: env.set.flags |= SETTING_TC_VALIDATES; break;
	default: break;
	}
	settings_store();
	tick_over();
	counters_read_here(counted_before);
}

static void end(enum condition condition)
{
	if (condition == WATCHED)
		ring_buffer__consume(events);
	/* What the stack holds must be known again. */
	if (condition == EMPTIED)
		netns_must(env.pair.server, "cat %s/known_refill", env.pins);
	if (condition == COOKIES_OFF)
		netns_sysctl(env.pair.server, "net.ipv4.tcp_syncookies", "1");
	if (condition == AWAKE)
		awake_until_ms = (uint64_t)now_ms() + 100;
	env.set = usual;
	settings_store();
}

/* ---- what must hold, whatever ran ---- */

enum family {
	OF_NOTHING,
	SYN_RECEIVED,
	SYN_ANSWERED,
	SYN_PASSED,
	SYN_DROPPED,
	ACK_SEEN,
	ACK_GUARD, /* counted beside what is wrong with it */
	STRAY,
	PROMOTING,
	LEARNING,
	FAMILIES,
};

static enum family family_of[COUNTERS];

static void families_new(void)
{
	static const struct {
		const char *prefix;
		enum family family;
	} prefixes[] = {
		{ "syn_received", SYN_RECEIVED },
		{ "syn_answered", SYN_ANSWERED },
		{ "syn_passed_", SYN_PASSED },
		{ "syn_dropped_", SYN_DROPPED },
		{ "ack_dropped_guard", ACK_GUARD },
		{ "ack_", ACK_SEEN },
		{ "stray_", STRAY },
		{ "promote", PROMOTING },
		{ "canary_", LEARNING },
		{ "service_learned", LEARNING },
	};

	for (int i = 0; i < COUNTERS; i++)
		for (size_t p = sizeof(prefixes) / sizeof(*prefixes); p--;)
			if (!strncmp(counter_names[i], prefixes[p].prefix, strlen(prefixes[p].prefix)))
				family_of[i] = prefixes[p].family;
	family_of[COUNTER_ack_dropped_guard] = ACK_GUARD;
}

/* What rose, and by how much each family. */
static void count(__u64 family[FAMILIES])
{
	static __u64 now[COUNTERS];

	counters_read_here(now);
	memset(family, 0, FAMILIES * sizeof(*family));
	for (int i = 0; i < COUNTERS; i++) {
		run.counted[i] = now[i] - counted_before[i];
		if (!run.counted[i])
			continue;
		family[family_of[i]] += run.counted[i];
		counted_in_all[i] += run.counted[i];
	}
	memcpy(counted_before, now, sizeof(now));
}

static bool unchanged(const struct attempt *attempt)
{
	return run.length == attempt->length && !memcmp(run.bytes, attempt->frame, attempt->length);
}

/* ---- SYNs ---- */

enum duty {
	NEVER,
	MAY,
	MUST,
};

static bool may_be_awake(const struct attempt *attempt)
{
	return attempt->condition == AWAKE || run.before_ms < awake_until_ms;
}

/* Whether a SYN is to be answered. */
static enum duty duty_to_answer(const struct attempt *attempt, const struct reading *r,
				const struct found *found)
{
	static const uint8_t server[6] = { 0x02, 0x77, 0, 0, 0, 0x01 };
	const bool over_budget = attempt->condition == OVER_BUDGET;

	if (!found->facts || !judge_answerable(r) || memcmp(r->frame, server, 6))
		return NEVER;
	/* What is held is known by the filter, which we may have emptied. */
	if (scene_held(r))
		return attempt->condition == EMPTIED ? MAY : NEVER;
	switch (attempt->condition) {
	case DRAINING:
	case COOKIES_OFF: return NEVER;
	default: break;
	}
	switch (found->kind) {
	case ANSWERS:
	case GUARDED: break;
	case FAST_OPEN:
		if (r->fast_open && !over_budget)
			return NEVER;
		break;
	case PLAIN:
		if (judge_asks(r) && !over_budget)
			return NEVER;
		break;
	case SPEAKS:
		if (!over_budget)
			return MAY; /* so it was seen, but that is forgotten */
		break;
	case DORMANT: return may_be_awake(attempt) ? MAY : NEVER;
	default: return NEVER;
	}
	if (!judge_carried(r, found->facts) && !over_budget)
		return NEVER;
	return attempt->condition == CANARIES || attempt->condition == SPLIT ? MAY : MUST;
}

static const char *check_answer(const struct attempt *attempt, const struct reading *r,
				const struct found *found)
{
	if (run.counted[COUNTER_syn_answered] != 1 || run.handed)
		return "an answer that is not counted as one";
	if (duty_to_answer(attempt, r, found) == NEVER)
		return "answered, against the rules";
	return judge_answer(r, found->facts, &run, attempt->condition == OVER_BUDGET);
}

/* ---- ACKs ---- */

/* Nothing is wrong with an ACK but its numbers, and perhaps its checksum. */
static bool ack_sound(const struct reading *r)
{
	return r->tcp && r->fits && r->whole && !r->fragment && r->ip_sum_right &&
	       (r->flags & (SYN | RST | ACK)) == ACK;
}

/* TCP's checksum over data is the stack's to compute. */
static bool ack_sum_sound(const struct reading *r)
{
	return r->payload || r->tcp_sum_right || r->tcp_sum_partial;
}

static bool metadata_equal(const struct handshake_metadata *a, const struct handshake_metadata *b)
{
	return !memcmp(a, b, sizeof(*a));
}

/* Whether it follows a segment that had metadata, by a second at most. */
static bool follows(const struct attempt *attempt, const struct reading *r)
{
	const struct baked *baked = attempt->baked;

	return baked && baked->handed_ms && !memcmp(&baked->bake.tuple, &r->tuple, sizeof(r->tuple)) &&
	       run.before_ms - baked->handed_ms <= 1000 && r->ack - 1 == baked->metadata.server_isn &&
	       r->seq - 1 - baked->metadata.client_isn < 65536;
}

static const char *check_handed(const struct attempt *attempt, const struct reading *r,
				const struct found *found)
{
	struct handshake_metadata own;
	enum certainty right;

	if (run.verdict != XDP_PASS)
		return "metadata in front of what is not passed";
	if (run.counted[COUNTER_ack_validated] + run.counted[COUNTER_ack_following] != 1)
		return "metadata that are not counted";
	if (!ack_sound(r) || !ack_sum_sound(r) || !found->facts)
		return "metadata in front of what has something wrong";
	right = judge_cookie(r, r->seq - 1, found->facts, run.before_ms, run.after_ms, &own);
	/* Of several timestamps, which counts is for nobody to say. */
	if (r->timestamps > 1 || (right != CERTAINLY_NOT && metadata_equal(&own, &run.metadata))) {
		if (attempt->baked) {
			attempt->baked->metadata = run.metadata;
			attempt->baked->handed_ms = run.after_ms;
		}
		return NULL;
	}
	if (!follows(attempt, r))
		return right == CERTAINLY_NOT ? "metadata for a wrong cookie"
					      : "metadata that are not the cookie's";
	return metadata_equal(&attempt->baked->metadata, &run.metadata)
		       ? NULL
		       : "other metadata than the segment before";
}

/* Whether a segment is to be handed to the promoter, or promoted. */
static enum duty duty_to_hand(const struct reading *r, const struct found *found)
{
	struct handshake_metadata metadata;

	if (!ack_sound(r) || !found->facts)
		return NEVER;
	if (r->timestamps > 1 || r->headers > 4 || scene_held(r) || !ack_sum_sound(r))
		return MAY;
	switch (judge_cookie(r, r->seq - 1, found->facts, run.before_ms, run.after_ms, &metadata)) {
	case CERTAINLY: return MUST;
	case PERHAPS: return MAY;
	default: return NEVER;
	}
}

/* ---- what is dropped ---- */

static const char *check_drop(const struct attempt *attempt, const struct reading *r,
			      const struct found *found, const __u64 family[FAMILIES])
{
	static const uint8_t server[6] = { 0x02, 0x77, 0, 0, 0, 0x01 };
	const __u64 *counted = run.counted;

	if (family[SYN_DROPPED] + counted[COUNTER_ack_dropped_early] + family[ACK_GUARD] + family[STRAY] !=
	    1)
		return "dropped without a reason";
	if (!r->tcp || !found->facts)
		return "what goes to no service of ours is dropped";
	if (counted[COUNTER_syn_dropped_over_budget]) {
		if (attempt->condition != OVER_BUDGET)
			return "over budget, where there is plenty";
		/* A first fragment that ends within the TCP header has a budget wherever it goes. */
		if (r->fragment && r->tcp_length < 20 && found->kind != SHADOW)
			return NULL;
		if (found->kind == SHADOW || (found->kind == DORMANT && !may_be_awake(attempt)) ||
		    found->kind == REFUSED || memcmp(r->frame, server, 6))
			return "over budget, where all is passed";
		return NULL;
	}
	if (counted[COUNTER_syn_dropped_queue_full])
		return found->kind == FULL ? NULL : "the accept queue is not full";
	if (scene_held(r) || ((r->fragment || !r->fits) && !family[STRAY]))
		return "dropped, which the stack might have taken";
	if (duty_to_hand(r, found) == MUST)
		return "a right cookie is dropped";
	if (counted[COUNTER_ack_dropped_early])
		return r->payload && (r->flags & (SYN | RST | ACK)) == ACK &&
				       (r->timestamps > 1 ||
					judge_early(r, found->facts, run.before_ms, run.after_ms))
			       ? NULL
			       : "early data of no handshake of ours";
	if (found->kind != GUARDED)
		return "guard is off";
	return NULL;
}

/* ---- the XDP programs ---- */

/* Whether one of a frame's tags has id 0: it names no VLAN, and the stack takes it off. */
static bool priority_tag(const struct reading *r)
{
	for (int i = 0; i < r->tags; i++)
		if (!(r->tci[i] & 0xfff))
			return true;
	return false;
}

/*
 * A SYN behind more than judge.h reads: tags of id 0, more extension headers, a first fragment that ends
 * within the TCP header. The stack's to answer, within the budget.
 */
static const char *check_wrapped(const struct attempt *attempt)
{
	const __u64 *counted = run.counted;
	const __u64 passed = counted[COUNTER_syn_passed_fragment] + counted[COUNTER_syn_passed_ip_options] +
			     counted[COUNTER_syn_passed_priority_tag] +
			     counted[COUNTER_syn_passed_not_learned] +
			     counted[COUNTER_syn_passed_other_mac] +
			     counted[COUNTER_syn_passed_shadow_drop] + counted[COUNTER_syn_passed_draining];

	if (run.handed)
		return "a SYN with metadata";
	if (run.verdict == XDP_DROP)
		return counted[COUNTER_syn_dropped_over_budget] == 1 && attempt->condition == OVER_BUDGET
			       ? NULL
			       : "a wrapped SYN is dropped";
	if (run.verdict != XDP_PASS || passed != 1)
		return "a wrapped SYN that is not passed, or under another name";
	return unchanged(attempt) ? NULL : "what is passed is changed";
}

static const char *check_xdp(const struct attempt *attempt)
{
	const struct reading *r;
	static struct reading reading;
	__u64 family[FAMILIES];
	struct found found;
	const char *wrong = NULL;

	judge_read(&reading, attempt->frame, attempt->length, attempt->linear);
	r = &reading;
	found = r->tcp ? scene_service(r) : (struct found){ NOBODY, NULL };
	run_xdp(attempt->condition == DRAINING ? env.drain : env.xdp, attempt->frame, attempt->length,
		attempt->linear, &run);
	count(family);
	if (family[SYN_RECEIVED] > 1 ||
	    family[SYN_RECEIVED] != family[SYN_ANSWERED] + family[SYN_PASSED] + family[SYN_DROPPED])
		return "a SYN that is not counted once";
	if (family[SYN_RECEIVED] + family[ACK_SEEN] + family[STRAY] > 1 ||
	    family[ACK_GUARD] > family[ACK_SEEN] || family[PROMOTING] || family[LEARNING])
		return "counted as something that it is not";
	if (family[SYN_RECEIVED] && (!r->tcp || (priority_tag(r) && !found.facts)))
		return check_wrapped(attempt);
	/* Of what is behind all that, guard asks the same: net/guard. */
	if (family[STRAY] && (!r->tcp || (priority_tag(r) && !found.facts)))
		return run.verdict == XDP_DROP ? NULL : "counted as dropped, and is not";
	if (!r->tcp && (family[SYN_RECEIVED] || family[ACK_SEEN]))
		return "no segment, and counted as one";
	switch (run.verdict) {
	case XDP_TX: return check_answer(attempt, r, &found);
	case XDP_DROP: wrong = check_drop(attempt, r, &found, family); break;
	case XDP_PASS:
		if (family[SYN_DROPPED] || run.counted[COUNTER_ack_dropped_early] || family[ACK_GUARD] ||
		    family[STRAY])
			return "counted as dropped, and passed";
		if (!unchanged(attempt))
			return "what is passed is changed";
		if (run.handed)
			return check_handed(attempt, r, &found);
		break;
	default: return "neither passed, dropped nor answered";
	}
	if (wrong || !r->tcp || !found.facts)
		return wrong;
	if (duty_to_answer(attempt, r, &found) == MUST)
		return "a SYN that can be answered is not";
	if (duty_to_hand(r, &found) == MUST)
		return "a right cookie is not seen";
	return NULL;
}

/* ---- tc_promote, which makes nothing of frames that come in by no device ---- */

static const char *check_promote(const struct attempt *attempt)
{
	struct reading r;
	__u64 family[FAMILIES], dropped;
	struct found found;
	enum duty duty;

	if (!run_tc(env.promote, attempt->frame, attempt->length, env.ifindex, &run))
		return NULL;
	judge_read(&r, attempt->frame, attempt->length, attempt->length);
	found = r.tcp ? scene_service(&r) : (struct found){ NOBODY, NULL };
	count(family);
	if (!unchanged(attempt) || run.mark)
		return "a segment is changed";
	if (family[SYN_RECEIVED] || family[ACK_SEEN] || family[STRAY] || family[LEARNING] ||
	    family[PROMOTING] > 2)
		return "counted as something that it is not";
	dropped = run.counted[COUNTER_promote_dropped_queue_full];
	if (run.verdict != TC_NEXT && (run.verdict != TC_DROP || !dropped) &&
	    (run.verdict != TC_REDIRECT || !run.counted[COUNTER_promote_requeued]))
		return "it ends here, without a reason";
	if (attempt->condition == IDLE)
		return family[PROMOTING] ? "promoted without metadata" : NULL;
	duty = found.facts ? duty_to_hand(&r, &found) : NEVER;
	/* The stack takes tags away before tc sees a segment; here they are left. */
	if (family[PROMOTING] && (duty == NEVER || r.tags))
		return "a wrong cookie is promoted";
	if (!family[PROMOTING] && duty == MUST && !r.tags && !scene_held(&r))
		return "a right cookie is not promoted";
	if (dropped && found.kind != FULL)
		return "the accept queue is not full";
	return NULL;
}

/* ---- tc_learn ---- */

/* A SYN-ACK that a service may be learned from. */
static bool leaving_sound(const struct reading *r)
{
	return r->tcp && r->fits && !r->fragment && !r->malformed && r->mss > 0 &&
	       (r->flags & (SYN | ACK | RST | FIN)) == (SYN | ACK);
}

/* That what was learned just now is what the frame shows; it is forgotten again. */
static const char *check_learned(const struct reading *r)
{
	const uint8_t *ip = r->frame + r->ip_at;
	const uint8_t tos = r->ipv4 ? ip[1] : (uint8_t)(ip[0] << 4 | ip[1] >> 4);
	struct service_key key = {
		.ifindex = env.ifindex,
		.address = r->tuple.remote,
		.port = r->tuple.remote_port,
	};
	struct service service;

	for (int i = 0; i < r->tags; i++)
		key.vlan = key.vlan << 16 | ((r->tci[i] & 0xfffu) + 1);
	if (bpf_map_lookup_elem(env.services, &key, &service) || bpf_map_delete_elem(env.services, &key))
		return "learned for another address, port or VLAN";
	if (service.admission != SERVICE_WAITING)
		return "admitted without a canary";
	if (service.synack.ttl != (r->ipv4 ? ip[8] : ip[7]) || service.synack.tos != (tos & 0xfc) ||
	    service.synack.mss != r->mss ||
	    service.synack.granted !=
		    ((r->wscale >= 0 ? OPTION_WSCALE : 0) | (r->sack ? OPTION_SACK : 0) |
		     (r->timestamps ? OPTION_TIMESTAMPS : 0) | (r->flags & ECE ? OPTION_ECN : 0)) ||
	    (r->wscale >= 0 && service.synack.rcv_wscale != r->wscale) ||
	    memcmp(service.device_mac, r->frame + 6, 6))
		return "learned otherwise than the SYN-ACK shows it";
	return NULL;
}

static const char *check_leaving(const struct attempt *attempt, const struct reading *r)
{
	__u64 family[FAMILIES];

	count(family);
	if (family[SYN_RECEIVED] || family[ACK_SEEN] || family[STRAY] || family[PROMOTING] ||
	    family[LEARNING] > 1)
		return "counted as something that it is not";
	if (!family[LEARNING])
		return NULL;
	if (!run.counted[COUNTER_service_learned])
		return "no canary was there to be answered";
	if (!leaving_sound(r) || attempt->forwarded)
		return "a service is learned from what has something wrong";
	return check_learned(r);
}

static const char *check_learn(const struct attempt *attempt)
{
	struct reading r;

	if (!run_tc(env.learn, attempt->frame, attempt->length, attempt->forwarded ? env.ifindex : 0, &run))
		return NULL;
	if (!unchanged(attempt) || run.mark || run.verdict != TC_NEXT)
		return "a segment that leaves is changed, or ends here";
	judge_read(&r, attempt->frame, attempt->length, attempt->length);
	return check_leaving(attempt, &r);
}

/* Once more if it is answered: then by the answer that is kept of it (bpf/quick.h). */
static const char *check_flooded(const struct attempt *attempt)
{
	const char *wrong = NULL;

	for (int i = 0; !wrong && i < 2 && (!i || run.verdict == XDP_TX); i++) {
		while (!flooding())
			;
		counters_read_here(counted_before);
		wrong = check_xdp(attempt);
	}
	return wrong;
}

static const char *check(const struct attempt *attempt)
{
	switch (attempt->condition) {
	case VALIDATING:
	case IDLE: return check_promote(attempt);
	case LEAVING: return check_learn(attempt);
	case FLOODED: return check_flooded(attempt);
	default: return check_xdp(attempt);
	}
}

/* ---- the corpus: frames that failed once, and some of every outcome ---- */

static void write_field(FILE *file, const char *name, uint32_t right, uint32_t is)
{
	fprintf(file, is == right ? " {%s}" : " {%s^%08x}", name, is ^ right);
}

/* The frame in hexadecimal. What is the cookie's, or nearly, is written so that another one takes its
 * place. */
static void write_frame(FILE *file, const struct attempt *attempt)
{
	const struct baked *baked = attempt->baked;
	size_t at = 0, same, words = 0;

	while (at < attempt->length) {
		uint32_t word = 0;

		if (baked && at + 4 <= attempt->length) {
			memcpy(&word, attempt->frame + at, 4);
			word = ntohl(word);
			if (__builtin_popcount(word ^ baked->acknowledgement) < 3) {
				write_field(file, "ack", baked->acknowledgement, word);
				at += 4;
				continue;
			}
			if (baked->bake.timestamps && __builtin_popcount(word ^ baked->echo) < 3) {
				write_field(file, "echo", baked->echo, word);
				at += 4;
				continue;
			}
		}
		same = 1;
		while (at + same < attempt->length && attempt->frame[at + same] == attempt->frame[at])
			same++;
		if (words++ % 16 == 0)
			fprintf(file, "\n");
		if (same > 8)
			fprintf(file, " %02x*%zu", attempt->frame[at], same);
		else
			fprintf(file, " %02x", attempt->frame[at]);
		at += same > 8 ? same : 1;
	}
	fprintf(file, "\n");
}

static const char *save(const struct attempt *attempt, const char *why, uint64_t seed)
{
	static char path[128];
	uint32_t hash = 2166136261u;
	struct reading r;
	FILE *file;

	judge_read(&r, attempt->frame, attempt->length, attempt->length);
	for (size_t i = 0; i < attempt->length; i++)
		hash = (hash ^ attempt->frame[i]) * 16777619u;
	snprintf(path, sizeof(path), CORPUS "/%08x.frame", hash);
	file = fopen(path, "we");
	if (!file)
		return "nowhere: there is no folder " CORPUS;
	fprintf(file, "# %s (seed %llu)\n", why, (unsigned long long)seed);
	fprintf(file, "condition %s%s\n", conditions[attempt->condition].name,
		attempt->forwarded ? ", forwarded" : "");
	if (attempt->linear != attempt->length)
		fprintf(file, "linear %zu\n", attempt->linear);
	if (attempt->baked) {
		const struct judge_bake *bake = &attempt->baked->bake;

		fprintf(file,
			"cookie kind %u place %u port %u isn %u bits %u timestamps %d ago %u age %u\n",
			attempt->baked->kind, attempt->baked->place, host16(bake->tuple.remote_port),
			bake->client_isn, bake->bits, bake->timestamps, bake->epochs_ago, bake->age_ms);
	}
	if (r.tcp && r.ip_sum_right && r.tcp_sum_right)
		fprintf(file, "sums right\n");
	fprintf(file, "frame");
	write_frame(file, attempt);
	fclose(file);
	return path;
}

/* One word of a frame: a byte, many of them, or a field of the cookie. False if it is nothing of it. */
static bool read_word(struct attempt *attempt, const char *word)
{
	unsigned int byte, times = 1, xor = 0;
	uint32_t value;

	if (*word != '{') {
		if (sscanf(word, "%2x*%u", &byte, &times) < 1 || attempt->length + times > MUTANT_MAX)
			return false;
		memset(attempt->frame + attempt->length, (int)byte, times);
		attempt->length += times;
		return true;
	}
	if (!attempt->baked || attempt->length + 4 > MUTANT_MAX)
		return false;
	value = strncmp(word, "{ack", 4) ? attempt->baked->echo : attempt->baked->acknowledgement;
	if (strchr(word, '^') && sscanf(strchr(word, '^'), "^%x", &xor) != 1)
		return false;
	value = htonl(value ^ xor);
	memcpy(attempt->frame + attempt->length, &value, 4);
	attempt->length += 4;
	return true;
}

static bool read_condition(struct attempt *attempt, const char *line)
{
	for (int i = 0; i < CONDITIONS; i++)
		if (!strncmp(line, conditions[i].name, strlen(conditions[i].name))) {
			attempt->condition = (enum condition)i;
			attempt->forwarded = strstr(line, "forwarded");
			return true;
		}
	return false;
}

static bool read_cookie(struct attempt *attempt, const char *line)
{
	static struct baked baked;
	unsigned int kind, place, port, isn, bits, ago, age;
	int timestamps;

	if (sscanf(line, "kind %u place %u port %u isn %u bits %u timestamps %d ago %u age %u", &kind,
		   &place, &port, &isn, &bits, &timestamps, &ago, &age) != 8 ||
	    kind >= KINDS || place >= PLACES)
		return false;
	scene_bake(&baked, (enum kind)kind, (enum place)place, 1, (uint16_t)port, bits, timestamps);
	baked.bake.client_isn = isn;
	baked.bake.epochs_ago = ago;
	baked.bake.age_ms = age;
	scene_rebake(&baked);
	attempt->baked = &baked;
	return true;
}

/* Reads a file of the corpus. Its cookie is made anew, and checksums that were right are righted. */
static bool load(struct attempt *attempt, const char *path)
{
	FILE *file = fopen(path, "re");
	bool good = file, frame = false, right = false;
	char line[1024], *rest, *word;

	*attempt = (struct attempt){};
	while (good && fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = '\0';
		if (*line == '#')
			continue;
		rest = line;
		if (!strncmp(line, "condition ", 10)) {
			good = read_condition(attempt, line + 10);
			continue;
		}
		if (!strncmp(line, "cookie ", 7)) {
			good = read_cookie(attempt, line + 7);
			continue;
		}
		if (sscanf(line, "linear %zu", &attempt->linear) == 1)
			continue;
		if (!strcmp(line, "sums right")) {
			right = true;
			continue;
		}
		if (!strncmp(line, "frame", 5)) {
			frame = true;
			rest += 5;
		}
		while (frame && good && (word = strsep(&rest, " ")))
			good = !*word || read_word(attempt, word);
	}
	if (file)
		fclose(file);
	if (!good || attempt->length < 14)
		return false;
	if (!attempt->linear || attempt->linear > attempt->length || !run_chooses_linear())
		attempt->linear = attempt->length;
	if (right) {
		struct reading r;

		judge_read(&r, attempt->frame, attempt->length, attempt->length);
		if (r.tcp)
			judge_right_sums(&r, attempt->frame);
	}
	return true;
}

CASE("frames of the corpus")
{
	static struct attempt attempt;
	DIR *folder = opendir(CORPUS);
	const struct dirent *entry;
	char path[512];
	int tried = 0;

	netns_enter(env.pair.server);
	REQUIRE(folder, CORPUS ": %s", strerror(errno));
	while ((entry = readdir(folder))) {
		const char *wrong;

		if (!strstr(entry->d_name, ".frame"))
			continue;
		snprintf(path, sizeof(path), CORPUS "/%s", entry->d_name);
		if (!EXPECT(load(&attempt, path), "%s cannot be read", path))
			continue;
		begin(attempt.condition);
		wrong = check(&attempt);
		end(attempt.condition);
		EXPECT(!wrong, "%s: %s (%s, %s)", path, wrong, verdict_text(run.verdict),
		       counted_text(&run));
		tried++;
	}
	closedir(folder);
	EXPECT(tried);
}

/* ---- frames by the million ---- */

static bool chooses_linear;
static bool keeping;

/* Where the first buffer ends: mostly somewhere around the headers. */
static size_t any_linear(const struct attempt *attempt)
{
	const size_t most = below(4) && attempt->length > 130 ? 130 : attempt->length;
	struct reading r;
	size_t linear;

	judge_read(&r, attempt->frame, attempt->length, attempt->length);
	if (below(2) || !r.fits)
		return 14 + below((uint32_t)most - 13);
	linear = r.tcp_at + r.tcp_length - r.payload + below(8);
	return linear < attempt->length ? linear : attempt->length;
}

static void generate(struct attempt *attempt)
{
	struct parts parts;
	struct reading r;

	attempt->baked = NULL;
	attempt->forwarded = false;
	if (attempt->condition == LEAVING) {
		parts = scene_leaving(&state);
		attempt->forwarded = !below(4);
	} else if (below(20) < (attempt->condition == VALIDATING ? 2 : 10)) {
		parts = scene_syn(&state);
	} else if (below(10) < 7) {
		attempt->baked = &pool[below(POOL)];
		parts = attempt->baked->ack;
	} else {
		parts = scene_segment(&state);
	}
	if (attempt->condition == AWAKE && below(2))
		memcpy(parts.tcp + 2,
		       (uint8_t[]){ (uint8_t)(served[DORMANT].port >> 8), (uint8_t)served[DORMANT].port },
		       2);
	if (below(4))
		for (uint32_t n = 1 + below(3); n; n--)
			parts_mutate(&parts, &state);
	attempt->length = parts_write(&parts, attempt->frame);
	if (!below(4)) {
		attempt->length = bytes_mutate(attempt->frame, attempt->length, 110, &state);
		judge_read(&r, attempt->frame, attempt->length, attempt->length);
		if (r.tcp && below(8))
			judge_right_sums(&r, attempt->frame);
	}
	attempt->linear = attempt->length;
	if (attempt->condition == SPLIT && chooses_linear)
		attempt->linear = any_linear(attempt);
}

static enum condition any_condition(void)
{
	unsigned int all = 0, drawn;
	int i = 0;

	for (int c = 0; c < CONDITIONS; c++)
		all += conditions[c].weight;
	for (drawn = below(all); drawn >= conditions[i].weight; i++)
		drawn -= conditions[i].weight;
	return (enum condition)i;
}

static void keep_new_outcomes(const struct attempt *attempt, uint64_t seed)
{
	for (int i = 0; i < COUNTERS; i++)
		if (run.counted[i] && counted_in_all[i] == run.counted[i])
			save(attempt, counter_names[i], seed);
}

struct totals {
	uint64_t frames;
	uint64_t verdicts[5];
	uint64_t handed;
};

/* False if a frame failed. */
static bool run_slice(uint64_t seed, uint64_t number, enum condition condition, struct totals *totals)
{
	static struct attempt attempt;
	const char *wrong = NULL;
	uint64_t mixed = seed;

	/* Far apart: the next seed's frames would else be this one's, one step ahead. */
	state = random_next(&mixed) + number * 0xd1342543de82ef95ULL;
	random_next(&state);
	attempt.condition = condition == CONDITIONS ? any_condition() : condition;
	begin(attempt.condition);
	for (unsigned int i = 0; i < POOL; i++)
		scene_bake_any(&pool[i], (uint16_t)(POOL_PORT + number % 350 * POOL + i), &state);
	for (int i = 0; i < SLICE && !wrong; i++) {
		generate(&attempt);
		wrong = check(&attempt);
		if (keeping && !wrong)
			keep_new_outcomes(&attempt, seed);
		totals->frames++;
		totals->verdicts[run.verdict < 5 ? run.verdict : 0]++;
		totals->handed += run.handed;
	}
	end(attempt.condition);
	return EXPECT(!wrong, "%s, of slice %llu by seed %llu (%s): %s, counted: %s; kept as %s", wrong,
		      (unsigned long long)number, (unsigned long long)seed,
		      conditions[attempt.condition].name, verdict_text(run.verdict), counted_text(&run),
		      save(&attempt, wrong, seed));
}

static uint64_t number_of(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text && *text ? strtoull(text, NULL, 0) : otherwise;
}

/* Another seed each time, so that every run tries something new. */
static uint64_t seed_of_run(void)
{
	uint32_t seed = 1;

	(void)!getrandom(&seed, sizeof(seed), 0);
	return number_of("SEED", seed);
}

/* What no frame alone brings about, or none that BPF_PROG_RUN delivers. */
static bool counted_elsewhere(enum counter counter)
{
	switch (counter) {
	case COUNTER_syn_passed_no_room: return !chooses_linear;
	case COUNTER_syn_passed_no_key:
	case COUNTER_ack_rejected_no_key: /* below */
	/* Needs a segment to come in by a device, a batch of them, or metadata in front: below, tests/net.
	 */
	case COUNTER_promoted:
	case COUNTER_promote_ended_other_handshake:
	case COUNTER_promote_dropped_other_handshake:
	case COUNTER_promote_dropped_early:
	case COUNTER_promote_dropped_closing:
	case COUNTER_promote_failed_used:
	case COUNTER_promote_failed_metadata:
	case COUNTER_promote_reset:
	/* Needs many in a second: tests/net/forging.c, tests/net/prefix.c. */
	case COUNTER_syn_passed_forging:
	case COUNTER_ack_rejected_forging:
	case COUNTER_forging_refused:
	case COUNTER_syn_dropped_prefix:
	/* Needs memory to be short, tables to be full, or a namespace to change. */
	case COUNTER_promote_failed_netns:
	case COUNTER_promote_failed_memory:
	case COUNTER_promote_failed_other:
	case COUNTER_service_full:
	case COUNTER_connections_full:
	case COUNTER_used_evicted:
	/* Needs the stack to answer. */
	case COUNTER_canary_answered:
	case COUNTER_canary_other_way: return true;
	default: return false;
	}
}

static void expect_all_counted(void)
{
	for (int i = 0; i < COUNTERS; i++)
		if (!counted_elsewhere((enum counter)i))
			EXPECT(counted_in_all[i], "%s has never risen: nothing has been tried there",
			       counter_names[i]);
}

/* ---- on every CPU ---- */

enum {
	WORKERS_MAX = 16,
};

static cpu_set_t cpus; /* that we may use */

static void bind_to(int index)
{
	cpu_set_t one;

	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &cpus) && !index--) {
			CPU_ZERO(&one);
			CPU_SET(cpu, &one);
			sched_setaffinity(0, sizeof(one), &one);
			return;
		}
}

static void setup(void)
{
	sched_getaffinity(0, sizeof(cpus), &cpus);
	bind_to((int)number_of("WORKER", 0));
	scene_new();
	families_new();
	usual = env.set;
	chooses_linear = run_chooses_linear();
	keeping = number_of("KEEP", 0);
}

/* Another process that does the same on another CPU, with namespaces of its own. */
static pid_t spawn_worker(int worker, uint64_t seed, uint64_t frames, const char *output)
{
	char self[512] = "";

	(void)!readlink("/proc/self/exe", self, sizeof(self) - 1);
	return netns_spawn(NULL, output, "env WORKER=%d SEED=%llu FRAMES=%llu %s 'by the million'", worker,
			   (unsigned long long)seed, (unsigned long long)frames, self);
}

static const char *file_text(const char *path)
{
	static char text[2048];
	FILE *file = fopen(path, "re");

	text[file ? fread(text, 1, sizeof(text) - 1, file) : 0] = '\0';
	if (file)
		fclose(file);
	unlink(path);
	return text;
}

CASE("frames by the million")
{
	const uint64_t slower = number_of("SLOWER", 1), worker = number_of("WORKER", 0);
	const uint64_t seed = seed_of_run(), frames = number_of("FRAMES", FRAMES / slower);
	const int cpu_count = CPU_COUNT(&cpus), workers = worker		    ? 1
							  : cpu_count < WORKERS_MAX ? cpu_count
										    : WORKERS_MAX;
	const uint64_t share = frames / (uint64_t)workers, slices = (share + SLICE - 1) / SLICE;
	struct totals totals = {};
	pid_t pid[WORKERS_MAX];
	char output[WORKERS_MAX][64];
	int64_t began;
	double seconds;

	netns_enter(env.pair.server);
	report_case_limit((unsigned int)(120 + share / 5000));
	for (int i = 1; i < workers; i++) {
		snprintf(output[i], sizeof(output[i]), "/tmp/mutate-%d-%d", getpid(), i);
		pid[i] = spawn_worker(i, seed + (uint64_t)i, share, output[i]);
	}
	if (!events)
		events = ring_buffer__new(open_pin("events"), on_event, NULL, NULL);
	REQUIRE(events, "events: %s", strerror(errno));
	began = now_us();
	/* Every condition in the first few, then by chance. */
	for (uint64_t i = 0; i < slices; i++)
		if (!run_slice(seed, i, i < CONDITIONS ? (enum condition)i : CONDITIONS, &totals))
			break;
	seconds = (double)(now_us() - began) / 1e6;
	if (totals.frames >= slices * SLICE && totals.frames >= ENOUGH)
		expect_all_counted();
	for (int i = 1; i < workers; i++) {
		const int status = netns_stop(pid[i], 0, 1000 * (int)(120 + share / 5000));

		EXPECT_EQ(status, 0, "%s", file_text(output[i]));
	}
	printf("# seed %llu, %d at a time: %llu frames in %.1f s, %.0f a second each; of the first's %llu, "
	       "%llu "
	       "answered, %llu dropped, %llu handed over\n",
	       (unsigned long long)seed, workers, (unsigned long long)(slices * SLICE * (uint64_t)workers),
	       seconds, (double)totals.frames / seconds, (unsigned long long)totals.frames,
	       (unsigned long long)totals.verdicts[XDP_TX], (unsigned long long)totals.verdicts[XDP_DROP],
	       (unsigned long long)totals.handed);
}

/* ---- bit by bit ---- */

/* A stretch of a frame, in bits. */
struct stretch {
	size_t from, to;
};

/* What a cookie's MAC covers: addresses, ports, both numbers. */
static size_t covered(const struct reading *r, struct stretch stretches[2])
{
	const size_t addresses = r->ip_at + (r->ipv4 ? 12 : 8);

	stretches[0] = (struct stretch){ addresses * 8, (addresses + (r->ipv4 ? 8 : 32)) * 8 };
	stretches[1] = (struct stretch){ r->tcp_at * 8, (r->tcp_at + 12) * 8 };
	return 2;
}

/*
 * What it does not: MACs; TOS, identification, TTL, flow label; PSH, URG, ECE, CWR and FIN, window, urgent
 * pointer; the client's clock; data, and what is behind them.
 */
static size_t uncovered(const struct reading *r, struct stretch stretches[12])
{
	const size_t ip = r->ip_at * 8, tcp = r->tcp_at * 8;
	size_t n = 0;

	stretches[n++] = (struct stretch){ 0, 96 };
	if (r->ipv4) {
		stretches[n++] = (struct stretch){ ip + 8, ip + 16 };
		stretches[n++] = (struct stretch){ ip + 32, ip + 48 };
		stretches[n++] = (struct stretch){ ip + 64, ip + 72 };
	} else {
		stretches[n++] = (struct stretch){ ip + 4, ip + 32 };
		stretches[n++] = (struct stretch){ ip + 56, ip + 64 };
	}
	/* In the order of the wire: CWR, ECE, URG; PSH; FIN. */
	stretches[n++] = (struct stretch){ tcp + 104, tcp + 107 };
	stretches[n++] = (struct stretch){ tcp + 108, tcp + 109 };
	stretches[n++] = (struct stretch){ tcp + 111, tcp + 112 };
	stretches[n++] = (struct stretch){ tcp + 112, tcp + 128 };
	stretches[n++] = (struct stretch){ tcp + 144, tcp + 160 };
	if (r->timestamps)
		stretches[n++] = (struct stretch){ tcp + 192, tcp + 224 };
	stretches[n++] = (struct stretch){ (r->tcp_at + r->tcp_length - r->payload) * 8, r->length * 8 };
	return n;
}

static size_t bits_of(const struct stretch *stretches, size_t count)
{
	size_t bits = 0;

	for (size_t i = 0; i < count; i++)
		bits += stretches[i].to - stretches[i].from;
	return bits;
}

static void flip(uint8_t *frame, const struct stretch *stretches, size_t count, size_t bit)
{
	size_t i = 0;

	for (; i < count && bit >= stretches[i].to - stretches[i].from; i++)
		bit -= stretches[i].to - stretches[i].from;
	bit += stretches[i].from;
	frame[bit / 8] ^= (uint8_t)(0x80 >> bit % 8);
}

/*
 * An ACK with some of its bits turned, of the covered ones or of the others: first each alone, then two to
 * eight of them. A tuple of its own for each, so that none follows another. Yields how many were not as
 * they should be; by chance a turned cookie is right once in 2^22 times.
 */
static int turn_bits(enum place place, bool timestamps, bool of_covered, int several)
{
	static struct attempt attempt = { .condition = CALM };
	static uint16_t sport = 1024;
	static struct baked baked;
	struct stretch stretches[12];
	size_t bits = 1, count, together;
	struct reading r;
	int wrong = 0;

	attempt.baked = &baked;
	for (size_t i = 0; i < bits + (size_t)several; i++) {
		const char *complaint;

		sport = sport < 60000 ? (uint16_t)(sport + 1) : 1024;
		scene_bake(&baked, ANSWERS, place, 1, sport, below(timestamps ? 512 : 32), timestamps);
		baked.ack.payload = 24;
		baked.ack.trailer = 3;
		attempt.length = attempt.linear = parts_write(&baked.ack, attempt.frame);
		judge_read(&r, attempt.frame, attempt.length, attempt.length);
		count = of_covered ? covered(&r, stretches) : uncovered(&r, stretches);
		bits = bits_of(stretches, count);
		together = i < bits ? 1 : 2 + below(7);
		/* Never one of them twice. */
		for (size_t n = 0, bit = i < bits ? i : below((uint32_t)bits); n < together; n++) {
			flip(attempt.frame, stretches, count, bit % bits);
			bit += 1 + below((uint32_t)bits / 8 - 1);
		}
		judge_right_sums(&r, attempt.frame);
		complaint = check(&attempt);
		if (complaint && !wrong)
			EXPECT(false, "%s: %s, counted: %s; kept as %s", complaint,
			       verdict_text(run.verdict), counted_text(&run), save(&attempt, complaint, 0));
		wrong += complaint || run.handed == of_covered;
	}
	return wrong;
}

CASE("bits of an ACK that its cookie covers count, each of them, and the others do not")
{
	const int several = 2000 / (int)number_of("SLOWER", 1);

	netns_enter(env.pair.server);
	state = seed_of_run();
	begin(CALM);
	for (int place = 0; place < PLACES; place++)
		for (int timestamps = 0; timestamps < 2; timestamps++) {
			const int by_chance = turn_bits((enum place)place, timestamps, true, several);

			EXPECT(by_chance <= 1, "%d of the covered", by_chance);
			EXPECT_EQ(turn_bits((enum place)place, timestamps, false, several), 0);
		}
	end(CALM);
}
/* ---- by the wire ---- */

static int wire_of(const struct netns *ns, const char *ifname)
{
	struct sockaddr_ll address = { .sll_family = AF_PACKET, .sll_ifindex = netns_ifindex(ns, ifname) };
	int fd;

	/* Of no protocol: it receives nothing. */
	netns_enter(ns);
	fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	REQUIRE(fd >= 0 && !bind(fd, (struct sockaddr *)&address, sizeof(address)), "raw socket: %s",
		strerror(errno));
	netns_enter(env.pair.server);
	return fd;
}

/* False if no device would send such a frame. */
static bool wire_put(int wire, const uint8_t *frame, size_t length)
{
	enum { MTU = 1500, LINK = 14 };
	ssize_t sent;

	if (length > MTU + LINK)
		return false;
	while ((sent = send(wire, frame, length, 0)) < 0 && errno == ENOBUFS)
		nap();
	REQUIRE(sent == (ssize_t)length, "sending %zu bytes: %s", length, strerror(errno));
	return true;
}

/* A connection that waits to be accepted, taken and reset: whose it was. */
static bool taken(struct tuple *tuple)
{
	const struct linger at_once = { .l_onoff = 1 };
	struct sockaddr_in6 peer;
	socklen_t length = sizeof(peer);
	int fd = accept4(env.listener, (struct sockaddr *)&peer, &length, SOCK_CLOEXEC);

	if (fd < 0)
		return false;
	memcpy(&tuple->remote, &peer.sin6_addr, sizeof(tuple->remote));
	tuple->remote_port = (__be16)peer.sin6_port;
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	close(fd);
	return true;
}

/* Whether the stack makes a connection of an ACK with a right cookie. */
static enum duty duty_to_connect(const struct reading *r, const struct found *found)
{
	static const uint8_t server[6] = { 0x02, 0x77, 0, 0, 0, 0x01 };
	const enum duty duty = duty_to_hand(r, found);

	if (!r->tcp_sum_right || memcmp(r->frame, server, 6) || r->tags)
		return NEVER;
	/* What it thinks of options that nobody agreed on, of keys, and of pointers, is its own affair. */
	if (duty == MUST && (!r->plain || r->malformed || r->signature || r->flags != ACK))
		return MAY;
	return duty;
}

/*
 * An ACK, mutated or not, comes in by the device. Yields what is wrong with what the stack has made of it;
 * *made: a connection.
 */
static const char *try_wire(int wire, const struct attempt *attempt, bool *made)
{
	struct tuple tuple = {};
	__u64 family[FAMILIES];
	struct reading r;
	struct found found;
	enum duty duty;

	judge_read(&r, attempt->frame, attempt->length, attempt->length);
	found = r.tcp ? scene_service(&r) : (struct found){ NOBODY, NULL };
	run.before_ms = (uint64_t)now_ms();
	if (!wire_put(wire, attempt->frame, attempt->length))
		return NULL;
	run.after_ms = (uint64_t)now_ms();
	duty = duty_to_connect(&r, &found);
	*made = taken(&tuple) || (duty == MUST && WAIT_FOR(taken(&tuple), 2000));
	count(family);
	if (*made && (duty == NEVER || memcmp(&tuple.remote, &r.tuple.remote, sizeof(tuple.remote)) ||
		      tuple.remote_port != r.tuple.remote_port))
		return "a connection of nothing";
	/* A mutated one may have been a SYN, with which the stack has begun a handshake of its own. */
	if (!*made && duty == MUST && !run.counted[COUNTER_promote_dropped_other_handshake])
		return "no connection of a right cookie";
	if (run.counted[COUNTER_promoted] && (!found.facts || duty_to_hand(&r, &found) == NEVER))
		return "a wrong cookie is promoted";
	return NULL;
}

static void mutate_ack(struct attempt *attempt)
{
	struct parts parts = attempt->baked->ack;

	if (below(3))
		for (uint32_t n = 1 + below(2); n; n--)
			parts_mutate(&parts, &state);
	attempt->length = parts_write(&parts, attempt->frame);
	if (!below(4))
		attempt->length = bytes_mutate(attempt->frame, attempt->length, 110, &state);
	attempt->linear = attempt->length;
}

/*
 * First a mutated ACK, then the same as it should have been. Whatever the stack has made of the former, the
 * latter gets its connection, once.
 */
static const char *try_wire_twice(int wire, struct attempt *attempt, uint16_t sport)
{
	enum { CLIENT = 170 }; /* no few bits away from client 1, of which the others are */
	const enum place place = (enum place)below(2);
	const bool timestamps = below(2);
	struct baked *baked = attempt->baked;
	struct tuple tuple;
	const char *wrong;
	bool made = false, again = false;

	scene_bake(baked, ANSWERS, place, CLIENT, sport, below(timestamps ? 512 : 32), timestamps);
	baked->ack.payload = (uint16_t)(below(3) ? 0 : below(1400));
	mutate_ack(attempt);
	wrong = try_wire(wire, attempt, &made);
	/* A SYN of its tuple that the stack has taken, be it another ISN's, comes first. */
	if (wrong || (run.counted[COUNTER_syn_received] && !run.counted[COUNTER_syn_answered]))
		return wrong;
	attempt->length = attempt->linear = parts_write(&baked->ack, attempt->frame);
	if (!made) {
		wrong = try_wire(wire, attempt, &made);
		if (wrong)
			return wrong;
	}
	if (below(4))
		return NULL;
	wire_put(wire, attempt->frame, attempt->length);
	again = taken(&tuple);
	return again ? "a cookie makes a second connection" : NULL;
}

CASE("mutated ACKs that come in by the device: connections of right ones alone, and of all of those")
{
	const uint64_t seed = seed_of_run(), frames = 20000 / number_of("SLOWER", 1);
	static struct attempt attempt = { .condition = CALM };
	static struct baked baked;
	__u64 before[COUNTERS], after[COUNTERS];
	const int wire = wire_of(env.pair.client, CLIENT_IF);
	const char *wrong = NULL, *marked;

	netns_must(env.pair.server,
		   "nft 'add table inet mutate; add chain inet mutate in { type filter hook prerouting "
		   "priority -300; }; add rule inet mutate in meta mark 0x%x counter'",
		   MARK);
	env.set.mark = MARK;
	settings_store();
	counters_read(before);
	counters_read_here(counted_before);
	state = seed;
	attempt.baked = &baked;
	for (uint64_t i = 0; i < frames && !wrong; i++)
		wrong = try_wire_twice(wire, &attempt, (uint16_t)(1024 + i % 60000));
	EXPECT(!wrong, "%s (seed %llu), counted: %s; kept as %s", wrong, (unsigned long long)seed,
	       counted_text(&run), save(&attempt, wrong, seed));
	counters_read(after);
	close(wire);
	env.set = usual;
	settings_store();
	/* What is promoted bears the mark, unless the stack drops it for what is in front of IP; nothing
	 * else. */
	marked = netns_output(env.pair.server, "nft list chain inet mutate in | "
					       "sed -n 's/.*counter packets \\([0-9]*\\).*/\\1/p'");
	REQUIRE(marked);
	EXPECT(wrong || (strtoull(marked, NULL, 10) <= after[COUNTER_promoted] - before[COUNTER_promoted] &&
			 strtoull(marked, NULL, 10) >= frames),
	       "%s marked, %llu promoted", marked, after[COUNTER_promoted] - before[COUNTER_promoted]);
	EXPECT(after[COUNTER_promote_failed_used] > before[COUNTER_promote_failed_used]);
	netns_must(env.pair.server, "nft delete table inet mutate");
}

CASE("mutated segments that leave: services are learned of sound SYN-ACKs, as these show them")
{
	const uint64_t seed = seed_of_run(), frames = 20000 / number_of("SLOWER", 1);
	static struct attempt attempt = { .condition = LEAVING };
	const int wire = wire_of(env.pair.server, SERVER_IF);
	const char *wrong = NULL;
	struct reading r;
	__u64 learned = 0;

	counters_read_here(counted_before);
	state = seed;
	for (uint64_t i = 0; i < frames && !wrong; i++) {
		generate(&attempt);
		if (!wire_put(wire, attempt.frame, attempt.length))
			continue;
		judge_read(&r, attempt.frame, attempt.length, attempt.length);
		attempt.forwarded = false;
		wrong = check_leaving(&attempt, &r);
		learned += run.counted[COUNTER_service_learned];
	}
	EXPECT(!wrong, "%s (seed %llu), counted: %s; kept as %s", wrong, (unsigned long long)seed,
	       counted_text(&run), save(&attempt, wrong, seed));
	EXPECT(wrong || learned > frames / 20, "%llu of %llu", learned, (unsigned long long)frames);
	close(wire);
}

/* The last case: it leaves the programs without keys, and with another clock of epochs. */
CASE("without a master key, no mutated frame is answered or handed over")
{
	const struct master_key none = {};
	static struct attempt attempt = { .condition = CALM };
	__u64 family[FAMILIES], no_key = 0;

	netns_enter(env.pair.server);
	/* The programs look for another epoch when this one is older than its new length. */
	WAIT_FOR((uint64_t)now_ms() % env.set.epoch_ms > 1000, 3000);
	state = seed_of_run();
	for (unsigned int i = 0; i < POOL; i++)
		scene_bake_any(&pool[i], (uint16_t)(POOL_PORT + i), &state);
	for (__u32 slot = 0; slot < KEY_SLOTS; slot++)
		REQUIRE(!bpf_map_update_elem(env.keys, &slot, &none, BPF_ANY));
	env.set.epoch_ms = 500;
	settings_store();
	counters_read_here(counted_before);
	for (int i = 0; i < 10000; i++) {
		generate(&attempt);
		run_xdp(env.xdp, attempt.frame, attempt.length, attempt.length, &run);
		count(family);
		if (!EXPECT(run.verdict != XDP_TX && !run.handed, "%s, counted: %s",
			    verdict_text(run.verdict), counted_text(&run)))
			break;
		no_key += run.counted[COUNTER_syn_passed_no_key] + run.counted[COUNTER_ack_rejected_no_key];
	}
	EXPECT(no_key > 1000, "%llu", no_key);
}

int main(int argc, char **argv)
{
	return report_main(argc, argv, setup);
}
