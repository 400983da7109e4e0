// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The host's firewall, which never sees the SYNs that the driver answers: what attach refuses, what it lets
 * through, and that README's recipes work, on real rulesets and real packets.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "product.h"

enum {
	PORT = 8080,
	MARK = 0x7868,
};

#define TABLE "add table inet f; "
/* What a server needs besides its port. */
#define INPUT_DROP                                                                                         \
	TABLE "add chain inet f i { type filter hook input priority 0; policy drop; }; "                   \
	      "add rule inet f i ct state established,related accept; "                                    \
	      "add rule inet f i iif lo accept; "                                                          \
	      "add rule inet f i meta l4proto { icmp, ipv6-icmp } accept; "
#define INPUT_ACCEPT TABLE "add chain inet f i { type filter hook input priority 0; policy accept; }; "
#define RULE	     "add rule inet f i "

/* README's recipes, as they stand there. */
#define RECIPE_NOTRACK                                                                                     \
	"table inet xdp_handshake {\n"                                                                     \
	"	chain in {\n"                                                                                    \
	"		type filter hook prerouting priority raw;\n"                                                    \
	"		tcp dport 8080 notrack\n"                                                                       \
	"	}\n"                                                                                             \
	"	chain out {\n"                                                                                   \
	"		type filter hook output priority raw;\n"                                                        \
	"		tcp sport 8080 notrack\n"                                                                       \
	"	}\n"                                                                                             \
	"}\n"
#define RECIPE_MARK "meta mark 0x7868 ct mark set meta mark accept; " RULE "ct mark 0x7868 accept; "

static int load(const struct netns *ns, const char *ruleset)
{
	return netns_sh(ns, "nft -f - <<'END'\n%s\nEND", ruleset);
}

static void must_load(const struct netns *ns, const char *ruleset)
{
	REQUIRE(!load(ns, ruleset), "%s: %s", ruleset, netns_said());
}

static int attach(const struct product *product, const char *arguments)
{
	return netns_sh(product->pair.server, PROGRAM " attach " SERVER_IF " --port 8080 --pin-path %s %s",
			product->pins, arguments);
}

static int detach(const struct product *product)
{
	return netns_sh(product->pair.server, PROGRAM " detach --all --now --pin-path %s", product->pins);
}

/* One line that names all of @words. */
static bool said_in_one_line(const char *word, const char *other)
{
	const char *said = netns_said(), *end = strchr(said, '\n');

	return (!end || !end[1]) && strstr(said, word) && strstr(said, other);
}

/* ---- what attach says ---- */

struct refusal {
	const char *ruleset; /* nft's, or a command if it begins with "ip" */
	const char *names;
	bool optional; /* the kernel or the machine may not have it */
};

