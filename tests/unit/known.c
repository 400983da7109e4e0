// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The filter of known tuples and the table of used cookies: bpf/known.h and bpf/used.h themselves, on maps
 * that are arrays here. How often the filter says yes wrongly, that it never says no wrongly, that a
 * cookie is remembered for as long as it lives.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "abi.h"
#include "cookie.h"
#include "random.h"
#include "report.h"

/* What bpf/maps.h and the BPF headers give to the programs. */
#define XDPH_MAPS_H
#define barrier_var(var) __asm__ volatile("" : "+r"(var))
#define __noinline	 static __attribute__((noinline))

static struct settings settings = { .epoch_ms = COOKIE_EPOCH_MS };
static struct known_word *known_tuples;
static struct known_note *known_notes;
static struct used_bucket *used_cookies;
static struct own_word own_words[OWN_WORDS], *own_addresses = own_words;
static const __u32 zero = 0;

static inline void *lookup_settings(void)
{
	return &settings;
}

#define bpf_map_lookup_elem(map, key)                                                                      \
	_Generic((map),                                                                                    \
		struct settings *: lookup_settings(),                                                      \
		struct known_word **: (void *)&known_tuples[*(key)],                                       \
		struct known_note **: (void *)&known_notes[*(key)],                                        \
		struct own_word **: (void *)&own_addresses[*(key)],                                         \
		struct used_bucket **: (void *)&used_cookies[*(key)])

#include "../../bpf/known.h"
#include "../../bpf/own.h"
#include "../../bpf/used.h"

enum {
	CONNECTIONS = 131072,	 /* attach's default */
	WORDS = CONNECTIONS / 4, /* user/attach.c: KNOWN_TUPLES_A_WORD */
	BUCKETS = CONNECTIONS,	 /* user/attach.c: USED_A_BUCKET */
	LOOKS = 1000000,
	LIFE_MS = 2 * COOKIE_EPOCH_MS,
};

static void filter_empty(void)
{
	free(known_tuples);
	free(known_notes);
	known_tuples = calloc(2 * WORDS, sizeof(*known_tuples));
	known_notes = calloc((size_t)WORDS * KNOWN_NOTES_A_WORD, sizeof(*known_notes));
	REQUIRE(known_tuples && known_notes);
	settings.known_mask = WORDS - 1;
	settings.known_generation = 0;
}

/* The @n-th tuple of a kind; those of different @set never coincide. */
typedef struct tuple (*maker)(uint32_t set, uint32_t n);

static __be32 ipv4(uint32_t host)
{
	return be32_from(host);
}

static struct tuple make_ipv4(uint32_t remote, uint32_t local, uint32_t remote_port, uint32_t local_port)
{
	struct tuple tuple = { .remote_port = be16_from((__u16)remote_port),
			       .local_port = be16_from((__u16)local_port) };

	address_map_ipv4(&tuple.remote, ipv4(remote));
	address_map_ipv4(&tuple.local, ipv4(local));
	return tuple;
}

static struct tuple random_ipv4(uint32_t set, uint32_t n)
{
	uint64_t random = (uint64_t)set << 32 | n;
	uint64_t value = random_next(&random);

	return make_ipv4((uint32_t)value, 0x0a000001, (uint32_t)(value >> 32), 443);
}

/* One client behind the other, all from one port. */
static struct tuple sequential_addresses(uint32_t set, uint32_t n)
{
	return make_ipv4((set << 28) + n, 0x0a000001, 40000, 443);
}

/* Few clients (a proxy, a load generator) with all of their ports in a row. */
static struct tuple sequential_ports(uint32_t set, uint32_t n)
{
	return make_ipv4(0x0a000100 + (set << 16) + n / 60000, 0x0a000001, 1024 + n % 60000, 443);
}

/* Every other port, as Linux chooses them, to many local ports. */
static struct tuple even_ports(uint32_t set, uint32_t n)
{
	return make_ipv4(0x0a000100 + set, 0x0a000001, 32768 + n % 14000 * 2, 8000 + n / 14000);
}

/* A server with many addresses. */
static struct tuple local_addresses(uint32_t set, uint32_t n)
{
	return make_ipv4(0xc0a80000 + set, 0x0a000000 + n, 40000, 443);
}

