/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * What several gateways under one address need of a filter.
 *
 * Frames for another owner. Where its MAC address on this side is known, a frame goes on to it, out of the interface
 * that it came from, with our own address as its source. Only what was sent to our interface's own address goes on:
 * frames for a shared address, and those that a switch floods, the owner has as well. What another member sent on once
 * is never sent on again, so that two nodes that disagree about an owner throw no frame to and fro (forward-loop).
 *
 * Who has the shared address? The kernel answers, or the filter does, with the MAC address that the members share, or
 * nobody here does, as another member attracts the address. An answer is made of the question, in place: ARP (RFC 826)
 * and neighbour solicitations (RFC 4861 section 7.2.4) that name their sender's address. What does not (address
 * detection by others, probes without an option) gets no answer: the kernel's would name our own address.
 *
 * Frames for the shared MAC address that the kernel gets are addressed to our own first, or it took them for multicast.
 */
#ifndef BATON_CLUSTER_H
#define BATON_CLUSTER_H

#include "maps.h"
#include "parse.h"

#define HARDWARE_ETHERNET 1
#define ARP_REQUEST 1
#define ARP_REPLY 2
#define ICMPV6_SOLICITATION 135
#define ICMPV6_ADVERTISEMENT 136
#define OPTION_TARGET_ADDRESS 2
/* Router, solicited, override: RFC 4861 section 4.4. */
#define ADVERTISEMENT_FLAGS 0xe0000000

/* RFC 826, for IPv4 on Ethernet. */
struct arp_message {
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_length;
	__u8 protocol_length;
	__be16 operation;
	__u8 sender_mac[ETH_ALEN];
	__u8 sender[4];
	__u8 target_mac[ETH_ALEN];
	__u8 target[4];
};
_Static_assert(sizeof(struct arp_message) == 28, "as on the wire");

/* RFC 4861 sections 4.3 and 4.4, without options. */
struct neighbour_header {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be32 flags;
	__be32 target[4];
};

/* With one. */
struct neighbour_message {
	struct neighbour_header header;
	__u8 option;
	__u8 option_length; /* in units of 8 octets */
	__u8 mac[ETH_ALEN];
};
_Static_assert(sizeof(struct neighbour_message) == 32, "as on the wire");

/* What its checksum covers (RFC 8200 section 8.1). */
struct checksummed {
	__be32 source[4];
	__be32 destination[4];
	__be32 length;
	__be32 next_header;
	struct neighbour_message message;
};

static __always_inline __u64 mac_of(const __u8 *octets)
{
	__u64 mac = 0;

	__builtin_memcpy(&mac, octets, ETH_ALEN);
	return mac;
}

static __always_inline void put_mac(__u8 *octets, __u64 mac)
{
	__builtin_memcpy(octets, &mac, ETH_ALEN);
}

/* The owner's MAC address on this side; 0 if it is not known. */
static __always_inline __u64 owner_mac(__u32 side, __u32 segment)
{
	__u32 key = side * 2 + (config_word(BATON_CONFIG_OWNERS) & 1);
	struct owner_macs *owners = bpf_map_lookup_elem(&owner_macs, &key);

	return owners && segment < 256 ? owners->mac[segment & 255] : 0;
}

static __always_inline __u64 own_mac(__u32 side, __u32 place)
{
	struct own_macs *own = bpf_map_lookup_elem(&macs, &side);

	return own ? own->mac[place & (BATON_MAX_OWN_MACS - 1)] : 0;
}

/* To the owner, from us. Whether that could be done. */
static __always_inline int send_to_owner(__u32 side, const struct frame *frame, __u32 segment)
{
	struct ethhdr *ethernet = at(frame, 0, sizeof(*ethernet));
	__u64 owner = owner_mac(side, segment), own = own_mac(side, 0);

	if (!ethernet || !owner || !own)
		return 0;
	put_mac(ethernet->h_dest, owner);
	put_mac(ethernet->h_source, own);
	return 1;
}

/* Back to the sender, from us. */
static __always_inline int turn_round(__u32 side, const struct frame *frame)
{
	struct ethhdr *ethernet = at(frame, 0, sizeof(*ethernet));

	if (!ethernet)
		return 0;
	put_mac(ethernet->h_dest, mac_of(ethernet->h_source));
	put_mac(ethernet->h_source, own_mac(side, 0));
	return 1;
}

/* A frame for an address that is shared becomes one for our own. */
static __always_inline void readdress(__u32 side, const struct frame *frame)
{
	struct ethhdr *ethernet = at(frame, 0, sizeof(*ethernet));
	__u64 own = own_mac(side, 0), shared = own_mac(side, 1);

	if (ethernet && own && shared && mac_of(ethernet->h_dest) == shared)
		put_mac(ethernet->h_dest, own);
}

