//! What a worker receives from and sends to, of whatever medium.

use std::os::fd::RawFd;

use super::counters::SideCounters;
use super::pool::FreeFrames;
use super::system::Buffers;
use super::xsk_port::XskPort;
use crate::io::socket::SocketPort;
use crate::io::tun::TunPort;
use crate::io::{Frame, Side};

/// One medium of one worker on one side. All of them work on the same frames.
#[derive(Debug)]
pub(super) enum Port {
    /// A queue of an interface.
    Xsk(Box<XskPort>),
    /// A queue of a TUN device.
    Tun(TunPort),
    /// Plain sockets.
    Sockets(SocketPort),
}

/// The frames as one worker has them.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) frames: FreeFrames,
    pub(super) buffers: Buffers,
}

impl Port {
    #[inline]
    pub(super) fn side(&self) -> Side {
        match self {
            Self::Xsk(port) => port.side,
            Self::Tun(port) => port.side,
            Self::Sockets(port) => port.side,
        }
    }

    pub(super) fn as_xsk(&self) -> Option<&XskPort> {
        match self {
            Self::Xsk(port) => Some(port),
            _ => None,
        }
    }

    /// Whether it can send too.
    pub(super) fn transmits(&self) -> bool {
        self.as_xsk().is_none_or(|port| port.transmits)
    }

    /// Appends received frames to `batch`, within its capacity.
    #[inline]
    pub(super) fn receive(&mut self, batch: &mut Vec<Frame>, store: &mut Store) -> usize {
        let Store { frames, buffers } = store;
        match self {
            Self::Xsk(port) => port.receive(batch, frames),
            Self::Tun(port) => port.receive(batch, frames, buffers),
            Self::Sockets(port) => port.receive(batch, frames, buffers),
        }
    }

    /// Sends packets, or queues them until the next flush; those that do not fit are released and counted.
    #[inline]
    pub(super) fn transmit(&mut self, batch: &mut Vec<Frame>, store: &mut Store, counters: &SideCounters) {
        let Store { frames, buffers } = store;
        match self {
            Self::Xsk(port) => port.transmit(batch, frames, counters),
            Self::Tun(port) => port.transmit(batch, frames, buffers, counters),
            Self::Sockets(port) => port.transmit(batch, frames, buffers, counters),
        }
    }

    /// What a turn of the worker ends with. Only rings have anything to do then.
    #[inline]
    pub(super) fn flush(&mut self, store: &mut Store, counters: &SideCounters) {
        if let Self::Xsk(port) = self {
            port.flush(&mut store.frames, counters);
        }
    }

    /// Whether packets wait for the kernel to take them.
    pub(super) fn is_blocked(&self) -> bool {
        self.as_xsk().is_some_and(XskPort::is_blocked)
    }

    /// Whether there is something to receive that no descriptor announces.
    pub(super) fn has_work(&self) -> bool {
        matches!(self, Self::Tun(port) if port.has_work())
    }

    /// Whether its descriptor is always ready, and for nothing.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self, Self::Tun(port) if port.is_gone())
    }

    /// The descriptors to wait for.
    pub(super) fn raw_fds(&self) -> impl Iterator<Item = RawFd> {
        let [first, second] = match self {
            Self::Xsk(port) => [Some(port.rings.raw_fd()), None],
            Self::Tun(port) => [Some(port.raw_fd()), None],
            Self::Sockets(port) => port.raw_fds().map(Some),
        };
        first.into_iter().chain(second)
    }

    /// Packets lost on the way in: the receive queue was full, there was no free frame, other reasons.
    pub(super) fn drops(&self) -> Option<[u64; 3]> {
        match self {
            Self::Xsk(port) => port.rings.kernel_drops().ok(),
            Self::Tun(port) => {
                let [no_frame, others] = port.drops();
                Some([0, no_frame, others])
            }
            Self::Sockets(port) => {
                let [full, others] = port.drops();
                Some([full, 0, others])
            }
        }
    }
}
