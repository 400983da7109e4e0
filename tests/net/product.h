/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The product as a user runs it, on the server's end of a pair (tests/lib/netns.h), and the ends of TCP
 * connections inside of the test: what a user would notice is asserted on them.
 */
#ifndef XDPH_TESTS_PRODUCT_H
#define XDPH_TESTS_PRODUCT_H

#include <sys/socket.h>

#include <jansson.h>

#include "../lib/netns.h"
#include "../lib/report.h"
#include "../lib/wire.h"

#define PROGRAM "build/xdp-handshake"

struct product {
	struct pair pair;
	char pins[64];
};

/* A pair, with the program attached to the server's end: "attach veth-server @arguments". */
struct product product_new(const struct pair_spec *spec, const char *arguments);

/* Any other command of it, with --pin-path; must succeed. What it printed: netns_said(). */
void product_must(const struct product *product, const char *command);
/* Yields the exit status. */
int product_run(const struct product *product, const char *command);

/* The JSON of a reading command; to be json_decref()ed. */
json_t *product_json(const struct product *product, const char *command);

/* Whether a file, the output of a command in the background, holds @word by now. */
bool file_says(const char *path, const char *word);

/* One of stats. */
long long counter(const struct product *product, const char *name);
/* All counters whose name begins so. */
long long counters(const struct product *product, const char *prefix);

/* One of its pinned maps; to be closed. */
int product_pin(const struct product *product, const char *map);

/* Connects until SYNs to the address and port are answered by the driver. */
void product_admit(const struct product *product, const char *address, int port);

/*
 * Two listening sockets alike, the second one on a port that is not protected: what happens there is what
 * happens natively. The driver answers for the first, by either family; no connection waits.
 */
void product_beside(const struct product *product, int port, int native_port, int listeners[2]);

/* ---- sockets ---- */

/* Fills in an address from text, :: if it is NULL; yields its length. */
socklen_t tcp_address(struct sockaddr_storage *storage, const char *address, int port);
/* A listening socket in the namespace; non-blocking. Any address if @address is NULL (dual-stack). */
int tcp_listen(const struct netns *ns, const char *address, int port, int backlog);
/* A connected socket, or -1; errno tells. */
int tcp_connect(const struct netns *ns, const char *address, int port, int ms);
/* The next connection, or -1 when @ms have passed. */
int tcp_accept(int listener, int ms);
/* Takes and closes whatever waits to be accepted. */
void tcp_accept_all(int listener);
/* Reads until @size bytes are there, the end, or @ms have passed. Yields how many. */
long tcp_read(int fd, void *bytes, size_t size, int ms);
/* Whether the peer has reset the connection. */
bool tcp_is_reset(int fd);

/* ---- a handshake by hand ---- */

struct hand {
	struct wire *wire;
	struct tcp_spec spec; /* of the segment to send next: seq and ack are kept up to date */
	struct tcp_frame synack;
	bool timestamps;
};

/* A fake client's SYN with the options of Linux (timestamps on or off), not yet sent. */
struct hand hand_new(struct wire *wire, int client, uint16_t port, const char *server, uint16_t server_port,
		     bool timestamps);
/* Sends the SYN and takes the SYN-ACK; false if none comes. The spec is then the final ACK's. */
bool hand_syn(struct hand *hand);
/* Makes the spec that of a segment with @payload, @offset bytes into the stream. */
struct tcp_spec hand_data(const struct hand *hand, unsigned int offset, const void *payload, size_t size);

/*
 * In what a SYN-ACK of ours is not the stack's to a like SYN: beside ISN, timestamp value and checksum, and
 * a window that is smaller by a segment at most. NULL: in nothing.
 */
const char *synack_difference(const struct tcp_frame *ours, const struct tcp_frame *native);

#endif
