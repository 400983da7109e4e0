// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Crafting is libnet's, reading our own: see frame.h. */
#include "frame.h"

#include <arpa/inet.h>
#include <libnet.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	TYPE_IPV4 = 0x0800,
	TYPE_VLAN = 0x8100,
	TYPE_IPV6 = 0x86dd,
	TYPE_QINQ = 0x88a8,

	MAC_HEADER = 14,
	VLAN_TAG = 4,
	IPV4_HEADER = 20,
	IPV6_HEADER = 40,
	TCP_HEADER = 20,

	KIND_EOL = 0,
	KIND_NOP = 1,
	KIND_MSS = 2,
	KIND_WSCALE = 3,
	KIND_SACK_OK = 4,
	KIND_SACK = 5,
	KIND_TS = 8,
	KIND_FASTOPEN = 34,
};

static const uint8_t default_src_mac[6] = { 0x02, 0x77, 0, 0, 0, 0x02 };
static const uint8_t default_dst_mac[6] = { 0x02, 0x77, 0, 0, 0, 0x01 };

__attribute__((format(printf, 1, 2))) static _Noreturn void die(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

static uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)get16(p) << 16 | get16(p + 2);
}

static void put16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static void put32(uint8_t *p, uint32_t v)
{
	put16(p, (uint16_t)(v >> 16));
	put16(p + 2, (uint16_t)v);
}

/* Addresses */

struct ip_addr ip(const char *text)
{
	struct ip_addr a = { 0 };

	a.family = strchr(text, ':') ? AF_INET6 : AF_INET;
	if (inet_pton(a.family, text, &a.v6) != 1)
		die("%s is no address", text);
	return a;
}

struct ip_addr ip_n(const char *text, unsigned int n)
{
	char whole[64];

	snprintf(whole, sizeof(whole), "%s%u", text, n);
	return ip(whole);
}

bool ip_equal(const struct ip_addr *a, const struct ip_addr *b)
{
	if (a->family != b->family)
		return false;
	return memcmp(&a->v6, &b->v6, a->family == AF_INET ? 4 : 16) == 0;
}

const char *ip_text(const struct ip_addr *a)
{
	static char buf[4][INET6_ADDRSTRLEN];
	static unsigned int turn;
	char *text = buf[turn++ % 4];

	return inet_ntop(a->family, &a->v6, text, INET6_ADDRSTRLEN) ? text : "?";
}

/* Options */

static void add(struct tcp_options *o, const void *bytes, size_t len)
{
	if (o->len + len > sizeof(o->bytes))
		die("more than %zu bytes of TCP options", sizeof(o->bytes));
	memcpy(o->bytes + o->len, bytes, len);
	o->len = (uint8_t)(o->len + len);
}

static void add_byte(struct tcp_options *o, uint8_t byte)
{
	add(o, &byte, 1);
}

static void add_nop(struct tcp_options *o)
{
	add_byte(o, KIND_NOP);
}

static void add_mss(struct tcp_options *o, uint16_t mss)
{
	add(o, (uint8_t[]){ KIND_MSS, 4, (uint8_t)(mss >> 8), (uint8_t)mss }, 4);
}

static void add_sack_ok(struct tcp_options *o)
{
	add(o, (uint8_t[]){ KIND_SACK_OK, 2 }, 2);
}

static void add_ts(struct tcp_options *o, uint32_t tsval, uint32_t tsecr)
{
	uint8_t bytes[10] = { KIND_TS, sizeof(bytes) };

	put32(bytes + 2, tsval);
	put32(bytes + 6, tsecr);
	add(o, bytes, sizeof(bytes));
}

/* All systems put one NOP before it. */
static void add_nop_wscale(struct tcp_options *o, int wscale)
{
	if (wscale < 0)
		return;
	add_nop(o);
	add(o, (uint8_t[]){ KIND_WSCALE, 3, (uint8_t)wscale }, 3);
}

struct tcp_options options_linux(uint16_t mss, uint32_t tsval, int wscale)
{
	struct tcp_options o = { 0 };

	add_mss(&o, mss);
	add_sack_ok(&o);
	add_ts(&o, tsval, 0);
	add_nop_wscale(&o, wscale);
	return o;
}

struct tcp_options options_linux_no_ts(uint16_t mss, int wscale)
{
	struct tcp_options o = { 0 };

	add_mss(&o, mss);
	add_nop(&o);
	add_nop(&o);
	add_sack_ok(&o);
	add_nop_wscale(&o, wscale);
	return o;
}

