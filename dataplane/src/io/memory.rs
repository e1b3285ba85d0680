//! Packet I/O in memory: a pool of frames and two queues per side. Tests and benches run the pipeline on it.
//!
//! Several workers may share one [`Pool`]; each buffer then belongs to the [`MemoryIo`] that holds its frame, and
//! travels through the pool's exchange when the frame does. All of it is safe code.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use crossbeam::atomic::AtomicCell;
use crossbeam::queue::ArrayQueue;

use super::{FRAME_SIZE, Frame, HEADROOM, Packet, PacketIo, Side};

type Buffer = Box<[u8; FRAME_SIZE]>;

/// Frames that one or several [`MemoryIo`] share.
pub struct Pool {
    /// Buffers that no I/O holds: free ones, and those on their way from one to another.
    exchange: Vec<AtomicCell<Option<Buffer>>>,
    free: ArrayQueue<u64>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("frames", &self.exchange.len()).field("free", &self.free.len()).finish()
    }
}

impl Pool {
    /// A pool of `frames` buffers.
    pub fn new(frames: usize) -> Arc<Self> {
        let free = ArrayQueue::new(frames.max(1));
        for index in 0..frames as u64 {
            let _ = free.push(index);
        }
        let buffer = || AtomicCell::new(Some(Box::new([0; FRAME_SIZE])));
        Arc::new(Self { exchange: (0..frames).map(|_| buffer()).collect(), free })
    }

    /// Frames that are in nobody's hands.
    pub fn free(&self) -> usize {
        self.free.len()
    }
}

/// A lent buffer of a [`MemoryIo`].
#[derive(Debug)]
pub struct MemoryBuffer {
    index: u64,
    octets: Buffer,
}

impl Deref for MemoryBuffer {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &*self.octets
    }
}

impl DerefMut for MemoryBuffer {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut *self.octets
    }
}

/// One worker's I/O on a [`Pool`].
#[derive(Debug)]
pub struct MemoryIo {
    pool: Arc<Pool>,
    held: Vec<Option<Buffer>>,
    spare: Vec<u64>,
    received: [Vec<Frame>; 2],
    transmitted: [Vec<Frame>; 2],
}

impl MemoryIo {
    /// An I/O of its own pool of `frames` buffers.
    pub fn new(frames: usize) -> Self {
        Self::on(Pool::new(frames))
    }

    /// An I/O on a shared pool. All its storage is allocated here.
    pub fn on(pool: Arc<Pool>) -> Self {
        let frames = pool.exchange.len();
        let queues = || [Vec::with_capacity(frames), Vec::with_capacity(frames)];
        Self {
            held: (0..frames).map(|_| None).collect(),
            spare: Vec::with_capacity(frames),
            received: queues(),
            transmitted: queues(),
            pool,
        }
    }

    /// Puts a frame with these octets into the receive queue of `side`. Returns `false` when the pool is empty
    /// or the octets do not fit a frame.
    pub fn inject(&mut self, side: Side, octets: &[u8]) -> bool {
        let Some(mut frame) = self.allocate() else { return false };
        let start = frame.start as usize;
        let fits = start + octets.len() <= FRAME_SIZE;
        if fits {
            self.buffer(&frame)[start..start + octets.len()].copy_from_slice(octets);
            frame.length = octets.len() as u32;
            frame.side = side;
            self.received[side.index()].push(frame);
        } else {
            self.release(frame);
        }
        fits
    }

    /// The oldest frame transmitted on `side`, for the caller to look at and release.
    pub fn take_transmitted(&mut self, side: Side) -> Option<Frame> {
        let queue = &mut self.transmitted[side.index()];
        if queue.is_empty() { None } else { Some(queue.remove(0)) }
    }

    /// The octets of the oldest frame transmitted on `side`, copied; the frame is released.
    pub fn transmitted(&mut self, side: Side) -> Option<Vec<u8>> {
        let frame = self.take_transmitted(side)?;
        let octets = self.buffer(&frame)[frame.range()].to_vec();
        self.release(frame);
        Some(octets)
    }

    /// Frames that wait in the receive queue of `side`.
    pub fn waiting(&self, side: Side) -> usize {
        self.received[side.index()].len()
    }
}

impl PacketIo for MemoryIo {
    type Buffer = MemoryBuffer;

    fn receive(&mut self, side: Side, batch: &mut Vec<Frame>) -> usize {
        let queue = &mut self.received[side.index()];
        let count = queue.len().min(batch.capacity() - batch.len());
        batch.extend(queue.drain(..count));
        count
    }

    /// # Panics
    /// If `frame` belongs to another pool, or was not handed over: a defect of the caller, not of its input.
    #[inline]
    fn buffer(&mut self, frame: &Frame) -> &mut [u8] {
        let index = frame.index as usize;
        let slot = &mut self.held[index];
        if slot.is_none() {
            *slot = self.pool.exchange[index].take();
        }
        slot.as_deref_mut().expect("the frame is of this pool and was handed over")
    }