static struct tuple sequential_ipv6(uint32_t set, uint32_t n)
{
	struct tuple tuple = { .remote_port = be16_from(40000), .local_port = be16_from(443) };

	tuple.remote.word[0] = be32_from(0x20010db8);
	tuple.remote.word[1] = be32_from(set);
	tuple.remote.word[3] = be32_from(n);
	tuple.local.word[0] = be32_from(0x20010db8);
	tuple.local.word[3] = be32_from(1);
	return tuple;
}

/* A network each, the same interface identifier: the lowest bits of the address never change. */
static struct tuple prefixes_ipv6(uint32_t set, uint32_t n)
{
	struct tuple tuple = sequential_ipv6(set, 1);

	tuple.remote.word[0] = be32_from(0x20010000 + (n >> 16));
	tuple.remote.word[1] = be32_from(n << 16 | set);
	return tuple;
}

static struct tuple random_ipv6(uint32_t set, uint32_t n)
{
	uint64_t random = (uint64_t)set << 32 | n;
	struct tuple tuple;

	random_fill(&random, &tuple, sizeof(tuple));
	return tuple;
}

static const struct {
	const char *name;
	maker make;
} makers[] = {
	{ "random IPv4", random_ipv4 },
	{ "addresses in a row", sequential_addresses },
	{ "ports in a row", sequential_ports },
	{ "even ports, many services", even_ports },
	{ "local addresses in a row", local_addresses },
	{ "random IPv6", random_ipv6 },
	{ "IPv6 addresses in a row", sequential_ipv6 },
	{ "IPv6 networks in a row", prefixes_ipv6 },
};

enum {
	MAKERS = sizeof(makers) / sizeof(*makers),
};

static __u64 hash_of(maker make, uint32_t set, uint32_t n)
{
	const struct tuple tuple = make(set, n);

	return tuple_hash(&tuple, settings.hash_seed);
}

static double false_hits(maker filled, maker asked)
{
	unsigned int hits = 0;

	filter_empty();
	for (uint32_t n = 0; n < CONNECTIONS; n++)
		known_mark(&settings, hash_of(filled, 1, n));
	for (uint32_t n = 0; n < LOOKS; n++)
		hits += (unsigned int)known(&settings, hash_of(asked, 2, n));
	return (double)hits / LOOKS;
}

CASE("the filter says yes wrongly to at most 1 % at its nominal size, whatever it holds and is asked")
{
	uint64_t seeds = 1;

	for (int filled = 0; filled < MAKERS; filled++)
		for (int strangers = 0; strangers < 2; strangers++) {
			const int asked = strangers ? (filled + 1) % MAKERS : filled;
			double rate;

			settings.hash_seed = random_next(&seeds);
			rate = false_hits(makers[filled].make, makers[asked].make);
			/* Much less than expected would mean that this measures something else. */
			EXPECT(rate <= 0.01 && rate >= 0.004, "%s in it, asked for %s: %.2f %%",
			       makers[filled].name, makers[asked].name, rate * 100);
		}
}

CASE("the filter says yes wrongly to its neighbours no more often than to strangers")
{
	uint64_t seeds = 2;

	for (int i = 0; i < MAKERS; i++) {
		unsigned int hits = 0, looks = 0;

		/* Every second one is in it; the others are asked for. */
		filter_empty();
		settings.hash_seed = random_next(&seeds);
		for (uint32_t n = 0; n < 2 * CONNECTIONS; n += 2)
			known_mark(&settings, hash_of(makers[i].make, 1, n));
		for (uint32_t n = 1; n < 2 * CONNECTIONS; n += 2, looks++)
			hits += (unsigned int)known(&settings, hash_of(makers[i].make, 1, n));
		EXPECT(hits <= looks / 100, "%s: %u of %u", makers[i].name, hits, looks);
	}
}