struct tcp_options options_windows(uint16_t mss, int wscale)
{
	struct tcp_options o = { 0 };

	add_mss(&o, mss);
	add_nop_wscale(&o, wscale);
	add_nop(&o);
	add_nop(&o);
	add_sack_ok(&o);
	return o;
}

struct tcp_options options_macos(uint16_t mss, uint32_t tsval, int wscale)
{
	struct tcp_options o = { 0 };

	add_mss(&o, mss);
	add_nop_wscale(&o, wscale);
	add_nop(&o);
	add_nop(&o);
	add_ts(&o, tsval, 0);
	add_sack_ok(&o);
	add_byte(&o, KIND_EOL);
	add_byte(&o, KIND_EOL);
	return o;
}

struct tcp_options options_mss(uint16_t mss)
{
	struct tcp_options o = { 0 };

	add_mss(&o, mss);
	return o;
}

struct tcp_options options_none(void)
{
	return (struct tcp_options){ 0 };
}

struct tcp_options options_ts(uint32_t tsval, uint32_t tsecr)
{
	struct tcp_options o = { 0 };

	add_nop(&o);
	add_nop(&o);
	add_ts(&o, tsval, tsecr);
	return o;
}

static size_t from_hex(const char *hex, uint8_t *out, size_t size)
{
	size_t n = 0;
	unsigned int byte;

	for (; sscanf(hex, "%2x", &byte) == 1 && n < size; hex += 2)
		out[n++] = (uint8_t)byte;
	return n;
}

struct tcp_options options_text(const char *text)
{
	struct tcp_options o = { 0 };
	char copy[512], *rest = copy, *word;

	snprintf(copy, sizeof(copy), "%s", text);
	while ((word = strsep(&rest, ","))) {
		unsigned int a = 0, b = 0;
		uint8_t bytes[FRAME_TCP_OPTIONS];
		char hex[2 * FRAME_TCP_OPTIONS + 1];

		word += strspn(word, " ");
		if (!*word)
			continue;
		if (sscanf(word, "mss %u", &a) == 1) {
			add_mss(&o, (uint16_t)a);
		} else if (sscanf(word, "ts %u %u", &a, &b) >= 1) {
			add_ts(&o, a, b);
		} else if (sscanf(word, "ws %u", &a) == 1) {
			add(&o, (uint8_t[]){ KIND_WSCALE, 3, (uint8_t)a }, 3);
		} else if (strcmp(word, "sack") == 0) {
			add_sack_ok(&o);
		} else if (strcmp(word, "nop") == 0) {
			add_nop(&o);
		} else if (strcmp(word, "eol") == 0) {
			add_byte(&o, KIND_EOL);
		} else if (strcmp(word, "fastopen") == 0) {
			add(&o, (uint8_t[]){ KIND_FASTOPEN, 2 }, 2);
		} else if (sscanf(word, "fastopen %80[0-9a-f]", hex) == 1) {
			uint8_t n = (uint8_t)from_hex(hex, bytes, sizeof(bytes));

			add(&o, (uint8_t[]){ KIND_FASTOPEN, (uint8_t)(n + 2) }, 2);
			add(&o, bytes, n);
		} else if (sscanf(word, "raw %80[0-9a-f]", hex) == 1) {
			add(&o, bytes, from_hex(hex, bytes, sizeof(bytes)));
		} else {
			die("no such TCP option: %s", word);
		}
	}
	return o;
}

/* Checksums: RFC 1071, plainly. */

static uint32_t sum(const uint8_t *p, size_t len, uint32_t total)
{
	for (; len > 1; p += 2, len -= 2)
		total += get16(p);
	if (len)
		total += (uint32_t)p[0] << 8;
	while (total >> 16)
		total = (total & 0xffff) + (total >> 16);
	return total;
}

static uint32_t pseudo_sum(sa_family_t family, const void *saddr, const void *daddr, uint32_t len)
{
	size_t size = family == AF_INET ? 4 : 16;
	uint32_t total = sum(saddr, size, 0);

	total = sum(daddr, size, total);
	return total + IPPROTO_TCP + (len >> 16) + (len & 0xffff);
}

/* Where the headers of a frame begin. */
struct layers {
	size_t ip;
	size_t tcp;
	size_t end; /* by the IP header */
	uint8_t vlans;
	uint16_t vlan[FRAME_VLANS];
	sa_family_t family;
};

