//! What the configuration means to the SA table and the SPD.

use std::net::IpAddr;

use baton_sad::{
    AddressRange, ClusterId, Direction, Lifetime, Mode, Name, Sa, Selector, Selectors, Senders, TfcPadding,
};

use super::{StaticSa, Tunnel};
use crate::prefix::Prefix;

/// An SPD entry that protects: what its selectors cover leaves by the current outbound SA of `reqid`.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The tunnel's name.
    pub name: String,
    /// Any of these covers the packet.
    pub selectors: Vec<Selector>,
    /// Key of the outbound SA.
    pub reqid: u32,
    /// Segment whose owner forwards this traffic.
    pub segment: u8,
}

/// The cluster's number: the first 56 bits of SHA-256 of its name.
pub fn cluster_id_of(name: &str) -> ClusterId {
    let mut octets = [0; 8];
    octets[1..].copy_from_slice(&sha256(name.as_bytes())[..7]);
    ClusterId::new(u64::from_be_bytes(octets))
}

/// A reqid for a tunnel that names none: the top bit set, so that numbers chosen by people never meet it.
pub(super) fn reqid_of(name: &str) -> u32 {
    let digest = sha256(name.as_bytes());
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]) | 0x8000_0000
}

pub(super) fn sha256(octets: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, octets);
    digest.as_ref().try_into().expect("SHA-256 has 32 octets")
}

impl Tunnel {
    /// Every pair of a local and a remote network.
    pub fn selectors(&self) -> Vec<Selector> {
        let pair = |(local, remote): (&Prefix, &Prefix)| Selector::addresses(range(local), range(remote));
        let locals = self.local_selectors.iter();
        locals.flat_map(|l| self.remote_selectors.iter().map(move |r| (l, r))).map(pair).collect()
    }

    /// The tunnel's SPD entry.
    pub fn policy(&self) -> Policy {
        let name = self.name.clone();
        Policy { name, selectors: self.selectors(), reqid: self.reqid, segment: self.segment }
    }

    /// The SA that receives, if the configuration has its key. `senders` is empty: that is the table's to know.
    pub fn inbound_sa(&self) -> Option<Sa> {
        let peer = self.outbound.as_ref().map_or(0, |sa| sa.spi);
        Some(self.sa(Direction::Inbound, self.inbound.as_ref()?, peer, self.remote, self.local))
    }

    /// The SA that sends, if the configuration has its key. `senders` is empty: that is the table's to know.
    pub fn outbound_sa(&self) -> Option<Sa> {
        let peer = self.inbound.as_ref().map_or(0, |sa| sa.spi);
        Some(self.sa(Direction::Outbound, self.outbound.as_ref()?, peer, self.local, self.remote))
    }

    fn sa(&self, direction: Direction, sa: &StaticSa, peer_spi: u32, from: IpAddr, to: IpAddr) -> Sa {
        Sa {
            name: Name::new(&self.name).expect("validation bounds names as the table does"),
            direction,
            spi: sa.spi,
            peer_spi,
            reqid: self.reqid,
            mode: Mode::Tunnel,
            segment: self.segment,
            suite: self.suite,
            key: sa.key.clone(),
            source: from,
            destination: to,
            selectors: Selectors::new(self.selectors())
                .expect("validation bounds selectors as the table does"),
            encapsulation: None,
            extended_sequence: self.extended_sequence,
            replay_window: self.replay_window,
            dscp: self.dscp,
            df: self.df,
            path_mtu: self.path_mtu,
            clamp_mss: false,
            tfc_padding: TfcPadding::Off,
            lifetime: Lifetime::default(),
            senders: Senders::default(),
        }
    }
}

fn range(prefix: &Prefix) -> AddressRange {
    AddressRange::new(prefix.first(), prefix.last()).expect("the ends of a prefix are in order")
}
