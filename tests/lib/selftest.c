// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The test library, tried against itself and against the kernel's own stack. */
#include "batch.h"
#include "frame.h"
#include "netns.h"
#include "report.h"
#include "selftest.skel.h"
#include "wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/bpf.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	PORT = 8080,
	SOON_MS = 2000, /* for what should come at once */
	QUIET_MS = 100, /* for what should not come at all */
};

static const char *const families[] = { "4", "6" };

static struct ip_addr fake(int family, unsigned int n)
{
	return ip_n(family ? FAKE_IP6 : FAKE_IP4, n);
}

static struct ip_addr server(int family)
{
	return ip(family ? SERVER_IP6 : SERVER_IP4);
}

static int listen_in_ns(void *arg)
{
	struct sockaddr_in6 address = { .sin6_family = AF_INET6, .sin6_port = htons(PORT) };
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int off = 0;

	(void)arg;
	setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 128))
		return -1;
	return fd;
}

static int listen_on(const struct netns *ns)
{
	int fd = netns_call(ns, listen_in_ns, NULL);

	REQUIRE(fd >= 0, "listen: %s", strerror(errno));
	return fd;
}

/* frame.h */

static uint64_t random_state = 1;

static uint32_t any(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32_t)(random_state >> 16);
}

static struct tcp_options any_options(void)
{
	switch (any() % 7) {
	case 0: return options_linux((uint16_t)any(), any(), (int)(any() % 15));
	case 1: return options_windows((uint16_t)any(), (int)(any() % 15));
	case 2: return options_macos((uint16_t)any(), any(), (int)(any() % 15));
	case 3: return options_mss((uint16_t)any());
	case 4: return options_ts(any(), any());
	case 5: return options_linux_no_ts((uint16_t)any(), -1);
	default: return options_none();
	}
}

static struct tcp_spec any_spec(const uint8_t *payload, size_t max)
{
	int family = any() & 1;
	struct tcp_spec s = {
		.saddr = fake(family, any() % 200 + 1),
		.daddr = server(family),
		.ttl = (uint8_t)(any() % 255 + 1),
		.tos = (uint8_t)any(),
		.id = (uint16_t)any(),
		.no_df = any() & 1,
		.flow_label = any() & 0xfffff,
		.sport = (uint16_t)any(),
		.dport = (uint16_t)any(),
		.seq = any(),
		.ack = any(),
		.flags = any() & 0x1ff,
		.window = (uint16_t)(any() | 1),
		.urgent = (uint16_t)any(),
		.options = any_options(),
		.payload = payload,
		.payload_len = (uint16_t)(any() % max),
		.vlans = (uint8_t)(any() % 3),
	};

	for (int i = 0; i < s.vlans; i++)
		s.vlan[i] = (uint16_t)any();
	if (any() % 4 == 0 && family == 0) {
		s.ip_options_len = 8;
		memset(s.ip_options, 1, 8);
	} else if (any() % 4 == 0) {
		/* Padding: PadN of four bytes. */
		static const uint8_t padding[8] = { 0, 0, 1, 4 };

		memcpy(s.ip_options, padding, sizeof(padding));
		s.ip_options_len = family ? sizeof(padding) : 0;
		s.ip_options_type = any() & 1 ? IPPROTO_DSTOPTS : IPPROTO_HOPOPTS;
	}
	return s;
}

