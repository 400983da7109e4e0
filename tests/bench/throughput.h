/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The names under which throughput.c keeps its results; its rows are "empty program" and "ours". */
#pragma once

#define REQUESTS "requests"
#define BULK	 "bulk"
#define BYTES	 "bytes a second"
