// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "explain.h"
#include "cookie.h"

#include <stdio.h>
#include <string.h>

#include "format.h"
#include "output.h"

/* ---- which segments ---- */

/* The same two ends, either way round. */
static bool same_ends(const struct segment *a, const struct segment *b, bool turned)
{
	struct tuple s, t;

	segment_tuple(a, true, &s);
	segment_tuple(b, !turned, &t);
	return address_equal(&s.remote, &t.remote) && address_equal(&s.local, &t.local) &&
	       s.remote_port == t.remote_port && s.local_port == t.local_port;
}

static bool take(struct handshake *handshake, enum handshake_step step, const struct segment *segment,
		 unsigned long long at_us)
{
	handshake->segment[step] = *segment;
	handshake->at_us[step] = at_us;
	handshake->seen[step] = true;
	return step == STEP_ACK;
}

bool handshake_take(struct handshake *handshake, const struct segment *segment, unsigned long long at_us)
{
	const struct segment *syn = &handshake->segment[STEP_SYN],
			     *synack = &handshake->segment[STEP_SYNACK];
	const __u16 control = segment->control & (SEGMENT_SYN | SEGMENT_ACK | SEGMENT_RST);

	if (control == SEGMENT_SYN) {
		/* A retransmission changes nothing. */
		if (handshake->seen[STEP_SYN] && same_ends(syn, segment, false) &&
		    segment->sequence_number == syn->sequence_number)
			return false;
		memset(handshake->seen, 0, sizeof(handshake->seen));
		return take(handshake, STEP_SYN, segment, at_us);
	}
	if (!handshake->seen[STEP_SYN])
		return false;
	if (control == (SEGMENT_SYN | SEGMENT_ACK) && same_ends(syn, segment, true) &&
	    segment->acknowledgement_number == syn->sequence_number + 1)
		return take(handshake, STEP_SYNACK, segment, at_us);
	if (control == SEGMENT_ACK && handshake->seen[STEP_SYNACK] && same_ends(syn, segment, false) &&
	    segment->acknowledgement_number == synack->sequence_number + 1)
		return take(handshake, STEP_ACK, segment, at_us);
	if (control & SEGMENT_RST && (same_ends(syn, segment, false) || same_ends(syn, segment, true)))
		memset(handshake->seen, 0, sizeof(handshake->seen));
	return false;
}

/* ---- what follows from them ---- */

/* What both have agreed to: offered in the SYN, granted in the SYN-ACK. */
static bool agreed(const struct handshake *handshake, bool offered, bool granted)
{
	return offered && granted && handshake->seen[STEP_SYNACK];
}

static bool scales(const struct handshake *handshake)
{
	return agreed(handshake, handshake->segment[STEP_SYN].options.has_wscale,
		      handshake->segment[STEP_SYNACK].options.has_wscale);
}

static bool sack(const struct handshake *handshake)
{
	return agreed(handshake, handshake->segment[STEP_SYN].options.has_sack,
		      handshake->segment[STEP_SYNACK].options.has_sack);
}

static bool timestamps(const struct handshake *handshake)
{
	return agreed(handshake, handshake->segment[STEP_SYN].options.has_timestamps,
		      handshake->segment[STEP_SYNACK].options.has_timestamps);
}

static bool ecn(const struct handshake *handshake)
{
	const __u16 both = SEGMENT_ECE | SEGMENT_CWR;

	return (handshake->segment[STEP_SYN].control & both) == both &&
	       handshake->segment[STEP_SYNACK].control & SEGMENT_ECE;
}

static unsigned int mss_of(const struct segment *segment)
{
	if (segment->options.mss)
		return segment->options.mss;
	return address_is_ipv4(&segment->source) ? TCP_MSS_DEFAULT_IPV4 : TCP_MSS_DEFAULT_IPV6;
}

enum handshake_cookie handshake_cookie(const struct handshake *handshake, struct cookie_options *options)
{
	const struct segment *syn = &handshake->segment[STEP_SYN],
			     *synack = &handshake->segment[STEP_SYNACK];
	const int ipv4 = address_is_ipv4(&syn->source), with = timestamps(handshake);

	cookie_decode(cookie_option_bits(synack->sequence_number, with), ipv4, with, options);
	if (handshake->answered_here)
		return COOKIE_CERTAIN;
	/* The listener may have a smaller MSS of its own: then the table's value is smaller than the
	 * client's. */
	if (options->has_wscale != scales(handshake) || options->has_sack != sack(handshake) ||
	    options->has_ecn != ecn(handshake) || options->mss > mss_of(syn) ||
	    (options->has_wscale && options->wscale != syn->options.wscale))
		return COOKIE_NONE;
	return COOKIE_LIKELY;
}

