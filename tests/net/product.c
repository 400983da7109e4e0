// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "product.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <netinet/tcp.h>

#include <bpf/bpf.h>

enum {
	INSTANCES_MAX = 64,
};

/* Pins of this case's instances: removed at its end, whatever became of it. */
static char pins[INSTANCES_MAX][64];
static int instances;

static void remove_pins(void)
{
	while (instances > 0)
		netns_sh(NULL, PROGRAM " detach --all --now --pin-path %s", pins[--instances]);
}

struct product product_new(const struct pair_spec *spec, const char *arguments)
{
	static int number;
	struct product product = { .pair = pair_new(spec) };

	snprintf(product.pins, sizeof(product.pins), "/sys/fs/bpf/xdp-handshake-test-%d-%d", getpid(),
		 number++);
	REQUIRE(instances < INSTANCES_MAX);
	if (!instances)
		report_at_case_end(remove_pins);
	strcpy(pins[instances++], product.pins);
	if (arguments)
		netns_must(product.pair.server,
			   PROGRAM " attach " SERVER_IF " --firewall-checked --pin-path %s %s",
			   product.pins, arguments);
	return product;
}

void product_must(const struct product *product, const char *command)
{
	netns_must(product->pair.server, PROGRAM " %s --pin-path %s", command, product->pins);
}

int product_run(const struct product *product, const char *command)
{
	return netns_sh(product->pair.server, PROGRAM " %s --pin-path %s", command, product->pins);
}

json_t *product_json(const struct product *product, const char *command)
{
	/* What it says beside is not JSON, and tells why there is none. */
	static const char beside[] = "build/tests/product.err";
	const char *text = netns_output(product->pair.server, PROGRAM " %s --json --pin-path %s 2>%s",
					command, product->pins, beside);
	json_error_t error;
	json_t *value = text ? json_loads(text, 0, &error) : NULL;

	REQUIRE(value, "%s: %s", command, text ? error.text : netns_output(NULL, "cat %s", beside));
	return value;
}

bool file_says(const char *path, const char *word)
{
	static char text[1 << 20];
	FILE *file = fopen(path, "re");
	size_t length;

	if (!file)
		return false;
	length = fread(text, 1, sizeof(text) - 1, file);
	fclose(file);
	text[length] = '\0';
	return strstr(text, word);
}

long long counters(const struct product *product, const char *prefix)
{
	json_t *top = product_json(product, "stats"), *value;
	const char *key;
	long long sum = 0;

	json_object_foreach(json_object_get(top, "counters"), key,
			    value) if (!strncmp(key, prefix, strlen(prefix)))
		sum += json_integer_value(value);
	json_decref(top);
	return sum;
}

long long counter(const struct product *product, const char *name)
{
	json_t *top = product_json(product, "stats");
	json_t *value = json_object_get(json_object_get(top, "counters"), name);
	long long number = json_integer_value(value);

	EXPECT(value, "no counter is called %s", name);
	json_decref(top);
	return number;
}

int product_pin(const struct product *product, const char *map)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", product->pins, map);
	fd = bpf_obj_get(path);
	REQUIRE(fd >= 0, "%s: %s", path, strerror(errno));
	return fd;
}

void product_admit(const struct product *product, const char *address, int port)
{
	long long before = counter(product, "syn_answered");

	for (int i = 0; i < 10; i++) {
		int fd = tcp_connect(product->pair.client, address, port, 3000);

		REQUIRE(fd >= 0, "connect to %s port %d: %s", address, port, strerror(errno));
		close(fd);
		if (counter(product, "syn_answered") > before)
			return;
	}
	REQUIRE(false, "%s port %d is not admitted after ten connections", address, port);
}

void product_beside(const struct product *product, int port, int native_port, int listeners[2])
{
	listeners[0] = tcp_listen(product->pair.server, NULL, port, 512);
	listeners[1] = tcp_listen(product->pair.server, NULL, native_port, 512);
	product_admit(product, SERVER_IP4, port);
	product_admit(product, SERVER_IP6, port);
	tcp_accept_all(listeners[0]);
}

/* ---- sockets ---- */

