"""IP packets of many kinds, for ESP to carry."""

from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP, IPOption_Router_Alert
from scapy.layers.inet6 import (
    ICMPv6EchoRequest, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrHopByHop, PadN, RouterAlert)
from scapy.packet import Raw

HOP_BY_HOP = IPv6ExtHdrHopByHop(options=[RouterAlert(), PadN(optdata=b"")])
DESTINATION = IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 10)])
PORTS = {"sport": 4000, "dport": 7}


def upper_layers(family):
    """What may stand behind an IP header, extension headers first."""
    tcp, udp = TCP(flags="PA", seq=1, ack=2, **PORTS), UDP(**PORTS)
    if family == 4:
        return [udp, tcp, ICMP(id=1, seq=2), UDP(chksum=0, **PORTS)]
    return [udp, tcp, ICMPv6EchoRequest(id=1, seq=2), HOP_BY_HOP / udp, DESTINATION / tcp,
            HOP_BY_HOP / DESTINATION / udp]


def header(source, destination, number):
    """A header whose fields follow from the number."""
    traffic_class, hops = number * 37 % 256, 64 + number % 190
    if ":" in source:
        return IPv6(src=source, dst=destination, tc=traffic_class, fl=number * 7919 % (1 << 20), hlim=hops)
    options = [[], [], [IPOption_NOP(), IPOption_NOP()], [IPOption_Router_Alert()]][number // 4 % 4]
    return IP(src=source, dst=destination, tos=traffic_class, ttl=hops, id=number, options=options,
              flags="DF" if number % 3 else 0)


def packet(source, destination, number, length):
    """The octets of packet `number`, with `length` octets behind the upper layer's header."""
    front = header(source, destination, number)
    kinds = upper_layers(front.version)
    return bytes(front / kinds[number % len(kinds)] / Raw(bytes((number + i) % 251 for i in range(length))))
