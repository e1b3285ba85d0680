//! The system interface of AF_XDP: frame memory, rings and the calls that have no safe wrapper.
//!
//! What makes the accesses below sound is the ownership of frames: a [`Frame`] value is the only handle on its
//! buffer, is moved and never copied, and can be made only by receiving or allocating it. The free lists hold
//! numbers of frames that no `Frame` stands for. In debug builds the ledger checks every change of hands.
#![allow(unsafe_code, reason = "frame memory and rings are shared with the kernel")]

use std::ffi::CString;
use std::io;
use std::num::NonZeroU32;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use xsk_rs::config::{Interface, SocketConfig, UmemConfig};
use xsk_rs::socket::{Socket, SocketCreateError};
use xsk_rs::umem::frame::FrameDesc;
use xsk_rs::umem::{Umem, UmemCreateError};
use xsk_rs::{CompQueue, FillQueue, RxQueue, TxQueue};

use crate::io::{FRAME_SIZE, Frame, Packet};

/// The frames that all sockets of a gateway share.
#[derive(Debug)]
pub(super) struct FrameMemory {
    owner: Owner,
    base: NonNull<u8>,
    frames: usize,
}

/// Who keeps the memory.
#[derive(Debug)]
enum Owner {
    /// AF_XDP sockets receive into it and send from it.
    Umem { umem: Umem, descriptors: Vec<FrameDesc> },
    /// No AF_XDP socket does.
    Process,
}

// SAFETY: `base` points into memory that `owner` keeps; the buffers in it are only accessed through the
// frames that own them (see the module's documentation), so threads never share one.
unsafe impl Send for FrameMemory {}
// SAFETY: as above; a shared reference gives access to no buffer without its frame.
unsafe impl Sync for FrameMemory {}

impl FrameMemory {
    /// Maps `frames` frames for AF_XDP sockets.
    pub(super) fn new(config: UmemConfig, frames: NonZeroU32, huge: bool) -> Result<Self, UmemCreateError> {
        let (umem, mut descriptors) = Umem::new(config, frames, huge)?;
        // SAFETY: the first frame belongs to this UMEM, and no socket uses it yet.
        let first = unsafe { umem.data_mut(&mut descriptors[0]) }.contents().as_ptr();
        let base = first.expose_provenance() - descriptors[0].addr();
        // The mapping comes from mmap in xsk-rs's C-like code, so that its address is exposed as a whole.
        let base = NonNull::new(std::ptr::with_exposed_provenance_mut(base));
        let frames = descriptors.len();
        Ok(Self {
            owner: Owner::Umem { umem, descriptors },
            base: base.unwrap_or(NonNull::dangling()),
            frames,
        })
    }

    /// Maps `frames` frames for other media only.
    pub(super) fn without_umem(frames: NonZeroU32) -> io::Result<Self> {
        use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
        let frames = frames.get() as usize;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new private mapping, wherever the kernel likes to put it; `drop` unmaps it.
        let base = unsafe {
            mmap_anonymous(std::ptr::null_mut(), frames * FRAME_SIZE, protection, MapFlags::PRIVATE)?
        };
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { owner: Owner::Process, base, frames })
    }

    /// Number of frames.
    pub(super) fn frames(&self) -> usize {
        self.frames
    }

    fn umem(&self) -> io::Result<&Umem> {
        match &self.owner {
            Owner::Umem { umem, .. } => Ok(umem),
            Owner::Process => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// The kernel's name of a frame, where it has one.
    fn descriptor(&self, number: u32) -> Option<&FrameDesc> {
        match &self.owner {
            Owner::Umem { descriptors, .. } => descriptors.get(number as usize),
            Owner::Process => None,
        }
    }
}

impl Drop for FrameMemory {
    fn drop(&mut self) {
        if let Owner::Process = self.owner {
            // SAFETY: this is the mapping of `without_umem`, as long as it was made, and no buffer is out.
            let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.frames * FRAME_SIZE) };
        }
    }
}

/// One worker's way to the buffers.
#[derive(Debug)]
pub(in crate::io) struct Buffers {
    memory: Arc<FrameMemory>,
    /// Buffers lent less buffers taken back. Modulo 2^32 the sum over all workers is how many are out: as long as
    /// one is, some worker's share is not zero.
    lent: u32,
}

