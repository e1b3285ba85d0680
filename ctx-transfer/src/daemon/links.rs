//! Whether this node's interfaces have a link, and their MAC addresses, as the kernel tells it (rtnetlink(7)).
//!
//! The socket is opened while there are privileges. A TUN interface inside is the data plane's own, and not watched.

use std::io;
use std::os::fd::OwnedFd;
use std::thread;

use baton_dataplane::config::{Config, InnerInterface};
use baton_dataplane::next_hop::Mac;
use baton_ike::netlink::{BUFFER, attribute, message, open, request_all};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, read, write};
use tracing::{info, warn};

use super::DaemonError;
use super::error::system;
use super::input::{Input, Inputs};
use crate::cluster::{Event, Side};

/// Readings of one list: a host with more interfaces than fit knows the first ones.
const READINGS: usize = 64;
/// Octets of `struct ifinfomsg`.
const LINK_HEADER: usize = 16;
/// Set up by an operator, and operational (netdevice(7)).
const WORKING: u32 = (libc::IFF_UP | libc::IFF_RUNNING) as u32;

/// The socket, and what it is watched for.
#[derive(Debug)]
pub(super) struct Links {
    socket: OwnedFd,
    watched: Vec<Watched>,
}

#[derive(Debug)]
struct Watched {
    side: Side,
    interface: String,
    up: bool,
    /// By the list that is being read.
    listed: bool,
}

/// What a message says of an interface.
#[derive(Debug, PartialEq, Eq)]
struct Said<'a> {
    interface: &'a [u8],
    up: bool,
    mac: Option<Mac>,
}

impl Links {
    pub(super) fn open(config: &Config) -> Result<Self, DaemonError> {
        let socket = open(libc::RTMGRP_LINK as u32).map_err(system("watch the interfaces"))?;
        let outer = (Side::Outer, config.outer.interface.clone());
        let inner = match &config.inner.interface {
            InnerInterface::Device(name) => Some((Side::Inner, name.clone())),
            InnerInterface::Tun(_) => None,
        };
        let watched = std::iter::once(outer).chain(inner);
        let watched =
            watched.map(|(side, interface)| Watched { side, interface, up: true, listed: false }).collect();
        Ok(Self { socket, watched })
    }

    pub(super) fn start(mut self, inputs: &Inputs) -> Result<(), DaemonError> {
        let inputs = inputs.clone();
        let watch = move || {
            if let Err(error) = self.watch(&inputs) {
                warn!(%error, "the kernel tells no more of interfaces: a lost link is not noticed; restart baton-cluster");
            }
        };
        thread::Builder::new().name("links".to_owned()).spawn(watch).map_err(system("start a thread"))?;
        Ok(())
    }

