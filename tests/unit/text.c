// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* user/format.c and user/ports.c: what users type, and what they read. */
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>

#include "../../user/format.h"
#include "../../user/ports.h"
#include "random.h"
#include "report.h"

#define COUNT_OF(array) (sizeof(array) / sizeof(*(array)))

/* ---- port lists ---- */

CASE("lists of ports are read, and written in order and without overlaps")
{
	static const struct {
		const char *list, *normal;
	} good[] = {
		{ "80", "80" },
		{ "1", "1" },
		{ "65535", "65535" },
		{ "80,443", "80,443" },
		{ "443,80", "80,443" },
		{ "80,81", "80-81" },
		{ "8000-8099", "8000-8099" },
		{ "80,443,8000-8099", "80,443,8000-8099" },
		{ "1-65535", "1-65535" },
		{ "63-65", "63-65" },
		{ "64,63,65", "63-65" },
		{ "80-80", "80" },
		{ "80,80,80", "80" },
		{ "10-20,15-25", "10-25" },
		{ "007", "7" },
		{ "65534-65535", "65534-65535" },
	};

	for (size_t i = 0; i < COUNT_OF(good); i++) {
		struct port_set set = {};
		const char *wrong = NULL;
		char *text;

		if (!EXPECT(port_set_parse(&set, good[i].list, &wrong), "%s", good[i].list))
			continue;
		text = port_set_format(&set);
		EXPECT_STR(text, good[i].normal, "%s", good[i].list);
		free(text);
		EXPECT(!port_set_has(&set, 0), "%s", good[i].list);
	}
}

CASE("what is no list of ports is refused, its wrong part named, nothing added")
{
	static const struct {
		const char *list, *wrong;
	} bad[] = {
		{ "", "" },
		{ "0", "0" },
		{ "65536", "65536" },
		{ "99999999999999999999", "99999999999999999999" },
		{ "http", "http" },
		{ "80,", "" },
		{ ",80", "" },
		{ "80,,443", "" },
		{ "80, 443", " 443" },
		{ " 80", " 80" },
		{ "80 ", "80 " },
		{ "-80", "-80" },
		{ "+80", "+80" },
		{ "80-", "80-" },
		{ "-", "-" },
		{ "80-70", "80-70" },
		{ "0-10", "0-10" },
		{ "10-65536", "10-65536" },
		{ "10-20-30", "10-20-30" },
		{ "80;443", "80;443" },
		{ "0x50", "0x50" },
		{ "80.5", "80.5" },
		{ "80,443,x", "x" },
		{ "80\n", "80\n" },
		/* Longer than any port or range: cut where the copy ends. */
		{ "00000000000000000000000000000000000000080", "0000000000000000000000000000000" },
		{ "000000000000000000000000000008080", "0000000000000000000000000000080" },
		{ "0000000000000000000000000000080http", "0000000000000000000000000000080" },
		{ "1-00000000000000000000000000080http", "1-00000000000000000000000000080" },
		{ "1-0000000000000000000000000000000000065535", "1-00000000000000000000000000000" },
	};

	for (size_t i = 0; i < COUNT_OF(bad); i++) {
		struct port_set set = {};
		const char *wrong = NULL;
		char *text;

		if (!EXPECT(!port_set_parse(&set, bad[i].list, &wrong), "'%s'", bad[i].list))
			continue;
		EXPECT_STR(wrong, bad[i].wrong, "'%s'", bad[i].list);
		text = port_set_format(&set);
		EXPECT_STR(text, "", "'%s'", bad[i].list);
		free(text);
	}
}

CASE("a second list adds to the first, a wrong one leaves it alone")
{
	struct port_set set = {};
	const char *wrong;
	char *text;

	EXPECT(port_set_parse(&set, "80", &wrong));
	EXPECT(port_set_parse(&set, "443", &wrong));
	EXPECT(!port_set_parse(&set, "8080,8081-x", &wrong));
	text = port_set_format(&set);
	EXPECT_STR(text, "80,443");
	free(text);
}

CASE("all ports are 1 to 65535")
{
	struct port_set set = {};
	char *text;

	port_set_fill(&set);
	text = port_set_format(&set);
	EXPECT_STR(text, "1-65535");
	free(text);
}

CASE("any set of ports is what its text says")
{
	uint64_t random = 1;

	for (int i = 0; i < 200; i++) {
		struct port_set set = {}, again = {};
		const char *wrong;
		char *text;

		for (__u32 n = 1 + random_below(&random, 50); n; n--) {
			unsigned int first = 1 + random_below(&random, 65535),
				     length = random_below(&random, 9);

			for (unsigned int port = first; port <= first + length && port < 65536; port++)
				port_set_add(&set, port);
		}
		text = port_set_format(&set);
		EXPECT(port_set_parse(&again, text, &wrong), "%s", text);
		EXPECT_MEM(&again, &set, sizeof(set), "%s", text);
		free(text);
	}
}