static const struct refusal refusals[] = {
	{ INPUT_DROP RULE "tcp dport 8080 tcp flags & (fin|syn|rst|ack) == syn accept",
	  "tcp dport 8080 tcp flags", false },
	{ INPUT_ACCEPT RULE "tcp flags & (fin|syn|rst|ack) != syn ct state new drop", "ct state new drop",
	  false },
	{ INPUT_DROP RULE "tcp dport { 80, 8000-8100 } limit rate 100/second accept",
	  "tcp dport { 80, 8000-8100 } limit rate 100/second", false },
	{ INPUT_DROP "add set inet f s { type ipv4_addr; flags dynamic; }; " RULE
		     "tcp dport 8080 add @s { ip saddr limit rate over 9/second } drop",
	  "add @s { ip saddr limit rate over 9/second", false },
	{ INPUT_ACCEPT RULE "tcp dport 8080 ct count over 10 reject", "ct count over 10 reject", true },
	{ INPUT_ACCEPT RULE "tcp dport 8080 quota over 10 mbytes drop", "quota over 10 mbytes drop", true },
	{ INPUT_ACCEPT RULE "tcp dport 8080 queue num 3", "queue", true },
	{ INPUT_ACCEPT RULE "tcp dport 8080 ct state invalid,untracked synproxy mss 1460 wscale 7",
	  "synproxy", true },
	{ TABLE "add chain inet f n { type nat hook prerouting priority -100; }; "
		"add rule inet f n tcp dport 8080 dnat ip to 10.0.0.2:80",
	  "tcp dport 8080 dnat ip to 10.0.0.2:80", false },
	{ TABLE "add chain inet f n { type nat hook prerouting priority -100; }; "
		"add rule inet f n iifname " SERVER_IF " tcp dport 8080 redirect to :8081",
	  "redirect to :8081", false },
	{ TABLE "add chain inet f p { type filter hook prerouting priority -150; }; "
		"add rule inet f p tcp dport 8080 tproxy to :8081 accept",
	  "tproxy to :8081", true },
	{ INPUT_ACCEPT RULE "ip saddr 192.0.2.0/24 drop", "ip saddr 192.0.2.0/24 drop", false },
	{ INPUT_ACCEPT "add set inet f bad { type ipv6_addr; flags interval; }; " RULE
		       "ip6 saddr @bad tcp dport 8080 reject",
	  "ip6 saddr @bad tcp dport 8080 reject", false },
	{ INPUT_DROP RULE "ip saddr 192.0.2.0/24 tcp dport 8080 accept",
	  "ip saddr 192.0.2.0/24 tcp dport 8080", false },
	{ INPUT_DROP RULE "ct state invalid drop; " RULE "tcp dport 8080 accept", "ct state invalid drop",
	  false },
	{ INPUT_DROP RULE "ct state vmap { invalid : drop, untracked : accept }; " RULE
			  "tcp dport 8080 accept",
	  "ct state vmap", false },
	{ "add table netdev f; add chain netdev f i { type filter hook ingress device " SERVER_IF
	  " priority 0; }; add rule netdev f i tcp dport 8080 limit rate over 5/second drop",
	  "netdev f i: tcp dport 8080 limit rate over 5/second", false },
	{ "iptables-nft -A INPUT -p tcp --dport 8080 -m recent --name a --update --seconds 9 --hitcount 5 "
	  "-j DROP",
	  "tcp dport 8080 xt match recent", true },
	{ "iptables-nft -A INPUT -p tcp --dport 8080 -m hashlimit --hashlimit-upto 5/sec --hashlimit-name "
	  "h "
	  "--hashlimit-mode srcip -j ACCEPT",
	  "tcp dport 8080", true },
	{ "ip6tables-nft -A INPUT -p tcp --dport 8080 -j NFQUEUE --queue-num 3", "queue num 3", true },
	{ "iptables-nft -A INPUT -m conntrack --ctstate INVALID -j DROP", "ct state invalid", true },
	{ "ip6tables-nft -A INPUT -p tcp -m multiport --dports 80,8080 -m connlimit --connlimit-above 9 -j "
	  "REJECT",
	  "8080", true },
	{ TABLE "add chain inet f n { type nat hook postrouting priority 100; }; "
		"add rule inet f n oifname eth7 masquerade",
	  "chain n of table inet f", false },
	{ "add table ip6 n; add chain ip6 n out { type nat hook output priority -100; }",
	  "chain out of table ip6 n", false },
	{ "iptables-nft -t nat -A PREROUTING -p tcp --dport 8080 -j REDIRECT --to-ports 80",
	  "redirect to :80", true },
};

static bool load_either(const struct netns *ns, const char *ruleset)
{
	netns_must(ns, "nft flush ruleset");
	if (!strncmp(ruleset, "ip", 2))
		return !netns_sh(ns, "%s", ruleset);
	return !load(ns, ruleset);
}

static void expect_nothing_left(const struct product *product, const char *after)
{
	struct stat there;

	EXPECT(stat(product->pins, &there) && errno == ENOENT, "%s: pins are left", after);
	EXPECT(!strstr(netns_output(product->pair.server, "ip link show dev " SERVER_IF), "xdp"),
	       "%s: an XDP program is left", after);
}

