"""Writes dataplane/tests/data/scapy-esp.txt: ESP packets of every suite, by scapy (ESP) and OpenSSL (pyca/cryptography).

    python3 tests/scapy/vectors.py > dataplane/tests/data/scapy-esp.txt

Everything follows from the suite's name, so that a second run writes the same file.
"""

import hashlib

from scapy.layers.inet import IP, UDP
from scapy.layers.ipsec import ESP, SecurityAssociation
from scapy.packet import Raw

ENCRYPTION = {"gcm": "AES-GCM", "ccm": "AES-CCM", "gmac": "AES-NULL-GMAC", "ctr": "AES-CTR", "": "AES-CBC"}
INTEGRITY = {
    "sha1": ("HMAC-SHA1-96", 20),
    "aescmac": ("AES-CMAC-96", 16),
    "sha256": ("SHA2-256-128", 32),
    "sha384": ("SHA2-384-192", 48),
    "sha512": ("SHA2-512-256", 64),
}
SALT = {"AES-GCM": 4, "AES-CCM": 3, "AES-NULL-GMAC": 4, "AES-CTR": 4, "CHACHA20-POLY1305": 4}
HEADER = """\
# One ESP packet in tunnel mode of each suite, without and with extended sequence numbers, sealed by scapy 2.8.0 with
# pyca/cryptography (OpenSSL). tests/scapy/vectors.py writes this file. A sequence number of 16 digits is an extended
# one. key: cipher key, salt or nonce, integrity key. inner: what the packet carries. packet: from the SPI to the ICV.
"""


def suites():
    """Name, scapy's encryption, octets of cipher key, octets of ICV (AEAD), scapy's integrity and octets of its key."""
    for octets in (16, 24, 32):
        for kind in ("gcm", "ccm"):
            for icv in (8, 12, 16):
                yield f"aes{octets * 8}{kind}{icv}", ENCRYPTION[kind], octets, icv, None, 0
        yield f"aes{octets * 8}gmac", ENCRYPTION["gmac"], octets, 16, None, 0
        for kind in ("", "ctr"):
            for name, (algorithm, key) in INTEGRITY.items():
                yield f"aes{octets * 8}{kind}-{name}", ENCRYPTION[kind], octets, None, algorithm, key
    yield "chacha20poly1305", "CHACHA20-POLY1305", 32, 16, None, 0
    for name, (algorithm, key) in INTEGRITY.items():
        yield f"null-{name}", "NULL", 0, None, algorithm, key


def octets(label, length):
    """So many octets that follow from a label."""
    return hashlib.shake_256(label.encode()).digest(length)


def packet(name, encryption, key, icv, integrity, integrity_key, extended):
    """One block of the file."""
    label = f"{name} {extended}"
    sequence = int.from_bytes(octets(label + " sequence", 8 if extended else 4), "big")
    material = [octets(f"{label} {part}", n) for part, n in
                (("cipher", key), ("salt", SALT.get(encryption, 0)), ("integrity", integrity_key))]
    sa = SecurityAssociation(
        ESP, spi=int.from_bytes(octets(label + " spi", 4), "big"), crypt_algo=encryption,
        crypt_key=material[0] + material[1], crypt_icv_size=icv, auth_algo=integrity, auth_key=material[2],
        tunnel_header=IP(src="192.0.2.1", dst="192.0.2.2"))
    length = octets(label + " length", 1)[0] % 100
    inner = IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=1, dport=2) / Raw(octets(label + " payload", length))
    inner = IP(bytes(inner))
    iv = octets(label + " iv", {"NULL": 0, "AES-CBC": 16}.get(encryption, 8))
    sealed = bytes(sa.encrypt(inner, seq_num=sequence & 0xFFFFFFFF, iv=iv or None, esn_en=extended,
                              esn=sequence >> 32)[ESP])
    if encryption == "AES-GCM":  # Scapy sends the whole tag; a shorter one is its front (NIST SP 800-38D, section 7.1).
        sealed = sealed[:len(sealed) - 16 + icv]
    return (f"\nsuite = {name}\nsequence = {sequence:0{16 if extended else 8}x}\nkey = {b''.join(material).hex()}\n"
            f"inner = {bytes(inner).hex()}\npacket = {sealed.hex()}")


print(HEADER, end="")
for suite in suites():
    for extended in (False, True):
        print(packet(*suite, extended))
