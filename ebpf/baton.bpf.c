/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * Baton's XDP filter: who gets a frame, before anything is copied.
 *
 * Two entry points in one object share the maps of maps.h: `outer` on the ciphertext side, `inner` on the
 * plaintext side. Both are attached by pinned bpf_links, so they outlive every daemon.
 *
 * Outer side
 *   no Ethernet header, truncated or more than two VLAN tags   DROP    malformed-ethernet
 *   ARP request for an address that the cluster shares         ANSWER  arp-answered / DROP arp-silent / PASS not-ip
 *   neither IPv4 nor IPv6                                      PASS    not-ip
 *   IP header that cannot be right                             DROP    malformed-ip
 *   neighbour solicitation for such an address                 ANSWER  nd-answered / DROP nd-silent / as below
 *   for one of our addresses to which peers send IPsec:
 *     more than six IPv6 extension headers, or 1,024 octets    DROP    extension-headers
 *     ESP: segment owned / foreign / too short                 SOCKET  esp-owned / DROP esp-foreign / DROP malformed-esp
 *     ESP, later fragment                                      SOCKET  esp-fragment
 *     UDP 4500, one octet 0xff                                 DROP    nat-keepalive
 *     UDP 4500, first four octets not zero: ESP                SOCKET  udp-esp-owned / DROP udp-esp-foreign / malformed-esp
 *     UDP 4500 with the non-ESP marker, UDP 500: IKE           PASS    ike-owned / DROP ike-foreign / DROP malformed-ike
 *     UDP header truncated, lengths that cannot be             DROP    malformed-udp
 *     ICMP error about ESP                                     SOCKET  icmp-esp
 *     later fragment of anything but ESP                       PASS    fragment
 *     everything else                                          PASS    local
 *   for another address of this host                           PASS    local
 *   multicast, broadcast, IPv6 link-local, frame not for us    PASS    not-ours
 *   to be forwarded, that is, everything else, by its source:
 *     in a network of a bypass policy: owned / foreign         SOCKET  clear-owned / DROP clear-foreign
 *     in a network of a tunnel alone                           DROP    clear-protected
 *     in neither                                               DROP    no-policy
 *   what of this would PASS, but for not-ip and IKE, from a network of a tunnel:
 *     neighbour discovery that no router forwarded or will     PASS    as above
 *     a multicast listener query of this link                  PASS    not-ours
 *     a later fragment of UDP for one of our addresses         PASS    fragment
 *     the first rule that it meets permits it                  PASS    clear-bypass
 *     everything else                                          DROP    clear-protected
 *   what of this is foreign, where the owner's MAC is known    FORWARD esp-, udp-esp-, ike-, clear-forwarded
 *     a member of the cluster sent it                          DROP    forward-loop
 * Inner side
 *   malformed-ethernet, not-ip, malformed-ip, arp-, nd-        as above
 *   multicast, broadcast, IPv6 link-local destination          PASS    multicast
 *   for one of our addresses                                   PASS    local
 *   longest network of tunnels and bypass policies:
 *     segment owned / foreign / no match                       SOCKET  plaintext-owned / DROP plaintext-foreign / DROP no-policy
 *   plaintext-owned in a frame that is not addressed to us     DROP    other-host
 *   plaintext-foreign, where the owner's MAC is known          FORWARD plaintext-forwarded / DROP forward-loop
 *
 * SOCKET is the AF_XDP socket of the receive queue; without one, that is whenever the data plane is down, the
 * packet is dropped (no-socket). So what the policy protects never reaches the kernel's forwarding (I7), and a
 * map that was never filled protects too: unknown plaintext is dropped.
 *
 * Clear traffic on the outer side (RFC 4301 section 5.2)
 *   The kernel knows no SPD, so it never forwards a packet from here. What is to be forwarded in clear needs a bypass
 *   policy, whose remote networks stand in the map with the segments of their owners: one gateway of several that see
 *   the same packets hands it to its data plane, which asks the SPD about protocol, ports and local address.
 *   A source behind a tunnel comes through it or not at all: the kernel would believe what claims to be from there. A
 *   remote network of ::/0 or 0.0.0.0/0 makes that every source, for our own addresses too. Where a bypass policy wants
 *   our own services to be reached all the same, it is a rule in a short list, in the SPD's order, with discard policies
 *   and tunnels before it. What keeps the tunnels themselves alive is exempt: IKE; the later fragments of a large IKE
 *   message, of which the first is known to be IKE or what a rule permits, since no other first fragment passes;
 *   neighbour discovery, IPv6's ARP, with the hop limit that proves it to be from this link (RFC 4861) and for a
 *   destination that is never forwarded; multicast listener queries (RFC 3810), since a switch that hears no answer to
 *   them no longer sends us the solicitations of neighbour discovery, which are multicast.
 *   The same holds for a peer in transport mode, whose own address is the network behind the tunnel: its ESP, IKE and
 *   ICMP errors about ESP come in, and nothing else.
 *
 * Frames of others (RFC 1812 sections 3.3 and 5.3.4)
 *   What a switch floods, what is broadcast on the link and what is meant for another router is not ours to
 *   forward, and sealing it would double it. The kernel knows such frames by their destination, and so do both sides,
 *   before they send one to the data plane that is to be forwarded. Of packets for our own addresses, which are not, the
 *   IP address decides alone: nodes of a cluster share an address under a multicast MAC, or sit behind a hub.
 *
 * Segments
 *   ESP: overrides[SPI], else the SPI's top octet: SPIs are ours, and we put the segment there.
 *   IKE: the same with our half of the two IKE SPIs. The I flag tells which half that is (RFC 7296 section 3.1):
 *     set, the sender is the original initiator and the responder SPI is ours; clear, the initiator SPI is. (The
 *     R flag would not do: a request of the original responder carries our SPI as the initiator's.) A first
 *     message has responder SPI 0: hash of the outer source. So has a message of another major version: one
 *     node answers it.
 *   ICMP errors: the packet they quote is one that we sent, so its SPI was chosen by the peer and says nothing
 *     about our segments. They reach the data plane of every node, where only the owner finds an SA.
 *
 * Fragments
 *   A first fragment is treated like a whole packet, on what it holds. A later one has no SPI. Of ESP, it goes to
 *   the data plane of every node, which counts it. Of UDP it may be a large IKE message, which the kernel must
 *   reassemble: PASS, and a node that dropped or took away the first fragment never completes it. UDP-encapsulated
 *   ESP in fragments therefore ends in the data plane's counter for the first and in the kernel's reassembly
 *   timeout for the rest. A first fragment too short to tell ESP from IKE is malformed.
 *
 * VLAN tags are read from the frame: a card that strips them (rxvlan) hides them from XDP, as it does from every
 * XDP program. IP and ICMP checksums are the receiver's business (kernel or data plane).
 */
#include <linux/bpf.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "cluster.h"
#include "maps.h"
#include "parse.h"
#include "rules.h"
#include "segment.h"

#define VERDICT(name, ...) VERDICT_##name,
enum verdict {
#include "verdicts.def"
	VERDICTS,
};
#undef VERDICT
_Static_assert(VERDICTS <= BATON_VERDICTS_PER_SIDE, "raise BATON_VERDICTS_PER_SIDE and BATON_LAYOUT");

/* The action of each verdict, from the list. */
enum action { PASS, DROP, SOCKET, FORWARD, ANSWER };

static __always_inline enum action action_of(enum verdict verdict)
{
#define VERDICT(name, text, action, ...)                                                                               \
	case VERDICT_##name:                                                                                           \
		return action;
	switch (verdict) {
#include "verdicts.def"
	default:
		return DROP;
	}
#undef VERDICT
}

#define IKE_PORT 500
#define NAT_T_PORT 4500
#define IKE_MAJOR_VERSION 2
#define IKE_FLAG_INITIATOR 0x08

/* SPI and sequence number (RFC 4303 section 2). */
struct esp_header {
	__be32 spi;
	__be32 sequence;
};

/* RFC 7296 section 3.1, in words. */
struct ike_header {
	__be32 initiator_spi[2];
	__be32 responder_spi[2];
	__u8 next_payload;
	__u8 version;
	__u8 exchange;
	__u8 flags;
	__be32 message_id;
	__be32 length;
};

/* ICMP and ICMPv6 alike: the quoted packet follows. <linux/icmp.h> would drag in the C library. */
struct icmp_header {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be32 rest;
};

/* Errors about a packet, not about a route: RFC 792, RFC 4443. */
enum { ICMP_UNREACHABLE = 3, ICMP_TIME_EXCEEDED = 11, ICMP_PARAMETER_PROBLEM = 12 };
enum { ICMPV6_UNREACHABLE = 1, ICMPV6_PARAMETER_PROBLEM = 4 };
/* Neighbour discovery, from router solicitation to redirect, and its hop limit: RFC 4861 section 4. */
enum { ICMPV6_ROUTER_SOLICITATION = 133, ICMPV6_REDIRECT = 137, ON_LINK_HOP_LIMIT = 255 };
/* RFC 3810 section 5.1 */
enum { ICMPV6_LISTENER_QUERY = 130, LISTENER_HOP_LIMIT = 1 };

/* What is known so far about where a packet goes. */
struct steering {
	enum verdict verdict;
	__u32 segment;
};

static __always_inline struct steering without_segment(enum verdict verdict)
{
	return (struct steering){ .verdict = verdict, .segment = BATON_NO_SEGMENT };
}

static __always_inline struct steering by_owner(__u32 segment, enum verdict ours, enum verdict theirs)
{
	return (struct steering){ .verdict = is_owned(segment) ? ours : theirs, .segment = segment };
}

static __always_inline enum resolved resolve(__u32 side, const struct frame *frame, const struct packet *packet,
					     enum parsed parsed)
{
	if (parsed == NOT_IP && packet->protocol == ETH_P_ARP)
		return answer_arp(side, frame, packet->offset);
	return parsed == PARSED ? answer_solicitation(side, frame, packet) : NOT_ASKED;
}

static __always_inline struct steering steer_resolved(enum resolved resolved, enum parsed parsed)
{
	if (parsed == NOT_IP)
		return without_segment(resolved == ANSWERED ? VERDICT_ARP_ANSWERED : VERDICT_ARP_SILENT);
	return without_segment(resolved == ANSWERED ? VERDICT_ND_ANSWERED : VERDICT_ND_SILENT);
}

/* What is forwarded in place of being dropped. */
static __always_inline enum verdict forwarded(enum verdict foreign)
{
	switch (foreign) {
	case VERDICT_ESP_FOREIGN:
		return VERDICT_ESP_FORWARDED;
	case VERDICT_UDP_ESP_FOREIGN:
		return VERDICT_UDP_ESP_FORWARDED;
	case VERDICT_IKE_FOREIGN:
		return VERDICT_IKE_FORWARDED;
	case VERDICT_CLEAR_FOREIGN:
		return VERDICT_CLEAR_FORWARDED;
	case VERDICT_PLAINTEXT_FOREIGN:
		return VERDICT_PLAINTEXT_FORWARDED;
	default:
		return VERDICTS;
	}
}

/* What another node owns goes on to it, if it can; see cluster.h. */
static __always_inline struct steering unless_forwarded(__u32 side, const struct frame *frame, struct steering steering)
{
	enum verdict verdict = forwarded(steering.verdict);
	struct ethhdr *ethernet;
	__u64 own, sender;

	if (verdict == VERDICTS)
		return steering;
	ethernet = at(frame, 0, sizeof(*ethernet));
	own = own_mac(side, 0);
	if (!ethernet || !own || mac_of(ethernet->h_dest) != own || !owner_mac(side, steering.segment))
		return steering;
	sender = mac_of(ethernet->h_source);
	steering.verdict = bpf_map_lookup_elem(&members, &sender) ? VERDICT_FORWARD_LOOP : verdict;
	return steering;
}

static __always_inline struct steering steer_malformed(enum parsed reason)
{
	switch (reason) {
	case NOT_IP:
		return without_segment(VERDICT_NOT_IP);
	case MALFORMED_ETHERNET:
		return without_segment(VERDICT_MALFORMED_ETHERNET);
	case TOO_MANY_HEADERS:
		return without_segment(VERDICT_EXTENSION_HEADERS);
	default:
		return without_segment(VERDICT_MALFORMED_IP);
	}
}

static __always_inline struct steering steer_esp(const struct frame *frame, __u32 offset, __u32 end,
						 enum verdict ours, enum verdict theirs)
{
	struct esp_header *esp = within(frame, offset, end, sizeof(*esp));

	if (!esp)
		return without_segment(VERDICT_MALFORMED_ESP);
	return by_owner(spi_segment(BATON_OVERRIDE_ESP, 0, bpf_ntohl(esp->spi)), ours, theirs);
}

static __always_inline struct steering steer_ike(const struct frame *frame, __u32 offset, __u32 end,
						 const struct address *source, __u32 source_port,
						 __u32 destination_port)
{
	struct ike_header *ike = within(frame, offset, end, sizeof(*ike));
	__be32 high, low;
	__u32 segment;

	if (!ike)
		return without_segment(VERDICT_MALFORMED_IKE);
	if (ike->version >> 4 == IKE_MAJOR_VERSION) {
		if (!(ike->initiator_spi[0] | ike->initiator_spi[1]))
			return without_segment(VERDICT_MALFORMED_IKE);
		if (ike->flags & IKE_FLAG_INITIATOR) {
			high = ike->responder_spi[0];
			low = ike->responder_spi[1];
		} else {
			high = ike->initiator_spi[0];
			low = ike->initiator_spi[1];
		}
	} else {
		high = low = 0;
	}
	if (high | low)
		segment = spi_segment(BATON_OVERRIDE_IKE, bpf_ntohl(high), bpf_ntohl(low));
	else
		segment = hashed_segment(source, source_port, destination_port);
	return by_owner(segment, VERDICT_IKE_OWNED, VERDICT_IKE_FOREIGN);
}

static __always_inline struct steering steer_udp(const struct frame *frame, const struct packet *packet)
{
	struct udphdr *udp = within(frame, packet->offset, packet->end, sizeof(*udp));
	__u32 source_port, destination_port, length, offset, end;
	__be32 *marker;
	__u8 *octet;

	if (!udp)
		return without_segment(VERDICT_MALFORMED_UDP);
	source_port = bpf_ntohs(udp->source);
	destination_port = bpf_ntohs(udp->dest);
	if (destination_port != IKE_PORT && destination_port != NAT_T_PORT)
		return without_segment(VERDICT_LOCAL);
	length = bpf_ntohs(udp->len);
	if (length < sizeof(*udp))
		return without_segment(VERDICT_MALFORMED_UDP);
	end = packet->offset + length;
	if (end > packet->end) {
		if (packet->fragment != FIRST_FRAGMENT)
			return without_segment(VERDICT_MALFORMED_UDP);
		end = packet->end;
	}
	offset = packet->offset + sizeof(*udp);
	if (destination_port == NAT_T_PORT) {
		if (end - offset == 1) {
			octet = at(frame, offset, 1);
			return without_segment(octet && *octet == 0xff ? VERDICT_NAT_KEEPALIVE
								       : VERDICT_MALFORMED_UDP);
		}
		marker = within(frame, offset, end, sizeof(*marker));
		if (!marker)
			return without_segment(VERDICT_MALFORMED_UDP);
		if (*marker)
			return steer_esp(frame, offset, end, VERDICT_UDP_ESP_OWNED, VERDICT_UDP_ESP_FOREIGN);
		offset += sizeof(*marker);
	}
	return steer_ike(frame, offset, end, &packet->source, source_port, destination_port);
}

/* Whether the octets at `offset` begin with UDP-encapsulated ESP that we sent, from port 4500. */
static __always_inline int quotes_udp_esp(const struct frame *frame, __u32 offset, __u32 end)
{
	struct {
		struct udphdr udp;
		__be32 marker;
	} *quoted = within(frame, offset, end, sizeof(*quoted));

	return quoted && quoted->udp.source == bpf_htons(NAT_T_PORT) && quoted->marker;
}

static __always_inline int quotes_esp4(const struct frame *frame, __u32 offset, __u32 end)
{
	struct iphdr *ip = within(frame, offset, end, sizeof(*ip));

	if (!ip || ip->version != 4 || ip->ihl < 5)
		return 0;
	if (ip->protocol == IPPROTO_ESP)
		return 1;
	return ip->protocol == IPPROTO_UDP && !(ip->frag_off & bpf_htons(IPV4_FRAGMENT_OFFSET)) &&
	       quotes_udp_esp(frame, offset + ip->ihl * 4, end);
}

/* In transport mode ESP stands behind extension headers of the packet that it protects (RFC 4303 section 3.1.1). */
static __always_inline int quotes_esp6(const struct frame *frame, __u32 offset, __u32 end)
{
	struct packet quoted = { .offset = offset + sizeof(struct ipv6hdr), .end = end };
	struct ipv6hdr *ip = within(frame, offset, end, sizeof(*ip));

	if (!ip || ip->version != 6)
		return 0;
	quoted.protocol = ip->nexthdr;
	if (skip_extension_headers(frame, &quoted) != PARSED)
		return 0;
	if (quoted.protocol == IPPROTO_ESP)
		return 1;
	return quoted.protocol == IPPROTO_UDP && quoted.fragment != LATER_FRAGMENT &&
	       quotes_udp_esp(frame, quoted.offset, end);
}

static __always_inline int is_icmp_error(__u32 type)
{
	return type == ICMP_UNREACHABLE || type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETER_PROBLEM;
}

static __always_inline int is_icmpv6_error(__u32 type)
{
	return type >= ICMPV6_UNREACHABLE && type <= ICMPV6_PARAMETER_PROBLEM;
}

static __always_inline struct steering steer_icmp(const struct frame *frame, const struct packet *packet)
{
	struct icmp_header *icmp = within(frame, packet->offset, packet->end, sizeof(*icmp));
	__u32 quoted = packet->offset + sizeof(*icmp);
	int about_esp;

	if (!icmp)
		return without_segment(VERDICT_LOCAL);
	if (packet->protocol == IPPROTO_ICMP)
		about_esp = is_icmp_error(icmp->type) && quotes_esp4(frame, quoted, packet->end);
	else
		about_esp = is_icmpv6_error(icmp->type) && quotes_esp6(frame, quoted, packet->end);
	return without_segment(about_esp ? VERDICT_ICMP_ESP : VERDICT_LOCAL);
}

/* A packet for one of our addresses, behind its extension headers. */
static __always_inline struct steering steer_to_us(const struct frame *frame, const struct packet *packet)
{
	__u32 icmp = packet->destination.family == BATON_FAMILY_IPV6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP;

	if (packet->fragment == LATER_FRAGMENT)
		return without_segment(packet->protocol == IPPROTO_ESP ? VERDICT_ESP_FRAGMENT : VERDICT_FRAGMENT);
	if (packet->protocol == IPPROTO_ESP)
		return steer_esp(frame, packet->offset, packet->end, VERDICT_ESP_OWNED, VERDICT_ESP_FOREIGN);
	if (packet->protocol == IPPROTO_UDP)
		return steer_udp(frame, packet);
	if (packet->protocol == icmp)
		return steer_icmp(frame, packet);
	return without_segment(VERDICT_LOCAL);
}

static __always_inline int is_multicast(const struct address *address)
{
	__u32 first = bpf_ntohl(address->word[0]);

	if (address->family == BATON_FAMILY_IPV4)
		return first >> 28 == 0xe || first == 0xffffffff;
	return first >> 24 == 0xff || first >> 22 == 0xfe80 >> 6;
}

/* Neighbour discovery for this link: from it, and to us (`to_us`) or a destination that is not forwarded. */
static __always_inline int is_neighbour_discovery(const struct frame *frame, const struct packet *packet, int to_us)
{
	struct icmp_header *icmp;

	if (packet->destination.family != BATON_FAMILY_IPV6 || packet->protocol != IPPROTO_ICMPV6 ||
	    packet->hop_limit != ON_LINK_HOP_LIMIT || packet->fragment != WHOLE)
		return 0;
	if (!to_us && !is_multicast(&packet->destination))
		return 0;
	icmp = within(frame, packet->offset, packet->end, sizeof(*icmp));
	return icmp && icmp->type >= ICMPV6_ROUTER_SOLICITATION && icmp->type <= ICMPV6_REDIRECT;
}

/* A listener query as it has to be, or the kernel ignores it: from a link-local address, which no router forwards,
 * with hop limit 1, behind a hop-by-hop header that holds a router alert alone. */
static __always_inline int is_listener_query(const struct frame *frame, const struct packet *packet)
{
	struct extension_header *options = within(frame, packet->offset, packet->end, 8);
	struct icmp_header *icmp = within(frame, packet->offset + 8, packet->end, sizeof(*icmp));

	if (packet->destination.family != BATON_FAMILY_IPV6 || packet->protocol != IPPROTO_HOPOPTS ||
	    packet->hop_limit != LISTENER_HOP_LIMIT || !is_multicast(&packet->destination))
		return 0;
	if (bpf_ntohl(packet->source.word[0]) >> 22 != 0xfe80 >> 6)
		return 0;
	return options && options->next == IPPROTO_ICMPV6 && !options->length && icmp &&
	       icmp->type == ICMPV6_LISTENER_QUERY;
}

/* Whether the kernel may have a packet in clear, whatever its source; multicast listener queries are not asked for. */
static __always_inline int may_be_clear(const struct frame *frame, const struct packet *packet, enum verdict verdict)
{
	if (verdict == VERDICT_IKE_OWNED)
		return 1;
	if (verdict == VERDICT_FRAGMENT && packet->protocol == IPPROTO_UDP)
		return 1;
	return is_neighbour_discovery(frame, packet, verdict == VERDICT_LOCAL);
}

static __always_inline int is_addressed_to(__u32 side, const struct frame *frame)
{
	struct ethhdr *ethernet = at(frame, 0, sizeof(*ethernet));
	__u64 mac = 0;

	if (!ethernet)
		return 0;
	__builtin_memcpy(&mac, ethernet->h_dest, ETH_ALEN);
	return is_own_mac(side, mac);
}

/* Clear traffic that is to be forwarded: only where some bypass policy has its source, the SPD is asked. */
static __always_inline struct steering steer_transit(const struct packet *packet)
{
	__u32 network = network_of(&packet->source);

	if (!network)
		return without_segment(VERDICT_NO_POLICY);
	if (!(network & BATON_NETWORK_BYPASSED))
		return without_segment(VERDICT_CLEAR_PROTECTED);
	return by_owner(network & 0xff, VERDICT_CLEAR_OWNED, VERDICT_CLEAR_FOREIGN);
}

/* Whose a packet is by its destination. */
enum whose { IPSEC_ADDRESS, OWN_ADDRESS, LINK, TRANSIT };

static __always_inline enum whose whose(const struct frame *frame, const struct address *destination)
{
	if (is_local(BATON_SIDE_OUTER, destination))
		return IPSEC_ADDRESS;
	if (is_local(BATON_SIDE_INNER, destination))
		return OWN_ADDRESS;
	return is_multicast(destination) || !is_addressed_to(BATON_SIDE_OUTER, frame) ? LINK : TRANSIT;
}

static __always_inline struct steering steer_outer(const struct frame *frame)
{
	struct packet packet = {};
	enum parsed parsed = parse(frame, &packet);
	struct steering steering;
	enum whose destination;
	enum resolved resolved;
	int is_query;

	resolved = resolve(BATON_SIDE_OUTER, frame, &packet, parsed);
	if (resolved != NOT_ASKED)
		return steer_resolved(resolved, parsed);
	if (parsed != PARSED)
		return steer_malformed(parsed);
	destination = whose(frame, &packet.destination);
	if (destination == TRANSIT)
		return steer_transit(&packet);
	is_query = destination == LINK && is_listener_query(frame, &packet);
	if (packet.destination.family == BATON_FAMILY_IPV6)
		parsed = skip_extension_headers(frame, &packet);
	if (destination == IPSEC_ADDRESS)
		steering = parsed == PARSED ? steer_to_us(frame, &packet) : steer_malformed(parsed);
	else
		steering = without_segment(destination == LINK ? VERDICT_NOT_OURS : VERDICT_LOCAL);
	if (is_query || (parsed == PARSED && may_be_clear(frame, &packet, steering.verdict)) ||
	    action_of(steering.verdict) != PASS)
		return steering;
	if (!(network_of(&packet.source) & BATON_NETWORK_PROTECTED))
		return steering;
	if (parsed == PARSED && is_permitted(frame, &packet))
		return without_segment(VERDICT_CLEAR_BYPASS);
	return without_segment(VERDICT_CLEAR_PROTECTED);
}

static __always_inline struct steering steer_inner(const struct frame *frame)
{
	struct packet packet = {};
	struct steering steering;
	enum parsed parsed = parse(frame, &packet);
	enum resolved resolved = resolve(BATON_SIDE_INNER, frame, &packet, parsed);
	__u32 network;

	if (resolved != NOT_ASKED)
		return steer_resolved(resolved, parsed);
	if (parsed != PARSED)
		return steer_malformed(parsed);
	if (is_multicast(&packet.destination))
		return without_segment(VERDICT_MULTICAST);
	if (is_local(BATON_SIDE_INNER, &packet.destination))
		return without_segment(VERDICT_LOCAL);
	network = network_of(&packet.destination);
	if (!network)
		return without_segment(VERDICT_NO_POLICY);
	steering = by_owner(network & 0xff, VERDICT_PLAINTEXT_OWNED, VERDICT_PLAINTEXT_FOREIGN);
	if (action_of(steering.verdict) == SOCKET && !is_addressed_to(BATON_SIDE_INNER, frame))
		return without_segment(VERDICT_OTHER_HOST);
	return steering;
}

static __always_inline void count(__u32 side, struct steering steering)
{
	__u32 key = side * BATON_VERDICTS_PER_SIDE + steering.verdict;
	__u64 *packets = bpf_map_lookup_elem(&verdicts, &key);

	if (packets)
		(*packets)++;
	if (tracing) {
		struct traced traced = { .verdict = steering.verdict, .segment = steering.segment };
		__u32 zero = 0;

		bpf_map_update_elem(&trace, &zero, &traced, BPF_ANY);
	}
}

static __always_inline int finish(const struct frame *frame, __u32 side, void *sockets, struct steering steering)
{
	int result = XDP_DROP;

	steering = unless_forwarded(side, frame, steering);

	switch (action_of(steering.verdict)) {
	case PASS:
		readdress(side, frame);
		result = XDP_PASS;
		break;
	case FORWARD:
		if (send_to_owner(side, frame, steering.segment))
			result = XDP_TX;
		break;
	case ANSWER:
		result = XDP_TX;
		break;
	case SOCKET:
		/* I7: without a socket, drop. */
		result = bpf_redirect_map(sockets, frame->ctx->rx_queue_index, XDP_DROP);
		if (result != XDP_REDIRECT)
			steering.verdict = VERDICT_NO_SOCKET;
		break;
	case DROP:
		break;
	}
	count(side, steering);
	return result;
}

static __always_inline struct frame frame_of(struct xdp_md *ctx)
{
	return (struct frame){
		.data = (void *)(long)ctx->data,
		.data_end = (void *)(long)ctx->data_end,
		.ctx = ctx,
		.length = bpf_xdp_get_buff_len(ctx),
	};
}

SEC("xdp.frags")
int outer(struct xdp_md *ctx)
{
	struct frame frame = frame_of(ctx);

	return finish(&frame, BATON_SIDE_OUTER, &outer_sockets, steer_outer(&frame));
}

SEC("xdp.frags")
int inner(struct xdp_md *ctx)
{
	struct frame frame = frame_of(ctx);

	return finish(&frame, BATON_SIDE_INNER, &inner_sockets, steer_inner(&frame));
}

char filter_license[] SEC("license") = "Apache-2.0 OR MIT";
