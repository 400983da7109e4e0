// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The books: what `connections` shows is what the stack has, line by line with ss, whatever became of the
 * connections; and what a handshake settled is what the socket goes by.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "product.h"

enum {
	PORT = 8080,
	HELD = 400, /* connections open at a time */
	RANDOM_CONNECTIONS = 20000,
	MANY = 100000,
	HOLDERS = 16,
};

static unsigned int seed = 20261;

static unsigned int below(unsigned int number)
{
	seed = seed * 1103515245 + 12345;
	return (seed >> 8) % number;
}

/* ---- connections with both ends in our hands ---- */

struct ends {
	int client, server;
	bool client_done, server_done; /* has sent its FIN */
};

static void ends_transfer(struct ends *ends)
{
	static char bytes[4096], got[4096];
	const size_t size = 1 + below(sizeof(bytes));
	const bool up = below(2);
	const int from = up ? ends->client : ends->server, to = up ? ends->server : ends->client;

	if (up ? ends->client_done : ends->server_done)
		return;
	memset(bytes, (int)below(256), size);
	EXPECT_EQ(send(from, bytes, size, MSG_NOSIGNAL), size);
	EXPECT_EQ(tcp_read(to, got, size, 2000), size);
	EXPECT(!memcmp(bytes, got, size), "other bytes arrived than were sent");
}

/* A half-close: the other direction goes on. */
static void ends_half_close(struct ends *ends, bool client)
{
	if (client ? ends->client_done : ends->server_done)
		return;
	shutdown(client ? ends->client : ends->server, SHUT_WR);
	*(client ? &ends->client_done : &ends->server_done) = true;
}

