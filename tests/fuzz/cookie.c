// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The cookie: what goes in comes out, and one that has been altered is another one. */
#include "cookie.h"
#include "../unit/siphash_bytes.h"
#include "fuzz.h"

static bool equal(const struct cookie_options *a, const struct cookie_options *b)
{
	return a->mss == b->mss && a->mss_index == b->mss_index && a->wscale == b->wscale &&
	       a->has_wscale == b->has_wscale && a->has_sack == b->has_sack && a->has_ecn == b->has_ecn &&
	       a->has_timestamps == b->has_timestamps;
}

static void try_options(struct input *input, int ipv4, int timestamps, __u32 *clear, __u32 epoch)
{
	const __u16 mss = (__u16)draw_number(input, 2);
	const __u8 flags = (__u8)draw_number(input, 1);
	struct cookie_options options = {
		.has_wscale = flags & 1,
		.has_sack = flags >> 1 & 1,
		.has_ecn = flags >> 2 & 1,
		.has_timestamps = (__u8)timestamps,
	};
	struct cookie_options back;
	int bits;

	options.wscale = options.has_wscale ? (flags >> 3) % 15 : 0;
	options.mss_index = (__u8)cookie_mss_index(ipv4, mss);
	if (options.mss_index > 7) {
		require(mss < cookie_mss(ipv4, 0));
		options.mss_index = 0;
	} else {
		require(cookie_mss(ipv4, options.mss_index) <= mss);
		require(options.mss_index == 7 || cookie_mss(ipv4, options.mss_index + 1u) > mss);
	}
	options.mss = cookie_mss(ipv4, options.mss_index);
	bits = cookie_encode(&options);
	if (bits < 0) {
		require(!timestamps);
		bits = flags & 31;
	}
	require(bits < 1 << (cookie_clear_bits(timestamps) - 1));
	cookie_decode((__u32)bits, ipv4, timestamps, &back);
	require(cookie_encode(&back) == bits);
	options.mss_index = back.mss_index;
	if (cookie_encode(&options) == bits) {
		options.mss = back.mss;
		require(equal(&options, &back));
	}
	*clear = cookie_clear((__u32)bits, epoch, timestamps);
	require(*clear >> cookie_clear_bits(timestamps) == 0);
	require(cookie_option_bits(*clear, timestamps) == (__u32)bits);
}

/* Of all that is hashed, the bytes as cookie_hash() promises them. */
static size_t message_of(__u8 message[44], const struct tuple *tuple, int ipv4, __u32 isn, __u32 clear,
			 int timestamps, __u8 wscale)
{
	const size_t skip = ipv4 ? 12 : 0, size = 16 - skip;
	__u8 *at = message;

	memcpy(at, (const __u8 *)&tuple->local + skip, size);
	at += size;
	memcpy(at, &tuple->local_port, 2);
	at[2] = wscale;
	at[3] = (__u8)timestamps;
	memcpy(at + 4, (const __u8 *)&tuple->remote + skip, size);
	at += 4 + size;
	memcpy(at, &tuple->remote_port, 2);
	memcpy(at + 2, &clear, 2);
	memcpy(at + 4, &isn, 4);
	return 2 * size + 12;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct input input = { bytes, size };
	const __u8 kind = (__u8)draw_number(&input, 1);
	const int ipv4 = kind & 1, timestamps = kind >> 1 & 1;
	const __u32 epoch = (__u32)draw_number(&input, 4), client_isn = (__u32)draw_number(&input, 4);
	const __u8 wscale = (__u8)draw_number(&input, 1) & 15;
	struct siphash_key master, key;
	struct tuple tuple, other;
	__u8 message[44];
	__u32 clear, isn;
	__u64 hash;
	size_t length;

	draw(&input, &master, sizeof(master));
	draw(&input, &tuple, sizeof(tuple));
	if (ipv4) {
		address_map_ipv4(&tuple.remote, tuple.remote.word[3]);
		address_map_ipv4(&tuple.local, tuple.local.word[3]);
		require(address_is_ipv4(&tuple.remote) && address_is_ipv4(&tuple.local));
	}
	cookie_epoch_key(&master, epoch, &key);
	try_options(&input, ipv4, timestamps, &clear, epoch);
	hash = cookie_hash(&key, &tuple, ipv4, client_isn, clear, timestamps, wscale);
	length = message_of(message, &tuple, ipv4, client_isn, clear, timestamps, wscale);
	require(hash == siphash_bytes(&key, message, length));

	isn = cookie_isn(hash, clear, timestamps);
	require((isn & ((1u << cookie_clear_bits(timestamps)) - 1)) == clear);
	require(cookie_epoch(isn, epoch, timestamps) == epoch);
	require(cookie_epoch(isn, epoch + 1, timestamps) == epoch);
	require(cookie_epoch(isn, epoch + 2, timestamps) != epoch);

	/* Another byte of what is hashed is another hash: a collision of 64 bits would be news. */
	message[kind % length] ^= (__u8)(1 << (wscale & 7));
	require(hash != siphash_bytes(&key, message, length));
	other = tuple;
	((__u8 *)&other)[kind % sizeof(other)] ^= (__u8)(1 << (wscale & 7));
	require(address_equal(&tuple.remote, &other.remote) ==
		!memcmp(&tuple.remote, &other.remote, sizeof(tuple.remote)));
	/* Each word goes into the filters' hash by a step that can be undone; both ends are of one family.
	 */
	if (address_is_ipv4(&tuple.remote) == address_is_ipv4(&tuple.local) &&
	    address_is_ipv4(&other.remote) == address_is_ipv4(&other.local))
		require(tuple_hash(&tuple, master.k0) != tuple_hash(&other, master.k0));
	require(address_equal(&tuple.local, &other.local) ==
		(address_hash(&tuple.local, master.k0) == address_hash(&other.local, master.k0)));
	return 0;
}
