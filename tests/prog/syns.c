// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "syns.h"

#include <stdio.h>
#include <string.h>

enum {
	OPTIONS_MAX = FRAME_TCP_OPTIONS,
	EVIL = 0x8000, /* in tcp_spec.fragment: the reserved bit (RFC 3514) */
};

/* ---- by name ---- */

static const struct named {
	const char *name;
	const char *options; /* NULL: those of Linux */
	bool ordinary;
	uint16_t flags;
	uint8_t tos;
	uint16_t window;
	uint16_t urgent;
} named[] = {
	/* Systems in common use, with the windows that they send. */
	{ .name = "Linux", .ordinary = true, .window = 64240 },
	{ .name = "Linux, scale 10",
	  .options = "mss 1460, sack, ts 4000000000 0, nop, ws 10",
	  .ordinary = true,
	  .window = 64240 },
	{ .name = "Linux, ECN", .ordinary = true, .flags = ECE | CWR },
	{ .name = "Linux, ECN, TOS 28", .ordinary = true, .flags = ECE | CWR, .tos = 0x28 },
	{ .name = "Linux, TOS b8", .ordinary = true, .tos = 0xb8 },
	{ .name = "Linux, TOS 10", .ordinary = true, .tos = 0x10 },
	{ .name = "Linux on PPPoE",
	  .options = "mss 1452, sack, ts 77 0, nop, ws 7",
	  .ordinary = true,
	  .window = 63888 },
	{ .name = "Linux in a tunnel",
	  .options = "mss 1380, sack, ts 77 0, nop, ws 7",
	  .ordinary = true,
	  .window = 64860 },
	{ .name = "Linux, loopback MTU",
	  .options = "mss 65495, sack, ts 77 0, nop, ws 7",
	  .ordinary = true,
	  .window = 65495 },
	{ .name = "Linux without timestamps",
	  .options = "mss 1400, nop, nop, sack, nop, ws 7",
	  .ordinary = true },
	{ .name = "Linux without timestamps, scale 10",
	  .options = "mss 1460, nop, nop, sack, nop, ws 10",
	  .ordinary = true },
	{ .name = "Linux 2.6",
	  .options = "mss 1460, sack, ts 77 0, nop, ws 6",
	  .ordinary = true,
	  .window = 5840 },
	{ .name = "Android",
	  .options = "mss 1460, sack, ts 123456 0, nop, ws 8",
	  .ordinary = true,
	  .window = 65535 },
	{ .name = "Android, mobile network",
	  .options = "mss 1370, sack, ts 123456 0, nop, ws 9",
	  .ordinary = true,
	  .window = 65535 },
	{ .name = "Windows 11",
	  .options = "mss 1460, nop, ws 8, nop, nop, sack",
	  .ordinary = true,
	  .window = 64240 },
	{ .name = "Windows 10",
	  .options = "mss 1460, nop, ws 8, nop, nop, sack",
	  .ordinary = true,
	  .window = 65535 },
	{ .name = "Windows 10 in a tunnel",
	  .options = "mss 1360, nop, ws 8, nop, nop, sack",
	  .ordinary = true,
	  .window = 64860 },
	{ .name = "Windows 7",
	  .options = "mss 1460, nop, ws 8, nop, nop, sack",
	  .ordinary = true,
	  .window = 8192 },
	{ .name = "Windows with timestamps",
	  .options = "mss 1460, nop, ws 8, sack, ts 77 0",
	  .ordinary = true,
	  .window = 65535 },
	{ .name = "macOS",
	  .options = "mss 1460, nop, ws 6, nop, nop, ts 99 0, sack, eol, eol",
	  .ordinary = true,
	  .window = 65535 },
	{ .name = "macOS, ECN",
	  .options = "mss 1460, nop, ws 6, nop, nop, ts 99 0, sack, eol, eol",
	  .ordinary = true,
	  .flags = ECE | CWR },
	{ .name = "Mac OS X 10.6",
	  .options = "mss 1460, nop, ws 3, nop, nop, ts 99 0, sack, eol, eol",
	  .ordinary = true,
	  .window = 65535 },
	{ .name = "iOS",
	  .options = "mss 1460, nop, ws 7, nop, nop, ts 99 0, sack, eol, eol",
	  .ordinary = true,
	  .window = 65535 },
	{ .name = "iOS, mobile network",
	  .options = "mss 1300, nop, ws 6, nop, nop, ts 99 0, sack, eol, eol",
	  .ordinary = true,
	  .window = 65535 },
	{ .name = "FreeBSD",
	  .options = "mss 1460, nop, ws 6, sack, ts 3735928559 0",
	  .ordinary = true,
	  .window = 65535 },
	{ .name = "OpenBSD",
	  .options = "mss 1460, nop, nop, sack, nop, ws 6, nop, nop, ts 1 0",
	  .ordinary = true,
	  .window = 16384 },
	{ .name = "NetBSD",
	  .options = "mss 1460, nop, ws 3, sack, nop, nop, nop, nop, ts 1 0",
	  .ordinary = true,
	  .window = 32768 },
	{ .name = "Solaris 11",
	  .options = "sack, ts 5 0, mss 1460, nop, ws 5",
	  .ordinary = true,
	  .window = 64240 },
	{ .name = "lwIP", .options = "mss 1460", .ordinary = true, .window = 5840 },

	/* Old systems, by their fingerprints in p0f. */
	{ .name = "Windows XP", .options = "mss 1460, nop, nop, sack", .window = 65535 },
	{ .name = "Windows Vista, scale 2",
	  .options = "mss 1460, nop, ws 2, nop, nop, sack",
	  .window = 8192 },
	{ .name = "Windows Server, ECN",
	  .options = "mss 1460, nop, ws 8, nop, nop, sack",
	  .flags = ECE | CWR,
	  .window = 8192 },
	{ .name = "Windows 98",
	  .options = "mss 1460, nop, ws 0, nop, nop, ts 0 0, nop, nop, sack",
	  .window = 44620 },
	{ .name = "OpenBSD 3",
	  .options = "mss 1460, nop, nop, sack, nop, ws 0, nop, nop, ts 77 0",
	  .window = 16384 },
	{ .name = "Solaris 8",
	  .options = "nop, ws 1, nop, nop, ts 77 0, nop, nop, sack, mss 1460",
	  .window = 32850 },
	{ .name = "Solaris 10", .options = "mss 1460, nop, ws 0, nop, nop, sack", .window = 49640 },
	{ .name = "HP-UX", .options = "mss 1460, ws 0, nop", .window = 32768 },
	{ .name = "Tru64", .options = "mss 1460, nop, ws 0", .window = 32768 },
	{ .name = "OpenVMS", .options = "mss 1460, nop, nop, sack", .window = 6144 },
	{ .name = "NeXTSTEP", .options = "mss 1024", .window = 4096 },
	{ .name = "Linux 2.0", .options = "mss 1460", .window = 512 },
	{ .name = "Linux 2.4", .options = "mss 1460, sack, ts 77 0, nop, ws 0", .window = 5840 },
	{ .name = "a games console", .options = "mss 1460, nop, ws 5, nop, nop, sack", .window = 65535 },
	{ .name = "BIG-IP", .options = "mss 1460, nop, ws 0, sack, ts 7 0", .window = 4380 },

	/* Scanners. */
	{ .name = "nmap, SYN scan", .options = "mss 1460", .window = 1024 },
	{ .name = "nmap, probe 1", .options = "ws 10, nop, mss 1460, ts 4294967295 0, sack", .window = 1 },
	{ .name = "nmap, probe 2", .options = "mss 1400, ws 0, sack, ts 4294967295 0, eol", .window = 63 },
	{ .name = "nmap, probe 3",
	  .options = "ts 4294967295 0, nop, nop, ws 5, nop, mss 640",
	  .window = 4 },
	{ .name = "nmap, probe 4", .options = "sack, ts 4294967295 0, ws 10, eol", .window = 4 },
	{ .name = "nmap, probe 5", .options = "mss 536, sack, ts 4294967295 0, ws 10, eol", .window = 16 },
	{ .name = "nmap, probe 6", .options = "mss 265, sack, ts 4294967295 0", .window = 512 },
	{ .name = "nmap, ECN probe",
	  .options = "ws 10, nop, mss 1460, sack, nop, nop",
	  .flags = ECE | CWR | AE,
	  .window = 3,
	  .urgent = 0xf7f5 },
	{ .name = "zmap", .options = "", .window = 65535 },
	{ .name = "masscan", .options = "mss 1460", .window = 1024 },

	/* Odd but right. */
	{ .name = "timestamps and scale",
	  .options = "mss 1300, nop, nop, ts 99 0, nop, ws 3",
	  .ordinary = true },
	{ .name = "timestamps and SACK", .options = "mss 1300, sack, ts 99 0", .ordinary = true },
	{ .name = "timestamps alone", .options = "ts 99 0" },
	{ .name = "timestamps of zero", .options = "mss 1460, sack, ts 0 0, nop, ws 7", .ordinary = true },
	{ .name = "timestamps with an echo",
	  .options = "mss 1460, sack, ts 99 123456789, nop, ws 7",
	  .ordinary = true },
	{ .name = "timestamps about to wrap",
	  .options = "mss 1460, sack, ts 4294967295 0, nop, ws 7",
	  .ordinary = true },
	{ .name = "SACK alone", .options = "sack, nop, nop" },
	{ .name = "a scale alone", .options = "nop, ws 7" },
	{ .name = "a scale of 0", .options = "mss 1460, sack, ts 99 0, nop, ws 0", .ordinary = true },
	{ .name = "a scale of 14", .options = "mss 1460, sack, ts 99 0, nop, ws 14", .ordinary = true },
	{ .name = "a scale of 15", .options = "mss 1460, sack, ts 99 0, nop, ws 15" },
	{ .name = "a scale of 255", .options = "mss 1460, sack, ts 99 0, nop, ws 255" },
	{ .name = "a small MSS", .options = "mss 1220, sack, ts 99 0, nop, ws 7" },
	{ .name = "a large MSS", .options = "mss 8960, sack, ts 99 0, nop, ws 7", .ordinary = true },
	{ .name = "fast open, a request",
	  .options = "mss 1460, sack, ts 99 0, nop, ws 7, fastopen",
	  .ordinary = true },
	{ .name = "fast open, a cookie",
	  .options = "mss 1460, sack, ts 99 0, nop, ws 7, fastopen 0102030405060708, nop, nop",
	  .ordinary = true },
	{ .name = "MPTCP, version 1",
	  .options = "mss 1460, sack, ts 99 0, nop, ws 7, raw 1e040101",
	  .ordinary = true },
	{ .name = "MPTCP, version 0",
	  .options = "mss 1460, sack, ts 99 0, nop, ws 7, raw 1e0c00810102030405060708",
	  .ordinary = true },
	{ .name = "SMC", .options = "mss 1460, sack, ts 99 0, nop, ws 7, nop, nop, raw fe06e2d4c3d9" },
	{ .name = "experimental fast open", .options = "mss 1460, sack, ts 99 0, nop, ws 7, raw fe04f989" },
	{ .name = "experiment 253", .options = "mss 1460, raw fd08010203040506, sack, ts 99 0, nop, ws 7" },
	{ .name = "AccECN option 172",
	  .options = "mss 1460, sack, ts 99 0, nop, ws 7, raw ac02, nop, nop" },
	{ .name = "AccECN flags", .flags = AE | ECE | CWR },
	{ .name = "AE alone", .flags = AE },
	{ .name = "ECE alone", .flags = ECE },
	{ .name = "CWR alone", .flags = CWR },
	{ .name = "ECN and ECT 1", .flags = ECE | CWR, .tos = 1 },
	{ .name = "ECN and ECT 0", .flags = ECE | CWR, .tos = 2 },
	{ .name = "ECN and CE", .flags = ECE | CWR, .tos = 0xbb },
	{ .name = "ECT without ECN", .tos = 2 },
	{ .name = "PSH", .flags = PSH },
	{ .name = "URG with a pointer", .flags = URG, .urgent = 0xffff },
	{ .name = "URG without one", .flags = URG },
	{ .name = "a pointer without URG", .urgent = 7 },
	{ .name = "PSH, URG, ECN", .flags = PSH | URG | ECE | CWR, .urgent = 1 },

	/* Wrong. */
	{ .name = "no options", .options = "" },
	{ .name = "NOPs alone", .options = "nop, nop, nop, nop" },
	{ .name = "forty NOPs",
	  .options =
		  "raw 01010101010101010101010101010101010101010101010101010101010101010101010101010101" },
	{ .name = "EOL alone", .options = "eol" },
	{ .name = "options behind EOL", .options = "eol, mss 1460, sack, ts 99 0" },
	{ .name = "a scale behind EOL", .options = "mss 1460, sack, ts 99 0, eol, ws 7" },
	{ .name = "MSS twice", .options = "mss 1460, mss 1300, sack, ts 99 0" },
	{ .name = "MSS twice, the last one 0", .options = "mss 1300, mss 0, sack, ts 99 0" },
	{ .name = "a scale twice", .options = "mss 1460, nop, ws 3, nop, ws 9, sack, ts 99 0" },
	{ .name = "timestamps twice", .options = "mss 1460, ts 1 0, ts 2 0, nop, ws 7" },
	{ .name = "SACK twice", .options = "mss 1460, sack, sack, ts 1 0, nop, ws 7" },
	{ .name = "MSS of length 3", .options = "raw 020305, nop, sack, ts 99 0, nop, ws 7" },
	{ .name = "MSS of length 6", .options = "raw 020605b40000, sack, ts 99 0, nop, ws 7" },
	{ .name = "scale of length 2", .options = "mss 1460, sack, ts 99 0, nop, nop, raw 0302" },
	{ .name = "scale of length 4", .options = "mss 1460, sack, ts 99 0, raw 03040707" },
	{ .name = "SACK of length 3", .options = "mss 1460, nop, raw 040300, ts 99 0, nop, nop" },
	{ .name = "timestamps of length 9", .options = "mss 1460, sack, raw 080900000001000000, nop" },
	{ .name = "timestamps of length 12",
	  .options = "mss 1460, raw 080c00000001000000000000, sack, nop, nop" },
	{ .name = "SACK blocks",
	  .options = "mss 1460, nop, nop, raw 050a0000000100000002, sack, nop, nop" },
	{ .name = "length 0 at the end", .options = "mss 1460, sack, ts 99 0, nop, raw 4c0000" },
	{ .name = "length 0 in front", .options = "raw 4c00, nop, nop, mss 1460, sack, ts 99 0" },
	{ .name = "length 1 in front", .options = "raw 4c01, nop, nop, mss 1460, sack, ts 99 0" },
	{ .name = "length 1 behind the MSS", .options = "mss 1460, raw 0301, nop, nop, sack, ts 99 0" },
	{ .name = "a length past the end", .options = "mss 1460, sack, ts 99 0, nop, raw 4c0f00" },
	{ .name = "a length far past the end",
	  .options = "mss 1460, raw 4cff0000, sack, ts 99 0, nop, nop" },
	{ .name = "a kind at the very end", .options = "mss 1460, nop, nop, nop, raw 08" },
	{ .name = "timestamps cut off", .options = "mss 1460, sack, nop, nop, raw 080a00000001" },
	{ .name = "MSS cut off", .options = "nop, nop, raw 0204" },
	{ .name = "kinds 6 and 7",
	  .options = "mss 1460, raw 060600000000, raw 070600000000, sack, nop, nop" },
	{ .name = "kinds 9 and 10", .options = "mss 1460, raw 0902, raw 0a03c0, nop, nop, nop" },
	{ .name = "CC of T/TCP",
	  .options = "mss 1460, nop, ws 0, nop, nop, ts 5 0, nop, nop, raw 0b0600000001" },
	{ .name = "MD5 signature",
	  .options = "mss 1460, raw 131200000000000000000000000000000000, nop, nop" },
	{ .name = "MD5 of length 4", .options = "mss 1460, raw 13040000" },
	{ .name = "AO", .options = "mss 1460, raw 1d1001010000000000000000000000, nop, nop" },
	{ .name = "AO of length 2", .options = "mss 1460, raw 1d02, nop, nop" },
	{ .name = "user timeout", .options = "mss 1460, raw 1c040000, sack, ts 99 0" },
};