static bool find_ipv6_tcp(const uint8_t *p, size_t len, struct layers *l)
{
	uint8_t next = p[l->ip + 6];
	size_t at = l->ip + IPV6_HEADER;

	while (next == IPPROTO_HOPOPTS || next == IPPROTO_DSTOPTS || next == IPPROTO_ROUTING) {
		if (at + 8 > len)
			return false;
		next = p[at];
		at += (size_t)(p[at + 1] + 1) * 8;
	}
	l->tcp = at;
	return next == IPPROTO_TCP;
}

static bool find_layers(const uint8_t *p, size_t len, struct layers *l)
{
	size_t at = MAC_HEADER;
	uint16_t type;

	memset(l, 0, sizeof(*l));
	if (len < MAC_HEADER)
		return false;
	type = get16(p + 12);
	while ((type == TYPE_VLAN || type == TYPE_QINQ) && l->vlans < FRAME_VLANS) {
		if (at + VLAN_TAG > len)
			return false;
		l->vlan[l->vlans++] = get16(p + at);
		type = get16(p + at + 2);
		at += VLAN_TAG;
	}
	l->ip = at;
	if (type == TYPE_IPV4 && at + IPV4_HEADER <= len && p[at] >> 4 == 4) {
		l->family = AF_INET;
		l->tcp = at + (size_t)(p[at] & 15) * 4;
		l->end = at + get16(p + at + 2);
		/* Of fragments, the first as well: neither more to come nor an offset. */
		if ((p[at] & 15) < 5 || p[at + 9] != IPPROTO_TCP || get16(p + at + 6) & 0x3fff)
			return false;
	} else if (type == TYPE_IPV6 && at + IPV6_HEADER <= len && p[at] >> 4 == 6) {
		l->family = AF_INET6;
		l->end = at + IPV6_HEADER + get16(p + at + 4);
		if (!find_ipv6_tcp(p, len, l))
			return false;
	} else {
		return false;
	}
	return l->end <= len && l->tcp + TCP_HEADER <= l->end;
}

static const uint8_t *saddr_of(const uint8_t *p, const struct layers *l)
{
	return p + l->ip + (l->family == AF_INET ? 12 : 8);
}

static const uint8_t *daddr_of(const uint8_t *p, const struct layers *l)
{
	return p + l->ip + (l->family == AF_INET ? 16 : 24);
}

static uint32_t tcp_sum(const uint8_t *p, const struct layers *l)
{
	uint32_t len = (uint32_t)(l->end - l->tcp);

	return sum(p + l->tcp, len, pseudo_sum(l->family, saddr_of(p, l), daddr_of(p, l), len));
}

void frame_fix_checksums(void *buf, size_t len)
{
	uint8_t *p = buf;
	struct layers l;

	if (!find_layers(p, len, &l))
		die("no TCP frame whose checksums could be righted");
	if (l.family == AF_INET) {
		put16(p + l.ip + 10, 0);
		put16(p + l.ip + 10, (uint16_t)~sum(p + l.ip, l.tcp - l.ip, 0));
	}
	put16(p + l.tcp + 16, 0);
	put16(p + l.tcp + 16, (uint16_t)~tcp_sum(p, &l));
}

/* Building */

/*
 * LIBNET_NONE opens no socket and so needs neither a device nor root; but only contexts of an
 * advanced mode let a packet be taken out without sending it, so it is made one afterwards.
 */
static libnet_t *context(void)
{
	static libnet_t *l;
	char error[LIBNET_ERRBUF_SIZE];

	if (l) {
		libnet_clear_packet(l);
		return l;
	}
	l = libnet_init(LIBNET_NONE, NULL, error);
	if (!l)
		die("libnet: %s", error);
	l->injection_type = LIBNET_LINK_ADV;
	return l;
}

static void check(libnet_t *l, libnet_ptag_t tag, const char *what)
{
	if (tag < 0)
		die("libnet, %s: %s", what, libnet_geterror(l));
}

static void build_ipv4(libnet_t *l, const struct tcp_spec *s, uint16_t tcp_len)
{
	uint16_t len = (uint16_t)(IPV4_HEADER + s->ip_options_len + tcp_len);
	uint16_t fragment = (uint16_t)((s->no_df ? 0 : 0x4000) | (s->more_fragments ? 0x2000 : 0) |
				       s->fragment);

	if (s->ip_options_len)
		check(l, libnet_build_ipv4_options(s->ip_options, s->ip_options_len, l, 0), "IP options");
	check(l,
	      libnet_build_ipv4(len, s->tos, s->id, fragment, s->ttl ? s->ttl : 64, IPPROTO_TCP, 0,
				s->saddr.v4.s_addr, s->daddr.v4.s_addr, NULL, 0, l, 0),
	      "IPv4");
}

