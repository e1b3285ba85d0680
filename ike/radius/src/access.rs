//! A user's conversation with a server (RFC 2865, RFC 3579).

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::Secret;
use crate::attribute::{
    Attributes, Kind, MAX_VALUE, MICROSOFT, MS_MPPE_RECV_KEY, MS_MPPE_SEND_KEY, MS_PRIMARY_DNS,
    MS_SECONDARY_DNS, ipv4, ipv6, number,
};
use crate::packet::{Code, HEADER, MESSAGE_AUTHENTICATOR, Packet};

/// Name servers, and attributes of class, that are kept of an answer.
const MAX_KEPT: usize = 16;
/// A NAS-Identifier at most.
const NAS_IDENTIFIER: usize = MAX_VALUE + 2;
/// Octets of Class that are kept: they have to fit into each record beside all else.
const MAX_CLASS: usize = 2048;
/// "The user may choose", and "the access server may" (RFC 2865 section 5.8): no address.
const NO_ADDRESS: [Ipv4Addr; 2] = [Ipv4Addr::BROADCAST, Ipv4Addr::new(255, 255, 255, 254)];

/// What is asked.
#[derive(Debug, Clone)]
pub struct Access {
    /// Who asks for what: all but EAP, State, NAS-Identifier and Message-Authenticator.
    pub attributes: Attributes,
    /// The user's EAP packet.
    pub eap: Vec<u8>,
    /// What the answer before it belongs to.
    pub thread: Option<Thread>,
}

impl Access {
    /// Octets of its packet at most.
    pub(crate) fn length(&self) -> usize {
        let state = self.thread.as_ref().and_then(|thread| thread.state.as_ref()).map_or(0, Vec::len);
        let eap = self.eap.len() + 2 * self.eap.len().div_ceil(MAX_VALUE);
        HEADER + MESSAGE_AUTHENTICATOR + self.attributes.octets().len() + NAS_IDENTIFIER + state + 2 + eap
    }
}

/// Ties the next question to the server that knows the conversation, and to its state (RFC 2865 section 5.24).
#[derive(Clone, PartialEq, Eq)]
pub struct Thread {
    /// Its name.
    pub server: Arc<str>,
    /// Its state, if it has given one.
    pub state: Option<Vec<u8>>,
}

impl std::fmt::Debug for Thread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Thread({})", self.server)
    }
}

/// What is answered.
#[derive(Debug)]
pub enum Answer {
    /// The conversation goes on.
    Challenge {
        /// For the user.
        eap: Vec<u8>,
        /// For the next question.
        thread: Thread,
    },
    /// The user is who it says it is.
    Accept(Box<Accept>),
    /// It is not, or may not come in.
    Reject {
        /// For the user.
        eap: Option<Vec<u8>>,
        /// What the server wants it told.
        message: Option<String>,
    },
    /// No server has answered, or what was answered is of no use; a sentence.
    Failed(String),
}

/// What a server grants.
#[derive(Debug, Default)]
pub struct Accept {
    /// For the user.
    pub eap: Option<Vec<u8>>,
    /// The master session key in two halves (RFC 3748 section 7.10), if the method gives one.
    pub key: Option<Zeroizing<Vec<u8>>>,
    /// What to call the user from now on.
    pub user: Option<Vec<u8>>,
    /// To be told in accounting (RFC 2865 section 5.25).
    pub class: Vec<Vec<u8>>,
    /// How long the session may last.
    pub session_timeout: Option<Duration>,
    /// How long it may be idle.
    pub idle_timeout: Option<Duration>,
    /// How often it is to be accounted for.
    pub interim_interval: Option<Duration>,
    /// The user's addresses: one of each IP version at most.
    pub addresses: Vec<IpAddr>,
    /// Name servers for it.
    pub dns: Vec<IpAddr>,
}

