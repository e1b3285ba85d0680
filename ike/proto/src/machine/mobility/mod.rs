//! Mobility and multihoming (RFC 4555): the ends of a tunnel move, and it goes on.
//!
//! Who has set the tunnel up leads: it says by UPDATE_SA_ADDRESSES where it is. The other end follows, once the new
//! place has been shown to receive.

mod addresses;
mod allowance;
mod answer;
mod check;
mod command;
mod lead;
mod paths;
mod rate;

use std::net::IpAddr;

pub(super) use addresses::{announcement, has_met_nat, is_host, speaks};
pub(super) use allowance::Allowance;
pub(super) use check::Check;
pub(super) use lead::Update;
pub(super) use paths::Ways;
pub(super) use rate::Rate;

use super::message::Message;
use super::nat::Nat;
use crate::host::Path;

/// A request of an IKE SA: our SPI, and its Message ID.
pub(super) type RequestId = (u64, u32);

/// What a tunnel knows of it if both ends speak it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Mobility {
    /// Whether we have set the tunnel up. A rekeyed IKE SA changes nothing of that (RFC 4555 section 2.1).
    pub(super) leads: bool,
    /// Where the peer is besides its present address (section 3.4).
    pub(super) additional: Vec<IpAddr>,
    /// What we have told the peer of the same.
    pub(super) announced: Vec<IpAddr>,
    /// The newest UPDATE_SA_ADDRESSES, and the newest list of addresses, that was heeded: older ones may come later
    /// (section 3.5).
    pub(super) newest: [Option<RequestId>; 2],
    /// Changes of the path so far: what was asked before the last one says nothing of the present path.
    pub(super) changes: u32,
    /// How many of them the peer has heeded, if we lead, or it has shown that it receives there, if we follow: until it
    /// is all, there is something to ask (the "pending update" of section 3.5).
    pub(super) confirmed: u32,
    /// How the peer saw our address last, as its hash (section 3.8).
    pub(super) seen: Option<Vec<u8>>,
    /// UNEXPECTED_NAT_DETECTED in a row (section 3.9).
    pub(super) refusals: u32,
    /// Requests go along all paths, because the present one seems dead (section 3.10).
    pub(super) is_probing: bool,
    pub(super) rate: Rate,
    /// What may still be sent to where the peer says that it is, before it has shown that it receives there.
    pub(super) allowance: Option<Allowance>,
}

impl Mobility {
    /// Of a tunnel that begins, if the peer's IKE_AUTH message speaks of it; ours has told it `announced`.
    pub(super) fn begin(leads: bool, message: &Message, announced: Vec<IpAddr>) -> Self {
        Self { leads, additional: addresses::read(message), announced, ..Self::default() }
    }
}

/// How far a tunnel may roam; part of what it is from its first message to its last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Roaming {
    /// Both ends speak RFC 4555.
    pub(super) is_on: bool,
    /// Where the Child SAs stay while the present path is not shown to lead to the peer (section 3.7).
    pub(super) held: Option<(Path, Nat)>,
}