static void build_ipv6(libnet_t *l, const struct tcp_spec *s, uint16_t tcp_len)
{
	struct libnet_in6_addr from, to;

	memcpy(&from, &s->saddr.v6, sizeof(from));
	memcpy(&to, &s->daddr.v6, sizeof(to));
	check(l,
	      libnet_build_ipv6(s->tos, s->flow_label, tcp_len, IPPROTO_TCP, s->ttl ? s->ttl : 64, from, to,
				NULL, 0, l, 0),
	      "IPv6");
}

static void build_link(libnet_t *l, const struct tcp_spec *s)
{
	static const uint8_t none[6];
	const uint8_t *src = memcmp(s->src_mac, none, 6) ? s->src_mac : default_src_mac;
	const uint8_t *dst = memcmp(s->dst_mac, none, 6) ? s->dst_mac : default_dst_mac;
	uint16_t type = s->saddr.family == AF_INET ? TYPE_IPV4 : TYPE_IPV6;

	if (s->vlans)
		check(l,
		      libnet_build_802_1q(dst, src, TYPE_VLAN, s->vlan[0] >> 13, s->vlan[0] >> 12 & 1,
					  s->vlan[0] & 0xfff, type, NULL, 0, l, 0),
		      "VLAN");
	else
		check(l, libnet_build_ethernet(dst, src, type, NULL, 0, l, 0), "Ethernet");
}

static size_t insert(uint8_t *buf, size_t len, size_t size, size_t at, const void *bytes, size_t n)
{
	if (len + n > size)
		die("frame longer than %zu bytes", size);
	memmove(buf + at + n, buf + at, len - at);
	memcpy(buf + at, bytes, n);
	return len + n;
}

/*
 * libnet knows one VLAN tag to a frame. What it wrote as the inner tag becomes that when another
 * is put before it.
 */
static size_t second_tag(const struct tcp_spec *s, uint8_t *buf, size_t len, size_t size)
{
	uint8_t tag[VLAN_TAG];

	put16(tag, TYPE_QINQ);
	put16(tag + 2, s->vlan[0]);
	len = insert(buf, len, size, 12, tag, sizeof(tag));
	put16(buf + MAC_HEADER + VLAN_TAG, s->vlan[1]);
	return len;
}

/*
 * Behind an IPv6 extension header libnet computes the checksum over the wrong bytes, so the header
 * goes in afterwards; it is no part of what TCP's checksum covers.
 */
static size_t extension_header(const struct tcp_spec *s, uint8_t *buf, size_t len, size_t size)
{
	size_t at = MAC_HEADER + (size_t)s->vlans * VLAN_TAG;

	if (s->ip_options_len % 8)
		die("an IPv6 extension header of %u bytes", s->ip_options_len);
	len = insert(buf, len, size, at + IPV6_HEADER, s->ip_options, s->ip_options_len);
	/* One header is completed; several that lead to each other are as they stand. */
	if (!s->ip_options[0])
		buf[at + IPV6_HEADER] = IPPROTO_TCP;
	if (!s->ip_options[0] && s->ip_options_type != IPPROTO_FRAGMENT)
		buf[at + IPV6_HEADER + 1] = (uint8_t)(s->ip_options_len / 8 - 1);
	buf[at + 6] = s->ip_options_type;
	put16(buf + at + 4, (uint16_t)(get16(buf + at + 4) + s->ip_options_len));
	return len;
}

static void xor16(uint8_t *p, uint16_t v)
{
	put16(p, get16(p) ^ v);
}

