// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "scene.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <linux/bpf.h>
#include <netinet/tcp.h>

#include <bpf/bpf.h>

#include "syns.h"

enum {
	HELD = 5,
	HELD_PORT = 45000, /* the first one's, at the client */
	SPEAKS_PORT = 45100,
	FULL_PORT = 45200,
	BACKLOG = 128,
	RARE_RATE = 10000000, /* SYNs a second that a dormant service sleeps through */
};

/* Ports that differ in several bits, so that few mutations lead from one to the other. */
struct served served[ALL_KINDS] = {
	[ANSWERS] = { .port = PORT }, [GUARDED] = { .port = 8103 }, [FULL] = { .port = 8106 },
	[SHADOW] = { .port = 8117 },  [DORMANT] = { .port = 8122 }, [SEES_SYNS] = { .port = 8129 },
	[WAITING] = { .port = 8135 }, [PLAIN] = { .port = 8140 },   [FAST_OPEN] = { .port = 8147 },
	[SPEAKS] = { .port = 8152 },  [REFUSED] = { .port = 8158 }, [GONE] = { .port = 8161 },
	[NOBODY] = { .port = 8166 },  [LEARNED] = { .port = 8175 },
};

static struct address server_address[PLACES];

#define ONE_OF(state, array) ((array)[random_below(state, sizeof(array) / sizeof(*(array)))])

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

static struct address address_of(const struct ip_addr *from)
{
	struct address address;

	if (from->family == AF_INET)
		address_map_ipv4(&address, (__be32)from->v4.s_addr);
	else
		memcpy(&address, &from->v6, sizeof(address));
	return address;
}

/* ---- whose frame it is ---- */

static int place_of(const struct reading *reading)
{
	static const struct {
		uint8_t tags;
		uint16_t id[2];
	} tagged[PLACES] = { [IPV4_VLAN] = { 1, { 5 } } };

	for (int place = 0; place < PLACES; place++) {
		bool fits = reading->tags == tagged[place].tags &&
			    address_equal(&reading->tuple.local, &server_address[place]);

		for (int i = 0; i < reading->tags && fits; i++)
			fits = (reading->tci[i] & 0xfff) == tagged[place].id[i];
		if (fits)
			return place;
	}
	return -1;
}

struct found scene_service(const struct reading *reading)
{
	const uint16_t port = host16(reading->tuple.local_port);
	const int place = place_of(reading);

	for (int kind = 0; place >= 0 && kind < KINDS; kind++)
		if (served[kind].port == port && served[kind].here[place])
			return (struct found){ (enum kind)kind, &served[kind].facts[place] };
	return (struct found){ NOBODY, NULL };
}

/* ---- connections that the stack has ---- */

static struct {
	struct tuple tuple;
	struct parts segment;
} held[HELD];
static int held_count;

bool scene_held(const struct reading *reading)
{
	for (int i = 0; i < held_count; i++)
		if (!memcmp(&held[i].tuple, &reading->tuple, sizeof(reading->tuple)))
			return true;
	return false;
}

static struct tcp_spec client_syn(enum kind kind, bool ipv6, uint16_t sport)
{
	return own_syn(ipv6 ? IPV6 : IPV4, sport, served[kind].port);
}

enum speaker {
	NEITHER,
	SERVER,
	CLIENT_FIRST, /* then the server: it is not one that speaks first */
};

/* A connection of the client's own kernel, for as long as the program lives. */
static void connect_client(enum kind kind, bool ipv6, uint16_t sport, enum speaker speaker)
{
	struct tcp_spec syn = client_syn(kind, ipv6, sport);
	int client = own_connect(&syn), fd = -1;
	char byte;

	if (kind == FULL)
		return;
	WAIT_FOR((fd = accept(served[kind].listener, NULL, NULL)) >= 0, 2000);
	REQUIRE(fd >= 0, "port %u: %s", syn.dport, strerror(errno));
	if (speaker == CLIENT_FIRST)
		REQUIRE(send(client, "?", 1, 0) == 1 && recv(fd, &byte, 1, 0) == 1);
	REQUIRE(speaker == NEITHER || send(fd, "220", 3, 0) == 3);
}

