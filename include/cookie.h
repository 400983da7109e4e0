/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The SYN cookie (RFC 4987 section 3.6): all that the connection will need, in the 32 bits of the initial
 * sequence number (ISN) of our SYN-ACK. The client proves with its ACK that it received them.
 *
 *   with timestamps    |31 . . . . . . . . . . . 10|  9  |8 . . 6|  5  |  4  |3 . . . . 0|
 *                      |          MAC (22)         |epoch|  MSS  | ECN |SACK |  wscale   | 15: no such
 * option
 *
 *   without            |31 . . . . . . . . . . . . . . 6|  5  |4 . . . . . . . . . . . 0|
 *                      |            MAC (26)            |epoch|         profile         |
 *
 * A profile is one of 32 common combinations of MSS, window scale and SACK (cookie_class). Which layout an
 * ACK uses shows from its timestamp option; that, too, goes into the MAC.
 *
 * One SipHash gives 64 bits. The upper half is the MAC. The lower half is the offset of our timestamp
 * clock: tsval = milliseconds + offset. An ACK echoes it, so tsecr - offset is the moment at which the
 * SYN-ACK was sent: the cookie's age, the connection's round trip time, and 17 bits more to guess.
 *
 * The MAC covers addresses, ports, the client's ISN (an ACK that is off by a byte must not promote: it
 * would lose that byte), the bits below the MAC, the layout, and the window scale that we promised.
 */
#ifndef XDPH_COOKIE_H
#define XDPH_COOKIE_H

#include <linux/types.h>

#include "byteorder.h"
#include "siphash.h"
#include "tuple.h"

enum cookie_bits {
	COOKIE_WSCALE_MASK = 0xf,
	COOKIE_WSCALE_ABSENT = 15,
	COOKIE_SACK = 1 << 4,
	COOKIE_ECN = 1 << 5,
	COOKIE_MSS_SHIFT = 6,
	COOKIE_MSS_MASK = 7,

	COOKIE_PROFILE_MSS_MASK = 7,
	COOKIE_PROFILE_CLASS_SHIFT = 3,

	COOKIE_OPTION_BITS = 9,	 /* with timestamps */
	COOKIE_PROFILE_BITS = 5, /* without */
};

enum cookie_life {
	COOKIE_EPOCH_MS = 16000, /* by default; a cookie lives one to two epochs */
};

/*
 * So many of the MAC's low bits are not looked at: none. What is right once in 2^26 times cannot be counted
 * in a test's time, so tests/prog/forge.c measures the odds of forging with builds that look at fewer bits.
 */
#ifndef COOKIE_MAC_UNCHECKED
#define COOKIE_MAC_UNCHECKED 0
#endif

/* What the client offered and the stack would have granted: what the server's socket will have. */
struct cookie_options {
	__u16 mss; /* one of the table's; cookie_mss_index() rounds down to it */
	__u8 mss_index;
	__u8 wscale; /* the client's: how far to shift the windows that it announces */
	__u8 has_wscale;
	__u8 has_sack;
	__u8 has_ecn;
	__u8 has_timestamps;
};

/*
 * Eight values an address family, so chosen that no common path loses more than 3 %: 1300 (tunnels), 1360
 * and 1400 (VPNs, mobile networks; 1380, 1390 and 1412 round to them), 1440 (1452 of PPPoE rounds to it),
 * 1460 (Ethernet), 8960 (jumbo frames). The first is the least that the stack lets a request socket have.
 */
#define COOKIE_MSS_IPV4                                                                                    \
	{                                                                                                  \
		536, 1220, 1300, 1360, 1400, 1440, 1460, 8960                                              \
	}
#define COOKIE_MSS_IPV6                                                                                    \
	{                                                                                                  \
		1220, 1280, 1340, 1380, 1420, 1440, 8800, 8940                                             \
	}

static __always_inline __u16 cookie_mss(int ipv4, __u32 index)
{
	const __u16 mss4[8] = COOKIE_MSS_IPV4, mss6[8] = COOKIE_MSS_IPV6;

	/* No table in memory: compares of constants, which neither the verifier nor the cache minds. */
	switch (index & COOKIE_MSS_MASK) {
	case 0: return ipv4 ? mss4[0] : mss6[0];
	case 1: return ipv4 ? mss4[1] : mss6[1];
	case 2: return ipv4 ? mss4[2] : mss6[2];
	case 3: return ipv4 ? mss4[3] : mss6[3];
	case 4: return ipv4 ? mss4[4] : mss6[4];
	case 5: return ipv4 ? mss4[5] : mss6[5];
	case 6: return ipv4 ? mss4[6] : mss6[6];
	default: return ipv4 ? mss4[7] : mss6[7];
	}
}

