// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The tools, tried on the kernel's own stack. They are looked for beside this program. */
#include "frame.h"
#include "netns.h"
#include "report.h"
#include "sha256.h"
#include "wire.h"

#include <fcntl.h>
#include <libgen.h>
#include <linux/bpf.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	PORT = 8080,
	SOON_MS = 3000,
};

static char tools[4096];
static char directory[] = "/tmp/selftest-XXXXXX";

static void set_up(void)
{
	ssize_t n = readlink("/proc/self/exe", tools, sizeof(tools) - 1);

	REQUIRE(n > 0);
	tools[n] = '\0';
	dirname(tools);
	REQUIRE(mkdtemp(directory));
}

static void tear_down(void)
{
	if (tools[0])
		netns_sh(NULL, "rm -rf %s", directory);
}

/* What a background command has printed into its file. */
static const char *log_of(const char *name)
{
	static char text[65536];
	char path[128];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
	text[n < 0 ? 0 : n] = '\0';
	if (fd >= 0)
		close(fd);
	return text;
}

static const char *log_path(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	unlink(path);
	return path;
}

static double field(const char *text, const char *name)
{
	const char *at = strstr(text, name);

	return at ? atof(at + strlen(name)) : -1;
}

static pid_t respond(const struct netns *ns, const char *options)
{
	pid_t pid = netns_spawn(ns, log_path("respond"), "%s/respond --port %d %s", tools, PORT, options);

	REQUIRE(WAIT_FOR(strstr(log_of("respond"), "ready"), SOON_MS), "%s", log_of("respond"));
	return pid;
}

CASE("SHA-256 is what sha256sum says")
{
	static uint8_t bytes[1000];
	struct netns *ns = netns_new("sha");

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)i;
	for (size_t len = 0; len <= sizeof(bytes); len += len < 130 ? 1 : 290) {
		const char *path = log_path("bytes");
		FILE *f = fopen(path, "we");
		struct sha256 s;
		char hex[SHA256_HEX];

		REQUIRE(f);
		fwrite(bytes, 1, len, f);
		fclose(f);
		sha256_begin(&s);
		sha256_add(&s, bytes, len / 3);
		sha256_add(&s, bytes + len / 3, len - len / 3);
		sha256_end(&s, hex);
		REQUIRE(netns_sh(ns, "sha256sum %s | grep -q ^%s", path, hex) == 0, "%zu bytes", len);
	}
}

CASE("respond tells what came, over both families")
{
	struct pair p = pair_new(NULL);
	pid_t server = respond(p.server, "--digest");
	const char *text;

	netns_must(p.client, "%s/churn --connect " SERVER_IP4 " --port %d --payload 251", tools, PORT);
	netns_must(p.client, "%s/churn --connect " SERVER_IP6 " --port %d --payload 10000000", tools, PORT);
	EXPECT_EQ(netns_stop(server, SIGTERM, SOON_MS), 0);
	text = log_of("respond");
	EXPECT(strstr(text, "ready [::]:8080\n"), "%s", text);
	EXPECT(strstr(text, "open id=1 remote=10.77.0.2:"), "%s", text);
	EXPECT(strstr(text, "local=[fd77::1]:8080 mss=1428 "), "%s", text);
	EXPECT(strstr(text, "sack=1 timestamps=1 ecn=0"), "%s", text);
	/* Of the bytes 0 to 250, once, and over and over to ten million. */
	EXPECT(strstr(text, "close id=1 bytes=251 end=eof sha256=ef67e0723230f6c5"), "%s", text);
	EXPECT(strstr(text, "close id=2 bytes=10000000 end=eof sha256=f23042171382c7c5"), "%s", text);
	EXPECT(strstr(text, "accepted=2 open=0 bytes=10000251"), "%s", text);
}

CASE("an echo comes back whole, from many at once")
{
	struct pair p = pair_new(NULL);

	respond(p.server, "--echo --quiet");
	netns_must(p.client,
		   "%s/churn --connect " SERVER_IP4
		   " --port %d --count 200 --concurrency 20 --payload 300000 --expect-echo",
		   tools, PORT);
	EXPECT_EQ(field(netns_said(), "ok="), 200);
}

