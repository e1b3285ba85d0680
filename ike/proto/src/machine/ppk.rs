//! Postquantum preshared keys (RFC 8784): a secret that both ends have from elsewhere is mixed into the keys, so that
//! who breaks the key exchange some day still does not have them.

use super::core::Cx;
use super::init_sent::Initialised;
use super::message::{Message, notify};
use crate::configuration::Connection;
use crate::crypto::IkeKeys;
use crate::identity::Identity;
use crate::wire::{NotifyType, Payload};

/// PPK_ID_FIXED (RFC 8784 section 5.1): the octets name a key that both ends have.
const FIXED: u8 = 2;
/// Octets of a peer's PPK_ID that are looked at.
const MAX_IDENTITY: usize = 1024;

/// Keys with a postquantum preshared key in them, and whose it is.
pub(super) struct Mixed {
    pub(super) keys: IkeKeys,
    pub(super) identity: Identity,
}

/// Whether we say in IKE_SA_INIT that we can: who says so and then names no key is refused (RFC 8784 section 3).
pub(super) fn is_announced(cx: &Cx, connection: &Connection) -> bool {
    let identity = connection.ppk.identity.as_ref();
    identity.is_some_and(|identity| cx.core.credentials.postquantum_key(identity).is_some())
}

/// The keys for an IKE_AUTH request: mixed if both sides can and we have the key. Going on without is refused where the
/// connection requires it.
pub(super) fn for_request(
    cx: &Cx,
    connection: &Connection,
    begun: &Initialised,
    keys: &IkeKeys,
) -> Result<Option<Mixed>, String> {
    let identity = connection.ppk.identity.as_ref();
    let key = identity.and_then(|identity| cx.core.credentials.postquantum_key(identity));
    let problem = match (identity, key) {
        (Some(identity), Some(key)) if begun.uses_ppk => {
            let keys = keys.with_postquantum_key(key.octets());
            return Ok(Some(Mixed { keys, identity: identity.clone() }));
        }
        (None, _) => "ppk_required is set and ppk_id is not; set it".to_owned(),
        (Some(identity), None) => format!("there is no key \"{identity}\"; add [secrets.ppk-...] with it"),
        (Some(_), Some(_)) => {
            "the peer does not use postquantum preshared keys; add the key there".to_owned()
        }
    };
    if connection.ppk.is_required { Err(required(connection, &problem)) } else { Ok(None) }
}

fn required(connection: &Connection, problem: &str) -> String {
    format!("connection {} requires a postquantum preshared key: {problem}", connection.name)
}

impl Mixed {
    /// What says to the peer which key it is, as strongSwan writes it: the identity's octets without its type.
    pub(super) fn identification(&self) -> Option<Payload> {
        let mut data = vec![FIXED];
        data.extend(self.identity.to_wire()?.data);
        Some(notify(NotifyType::PPK_IDENTITY, data))
    }
}

/// The keys that an IKE_AUTH response says are used, of those that were offered; `None` is those without.
pub(super) fn of_response(
    connection: &Connection,
    offered: Option<Mixed>,
    message: &Message,
) -> Result<Option<Mixed>, String> {
    match (message.has(NotifyType::PPK_IDENTITY), offered) {
        (true, None) => Err("the peer uses a postquantum preshared key that we did not name".to_owned()),
        (true, offered) => Ok(offered),
        (false, _) if connection.ppk.is_required => {
            Err(required(connection, "the peer goes without; add the key there"))
        }
        (false, _) => Ok(None),
    }
}

/// The keys for an IKE_AUTH request that has come, by the key that the peer names. If that is none of ours, or not the
/// connection's, and the peer leaves the choice to us, its proof without the key takes the other one's place. Who has
/// agreed to use one has to name it (RFC 8784 section 3).
pub(super) fn of_request(
    cx: &Cx,
    connection: &Connection,
    begun: &Initialised,
    keys: &IkeKeys,
    message: &mut Message,
) -> Result<Option<Mixed>, String> {
    let named = message.notify(NotifyType::PPK_IDENTITY).filter(|_| begun.uses_ppk);
    let is_named = named.is_some();
    let identity = named.and_then(|notify| identity(&notify.data));
    let usable = identity.as_ref().filter(|identity| is_for(connection, identity));
    let key = usable.and_then(|identity| cx.core.credentials.postquantum_key(identity));
    if let (Some(identity), Some(key)) = (usable, key) {
        let keys = keys.with_postquantum_key(key.octets());
        return Ok(Some(Mixed { keys, identity: identity.clone() }));
    }
    if connection.ppk.is_required {
        return Err(required(connection, &unusable(connection, identity.as_ref())));
    }
    match (is_named, begun.uses_ppk) {
        (true, _) => without(message).map(|()| None),
        (false, true) => {
            Err("the peer has agreed to use a postquantum preshared key and names none; look at its log"
                .to_owned())
        }
        (false, false) => Ok(None),
    }
}

/// Whether a key may be a connection's: others are of other peers.
fn is_for(connection: &Connection, identity: &Identity) -> bool {
    connection.ppk.identity.as_ref().is_none_or(|own| own == identity)
}

/// Why the key that the peer names is not used.
fn unusable(connection: &Connection, identity: Option<&Identity>) -> String {
    match (identity, &connection.ppk.identity) {
        (Some(named), Some(own)) if named != own => {
            format!("the peer names \"{named}\" and ppk_id is \"{own}\"; set the same at both ends")
        }
        (Some(named), _) => format!("there is no key \"{named}\"; add [secrets.ppk-...] with it"),
        (None, _) => "the peer names none; set ppk_id there".to_owned(),
    }
}

/// NO_PPK_AUTH has the data of an AUTH payload of the same method.
fn without(message: &mut Message) -> Result<(), String> {
    let data = message.notify(NotifyType::NO_PPK_AUTH).map(|notify| notify.data.clone());
    match (&mut message.authentication, data) {
        (Some((_, proof)), Some(data)) => {
            *proof = data;
            Ok(())
        }
        _ => Err("the peer requires a postquantum preshared key that we do not have; add [secrets.ppk-...]"
            .to_owned()),
    }
}

/// The answer that the key is used.
pub(super) fn agreed(mixed: Option<&Mixed>) -> Option<Payload> {
    mixed.map(|_| notify(NotifyType::PPK_IDENTITY, Vec::new()))
}

/// As a peer writes it; who claims a pattern would mean any key.
fn identity(data: &[u8]) -> Option<Identity> {
    let (kind, name) = data.split_first()?;
    if *kind != FIXED || name.is_empty() || name.len() > MAX_IDENTITY {
        return None;
    }
    let parsed = std::str::from_utf8(name).ok().and_then(|text| Identity::parse(text).ok());
    let identity = parsed.unwrap_or_else(|| Identity::KeyId(name.to_vec()));
    (!identity.is_pattern()).then_some(identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peers_key_is_named_by_its_identity_or_by_octets() {
        let fqdn = Identity::Fqdn("key.example".to_owned());
        assert_eq!(identity(b"\x02key.example"), Some(fqdn));
        assert_eq!(identity(b"\x02a@b.example"), Some(Identity::Email("a@b.example".to_owned())));
        assert_eq!(identity(b"\x02\xff\x00"), Some(Identity::KeyId(vec![0xff, 0])));
        for none in [&b""[..], b"\x02", b"\x01opaque", b"\x02*.example", b"\x02%any"] {
            assert_eq!(identity(none), None, "{none:?}");
        }
        assert_eq!(identity(&[2; MAX_IDENTITY + 2]), None);
    }
}
