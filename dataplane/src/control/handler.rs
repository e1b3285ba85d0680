//! The data plane's requests: what each does, and how it is answered.

use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::time::Duration;

use super::capture::{CaptureNext, CaptureStream, write_header, write_packet};
use super::cluster::{Announce, AnnounceReport, ClusterAddress, ClusterReport, Override, OwnerMacs};
use super::monitor::Listening;
use super::protocol::{
    CaptureRequest, Code, Counters, DummyReport, FreezeReport, InsideEntry, InsideReport, MonitorRequest,
    Policies, PolicyReport, Refusal, ReloadReport, Request, Resolved, Segments, Status,
};
use super::server::MAX_REQUEST_OCTETS;
use super::service::{Conversation, Daemon, Next, Service};
use crate::config::PolicySpec;

/// How often an idle capture looks whether it should end.
const CAPTURE_TICK: Duration = Duration::from_millis(5);

/// The data plane's answers. Each is called from a thread of the server, several at once.
///
/// A [`Refusal`] means that nothing was changed.
pub trait Handler: Send + Sync + 'static {
    /// How the data plane is.
    ///
    /// # Errors
    /// A [`Refusal`], as for all of these.
    fn status(&self) -> Result<Status, Refusal>;
    /// All counters.
    ///
    /// # Errors
    /// A [`Refusal`].
    fn counters(&self) -> Result<Counters, Refusal>;
    /// The SPD in use.
    ///
    /// # Errors
    /// A [`Refusal`].
    fn policies(&self) -> Result<Policies, Refusal>;
    /// Ownership of segments.
    ///
    /// # Errors
    /// A [`Refusal`].
    fn segments(&self) -> Result<Segments, Refusal>;
    /// Takes segments: their packets are handled from the return on.
    ///
    /// # Errors
    /// A [`Refusal`].
    fn segment_take(&self, segments: &[u8]) -> Result<Segments, Refusal>;
    /// Drops segments: none of their packets is sent after the return.
    ///
    /// # Errors
    /// A [`Refusal`].
    fn segment_drop(&self, segments: &[u8]) -> Result<Segments, Refusal>;
    /// Has the filter follow the leases that stand in the SA table now.
    ///
    /// # Errors
    /// A [`Refusal`].
    fn segment_follow(&self) -> Result<Segments, Refusal>;
    /// Shares addresses with other nodes.
    ///
    /// # Errors
    /// A [`Refusal`].
    fn cluster_address(&self, shared: &ClusterAddress) -> Result<ClusterReport, Refusal>;
    /// Learns where frames of other nodes' segments go.
    ///
    /// # Errors
    /// A [`Refusal`].
    fn owner_macs(&self, macs: &OwnerMacs) -> Result<ClusterReport, Refusal>;
    /// Puts SPIs in another segment.
    ///
    /// # Errors
    /// A [`Refusal`].
    fn override_segment(&self, spis: &Override) -> Result<ClusterReport, Refusal>;
    /// Tells the links that addresses are here, once.
    ///
    /// # Errors
    /// A [`Refusal`].
    fn announce(&self, addresses: &Announce) -> Result<AnnounceReport, Refusal>;
    /// Reads the configuration again.
    ///
    /// # Errors
    /// A [`Refusal`] with the configuration's problems; the running configuration stays.
    fn reload(&self) -> Result<ReloadReport, Refusal>;
    /// Stops using a tunnel's SAs; no worker uses them when it returns.
    ///
    /// # Errors
    /// A [`Refusal`].
    fn freeze(&self, name: &str) -> Result<FreezeReport, Refusal>;
    /// Uses a tunnel's SAs again.
    ///
    /// # Errors
    /// A [`Refusal`].
    fn thaw(&self, name: &str) -> Result<FreezeReport, Refusal>;
    /// Starts a capture.
    ///
    /// # Errors
    /// [`Code::Busy`] if one runs.
    fn capture(&self, request: &CaptureRequest) -> Result<Box<dyn CaptureStream>, Refusal>;
    /// Installs policies, or replaces those of the same names.
    ///
    /// # Errors
    /// A [`Refusal`].
    fn policy_add(&self, policies: &[PolicySpec]) -> Result<PolicyReport, Refusal>;
    /// Removes policies that were installed that way.
    ///
    /// # Errors
    /// A [`Refusal`].
    fn policy_remove(&self, names: &[String], keep_prohibited: bool) -> Result<PolicyReport, Refusal>;
    /// Who this host is inside.
    ///
    /// # Errors
    /// A [`Refusal`].
    fn inside(&self) -> Result<InsideReport, Refusal>;
    /// Makes it somebody because of a tunnel.
    ///
    /// # Errors
    /// A [`Refusal`]; what is merely not possible yet stands in the report.
    fn inside_set(&self, entry: InsideEntry) -> Result<InsideReport, Refusal>;
    /// Makes it nobody because of these tunnels.
    ///
    /// # Errors
    /// A [`Refusal`].
    fn inside_remove(&self, tunnels: &[String]) -> Result<InsideReport, Refusal>;
    /// Where a host is. It may take some seconds.
    ///
    /// # Errors
    /// A [`Refusal`].
    fn resolve(&self, name: &str) -> Result<Resolved, Refusal>;
    /// Sends dummy packets.
    ///
    /// # Errors
    /// A [`Refusal`].
    fn send_dummy(&self, name: &str, count: u32) -> Result<DummyReport, Refusal>;
    /// Begins to listen to what happens.
    ///
    /// # Errors
    /// [`Code::Busy`] if too many do.
    fn monitor(&self, request: &MonitorRequest) -> Result<Listening, Refusal>;
}

