"""Security associations for scapy's IPsec layer, every AES-GCM variant of RFC 4106 included."""

import re

from cryptography.hazmat.primitives.ciphers import algorithms, modes
from scapy.layers import ipsec
from scapy.layers.inet import IP

# scapy's default AES-GCM goes through an interface that knows only 16-octet ICVs; its CryptAlgo does the
# truncated ones with the cipher modes that it uses for everything else.
ipsec.CRYPT_ALGOS["AES-GCM"] = ipsec.CryptAlgo(
    "AES-GCM", cipher=algorithms.AES, mode=modes.GCM, salt_size=4, block_size=1, iv_size=8,
    icv_size=16, format_mode_iv=ipsec._salt_format_mode_iv)


def association(sa):
    """The scapy association for {spi, key (hex), suite, esn, source, destination}."""
    icv_octets = int(re.fullmatch(r"aes\d{3}gcm(8|12|16)", sa["suite"]).group(1))
    return ipsec.SecurityAssociation(
        ipsec.ESP, spi=sa["spi"], crypt_algo="AES-GCM", crypt_key=bytes.fromhex(sa["key"]),
        crypt_icv_size=icv_octets, tunnel_header=IP(src=sa["source"], dst=sa["destination"]),
        esn_en=sa["esn"], esn=0)


def open_packet(sa, packet):
    """Opens an ESP packet; returns (payload, padding, next header). Raises if its ICV is wrong."""
    esp = packet[ipsec.ESP]
    plain = sa.crypt_algo.decrypt(
        sa, esp, sa.crypt_key, sa.crypt_icv_size, esn_en=sa.esn_en, esn=sa.esn)
    return bytes(plain.data), bytes(plain.padding), plain.nh
