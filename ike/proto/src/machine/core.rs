//! What all tunnels share, and what a handler of one tunnel may touch besides that tunnel.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::claims::Claims;
use super::closed::Closed;
use super::cookies::Cookies;
use super::counters::Counters;
use super::crash_detection::Elsewhere;
use super::half_open::{HalfOpen, Source};
use super::order::Order;
use super::ownership::Ownership;
use super::pace::Pace;
use super::puzzles::Used;
use super::resumption::{Spent, Ticket};
use super::traps::Traps;
use crate::auth::Credentials;
use crate::configuration::{Configuration, Connection};
use crate::crypto::{CrashSecret, TicketKey, WrapKey};
use crate::host::{Event, Host, Now, Output, Path, TunnelName, Volume};
use crate::identity::Identity;
use crate::pool::Pools;

/// A tunnel's number in this instance.
pub(super) type Id = u64;

/// An IKE_SA_INIT request by its sender: the initiator's SPI and address.
pub(super) type InitKey = (u64, SocketAddr);

/// What all tunnels share.
pub(super) struct Core {
    pub(super) configuration: Arc<Configuration>,
    pub(super) credentials: Arc<Credentials>,
    pub(super) wrap: Arc<WrapKey>,
    pub(super) crash_secret: CrashSecret,
    /// What tickets are sealed under if no keys are configured for that.
    pub(super) own_ticket_key: TicketKey,
    /// Tickets of ours that may not be used any more.
    pub(super) spent: Spent,
    /// Tickets of peers that were lost, by connection.
    pub(super) tickets: HashMap<String, Arc<Ticket>>,
    pub(super) elsewhere: Elsewhere,
    pub(super) traps: Traps,
    pub(super) closed: Closed,
    pub(super) pools: Pools,
    /// Inner addresses that peers have from our pools.
    pub(super) leases: HashMap<Id, Vec<IpAddr>>,
    pub(super) cookies: Cookies,
    pub(super) half_open: HalfOpen,
    pub(super) used_puzzles: Used,
    pub(super) counters: Counters,
    pub(super) outputs: VecDeque<Output>,
    /// What handlers of one tunnel ask to be done with others.
    pub(super) orders: VecDeque<Order>,
    pub(super) ivs: Ivs,
    pub(super) index: Index,
    pub(super) next_id: Id,
    /// When the next peer of an unknown IKE SA may be told so (monotonic).
    pub(super) next_hint: Duration,
    pub(super) ownership: Ownership,
    /// What keeps requests of many tunnels apart.
    pub(super) pace: Pace,
}

/// Where tunnels are found.
#[derive(Default)]
pub(super) struct Index {
    /// By our SPIs of IKE SAs.
    pub(super) ike_spis: HashMap<u64, Id>,
    /// By our SPIs of Child SAs, those that are only on offer included.
    pub(super) esp_spis: HashMap<u32, Id>,
    /// By reqids of Child SAs.
    pub(super) reqids: HashMap<u32, Id>,
    /// Half-open ones, by the request that began them.
    pub(super) inits: HashMap<InitKey, Id>,
    /// By the number in their names, so that those of a segment stand together.
    pub(super) numbers: BTreeMap<u32, Id>,
    /// Those that stand or are to stand, by their connection; as many names as there are connections.
    pub(super) connections: HashMap<String, BTreeSet<Id>>,
    /// Standing ones, by who the peer is.
    pub(super) peers: HashMap<Identity, Vec<Id>>,
}

/// IVs taken from the host ahead, so that no answer stops half-way. Each is handed out once (I1).
#[derive(Default)]
pub(super) struct Ivs {
    stock: Vec<[u8; 8]>,
}

impl Ivs {
    /// As many as one message in fragments needs at most, unless its fragments are very small.
    pub(super) const MESSAGE: usize = 64;

    /// Whether there are enough for a message, after asking the host for more.
    pub(super) fn fill(&mut self, host: &mut dyn Host) -> bool {
        while self.stock.len() < Self::MESSAGE {
            match host.explicit_iv() {
                Some(iv) => self.stock.push(iv),
                None => return false,
            }
        }
        true
    }

    /// The host, giving these first.
    pub(super) fn before<'a>(&'a mut self, host: &'a mut dyn Host) -> Stocked<'a> {
        Stocked { ivs: self, host }
    }
}

/// A host that gives IVs from the stock first.
pub(super) struct Stocked<'a> {
    ivs: &'a mut Ivs,
    host: &'a mut dyn Host,
}

