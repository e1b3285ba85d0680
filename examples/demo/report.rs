//! The figures: measured once, shown as a table and written as JSON.

use std::time::Duration;

use serde::Serialize;

use crate::view::View;

/// All figures of one run. Durations are in milliseconds, rates in Mbit/s of the file's octets.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// What it ran on.
    pub machine: String,
    /// The first download, during which the tunnel moved.
    pub first: DownloadFigures,
    /// The planned move from B to B2.
    pub planned_move: MoveFigures,
    /// The second download, during which B2's daemons were killed.
    pub second: DownloadFigures,
    /// The crash.
    pub crash: CrashFigures,
    /// Over both downloads, on the outer wire.
    pub wire: WireFigures,
    /// The third download, during which the node died that owned the tunnel.
    pub takeover: TakeoverFigures,
}

impl Figures {
    /// Whether everything arrived, no IV was used twice, and the last client noticed nothing.
    pub fn is_good(&self) -> bool {
        let Self { first, second, takeover, wire, .. } = self;
        let unnoticed = takeover.authentications == 1 && takeover.rekeyings == 0;
        let intact = first.is_intact() && second.is_intact() && takeover.download.is_intact();
        intact && unnoticed && wire.repeated_ivs == 0 && takeover.repeated_ivs == 0
    }
}

/// One download.
#[derive(Clone, Debug, Serialize)]
pub struct DownloadFigures {
    /// Size of the file in octets.
    pub octets: u64,
    /// Seconds from the first to the last octet.
    pub seconds: f64,
    /// Mean rate.
    pub megabits_per_second: f64,
    /// SHA-256 of the file as the server made it.
    pub sha256_sent: String,
    /// SHA-256 of the file as the client got it.
    pub sha256_received: String,
}

impl DownloadFigures {
    /// Whether the file arrived as it was sent.
    pub fn is_intact(&self) -> bool {
        self.sha256_sent == self.sha256_received
    }
}

/// The planned move.
#[derive(Clone, Debug, Serialize)]
pub struct MoveFigures {
    /// Longest time without an ESP packet towards the client around the move.
    pub interruption_ms: f64,
    /// Longest time without a packet of the download in it: TCP adds its own pause to ours.
    pub download_paused_ms: f64,
    /// Median time between ESP packets towards the client.
    pub typical_gap_ms: f64,
    /// Longest time between them away from move and crash.
    pub longest_other_gap_ms: f64,
    /// ESP packets from the client that neither B nor B2 accepted.
    pub lost_to_gateways: u64,
    /// ESP packets from B and B2 that strongSwan did not accept, over the whole first download.
    pub lost_to_client: u64,
    /// TCP segments that the server sent again during the first download.
    pub tcp_retransmissions: u64,
    /// GET in `dpctl snapshot`: freezing and reading the SAs, sealing and writing the context.
    pub get_us: f64,
    /// PUT in `dpctl restore`: checking the context and installing its SAs.
    pub put_us: f64,
    /// The whole command `dpctl snapshot --move`, process start included.
    pub snapshot_command_ms: f64,
    /// The whole command `dpctl restore`, its wait for the snapshot included.
    pub restore_command_ms: f64,
    /// From the start of the first command until B2 owned the segment.
    pub move_ms: f64,
    /// The last packet that B sent.
    pub before: Edge,
    /// The first packet that B2 sent.
    pub after: Edge,
}

/// The crash and the restart.
#[derive(Clone, Debug, Serialize)]
pub struct CrashFigures {
    /// Longest time without an ESP packet towards the client around the crash.
    pub interruption_ms: f64,
    /// Longest time without a packet of the download in it.
    pub download_paused_ms: f64,
    /// From the kill to the new process's word that packets flow.
    pub restart_ms: f64,
    /// The last packet before the crash.
    pub before: Edge,
    /// The first packet after it.
    pub after: Edge,
}

/// The takeover by a cluster.
#[derive(Clone, Debug, Serialize)]
pub struct TakeoverFigures {
    /// The shortest of the tried times between heartbeats that took no living node for dead.
    pub heartbeat_ms: u32,
    /// Heartbeats whose loss makes a node silent.
    pub missed: u32,
    /// The node that died.
    pub dead_node: u8,
    /// The one that took over.
    pub new_node: u8,
    /// Longest time without an ESP packet towards the client around the death.
    pub interruption_ms: f64,
    /// Longest time without a packet of the download in it.
    pub download_paused_ms: f64,
    /// From the kill until `dpctl` saw the other node own everything.
    pub taken_ms: f64,
    /// IKE_AUTH requests of strongSwan's: one is the first.
    pub authentications: usize,
    /// CREATE_CHILD_SA exchanges, of either side.
    pub rekeyings: usize,
    /// The download.
    pub download: DownloadFigures,
    /// The last packet that the dead node sent.
    pub before: Edge,
    /// The first packet that the new one sent.
    pub after: Edge,
    /// Packets whose (key, IV) pair another packet had too.
    pub repeated_ivs: usize,
}

/// What all packets on the outer wire had in common.
#[derive(Clone, Debug, Serialize)]
pub struct WireFigures {
    /// ESP packets seen.
    pub esp_packets: usize,
    /// Packets whose (key, IV) pair another packet had too.
    pub repeated_ivs: usize,
    /// Packets that the sniffers missed.
    pub missed_by_sniffers: u64,
}

/// Where a packet stood in its SA.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Edge {
    /// Its sequence number.
    pub sequence: u32,
    /// Its IV.
    pub iv: u64,
}

