// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Frames told field by field: against bytes that are written out here. */
#include <string.h>

#include "../../user/segment.h"
#include "report.h"

/* A SYN of Linux, 10.77.0.2:40000 to 10.77.0.1:80, checksums as they should be. */
static const __u8 ipv4_syn[] = { 0x45, 0x00, 0x00, 0x3c, 0x1c, 0x46, 0x40, 0x00, 0x40, 0x06, 0x09, 0xda,
				 0x0a, 0x4d, 0x00, 0x02, 0x0a, 0x4d, 0x00, 0x01,
				 /* TCP */
				 0x9c, 0x40, 0x00, 0x50, 0x01, 0x02, 0x03, 0x04, 0x00, 0x00, 0x00, 0x00,
				 0xa0, 0xc2, 0xfa, 0xf0, 0x08, 0x89, 0x00, 0x00, 0x02, 0x04, 0x05, 0xb4,
				 0x04, 0x02, 0x08, 0x0a, 0x00, 0x00, 0x03, 0xe8, 0x00, 0x00, 0x00, 0x00,
				 0x01, 0x03, 0x03, 0x07 };

/* The same from fd77::2 to fd77::1, with a hop-by-hop header in front, and no options. */
static const __u8 ipv6_syn[] = { 0x60, 0x00, 0x00, 0x00, 0x00, 0x1c, 0x00, 0x40, 0xfd, 0x77, 0, 0, 0, 0, 0,
				 0, 0, 0, 0, 0, 0, 0, 0, 2, 0xfd, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
				 0, 1,
				 /* hop-by-hop options: padding */
				 0x06, 0x00, 0x01, 0x04, 0, 0, 0, 0,
				 /* TCP */
				 0x9c, 0x40, 0x00, 0x50, 0x01, 0x02, 0x03, 0x04, 0x00, 0x00, 0x00, 0x00,
				 0x50, 0x02, 0xfa, 0xf0, 0x00, 0x00, 0x00, 0x00 };

