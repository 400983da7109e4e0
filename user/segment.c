// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "segment.h"

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include <linux/if_ether.h>

#include "checksum.h"

/* What is left to read of a frame. */
struct rest {
	const __u8 *at;
	size_t length;
};

static __u16 u16_at(const __u8 *bytes)
{
	return (__u16)(bytes[0] << 8 | bytes[1]);
}

static __u32 u32_at(const __u8 *bytes)
{
	return (__u32)u16_at(bytes) << 16 | u16_at(bytes + 2);
}

static bool skip(struct rest *rest, size_t length)
{
	if (rest->length < length)
		return false;
	rest->at += length;
	rest->length -= length;
	return true;
}

/* Everything in front of the IP header. */
static bool read_link(struct segment *segment, struct rest *rest, enum segment_link link, __u16 *protocol)
{
	enum { ETHERNET = 14, SLL = 16, SLL2 = 20, TAG = 4, TAGS = 4 };

	segment->vlan = -1;
	switch (link) {
	case SEGMENT_ETHERNET:
		if (rest->length < ETHERNET)
			return false;
		*protocol = u16_at(rest->at + 12);
		skip(rest, ETHERNET);
		break;
	case SEGMENT_SLL:
		if (rest->length < SLL)
			return false;
		*protocol = u16_at(rest->at + 14);
		skip(rest, SLL);
		break;
	case SEGMENT_SLL2:
		if (rest->length < SLL2)
			return false;
		*protocol = u16_at(rest->at);
		skip(rest, SLL2);
		break;
	case SEGMENT_IP:
		if (!rest->length)
			return false;
		*protocol = rest->at[0] >> 4 == 6 ? ETH_P_IPV6 : ETH_P_IP;
		break;
	default: return false;
	}
	for (int i = 0; i < TAGS && (*protocol == ETH_P_8021Q || *protocol == ETH_P_8021AD); i++) {
		if (rest->length < TAG)
			return false;
		segment->vlan = u16_at(rest->at) & 0xfff;
		*protocol = u16_at(rest->at + 2);
		skip(rest, TAG);
	}
	return true;
}

static bool read_ipv4(struct segment *segment, struct rest *rest, __u32 *length)
{
	const __u8 *ip = rest->at;
	__be32 address;
	size_t header;

	if (rest->length < 20 || ip[0] >> 4 != 4)
		return false;
	header = (size_t)(ip[0] & 15) * 4;
	*length = u16_at(ip + 2);
	if (header < 20 || *length < header || ip[9] != IPPROTO_TCP || u16_at(ip + 6) & 0x1fff ||
	    !skip(rest, header))
		return false;
	*length -= (__u32)header;
	segment->tos = ip[1];
	segment->ttl = ip[8];
	segment->dont_fragment = ip[6] & 0x40;
	memcpy(&address, ip + 12, 4);
	address_map_ipv4(&segment->source, address);
	memcpy(&address, ip + 16, 4);
	address_map_ipv4(&segment->destination, address);
	return true;
}

static bool read_ipv6(struct segment *segment, struct rest *rest, __u32 *length)
{
	enum { HEADERS = 8, FRAGMENT = 8 };
	const __u8 *ip = rest->at;
	__u8 next;

	if (rest->length < 40 || ip[0] >> 4 != 6)
		return false;
	*length = u16_at(ip + 4);
	segment->tos = (__u8)(u16_at(ip) >> 4);
	segment->ttl = ip[7];
	segment->dont_fragment = true;
	memcpy(&segment->source, ip + 8, 16);
	memcpy(&segment->destination, ip + 24, 16);
	next = ip[6];
	skip(rest, 40);
	for (int i = 0; i < HEADERS && next != IPPROTO_TCP; i++) {
		const __u8 *header = rest->at;
		size_t size;

		if (rest->length < 8)
			return false;
		if (next == IPPROTO_FRAGMENT) {
			if (u16_at(header + 2) & 0xfff8)
				return false;
			size = FRAGMENT;
		} else if (next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_DSTOPTS) {
			size = (header[1] + 1) * 8u;
		} else {
			return false;
		}
		next = header[0];
		if (*length < size || !skip(rest, size))
			return false;
		*length -= (__u32)size;
	}
	return next == IPPROTO_TCP;
}

/* The sum over bytes as they lie in memory, an odd last one with a zero behind it. */
static __u64 sum_bytes(const __u8 *bytes, size_t length)
{
	__u64 sum = 0;
	__u16 word;

	for (; length > 1; bytes += 2, length -= 2) {
		memcpy(&word, bytes, 2);
		sum += word;
	}
	if (length) {
		const __u8 last[2] = { *bytes, 0 };

		memcpy(&word, last, 2);
		sum += word;
	}
	return sum;
}