enum resolved { NOT_ASKED, SILENT, ANSWERED };

static __always_inline int is_shared_address(__u32 side, const struct address *address)
{
	return is_local(BATON_SHARED_ADDRESSES + side, address);
}

static __always_inline enum resolved answer_arp(__u32 side, const struct frame *frame, __u32 offset)
{
	struct arp_message *arp = at(frame, offset, sizeof(*arp));
	struct address target = { .family = BATON_FAMILY_IPV4 };
	__u32 resolution = config_word(BATON_CONFIG_RESOLUTION);
	__u64 shared = own_mac(side, 1);
	__u32 sender;

	if (resolution == BATON_RESOLUTION_KERNEL || !arp || arp->hardware != bpf_htons(HARDWARE_ETHERNET) ||
	    arp->protocol != bpf_htons(ETH_P_IP) || arp->hardware_length != ETH_ALEN || arp->protocol_length != 4 ||
	    arp->operation != bpf_htons(ARP_REQUEST))
		return NOT_ASKED;
	__builtin_memcpy(&target.word[0], arp->target, 4);
	__builtin_memcpy(&sender, arp->sender, 4);
	/* An announcement (RFC 5227 section 3) is no question. */
	if (sender == target.word[0] || !is_shared_address(side, &target))
		return NOT_ASKED;
	if (resolution != BATON_RESOLUTION_SHARED || !shared || !turn_round(side, frame))
		return SILENT;
	arp->operation = bpf_htons(ARP_REPLY);
	put_mac(arp->target_mac, mac_of(arp->sender_mac));
	__builtin_memcpy(arp->target, &sender, 4);
	put_mac(arp->sender_mac, shared);
	__builtin_memcpy(arp->sender, &target.word[0], 4);
	return ANSWERED;
}

static __always_inline __be16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* The advertisement that answers a solicitation, in its place. */
static __always_inline int advertise(const struct frame *frame, __u32 offset, const struct packet *packet,
				     const struct address *target, __u64 shared)
{
	struct ipv6hdr *ip = at(frame, offset - sizeof(*ip), sizeof(*ip));
	struct neighbour_message *message = at(frame, offset, sizeof(*message));
	struct checksummed answer = {
		.length = bpf_htonl(sizeof(*message)),
		.next_header = bpf_htonl(IPPROTO_ICMPV6),
		.message.header.type = ICMPV6_ADVERTISEMENT,
		.message.header.flags = bpf_htonl(ADVERTISEMENT_FLAGS),
		.message.option = OPTION_TARGET_ADDRESS,
		.message.option_length = 1,
	};

	if (!ip || !message)
		return 0;
	__builtin_memcpy(answer.source, target->word, 16);
	__builtin_memcpy(answer.destination, packet->source.word, 16);
	__builtin_memcpy(answer.message.header.target, target->word, 16);
	put_mac(answer.message.mac, shared);
	answer.message.header.checksum = fold(bpf_csum_diff(NULL, 0, (__be32 *)&answer, sizeof(answer), 0));
	__builtin_memcpy(&ip->saddr, answer.source, 16);
	__builtin_memcpy(&ip->daddr, answer.destination, 16);
	ip->payload_len = bpf_htons(sizeof(*message));
	*message = answer.message;
	return 1;
}

static __always_inline enum resolved answer_solicitation(__u32 side, const struct frame *frame,
							 const struct packet *packet)
{
	struct address target = { .family = BATON_FAMILY_IPV6 };
	const __u32 *source = packet->source.word;
	struct neighbour_header *header;
	__u32 resolution;
	__u64 shared;

	if (packet->destination.family != BATON_FAMILY_IPV6 || packet->protocol != IPPROTO_ICMPV6 ||
	    packet->hop_limit != 255)
		return NOT_ASKED;
	resolution = config_word(BATON_CONFIG_RESOLUTION);
	header = within(frame, packet->offset, packet->end, sizeof(*header));
	if (resolution == BATON_RESOLUTION_KERNEL || !header || header->type != ICMPV6_SOLICITATION || header->code)
		return NOT_ASKED;
	__builtin_memcpy(target.word, header->target, 16);
	if (!is_shared_address(side, &target))
		return NOT_ASKED;
	shared = own_mac(side, 1);
	if (resolution != BATON_RESOLUTION_SHARED || !shared || !(source[0] | source[1] | source[2] | source[3]) ||
	    !within(frame, packet->offset, packet->end, sizeof(struct neighbour_message)))
		return SILENT;
	return advertise(frame, packet->offset, packet, &target, shared) && turn_round(side, frame) ? ANSWERED : SILENT;
}

#endif