impl Buffers {
    pub(super) fn new(memory: Arc<FrameMemory>) -> Self {
        Self { memory, lent: 0 }
    }

    /// Where the buffer of `frame` begins.
    #[inline]
    fn locate(&self, frame: &Frame) -> NonNull<u8> {
        let number = frame.index as usize / FRAME_SIZE;
        assert!(number < self.memory.frames(), "the frame comes from another pool");
        // SAFETY: the mapping has room for that many frames.
        unsafe { self.memory.base.add(number * FRAME_SIZE) }
    }

    /// The whole buffer of `frame`.
    #[inline]
    pub(in crate::io) fn get(&mut self, frame: &Frame) -> &mut [u8] {
        // SAFETY: the buffer lies within the mapping, which lives as long as `self.memory`. The caller holds the
        // frame, the only handle on this buffer, and the kernel does not: frames come out of the rings before
        // they are made and end when they go in. Two results never live at once, for `self` is borrowed.
        unsafe { std::slice::from_raw_parts_mut(self.locate(frame).as_ptr(), FRAME_SIZE) }
    }

    /// Makes the frame a packet with a buffer of its own.
    #[inline]
    pub(in crate::io) fn lend_packet(&mut self, frame: Frame) -> Packet<FrameBuffer> {
        let Frame { start, length, side, .. } = frame;
        Packet { buffer: self.lend(frame), start, length, side }
    }

    /// The opposite of `lend_packet`.
    #[inline]
    pub(in crate::io) fn take_packet_back(&mut self, packet: Packet<FrameBuffer>) -> Frame {
        let Packet { buffer, start, length, side } = packet;
        Frame { index: self.take_back(buffer), start, length, side }
    }

    /// Makes the frame a buffer of its own.
    #[inline]
    #[expect(clippy::needless_pass_by_value, reason = "the frame ends here: the buffer stands for it")]
    fn lend(&mut self, frame: Frame) -> FrameBuffer {
        let buffer = FrameBuffer(self.locate(&frame));
        self.lent = self.lent.wrapping_add(1);
        buffer
    }

    /// The opposite: the index of the frame that stands for the buffer from now on.
    #[inline]
    #[expect(clippy::needless_pass_by_value, reason = "the buffer ends here: a frame stands for it")]
    fn take_back(&mut self, buffer: FrameBuffer) -> u64 {
        let index = buffer.0.addr().get().wrapping_sub(self.memory.base.addr().get());
        assert!(index < self.memory.frames() * FRAME_SIZE, "the buffer comes from another pool");
        self.lent = self.lent.wrapping_sub(1);
        index as u64
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        // Whoever still holds a buffer may use it: the mapping stays for ever then.
        if self.lent != 0 {
            std::mem::forget(Arc::clone(&self.memory));
        }
    }
}

/// A lent buffer of the frame memory: the only handle on its [`FRAME_SIZE`] octets.
#[derive(Debug)]
pub struct FrameBuffer(NonNull<u8>);

// SAFETY: the value is the only handle on its octets (see `Buffers::lend`).
unsafe impl Send for FrameBuffer {}
// SAFETY: as above; a shared reference only reads.
unsafe impl Sync for FrameBuffer {}

impl Deref for FrameBuffer {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: the buffer was made from a frame, the only handle on these octets, and stands for it. The
        // mapping outlives it, since `Buffers` lets go of the memory only when no buffer is out.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr(), FRAME_SIZE) }
    }
}

impl DerefMut for FrameBuffer {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed for as long as the result lives.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_ptr(), FRAME_SIZE) }
    }
}

/// The four rings of one socket.
#[derive(Debug)]
pub(super) struct Rings {
    // Declared first: its mapping goes before the socket is closed, or the queue would stay busy.
    transmit: TransmitRing,
    receive: RxQueue,
    fill: FillQueue,
    completion: CompQueue,
    memory: Arc<FrameMemory>,
    _socket: TxQueue,
}