enum {
	NAMED = sizeof(named) / sizeof(*named),
};

int syns_named(void)
{
	return NAMED;
}

/* ---- by a generator ---- */

static uint32_t drawn;

/* xorshift (Marsaglia). */
static uint32_t draw(uint32_t below)
{
	drawn ^= drawn << 13;
	drawn ^= drawn >> 17;
	drawn ^= drawn << 5;
	return below ? drawn % below : drawn;
}

#define DRAW_OF(array) ((array)[draw(sizeof(array) / sizeof(*(array)))])

static void put(struct tcp_options *o, const void *bytes, unsigned int length)
{
	if (o->len + length > OPTIONS_MAX)
		return;
	memcpy(o->bytes + o->len, bytes, length);
	o->len = (uint8_t)(o->len + length);
}

static void put_byte(struct tcp_options *o, unsigned int byte)
{
	put(o, &(uint8_t){ (uint8_t)byte }, 1);
}

static void put_mss(struct tcp_options *o)
{
	static const uint16_t odd[] = { 0,    1,    63,	  87,	256,  535,  536,  537,	640,   1024,
					1218, 1219, 1220, 1221, 1239, 1240, 1280, 1300, 1340,  1360,
					1379, 1380, 1400, 1412, 1420, 1439, 1440, 1452, 1459,  1460,
					1461, 4096, 8799, 8800, 8940, 8959, 8960, 9000, 32768, 65535 };
	const uint16_t mss = draw(4) ? DRAW_OF(odd) : (uint16_t)draw(0);

	put(o, (uint8_t[]){ 2, 4, (uint8_t)(mss >> 8), (uint8_t)mss }, 4);
}

