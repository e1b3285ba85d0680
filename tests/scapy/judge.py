"""Opens every ESP packet of captures and compares what is inside with what the inner hosts sent.

stdin:  {"associations": [...], "outer": [pcap, ...], "inner": [pcap, ...]}
stdout: {"judged": n, "findings": [sentence, ...]}
"""

import json
import sys
from collections import Counter

from scapy.layers.inet import IP
from scapy.layers.ipsec import ESP
from scapy.layers.l2 import Ether
from scapy.utils import RawPcapReader, checksum

from esp_sa import association, open_packet

FINDINGS_AT_MOST = 20


def ip_packets(paths):
    for path in paths:
        for octets, _ in RawPcapReader(path):
            frame = Ether(octets)
            if IP in frame:
                packet = frame[IP]
                yield IP(bytes(packet)[:packet.len])


def without_hop_fields(octets):
    """An IPv4 packet without what a router changes: TTL and header checksum."""
    return octets[:8] + octets[9:10] + octets[12:]


def header_is_sound(octets):
    return checksum(octets[:(octets[0] & 15) * 4]) == 0


def judge(packet, sa, sent, ttls):
    """Sentences about what is wrong with one ESP packet; takes its inside out of `sent`."""
    inside, padding, next_header = open_packet(sa, packet)
    inner, name = IP(inside), f"SPI {packet[ESP].spi:#x} sequence {packet[ESP].seq}"
    if next_header != 4:
        yield f"{name}: next header {next_header}, not IPv4"
    if padding != bytes(range(1, len(padding) + 1)):
        yield f"{name}: padding is {padding.hex()}"
    if not header_is_sound(bytes(packet)) or not header_is_sound(inside):
        yield f"{name}: an IPv4 header's checksum is wrong"
    if (packet.src, packet.dst) != (sa.tunnel_header.src, sa.tunnel_header.dst):
        yield f"{name}: outer addresses are {packet.src} and {packet.dst}"
    if packet.tos != inner.tos:
        yield f"{name}: outer TOS is {packet.tos:#x}, inner {inner.tos:#x}"
    if packet.flags.DF != inner.flags.DF:
        yield f"{name}: DF is not copied"
    key = without_hop_fields(inside)
    if sent[key] == 0:
        yield f"{name}: holds a packet that no inner host sent: {inner.summary()}"
    elif ttls[key] - inner.ttl != 1:
        yield f"{name}: TTL went from {ttls[key]} to {inner.ttl}"
    sent[key] -= 1


def main():
    question = json.load(sys.stdin)
    associations = {sa["spi"]: association(sa) for sa in question["associations"]}
    sent, ttls = Counter(), {}
    for packet in ip_packets(question["inner"]):
        key = without_hop_fields(bytes(packet))
        sent[key] += 1
        ttls[key] = packet.ttl
    judged, findings = 0, []
    for packet in ip_packets(question["outer"]):
        if ESP not in packet:
            continue
        judged += 1
        sa = associations.get(packet[ESP].spi)
        try:
            findings += judge(packet, sa, sent, ttls) if sa else [f"unknown SPI {packet[ESP].spi:#x}"]
        except Exception as error:  # a wrong ICV, or an inside that is no packet
            findings.append(f"sequence {packet[ESP].seq}: {error!r}")
    json.dump({"judged": judged, "findings": findings[:FINDINGS_AT_MOST]}, sys.stdout)


main()