/// What an authentic answer says.
pub(crate) fn read(secret: &Secret, request: &[u8; 16], server: &Arc<str>, packet: &Packet) -> Answer {
    let eap = packet.joined(Kind::EAP_MESSAGE);
    match packet.code() {
        Code::ACCESS_CHALLENGE => match eap {
            Some(eap) => {
                let state = packet.first(Kind::STATE).map(<[u8]>::to_vec);
                Answer::Challenge { eap, thread: Thread { server: Arc::clone(server), state } }
            }
            None => Answer::Failed(format!(
                "RADIUS server {server} asks for something else than EAP; enable EAP for this client there"
            )),
        },
        Code::ACCESS_ACCEPT => Answer::Accept(Box::new(accept(secret, request, packet, eap))),
        _ => {
            let message = packet.joined(Kind::REPLY_MESSAGE);
            let message = message.map(|text| String::from_utf8_lossy(&text).chars().take(200).collect());
            Answer::Reject { eap, message }
        }
    }
}

fn accept(secret: &Secret, request: &[u8; 16], packet: &Packet, eap: Option<Vec<u8>>) -> Accept {
    // None at all is no bound.
    let seconds = |kind| {
        let value = packet.first(kind).and_then(number).filter(|value| *value > 0)?;
        Some(Duration::from_secs(value.into()))
    };
    Accept {
        eap,
        key: key(secret, request, packet),
        user: packet.first(Kind::USER_NAME).filter(|name| !name.is_empty()).map(<[u8]>::to_vec),
        class: class(packet),
        session_timeout: seconds(Kind::SESSION_TIMEOUT),
        idle_timeout: seconds(Kind::IDLE_TIMEOUT),
        interim_interval: seconds(Kind::ACCT_INTERIM_INTERVAL),
        addresses: addresses(packet),
        dns: dns(packet),
    }
}

fn class(packet: &Packet) -> Vec<Vec<u8>> {
    let mut room = MAX_CLASS;
    let fits = |value: &&[u8]| {
        let fits = value.len() <= room;
        room = room.saturating_sub(value.len());
        fits
    };
    packet.all(Kind::CLASS).take(MAX_KEPT).take_while(fits).map(<[u8]>::to_vec).collect()
}

/// The peer's half of the master session key comes first (RFC 2548 section 2.4.3, RFC 5216 section 2.3).
fn key(secret: &Secret, request: &[u8; 16], packet: &Packet) -> Option<Zeroizing<Vec<u8>>> {
    let half = |kind| secret.unhide(request, packet.vendors(MICROSOFT, kind)?);
    let (mut key, send) = (half(MS_MPPE_RECV_KEY)?, half(MS_MPPE_SEND_KEY)?);
    let mut whole = Zeroizing::new(Vec::with_capacity(key.len() + send.len()));
    whole.append(&mut key);
    whole.extend_from_slice(&send);
    Some(whole)
}

/// Addresses that are none of somebody's are not given.
fn addresses(packet: &Packet) -> Vec<IpAddr> {
    let is_usable =
        |address: &IpAddr| !address.is_unspecified() && !address.is_multicast() && !address.is_loopback();
    let framed =
        packet.first(Kind::FRAMED_IP_ADDRESS).and_then(ipv4).filter(|address| !NO_ADDRESS.contains(address));
    let framed_ipv6 = packet.first(Kind::FRAMED_IPV6_ADDRESS).and_then(ipv6);
    let both = [framed.map(IpAddr::V4), framed_ipv6.map(IpAddr::V6)];
    both.into_iter().flatten().filter(is_usable).collect()
}

fn dns(packet: &Packet) -> Vec<IpAddr> {
    let microsoft = [MS_PRIMARY_DNS, MS_SECONDARY_DNS].into_iter();
    let ipv4 = microsoft.filter_map(|kind| packet.vendors(MICROSOFT, kind).and_then(ipv4)).map(IpAddr::V4);
    let ipv6 = packet.all(Kind::DNS_SERVER_IPV6_ADDRESS).filter_map(ipv6).map(IpAddr::V6);
    ipv4.chain(ipv6).filter(|address| !address.is_unspecified()).take(MAX_KEPT).collect()
}