CASE("what libnet builds reads back the same, and its checksums verify")
{
	uint8_t payload[1400], frame[FRAME_MAX];
	struct tcp_frame f;

	for (size_t i = 0; i < sizeof(payload); i++)
		payload[i] = (uint8_t)any();
	for (int i = 0; i < 20000; i++) {
		struct tcp_spec s = any_spec(payload, sizeof(payload));
		size_t len = frame_build(&s, frame, sizeof(frame));

		REQUIRE(frame_parse(frame, len, &f), "frame %d", i);
		EXPECT(f.ip_checksum_ok && f.tcp_checksum_ok, "frame %d: %s", i, frame_text(&f));
		EXPECT(ip_equal(&f.saddr, &s.saddr) && ip_equal(&f.daddr, &s.daddr));
		EXPECT_EQ(f.vlans, s.vlans);
		EXPECT_MEM(f.vlan, s.vlan, s.vlans * sizeof(s.vlan[0]));
		EXPECT_EQ(f.ttl, s.ttl);
		EXPECT_EQ(f.tos, s.tos);
		EXPECT_EQ(f.ip_options_len, s.ip_options_len);
		if (s.saddr.family == AF_INET) {
			EXPECT_EQ(f.id, s.id);
			EXPECT_EQ(f.df, !s.no_df);
		} else {
			EXPECT_EQ(f.flow_label, s.flow_label);
		}
		EXPECT_EQ(f.sport, s.sport);
		EXPECT_EQ(f.dport, s.dport);
		EXPECT_EQ(f.seq, s.seq);
		EXPECT_EQ(f.ack, s.ack);
		EXPECT_EQ(f.flags, s.flags);
		EXPECT_EQ(f.window, s.window);
		EXPECT_EQ(f.urgent, s.urgent);
		EXPECT_EQ(f.options.len, s.options.len);
		EXPECT_MEM(f.options.bytes, s.options.bytes, s.options.len);
		EXPECT_EQ(f.payload_len, s.payload_len);
		EXPECT_MEM(f.payload, payload, s.payload_len);

		/* One bit anywhere in what TCP's checksum covers. */
		frame[len - 1 - any() % 20] ^= (uint8_t)(1 << any() % 8);
		if (frame_parse(frame, len, &f))
			EXPECT(!f.tcp_checksum_ok, "frame %d, one bit flipped", i);
		frame_fix_checksums(frame, len);
		if (frame_parse(frame, len, &f))
			REQUIRE(f.tcp_checksum_ok && f.ip_checksum_ok, "frame %d, righted", i);
	}
}

static void expect_layout(struct tcp_options options, const char *layout, int mss, int wscale, bool sack_ok,
			  bool timestamps)
{
	struct tcp_spec s = syn_spec(fake(0, 1), 1000, server(0), PORT);
	uint8_t frame[FRAME_MAX];
	struct tcp_frame f;

	s.options = options;
	REQUIRE(frame_parse(frame, frame_build(&s, frame, sizeof(frame)), &f));
	EXPECT_STR(f.layout, layout);
	EXPECT_EQ(f.mss, mss, "%s", layout);
	EXPECT_EQ(f.wscale, wscale, "%s", layout);
	EXPECT_EQ(f.sack_ok, sack_ok, "%s", layout);
	EXPECT_EQ(f.timestamps, timestamps, "%s", layout);
}

CASE("the option layouts of the systems")
{
	expect_layout(options_linux(1460, 1, 7), "mss,sackOK,TS,nop,wscale", 1460, 7, true, true);
	expect_layout(options_linux(1460, 1, -1), "mss,sackOK,TS", 1460, -1, true, true);
	expect_layout(options_linux_no_ts(1460, 7), "mss,nop,nop,sackOK,nop,wscale", 1460, 7, true, false);
	expect_layout(options_windows(1400, 8), "mss,nop,wscale,nop,nop,sackOK", 1400, 8, true, false);
	expect_layout(options_macos(1380, 1, 6), "mss,nop,wscale,nop,nop,TS,sackOK,eol", 1380, 6, true,
		      true);
	expect_layout(options_mss(536), "mss", 536, -1, false, false);
	expect_layout(options_none(), "", -1, -1, false, false);
	expect_layout(options_text("nop, ws 14, mss 9000, ts 7 8, eol"), "nop,wscale,mss,TS,eol", 9000, 14,
		      false, true);
	expect_layout(options_text("fastopen 0a0b, raw fd04dead, raw 0209"), "tfo,unknown-253,bad", -1, -1,
		      false, false);
}

