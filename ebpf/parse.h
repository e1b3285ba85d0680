/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * From octets to headers: Ethernet with VLAN tags, IPv4, IPv6 with its extension headers.
 *
 * Offsets count from the frame's first octet. `end` is where the IP packet ends by its own length field, so
 * Ethernet padding is never taken for payload. Every access is checked twice: against `end`, because the
 * protocol says so, and against data_end, because the verifier does (and because the headers of a frame in
 * several buffers lie in the first one or nowhere).
 */
#ifndef BATON_PARSE_H
#define BATON_PARSE_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "maps.h"

/* Above every offset that this parser can reach: the verifier wants a bound. */
#define MAX_OFFSET 0x3fff

#define IPV4_MORE_FRAGMENTS 0x2000
#define IPV4_FRAGMENT_OFFSET 0x1fff
#define IPV6_MORE_FRAGMENTS 0x0001
#define IPV6_FRAGMENT_OFFSET 0xfff8

struct frame {
	void *data;
	void *data_end;
	struct xdp_md *ctx;
	__u32 length; /* of the whole frame, all its buffers */
};

enum fragment { WHOLE, FIRST_FRAGMENT, LATER_FRAGMENT };

struct packet {
	__u32 offset; /* of what follows the IP headers parsed so far; never beyond end */
	__u32 end;
	__u32 protocol; /* of what stands at offset; Ethernet's number of it in what is not IP */
	__u32 hop_limit;
	enum fragment fragment;
	struct address source;
	struct address destination;
};

struct vlan_tag {
	__be16 control;
	__be16 protocol;
};

struct extension_header {
	__u8 next;
	__u8 length; /* in units of 8 octets, the first not counted (RFC 8200 section 4.3) */
	__be16 fragment; /* of the fragment header only */
};

enum parsed { PARSED, NOT_IP, MALFORMED_ETHERNET, MALFORMED_IP, TOO_MANY_HEADERS };

static __always_inline void *at(const struct frame *frame, __u32 offset, __u32 size)
{
	void *start;

	if (offset > MAX_OFFSET)
		return NULL;
	start = frame->data + offset;
	/* The verifier must see the check and the access on one register, so clang may not compute it twice. */
	asm volatile("" : "+r"(start));
	return start + size > frame->data_end ? NULL : start;
}

/* As at(), for what must lie within the IP packet. */
static __always_inline void *within(const struct frame *frame, __u32 offset, __u32 end, __u32 size)
{
	return offset + size > end ? NULL : at(frame, offset, size);
}

static __always_inline int is_vlan(__be16 protocol)
{
	return protocol == bpf_htons(ETH_P_8021Q) || protocol == bpf_htons(ETH_P_8021AD);
}

static __always_inline enum parsed parse_ipv4(const struct frame *frame, struct packet *packet)
{
	struct iphdr *ip = at(frame, packet->offset, sizeof(*ip));
	__u32 total, header, fragment;

	if (!ip || ip->version != 4 || ip->ihl < 5)
		return MALFORMED_IP;
	total = bpf_ntohs(ip->tot_len);
	header = ip->ihl * 4;
	if (total < header || packet->offset + total > frame->length)
		return MALFORMED_IP;
	fragment = bpf_ntohs(ip->frag_off);
	if (fragment & IPV4_FRAGMENT_OFFSET)
		packet->fragment = LATER_FRAGMENT;
	else if (fragment & IPV4_MORE_FRAGMENTS)
		packet->fragment = FIRST_FRAGMENT;
	packet->source.family = BATON_FAMILY_IPV4;
	packet->source.word[0] = ip->saddr;
	packet->destination.family = BATON_FAMILY_IPV4;
	packet->destination.word[0] = ip->daddr;
	packet->protocol = ip->protocol;
	packet->hop_limit = ip->ttl;
	packet->end = packet->offset + total;
	packet->offset += header;
	return PARSED;
}

static __always_inline enum parsed parse_ipv6(const struct frame *frame, struct packet *packet)
{
	struct ipv6hdr *ip = at(frame, packet->offset, sizeof(*ip));
	__u32 total;

	if (!ip || ip->version != 6)
		return MALFORMED_IP;
	total = sizeof(*ip) + bpf_ntohs(ip->payload_len);
	if (packet->offset + total > frame->length)
		return MALFORMED_IP;
	packet->source.family = BATON_FAMILY_IPV6;
	packet->destination.family = BATON_FAMILY_IPV6;
	__builtin_memcpy(packet->source.word, &ip->saddr, 16);
	__builtin_memcpy(packet->destination.word, &ip->daddr, 16);
	packet->protocol = ip->nexthdr;
	packet->hop_limit = ip->hop_limit;
	packet->end = packet->offset + total;
	packet->offset += sizeof(*ip);
	return PARSED;
}

