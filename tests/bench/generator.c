// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "generator.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bpf/libbpf.h>

#include "../lib/live.h"
#include "../lib/report.h"
#include "traffic.skel.h"

enum {
	BATCH = 64, /* a NAPI poll's budget; veth's ring holds 256 */
	ETH = 14,
	TAG = 4,
	IPV4 = 20,
	IPV6 = 40,
	TCP = 20,
	UDP = 8,
	OPTION_TIMESTAMPS = 8,
	ISN = 0x10000000,
};

struct generator {
	struct traffic_bpf *skel;
	uint32_t size; /* of a frame */
	int hold;
};

struct generator *generator_new(void)
{
	struct generator *generator = calloc(1, sizeof(*generator));

	REQUIRE(generator);
	generator->skel = traffic_bpf__open_and_load();
	REQUIRE(generator->skel, "loading the generator: %s", strerror(errno));
	generator->skel->bss->hash_key.k0 = 0x0706050403020100;
	generator->skel->bss->hash_key.k1 = 0x0f0e0d0c0b0a0908;
	generator->hold = live_hold(bpf_program__fd(generator->skel->progs.generate));
	REQUIRE(generator->hold >= 0, "holding the generator: %s", strerror(-generator->hold));
	return generator;
}

void generator_free(struct generator *generator)
{
	close(generator->hold);
	traffic_bpf__destroy(generator->skel);
	free(generator);
}

int generator_program(const struct generator *generator, const char *name)
{
	struct bpf_program *program = bpf_object__find_program_by_name(generator->skel->obj, name);

	REQUIRE(program, "%s", name);
	return bpf_program__fd(program);
}

static uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static void put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

/* Where TSecr is, behind the beginning of the options; 0: nowhere. */
static uint32_t find_tsecr(const struct tcp_options *options)
{
	for (uint32_t at = 0; at + 1 < options->len;) {
		const uint8_t kind = options->bytes[at];

		if (kind == OPTION_TIMESTAMPS)
			return at + 6;
		if (!kind)
			break;
		at += kind == 1 ? 1 : options->bytes[at + 1];
	}
	return 0;
}

/* A UDP datagram of the same length in the place of the TCP segment, its checksum left out (RFC 768). */
static void make_udp(struct traffic *traffic, uint32_t size)
{
	uint8_t *l4 = traffic->headers + traffic->l4;
	uint32_t length = size - traffic->l4;

	traffic->headers[traffic->ip + 9] = IPPROTO_UDP;
	memset(l4 + UDP, 0, traffic->length - traffic->l4 - UDP);
	put16(l4 + 4, length);
	put16(l4 + 6, 0);
	traffic->udp = 1;
}

void generator_set(struct generator *generator, const struct tcp_spec *spec, unsigned int hosts,
		   enum traffic_ack ack, bool udp)
{
	static uint8_t frame[FRAME_MAX];
	const bool v4 = spec->saddr.family == AF_INET;
	const uint32_t network = ETH + spec->vlans * TAG;
	struct traffic *traffic = &generator->skel->bss->traffic;
	struct tcp_spec empty = *spec;

	/* What varies is 0 here, so that the sums want nothing but to have it added. */
	empty.seq = empty.ack = 0;
	empty.sport = 0;
	if (ack != TRAFFIC_NO_ACK && find_tsecr(&spec->options))
		memset(empty.options.bytes + find_tsecr(&spec->options), 0, sizeof(uint32_t));
	generator->size = (uint32_t)frame_build(&empty, frame, sizeof(frame));
	REQUIRE(!udp || v4);
	memset(traffic, 0, sizeof(*traffic));
	traffic->length = generator->size - spec->payload_len;
	REQUIRE(traffic->length <= TRAFFIC_HEADERS_MAX);
	memcpy(traffic->headers, frame, traffic->length);
	traffic->ip = v4 ? network : 0;
	traffic->saddr = network + (v4 ? 12 : 8 + 12);
	traffic->l4 = network + (v4 ? IPV4 : IPV6);
	traffic->hosts = hosts >= 32 ? UINT32_MAX : (1u << hosts) - 1;
	traffic->network = (uint32_t)get16(frame + traffic->saddr) << 16 |
			   get16(frame + traffic->saddr + 2);
	REQUIRE(!(traffic->network & traffic->hosts));
	traffic->isn = ISN;
	traffic->ack = ack;
	if (ack != TRAFFIC_NO_ACK && find_tsecr(&spec->options))
		traffic->tsecr = traffic->l4 + TCP + find_tsecr(&spec->options);
	if (udp)
		make_udp(traffic, generator->size);
	traffic->tcp_sum = (uint16_t)~get16(traffic->headers + traffic->l4 + 16);
	memset(traffic->headers + traffic->l4 + 16, 0, 2);
	if (v4) {
		put16(traffic->headers + network + 10, 0);
		for (uint32_t at = 0; at < IPV4; at += 2)
			traffic->ip_sum += get16(traffic->headers + network + at);
	}
}

void generator_seed(struct generator *generator, uint64_t seed, uint64_t first)
{
	generator->skel->bss->traffic.seed = seed;
	generator->skel->bss->traffic.next = first;
}

void generator_ahead(struct generator *generator, uint32_t ahead)
{
	generator->skel->bss->traffic.ahead = ahead;
}

void generator_turns(struct generator *generator, uint32_t group, uint32_t turns, uint32_t ahead)
{
	struct traffic *traffic = &generator->skel->bss->traffic;

	traffic->group_bits = group;
	traffic->turn_bits = turns;
	traffic->turn_ahead = ahead;
}

void generator_run(struct generator *generator, uint32_t ifindex, long n)
{
	const uint64_t end = generator->skel->bss->traffic.next + (uint64_t)n;
	const int err = live_run(bpf_program__fd(generator->skel->progs.generate), ifindex,
				 generator->size + 1, (uint32_t)n, BATCH);

	REQUIRE(!err && generator->skel->bss->traffic.next == end, "sending: %s", strerror(-err));
}

void generator_stay(struct generator *generator, uint32_t ifindex, long n)
{
	generator->skel->bss->staying = 1;
	generator_run(generator, ifindex, n);
	generator->skel->bss->staying = 0;
}

long generator_handshakes(struct generator *generator, uint32_t ifindex, long n)
{
	struct traffic_answer *answers = generator->skel->bss->answers;
	long seen = 0;

	REQUIRE(n <= TRAFFIC_CHAIN_MAX && !generator->skel->bss->traffic.next);
	memset(answers, 0, sizeof(generator->skel->bss->answers));
	generator->skel->bss->recording = 1;
	generator_run(generator, ifindex, n);
	generator->skel->bss->recording = 0;
	for (long i = 0; i < n; i++)
		seen += answers[i].seen;
	return seen;
}
