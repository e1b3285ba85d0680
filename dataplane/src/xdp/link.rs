//! An interface's own MAC address, by netlink: sysfs shows the network namespace that mounted it, which need not be
//! ours.

use std::io;
use std::thread;

use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::link::LinkAttribute;

use super::error::{XdpError, chain};
use crate::io::Side;
use crate::next_hop::Mac;

/// The address of an Ethernet interface.
pub(super) fn own_mac(side: Side, interface: &str, index: u32) -> Result<Mac, XdpError> {
    let unknown = |reason| XdpError::MacUnknown { side, interface: interface.to_owned(), reason };
    // On a thread of its own, which is in the caller's network namespace but in nobody's async runtime.
    let octets = thread::scope(|scope| {
        let asked = thread::Builder::new().name("baton-link".to_owned()).spawn_scoped(scope, || ask(index));
        let asked = asked.map_err(|error| unknown(chain(&error)))?;
        asked.join().map_err(|_| unknown("the thread that asked it died".to_owned()))?.map_err(unknown)
    })?;
    match <[u8; 6]>::try_from(octets) {
        Ok(octets) if octets != [0; 6] => Ok(Mac(octets)),
        _ => Err(XdpError::NoMac { side, interface: interface.to_owned() }),
    }
}

fn ask(index: u32) -> Result<Vec<u8>, String> {
    let failed = |error: io::Error| chain(&error);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(failed)?;
        tokio::spawn(connection);
        let mut links = handle.link().get().match_index(index).execute();
        let link = links.try_next().await.map_err(|error| chain(&error))?;
        let address =
            link.into_iter().flat_map(|link| link.attributes).find_map(|attribute| match attribute {
                LinkAttribute::Address(octets) => Some(octets),
                _ => None,
            });
        Ok(address.unwrap_or_default())
    })
}