impl Host for Stocked<'_> {
    fn random(&mut self, octets: &mut [u8]) {
        self.host.random(octets);
    }

    fn explicit_iv(&mut self) -> Option<[u8; 8]> {
        self.ivs.stock.pop().or_else(|| self.host.explicit_iv())
    }

    fn segment_of(&self, peer: IpAddr) -> u8 {
        self.host.segment_of(peer)
    }

    fn owns(&self, segment: u8) -> bool {
        self.host.owns(segment)
    }

    fn source_for(&self, peer: IpAddr) -> Option<IpAddr> {
        self.host.source_for(peer)
    }

    fn local_addresses(&self) -> Vec<IpAddr> {
        self.host.local_addresses()
    }

    fn spi_is_taken(&self, spi: u32) -> bool {
        self.host.spi_is_taken(spi)
    }

    fn inbound_volume(&self, spi: u32) -> Volume {
        self.host.inbound_volume(spi)
    }

    fn outbound_volume(&self, reqid: u32, spi: u32) -> Volume {
        self.host.outbound_volume(reqid, spi)
    }
}

/// What a handler wants done. The order is the machine's to keep: SAs first, then the context, then what depends on
/// both.
#[derive(Default)]
pub(super) struct Effects {
    pub(super) first: Vec<Output>,
    pub(super) store: bool,
    pub(super) then: Vec<Output>,
}

/// What a handler of one tunnel may touch besides that tunnel.
pub(super) struct Cx<'a> {
    pub(super) now: Now,
    pub(super) host: &'a mut dyn Host,
    pub(super) core: &'a mut Core,
    /// Whose handler it is.
    pub(super) id: Id,
    pub(super) effects: Effects,
    /// What was allocated since the tunnel's claims were last settled.
    pub(super) claimed: Claims,
}

impl Core {
    pub(super) fn new(
        configuration: Arc<Configuration>,
        credentials: Arc<Credentials>,
        wrap: Arc<WrapKey>,
    ) -> Self {
        Self {
            pools: Pools::new(&configuration.pools, configuration.slicing),
            configuration,
            credentials,
            crash_secret: wrap.crash_secret(),
            own_ticket_key: wrap.ticket_key(),
            spent: Spent::default(),
            tickets: HashMap::new(),
            elsewhere: Elsewhere::default(),
            wrap,
            traps: Traps::default(),
            closed: Closed::default(),
            leases: HashMap::new(),
            cookies: Cookies::default(),
            half_open: HalfOpen::default(),
            used_puzzles: Used::default(),
            counters: Counters::default(),
            outputs: VecDeque::new(),
            orders: VecDeque::new(),
            ivs: Ivs::default(),
            index: Index::default(),
            next_id: 0,
            next_hint: Duration::ZERO,
            ownership: Ownership::default(),
            pace: Pace::default(),
        }
    }

    /// Whether this node acts for a segment: it was told so, and holds the lease (I4).
    pub(super) fn acts(&self, host: &dyn Host, segment: u8) -> bool {
        self.ownership.has(segment) && host.owns(segment)
    }

    /// A number for a trapped policy.
    pub(super) fn trap_reqid(&mut self, host: &mut dyn Host, segment: u8) -> u32 {
        let now = Now { monotonic: Duration::ZERO, unix: Duration::ZERO };
        let mut cx = Cx::new(now, host, self, Id::MAX);
        let reqid = cx.reqid(segment);
        self.index.reqids.remove(&reqid);
        reqid
    }

    /// Keeps the count of half-open IKE SAs.
    pub(super) fn count_half_open(&mut self, before: &Claims, now: &Claims) {
        let source = |key: InitKey| Source::of(key.1.ip());
        match (before.half_open, now.half_open) {
            (None, Some((key, is_proven))) => self.half_open.opened(source(key), is_proven),
            (Some((key, is_proven)), None) => self.half_open.closed(source(key), is_proven),
            _ => {}
        }
    }
}

impl<'a> Cx<'a> {
    pub(super) fn new(now: Now, host: &'a mut dyn Host, core: &'a mut Core, id: Id) -> Self {
        Self { now, host, core, id, effects: Effects::default(), claimed: Claims::default() }
    }

    /// To be done before the context is stored.
    pub(super) fn install(&mut self, output: Output) {
        self.effects.first.push(output);
    }

    /// To be done after that.
    pub(super) fn then(&mut self, output: Output) {
        self.effects.then.push(output);
    }

