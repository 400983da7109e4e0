// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "judge.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <netinet/in.h>

enum {
	MACS = 12,
	TYPE_IPV4 = 0x0800,
	TYPE_IPV6 = 0x86dd,
	TYPE_VLAN = 0x8100,
	TYPE_QINQ = 0x88a8,
	IPV4_HEADER = 20,
	IPV6_HEADER = 40,
	TCP_HEADER = 20,
	TAGS = 2,
	HEADERS_MAX = 16,
	EARLY_SEGMENTS = 9,
	RESERVED = 0xe00, /* in flags: the bits in front of AE */
};

static uint16_t get16(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

static uint32_t get32(const uint8_t *at)
{
	return (uint32_t)get16(at) << 16 | get16(at + 2);
}

static void put16(uint8_t *at, unsigned int value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static void put32(uint8_t *at, uint32_t value)
{
	put16(at, value >> 16);
	put16(at + 2, value);
}

/* ---- checksums ---- */

uint16_t judge_sum(const void *bytes, size_t length, uint32_t begin)
{
	const uint8_t *at = bytes;
	uint64_t total = begin;
	uint32_t four;
	uint8_t last[4] = {};

	for (; length >= 4; at += 4, length -= 4) {
		memcpy(&four, at, 4);
		total += four;
	}
	memcpy(last, at, length);
	memcpy(&four, last, 4);
	total += four;
	while (total >> 16)
		total = (total & 0xffff) + (total >> 16);
	return (uint16_t)total;
}

uint32_t judge_pseudo_sum(const uint8_t *ip, bool ipv4, uint32_t length)
{
	uint8_t rest[8] = { [7] = IPPROTO_TCP };

	put32(rest, length);
	return judge_sum(rest, sizeof(rest), judge_sum(ip + (ipv4 ? 12 : 8), ipv4 ? 8 : 32, 0));
}

void judge_right_sums(const struct reading *reading, uint8_t *frame)
{
	uint8_t *ip = frame + reading->ip_at, *tcp = frame + reading->tcp_at;
	uint16_t sum;

	if (reading->ipv4) {
		put16(ip + 10, 0);
		sum = (uint16_t)~judge_sum(ip, (size_t)(ip[0] & 15) * 4, 0);
		memcpy(ip + 10, &sum, 2);
	}
	if (!reading->whole)
		return;
	put16(tcp + 16, 0);
	sum = (uint16_t)~judge_sum(tcp, reading->tcp_length,
				   judge_pseudo_sum(ip, reading->ipv4, reading->tcp_length));
	memcpy(tcp + 16, &sum, 2);
}

/* ---- reading ---- */

static bool read_ipv4(struct reading *r)
{
	const uint8_t *ip = r->frame + r->ip_at;
	size_t header;

	if (r->ip_at + IPV4_HEADER > r->length || ip[0] >> 4 != 4 || ip[9] != IPPROTO_TCP ||
	    get16(ip + 6) & 0x1fff)
		return false;
	header = (size_t)(ip[0] & 15) * 4;
	if (header < IPV4_HEADER || get16(ip + 2) < header || r->ip_at + header > r->length)
		return false;
	r->ipv4 = true;
	r->plain = header == IPV4_HEADER;
	r->fragment = ip[6] & 0x20;
	r->ip_sum_right = judge_sum(ip, header, 0) == 0xffff;
	r->tcp_at = r->ip_at + header;
	r->tcp_length = (uint32_t)(get16(ip + 2) - header);
	address_map_ipv4(&r->tuple.remote, be32_from(get32(ip + 12)));
	address_map_ipv4(&r->tuple.local, be32_from(get32(ip + 16)));
	return true;
}

/* RFC 8200 section 4: the headers that may stand in front of TCP, and let a host read on. */
static bool read_extension_headers(struct reading *r, uint8_t next)
{
	for (; next != IPPROTO_TCP && r->headers < HEADERS_MAX; r->headers++) {
		const uint8_t *header = r->frame + r->tcp_at;

		if (r->tcp_at + 8 > r->length)
			return false;
		switch (next) {
		case IPPROTO_FRAGMENT:
			if (get16(header + 2) & 0xfff8)
				return false;
			r->fragment |= header[3] & 1;
			r->tcp_at += 8;
			break;
		case IPPROTO_ROUTING:
			if (header[3])
				return false; /* on its way to another address */
					      /* fall through */
		case IPPROTO_HOPOPTS:
		case IPPROTO_DSTOPTS: r->tcp_at += (size_t)(header[1] + 1) * 8; break;
		default: return false;
		}
		next = header[0];
	}
	return next == IPPROTO_TCP;
}

static bool read_ipv6(struct reading *r)
{
	const uint8_t *ip = r->frame + r->ip_at;
	size_t headers;

	if (r->ip_at + IPV6_HEADER > r->length || ip[0] >> 4 != 6)
		return false;
	r->tcp_at = r->ip_at + IPV6_HEADER;
	if (!read_extension_headers(r, ip[6]))
		return false;
	headers = r->tcp_at - r->ip_at - IPV6_HEADER;
	if (get16(ip + 4) < headers)
		return false;
	r->plain = !headers;
	r->ip_sum_right = true;
	r->tcp_length = (uint32_t)(get16(ip + 4) - headers);
	memcpy(&r->tuple.remote, ip + 8, 16);
	memcpy(&r->tuple.local, ip + 24, 16);
	/* RFC 4291 section 2.5.5.2: such addresses do not travel. */
	return !address_is_ipv4(&r->tuple.remote) && !address_is_ipv4(&r->tuple.local);
}

/* RFC 7413 section 4.1.1, and how the stack reads odd ones. */
static void read_fast_open(struct reading *r, size_t size)
{
	if (size % 2 == 0)
		r->fast_open = !size || (size >= 4 && size <= 16);
}

static void read_option(struct reading *r, const uint8_t *option, size_t size)
{
	switch (option[0]) {
	case 2:
		if (size == 4 && get16(option + 2))
			r->mss = get16(option + 2);
		break;
	case 3:
		if (size == 3)
			r->wscale = option[2] > 14 ? 14 : option[2];
		break;
	case 4: r->sack |= size == 2; break;
	case 8:
		if (size != 10)
			break;
		r->timestamps++;
		r->tsval = get32(option + 2);
		r->tsecr = get32(option + 6);
		break;
	case 19:
	case 29: r->signature = true; break;
	case 34: read_fast_open(r, size - 2); break;
	case 254:
		if (size >= 4 && get16(option + 2) == 0xf989)
			read_fast_open(r, size - 4);
	}
}

static void read_options(struct reading *r, const uint8_t *at, size_t left)
{
	size_t size;

	for (; left && *at; at += size, left -= size) {
		size = 1;
		if (*at == 1)
			continue;
		if (left < 2)
			return;
		size = at[1];
		r->malformed = size < 2 || size > left;
		if (r->malformed)
			return;
		read_option(r, at, size);
	}
}

void judge_read(struct reading *r, const uint8_t *frame, size_t length, size_t linear)
{
	const uint8_t *tcp;
	uint16_t type, sum;
	uint32_t header;

	memset(r, 0, sizeof(*r));
	r->frame = frame;
	r->length = length;
	r->mss = r->wscale = -1;
	if (length < MACS + 2)
		return;
	type = get16(frame + MACS);
	r->ip_at = MACS + 2;
	for (; (type == TYPE_VLAN || type == TYPE_QINQ) && r->tags < TAGS; r->ip_at += 4) {
		if (r->ip_at + 4 > length)
			return;
		r->tci[r->tags++] = get16(frame + r->ip_at);
		type = get16(frame + r->ip_at + 2);
	}
	if (type == TYPE_IPV4 ? !read_ipv4(r) : type != TYPE_IPV6 || !read_ipv6(r))
		return;
	r->tcp = r->tcp_at + TCP_HEADER <= linear;
	if (!r->tcp)
		return;
	tcp = frame + r->tcp_at;
	r->tuple.remote_port = be16_from(get16(tcp));
	r->tuple.local_port = be16_from(get16(tcp + 2));
	r->seq = get32(tcp + 4);
	r->ack = get32(tcp + 8);
	r->flags = get16(tcp + 12) & 0xfff;
	r->whole = r->tcp_at + r->tcp_length <= length;
	if (r->whole) {
		const uint32_t pseudo = judge_pseudo_sum(frame + r->ip_at, r->ipv4, r->tcp_length);

		r->tcp_sum_right = judge_sum(tcp, r->tcp_length, pseudo) == 0xffff;
		memcpy(&sum, tcp + 16, 2);
		r->tcp_sum_partial = sum == pseudo;
	}
	header = (uint32_t)(tcp[12] >> 4) * 4;
	r->fits = header >= TCP_HEADER && header <= r->tcp_length && r->tcp_at + header <= linear;
	if (!r->fits)
		return;
	r->payload = r->tcp_length - header;
	read_options(r, tcp + TCP_HEADER, header - TCP_HEADER);
}

/* ---- SYNs ---- */

/*
 * An address of the host's own, or one in a million that is taken for one: then the stack decides. By the
 * filter as the loader has written it; that its addresses are in there is shown by table and paths.
 */
static bool source_own(const struct address *remote)
{
	static const struct own_word *own;
	const __u64 hash = address_hash(remote, env.set.hash_seed), bits = known_bits(hash);

	if (!own)
		own = mmap(NULL, OWN_WORDS * sizeof(*own), PROT_READ, MAP_SHARED, env.own_addresses, 0);
	REQUIRE(own != MAP_FAILED, "own_addresses: %s", strerror(errno));
	return (own[hash & env.set.own_mask].bits & bits) == bits;
}

/* RFC 1122 section 3.2.1.3, RFC 6890, RFC 4291: what no answer could be sent to. */
static bool source_answerable(const struct reading *r)
{
	const struct address *remote = &r->tuple.remote;
	const uint32_t first = host32(remote->word[0]), last = host32(remote->word[3]);

	if (address_equal(remote, &r->tuple.local) || source_own(remote))
		return false;
	if (r->ipv4)
		return last >> 24 && last >> 24 != 127 && last >> 24 < 224;
	return first >> 24 != 0xff &&
	       (first || host32(remote->word[1]) || host32(remote->word[2]) || last > 1);
}

static int mss_of(const struct reading *r)
{
	return r->mss >= 0 ? r->mss : r->ipv4 ? 536 : 1220;
}

bool judge_answerable(const struct reading *r)
{
	return r->tcp && r->whole && r->plain && !r->fragment && r->fits && !r->payload &&
	       r->ip_sum_right && (r->tcp_sum_right || r->tcp_sum_partial) &&
	       (r->flags & (SYN | ACK | RST | FIN | AE | RESERVED)) == SYN &&
	       !(r->flags & ECE) == !(r->flags & CWR) && !r->malformed && !r->signature &&
	       source_answerable(r) && mss_of(r) >= (r->ipv4 ? 536 : 1220);
}

/* RFC 3168 section 6.1.1: ECE and CWR, and not ECT itself. */
static bool asks_for_ecn(const struct reading *syn)
{
	const uint8_t *ip = syn->frame + syn->ip_at;
	const uint8_t tos = syn->ipv4 ? ip[1] : (uint8_t)(get16(ip) >> 4);

	return (syn->flags & (ECE | CWR)) == (ECE | CWR) && !(tos & 3);
}

bool judge_asks(const struct reading *r)
{
	return r->wscale >= 0 || r->sack || r->timestamps || asks_for_ecn(r);
}

/* What a SYN asks for and the service grants. */
static struct cookie_options agreed(const struct reading *syn, const struct facts *facts)
{
	const struct tcp_frame *native = &facts->native;
	struct cookie_options options = {
		.has_wscale = syn->wscale >= 0 && native->wscale >= 0,
		.has_sack = syn->sack && native->sack_ok,
		.has_timestamps = syn->timestamps && native->timestamps,
		.has_ecn = asks_for_ecn(syn) && (native->flags & ECE) != 0,
		.mss_index = (uint8_t)cookie_mss_index(syn->ipv4, (uint32_t)mss_of(syn)),
	};

	if (options.has_wscale)
		options.wscale = (uint8_t)syn->wscale;
	return options;
}

bool judge_carried(const struct reading *reading, const struct facts *facts)
{
	const struct cookie_options options = agreed(reading, facts);

	return cookie_encode(&options) >= 0;
}

/* ---- cookies ---- */

enum {
	EPOCHS = 16,
	TICK_LAG_MS = 30, /* bpf/clock.h: CLOCK_LAG_MS */
};

static struct {
	struct siphash_key key;
	uint32_t epoch;
	bool set;
} keys[EPOCHS];

void judge_forget_keys(void)
{
	memset(keys, 0, sizeof(keys));
}

static const struct siphash_key *key_of(uint32_t epoch)
{
	const uint32_t at = epoch % EPOCHS;

	if (!keys[at].set || keys[at].epoch != epoch) {
		keys[at].key = key_of_epoch(epoch);
		keys[at].epoch = epoch;
		keys[at].set = true;
	}
	return &keys[at].key;
}

static uint8_t promised_scale(const struct facts *facts)
{
	return facts->native.wscale < 0 ? 0 : (uint8_t)facts->native.wscale;
}

static uint64_t hash_of(const struct tuple *tuple, bool ipv4, uint32_t client_isn, uint32_t clear,
			bool timestamps, const struct facts *facts, uint32_t epoch,
			struct cookie_options *options)
{
	cookie_decode(cookie_option_bits(clear, timestamps), ipv4, timestamps, options);
	return cookie_hash(key_of(epoch), tuple, ipv4, client_isn, clear, timestamps,
			   options->has_wscale ? promised_scale(facts) : COOKIE_WSCALE_ABSENT);
}

static bool cookie_good(const struct reading *r, uint32_t client_isn, const struct facts *facts,
			uint64_t now_ms, struct handshake_metadata *metadata)
{
	const uint32_t isn = r->ack - 1;
	const bool timestamps = r->timestamps;
	const uint32_t epoch = cookie_epoch(isn, (uint32_t)(now_ms / env.set.epoch_ms), timestamps);
	const uint32_t mask = (1u << cookie_clear_bits(timestamps)) - 1;
	struct cookie_options options;
	const uint64_t hash = hash_of(&r->tuple, r->ipv4, client_isn, isn & mask, timestamps, facts, epoch,
				      &options);
	const uint32_t sent_ms = r->tsecr - cookie_timestamp_offset(hash);

	if ((isn ^ (uint32_t)(hash >> 32)) & ~mask ||
	    (timestamps && (uint32_t)now_ms + TICK_LAG_MS - sent_ms > 2 * env.set.epoch_ms + TICK_LAG_MS))
		return false;
	*metadata = (struct handshake_metadata){
		.magic = ABI_METADATA_MAGIC,
		.layout = ABI_LAYOUT,
		.client_isn = client_isn,
		.server_isn = isn,
		.timestamp_offset = timestamps ? cookie_timestamp_offset(hash) : 0,
		.tsval = r->tsval,
		.sent_ms = timestamps ? sent_ms : 0,
		.mss = options.mss,
		.options = (uint8_t)((options.has_wscale ? OPTION_WSCALE : 0) |
				     (options.has_sack ? OPTION_SACK : 0) |
				     (timestamps ? OPTION_TIMESTAMPS : 0) |
				     (options.has_ecn ? OPTION_ECN : 0)),
		.snd_wscale = options.wscale & 15,
		.rcv_wscale = options.has_wscale ? promised_scale(facts) & 15 : 0,
	};
	return true;
}

enum certainty judge_cookie(const struct reading *reading, uint32_t client_isn, const struct facts *facts,
			    uint64_t before_ms, uint64_t after_ms, struct handshake_metadata *metadata)
{
	/* It may be judged by the moment of the last tick. */
	const bool then = cookie_good(reading, client_isn, facts, before_ms - TICK_LAG_MS, metadata);

	if (cookie_good(reading, client_isn, facts, after_ms, metadata))
		return then ? CERTAINLY : PERHAPS;
	return then ? PERHAPS : CERTAINLY_NOT;
}

bool judge_early(const struct reading *reading, const struct facts *facts, uint64_t before_ms,
		 uint64_t after_ms)
{
	const uint32_t overhead = reading->timestamps ? 12 : 0, isn = reading->ack - 1;
	struct handshake_metadata metadata;
	struct cookie_options options;
	uint32_t sizes[3];

	cookie_decode(cookie_option_bits(isn, reading->timestamps), reading->ipv4, reading->timestamps,
		      &options);
	sizes[0] = reading->payload;
	sizes[1] = (uint32_t)facts->native.mss - overhead;
	sizes[2] = options.mss - overhead;
	for (int s = 0; s < 3; s++)
		for (uint32_t back = 1; back <= EARLY_SEGMENTS; back++)
			if (judge_cookie(reading, reading->seq - 1 - back * sizes[s], facts, before_ms,
					 after_ms, &metadata) != CERTAINLY_NOT)
				return true;
	return false;
}

void judge_bake(const struct judge_bake *bake, const struct facts *facts, uint64_t now_ms,
		uint32_t *acknowledgement, uint32_t *echo)
{
	const uint32_t epoch = (uint32_t)(now_ms / env.set.epoch_ms) - bake->epochs_ago;
	const uint32_t clear = cookie_clear(bake->bits, epoch, bake->timestamps);
	struct cookie_options options;
	const uint64_t hash = hash_of(&bake->tuple, bake->ipv4, bake->client_isn, clear, bake->timestamps,
				      facts, epoch, &options);

	*acknowledgement = cookie_isn(hash, clear, bake->timestamps) + 1;
	*echo = (uint32_t)now_ms - bake->age_ms + cookie_timestamp_offset(hash);
}

/* ---- answers ---- */

__attribute__((format(printf, 1, 2))) static const char *wrong(const char *format, ...)
{
	static char text[256];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	return text;
}

/* In the order of net/ipv4/tcp_output.c:tcp_options_write(). Yields the length. */
static size_t expected_options(uint8_t *at, const struct cookie_options *options, const struct facts *facts,
			       uint32_t tsval, uint32_t tsecr)
{
	uint8_t *begin = at;

	at[0] = 2;
	at[1] = 4;
	put16(at + 2, (unsigned int)facts->native.mss);
	at += 4;
	if (options->has_timestamps || options->has_sack) {
		put16(at, options->has_sack && options->has_timestamps ? 0x0402 : 0x0101);
		put16(at + 2, options->has_timestamps ? 0x080a : 0x0402);
		at += 4;
	}
	if (options->has_timestamps) {
		put32(at, tsval);
		put32(at + 4, tsecr);
		at += 8;
	}
	if (options->has_wscale) {
		put32(at, 0x01030300u | (uint32_t)facts->native.wscale);
		at += 4;
	}
	return (size_t)(at - begin);
}

/* Everything but sequence number, timestamp, window and checksums, which are @answer's own. */
static size_t expected_answer(uint8_t *frame, const struct reading *syn, const struct facts *facts,
			      const struct cookie_options *options, const struct reading *answer)
{
	const struct tcp_frame *native = &facts->native;
	const uint8_t *in = syn->frame;
	uint8_t *ip = frame + syn->ip_at, *tcp = ip + (syn->ipv4 ? IPV4_HEADER : IPV6_HEADER);
	size_t length;

	memcpy(frame, in, syn->ip_at);
	memcpy(frame, in + 6, 6);
	memcpy(frame + 6, in, 6);
	memset(ip, 0, (size_t)(tcp - ip) + TCP_HEADER);
	in += syn->tcp_at;
	memcpy(tcp, in + 2, 2);
	memcpy(tcp + 2, in, 2);
	put32(tcp + 4, answer->seq);
	put32(tcp + 8, syn->seq + 1);
	length = TCP_HEADER + expected_options(tcp + TCP_HEADER, options, facts, answer->tsval, syn->tsval);
	put16(tcp + 12, (unsigned int)(length / 4 << 12) | SYN | ACK | (options->has_ecn ? ECE : 0u));
	memcpy(tcp + 14, answer->frame + answer->tcp_at + 14, 4);
	in = syn->frame + syn->ip_at;
	if (syn->ipv4) {
		ip[0] = 0x45;
		ip[1] = native->tos;
		put16(ip + 2, (unsigned int)(IPV4_HEADER + length));
		put16(ip + 6, native->df ? 0x4000 : 0);
		ip[8] = native->ttl;
		ip[9] = IPPROTO_TCP;
		memcpy(ip + 10, answer->frame + answer->ip_at + 10, 2);
		memcpy(ip + 12, in + 16, 4);
		memcpy(ip + 16, in + 12, 4);
	} else {
		put16(ip, 0x6000u | (unsigned int)native->tos << 4);
		put16(ip + 4, (unsigned int)length);
		ip[6] = IPPROTO_TCP;
		ip[7] = native->ttl;
		memcpy(ip + 8, in + 24, 16);
		memcpy(ip + 24, in + 8, 16);
	}
	return (size_t)(tcp - frame) + length;
}

static const char *judge_answer_cookie(const struct reading *syn, const struct reading *answer,
				       const struct facts *facts, const struct run *run,
				       const struct cookie_options *expected)
{
	const bool timestamps = expected->has_timestamps;
	const uint32_t mask = (1u << cookie_clear_bits(timestamps)) - 1;
	const uint16_t window = get16(answer->frame + answer->tcp_at + 14);
	const int room = facts->native.window + facts->native.mss - 1;
	struct cookie_options said;
	bool made = false;

	for (int i = 0; i < 2 && !made; i++) {
		const uint32_t epoch = (uint32_t)((i ? run->before_ms - SYN_LAG_MS : run->after_ms) /
						  env.set.epoch_ms);
		const uint64_t hash = hash_of(&syn->tuple, syn->ipv4, syn->seq, answer->seq & mask,
					      timestamps, facts, epoch, &said);
		const uint32_t sent = answer->tsval - cookie_timestamp_offset(hash);

		made = !((answer->seq ^ (uint32_t)(hash >> 32)) & ~mask) &&
		       (!timestamps || sent - (uint32_t)(run->before_ms - SYN_LAG_MS) <=
					       (uint32_t)(run->after_ms - run->before_ms + SYN_LAG_MS));
	}
	if (!made)
		return wrong("the ISN %08x is no cookie of this moment", answer->seq);
	if (said.mss_index != expected->mss_index || said.has_wscale != expected->has_wscale ||
	    said.wscale != expected->wscale || said.has_sack != expected->has_sack ||
	    said.has_ecn != expected->has_ecn)
		return wrong("the cookie %08x says something else than was agreed", answer->seq);
	/* As in expect.c: never above what the request socket will have. */
	if (window > room - room % said.mss ||
	    facts->native.window - window >= said.mss + facts->native.mss)
		return wrong("window %u for MSS %u, the stack's is %u", window, said.mss,
			     facts->native.window);
	return NULL;
}

const char *judge_answer(const struct reading *syn, const struct facts *facts, const struct run *run,
			 bool plain)
{
	struct cookie_options options = agreed(syn, facts);
	uint8_t expected[FRAME_MAX];
	struct reading answer;
	size_t length, at = 0;

	if (!judge_answerable(syn))
		return "a SYN is answered that has something wrong, or that is the stack's";
	if (cookie_encode(&options) < 0) {
		if (!plain)
			return "answered, although the cookie cannot carry its options";
		options.has_wscale = options.has_sack = options.has_ecn = options.wscale = 0;
	}
	judge_read(&answer, run->bytes, run->length, run->length);
	if (!answer.tcp || !answer.whole || !answer.fits)
		return "the answer is no segment";
	if (!answer.ip_sum_right || !answer.tcp_sum_right)
		return "the answer has a wrong checksum";
	length = expected_answer(expected, syn, facts, &options, &answer);
	while (at < length && at < run->length && expected[at] == run->bytes[at])
		at++;
	if (at < length || length != run->length)
		return wrong("the answer of %zu bytes differs from the stack's of %zu from byte %zu on: %s",
			     run->length, length, at, at < run->length ? "another value" : "its end");
	return judge_answer_cookie(syn, &answer, facts, run, &options);
}
