"""The other end of Baton's SAs: judges what Baton sealed, and seals for Baton to open. One question per line on stdin,
one answer per line on stdout, both JSON. Octets are written in hex.

{"ask": "packets", "source", "destination", "numbers": [[number, length], ...]} -> [packet, ...]
{"ask": "exchange", "theirs": association, "judge": [{"packet", "sent", "sequence"}, ...], "tfc": octets, "dscp", "df",
 "ours": association, "seal": [{"sent", "sequence"}, ...]}
    -> {"findings": [sentence, ...], "judged": n, "refused": n, "sealed": [{"packet", "arrives"}, ...]}
{"ask": "forge", "ours": association, "sequence", "text"[, "front": packet]} -> packet
{"ask": "fragments", "packet"} -> [packet, ...]
{"ask": "datagram", "source", "destination", "kind": "keep-alive" or "ike"} -> packet
"""

import json
import sys

from scapy.layers.inet import IP, UDP, fragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, fragment6
from scapy.layers.ipsec import (
    ESP, NAT_KEEPALIVE, NON_ESP, IPSecIntegrityError, _ESPPlain, split_for_transport)
from scapy.packet import Raw

import packets
from esp_sa import association, ip_class, open_esp, seal_packet

ECT, CE = (1, 2), 3
OUTER_HOPS = 64


def parse(octets):
    return (IPv6 if octets[0] >> 4 == 6 else IP)(octets)


def traffic_class(packet):
    return packet.tos if packet.version == 4 else packet.tc


def after_tunnel(octets, hops=1, congestion=False):
    """What a tunnel's gateway sends on (RFC 4301 section 5.1.2, RFC 6040)."""
    packet = parse(octets)
    if packet.version == 4:
        packet.ttl -= hops
        packet.tos |= CE if congestion else 0
        del packet.chksum
    else:
        packet.hlim -= hops
        packet.tc |= CE if congestion else 0
    return bytes(packet)


