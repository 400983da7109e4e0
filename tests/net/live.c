// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * What changes on the server after attach: sysctls, the listening socket, routes, MTU, addresses,
 * neighbours. Nothing tells us but the canaries; no daemon runs. After two of them at the most, no SYN-ACK
 * of ours looks as the stack's did before. Two ports alike, one of them protected: what the other one's
 * SYN-ACK shows is what ours must show.
 */
#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>

#include <bpf/bpf.h>

#include "abi.h"
#include "checksum.h"
#include "product.h"

enum {
	PROTECTED = 8080,
	NATIVE = 8081,
	CANARIES = 2,	 /* a change shows when so many have been passed */
	PACE_MS = 1100,	 /* then the next canary is due */
	SYN_TOS = 0x28,	 /* for tcp_reflect_tos to reflect */
	ATTEMPTS = 5,	 /* SYNs until one is answered by the driver */
	SILENCE_MS = 200 /* without a SYN-ACK: there is none */
};

static const char *const family[] = { "IPv4", "IPv6" };
static const char *const server_ip[] = { SERVER_IP4, SERVER_IP6 };

enum kind {
	LINUX,	   /* with timestamps */
	LINUX_ECN, /* and it asks for ECN */
	WINDOWS,   /* without timestamps */
	PLAIN	   /* with nothing but an MSS */
};

struct bench {
	struct product product;
	struct wire *wire;
	int listeners[2];	   /* of PROTECTED, of NATIVE */
	struct tcp_frame shown[2]; /* the driver's last SYN-ACK */
	uint16_t client_port;
	uint8_t client_mac[6]; /* zero: CLIENT_MAC */
};

/* How SYNs ended. */
struct ends {
	long long answered;
	long long passed;
	long long canaries;
};

static struct ends ends_of(const struct bench *bench)
{
	json_t *top = product_json(&bench->product, "stats"), *value;
	struct ends ends = {};
	const char *key;

	json_object_foreach(json_object_get(top, "counters"), key, value)
	{
		if (!strcmp(key, "syn_answered"))
			ends.answered = json_integer_value(value);
		else if (!strncmp(key, "syn_passed_", 11))
			ends.passed += json_integer_value(value);
		if (!strcmp(key, "syn_passed_canary"))
			ends.canaries = json_integer_value(value);
	}
	json_decref(top);
	return ends;
}

/* Sends a SYN, takes the SYN-ACK, and ends what the stack may hold for it; false if none comes in @ms. */
static bool ask_for(struct bench *bench, const char *address, uint16_t port, enum kind kind, int ms,
		    struct tcp_frame *synack)
{
	struct hand hand = hand_new(bench->wire, 7, bench->client_port++, address, port, kind <= LINUX_ECN);
	struct tcp_spec reset;

	hand.spec.tos = SYN_TOS;
	if (kind == PLAIN)
		hand.spec.options = options_mss(strchr(address, ':') ? 1440 : 1460);
	if (kind == LINUX_ECN)
		hand.spec.flags |= ECE | CWR;
	memcpy(hand.spec.src_mac, bench->client_mac, sizeof(bench->client_mac));
	wire_send(bench->wire, &hand.spec);
	if (!wire_recv_flags(bench->wire, &hand.spec, SYN | ACK, RST, ms, synack))
		return false;
	reset = hand.spec;
	reset.flags = RST;
	reset.seq++;
	reset.options = options_none();
	wire_send(bench->wire, &reset);
	return true;
}

static bool ask(struct bench *bench, const char *address, uint16_t port, enum kind kind,
		struct tcp_frame *synack)
{
	return ask_for(bench, address, port, kind, 1000, synack);
}

static bool is_silent(struct bench *bench, const char *address, uint16_t port)
{
	struct tcp_frame synack;

	return !ask_for(bench, address, port, LINUX, SILENCE_MS, &synack);
}