static void put_scale(struct tcp_options *o)
{
	static const uint8_t odd[] = { 0, 1, 2, 7, 8, 10, 13, 14, 15, 16, 128, 255 };

	put(o, (uint8_t[]){ 3, 3, draw(3) ? DRAW_OF(odd) : (uint8_t)draw(15) }, 3);
}

static void put_timestamps(struct tcp_options *o)
{
	static const uint32_t odd[] = { 0, 1, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff };
	uint32_t value[2] = { draw(3) ? draw(0) : DRAW_OF(odd), draw(4) ? 0 : draw(0) };
	uint8_t bytes[10] = { 8, 10 };

	for (int i = 0; i < 8; i++)
		bytes[2 + i] = (uint8_t)(value[i / 4] >> (24 - i % 4 * 8));
	put(o, bytes, 10);
}

static void put_unknown(struct tcp_options *o)
{
	static const uint8_t kinds[] = { 5, 6, 7, 9, 14, 28, 30, 34, 69, 76, 172, 174, 252, 253, 254, 255 };
	const unsigned int length = 2 + draw(9);
	uint8_t bytes[10] = { DRAW_OF(kinds), (uint8_t)length };

	for (unsigned int i = 2; i < length; i++)
		bytes[i] = (uint8_t)draw(0);
	put(o, bytes, length);
}