static void hold(enum kind kind, bool ipv6, enum speaker speaker)
{
	struct tcp_spec syn = client_syn(kind, ipv6, (uint16_t)(HELD_PORT + held_count));

	connect_client(kind, ipv6, syn.sport, speaker);
	held[held_count].tuple = (struct tuple){ .remote = address_of(&syn.saddr),
						 .local = address_of(&syn.daddr),
						 .remote_port = be16_from(syn.sport),
						 .local_port = be16_from(syn.dport) };
	held[held_count++].segment = parts_of(&syn);
}

/* ---- services ---- */

static void save_syn(int fd)
{
	int on = 1;

	REQUIRE(!setsockopt(fd, IPPROTO_TCP, TCP_SAVE_SYN, &on, sizeof(on)));
}

static void fast_open_queue(int fd)
{
	int length = 16;

	REQUIRE(!setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN, &length, sizeof(length)));
}

static void learn_plain(enum place place)
{
	static uint16_t sport = 21000;

	for (int i = 0; i < 2; i++) {
		struct tcp_spec syn = place_syn(place, sport++, served[PLAIN].port);

		syn.options = options_mss(1460);
		REQUIRE(native_synack(&syn, &served[PLAIN].facts[place].native));
	}
}

/* Learned, but no canary's answer has confirmed it. */
static void learn_waiting(enum place place)
{
	struct tcp_spec syn = place_syn(place, 22000, served[WAITING].port);

	syn.flags |= ECE | CWR;
	REQUIRE(native_synack(&syn, &served[WAITING].facts[place].native));
}

static void refuse(enum place place)
{
	struct service_key key = { .ifindex = env.ifindex,
				   .address = server_address[place],
				   .port = be16_from(served[REFUSED].port) };
	struct service service;

	REQUIRE(!bpf_map_lookup_elem(env.services, &key, &service), "the service: %s", strerror(errno));
	service.admission = SERVICE_REFUSED;
	REQUIRE(!bpf_map_update_elem(env.services, &key, &service, BPF_EXIST), "the service: %s",
		strerror(errno));
}

static void serve(enum kind kind)
{
	struct served *here = &served[kind];

	here->listener = listen_on(here->port, kind == FULL ? 0 : BACKLOG,
				   kind == SEES_SYNS   ? save_syn
				   : kind == FAST_OPEN ? fast_open_queue
						       : NULL);
	if (kind == LEARNED)
		return;
	env.set.policy = kind == SHADOW ? POLICY_SHADOW : kind == DORMANT ? POLICY_FLOOD : POLICY_ALWAYS;
	env.set.guard = kind == GUARDED ? GUARD_ON : GUARD_OFF;
	settings_store();
	for (enum place place = IPV4; place <= IPV6; place++) {
		here->here[place] = true;
		if (kind == PLAIN)
			learn_plain(place);
		else if (kind == WAITING)
			learn_waiting(place);
		else
			admit(place, here->port, &here->facts[place]);
		if (kind == REFUSED)
			refuse(place);
	}
	if (kind == GONE) {
		close(here->listener);
		WAIT_FOR(!netns_listens(env.pair.server, here->port), 2000);
	}
	if (kind == FULL)
		connect_client(FULL, false, FULL_PORT, NEITHER);
	for (int ipv6 = 0; kind == SPEAKS && ipv6 < 2; ipv6++)
		connect_client(SPEAKS, ipv6, SPEAKS_PORT, SERVER);
}

/* ---- frames ---- */

static struct parts *syns[PLACES];
static int syn_count;
static struct parts synack[2]; /* IPv4, IPv6 */

static void frames_new(void)
{
	syn_count = syns_named() + SYNS_GENERATED;
	for (int place = 0; place < PLACES; place++) {
		syns[place] = calloc((size_t)syn_count, sizeof(*syns[place]));
		REQUIRE(syns[place]);
		for (int i = 0; i < syn_count; i++) {
			const struct syn_kind kind = syns_get(i);
			struct tcp_spec syn = place_syn((enum place)place, 1, PORT);

			syns_apply(&kind, &syn);
			syns[place][i] = parts_of(&syn);
		}
	}
	for (enum place place = IPV4; place <= IPV6; place++) {
		struct tcp_spec leaving = place_syn(place, 1, served[LEARNED].port);
		const struct ip_addr client = leaving.saddr;

		leaving.saddr = leaving.daddr;
		leaving.daddr = client;
		leaving.sport = leaving.dport;
		leaving.flags = SYN | ACK;
		memcpy(leaving.src_mac, "\x02\x77\0\0\0\x01", 6);
		memcpy(leaving.dst_mac, "\x02\x77\0\0\0\x02", 6);
		synack[place] = parts_of(&leaving);
	}
}

