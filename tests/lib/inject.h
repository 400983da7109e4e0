/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Shared by inject.bpf.c and batch.c: the frames of one batch. */
#pragma once

#include <linux/types.h>

enum {
	INJECT_FRAMES = 16,	  /* as many as the kernel hands to a device in one call */
	INJECT_FRAME_SIZE = 1518, /* 1514 and one VLAN tag */
};

struct inject_frame {
	__u32 len;
	__u8 bytes[INJECT_FRAME_SIZE];
	__u16 pad;
};
