//! SAs and policies of the kernel's ESP, typed, as lines for `ip -batch`.

use std::fmt::{self, Write as _};
use std::net::IpAddr;

use super::suite::Suite;
use crate::error::{LabError, Result};
use crate::gateway::random;

/// The largest replay window that Linux keeps (`XFRMA_REPLAY_ESN_MAX`), in packets.
const REPLAY_WINDOW_LIMIT: u32 = 4096;

/// RFC 4301's two modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A whole packet inside.
    Tunnel,
    /// A packet's payload inside, its header outside.
    Transport,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tunnel => "tunnel",
            Self::Transport => "transport",
        })
    }
}

/// Keying material, which no output shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Vec<u8>);

impl Key {
    /// A key for `suite` from the kernel's generator.
    ///
    /// # Errors
    /// If it gives none.
    pub fn random(suite: &Suite) -> Result<Self> {
        random(suite.key_octets()).map(Self)
    }

    /// These octets: the cipher's key and salt, then the integrity key.
    pub fn new(octets: &[u8]) -> Self {
        Self(octets.to_owned())
    }

    /// The octets, for the other end's configuration.
    pub fn octets(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} octets)", self.0.len())
    }
}

/// RFC 3948's UDP header before ESP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpEncapsulation {
    /// The port that packets of the SA come from.
    pub source_port: u16,
    /// The port that packets of the SA go to.
    pub destination_port: u16,
}

/// One SA, as `ip xfrm state add` makes it.
#[derive(Clone, Debug)]
pub struct XfrmState {
    /// The outer source.
    pub source: IpAddr,
    /// The outer destination.
    pub destination: IpAddr,
    /// The SPI.
    pub spi: u32,
    /// The link between SAs and policies.
    pub reqid: u32,
    /// Tunnel or transport.
    pub mode: Mode,
    /// The suite.
    pub suite: Suite,
    /// Its key.
    pub key: Key,
    /// 64-bit sequence numbers.
    pub extended_sequence: bool,
    /// Replay window in packets; Linux has at most 4096.
    pub replay_window: u32,
    /// UDP before ESP, if any.
    pub encapsulation: Option<UdpEncapsulation>,
}

impl XfrmState {
    /// The line that adds it.
    ///
    /// # Errors
    /// If the key does not fit the suite, or the replay window is too large.
    pub(super) fn line(&self) -> Result<String> {
        let Self { source, destination, spi, reqid, mode, replay_window, .. } = self;
        if *replay_window > REPLAY_WINDOW_LIMIT {
            let sentence =
                format!("Linux has no replay window of {replay_window}: {REPLAY_WINDOW_LIMIT} is the most");
            return Err(LabError::Unexpected(sentence));
        }
        let mut line = format!(
            "xfrm state add src {source} dst {destination} proto esp spi 0x{spi:08x} reqid {reqid} mode {mode} \
             replay-window {replay_window}"
        );
        line.push_str(match (self.mode, self.extended_sequence) {
            // Without it, Linux holds the inner packet's IP version to be the outer one's.
            (Mode::Tunnel, false) => " flag af-unspec",
            (Mode::Tunnel, true) => " flag esn af-unspec",
            (Mode::Transport, false) => "",
            (Mode::Transport, true) => " flag esn",
        });
        let _ = write!(line, " {}", self.suite.words(self.key.octets())?);
        if let Some(UdpEncapsulation { source_port, destination_port }) = self.encapsulation {
            let any = if source.is_ipv4() { "0.0.0.0" } else { "::" };
            let _ = write!(line, " encap espinudp {source_port} {destination_port} {any}");
        }
        Ok(line)
    }
}

/// A network: an address and the length of its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Any address of it.
    pub address: IpAddr,
    /// Bits that count.
    pub length: u8,
}

impl Prefix {
    /// The network of one host.
    pub fn host(address: IpAddr) -> Self {
        Self { address, length: if address.is_ipv4() { 32 } else { 128 } }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// Where XFRM asks a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyDirection {
    /// Packets that were decrypted, for the kernel itself.
    In,
    /// Packets that were decrypted, for another host.
    Forward,
    /// Packets to encrypt.
    Out,
}

impl fmt::Display for PolicyDirection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::In => "in",
            Self::Forward => "fwd",
            Self::Out => "out",
        })
    }
}

/// One policy: packets between two networks have to go through an SA of a kind.
#[derive(Clone, Copy, Debug)]
pub struct XfrmPolicy {
    /// Where it is asked.
    pub direction: PolicyDirection,
    /// The inner source.
    pub source: Prefix,
    /// The inner destination.
    pub destination: Prefix,
    /// The outer source of its SA.
    pub outer_source: IpAddr,
    /// The outer destination of its SA.
    pub outer_destination: IpAddr,
    /// The link to its SA.
    pub reqid: u32,
    /// Tunnel or transport.
    pub mode: Mode,
}

impl XfrmPolicy {
    /// The line that adds it.
    pub(super) fn line(&self) -> String {
        let Self { direction, source, destination, outer_source, outer_destination, reqid, mode } = self;
        // Transport mode has the packet's own addresses outside.
        let outer = match mode {
            Mode::Tunnel => format!("src {outer_source} dst {outer_destination} "),
            Mode::Transport => String::new(),
        };
        format!(
            "xfrm policy add src {source} dst {destination} dir {direction} \
             tmpl {outer}proto esp reqid {reqid} mode {mode}"
        )
    }
}

