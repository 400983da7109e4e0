// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The main figures as a picture: SYNs a second, and connections a second under floods. A bar is a median,
 * the line across its end the middle half. What was not measured is left out.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "connections.h"
#include "packets.h"
#include "results.h"

enum {
	WIDTH = 760,
	LEFT = 210,  /* where bars begin */
	RIGHT = 170, /* room for what is written behind them */
	BAR = 16,
	GAP = 4,
};

#define OURS_COLOUR  "#2a78d6"
#define STACK_COLOUR "#8b949e"
#define PROXY_COLOUR "#c9ced6"
#define FLOOR_COLOUR "#e6e9ee"

struct bar {
	const char *label;
	const char *colour;
	struct spread value;
	char text[64];
};

static void text_at(FILE *file, double x, double y, const char *class, const char *text)
{
	fprintf(file, "<text x=\"%.0f\" y=\"%.1f\" class=\"%s\">%s</text>\n", x, y, class, text);
}

/* One bar, its label before it and its figure behind it; yields where the next one goes. */
static double bar_at(FILE *file, double y, const struct bar *bar, double full)
{
	const double scale = (WIDTH - LEFT - RIGHT) / full;
	const double end = LEFT + bar->value.median * scale;
	const double from = LEFT + bar->value.low * scale, to = LEFT + bar->value.high * scale;

	text_at(file, LEFT - 8, y + BAR - 4, "label", bar->label);
	fprintf(file, "<rect x=\"%d\" y=\"%.1f\" width=\"%.1f\" height=\"%d\" fill=\"%s\"/>\n", LEFT, y,
		end > LEFT + 1 ? end - LEFT : 1, BAR, bar->colour);
	fprintf(file, "<path d=\"M%.1f %.1fH%.1f\" stroke=\"#1f2328\" stroke-width=\"1\"/>\n", from,
		y + BAR / 2, to);
	text_at(file, (to > end ? to : end) + 6, y + BAR - 4, "figure", bar->text);
	return y + BAR + GAP;
}

static double syns(FILE *file, double y)
{
	struct bar bars[] = {
		{ "XDP_TX alone (the floor)", FLOOR_COLOUR, result(LINUX, ROW_MIRROR, RATE), "" },
		{ "xdp-handshake", OURS_COLOUR, result(LINUX, ROW_OURS, RATE), "" },
		{ "kernel SYN cookies", STACK_COLOUR, result(LINUX, ROW_COOKIES, RATE), "" },
		{ "nftables synproxy", PROXY_COLOUR, result(LINUX, ROW_SYNPROXY, RATE), "" },
	};
	static const char *const rows[] = { ROW_MIRROR, ROW_OURS, ROW_COOKIES, ROW_SYNPROXY };

	if (!bars[0].value.count)
		return y;
	text_at(file, 16, y + 14, "title", "SYNs answered a second, whole path on one core");
	y += 26;
	for (int i = 0; i < 4; i++) {
		const struct spread above = result(LINUX, rows[i], ABOVE);

		snprintf(bars[i].text, sizeof(bars[i].text), "%.2f million", bars[i].value.median / 1e6);
		if (i)
			snprintf(bars[i].text + strlen(bars[i].text),
				 sizeof(bars[i].text) - strlen(bars[i].text), ", +%.0f ns", above.median);
		y = bar_at(file, y, &bars[i], bars[0].value.high);
	}
	return y + 14;
}

static double connections(FILE *file, double y)
{
	static const char *const workloads[] = { CALM, "50k SYN/s", FLOODED, "1M SYN/s" };
	static const char *const titles[] = { "calm", "50,000 SYNs a second", "300,000 SYNs a second",
					      "1,000,000 SYNs a second" };
	static const char *const names[] = { "ours", "empty program", "synproxy" };
	static const char *const labels[] = { "xdp-handshake", "the stack alone", "nftables synproxy" };
	static const char *const colours[] = { OURS_COLOUR, STACK_COLOUR, PROXY_COLOUR };
	double full = 0;

	for (int w = 0; w < 4; w++)
		for (int i = 0; i < 3; i++) {
			const double high = result(workloads[w], names[i], CONNECTIONS).high;

			full = high > full ? high : full;
		}
	if (!(full > 0))
		return y;
	text_at(file, 16, y + 14, "title",
		"Connections accepted a second, client, server and flood on one core");
	y += 22;
	for (int w = 0; w < 4; w++) {
		text_at(file, 16, y + BAR - 4, "group", titles[w]);
		y += BAR + GAP;
		for (int i = 0; i < 3; i++) {
			struct bar bar = { labels[i], colours[i],
					   result(workloads[w], names[i], CONNECTIONS), "" };

			snprintf(bar.text, sizeof(bar.text), "%.0f", bar.value.median);
			if (w)
				snprintf(bar.text + strlen(bar.text), sizeof(bar.text) - strlen(bar.text),
					 ", and %.0f,000 SYNs",
					 result(workloads[w], names[i], FLOODED_BY).median / 1000);
			y = bar_at(file, y, &bar, full);
		}
		y += 6;
	}
	return y;
}

bool chart_svg(const char *path)
{
	char *body = NULL;
	size_t size;
	FILE *drawing = open_memstream(&body, &size), *file;
	double height;

	if (!drawing)
		return false;
	height = connections(drawing, syns(drawing, 12));
	if (fclose(drawing) || !(file = fopen(path, "w"))) {
		free(body);
		return false;
	}
	fprintf(file,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%.0f\""
		" font-family=\"system-ui, sans-serif\" font-size=\"12\">\n"
		"<style>text{fill:#1f2328}.title{font-weight:600;font-size:14px}.group{fill:#57606a}"
		".label{text-anchor:end}.figure{fill:#57606a}</style>\n"
		"<rect width=\"100%%\" height=\"100%%\" rx=\"6\" fill=\"#ffffff\"/>\n%s</svg>\n",
		WIDTH, height + 8, body);
	free(body);
	return !fclose(file);
}