/* Ethernet, up to two VLAN tags, the IP header proper. */
static __always_inline enum parsed parse(const struct frame *frame, struct packet *packet)
{
	struct ethhdr *ethernet = at(frame, 0, sizeof(*ethernet));
	__be16 protocol;
	int i;

	if (!ethernet)
		return MALFORMED_ETHERNET;
	protocol = ethernet->h_proto;
	packet->offset = sizeof(*ethernet);
#pragma unroll
	for (i = 0; i < BATON_MAX_VLAN_TAGS; i++) {
		struct vlan_tag *tag;

		if (!is_vlan(protocol))
			break;
		tag = at(frame, packet->offset, sizeof(*tag));
		if (!tag)
			return MALFORMED_ETHERNET;
		protocol = tag->protocol;
		packet->offset += sizeof(*tag);
	}
	if (is_vlan(protocol))
		return MALFORMED_ETHERNET;
	if (protocol == bpf_htons(ETH_P_IP))
		return parse_ipv4(frame, packet);
	if (protocol == bpf_htons(ETH_P_IPV6))
		return parse_ipv6(frame, packet);
	packet->protocol = bpf_ntohs(protocol);
	return NOT_IP;
}

static __always_inline int is_extension_header(__u32 protocol)
{
	return protocol == IPPROTO_HOPOPTS || protocol == IPPROTO_ROUTING || protocol == IPPROTO_DSTOPTS ||
	       protocol == IPPROTO_FRAGMENT;
}

/* Walks over IPv6 extension headers, up to a later fragment's own header: behind it nothing can be known. */
static __always_inline enum parsed walk(const struct frame *frame, struct packet *packet)
{
	__u32 start = packet->offset;
	int i;

	for (i = 0; i < BATON_MAX_EXTENSION_HEADERS; i++) {
		struct extension_header *header;
		__u32 length = 8;

		if (!is_extension_header(packet->protocol) || packet->fragment == LATER_FRAGMENT)
			return PARSED;
		/* Each of them is at least 8 octets long. */
		header = within(frame, packet->offset, packet->end, 8);
		if (!header)
			return MALFORMED_IP;
		if (packet->protocol == IPPROTO_FRAGMENT) {
			__u32 fragment = bpf_ntohs(header->fragment);

			if (fragment & IPV6_FRAGMENT_OFFSET)
				packet->fragment = LATER_FRAGMENT;
			else if (fragment & IPV6_MORE_FRAGMENTS)
				packet->fragment = FIRST_FRAGMENT;
		} else {
			length = (header->length + 1) * 8;
		}
		if (packet->offset + length > packet->end)
			return MALFORMED_IP;
		packet->protocol = header->next;
		packet->offset += length;
		if (packet->offset - start > BATON_MAX_EXTENSION_OCTETS)
			return TOO_MANY_HEADERS;
	}
	if (is_extension_header(packet->protocol) && packet->fragment != LATER_FRAGMENT)
		return TOO_MANY_HEADERS;
	return PARSED;
}

/* The walk as a function that the verifier checks once, not once for each way that leads to it: numbers go in, and
 * one number comes out, of which nothing is known afterwards. Octets of it from the lowest: offset (two), protocol,
 * fragment, result. */
__attribute__((noinline)) __u64 walk_extension_headers(struct xdp_md *ctx, __u32 offset, __u32 end, __u32 protocol)
{
	struct frame frame = { .data = (void *)(long)ctx->data, .data_end = (void *)(long)ctx->data_end };
	struct packet packet = { .offset = offset & MAX_OFFSET, .end = end, .protocol = protocol };
	enum parsed parsed = walk(&frame, &packet);

	return (__u64)parsed << 32 | packet.fragment << 24 | (packet.protocol & 0xff) << 16 | (packet.offset & 0xffff);
}

static __always_inline enum parsed skip_extension_headers(const struct frame *frame, struct packet *packet)
{
	__u64 walked = walk_extension_headers(frame->ctx, packet->offset, packet->end, packet->protocol);

	packet->offset = walked & 0xffff;
	packet->protocol = walked >> 16 & 0xff;
	packet->fragment = walked >> 24 & 0xff;
	return walked >> 32;
}

#endif