CASE("rules that must see SYNs are refused by their name, with nothing left behind; --firewall-checked "
     "attaches, and status lists them")
{
	struct product product = product_new(NULL, NULL);
	int loaded = 0;

	report_case_limit(400);
	for (size_t i = 0; i < sizeof(refusals) / sizeof(*refusals); i++) {
		const struct refusal *refusal = &refusals[i];

		if (!load_either(product.pair.server, refusal->ruleset)) {
			REQUIRE(refusal->optional, "%s: %s", refusal->ruleset, netns_said());
			continue;
		}
		loaded++;
		EXPECT_EQ(attach(&product, ""), 1, "%s", refusal->ruleset);
		EXPECT(said_in_one_line(refusal->names, "--firewall-checked"), "%s: %s", refusal->ruleset,
		       netns_said());
		expect_nothing_left(&product, refusal->ruleset);
		EXPECT_EQ(attach(&product, "--firewall-checked"), 0, "%s: %s", refusal->ruleset,
			  netns_said());
		product_must(&product, "status");
		EXPECT(strstr(netns_said(), refusal->names), "%s: status has no such warning: %s",
		       refusal->ruleset, netns_said());
		EXPECT_EQ(detach(&product), 0, "%s", netns_said());
	}
	EXPECT(loaded >= 12, "only %d rulesets can be loaded here", loaded);
}

CASE("nf_conntrack_tcp_loose=0 is refused where conntrack is in use, and only there")
{
	struct product product = product_new(NULL, NULL);

	netns_sysctl(product.pair.server, "net.netfilter.nf_conntrack_tcp_loose", "0");
	EXPECT_EQ(attach(&product, ""), 0, "%s", netns_said());
	EXPECT_EQ(detach(&product), 0);
	must_load(product.pair.server, INPUT_DROP RULE "tcp dport 8080 accept");
	EXPECT_EQ(attach(&product, ""), 1);
	EXPECT(said_in_one_line("nf_conntrack_tcp_loose=0", "set it to 1"), "%s", netns_said());
	expect_nothing_left(&product, "loose");
	netns_sysctl(product.pair.server, "net.netfilter.nf_conntrack_tcp_loose", "1");
	EXPECT_EQ(attach(&product, ""), 0, "%s", netns_said());
}

CASE("ordinary rulesets need no flag")
{
	static const char *const rulesets[] = {
		"",
		INPUT_DROP RULE "tcp dport 8080 accept",
		INPUT_DROP RULE "tcp dport { 22, 8080 } ct state new accept",
		INPUT_ACCEPT RULE "tcp dport 8080 accept; " RULE "ct state invalid drop",
		INPUT_ACCEPT RULE "tcp dport 8080 drop",
		INPUT_ACCEPT RULE "tcp dport 22 limit rate over 3/minute drop; " RULE
				  "ip saddr 192.0.2.1 tcp dport 22 drop; " RULE "udp dport 8080 drop",
		INPUT_ACCEPT RULE "iifname eth7 limit rate over 3/minute drop; " RULE
				  "icmp type echo-request limit rate 5/second accept",
		INPUT_DROP RULE "tcp dport 8080 accept; " RULE
				"limit rate 3/minute log prefix \"dropped \"",
		INPUT_ACCEPT RULE "tcp flags & (fin|syn) == (fin|syn) drop; " RULE
				  "ip saddr 127.0.0.0/8 iif != "
				  "lo drop; " RULE "fib saddr . iif oif missing drop",
		TABLE "add chain inet f o { type filter hook output priority 0; }; "
		      "add rule inet f o tcp dport 8080 limit rate over 3/minute drop",
		RECIPE_NOTRACK TABLE "add chain inet f n { type nat hook postrouting priority 100; }; "
				     "add rule inet f n masquerade",
		RECIPE_NOTRACK INPUT_DROP RULE
		"ct state invalid drop; " RULE
		"tcp flags & (fin|syn|rst|ack) != syn ct state new drop; " RULE "tcp dport 8080 accept",
		"iptables-nft -A INPUT -p tcp -m multiport --dports 80,8080 -m conntrack --ctstate NEW -j "
		"ACCEPT",
		"iptables-nft -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
	};
	struct product product = product_new(NULL, NULL);

	for (size_t i = 0; i < sizeof(rulesets) / sizeof(*rulesets); i++) {
		if (!load_either(product.pair.server, rulesets[i])) {
			REQUIRE(!strncmp(rulesets[i], "ip", 2), "%s: %s", rulesets[i], netns_said());
			continue;
		}
		if (!EXPECT_EQ(attach(&product, ""), 0, "%s: %s", rulesets[i], netns_said()))
			continue;
		product_must(&product, "status");
		EXPECT(!strstr(netns_said(), "firewall"), "%s: %s", rulesets[i], netns_said());
		EXPECT_EQ(detach(&product), 0);
	}
}

