// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* cookie.h: what a cookie carries, what it binds, and how hard it is to guess. */
#include "cookie.h"

#include <stdbool.h>
#include <string.h>

#include "random.h"
#include "report.h"
#include "siphash_bytes.h"

enum {
	HANDSHAKES = 2000,
	GUESSES = 1 << 24,
	LIFE_MS = 2 * COOKIE_EPOCH_MS,
	NOW_EPOCH = 1000,
};

/* ---- what a cookie carries ---- */

static bool same_options(const struct cookie_options *a, const struct cookie_options *b)
{
	return a->mss_index == b->mss_index && a->has_wscale == b->has_wscale &&
	       a->has_sack == b->has_sack && a->has_ecn == b->has_ecn &&
	       a->has_timestamps == b->has_timestamps &&
	       (a->has_wscale ? a->wscale == b->wscale : !b->wscale);
}

/* DESIGN: without timestamps, 32 common combinations. */
static bool can_be_carried(const struct cookie_options *options)
{
	if (options->has_timestamps)
		return true;
	if (options->has_ecn || options->has_sack != options->has_wscale)
		return false;
	return !options->has_wscale || options->wscale == 7 || options->wscale == 8 ||
	       options->wscale == 10;
}

CASE("every choice of options is carried whole, or refused")
{
	int carried = 0;

	for (unsigned int i = 0; i < 1 << 11; i++) {
		const struct cookie_options options = {
			.mss_index = i & 7,
			.wscale = i >> 3 & 15,
			.has_wscale = i >> 7 & 1,
			.has_sack = i >> 8 & 1,
			.has_ecn = i >> 9 & 1,
			.has_timestamps = i >> 10 & 1,
		};
		struct cookie_options decoded;
		int bits = cookie_encode(&options);

		/* 15 is no window scale (RFC 7323 section 2.3). */
		if (options.has_wscale && options.wscale > 14)
			continue;
		if (!can_be_carried(&options)) {
			EXPECT_EQ(bits, -1, "choice %x", i);
			continue;
		}
		EXPECT(bits >= 0 && bits < 1 << (options.has_timestamps ? 9 : 5), "choice %x: bits %x", i,
		       bits);
		for (int ipv4 = 0; ipv4 < 2; ipv4++) {
			memset(&decoded, 0xee, sizeof(decoded));
			cookie_decode((__u32)bits, ipv4, options.has_timestamps, &decoded);
			EXPECT(same_options(&options, &decoded), "choice %x", i);
			EXPECT_EQ(decoded.mss, cookie_mss(ipv4, options.mss_index));
		}
		carried++;
	}
	EXPECT(carried > 600, "%d", carried);
}

CASE("every value of the option bits means a choice that encodes to it")
{
	for (int timestamps = 0; timestamps < 2; timestamps++)
		for (__u32 bits = 0; bits < (timestamps ? 512 : 32); bits++) {
			struct cookie_options options;

			cookie_decode(bits, 1, timestamps, &options);
			EXPECT_EQ(cookie_encode(&options), bits, "timestamps %d", timestamps);
		}
}

CASE("no option bits decode to a window scale above 14")
{
	for (int timestamps = 0; timestamps < 2; timestamps++)
		for (__u32 bits = 0; bits < 512; bits++) {
			struct cookie_options options;

			cookie_decode(bits, 0, timestamps, &options);
			EXPECT(options.wscale <= 14, "bits %x: %u", bits, options.wscale);
		}
}

