// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* `explain`: a handshake told field by field, as it happens and from a capture file. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "product.h"

enum {
	PORT = 8080,
};

#define LIVE	  "build/tests/explain-live"
#define FILE_PCAP "build/tests/explain.pcap"

static void remove_files(void)
{
	unlink(LIVE);
	unlink(FILE_PCAP);
}

static const char *explained(const char *filter)
{
	return netns_output(NULL, "jq -cr '%s' " LIVE, filter);
}

/* Whether the programs show events: somebody has asked for them. */
static bool wanted(const struct product *product)
{
	return netns_output(
		NULL,
		"bpftool -j map dump pinned %s/settings | jq -e '.[0].formatted.value.events_until_ms > 0'",
		product->pins);
}

/* `explain --live @options`, which writes to LIVE, and looks on already. */
static pid_t look_on(const struct product *product, const char *options)
{
	const pid_t explain = netns_spawn(product->pair.server, LIVE,
					  PROGRAM " explain --live --wait 20 %s --pin-path %s", options,
					  product->pins);

	REQUIRE(WAIT_FOR(wanted(product), 5000), "it does not ask for events");
	return explain;
}

/* ---- live ---- */

CASE("live: the next handshake of the port, with the sequence numbers and options that its socket has")
{
	static const char *const servers[] = { SERVER_IP4, SERVER_IP6 };
	struct product product = product_new(NULL, "--port 8080,8081");
	int listener = tcp_listen(product.pair.server, NULL, PORT, 64), other;

	report_at_case_end(remove_files);
	other = tcp_listen(product.pair.server, NULL, PORT + 1, 64);
	for (int i = 0; i < 2; i++) {
		char connection[256];
		int client, server;
		pid_t explain;

		product_admit(&product, servers[i], PORT);
		product_admit(&product, servers[i], PORT + 1);
		tcp_accept_all(listener);
		explain = look_on(&product, "--port 8080 --json");
		/* Another port's is not the one that is waited for. */
		close(tcp_connect(product.pair.client, servers[i], PORT + 1, 1000));
		client = tcp_connect(product.pair.client, servers[i], PORT, 1000);
		server = tcp_accept(listener, 1000);
		REQUIRE(client >= 0 && server >= 0);
		EXPECT_EQ(netns_stop(explain, 0, 10000), 0);
		snprintf(connection, sizeof(connection), "%s",
			 netns_output(product.pair.server,
				      PROGRAM
				      " connections --port 8080 --state established --promoted --json "
				      "--pin-path %s | jq -cr '.[0] | [.remote, .client_isn, .server_isn, "
				      ".mss, .snd_wscale, .sack, .timestamps, .ecn]'",
				      product.pins)
				 ?: "");
		EXPECT_STR(explained("[.segments[0].source, .segments[0].sequence_number, "
				     ".segments[1].sequence_number, .cookie.mss, "
				     ".cookie.snd_wscale, .cookie.sack, "
				     ".cookie.timestamps, .cookie.ecn]"),
			   connection);
		EXPECT_STR(explained("[.segments[].control_bits]"), "[\"SYN\",\"SYN ACK\",\"ACK\"]");
		EXPECT_STR(explained(".segments[1].checksum_state"), "right");
		EXPECT_STR(explained("(.segments[1].acknowledgement_number - "
				     ".segments[0].sequence_number) == 1 and "
				     "(.segments[2].acknowledgement_number - "
				     ".segments[1].sequence_number) == 1"),
			   "true");
		EXPECT_STR(explained(".cookie.is_ours"), "certain");
		close(client);
		close(server);
	}
	/* Nobody looks on any more: nothing is written for nobody. */
	EXPECT(!wanted(&product));
	close(listener);
	close(other);
}

CASE("live: for people, with what each socket keeps; one looks on at a time, and gives up when told to")
{
	struct product product = product_new(NULL, "--port 8080");
	int listener = tcp_listen(product.pair.server, NULL, PORT, 64), client;
	const char *said;
	pid_t explain;

	report_at_case_end(remove_files);
	product_admit(&product, SERVER_IP4, PORT);
	explain = look_on(&product, "");
	EXPECT_EQ(product_run(&product, "explain --live --wait 1"), 1);
	EXPECT(strstr(netns_said(), "another `explain --live`"), "%s", netns_said());
	client = tcp_connect(product.pair.client, SERVER_IP4, PORT, 1000);
	EXPECT_EQ(netns_stop(explain, 0, 10000), 0);
	said = netns_output(NULL, "cat " LIVE);
	EXPECT(strstr(said, "source port") && strstr(said, "destination port") &&
		       strstr(said, "sequence number") && strstr(said, "acknowledgement number") &&
		       strstr(said, "data offset") && strstr(said, "control bits") &&
		       strstr(said, "window") && strstr(said, "checksum") &&
		       strstr(said, "urgent pointer") && strstr(said, "kind 2, length 4: MSS 1460") &&
		       strstr(said, "6 = 1460") && strstr(said, "What each side keeps in its socket"),
	       "%s", said);
	EXPECT(!strstr(said, "\033"), "colours in a file");
	close(client);
	EXPECT_EQ(product_run(&product, "explain --live --wait 1"), 1);
	EXPECT(strstr(netns_said(), "within 1 s"), "%s", netns_said());
	close(listener);
}

