"""Plays the peer of a gateway: seals UDP datagrams, sends them, opens the gateway's sealed answers.

stdin:  {"interface", "gateway_mac", "server": [address, port], "sizes": [...],
         "tunnels": [{"client": address, "outbound": association, "inbound": association[, "server"]}, ...]}
stdout: {"answered": n, "findings": [sentence, ...]}
"""

import json
import sys
import time

from scapy.config import conf
from scapy.layers.inet import IP, UDP
from scapy.layers.ipsec import ESP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from esp_sa import association, ip_class, open_packet

PATIENCE_SECONDS = 5


def datagram(client, server, number, size):
    payload = bytes((number + i) % 251 for i in range(size))
    ip = ip_class(client)
    fields = {"id": number, "flags": "DF"} if ip is IP else {}
    packet = ip(src=client, dst=server[0], **fields) / UDP(sport=4000, dport=server[1]) / Raw(payload)
    return ip(bytes(packet)), payload


def answer(wire, spi):
    """The next ESP packet with `spi` that comes in, or None."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        try:
            frame = wire.recv()
        except TimeoutError:
            continue
        if frame is not None and ESP in frame and frame[ESP].spi == spi:
            packet = frame.payload
            length = packet.len if packet.version == 4 else 40 + packet.plen
            return type(packet)(bytes(packet)[:length])
    return None


def exchange(wire, question, tunnel):
    """Sentences about what went wrong in one tunnel, one or none per size."""
    ours, theirs = association(tunnel["outbound"]), association(tunnel["inbound"])
    server, name = tunnel.get("server", question["server"]), tunnel["outbound"]["suite"]
    for number, size in enumerate(question["sizes"], 1):
        packet, payload = datagram(tunnel["client"], server, number, size)
        sealed = ours.encrypt(packet, seq_num=number)
        wire.send(Ether(dst=question["gateway_mac"]) / sealed)
        received = answer(wire, theirs.spi)
        if received is None:
            yield f"{name}: no answer to {size} octets"
            continue
        inside, padding, next_header = open_packet(theirs, received)
        inner = type(packet)(inside)
        if inner[UDP].payload and bytes(inner[UDP].payload) != payload or len(inner[UDP]) != 8 + size:
            yield f"{name}: the answer to {size} octets differs"
        if (inner.src, inner.dst) != (server[0], tunnel["client"]):
            yield f"{name}: the answer goes from {inner.src} to {inner.dst}"
        if next_header != (4 if isinstance(inner, IP) else 41) or padding != bytes(range(1, len(padding) + 1)):
            yield f"{name}: next header {next_header}, padding {padding.hex()}"
        header = theirs.tunnel_header
        if type(received) is not type(header) or (received.src, received.dst) != (header.src, header.dst):
            yield f"{name}: the answer comes from {received.src} to {received.dst}"
        if (UDP in received) != (theirs.nat_t_header is not None):
            yield f"{name}: the answer is {received.summary()}"
        if received[ESP].seq != number:
            yield f"{name}: answer {number} has sequence {received[ESP].seq}"


def main():
    question = json.load(sys.stdin)
    conf.verb = 0
    wire = conf.L2socket(iface=question["interface"], filter="esp or udp port 4500")
    wire.ins.settimeout(1.0)
    findings = []
    for tunnel in question["tunnels"]:
        findings += exchange(wire, question, tunnel)
    expected = len(question["tunnels"]) * len(question["sizes"])
    json.dump({"answered": expected - len(findings), "findings": findings[:20]}, sys.stdout)


main()