/* One's complement, the slow way: for the checksum that the bytes above leave open. */
static __u16 checksum(const __u8 *tcp, size_t length, const __u8 *addresses, size_t address_length)
{
	unsigned long sum = 6 + length;

	for (size_t i = 0; i < length; i++)
		sum += i & 1 ? tcp[i] : (unsigned long)tcp[i] << 8;
	for (size_t i = 0; i < address_length; i++)
		sum += i & 1 ? addresses[i] : (unsigned long)addresses[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (__u16)~sum;
}

static struct segment read_with(const __u8 *front, size_t front_length, const __u8 *packet, size_t length,
				enum segment_link link, bool expected)
{
	__u8 frame[256];
	struct segment segment;

	if (front_length)
		memcpy(frame, front, front_length);
	memcpy(frame + front_length, packet, length);
	EXPECT_EQ(segment_read(&segment, frame, front_length + length, link), expected);
	return segment;
}

CASE("every field of a SYN, as its bytes have it")
{
	__u8 packet[sizeof(ipv4_syn)];
	struct segment segment;
	char text[128];
	size_t at = 0;
	__u16 sum;

	memcpy(packet, ipv4_syn, sizeof(packet));
	packet[36] = packet[37] = 0;
	sum = checksum(packet + 20, 40, packet + 12, 8);
	packet[36] = (__u8)(sum >> 8);
	packet[37] = (__u8)sum;
	segment = read_with(NULL, 0, packet, sizeof(packet), SEGMENT_IP, true);
	EXPECT(address_is_ipv4(&segment.source) && host32(segment.source.word[3]) == 0x0a4d0002);
	EXPECT_EQ(host32(segment.destination.word[3]), 0x0a4d0001);
	EXPECT_EQ(host16(segment.source_port), 40000);
	EXPECT_EQ(host16(segment.destination_port), 80);
	EXPECT_EQ(segment.sequence_number, 0x01020304);
	EXPECT_EQ(segment.acknowledgement_number, 0);
	EXPECT_EQ(segment.data_offset, 10);
	EXPECT_EQ(segment.control, SEGMENT_SYN | SEGMENT_ECE | SEGMENT_CWR);
	EXPECT_EQ(segment.window, 64240);
	EXPECT_EQ(segment.checksum, sum);
	EXPECT_EQ(segment.checksum_state, CHECKSUM_RIGHT);
	EXPECT_EQ(segment.urgent_pointer, 0);
	EXPECT_EQ(segment.data_length, 0);
	EXPECT_EQ(segment.ttl, 64);
	EXPECT(segment.dont_fragment && segment.vlan == -1);
	EXPECT_EQ(segment.options.mss, 1460);
	EXPECT_EQ(segment.options.wscale, 7);
	segment_control_text(segment.control, text);
	EXPECT_STR(text, "SYN ECE CWR");
	segment_control_text(0, text);
	EXPECT_STR(text, "none");
	EXPECT(segment_option_text(&segment, &at, text));
	EXPECT_STR(text, "kind 2, length 4: MSS 1460");
	EXPECT(segment_option_text(&segment, &at, text));
	EXPECT_STR(text, "kind 4, length 2: SACK permitted");
	EXPECT(segment_option_text(&segment, &at, text));
	EXPECT_STR(text, "kind 8, length 10: timestamps, TSval 1000, TSecr 0");
	EXPECT(segment_option_text(&segment, &at, text));
	EXPECT_STR(text, "kind 1: no operation, fills up");
	EXPECT(segment_option_text(&segment, &at, text));
	EXPECT_STR(text, "kind 3, length 3: window scale 7");
	EXPECT(!segment_option_text(&segment, &at, text));

	packet[24]++;
	segment = read_with(NULL, 0, packet, sizeof(packet), SEGMENT_IP, true);
	EXPECT_EQ(segment.checksum_state, CHECKSUM_WRONG);
	/* What hardware is to finish: the pseudo header's sum. */
	memset(packet + 20, 0, 40);
	sum = (__u16)~checksum(packet + 20, 0, packet + 12, 8);
	sum = (__u16)(sum + 40); /* no carry in this one */
	packet[32] = 0xa0;
	packet[36] = (__u8)(sum >> 8);
	packet[37] = (__u8)sum;
	segment = read_with(NULL, 0, packet, sizeof(packet), SEGMENT_IP, true);
	EXPECT_EQ(segment.checksum_state, CHECKSUM_UNFINISHED);
}

CASE("Ethernet, tags, and the headers of captures on all devices")
{
	static const __u8 ethernet[14] = { 2, 0x77, 0, 0, 0, 1, 2, 0x77, 0, 0, 0, 2, 0x08, 0x00 };
	static const __u8 tagged[22] = { 2, 0x77, 0,	0,    0,    1,	  2,	0x77, 0,    0,	  0,
					 2, 0x88, 0xa8, 0x00, 0x05, 0x81, 0x00, 0x20, 0x64, 0x08, 0x00 };
	static const __u8 ethernet6[14] = { 2, 0x77, 0, 0, 0, 1, 2, 0x77, 0, 0, 0, 2, 0x86, 0xdd };
	static const __u8 arp[14] = { 2, 0x77, 0, 0, 0, 1, 2, 0x77, 0, 0, 0, 2, 0x08, 0x06 };
	static const __u8 sll[16] = { 0, 0, 0, 1, 0, 6, 2, 0x77, 0, 0, 0, 2, 0, 0, 0x08, 0x00 };
	static const __u8 sll2[20] = {
		0x08, 0x00, 0, 0, 0, 0, 0, 2, 0, 1, 0, 6, 2, 0x77, 0, 0, 0, 2, 0, 0
	};
	struct segment segment;

	segment = read_with(ethernet, 14, ipv4_syn, sizeof(ipv4_syn), SEGMENT_ETHERNET, true);
	EXPECT_EQ(segment.sequence_number, 0x01020304);
	segment = read_with(tagged, 22, ipv4_syn, sizeof(ipv4_syn), SEGMENT_ETHERNET, true);
	EXPECT_EQ(segment.vlan, 100);
	EXPECT_EQ(segment.sequence_number, 0x01020304);
	segment = read_with(sll, 16, ipv4_syn, sizeof(ipv4_syn), SEGMENT_SLL, true);
	EXPECT_EQ(segment.sequence_number, 0x01020304);
	segment = read_with(sll2, 20, ipv4_syn, sizeof(ipv4_syn), SEGMENT_SLL2, true);
	EXPECT_EQ(segment.sequence_number, 0x01020304);
	segment = read_with(ethernet6, 14, ipv6_syn, sizeof(ipv6_syn), SEGMENT_ETHERNET, true);
	EXPECT_EQ(segment.sequence_number, 0x01020304);
	EXPECT_EQ(segment.option_length, 0);
	EXPECT(!address_is_ipv4(&segment.source) && segment.ttl == 64);
	read_with(arp, 14, ipv4_syn, sizeof(ipv4_syn), SEGMENT_ETHERNET, false);
}

CASE("what is no whole TCP header is not read, however it is cut or lies")
{
	__u8 packet[sizeof(ipv4_syn)];

	for (size_t length = 0; length < sizeof(ipv4_syn); length++)
		read_with(NULL, 0, ipv4_syn, length, SEGMENT_IP, false);
	for (size_t length = 0; length < sizeof(ipv6_syn); length++)
		read_with(NULL, 0, ipv6_syn, length, SEGMENT_IP, false);
	memcpy(packet, ipv4_syn, sizeof(packet));
	packet[9] = 17; /* UDP */
	read_with(NULL, 0, packet, sizeof(packet), SEGMENT_IP, false);
	packet[9] = 6;
	packet[7] = 1; /* a later fragment */
	read_with(NULL, 0, packet, sizeof(packet), SEGMENT_IP, false);
	packet[7] = 0;
	packet[3] = 59; /* the header is longer than the packet */
	read_with(NULL, 0, packet, sizeof(packet), SEGMENT_IP, false);
	packet[3] = 60;
	packet[32] = 0x40; /* a data offset of four words */
	read_with(NULL, 0, packet, sizeof(packet), SEGMENT_IP, false);
	packet[32] = 0xf0; /* of fifteen */
	read_with(NULL, 0, packet, sizeof(packet), SEGMENT_IP, false);
}

CASE("options of impossible length end the list")
{
	struct segment segment = { .option_length = 8, .option_bytes = { 1, 2, 9, 5, 0xb4, 0, 0, 0 } };
	char text[128];
	size_t at = 0;

	EXPECT(segment_option_text(&segment, &at, text));
	EXPECT(segment_option_text(&segment, &at, text));
	EXPECT_STR(text, "kind 2: an impossible length; the rest cannot be read");
	EXPECT(!segment_option_text(&segment, &at, text));
	segment = (struct segment){ .option_length = 4, .option_bytes = { 253, 4, 1, 2 } };
	at = 0;
	EXPECT(segment_option_text(&segment, &at, text));
	EXPECT_STR(text, "kind 253, length 4: not known here");
}

int main(int argc, char **argv)
{
	return report_main(argc, argv, NULL);
}