void scene_new(void)
{
	environment_new();
	netns_sysctl(env.pair.server, "net.ipv4.tcp_fastopen", "3");
	for (int place = 0; place < PLACES; place++) {
		const struct ip_addr server = server_ip((enum place)place);

		server_address[place] = address_of(&server);
		served[ANSWERS].here[place] = true;
		served[ANSWERS].facts[place] = env.facts[place];
	}
	served[ANSWERS].listener = env.listener;
	env.set.flood_rate = RARE_RATE;
	for (int kind = ANSWERS + 1; kind < ALL_KINDS; kind++)
		if (kind != NOBODY)
			serve((enum kind)kind);
	env.set.policy = POLICY_ALWAYS;
	env.set.guard = GUARD_OFF;
	settings_store();
	hold(ANSWERS, false, CLIENT_FIRST);
	hold(ANSWERS, false, NEITHER);
	hold(ANSWERS, true, CLIENT_FIRST);
	hold(GUARDED, false, CLIENT_FIRST);
	hold(GUARDED, true, NEITHER);
	frames_new();
	netns_enter(env.pair.server);
}

uint16_t scene_port(uint64_t *state)
{
	return served[random_below(state, 2) ? ANSWERS : random_below(state, NOBODY + 1)].port;
}

static void set_flags(struct parts *parts, unsigned int flags)
{
	put16(parts->tcp + 12, flags);
}

struct parts scene_syn(uint64_t *state)
{
	const uint32_t place = random_below(state, random_below(state, 3) ? 2 : PLACES);
	const int many = random_below(state, 3) ? syns_named() : syn_count;
	struct parts parts = syns[place][random_below(state, (uint32_t)many)];

	put16(parts.tcp, 1024 + random_below(state, 64512));
	put16(parts.tcp + 2, scene_port(state));
	if (random_below(state, 2))
		put32(parts.tcp + 4, (uint32_t)random_next(state));
	return parts;
}

struct parts scene_segment(uint64_t *state)
{
	static const uint16_t flags[] = { ACK,	     ACK,	ACK | PSH, ACK | FIN, RST,
					  RST | ACK, SYN | ACK, FIN,	   0,	      ACK };
	const bool of_held = random_below(state, 2);
	struct parts parts = of_held ? held[random_below(state, (uint32_t)held_count)].segment
				     : scene_syn(state);

	/* Now and then a connection's SYN. */
	if (!of_held || random_below(state, 5))
		set_flags(&parts, ONE_OF(state, flags));
	put32(parts.tcp + 4, (uint32_t)random_next(state));
	put32(parts.tcp + 8, (uint32_t)random_next(state));
	if (random_below(state, 2))
		parts.options_length = 0;
	if (random_below(state, 2))
		parts.payload = (uint16_t)random_below(state, 1448);
	return parts;
}

struct parts scene_leaving(uint64_t *state)
{
	static const uint16_t flags[] = { SYN | ACK, SYN | ACK, SYN | ACK, SYN | ACK, SYN | ACK | ECE,
					  SYN,	     RST | ACK, RST,	   FIN | ACK, ACK };
	struct parts parts = synack[random_below(state, 2)];

	put16(parts.tcp + 2, 1024 + random_below(state, 64512));
	put32(parts.tcp + 4, (uint32_t)random_next(state));
	put32(parts.tcp + 8, (uint32_t)random_next(state));
	set_flags(&parts, ONE_OF(state, flags));
	/* Each address and VLAN is a service of its own. */
	if (random_below(state, 2))
		parts.ip[parts.ipv6 ? 23 : 15] = (uint8_t)random_next(state);
	if (random_below(state, 3))
		return parts;
	parts.tags = (uint8_t)(1 + random_below(state, 2));
	for (int i = 0; i < parts.tags; i++) {
		parts.tag[i][0] = random_below(state, 2) ? 0x8100 : 0x88a8;
		parts.tag[i][1] = (uint16_t)random_next(state);
	}
	return parts;
}

