/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The names under which memory.c keeps its results; its row is "ours". */
#pragma once

#define MEMORY		   "memory"
#define MEMORY_FULL	   "bytes, all connections recorded"
#define MEMORY_CONNECTIONS "connections"
