//! What happens in the IKE daemon, heard from before a request on: its answer comes as events.

use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use baton_dataplane::config::Config;
use baton_dataplane::control::{ClientError, Daemon, Notice};
use baton_ike::control::{DownWord, MonitorRequest, Occurred, PathText, Request};
use baton_ike_proto::host::TunnelName;

use crate::dpctl::error::DpctlError;

/// Events that wait to be read.
const QUEUE: usize = 1024;

/// Events, until a time is over.
pub(super) struct Watch {
    notices: Receiver<Result<Notice<Occurred>, ClientError>>,
    patience: Duration,
    deadline: Instant,
}

impl Watch {
    /// Listens from now on.
    pub(super) fn begin(config: &Config, patience: Duration) -> Result<Self, DpctlError> {
        let request = Request::Monitor(MonitorRequest::default());
        let lines = super::connect(config)?.lines(&request)?;
        let (sender, notices) = sync_channel(QUEUE);
        // It ends with the process, or when nobody listens any more.
        thread::spawn(move || { lines }.all(|line| sender.send(line).is_ok()));
        Ok(Self { notices, patience, deadline: Instant::now() + patience })
    }

    /// The next event; `what` is in the sentence when the time is over.
    pub(super) fn next(&self, what: &str) -> Result<Occurred, DpctlError> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        match self.notices.recv_timeout(left) {
            Ok(notice) => Ok(notice?.happening),
            Err(RecvTimeoutError::Disconnected) => Err(DpctlError::MonitorEnded(Daemon::Ike)),
            Err(RecvTimeoutError::Timeout) => {
                Err(DpctlError::Late { what: what.to_owned(), seconds: self.patience.as_secs() })
            }
        }
    }
}

/// Whether a tunnel is of a connection, by its name.
pub(super) fn is_of(tunnel: &str, connection: &str) -> bool {
    TunnelName::parse(tunnel).is_some_and(|(of, _)| of == connection)
}

fn listed(what: &str, addresses: &[std::net::IpAddr]) -> String {
    let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    if texts.is_empty() { String::new() } else { format!(", {what} {}", texts.join(" ")) }
}

/// An event as a line for people.
pub(in crate::dpctl) fn sentence(occurred: &Occurred) -> String {
    match occurred {
        Occurred::IkeUp { tunnel, remote_identity, path, virtual_addresses, dns, .. } => {
            let (inner, dns) = (listed("inside", virtual_addresses), listed("DNS", dns));
            format!("ike-up  {tunnel}: {remote_identity}, {}{inner}{dns}", ends(path))
        }
        Occurred::Resumed { tunnel, by_us: true } => format!("resumed  {tunnel}: by the peer's ticket"),
        Occurred::Resumed { tunnel, by_us: false } => format!("resumed  {tunnel}: by a ticket of ours"),
        Occurred::IkeDown { tunnel, reason } => format!("ike-down  {tunnel}: {}", why(*reason)),
        Occurred::IkeRekeyed { tunnel, initiator_spi, responder_spi } => {
            format!("ike-rekeyed  {tunnel}: SPIs {initiator_spi} {responder_spi}")
        }
        Occurred::ChildUp { tunnel, child, inbound_spi, outbound_spi, replaces } => {
            let replaces = replaces.as_ref().map(|old| format!(", replaces {old}")).unwrap_or_default();
            format!("child-up  {tunnel} {child}: in {inbound_spi}, out {outbound_spi}{replaces}")
        }
        Occurred::ChildDown { tunnel, child, inbound_spi } => {
            format!("child-down  {tunnel} {child}: in {inbound_spi}")
        }
        Occurred::Failed { tunnel, connection, remote, problem } => {
            let who = tunnel.as_ref().or(connection.as_ref());
            let who = who.map(|who| format!("{who}, ")).unwrap_or_default();
            format!("failed  {who}{remote}: {problem}")
        }
        Occurred::Redirected { tunnel, gateway, by_us: true } => {
            format!("redirected  {tunnel}: the peer is sent to {gateway}")
        }
        Occurred::Redirected { tunnel, gateway, by_us: false } => {
            format!("redirected  {tunnel}: the peer sends us to {gateway}")
        }
        Occurred::PathChanged { tunnel, from, to } => {
            format!("path-changed  {tunnel}: from {} to {}", ends(from), ends(to))
        }
        Occurred::SegmentsChanged { segments } => format!("segments-changed  {segments} are this node's"),
        Occurred::Alarm { raised: true, alarm } => format!("alarm  {alarm}"),
        Occurred::Alarm { raised: false, alarm } => format!("alarm  over: {alarm}"),
    }
}

fn ends(path: &PathText) -> String {
    format!("{} - {}", path.local, path.remote)
}

/// Why a tunnel is over, as the end of a sentence.
pub(super) fn why(reason: DownWord) -> &'static str {
    match reason {
        DownWord::Command => "it was ended here",
        DownWord::Peer => "the peer ended it",
        DownWord::Unreachable => "the peer does not answer",
        DownWord::Replaced => "the same peer has set up another one",
        DownWord::Expired => "its lifetime is over and it was not renewed",
        DownWord::Reconfigured => "its connection is no longer configured",
        DownWord::Moved => "it is on another gateway now",
        DownWord::Failed => "it could not be set up",
        DownWord::Crashed => "the peer has lost it",
        DownWord::SessionTimeout => "its user's session has lasted as long as it may",
        DownWord::Idle => "its user's session was without traffic for too long",
        DownWord::Redirected => "it goes on at another gateway",
    }
}