/* One of the known kinds, with a length that is not its own: too short, too long, past the end. */
static void put_wrong(struct tcp_options *o)
{
	static const uint8_t kinds[] = { 2, 3, 4, 8, 30, 34, 254 };
	static const uint8_t lengths[] = { 0, 1, 2, 3, 4, 5, 9, 11, 40, 255 };
	uint8_t bytes[4] = { DRAW_OF(kinds), DRAW_OF(lengths), (uint8_t)draw(0), (uint8_t)draw(0) };

	put(o, bytes, 2 + draw(3));
}

static void put_known(struct tcp_options *o, int which)
{
	switch (which) {
	case 0: put_mss(o); break;
	case 1: put_scale(o); break;
	case 2: put(o, (uint8_t[]){ 4, 2 }, 2); break;
	case 3: put_timestamps(o); break;
	}
}

/* The four known options or some of them, in any order, with any padding and what else there may be. */
static struct tcp_options any_options(const char **what)
{
	static const char *const style[] = { "any order",     "unknown options", "duplicates",
					     "wrong lengths", "cut off",	 "noise" };
	const unsigned int kind = (unsigned int[]){ 0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 4, 5 }[draw(12)];
	struct tcp_options o = { 0 };
	int order[4] = { 0, 1, 2, 3 };

