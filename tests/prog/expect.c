// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "expect.h"

#include <stdio.h>
#include <string.h>

#include <bpf/bpf.h>
#include <linux/bpf.h>

enum {
	SLACK_MS = 1000,
};

struct siphash_key key_of_epoch(uint32_t epoch)
{
	struct siphash_key key = {};
	struct master_key best = {}, master;

	for (__u32 slot = 0; slot < KEY_SLOTS; slot++)
		if (!bpf_map_lookup_elem(env.keys, &slot, &master) && master.set &&
		    master.from_epoch <= epoch && (!best.set || master.from_epoch > best.from_epoch))
			best = master;
	REQUIRE(best.set, "no master key applies to epoch %u", epoch);
	cookie_epoch_key(&best.key, epoch, &key);
	return key;
}

static struct address address_of(const struct ip_addr *from)
{
	struct address address;

	if (from->family == AF_INET)
		address_map_ipv4(&address, from->v4.s_addr);
	else
		memcpy(&address, &from->v6, sizeof(address));
	return address;
}

static struct tuple tuple_of(const struct ip_addr *remote, uint16_t remote_port,
			     const struct ip_addr *local, uint16_t local_port)
{
	return (struct tuple){
		.remote = address_of(remote),
		.local = address_of(local),
		.remote_port = be16_from(remote_port),
		.local_port = be16_from(local_port),
	};
}

struct cookie bake(const struct bake *bake)
{
	const struct ip_addr remote = client_ip(bake->place, 1), local = server_ip(bake->place);
	const struct tuple tuple = tuple_of(&remote, bake->sport, &local, bake->dport);
	const struct siphash_key key = key_of_epoch(bake->epoch);
	const int timestamps = bake->options.has_timestamps, bits = cookie_encode(&bake->options);
	const uint8_t wscale = bake->options.has_wscale ? (uint8_t)env.facts[bake->place].native.wscale
							: COOKIE_WSCALE_ABSENT;
	uint32_t clear;
	uint64_t hash;

	REQUIRE(bits >= 0);
	clear = cookie_clear((uint32_t)bits, bake->epoch, timestamps);
	hash = cookie_hash(&key, &tuple, bake->place != IPV6, bake->client_isn, clear, timestamps, wscale);
	return (struct cookie){ cookie_isn(hash, clear, timestamps), cookie_timestamp_offset(hash) };
}

/* The hash behind an ISN, and what the ISN says. */
static uint64_t unbake(const struct tuple *tuple, bool ipv4, uint32_t client_isn, uint32_t isn,
		       bool timestamps, const struct facts *facts, uint64_t now_ms,
		       struct cookie_options *options)
{
	const uint32_t epoch = cookie_epoch(isn, (uint32_t)(now_ms / env.set.epoch_ms), timestamps);
	const uint32_t mask = (1u << cookie_clear_bits(timestamps)) - 1;
	const struct siphash_key key = key_of_epoch(epoch);

	cookie_decode(cookie_option_bits(isn, timestamps), ipv4, timestamps, options);
	return cookie_hash(&key, tuple, ipv4, client_isn, isn & mask, timestamps,
			   options->has_wscale ? (uint8_t)facts->native.wscale : COOKIE_WSCALE_ABSENT);
}

static bool mac_fits(uint64_t hash, uint32_t isn, bool timestamps)
{
	return !((isn ^ (uint32_t)(hash >> 32)) >> cookie_clear_bits(timestamps));
}

bool cookie_right(const struct tcp_frame *ack, const struct facts *facts, uint64_t now_ms)
{
	const struct tuple tuple = tuple_of(&ack->saddr, ack->sport, &ack->daddr, ack->dport);
	struct cookie_options options;
	const uint64_t hash = unbake(&tuple, ack->saddr.family == AF_INET, ack->seq - 1, ack->ack - 1,
				     ack->timestamps, facts, now_ms, &options);

	if (!mac_fits(hash, ack->ack - 1, ack->timestamps))
		return false;
	/* @now_ms is of a moment after the program's. */
	return !ack->timestamps || (uint32_t)now_ms - (ack->tsecr - cookie_timestamp_offset(hash)) <=
					   2 * env.set.epoch_ms + SLACK_MS;
}

