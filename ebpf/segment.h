/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * Which segment a packet belongs to: our own SPI's top octet, an override, or, before there is an SPI of ours,
 * the hash of the outer source as Linux's ipt_CLUSTERIP computes it (net/ipv4/netfilter/ipt_CLUSTERIP.c,
 * clusterip_hashfn), on Bob Jenkins' lookup3 (public domain, 2006) as in Linux's include/linux/jhash.h.
 * The twin in Rust is dataplane/src/steering/hash.rs.
 */
#ifndef BATON_SEGMENT_H
#define BATON_SEGMENT_H

#include "parse.h"

#define JHASH_INITIAL 0xdeadbeef

static __always_inline __u32 rotate_left(__u32 word, __u32 bits)
{
	return word << bits | word >> (32 - bits);
}

/* lookup3's final(): the last words and nothing else is left to mix. */
static __always_inline __u32 jhash_final(__u32 a, __u32 b, __u32 c)
{
	c ^= b, c -= rotate_left(b, 14);
	a ^= c, a -= rotate_left(c, 11);
	b ^= a, b -= rotate_left(a, 25);
	c ^= b, c -= rotate_left(b, 16);
	a ^= c, a -= rotate_left(c, 4);
	b ^= a, b -= rotate_left(a, 14);
	c ^= b, c -= rotate_left(b, 24);
	return c;
}

/* jhash_1word, jhash_2words, jhash_3words: unused words are 0. */
static __always_inline __u32 jhash_words(__u32 words, __u32 a, __u32 b, __u32 c, __u32 seed)
{
	__u32 initial = JHASH_INITIAL + (words << 2) + seed;

	return jhash_final(a + initial, b + initial, c + initial);
}

/* jhash2 over exactly four words: one round of lookup3's mix() and the final one. */
static __always_inline __u32 jhash_4words(__u32 k0, __u32 k1, __u32 k2, __u32 k3, __u32 seed)
{
	__u32 initial = JHASH_INITIAL + (4 << 2) + seed;
	__u32 a = initial + k0, b = initial + k1, c = initial + k2;

	a -= c, a ^= rotate_left(c, 4), c += b;
	b -= a, b ^= rotate_left(a, 6), a += c;
	c -= b, c ^= rotate_left(b, 8), b += a;
	a -= c, a ^= rotate_left(c, 16), c += b;
	b -= a, b ^= rotate_left(a, 19), a += c;
	c -= b, c ^= rotate_left(b, 4), b += a;
	return jhash_final(a + k3, b, c);
}

/* The source as one word; an IPv6 address is folded first. ClusterIP itself knows only IPv4. */
static __always_inline __u32 source_word(const struct address *source, __u32 seed)
{
	const __u32 *word = source->word;

	if (source->family == BATON_FAMILY_IPV4)
		return bpf_ntohl(word[0]);
	return jhash_4words(bpf_ntohl(word[0]), bpf_ntohl(word[1]), bpf_ntohl(word[2]), bpf_ntohl(word[3]), seed);
}

static __always_inline __u32 hashed_segment(const struct address *source, __u32 source_port, __u32 destination_port)
{
	__u32 mode = config_word(BATON_CONFIG_HASH_MODE);
	__u32 seed = config_word(BATON_CONFIG_HASH_SEED);
	__u32 word = source_word(source, seed);
	__u32 hash;

	if (mode == BATON_HASH_SOURCE_IP_SOURCE_PORT_DESTINATION_PORT)
		hash = jhash_words(3, word, source_port, destination_port, seed);
	else if (mode == BATON_HASH_SOURCE_IP_SOURCE_PORT)
		hash = jhash_words(2, word, source_port, 0, seed);
	else
		hash = jhash_words(1, word, 0, 0, seed);
	/* reciprocal_scale(hash, 256) */
	return hash >> 24;
}

static __always_inline __u32 spi_segment(__u32 kind, __u32 high, __u32 low)
{
	struct override_key key = { .kind = kind, .high = high, .low = low };
	__u32 *segment = bpf_map_lookup_elem(&overrides, &key);

	if (segment)
		return *segment & 0xff;
	return (kind == BATON_OVERRIDE_IKE ? high : low) >> 24;
}

#endif