CASE("rules of iptables-legacy, which nftables does not show, are refused; empty tables are not")
{
	struct product product = product_new(NULL, NULL);
	const struct netns *server = product.pair.server;

	if (netns_sh(server, "iptables-legacy -t filter -L -n && ip6tables-legacy -t raw -L -n"))
		SKIP("no iptables-legacy here: %s", netns_said());
	EXPECT_EQ(attach(&product, ""), 0, "%s", netns_said());
	EXPECT_EQ(detach(&product), 0);
	netns_must(server, "ip6tables-legacy -t raw -A PREROUTING -p tcp --dport 22 -j DROP");
	EXPECT_EQ(attach(&product, ""), 1);
	EXPECT(said_in_one_line("table raw of ip6tables-legacy", "nftables"), "%s", netns_said());
	expect_nothing_left(&product, "legacy");
	EXPECT_EQ(attach(&product, "--firewall-checked"), 0, "%s", netns_said());
}

CASE("of several rules the first is named and the others are counted; -v shows all")
{
	struct product product = product_new(NULL, NULL);

	must_load(product.pair.server,
		  INPUT_ACCEPT RULE "tcp dport 8080 limit rate over 7/second drop; " RULE
				    "ip saddr 192.0.2.77 drop; " RULE "ct state invalid drop");
	EXPECT_EQ(attach(&product, ""), 1);
	EXPECT(said_in_one_line("limit rate over 7/second", "2 more"), "%s", netns_said());
	EXPECT_EQ(attach(&product, "-v"), 1);
	EXPECT(strstr(netns_said(), "limit rate over 7/second") && strstr(netns_said(), "192.0.2.77") &&
		       strstr(netns_said(), "ct state invalid"),
	       "%s", netns_said());
}

CASE("rules for the bridge that a device is in count, those for its neighbours do not")
{
	struct product product = product_new(NULL, NULL);
	const struct netns *server = product.pair.server;

	netns_must(server, "ip link add above type bridge && ip link set " SERVER_IF " master above && "
			   "ip link add other type veth peer name another && ip link set other up");
	must_load(server, INPUT_ACCEPT RULE "iifname { lo, other } limit rate over 7/second drop");
	EXPECT_EQ(attach(&product, ""), 0, "%s", netns_said());
	EXPECT_EQ(detach(&product), 0);
	must_load(server, RULE "iifname above limit rate over 7/second drop");
	EXPECT_EQ(attach(&product, ""), 1);
	EXPECT(said_in_one_line("iifname \"above\"", "--firewall-checked"), "%s", netns_said());
}

CASE("a rule that comes later is a warning of status; of many, ten are shown")
{
	struct product product = product_new(NULL, "--port 8080");
	json_t *status, *warning;
	int shown = 0, more = 0;
	size_t i;

	must_load(product.pair.server, INPUT_ACCEPT);
	for (int rule = 0; rule < 25; rule++)
		netns_must(product.pair.server, "nft add rule inet f i ip saddr 192.0.2.%d drop", rule + 1);
	status = product_json(&product, "status");
	json_array_foreach (json_object_get(status, "warnings"), i, warning) {
		shown += !!strstr(json_string_value(warning), "ip saddr 192.0.2.");
		more += !!strstr(json_string_value(warning), "15 more rules");
	}
	EXPECT_EQ(shown, 10);
	EXPECT_EQ(more, 1);
	json_decref(status);
	/* And an attach in the place of the running one is refused like any other, which goes on. */
	EXPECT_EQ(attach(&product, ""), 1);
	product_must(&product, "stats");
}