CASE("the ISN keeps its clear bits, and names its epoch or the one before")
{
	uint64_t random = 1;

	for (int i = 0; i < 100000; i++) {
		const int timestamps = i & 1;
		const __u32 bits = (__u32)random_next(&random) & (timestamps ? 511 : 31);
		const __u32 epoch = (__u32)random_next(&random);
		const __u64 hash = random_next(&random);
		const __u32 isn = cookie_isn(hash, cookie_clear(bits, epoch, timestamps), timestamps);
		const __u32 mac_shift = timestamps ? 10 : 6;

		EXPECT_EQ(cookie_option_bits(isn, timestamps), bits);
		EXPECT_EQ(isn >> mac_shift, (__u32)(hash >> 32) >> mac_shift);
		EXPECT_EQ(isn >> (mac_shift - 1) & 1, epoch & 1);
		EXPECT_EQ(cookie_epoch(isn, epoch, timestamps), epoch);
		EXPECT_EQ(cookie_epoch(isn, epoch + 1, timestamps), epoch);
		/* Two epochs on, the parity names a later one, whose key is another. */
		EXPECT_EQ(cookie_epoch(isn, epoch + 2, timestamps), epoch + 2);
		if (!EXPECT_EQ(cookie_epoch(isn, epoch + 3, timestamps), epoch + 2))
			return;
	}
}

/* ---- the MSS tables ---- */

CASE("the MSS is rounded down to the greatest value of the table, never up")
{
	for (int ipv4 = 0; ipv4 < 2; ipv4++) {
		const __u16 table[8] = COOKIE_MSS_IPV4, table6[8] = COOKIE_MSS_IPV6;
		const __u16 *values = ipv4 ? table : table6;

		for (int i = 0; i < 8; i++) {
			EXPECT_EQ(cookie_mss(ipv4, (__u32)i), values[i]);
			EXPECT(!i || values[i] > values[i - 1], "the table rises");
		}
		for (__u32 mss = 0; mss < 65536; mss++) {
			int expected = -1;

			for (int i = 0; i < 8; i++)
				if (values[i] <= mss)
					expected = i;
			if (!EXPECT_EQ(cookie_mss_index(ipv4, mss), expected, "IPv%d, MSS %u", ipv4 ? 4 : 6,
				       mss))
				return;
		}
	}
}

CASE("no request socket gets less than the stack lets it have (536, IPv6 1220)")
{
	EXPECT_EQ(cookie_mss(1, 0), 536);
	EXPECT_EQ(cookie_mss(0, 0), 1220);
	EXPECT_EQ(cookie_mss_index(1, 535), -1);
	EXPECT_EQ(cookie_mss_index(0, 1219), -1);
}

CASE("no common path loses more than 3 % of its MSS")
{
	static const __u32 paths[] = { 1300, 1360, 1380, 1390, 1400, 1412, 1440, 1452, 1460, 8960 };

	for (size_t i = 0; i < sizeof(paths) / sizeof(*paths); i++)
		for (int ipv4 = 0; ipv4 < 2; ipv4++) {
			const __u32 mss = ipv4 ? paths[i] : paths[i] - 20;
			const int index = cookie_mss_index(ipv4, mss);

			if (EXPECT(index >= 0, "MSS %u", mss))
				EXPECT((mss - cookie_mss(ipv4, (__u32)index)) * 100 <= 3 * mss,
				       "IPv%d, MSS %u rounds to %u", ipv4 ? 4 : 6, mss,
				       cookie_mss(ipv4, (__u32)index));
		}
}

/* ---- the hash ---- */

static struct tuple random_tuple(uint64_t *random, int ipv4)
{
	struct tuple tuple;

	random_fill(random, &tuple, sizeof(tuple));
	if (ipv4) {
		address_map_ipv4(&tuple.remote, tuple.remote.word[3]);
		address_map_ipv4(&tuple.local, tuple.local.word[3]);
	}
	return tuple;
}

static size_t append(__u8 *message, size_t at, const void *bytes, size_t size)
{
	memcpy(message + at, bytes, size);
	return at + size;
}

static size_t append_number(__u8 *message, size_t at, __u64 number, size_t size)
{
	for (size_t i = 0; i < size; i++)
		message[at + i] = (__u8)(number >> 8 * i);
	return at + size;
}

