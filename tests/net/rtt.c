// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The server's first round trip time is the path's: over a relay that delays each frame by 75 ms each way.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <netinet/in.h>
#include <netinet/tcp.h>

#include "product.h"

enum {
	PORT = 8080,
	PATH_MS = 150,
	TICK_MS = 4, /* of a kernel with CONFIG_HZ=250 */
};

/* tcpi_rtt of the server's socket for one new connection, in microseconds, before any data. */
static unsigned int first_rtt(const struct product *product, const char *address, int listener)
{
	struct tcp_info info = {};
	socklen_t length = sizeof(info);
	int client = tcp_connect(product->pair.client, address, PORT, 5000), server;

	REQUIRE(client >= 0, "connect: %s", strerror(errno));
	server = tcp_accept(listener, 3000);
	REQUIRE(server >= 0, "nothing accepted");
	getsockopt(server, IPPROTO_TCP, TCP_INFO, &info, &length);
	close(client);
	close(server);
	return info.tcpi_rtt;
}

CASE("IPv4 and IPv6: over a path of 150 ms the server's first RTT is 150 ms")
{
	struct pair_spec spec = { .relay = true };
	struct product product = product_new(&spec, "--port 8080 --canary once");
	int listener = tcp_listen(product.pair.server, NULL, PORT, 64), fd;

	netns_spawn(product.pair.relay, NULL,
		    "build/tests/tools/delay --ms %d " RELAY_CLIENT_IF " " RELAY_SERVER_IF, PATH_MS / 2);
	product_admit(&product, SERVER_IP4, PORT);
	product_admit(&product, SERVER_IP6, PORT);
	while ((fd = tcp_accept(listener, 200)) >= 0)
		close(fd);
	for (int i = 0; i < 6; i++) {
		const char *address = i & 1 ? SERVER_IP6 : SERVER_IP4;
		long long promoted = counter(&product, "promoted");
		int64_t begin = now_us(), path;
		unsigned int rtt;

		/* What the client sees of the path is the truth to compare with: the relay may be late. */
		fd = tcp_connect(product.pair.client, address, PORT, 5000);
		REQUIRE(fd >= 0, "connect: %s", strerror(errno));
		path = now_us() - begin;
		close(fd);
		close(tcp_accept(listener, 3000));
		rtt = first_rtt(&product, address, listener);
		EXPECT_EQ(counter(&product, "promoted"), promoted + 2);
		EXPECT(rtt > path * 95 / 100 - TICK_MS * 1000 && rtt < path * 105 / 100 + TICK_MS * 1000,
		       "%s: RTT %u us on a path of %lld us", address, rtt, (long long)path);
	}
	close(listener);
}

int main(int argc, char **argv)
{
	return report_main(argc, argv, NULL);
}