/* ---- cookies ---- */

void scene_rebake(struct baked *baked)
{
	struct parts *ack = &baked->ack;

	judge_bake(&baked->bake, &served[baked->kind].facts[baked->place], (uint64_t)now_ms(),
		   &baked->acknowledgement, &baked->echo);
	put32(ack->tcp + 8, baked->acknowledgement);
	if (baked->bake.timestamps)
		put32(ack->options + 8, baked->echo);
	baked->handed_ms = 0;
}

void scene_bake(struct baked *baked, enum kind kind, enum place place, unsigned int n, uint16_t sport,
		uint32_t bits, bool timestamps)
{
	struct tcp_spec ack = place_syn(place, sport, served[kind].port);

	ack.saddr = client_ip(place, n);
	ack.flags = ACK;
	ack.options = timestamps ? options_ts(4711, 0) : options_none();
	*baked = (struct baked){
		.bake = { .tuple = { .remote = address_of(&ack.saddr),
				     .local = server_address[place],
				     .remote_port = be16_from(sport),
				     .local_port = be16_from(served[kind].port) },
			  .ipv4 = place != IPV6,
			  .client_isn = ack.seq,
			  .bits = bits,
			  .timestamps = timestamps },
		.kind = kind,
		.place = place,
	};
	ack.seq++;
	baked->ack = parts_of(&ack);
	scene_rebake(baked);
}

static uint32_t any_bits(bool timestamps, uint64_t *state)
{
	return random_below(state, timestamps ? 512 : 32);
}

static void bake_early(struct baked *baked, uint64_t *state)
{
	static const uint16_t sizes[] = { 1448, 1460, 1428, 1440, 536, 100 };
	struct parts *ack = &baked->ack;

	ack->payload = ONE_OF(state, sizes);
	put32(ack->tcp + 4, baked->bake.client_isn + 1 + (1 + random_below(state, 10)) * ack->payload);
}

void scene_bake_any(struct baked *baked, uint16_t sport, uint64_t *state)
{
	const enum place place = (enum place)random_below(state, PLACES);
	const bool timestamps = random_below(state, 2);
	enum kind kind = ANSWERS;
	struct parts *ack = &baked->ack;

	if (place <= IPV6 && !random_below(state, 3))
		kind = (enum kind)random_below(state, KINDS);
	scene_bake(baked, kind, place, 1, sport, any_bits(timestamps, state), timestamps);
	baked->bake.client_isn = (uint32_t)random_next(state);
	put32(ack->tcp + 4, baked->bake.client_isn + 1);
	scene_rebake(baked);
	switch (random_below(state, 16)) {
	case 0:
	case 1: bake_early(baked, state); break;
	case 2: /* timestamps forgotten, or not agreed on */
		ack->options_length = timestamps ? 0 : 12;
		memcpy(ack->options, "\x01\x01\x08\x0a\0\0\0\1\0\0\0\2", 12);
		break;
	case 3:
		baked->bake.age_ms = (uint32_t)random_next(state);
		scene_rebake(baked);
		break;
	case 4:
		baked->bake.epochs_ago = 1 + random_below(state, 4);
		scene_rebake(baked);
		break;
	case 5: put32(ack->tcp + 8, baked->acknowledgement ^ 1u << random_below(state, 32)); break;
	case 6: /* on a connection's tuple */
		if (place > IPV6 || kind != ANSWERS)
			break;
		baked->bake.tuple = held[place == IPV6 ? 2 : random_below(state, 2)].tuple;
		put16(ack->tcp, host16(baked->bake.tuple.remote_port));
		if (place == IPV6)
			memcpy(ack->ip + 8, &baked->bake.tuple.remote, 16);
		else
			memcpy(ack->ip + 12, &baked->bake.tuple.remote.word[3], 4);
		scene_rebake(baked);
		break;
	case 7:
	case 8:
	case 9: ack->payload = (uint16_t)random_below(state, 1448); break;
	}
}
