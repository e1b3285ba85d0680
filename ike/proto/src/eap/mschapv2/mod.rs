//! EAP-MSCHAPv2 (draft-kamath-pppext-eap-mschapv2, RFC 2759): both ends know a password.

mod hashes;
mod packet;
mod peer;
mod server;
#[cfg(test)]
mod tests;

pub(super) use peer::Peer;
pub(super) use server::Server;

/// The part of a name that is hashed: without the domain in front (RFC 2759 section 4).
fn without_domain(name: &[u8]) -> &[u8] {
    let start = name.iter().rposition(|octet| *octet == b'\\').map_or(0, |at| at + 1);
    &name[start..]
}