/* ---- for people ---- */

static const char *bold, *plain;

static void line(const char *name, const char *value, const char *meaning)
{
	printf("  %-22s %-22s %s\n", name, value, meaning);
}

static void __attribute__((format(printf, 2, 4)))
number(const char *name, const char *format, const char *meaning, ...);

static void number(const char *name, const char *format, const char *meaning, ...)
{
	va_list arguments;
	char value[64];

	va_start(arguments, meaning);
	vsnprintf(value, sizeof(value), format, arguments);
	va_end(arguments);
	line(name, value, meaning);
}

static const char *const step_names[STEPS] = { "SYN", "SYN-ACK", "ACK" };

static const char *checksum_text(enum segment_checksum state)
{
	switch (state) {
	case CHECKSUM_RIGHT: return "right: header, data and both addresses arrived as they were sent";
	case CHECKSUM_WRONG: return "WRONG: the receiver drops the segment";
	case CHECKSUM_UNFINISHED: return "not finished yet: hardware was to do it, behind this point";
	default: return "not checked: not all of the segment was captured";
	}
}

/* What a field is there for in this very segment. */
static const char *sequence_text(enum handshake_step step)
{
	switch (step) {
	case STEP_SYN:
		return "the client's initial sequence number (ISN); the SYN itself counts for one byte";
	case STEP_SYNACK: return "the server's ISN";
	default: return "the client's ISN + 1: its first byte of data comes here";
	}
}

static const char *acknowledgement_text(const struct handshake *handshake, enum handshake_step step)
{
	switch (step) {
	case STEP_SYN: return "not valid: the control bit ACK is not set";
	case STEP_SYNACK: return "the client's ISN + 1: its SYN has arrived";
	default:
		return handshake->answered_here ? "the server's ISN + 1: the cookie comes back"
						: "the server's ISN + 1: its SYN has arrived";
	}
}

static void print_segment(const struct handshake *handshake, enum handshake_step step)
{
	const struct segment *segment = &handshake->segment[step];
	char from[FORMAT_ENDPOINT], to[FORMAT_ENDPOINT], text[128], window[96];
	const bool scaled = step == STEP_ACK && scales(handshake);
	size_t at = 0;

	format_endpoint(&segment->source, segment->source_port, from);
	format_endpoint(&segment->destination, segment->destination_port, to);
	printf("%s%s%s  %s → %s", bold, step_names[step], plain, from, to);
	if (step && handshake->at_us[step] >= handshake->at_us[step - 1])
		printf("   %.3f ms later",
		       (double)(handshake->at_us[step] - handshake->at_us[step - 1]) / 1000);
	printf("\n");
	number("source port", "%u",
	       step == STEP_SYNACK ? "the server's" : "the client's, chosen for this connection",
	       host16(segment->source_port));
	number("destination port", "%u",
	       step == STEP_SYNACK ? "the client's: finds the socket that waits in SYN-SENT"
				   : "the server's: finds the listening socket",
	       host16(segment->destination_port));
	number("sequence number", "%u", sequence_text(step), segment->sequence_number);
	number("acknowledgement number", "%u", acknowledgement_text(handshake, step),
	       segment->acknowledgement_number);
	snprintf(text, sizeof(text), "words of 32 bits: 20 bytes of header, %zu of options",
		 segment->option_length);
	number("data offset", "%u", text, segment->data_offset);
	segment_control_text(segment->control, text);
	line("control bits", text,
	     step == STEP_SYN	   ? "synchronize sequence numbers"
	     : step == STEP_SYNACK ? "synchronizes the other way, and acknowledges"
				   : "acknowledges; set in every segment from now on");
	if (scaled)
		snprintf(window, sizeof(window), "times 2^%u: %llu bytes may be sent before the next ACK",
			 handshake->segment[STEP_SYN].options.wscale,
			 (unsigned long long)segment->window
				 << handshake->segment[STEP_SYN].options.wscale);
	else
		snprintf(window, sizeof(window), "bytes that may be sent before the next ACK%s",
			 step == STEP_ACK ? "" : "; never scaled in a SYN");
	number("window", "%u", window, segment->window);
	number("checksum", "0x%04x", checksum_text(segment->checksum_state), segment->checksum);
	number("urgent pointer", "%u",
	       segment->control & SEGMENT_URG ? "end of urgent data" : "not valid: URG is not set",
	       segment->urgent_pointer);
	if (!segment->option_length)
		line("options", "none", "");
	for (bool first = true; segment_option_text(segment, &at, text); first = false)
		printf("  %-22s %s\n", first ? "options" : "", text);
	if (segment->data_length)
		number("data", "%u bytes", "may come along with it", segment->data_length);
	printf("\n");
}

