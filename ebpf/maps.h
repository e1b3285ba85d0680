/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The maps: everything that the filter knows. Userspace pins all but `trace`. */
#ifndef BATON_MAPS_H
#define BATON_MAPS_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "shared.h"

/* An IP address; IPv4 fills the first word. Words in network order. */
struct address {
	__u32 family;
	__u32 word[4];
};

struct local_key {
	__u32 side;
	struct address address;
};

struct prefix_key {
	__u32 prefix_length; /* 32 bits of family, then those of the prefix */
	struct address address;
};

struct override_key {
	__u32 kind; /* BATON_OVERRIDE_* */
	__u32 high; /* an ESP SPI leaves it 0 */
	__u32 low;
};

struct bitmap {
	__u64 word[4]; /* bit (segment & 63) of word (segment >> 6) */
};

/*
 * Which packets an entry of the SPD is about, for those that are for this host itself (RFC 4301 section 4.4.1.1).
 * Host order; addresses with the most significant word first, IPv4 in the last one; each pair first to last.
 * Ports reach up to BATON_OPAQUE: 0 to BATON_OPAQUE is ANY.
 */
struct rule {
	__u32 remote[2][4];
	__u32 local[2][4];
	__u32 remote_ports[2];
	__u32 local_ports[2];
	__u32 protocol[2];
	__u32 family;
	__u32 action; /* BATON_RULE_* */
};

struct rules {
	struct rule rule[BATON_MAX_RULES];
};

/* MAC addresses as they stand in a frame, then two zero octets; 0 is no address. The interface's own is the first, one
 * that is shared with other nodes the second. */
struct own_macs {
	__u64 mac[BATON_MAX_OWN_MACS];
};

/* Of the nodes that own the segments, on one side; 0 where it is this one or not known. */
struct owner_macs {
	__u64 mac[256];
};

struct traced {
	__u32 verdict;
	__u32 segment;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, BATON_CONFIG_ENTRIES);
	__type(key, __u32);
	__type(value, __u32);
} config SEC(".maps");

/* Two ownership bitmaps: userspace fills the idle one and then flips config[BATON_CONFIG_ACTIVE], one aligned
 * word, so that every packet sees the old ownership or the new one whole. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct bitmap);
} owned SEC(".maps");

/* SPIs whose top octet is not their segment: contexts of another cluster, single tunnels that were moved. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, BATON_MAX_OVERRIDES);
	__type(key, struct override_key);
	__type(value, __u32);
} overrides SEC(".maps");

/* Our own addresses. By outer side: those to which peers send IPsec. By inner side: all that this host has. And those
 * that are shared with other nodes, BATON_SHARED_ADDRESSES + side. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, BATON_MAX_ADDRESSES);
	__type(key, struct local_key);
	__type(value, __u32);
} addresses SEC(".maps");

/* MAC addresses by side, to which a frame for us is addressed: the interface's own and those shared with others. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct own_macs);
} macs SEC(".maps");

/* Two lists for each side, at side * 2 and side * 2 + 1, switched over like ownership. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, struct owner_macs);
} owner_macs SEC(".maps");

/* MAC addresses of the other nodes, on either side. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, BATON_MAX_MEMBERS);
	__type(key, __u64);
	__type(value, __u32);
} members SEC(".maps");

/* The remote networks of all policies -> segment and BATON_NETWORK_*: destinations on the inner side, sources of clear
 * traffic on the outer one. A longer prefix repeats what covers it, so that one lookup tells all. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, BATON_MAX_PREFIXES);
	__type(key, struct prefix_key);
	__type(value, __u32);
} prefixes SEC(".maps");

/* The first rule that a packet for this host meets says whether it may be clear. Two lists, switched over like
 * ownership. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct rules);
} rules SEC(".maps");

/* AF_XDP sockets by receive queue. A socket leaves its map when its process closes it or dies. */
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, BATON_MAX_QUEUES);
	__type(key, __u32);
	__type(value, __u32);
} outer_sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, BATON_MAX_QUEUES);
	__type(key, __u32);
	__type(value, __u32);
} inner_sockets SEC(".maps");

/* Packets by side and verdict. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2 * BATON_VERDICTS_PER_SIDE);
	__type(key, __u32);
	__type(value, __u64);
} verdicts SEC(".maps");

/* The last packet's fate, written only by a program loaded with tracing = 1 (dry runs of single packets).
 * Otherwise the verifier sees a frozen 0 and removes the code. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct traced);
} trace SEC(".maps");

const volatile __u32 tracing = 0;

static __always_inline __u32 config_word(__u32 key)
{
	__u32 *value = bpf_map_lookup_elem(&config, &key);

	return value ? *value : 0;
}

static __always_inline int is_local(__u32 side, const struct address *address)
{
	struct local_key key = { .side = side, .address = *address };

	return bpf_map_lookup_elem(&addresses, &key) != NULL;
}

static __always_inline int is_own_mac(__u32 side, __u64 mac)
{
	struct own_macs *own = bpf_map_lookup_elem(&macs, &side);
	int i, found = 0;

	if (!own || !mac)
		return 0;
#pragma unroll
	for (i = 0; i < BATON_MAX_OWN_MACS; i++)
		found |= own->mac[i] == mac;
	return found;
}

static __always_inline int is_owned(__u32 segment)
{
	__u32 active = config_word(BATON_CONFIG_ACTIVE) & 1;
	struct bitmap *bits = bpf_map_lookup_elem(&owned, &active);

	return bits && (bits->word[(segment >> 6) & 3] >> (segment & 63)) & 1;
}

/* The longest network that holds `address`: 0 if there is none, as each has a BATON_NETWORK_*. */
static __always_inline __u32 network_of(const struct address *address)
{
	struct prefix_key key = { .prefix_length = 32, .address = *address };
	__u32 *value;

	key.prefix_length += address->family == BATON_FAMILY_IPV4 ? 32 : 128;
	value = bpf_map_lookup_elem(&prefixes, &key);
	return value ? *value : 0;
}

#endif
