// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * What lies below TCP: padding, DF, fragments, frames of several buffers. Beside the protected port is one
 * that is the stack's alone, to compare with.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <arpa/inet.h>

#include "../lib/sha256.h"
#include "product.h"

enum {
	PROTECTED = 8080,
	NATIVE = 8081,
	AT_IP = 14,
	IPV4_HEADER = 20,
	IPV6_HEADER = 40,
	FRAGMENT_HEADER = 8,
	SHORTEST = 60,	/* frame on an Ethernet, less its checksum */
	QUIET_MS = 100, /* without a segment: there is none */
	JUMBO = 9000,
	MEGABYTE = 1 << 20,
};

static const char *const family[] = { "IPv4", "IPv6" };
static const char *const server_ip[] = { SERVER_IP4, SERVER_IP6 };

struct bench {
	struct product product;
	struct wire *wire;
	int listeners[2]; /* of PROTECTED, of NATIVE */
	uint16_t client_port;
};

static void begin(struct bench *bench, unsigned int mtu)
{
	struct pair_spec spec = { .veth.mtu = mtu, .no_client_xdp = true };

	bench->product = product_new(&spec, NULL);
	/* As the README says. */
	netns_must(bench->product.pair.client,
		   "ip link set dev " CLIENT_IF " xdpdrv obj build/bpf/xdp_pass.bpf.o sec %s",
		   mtu > 3000 ? "xdp.frags" : "xdp");
	product_must(&bench->product, "attach " SERVER_IF " --port 8080 --canary once --mode native "
				      "--epoch 300 --firewall-checked");
	bench->wire = wire_open(bench->product.pair.client, CLIENT_IF);
	bench->client_port = 20000;
	product_beside(&bench->product, PROTECTED, NATIVE, bench->listeners);
}

static void end(struct bench *bench)
{
	for (int i = 0; i < 2; i++)
		close(bench->listeners[i]);
	wire_close(bench->wire);
}

static void give_up(struct bench *bench, const struct hand *hand)
{
	struct tcp_spec reset = hand->spec;

	reset.flags = RST;
	reset.options = options_none();
	reset.payload_len = 0;
	wire_send(bench->wire, &reset);
}

static void expect_bytes(int listener, const char *name, const void *bytes, size_t size)
{
	static char got[3 * JUMBO];
	int fd = tcp_accept(listener, 1000);
	long length;

	if (!EXPECT(fd >= 0, "%s: the server accepts nothing", name))
		return;
	length = tcp_read(fd, got, size, 1000);
	EXPECT(length == (long)size && !memcmp(got, bytes, size), "%s: the server got %ld of %zu bytes",
	       name, length, size);
	close(fd);
}

/* What comes out of a SYN that is sent to either port. */
struct outcome {
	struct tcp_frame synack;
	size_t length; /* of the frame */
	struct hand hand;
};

static void take(struct bench *bench, struct outcome *outcome, const char *name)
{
	struct hand *hand = &outcome->hand;

	REQUIRE(wire_recv_flags(bench->wire, &hand->spec, SYN | ACK, RST, 1000, &outcome->synack),
		"%s: no SYN-ACK", name);
	wire_bytes(bench->wire, &outcome->length);
	hand->synack = outcome->synack;
	hand->spec.flags = ACK;
	hand->spec.seq++;
	hand->spec.ack = outcome->synack.seq + 1;
	hand->spec.payload_len = 0;
	hand->spec.options = hand->synack.timestamps ? options_ts(1000001, outcome->synack.tsval)
						     : options_none();
}

static void expect_alike(const struct outcome *ours, const struct outcome *native, const char *name)
{
	const char *difference = synack_difference(&ours->synack, &native->synack);

	EXPECT(!difference, "%s: %s", name, difference);
	EXPECT_EQ(ours->length, native->length, "%s", name);
	EXPECT(ours->synack.ip_checksum_ok &&
		       (ours->synack.tcp_checksum_ok || ours->synack.checksum_partial),
	       "%s: checksums", name);
}

static void send_padded(struct bench *bench, const struct tcp_spec *spec)
{
	uint8_t frame[FRAME_MAX];
	size_t length = frame_build(spec, frame, sizeof(frame));

	REQUIRE(length < SHORTEST);
	/* RFC 1042 asks for zeros, and not everybody writes them. */
	memset(frame + length, 0xa5, SHORTEST - length);
	wire_send_bytes(bench->wire, frame, SHORTEST);
}