    /// The tunnel's context has changed.
    pub(super) fn store(&mut self) {
        self.effects.store = true;
    }

    pub(super) fn event(&mut self, event: Event) {
        self.then(Output::Event(event));
    }

    /// Sends the datagrams of one message.
    pub(super) fn transmit(&mut self, path: Path, datagrams: &[Vec<u8>]) {
        self.core.counters.sent += datagrams.len() as u64;
        for datagram in datagrams {
            self.then(Output::Transmit { path, datagram: datagram.clone(), tunnel: None });
        }
    }

    /// Unpredictable octets.
    pub(super) fn random<const N: usize>(&mut self) -> [u8; N] {
        let mut octets = [0; N];
        self.host.random(&mut octets);
        octets
    }

    /// A nonce of 32 octets: at least 128 bits, and half of every PRF's key here (RFC 7296 section 2.10).
    pub(super) fn nonce(&mut self) -> Vec<u8> {
        self.random::<32>().to_vec()
    }

    /// A number of which all up to `below` are as likely, nearly: 64 bits spread over it.
    pub(super) fn random_below(&mut self, below: u64) -> u64 {
        let random = u128::from(u64::from_be_bytes(self.random()));
        ((random * u128::from(below)) >> 64) as u64
    }

    /// An SPI for an IKE SA of ours: its segment, and 56 bits that nobody guesses (RFC 7296 section 2.6).
    pub(super) fn ike_spi(&mut self, segment: u8) -> u64 {
        loop {
            let mut octets = self.random::<8>();
            octets[0] = segment;
            let spi = u64::from_be_bytes(octets);
            if spi != 0 && !self.core.index.ike_spis.contains_key(&spi) {
                self.core.index.ike_spis.insert(spi, self.id);
                self.claimed.ike_spis.push(spi);
                return spi;
            }
        }
    }

    /// An SPI for packets to us: its segment, and 24 random bits. Those up to 255 are reserved (RFC 4303 section 2.1).
    pub(super) fn esp_spi(&mut self, segment: u8) -> u32 {
        loop {
            let mut octets = self.random::<4>();
            octets[0] = segment;
            let spi = u32::from_be_bytes(octets);
            if spi > 255 && !self.core.index.esp_spis.contains_key(&spi) && !self.host.spi_is_taken(spi) {
                self.core.index.esp_spis.insert(spi, self.id);
                self.claimed.esp_spis.push(spi);
                return spi;
            }
        }
    }

    /// A number that links Child SAs, their policy and their successors: its segment, then the bit that sets it apart
    /// from numbers that an operator gives, and 23 random bits.
    pub(super) fn reqid(&mut self, segment: u8) -> u32 {
        loop {
            let random = u32::from_be_bytes(self.random()) & 0x007f_ffff;
            let reqid = u32::from(segment) << 24 | 0x0080_0000 | random;
            if !self.core.index.reqids.contains_key(&reqid) && self.core.traps.get(reqid).is_none() {
                self.claim_reqid(reqid);
                return reqid;
            }
        }
    }

    /// Takes a reqid that belongs to the tunnel's trapped policy, unless a Child SA has it already.
    pub(super) fn claim_reqid(&mut self, reqid: u32) -> bool {
        let is_free = !self.core.index.reqids.contains_key(&reqid);
        if is_free {
            self.core.index.reqids.insert(reqid, self.id);
            self.claimed.reqids.push(reqid);
        }
        is_free
    }

    /// The number of a new tunnel: its segment, and 24 random bits.
    pub(super) fn number(&mut self, segment: u8) -> u32 {
        loop {
            let mut octets = self.random::<4>();
            octets[0] = segment;
            let number = u32::from_be_bytes(octets);
            if !self.core.index.numbers.contains_key(&number) {
                self.core.index.numbers.insert(number, self.id);
                self.claimed.number = Some(number);
                return number;
            }
        }
    }

    /// Tells that an exchange failed.
    pub(super) fn failed(&mut self, who: &Who, problem: String) {
        let event = Event::Failed {
            tunnel: who.tunnel.clone(),
            connection: who.connection.as_ref().map(|connection| connection.name.clone()),
            remote: who.remote,
            problem,
        };
        self.event(event);
    }
}

/// Whom an event is about.
pub(super) struct Who {
    pub(super) tunnel: Option<TunnelName>,
    pub(super) connection: Option<Arc<Connection>>,
    pub(super) remote: SocketAddr,
}