/* SYNs until the driver answers one, or the attempts are used up. Counts those that were passed. */
static bool ask_driver(struct bench *bench, const char *address, enum kind kind, struct tcp_frame *synack,
		       int *passed)
{
	struct ends before = ends_of(bench), after;

	for (int i = 0; i < ATTEMPTS; i++, before = after) {
		bool heard = ask(bench, address, PROTECTED, kind, synack);

		after = ends_of(bench);
		if (after.answered == before.answered + 1)
			return EXPECT(heard, "%s: counted as answered, and no SYN-ACK", address);
		EXPECT_EQ(after.passed, before.passed + 1, "%s: a SYN was neither answered nor passed",
			  address);
		++*passed;
	}
	return false;
}

/* @commands, or NULL: in the server's namespace, before the service is learned. */
static void begin(struct bench *bench, const char *commands)
{
	memset(bench, 0, sizeof(*bench));
	bench->product = product_new(NULL, "--port 8080 --canary 1");
	if (commands)
		netns_must(bench->product.pair.server, "%s", commands);
	bench->wire = wire_open(bench->product.pair.client, CLIENT_IF);
	bench->client_port = 20000;
	for (int i = 0; i < 2; i++)
		bench->listeners[i] = tcp_listen(bench->product.pair.server, NULL, i ? NATIVE : PROTECTED,
						 512);
	for (int f = 0; f < 2; f++) {
		int passed = 0;

		REQUIRE(ask_driver(bench, server_ip[f], LINUX_ECN, &bench->shown[f], &passed),
			"%s: never answered", family[f]);
	}
}

static void end(struct bench *bench)
{
	for (int i = 0; i < 2; i++)
		close(bench->listeners[i]);
	wire_close(bench->wire);
}

/* What a change changes. */
enum field {
	TTL,
	TOS,
	MSS,
	WSCALE,
	WINDOW,
	TIMESTAMPS,
	SACK,
	ECN,
};

static int field_of(const struct tcp_frame *synack, enum field field)
{
	switch (field) {
	case TTL: return synack->ttl;
	case TOS: return synack->tos;
	case MSS: return synack->mss;
	case WSCALE: return synack->wscale;
	case WINDOW: return synack->window;
	case TIMESTAMPS: return synack->timestamps;
	case SACK: return synack->sack_ok;
	case ECN: return !!(synack->flags & ECE);
	}
	return -1;
}

struct option {
	int level;
	int name;
	int value;
	int usual;
};

struct change {
	const char *name;
	const char *begin; /* commands in the server's namespace, or NULL */
	const char *end;
	struct option options[2]; /* of the listening sockets; name 0: none */
	enum field field;
	bool refuses; /* an option: what is left may have no room in a cookie without timestamps, as ECN has
			 none */
};

/* A SYN of the other kind: as the stack's, where the cookie can carry what is left of its options. */
static void expect_windows(struct bench *bench, const struct change *change, const char *name, int f)
{
	struct tcp_frame ours, native;
	int passed = 0;

	if (!ask_driver(bench, server_ip[f], WINDOWS, &ours, &passed)) {
		EXPECT(change->refuses, "%s, %s: without timestamps never answered", name, family[f]);
		return;
	}
	REQUIRE(ask(bench, server_ip[f], NATIVE, WINDOWS, &native));
	if (!EXPECT(!synack_difference(&ours, &native), "%s, %s, without timestamps: %s", name, family[f],
		    synack_difference(&ours, &native)))
		printf("#   we:        %s\n", frame_text(&ours));
}