/* ---- packets ---- */

/* A connection over which both ends have heard of each other. */
static bool exchange(const struct product *product, const char *address, int listener)
{
	int fd = tcp_connect(product->pair.client, address, PORT, 1000), accepted = -1;
	char word[8] = "";
	bool done = false;

	/* Two segments, with the client's first in the way of everything. */
	if (fd >= 0 && write(fd, "pi", 2) == 2 && write(fd, "ng", 2) == 2)
		accepted = tcp_accept(listener, 1000);
	if (accepted >= 0 && tcp_read(accepted, word, 4, 1000) == 4 && !memcmp(word, "ping", 4) &&
	    write(accepted, "pong", 4) == 4)
		done = tcp_read(fd, word, 4, 1000) == 4 && !memcmp(word, "pong", 4);
	if (fd >= 0)
		close(fd);
	if (accepted >= 0)
		close(accepted);
	return done;
}

/* Connections that the driver answers, all of which come to something. */
static void expect_exchanges(const struct product *product, const char *address, int listener, int count)
{
	long long promoted;
	int done = 0;

	product_admit(product, address, PORT);
	tcp_accept_all(listener);
	promoted = counter(product, "promoted");
	for (int i = 0; i < count; i++)
		done += exchange(product, address, listener);
	EXPECT_EQ(done, count, "exchanges with %s", address);
	EXPECT(counter(product, "promoted") >= promoted + count * 3 / 4, "%lld of %d were promoted",
	       counter(product, "promoted") - promoted, count);
}

/* Without the cure the driver's answers lead nowhere: otherwise the ruleset proves nothing. */
static void expect_hang(const struct product *product, int listener)
{
	long long before;
	int done = 0;

	/* Not product_admit(): connections that the driver answers do not get through. */
	for (int i = 0; i < 3; i++)
		close(tcp_connect(product->pair.client, SERVER_IP4, PORT, 300));
	tcp_accept_all(listener);
	before = counter(product, "syn_answered");
	for (int i = 0; i < 2; i++)
		done += exchange(product, SERVER_IP4, listener);
	EXPECT_EQ(counter(product, "syn_answered"), before + 2, "the driver does not answer");
	EXPECT_EQ(done, 0, "exchanges, though the ruleset drops what is promoted");
}

#define INVALID_AND_NEW                                                                                    \
	INPUT_DROP RULE "ct state invalid drop; " RULE                                                     \
			"tcp flags & (fin|syn|rst|ack) != syn ct state new drop; " RULE                    \
			"tcp dport 8080 accept"

CASE("notrack: a ruleset that drops what is invalid, and what is new but no SYN, lets promoted connections "
     "through")
{
	struct product product = product_new(NULL, NULL);
	int listener = tcp_listen(product.pair.server, NULL, PORT, 64);

	must_load(product.pair.server, RECIPE_NOTRACK INVALID_AND_NEW);
	EXPECT_EQ(attach(&product, "--canary once"), 0, "%s", netns_said());
	expect_exchanges(&product, SERVER_IP4, listener, 50);
	expect_exchanges(&product, SERVER_IP6, listener, 50);
	close(listener);
}

CASE("the same ruleset without notrack: clients connect and hang")
{
	struct product product = product_new(NULL, NULL);
	int listener = tcp_listen(product.pair.server, NULL, PORT, 64);

	must_load(product.pair.server, INVALID_AND_NEW);
	EXPECT_EQ(attach(&product, "--canary once --firewall-checked"), 0, "%s", netns_said());
	expect_hang(&product, listener);
	close(listener);
}