/* Which bits of the server's ISN say what. */
static void print_cookie(const struct handshake *handshake)
{
	const __u32 isn = handshake->segment[STEP_SYNACK].sequence_number;
	const int with = timestamps(handshake);
	struct cookie_options options;
	const enum handshake_cookie kind = handshake_cookie(handshake, &options);
	char mss[16], scale[16];

	printf("%sThe server's ISN%s  0x%08x\n", bold, plain, isn);
	if (kind == COOKIE_NONE) {
		printf("  No cookie of xdp-handshake: a number of the stack's own, or of its SYN cookies. "
		       "The stack\n"
		       "  keeps a request socket in SYN-RECEIVED, or it can compute the number again.\n\n");
		return;
	}
	if (kind == COOKIE_LIKELY)
		printf("  It reads as a cookie of xdp-handshake (so does one of some hundred other "
		       "numbers):\n");
	else
		printf("  The driver has kept nothing: what a socket would keep is in these 32 bits.\n");
	snprintf(mss, sizeof(mss), "%u = %u", options.mss_index, options.mss);
	if (options.has_wscale)
		snprintf(scale, sizeof(scale), "%u", options.wscale);
	else
		snprintf(scale, sizeof(scale), "15 = none");
	if (with) {
		printf("\n      31 ......... 10 |   9   |   8 7 6    |  5  |  4   |  3 2 1 0\n"
		       "            MAC       | epoch | client MSS | ECN | SACK | client scale\n"
		       "          0x%06x    |   %u   | %-10s |  %u  |  %u   |  %s\n\n",
		       isn >> 10, isn >> 9 & 1, mss, options.has_ecn, options.has_sack, scale);
	} else {
		printf("\n      31 ............ 6 |   5   |  4 3 .... 2 1 0\n"
		       "             MAC        |  epoch | profile\n"
		       "          0x%07x     |   %u   | %u: client MSS %u, %s\n\n",
		       isn >> 6, isn >> 5 & 1, isn & 31, options.mss,
		       options.has_wscale ? "SACK and a scale" : "neither SACK nor a scale");
	}
	printf("  The MAC is a keyed hash over both addresses and ports, the client's ISN, the bits beside "
	       "it,\n"
	       "  whether there are timestamps, and the scale that the server promises. Whoever sends it "
	       "back\n"
	       "  plus one has received it, and all of that is as it was.\n");
	if (with)
		printf("  The other half of the hash is the offset of the server's timestamp clock: the "
		       "echoed TSval\n"
		       "  less this offset is the moment at which the SYN-ACK left.\n");
	printf("\n");
}

static void side(const char *name, const char *client, const char *server)
{
	printf("  %-34s %-18s %s\n", name, client, server);
}

static void side_numbers(const char *name, __u32 client, __u32 server)
{
	char a[16], b[16];

	snprintf(a, sizeof(a), "%u", client);
	snprintf(b, sizeof(b), "%u", server);
	side(name, client ? a : "0", b);
}