size_t frame_build(const struct tcp_spec *s, void *buf, size_t size)
{
	libnet_t *l = context();
	uint8_t padded = (uint8_t)((s->options.len + 3) / 4 * 4);
	uint16_t tcp_len = (uint16_t)(TCP_HEADER + padded + s->payload_len);
	uint16_t window = s->window || s->zero_window ? s->window : 64240;
	uint8_t *packet = NULL, *out = buf;
	uint32_t packet_len = 0;
	size_t len, at;

	if (s->saddr.family != s->daddr.family || s->vlans > FRAME_VLANS)
		die("addresses of two families, or more than %d VLAN tags", FRAME_VLANS);
	if (s->options.len) {
		uint8_t options[FRAME_TCP_OPTIONS] = { 0 };

		memcpy(options, s->options.bytes, s->options.len);
		check(l, libnet_build_tcp_options(options, padded, l, 0), "TCP options");
	}
	check(l,
	      libnet_build_tcp(s->sport, s->dport, s->seq, s->ack, (uint8_t)s->flags, window, 0, s->urgent,
			       tcp_len, s->payload_len ? s->payload : NULL, s->payload_len, l, 0),
	      "TCP");
	if (s->saddr.family == AF_INET)
		build_ipv4(l, s, tcp_len);
	else
		build_ipv6(l, s, tcp_len);
	build_link(l, s);
	if (libnet_adv_cull_packet(l, &packet, &packet_len) < 0)
		die("libnet: %s", libnet_geterror(l));
	if (packet_len > size)
		die("frame of %u bytes for a buffer of %zu", packet_len, size);
	memcpy(buf, packet, packet_len);
	libnet_adv_free_packet(l, packet);
	len = packet_len;

	if (s->vlans == 2)
		len = second_tag(s, out, len, size);
	at = MAC_HEADER + (size_t)s->vlans * VLAN_TAG;
	if (s->saddr.family == AF_INET6 && s->ip_options_len)
		len = extension_header(s, out, len, size);
	/* libnet 1.1.6 writes the label's low byte into the middle one as well. */
	if (s->saddr.family == AF_INET6)
		put16(out + at + 2, (uint16_t)s->flow_label);
	at += (s->saddr.family == AF_INET ? IPV4_HEADER : IPV6_HEADER) + s->ip_options_len;
	if (s->flags & AE) {
		/* libnet's flags are eight bits: RFC 1624, the word changes by 0x0100. */
		uint32_t checksum = (uint16_t)~get16(out + at + 16) + 0x0100u;

		out[at + 12] |= 1;
		put16(out + at + 16, (uint16_t) ~((checksum & 0xffff) + (checksum >> 16)));
	}
	xor16(out + at + 16, s->tcp_checksum_xor);
	if (s->saddr.family == AF_INET)
		xor16(out + at - IPV4_HEADER - s->ip_options_len + 10, s->ip_checksum_xor);
	return len;
}

struct tcp_spec syn_spec(struct ip_addr saddr, uint16_t sport, struct ip_addr daddr, uint16_t dport)
{
	uint16_t mss = saddr.family == AF_INET ? 1460 : 1440;

	return (struct tcp_spec){
		.saddr = saddr,
		.daddr = daddr,
		.sport = sport,
		.dport = dport,
		.seq = (uint32_t)sport * 2654435761u ^ dport,
		.flags = SYN,
		.options = options_linux(mss, 1000u + sport, 7),
	};
}

/* Reading */

static void note(struct tcp_frame *f, const char *option)
{
	size_t at = strlen(f->layout);

	snprintf(f->layout + at, sizeof(f->layout) - at, "%s%s", at ? "," : "", option);
}

static void read_sacks(struct tcp_frame *f, const uint8_t *o, uint8_t len)
{
	for (uint8_t at = 2; at + 8 <= len && f->sacks < FRAME_SACK_BLOCKS; at += 8) {
		f->sack[f->sacks].from = get32(o + at);
		f->sack[f->sacks++].to = get32(o + at + 4);
	}
}

static void read_option(struct tcp_frame *f, const uint8_t *o, uint8_t len)
{
	char other[16];

	if (o[0] == KIND_MSS && len == 4) {
		f->mss = get16(o + 2);
		note(f, "mss");
	} else if (o[0] == KIND_WSCALE && len == 3) {
		f->wscale = o[2];
		note(f, "wscale");
	} else if (o[0] == KIND_SACK_OK && len == 2) {
		f->sack_ok = true;
		note(f, "sackOK");
	} else if (o[0] == KIND_SACK) {
		read_sacks(f, o, len);
		note(f, "sack");
	} else if (o[0] == KIND_TS && len == 10) {
		f->timestamps = true;
		f->tsval = get32(o + 2);
		f->tsecr = get32(o + 6);
		note(f, "TS");
	} else if (o[0] == KIND_FASTOPEN) {
		note(f, "tfo");
	} else {
		snprintf(other, sizeof(other), "unknown-%u", o[0]);
		note(f, other);
	}
}

