//! What is shared with a server, and what MD5 does with it: authenticators (RFC 2865 section 3), Message-Authenticator
//! (RFC 3579 section 3.2) and hidden keys (RFC 2548 section 2.4.2).

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use zeroize::{Zeroize, Zeroizing};

use crate::attribute::Kind;
use crate::packet::{AUTHENTICATOR, Draft, HEADER, Packet};

/// The authenticator of packets that have none yet.
const ZEROS: [u8; 16] = [0; 16];

/// A shared secret, wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

impl From<Vec<u8>> for Secret {
    fn from(secret: Vec<u8>) -> Self {
        Self(Zeroizing::new(secret))
    }
}

/// Why a packet is not of who shares the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forged {
    /// The authenticator is wrong.
    Authenticator,
    /// The Message-Authenticator is wrong, or there are several.
    Mac,
    /// There is no Message-Authenticator, and there has to be one (CVE-2024-3596).
    NoMac,
}

/// Whether an answer has to have a Message-Authenticator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    /// It has.
    Mac,
    /// It may; one that is there has to be right.
    AuthenticatorAlone,
}

impl Secret {
    /// Takes it over.
    pub fn new(secret: Zeroizing<Vec<u8>>) -> Self {
        Self(secret)
    }

    fn md5<'a>(&self, parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 16] {
        let mut hash = Md5::new();
        parts.into_iter().for_each(|part| hash.update(part));
        hash.update(&*self.0);
        hash.finalize().into()
    }

    fn hmac<'a>(&self, parts: impl IntoIterator<Item = &'a [u8]>) -> Hmac<Md5> {
        // Keys of every length are keys.
        let key = self.0.as_slice();
        let mut mac =
            <Hmac<Md5> as KeyInit>::new_from_slice(key).unwrap_or_else(|_| Hmac::new(&[0; 64].into()));
        parts.into_iter().for_each(|part| mac.update(part));
        mac
    }

    fn fill_mac(&self, draft: &mut Draft) {
        let mac: [u8; 16] = self.hmac([draft.octets()]).finalize().into_bytes().into();
        if let Some(place) = draft.mac_mut() {
            place.copy_from_slice(&mac);
        }
    }

    /// An Access-Request, whose authenticator is random (RFC 3579 section 3.2).
    pub fn sign_access(&self, mut draft: Draft) -> Vec<u8> {
        self.fill_mac(&mut draft);
        draft.finish()
    }

    /// An Accounting-Request, whose authenticator is a hash of it (RFC 2866 section 3).
    pub fn sign_request(&self, mut draft: Draft) -> (Vec<u8>, [u8; 16]) {
        draft.set_authenticator(&ZEROS);
        let authenticator = self.md5([draft.octets()]);
        draft.set_authenticator(&authenticator);
        (draft.finish(), authenticator)
    }

    /// An answer of ours, in which the request's authenticator stands, with a Message-Authenticator (RFC 5176 section
    /// 3.3).
    pub fn sign_response(&self, mut draft: Draft) -> Vec<u8> {
        self.fill_mac(&mut draft);
        let authenticator = self.md5([draft.octets()]);
        draft.set_authenticator(&authenticator);
        draft.finish()
    }

    /// Whether a response answers a request with that authenticator.
    ///
    /// # Errors
    /// [`Forged`].
    pub fn check_response(&self, packet: &Packet, request: &[u8; 16], demand: Demand) -> Result<(), Forged> {
        let octets = packet.octets();
        let (head, rest) = (&octets[..AUTHENTICATOR.start], &octets[HEADER..]);
        if !is_same(&self.md5([head, request.as_slice(), rest]), &octets[AUTHENTICATOR]) {
            return Err(Forged::Authenticator);
        }
        self.check_mac(packet, request, demand)
    }

    /// Whether a request of a server's, such as a Disconnect-Request, is authentic (RFC 5176 section 2.3).
    ///
    /// # Errors
    /// [`Forged`].
    pub fn check_request(&self, packet: &Packet) -> Result<(), Forged> {
        self.check_response(packet, &ZEROS, Demand::AuthenticatorAlone)
    }

    /// RFC 3579 section 3.2: over the packet with the request's authenticator and zeros in the place of the MAC.
    fn check_mac(&self, packet: &Packet, request: &[u8; 16], demand: Demand) -> Result<(), Forged> {
        let mut macs = packet.attributes().filter(|attribute| attribute.kind == Kind::MESSAGE_AUTHENTICATOR);
        let mac = match (macs.next(), macs.next()) {
            (None, _) if demand == Demand::AuthenticatorAlone => return Ok(()),
            (None, _) => return Err(Forged::NoMac),
            (Some(mac), None) if mac.value.len() == 16 => mac,
            _ => return Err(Forged::Mac),
        };
        let octets = packet.octets();
        let (before, after) = (&octets[HEADER..mac.at], &octets[mac.at + 16..]);
        let parts = [&octets[..AUTHENTICATOR.start], request.as_slice(), before, &ZEROS, after];
        self.hmac(parts).verify_slice(mac.value).map_err(|_| Forged::Mac)
    }

    /// A key that an answer hides: MS-MPPE-Send-Key, MS-MPPE-Recv-Key (RFC 2548 section 2.4.2). `None` if it is none.
    pub(crate) fn unhide(&self, request: &[u8; 16], value: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (salt, hidden) = value.split_at_checked(2)?;
        if hidden.is_empty() || !hidden.len().is_multiple_of(16) {
            return None;
        }
        let mut clear = Zeroizing::new(Vec::with_capacity(hidden.len()));
        let mut before: Vec<u8> = [request.as_slice(), salt].concat();
        for block in hidden.chunks_exact(16) {
            let mut pad: [u8; 16] = Md5::new().chain_update(&*self.0).chain_update(&before).finalize().into();
            clear.extend(block.iter().zip(&pad).map(|(hidden, pad)| hidden ^ pad));
            pad.zeroize();
            before = block.to_vec();
        }
        let (length, rest) = clear.split_first()?;
        rest.get(..usize::from(*length)).map(|key| Zeroizing::new(key.to_vec()))
    }
}

/// In a time that does not tell where they differ.
fn is_same(ours: &[u8; 16], theirs: &[u8]) -> bool {
    theirs.len() == 16 && ours.iter().zip(theirs).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}