/* The control information that each socket keeps: the names are RFC 9293's (section 3.3.1). */
static void print_sockets(const struct handshake *handshake)
{
	const struct segment *syn = &handshake->segment[STEP_SYN],
			     *synack = &handshake->segment[STEP_SYNACK],
			     *ack = &handshake->segment[STEP_ACK];
	const unsigned int overhead = timestamps(handshake) ? 12 : 0;
	const __u8 client_scale = scales(handshake) ? syn->options.wscale : 0;
	const __u8 server_scale = scales(handshake) ? synack->options.wscale : 0;
	struct cookie_options options;
	unsigned int mss = mss_of(syn);

	if (handshake_cookie(handshake, &options) != COOKIE_NONE && options.mss < mss)
		mss = options.mss;
	printf("%sWhat each side keeps in its socket, until close()%s\n", bold, plain);
	side("", "client", "server");
	side("state", "ESTABLISHED", "ESTABLISHED");
	side_numbers("local port", host16(syn->source_port), host16(syn->destination_port));
	side_numbers("remote port", host16(syn->destination_port), host16(syn->source_port));
	side_numbers("ISS, initial send sequence number", syn->sequence_number, synack->sequence_number);
	side_numbers("IRS, initial receive seq. number", synack->sequence_number, syn->sequence_number);
	side_numbers("SND.NXT, next to send", ack->sequence_number + ack->data_length,
		     synack->sequence_number + 1);
	side_numbers("RCV.NXT, next expected", synack->sequence_number + 1,
		     ack->sequence_number + ack->data_length);
	side_numbers("SND.WND, what the peer takes now", synack->window,
		     (__u32)ack->window << client_scale);
	side_numbers("largest segment that it sends", mss_of(synack) - overhead, mss - overhead);
	side_numbers("shift of windows that it announces", client_scale, server_scale);
	side_numbers("shift of windows that it reads", server_scale, client_scale);
	side("selective acknowledgements (SACK)", sack(handshake) ? "yes" : "no",
	     sack(handshake) ? "yes" : "no");
	side("timestamps", timestamps(handshake) ? "yes" : "no", timestamps(handshake) ? "yes" : "no");
	if (timestamps(handshake))
		side_numbers("TS.Recent, to be echoed", synack->options.tsval, ack->options.tsval);
	side("explicit congestion notification", ecn(handshake) ? "yes" : "no",
	     ecn(handshake) ? "yes" : "no");
	printf("\n");
}

void explain_print(const struct handshake *handshake)
{
	const bool colours = output_colours();

	bold = colours ? "\033[1m" : "";
	plain = colours ? "\033[0m" : "";
	print_segment(handshake, STEP_SYN);
	printf("  connect() has given the client a socket in SYN-SENT: it keeps its ISN and what it has "
	       "offered.\n"
	       "  The server%s\n\n",
	       handshake->answered_here ? " knows nothing of it: the driver answers."
					: " has a socket in LISTEN.");
	print_segment(handshake, STEP_SYNACK);
	print_cookie(handshake);
	printf("  The client's socket is ESTABLISHED now, and connect() returns.\n\n");
	print_segment(handshake, STEP_ACK);
	if (handshake->answered_here)
		printf("  The cookie is right: the stack makes a socket of it, ESTABLISHED, and accept() "
		       "returns it.\n\n");
	print_sockets(handshake);
}

/* ---- for programs ---- */

static json_t *segment_json(const struct segment *segment)
{
	static const char *const checksums[] = { "right", "wrong", "unfinished", "unknown" };
	char from[FORMAT_ENDPOINT], to[FORMAT_ENDPOINT], control[48], text[128];
	json_t *options = json_array();
	size_t at = 0;

	format_endpoint(&segment->source, segment->source_port, from);
	format_endpoint(&segment->destination, segment->destination_port, to);
	segment_control_text(segment->control, control);
	while (segment_option_text(segment, &at, text))
		json_array_append_new(options, json_string(text));
	return json_pack("{s:s, s:s, s:I, s:I, s:i, s:s, s:i, s:i, s:s, s:i, s:i, s:o}", "source", from,
			 "destination", to, "sequence_number", (json_int_t)segment->sequence_number,
			 "acknowledgement_number", (json_int_t)segment->acknowledgement_number,
			 "data_offset", segment->data_offset, "control_bits", control, "window",
			 segment->window, "checksum", segment->checksum, "checksum_state",
			 checksums[segment->checksum_state], "urgent_pointer", segment->urgent_pointer,
			 "data_length", (int)segment->data_length, "options", options);
}

static json_t *cookie_json(const struct handshake *handshake)
{
	static const char *const kinds[] = { "none", "likely", "certain" };
	struct cookie_options options;
	const enum handshake_cookie kind = handshake_cookie(handshake, &options);
	json_t *cookie = json_object();

	json_object_set_new(cookie, "is_ours", json_string(kinds[kind]));
	if (kind == COOKIE_NONE)
		return cookie;
	json_object_set_new(cookie, "mss", json_integer(options.mss));
	json_object_set_new(cookie, "snd_wscale",
			    options.has_wscale ? json_integer(options.wscale) : json_null());
	json_object_set_new(cookie, "sack", json_boolean(options.has_sack));
	json_object_set_new(cookie, "timestamps", json_boolean(options.has_timestamps));
	json_object_set_new(cookie, "ecn", json_boolean(options.has_ecn));
	return cookie;
}

json_t *explain_json(const struct handshake *handshake)
{
	json_t *segments = json_array();

	for (int step = 0; step < STEPS; step++)
		json_array_append_new(segments, segment_json(&handshake->segment[step]));
	return json_pack("{s:o, s:o}", "segments", segments, "cookie", cookie_json(handshake));
}