#define MASQUERADE                                                                                         \
	TABLE "add chain inet f n { type nat hook postrouting priority 100; }; add rule inet f n "         \
	      "masquerade"

CASE("notrack: with NAT on the host promoted connections live")
{
	struct product product = product_new(NULL, NULL);
	int listener = tcp_listen(product.pair.server, NULL, PORT, 64);

	must_load(product.pair.server, RECIPE_NOTRACK MASQUERADE);
	EXPECT_EQ(attach(&product, "--canary once"), 0, "%s", netns_said());
	expect_exchanges(&product, SERVER_IP4, listener, 50);
	expect_exchanges(&product, SERVER_IP6, listener, 50);
	close(listener);
}

CASE("NAT that comes later: after three resets the service is the stack's, status says why, and attach "
     "tries "
     "again")
{
	struct product product = product_new(NULL, NULL);
	int listener = tcp_listen(product.pair.server, NULL, PORT, 64);
	static const char *const servers[] = { SERVER_IP4, SERVER_IP6 };

	EXPECT_EQ(attach(&product, ""), 0, "%s", netns_said());
	for (int s = 0; s < 2; s++)
		expect_exchanges(&product, servers[s], listener, 10);
	must_load(product.pair.server, MASQUERADE);
	for (int s = 0; s < 2; s++) {
		int failed = 0;

		for (int i = 0; i < 20; i++) {
			tcp_accept_all(listener);
			failed += !exchange(&product, servers[s], listener);
		}
		/* Of the second service, the first reset is one of several in a row already. */
		EXPECT(failed <= 3, "%s: %d of 20 are reset", servers[s], failed);
	}
	EXPECT(counter(&product, "syn_passed_refused") >= 30, "%s",
	       netns_output(product.pair.server, PROGRAM " stats --pin-path %s | grep -v '^ *0 '",
			    product.pins));
	product_must(&product, "status");
	EXPECT(strstr(netns_said(), "services are left to the stack") && strstr(netns_said(), "notrack"),
	       "%s", netns_said());
	must_load(product.pair.server, RECIPE_NOTRACK);
	EXPECT_EQ(attach(&product, ""), 0, "%s", netns_said());
	for (int s = 0; s < 2; s++)
		expect_exchanges(&product, servers[s], listener, 10);
	close(listener);
}

CASE("notrack: nf_conntrack_tcp_loose=0 with drops of what is invalid does no harm")
{
	struct product product = product_new(NULL, NULL);
	int listener = tcp_listen(product.pair.server, NULL, PORT, 64);

	netns_sysctl(product.pair.server, "net.netfilter.nf_conntrack_tcp_loose", "0");
	must_load(product.pair.server,
		  RECIPE_NOTRACK INPUT_DROP RULE "ct state invalid drop; " RULE "tcp dport 8080 accept");
	EXPECT_EQ(attach(&product, "--canary once"), 0, "%s", netns_said());
	expect_exchanges(&product, SERVER_IP4, listener, 50);
	expect_exchanges(&product, SERVER_IP6, listener, 50);
	close(listener);
}

CASE("nf_conntrack_tcp_loose=0 and drops of what is invalid without notrack: clients connect and hang")
{
	struct product product = product_new(NULL, NULL);
	int listener = tcp_listen(product.pair.server, NULL, PORT, 64);

	netns_sysctl(product.pair.server, "net.netfilter.nf_conntrack_tcp_loose", "0");
	must_load(product.pair.server,
		  INPUT_DROP RULE "ct state invalid drop; " RULE "tcp dport 8080 accept");
	EXPECT_EQ(attach(&product, "--canary once --firewall-checked"), 0, "%s", netns_said());
	expect_hang(&product, listener);
	close(listener);
}

#define SYN_NEEDED RULE "tcp dport 8080 tcp flags & (fin|syn|rst|ack) == syn ct state new accept"