/* The change has been made. */
static void expect_shown(struct bench *bench, const struct change *change, const char *name)
{
	const enum kind kind = change->refuses ? LINUX : LINUX_ECN;
	int canaries[2] = {}, open = 2, waits = 0;
	struct tcp_frame native[2], ours;
	bool done[2] = {};

	for (int f = 0; f < 2; f++) {
		REQUIRE(ask(bench, server_ip[f], NATIVE, kind, &native[f]));
		EXPECT(field_of(&native[f], change->field) != field_of(&bench->shown[f], change->field),
		       "%s, %s: the stack's SYN-ACK is as before: the case shows nothing", name, family[f]);
	}
	while (open) {
		for (int f = 0; f < 2; f++) {
			const long long before = ends_of(bench).canaries;
			const char *why;
			int passed = 0;
			bool ours_now;

			if (done[f])
				continue;
			ours_now = ask_driver(bench, server_ip[f], kind, &ours, &passed);
			canaries[f] += (int)(ends_of(bench).canaries - before);
			if (!ours_now) {
				/* They ask for what is to be learned anew, when a canary is due again. */
				REQUIRE(waits++ < 3, "%s, %s: the driver answers no more", name, family[f]);
				continue;
			}
			why = synack_difference(&ours, &native[f]);
			if (!why &&
			    field_of(&ours, change->field) == field_of(&bench->shown[f], change->field))
				why = "nothing has changed";
			if (why && canaries[f] < CANARIES)
				continue;
			if (!EXPECT(!why, "%s, %s, after %d canaries: %s", name, family[f], canaries[f],
				    why)) {
				printf("#   we:        %s\n", frame_text(&ours));
				printf("#   the stack: %s\n", frame_text(&native[f]));
			}
			bench->shown[f] = ours;
			done[f] = true;
			open--;
		}
		if (open)
			poll(NULL, 0, PACE_MS);
	}
	printf("# %s: shown after %d and %d canaries\n", name, canaries[0], canaries[1]);
	for (int f = 0; f < 2; f++)
		expect_windows(bench, change, name, f);
}

static void make(struct bench *bench, const struct change *change, bool usual)
{
	const char *commands = usual ? change->end : change->begin;

	if (commands)
		netns_must(bench->product.pair.server, "%s", commands);
	for (int i = 0; i < 2; i++) {
		const struct option *option = &change->options[i];
		const int *value = usual ? &option->usual : &option->value;

		for (int l = 0; l < 2 && option->name; l++)
			REQUIRE(!setsockopt(bench->listeners[l], option->level, option->name, value,
					    sizeof(*value)),
				"%s: %s", change->name, strerror(errno));
	}
}

/* One after the other, each taken back as well: that is a change, too. */
static void all_shown(const char *commands, const struct change *changes, size_t number)
{
	struct bench bench;

	begin(&bench, commands);
	for (size_t i = 0; i < number; i++) {
		char name[80];

		make(&bench, &changes[i], false);
		expect_shown(&bench, &changes[i], changes[i].name);
		make(&bench, &changes[i], true);
		snprintf(name, sizeof(name), "%s, taken back", changes[i].name);
		expect_shown(&bench, &changes[i], name);
	}
	EXPECT_EQ(counters(&bench.product, "syn_passed_"),
		  counter(&bench.product, "syn_passed_canary") +
			  counter(&bench.product, "syn_passed_not_learned") +
			  counter(&bench.product, "syn_passed_not_admitted") +
			  counter(&bench.product, "syn_passed_option_uncarried") +
			  counter(&bench.product, "syn_passed_option_unlearned"),
		  "SYNs were passed that were no canaries");
	end(&bench);
}

#define COUNT(array)		    (sizeof(array) / sizeof(*(array)))
#define SYSCTL(name, value)	    "sysctl -w net." name "='" value "'"
#define CHANGED(name, value, usual) .begin = SYSCTL(name, value), .end = SYSCTL(name, usual)