	*what = style[kind];
	if (kind == 5) {
		for (unsigned int words = draw(11) * 4; words; words--)
			put_byte(&o, draw(2) ? draw(256) : draw(9));
		return o;
	}
	for (unsigned int i = 3; i; i--) {
		unsigned int other = draw(i + 1);
		int kept = order[i];

		order[i] = order[other];
		order[other] = kept;
	}
	for (int i = 0; i < 4; i++) {
		if (!draw(5))
			continue;
		for (unsigned int pad = draw(4) ? 0 : draw(4); pad; pad--)
			put_byte(&o, 1);
		put_known(&o, order[i]);
		if (kind == 1 && draw(2))
			put_unknown(&o);
		if (kind == 2 && draw(2))
			put_known(&o, (int)draw(4));
		if (kind == 3 && !draw(3))
			put_wrong(&o);
	}
	if (kind == 4 && o.len > 1)
		o.len = (uint8_t)(o.len - 1 - draw(o.len / 2 + 1));
	/* To whole words: by End of Option List (what the builder puts), NOPs, or that and anything. */
	switch (draw(3)) {
	case 0:
		while (o.len % 4)
			put_byte(&o, 1);
		break;
	case 1:
		put_byte(&o, 0);
		while (o.len % 4)
			put_byte(&o, draw(256));
		break;
	}
	return o;
}