/* ---- from a file ---- */

static FILE *pcap_new(unsigned int link)
{
	/* The classic format, of this machine's byte order: magic, 2.4, zone, accuracy, snap length, link.
	 */
	const uint32_t head[] = { 0xa1b2c3d4, 2 | 4 << 16, 0, 0, 65535, link };
	FILE *file = fopen(FILE_PCAP, "w");

	REQUIRE(file && fwrite(head, sizeof(head), 1, file) == 1);
	return file;
}

static void pcap_add(FILE *file, const void *bytes, size_t length, size_t captured)
{
	static uint32_t us;
	const uint32_t head[] = { 1700000000, us += 1500, (uint32_t)captured, (uint32_t)length };

	REQUIRE(fwrite(head, sizeof(head), 1, file) == 1 && fwrite(bytes, captured, 1, file) == 1);
}

static void pcap_add_spec(FILE *file, const struct tcp_spec *spec)
{
	uint8_t frame[FRAME_MAX];
	const size_t length = frame_build(spec, frame, sizeof(frame));

	pcap_add(file, frame, length, length);
}

CASE("a capture: the first whole handshake in it, the stack's own and the driver's, damaged files refused")
{
	struct product product = product_new(NULL, "--port 8080");
	int listener = tcp_listen(product.pair.server, NULL, PORT, 64), native;
	struct wire *wire = wire_open(product.pair.client, CLIENT_IF);
	struct hand hand, other;
	struct tcp_spec answer;
	const uint8_t *bytes;
	const char *said;
	size_t length;
	FILE *file;

	report_at_case_end(remove_files);
	native = tcp_listen(product.pair.server, NULL, 9090, 64);
	product_admit(&product, SERVER_IP4, PORT);
	for (int i = 0; i < 2; i++) {
		const int port = i ? PORT : 9090;

		file = pcap_new(1);
		/* Noise in front: another protocol's frame, a short one, a SYN that nobody answers. */
		pcap_add(file, "\1\2\3\4\5\6\1\2\3\4\5\6\10\6 and so on", 26, 26);
		pcap_add(file, "short", 5, 5);
		hand = hand_new(wire, 9, 31000, SERVER_IP4, 9999, true);
		pcap_add_spec(file, &hand.spec);
		hand = hand_new(wire, 7, (uint16_t)(32000 + i), SERVER_IP4, (uint16_t)port, true);
		pcap_add_spec(file, &hand.spec);
		pcap_add_spec(file, &hand.spec); /* once more, as after a loss */
		/* Somebody else's handshake in between, answered, and never finished: as in a flood. */
		other = hand_new(wire, 8, 34567, SERVER_IP4, (uint16_t)port, true);
		pcap_add_spec(file, &other.spec);
		answer = other.spec;
		answer.saddr = other.spec.daddr;
		answer.daddr = other.spec.saddr;
		answer.sport = other.spec.dport;
		answer.dport = other.spec.sport;
		answer.flags = SYN | ACK;
		answer.ack = other.spec.seq + 1;
		pcap_add_spec(file, &answer);
		REQUIRE(hand_syn(&hand), "port %d: no SYN-ACK", port);
		bytes = wire_bytes(wire, &length);
		pcap_add(file, bytes, length, length);
		pcap_add_spec(file, &hand.spec);
		fclose(file);
		EXPECT(netns_output(NULL, PROGRAM " explain --pcap " FILE_PCAP " --json > " LIVE), "%s",
		       netns_said());
		EXPECT_EQ(atoll(explained(".segments[1].sequence_number") ?: ""), hand.synack.seq);
		EXPECT_STR(explained(".segments[2].control_bits"), "ACK");
		/* Of a plain number, one in 500 reads like a cookie. */
		said = explained(".cookie.is_ours");
		EXPECT(i ? said && !strcmp(said, "likely") : said && strcmp(said, "certain"), "port %d: %s",
		       port, said);
		said = netns_output(NULL, PROGRAM " explain --port %d --pcap " FILE_PCAP, port);
		EXPECT(said && strstr(said, "What each side keeps in its socket"), "%s", said);
	}
	EXPECT_EQ(netns_sh(NULL, PROGRAM " explain --port 7 --pcap " FILE_PCAP), 1);
	EXPECT(strstr(netns_said(), "no whole handshake with that port"), "%s", netns_said());
	/* Cut within the last frame. */
	netns_must(NULL, "truncate -s -10 " FILE_PCAP);
	EXPECT_EQ(netns_sh(NULL, PROGRAM " explain --pcap " FILE_PCAP), 1);
	EXPECT(strstr(netns_said(), "damaged"), "%s", netns_said());
	file = pcap_new(105); /* wireless */
	fclose(file);
	EXPECT_EQ(netns_sh(NULL, PROGRAM " explain --pcap " FILE_PCAP), 1);
	EXPECT(strstr(netns_said(), "Ethernet, IP and 'any'"), "%s", netns_said());
	netns_must(NULL, "echo nothing of the kind > " FILE_PCAP);
	EXPECT_EQ(netns_sh(NULL, PROGRAM " explain --pcap " FILE_PCAP), 1);
	EXPECT_EQ(netns_sh(NULL, PROGRAM " explain --pcap /nowhere"), 1);
	EXPECT_EQ(netns_sh(NULL, PROGRAM " explain"), 2);
	EXPECT_EQ(netns_sh(NULL, PROGRAM " explain --live --pcap x"), 2);
	EXPECT_EQ(netns_sh(NULL, PROGRAM " explain --live --port 70000"), 2);
	EXPECT_EQ(netns_sh(NULL, PROGRAM " explain --pcap x --wait 3"), 2);
	wire_close(wire);
	close(listener);
	close(native);
}