CASE("sysctls: tcp_rmem, ip_default_ttl and hop_limit, tcp_reflect_tos, tcp_ecn")
{
	static const struct change changes[] = {
		{ .name = "tcp_rmem",
		  CHANGED("ipv4.tcp_rmem", "4096 131072 67108864", "4096 131072 6291456"),
		  .field = WSCALE },
		{ .name = "ip_default_ttl and hop_limit",
		  .begin = SYSCTL("ipv4.ip_default_ttl",
				  "200") " && " SYSCTL("ipv6.conf." SERVER_IF ".hop_limit", "77"),
		  .end = SYSCTL("ipv4.ip_default_ttl",
				"64") " && " SYSCTL("ipv6.conf." SERVER_IF ".hop_limit", "64"),
		  .field = TTL },
		{ .name = "tcp_reflect_tos", CHANGED("ipv4.tcp_reflect_tos", "1", "0"), .field = TOS },
		{ .name = "tcp_ecn=0", CHANGED("ipv4.tcp_ecn", "0", "2"), .field = ECN },
	};

	all_shown(NULL, changes, COUNT(changes));
}

CASE("sysctls: tcp_timestamps, tcp_sack, tcp_window_scaling")
{
	static const struct change changes[] = {
		{ .name = "tcp_timestamps=0",
		  CHANGED("ipv4.tcp_timestamps", "0", "1"),
		  .field = TIMESTAMPS,
		  .refuses = true },
		{ .name = "tcp_sack=0",
		  CHANGED("ipv4.tcp_sack", "0", "1"),
		  .field = SACK,
		  .refuses = true },
		{ .name = "tcp_window_scaling=0",
		  CHANGED("ipv4.tcp_window_scaling", "0", "1"),
		  .field = WSCALE,
		  .refuses = true },
	};

	all_shown(NULL, changes, COUNT(changes));
}

/* What a canary does not ask for, it does not show: so it must be known otherwise. */
CASE("options that sysctls switch off, while canaries come from clients that ask for none of them")
{
	/* One by one: a choice of several may be one that the cookie cannot carry, which is passed. */
	static const struct {
		const char *name;
		const char *usual;
		enum kind kind;
	} sysctls[] = {
		{ "net.ipv4.tcp_timestamps", "1", LINUX },
		{ "net.ipv4.tcp_sack", "1", LINUX },
		{ "net.ipv4.tcp_window_scaling", "1", LINUX },
		{ "net.ipv4.tcp_ecn", "2", LINUX_ECN },
	};
	struct bench bench;

	begin(&bench, NULL);
	for (size_t i = 0; i < COUNT(sysctls); i++) {
		const enum kind kind = sysctls[i].kind;
		long long failed = counters(&bench.product, "promote_failed_");
		struct ends before = ends_of(&bench), after;

		netns_sysctl(bench.product.pair.server, sysctls[i].name, "0");
		poll(NULL, 0, PACE_MS);
		for (int f = 0; f < 2; f++) {
			struct tcp_frame synack;

			REQUIRE(ask(&bench, server_ip[f], PROTECTED, PLAIN, &synack));
		}
		after = ends_of(&bench);
		EXPECT_EQ(after.canaries, before.canaries + 2);
		for (int f = 0; f < 2; f++) {
			struct tcp_frame ours, native;
			struct hand hand;
			int fd;

			REQUIRE(ask(&bench, server_ip[f], PROTECTED, kind, &ours));
			REQUIRE(ask(&bench, server_ip[f], NATIVE, kind, &native));
			EXPECT(!synack_difference(&ours, &native), "%s off, %s: %s", sysctls[i].name,
			       family[f], synack_difference(&ours, &native));
			/* The stack would refuse to promote what it no longer grants. */
			hand = hand_new(bench.wire, 7, bench.client_port++, server_ip[f], PROTECTED, true);
			REQUIRE(hand_syn(&hand));
			hand.spec.options = hand.synack.timestamps ? options_ts(1000001, hand.synack.tsval)
								   : options_none();
			wire_send(bench.wire, &hand.spec);
			fd = tcp_accept(bench.listeners[0], 1000);
			EXPECT(fd >= 0, "%s off, %s: the connection fails", sysctls[i].name, family[f]);
			close(fd);
		}
		EXPECT_EQ(counters(&bench.product, "promote_failed_"), failed, "%s off", sysctls[i].name);
		netns_sysctl(bench.product.pair.server, sysctls[i].name, sysctls[i].usual);
		for (int f = 0; f < 2 && kind == LINUX; f++) {
			struct tcp_frame ours, native;

			REQUIRE(ask(&bench, server_ip[f], PROTECTED, kind, &ours));
			REQUIRE(ask(&bench, server_ip[f], NATIVE, kind, &native));
			EXPECT(!synack_difference(&ours, &native), "%s on again, %s: %s", sysctls[i].name,
			       family[f], synack_difference(&ours, &native));
		}
	}
	end(&bench);
}