CASE("the hash is SipHash over the bytes that cookie_hash() promises")
{
	uint64_t random = 2;

	for (int i = 0; i < 100000; i++) {
		const int ipv4 = i & 1, timestamps = i >> 1 & 1;
		const struct siphash_key key = { random_next(&random), random_next(&random) };
		const struct tuple tuple = random_tuple(&random, ipv4);
		const __u32 isn = (__u32)random_next(&random);
		const __u32 clear = (__u32)random_next(&random) & (timestamps ? 1023 : 63);
		const __u8 wscale = (__u8)random_below(&random, 16);
		const size_t skip = ipv4 ? 12 : 0;
		__u8 message[44];
		size_t at = 0;

		at = append(message, at, (const __u8 *)&tuple.local + skip, 16 - skip);
		at = append(message, at, &tuple.local_port, 2);
		at = append_number(message, at, wscale, 1);
		at = append_number(message, at, (__u64)timestamps, 1);
		at = append(message, at, (const __u8 *)&tuple.remote + skip, 16 - skip);
		at = append(message, at, &tuple.remote_port, 2);
		at = append_number(message, at, clear, 2);
		at = append_number(message, at, isn, 4);
		REQUIRE(at == (ipv4 ? 20 : 44));
		if (!EXPECT_EQ(cookie_hash(&key, &tuple, ipv4, isn, clear, timestamps, wscale),
			       siphash_bytes(&key, message, at), "round %d", i))
			return;
	}
}

CASE("an epoch's key is SipHash of its number and of the half")
{
	uint64_t random = 3;

	for (int i = 0; i < 10000; i++) {
		const struct siphash_key master = { random_next(&random), random_next(&random) };
		const __u32 epoch = (__u32)random_next(&random);
		struct siphash_key key;
		__u8 message[9] = {};

		append_number(message, 0, epoch, 8);
		cookie_epoch_key(&master, epoch, &key);
		EXPECT_EQ(key.k0, siphash_bytes(&master, message, 9));
		message[8] = 1;
		EXPECT_EQ(key.k1, siphash_bytes(&master, message, 9));
		EXPECT(key.k0 != key.k1);
	}
}

/* ---- what a cookie binds ---- */

/* A handshake as an ACK claims it. */
struct handshake {
	struct siphash_key master;
	struct tuple tuple;
	__u32 client_isn;
	__u32 server_isn;
	int ipv4;
	int timestamps;
	__u8 service_wscale;
};

static __u64 handshake_hash(const struct handshake *handshake, __u32 epoch)
{
	const __u32 mask = (1u << cookie_clear_bits(handshake->timestamps)) - 1;
	struct cookie_options options;
	struct siphash_key key;

	cookie_epoch_key(&handshake->master, epoch, &key);
	cookie_decode(cookie_option_bits(handshake->server_isn, handshake->timestamps), handshake->ipv4,
		      handshake->timestamps, &options);
	return cookie_hash(&key, &handshake->tuple, handshake->ipv4, handshake->client_isn,
			   handshake->server_isn & mask, handshake->timestamps,
			   options.has_wscale ? handshake->service_wscale : COOKIE_WSCALE_ABSENT);
}

static bool validates(const struct handshake *handshake, __u32 now_epoch)
{
	const __u32 epoch = cookie_epoch(handshake->server_isn, now_epoch, handshake->timestamps);
	const __u32 hash = (__u32)(handshake_hash(handshake, epoch) >> 32);

	return !((hash ^ handshake->server_isn) >> cookie_clear_bits(handshake->timestamps));
}

static struct handshake random_handshake(uint64_t *random, int ipv4, int timestamps)
{
	struct handshake handshake = {
		.master = { random_next(random), random_next(random) },
		.tuple = random_tuple(random, ipv4),
		.client_isn = (__u32)random_next(random),
		.ipv4 = ipv4,
		.timestamps = timestamps,
		.service_wscale = (__u8)random_below(random, 15),
	};

	/* A choice with a window scale, so that the promised scale takes part. */
	do
		handshake.server_isn = cookie_clear((__u32)random_next(random) & (timestamps ? 511 : 31),
						    NOW_EPOCH, timestamps);
	while (timestamps ? (handshake.server_isn & COOKIE_WSCALE_MASK) == COOKIE_WSCALE_ABSENT
			  : handshake.server_isn >> COOKIE_PROFILE_CLASS_SHIFT == COOKIE_CLASS_PLAIN);
	handshake.server_isn = cookie_isn(handshake_hash(&handshake, NOW_EPOCH), handshake.server_isn,
					  timestamps);
	return handshake;
}