/// The data plane as a service.
pub struct DataPlane(pub Arc<dyn Handler>);

impl Service for DataPlane {
    type Request = Request;
    const DAEMON: Daemon = Daemon::DataPlane;
    const MAX_REQUEST_OCTETS: usize = MAX_REQUEST_OCTETS;

    fn answer(&self, request: Request, client: &Conversation<'_>) -> io::Result<Next> {
        let handler = &*self.0;
        match request {
            Request::Status => client.reply(handler.status()),
            Request::Counters => client.reply(handler.counters()),
            Request::Policies => client.reply(handler.policies()),
            Request::Segments => client.reply(handler.segments()),
            Request::SegmentTake { segments } => client.reply(handler.segment_take(&segments)),
            Request::SegmentDrop { segments } => client.reply(handler.segment_drop(&segments)),
            Request::SegmentFollow => client.reply(handler.segment_follow()),
            Request::ClusterAddress(shared) => client.reply(handler.cluster_address(&shared)),
            Request::OwnerMacs(macs) => client.reply(handler.owner_macs(&macs)),
            Request::Override(spis) => client.reply(handler.override_segment(&spis)),
            Request::Announce(addresses) => client.reply(handler.announce(&addresses)),
            Request::Reload => client.reply(handler.reload()),
            Request::Freeze { name } => client.reply(handler.freeze(&name)),
            Request::Thaw { name } => client.reply(handler.thaw(&name)),
            Request::PolicyAdd { policies } => client.reply(handler.policy_add(&policies)),
            Request::PolicyRemove { names, keep_prohibited } => {
                client.reply(handler.policy_remove(&names, keep_prohibited))
            }
            Request::Inside => client.reply(handler.inside()),
            Request::InsideSet(entry) => client.reply(handler.inside_set(entry)),
            Request::InsideRemove { tunnels } => client.reply(handler.inside_remove(&tunnels)),
            Request::Resolve { name } => client.reply(handler.resolve(&name)),
            Request::SendDummy { name, count } => client.reply(handler.send_dummy(&name, count)),
            Request::Monitor(request) => match handler.monitor(&request) {
                Ok(listening) => client.stream_lines(&listening),
                Err(refusal) => client.refuse(refusal),
            },
            Request::Capture(request) => capture(client, handler, &request),
        }
    }
}

fn capture(client: &Conversation<'_>, handler: &dyn Handler, request: &CaptureRequest) -> io::Result<Next> {
    if !(1..=CaptureRequest::MAX_LIMIT).contains(&request.limit) {
        let message = format!("a capture has 1 to {} packets", CaptureRequest::MAX_LIMIT);
        return client.refuse(Refusal::new(Code::BadRequest, message, "choose another limit"));
    }
    match handler.capture(request) {
        Ok(packets) => stream_packets(client, packets, request.limit),
        Err(refusal) => client.refuse(refusal),
    }
}

fn stream_packets(
    client: &Conversation<'_>,
    mut packets: Box<dyn CaptureStream>,
    limit: u32,
) -> io::Result<Next> {
    client.begin_stream()?;
    let mut out = BufWriter::new(client.out());
    write_header(&mut out)?;
    out.flush()?;
    let mut left = limit;
    while left > 0 && !client.is_stopping() {
        match packets.next() {
            CaptureNext::Packet(packet) => {
                write_packet(&mut out, &packet)?;
                left -= 1;
            }
            CaptureNext::Idle => {
                out.flush()?;
                if client.is_over(CAPTURE_TICK) {
                    break;
                }
            }
            CaptureNext::End => break,
        }
    }
    out.flush()?;
    Ok(Next::End)
}