CASE("a packet socket on the server's device, which is tcpdump's, sees the ACK, neither SYN nor SYN-ACK")
{
	struct product product = product_new(NULL, "--port 8080 --canary once");
	int listener = tcp_listen(product.pair.server, NULL, PORT, 64), client;
	struct wire *tcpdump;
	struct tcp_frame frame;
	bool syn = false, ack = false;

	product_admit(&product, SERVER_IP4, PORT);
	tcpdump = wire_open(product.pair.server, SERVER_IF);
	client = tcp_connect(product.pair.client, SERVER_IP4, PORT, 1000);
	REQUIRE(client >= 0);
	while (wire_recv(tcpdump, NULL, 100, &frame)) {
		syn |= frame.flags & SYN;
		ack |= frame.flags & ACK && frame.dport == PORT;
	}
	EXPECT(ack && !syn, "%s%s", ack ? "" : "no ACK is seen ", syn ? "SYN or SYN-ACK is seen" : "");
	/* Natively both are. */
	product_must(&product, "set *:8080 policy=shadow");
	close(client);
	client = tcp_connect(product.pair.client, SERVER_IP4, PORT, 1000);
	while (wire_recv(tcpdump, NULL, 100, &frame))
		syn |= frame.flags & SYN;
	EXPECT(syn);
	close(client);
	close(listener);
	wire_close(tcpdump);
}

CASE("a flood while somebody looks on: what is written is bounded, and the handshake is still told")
{
	struct product product = product_new(NULL, "--port 8080");
	int listener = tcp_listen(product.pair.server, NULL, PORT, 512), client = -1;
	pid_t explain, flood;
	int64_t end;

	report_at_case_end(remove_files);
	product_admit(&product, SERVER_IP4, PORT);
	flood = netns_spawn(product.pair.client, "/dev/null",
			    "build/tests/tools/flood --iface " CLIENT_IF
			    " --src 198.18.0.0/15 --dst " SERVER_IP4
			    " --dport 8080 --rate 50000 --seconds 30");
	REQUIRE(WAIT_FOR(counter(&product, "syn_answered") > 10000, 5000), "no flood");
	explain = look_on(&product, "--json");
	/* Clients come until one is among what is shown, which is some 512 SYNs a second. */
	for (end = now_ms() + 18000; now_ms() < end && netns_sh(NULL, "test -s " LIVE);) {
		client = tcp_connect(product.pair.client, SERVER_IP4, PORT, 1000);
		close(client);
		tcp_accept_all(listener);
	}
	EXPECT_EQ(netns_stop(explain, 0, 10000), 0);
	EXPECT_STR(explained(".cookie.is_ours"), "certain");
	netns_stop(flood, SIGTERM, 2000);
	close(listener);
}

int main(int argc, char **argv)
{
	return report_main(argc, argv, NULL);
}