/* ---- endpoints ---- */

CASE("endpoints are read")
{
	static const struct {
		const char *text, *address;
		unsigned int port;
	} good[] = {
		{ "10.0.0.1:80", "::ffff:10.0.0.1", 80 },
		{ "0.0.0.0:1", "::ffff:0.0.0.0", 1 },
		{ "255.255.255.255:65535", "::ffff:255.255.255.255", 65535 },
		{ "[2001:db8::1]:443", "2001:db8::1", 443 },
		{ "[::]:443", "::", 443 },
		{ "[::1]:443", "::1", 443 },
		{ "2001:db8::1:443", "2001:db8::1", 443 },
		{ "[::ffff:10.0.0.1]:80", "::ffff:10.0.0.1", 80 },
		{ "[1111:2222:3333:4444:5555:6666:7777:8888]:9", "1111:2222:3333:4444:5555:6666:7777:8888",
		  9 },
		{ "[0000:0000:0000:0000:0000:ffff:192.168.100.200]:9", "::ffff:192.168.100.200", 9 },
	};

	for (size_t i = 0; i < COUNT_OF(good); i++) {
		struct address address = {}, expected;
		__be16 port = 0;
		bool any = true;

		REQUIRE(inet_pton(AF_INET6, good[i].address, &expected) == 1);
		EXPECT(parse_endpoint(good[i].text, &address, &port, &any), "%s", good[i].text);
		EXPECT(!any, "%s", good[i].text);
		EXPECT_EQ(host16(port), good[i].port, "%s", good[i].text);
		EXPECT_MEM(&address, &expected, sizeof(address), "%s", good[i].text);
	}
}

CASE("a star is any address")
{
	struct address address;
	__be16 port = 0;
	bool any = false;

	EXPECT(parse_endpoint("*:80", &address, &port, &any) && any);
	EXPECT_EQ(host16(port), 80);
}

CASE("what is no endpoint is refused")
{
	static const char *const bad[] = {
		"",
		":",
		"80",
		"10.0.0.1",
		"10.0.0.1:",
		"10.0.0.1:0",
		"10.0.0.1:65536",
		"10.0.0.1:-1",
		"10.0.0.1:80x",
		"10.0.0.1: 80",
		":80",
		"10.0.0:80",
		"10.0.0.256:80",
		"10.0.0.1.1:80",
		"010.0.0.1.:80",
		"host:80",
		"[]:80",
		"[:80",
		"]:80",
		"[2001:db8::1:80",
		"2001:db8::1]:80",
		"[2001:db8::g]:80",
		"**:80",
		"*",
		"*:",
		"*:0",
		" 10.0.0.1:80",
		"10.0.0.1 :80",
		"[2001:db8::1]80",
		"[2001:db8::1]:",
		"[1:2:3:4:5:6:7:8:9]:80",
		"[2001::db8::1]:80",
		"[fe80::1%eth0]:80",
		"[aaaa:aaaa:aaaa:aaaa:aaaa:aaaa:aaaa:aaaa:aaaaaa]:80",
		"[aaaa:aaaa:aaaa:aaaa:aaaa:aaaa:aaaa:aaaa:aaaaaaa]:80",
		"[aaaa:aaaa:aaaa:aaaa:aaaa:aaaa:aaaa:aaaa:aaaa:aaaa:aaaa:aaaa:aaaa]:80",
	};

	for (size_t i = 0; i < COUNT_OF(bad); i++) {
		struct address address;
		__be16 port;
		bool any;

		EXPECT(!parse_endpoint(bad[i], &address, &port, &any), "'%s'", bad[i]);
	}
}

CASE("endpoints are written as they are read, IPv4 as IPv4")
{
	static const struct {
		const char *address, *text;
	} rows[] = {
		{ "::ffff:10.0.0.1", "10.0.0.1:8080" },
		{ "2001:db8::1", "[2001:db8::1]:8080" },
		{ "::", "[::]:8080" },
		{ "::ffff:0.0.0.0", "0.0.0.0:8080" },
		{ "1111:2222:3333:4444:5555:6666:7777:8888",
		  "[1111:2222:3333:4444:5555:6666:7777:8888]:8080" },
	};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		char text[FORMAT_ENDPOINT];
		struct address address;

		REQUIRE(inet_pton(AF_INET6, rows[i].address, &address) == 1);
		format_endpoint(&address, be16_from(8080), text);
		EXPECT_STR(text, rows[i].text);
	}
}

CASE("any endpoint reads as it was written")
{
	uint64_t random = 2;

	for (int i = 0; i < 100000; i++) {
		struct address address, again = {};
		__be16 port = be16_from((__u16)(1 + random_below(&random, 65535))), port_again = 0;
		char text[FORMAT_ENDPOINT];
		bool any;

		random_fill(&random, &address, sizeof(address));
		if (i & 1)
			address_map_ipv4(&address, address.word[3]);
		else if (i & 2)
			address.word[random_below(&random, 4)] = be32_from(0);
		format_endpoint(&address, port, text);
		if (!EXPECT(parse_endpoint(text, &again, &port_again, &any), "%s", text) ||
		    !EXPECT(address_equal(&address, &again) && port == port_again, "%s", text))
			return;
	}
}

