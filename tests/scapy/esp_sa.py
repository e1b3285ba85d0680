"""Security associations for scapy's IPsec layer: every suite of Baton's, both modes, UDP encapsulation."""

import re

from cryptography.hazmat.primitives.ciphers import algorithms, modes
from scapy.layers import ipsec
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6

# scapy's default AES-GCM goes through an interface that knows only 16-octet ICVs; its CryptAlgo does the
# truncated ones with the cipher modes that it uses for everything else.
ipsec.CRYPT_ALGOS["AES-GCM"] = ipsec.CryptAlgo(
    "AES-GCM", cipher=algorithms.AES, mode=modes.GCM, salt_size=4, block_size=1, iv_size=8,
    icv_size=16, format_mode_iv=ipsec._salt_format_mode_iv)

# scapy's encryption by the word in a suite's name, and its integrity with the octets of the key.
AEADS = {"gcm": "AES-GCM", "ccm": "AES-CCM", "gmac": "AES-NULL-GMAC"}
CIPHERS = {"": "AES-CBC", "ctr": "AES-CTR"}
INTEGRITY = {
    "sha1": ("HMAC-SHA1-96", 20),
    "aescmac": ("AES-CMAC-96", 16),
    "sha256": ("SHA2-256-128", 32),
    "sha384": ("SHA2-384-192", 48),
    "sha512": ("SHA2-512-256", 64),
}


class Suite:
    """What a suite's name means: scapy's algorithms, octets of cipher key and ICV (AEADs), of the integrity key."""

    def __init__(self, name):
        self.name, self.icv, self.integrity, self.integrity_key = name, None, None, 0
        cipher, _, integrity = name.partition("-")
        if integrity:
            self.integrity, self.integrity_key = INTEGRITY[integrity]
        if cipher == "null":
            self.encryption, self.cipher_key = "NULL", 0
        elif cipher == "chacha20poly1305":
            self.encryption, self.cipher_key, self.icv = "CHACHA20-POLY1305", 32, 16
        else:
            bits, kind, icv = re.fullmatch(r"aes(\d{3})([a-z]*)(\d*)", cipher).groups()
            self.encryption, self.cipher_key = (CIPHERS if integrity else AEADS)[kind], int(bits) // 8
            self.icv = None if integrity else int(icv or 16)
        self.salt = ipsec.CRYPT_ALGOS[self.encryption].salt_size
        self.iv = ipsec.CRYPT_ALGOS[self.encryption].iv_size


def suites():
    """The names of all suites."""
    for bits in (128, 192, 256):
        for kind in ("gcm", "ccm"):
            for icv in (8, 12, 16):
                yield f"aes{bits}{kind}{icv}"
        yield f"aes{bits}gmac"
        for kind in CIPHERS:
            for integrity in INTEGRITY:
                yield f"aes{bits}{kind}-{integrity}"
    yield "chacha20poly1305"
    for integrity in INTEGRITY:
        yield f"null-{integrity}"


def ip_class(address):
    """scapy's header for this address."""
    return IPv6 if ":" in address else IP


def association(sa):
    """The scapy association for {spi, key (hex), suite, esn, source, destination}, and, if they are not the ones of
    plain tunnel mode, {mode, encapsulated}."""
    suite, key = Suite(sa["suite"]), bytes.fromhex(sa["key"])
    material = suite.cipher_key + suite.salt
    is_tunnel = sa.get("mode", "tunnel") == "tunnel"
    header = ip_class(sa["source"])(src=sa["source"], dst=sa["destination"])
    return ipsec.SecurityAssociation(
        ipsec.ESP, spi=sa["spi"], crypt_algo=suite.encryption, crypt_key=key[:material],
        crypt_icv_size=suite.icv, auth_algo=suite.integrity, auth_key=key[material:],
        tunnel_header=header if is_tunnel else None,
        nat_t_header=UDP(sport=4500, dport=4500) if sa.get("encapsulated") else None,
        esn_en=sa["esn"], esn=0)


def open_packet(sa, packet):
    """Opens an ESP packet; returns (payload, padding, next header). Raises if its ICV is wrong."""
    plain = open_esp(sa, packet[ipsec.ESP], sa.esn)
    return bytes(plain.data), bytes(plain.padding), plain.nh


def open_esp(sa, esp, high):
    """The plain ESP packet of scapy's for an ESP packet whose sequence number's upper half is `high`."""
    sa.check_spi(esp)
    sa.auth_algo.verify(esp, sa.auth_key, esn_en=sa.esn_en, esn=high)
    icv = sa.crypt_icv_size or sa.crypt_algo.icv_size or sa.auth_algo.icv_size
    return sa.crypt_algo.decrypt(sa, esp, sa.crypt_key, icv, esn_en=sa.esn_en, esn=high)


def seal_packet(sa, packet, sequence):
    """The sealed packet with this sequence number, extended or not."""
    # scapy takes its own counter for a lower half of 0.
    sa.seq_num = sequence & 0xFFFFFFFF
    return sa.encrypt(packet, seq_num=sa.seq_num, esn=sequence >> 32)