CASE("who closes first has TIME_WAIT")
{
	struct pair p = pair_new(NULL);
	static const char count[] = "ss -Htan state time-wait | wc -l";

	respond(p.server, "--close-first --quiet");
	netns_must(p.client,
		   "%s/churn --connect " SERVER_IP4 " --port %d --count 10 --payload 10 --server-closes",
		   tools, PORT);
	EXPECT_STR(netns_output(p.client, count), "0");
	EXPECT_STR(netns_output(p.server, count), "10");
	netns_must(p.client, "%s/churn --connect " SERVER_IP6 " --port %d --count 5 --reset", tools, PORT);
	EXPECT_STR(netns_output(p.client, count), "0");
}

CASE("the same tuple again and again, into the server's TIME_WAIT")
{
	struct pair p = pair_new(NULL);

	respond(p.server, "--close-first --quiet");
	netns_must(p.client,
		   "%s/churn --connect " SERVER_IP4
		   " --port %d --count 50 --bind-port 4000 --payload 100 --server-closes "
		   "--deadline 5",
		   tools, PORT);
	EXPECT_EQ(field(netns_said(), "ok="), 50);
}

CASE("churn tells apart how connections fail, and keeps its deadline")
{
	struct pair p = pair_new(NULL);
	int64_t begin = now_ms();

	EXPECT_EQ(netns_sh(p.client, "%s/churn --connect " SERVER_IP4 " --port 9 --count 3", tools), 1);
	EXPECT_EQ(field(netns_said(), "refused="), 3, "%s", netns_said());
	/* An address that nobody has. */
	EXPECT_EQ(netns_sh(p.client,
			   "%s/churn --connect 10.77.0.99 --port 9 --count 4 --concurrency 2 "
			   "--deadline 0.2 --latencies %s",
			   tools, log_path("latencies")),
		  1);
	EXPECT_EQ(field(netns_said(), "timeout="), 4, "%s", netns_said());
	EXPECT_STR(log_of("latencies"), "200000\n200000\n200000\n200000\n");
	EXPECT(now_ms() - begin < SOON_MS, "%lld ms", (long long)(now_ms() - begin));
}

CASE("rates, holding, and a server that does not accept before it is told to")
{
	struct pair p = pair_new(NULL);
	pid_t server = respond(p.server, "--no-accept --backlog 50 --banner"), client;
	double seconds;

	netns_must(p.client,
		   "%s/churn --connect " SERVER_IP4
		   " --port %d --count 20 --concurrency 20 --rate 100 --reset --latencies %s",
		   tools, PORT, log_path("latencies"));
	seconds = field(netns_said(), "seconds=");
	EXPECT_STR(netns_output(NULL, "grep -c '^[0-9][0-9]*$' %s/latencies", directory), "20");
	EXPECT(seconds > 0.18 && seconds < 0.4, "%f", seconds);
	client = netns_spawn(p.client, log_path("churn"),
			     "%s/churn --connect " SERVER_IP6 " --port %d --count 30 --hold", tools, PORT);
	EXPECT(WAIT_FOR(strstr(log_of("churn"), "ok=30 failed=0"), SOON_MS), "%s", log_of("churn"));
	EXPECT(!strstr(log_of("respond"), "open"));
	kill(server, SIGUSR1);
	EXPECT(WAIT_FOR(strstr(log_of("respond"), "open id=50"), SOON_MS), "%s", log_of("respond"));
	EXPECT_EQ(netns_stop(client, SIGTERM, SOON_MS), 0);
	EXPECT_EQ(netns_stop(server, SIGTERM, SOON_MS), 0);
	EXPECT(strstr(log_of("respond"), "accepted=50"), "%s", log_of("respond"));
}

