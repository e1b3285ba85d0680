//! A tunnel that stands, as a context.

use minicbor::bytes::ByteVec;

use super::numbers::{
    stored_fate, stored_path, stored_reason, stored_selectors, stored_suite, texts, time, unix,
};
use super::stored::{
    Envelope, Stored, StoredChild, StoredIkeSa, StoredMobility, StoredOffer, StoredPending, StoredTask,
};
use super::{VERSION, associated, moving, resumption, session};
use crate::configuration::Mode;
use crate::crypto::{Role, SealedState};
use crate::host::Now;
use crate::identity::Identity;
use crate::machine::child_offer::ChildOffer;
use crate::machine::child_sa::{ChildSa, Outbound, Stage};
use crate::machine::core::Cx;
use crate::machine::ike_sa::IkeSa;
use crate::machine::mobility::{Allowance, Check, Mobility, Roaming};
use crate::machine::pending::Pending;
use crate::machine::tasks::Task;
use crate::machine::up::Up;

/// Keys to be sealed.
type Key<'a> = &'a dyn SealedState;

impl Up {
    /// The context.
    pub(in crate::machine) fn context(&self, cx: &mut Cx) -> Vec<u8> {
        let public = encode(&self.stored(cx));
        let wrap = std::sync::Arc::clone(&cx.core.wrap);
        let random = &mut |octets: &mut [u8]| cx.host.random(octets);
        let seal = |(place, key): (usize, Key<'_>)| {
            key.seal_state(&wrap, &associated(place, &public), random).into()
        };
        let sealed: Vec<ByteVec> = self.keys().into_iter().enumerate().map(seal).collect();
        encode(&Envelope { version: VERSION, public: public.into(), sealed })
    }

