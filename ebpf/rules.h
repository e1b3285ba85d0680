/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * Clear traffic for this host itself from behind a tunnel: whether a bypass policy lets the kernel have it.
 *
 * Selectors as RFC 4301 section 4.4.1.1 has them, compared as dataplane/src/spd/bounds.rs does. A list of up to
 * BATON_MAX_RULES, tried in order, and only for packets that are dropped otherwise. Comparisons of a rule have no
 * branches, and the loop is the kernel's (bpf_loop, since Linux 5.17): the verifier looks at one rule, not at each.
 */
#ifndef BATON_RULES_H
#define BATON_RULES_H

#include "parse.h"

/* What rules compare, in the form that they have. */
struct flow {
	__u32 remote[4];
	__u32 local[4];
	__u32 remote_port;
	__u32 local_port;
	/* All ones where the local port says nothing: ICMP's type is the sender's (RFC 4301 section 4.4.1.3). */
	__u64 one_field;
	__u32 protocol;
	__u32 family;
};

#define PROTOCOL_MOBILITY 135
#define PROTOCOL_UDP_LITE 136

static __always_inline void number_of(const struct address *address, __u32 *number)
{
	int i;

	if (address->family == BATON_FAMILY_IPV4) {
		number[3] = bpf_ntohl(address->word[0]);
		return;
	}
#pragma unroll
	for (i = 0; i < 4; i++)
		number[i] = bpf_ntohl(address->word[i]);
}

static __always_inline void find_ports(const struct frame *frame, const struct packet *packet, struct flow *flow)
{
	__be16 *field;
	__u8 *octet;

	flow->remote_port = flow->local_port = BATON_OPAQUE;
	if (packet->fragment == LATER_FRAGMENT)
		return;
	switch (packet->protocol) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case IPPROTO_DCCP:
	case IPPROTO_SCTP:
	case PROTOCOL_UDP_LITE:
		field = within(frame, packet->offset, packet->end, 2 * sizeof(*field));
		if (field) {
			flow->remote_port = bpf_ntohs(field[0]);
			flow->local_port = bpf_ntohs(field[1]);
		}
		return;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		field = within(frame, packet->offset, packet->end, sizeof(*field));
		if (field) {
			flow->remote_port = bpf_ntohs(*field);
			flow->one_field = ~0ULL;
		}
		return;
	case PROTOCOL_MOBILITY:
		octet = within(frame, packet->offset, packet->end, 3);
		if (octet) {
			flow->remote_port = octet[2] << 8;
			flow->one_field = ~0ULL;
		}
		return;
	}
}

/* The highest bit set: a < b. */
static __always_inline __u64 less(const __u32 *a, const __u32 *b)
{
	__u64 borrow = 0;
	int i;

#pragma unroll
	for (i = 3; i >= 0; i--)
		borrow = (__u64)a[i] - b[i] - (borrow >> 63);
	return borrow;
}

/* The highest bit set: outside. */
static __always_inline __u64 outside(__u32 number, const __u32 *span)
{
	return ((__u64)number - span[0]) | ((__u64)span[1] - number);
}

static __always_inline int meets(const struct flow *flow, const struct rule *rule)
{
	__u64 misses = less(flow->remote, rule->remote[0]) | less(rule->remote[1], flow->remote) |
		       less(flow->local, rule->local[0]) | less(rule->local[1], flow->local) |
		       outside(flow->remote_port, rule->remote_ports) |
		       (outside(flow->local_port, rule->local_ports) & ~flow->one_field) |
		       outside(flow->protocol, rule->protocol);

	return !(misses >> 63 | (flow->family ^ rule->family));
}

struct search {
	const struct rules *rules;
	struct flow flow;
	__u32 action; /* of the first rule that the flow meets */
};

/* 1 ends the search. */
static long try_rule(__u32 index, struct search *search)
{
	const struct rule *rule;

	if (index >= BATON_MAX_RULES)
		return 1;
	rule = &search->rules->rule[index];
	if (rule->action == BATON_RULE_END)
		return 1;
	if (!meets(&search->flow, rule))
		return 0;
	search->action = rule->action;
	return 1;
}

/* Whether the first rule that the packet meets permits it. Of IPv6, its extension headers are behind it. */
static __always_inline int is_permitted(const struct frame *frame, const struct packet *packet)
{
	__u32 active = config_word(BATON_CONFIG_RULES) & 1;
	struct rules *list = bpf_map_lookup_elem(&rules, &active);
	struct search search = { .flow = { .protocol = packet->protocol, .family = packet->source.family } };

	if (!list)
		return 0;
	number_of(&packet->source, search.flow.remote);
	number_of(&packet->destination, search.flow.local);
	find_ports(frame, packet, &search.flow);
	search.rules = list;
	bpf_loop(BATON_MAX_RULES, try_rule, &search, 0);
	return search.action == BATON_RULE_PERMIT;
}

#endif
