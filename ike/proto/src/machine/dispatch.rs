//! Whose a datagram is.

use super::Ike;
use std::time::Duration;

use super::cookies::Claim;
use super::core::{Cx, Id};
use super::crash_detection;
use super::half_open::{Source, Verdict};
use super::init_answered::Request;
use super::message::{Message, notify};
use super::puzzles::{Asked, Demand, Given};
use super::tunnel::Tunnel;
use crate::host::{Host, Now, Path};
use crate::wire::{
    self, Datagram, ExchangeType, Flags, Header, Notify, NotifyType, ParseError, Payload, PuzzleRequest,
};

/// At most one hint to peers of unknown IKE SAs in so long.
const HINT_INTERVAL: Duration = Duration::from_millis(100);

impl Ike {
    /// Works on a datagram, from which the host has taken the non-ESP marker if it had one.
    pub fn handle_datagram(&mut self, now: Now, path: Path, datagram: &[u8], host: &mut dyn Host) {
        self.core.counters.received += 1;
        match wire::parse(datagram) {
            Ok(Datagram::Plain(header, payloads)) => {
                self.on_plain(now, host, path, (&header, datagram), payloads);
            }
            Ok(sealed) => self.on_sealed(now, host, path, &sealed),
            Err(error) => self.on_unreadable(now, host, path, datagram, error),
        }
        self.carry_out_orders(now, host);
    }

    fn on_sealed(&mut self, now: Now, host: &mut dyn Host, path: Path, datagram: &Datagram) {
        let header = datagram.header();
        let ours = if header.flags.initiator { header.responder_spi } else { header.initiator_spi };
        if !self.core.acts(host, ours.to_be_bytes()[0]) {
            self.core.counters.foreign += 1;
            return;
        }
        match self.core.index.ike_spis.get(&ours).copied() {
            Some(id) => self.with_tunnel(now, host, id, |tunnel, cx| tunnel.on_sealed(cx, path, datagram)),
            None => self.on_unknown_spi(now, host, path, header),
        }
    }

    /// A peer may have an IKE SA that we have lost: it is told, which it need not believe, at a rate that no flood
    /// raises (RFC 7296 section 2.21.4).
    fn on_unknown_spi(&mut self, now: Now, host: &mut dyn Host, path: Path, header: &Header) {
        self.core.counters.unknown_spi += 1;
        let Header { flags, .. } = *header;
        let ours = if flags.initiator { header.responder_spi } else { header.initiator_spi };
        let is_elsewhere = self.core.elsewhere.has(ours);
        if flags.response || is_elsewhere || now.monotonic < self.core.next_hint {
            return;
        }
        self.core.next_hint = now.monotonic + HINT_INTERVAL;
        let flags = Flags { initiator: !flags.initiator, response: true };
        let hint = Payload::Notify(Notify::new(NotifyType::INVALID_IKE_SPI, Vec::new()));
        self.stateless(now, host, |cx| {
            let token = crash_detection::confession(cx, header);
            cx.core.counters.crash_tokens_sent += u64::from(token.is_some());
            let payloads: Vec<Payload> = std::iter::once(hint).chain(token).collect();
            cx.transmit(path, &[wire::emit(&Header { flags, ..*header }, &payloads)]);
        });
    }

    /// Somebody says that the peer has lost the IKE SA. Whether it has, the peer itself is asked, if it has not been
    /// heard lately (RFC 7296 section 2.4).
    fn on_hint(&mut self, now: Now, host: &mut dyn Host, path: Path, header: &Header, message: &Message) {
        self.core.counters.not_authentic += 1;
        let spis = [header.initiator_spi, header.responder_spi];
        let id = spis.iter().find_map(|spi| self.core.index.ike_spis.get(spi)).copied();
        if let Some(id) = id.filter(|_| crash_detection::is_presented(message)) {
            return self.with_tunnel(now, host, id, |tunnel, cx| tunnel.on_token(cx, path, header, message));
        }
        let is_hint = header.flags.response && message.has(NotifyType::INVALID_IKE_SPI);
        if let Some(id) = id.filter(|_| is_hint) {
            self.with_tunnel(now, host, id, |tunnel, cx| Some(tunnel.suspect(cx, path)));
        }
    }