    /// In the order in which a reader finds their places.
    fn keys(&self) -> Vec<Key<'_>> {
        let mut keys: Vec<Key> = self.sas.iter().flat_map(keys_of).collect();
        keys.extend(self.children.iter().filter_map(|child| match &child.outbound {
            Outbound::Delayed(_, keys) => Some(keys as Key<'_>),
            Outbound::Installed | Outbound::Unused => None,
        }));
        keys.extend(self.resumption.ticket.as_ref().map(|ticket| &ticket.secret as Key<'_>));
        keys
    }

    fn stored(&self, cx: &Cx) -> Stored {
        let now = cx.now;
        Stored {
            number: self.head.number,
            connection: self.head.connection.name.clone(),
            path: stored_path(self.head.path),
            nat: (self.head.nat.ours, self.head.nat.peers),
            local: body(&self.peers.local),
            remote: body(&self.peers.remote),
            user: self.peers.user.as_ref().map(body),
            established: unix(self.established),
            rekey_at: self.rekey_at.map(|at| time(now, at)),
            expires_at: self.expires_at.map(|at| time(now, at)),
            virtual_addresses: texts(&self.virtual_addresses),
            is_leased: cx.core.leases.contains_key(&cx.id),
            dynamic_local: texts(&self.dynamic.local),
            dynamic_remote: texts(&self.dynamic.remote),
            sas: self.sas.iter().map(|sa| stored_sa(now, sa)).collect(),
            children: self.children.iter().map(|child| stored_child(now, child)).collect(),
            tasks: self.tasks.iter().filter_map(stored_task).collect(),
            remnants: self.remnants.iter().map(|(at, spi)| (time(now, *at), *spi)).collect(),
            ending: self.ending.map(stored_reason),
            is_frozen: self.is_frozen,
            ppk: self.ppk.as_ref().map(body),
            short_lived: Some(self.short_lived),
            version: Some(self.version),
            can_synchronize: Some(self.can_synchronize),
            can_synchronize_counters: Some(self.can_synchronize_counters),
            resumption: Some(resumption::stored_resumption(now, &self.resumption)),
            session: self.session.as_ref().map(|session| session::stored(now, session)),
            dns: (!self.dns.is_empty()).then(|| texts(&self.dns)),
            redirection: Some(moving::stored_redirection(now, &self.redirection)),
            mobility: self.mobility.as_ref().map(|mobility| stored_mobility(mobility, &self.head.roaming)),
        }
    }
}

fn keys_of(sa: &IkeSa) -> impl Iterator<Item = Key<'_>> {
    std::iter::once(&sa.keys as Key<'_>)
        .chain(sa.pending.iter().flat_map(|(_, pending)| keys_of_pending(pending)))
}

fn keys_of_pending(pending: &Pending) -> Vec<Key<'_>> {
    let mut keys: Vec<Key<'_>> = pending.share().into_iter().map(|share| share as _).collect();
    if let Pending::FollowUp(follow_up) = pending {
        keys.extend(follow_up.about.secrets().map(|secrets| secrets as Key<'_>));
        keys.push(&follow_up.share);
    }
    keys
}

/// Vectors take whatever is written: this cannot fail.
pub(super) fn encode(value: &impl minicbor::Encode<()>) -> Vec<u8> {
    minicbor::to_vec(value).unwrap_or_default()
}

/// An identity that somebody has is no pattern.
pub(super) fn body(identity: &Identity) -> ByteVec {
    identity.to_wire().map(|id| id.body()).unwrap_or_default().into()
}

fn stored_sa(now: Now, sa: &IkeSa) -> StoredIkeSa {
    let (fate, fate_at) = stored_fate(now, sa.fate);
    StoredIkeSa {
        is_initiator: sa.role == Role::Initiator,
        initiator_spi: sa.initiator_spi,
        responder_spi: sa.responder_spi,
        window: sa.window.clone(),
        peer_reassembles: sa.peer_reassembles,
        fate,
        fate_at,
        pending: sa.pending.iter().map(|(id, pending)| stored_pending(*id, pending)).collect(),
        peer_token: sa.peer_token.map(|digest| digest.octets().to_vec().into()),
        synchronized: sa.synchronization.highest,
        is_synchronizing: Some(sa.synchronization.ongoing.is_some()),
        failovers: Some(sa.synchronization.failovers),
    }
}

fn stored_pending(message_id: u32, pending: &Pending) -> StoredPending {
    let mut stored = StoredPending {
        message_id,
        kind: 0,
        spis: Vec::new(),
        offer: None,
        old: None,
        rival: None,
        ike_spi: None,
        nonce: None,
        detours: 0,
        follow_up: None,
    };
    if let Pending::FollowUp(follow_up) = pending {
        let (first, payloads) = &follow_up.answer;
        stored.follow_up = Some((first.0, payloads.to_vec().into(), follow_up.done));
    }
    match pending.about() {
        // None of them outlives the set-up, or says anything.
        Pending::Intermediate
        | Pending::Authentication
        | Pending::Farewell
        | Pending::Liveness
        | Pending::FollowUp(_) => {}
        Pending::Redirect => stored.kind = moving::REDIRECT,
        Pending::Counters => stored.kind = moving::COUNTERS,
        Pending::Ticket => stored.kind = resumption::TICKET,
        Pending::Routability(check) => (stored.kind, stored.nonce, stored.detours) = stored_check(40, check),
        Pending::Update(update) => {
            let kind = if update.moves { 41 } else { 42 };
            (stored.kind, stored.nonce, stored.detours) = stored_check(kind, &update.check);
        }
        Pending::DeleteIke => stored.kind = 1,
        Pending::DeleteChildren(spis) => (stored.kind, stored.spis) = (2, spis.clone()),
        Pending::NewChild(offer) => (stored.kind, stored.offer) = (3, Some(stored_offer(offer))),
        Pending::RekeyChild(rekeying) => {
            (stored.kind, stored.old) = (4, Some(rekeying.old));
            stored.offer = Some(stored_offer(&rekeying.offer));
            let rival = rekeying.rival.as_ref();
            stored.rival = rival.map(|rival| (u64::from(rival.spi), rival.lowest.clone().into()));
        }
        Pending::RekeyIke(rekeying) => {
            (stored.kind, stored.ike_spi, stored.detours) = (5, Some(rekeying.spi), rekeying.detours);
            stored.nonce = Some(rekeying.nonce.clone().into());
            stored.rival = rekeying.rival.as_ref().map(|rival| (rival.spi, rival.lowest.clone().into()));
        }
    }
    stored
}

fn stored_check(kind: u8, check: &Check) -> (u8, Option<ByteVec>, u32) {
    (kind, Some(check.cookie.clone().into()), check.changes)
}

fn stored_mobility(mobility: &Mobility, roaming: &Roaming) -> StoredMobility {
    let [newest_update, newest_list] = mobility.newest;
    StoredMobility {
        leads: mobility.leads,
        additional: texts(&mobility.additional),
        announced: texts(&mobility.announced),
        newest_update,
        newest_list,
        changes: mobility.changes,
        confirmed: mobility.confirmed,
        seen: mobility.seen.clone().map(Into::into),
        refusals: mobility.refusals,
        held: roaming.held.map(|(path, nat)| (stored_path(path), nat.ours, nat.peers)),
        allowed: mobility
            .allowance
            .map(|Allowance { before: (path, nat), .. }| (stored_path(path), nat.ours, nat.peers)),
    }
}

fn stored_offer(offer: &ChildOffer) -> StoredOffer {
    StoredOffer {
        child: offer.child.name.clone(),
        reqid: offer.reqid,
        spi: offer.spi,
        nonce: offer.nonce.clone().into(),
        has_share: offer.share.is_some(),
        local: stored_selectors(&offer.local),
        remote: stored_selectors(&offer.remote),
        is_transport: offer.mode == Mode::Transport,
        detours: offer.detours,
        gone: offer.gone.clone(),
    }
}

fn stored_child(now: Now, child: &ChildSa) -> StoredChild {
    let (outbound, outbound_at) = match &child.outbound {
        Outbound::Installed => (0, None),
        Outbound::Delayed(at, _) => (1, Some(time(now, *at))),
        Outbound::Unused => (2, None),
    };
    let (stage, stage_at) = match child.stage {
        Stage::Live => (0, None),
        Stage::Replaced(at) => (1, Some(time(now, at))),
        Stage::Doomed => (2, None),
        Stage::Deleting => (3, None),
    };
    StoredChild {
        child: child.child.name.clone(),
        reqid: child.reqid,
        inbound_spi: child.inbound_spi,
        outbound_spi: child.outbound_spi,
        suite: stored_suite(child.suite),
        is_transport: child.mode == Mode::Transport,
        local: stored_selectors(&child.local),
        remote: stored_selectors(&child.remote),
        is_initiator: child.role == Role::Initiator,
        no_tfc: child.no_tfc,
        outbound,
        outbound_at,
        stage,
        stage_at,
        established: unix(child.established),
        rekey_at: child.rekey_at.map(|at| time(now, at)),
        expires_at: child.expires_at.map(|at| time(now, at)),
        ending: child.ending.map(stored_reason),
        gap: (child.gap > 0).then_some(child.gap),
    }
}

fn stored_task(task: &Task) -> Option<StoredTask> {
    let of = |kind, spi| Some(StoredTask { kind, spi, child: None, reqid: None, gateway: None });
    match task {
        Task::NewChild(wanted) => {
            let child = Some(wanted.child.name.clone());
            Some(StoredTask { kind: 0, spi: None, child, reqid: wanted.reqid, gateway: None })
        }
        Task::RekeyChild(spi) => of(1, Some(*spi)),
        Task::RekeyIke => of(2, None),
        Task::DeleteUnwanted(spi) => of(3, Some(*spi)),
        Task::AnnounceWindow => of(4, None),
        Task::Redirect(gateway) => Some(StoredTask {
            kind: moving::REDIRECT,
            spi: None,
            child: None,
            reqid: None,
            gateway: Some(gateway.to_string()),
        }),
        Task::RequestTicket => of(resumption::TICKET, None),
        Task::CheckRoutability => of(40, None),
        Task::UpdateAddresses => of(41, None),
        Task::AnnounceAddresses => of(42, None),
        Task::SynchronizeCounters => of(moving::COUNTERS, None),
        // Silence asks again.
        Task::Liveness => None,
    }
}