impl Edge {
    /// The IV as node, epoch and counter.
    fn iv_text(self) -> String {
        let (node, epoch, counter) = (self.iv >> 56, (self.iv >> 32) & 0xff_ffff, self.iv & 0xffff_ffff);
        format!("node {node}, epoch {epoch:06x}, counter {counter:08x}")
    }
}

/// A duration in milliseconds.
pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Shows the table.
pub fn print(view: &View, figures: &Figures) {
    let Figures { first, planned_move, second, crash, wire, takeover, machine } = figures;
    let row = |name: &str, value: &str| view.line(&format!("  {name:<40} {value}"));
    view.chapter("The move from B to B2");
    download_rows(view, &row, first);
    row(
        "interruption (longest gap in the ESP)",
        &view.bold(&format!("{:.2} ms", planned_move.interruption_ms)),
    );
    row("  TCP went on after", &format!("{:.2} ms", planned_move.download_paused_ms));
    row("  a typical gap", &format!("{:.3} ms", planned_move.typical_gap_ms));
    row("  the longest gap elsewhere", &format!("{:.2} ms", planned_move.longest_other_gap_ms));
    row("ESP packets lost, client to B and B2", &view.bold(&planned_move.lost_to_gateways.to_string()));
    row("ESP packets lost, B and B2 to client", &planned_move.lost_to_client.to_string());
    row("TCP segments sent again", &planned_move.tcp_retransmissions.to_string());
    row("GET (freeze, read, seal)", &format!("{:.0} us", planned_move.get_us));
    row("PUT (check, install)", &format!("{:.0} us", planned_move.put_us));
    let commands =
        format!("{:.1} ms, {:.1} ms", planned_move.snapshot_command_ms, planned_move.restore_command_ms);
    row(
        "dpctl snapshot --move, dpctl restore",
        &format!("{commands}; segment taken after {:.1} ms", planned_move.move_ms),
    );
    edges(&row, planned_move.before, planned_move.after);
    view.chapter("kill -9 of B2's data plane and IKE daemon");
    download_rows(view, &row, second);
    row("interruption (longest gap in the ESP)", &view.bold(&format!("{:.1} ms", crash.interruption_ms)));
    row("  TCP went on after", &format!("{:.1} ms", crash.download_paused_ms));
    row("from the kill to packets flowing", &format!("{:.1} ms", crash.restart_ms));
    edges(&row, crash.before, crash.after);
    view.chapter("The outer wire");
    row("ESP packets", &wire.esp_packets.to_string());
    row("(key, IV) pairs used twice", &view.bold(&wire.repeated_ivs.to_string()));
    if wire.missed_by_sniffers > 0 {
        row("packets that the sniffers missed", &wire.missed_by_sniffers.to_string());
    }
    print_takeover(view, &row, takeover);
    view.line(&view.paint("2", &format!("\n  on {machine}")));
}

/// What others need for the same, as published or measured; they are no part of this run.
const OTHERS: [(&str, &str); 3] = [
    ("  strongSwan 5.9.8's ha plugin", "1.87 s to the takeover, 7.2 s to the first reply"),
    ("  Palomares et al., ARES 2013, hand-over", "1.63 to 1.66 s"),
    ("  Palomares, thesis 2013, switching", "1.3 to 3.5 s"),
];

fn print_takeover(view: &View, row: &impl Fn(&str, &str), figures: &TakeoverFigures) {
    view.chapter("The death of a node of the cluster");
    download_rows(view, row, &figures.download);
    let (dead, new) = (figures.dead_node, figures.new_node);
    let (heartbeat, missed) = (figures.heartbeat_ms, figures.missed);
    row("heartbeat", &format!("every {heartbeat} ms, {missed} missed; no false alarm under the download"));
    row("what the dead node had received", "is not received again; echo requests led the client past it");
    row("node that died, node that took over", &format!("{dead}, {new}"));
    row("interruption (longest gap in the ESP)", &view.bold(&format!("{:.1} ms", figures.interruption_ms)));
    for (name, value) in OTHERS {
        row(name, value);
    }
    row("  TCP went on after", &format!("{:.1} ms", figures.download_paused_ms));
    row("from the kill to all segments taken", &format!("{:.1} ms, as dpctl saw it", figures.taken_ms));
    let (again, keys) = (figures.authentications.saturating_sub(1), figures.rekeyings);
    row("authentications again, new keys", &view.bold(&format!("{again}, {keys}")));
    row("(key, IV) pairs used twice", &view.bold(&figures.repeated_ivs.to_string()));
    edges(row, figures.before, figures.after);
}

fn edges(row: &impl Fn(&str, &str), before: Edge, after: Edge) {
    row("sequence before, after", &format!("{}, {}", before.sequence, after.sequence));
    row("IV before", &before.iv_text());
    row("IV after", &after.iv_text());
}

fn download_rows(view: &View, row: &impl Fn(&str, &str), figures: &DownloadFigures) {
    let verdict =
        if figures.is_intact() { view.paint("32", "intact") } else { view.paint("31;1", "DAMAGED") };
    let (octets, seconds, rate) = (figures.octets, figures.seconds, figures.megabits_per_second);
    row("download", &format!("{octets} octets in {seconds:.1} s, {rate:.0} Mbit/s, {verdict}"));
    let (sent, received) = (&figures.sha256_sent[..16], &figures.sha256_received[..16]);
    row("  SHA-256 at the server, at the client", &format!("{sent}..., {received}..."));
}
