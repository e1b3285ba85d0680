"""Writes dataplane/tests/data/scapy-esp.txt: ESP packets of every suite, by scapy (ESP) and OpenSSL (pyca/cryptography).

    python3 tests/scapy/vectors.py > dataplane/tests/data/scapy-esp.txt

Everything follows from the suite's name, so that a second run writes the same file.
"""

import hashlib

from scapy.layers.inet import IP, UDP
from scapy.layers.ipsec import ESP
from scapy.packet import Raw

from esp_sa import Suite, association, suites

HEADER = """\
# One ESP packet in tunnel mode of each suite, without and with extended sequence numbers, sealed by scapy 2.8.0 with
# pyca/cryptography (OpenSSL). tests/scapy/vectors.py writes this file. A sequence number of 16 digits is an extended
# one. key: cipher key, salt or nonce, integrity key. inner: what the packet carries. packet: from the SPI to the ICV.
"""


def octets(label, length):
    """So many octets that follow from a label."""
    return hashlib.shake_256(label.encode()).digest(length)


def packet(name, extended):
    """One block of the file."""
    suite, label = Suite(name), f"{name} {extended}"
    sequence = int.from_bytes(octets(label + " sequence", 8 if extended else 4), "big")
    material = b"".join(octets(f"{label} {part}", n) for part, n in
                        (("cipher", suite.cipher_key), ("salt", suite.salt), ("integrity", suite.integrity_key)))
    sa = association({"spi": int.from_bytes(octets(label + " spi", 4), "big"), "suite": name, "key": material.hex(),
                      "esn": extended, "source": "192.0.2.1", "destination": "192.0.2.2"})
    length = octets(label + " length", 1)[0] % 100
    inner = IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=1, dport=2) / Raw(octets(label + " payload", length))
    inner = IP(bytes(inner))
    sealed = sa.encrypt(inner, seq_num=sequence & 0xFFFFFFFF, iv=octets(label + " iv", suite.iv) or None,
                        esn=sequence >> 32)
    return (f"\nsuite = {name}\nsequence = {sequence:0{16 if extended else 8}x}\nkey = {material.hex()}\n"
            f"inner = {bytes(inner).hex()}\npacket = {bytes(sealed[ESP]).hex()}")


print(HEADER, end="")
for suite in suites():
    for extended in (False, True):
        print(packet(suite, extended))
