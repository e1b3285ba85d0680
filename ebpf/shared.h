/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * Numbers that the program and userspace must agree on. dataplane/build.rs turns each
 * `#define BATON_NAME number` of this file into a Rust constant, so there is no second list.
 */
#ifndef BATON_SHARED_H
#define BATON_SHARED_H

/* Raise it whenever a map's size, key, value or meaning changes. Userspace refuses pinned maps of another one. */
#define BATON_LAYOUT 3

/* Keys of the config map. */
#define BATON_CONFIG_LAYOUT 0      /* BATON_LAYOUT; 0 while the maps are being filled for the first time */
#define BATON_CONFIG_ACTIVE 1      /* which of the two ownership bitmaps counts: 0 or 1 */
#define BATON_CONFIG_HASH_MODE 2   /* BATON_HASH_* */
#define BATON_CONFIG_HASH_SEED 3
#define BATON_CONFIG_OUTER_MODE 4  /* BATON_ATTACHED_*: userspace's note to its successor */
#define BATON_CONFIG_INNER_MODE 5
#define BATON_CONFIG_RULES 6        /* which of the two lists of rules counts: 0 or 1 */
#define BATON_CONFIG_OWNERS 7       /* which of the two lists of owners' MAC addresses counts: 0 or 1 */
#define BATON_CONFIG_RESOLUTION 8   /* BATON_RESOLUTION_* */
#define BATON_CONFIG_ENTRIES 16

#define BATON_HASH_SOURCE_IP 0
#define BATON_HASH_SOURCE_IP_SOURCE_PORT 1
#define BATON_HASH_SOURCE_IP_SOURCE_PORT_DESTINATION_PORT 2

#define BATON_ATTACHED_NATIVE 1
#define BATON_ATTACHED_GENERIC 2

#define BATON_SIDE_OUTER 0
#define BATON_SIDE_INNER 1
/* In the map of addresses, instead of a side: the addresses that this node shares with others, on side 0 and 1. */
#define BATON_SHARED_ADDRESSES 2

/* Who answers for the shared addresses: the kernel, the filter with the shared MAC address, nobody here. */
#define BATON_RESOLUTION_KERNEL 0
#define BATON_RESOLUTION_SHARED 1
#define BATON_RESOLUTION_SILENT 2

/* First word of an address or prefix key, so that ::/0 never covers IPv4. */
#define BATON_FAMILY_IPV4 4
#define BATON_FAMILY_IPV6 6

/* In the value of a network, above the segment: what policies cover all of it. */
#define BATON_NETWORK_PROTECTED 256 /* a tunnel's */
#define BATON_NETWORK_BYPASSED 512  /* a bypass policy's, for some protocols and ports at least */

/* What a rule says; END follows the last one. */
#define BATON_RULE_END 0
#define BATON_RULE_PERMIT 1
#define BATON_RULE_REFUSE 2

/* The number behind the last port: a packet shows none, or a rule is for those that show none (RFC 4301: OPAQUE). */
#define BATON_OPAQUE 65536

/* First word of an override key: which kind of SPI follows. */
#define BATON_OVERRIDE_ESP 50
#define BATON_OVERRIDE_IKE 500

#define BATON_VERDICTS_PER_SIDE 64
#define BATON_MAX_QUEUES 256
#define BATON_MAX_ADDRESSES 1024
#define BATON_MAX_OWN_MACS 4 /* on each side */
#define BATON_MAX_MEMBERS 1024
#define BATON_MAX_OVERRIDES 65536
#define BATON_MAX_PREFIXES 1048576
#define BATON_MAX_RULES 64
#define BATON_MAX_EXTENSION_HEADERS 6
#define BATON_MAX_EXTENSION_OCTETS 1024 /* all of them together */
#define BATON_MAX_VLAN_TAGS 2

/* In the trace map: the packet has no segment. */
#define BATON_NO_SEGMENT 256

#endif