CASE("sockets of kinds that a listener may have")
{
	static const char *const options[] = {
		"--mptcp",	     "--save-syn",	    "--defer-accept 3",	    "--fastopen 5",
		"--maxseg 1000",     "--tos 0x28",	    "--reuseport",	    "--rcvbuf 20000",
		"--congestion reno", "--device " SERVER_IF, "--listen " SERVER_IP4, "--listen :: --v6only",
	};
	struct pair p = pair_new(NULL);

	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		bool v6 = strstr(options[i], "v6only");
		pid_t server;

		if (strstr(options[i], "mptcp") && netns_sh(NULL, "test -e /proc/sys/net/mptcp"))
			continue;
		server = respond(p.server, options[i]);
		EXPECT_EQ(netns_sh(p.client,
				   "%s/churn --connect %s --port %d --payload 5 "
				   "--deadline 2",
				   tools, v6 ? SERVER_IP6 : SERVER_IP4, PORT),
			  0, "%s", options[i]);
		EXPECT_EQ(netns_stop(server, SIGTERM, SOON_MS), 0, "%s", options[i]);
		EXPECT(strstr(log_of("respond"), "bytes=5 end=eof"), "%s: %s", options[i],
		       log_of("respond"));
	}
}

/* delay */

static double relay_lateness;

static double connect_over(double ms, const char *options, int count, const char *more)
{
	struct pair_spec spec = { .relay = true };
	struct pair p = pair_new(&spec);
	double p50;
	pid_t relay;

	relay = netns_spawn(p.relay, log_path("delay"),
			    "%s/delay --ms %g %s " RELAY_CLIENT_IF " " RELAY_SERVER_IF, tools, ms, options);
	REQUIRE(WAIT_FOR(strstr(log_of("delay"), "ready"), SOON_MS), "%s", log_of("delay"));
	respond(p.server, "--digest");
	EXPECT_EQ(netns_sh(p.client,
			   "%s/churn --connect " SERVER_IP4 " --port %d --count %d --concurrency 10 %s",
			   tools, PORT, count, more),
		  0, "%s", netns_said());
	p50 = field(netns_said(), "p50_us=");
	EXPECT_EQ(netns_stop(relay, SIGTERM, SOON_MS), 0);
	EXPECT(field(log_of("delay"), "carried=") > 3 * count, "%s", log_of("delay"));
	relay_lateness = field(log_of("delay"), "late_us=");
	return p50;
}

CASE("a path of 75 ms each way makes a round trip of 150")
{
	double rtt = connect_over(75, "", 20, "--payload 100000");

	EXPECT(rtt >= 150000 && rtt < 152000, "%f us, latest frame %f us late", rtt, relay_lateness);
}

CASE("a path without delay carries a lot")
{
	connect_over(0, "", 50, "--payload 2000000 --deadline 30");
}

CASE("a lossy path loses, and TCP copes")
{
	connect_over(1, "--loss 3 --seed 5", 50, "--payload 50000 --deadline 60");
	EXPECT(field(log_of("delay"), "lost=") > 20, "%s", log_of("delay"));
}

CASE("the path carries VLAN tags")
{
	struct pair_spec spec = { .relay = true };
	struct pair p = pair_new(&spec);
	struct wire *to, *from;
	struct tcp_spec s = syn_spec(ip(FAKE_IP4 "1"), 1, ip(SERVER_IP4), 2);
	struct tcp_frame f;
	uint8_t frame[FRAME_MAX];
	const uint8_t *bytes;
	size_t len, size;

	netns_spawn(p.relay, log_path("delay"), "%s/delay --ms 1 " RELAY_CLIENT_IF " " RELAY_SERVER_IF,
		    tools);
	REQUIRE(WAIT_FOR(strstr(log_of("delay"), "ready"), SOON_MS));
	to = wire_open(p.server, SERVER_IF);
	from = wire_open(p.client, CLIENT_IF);
	s.vlans = 2;
	s.vlan[0] = 5;
	s.vlan[1] = 6;
	size = frame_build(&s, frame, sizeof(frame));
	wire_send_bytes(from, frame, size);
	REQUIRE(wire_recv(to, NULL, SOON_MS, &f));
	bytes = wire_bytes(to, &len);
	EXPECT_EQ(len, size);
	EXPECT_MEM(bytes, frame, size);
	wire_close(to);
	wire_close(from);
}

