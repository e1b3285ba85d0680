//! Requests about the kernel's routes and rules, many at a time, answered when the call returns.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};
use rustix::net::sockopt::{Timeout, set_socket_timeout};

/// Requests of one datagram: the answers to as many find room in the socket's buffer.
const BATCH: usize = 64;
/// Octets of one datagram of the kernel's at most (`NLMSG_GOODSIZE`, with room to spare).
const DATAGRAM: usize = 64 << 10;
/// The kernel answers while the request is sent. Who waits this long waits for nothing.
const PATIENCE: Duration = Duration::from_secs(10);

/// A request, and its flags beside [`NLM_F_REQUEST`] and [`NLM_F_ACK`].
pub(crate) type Request = (RouteNetlinkMessage, u16);
/// The kernel's answer: nothing, or its error number.
pub(crate) type Answer = Result<(), i32>;

/// A socket to the kernel's tables, of the network namespace that it was opened in.
pub(crate) struct Requests {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Requests {
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // Before Linux 4.20 the kernel lists all routes, and we choose; and it quotes requests in its answers.
        let _ = socket.set_netlink_get_strict_chk(true);
        let _ = socket.set_cap_ack(true);
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
        Ok(Self { socket, sequence: 0, buffer: Vec::new() })
    }

    /// Makes changes, one after the other, whether or not those before it are refused.
    pub(crate) fn change(&mut self, requests: impl IntoIterator<Item = Request>) -> io::Result<Vec<Answer>> {
        let mut requests = requests.into_iter().peekable();
        let mut answers = Vec::new();
        while requests.peek().is_some() {
            let first = self.sequence.wrapping_add(1);
            let batch: VecDeque<_> = requests.by_ref().take(BATCH).collect();
            let count = batch.len();
            self.send(batch, NLM_F_ACK)?;
            self.receive_answers(first, count, &mut answers)?;
        }
        Ok(answers)
    }

    /// Makes one change.
    pub(crate) fn change_one(&mut self, request: Request) -> io::Result<Answer> {
        Ok(self.change([request])?.pop().unwrap_or(Ok(())))
    }

    /// Reads a table; `each` gets its entries.
    pub(crate) fn dump(
        &mut self,
        query: RouteNetlinkMessage,
        mut each: impl FnMut(RouteNetlinkMessage),
    ) -> io::Result<()> {
        self.send([(query, NLM_F_DUMP)].into(), 0)?;
        loop {
            for message in self.receive()? {
                match message.payload {
                    _ if message.header.sequence_number != self.sequence => {}
                    NetlinkPayload::InnerMessage(entry) => each(entry),
                    NetlinkPayload::Done(_) => return Ok(()),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    _ => {}
                }
            }
        }
    }

    fn send(&mut self, requests: VecDeque<Request>, flags: u16) -> io::Result<()> {
        let mut datagram = Vec::new();
        for (request, more) in requests {
            self.sequence = self.sequence.wrapping_add(1);
            let mut message = NetlinkMessage::new(NetlinkHeader::default(), request.into());
            message.header.flags = NLM_F_REQUEST | flags | more;
            message.header.sequence_number = self.sequence;
            message.finalize();
            let start = datagram.len();
            datagram.resize(start + message.buffer_len().next_multiple_of(4), 0);
            message.serialize(&mut datagram[start..start + message.buffer_len()]);
        }
        let sent = self.socket.send(&datagram, 0)?;
        if sent == datagram.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// The answers to `count` requests from the one with the number `first` on, which come in their order.
    fn receive_answers(&mut self, first: u32, count: usize, answers: &mut Vec<Answer>) -> io::Result<()> {
        let end = answers.len() + count;
        let mut expected = first;
        while answers.len() < end {
            for message in self.receive()? {
                if let NetlinkPayload::Error(error) = message.payload
                    && message.header.sequence_number == expected
                    && answers.len() < end
                {
                    answers.push(error.code.map_or(Ok(()), |code| Err(code.get().abs())));
                    expected = expected.wrapping_add(1);
                }
            }
        }
        Ok(())
    }

    /// The messages of one datagram.
    fn receive(&mut self) -> io::Result<Vec<NetlinkMessage<RouteNetlinkMessage>>> {
        self.buffer.clear();
        self.buffer.reserve(DATAGRAM);
        loop {
            match self.socket.recv(&mut self.buffer, 0) {
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let mut rest = &self.buffer[..];
        let mut messages = Vec::new();
        while !rest.is_empty() {
            let message = NetlinkMessage::deserialize(rest).map_err(io::Error::other)?;
            let length = (message.header.length as usize).next_multiple_of(4).max(4);
            rest = rest.get(length..).unwrap_or_default();
            messages.push(message);
        }
        Ok(messages)
    }
}
