//! What the configuration means to the SA table.

use baton_sad::{ClusterId, Direction, Name, Sa, Selectors, Senders, UdpEncapsulation};

use super::{StaticSa, Tunnel};

/// Where ESP in UDP reaches us: the filter knows it by this port (RFC 3948 section 2.1).
const NAT_TRAVERSAL: u16 = 4500;

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
    /// The SA that receives, if the configuration has its key. `senders` is empty: that is the table's to know.
    /// Its lifetime begins at `unix_seconds`.
    pub fn inbound_sa(&self, unix_seconds: u64) -> Option<Sa> {
        let (sa, peer_spi) = (self.inbound.as_ref()?, self.outbound.as_ref().map_or(0, |sa| sa.spi));
        Some(self.sa(Direction::Inbound, sa, peer_spi, unix_seconds))
    }

    /// The SA that sends, if the configuration has its key. `senders` is empty: that is the table's to know.
    /// Its lifetime begins at `unix_seconds`.
    pub fn outbound_sa(&self, unix_seconds: u64) -> Option<Sa> {
        let (sa, peer_spi) = (self.outbound.as_ref()?, self.inbound.as_ref().map_or(0, |sa| sa.spi));
        Some(self.sa(Direction::Outbound, sa, peer_spi, unix_seconds))
    }

    fn sa(&self, direction: Direction, sa: &StaticSa, peer_spi: u32, unix_seconds: u64) -> Sa {
        let (source, destination) = match direction {
            Direction::Inbound => (self.remote, self.local),
            Direction::Outbound => (self.local, self.remote),
        };
        Sa {
            name: Name::new(&self.name).expect("validation bounds names as the table does"),
            direction,
            spi: sa.spi,
            peer_spi,
            reqid: self.reqid,
            mode: self.mode,
            segment: self.segment,
            suite: self.suite,
            key: sa.key.clone(),
            source,
            destination,
            selectors: Selectors::new(self.selectors())
                .expect("validation bounds selectors as the table does"),
            encapsulation: self.udp(direction),
            extended_sequence: self.extended_sequence,
            replay_window: self.replay_window,
            dscp: self.dscp,
            df: self.df,
            path_mtu: self.path_mtu,
            clamp_mss: self.clamp_mss,
            tfc_padding: self.tfc_padding,
            lifetime: self.lifetimes.starting_at(unix_seconds),
            senders: Senders::default(),
        }
    }

    fn udp(&self, direction: Direction) -> Option<UdpEncapsulation> {
        let udp = self.encapsulation?;
        let (source_port, destination_port) = match direction {
            Direction::Inbound => (udp.remote_port, NAT_TRAVERSAL),
            Direction::Outbound => (NAT_TRAVERSAL, udp.remote_port),
        };
        let (follows_peer, keepalive_seconds) = (udp.follows_peer, udp.keepalive_seconds);
        Some(UdpEncapsulation { source_port, destination_port, follows_peer, keepalive_seconds })
    }
}
