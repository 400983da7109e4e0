// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* What it is to be, and what it is. Every figure is a ratio of two of one run, but for memory. */
#include <stdio.h>

#include "connections.h"
#include "memory.h"
#include "packets.h"
#include "results.h"
#include "throughput.h"

static int number, missed;

/* @at_least: or at the most. */
static void target(const char *what, struct spread is, double wanted, bool at_least)
{
	const bool met = at_least ? is.median >= wanted : is.median <= wanted;

	if (!is.count)
		return;
	number++;
	missed += !met;
	printf("%-8s %-72s %s %6.4g   %s\n", met ? "met" : "NOT MET", what,
	       at_least ? "at least" : "at most ", wanted, spread_text(is, 1, 3));
}

static struct spread over(struct spread spread, double by)
{
	return (struct spread){ spread.median / by, spread.low / by, spread.high / by, spread.count };
}

/* Of the program alone, in units of @workload's. */
static struct spread net(const char *workload, const char *by)
{
	return result_ratio(workload, ROW_OURS, by, ROW_OURS, NET);
}

/* One figure of ours under flood, of the same in calm. */
static struct spread under_flood(const char *what)
{
	return result_ratio(FLOODED, "ours", CALM, "ours", what);
}

void targets_print(void)
{
	static const char *const common[] = { LINUX, WINDOWS, MACOS };
	const char *const empty = "empty program", *const ours = "ours";

	printf("\nTargets (100,000 tuples held)\n");
	for (int i = 0; i < 3; i++) {
		char text[80];

		snprintf(text, sizeof(text), "1 %s: whole path, of the mirror's rate", common[i]);
		target(text, result(common[i], ROW_OURS, OF), 0.66, true);
		snprintf(text, sizeof(text), "1 %s: SYN cookies' cost above the mirror, of ours",
			 common[i]);
		target(text, result(common[i], ROW_COOKIES, TIMES), 15, true);
		snprintf(text, sizeof(text), "1 %s: synproxy's cost above the mirror, of ours", common[i]);
		target(text, result(common[i], ROW_SYNPROXY, TIMES), 17, true);
	}
	target("2 a SYN's program time, in SipHashes of 16 bytes",
	       result_ratio(LINUX, ROW_OURS, LINUX, ROW_HASH, NET), 4, false);
	target("2 IPv6, of IPv4", net(LINUX_IPV6, LINUX), 1.3, false);
	target("2 an odd layout, of Linux's", net(ODD, LINUX), 2, false);
	target("3 an ACK validated, of a SYN", net(VALID_ACK, LINUX), 1, false);
	target("3 data of 16 connections by turns, of a SYN", net(FEW_DATA, LINUX), 0.6, false);
	target("3 data of 8,192 connections by turns, of a SYN", net(MORE_DATA, LINUX), 0.6, false);
	target("3 an unprotected port, of a SYN", net(UNPROTECTED, LINUX), 0.15, false);
	target("4 connections a second in calm, of those behind an empty program",
	       result_ratio(CALM, ours, CALM, empty, CONNECTIONS), 0.95, true);
	target("4 the same, the server closes first",
	       result_ratio(SERVER_CLOSES, ours, SERVER_CLOSES, empty, CONNECTIONS), 0.95, true);
	target("4 connections a second under 300k SYN/s, of calm", under_flood(CONNECTIONS), 0.8, true);
	target("4 99 % of handshakes within, under 300k SYN/s, of calm", under_flood(P99), 2, false);
	target("5 requests on connections that stay, of an empty program's",
	       result_ratio(REQUESTS, ours, REQUESTS, empty, BYTES), 0.98, true);
	target("5 bulk, of an empty program's", result_ratio(BULK, ours, BULK, empty, BYTES), 0.98, true);
	target("6 two cores of one, of the same of the mirror",
	       result_ratio(TWO_CORES, ROW_OURS, TWO_CORES, ROW_MIRROR, SCALING), 0.97, true);
	target("7 memory of all maps, MiB, every connection recorded",
	       over(result(MEMORY, ours, MEMORY_FULL), 1 << 20), 64, false);
	printf("%d of %d met\n", number - missed, number);
}
