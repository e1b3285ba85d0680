//! The socket to baton-cluster: lines of JSON both ways, one client, and no wait for it.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use rustix::net::{SocketFlags, accept_with};
use tracing::{info, warn};

use crate::control::{ReplicationNotice, ReplicationReply};

/// A client that has so many octets to read is let go: it lists all contexts when it comes back.
const ROOM: usize = 4 << 20;
/// A line of the client's is never longer.
const MAX_LINE: usize = 1024;
/// Octets that are read in one turn.
const PORTION: usize = 64 * 1024;

/// Both ends of the conversation.
#[derive(Debug)]
pub(super) struct Socket {
    listener: UnixListener,
    client: Option<Client>,
    has_left: bool,
}

#[derive(Debug)]
struct Client {
    stream: UnixStream,
    outgoing: Vec<u8>,
    incoming: Vec<u8>,
}

/// Why a client is let go.
enum Over {
    Left,
    Behind,
    Nonsense,
}

impl Socket {
    pub(super) const fn new(listener: UnixListener) -> Self {
        Self { listener, client: None, has_left: false }
    }

    pub(super) fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    pub(super) fn client(&self) -> Option<BorrowedFd<'_>> {
        self.client.as_ref().map(|client| client.stream.as_fd())
    }

    pub(super) const fn has_client(&self) -> bool {
        self.client.is_some()
    }

    /// Whether a client has left since this was asked last.
    pub(super) fn has_left(&mut self) -> bool {
        std::mem::take(&mut self.has_left)
    }

    pub(super) fn is_stuck(&self) -> bool {
        self.client.as_ref().is_some_and(|client| !client.outgoing.is_empty())
    }

    /// Takes a client that waits, in the place of the one before: that one may be dead and not know it.
    pub(super) fn accept(&mut self) -> bool {
        let Ok(stream) = accept_with(&self.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) else {
            return false;
        };
        info!("baton-cluster listens to changes of tunnels");
        let stream = stream.into();
        self.client = Some(Client { stream, outgoing: Vec::new(), incoming: Vec::new() });
        self.has_left = false;
        true
    }

    pub(super) fn send(&mut self, notice: &ReplicationNotice) {
        let Some(client) = &mut self.client else { return };
        // Strings and numbers always can be written.
        let Ok(line) = serde_json::to_vec(notice) else { return };
        client.outgoing.extend_from_slice(&line);
        client.outgoing.push(b'\n');
        self.flush();
    }

    pub(super) fn flush(&mut self) {
        let flushed = self.client.as_mut().map_or(Ok(()), Client::flush);
        self.let_go_of(flushed);
    }

    /// What the client has said.
    pub(super) fn receive(&mut self) -> Vec<ReplicationReply> {
        let mut replies = Vec::new();
        let received = self.client.as_mut().map_or(Ok(()), |client| client.receive(&mut replies));
        self.let_go_of(received);
        replies
    }

    fn let_go_of(&mut self, result: Result<(), Over>) {
        let Err(why) = result else { return };
        match why {
            Over::Left => info!("baton-cluster has left"),
            Over::Behind => warn!("baton-cluster reads too slowly and is let go"),
            Over::Nonsense => {
                warn!("baton-cluster says what nobody understands and is let go; is it of this release?");
            }
        }
        (self.client, self.has_left) = (None, true);
    }
}

impl Client {
    fn flush(&mut self) -> Result<(), Over> {
        while !self.outgoing.is_empty() {
            match self.stream.write(&self.outgoing) {
                Ok(0) => return Err(Over::Left),
                Ok(written) => drop(self.outgoing.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(Over::Left),
            }
        }
        if self.outgoing.len() > ROOM { Err(Over::Behind) } else { Ok(()) }
    }

    fn receive(&mut self, replies: &mut Vec<ReplicationReply>) -> Result<(), Over> {
        let mut portion = [0; 8192];
        let mut left = PORTION;
        while left > 0 {
            match self.stream.read(&mut portion) {
                Ok(0) => return Err(Over::Left),
                Ok(read) => {
                    left = left.saturating_sub(read);
                    self.take_lines(&portion[..read], replies)?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(Over::Left),
            }
        }
        Ok(())
    }

    fn take_lines(&mut self, octets: &[u8], replies: &mut Vec<ReplicationReply>) -> Result<(), Over> {
        self.incoming.extend_from_slice(octets);
        let mut from = 0;
        while let Some(length) = self.incoming[from..].iter().position(|octet| *octet == b'\n') {
            let line = &self.incoming[from..from + length];
            replies.push(serde_json::from_slice(line).map_err(|_| Over::Nonsense)?);
            from += length + 1;
        }
        self.incoming.drain(..from);
        if self.incoming.len() > MAX_LINE { Err(Over::Nonsense) } else { Ok(()) }
    }
}