/* The last MSS option that is not 0, or what RFC 9293 section 3.7.1 says where there is none. */
static uint32_t client_mss(const struct tcp_frame *syn)
{
	uint32_t mss = syn->saddr.family == AF_INET ? 536 : 1220;
	const uint8_t *o = syn->options.bytes;

	for (int at = 0; at < syn->options.len && o[at];) {
		if (o[at] == 1) {
			at++;
			continue;
		}
		if (at + 1 >= syn->options.len || o[at + 1] < 2 || at + o[at + 1] > syn->options.len)
			break;
		if (o[at] == 2 && o[at + 1] == 4 && (o[at + 2] | o[at + 3]))
			mss = (uint32_t)(o[at + 2] << 8 | o[at + 3]);
		at += o[at + 1];
	}
	return mss;
}

/* What SYN and service have in common. */
static struct cookie_options agreed(const struct tcp_frame *syn, const struct facts *facts, bool plain)
{
	const struct tcp_frame *native = &facts->native;
	struct cookie_options options = {
		.has_wscale = syn->wscale >= 0 && native->wscale >= 0,
		.has_sack = syn->sack_ok && native->sack_ok,
		.has_timestamps = syn->timestamps && native->timestamps,
		.has_ecn = (syn->flags & (ECE | CWR)) == (ECE | CWR) && !(syn->tos & 3) &&
			   (native->flags & ECE) != 0,
	};

	if (options.has_wscale)
		options.wscale = (uint8_t)(syn->wscale > 14 ? 14 : syn->wscale);
	if (plain && cookie_encode(&options) < 0)
		options.has_wscale = options.has_sack = options.has_ecn = options.wscale = 0;
	return options;
}

/* In the order of net/ipv4/tcp_output.c:tcp_options_write(). */
static struct tcp_options synack_options(const struct cookie_options *agreed, const struct facts *facts,
					 uint32_t tsval, uint32_t tsecr)
{
	char text[128];
	int at = snprintf(text, sizeof(text), "mss %d", facts->native.mss);

	if (agreed->has_timestamps)
		at += snprintf(text + at, sizeof(text) - (size_t)at, "%s, ts %u %u",
			       agreed->has_sack ? ", sack" : ", nop, nop", tsval, tsecr);
	else if (agreed->has_sack)
		at += snprintf(text + at, sizeof(text) - (size_t)at, ", nop, nop, sack");
	if (agreed->has_wscale)
		snprintf(text + at, sizeof(text) - (size_t)at, ", nop, ws %d", facts->native.wscale);
	return options_text(text);
}

bool expect_exact_moment;