CASE("an answer continues the conversation")
{
	struct tcp_spec s = syn_spec(fake(1, 3), 1000, server(1), PORT), a;
	uint8_t frame[FRAME_MAX];
	struct tcp_frame f;

	s.flags = SYN | ACK;
	s.ack = 77;
	s.payload = "four";
	s.payload_len = 4;
	REQUIRE(frame_parse(frame, frame_build(&s, frame, sizeof(frame)), &f));
	a = frame_answer(&f, 4711);
	REQUIRE(frame_parse(frame, frame_build(&a, frame, sizeof(frame)), &f));
	EXPECT(ip_equal(&f.saddr, &s.daddr) && ip_equal(&f.daddr, &s.saddr));
	EXPECT_EQ(f.seq, 77);
	EXPECT_EQ(f.ack, s.seq + 5);
	EXPECT_EQ(f.tsval, 4711);
	EXPECT_EQ(f.tsecr, 2000);
}

/* netns.h */

CASE("commands, their output and their status")
{
	struct netns *ns = netns_new("shell");
	const char *text;

	EXPECT_EQ(netns_sh(ns, "exit 3"), 3);
	EXPECT_EQ(netns_sh(ns, "kill -TERM $$"), 128 + SIGTERM);
	text = netns_output(ns, "echo one; echo two >&2");
	EXPECT_STR(text, "one\ntwo");
	EXPECT(!netns_output(ns, "false"));
	text = netns_output(ns, "ip -o link | wc -l");
	EXPECT_STR(text, "1", "devices of a new namespace");
	/* What stays in the background must not be waited for. */
	EXPECT_EQ(netns_sh(ns, "sleep 100 &"), 0);
}

CASE("sysctls belong to the namespace")
{
	struct netns *a = netns_new("a"), *b = netns_new("b");

	netns_sysctl(a, "net.ipv4.tcp_syncookies", "2");
	netns_sysctl(b, "net.ipv4.tcp_syncookies", "1");
	EXPECT_STR(netns_sysctl_get(a, "net.ipv4.tcp_syncookies"), "2");
	EXPECT_STR(netns_sysctl_get(b, "net.ipv4.tcp_syncookies"), "1");
}

static int exit_5(void *arg)
{
	(void)arg;
	return 5;
}

CASE("what runs in the background is stopped")
{
	struct netns *ns = netns_new("spawn");
	pid_t pid = netns_spawn(ns, NULL, "sleep 100");
	int64_t begin = now_ms();

	EXPECT_EQ(netns_stop(pid, SIGTERM, SOON_MS), 128 + SIGTERM);
	pid = netns_spawn(ns, NULL, "sh -c 'trap \"\" TERM; sleep 100; sleep 100'");
	EXPECT(WAIT_FOR(netns_sh(ns, "grep -q 'SigIgn:.*4...$' /proc/%d/status", pid) == 0, SOON_MS));
	EXPECT_EQ(netns_stop(pid, SIGTERM, 50), 128 + SIGKILL);
	EXPECT_EQ(netns_stop(netns_fork(ns, exit_5, NULL), 0, SOON_MS), 5);
	EXPECT(now_ms() - begin < SOON_MS);
	pid = netns_spawn(ns, NULL, "sleep 100");
	netns_delete(ns);
	EXPECT(kill(pid, 0) && errno == ESRCH, "outlives its namespace");
}

static char stays[128];

CASE("what a case has made is gone after it (first half)")
{
	struct netns *ns = netns_new("gone");

	snprintf(stays, sizeof(stays), "%s", ns->path);
	netns_enter(ns);
}

CASE("what a case has made is gone after it (second half)")
{
	struct stat s;

	if (!stays[0])
		SKIP("the first half was not selected");
	EXPECT(stat(stays, &s) && errno == ENOENT, "%s is still there", stays);
	EXPECT(netns_sh(NULL, "test -e /sys/class/net/lo") == 0);
}