/* ---- numbers, states, ages ---- */

CASE("numbers are decimal, whole and within their bounds")
{
	static const char *const bad[] = { "",
					   " 5",
					   "5 ",
					   "+5",
					   "-5",
					   "0x5",
					   "5.0",
					   "5e1",
					   "4",
					   "11",
					   "18446744073709551616",
					   "99999999999999999999999",
					   "five" };
	unsigned long number = 0;

	for (size_t i = 0; i < COUNT_OF(bad); i++)
		EXPECT(!parse_number(bad[i], 5, 10, &number), "'%s'", bad[i]);
	EXPECT(parse_number("5", 5, 10, &number) && number == 5);
	EXPECT(parse_number("10", 5, 10, &number) && number == 10);
	EXPECT(parse_number("010", 5, 10, &number) && number == 10);
	EXPECT(parse_number("18446744073709551615", 0, -1UL, &number) && number == -1UL);
	EXPECT(parse_number("0", 0, 0, &number) && number == 0);
}

CASE("states have the names of RFC 9293")
{
	EXPECT_STR(format_state(1), "ESTABLISHED");
	EXPECT_STR(format_state(6), "TIME-WAIT");
	EXPECT_STR(format_state(10), "LISTEN");
	EXPECT_STR(format_state(12), "SYN-RECEIVED");
	EXPECT_STR(format_state(0), "UNKNOWN");
	EXPECT_STR(format_state(13), "UNKNOWN");
	EXPECT_STR(format_state(-1u), "UNKNOWN");
}

CASE("ages are short")
{
	static const struct {
		unsigned long long seconds;
		const char *text;
	} rows[] = {
		{ 0, "0s" },	     { 59, "59s" },	      { 60, "1m00s" },
		{ 185, "3m05s" },    { 3599, "59m59s" },      { 3600, "1h00m" },
		{ 7800, "2h10m" },   { 86399, "23h59m" },     { 86400, "1d00h" },
		{ 442800, "5d03h" }, { 31536000, "365d00h" }, { 8639999999ULL, "99999d23h" },
	};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		char text[16];

		format_age(rows[i].seconds, text);
		EXPECT_STR(text, rows[i].text);
	}
}

CASE("prefixes of either family, and what they hold")
{
	static const struct {
		const char *prefix, *inside, *outside;
	} good[] = {
		{ "192.0.2.0/24", "192.0.2.255:1", "192.0.3.0:1" },
		{ "192.0.2.128/25", "192.0.2.128:1", "192.0.2.127:1" },
		{ "192.0.2.1", "192.0.2.1:1", "192.0.2.2:1" },
		{ "192.0.2.1/32", "192.0.2.1:1", "192.0.2.0:1" },
		{ "0.0.0.0/0", "203.0.113.9:1", "[2001:db8::1]:1" },
		{ "2001:db8::/32", "[2001:db8:ffff::1]:1", "[2001:db9::]:1" },
		{ "2001:db8::8/125", "[2001:db8::f]:1", "[2001:db8::10]:1" },
		{ "2001:db8::1", "[2001:db8::1]:1", "[2001:db8::2]:1" },
		{ "::ffff:192.0.2.0/120", "192.0.2.7:1", "192.0.3.7:1" },
	};
	static const char *const bad[] = { "",
					   "/",
					   "/24",
					   "192.0.2.0/",
					   "192.0.2.0/33",
					   "192.0.2.0/-1",
					   "192.0.2/24",
					   "2001:db8::/129",
					   "2001:db8::/x",
					   "[2001:db8::]/32",
					   "host/24",
					   "192.0.2.0/24/8",
					   " 192.0.2.0",
					   "192.0.2.0/ 24" };
	struct address address;
	struct prefix prefix;
	__be16 port;
	bool any;

	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		EXPECT(parse_prefix(good[i].prefix, &prefix), "%s", good[i].prefix);
		EXPECT(parse_endpoint(good[i].inside, &address, &port, &any) &&
			       prefix_has(&prefix, &address),
		       "%s is not in %s", good[i].inside, good[i].prefix);
		EXPECT(parse_endpoint(good[i].outside, &address, &port, &any) &&
			       !prefix_has(&prefix, &address),
		       "%s is in %s", good[i].outside, good[i].prefix);
	}
	EXPECT(parse_prefix("::/0", &prefix) && parse_endpoint("[ff::1]:1", &address, &port, &any) &&
	       prefix_has(&prefix, &address));
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		EXPECT(!parse_prefix(bad[i], &prefix), "'%s'", bad[i]);
}

int main(int argc, char **argv)
{
	return report_main(argc, argv, NULL);
}
