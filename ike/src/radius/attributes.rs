//! Who asks for whom, in RADIUS's words.

use std::net::SocketAddr;

use baton_ike_proto::Path;
use baton_ike_proto::host::{Account, TunnelName};
use baton_radius::attribute::{Attributes, FRAMED_ADDRESS, Kind, NAS_ADDRESS};

/// Of a virtual terminal (RFC 2865 section 5.41), as other IPsec gateways say.
const VIRTUAL: u32 = 5;
/// A service that carries packets (RFC 2865 section 5.6).
const FRAMED: u32 = 2;
/// EAP packets of this size, and what goes around them, pass everywhere (RFC 3579 section 2.4).
const MTU: u32 = 1280;

/// How outer addresses are written.
pub(super) struct Station {
    pub(super) with_port: bool,
}

impl Station {
    /// What is the same in everything that is said of a tunnel.
    pub(super) fn attributes(&self, tunnel: &TunnelName, connection: &str, path: &Path) -> Attributes {
        let number = TunnelName::parse(tunnel.as_str()).map_or(0, |(_, number)| number);
        let mut all = Attributes::default();
        all.add_address(NAS_ADDRESS, path.local.ip())
            .add_number(Kind::NAS_PORT, number)
            .add_text(Kind::NAS_PORT_ID, connection)
            .add_number(Kind::NAS_PORT_TYPE, VIRTUAL)
            .add_number(Kind::SERVICE_TYPE, FRAMED)
            .add_text(Kind::CALLED_STATION_ID, &self.id(path.local))
            .add_text(Kind::CALLING_STATION_ID, &self.id(path.remote));
        all
    }

    /// As strongSwan writes it: `192.0.2.1[4500]`.
    pub(super) fn id(&self, end: SocketAddr) -> String {
        if self.with_port { format!("{}[{}]", end.ip(), end.port()) } else { end.ip().to_string() }
    }
}

pub(super) fn add_user(all: &mut Attributes, user: &[u8], session: &str) {
    all.add(Kind::USER_NAME, user).add_text(Kind::ACCT_SESSION_ID, session).add_number(Kind::FRAMED_MTU, MTU);
}

pub(super) fn add_session(all: &mut Attributes, account: &Account) {
    all.add(Kind::USER_NAME, &account.session.user);
    for class in &account.session.class {
        all.add(Kind::CLASS, class);
    }
    for address in &account.virtual_addresses {
        all.add_address(FRAMED_ADDRESS, *address);
    }
}
