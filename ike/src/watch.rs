//! Listening to the data plane, in a thread of its own: what its workers see becomes commands to the protocol.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use baton_dataplane::control::{
    Client, ClientError, Endpoint, Happening, Kind, MonitorRequest, Notice, SaText,
};
use baton_ike_proto::Command;
use baton_sad::{Snapshot, Table};
use tracing::{info, warn};

use crate::clock;
use crate::effects::is_chosen;
use crate::reports::{Report, Reports};

/// How long the data plane may take to begin.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often an absent one is tried again.
const RETRY: Duration = Duration::from_millis(200);

/// Begins to listen, for as long as the process lives.
pub(crate) fn start(control_socket: PathBuf, table: Arc<Table>, reports: Reports) -> std::io::Result<()> {
    let watch = Watch { control_socket, table, reports };
    thread::Builder::new().name("watch".to_owned()).spawn(move || watch.run()).map(drop)
}

struct Watch {
    control_socket: PathBuf,
    table: Arc<Table>,
    reports: Reports,
}

impl Watch {
    fn run(self) {
        let mut was_there = true;
        loop {
            match self.listen() {
                // It ended, or cut us off.
                Ok(()) => info!("the data plane has left"),
                Err(error) if was_there => warn!(%error, "the data plane is not listened to"),
                Err(_) => {}
            }
            was_there = false;
            if !self.reports.send(Report::DataPlane { is_there: false }) {
                return;
            }
            thread::sleep(RETRY);
        }
    }

    /// Until the data plane leaves.
    fn listen(&self) -> Result<(), ClientError> {
        let client = Client::connect(&self.control_socket, PATIENCE)?;
        let kinds = vec![Kind::SoftLimit, Kind::HardLimit, Kind::Acquire, Kind::PeerMoved];
        let notices = client.monitor(&MonitorRequest { kinds })?;
        self.reports.send(Report::DataPlane { is_there: true });
        info!("listening to the data plane");
        // What happened while nobody listened stands in the table.
        for command in self.missed() {
            self.reports.send(Report::Heard(command));
        }
        for notice in notices {
            let Notice { happening, .. } = notice?;
            if let Some(command) = command(happening) {
                self.reports.send(Report::Heard(command));
            }
        }
        Ok(())
    }

    /// Bounds that SAs of ours have reached.
    fn missed(&self) -> impl Iterator<Item = Command> {
        let unix = clock::now().unix.as_secs();
        let ours = self.table.iter().filter(|found| is_chosen(found.sa.reqid, found.sa.segment));
        ours.filter_map(move |found| reached(&found, unix))
    }
}

fn reached(found: &Snapshot, unix: u64) -> Option<Command> {
    let (reqid, spi, counters) = (found.sa.reqid, found.sa.spi, &found.counters);
    let is_reached = |bounds: &baton_sad::Bounds| {
        bounds.are_reached(counters.octets, counters.packets, counters.edge(), unix)
    };
    match &found.sa.lifetime {
        lifetime if is_reached(&lifetime.hard) => Some(Command::HardLimit { reqid, spi }),
        lifetime if is_reached(&lifetime.soft) => Some(Command::SoftLimit { reqid, spi }),
        _ => None,
    }
}

/// What an event of the data plane means to the protocol, if anything: SAs with keys from the configuration have
/// bounds too, and their reqids are none of ours.
fn command(happening: Happening) -> Option<Command> {
    match happening {
        Happening::SoftLimit(sa) => Some(Command::SoftLimit { reqid: sa.reqid, spi: spi(&sa)? }),
        Happening::HardLimit(sa) => Some(Command::HardLimit { reqid: sa.reqid, spi: spi(&sa)? }),
        Happening::Acquire { reqid, .. } => Some(Command::Acquire { reqid }),
        Happening::PeerMoved { sa, to: Endpoint { address, port }, .. } => {
            Some(Command::PeerMoved { spi: spi(&sa)?, remote: (address, port).into() })
        }
        _ => None,
    }
}

fn spi(sa: &SaText) -> Option<u32> {
    u32::from_str_radix(sa.spi.strip_prefix("0x")?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sa(spi: &str) -> SaText {
        let (name, direction) = ("home-2a000001".to_owned(), "inbound".to_owned());
        SaText { name, direction, spi: spi.to_owned(), reqid: 7 }
    }

    #[test]
    fn events_become_commands() {
        let soft = Happening::SoftLimit(sa("0x2a000001"));
        assert_eq!(command(soft), Some(Command::SoftLimit { reqid: 7, spi: 0x2a00_0001 }));
        let from = Endpoint { address: "192.0.2.1".parse().expect("an address"), port: 4500 };
        let to = Endpoint { port: 1024, ..from };
        let moved = Happening::PeerMoved { sa: sa("0xff"), from, to };
        let remote = "192.0.2.1:1024".parse().expect("an address");
        assert_eq!(command(moved), Some(Command::PeerMoved { spi: 0xff, remote }));
        for unreadable in ["", "7", "0x", "0xyz", "0x123456789"] {
            assert_eq!(command(Happening::HardLimit(sa(unreadable))), None, "{unreadable}");
        }
        assert_eq!(command(Happening::SegmentsChanged { owned: vec![] }), None);
    }
}