CASE("IPv4: a SYN without options and its final ACK, each padded to 60 bytes of frame")
{
	struct outcome outcomes[2];
	struct bench bench;
	long long answered, promoted;

	begin(&bench, 0);
	answered = counter(&bench.product, "syn_answered");
	promoted = counter(&bench.product, "promoted");
	for (int i = 0; i < 2; i++) {
		struct hand *hand = &outcomes[i].hand;
		struct tcp_spec data;

		*hand = hand_new(bench.wire, 7, bench.client_port++, SERVER_IP4, i ? NATIVE : PROTECTED,
				 false);
		hand->spec.options = options_none();
		send_padded(&bench, &hand->spec);
		take(&bench, &outcomes[i], "padded");
		/* The padding is no data: what follows is at the first sequence number. */
		send_padded(&bench, &hand->spec);
		data = hand_data(hand, 0, "h", 1);
		send_padded(&bench, &data);
		data = hand_data(hand, 1, "i", 1);
		send_padded(&bench, &data);
		expect_bytes(bench.listeners[i], i ? "natively" : "with us", "hi", 2);
		give_up(&bench, hand);
	}
	expect_alike(&outcomes[0], &outcomes[1], "padded");
	EXPECT_EQ(counter(&bench.product, "syn_answered"), answered + 1);
	EXPECT_EQ(counter(&bench.product, "promoted"), promoted + 1);
	end(&bench);
}

CASE("IPv4 with and without DF, with an identification and without")
{
	struct outcome outcomes[2];
	struct bench bench;
	long long answered, promoted;

	begin(&bench, 0);
	answered = counter(&bench.product, "syn_answered");
	promoted = counter(&bench.product, "promoted");
	for (int shape = 0; shape < 4; shape++) {
		char name[32];

		snprintf(name, sizeof(name), "%s, ID %d", shape & 1 ? "no DF" : "DF", shape & 2);
		for (int i = 0; i < 2; i++) {
			struct hand *hand = &outcomes[i].hand;
			struct tcp_spec data;

			*hand = hand_new(bench.wire, 7, bench.client_port++, SERVER_IP4,
					 i ? NATIVE : PROTECTED, true);
			hand->spec.no_df = shape & 1;
			hand->spec.id = shape & 2 ? 0x1234 : 0;
			wire_send(bench.wire, &hand->spec);
			take(&bench, &outcomes[i], name);
			data = hand_data(hand, 0, "hello", 5);
			wire_send(bench.wire, &hand->spec);
			wire_send(bench.wire, &data);
			expect_bytes(bench.listeners[i], name, "hello", 5);
			give_up(&bench, hand);
		}
		expect_alike(&outcomes[0], &outcomes[1], name);
	}
	EXPECT_EQ(counter(&bench.product, "syn_answered"), answered + 4);
	EXPECT_EQ(counter(&bench.product, "promoted"), promoted + 4);
	end(&bench);
}

CASE("a SYN with data: the stack's to answer, as natively, and the data comes again")
{
	struct outcome outcomes[2];
	struct bench bench;

	begin(&bench, 0);
	for (int f = 0; f < 2; f++) {
		long long passed = counter(&bench.product, "syn_passed_payload");

		for (int i = 0; i < 2; i++) {
			struct hand *hand = &outcomes[i].hand;
			struct tcp_spec data;

			*hand = hand_new(bench.wire, 7, bench.client_port++, server_ip[f],
					 i ? NATIVE : PROTECTED, true);
			hand->spec.payload = "hello";
			hand->spec.payload_len = 5;
			wire_send(bench.wire, &hand->spec);
			take(&bench, &outcomes[i], family[f]);
			EXPECT_EQ(outcomes[i].synack.ack, hand->spec.seq, "%s: the data was taken up",
				  family[f]);
			data = hand_data(hand, 0, "hello", 5);
			wire_send(bench.wire, &data);
			expect_bytes(bench.listeners[i], family[f], "hello", 5);
			give_up(&bench, hand);
		}
		expect_alike(&outcomes[0], &outcomes[1], family[f]);
		EXPECT_EQ(counter(&bench.product, "syn_passed_payload"), passed + 1, "%s", family[f]);
	}
	end(&bench);
}

/* ---- fragments ---- */

