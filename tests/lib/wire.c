// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "wire.h"
#include "report.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	RECEIVE_MAX = 70000, /* what GRO may have merged */
	QUEUE_MAX = 65536,   /* frames nobody asked for; a flood's answers must not eat the memory */
	SOCKET_BUFFER = 64 * 1024 * 1024,
	MACS = 12,
	VLAN_TAG = 4,
};

struct item {
	struct item *next;
	struct tcp_frame frame;
	size_t len;
	uint8_t bytes[];
};

struct wire {
	int fd;
	struct item *first;
	struct item **end;
	unsigned int queued;
	struct item *returned;
	char last[512];
	uint8_t buffer[RECEIVE_MAX];
};

struct open_arg {
	const struct netns *ns;
	const char *ifname;
	int fd;
};

static int open_in_ns(void *arg)
{
	struct open_arg *a = arg;
	/* Bound before the protocol is set, so that no other device's frames slip in between. */
	struct sockaddr_ll address = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_ALL),
		.sll_ifindex = netns_ifindex(a->ns, a->ifname),
	};
	int on = 1, size = SOCKET_BUFFER;

	a->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (a->fd < 0 || setsockopt(a->fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on)) ||
	    setsockopt(a->fd, SOL_PACKET, PACKET_AUXDATA, &on, sizeof(on)) ||
	    setsockopt(a->fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) ||
	    bind(a->fd, (struct sockaddr *)&address, sizeof(address)))
		return -errno;
	return 0;
}

struct wire *wire_open(const struct netns *ns, const char *ifname)
{
	struct open_arg a = { .ns = ns, .ifname = ifname };
	struct wire *w = calloc(1, sizeof(*w));
	int err = netns_call(ns, open_in_ns, &a);

	REQUIRE(w && err == 0, "raw socket on %s: %s", ifname, strerror(-err));
	w->fd = a.fd;
	w->end = &w->first;
	return w;
}

static void forget(struct wire *w)
{
	while (w->first) {
		struct item *item = w->first;

		w->first = item->next;
		free(item);
	}
	w->end = &w->first;
	w->queued = 0;
}

void wire_close(struct wire *w)
{
	close(w->fd);
	forget(w);
	free(w->returned);
	free(w);
}

void wire_send_bytes(struct wire *w, const void *frame, size_t len)
{
	ssize_t n;

	/* A full device queue empties by itself. */
	while ((n = send(w->fd, frame, len, 0)) < 0 && (errno == ENOBUFS || errno == EAGAIN))
		nap();
	REQUIRE(n == (ssize_t)len, "sending %zu bytes: %s", len, strerror(errno));
}

void wire_send(struct wire *w, const struct tcp_spec *spec)
{
	uint8_t frame[FRAME_MAX];

	wire_send_bytes(w, frame, frame_build(spec, frame, sizeof(frame)));
}

static const struct tpacket_auxdata *auxdata_of(struct msghdr *message)
{
	struct cmsghdr *c;

	for (c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		if (c->cmsg_level == SOL_PACKET && c->cmsg_type == PACKET_AUXDATA)
			return (const struct tpacket_auxdata *)CMSG_DATA(c);
	}
	return NULL;
}

/* Puts back the tag that the device has stripped. */
static size_t restore_tag(struct wire *w, size_t len, const struct tpacket_auxdata *aux)
{
	uint16_t tag[2] = { htons(aux->tp_vlan_tpid), htons(aux->tp_vlan_tci) };

	if (!(aux->tp_status & TP_STATUS_VLAN_VALID) || len < MACS)
		return len;
	if (!(aux->tp_status & TP_STATUS_VLAN_TPID_VALID))
		tag[0] = htons(ETH_P_8021Q);
	memmove(w->buffer + MACS + VLAN_TAG, w->buffer + MACS, len - MACS);
	memcpy(w->buffer + MACS, tag, sizeof(tag));
	return len + VLAN_TAG;
}