CASE("--mark: a ruleset that asks for a SYN accepts promoted connections by their mark")
{
	struct product product = product_new(NULL, NULL);
	int listener = tcp_listen(product.pair.server, NULL, PORT, 64);

	must_load(product.pair.server, INPUT_DROP RULE RECIPE_MARK SYN_NEEDED);
	EXPECT_EQ(attach(&product, "--canary once --mark 0x7868 --firewall-checked"), 0, "%s",
		  netns_said());
	expect_exchanges(&product, SERVER_IP4, listener, 50);
	expect_exchanges(&product, SERVER_IP6, listener, 50);
	/* It is the mark that does it. */
	EXPECT_EQ(attach(&product, "--mark 0 --firewall-checked"), 0, "%s", netns_said());
	expect_hang(&product, listener);
	close(listener);
}

static long packets_of(const struct netns *ns, const char *chain)
{
	const char *text = netns_output(
		ns, "nft list chain inet f %s | sed -n 's/.*packets \\([0-9]*\\).*/\\1/p'", chain);
	long packets = -1;

	REQUIRE(text && sscanf(text, "%ld", &packets) == 1, "%s", netns_said());
	return packets;
}

CASE("--mark: the segment that is promoted has it, no other; it is kept, shown, changed and taken off")
{
	struct product product = product_new(NULL, "--port 8080 --canary once --mark 30824");
	int listener = tcp_listen(product.pair.server, NULL, PORT, 64);
	json_t *status;
	long long promoted;

	must_load(product.pair.server,
		  TABLE "add chain inet f p { type filter hook prerouting priority -300; }; "
			"add rule inet f p meta mark 0x7868 counter; "
			"add chain inet f q { type filter hook prerouting priority -299; }; "
			"add rule inet f q meta mark != { 0, 0x7868 } counter");
	expect_exchanges(&product, SERVER_IP4, listener, 20);
	expect_exchanges(&product, SERVER_IP6, listener, 20);
	promoted = counter(&product, "promoted");
	EXPECT_EQ(packets_of(product.pair.server, "p"), promoted);
	status = product_json(&product, "status");
	EXPECT_EQ(json_integer_value(json_object_get(status, "mark")), MARK);
	json_decref(status);
	EXPECT_EQ(attach(&product, ""), 0, "%s", netns_said());
	expect_exchanges(&product, SERVER_IP4, listener, 5);
	EXPECT(packets_of(product.pair.server, "p") > promoted, "attach without --mark has taken it off");
	promoted = packets_of(product.pair.server, "p");
	EXPECT_EQ(packets_of(product.pair.server, "q"), 0);
	EXPECT_EQ(attach(&product, "--mark 0xffffffff"), 0, "%s", netns_said());
	expect_exchanges(&product, SERVER_IP4, listener, 5);
	EXPECT(packets_of(product.pair.server, "q") > 0, "the mark is not changed");
	EXPECT_EQ(attach(&product, "--mark 0"), 0, "%s", netns_said());
	expect_exchanges(&product, SERVER_IP4, listener, 5);
	EXPECT_EQ(packets_of(product.pair.server, "p"), promoted);
	close(listener);
}

/* ---- rules on the port as a whole ---- */

/* What the client gets of several attempts: the error of each, which must be the same. */
static int outcome(const struct product *product, const char *address)
{
	int error = 0;

	for (int i = 0; i < 4; i++) {
		int fd = tcp_connect(product->pair.client, address, PORT, 250);
		int now = fd < 0 ? errno : 0;

		if (fd >= 0)
			close(fd);
		EXPECT(!i || now == error, "attempt %d: %s after %s", i, strerror(now), strerror(error));
		error = now;
	}
	return error;
}

