/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The names under which packets.c and cores.c keep their results. */
#pragma once

#define LINUX	    "SYN, Linux"
#define WINDOWS	    "SYN, Windows"
#define MACOS	    "SYN, macOS"
#define ODD	    "SYN, an odd layout"
#define LINUX_IPV6  "SYN, Linux, IPv6"
#define WRONG_ACK   "ACK, wrong cookie"
#define UNPROTECTED "unprotected port"
/* Of handshakes that are made in full. */
#define VALID_ACK  "ACK, right cookie"
#define FIRST_DATA "data, first segment"
#define MORE_DATA  "data, 8,192 by turns"
#define FEW_DATA   "data, 16 by turns"
#define TWO_CORES  "SYN, Linux, two cores"

#define ROW_EMPTY    "empty"
#define ROW_MIRROR   "mirror"
#define ROW_HASH     "hash"
#define ROW_STACK    "stack"
#define ROW_OURS_0   "ours, 0"
#define ROW_OURS     "ours, 100k"
#define ROW_OURS_1M  "ours, 1M"
#define ROW_WIDE     "ours, 1M wide"
#define ROW_COOKIES  "SYN cookies"
#define ROW_SYNPROXY "synproxy"

#define PATH	"path, ns"
#define RATE	"packets a second"
#define OF	"of the mirror"
#define ABOVE	"ns above the mirror"
#define TIMES	"times ours above the mirror"
#define BESIDE	"ns above an empty program"
#define RUN	"program, ns"
#define NET	"program, net ns"
#define SCALING "of one core's rate"