static struct syn_kind generate(int i)
{
	static const uint32_t seqs[] = { 0, 1, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff };
	static const uint16_t windows[] = { 0, 1, 63, 512, 1024, 8192, 32767, 32768, 65535 };
	static const uint16_t flags[] = {
		ECE, CWR, AE, AE | ECE | CWR, PSH, URG, PSH | URG, URG | ECE | CWR
	};
	static const uint8_t ttls[] = { 1, 2, 32, 63, 64, 127, 128, 254, 255 };
	static char name[64];
	struct syn_kind kind = { .name = name, .options = true, .seq = true };
	struct tcp_spec *set = &kind.set;
	const char *what;

	/* Of the number alone, so that one of them can be looked at by itself. */
	drawn = (SYNS_SEED + (uint32_t)i) * 2654435761u;
	for (int warm = 0; warm < 4; warm++)
		draw(0);
	set->options = any_options(&what);
	set->flags = draw(6) ? (draw(3) ? 0 : ECE | CWR) : DRAW_OF(flags);
	set->tos = draw(2) ? (uint8_t)draw(256) : 0;
	set->window = draw(2) ? DRAW_OF(windows) : (uint16_t)draw(0);
	set->zero_window = true;
	set->urgent = draw(4) ? 0 : (uint16_t)draw(0);
	set->seq = draw(2) ? DRAW_OF(seqs) : draw(0);
	set->ttl = draw(2) ? DRAW_OF(ttls) : (uint8_t)(1 + draw(255));
	set->id = (uint16_t)draw(0);
	set->no_df = draw(2);
	set->fragment = draw(16) ? 0 : EVIL;
	set->flow_label = draw(2) ? draw(1 << 20) : 0;
	snprintf(name, sizeof(name), "generated %d (%s)", i, what);
	return kind;
}

struct syn_kind syns_get(int i)
{
	struct syn_kind kind = {};
	const struct named *from = &named[i];

	if (i >= NAMED)
		return generate(i - NAMED);
	kind.name = from->name;
	kind.ordinary = from->ordinary;
	kind.options = from->options;
	if (from->options)
		kind.set.options = options_text(from->options);
	kind.set.flags = from->flags;
	kind.set.tos = from->tos;
	kind.set.window = from->window;
	kind.set.urgent = from->urgent;
	return kind;
}

void syns_apply(const struct syn_kind *kind, struct tcp_spec *syn)
{
	const struct tcp_spec *set = &kind->set;

	if (kind->options)
		syn->options = set->options;
	if (kind->seq)
		syn->seq = set->seq;
	syn->flags |= set->flags;
	syn->tos = set->tos;
	syn->window = set->window;
	syn->zero_window = set->zero_window;
	syn->urgent = set->urgent;
	syn->ttl = set->ttl;
	syn->id = set->id;
	syn->no_df = set->no_df;
	syn->fragment = set->fragment;
	syn->flow_label = set->flow_label;
}
