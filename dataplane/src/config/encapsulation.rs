//! ESP in UDP (RFC 3948).

use super::Encapsulation;
use super::field::integer;
use super::reader::Section;

/// The port of both ends unless a NAT changed it (RFC 3948 section 2.1).
const PORT: u64 = 4500;
/// Seconds of silence before a keep-alive (RFC 3948 section 4).
const KEEPALIVE: u64 = 20;
/// Keys that mean something to UDP alone.
const KEYS: [&str; 3] = ["remote_port", "follow_peer", "keepalive_seconds"];

/// Something was not as it has to be, and that was told.
pub(super) struct Refused;

/// `None` is plain ESP.
pub(super) fn read(section: &Section<'_, '_>) -> Result<Option<Encapsulation>, Refused> {
    let words = [("none", false), ("udp", true)];
    let is_udp = section.get("encapsulation").map_or(Some(false), |item| item.word(&words));
    if is_udp.ok_or(Refused)? {
        return read_udp(section).map(Some).ok_or(Refused);
    }
    refuse_lonely_keys(section);
    Ok(None)
}

fn read_udp(section: &Section<'_, '_>) -> Option<Encapsulation> {
    let port = integer(section, "remote_port", 1..=u64::from(u16::MAX), PORT);
    let follows_peer = section.get("follow_peer").map_or(Some(true), |item| item.boolean());
    let keepalive = integer(section, "keepalive_seconds", 0..=3600, KEEPALIVE);
    Some(Encapsulation {
        remote_port: u16::try_from(port?).ok()?,
        follows_peer: follows_peer?,
        keepalive_seconds: u16::try_from(keepalive?).ok()?,
    })
}

fn refuse_lonely_keys(section: &Section<'_, '_>) {
    for item in KEYS.into_iter().filter_map(|key| section.get(key)) {
        item.report("this is for ESP in UDP only", "remove it, or add encapsulation = \"udp\"");
    }
}