    /// Until the process ends.
    fn watch(&mut self, inputs: &Inputs) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        self.ask()?;
        loop {
            match read(&self.socket, &mut *buffer) {
                Ok(length) => {
                    if !self.take(&buffer[..length.min(BUFFER)], inputs) {
                        return Ok(());
                    }
                }
                Err(Errno::AGAIN) => self.wait()?,
                // Something was dropped.
                Err(Errno::NOBUFS) => self.ask()?,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn wait(&self) -> io::Result<()> {
        match poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], None) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// For a list of all interfaces, which comes as word of changes does.
    fn ask(&mut self) -> io::Result<()> {
        self.watched.iter_mut().for_each(|watched| watched.listed = false);
        write(&self.socket, &request_all(libc::RTM_GETLINK, LINK_HEADER))?;
        Ok(())
    }

    /// Tells of what has changed; `false` when nobody listens any more.
    fn take(&mut self, mut octets: &[u8], inputs: &Inputs) -> bool {
        let mut told = true;
        while let Some((kind, body, rest)) = message(octets) {
            if i32::from(kind) == libc::NLMSG_DONE {
                told &=
                    self.watched.iter_mut().filter(|watched| !watched.listed).all(|w| w.set(false, inputs));
            } else if let Some(said) = said(kind, body) {
                let mut meant = self.watched.iter_mut().filter(|w| w.interface.as_bytes() == said.interface);
                told &= meant.all(|watched| watched.set(said.up, inputs));
            }
            octets = rest;
        }
        told
    }
}

impl Watched {
    fn set(&mut self, up: bool, inputs: &Inputs) -> bool {
        self.listed = true;
        if up == self.up {
            return true;
        }
        self.up = up;
        info!(interface = self.interface, up, "link");
        inputs.tell(Input::Core(Event::Link { side: self.side, up }))
    }
}

/// The MAC addresses of interfaces, as of now; nothing of those that are not there, or have none.
pub(super) fn mac_addresses<const N: usize>(interfaces: [&str; N]) -> io::Result<[Option<Mac>; N]> {
    let socket = open(0)?;
    write(&socket, &request_all(libc::RTM_GETLINK, LINK_HEADER))?;
    let (mut buffer, mut found) = (vec![0; BUFFER], [None; N]);
    for _ in 0..READINGS {
        let length = read(&socket, &mut *buffer)?;
        let mut octets = &buffer[..length.min(BUFFER)];
        while let Some((kind, body, rest)) = message(octets) {
            if i32::from(kind) == libc::NLMSG_DONE {
                return Ok(found);
            }
            let said = said(kind, body);
            for (name, mac) in interfaces.iter().zip(&mut found) {
                let meant = said.as_ref().filter(|said| said.interface == name.as_bytes());
                *mac = meant.map_or(*mac, |said| said.mac);
            }
            octets = rest;
        }
    }
    Ok(found)
}

/// One that is removed has no link. Bridges tell of their ports in messages of another family, which say nothing of links.
fn said(kind: u16, body: &[u8]) -> Option<Said<'_>> {
    let is_there = match kind {
        libc::RTM_NEWLINK => true,
        libc::RTM_DELLINK => false,
        _ => return None,
    };
    let header: &[u8; LINK_HEADER] = body.first_chunk()?;
    let flags = u32::from_ne_bytes(*header[8..].first_chunk()?);
    let (mut interface, mut mac) = (None, None);
    let mut attributes = body.get(LINK_HEADER..)?;
    while let Some((kind, value, rest)) = attribute(attributes) {
        match kind {
            libc::IFLA_IFNAME => interface = Some(value.strip_suffix(&[0]).unwrap_or(value)),
            libc::IFLA_ADDRESS => mac = value.try_into().ok().map(Mac),
            _ => {}
        }
        attributes = rest;
    }
    let interface = interface.filter(|_| i32::from(header[0]) == libc::AF_UNSPEC)?;
    Some(Said { interface, up: is_there && flags & WORKING == WORKING, mac })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(family: u8, flags: u32, name: &[u8]) -> Vec<u8> {
        let mut octets = vec![family, 0, 1, 0, 7, 0, 0, 0];
        octets.extend(flags.to_ne_bytes());
        octets.extend([0; 4]);
        // An attribute that means nothing here comes first.
        octets.extend([6, 0, 99, 0, 1, 2, 0, 0]);
        octets.extend([10, 0, 1, 0, 2, 0, 0, 0, 0, 7, 0, 0]);
        octets.extend(((4 + name.len()) as u16).to_ne_bytes());
        octets.extend(libc::IFLA_IFNAME.to_ne_bytes());
        octets.extend(name);
        octets.resize(octets.len().next_multiple_of(4), 0);
        octets
    }

    #[test]
    fn a_link_works_that_is_set_up_and_running() {
        let of = |kind, flags| {
            said(kind, &body(0, flags, b"wan0\0")).map(|said| (said.interface.to_vec(), said.up))
        };
        let wan0 = |up| Some((b"wan0".to_vec(), up));
        assert_eq!(of(libc::RTM_NEWLINK, WORKING | 0x1000), wan0(true));
        assert_eq!(of(libc::RTM_NEWLINK, libc::IFF_UP as u32), wan0(false), "no carrier");
        assert_eq!(of(libc::RTM_NEWLINK, libc::IFF_RUNNING as u32), wan0(false), "not set up");
        assert_eq!(of(libc::RTM_DELLINK, WORKING), wan0(false), "removed");
        assert_eq!(of(libc::RTM_NEWADDR, WORKING), None);
        let octets = body(0, WORKING, b"wan0\0");
        assert_eq!(said(libc::RTM_NEWLINK, &octets).and_then(|said| said.mac), Some(Mac([2, 0, 0, 0, 0, 7])));
        let left_its_bridge = body(7, WORKING, b"wan0\0");
        assert_eq!(said(libc::RTM_DELLINK, &left_its_bridge), None);
    }

    #[test]
    fn the_kernel_answers() {
        let Ok(found) = mac_addresses(["lo", "no-such-thing"]) else {
            println!("SKIPPED: no netlink socket is to be had");
            return;
        };
        assert_eq!(found, [Some(Mac::default()), None]);
    }

    #[test]
    fn no_octets_lead_astray() {
        let whole = body(0, WORKING, b"outer-0\0");
        for at in 0..whole.len() {
            for value in [0, 1, 3, 0xff] {
                let mut damaged = whole.clone();
                damaged[at] = value;
                said(libc::RTM_NEWLINK, &damaged);
            }
            let cut = said(libc::RTM_NEWLINK, &whole[..at]);
            assert!(cut.is_none(), "{at}");
        }
    }
}
