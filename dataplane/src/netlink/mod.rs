//! Next hops from the kernel: a thread that follows links, addresses, routes and neighbours by netlink and
//! publishes [`NextHops`], and that asks the kernel to resolve what workers miss.
//!
//! It subscribes first and dumps afterwards, so that no change falls between; when the kernel had to drop
//! notifications it dumps again. Only the main routing table counts; policy routing rules do not.

mod follow;
pub(crate) mod requests;
mod resolve;
pub(crate) mod tables;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, SyncSender};
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use thiserror::Error;
use tokio::sync::Notify;

use crate::io::Side;
use crate::next_hop::{NextHops, ResolveRequests};

/// Why the kernel's tables cannot be followed.
#[derive(Debug, Error)]
pub enum NetlinkError {
    /// The interface is not in this network namespace.
    #[error("there is no {} interface `{name}` in this network namespace; check the name with `ip link`", side.name())]
    NoSuchInterface {
        /// Which of the two.
        side: Side,
        /// The name asked for.
        name: String,
    },
    /// No netlink socket or no thread.
    #[error("cannot open a netlink socket: {0}")]
    Open(#[from] io::Error),
    /// The kernel refused a request.
    #[error("the kernel refused to tell its {what}: {reason}")]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// The kernel's answer.
        reason: String,
    },
    /// The connection ended.
    #[error("the netlink connection ended unexpectedly")]
    Ended,
}

/// What happens to one of the two interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// It is up and has a carrier.
    Up(Side),
    /// It is there, but down or without carrier.
    Down(Side),
    /// It is gone.
    Removed(Side),
    /// It was removed and made again under the same name: sockets bound to the old one are dead.
    Replaced(Side),
}

/// The interfaces to follow.
#[derive(Clone, Debug)]
pub struct NetlinkOptions {
    /// The ciphertext side's interface.
    pub outer: String,
    /// The plaintext side's interface.
    pub inner: String,
}

impl NetlinkOptions {
    fn name(&self, side: Side) -> &str {
        match side {
            Side::Outer => &self.outer,
            Side::Inner => &self.inner,
        }
    }
}

/// The running thread; it ends when this is dropped.
#[derive(Debug)]
pub struct NetlinkFollower {
    stop: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

impl NetlinkFollower {
    /// Starts the thread in the caller's network namespace and returns when the first snapshot is published.
    /// `on_link` is called by the thread, first with the state that it finds.
    ///
    /// # Errors
    /// [`NetlinkError`]; no thread is left behind then.
    pub fn start(
        options: NetlinkOptions,
        next_hops: Arc<ArcSwap<NextHops>>,
        requests: Arc<ResolveRequests>,
        on_link: impl FnMut(LinkEvent) + Send + 'static,
    ) -> Result<Self, NetlinkError> {
        let stop = Arc::new(Notify::new());
        let (ready, started) = mpsc::sync_channel(1);
        let sinks =
            follow::Sinks { next_hops, requests, on_link: Box::new(on_link), stop: Arc::clone(&stop) };
        let thread = std::thread::Builder::new()
            .name("baton-netlink".to_owned())
            .spawn(move || run(options, sinks, &ready))?;
        let follower = Self { stop, thread: Some(thread) };
        started.recv().unwrap_or(Err(NetlinkError::Ended)).map(|()| follower)
    }
}

impl NetlinkFollower {
    /// Whether the thread ended by itself: next hops are frozen then.
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for NetlinkFollower {
    fn drop(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(options: NetlinkOptions, sinks: follow::Sinks, ready: &SyncSender<Result<(), NetlinkError>>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.map_err(NetlinkError::from).and_then(|runtime| {
        runtime.block_on(follow::follow(options, sinks, || {
            let _ = ready.send(Ok(()));
        }))
    });
    if let Err(error) = result {
        tracing::error!(%error, "next hops are not followed any more");
        let _ = ready.try_send(Err(error));
    }
}