CASE("the filter never says no to what is in it, in either generation")
{
	settings.hash_seed = 3;
	filter_empty();
	for (int i = 0; i < MAKERS; i++)
		for (uint32_t n = 0; n < CONNECTIONS / MAKERS; n++)
			known_mark(&settings, hash_of(makers[i].make, 1, n));
	for (settings.known_generation = 0; settings.known_generation < 2; settings.known_generation++)
		for (int i = 0; i < MAKERS; i++)
			for (uint32_t n = 0; n < CONNECTIONS / MAKERS; n++)
				if (!EXPECT(known(&settings, hash_of(makers[i].make, 1, n)), "%s, %u",
					    makers[i].name, n))
					return;
}

CASE("a generation that was emptied forgets, the other one does not")
{
	const __u64 hash = hash_of(random_ipv4, 1, 1);

	filter_empty();
	known_mark(&settings, hash);
	for (int i = 0; i < WORDS; i++)
		known_tuples[WORDS + i].bits = 0;
	EXPECT(known(&settings, hash));
	settings.known_generation = 1;
	EXPECT(!known(&settings, hash));
}

CASE("what is settled is known, in either generation, and keeps its bits in the note")
{
	uint64_t seeds = 4;

	for (int i = 0; i < MAKERS; i++)
		for (uint32_t n = 0; n < 1000; n++) {
			__u64 hash;

			settings.hash_seed = random_next(&seeds);
			settings.known_generation = n & 1;
			hash = hash_of(makers[i].make, 1, n);
			if (!(n % 100))
				filter_empty();
			known_settle(&settings, known_note(&settings, hash), hash);
			EXPECT(known_is_settled(known_note(&settings, hash), hash));
			EXPECT(known_bits((__u64)known_note(&settings, hash)->settled << 32) ==
			       known_bits(hash));
			EXPECT(known(&settings, hash));
			settings.known_generation ^= 1;
			EXPECT(known(&settings, hash));
		}
}

CASE("of 8,192 tuples 96 in 100 keep their notes, of as many as there are notes 60")
{
	static const struct {
		uint32_t tuples;
		uint32_t least;
	} crowds[] = { { 8192, 96 }, { CONNECTIONS, 60 } };

	for (int i = 0; i < MAKERS; i++)
		for (size_t c = 0; c < sizeof(crowds) / sizeof(*crowds); c++) {
			uint32_t kept = 0;

			filter_empty();
			settings.hash_seed = 0x5eed;
			for (uint32_t n = 0; n < crowds[c].tuples; n++) {
				const __u64 hash = hash_of(makers[i].make, 1, n);

				known_settle(&settings, known_note(&settings, hash), hash);
			}
			for (uint32_t n = 0; n < crowds[c].tuples; n++) {
				const __u64 hash = hash_of(makers[i].make, 1, n);

				kept += known_is_settled(known_note(&settings, hash), hash);
			}
			EXPECT(kept >= crowds[c].tuples / 100 * crowds[c].least, "%s: %u of %u",
			       makers[i].name, kept, crowds[c].tuples);
		}
}

CASE("a note says of a tuple that it is promoted, and then that it is settled; of others, nothing")
{
	const __u64 one = 0x123456789abcdef0, other = 0x923456789abcdef0;
	/* Upper halves of which little is left without their lowest bit. */
	const __u64 hashes[] = { one, one | 1ULL << 32, 5, 1ULL << 32 | 5, 2ULL << 32 | 5 };

	for (size_t i = 0; i < sizeof(hashes) / sizeof(*hashes); i++) {
		const __u64 hash = hashes[i];
		struct known_note *note;

		filter_empty();
		note = known_note(&settings, hash);
		known_promote(note, hash);
		EXPECT(known_is_promoted(note, hash) && !known_is_settled(note, hash));
		EXPECT(!known_is_promoted(note, other) && !known_is_settled(note, other));
		known_unsettle(note, other);
		EXPECT(known_is_promoted(note, hash), "another tuple's end has taken it back");
		known_settle(&settings, note, hash);
		EXPECT(!known_is_promoted(note, hash) && known_is_settled(note, hash));
		known_promote(note, hash);
		EXPECT(known_is_settled(note, hash), "a segment's copy has taken it back");
		known_unsettle(note, hash);
		EXPECT(!known_is_promoted(note, hash) && !known_is_settled(note, hash));
		EXPECT_EQ(note->settled, 0);
	}
}

