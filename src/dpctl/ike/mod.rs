//! What is asked of the IKE daemon.

mod change;
mod context;
mod redirect;
mod show;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

use baton_dataplane::config::Config;
use baton_dataplane::control::{Client, ClientError, Daemon};
use baton_ike::control::{Connections, Request, SOCKET, TargetText};

pub(super) use change::{down, rekey, release, up};
pub(super) use context::IkeContexts;
pub(super) use redirect::{redirect, synchronize};
pub(super) use show::{connections, list, log, show, tunnels};
pub(super) use watch::sentence;

use super::error::DpctlError;
use super::sa::parse_spi;

/// How long the IKE daemon may take for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

fn socket(config: &Config) -> PathBuf {
    config.node.runtime_directory.join(SOCKET)
}

pub(super) fn connect(config: &Config) -> Result<Client, DpctlError> {
    Ok(Client::connect_to(Daemon::Ike, &socket(config), PATIENCE)?)
}

/// The daemon, where one runs: a gateway with configured keys needs none.
pub(super) fn connect_if_running(config: &Config) -> Result<Option<Client>, DpctlError> {
    match connect(config) {
        Err(DpctlError::Client(ClientError::NotReachable { .. })) => Ok(None),
        connected => connected.map(Some),
    }
}

/// What a name on the command line is about: an SPI, a connection, else a tunnel.
fn target(client: &mut Client, text: &str, child: Option<&str>) -> Result<TargetText, DpctlError> {
    let connections: Connections = client.request(&Request::ConnList)?;
    let is_connection = connections.connections.iter().any(|connection| connection.name == text);
    match (child, is_connection) {
        (Some(name), true) => {
            Ok(TargetText::Child { connection: Some(text.to_owned()), name: name.to_owned() })
        }
        (Some(_), false) => Err(DpctlError::NoConnection(text.to_owned())),
        (None, true) => Ok(TargetText::Connection(text.to_owned())),
        (None, false) => {
            Ok(parse_spi(text).map_or_else(|_| TargetText::Tunnel(text.to_owned()), TargetText::Spi))
        }
    }
}
