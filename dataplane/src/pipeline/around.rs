//! Around the packets: what happens once per batch, and what becomes of a packet in the end.

use arrayvec::ArrayVec;

use super::{
    AnswerLimit, Arc, Arriving, Cache, DropReason, Egress, EventSender, FlowCache, Forward, Frame, InFlight,
    IvSupply, Outcome, PacketIo, Pipeline, SaCache, Solicitor, Stop, Waiting, WorkerOptions,
};
use crate::crypto::{Engine, EngineError, Job};

/// Jobs that the engine gets at once at most: more packets than any multi-buffer engine has lanes.
const AT_ONCE: usize = 64;

impl<I: PacketIo> std::fmt::Debug for Pipeline<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipeline").field("index", &self.index).finish_non_exhaustive()
    }
}

impl<I: PacketIo> Pipeline<I> {
    /// A pipeline for the worker that `options` describe.
    ///
    /// # Errors
    /// [`EngineError`] when the system gives no random octets.
    pub fn new(options: &WorkerOptions) -> Result<Self, EngineError> {
        let batch = options.batch.max(1);
        Ok(Self {
            index: options.index,
            workers: options.workers.max(1),
            clock: options.clock,
            unix_clock: options.unix_clock,
            now: (options.clock)(),
            unix_seconds: (options.unix_clock)(),
            enforcement: options.table.enforcement_count(),
            anti_spoofing: options.anti_spoofing,
            table: Arc::clone(&options.table),
            spd: Cache::new(Arc::clone(&options.spd)),
            hops: Cache::new(Arc::clone(&options.next_hops)),
            engine: Engine::new(options.crypto)?,
            sas: SaCache::new(&options.table, options.workers),
            flows: FlowCache::default(),
            ivs: IvSupply::default(),
            egress: Egress::new(options),
            answers: AnswerLimit::new(options.errors_per_second),
            waiting: Waiting::new(options.acquire),
            arriving: Arriving::default(),
            solicitor: Solicitor::new()?,
            events: EventSender::new(Arc::clone(&options.events)),
            rings: Arc::clone(&options.rings),
            counters: Arc::clone(&options.counters),
            tap: Arc::clone(&options.tap),
            opening: Vec::with_capacity(batch),
            sealing: Vec::with_capacity(batch),
        })
    }

    pub(super) fn begin_batch(&mut self, batch: &[Frame]) {
        self.sas.begin_batch();
        if !batch.is_empty() {
            self.begin();
        }
    }

    /// Looks at the clocks, and at what has changed since.
    pub(super) fn begin(&mut self) {
        self.now = (self.clock)();
        self.unix_seconds = (self.unix_clock)();
        self.enforcement = self.table.enforcement_count();
        let changes = self.table.change_count();
        let hops = self.hops.load();
        // Decisions rest on routes too, as far as they tell who is spoofed. Both count from 1 in this process.
        let rules = self.spd.load().generation() << 32 | hops.generation() & 0xffff_ffff;
        self.flows.revalidate(rules, changes);
        self.egress.revalidate(hops);
    }

    /// Gives the engine everything that is to be opened.
    pub(super) fn open(&mut self) {
        let Self { engine, sas, opening, .. } = self;
        for some in opening.chunks_mut(AT_ONCE) {
            run(some, sas, |jobs| engine.open(jobs));
        }
    }

    /// Gives the engine everything that is to be sealed.
    pub(super) fn seal(&mut self) {
        let Self { engine, sas, sealing, .. } = self;
        for some in sealing.chunks_mut(AT_ONCE) {
            run(some, sas, |jobs| engine.seal(jobs));
        }
    }

    #[inline(always)]
    pub(super) fn forward(&mut self, io: &mut I, frame: Frame, (packet, way): Forward) {
        self.egress.send(io, frame, packet, way, (self.hops.load(), self.now));
    }

    #[inline]
    pub(super) fn stop(&mut self, io: &mut I, frame: Frame, stop: &Stop) {
        match *stop {
            Stop::Drop(reason) => self.drop(io, frame, reason),
            Stop::Answer(reason, error) => {
                self.counters.count_drop(reason);
                self.answer(io, frame, error);
            }
            Stop::HandOver(owner) => {
                io.hand_over(&frame);
                match self.rings.push(owner, frame) {
                    Ok(()) => self.counters.handed_over.add(1),
                    Err(frame) => self.drop(io, frame, DropReason::RingFull),
                }
            }
            Stop::Wait(reqid, flow) => self.wait_for_sa(io, frame, reqid, flow),
            Stop::Hold(segment) => self.hold_arriving(io, frame, segment),
        }
    }

    #[inline]
    pub(super) fn drop(&self, io: &mut I, frame: Frame, reason: DropReason) {
        self.counters.count_drop(reason);
        io.release(frame);
    }

    pub(super) fn transmit(&mut self, io: &mut I) {
        if self.egress.has_ready() {
            // The clock again: this is the moment at which the lease must hold (I4).
            self.egress.transmit(io, &self.table, (self.clock)());
        }
    }

    /// Once per turn: sends what waited for a neighbour or an SA that came, drops what waited too long, and wipes keys
    /// of SAs that are gone.
    pub fn maintain(&mut self, io: &mut I) {
        self.sas.sweep(&self.table);
        self.release_arrived(io);
        if !self.waiting.is_empty() {
            self.now = (self.clock)();
            self.retry_waiting(io);
        }
        self.look_after_unheard(io);
        if self.egress.has_held() {
            self.now = (self.clock)();
            self.egress.release_due(io, self.hops.load(), self.now);
            self.transmit(io);
        }
    }
}

/// Makes jobs of packets whose SA is still the one that they were framed for, and has them done.
fn run<B, About>(some: &mut [InFlight<B, About>], sas: &SaCache, engine: impl FnOnce(&mut [Job<'_>]))
where
    B: std::ops::DerefMut<Target = [u8]>,
{
    let mut jobs = ArrayVec::<Job<'_>, AT_ONCE>::new();
    let mut places = ArrayVec::<usize, AT_ONCE>::new();
    for (place, InFlight { packet, flight }) in some.iter_mut().enumerate() {
        let Some(sa) = sas.prepared(flight.handle) else { continue };
        let Some(octets) = packet.buffer.get_mut(flight.esp.clone()) else { continue };
        let (sequence, iv) = (flight.sequence, flight.iv);
        jobs.push(Job { key: &sa.key, sequence, iv, packet: octets, outcome: Outcome::Pending });
        places.push(place);
    }
    engine(&mut jobs);
    let outcomes: ArrayVec<Outcome, AT_ONCE> = jobs.into_iter().map(|job| job.outcome).collect();
    for (place, outcome) in places.into_iter().zip(outcomes) {
        some[place].flight.outcome = outcome;
    }
}