static void put16(uint8_t *at, unsigned int value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static void ipv4_checksum(uint8_t *header)
{
	uint32_t sum = 0;

	put16(header + 10, 0);
	for (int i = 0; i < IPV4_HEADER; i += 2)
		sum += (uint32_t)(header[i] << 8 | header[i + 1]);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	put16(header + 10, ~sum);
}

/* Sends the segment in two packets; the first has @first bytes of it, a multiple of eight. */
static void send_fragments(struct bench *bench, const struct tcp_spec *spec, size_t first)
{
	static uint16_t id = 100;
	const bool v6 = spec->saddr.family == AF_INET6;
	const size_t ip = v6 ? IPV6_HEADER : IPV4_HEADER, extra = v6 ? FRAGMENT_HEADER : 0;
	uint8_t whole[FRAME_MAX], part[FRAME_MAX];
	const size_t length = frame_build(spec, whole, sizeof(whole)) - AT_IP - ip;

	REQUIRE(first && !(first % 8) && first < length);
	id++;
	for (int i = 0; i < 2; i++) {
		const size_t from = i ? first : 0, size = i ? length - first : first;
		uint8_t *header = part + AT_IP;

		memcpy(part, whole, AT_IP + ip);
		if (v6) {
			put16(header + 4, (unsigned int)(size + extra));
			memset(header + ip, 0, extra);
			header[ip] = header[6];
			header[6] = IPPROTO_FRAGMENT;
			put16(header + ip + 2, (unsigned int)from | !i);
			put16(header + ip + 6, id);
		} else {
			put16(header + 2, (unsigned int)(size + ip));
			put16(header + 4, id);
			put16(header + 6, (unsigned int)(from / 8) | (i ? 0 : 0x2000));
			ipv4_checksum(header);
		}
		memcpy(header + ip + extra, whole + AT_IP + ip + from, size);
		wire_send_bytes(bench->wire, part, AT_IP + ip + extra + size);
	}
}

CASE("fragments: a SYN in two is the stack's, data in two behind a final ACK arrives, as natively")
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz";
	struct outcome outcomes[2];
	struct bench bench;

	begin(&bench, 0);
	for (int f = 0; f < 2; f++) {
		for (int whole = 0; whole < 2; whole++) {
			long long fragments = counter(&bench.product, "syn_passed_fragment");
			long long promoted = counter(&bench.product, "promoted");

			for (int i = 0; i < 2; i++) {
				struct hand *hand = &outcomes[i].hand;
				struct tcp_spec data;

				*hand = hand_new(bench.wire, 7, bench.client_port++, server_ip[f],
						 i ? NATIVE : PROTECTED, true);
				if (whole)
					wire_send(bench.wire, &hand->spec);
				else
					send_fragments(&bench, &hand->spec, 24);
				take(&bench, &outcomes[i], family[f]);
				data = hand_data(hand, 0, letters, 26);
				wire_send(bench.wire, &hand->spec);
				send_fragments(&bench, &data, 40);
				expect_bytes(bench.listeners[i], family[f], letters, 26);
				give_up(&bench, hand);
			}
			expect_alike(&outcomes[0], &outcomes[1], family[f]);
			EXPECT_EQ(counter(&bench.product, "syn_passed_fragment"), fragments + !whole, "%s",
				  family[f]);
			EXPECT_EQ(counter(&bench.product, "promoted"), promoted + whole, "%s", family[f]);
		}
	}
	end(&bench);
}

/*
 * The driver sees the cookie in the first fragment, and cannot promote it: what the stack puts together
 * later has lost whatever its parts were given.
 */
CASE("bare ACK lost and the first data in fragments: the client is reset, natively it is not")
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz";
	struct tcp_frame reset;
	struct bench bench;

	begin(&bench, 0);
	for (int f = 0; f < 2; f++)
		for (int i = 0; i < 2; i++) {
			struct hand hand = hand_new(bench.wire, 7, bench.client_port++, server_ip[f],
						    i ? NATIVE : PROTECTED, true);
			struct tcp_spec data;
			bool heard;

			REQUIRE(hand_syn(&hand), "%s", family[f]);
			data = hand_data(&hand, 0, letters, 26);
			send_fragments(&bench, &data, 40);
			heard = wire_recv_flags(bench.wire, &hand.spec, RST, 0, QUIET_MS, &reset);
			if (i) {
				EXPECT(!heard, "%s: natively an RST", family[f]);
				expect_bytes(bench.listeners[i], family[f], letters, 26);
				give_up(&bench, &hand);
			} else {
				EXPECT(heard, "%s: a difference less: the README names it", family[f]);
			}
		}
	end(&bench);
}

/* ---- jumbo frames ---- */

static unsigned int segment_of(int fd)
{
	int mss = 0;
	socklen_t size = sizeof(mss);

	getsockopt(fd, IPPROTO_TCP, 2 /* TCP_MAXSEG */, &mss, &size);
	return (unsigned int)mss;
}

static void digest_of(const uint8_t *bytes, size_t size, char hex[SHA256_HEX])
{
	struct sha256 sha;

	sha256_begin(&sha);
	sha256_add(&sha, bytes, size);
	sha256_end(&sha, hex);
}