static void reset(int fd)
{
	const struct linger at_once = { .l_onoff = 1 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	close(fd);
}

static void ends_end(struct ends *ends)
{
	switch (below(4)) {
	case 0:
		reset(ends->client);
		close(ends->server);
		break;
	case 1:
		reset(ends->server);
		close(ends->client);
		break;
	case 2:
		close(ends->client);
		close(ends->server);
		break;
	default: close(ends->server); close(ends->client);
	}
	ends->client = ends->server = -1;
}

static void ends_begin(const struct product *product, int listener, struct ends *ends, bool ipv6)
{
	*ends = (struct ends){
		.client = tcp_connect(product->pair.client, ipv6 ? SERVER_IP6 : SERVER_IP4, PORT, 3000),
		.server = tcp_accept(listener, 3000),
	};
	REQUIRE(ends->client >= 0 && ends->server >= 0, "connect: %s", strerror(errno));
}

/* ---- the two lists ---- */

/* "LOCAL REMOTE STATE" a line, sorted, by ss. */
#define SS_LINES                                                                                           \
	"ss -Htan 'sport = :%d' | awk '$1 != \"LISTEN\" { gsub(/\\[::ffff:/, \"\"); "                      \
	"for (i = 4; i < 6; i++) if ($i !~ /^\\[/) sub(/\\]/, \"\", $i); sub(/^ESTAB$/, \"ESTABLISHED\", " \
	"$1); "                                                                                            \
	"sub(/^SYN-RECV$/, \"SYN-RECEIVED\", $1); print $4, $5, $1 }' | LC_ALL=C sort"

/* The same by us. */
#define OUR_LINES                                                                                          \
	PROGRAM " connections --json --pin-path %s | jq -r '.[] | \"\\(.local) \\(.remote) \\(.state)\"' " \
		"| "                                                                                       \
		"LC_ALL=C sort"

/* Both lists agree. The stack's is read again if it moved in between: a TIME-WAIT ends by itself. */
static void expect_same_lines(const struct product *product, const char *when)
{
	static char before[8 << 20], ours[8 << 20];
	const char *after = NULL;

	for (int i = 0; i < 5; i++) {
		snprintf(before, sizeof(before), "%s",
			 netns_output(product->pair.server, SS_LINES, PORT) ?: "");
		snprintf(ours, sizeof(ours), "%s",
			 netns_output(product->pair.server, OUR_LINES, product->pins) ?: "");
		after = netns_output(product->pair.server, SS_LINES, PORT);
		if (after && !strcmp(before, after))
			break;
	}
	if (!EXPECT(after && !strcmp(before, ours), "%s: they differ", when)) {
		netns_sh(NULL, "cat > /tmp/xdp-handshake-books.ss <<'E'\n%s\nE", before);
		netns_sh(NULL, "cat > /tmp/xdp-handshake-books.ours <<'E'\n%s\nE", ours);
		printf("# %s\n",
		       netns_output(NULL,
				    "diff /tmp/xdp-handshake-books.ss /tmp/xdp-handshake-books.ours | "
				    "head -20; rm /tmp/xdp-handshake-books.*"));
	}
}

/* "REMOTE ts sack wscale:a,b" a line: of each established connection, as its socket has it (ss -i). */
#define SS_OPTIONS                                                                                         \
	"ss -OHtino state established 'sport = :%d' | awk '{ o = \"\"; for (i = 5; i <= NF; i++) if ($i "  \
	"~ "                                                                                               \
	"/^(ts|sack|ecn|wscale:.*)$/) o = o \" \" $i; gsub(/\\[::ffff:/, \"\", $4); if ($4 !~ /^\\[/) "    \
	"sub(/\\]/, \"\", $4); print $4 o }' | LC_ALL=C sort"

#define OUR_OPTIONS                                                                                        \
	PROGRAM " connections --state established --promoted --json --pin-path %s | jq -r "                \
		"'.[] | \"\\(.remote) \\(.options)\"' | sed 's/ $//' | LC_ALL=C sort"

/* What we recorded is what the sockets go by; yields how many connections were compared. */
static int expect_same_options(const struct product *product)
{
	static char theirs[4 << 20];
	char *ours, *line, *save;
	int compared = 0;

	snprintf(theirs, sizeof(theirs), "\n%s\n",
		 netns_output(product->pair.server, SS_OPTIONS, PORT) ?: "");
	ours = strdup(netns_output(product->pair.server, OUR_OPTIONS, product->pins) ?: "");
	for (line = strtok_r(ours, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char whole[160];

		snprintf(whole, sizeof(whole), "\n%s\n", line);
		EXPECT(strstr(theirs, whole), "%s: not what ss has", line);
		compared++;
	}
	free(ours);
	return compared;
}

CASE("after 20,000 random connects, transfers, closes and resets, the list is that of ss")
{
	struct product product = product_new(NULL, "--port 8080");
	int listener = tcp_listen(product.pair.server, NULL, PORT, 512), compared = 0;
	static struct ends held[HELD];
	static const char *const options[] = { "tcp_timestamps", "tcp_sack", "tcp_window_scaling" };

	printf("# seed %u\n", seed);
	netns_sysctl(product.pair.client, "net.ipv4.tcp_max_tw_buckets", "1");
	/* Another scale than the server's. */
	netns_sysctl(product.pair.client, "net.ipv4.tcp_rmem", "4096 131072 6291456");
	product_admit(&product, SERVER_IP4, PORT);
	product_admit(&product, SERVER_IP6, PORT);
	for (int fd; (fd = tcp_accept(listener, 50)) >= 0;)
		close(fd);
	for (int i = 0; i < HELD; i++)
		held[i].client = -1;
	for (int i = 0; i < RANDOM_CONNECTIONS; i++) {
		struct ends *ends = &held[below(HELD)];

		if (!(i % 97)) {
			char name[64];

			snprintf(name, sizeof(name), "net.ipv4.%s", options[below(3)]);
			netns_sysctl(product.pair.client, name, below(3) ? "1" : "0");
		}
		if (ends->client >= 0)
			ends_end(ends);
		ends_begin(&product, listener, ends, below(2));
		ends_transfer(ends);
		if (!below(4))
			ends_half_close(ends, below(2));
		ends_transfer(ends);
		if (i % 5000 == 4999) {
			poll(NULL, 0, 300); /* acknowledgements of the last FINs */
			expect_same_lines(&product, "on the way");
			compared += expect_same_options(&product);
		}
	}
	EXPECT(compared > HELD, "%d promoted connections were compared", compared);
	for (int i = 0; i < HELD; i++)
		if (held[i].client >= 0)
			ends_end(&held[i]);
	poll(NULL, 0, 300);
	expect_same_lines(&product, "at the end");
	close(listener);
}

/* ---- for people ---- */

static const char *column(const struct product *product, const char *options, const char *filter)
{
	return netns_output(product->pair.server,
			    PROGRAM " connections %s --json --pin-path %s | jq -cr '%s'", options,
			    product->pins, filter);
}

CASE("connections filters by state, port and prefix, sorts, and names the process")
{
	struct product product = product_new(NULL, "--port 8080,8081");
	int listener = tcp_listen(product.pair.server, NULL, PORT, 64), other, clients[4], servers[4];
	const char *said;
	char self[64];

	other = tcp_listen(product.pair.server, NULL, PORT + 1, 64);
	product_admit(&product, SERVER_IP4, PORT);
	for (int fd; (fd = tcp_accept(listener, 50)) >= 0;)
		close(fd);
	for (int i = 0; i < 4; i++) {
		clients[i] = tcp_connect(product.pair.client, i & 1 ? SERVER_IP6 : SERVER_IP4,
					 PORT + (i == 3), 1000);
		servers[i] = tcp_accept(i == 3 ? other : listener, 1000);
		REQUIRE(clients[i] >= 0 && servers[i] >= 0);
	}
	shutdown(clients[0], SHUT_WR);
	EXPECT(WAIT_FOR(atoi(column(&product, "--state close-wait", "length") ?: "") == 1, 1000), "%s",
	       netns_said());
	EXPECT_STR(column(&product, "--state CLOSE-WAIT,time-wait --port 8080", "[.[].state] | unique"),
		   "[\"CLOSE-WAIT\"]");
	EXPECT_STR(column(&product, "--state established", "length"), "3");
	EXPECT_STR(column(&product, "--state established --port 8081", "length"), "1");
	EXPECT_STR(column(&product, "--state established --port 8000-8080", "length"), "2");
	EXPECT_STR(column(&product, "--state established --remote 10.77.0.0/24", "length"), "1");
	EXPECT_STR(column(&product, "--state established --remote fd77::/16", "length"), "2");
	EXPECT_STR(column(&product, "--state established --remote 10.77.0.4/30", "length"), "0");
	EXPECT_STR(column(&product, "--local 10.77.0.1 --state established,close-wait", "length"), "2");
	EXPECT_STR(column(&product, "--state established --sort local", "[.[].local]"),
		   "[\"" SERVER_IP4 ":8080\",\"[" SERVER_IP6 "]:8080\",\"[" SERVER_IP6 "]:8081\"]");
	EXPECT_STR(column(&product, "--state established --sort -local", ".[0].local"),
		   "[" SERVER_IP6 "]:8081");
	/* The youngest first; what has no age comes last. */
	said = column(&product, "--state established,close-wait --promoted --sort age",
		      "[.[].age_ms] | . == sort");
	EXPECT_STR(said, "true");
	snprintf(self, sizeof(self), "%d/books", getpid());
	EXPECT_STR(column(&product, "--state established --port 8081", ".[0].process"), self);

	/* As people see it: columns that align, also for IPv6, and no colour in a pipe. */
	said = netns_output(
		product.pair.server,
		PROGRAM
		" connections --state established --pin-path %s | tee /dev/stderr | awk 'NR == 1 { "
		"at = index($0, \"State\") } NR > 1 && substr($0, at, 11) != \"ESTABLISHED\" { bad = 1 } "
		"/\\033/ { bad = 1 } END { print bad + 0, NR }'",
		product.pins);
	EXPECT(said && strstr(said, "0 4"), "%s", netns_said());

	EXPECT_EQ(product_run(&product, "connections --state open"), 2);
	EXPECT_EQ(product_run(&product, "connections --remote 10.0.0.0/33"), 2);
	EXPECT_EQ(product_run(&product, "connections --port 0"), 2);
	EXPECT_EQ(product_run(&product, "connections --sort colour"), 2);
	EXPECT(strstr(netns_said(), "'colour'"), "%s", netns_said());
	EXPECT_EQ(product_run(&product, "connections 8080"), 2);
	for (int i = 0; i < 4; i++) {
		close(clients[i]);
		close(servers[i]);
	}
	close(listener);
	close(other);
}

static int64_t least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* One of the processes that hold them: no process may open so many files. */
struct holder {
	const struct product *product;
	int number, done; /* done: a pipe */
};

static int hold(void *arg)
{
	const struct holder *holder = arg;
	const int port = PORT + holder->number;
	int listener = tcp_listen(holder->product->pair.server, NULL, port, 512);

	for (int i = 0; i < MANY / HOLDERS; i++) {
		int client = tcp_connect(holder->product->pair.client, SERVER_IP4, port, 5000);

		REQUIRE(client >= 0, "connection %d of port %d: %s", i, port, strerror(errno));
		REQUIRE(tcp_accept(listener, 5000) >= 0);
	}
	EXPECT_EQ(write(holder->done, "", 1), 1);
	return pause();
}

CASE("100,000 connections are listed in under two seconds")
{
	struct product product = product_new(NULL, "--port 8080-8095");
	struct holder holder = { .product = &product };
	int64_t began, plain = INT64_MAX, json = INT64_MAX;
	pid_t child[HOLDERS];
	int done[2];
	char byte;

	REQUIRE(!pipe(done));
	holder.done = done[1];
	for (holder.number = 0; holder.number < HOLDERS; holder.number++)
		child[holder.number] = netns_fork(product.pair.server, hold, &holder);
	close(done[1]);
	for (int i = 0; i < HOLDERS; i++)
		REQUIRE(read(done[0], &byte, 1) == 1, "a holder has failed");
	/* The best of three: others use the machine as well. */
	for (int i = 0; i < 3; i++) {
		began = now_ms();
		netns_must(product.pair.server, PROGRAM " connections --pin-path %s > /dev/null",
			   product.pins);
		plain = least(plain, now_ms() - began);
		began = now_ms();
		netns_must(product.pair.server,
			   PROGRAM " connections --json --pin-path %s > build/tests/books.json",
			   product.pins);
		json = least(json, now_ms() - began);
	}
	printf("# 100,000 connections: %lld ms as a table, %lld ms as JSON\n", (long long)plain,
	       (long long)json);
	EXPECT(plain < 2000 && json < 2000);
	EXPECT_STR(netns_output(NULL,
				"jq '[.[] | select(.promoted and .process != null)] | length >= %d' "
				"build/tests/books.json; rm build/tests/books.json",
				MANY - HOLDERS * 10),
		   "true");
	for (int i = 0; i < HOLDERS; i++)
		netns_stop(child[i], SIGKILL, 5000);
}

int main(int argc, char **argv)
{
	return report_main(argc, argv, NULL);
}
