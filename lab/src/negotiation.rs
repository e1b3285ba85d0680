//! One description of what two ends are to negotiate, from which each end's configuration is written.

use std::net::IpAddr;

use crate::charon::Section;
use crate::pki::Certified;

/// The name of the connection at both ends.
pub const CONNECTION: &str = "peer";
/// The name of its Child SA at both ends.
pub const CHILD: &str = "net";
/// The name of the pool at the responder.
pub const POOL: &str = "guests";

/// Who sets up the IKE SA, and who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Sends the first message.
    Initiator,
    /// Answers it.
    Responder,
}

impl Side {
    /// The other side.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Initiator => Self::Responder,
            Self::Responder => Self::Initiator,
        }
    }
}

/// One end.
#[derive(Clone, Debug)]
pub struct Party {
    /// Its outer address.
    pub address: IpAddr,
    /// Who it says it is.
    pub identity: String,
    /// The networks behind it. Empty: itself, or the address that it is given.
    pub networks: Vec<String>,
    /// Its certificate, where certificates authenticate.
    pub certified: Option<Certified>,
}

/// Inner addresses that the responder gives.
#[derive(Clone, Debug)]
pub struct Lease {
    /// The pool, such as `10.99.0.0/24`.
    pub addresses: String,
    /// The DNS servers that go with it.
    pub dns: Vec<IpAddr>,
}

/// How the ends authenticate each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// By this secret.
    PreSharedKey(String),
    /// By certificates.
    Certificates,
}

/// What two ends are to negotiate.
#[derive(Clone, Debug)]
pub struct Negotiation {
    /// How they authenticate each other.
    pub authentication: Authentication,
    /// IKE proposals as strongSwan writes them.
    pub ike_proposals: Vec<String>,
    /// ESP proposals as strongSwan writes them.
    pub esp_proposals: Vec<String>,
    /// Who sends the first message.
    pub initiator: Party,
    /// Who answers.
    pub responder: Party,
    /// Addresses for the initiator.
    pub lease: Option<Lease>,
    /// Further options of the connection, at both ends.
    pub connection_options: Section,
    /// Options of the initiator's connection that go before all others.
    pub initiator_options: Section,
    /// The same of the responder's.
    pub responder_options: Section,
    /// Further options of the Child SA, at both ends.
    pub child_options: Section,
    /// Options of Baton's connection that go before all others.
    pub baton_options: Section,
    /// Further options of Baton's section `[ike]`.
    pub daemon_options: Section,
    /// Further secrets of both ends.
    pub secrets: Section,
}

impl Negotiation {
    /// One end.
    pub fn party(&self, side: Side) -> &Party {
        self.parties(side).0
    }

    /// The ends in the order own, other.
    fn parties(&self, side: Side) -> (&Party, &Party) {
        match side {
            Side::Initiator => (&self.initiator, &self.responder),
            Side::Responder => (&self.responder, &self.initiator),
        }
    }

    /// One end's connection, with the options' names that strongSwan gave them.
    pub fn connection(&self, side: Side) -> Section {
        let (own, other) = self.parties(side);
        let asks = self.lease.is_some() && side == Side::Initiator;
        let gives = self.lease.is_some() && side == Side::Responder;
        Section::new()
            .set("version", 2)
            .set_list("local_addrs", &[own.address])
            .set_list("remote_addrs", &[other.address])
            .set_list("proposals", &self.ike_proposals)
            .set_list("vips", if asks { self.any_address() } else { &[] })
            .set_list("pools", if gives { &[POOL] } else { &[] })
            .merged(&self.connection_options)
            .with("local", self.local(own))
            .with("remote", Section::new().set("auth", self.method()).set("id", &other.identity))
            .with("children", Section::new().with(CHILD, self.child(own, other)))
            .merged(match side {
                Side::Initiator => &self.initiator_options,
                Side::Responder => &self.responder_options,
            })
    }

    /// What the initiator asks for: an address of the pool's IP version.
    fn any_address(&self) -> &'static [&'static str] {
        let is_ipv6 = self.lease.as_ref().is_some_and(|lease| lease.addresses.contains(':'));
        if is_ipv6 { &["::"] } else { &["0.0.0.0"] }
    }

    fn local(&self, own: &Party) -> Section {
        let certificate = own.certified.as_ref().map(|certified| certified.certificate.clone());
        let name =
            certificate.as_deref().and_then(|path| path.file_name()).map(|name| name.to_string_lossy());
        Section::new().set("auth", self.method()).set("id", &own.identity).set_list("certs", name.as_slice())
    }

    fn method(&self) -> &'static str {
        match self.authentication {
            Authentication::PreSharedKey(_) => "psk",
            Authentication::Certificates => "pubkey",
        }
    }

    fn child(&self, own: &Party, other: &Party) -> Section {
        Section::new()
            .set_list("local_ts", &own.networks)
            .set_list("remote_ts", &other.networks)
            .set_list("esp_proposals", &self.esp_proposals)
            .merged(&self.child_options)
    }

    /// One end's sections of Baton's configuration.
    pub fn toml(&self, side: Side) -> String {
        // It speaks version 2 alone.
        let connection = self.connection(side).without("version").merged(&self.baton_options);
        let mut all = self.swanctl(side).with("connections", Section::new().with(CONNECTION, connection));
        if let Authentication::PreSharedKey(secret) = &self.authentication {
            let identities = [&self.initiator.identity, &self.responder.identity];
            let entry = Section::new().set_list("id", &identities).set("secret", secret);
            all = all.with("secrets", Section::new().with("both", entry).merged(&self.secrets));
        }
        all.with("ike", self.daemon_options.clone()).to_toml()
    }

    /// One end's whole swanctl.conf.
    pub fn swanctl(&self, side: Side) -> Section {
        let connections = Section::new().with(CONNECTION, self.connection(side));
        let mut all = Section::new().with("connections", connections);
        if let Some(lease) = self.lease.as_ref().filter(|_| side == Side::Responder) {
            let pool = Section::new().set("addrs", &lease.addresses).set_list("dns", &lease.dns);
            all = all.with("pools", Section::new().with(POOL, pool));
        }
        if let Authentication::PreSharedKey(secret) = &self.authentication {
            let (own, other) = (&self.initiator.identity, &self.responder.identity);
            let entry = Section::new().set("id-1", own).set("id-2", other).set("secret", secret);
            all = all.with("secrets", Section::new().with("ike-1", entry).merged(&self.secrets));
        } else {
            all = all.with("secrets", self.secrets.clone());
        }
        all
    }
}
