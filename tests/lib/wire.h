/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A raw end of a wire: sends whole frames, receives what the peer has sent. It speaks for addresses
 * that no kernel owns (netns.h), so nobody but the test answers.
 */
#pragma once

#include "frame.h"
#include "netns.h"

struct wire;

struct wire *wire_open(const struct netns *ns, const char *ifname);
void wire_close(struct wire *w);

/* Builds and sends. */
void wire_send(struct wire *w, const struct tcp_spec *spec);
/* Sends bytes as they are, with all their checksums: raw sockets leave none to the hardware. */
void wire_send_bytes(struct wire *w, const void *frame, size_t len);

/*
 * The next TCP segment that answers @sent: its 4-tuple the other way round; NULL means any. Others
 * that come in the meantime stay for later calls. False when @ms have passed.
 * @out->payload is valid until the next call.
 */
bool wire_recv(struct wire *w, const struct tcp_spec *sent, int ms, struct tcp_frame *out);
/* Likewise, and all of @flags are set, none of @not_flags. What does not match stays. */
bool wire_recv_flags(struct wire *w, const struct tcp_spec *sent, uint16_t flags, uint16_t not_flags,
		     int ms, struct tcp_frame *out);
/*
 * Whether nothing answers @sent for the whole of @ms; a frame that does stays and is described by
 * wire_last().
 */
bool wire_silent(struct wire *w, const struct tcp_spec *sent, int ms);
const char *wire_last(struct wire *w);
/* Forgets whatever has arrived; yields how many TCP segments that were. */
unsigned int wire_drain(struct wire *w);

/*
 * The bytes of what wire_recv() returned last, VLAN tags in place even if the device had stripped
 * them.
 */
const uint8_t *wire_bytes(const struct wire *w, size_t *len);