/* The index of the greatest value of the table that is not above @mss, or -1 if all of them are. */
static __always_inline int cookie_mss_index(int ipv4, __u32 mss)
{
	int index = 7;

	while (index >= 0 && mss < cookie_mss(ipv4, (__u32)index))
		index--;
	return index;
}

/*
 * The classes of a profile: what clients without timestamps ask for beside their MSS. Plain ones
 * (scanners, small devices), Windows, Linux with timestamps switched off (tcp_rmem of 6 MiB: scale 7, of
 * 32 MiB: scale 10).
 */
enum cookie_class {
	COOKIE_CLASS_PLAIN,
	COOKIE_CLASS_SACK_WSCALE_8,
	COOKIE_CLASS_SACK_WSCALE_7,
	COOKIE_CLASS_SACK_WSCALE_10,
};

/* The bits of @options, or -1 if the cookie cannot carry them. @options->mss_index must be set. */
static __always_inline int cookie_encode(const struct cookie_options *options)
{
	int class;

	if (options->has_timestamps)
		return (options->mss_index & COOKIE_MSS_MASK) << COOKIE_MSS_SHIFT |
		       (options->has_ecn ? COOKIE_ECN : 0) | (options->has_sack ? COOKIE_SACK : 0) |
		       (options->has_wscale ? options->wscale & COOKIE_WSCALE_MASK : COOKIE_WSCALE_ABSENT);
	if (options->has_ecn)
		return -1;
	if (!options->has_wscale && !options->has_sack)
		class = COOKIE_CLASS_PLAIN;
	else if (!options->has_wscale || !options->has_sack)
		return -1;
	else if (options->wscale == 8)
		class = COOKIE_CLASS_SACK_WSCALE_8;
	else if (options->wscale == 7)
		class = COOKIE_CLASS_SACK_WSCALE_7;
	else if (options->wscale == 10)
		class = COOKIE_CLASS_SACK_WSCALE_10;
	else
		return -1;
	return class << COOKIE_PROFILE_CLASS_SHIFT | (options->mss_index & COOKIE_PROFILE_MSS_MASK);
}

/* The options that @bits stand for: the inverse of cookie_encode(). */
static __always_inline void cookie_decode(__u32 bits, int ipv4, int timestamps,
					  struct cookie_options *options)
{
	__u32 class = bits >> COOKIE_PROFILE_CLASS_SHIFT & 3;

	options->has_timestamps = !!timestamps;
	if (timestamps) {
		options->mss_index = bits >> COOKIE_MSS_SHIFT & COOKIE_MSS_MASK;
		options->has_ecn = !!(bits & COOKIE_ECN);
		options->has_sack = !!(bits & COOKIE_SACK);
		options->has_wscale = (bits & COOKIE_WSCALE_MASK) != COOKIE_WSCALE_ABSENT;
		options->wscale = options->has_wscale ? bits & COOKIE_WSCALE_MASK : 0;
	} else {
		options->mss_index = bits & COOKIE_PROFILE_MSS_MASK;
		options->has_ecn = 0;
		options->has_sack = class != COOKIE_CLASS_PLAIN;
		options->has_wscale = class != COOKIE_CLASS_PLAIN;
		options->wscale = class == COOKIE_CLASS_PLAIN		? 0
				  : class == COOKIE_CLASS_SACK_WSCALE_8 ? 8
				  : class == COOKIE_CLASS_SACK_WSCALE_7 ? 7
									: 10;
	}
	options->mss = cookie_mss(ipv4, options->mss_index);
}

/* How many of the ISN's low bits are not MAC: the options, and above them one bit of the epoch. */
static __always_inline __u32 cookie_clear_bits(int timestamps)
{
	return timestamps ? COOKIE_OPTION_BITS + 1 : COOKIE_PROFILE_BITS + 1;
}

/* The ISN's low bits: @bits of cookie_encode() and the epoch's parity. */
static __always_inline __u32 cookie_clear(__u32 bits, __u32 epoch, int timestamps)
{
	return bits | (epoch & 1) << (cookie_clear_bits(timestamps) - 1);
}

/* Of a whole ISN, those low bits. */
static __always_inline __u32 cookie_clear_of(__u32 isn, int timestamps)
{
	return isn & ((1u << cookie_clear_bits(timestamps)) - 1);
}