static enum segment_checksum checksum_of(const struct segment *segment, const struct rest *rest,
					 __u32 length)
{
	__u64 pseudo;

	if (address_is_ipv4(&segment->source))
		pseudo = csum_pseudo_ipv4(segment->source.word[3], segment->destination.word[3],
					  IPPROTO_TCP, length);
	else
		pseudo = csum_pseudo_ipv6(segment->source.word, segment->destination.word, IPPROTO_TCP,
					  length);
	if (raw16(be16_from(segment->checksum)) == csum_fold_sum(pseudo))
		return CHECKSUM_UNFINISHED;
	if (rest->length < length)
		return CHECKSUM_UNKNOWN;
	return csum_fold_sum(pseudo + sum_bytes(rest->at, length)) == 0xffff ? CHECKSUM_RIGHT
									     : CHECKSUM_WRONG;
}

bool segment_read(struct segment *segment, const __u8 *frame, size_t captured, enum segment_link link)
{
	struct rest rest = { frame, captured };
	struct tcp_options_walk walk = {};
	const __u8 *tcp;
	__u16 protocol;
	size_t header;
	__u32 length;

	memset(segment, 0, sizeof(*segment));
	if (!read_link(segment, &rest, link, &protocol))
		return false;
	if (protocol == ETH_P_IP ? !read_ipv4(segment, &rest, &length)
				 : protocol != ETH_P_IPV6 || !read_ipv6(segment, &rest, &length))
		return false;
	tcp = rest.at;
	if (rest.length < 20)
		return false;
	segment->data_offset = tcp[12] >> 4;
	header = segment->data_offset * 4u;
	if (header < 20 || header > length || header > rest.length)
		return false;
	memcpy(&segment->source_port, tcp, 2);
	memcpy(&segment->destination_port, tcp + 2, 2);
	segment->sequence_number = u32_at(tcp + 4);
	segment->acknowledgement_number = u32_at(tcp + 8);
	segment->control = u16_at(tcp + 12) & 0x1ff;
	segment->window = u16_at(tcp + 14);
	segment->checksum = u16_at(tcp + 16);
	segment->urgent_pointer = u16_at(tcp + 18);
	segment->data_length = length - (__u32)header;
	segment->option_length = header - 20;
	memcpy(segment->option_bytes, tcp + 20, segment->option_length);
	segment->checksum_state = checksum_of(segment, &rest, length);

	memcpy(walk.bytes, tcp, header);
	walk.length = (__u32)header;
	walk.at = 20;
	for (int i = 0; i < TCP_OPTIONS_MAX && !tcp_options_step(&walk); i++)
		;
	segment->options = walk.found;
	return true;
}

void segment_tuple(const struct segment *segment, bool to_server, struct tuple *tuple)
{
	tuple->remote = to_server ? segment->source : segment->destination;
	tuple->local = to_server ? segment->destination : segment->source;
	tuple->remote_port = to_server ? segment->source_port : segment->destination_port;
	tuple->local_port = to_server ? segment->destination_port : segment->source_port;
}

void segment_control_text(__u16 control, char text[48])
{
	static const char *const names[] = { "FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR", "AE" };

	*text = '\0';
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (control >> i & 1) {
			if (*text)
				strcat(text, " ");
			strcat(text, names[i]);
		}
	if (!*text)
		strcpy(text, "none");
}

bool segment_option_text(const struct segment *segment, size_t *at, char text[128])
{
	const __u8 *option = segment->option_bytes + *at;
	const size_t left = segment->option_length - *at;
	int length, written;

	if (*at >= segment->option_length)
		return false;
	if (option[0] == TCP_OPTION_END) {
		snprintf(text, 128, "kind 0: end of the list");
		*at = segment->option_length;
		return true;
	}
	if (option[0] == TCP_OPTION_NOP) {
		snprintf(text, 128, "kind 1: no operation, fills up");
		*at += 1;
		return true;
	}
	if (left < 2 || option[1] < 2 || option[1] > left) {
		snprintf(text, 128, "kind %u: an impossible length; the rest cannot be read", option[0]);
		*at = segment->option_length;
		return true;
	}
	length = option[1];
	written = snprintf(text, 128, "kind %u, length %d: ", option[0], length);
	text += written;
	if (option[0] == TCP_OPTION_MSS && length == TCP_OPTION_MSS_LENGTH)
		snprintf(text, 64, "MSS %u", u16_at(option + 2));
	else if (option[0] == TCP_OPTION_WINDOW_SCALE && length == TCP_OPTION_WINDOW_SCALE_LENGTH)
		snprintf(text, 64, "window scale %u", option[2]);
	else if (option[0] == TCP_OPTION_SACK_PERMITTED && length == TCP_OPTION_SACK_PERMITTED_LENGTH)
		snprintf(text, 64, "SACK permitted");
	else if (option[0] == TCP_OPTION_TIMESTAMPS && length == TCP_OPTION_TIMESTAMPS_LENGTH)
		snprintf(text, 64, "timestamps, TSval %u, TSecr %u", u32_at(option + 2),
			 u32_at(option + 6));
	else
		snprintf(text, 64, "%s",
			 option[0] == TCP_OPTION_MD5  ? "TCP-MD5 signature"
			 : option[0] == TCP_OPTION_AO ? "TCP-AO"
			 : option[0] == 30	      ? "Multipath TCP"
			 : option[0] == 34	      ? "Fast Open"
			 : option[0] == 5	      ? "SACK"
						      : "not known here");
	*at += (size_t)length;
	return true;
}