CASE("the listening socket: IP_TTL and IPV6_UNICAST_HOPS, IP_TOS and IPV6_TCLASS, TCP_MAXSEG, "
     "TCP_WINDOW_CLAMP, SO_RCVBUF")
{
	static const struct change changes[] = {
		{ .name = "IP_TTL, IPV6_UNICAST_HOPS",
		  .options = { { IPPROTO_IP, IP_TTL, 99, 64 },
			       { IPPROTO_IPV6, IPV6_UNICAST_HOPS, 98, -1 } },
		  .field = TTL },
		{ .name = "IP_TOS, IPV6_TCLASS",
		  .options = { { IPPROTO_IP, IP_TOS, 0x48, 0 }, { IPPROTO_IPV6, IPV6_TCLASS, 0x48, 0 } },
		  .field = TOS },
		{ .name = "TCP_MAXSEG", .options = { { IPPROTO_TCP, TCP_MAXSEG, 1300, 0 } }, .field = MSS },
		{ .name = "TCP_WINDOW_CLAMP",
		  .options = { { IPPROTO_TCP, TCP_WINDOW_CLAMP, 20000, 1 << 20 } },
		  .field = WINDOW },
		{ .name = "SO_RCVBUF",
		  .options = { { SOL_SOCKET, SO_RCVBUF, 16384, 65536 } },
		  .field = WINDOW },
	};

	all_shown(NULL, changes, COUNT(changes));
}

#define ROUTES(options)                                                                                    \
	"ip route replace " FAKE_NET4 " via " CLIENT_IP4 " " options " && ip -6 route replace " FAKE_NET6  \
	" via " CLIENT_IP6 " " options
#define ROUTED(options) .name = "a route's " options, .begin = ROUTES(options), .end = ROUTES("")

CASE("routes and the device: advmss, initrwnd, hoplimit, window; MTU")
{
	static const struct change changes[] = {
		{ ROUTED("advmss 1250"), .field = MSS },
		{ ROUTED("initrwnd 10"), .field = WINDOW },
		{ ROUTED("hoplimit 33"), .field = TTL },
		{ ROUTED("window 20000"), .field = WINDOW },
		{ .name = "an MTU of 1400",
		  .begin = "ip link set " SERVER_IF " mtu 1400",
		  .end = "ip link set " SERVER_IF " mtu 1500 && ip -6 addr replace " SERVER_IP6
			 "/64 dev " SERVER_IF " nodad",
		  .field = MSS },
	};

	all_shown(NULL, changes, COUNT(changes));
}

/* ---- a client that lowers its path MTU ---- */

struct icmp4 {
	struct ethhdr eth;
	struct iphdr ip;
	struct icmphdr icmp;
	struct iphdr about;
	struct icmphdr of; /* the eight bytes that the stack looks at: an echo reply that it has sent */
} __attribute__((packed));

struct icmp6 {
	struct ethhdr eth;
	struct ip6_hdr ip;
	struct icmp6_hdr icmp;
	struct ip6_hdr about;
	struct icmp6_hdr of;
} __attribute__((packed));

static uint16_t sum_of(uint64_t sum, const void *bytes, size_t size)
{
	for (size_t i = 0; i < size; i += 2) {
		uint16_t word;

		memcpy(&word, (const char *)bytes + i, sizeof(word));
		sum += word;
	}
	return csum_field(sum);
}