/// A pair of SAs and the policies that use them, from one end's point of view.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Own outer address.
    pub local: IpAddr,
    /// The other end's outer address.
    pub remote: IpAddr,
    /// The network that this end protects.
    pub local_network: Prefix,
    /// The network that the other end protects.
    pub remote_network: Prefix,
    /// Tunnel or transport.
    pub mode: Mode,
    /// The suite of both SAs.
    pub suite: Suite,
    /// SPI and key of the SA it receives with.
    pub inbound: (u32, Key),
    /// SPI and key of the SA it sends with.
    pub outbound: (u32, Key),
    /// The link between SAs and policies.
    pub reqid: u32,
    /// 64-bit sequence numbers.
    pub extended_sequence: bool,
    /// Replay window in packets.
    pub replay_window: u32,
    /// This end's and the other end's UDP port, if ESP goes inside UDP.
    pub encapsulation: Option<(u16, u16)>,
}

impl Connection {
    /// The same connection as the other end has it.
    #[must_use]
    pub fn mirrored(&self) -> Self {
        Self {
            local: self.remote,
            remote: self.local,
            local_network: self.remote_network,
            remote_network: self.local_network,
            inbound: self.outbound.clone(),
            outbound: self.inbound.clone(),
            encapsulation: self.encapsulation.map(|(local, remote)| (remote, local)),
            ..self.clone()
        }
    }

    /// Its SAs: inbound, outbound.
    pub fn states(&self) -> [XfrmState; 2] {
        let ports = self.encapsulation;
        let udp = |(source_port, destination_port)| UdpEncapsulation { source_port, destination_port };
        [
            self.state(
                &self.inbound,
                self.remote,
                self.local,
                ports.map(|(local, remote)| udp((remote, local))),
            ),
            self.state(&self.outbound, self.local, self.remote, ports.map(udp)),
        ]
    }

    fn state(
        &self,
        (spi, key): &(u32, Key),
        source: IpAddr,
        destination: IpAddr,
        encapsulation: Option<UdpEncapsulation>,
    ) -> XfrmState {
        let Self { mode, suite, reqid, extended_sequence, replay_window, .. } = self.clone();
        let (spi, key) = (*spi, key.clone());
        XfrmState {
            source,
            destination,
            spi,
            reqid,
            mode,
            suite,
            key,
            extended_sequence,
            replay_window,
            encapsulation,
        }
    }

    /// Its policies.
    pub fn policies(&self) -> Vec<XfrmPolicy> {
        let Self { local, remote, local_network, remote_network, reqid, mode, .. } = *self;
        let inbound = |direction| XfrmPolicy {
            direction,
            source: remote_network,
            destination: local_network,
            outer_source: remote,
            outer_destination: local,
            reqid,
            mode,
        };
        let outbound = XfrmPolicy {
            direction: PolicyDirection::Out,
            source: local_network,
            destination: remote_network,
            outer_source: local,
            outer_destination: remote,
            reqid,
            mode,
        };
        let mut policies = vec![inbound(PolicyDirection::In), outbound];
        if mode == Mode::Tunnel {
            policies.push(inbound(PolicyDirection::Forward));
        }
        policies
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(mode: Mode) -> Connection {
        let suite = Suite::named("aes128gcm16").expect("known");
        let (local, remote) = ("192.0.2.2".parse().expect("address"), "192.0.2.1".parse().expect("address"));
        Connection {
            local,
            remote,
            local_network: Prefix::host(local),
            remote_network: Prefix::host(remote),
            mode,
            inbound: (1, Key::new(&[1; 20])),
            outbound: (2, Key::new(&[2; 20])),
            suite,
            reqid: 7,
            extended_sequence: true,
            replay_window: 64,
            encapsulation: Some((4500, 4501)),
        }
    }

    #[test]
    fn a_state_is_one_line() {
        let [inbound, outbound] =
            connection(Mode::Tunnel).states().map(|state| state.line().expect("a line"));
        let key = "01".repeat(20);
        assert_eq!(
            inbound,
            format!(
                "xfrm state add src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x00000001 reqid 7 mode tunnel \
                 replay-window 64 flag esn af-unspec aead rfc4106(gcm(aes)) 0x{key} 128 encap espinudp 4501 4500 0.0.0.0"
            )
        );
        assert!(outbound.ends_with("encap espinudp 4500 4501 0.0.0.0"), "{outbound}");
    }

    #[test]
    fn transport_mode_has_no_outer_addresses_and_forwards_nothing() {
        let policies = connection(Mode::Transport).policies();
        let lines: Vec<String> = policies.iter().map(XfrmPolicy::line).collect();
        assert_eq!(
            lines,
            [
                "xfrm policy add src 192.0.2.1/32 dst 192.0.2.2/32 dir in tmpl proto esp reqid 7 mode transport",
                "xfrm policy add src 192.0.2.2/32 dst 192.0.2.1/32 dir out tmpl proto esp reqid 7 mode transport",
            ]
        );
        assert_eq!(connection(Mode::Tunnel).policies().len(), 3);
    }

    #[test]
    fn the_other_end_sends_what_this_one_receives() {
        let here = connection(Mode::Tunnel);
        let there = here.mirrored();
        let lines = |connection: &Connection| connection.states().map(|state| state.line().expect("a line"));
        let [received, sent] = lines(&here);
        assert_eq!(lines(&there), [sent, received]);
    }

    #[test]
    fn keys_are_not_shown() {
        assert!(!format!("{:?}", connection(Mode::Tunnel)).contains("1, 1"));
    }
}