/*
 * What an attacker may alter, a bit at a time: his ACK's sequence numbers, addresses and ports; and what
 * changes on our side. Returns false behind the last one.
 */
static bool tamper(struct handshake *handshake, unsigned int bit)
{
	const unsigned int address_bits = handshake->ipv4 ? 32 : 128;
	const unsigned int first = 128 - address_bits;

	if (bit < 32) {
		handshake->server_isn ^= 1u << bit;
		return true;
	}
	bit -= 32;
	if (bit < 32) {
		handshake->client_isn ^= 1u << bit;
		return true;
	}
	bit -= 32;
	for (int side = 0; side < 2; side++, bit -= address_bits)
		if (bit < address_bits) {
			__u8 *bytes = (__u8 *)(side ? &handshake->tuple.local : &handshake->tuple.remote);

			bytes[(first + bit) / 8] ^= (__u8)(1 << bit % 8);
			return true;
		}
	if (bit < 16) {
		handshake->tuple.remote_port ^= be16_from((__u16)(1 << bit));
		return true;
	}
	bit -= 16;
	if (bit < 16) {
		handshake->tuple.local_port ^= be16_from((__u16)(1 << bit));
		return true;
	}
	bit -= 16;
	if (bit < 4) {
		handshake->service_wscale ^= (__u8)(1 << bit);
		return true;
	}
	if (bit == 4) {
		handshake->timestamps = !handshake->timestamps;
		return true;
	}
	return false;
}

static void tamper_with_all(int ipv4, int timestamps)
{
	uint64_t random = 4 + (uint64_t)ipv4 + 2 * (uint64_t)timestamps;
	unsigned int tries = 0, found = 0;

	for (int i = 0; i < HANDSHAKES; i++) {
		const struct handshake right = random_handshake(&random, ipv4, timestamps);

		REQUIRE(validates(&right, NOW_EPOCH) && validates(&right, NOW_EPOCH + 1));
		/* Two epochs on, the parity names the key of a later one. */
		tries++;
		found += validates(&right, NOW_EPOCH + 2);
		for (unsigned int bit = 0;; bit++) {
			struct handshake wrong = right;

			if (!tamper(&wrong, bit))
				break;
			tries++;
			found += validates(&wrong, NOW_EPOCH);
		}
	}
	/*
	 * By chance 2^-22 of them would (2^-26 without timestamps): of a million, a fourth of one. Three
	 * would come once in 300 choices of seeds; these seeds never change.
	 */
	EXPECT(found <= 2, "%u of %u tampered handshakes validate", found, tries);
	EXPECT(tries >= HANDSHAKES * (ipv4 ? 165u : 357u), "%u", tries);
}

CASE("a cookie of IPv4 with timestamps is good for nothing else")
{
	tamper_with_all(1, 1);
}

CASE("a cookie of IPv4 without timestamps is good for nothing else")
{
	tamper_with_all(1, 0);
}

CASE("a cookie of IPv6 with timestamps is good for nothing else")
{
	tamper_with_all(0, 1);
}

CASE("a cookie of IPv6 without timestamps is good for nothing else")
{
	tamper_with_all(0, 0);
}

