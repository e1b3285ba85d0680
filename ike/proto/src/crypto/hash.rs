//! Hashes and MACs that keep nothing secret from the peer.

use std::net::{IpAddr, SocketAddr};

use aws_lc_rs::{digest, hmac};

/// What NAT_DETECTION_SOURCE_IP and NAT_DETECTION_DESTINATION_IP say of an address and port: SHA-1 over both SPIs,
/// the address and the port (RFC 7296 section 2.23).
pub fn nat_detection_hash(initiator_spi: u64, responder_spi: u64, address: SocketAddr) -> [u8; 20] {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(&initiator_spi.to_be_bytes());
    context.update(&responder_spi.to_be_bytes());
    match address.ip() {
        IpAddr::V4(ip) => context.update(&ip.octets()),
        IpAddr::V6(ip) => context.update(&ip.octets()),
    }
    context.update(&address.port().to_be_bytes());
    let mut hash = [0; 20];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// HMAC-SHA-256 over the parts' concatenation, for cookies (RFC 7296 section 2.6). The parts' lengths must be fixed,
/// or be parts of the message themselves.
pub fn cookie_mac(secret: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let mut context = hmac::Context::with_key(&key);
    for part in parts {
        context.update(part);
    }
    let mut mac = [0; 32];
    mac.copy_from_slice(context.sign().as_ref());
    mac
}
