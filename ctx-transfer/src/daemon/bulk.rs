//! The thread of the connections that are not heartbeats'.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;

use tokio::sync::mpsc;

use super::error::system;
use super::input::{Input, Inputs};
use super::{DaemonError, Listening};
use crate::channel::{Channel, Credentials, Kind, Sender, Settings};
use crate::cluster::wire::SPOKEN;
use crate::config::Config;

/// Messages that wait to be handed over.
const ROOM: usize = 64;

/// Starts it, and gives its sending end.
pub(super) fn start(
    listening: Listening,
    config: &Config,
    credentials: &Arc<Credentials>,
    inputs: Inputs,
) -> Result<Sender, DaemonError> {
    let members = config.members(Kind::Bulk).into_iter().skip(1).collect();
    let settings =
        Settings { credentials: Arc::clone(credentials), kind: Kind::Bulk, members, versions: SPOKEN };
    let (opened, opening) = sync_channel(1);
    let serve = move || {
        let Listening { runtime, socket } = listening;
        runtime.block_on(async {
            let (events, mut received) = mpsc::channel(ROOM);
            let channel = match Channel::open(socket, settings, events) {
                Ok(channel) => channel,
                Err(error) => return drop(opened.send(Err(DaemonError::from(error)))),
            };
            drop(opened.send(Ok(channel.sender())));
            while let Some(event) = received.recv().await {
                if !inputs.send(Input::Bulk(event)).await {
                    break;
                }
            }
            channel.close().await;
        });
    };
    thread::Builder::new().name("bulk".to_owned()).spawn(serve).map_err(system("start a thread"))?;
    opening.recv().map_err(|_| std::io::Error::other("its thread ended")).map_err(system("start a thread"))?
}