impl Rings {
    /// Binds a socket to a queue. `config` must inhibit the loading of libxdp's own program.
    pub(super) fn bind(
        memory: &Arc<FrameMemory>,
        config: SocketConfig,
        interface: &str,
        queue: u32,
    ) -> Result<Self, BindError> {
        let name =
            CString::new(interface).map_err(|_| BindError::System(io::ErrorKind::InvalidInput.into()))?;
        let umem = memory.umem().map_err(BindError::System)?;
        // SAFETY: program loading is inhibited, which is all that is asked for a shared UMEM.
        let created = unsafe { Socket::new(config, umem, &Interface::new(name), queue) };
        let (socket, receive, rings) = created.map_err(BindError::Create)?;
        let (fill, completion) = rings.ok_or_else(|| BindError::System(io::ErrorKind::AddrInUse.into()))?;
        let transmit = TransmitRing::map(receive.fd().as_raw_fd(), config.tx_queue_size().get());
        let transmit = transmit.map_err(BindError::System)?;
        Ok(Self { transmit, receive, fill, completion, memory: Arc::clone(memory), _socket: socket })
    }

    /// Takes received packets out of the ring.
    #[inline]
    pub(super) fn receive(&mut self, into: &mut [FrameDesc]) -> usize {
        // SAFETY: the descriptors are overwritten with those of frames that the kernel gives back.
        unsafe { self.receive.consume(into) }
    }

    /// Takes frames out of the ring that the kernel has sent.
    #[inline]
    pub(super) fn complete(&mut self, into: &mut [FrameDesc]) -> usize {
        // SAFETY: as for `receive`.
        unsafe { self.completion.consume(into) }
    }

    /// How many frames the fill ring would still take, at most `wanted`.
    #[inline]
    pub(super) fn fill_room(&mut self, wanted: u32) -> u32 {
        self.fill.nb_free(wanted).min(wanted)
    }

    /// Gives free frames to the kernel to receive into. There must be room for all of them.
    #[inline]
    pub(super) fn fill(&mut self, frames: &[u32]) {
        for descriptor in frames.iter().filter_map(|&number| self.memory.descriptor(number)) {
            // SAFETY: the frame belongs to this UMEM and is free: no `Frame` stands for it.
            let added = unsafe { self.fill.produce_one(descriptor) };
            debug_assert_eq!(added, 1, "the caller asked for room");
        }
    }

    /// Queues a packet for sending. Returns the frame when the ring is full.
    #[inline]
    pub(super) fn transmit(&mut self, frame: Frame) -> Result<u32, Frame> {
        if self.transmit.push(frame.index + u64::from(frame.start), frame.length) {
            Ok((frame.index as usize / FRAME_SIZE) as u32)
        } else {
            Err(frame)
        }
    }

    /// Shows queued packets to the kernel. Returns how many it has not taken yet.
    #[inline]
    pub(super) fn submit(&mut self) -> u32 {
        self.transmit.submit();
        self.transmit.pending()
    }

    /// Whether the kernel wants to be called to send.
    pub(super) fn transmit_needs_wakeup(&self) -> bool {
        self.transmit.needs_wakeup()
    }

    /// Whether the kernel wants to be called to go on receiving.
    pub(super) fn fill_needs_wakeup(&self) -> bool {
        self.fill.needs_wakeup()
    }

    /// Lets the kernel send what was submitted.
    pub(super) fn kick_transmit(&self) -> Result<(), rustix::io::Errno> {
        rustix::net::send(self.fd(), &[], rustix::net::SendFlags::DONTWAIT).map(|_| ())
    }

    /// Lets the kernel go on receiving; with busy polling, lets it poll the device.
    pub(super) fn kick_receive(&self) {
        let mut nothing = [0_u8; 0];
        let _ = rustix::net::recv(self.fd(), &mut nothing, rustix::net::RecvFlags::DONTWAIT);
    }

    /// The kernel's counters: packets lost because the receive ring was full, because the fill ring was empty,
    /// and for other reasons.
    pub(super) fn kernel_drops(&self) -> io::Result<[u64; 3]> {
        let read = self.receive.fd().xdp_statistics()?;
        let empty = read.rx_fill_ring_empty_descs();
        // In copy mode the kernel counts a packet that finds no frame as dropped too.
        let others = read.rx_dropped().saturating_sub(empty) + read.rx_invalid_descs();
        Ok([read.rx_ring_full(), empty, others])
    }