/* The reason for the above: each bit of what is bound turns half of the bits of the hash. */
CASE("every bit that goes into the hash turns half of its bits, MAC and clock offset alike")
{
	uint64_t random = 9;

	for (int ipv4 = 0; ipv4 < 2; ipv4++) {
		__u64 upper[512] = {}, lower[512] = {};
		unsigned int bits = 0;

		for (int i = 0; i < HANDSHAKES; i++) {
			const struct handshake right = random_handshake(&random, ipv4, 1);
			const __u64 hash = handshake_hash(&right, NOW_EPOCH);

			for (bits = 0;; bits++) {
				struct handshake wrong = right;
				__u64 turned;

				if (!tamper(&wrong, bits))
					break;
				turned = handshake_hash(&wrong, NOW_EPOCH) ^ hash;
				upper[bits] += (__u64)__builtin_popcountll(turned >> 32);
				lower[bits] += (__u64)__builtin_popcountll(turned & 0xffffffff);
			}
		}
		for (unsigned int bit = 0; bit < bits; bit++) {
			/* The MAC's own bits of the ISN are no input, they are compared. */
			if (bit >= 10 && bit < 32)
				continue;
			/* 16 of 32 on average, and over so many handshakes within a twentieth of it. */
			EXPECT(upper[bit] > 15.2 * HANDSHAKES && upper[bit] < 16.8 * HANDSHAKES,
			       "IPv%d, bit %u turns %.2f bits of the MAC", ipv4 ? 4 : 6, bit,
			       (double)upper[bit] / HANDSHAKES);
			EXPECT(lower[bit] > 15.2 * HANDSHAKES && lower[bit] < 16.8 * HANDSHAKES,
			       "IPv%d, bit %u turns %.2f bits of the offset", ipv4 ? 4 : 6, bit,
			       (double)lower[bit] / HANDSHAKES);
		}
	}
}

/* All hashes that ACKs on one tuple with one client ISN can ask for: of every value of the clear bits. */
static void hashes(const struct handshake *handshake, __u64 *hash, __u32 count)
{
	struct handshake claim = *handshake;

	for (__u32 clear = 0; clear < count; clear++) {
		claim.server_isn = clear;
		hash[clear] = handshake_hash(&claim, cookie_epoch(clear, NOW_EPOCH, claim.timestamps));
	}
}

CASE("a blind ACK without timestamps validates once in 2^26")
{
	uint64_t random = 10;
	const struct handshake handshake = random_handshake(&random, 1, 0);
	unsigned int found = 0;
	__u64 hash[64];

	hashes(&handshake, hash, 64);
	for (int i = 0; i < GUESSES; i++) {
		const __u32 guess = (__u32)random_next(&random);

		found += !((guess ^ (__u32)(hash[guess & 63] >> 32)) >> 6);
	}
	EXPECT(found <= 3, "%u of %d guesses, a fourth of one is expected", found, GUESSES);
}

CASE("a blind ACK with timestamps validates once in 2^22, with an echo that fits once in 2^39")
{
	uint64_t random = 11;
	const struct handshake handshake = random_handshake(&random, 1, 1);
	unsigned int found = 0, fits = 0, echoes = 0;
	__u64 hash[1024];

	hashes(&handshake, hash, 1024);
	for (int i = 0; i < GUESSES; i++) {
		const __u32 guess = (__u32)random_next(&random), echo = (__u32)random_next(&random);
		const __u64 mine = hash[guess & 1023];
		const bool right = !((guess ^ (__u32)(mine >> 32)) >> 10);
		const bool echoed = 123456789 - (echo - cookie_timestamp_offset(mine)) <= LIFE_MS;

		found += right;
		echoes += echoed;
		fits += right && echoed;
	}
	EXPECT(found <= 12, "%u of %d guesses, four are expected", found, GUESSES);
	EXPECT(echoes > 60 && echoes < 200, "%u of %d echoes fit, 125 are expected", echoes, GUESSES);
	EXPECT_EQ(fits, 0);
}

CASE("an ISN has exactly one MAC for each value of its clear bits")
{
	uint64_t random = 12;

	for (int timestamps = 0; timestamps < 2; timestamps++) {
		struct handshake handshake = random_handshake(&random, 0, timestamps);
		const __u32 step = 1u << cookie_clear_bits(timestamps);
		const __u32 clear = handshake.server_isn & (step - 1);
		const __u32 right = handshake.server_isn;
		__u64 hash[1024];
		unsigned int found = 0;

		hashes(&handshake, hash, step);
		for (__u64 isn = clear; isn < 1ULL << 32; isn += step)
			found += !(((__u32)isn ^ (__u32)(hash[clear] >> 32)) >>
				   cookie_clear_bits(timestamps));
		EXPECT_EQ(found, 1);
		handshake.server_isn = right;
		EXPECT(validates(&handshake, NOW_EPOCH));
	}
}

int main(int argc, char **argv)
{
	return report_main(argc, argv, NULL);
}