class Judge:
    """Opens what Baton sealed for one SA."""

    def __init__(self, question):
        self.question = question
        self.sa = association(question["theirs"])
        self.is_tunnel = self.sa.tunnel_header is not None
        self.refused = 0

    def findings(self, case):
        """Sentences about what is wrong with one packet."""
        octets, sent, sequence = bytes.fromhex(case["packet"]), bytes.fromhex(case["sent"]), case["sequence"]
        packet = parse(octets)
        if bytes(packet[ESP])[:8] != self.sa.spi.to_bytes(4, "big") + (sequence & 0xFFFFFFFF).to_bytes(4, "big"):
            yield "SPI or sequence number is wrong"
        yield from self.headers(packet, octets, parse(sent))
        plain = open_esp(self.sa, packet[ESP], sequence >> 32)
        yield from self.trailer(plain)
        yield from (self.tunnelled if self.is_tunnel else self.transported)(packet, plain, sent)
        yield from self.whole(octets, sent, sequence >> 32)

    def headers(self, packet, octets, sent):
        """The headers in front of ESP."""
        is_ipv6 = packet.version == 6
        if packet.underlayer is not None or len(packet) != len(octets):
            yield "lengths disagree"
        fresh = parse(octets)
        if is_ipv6:
            del fresh.plen
        else:
            del fresh.len, fresh.chksum
        if self.sa.nat_t_header:
            udp = packet[UDP]
            if (udp.sport, udp.dport) != (4500, 4500) or not isinstance(udp.payload, ESP):
                yield f"UDP ports are {udp.sport} and {udp.dport}"
            # RFC 3948 section 2.1: zero in IPv4. In IPv6 it has to hold (RFC 8200 section 8.1).
            if is_ipv6:
                del fresh[UDP].chksum
            elif udp.chksum != 0:
                yield "the UDP checksum is not zero"
            del fresh[UDP].len
        elif UDP in packet:
            yield "UDP stands in front of ESP"
        if bytes(fresh) != octets:
            yield "a length or checksum is wrong"
        if self.is_tunnel:
            yield from self.outer(packet, sent)

    def outer(self, packet, sent):
        """The outer IP header of tunnel mode (RFC 4301 section 5.1.2)."""
        header, question = self.sa.tunnel_header, self.question
        if type(packet) is not type(header) or (packet.src, packet.dst) != (header.src, header.dst):
            yield f"outer addresses are {packet.src} and {packet.dst}"
        dscp = traffic_class(sent) >> 2 if question["dscp"] is None else question["dscp"]
        # RFC 6040 section 4.1, normal mode.
        if traffic_class(packet) != dscp << 2 | traffic_class(sent) & 3:
            yield f"the traffic class is {traffic_class(packet):#x}, inside {traffic_class(sent):#x}"
        if (packet.ttl if packet.version == 4 else packet.hlim) != OUTER_HOPS:
            yield "the outer hop limit is wrong"
        if packet.version == 4:
            dont_fragment = {"copy": sent.version == 6 or bool(sent.flags.DF), "set": True, "clear": False}
            if packet.flags != ("DF" if dont_fragment[question["df"]] else 0) or packet.frag != 0:
                yield f"the flags are {packet.flags}, offset {packet.frag}"
            if packet.ihl != 5:
                yield "options were copied"

    def trailer(self, plain):
        """RFC 4303 section 2.4."""
        block = max(4, self.sa.crypt_algo.block_size)
        text = len(plain.data) + len(plain.padding) + 2
        if plain.padding != bytes(range(1, plain.padlen + 1)) or plain.padlen >= block or text % block:
            yield f"{len(plain.data)} octets are followed by {plain.padding.hex()}, length {plain.padlen}"

    def tunnelled(self, _packet, plain, sent):
        expected, data = after_tunnel(sent), bytes(plain.data)
        if plain.nh != (4 if sent[0] >> 4 == 4 else 41):
            yield f"the next header is {plain.nh}"
        if data[:len(expected)] != expected:
            yield f"inside is {data.hex()}, not {expected.hex()}"
        if len(data) != max(len(expected), self.question["tfc"]):
            yield f"with TFC padding {len(expected)} octets became {len(data)}"

    def transported(self, packet, plain, sent):
        """Header and payload together are the packet again (RFC 4303 section 3.1.1)."""
        above = packet[UDP] if self.sa.nat_t_header else packet[ESP]
        last = above.underlayer
        last.remove_payload()
        if isinstance(last, IP):
            last.proto = plain.nh
            del packet.len, packet.chksum
        else:
            last.nh = plain.nh
            del packet.plen
        whole = bytes(packet / Raw(bytes(plain.data)))
        if whole != sent:
            yield f"the packet is {whole.hex()}, not {sent.hex()}"

    def whole(self, octets, sent, high):
        """The packet as scapy's own decapsulation has it."""
        packet = parse(octets)
        if not self.is_tunnel and self.sa.nat_t_header and packet.payload is not packet[UDP]:
            return  # scapy takes extension headers away together with UDP
        expected = after_tunnel(sent) if self.is_tunnel else sent
        opened = bytes(self.sa.decrypt(packet, esn=high))
        if opened[:len(expected)] != expected:
            yield f"scapy decapsulates {opened.hex()}, not {expected.hex()}"

    def refusals(self, case):
        """Sentences about forgeries of a packet that were not refused."""
        esp, high = bytes(parse(bytes.fromhex(case["packet"]))[ESP]), case["sequence"] >> 32
        forgeries = [(place, high) for place in (4, 8, len(esp) // 2, len(esp) - 1)]
        if self.sa.esn_en:
            forgeries.append((None, high + 1))
        for place, half in forgeries:
            forged = bytearray(esp)
            if place is not None:
                forged[place] ^= 1
            try:
                open_esp(self.sa, ESP(bytes(forged)), half)
                yield f"a packet with octet {place} changed is accepted"
            except IPSecIntegrityError:
                self.refused += 1


def sealed(sa, case):
    """A packet for Baton, and what its gateway must send on."""
    sent, outer = bytes.fromhex(case["sent"]), sa.tunnel_header
    packet = parse(sent)
    is_congested = outer is not None and traffic_class(packet) & 3 in ECT
    if outer is not None:
        setattr(outer, "tos" if outer.version == 4 else "tc", CE if is_congested else 0)
    octets = bytearray(bytes(seal_packet(sa, packet, case["sequence"])))
    if outer is None and sa.nat_t_header and octets[0] >> 4 == 6 and octets[6] != 17:
        name_udp(octets)
    arrives = sent if outer is None else after_tunnel(sent, congestion=is_congested)
    return {"packet": octets.hex(), "arrives": arrives.hex()}


def name_udp(octets):
    """scapy lets the last extension header name ESP although UDP follows."""
    at, following = 6, 40
    while octets[at] != 50:
        at, following = following, following + (octets[following + 1] + 1) * 8
    octets[at] = 17


def exchange(question):
    judge = Judge(question)
    findings = []
    for case in question["judge"]:
        try:
            findings += judge.findings(case)
        except Exception as error:  # a wrong ICV, or an inside that is no packet
            findings.append(f"sequence {case['sequence']:#x}: {error!r}")
    if question["judge"] and not findings:
        findings += judge.refusals(question["judge"][0])
    ours = association(question["ours"])
    return {"findings": findings, "judged": len(question["judge"]), "refused": judge.refused,
            "sealed": [sealed(ours, case) for case in question["seal"]]}


def forge(question):
    """An authentic packet whose ESP text, trailer included, is exactly this. In transport mode ESP stands where
    it would in the packet `front`, in place of what that carries."""
    sa, sequence = association(question["ours"]), question["sequence"]
    text = bytes.fromhex(question["text"])
    plain = _ESPPlain(spi=sa.spi, seq=sequence & 0xFFFFFFFF, iv=sa.crypt_algo.generate_iv(),
                      data=Raw(text[:-2]), padding=b"", padlen=text[-2], nh=text[-1])
    esp = sa.crypt_algo.encrypt(sa, plain, sa.crypt_key, sa.crypt_icv_size, esn_en=sa.esn_en, esn=sequence >> 32)
    sa.auth_algo.sign(esp, sa.auth_key, esn_en=sa.esn_en, esn=sequence >> 32)
    header = sa.tunnel_header
    if header is None:
        protocol = 17 if sa.nat_t_header else 50
        header, _, _ = split_for_transport(parse(bytes.fromhex(question["front"])), protocol)
    return bytes(header / sa.nat_t_header / esp if sa.nat_t_header else header / esp).hex()


def make_packets(question):
    ends = question["source"], question["destination"]
    return [packets.packet(*ends, number, length).hex() for number, length in question["numbers"]]


def fragments(question):
    packet = parse(bytes.fromhex(question["packet"]))
    if packet.version == 4:
        packet.flags = 0
        return [bytes(part).hex() for part in fragment(packet, fragsize=40)]
    header, rest = packet.copy(), packet.payload
    header.remove_payload()
    del header.plen, header.nh
    whole = header / IPv6ExtHdrFragment(id=1, nh=packet.nh) / Raw(bytes(rest))
    return [bytes(part).hex() for part in fragment6(whole, 72)]


def datagram(question):
    """What else comes to the port of NAT traversal (RFC 3948 sections 2.2 and 2.3)."""
    what = NAT_KEEPALIVE() if question["kind"] == "keep-alive" else NON_ESP() / Raw(bytes(range(28)))
    ip = ip_class(question["source"])(src=question["source"], dst=question["destination"])
    return bytes(ip / UDP(sport=4500, dport=4500) / what).hex()


ANSWERS = {"packets": make_packets, "exchange": exchange, "forge": forge, "fragments": fragments,
           "datagram": datagram}

for line in sys.stdin:
    asked = json.loads(line)
    print(json.dumps(ANSWERS[asked["ask"]](asked)), flush=True)