/* "Fragmentation needed" (RFC 1191) from the client itself: its path takes no packets above @mtu. */
static void lower_path4(struct wire *wire, const char *client, int mtu)
{
	struct icmp4 frame = { .eth = { .h_dest = "\x02\x77\0\0\0\x01",
					.h_source = "\x02\x77\0\0\0\x02",
					.h_proto = htons(ETH_P_IP) } };

	frame.ip = (struct iphdr){ .version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_ICMP };
	frame.ip.tot_len = htons(sizeof(frame) - offsetof(struct icmp4, ip));
	inet_pton(AF_INET, client, &frame.ip.saddr);
	inet_pton(AF_INET, SERVER_IP4, &frame.ip.daddr);
	frame.ip.check = sum_of(0, &frame.ip, sizeof(frame.ip));
	frame.icmp = (struct icmphdr){ .type = ICMP_DEST_UNREACH, .code = ICMP_FRAG_NEEDED };
	frame.icmp.un.frag.mtu = htons((uint16_t)mtu);
	frame.about = (struct iphdr){ .version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_ICMP };
	frame.about.tot_len = htons(1500);
	frame.about.saddr = frame.ip.daddr;
	frame.about.daddr = frame.ip.saddr;
	frame.about.check = sum_of(0, &frame.about, sizeof(frame.about));
	frame.of.type = ICMP_ECHOREPLY;
	frame.icmp.checksum = sum_of(0, &frame.icmp, sizeof(frame) - offsetof(struct icmp4, icmp));
	wire_send_bytes(wire, &frame, sizeof(frame));
}

/* "Packet too big" (RFC 4443 section 3.2). */
static void lower_path6(struct wire *wire, const char *client, int mtu)
{
	struct icmp6 frame = { .eth = { .h_dest = "\x02\x77\0\0\0\x01",
					.h_source = "\x02\x77\0\0\0\x02",
					.h_proto = htons(ETH_P_IPV6) } };
	const uint16_t length = sizeof(frame) - offsetof(struct icmp6, icmp);
	__be32 from[4], to[4];

	frame.ip.ip6_flow = htonl(0x60000000);
	frame.ip.ip6_plen = htons(length);
	frame.ip.ip6_nxt = IPPROTO_ICMPV6;
	frame.ip.ip6_hlim = 64;
	inet_pton(AF_INET6, client, from);
	inet_pton(AF_INET6, SERVER_IP6, to);
	memcpy(&frame.ip.ip6_src, from, sizeof(from));
	memcpy(&frame.ip.ip6_dst, to, sizeof(to));
	frame.icmp.icmp6_type = ICMP6_PACKET_TOO_BIG;
	frame.icmp.icmp6_mtu = htonl((uint32_t)mtu);
	frame.about = frame.ip;
	frame.about.ip6_plen = htons(1460);
	frame.about.ip6_src = frame.ip.ip6_dst;
	frame.about.ip6_dst = frame.ip.ip6_src;
	frame.of.icmp6_type = ICMP6_ECHO_REPLY;
	frame.icmp.icmp6_cksum = sum_of(csum_pseudo_ipv6(from, to, IPPROTO_ICMPV6, length), &frame.icmp,
					length);
	wire_send_bytes(wire, &frame, sizeof(frame));
}

/* The MSS of the SYN-ACK to a client. */
static int mss_for(struct bench *bench, int client, int f, uint16_t port)
{
	struct hand hand = hand_new(bench->wire, client, bench->client_port++, server_ip[f], port, true);

	if (!hand_syn(&hand))
		return -1;
	hand.spec.flags = RST;
	wire_send(bench->wire, &hand.spec);
	return hand.synack.mss;
}