static void read_options(struct tcp_frame *f)
{
	const uint8_t *o = f->options.bytes, *end = o + f->options.len;

	while (o < end) {
		if (*o == KIND_EOL) {
			note(f, "eol");
			return;
		}
		if (*o == KIND_NOP) {
			note(f, "nop");
			o++;
			continue;
		}
		if (o + 1 >= end || o[1] < 2 || o + o[1] > end) {
			note(f, "bad");
			return;
		}
		read_option(f, o, o[1]);
		o += o[1];
	}
}

static void read_ip(const uint8_t *p, const struct layers *l, struct tcp_frame *f)
{
	const uint8_t *h = p + l->ip;
	size_t size = l->family == AF_INET ? 4 : 16;

	f->saddr.family = l->family;
	f->daddr.family = l->family;
	memcpy(&f->saddr.v6, saddr_of(p, l), size);
	memcpy(&f->daddr.v6, daddr_of(p, l), size);
	if (l->family == AF_INET) {
		f->tos = h[1];
		f->id = get16(h + 4);
		f->df = h[6] & 0x40;
		f->ttl = h[8];
		f->ip_options_len = (uint8_t)(l->tcp - l->ip - IPV4_HEADER);
		f->ip_checksum_ok = sum(h, l->tcp - l->ip, 0) == 0xffff;
	} else {
		f->tos = (uint8_t)(get16(h) >> 4);
		f->flow_label = get32(h) & 0xfffff;
		f->ttl = h[7];
		f->ip_options_len = (uint8_t)(l->tcp - l->ip - IPV6_HEADER);
		f->ip_checksum_ok = true;
	}
}

bool frame_parse(const void *buf, size_t len, struct tcp_frame *f)
{
	const uint8_t *p = buf, *t;
	struct layers l;
	size_t header;

	memset(f, 0, sizeof(*f));
	f->mss = -1;
	f->wscale = -1;
	if (!find_layers(p, len, &l))
		return false;
	t = p + l.tcp;
	header = (size_t)(t[12] >> 4) * 4;
	if (header < TCP_HEADER || l.tcp + header > l.end)
		return false;

	memcpy(f->dst_mac, p, 6);
	memcpy(f->src_mac, p + 6, 6);
	memcpy(f->vlan, l.vlan, sizeof(f->vlan));
	f->vlans = l.vlans;
	read_ip(p, &l, f);
	f->sport = get16(t);
	f->dport = get16(t + 2);
	f->seq = get32(t + 4);
	f->ack = get32(t + 8);
	f->flags = get16(t + 12) & 0x1ff;
	f->window = get16(t + 14);
	f->urgent = get16(t + 18);
	f->tcp_checksum_ok = tcp_sum(p, &l) == 0xffff;
	f->options.len = (uint8_t)(header - TCP_HEADER);
	memcpy(f->options.bytes, t + TCP_HEADER, f->options.len);
	read_options(f);
	f->payload = t + header;
	f->payload_len = (uint32_t)(l.end - l.tcp - header);
	return true;
}

const char *frame_text(const struct tcp_frame *f)
{
	static const char letters[] = "FSRPAUECN";
	static char text[512];
	char flags[sizeof(letters)] = "", *at = flags;

	for (int bit = 0; letters[bit]; bit++) {
		if (f->flags & 1 << bit)
			*at++ = letters[bit];
	}
	snprintf(text, sizeof(text),
		 "%s:%u > %s:%u [%s] seq %u ack %u win %u len %u <%s> mss %d wscale %d ts %u/%u%s",
		 ip_text(&f->saddr), f->sport, ip_text(&f->daddr), f->dport, flags, f->seq, f->ack,
		 f->window, f->payload_len, f->layout, f->mss, f->wscale, f->tsval, f->tsecr,
		 f->checksum_partial  ? " (checksum left to the hardware)"
		 : f->tcp_checksum_ok ? ""
				      : " (checksum wrong)");
	return text;
}

struct tcp_spec frame_answer(const struct tcp_frame *f, uint32_t tsval)
{
	struct tcp_spec s = {
		.saddr = f->daddr,
		.daddr = f->saddr,
		.sport = f->dport,
		.dport = f->sport,
		.seq = f->ack,
		.ack = f->seq + f->payload_len + !!(f->flags & SYN) + !!(f->flags & FIN),
		.flags = ACK,
		.vlans = f->vlans,
	};

	memcpy(s.src_mac, f->dst_mac, 6);
	memcpy(s.dst_mac, f->src_mac, 6);
	memcpy(s.vlan, f->vlan, sizeof(s.vlan));
	if (f->timestamps)
		s.options = options_ts(tsval, f->tsval);
	return s;
}