    /// In the clear there are IKE_SA_INIT and IKE_SESSION_RESUME. Everything else is an error notify, and may come from anybody: it is not
    /// believed (RFC 7296 section 2.4).
    fn on_plain(
        &mut self,
        now: Now,
        host: &mut dyn Host,
        path: Path,
        (header, octets): (&Header, &[u8]),
        payloads: Vec<Payload>,
    ) {
        let Ok(message) = Message::sort(payloads) else {
            self.core.counters.syntax += 1;
            return;
        };
        let begins = [ExchangeType::IKE_SA_INIT, ExchangeType::IKE_SESSION_RESUME].contains(&header.exchange);
        if !begins || header.message_id != 0 {
            return self.on_hint(now, host, path, header, &message);
        }
        match header.flags {
            Flags { initiator: true, response: false } if header.responder_spi == 0 => {
                self.on_init_request(now, host, path, (header, octets), &message);
            }
            Flags { initiator: false, response: true } => {
                self.on_init_response(now, host, path, (header, octets), &message);
            }
            _ => self.core.counters.syntax += 1,
        }
    }

    fn on_init_response(
        &mut self,
        now: Now,
        host: &mut dyn Host,
        path: Path,
        (header, octets): (&Header, &[u8]),
        message: &Message,
    ) {
        let Some(id) = self.core.index.ike_spis.get(&header.initiator_spi).copied() else {
            self.core.counters.unknown_spi += 1;
            return;
        };
        self.with_tunnel(now, host, id, |tunnel, cx| match tunnel {
            Tunnel::InitSent(state) if header.exchange == ExchangeType::IKE_SA_INIT => {
                state.on_response(cx, (header, octets), message, path)
            }
            Tunnel::ResumeSent(state) if header.exchange == ExchangeType::IKE_SESSION_RESUME => {
                state.on_response(cx, (header, octets), message, path)
            }
            other => Some(other),
        });
    }

    fn on_init_request(
        &mut self,
        now: Now,
        host: &mut dyn Host,
        path: Path,
        (header, octets): (&Header, &[u8]),
        message: &Message,
    ) {
        self.core.counters.init_requests += 1;
        let segment = host.segment_of(path.remote.ip());
        if !self.core.acts(host, segment) {
            self.core.counters.foreign += 1;
            return;
        }
        let request = Request { header, octets, message, path, is_proven: false };
        if !self.repeat_init(now, host, &request) {
            self.begin_init(now, host, segment, &request);
        }
    }

    /// A request that was answered gets the same answer.
    fn repeat_init(&mut self, now: Now, host: &mut dyn Host, request: &Request) -> bool {
        let known = self.core.index.inits.get(&request.key()).copied();
        let Some(Tunnel::InitAnswered(state)) =
            known.and_then(|id| self.tunnels.get(&id)).map(|slot| &slot.tunnel)
        else {
            return false;
        };
        let id = known.unwrap_or_default();
        let mut cx = Cx::new(now, host, &mut self.core, id);
        let is_same = state.repeat(&mut cx, request.octets, request.path);
        let effects = cx.effects;
        self.core.outputs.extend(effects.then);
        is_same
    }

    /// Limits and cookies come before any work (RFC 7296 section 2.6).
    fn begin_init(&mut self, now: Now, host: &mut dyn Host, segment: u8, request: &Request) {
        let is_whole = request.is_whole();
        let Some(nonce) = request.message.nonce.as_ref().filter(|_| is_whole) else {
            self.core.counters.syntax += 1;
            return;
        };
        let source = request.path.remote.ip();
        let claim = Claim { source, initiator_spi: request.header.initiator_spi, nonce };
        let cookie = request.message.notify(NotifyType::COOKIE);
        let checked = cookie.and_then(|cookie| self.core.cookies.check(now.monotonic, claim, &cookie.data));
        let is_proven = checked.is_some();
        self.core.counters.cookies_wrong += u64::from(cookie.is_some() && !is_proven);
        let limits = self.core.configuration.limits.clone();
        let is_full = self.tunnels.len() >= limits.max_ike_sas;
        let verdict = self.core.half_open.admit(now.monotonic, &limits, Source::of(source), is_proven);
        if verdict == Verdict::Accept && self.send_elsewhere(now, host, request) {
            return;
        }
        match verdict {
            Verdict::Accept if !is_full => {
                let request = Request { is_proven, ..*request };
                match self.demand(now, host, &request, checked) {
                    Demand::Serve => {
                        self.begin(now, host, |cx| request.answer(cx, segment));
                    }
                    demand => self.ask_for_work(now, host, &request, claim, demand),
                }
            }
            Verdict::AskForCookie => {
                let demand = self.demand(now, host, request, None);
                self.ask_for_work(now, host, request, claim, demand);
            }
            Verdict::Accept | Verdict::Drop => self.core.counters.init_limited += 1,
        }
    }