CASE("bits of the hash are used evenly, and another seed makes another hash")
{
	for (int i = 0; i < MAKERS; i++) {
		unsigned int ones[64] = {}, same = 0;

		for (uint32_t n = 0; n < CONNECTIONS; n++) {
			const struct tuple tuple = makers[i].make(1, n);
			const __u64 hash = tuple_hash(&tuple, 42);

			same += hash == tuple_hash(&tuple, 43);
			for (int bit = 0; bit < 64; bit++)
				ones[bit] += hash >> bit & 1;
		}
		EXPECT_EQ(same, 0, "%s", makers[i].name);
		for (int bit = 0; bit < 64; bit++)
			EXPECT(ones[bit] > CONNECTIONS * 0.49 && ones[bit] < CONNECTIONS * 0.51,
			       "%s: bit %d is set in %u of %d", makers[i].name, bit, ones[bit],
			       CONNECTIONS);
	}
}

CASE("every field of a tuple counts")
{
	uint64_t random = 4;

	for (int i = 0; i < 1000; i++) {
		const struct tuple tuple = i & 1 ? random_ipv4(1, (uint32_t)i)
						 : random_ipv6(1, (uint32_t)i);
		const __u64 seed = random_next(&random), hash = tuple_hash(&tuple, seed);

		for (size_t byte = 0; byte < sizeof(tuple); byte++) {
			struct tuple other = tuple;

			((__u8 *)&other)[byte] ^= (__u8)(1 << byte % 8);
			/* The local address's mapping prefix follows from the remote one's. */
			if (i & 1 && byte >= 16 && byte < 28)
				continue;
			EXPECT(tuple_hash(&other, seed) != hash, "byte %zu", byte);
		}
	}
}

/* ---- used cookies ---- */

static void used_empty(void)
{
	free(used_cookies);
	used_cookies = calloc(BUCKETS, sizeof(*used_cookies));
	REQUIRE(used_cookies);
	settings.used_mask = BUCKETS - 1;
	settings.hash_seed = 5;
}

/* ---- own addresses ---- */

static void own_add(const struct address *address)
{
	const __u64 hash = address_hash(address, settings.hash_seed);

	own_addresses[hash & settings.own_mask].bits |= known_bits(hash);
}

/* The @n-th address of a subnet with many. */
static struct address own_make(bool is_ipv4, uint32_t n)
{
	struct address address = { .word = { be32_from(0x20010db8), be32_from(0), be32_from(n >> 16),
					     be32_from(n & 0xffff) } };

	if (is_ipv4)
		address_map_ipv4(&address, be32_from(0x0a000000 + n));
	return address;
}

CASE("own addresses are known, and few others are taken for them, neighbours no more often than strangers")
{
	/* Of a million others: the README says one in 10,000. */
	static const struct {
		uint32_t addresses;
		int wrongly;
	} sizes[] = { { 0, 0 },
		      { 4, LOOKS / 10000 },
		      { 16, LOOKS / 10000 },
		      { 256, LOOKS / 10000 },
		      { 1000, LOOKS / 10000 },
		      { 8192, LOOKS / 10000 },
		      { 20000, LOOKS / 1000 } };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
		for (int is_ipv4 = 0; is_ipv4 < 2; is_ipv4++) {
			int neighbours = 0, strangers = 0;

			settings.hash_seed = 0x5eed + i;
			settings.own_mask = own_words_for(sizes[i].addresses) - 1;
			memset(own_words, 0, sizeof(own_words));
			for (uint32_t n = 0; n < sizes[i].addresses; n++) {
				const struct address own = own_make(is_ipv4, n);

				own_add(&own);
			}
			for (uint32_t n = 0; n < sizes[i].addresses; n++) {
				const struct address own = own_make(is_ipv4, n);

				REQUIRE(address_own(&own, &settings));
				REQUIRE(address_ends_as_own(&own, own_end(&own)));
				EXPECT(!address_ends_as_own(&own, ~own_end(&own)));
			}
			for (uint32_t n = 0; n < LOOKS; n++) {
				const struct address neighbour = own_make(is_ipv4, sizes[i].addresses + n);
				const struct tuple tuple = is_ipv4 ? random_ipv4(1, n) : random_ipv6(1, n);

				neighbours += address_own(&neighbour, &settings);
				strangers += address_own(&tuple.remote, &settings);
			}
			printf("# %u own addresses, %s: of %d neighbours %d, of as many strangers %d\n",
			       sizes[i].addresses, is_ipv4 ? "IPv4" : "IPv6", LOOKS, neighbours, strangers);
			EXPECT(neighbours <= sizes[i].wrongly, "%d neighbours", neighbours);
			EXPECT(strangers <= sizes[i].wrongly, "%d strangers", strangers);
		}
}