socklen_t tcp_address(struct sockaddr_storage *storage, const char *address, int port)
{
	struct sockaddr_in6 *v6 = (void *)storage;
	struct sockaddr_in *v4 = (void *)storage;

	memset(storage, 0, sizeof(*storage));
	if (address && inet_pton(AF_INET, address, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons((uint16_t)port);
		return sizeof(*v4);
	}
	v6->sin6_family = AF_INET6;
	v6->sin6_port = htons((uint16_t)port);
	if (address)
		REQUIRE(inet_pton(AF_INET6, address, &v6->sin6_addr) == 1, "%s is no address", address);
	return sizeof(*v6);
}

int tcp_listen(const struct netns *ns, const char *address, int port, int backlog)
{
	struct sockaddr_storage storage;
	socklen_t length = tcp_address(&storage, address, port);
	int fd, one = 1;

	netns_enter(ns);
	fd = socket(storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	netns_enter(NULL);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	REQUIRE(fd >= 0 && !bind(fd, (void *)&storage, length) && !listen(fd, backlog), "port %d: %s", port,
		strerror(errno));
	return fd;
}

int tcp_connect(const struct netns *ns, const char *address, int port, int ms)
{
	struct sockaddr_storage storage;
	socklen_t length = tcp_address(&storage, address, port), size = sizeof(int);
	struct pollfd wait = { .events = POLLOUT };
	int error = 0;

	netns_enter(ns);
	wait.fd = socket(storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	netns_enter(NULL);
	REQUIRE(wait.fd >= 0);
	if (!connect(wait.fd, (void *)&storage, length))
		return wait.fd;
	error = errno;
	if (error == EINPROGRESS) {
		error = ETIMEDOUT;
		if (poll(&wait, 1, ms) == 1)
			getsockopt(wait.fd, SOL_SOCKET, SO_ERROR, &error, &size);
	}
	if (!error)
		return wait.fd;
	close(wait.fd);
	errno = error;
	return -1;
}

int tcp_accept(int listener, int ms)
{
	struct pollfd wait = { .fd = listener, .events = POLLIN };

	if (poll(&wait, 1, ms) != 1)
		return -1;
	return accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

void tcp_accept_all(int listener)
{
	int fd;

	while ((fd = tcp_accept(listener, 50)) >= 0)
		close(fd);
}

long tcp_read(int fd, void *bytes, size_t size, int ms)
{
	const int64_t end = now_ms() + ms;
	size_t have = 0;

	while (have < size && now_ms() < end) {
		struct pollfd wait = { .fd = fd, .events = POLLIN };
		ssize_t length;

		if (poll(&wait, 1, (int)(end - now_ms())) != 1)
			break;
		length = read(fd, (char *)bytes + have, size - have);
		if (length <= 0)
			break;
		have += (size_t)length;
	}
	return (long)have;
}

bool tcp_is_reset(int fd)
{
	char byte;

	return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == ECONNRESET;
}

/* ---- a handshake by hand ---- */

struct hand hand_new(struct wire *wire, int client, uint16_t port, const char *server, uint16_t server_port,
		     bool timestamps)
{
	const bool v6 = strchr(server, ':');
	struct hand hand = { .wire = wire, .timestamps = timestamps };
	const uint16_t mss = v6 ? 1440 : 1460;

	hand.spec = syn_spec(ip_n(v6 ? FAKE_IP6 : FAKE_IP4, (unsigned int)client), port, ip(server),
			     server_port);
	hand.spec.options = timestamps ? options_linux(mss, 1000000, 7) : options_windows(mss, 8);
	return hand;
}

bool hand_syn(struct hand *hand)
{
	struct tcp_spec syn = hand->spec;

	wire_send(hand->wire, &syn);
	if (!wire_recv_flags(hand->wire, &syn, SYN | ACK, RST, 2000, &hand->synack))
		return false;
	hand->spec.flags = ACK;
	hand->spec.seq = syn.seq + 1;
	hand->spec.ack = hand->synack.seq + 1;
	hand->spec.window = 502;
	hand->spec.options = hand->timestamps ? options_ts(1000001, hand->synack.tsval) : options_none();
	return true;
}

struct tcp_spec hand_data(const struct hand *hand, unsigned int offset, const void *payload, size_t size)
{
	struct tcp_spec spec = hand->spec;

	spec.flags = ACK | PSH;
	spec.seq += offset;
	spec.payload = payload;
	spec.payload_len = (uint16_t)size;
	return spec;
}

const char *synack_difference(const struct tcp_frame *ours, const struct tcp_frame *native)
{
	const int longest = ours->saddr.family == AF_INET ? 1460
							  : 1440; /* segment of an Ethernet's client */

#define DIFFERS(field)                                                                                     \
	do {                                                                                               \
		if (ours->field != native->field)                                                          \
			return #field;                                                                     \
	} while (0)
	DIFFERS(ttl);
	DIFFERS(tos);
	DIFFERS(df);
	DIFFERS(id);
	DIFFERS(ip_options_len);
	DIFFERS(flags);
	DIFFERS(urgent);
	DIFFERS(payload_len);
	DIFFERS(mss);
	DIFFERS(wscale);
	DIFFERS(sack_ok);
	DIFFERS(timestamps);
	DIFFERS(tsecr);
#undef DIFFERS
	if (strcmp(ours->layout, native->layout))
		return "options";
	if (memcmp(ours->dst_mac, native->dst_mac, 6) || memcmp(ours->src_mac, native->src_mac, 6))
		return "MAC";
	if (ours->window > native->window || native->window - ours->window > longest)
		return "window";
	return NULL;
}