/* A megabyte each way at once. */
static void transfer(int ends[2], const char *name)
{
	static uint8_t sent[2][MEGABYTE], got[2][MEGABYTE];
	size_t written[2] = {}, read_[2] = {};
	const int64_t until = now_ms() + 20000;
	char digests[2][SHA256_HEX];

	for (int e = 0; e < 2; e++)
		for (size_t i = 0; i < MEGABYTE; i += 4)
			memcpy(&sent[e][i], &(uint32_t){ (uint32_t)random() }, 4);
	while ((read_[0] < MEGABYTE || read_[1] < MEGABYTE) && now_ms() < until) {
		struct pollfd wait[2];

		for (int e = 0; e < 2; e++) {
			ssize_t n = 0;

			if (written[e] < MEGABYTE)
				n = write(ends[e], &sent[e][written[e]], MEGABYTE - written[e]);
			if (n > 0)
				written[e] += (size_t)n;
			n = read(ends[e], &got[e][read_[e]], MEGABYTE - read_[e]);
			if (n > 0)
				read_[e] += (size_t)n;
			wait[e].fd = ends[e];
			wait[e].events = (short)(POLLIN | (written[e] < MEGABYTE ? POLLOUT : 0));
		}
		if (read_[0] < MEGABYTE || read_[1] < MEGABYTE)
			poll(wait, 2, 100);
	}
	for (int e = 0; e < 2; e++) {
		EXPECT_EQ(read_[e], MEGABYTE, "%s: at the %s", name, e ? "server" : "client");
		digest_of(sent[1 - e], MEGABYTE, digests[0]);
		digest_of(got[e], MEGABYTE, digests[1]);
		EXPECT_STR(digests[1], digests[0], "%s: at the %s", name, e ? "server" : "client");
	}
}

CASE("native mode at an MTU of 9000: handshakes with an MSS of 8960, a megabyte each way, digests match")
{
	struct bench bench;

	begin(&bench, JUMBO);
	for (int f = 0; f < 2; f++) {
		long long promoted = counter(&bench.product, "promoted");
		unsigned int segments[2];

		for (int i = 0; i < 2; i++) {
			char name[32];
			int ends[2];

			snprintf(name, sizeof(name), "%s%s", family[f], i ? ", natively" : "");
			ends[0] = tcp_connect(bench.product.pair.client, server_ip[f],
					      i ? NATIVE : PROTECTED, 1000);
			ends[1] = tcp_accept(bench.listeners[i], 1000);
			REQUIRE(ends[0] >= 0 && ends[1] >= 0, "%s: %s", name, strerror(errno));
			segments[i] = segment_of(ends[1]);
			transfer(ends, name);
			close(ends[0]);
			close(ends[1]);
		}
		EXPECT_EQ(counter(&bench.product, "promoted"), promoted + 1, "%s", family[f]);
		EXPECT_EQ(segments[0], segments[1], "%s: MSS", family[f]);
		EXPECT_EQ(segments[0], (f ? JUMBO - 60 : JUMBO - 40) - 12, "%s: MSS", family[f]);
	}
	end(&bench);
}

CASE("native mode at an MTU of 9000: a first segment of several buffers promotes, bare ACK lost or not")
{
	static char bytes[2 * JUMBO];
	struct bench bench;

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (char)(i * 7);
	begin(&bench, JUMBO);
	for (int f = 0; f < 2; f++) {
		const size_t full = (f ? JUMBO - 60 : JUMBO - 40) - 12;

		for (int bare = 0; bare < 2; bare++) {
			long long promoted = counter(&bench.product, "promoted");
			struct outcome outcomes[2];

			for (int i = 0; i < 2; i++) {
				struct hand *hand = &outcomes[i].hand;
				struct tcp_spec data;

				*hand = hand_new(bench.wire, 7, bench.client_port++, server_ip[f],
						 i ? NATIVE : PROTECTED, true);
				hand->spec.options = options_linux((uint16_t)(full + 12), 1000000, 7);
				wire_send(bench.wire, &hand->spec);
				take(&bench, &outcomes[i], family[f]);
				EXPECT_EQ(outcomes[i].synack.mss, full + 12, "%s", family[f]);
				if (bare)
					wire_send(bench.wire, &hand->spec);
				for (unsigned int s = 0; s < 2; s++) {
					data = hand_data(hand, s * (unsigned int)full, bytes + s * full,
							 full);
					wire_send(bench.wire, &data);
				}
				expect_bytes(bench.listeners[i], family[f], bytes, 2 * full);
				EXPECT(!wire_recv_flags(bench.wire, &hand->spec, RST, 0, QUIET_MS,
							&outcomes[i].synack),
				       "%s: the client got an RST", family[f]);
				give_up(&bench, hand);
			}
			EXPECT_EQ(counter(&bench.product, "promoted"), promoted + 1, "%s", family[f]);
		}
	}
	end(&bench);
}

int main(int argc, char **argv)
{
	return report_main(argc, argv, NULL);
}