CASE("a cookie that was tried, and then made its connection, is known as such for its whole life")
{
	const __u64 start = 1000000;
	__u64 tag;

	used_empty();
	for (uint32_t n = 0; n < CONNECTIONS; n++) {
		const __u64 hash = hash_of(random_ipv4, 1, n);

		tag = used_isn_tag(n, ~n);
		REQUIRE(used_look(hash, tag, start) == USED_NEVER, "%u", n);
		REQUIRE(used_try(hash, tag, start) == USED_NOTED, "%u", n);
		REQUIRE(used_look(hash, tag, start) == USED_TRIED, "%u", n);
		if (n & 1)
			used_made(hash, start);
	}
	for (uint32_t n = 0; n < CONNECTIONS; n++) {
		const __u64 hash = hash_of(random_ipv4, 1, n);
		const int expected = n & 1 ? USED_CONNECTED : USED_TRIED;

		tag = used_isn_tag(n, ~n);
		if (!EXPECT_EQ(used_look(hash, tag, start + LIFE_MS), expected, "%u", n) ||
		    !EXPECT_EQ(used_look(hash, used_isn_tag(n + 1, ~n), start), USED_NEVER,
			       "%u with another client ISN", n) ||
		    !EXPECT_EQ(used_look(hash, used_isn_tag(n, n), start), USED_NEVER,
			       "%u with another server ISN", n) ||
		    !EXPECT_EQ(used_look(hash, tag, start + LIFE_MS + 3000), USED_NEVER,
			       "%u when it is over", n))
			return;
	}
}

CASE("a cookie tried again keeps one way, and made means all that was tried on the tuple")
{
	const __u64 hash = hash_of(random_ipv4, 1, 1), first = used_isn_tag(1, 2);
	const __u64 second = used_isn_tag(3, 4);
	int ways = 0;

	used_empty();
	EXPECT_EQ(used_try(hash, first, 1000000), USED_NOTED);
	for (int i = 0; i < 20; i++)
		EXPECT_EQ(used_try(hash, first, 1000000), USED_NOTED_BEFORE);
	for (int i = 0; i < USED_WAYS; i++)
		ways += !!used_cookies[hash & settings.used_mask].way[i];
	EXPECT_EQ(ways, 1);
	EXPECT_EQ(used_try(hash, second, 1000000), USED_NOTED);
	used_made(hash, 1000000);
	EXPECT_EQ(used_look(hash, first, 1000000), USED_CONNECTED);
	EXPECT_EQ(used_look(hash, second, 1000000), USED_CONNECTED);
	EXPECT_EQ(used_look(hash_of(random_ipv4, 1, 2), first, 1000000), USED_NEVER);
}

CASE("of two CPUs that note one cookie at the same moment, one takes a way")
{
	const __u64 hash = hash_of(random_ipv4, 1, 1), way = used_tuple_tag(hash) << USED_TUPLE_SHIFT |
							     7 << USED_ISN_SHIFT |
							     (1000000 >> 10) << USED_TIME_SHIFT;

	used_empty();
	EXPECT_EQ(used_take(hash, 0, way, 1000000), USED_TAKEN);
	EXPECT_EQ(used_take(hash, 0, way, 1000000), USED_TAKEN_BEFORE);
	EXPECT_EQ(used_take(hash, 0, way + (1 << USED_ISN_SHIFT), 1000000), USED_TAKEN);
}