CASE("a client that lowers its path MTU, and sends all SYNs: the MSS for others stays as it was, as "
     "natively")
{
	enum { LOWERED = 9, OTHER = 8 };
	static const int mtu[] = { 600, 1280 }, usual[] = { 1460, 1440 }, lowered[] = { 560, 1220 };
	struct bench bench;
	struct ends before;

	begin(&bench, NULL);
	for (int f = 0; f < 2; f++) {
		char client[32];

		snprintf(client, sizeof(client), "%s%d", f ? FAKE_IP6 : FAKE_IP4, LOWERED);
		(f ? lower_path6 : lower_path4)(bench.wire, client, mtu[f]);
		EXPECT_EQ(mss_for(&bench, LOWERED, f, NATIVE), lowered[f], "%s: natively", family[f]);
		EXPECT_EQ(mss_for(&bench, OTHER, f, NATIVE), usual[f], "%s: another one natively",
			  family[f]);
		/* The listener is both families'. */
		mss_for(&bench, OTHER, f, PROTECTED);
		before = ends_of(&bench);
		/* More than two canaries in a row are its own. */
		for (int n = 0; n < 5; n++) {
			poll(NULL, 0, PACE_MS);
			mss_for(&bench, LOWERED, f, PROTECTED);
		}
		EXPECT(ends_of(&bench).canaries >= before.canaries + 4, "%s: the canaries were others'",
		       family[f]);
		EXPECT_EQ(mss_for(&bench, OTHER, f, PROTECTED), usual[f], "%s: another one", family[f]);
		/* Nor where the listener has other options, and the first SYN after that is its. */
		for (int i = 0; i < 2; i++) {
			const int rcvbuf = 30000 + 10000 * f;

			REQUIRE(!setsockopt(bench.listeners[i], SOL_SOCKET, SO_RCVBUF, &rcvbuf,
					    sizeof(rcvbuf)));
		}
		EXPECT_EQ(mss_for(&bench, LOWERED, f, PROTECTED), lowered[f], "%s: passed", family[f]);
		before = ends_of(&bench);
		for (int n = 0; n < 3; n++)
			EXPECT_EQ(mss_for(&bench, OTHER, f, PROTECTED), usual[f],
				  "%s: another one, %d, with other options", family[f], n);
		EXPECT(ends_of(&bench).answered > before.answered, "%s: never answered again", family[f]);
	}
	end(&bench);
}

CASE("a route that asks for ECN, where the sysctl does not")
{
	static const struct change changes[] = { { ROUTED("features ecn"), .field = ECN } };

	all_shown(SYSCTL("ipv4.tcp_ecn", "0"), changes, COUNT(changes));
}

CASE("an address that is added is answered for after two SYNs, and one that is removed not after two")
{
	static const char *const more[] = { "10.77.0.20", "fd77::20" };
	struct tcp_frame ours, native;
	struct bench bench;

	begin(&bench, NULL);
	for (int f = 0; f < 2; f++) {
		struct ends before, after;
		int passed = 0;

		EXPECT(is_silent(&bench, more[f], PROTECTED), "%s: there already", family[f]);
		netns_must(bench.product.pair.server, "ip addr add %s/%d dev " SERVER_IF "%s", more[f],
			   f ? 64 : 24, f ? " nodad" : "");
		REQUIRE(ask_driver(&bench, more[f], LINUX, &ours, &passed), "%s: never answered",
			family[f]);
		EXPECT(passed <= CANARIES, "%s: only after %d SYNs", family[f], passed);
		REQUIRE(ask(&bench, more[f], NATIVE, LINUX, &native));
		EXPECT(!synack_difference(&ours, &native), "%s, added: %s", family[f],
		       synack_difference(&ours, &native));

		netns_must(bench.product.pair.server, "ip addr del %s/%d dev " SERVER_IF, more[f],
			   f ? 64 : 24);
		EXPECT(is_silent(&bench, more[f], NATIVE), "%s: natively still answered", family[f]);
		before = ends_of(&bench);
		for (int i = 0; i < CANARIES; i++) {
			poll(NULL, 0, PACE_MS);
			EXPECT(is_silent(&bench, more[f], PROTECTED), "%s: canary %d answered", family[f],
			       i);
		}
		poll(NULL, 0, PACE_MS);
		after = ends_of(&bench);
		EXPECT_EQ(after.canaries, before.canaries + CANARIES, "%s", family[f]);
		for (int i = 0; i < 3; i++)
			EXPECT(is_silent(&bench, more[f], PROTECTED), "%s: answered after two canaries",
			       family[f]);
		/* Nobody else has noticed anything. */
		EXPECT(ask_driver(&bench, server_ip[f], LINUX, &ours, &passed), "%s", family[f]);
	}
	end(&bench);
}