CASE("a port that is dropped or rejected is never learned: clients see what they see natively")
{
	static const struct {
		const char *rule;
		int error;
	} rules[] = {
		{ "tcp dport 8080 drop", ETIMEDOUT },
		{ "tcp dport 8080 reject with tcp reset", ECONNREFUSED },
		{ "tcp dport 8080 reject", ECONNREFUSED },
		{ "meta nfproto { ipv4, ipv6 } reject with icmpx admin-prohibited", EHOSTUNREACH },
	};
	static const char *const addresses[] = { SERVER_IP4, SERVER_IP6 };
	struct product product = product_new(NULL, NULL);
	const struct netns *server = product.pair.server;
	int listener = tcp_listen(server, NULL, PORT, 64);

	/* Else the kernel says less than it is asked. */
	netns_sysctl(server, "net.ipv4.icmp_ratelimit", "0");
	netns_sysctl(server, "net.ipv6.icmp.ratelimit", "0");
	for (size_t i = 0; i < 2 * sizeof(rules) / sizeof(*rules); i++) {
		int native, ours;

		netns_must(server,
			   "nft flush ruleset; nft '" INPUT_ACCEPT RULE
			   "meta l4proto ipv6-icmp accept; " RULE "%s'",
			   rules[i / 2].rule);
		native = outcome(&product, addresses[i & 1]);
		/* Of ICMPv6 errors clients make what they like. */
		EXPECT(native == rules[i / 2].error || (i & 1 && strstr(rules[i / 2].rule, "reject")),
		       "%s, natively: %s", rules[i / 2].rule, strerror(native));
		REQUIRE(!attach(&product, ""), "%s: %s", rules[i / 2].rule, netns_said());
		ours = outcome(&product, addresses[i & 1]);
		EXPECT(ours == native, "%s: %s, natively %s", rules[i / 2].rule, strerror(ours),
		       strerror(native));
		EXPECT(counter(&product, "syn_received") >= 4, "the program saw no SYNs");
		EXPECT_EQ(counter(&product, "service_learned"), 0, "%s", rules[i / 2].rule);
		EXPECT_EQ(counter(&product, "syn_answered"), 0, "%s", rules[i / 2].rule);
		EXPECT_EQ(detach(&product), 0);
	}
	close(listener);
}

CASE("a drop of the port that comes after it was admitted: within the canary's patience SYNs are the "
     "stack's, "
     "and when it goes, they are answered again")
{
	struct product product = product_new(NULL, "--port 8080 --canary 1");
	int listener = tcp_listen(product.pair.server, NULL, PORT, 64);
	struct wire *wire = wire_open(product.pair.client, CLIENT_IF);
	int64_t begin, last_answer = 0;
	struct tcp_frame frame;
	uint16_t port = 20000;
	long long answered;

	product_admit(&product, SERVER_IP4, PORT);
	must_load(product.pair.server, INPUT_ACCEPT RULE "tcp dport 8080 drop");
	begin = last_answer = now_ms();
	/* A canary after a second, its patience of three seconds; so long must the silence last, too. */
	while (now_ms() - begin < 8000 && now_ms() - last_answer < 3500) {
		struct hand hand = hand_new(wire, 9, port++, SERVER_IP4, PORT, true);

		wire_send(wire, &hand.spec);
		if (wire_recv(wire, &hand.spec, 100, &frame))
			last_answer = now_ms();
		else if (now_ms() - last_answer > 1500)
			poll(NULL, 0, 100);
		poll(NULL, 0, 20);
	}
	EXPECT(last_answer - begin < 4600, "still answered after %lld ms",
	       (long long)(last_answer - begin));
	EXPECT(now_ms() - last_answer >= 3500, "never silent");
	EXPECT(strstr(netns_output(product.pair.server, PROGRAM " listeners --json --pin-path %s",
				   product.pins),
		      "\"admitted\": false"),
	       "%s", netns_said());
	netns_must(product.pair.server, "nft flush ruleset");
	/* A canary a second at most. */
	answered = counter(&product, "syn_answered");
	EXPECT(WAIT_FOR((close(tcp_connect(product.pair.client, SERVER_IP4, PORT, 1000)), poll(NULL, 0, 20),
			 counter(&product, "syn_answered") > answered),
			3000),
	       "not answered again");
	tcp_accept_all(listener);
	EXPECT(exchange(&product, SERVER_IP4, listener));
	wire_close(wire);
	close(listener);
}

int main(int argc, char **argv)
{
	return report_main(argc, argv, NULL);
}