    /// # Panics
    /// If `frame` belongs to another pool, or was not handed over.
    #[inline]
    fn lend(&mut self, frame: Frame) -> Packet<MemoryBuffer> {
        let index = frame.index as usize;
        let octets = self.held[index].take().or_else(|| self.pool.exchange[index].take());
        let octets = octets.expect("the frame is of this pool and was handed over");
        let buffer = MemoryBuffer { index: frame.index, octets };
        Packet { buffer, start: frame.start, length: frame.length, side: frame.side }
    }

    /// # Panics
    /// If `packet` belongs to a larger pool.
    #[inline]
    fn take_back(&mut self, packet: Packet<MemoryBuffer>) -> Frame {
        let MemoryBuffer { index, octets } = packet.buffer;
        self.held[index as usize] = Some(octets);
        Frame { index, start: packet.start, length: packet.length, side: packet.side }
    }

    fn transmit(&mut self, side: Side, frames: &mut Vec<Frame>) {
        self.transmitted[side.index()].append(frames);
    }

    fn allocate(&mut self) -> Option<Frame> {
        let index = self.spare.pop().or_else(|| self.pool.free.pop())?;
        Some(Frame { index, start: HEADROOM as u32, length: 0, side: Side::Inner })
    }

    fn release(&mut self, frame: Frame) {
        // Half of a shared pool stays at hand; the rest serves the others.
        if self.spare.len() < self.held.len() / 2 || Arc::strong_count(&self.pool) == 1 {
            self.spare.push(frame.index);
            return;
        }
        self.hand_over(&frame);
        let _ = self.pool.free.push(frame.index);
    }

    fn hand_over(&mut self, frame: &Frame) {
        let index = frame.index as usize;
        if let Some(buffer) = self.held[index].take() {
            self.pool.exchange[index].store(Some(buffer));
        }
    }

    fn flush(&mut self) {}

    fn wait(&mut self, timeout: Duration) {
        if self.received.iter().all(Vec::is_empty) {
            std::thread::sleep(timeout);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_go_round_and_are_never_lost() {
        let mut io = MemoryIo::new(2);
        assert!(io.inject(Side::Outer, &[1; 100]) && io.inject(Side::Outer, &[2; 100]));
        assert!(!io.inject(Side::Outer, &[3]), "the pool is empty");
        let mut batch = Vec::with_capacity(32);
        assert_eq!(io.receive(Side::Outer, &mut batch), 2);
        io.transmit(Side::Inner, &mut batch);
        assert_eq!(io.transmitted(Side::Inner).unwrap(), [1; 100]);
        assert_eq!(io.transmitted(Side::Inner).unwrap(), [2; 100]);
        assert!(io.allocate().is_some());
        assert!(!io.inject(Side::Inner, &[0; FRAME_SIZE]), "too long for a frame");
    }

    #[test]
    fn many_buffers_are_lent_at_once_and_taken_back_by_any_on_the_pool() {
        let pool = Pool::new(4);
        let (mut a, mut b) = (MemoryIo::on(Arc::clone(&pool)), MemoryIo::on(pool));
        assert!(a.inject(Side::Outer, &[1; 60]) && a.inject(Side::Outer, &[2; 70]));
        let mut batch = Vec::with_capacity(2);
        a.receive(Side::Outer, &mut batch);
        let mut packets: Vec<_> = batch.drain(..).map(|frame| a.lend(frame)).collect();
        for packet in &mut packets {
            let range = packet.range();
            packet.buffer[range.start] = 9;
            packet.set_range(range.start..range.end - 10);
        }
        let frames: Vec<_> = packets.drain(..).map(|packet| b.take_back(packet)).collect();
        for (frame, (octet, length)) in frames.into_iter().zip([(1, 50), (2, 60)]) {
            let octets = b.buffer(&frame)[frame.range()].to_vec();
            assert_eq!((octets.len(), octets[0], octets[1]), (length, 9, octet));
            b.release(frame);
        }
    }

    #[test]
    fn a_frame_moves_between_two_on_one_pool() {
        let pool = Pool::new(4);
        let (mut a, mut b) = (MemoryIo::on(Arc::clone(&pool)), MemoryIo::on(Arc::clone(&pool)));
        assert!(a.inject(Side::Outer, &[7; 64]));
        let mut batch = Vec::with_capacity(1);
        a.receive(Side::Outer, &mut batch);
        a.hand_over(&batch[0]);
        let frame = batch.pop().unwrap();
        assert_eq!(b.buffer(&frame)[frame.range()], [7; 64]);
        b.release(frame);
    }
}
