//! A request: which session, and what is to become of it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{Cause, Policy};
use crate::attribute::{Attributes, Kind, ipv4, ipv6, number};
use crate::packet::{Attribute, Code, Packet};

/// What a server asks.
#[derive(Debug, Clone)]
pub struct Request {
    /// Where it comes from.
    pub source: SocketAddr,
    /// Which session.
    pub query: Query,
    /// What is to become of it.
    pub order: Order,
    pub(super) identifier: u8,
    pub(super) authenticator: [u8; 16],
    pub(super) proxy_states: Attributes,
}

/// What is to become of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// It ends.
    Disconnect,
    /// It goes on under other rules.
    Change(Change),
}

/// Other rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Change {
    /// How long the session may last from its beginning.
    pub session_timeout: Option<Duration>,
    /// How often it is accounted for.
    pub interim_interval: Option<Duration>,
}

/// Which sessions: those that fit all that is said (RFC 5176 section 3).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Query {
    /// User-Name.
    pub user: Option<Vec<u8>>,
    /// Acct-Session-Id.
    pub session: Option<Vec<u8>>,
    /// Framed-IP-Address and Framed-IPv6-Address.
    pub addresses: Vec<IpAddr>,
    /// Calling-Station-Id.
    pub calling: Option<Vec<u8>>,
    /// NAS-Port-Id.
    pub port: Option<Vec<u8>>,
}

impl Query {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Request {
    pub(super) fn of(source: SocketAddr, packet: &Packet) -> Self {
        let mut proxy_states = Attributes::default();
        packet.all(Kind::PROXY_STATE).for_each(|value| {
            proxy_states.add(Kind::PROXY_STATE, value);
        });
        Self {
            source,
            query: Query::default(),
            order: match packet.code() {
                Code::COA_REQUEST => Order::Change(Change::default()),
                _ => Order::Disconnect,
            },
            identifier: packet.identifier(),
            authenticator: packet.authenticator(),
            proxy_states,
        }
    }

    pub(super) fn answer_code(&self, is_done: bool) -> Code {
        match (&self.order, is_done) {
            (Order::Disconnect, true) => Code::DISCONNECT_ACK,
            (Order::Disconnect, false) => Code::DISCONNECT_NAK,
            (Order::Change(_), true) => Code::COA_ACK,
            (Order::Change(_), false) => Code::COA_NAK,
        }
    }

    /// What is not understood refuses the whole (RFC 5176 section 2.3).
    pub(super) fn read(&mut self, packet: &Packet, policy: &Policy) -> Result<(), Cause> {
        for attribute in packet.attributes() {
            self.read_one(&attribute, policy)?;
        }
        let changes_nothing = matches!(self.order, Order::Change(change) if change == Change::default());
        if self.query.is_empty() || changes_nothing {
            return Err(Cause::MissingAttribute);
        }
        Ok(())
    }

    fn read_one(&mut self, attribute: &Attribute, policy: &Policy) -> Result<(), Cause> {
        let value = attribute.value;
        let address = |address: Option<IpAddr>| address.ok_or(Cause::InvalidRequest);
        match attribute.kind {
            Kind::MESSAGE_AUTHENTICATOR | Kind::EVENT_TIMESTAMP | Kind::PROXY_STATE => {}
            Kind::NAS_IDENTIFIER => {
                let is_ours = policy.identifiers.iter().any(|own| own.as_bytes() == value);
                is_ours.then_some(()).ok_or(Cause::NasIdentificationMismatch)?;
            }
            Kind::NAS_IP_ADDRESS | Kind::NAS_IPV6_ADDRESS => {
                let named = address(ipv4(value).map(IpAddr::V4).or(ipv6(value).map(IpAddr::V6)))?;
                policy.addresses.contains(&named).then_some(()).ok_or(Cause::NasIdentificationMismatch)?;
            }
            Kind::USER_NAME => self.query.user = Some(value.to_vec()),
            Kind::ACCT_SESSION_ID => self.query.session = Some(value.to_vec()),
            Kind::CALLING_STATION_ID => self.query.calling = Some(value.to_vec()),
            Kind::NAS_PORT_ID => self.query.port = Some(value.to_vec()),
            Kind::FRAMED_IP_ADDRESS => self.query.addresses.push(address(ipv4(value).map(IpAddr::V4))?),
            Kind::FRAMED_IPV6_ADDRESS => self.query.addresses.push(address(ipv6(value).map(IpAddr::V6))?),
            Kind::SERVICE_TYPE => return Err(Cause::UnsupportedService),
            kind => self.read_order(kind, value)?,
        }
        Ok(())
    }

    fn read_order(&mut self, kind: Kind, value: &[u8]) -> Result<(), Cause> {
        let seconds = number(value).map(|seconds| Duration::from_secs(seconds.into()));
        match (&mut self.order, kind) {
            // Why, for those who read it.
            (Order::Disconnect, Kind::ACCT_TERMINATE_CAUSE | Kind::REPLY_MESSAGE) => Ok(()),
            (Order::Change(change), Kind::SESSION_TIMEOUT) => {
                change.session_timeout = Some(seconds.ok_or(Cause::InvalidRequest)?);
                Ok(())
            }
            (Order::Change(change), Kind::ACCT_INTERIM_INTERVAL) => {
                change.interim_interval = Some(seconds.ok_or(Cause::InvalidRequest)?);
                Ok(())
            }
            _ => Err(Cause::UnsupportedAttribute),
        }
    }
}
