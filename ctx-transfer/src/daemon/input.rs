//! What the driver is told by other threads.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use baton_dataplane::control::Refusal;
use baton_sad::Table;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::desk::{Answer, Loaded};
use crate::channel;
use crate::cluster::Event;
use crate::control::Request;

/// Inputs that may wait; contexts are at most so many octets long each, and one that comes from the network is not read
/// from there before there is room.
const ROOM: usize = 256;

/// What happened.
#[derive(Debug)]
pub(super) enum Input {
    /// On the connections other than those of heartbeats.
    Bulk(channel::Event),
    /// Something that the core is told as it stands.
    Core(Event),
    /// The SA table is there, or another one; `None` when its data plane is gone.
    Table(Option<Arc<Table>>),
    /// An operator asks.
    Ask(Ask),
    /// Certificates and configuration were read again.
    Reload(Box<Loaded>, SyncSender<Result<Answer, Refusal>>),
}

/// A question, and where its answer goes.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) request: Request,
    pub(super) answer: SyncSender<Result<Answer, Refusal>>,
}

/// The sending end; for threads that may wait.
#[derive(Clone, Debug)]
pub(super) struct Inputs(Sender<Input>);

impl Inputs {
    pub(super) fn new() -> (Self, Receiver<Input>) {
        let (sender, receiver) = channel(ROOM);
        (Self(sender), receiver)
    }

    /// Waits until there is room; `false` when nobody listens any more.
    pub(super) fn tell(&self, input: Input) -> bool {
        self.0.blocking_send(input).is_ok()
    }

    /// The same within a runtime.
    pub(super) async fn send(&self, input: Input) -> bool {
        self.0.send(input).await.is_ok()
    }
}