static int connect_in_ns(void *arg)
{
	struct ip_addr to = server(*(int *)arg);
	struct sockaddr_in6 a6 = { .sin6_family = AF_INET6, .sin6_port = htons(PORT) };
	struct sockaddr_in a4 = { .sin_family = AF_INET, .sin_port = htons(PORT) };
	int fd = socket(to.family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	a4.sin_addr = to.v4;
	a6.sin6_addr = to.v6;
	return connect(fd, to.family == AF_INET ? (void *)&a4 : (void *)&a6,
		       to.family == AF_INET ? sizeof(a4) : sizeof(a6))
		       ? -errno
		       : fd;
}

CASE("the pair's kernels reach each other over both families, with queues and a large MTU")
{
	struct pair_spec spec = { .veth = { .queues = 4, .mtu = 9000 } };
	struct pair p = pair_new(&spec);
	int listener = listen_on(p.server);
	static char bytes[60000];

	netns_must(p.server, "ethtool -l " SERVER_IF " | grep -q 'RX:.*4'");
	for (int family = 0; family < 2; family++) {
		int fd = netns_call(p.client, connect_in_ns, &family);
		int peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

		REQUIRE(fd >= 0 && peer >= 0, "%s", strerror(-fd));
		EXPECT_EQ(send(fd, bytes, sizeof(bytes), 0), sizeof(bytes));
		EXPECT_EQ(recv(peer, bytes, sizeof(bytes), MSG_WAITALL), sizeof(bytes));
		close(fd);
		close(peer);
	}
	close(listener);
}

/* wire.h */

static void converse(struct wire *w, int listener, int family)
{
	struct tcp_spec syn = syn_spec(fake(family, 9), 1234, server(family), PORT), data;
	struct tcp_frame f;
	char buf[16];
	int fd;

	wire_send(w, &syn);
	REQUIRE(wire_recv(w, &syn, SOON_MS, &f), "SYN-ACK, family %s", families[family]);
	EXPECT_EQ(f.flags, SYN | ACK, "%s", wire_last(w));
	EXPECT_EQ(f.ack, syn.seq + 1);
	EXPECT_STR(f.layout, "mss,sackOK,TS,nop,wscale");
	EXPECT(f.ip_checksum_ok);
	EXPECT(f.tcp_checksum_ok != f.checksum_partial, "%s", wire_last(w));
	data = frame_answer(&f, 5000);
	data.flags |= PSH;
	data.payload = "hello";
	data.payload_len = 5;
	wire_send(w, &data);
	REQUIRE(wire_recv(w, &syn, SOON_MS, &f), "ACK of the data");
	EXPECT_EQ(f.ack, syn.seq + 6, "%s", wire_last(w));
	fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	REQUIRE(fd >= 0);
	EXPECT_EQ(recv(fd, buf, sizeof(buf), 0), 5);
	EXPECT_MEM(buf, "hello", 5);
	EXPECT_EQ(send(fd, "welcome", 7, 0), 7);
	REQUIRE(wire_recv_flags(w, &syn, PSH, 0, SOON_MS, &f), "data of the server");
	EXPECT_EQ(f.payload_len, 7);
	EXPECT_MEM(f.payload, "welcome", 7);
	close(fd);
	EXPECT(wire_recv_flags(w, &syn, FIN, RST, SOON_MS, &f), "FIN of the server");
}

CASE("a raw client converses with the kernel, and its own kernel keeps silent")
{
	struct pair p = pair_new(NULL);
	int listener = listen_on(p.server);
	struct wire *client = wire_open(p.client, CLIENT_IF);
	struct wire *seen_by_server = wire_open(p.server, SERVER_IF);

	EXPECT(WAIT_FOR(netns_listens(p.server, PORT), SOON_MS));
	EXPECT(!netns_listens(p.client, PORT));
	for (int family = 0; family < 2; family++) {
		converse(client, listener, family);
		EXPECT(!wire_recv_flags(seen_by_server, NULL, RST, 0, QUIET_MS, NULL), "%s",
		       wire_last(seen_by_server));
	}
	wire_close(seen_by_server);
	wire_close(client);
	close(listener);
}

CASE("a closed port's RST is heard, a wrong checksum draws nothing")
{
	struct pair p = pair_new(NULL);
	struct wire *w = wire_open(p.client, CLIENT_IF);
	struct tcp_spec syn = syn_spec(fake(0, 2), 1, server(0), 9);
	struct tcp_frame f;

	syn.tcp_checksum_xor = 1;
	wire_send(w, &syn);
	EXPECT(wire_silent(w, &syn, QUIET_MS), "%s", wire_last(w));
	syn.tcp_checksum_xor = 0;
	syn.ip_checksum_xor = 0x100;
	wire_send(w, &syn);
	EXPECT(wire_silent(w, &syn, QUIET_MS), "%s", wire_last(w));
	syn.ip_checksum_xor = 0;
	wire_send(w, &syn);
	REQUIRE(wire_recv(w, &syn, SOON_MS, &f));
	EXPECT_EQ(f.flags, RST | ACK);
	wire_close(w);
}

CASE("conversations interleave: frames of others wait")
{
	struct pair p = pair_new(NULL);
	int listener = listen_on(p.server);
	struct wire *w = wire_open(p.client, CLIENT_IF);
	struct tcp_spec syn[8];
	struct tcp_frame f;

	for (int i = 0; i < 8; i++) {
		syn[i] = syn_spec(fake(i & 1, (unsigned int)i + 1), 5000, server(i & 1), PORT);
		wire_send(w, &syn[i]);
	}
	for (int i = 7; i >= 0; i--) {
		REQUIRE(wire_recv(w, &syn[i], SOON_MS, &f), "answer %d", i);
		EXPECT_EQ(f.ack, syn[i].seq + 1);
	}
	EXPECT_EQ(wire_drain(w), 0);
	wire_close(w);
	close(listener);
}

CASE("offloads off: checksums are on the wire")
{
	struct pair p = pair_new(NULL);
	int listener = listen_on(p.server);
	struct wire *w;
	struct tcp_spec syn = syn_spec(fake(0, 2), 1, server(0), PORT);
	struct tcp_frame f;

	netns_offloads_off(p.server, SERVER_IF);
	netns_offloads_off(p.client, CLIENT_IF);
	w = wire_open(p.client, CLIENT_IF);
	wire_send(w, &syn);
	REQUIRE(wire_recv(w, &syn, SOON_MS, &f));
	EXPECT(!f.checksum_partial && f.tcp_checksum_ok, "%s", wire_last(w));
	wire_close(w);
	close(listener);
}

CASE("stripped VLAN tags are put back")
{
	struct pair p = pair_new(NULL);
	struct wire *to = wire_open(p.client, CLIENT_IF), *from = wire_open(p.server, SERVER_IF);
	struct tcp_spec syn = syn_spec(server(0), 1, fake(0, 1), PORT);
	uint8_t frame[FRAME_MAX];
	const uint8_t *bytes;
	struct tcp_frame f;
	size_t len, size;

	syn.vlan[0] = 77;
	syn.vlan[1] = 0x8000 | 78;
	for (int offload = 0; offload < 2; offload++) {
		netns_vlan_offload(p.server, SERVER_IF, offload, offload);
		netns_vlan_offload(p.client, CLIENT_IF, offload, offload);
		for (syn.vlans = 1; syn.vlans <= 2; syn.vlans++) {
			size = frame_build(&syn, frame, sizeof(frame));
			wire_send_bytes(from, frame, size);
			REQUIRE(wire_recv(to, NULL, SOON_MS, &f), "offload %d", offload);
			EXPECT_EQ(f.vlans, syn.vlans);
			EXPECT_EQ(f.vlan[0], 77);
			bytes = wire_bytes(to, &len);
			EXPECT_EQ(len, size);
			EXPECT_MEM(bytes, frame, size);
		}
	}
	wire_close(from);
	wire_close(to);
}

/* batch.h */

static struct tcp_spec batch_spec(int i, const uint8_t *payload)
{
	struct tcp_spec s = syn_spec(fake(i & 1, (unsigned int)i + 1), (uint16_t)(100 + i), server(i & 1),
				     PORT);

	/* Lengths that go up and down, so that no frame shows the end of another. */
	s.flags = ACK;
	s.payload = payload + i;
	s.payload_len = (uint16_t)(i * 7919 % 1380);
	s.vlans = i == 5;
	s.vlan[0] = 12;
	return s;
}

static void expect_batch(struct batch *b, struct wire *w, struct selftest_bpf *watch, int n)
{
	static uint8_t payload[2000];
	uint8_t frame[FRAME_MAX];
	struct tcp_frame f;
	const uint8_t *got;
	size_t len, got_len;

	for (size_t i = 0; i < sizeof(payload); i++)
		payload[i] = (uint8_t)any();
	watch->bss->n_polls = 0;
	for (int i = 0; i < n; i++) {
		struct tcp_spec s = batch_spec(i, payload);

		batch_add(b, &s);
	}
	batch_send(b);
	for (int i = 0; i < n; i++) {
		struct tcp_spec s = batch_spec(i, payload);

		len = frame_build(&s, frame, sizeof(frame));
		REQUIRE(wire_recv(w, NULL, SOON_MS, &f), "frame %d of %d", i, n);
		got = wire_bytes(w, &got_len);
		EXPECT_EQ(got_len, len, "frame %d of %d", i, n);
		EXPECT_MEM(got, frame, len < got_len ? len : got_len, "frame %d of %d", i, n);
	}
	EXPECT_EQ(watch->bss->n_polls, 1, "polls for %d frames, the first two %u and %u", n,
		  watch->bss->polls[0], watch->bss->polls[1]);
	EXPECT_EQ(watch->bss->polls[0], n, "frames of the poll");
}

static void batch_of_queues(unsigned int queues)
{
	struct pair_spec spec = { .veth.queues = queues };
	struct pair p = pair_new(&spec);
	struct selftest_bpf *watch = selftest_bpf__open();
	struct batch *b;
	struct wire *w;
	struct stat ns;

	REQUIRE(watch && fstat(p.server->fd, &ns) == 0);
	/* The client's multicast reports would be polls of their own. */
	netns_sysctl(p.client, "net.ipv6.conf.all.disable_ipv6", "1");
	netns_xdp(p.server, SERVER_IF, XDP_PASS);
	netns_offloads_off(p.server, SERVER_IF);
	watch->rodata->watched_ifindex = netns_ifindex(p.server, SERVER_IF);
	watch->rodata->watched_netns = (unsigned int)ns.st_ino;
	REQUIRE(selftest_bpf__load(watch) == 0 && selftest_bpf__attach(watch) == 0, "%s", strerror(errno));
	b = batch_open(p.client, CLIENT_IF);
	w = wire_open(p.server, SERVER_IF);
	for (int round = 0; round < 3 * INJECT_FRAMES; round++)
		expect_batch(b, w, watch, round % INJECT_FRAMES + 1);
	wire_close(w);
	batch_close(b);
	selftest_bpf__destroy(watch);
}

CASE("a batch arrives whole, in order and in one NAPI poll")
{
	batch_of_queues(1);
}

CASE("and so with four queues")
{
	batch_of_queues(4);
}

CASE("a handshake in two batches with the kernel")
{
	struct pair p = pair_new(NULL);
	int listener = listen_on(p.server);
	struct tcp_spec syn[INJECT_FRAMES], data;
	struct tcp_frame f;
	struct batch *b;
	struct wire *w;

	netns_must(p.server, "ethtool -K " SERVER_IF " gro on");
	b = batch_open(p.client, CLIENT_IF);
	w = wire_open(p.client, CLIENT_IF);
	for (int i = 0; i < INJECT_FRAMES; i++) {
		syn[i] = syn_spec(fake(i & 1, (unsigned int)i + 1), 5000, server(i & 1), PORT);
		batch_add(b, &syn[i]);
	}
	batch_send(b);
	for (int i = 0; i < INJECT_FRAMES; i++) {
		REQUIRE(wire_recv(w, &syn[i], SOON_MS, &f), "answer %d", i);
		data = frame_answer(&f, 2000000);
		batch_add(b, &data);
	}
	batch_send(b);
	for (int i = 0; i < INJECT_FRAMES; i++) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

		REQUIRE(fd >= 0);
		close(fd);
	}
	wire_close(w);
	batch_close(b);
	close(listener);
}

int main(int argc, char **argv)
{
	return report_main(argc, argv, NULL);
}