    /// The socket.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the queues in `self` keep the socket open for as long as the borrow lasts.
        unsafe { BorrowedFd::borrow_raw(self.raw_fd()) }
    }

    /// The socket's number, for a poll set.
    pub(super) fn raw_fd(&self) -> RawFd {
        self.receive.fd().as_raw_fd()
    }
}

/// Why a socket could not be bound.
#[derive(Debug)]
pub(super) enum BindError {
    Create(SocketCreateError),
    System(io::Error),
}

/// The transmit ring. It is mapped here, beside xsk-rs's own mapping that stays unused, because descriptors of
/// xsk-rs always begin where the kernel puts received packets, and ours begin wherever the headers begin.
#[derive(Debug)]
struct TransmitRing {
    map: NonNull<u8>,
    octets: usize,
    offsets: libc::xdp_ring_offset,
    size: u32,
    /// Next entry to write; the kernel sees it after `submit`.
    head: u32,
    /// The kernel's position when last read.
    tail: u32,
}

// SAFETY: the mapping belongs to this value alone; the kernel's side is accessed by atomics.
unsafe impl Send for TransmitRing {}

impl TransmitRing {
    fn map(socket: RawFd, size: u32) -> io::Result<Self> {
        let offsets = mmap_offsets(socket)?.tx;
        let octets = offsets.desc as usize + size as usize * size_of::<libc::xdp_desc>();
        // SAFETY: a new mapping of the socket's ring, wherever the kernel likes to put it.
        let map = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                octets,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                socket,
                libc::XDP_PGOFF_TX_RING,
            )
        };
        if map == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let map = NonNull::new(map.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let mut ring = Self { map, octets, offsets, size, head: 0, tail: 0 };
        ring.head = ring.word(offsets.producer).load(Ordering::Relaxed);
        ring.tail = ring.word(offsets.consumer).load(Ordering::Relaxed);
        Ok(ring)
    }

    fn word(&self, offset: u64) -> &AtomicU32 {
        // SAFETY: the kernel's offsets lie within the mapping and are aligned; the words are only accessed
        // atomically, by us and by the kernel.
        unsafe { self.map.add(offset as usize).cast::<AtomicU32>().as_ref() }
    }

    #[inline]
    fn push(&mut self, address: u64, length: u32) -> bool {
        if self.head.wrapping_sub(self.tail) == self.size {
            self.tail = self.word(self.offsets.consumer).load(Ordering::Acquire);
            if self.head.wrapping_sub(self.tail) == self.size {
                return false;
            }
        }
        let index = (self.head & (self.size - 1)) as usize;
        // SAFETY: `index` is below the ring's size, a power of two, for which the mapping was made; the kernel
        // has consumed the entry (`tail` is past it) and does not read it again before `submit`.
        unsafe {
            let entry = self.map.add(self.offsets.desc as usize).cast::<libc::xdp_desc>().add(index);
            entry.write(libc::xdp_desc { addr: address, len: length, options: 0 });
        }
        self.head = self.head.wrapping_add(1);
        true
    }

    #[inline]
    fn submit(&self) {
        self.word(self.offsets.producer).store(self.head, Ordering::Release);
    }

    fn pending(&mut self) -> u32 {
        self.tail = self.word(self.offsets.consumer).load(Ordering::Acquire);
        self.head.wrapping_sub(self.tail)
    }

    fn needs_wakeup(&self) -> bool {
        self.word(self.offsets.flags).load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }
}

impl Drop for TransmitRing {
    fn drop(&mut self) {
        // SAFETY: this is the mapping made in `map`, and nothing points into it any more.
        unsafe { libc::munmap(self.map.as_ptr().cast(), self.octets) };
    }
}

fn mmap_offsets(socket: RawFd) -> io::Result<libc::xdp_mmap_offsets> {
    let mut offsets = std::mem::MaybeUninit::<libc::xdp_mmap_offsets>::zeroed();
    let mut length = size_of::<libc::xdp_mmap_offsets>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` octets into `offsets`.
    let result = unsafe {
        libc::getsockopt(
            socket,
            libc::SOL_XDP,
            libc::XDP_MMAP_OFFSETS,
            offsets.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: plain integers, all zero or written by the kernel.
    Ok(unsafe { offsets.assume_init() })
}