    /// Who comes back by a ticket has shown before who it is: no puzzle is asked of it (RFC 8019 section 4.5).
    fn demand(&mut self, now: Now, host: &mut dyn Host, request: &Request, given: Option<Given>) -> Demand {
        match request.header.exchange {
            ExchangeType::IKE_SESSION_RESUME => Demand::Serve,
            _ => self.core.demand(now.monotonic, request.message, given, host),
        }
    }

    /// Asks for a cookie and, if the demand is so, for a puzzle.
    fn ask_for_work(
        &mut self,
        now: Now,
        host: &mut dyn Host,
        request: &Request,
        claim: Claim<'_>,
        demand: Demand,
    ) {
        let given = match demand {
            Demand::Drop => {
                self.core.counters.puzzles_unsolved += 1;
                return;
            }
            Demand::NoProposal => {
                return self
                    .stateless(now, host, |cx| request.refuse(cx, NotifyType::NO_PROPOSAL_CHOSEN, &[]));
            }
            Demand::Serve => Given::CookieAlone,
            Demand::Solve(asked) => Given::Puzzle(asked),
        };
        let counters = &mut self.core.counters;
        counters.cookies_sent += 1;
        counters.puzzles_sent += u64::from(given != Given::CookieAlone);
        let cookie = self.core.cookies.issue(now.monotonic, claim, given, &mut |octets| host.random(octets));
        let puzzle = match given {
            Given::CookieAlone => None,
            Given::Puzzle(Asked { prf, difficulty, .. }) => {
                Some(notify(NotifyType::PUZZLE, PuzzleRequest { prf: prf.id(), difficulty }.emit()))
            }
        };
        let payloads: Vec<_> = std::iter::once(notify(NotifyType::COOKIE, cookie)).chain(puzzle).collect();
        self.stateless(now, host, |cx| request.refuse_with(cx, &payloads));
    }

    /// A gateway that takes no new peers says where to go (RFC 5685 section 3).
    fn send_elsewhere(&mut self, now: Now, host: &mut dyn Host, request: &Request) -> bool {
        let gateway = request.elsewhere(&self.core.configuration, self.tunnels.len());
        let is_sent = gateway.is_some();
        if let Some(gateway) = gateway {
            self.stateless(now, host, |cx| request.redirect(cx, gateway));
        }
        is_sent
    }

    /// Sends something for which no tunnel is kept.
    pub(super) fn stateless(&mut self, now: Now, host: &mut dyn Host, send: impl FnOnce(&mut Cx)) {
        let mut cx = Cx::new(now, host, &mut self.core, Id::MAX);
        send(&mut cx);
        let effects = cx.effects;
        self.core.outputs.extend(effects.then);
    }

    fn on_unreadable(
        &mut self,
        now: Now,
        host: &mut dyn Host,
        path: Path,
        datagram: &[u8],
        error: ParseError,
    ) {
        let counters = &mut self.core.counters;
        match error {
            ParseError::NotIke | ParseError::Truncated => counters.not_ike += 1,
            ParseError::MajorVersion { header, .. } => {
                counters.major_version += 1;
                self.answer_init_error(now, host, path, &header, NotifyType::INVALID_MAJOR_VERSION, &[]);
            }
            ParseError::UnsupportedCritical(kind) => {
                counters.unknown_critical += 1;
                if let Ok(header) = Header::parse(datagram) {
                    let kind = [kind.0];
                    self.answer_init_error(
                        now,
                        host,
                        path,
                        &header,
                        NotifyType::UNSUPPORTED_CRITICAL_PAYLOAD,
                        &kind,
                    );
                }
            }
            _ => counters.syntax += 1,
        }
    }

    /// Errors in what begins an IKE SA are answered (RFC 7296 sections 2.5 and 2.21.1), at the rate of IKE_SA_INIT;
    /// elsewhere an answer in the clear would tell strangers something, and peers nothing that they may believe.
    fn answer_init_error(
        &mut self,
        now: Now,
        host: &mut dyn Host,
        path: Path,
        header: &Header,
        kind: NotifyType,
        data: &[u8],
    ) {
        let is_request = !header.flags.response && header.responder_spi == 0;
        let limits = self.core.configuration.limits.clone();
        let source = Source::of(path.remote.ip());
        let admits =
            is_request && self.core.half_open.admit(now.monotonic, &limits, source, false) == Verdict::Accept;
        if admits {
            let message = Message::default();
            let request = Request { header, octets: &[], message: &message, path, is_proven: false };
            self.stateless(now, host, |cx| request.refuse(cx, kind, data));
        }
    }
}
