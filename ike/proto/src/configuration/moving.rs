//! What is configured of peers that are sent to other gateways, and of gateways that fail.

use std::net::IpAddr;
use std::time::Duration;

use super::AddressMatch;
use crate::wire::GatewayIdentity;

/// Where a connection's peers are sent, and where we let ourselves be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moving {
    /// Where peers of this connection go once they have proved who they are (RFC 5685 section 6).
    pub redirect_to: Option<GatewayIdentity>,
    /// How long a peer that was sent elsewhere may take to leave; then we end its tunnel (RFC 5685 section 5). Zero:
    /// for ever.
    pub redirect_timeout: Duration,
    /// Gateways that we let ourselves be sent to; if there are none we do not say that we can be redirected.
    pub follow_redirects: Vec<AllowedGateway>,
    /// Whether we agree about Message IDs with a peer that has failed over, and it with us (RFC 6311).
    pub message_id_sync: bool,
    /// Whether a peer that has failed over may ask us to skip sequence numbers, and we it (RFC 6311).
    pub replay_counter_sync: bool,
    /// Whether tunnels are resumed (RFC 5723): as initiator we ask for tickets and come back by them, as responder we
    /// give them and take them.
    pub session_resumption: bool,
    /// How long a ticket of ours is good at most (RFC 5723 section 6.2); whole seconds, never none.
    pub ticket_lifetime: Duration,
    /// For how long after the peer has proved who it is its tunnel may be resumed, however often; zero: for ever.
    pub resumption_time: Duration,
}

impl Default for Moving {
    fn default() -> Self {
        Self {
            redirect_to: None,
            redirect_timeout: Duration::from_mins(1),
            follow_redirects: Vec::new(),
            message_id_sync: true,
            replay_counter_sync: true,
            session_resumption: false,
            ticket_lifetime: Duration::from_hours(1),
            resumption_time: Duration::from_hours(24),
        }
    }
}

/// A gateway, or a range of them, that may take the place of the configured one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedGateway {
    /// Its domain name in lower case, if it may be named so.
    pub name: Option<String>,
    /// Where it is. One with a name is at the first of these.
    pub addresses: AddressMatch,
}

impl Moving {
    /// Where a gateway is that we may go to; `None` if we may not. Names are not looked up: an answer of the DNS is no
    /// permission.
    pub fn allowed(&self, gateway: &GatewayIdentity) -> Option<IpAddr> {
        let mut allowed = self.follow_redirects.iter();
        match gateway {
            GatewayIdentity::Address(address) => {
                let is_in = |known: &AllowedGateway| known.addresses.contains(*address);
                allowed.any(is_in).then_some(*address)
            }
            GatewayIdentity::Name(name) => {
                let known = allowed.find(|known| known.name.as_ref() == Some(name));
                known.map(|known| known.addresses.first)
            }
        }
    }
}

/// A gateway that takes no new peers, or not as many.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Maintenance {
    /// Where they are sent, at once and before they say who they are (RFC 5685 section 3); `None`: nowhere.
    pub redirect_to: Option<GatewayIdentity>,
    /// IKE SAs from which on they are; 0: all.
    pub redirect_above: usize,
}

impl Maintenance {
    /// Where a new peer is sent while there are so many IKE SAs.
    pub fn gateway(&self, ike_sas: usize) -> Option<&GatewayIdentity> {
        self.redirect_to.as_ref().filter(|_| ike_sas >= self.redirect_above)
    }
}
