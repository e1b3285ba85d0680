//! MS-CHAPv2's computations (RFC 2759 section 8, RFC 3079 section 3).
//!
//! MD4, DES and SHA-1 are what the method is made of: whoever sees the exchange finds the password by trying 2^56 keys.
//! In IKE it runs inside of the encrypted IKE SA, to a responder that has proved who it is.

use des::cipher::{Array, BlockCipherEncrypt, KeyInit};
use md4::Md4;
use sha1::{Digest, Sha1};
use zeroize::Zeroizing;

use crate::eap::Msk;

/// A hash of the password, as good as the password itself.
pub(super) type PasswordHash = Zeroizing<[u8; 16]>;

/// `NtPasswordHash`: MD4 of the password in UTF-16 (RFC 2759 section 8.3).
pub(super) fn nt_password_hash(password: &[u8]) -> PasswordHash {
    let text = Zeroizing::new(String::from_utf8_lossy(password).into_owned());
    let mut units = Zeroizing::new(Vec::with_capacity(4 * text.len()));
    for unit in text.encode_utf16() {
        units.extend_from_slice(&unit.to_le_bytes());
    }
    md4(&units)
}

fn md4(octets: &[u8]) -> PasswordHash {
    Zeroizing::new(Md4::digest(octets).into())
}

fn sha1(parts: &[&[u8]]) -> Zeroizing<[u8; 20]> {
    let mut hash = Sha1::new();
    for part in parts {
        hash.update(part);
    }
    Zeroizing::new(hash.finalize().into())
}

/// `ChallengeHash` (RFC 2759 section 8.2). The name is without its domain.
pub(super) fn challenge_hash(peer: &[u8; 16], authenticator: &[u8; 16], name: &[u8]) -> [u8; 8] {
    let hash = sha1(&[peer, authenticator, name]);
    let mut challenge = [0; 8];
    challenge.copy_from_slice(&hash[..8]);
    challenge
}

/// `ChallengeResponse`: the challenge under three DES keys (RFC 2759 section 8.5).
pub(super) fn nt_response(challenge: [u8; 8], hash: &PasswordHash) -> [u8; 24] {
    let mut padded = Zeroizing::new([0; 21]);
    padded[..16].copy_from_slice(&hash[..]);
    let mut response = [0; 24];
    for (key, out) in padded.chunks_exact(7).zip(response.chunks_exact_mut(8)) {
        out.copy_from_slice(&des(key, challenge));
    }
    response
}

/// DES under 56 bits; the parity bits of the key mean nothing (RFC 2759 section 8.6).
fn des(key: &[u8], block: [u8; 8]) -> [u8; 8] {
    let bits = key.iter().fold(0_u64, |bits, octet| bits << 8 | u64::from(*octet));
    let mut spread = Zeroizing::new([0_u8; 8]);
    for (place, octet) in spread.iter_mut().enumerate() {
        *octet = ((bits >> (49 - 7 * place)) as u8) << 1;
    }
    let mut block = Array::from(block);
    des::Des::new(&Array::from(*spread)).encrypt_block(&mut block);
    block.into()
}

const SIGNING: &[u8] = b"Magic server to client signing constant";
const ITERATION: &[u8] = b"Pad to make it do more than one iteration";

/// `GenerateAuthenticatorResponse`, as the octets that are written in hexadecimal after `S=` (RFC 2759 section 8.7).
pub(super) fn authenticator_response(
    hash: &PasswordHash,
    response: &[u8; 24],
    challenge: [u8; 8],
) -> [u8; 20] {
    let twice = md4(&hash[..]);
    let digest = sha1(&[&twice[..], response, SIGNING]);
    *sha1(&[&digest[..], &challenge, ITERATION])
}

const MASTER: &[u8] = b"This is the MPPE Master Key";
const CLIENT_SENDS: &[u8] =
    b"On the client side, this is the send key; on the server side, it is the receive key.";
const SERVER_SENDS: &[u8] =
    b"On the client side, this is the receive key; on the server side, it is the send key.";

/// The MSK: what the server receives with, what it sends with (RFC 3079 section 3.3, 128 bits each), and zeros.
pub(super) fn msk(hash: &PasswordHash, response: &[u8; 24]) -> Msk {
    let twice = md4(&hash[..]);
    let digest = sha1(&[&twice[..], response, MASTER]);
    let mut key = Zeroizing::new([0; 64]);
    for (magic, out) in [CLIENT_SENDS, SERVER_SENDS].into_iter().zip(key.chunks_exact_mut(16)) {
        let derived = sha1(&[&digest[..16], &[0; 40], magic, &[0xf2; 40]]);
        out.copy_from_slice(&derived[..16]);
    }
    Msk::new(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex<const N: usize>(text: &str) -> [u8; N] {
        hex::decode(text).unwrap().try_into().unwrap()
    }

    /// RFC 2759 section 9.2.
    #[test]
    fn the_rfc_s_example_of_a_response() {
        let (authenticator, peer) =
            (hex("5b5d7c7d7b3f2f3e3c2c602132262628"), hex("21402324255e262a28295f2b3a337c7e"));
        let hash = nt_password_hash(b"clientPass");
        assert_eq!(*hash, hex("44ebba8d5312b8d611474411f56989ae"));
        assert_eq!(*md4(&hash[..]), hex("41c00c584bd2d91c4017a2a12fa59f3f"));
        let challenge = challenge_hash(&peer, &authenticator, b"User");
        assert_eq!(challenge, hex("d02e4386bce91226"));
        let response = nt_response(challenge, &hash);
        assert_eq!(response, hex("82309ecd8d708b5ea08faa3981cd83544233114a3d85d6df"));
        let answer = authenticator_response(&hash, &response, challenge);
        assert_eq!(answer, hex("407a5589115fd0d6209f510fe9c04566932cda56"));
    }

    /// RFC 3079 section 3.5.3: the master key and the send key of a client with 128 bits.
    #[test]
    fn the_rfc_s_example_of_keys() {
        let hash = nt_password_hash(b"clientPass");
        let response = hex("82309ecd8d708b5ea08faa3981cd83544233114a3d85d6df");
        let key = msk(&hash, &response);
        // RFC 3079 gives the server's send key.
        assert_eq!(key.octets()[16..32], hex::<16>("8b7cdc149b993a1ba118cb153f56dccb"));
        assert_eq!(key.octets()[32..], [0; 32]);
    }
}