CASE("of 134 million fresh handshakes on a tuple whose cookie was used up, none is taken for that one")
{
	const __u64 hash = hash_of(random_ipv4, 1, 1);
	uint64_t state = 88172645463325252;
	uint32_t taken = 0;

	used_empty();
	EXPECT_EQ(used_try(hash, used_isn_tag(1, 2), 1000000), USED_NOTED);
	used_made(hash, 1000000);
	for (uint32_t n = 0; n < 1U << 27; n++) {
		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		taken += used_look(hash, used_isn_tag((uint32_t)state, (uint32_t)(state >> 32)), 1000000) !=
			 USED_NEVER;
	}
	EXPECT_EQ(taken, 0);
}

/*
 * So many connections a second for so long, each on a tuple of its own. Yields how many cookies gave way
 * before their time; those that were used less than @kept_ms ago are all remembered, at any moment.
 */
static unsigned int used_stream(maker make, uint32_t a_second, uint32_t seconds, uint32_t kept_ms)
{
	const uint64_t start = 1000000;
	const uint32_t back = a_second / 1000 * kept_ms;
	unsigned int evicted = 0;

	used_empty();
	for (uint32_t n = 0; n < a_second * seconds; n++) {
		const __u64 hash = hash_of(make, 1, n), now = start + n / (a_second / 1000);

		evicted += used_try(hash, used_isn_tag(n, ~n), now) == USED_GAVE_WAY;
		used_made(hash, now);
		if (n < back)
			continue;
		if (!EXPECT_EQ(used_look(hash_of(make, 1, n - back), used_isn_tag(n - back, ~(n - back)),
					 now),
			       USED_CONNECTED, "number %u, %u ms ago", n - back, kept_ms))
			break;
	}
	return evicted;
}

CASE("at 20,000 connections a second the table as attach makes it remembers every cookie for its whole "
     "life")
{
	for (int i = 0; i < MAKERS; i += 3)
		EXPECT_EQ(used_stream(makers[i].make, 20000, 40, LIFE_MS), 0, "%s", makers[i].name);
}

CASE("at twice as many those are forgotten that have least to live")
{
	const unsigned int evicted = used_stream(random_ipv4, 40000, 40, LIFE_MS * 4 / 10);

	EXPECT(evicted > 100000, "%u gave way: the table is not full", evicted);
}

CASE("expired ways are taken again, and what gives way too early is told")
{
	const __u64 hash = hash_of(random_ipv4, 1, 1);
	const __u64 later = 1000000 + LIFE_MS + 3000;

	used_empty();
	for (__u32 i = 0; i < USED_BUCKETS * USED_WAYS; i++)
		EXPECT_EQ(used_try(hash, used_isn_tag(i, 0), 1000000), USED_NOTED, "%u", i);
	EXPECT_EQ(used_try(hash, used_isn_tag(100, 0), 1000000), USED_GAVE_WAY);
	for (__u32 i = 0; i < USED_BUCKETS * USED_WAYS; i++)
		EXPECT_EQ(used_try(hash, used_isn_tag(i, 1), later), USED_NOTED, "%u", i);
}

CASE("what one CPU has noted another one sees, whose clock was read a little earlier")
{
	const __u64 hash = hash_of(random_ipv4, 1, 1), turn = 1024 * 1000;

	used_empty();
	used_try(hash, used_isn_tag(1, 2), turn);
	EXPECT_EQ(used_look(hash, used_isn_tag(1, 2), turn - 1), USED_TRIED);
	EXPECT_EQ(used_try(hash, used_isn_tag(1, 2), turn - 1), USED_NOTED_BEFORE);
}

CASE("the clock of used cookies wraps without forgetting or remembering anything")
{
	const __u64 unit = 1024, wrap = unit * (USED_TIME_MASK + 1), hash = hash_of(random_ipv4, 1, 1);

	for (__u64 at = wrap - LIFE_MS - 5000; at < wrap + 5000; at += 250) {
		used_empty();
		used_try(hash, used_isn_tag(1, 2), at);
		if (!EXPECT_EQ(used_look(hash, used_isn_tag(1, 2), at + LIFE_MS), USED_TRIED, "%llu",
			       (unsigned long long)at) ||
		    !EXPECT_EQ(used_look(hash, used_isn_tag(1, 2), at + LIFE_MS + 3000), USED_NEVER, "%llu",
			       (unsigned long long)at))
			return;
	}
}

int main(int argc, char **argv)
{
	return report_main(argc, argv, NULL);
}