static void budget(const struct bench *bench, __u32 passes)
{
	const int fd = product_pin(&bench->product, "settings");
	const __u32 zero = 0;
	struct settings set;

	REQUIRE(!bpf_map_lookup_elem(fd, &zero, &set), "%s", strerror(errno));
	set.pass_budget = passes;
	REQUIRE(!bpf_map_update_elem(fd, &zero, &set, BPF_ANY));
	close(fd);
}

/*
 * The SYNs still come from the old MAC, so that our answers, which go back there, are no longer what the
 * stack's are.
 */
CASE("a neighbour with another MAC: after two canaries its SYNs are the stack's, and soon ours again by "
     "the new one")
{
	static const char *const client_ip[] = { CLIENT_IP4, CLIENT_IP6 };
	static const uint8_t mac[] = { 2, 0x77, 0, 0, 0, 0x77 };
	struct tcp_frame ours, native;
	struct bench bench;

	begin(&bench, NULL);
	for (int f = 0; f < 2; f++) {
		struct ends before, after;
		int passed = 0;

		netns_neighbour(bench.product.pair.server, SERVER_IF, client_ip[f], "02:77:00:00:00:77");
		REQUIRE(ask(&bench, server_ip[f], NATIVE, LINUX, &native));
		EXPECT_MEM(native.dst_mac, mac, 6, "%s: natively", family[f]);
		before = ends_of(&bench);
		for (int i = 0; i < CANARIES; i++) {
			poll(NULL, 0, PACE_MS);
			REQUIRE(ask(&bench, server_ip[f], PROTECTED, LINUX, &ours));
			EXPECT_MEM(ours.dst_mac, mac, 6, "%s: canary %d", family[f], i);
		}
		for (int i = 0; i < 3; i++) {
			REQUIRE(ask(&bench, server_ip[f], PROTECTED, LINUX, &ours));
			EXPECT_MEM(ours.dst_mac, mac, 6, "%s: SYN %d after two canaries", family[f], i);
		}
		after = ends_of(&bench);
		EXPECT_EQ(after.canaries, before.canaries + CANARIES, "%s", family[f]);
		EXPECT_EQ(after.answered, before.answered, "%s", family[f]);

		/* Under pressure the last verdict stands, or sources could be picked to end an admission.
		 */
		budget(&bench, 0);
		EXPECT(ask_driver(&bench, server_ip[f], LINUX, &ours, &passed), "%s: over the budget",
		       family[f]);
		budget(&bench, 4096);

		memcpy(bench.client_mac, mac, 6);
		poll(NULL, 0, PACE_MS);
		passed = 0;
		EXPECT(ask_driver(&bench, server_ip[f], LINUX, &ours, &passed), "%s: never ours again",
		       family[f]);
		EXPECT(passed <= CANARIES, "%s: only after %d SYNs", family[f], passed);
		EXPECT(!synack_difference(&ours, &native), "%s: %s", family[f],
		       synack_difference(&ours, &native));
		memset(bench.client_mac, 0, 6);
	}
	end(&bench);
}

int main(int argc, char **argv)
{
	return report_main(argc, argv, NULL);
}