/*
 * The keyed hash of a handshake. Upper half: MAC, lower half: timestamp offset. It is SipHash over the
 * bytes local address (4 or 16), local port, rcv_wscale (1), timestamps (1), remote address (4 or 16),
 * remote port, clear (2), client ISN. What the SYNs to a service have in common comes first: in a flood
 * that part is hashed once for many of them.
 *
 * @rcv_wscale: the window scale in our SYN-ACK, 15 if none.
 */
static __always_inline __u32 cookie_common(__be16 local_port, int timestamps, __u8 rcv_wscale)
{
	return raw16(local_port) | (__u32)rcv_wscale << 16 | (timestamps ? 1u << 24 : 0);
}

/* The first part. @common: of cookie_common(). */
static __always_inline void cookie_hash_begin(struct siphash_state *state, const struct siphash_key *key,
					      const struct address *local, int ipv4, __u32 common)
{
	siphash_start(state, key);
	if (ipv4) {
		siphash_word(state, (__u64)common << 32 | raw32(local->word[3]));
	} else {
		siphash_word(state, (__u64)raw32(local->word[1]) << 32 | raw32(local->word[0]));
		siphash_word(state, (__u64)raw32(local->word[3]) << 32 | raw32(local->word[2]));
	}
}

/* The rest. @clear: the ISN's low bits. @client_isn: sequence number of the SYN, host order. */
static __always_inline __u64 cookie_hash_end(struct siphash_state *state, const struct address *remote,
					     __be16 remote_port, int ipv4, __u32 common, __u32 clear,
					     __u32 client_isn)
{
	const __u64 ports_clear = (__u64)(clear & 0xffff) << 16 | raw16(remote_port);

	if (!ipv4) {
		siphash_word(state, (__u64)raw32(remote->word[0]) << 32 | common);
		siphash_word(state, (__u64)raw32(remote->word[2]) << 32 | raw32(remote->word[1]));
	}
	siphash_word(state, ports_clear << 32 | raw32(remote->word[3]));
	siphash_word(state, siphash_last(client_isn, ipv4 ? 20 : 44));
	return siphash_finish(state);
}

/* Both. */
static __always_inline __u64 cookie_hash(const struct siphash_key *key, const struct tuple *tuple, int ipv4,
					 __u32 client_isn, __u32 clear, int timestamps, __u8 rcv_wscale)
{
	const __u32 common = cookie_common(tuple->local_port, timestamps, rcv_wscale);
	struct siphash_state state;

	cookie_hash_begin(&state, key, &tuple->local, ipv4, common);
	return cookie_hash_end(&state, &tuple->remote, tuple->remote_port, ipv4, common, clear, client_isn);
}

/* The ISN of the SYN-ACK, host order: the hash's uppermost bits above the clear ones. */
static __always_inline __u32 cookie_isn(__u64 hash, __u32 clear, int timestamps)
{
	__u32 mask = ((__u32)1 << cookie_clear_bits(timestamps)) - 1;

	return ((__u32)(hash >> 32) & ~mask) | (clear & mask);
}

/* Whether the MAC of an ISN is that of @hash. */
static __always_inline int cookie_mac_right(__u64 hash, __u32 isn, int timestamps)
{
	return !((isn ^ (__u32)(hash >> 32)) >> (cookie_clear_bits(timestamps) + COOKIE_MAC_UNCHECKED));
}

static __always_inline __u32 cookie_timestamp_offset(__u64 hash)
{
	return (__u32)hash;
}

/* The epoch that an ISN names, given the present one: it or the one before, by the ISN's parity bit. */
static __always_inline __u32 cookie_epoch(__u32 isn, __u32 now_epoch, int timestamps)
{
	__u32 parity = isn >> (cookie_clear_bits(timestamps) - 1) & 1;

	return (now_epoch & 1) == parity ? now_epoch : now_epoch - 1;
}

/* The option bits of an ISN, as cookie_decode() takes them. */
static __always_inline __u32 cookie_option_bits(__u32 isn, int timestamps)
{
	return isn & (((__u32)1 << (cookie_clear_bits(timestamps) - 1)) - 1);
}

/*
 * The key of an epoch: SipHash of the epoch's number under the master key, once for either half. Hosts
 * that share a master key and a clock agree on it without a word.
 */
static __always_inline void cookie_epoch_key(const struct siphash_key *master, __u32 epoch,
					     struct siphash_key *key)
{
	struct siphash_state state;

	siphash_start(&state, master);
	siphash_word(&state, epoch);
	siphash_word(&state, siphash_last(0, 9));
	key->k0 = siphash_finish(&state);
	siphash_start(&state, master);
	siphash_word(&state, epoch);
	siphash_word(&state, siphash_last(1, 9));
	key->k1 = siphash_finish(&state);
}

#endif