/* flood */

static void flood(const struct pair *p, const char *options)
{
	netns_must(p->client, "%s/flood --iface " CLIENT_IF " --dport %d %s", tools, PORT, options);
}

static void expect_flood(const char *options, const char *prefix, uint16_t flags, const char *layout)
{
	struct pair p = pair_new(NULL);
	struct wire *w;
	struct tcp_frame f;
	unsigned int n = 0, distinct = 0;
	uint32_t last_seq = 0;

	netns_xdp(p.server, SERVER_IF, XDP_PASS);
	netns_offloads_off(p.server, SERVER_IF);
	w = wire_open(p.server, SERVER_IF);
	flood(&p, options);
	while (wire_recv(w, NULL, 0, &f)) {
		REQUIRE(f.ip_checksum_ok && f.tcp_checksum_ok, "%s", frame_text(&f));
		EXPECT_EQ(f.flags, flags);
		EXPECT_STR(f.layout, layout);
		EXPECT_EQ(f.dport, PORT);
		EXPECT(strncmp(ip_text(&f.saddr), prefix, strlen(prefix)) == 0, "%s", frame_text(&f));
		EXPECT(f.sport >= 1024);
		distinct += f.seq != last_seq;
		last_seq = f.seq;
		n++;
	}
	EXPECT_EQ(n, field(netns_said(), "sent="), "%s", netns_said());
	EXPECT_EQ(n, 2000);
	EXPECT_EQ(distinct, n);
	wire_close(w);
}

CASE("a paced flood arrives whole, with checksums that are right")
{
	static const char linux_layout[] = "mss,sackOK,TS,nop,wscale";

	expect_flood("--src 10.80.0.0/14 --dst " SERVER_IP4 " --rate 4000 --seconds 0.5", "10.8", SYN,
		     linux_layout);
	expect_flood("--src fd80::/32 --dst " SERVER_IP6 " --rate 4000 --seconds 0.5", "fd80:", SYN,
		     linux_layout);
	expect_flood("--src fd80:1:2:3::/64 --dst " SERVER_IP6
		     " --rate 4000 --seconds 0.5 --options 'mss 1440,nop,ws 8,nop,nop,sack'",
		     "fd80:1:2:3:", SYN, "mss,nop,wscale,nop,nop,sackOK");
	expect_flood("--src 10.77.1.1 --dst " SERVER_IP4 " --rate 4000 --seconds 0.5 --ack", "10.77.1.1",
		     ACK, "nop,nop,TS");
}

CASE("the kernel answers a flood's SYNs")
{
	struct pair p = pair_new(NULL);
	struct wire *w;
	struct tcp_frame f;

	netns_must(p.server, "ethtool -K " SERVER_IF " gro on");
	respond(p.server, "");
	w = wire_open(p.client, CLIENT_IF);
	flood(&p, "--src " FAKE_NET4 " --dst " SERVER_IP4 " --rate 1000 --seconds 0.2");
	REQUIRE(wire_recv(w, NULL, SOON_MS, &f));
	EXPECT_EQ(f.flags, SYN | ACK, "%s", wire_last(w));
	wire_close(w);
}

CASE("a flood as fast as it goes")
{
	struct pair p = pair_new(NULL);
	double seconds, sent;

	netns_xdp(p.server, SERVER_IF, XDP_DROP);
	flood(&p, "--src 10.80.0.0/12 --dst " SERVER_IP4 " --seconds 1");
	sent = field(netns_said(), "sent=");
	seconds = field(netns_said(), "seconds=");
	EXPECT(sent / seconds > 200000, "%s", netns_said());
	if (getenv("VERBOSE"))
		printf("%.0f frames a second\n", sent / seconds);
}

int main(int argc, char **argv)
{
	atexit(tear_down);
	return report_main(argc, argv, set_up);
}