static bool expect_cookie(const char *name, const struct tcp_frame *syn, const struct tcp_frame *reply,
			  const struct run *run, const struct facts *facts,
			  const struct cookie_options *expected)
{
	const struct tuple tuple = tuple_of(&syn->saddr, syn->sport, &syn->daddr, syn->dport);
	const bool ipv4 = syn->saddr.family == AF_INET, timestamps = expected->has_timestamps;
	const int index = cookie_mss_index(ipv4, client_mss(syn));
	struct cookie_options said;
	uint64_t hash = unbake(&tuple, ipv4, syn->seq, reply->seq, timestamps, facts, run->after_ms, &said);
	bool good = true;
	int room;

	good &= EXPECT(mac_fits(hash, reply->seq, timestamps), "%s: ISN %08x", name, reply->seq);
	good &= EXPECT_EQ(said.mss_index, index, "%s", name);
	good &= EXPECT_EQ(said.has_wscale, expected->has_wscale, "%s", name);
	good &= EXPECT_EQ(said.wscale, expected->wscale, "%s", name);
	good &= EXPECT_EQ(said.has_sack, expected->has_sack, "%s", name);
	good &= EXPECT_EQ(said.has_ecn, expected->has_ecn, "%s", name);
	if (timestamps) {
		const uint32_t sent = reply->tsval - cookie_timestamp_offset(hash);
		const uint64_t lag = expect_exact_moment ? 0 : SYN_LAG_MS;

		good &= EXPECT(sent - (uint32_t)(run->before_ms - lag) <=
				       run->after_ms - run->before_ms + lag,
			       "%s: timestamp clock is off by %d ms", name,
			       (int32_t)(sent - (uint32_t)run->before_ms));
	}
	/*
	 * KERNEL, trap 3: never above what the request socket will have, which is a multiple of its MSS,
	 * out of the room that the stack's window comes from. What it says to each SYN: native.c.
	 */
	room = facts->native.window + facts->native.mss - 1;
	good &= EXPECT(reply->window <= room - room % said.mss &&
			       facts->native.window - reply->window < (int)said.mss + facts->native.mss,
		       "%s: window %u for MSS %u, the stack's is %u", name, reply->window, said.mss,
		       facts->native.window);
	return good;
}

bool expect_synack(const char *name, const void *bytes, size_t length, const struct run *run,
		   const struct facts *facts, bool plain)
{
	struct tcp_frame syn, reply;
	struct cookie_options options;
	struct tcp_spec spec;
	uint8_t expected[FRAME_MAX];
	size_t expected_length, tags;

	if (!EXPECT(run->verdict == XDP_TX, "%s: %s, %s", name, verdict_text(run->verdict),
		    counted_text(run)) ||
	    !EXPECT(frame_parse(bytes, length, &syn), "%s: the SYN", name) ||
	    !EXPECT(frame_parse(run->bytes, run->length, &reply), "%s: the answer is no segment", name))
		return false;
	options = agreed(&syn, facts, plain);
	spec = (struct tcp_spec){
		.vlans = syn.vlans,
		.saddr = syn.daddr,
		.daddr = syn.saddr,
		.ttl = facts->native.ttl,
		.tos = facts->native.tos,
		.no_df = syn.saddr.family == AF_INET && !facts->native.df,
		.sport = syn.dport,
		.dport = syn.sport,
		.seq = reply.seq,
		.ack = syn.seq + 1,
		.flags = SYN | ACK | (options.has_ecn ? ECE : 0),
		.window = reply.window,
		.zero_window = true,
		.options = synack_options(&options, facts, reply.tsval, syn.tsval),
	};
	memcpy(spec.src_mac, syn.dst_mac, 6);
	memcpy(spec.dst_mac, syn.src_mac, 6);
	memcpy(spec.vlan, syn.vlan, sizeof(spec.vlan));
	expected_length = frame_build(&spec, expected, sizeof(expected));
	/* The MACs, which a builder takes to be its default when they are zero, and tags of any kind. */
	memcpy(expected, syn.src_mac, 6);
	memcpy(expected + 6, syn.dst_mac, 6);
	tags = (size_t)syn.vlans * 4;
	memcpy(expected + 12, (const uint8_t *)bytes + 12, tags + 2);

	if (!EXPECT_EQ(run->length, expected_length, "%s", name) ||
	    !EXPECT_MEM(run->bytes, expected, expected_length, "%s", name) ||
	    !EXPECT(reply.ip_checksum_ok && reply.tcp_checksum_ok, "%s: %s", name, frame_text(&reply)))
		return false;
	return expect_cookie(name, &syn, &reply, run, facts, &options);
}

bool expect_unchanged(const char *name, const void *frame, size_t length, const struct run *run)
{
	return EXPECT_EQ(run->length, length, "%s", name) &&
	       EXPECT_MEM(run->bytes, frame, length, "%s", name);
}
