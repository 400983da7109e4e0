// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "mutator.h"

#include <string.h>

#include "judge.h"

enum {
	TYPE_IPV4 = 0x0800,
	TYPE_IPV6 = 0x86dd,
	TYPE_VLAN = 0x8100,
	TYPE_QINQ = 0x88a8,
	IPV4_HEADER = 20,
	IPV6_HEADER = 40,
	TCP_HEADER = 20,
	ITEMS = 40,
	LEAST = 14, /* bytes of a frame */
};

#define COUNT_OF(array)	     (sizeof(array) / sizeof(*(array)))
#define ONE_OF(state, array) ((array)[random_below(state, COUNT_OF(array))])

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

static uint32_t get32(const uint8_t *at)
{
	return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* ---- whole frames ---- */

struct parts parts_of(const struct tcp_spec *spec)
{
	static const uint8_t client[6] = { 0x02, 0x77, 0, 0, 0, 0x02 },
			     server[6] = { 0x02, 0x77, 0, 0, 0, 1 };
	static const uint8_t none[6];
	const bool ipv6 = spec->saddr.family == AF_INET6;
	struct parts parts = { .ipv6 = ipv6, .payload = spec->payload_len, .tags = spec->vlans };
	uint8_t *ip = parts.ip, *tcp = parts.tcp;

	memcpy(parts.macs, memcmp(spec->dst_mac, none, 6) ? spec->dst_mac : server, 6);
	memcpy(parts.macs + 6, memcmp(spec->src_mac, none, 6) ? spec->src_mac : client, 6);
	for (int i = 0; i < spec->vlans; i++) {
		parts.tag[i][0] = i == 0 && spec->vlans > 1 ? TYPE_QINQ : TYPE_VLAN;
		parts.tag[i][1] = spec->vlan[i];
	}
	if (ipv6) {
		put32(ip, 0x60000000u | (uint32_t)spec->tos << 20 | spec->flow_label);
		ip[7] = spec->ttl ? spec->ttl : 64;
		memcpy(ip + 8, &spec->saddr.v6, 16);
		memcpy(ip + 24, &spec->daddr.v6, 16);
	} else {
		ip[0] = 0x40;
		ip[1] = spec->tos;
		put16(ip + 4, spec->id);
		put16(ip + 6,
		      (spec->no_df ? 0 : 0x4000u) | (spec->more_fragments ? 0x2000u : 0) | spec->fragment);
		ip[8] = spec->ttl ? spec->ttl : 64;
		ip[9] = IPPROTO_TCP;
		memcpy(ip + 12, &spec->saddr.v4, 4);
		memcpy(ip + 16, &spec->daddr.v4, 4);
	}
	put16(tcp, spec->sport);
	put16(tcp + 2, spec->dport);
	put32(tcp + 4, spec->seq);
	put32(tcp + 8, spec->ack);
	put16(tcp + 12, spec->flags);
	put16(tcp + 14, spec->window || spec->zero_window ? spec->window : 64240);
	put16(tcp + 18, spec->urgent);
	parts.options_length = spec->options.len;
	memcpy(parts.options, spec->options.bytes, spec->options.len);
	return parts;
}

static void write_sums(const struct parts *parts, uint8_t *ip, uint8_t *tcp, size_t tcp_length)
{
	const uint32_t pseudo = judge_pseudo_sum(ip, !parts->ipv6, (uint32_t)tcp_length);
	uint16_t sum = (uint16_t)pseudo;

	if (parts->sums != SUMS_PARTIAL)
		sum = (uint16_t)~judge_sum(tcp, tcp_length, pseudo);
	if (parts->sums == SUMS_WRONG_TCP)
		sum ^= 0x0400;
	if (parts->sums != SUMS_ZERO)
		memcpy(tcp + 16, &sum, 2);
	if (parts->ipv6)
		return;
	sum = (uint16_t)~judge_sum(ip, (size_t)(tcp - ip), 0);
	if (parts->sums == SUMS_WRONG_IP)
		sum ^= 0x0100;
	memcpy(ip + 10, &sum, 2);
}

size_t parts_write(const struct parts *parts, uint8_t frame[MUTANT_MAX])
{
	const size_t options = (parts->options_length + 3u) / 4 * 4,
		     tcp_length = TCP_HEADER + options + parts->payload;
	const size_t header = parts->ipv6 ? IPV6_HEADER : IPV4_HEADER;
	uint8_t *at = frame + 12, *ip, *tcp;

	memcpy(frame, parts->macs, 12);
	for (int i = 0; i < parts->tags; i++, at += 4) {
		put16(at, parts->tag[i][0]);
		put16(at + 2, parts->tag[i][1]);
	}
	put16(at, parts->ipv6 ? TYPE_IPV6 : TYPE_IPV4);
	ip = at + 2;
	memcpy(ip, parts->ip, header);
	memcpy(ip + header, parts->between, parts->between_length);
	tcp = ip + header + parts->between_length;
	if (parts->ipv6) {
		uint8_t *next = ip + 6;

		for (int i = 0; i < parts->headers; i++) {
			*next = parts->header_kind[i];
			next = ip + header + parts->header_at[i];
		}
		*next = IPPROTO_TCP;
		put16(ip + 4,
		      (unsigned int)((int)(tcp_length + parts->between_length) + parts->total_skew));
	} else {
		const int words = (int)(header + parts->between_length) / 4 + parts->ihl_skew;

		ip[0] = (uint8_t)((ip[0] & 0xf0) | (words & 15));
		put16(ip + 2, (unsigned int)((int)(tcp_length + (size_t)(tcp - ip)) + parts->total_skew));
	}
	memcpy(tcp, parts->tcp, TCP_HEADER);
	tcp[12] = (uint8_t)((tcp[12] & 15) | ((int)(TCP_HEADER + options) / 4 + parts->offset_skew) << 4);
	memset(tcp + TCP_HEADER, 0, options);
	memcpy(tcp + TCP_HEADER, parts->options, parts->options_length);
	memset(tcp + TCP_HEADER + options, 0x5a, parts->payload);
	write_sums(parts, ip, tcp, tcp_length);
	at = tcp + tcp_length;
	memset(at, 0xa5, parts->trailer);
	return (size_t)(at - frame) + parts->trailer;
}

/* ---- options ---- */

struct item {
	uint8_t length;
	uint8_t bytes[PARTS_OPTIONS];
};

/* Takes a list apart as far as it can be read; what is behind that is one item. */
static int items_of(const struct parts *parts, struct item *items)
{
	int count = 0;

	for (size_t at = 0; at < parts->options_length && count < ITEMS; count++) {
		const uint8_t *option = parts->options + at;
		size_t left = parts->options_length - at, size = 1;

		if (*option > 1)
			size = left > 1 && option[1] >= 2 && option[1] <= left ? option[1] : left;
		items[count].length = (uint8_t)size;
		memcpy(items[count].bytes, option, size);
		at += size;
	}
	return count;
}

static void items_put(struct parts *parts, const struct item *items, int count)
{
	size_t at = 0;

	for (int i = 0; i < count && at + items[i].length <= PARTS_OPTIONS; i++) {
		memcpy(parts->options + at, items[i].bytes, items[i].length);
		at += items[i].length;
	}
	parts->options_length = (uint8_t)at;
}

static struct item any_item(uint64_t *state)
{
	static const struct item items[] = {
		{ 1, { 0 } },
		{ 1, { 1 } },
		{ 4, { 2, 4, 5, 180 } },
		{ 4, { 2, 4, 2, 23 } },
		{ 4, { 2, 4, 0, 0 } },
		{ 3, { 3, 3, 7 } },
		{ 3, { 3, 3, 14 } },
		{ 2, { 4, 2 } },
		{ 10, { 5, 10, 0, 0, 0, 1, 0, 0, 0, 2 } },
		{ 10, { 8, 10, 0, 0, 0, 9, 0, 0, 0, 0 } },
		{ 18, { 19, 18, 1, 2, 3 } },
		{ 16, { 29, 16, 1, 1 } },
		{ 4, { 28, 4, 0, 0 } },
		{ 4, { 30, 4, 1, 1 } },
		{ 12, { 30, 12, 0, 0x81 } },
		{ 2, { 34, 2 } },
		{ 10, { 34, 10, 1, 2, 3, 4, 5, 6, 7, 8 } },
		{ 4, { 34, 4, 1, 2 } },
		{ 2, { 172, 2 } },
		{ 4, { 254, 4, 0xf9, 0x89 } },
		{ 6, { 253, 6, 0, 0, 0, 0 } },
	};
	struct item item = ONE_OF(state, items);

	if (!random_below(state, 3) && item.length > 2)
		item.bytes[2 + random_below(state, item.length - 2u)] = (uint8_t)random_next(state);
	if (!random_below(state, 8)) {
		item.length = (uint8_t)(2 + random_below(state, 12));
		random_fill(state, item.bytes, item.length);
		item.bytes[1] = item.length;
	}
	return item;
}

static void shuffle(struct item *items, int count, uint64_t *state)
{
	for (int i = count - 1; i > 0; i--) {
		const uint32_t j = random_below(state, (uint32_t)i + 1);
		const struct item other = items[j];

		items[j] = items[i];
		items[i] = other;
	}
}

static void mutate_options(struct parts *parts, uint64_t *state)
{
	static const uint8_t lengths[] = { 0, 1, 2, 3, 4, 5, 9, 10, 11, 40, 41, 255 };
	struct item items[ITEMS + 1];
	int count = items_of(parts, items);
	const uint32_t i = random_below(state, (uint32_t)count + 1);

	switch (random_below(state, 9)) {
	case 0: shuffle(items, count, state); break;
	case 1: /* one less */
		if (i == (uint32_t)count)
			return;
		items[i] = items[--count];
		break;
	case 2: /* one twice */
		if (i == (uint32_t)count || count == ITEMS)
			return;
		items[count++] = items[i];
		break;
	case 3:
	case 4: /* one more */
		items[count] = items[i];
		items[i] = any_item(state);
		count++;
		break;
	case 5: /* another value */
		if (i == (uint32_t)count || items[i].length < 3)
			return;
		items[i].bytes[2 + random_below(state, items[i].length - 2u)] = (uint8_t)random_next(state);
		break;
	case 6: /* another length */
		if (i == (uint32_t)count)
			return;
		items[i].bytes[1] = ONE_OF(state, lengths);
		if (items[i].length < 2)
			items[i].length = 2;
		break;
	case 7: /* cut */
		parts->options_length = (uint8_t)random_below(state, parts->options_length + 1u);
		return;
	default: /* anything */
		parts->options_length = (uint8_t)random_below(state, PARTS_OPTIONS + 1);
		random_fill(state, parts->options, parts->options_length);
		return;
	}
	items_put(parts, items, count);
}

/* ---- IP ---- */

static void add_ipv4_options(struct parts *parts, uint64_t *state)
{
	static const uint8_t options[][8] = {
		{ 1, 1, 1, 1, 1, 1, 1, 0 },	/* NOPs */
		{ 7, 7, 4, 0, 0, 0, 0, 0 },	/* record route */
		{ 148, 4, 0, 0, 1, 1, 1, 0 },	/* router alert */
		{ 131, 7, 4, 10, 77, 0, 1, 0 }, /* loose source route */
		{ 68, 8, 5, 0, 0, 0, 0, 0 },	/* timestamps */
		{ 130, 255, 0, 0, 0, 0, 0, 0 }, /* an impossible length */
	};
	const uint32_t words = 1 + random_below(state, 10);

	parts->between_length = (uint8_t)(words * 4);
	memset(parts->between, random_below(state, 2) ? 1 : 0, parts->between_length);
	memcpy(parts->between, ONE_OF(state, options), parts->between_length < 8 ? 4 : 8);
}

static void add_header(struct parts *parts, uint64_t *state)
{
	static const uint8_t kinds[] = { IPPROTO_HOPOPTS, IPPROTO_DSTOPTS,
					 IPPROTO_ROUTING, IPPROTO_FRAGMENT,
					 IPPROTO_DSTOPTS, IPPROTO_AH,
					 IPPROTO_NONE,	  135 /* mobility */ };
	const uint8_t kind = ONE_OF(state, kinds);
	const size_t size = kind == IPPROTO_FRAGMENT ? 8 : 8 * (1 + random_below(state, 2));
	uint8_t *header = parts->between + parts->between_length;

	if (parts->headers == PARTS_HEADERS || parts->between_length + size > PARTS_BETWEEN)
		return;
	memset(header, 0, size);
	if (kind == IPPROTO_FRAGMENT) {
		/* Whole, the first, the last. */
		static const uint16_t offsets[] = { 0, 0, 1, 1, 8, 0xfff8, 6 };

		put16(header + 2, ONE_OF(state, offsets));
		put32(header + 4, (uint32_t)random_next(state));
	} else {
		header[1] = (uint8_t)(size / 8 - 1);
		/* PadN, or a routing header that is through, or on its way. */
		header[2] = kind == IPPROTO_ROUTING ? 4 : 1;
		header[3] = kind == IPPROTO_ROUTING ? !random_below(state, 4) : (uint8_t)(size - 4);
		if (!random_below(state, 6))
			header[1] = (uint8_t)random_next(state);
	}
	parts->header_kind[parts->headers] = kind;
	parts->header_at[parts->headers++] = parts->between_length;
	parts->between_length = (uint8_t)(parts->between_length + size);
}

static void mutate_address(struct parts *parts, uint64_t *state)
{
	static const uint32_t odd[] = { 0,	    0x00010203, 0x7f000001, 0x7fffffff,
					0xe0000001, 0xefffffff, 0xf0000001, 0xffffffff,
					0x0a4d0001, 0x0a4dffff, 0x0a4d00ff, 0xa9fe0101 };
	static const uint8_t odd6[][16] = {
		{},
		{ [15] = 1 },
		{ 0xff, 2, [15] = 1 },
		{ [10] = 0xff, 0xff, 10, 77, 1, 1 },
		{ 0xfe, 0x80, [15] = 2 },
		{ 0xfd, 0x77, [15] = 1 },
		{ 0x20, 1, 0x0d, 0xb8, [15] = 9 },
	};
	const size_t size = parts->ipv6 ? 16 : 4;
	/* More often the source: with another destination there is no service. */
	uint8_t *at = parts->ip + (parts->ipv6 ? 8 : 12) + (random_below(state, 4) ? 0 : size);

	switch (random_below(state, 4)) {
	case 0: at[random_below(state, (uint32_t)size)] ^= (uint8_t)(1 << random_below(state, 8)); break;
	case 1: at[size - 1] = (uint8_t)random_next(state); break;
	case 2: random_fill(state, at, size); break;
	default:
		if (parts->ipv6)
			memcpy(at, ONE_OF(state, odd6), 16);
		else
			put32(at, ONE_OF(state, odd));
	}
}

static void mutate_ip(struct parts *parts, uint64_t *state)
{
	static const uint16_t fragments[] = {
		0x2000, 0x2000, 0x0001, 0x2001, 0x1fff, 0x8000, 0xc000, 0x6000
	};
	static const int16_t skews[] = { -40, -21, -20, -8, -4, -1, 1, 4, 8, 20, 1400, -2000, 30000 };
	uint8_t *ip = parts->ip;

	switch (random_below(state, 9)) {
	case 0: /* TTL or hop limit */ ip[parts->ipv6 ? 7 : 8] = (uint8_t)random_next(state); break;
	case 1: /* TOS or traffic class; in IPv6 with four bits of the flow label */
		if (parts->ipv6) {
			ip[0] = (uint8_t)(0x60 | random_below(state, 16));
			ip[1] = (uint8_t)random_next(state);
		} else {
			ip[1] = (uint8_t)random_next(state);
		}
		break;
	case 2: /* identification, flow label */ random_fill(state, ip + (parts->ipv6 ? 2 : 4), 2); break;
	case 3:
		if (parts->ipv6)
			add_header(parts, state);
		else
			put16(ip + 6, ONE_OF(state, fragments));
		break;
	case 4:
		if (parts->ipv6)
			add_header(parts, state);
		else
			add_ipv4_options(parts, state);
		break;
	case 5: parts->total_skew = ONE_OF(state, skews); break;
	case 6: parts->ihl_skew = (int8_t)(random_below(state, 11) - 5); break;
	case 7: /* another version, another protocol */
		if (random_below(state, 2))
			ip[0] ^= (uint8_t)(0x10 << random_below(state, 4));
		else if (!parts->ipv6)
			ip[9] = random_below(state, 2) ? (uint8_t)random_next(state) : IPPROTO_UDP;
		break;
	default: mutate_address(parts, state);
	}
}

/* ---- TCP ---- */

static void mutate_number(uint8_t *at, uint64_t *state)
{
	static const uint32_t odd[] = { 0, 1, 0x7fffffff, 0x80000000, 0xffffffff };
	static const int deltas[] = { 1, -1, 1, -1, 2, 16, -16, 1448, -1448, 65535, 65536, 1 << 20 };

	switch (random_below(state, 4)) {
	case 0: put32(at, ONE_OF(state, odd)); break;
	case 1: put32(at, (uint32_t)random_next(state)); break;
	case 2: put32(at, get32(at) ^ 1u << random_below(state, 32)); break;
	default: put32(at, get32(at) + (uint32_t)ONE_OF(state, deltas));
	}
}

static void mutate_tcp(struct parts *parts, uint64_t *state)
{
	static const uint16_t flags[] = { SYN,	     SYN | ACK, SYN | ECE | CWR,
					  SYN | ECE, SYN | CWR, SYN | AE,
					  SYN | PSH, SYN | URG, SYN | FIN,
					  SYN | RST, ACK,	ACK | PSH,
					  ACK | FIN, ACK | RST, ACK | URG,
					  ACK | ECE, RST,	FIN,
					  0,	     0x1ff,	0xfff };
	static const uint16_t ports[] = { 0, 1, 79, 80, 443, 8079, 8081, 8199, 8200, 65535 };
	uint8_t *tcp = parts->tcp;

	switch (random_below(state, 10)) {
	case 0: put16(tcp + 12, ONE_OF(state, flags)); break;
	case 1: put16(tcp + 12, (unsigned int)random_next(state) & 0xfff); break;
	case 2: tcp[12 + random_below(state, 2)] ^= (uint8_t)(1 << random_below(state, 4)); break;
	case 3: mutate_number(tcp + 4, state); break;
	case 4: mutate_number(tcp + 8, state); break;
	case 5:
		random_fill(state, tcp + 14, 2); /* the window */
		break;
	case 6:
		random_fill(state, tcp + 18, 2); /* the urgent pointer */
		break;
	case 7:
		put16(tcp, random_below(state, 2) ? ONE_OF(state, ports) : (uint16_t)random_next(state));
		break;
	case 8: put16(tcp + 2, ONE_OF(state, ports)); break;
	default: parts->offset_skew = (int8_t)(random_below(state, 11) - 5);
	}
}

/* ---- what is around ---- */

static void mutate_link(struct parts *parts, uint64_t *state)
{
	static const uint16_t types[] = { TYPE_VLAN, TYPE_VLAN, TYPE_QINQ, 0x9100 };
	static const uint16_t tcis[] = { 0, 5, 7, 5 | 0xe000, 7 | 0x1000, 0xfff, 8, 4 };
	uint32_t i;

	switch (random_below(state, 7)) {
	case 0: parts->macs[random_below(state, 12)] ^= (uint8_t)(1 << random_below(state, 8)); break;
	case 1: memset(parts->macs, 0xff, 6); break;
	case 2: random_fill(state, parts->macs + 6, 6); break;
	case 3: /* a tag more, in front */
		if (parts->tags == PARTS_TAGS)
			return;
		memmove(parts->tag + 1, parts->tag, sizeof(*parts->tag) * parts->tags++);
		parts->tag[0][0] = ONE_OF(state, types);
		parts->tag[0][1] = ONE_OF(state, tcis);
		break;
	case 4: parts->tags -= parts->tags != 0; break;
	case 5: /* priority and drop eligibility */
		if (!parts->tags)
			return;
		i = random_below(state, parts->tags);
		parts->tag[i][1] ^= (uint16_t)(1 << (12 + random_below(state, 4)));
		break;
	default:
		if (!parts->tags)
			return;
		i = random_below(state, parts->tags);
		parts->tag[i][1] = ONE_OF(state, tcis);
	}
}

static void mutate_sizes(struct parts *parts, uint64_t *state)
{
	static const uint16_t payloads[] = { 0, 1, 2, 3, 7, 100, 536, 1400, 1448, 1460 };
	static const uint16_t trailers[] = { 1, 2, 6, 18, 46, 300 };

	switch (random_below(state, 8)) {
	case 0:
	case 1:
	case 2: parts->payload = ONE_OF(state, payloads); break;
	case 3:
	case 4:
	case 5: parts->trailer = ONE_OF(state, trailers); break;
	case 6: /* more than a page: in several buffers */
		parts->payload = (uint16_t)(3000 + random_below(state, 5900));
		parts->trailer = 0;
		break;
	default: parts->trailer = (uint16_t)(3000 + random_below(state, 5900)); parts->payload = 0;
	}
}

void parts_mutate(struct parts *parts, uint64_t *state)
{
	switch (random_below(state, 16)) {
	case 0:
	case 1:
	case 2:
	case 3:
	case 4: mutate_options(parts, state); break;
	case 5:
	case 6:
	case 7: mutate_ip(parts, state); break;
	case 8:
	case 9:
	case 10:
	case 11: mutate_tcp(parts, state); break;
	case 12: mutate_link(parts, state); break;
	case 13:
	case 14: mutate_sizes(parts, state); break;
	default: parts->sums = (enum parts_sums)(1 + random_below(state, SUMS_ZERO));
	}
}

/* ---- bytes ---- */

/* Puts @n bytes in, or takes them out. */
static size_t shift(uint8_t *frame, size_t length, size_t at, size_t n, bool in, uint64_t *state)
{
	if (in) {
		if (length + n > MUTANT_MAX)
			return length;
		memmove(frame + at + n, frame + at, length - at);
		random_fill(state, frame + at, n);
		return length + n;
	}
	if (at + n > length || length - n < LEAST)
		return length;
	memmove(frame + at, frame + at + n, length - at - n);
	return length - n;
}

size_t bytes_mutate(uint8_t frame[MUTANT_MAX], size_t length, size_t headers, uint64_t *state)
{
	static const uint16_t odd[] = { 0,	1,	0xff,	0x100,	0x7fff, 0x8000, 0xffff, 0x0800,
					0x86dd, 0x8100, 0x88a8, 0x0006, 0x4000, 0x2000, 0x5002, 0xa002 };

	for (uint32_t n = 1 + random_below(state, 3); n; n--) {
		const size_t within = random_below(state, 3) && headers < length ? headers : length;
		const size_t at = random_below(state, (uint32_t)within);

		switch (random_below(state, 8)) {
		case 0:
		case 1:
		case 2: frame[at] ^= (uint8_t)(1 << random_below(state, 8)); break;
		case 3: frame[at] = (uint8_t)random_next(state); break;
		case 4:
			if (at + 1 < length)
				put16(frame + (at & ~(size_t)1), ONE_OF(state, odd));
			break;
		case 5: /* cut: a device's least frame remains */
			if (!random_below(state, 3))
				length = LEAST + random_below(state, (uint32_t)(length - LEAST + 1));
			break;
		case 6: /* from elsewhere in the frame */
			if (at + 4 <= length)
				memmove(frame + at, frame + random_below(state, (uint32_t)length - 3), 4);
			break;
		default:
			length = shift(frame, length, at, 1 + random_below(state, 4),
				       random_below(state, 2), state);
		}
	}
	return length;
}