/* Everything that has arrived goes into the queue. */
static void read_all(struct wire *w)
{
	for (;;) {
		struct iovec iov = { w->buffer, sizeof(w->buffer) - VLAN_TAG };
		char control[CMSG_SPACE(sizeof(struct tpacket_auxdata))];
		struct msghdr message = {
			.msg_iov = &iov,
			.msg_iovlen = 1,
			.msg_control = control,
			.msg_controllen = sizeof(control),
		};
		const struct tpacket_auxdata *aux;
		struct tcp_frame frame;
		struct item *item;
		ssize_t n = recvmsg(w->fd, &message, 0);
		size_t len;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return;
		len = (size_t)n;
		aux = auxdata_of(&message);
		if (aux)
			len = restore_tag(w, len, aux);
		if (!frame_parse(w->buffer, len, &frame) || w->queued == QUEUE_MAX)
			continue;
		item = malloc(sizeof(*item) + len);
		REQUIRE(item);
		memcpy(item->bytes, w->buffer, len);
		frame_parse(item->bytes, len, &item->frame);
		item->frame.checksum_partial = aux && aux->tp_status & TP_STATUS_CSUMNOTREADY;
		item->len = len;
		item->next = NULL;
		*w->end = item;
		w->end = &item->next;
		w->queued++;
	}
}

static bool matches(const struct tcp_frame *f, const struct tcp_spec *sent, uint16_t flags,
		    uint16_t not_flags)
{
	if ((f->flags & flags) != flags || f->flags & not_flags)
		return false;
	return !sent || (f->sport == sent->dport && f->dport == sent->sport &&
			 ip_equal(&f->saddr, &sent->daddr) && ip_equal(&f->daddr, &sent->saddr));
}

/* Where the pointer to the first matching frame is. */
static struct item **find(struct wire *w, const struct tcp_spec *sent, uint16_t flags, uint16_t not_flags,
			  int ms)
{
	int64_t end = now_ms() + ms;

	for (;;) {
		struct pollfd p = { .fd = w->fd, .events = POLLIN };
		struct item **at;
		int64_t left;

		read_all(w);
		for (at = &w->first; *at; at = &(*at)->next) {
			if (matches(&(*at)->frame, sent, flags, not_flags))
				return at;
		}
		left = end - now_ms();
		if (left <= 0)
			return NULL;
		poll(&p, 1, (int)left);
	}
}

bool wire_recv_flags(struct wire *w, const struct tcp_spec *sent, uint16_t flags, uint16_t not_flags,
		     int ms, struct tcp_frame *out)
{
	struct item **at = find(w, sent, flags, not_flags, ms), *item;

	if (!at)
		return false;
	item = *at;
	*at = item->next;
	if (!item->next)
		w->end = at;
	w->queued--;
	free(w->returned);
	w->returned = item;
	snprintf(w->last, sizeof(w->last), "%s", frame_text(&item->frame));
	if (out)
		*out = item->frame;
	return true;
}

bool wire_recv(struct wire *w, const struct tcp_spec *sent, int ms, struct tcp_frame *out)
{
	return wire_recv_flags(w, sent, 0, 0, ms, out);
}

bool wire_silent(struct wire *w, const struct tcp_spec *sent, int ms)
{
	struct item **at = find(w, sent, 0, 0, ms);

	snprintf(w->last, sizeof(w->last), "%s", at ? frame_text(&(*at)->frame) : "nothing");
	return !at;
}

const char *wire_last(struct wire *w)
{
	return w->last;
}

unsigned int wire_drain(struct wire *w)
{
	unsigned int n;

	read_all(w);
	n = w->queued;
	forget(w);
	return n;
}

const uint8_t *wire_bytes(const struct wire *w, size_t *len)
{
	if (!w->returned)
		return NULL;
	*len = w->returned->len;
	return w->returned->bytes;
}
