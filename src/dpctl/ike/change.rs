//! Tunnels that are set up, ended, and given new keys.

use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use baton_dataplane::config::Config;
use baton_ike::control::{
    ConnectionEntry, Connections, Done, IkeEntry, IkeList, IkeListRequest, Occurred, RekeyWhat, Request,
    TargetText,
};
use serde_json::json;

use super::show::tunnels;
use super::watch::{Watch, is_of, sentence, why};
use super::{connect, target};
use crate::dpctl::cli::{DownOptions, RekeyOptions, UpOptions, Waiting};
use crate::dpctl::error::DpctlError;
use crate::dpctl::output::Output;

/// A tunnel of another node, by the daemon's word.
const STANDBY: &str = "standby";
/// Child SAs that a connection has, by the daemon's word.
const INSTALLED: &str = "installed";

pub(in crate::dpctl) fn up(config: &Config, options: &UpOptions, output: Output) -> Result<(), DpctlError> {
    let start = Instant::now();
    let mut client = connect(config)?;
    let connections: Connections = client.request(&Request::ConnList)?;
    let mut waiting = Setup::of(&connections, options)?;
    let watch = watch(config, &options.waiting)?;
    let request = Request::Initiate { connection: options.name.clone(), child: options.child.clone() };
    let done: Done = client.request(&request)?;
    if let Some(watch) = watch {
        let list = IkeListRequest { connection: Some(options.name.clone()), after: None };
        waiting.note_installed(&client.request(&Request::IkeList(list))?);
        while !waiting.is_over() {
            let occurred = watch.next(&format!("connection {} is not up", options.name))?;
            if waiting.note(&occurred)? {
                progress(&occurred, output);
            }
        }
    }
    let (tunnel, took_ms) = (waiting.tunnel.clone(), start.elapsed().as_millis());
    let report =
        json!({ "concerned": done.concerned, "tunnel": tunnel, "up": waiting.is_over(), "took_ms": took_ms });
    output.answer(&report, |out| match (waiting.is_over(), tunnel) {
        (false, _) => writeln!(out, "connection {} is being set up", options.name),
        (true, Some(tunnel)) => writeln!(out, "{} is up as {tunnel}, after {took_ms} ms", options.name),
        (true, None) => writeln!(out, "{} is up", options.name),
    })
}

/// What has to happen until a connection is up.
struct Setup {
    connection: String,
    /// Its Child SAs that are not there yet.
    missing: BTreeSet<String>,
    tunnel: Option<String>,
}

impl Setup {
    fn of(connections: &Connections, options: &UpOptions) -> Result<Self, DpctlError> {
        let is_named = |connection: &&ConnectionEntry| connection.name == options.name;
        let connection = connections.connections.iter().find(is_named);
        let connection = connection.ok_or_else(|| DpctlError::NoConnection(options.name.clone()))?;
        let is_wanted = |name: &String| options.child.as_ref().is_none_or(|child| child == name);
        let children = connection.children.iter().map(|child| child.name.clone());
        let missing: BTreeSet<String> = children.filter(is_wanted).collect();
        match &options.child {
            Some(child) if missing.is_empty() => {
                Err(DpctlError::NoChild { connection: options.name.clone(), child: child.clone() })
            }
            _ => Ok(Self { connection: options.name.clone(), missing, tunnel: None }),
        }
    }

    fn is_over(&self) -> bool {
        self.missing.is_empty()
    }

    /// What stood before, and what came before we listened to the answer.
    fn note_installed(&mut self, list: &IkeList) {
        for tunnel in &list.tunnels {
            for child in tunnel.children.iter().filter(|child| child.state == INSTALLED) {
                self.missing.remove(&child.name);
                self.tunnel = Some(tunnel.name.clone());
            }
        }
    }

    /// Whether it was about this connection.
    fn note(&mut self, occurred: &Occurred) -> Result<bool, DpctlError> {
        match occurred {
            Occurred::IkeUp { connection, tunnel, .. } if *connection == self.connection => {
                self.tunnel = Some(tunnel.clone());
            }
            Occurred::ChildUp { tunnel, child, .. } if is_of(tunnel, &self.connection) => {
                self.missing.remove(child);
                self.tunnel = Some(tunnel.clone());
            }
            Occurred::Failed { tunnel, connection, problem, .. }
                if is_about(tunnel.as_deref(), connection.as_deref(), &self.connection) =>
            {
                return Err(self.failed(problem));
            }
            Occurred::IkeDown { tunnel, reason } if is_of(tunnel, &self.connection) => {
                return Err(self.failed(why(*reason)));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn failed(&self, problem: &str) -> DpctlError {
        let what = format!("connection {} is not up", self.connection);
        DpctlError::Negotiation { what, problem: problem.to_owned() }
    }
}

fn is_about(tunnel: Option<&str>, connection: Option<&str>, wanted: &str) -> bool {
    connection == Some(wanted) || tunnel.is_some_and(|tunnel| is_of(tunnel, wanted))
}

pub(super) fn watch(config: &Config, waiting: &Waiting) -> Result<Option<Watch>, DpctlError> {
    let patience = Duration::from_secs(waiting.timeout);
    if waiting.no_wait { Ok(None) } else { Watch::begin(config, patience).map(Some) }
}

/// A step, for who watches; programs get the answer alone.
pub(super) fn progress(occurred: &Occurred, output: Output) {
    if !output.is_json() && std::io::stderr().is_terminal() {
        let _ = writeln!(std::io::stderr(), "{}", sentence(occurred));
    }
}

pub(in crate::dpctl) fn down(
    config: &Config,
    options: &DownOptions,
    output: Output,
) -> Result<(), DpctlError> {
    let mut client = connect(config)?;
    let target = target(&mut client, &options.target, options.child.as_deref())?;
    let request = Request::Terminate { target: target.clone() };
    let is_done = |occurred: &Occurred| is_end_of(occurred, &target);
    let what = format!("{} is not down", options.target);
    let done = request_and_wait(config, &request, &target, &options.waiting, &what, is_done, output)?;
    let words = if options.waiting.no_wait { "are being ended" } else { "are down" };
    output.answer(&done, |out| {
        writeln!(out, "{} of {} {words}", counted(done.concerned, &target), options.target)
    })
}

pub(in crate::dpctl) fn rekey(
    config: &Config,
    options: &RekeyOptions,
    output: Output,
) -> Result<(), DpctlError> {
    let mut client = connect(config)?;
    let target = target(&mut client, &options.target, options.child.as_deref())?;
    let what = if options.ike { RekeyWhat::Ike } else { RekeyWhat::Child };
    let request = Request::Rekey { target: target.clone(), what };
    let is_done = |occurred: &Occurred| is_rekey_of(occurred, &target, what);
    let sentence = format!("{} is not rekeyed", options.target);
    let done = request_and_wait(config, &request, &target, &options.waiting, &sentence, is_done, output)?;
    let whose = if options.ike { "IKE SAs" } else { "Child SAs" };
    let words = if options.waiting.no_wait { "are being rekeyed" } else { "have new keys" };
    output.answer(&done, |out| writeln!(out, "{} {whose} of {} {words}", done.concerned, options.target))
}

fn counted(count: u64, target: &TargetText) -> String {
    match target {
        TargetText::Connection(_) | TargetText::Tunnel(_) => format!("{count} tunnels"),
        TargetText::Child { .. } | TargetText::Spi(_) => format!("{count} Child SAs"),
    }
}

/// Asks, and waits for as many events that are the answer as the daemon says that it concerns.
fn request_and_wait(
    config: &Config,
    request: &Request,
    target: &TargetText,
    waiting: &Waiting,
    what: &str,
    is_done: impl Fn(&Occurred) -> bool,
    output: Output,
) -> Result<Done, DpctlError> {
    let watch = watch(config, waiting)?;
    let done: Done = connect(config)?.request(request)?;
    let Some(watch) = watch else { return Ok(done) };
    let mut left = done.concerned;
    while left > 0 {
        let occurred = watch.next(what)?;
        if let Occurred::Failed { tunnel, connection, problem, .. } = &occurred
            && is_failure_of(tunnel.as_deref(), connection.as_deref(), target)
        {
            return Err(DpctlError::Negotiation { what: what.to_owned(), problem: problem.clone() });
        }
        if is_done(&occurred) {
            progress(&occurred, output);
            left -= 1;
        } else if matches!(occurred, Occurred::SegmentsChanged { .. }) && !is_here(config, target)? {
            return Err(elsewhere(what));
        }
    }
    Ok(done)
}

/// Whether this node still acts for anything that is concerned: in a cluster its tunnels may go to another one meanwhile.
fn is_here(config: &Config, target: &TargetText) -> Result<bool, DpctlError> {
    let connection = match target {
        TargetText::Connection(name) | TargetText::Child { connection: Some(name), .. } => Some(&**name),
        _ => None,
    };
    let is_it = |tunnel: &IkeEntry| match target {
        TargetText::Tunnel(name) => tunnel.name == *name,
        TargetText::Child { name, .. } => tunnel.children.iter().any(|child| child.name == *name),
        TargetText::Spi(spi) => tunnel.children.iter().any(|child| is_spi(&child.inbound_spi, *spi)),
        TargetText::Connection(_) => true,
    };
    let mut tunnels = tunnels(config, connection)?.into_iter().filter(is_it).peekable();
    // What is not here at all has ended, and its end is an event of its own.
    Ok(tunnels.peek().is_none() || tunnels.any(|tunnel| tunnel.state != STANDBY))
}

fn elsewhere(what: &str) -> DpctlError {
    let problem =
        "another node of the cluster acts for it now, and goes on with what was begun; look there".to_owned();
    DpctlError::Negotiation { what: what.to_owned(), problem }
}

/// A Child SA's own failure does not say its SPI: what fails meanwhile in any tunnel may be it.
fn is_failure_of(tunnel: Option<&str>, connection: Option<&str>, target: &TargetText) -> bool {
    match target {
        TargetText::Connection(wanted) | TargetText::Child { connection: Some(wanted), .. } => {
            is_about(tunnel, connection, wanted)
        }
        TargetText::Tunnel(wanted) => tunnel == Some(wanted),
        TargetText::Child { .. } | TargetText::Spi(_) => tunnel.is_some(),
    }
}

fn is_end_of(occurred: &Occurred, target: &TargetText) -> bool {
    match (occurred, target) {
        (Occurred::IkeDown { tunnel, .. }, TargetText::Connection(wanted)) => is_of(tunnel, wanted),
        (Occurred::IkeDown { tunnel, .. }, TargetText::Tunnel(wanted)) => tunnel == wanted,
        (Occurred::ChildDown { tunnel, child, .. }, TargetText::Child { connection, name }) => {
            child == name && connection.as_ref().is_none_or(|wanted| is_of(tunnel, wanted))
        }
        (Occurred::ChildDown { inbound_spi, .. }, TargetText::Spi(wanted)) => is_spi(inbound_spi, *wanted),
        _ => false,
    }
}

fn is_rekey_of(occurred: &Occurred, target: &TargetText, what: RekeyWhat) -> bool {
    let of_target = |tunnel: &str| match target {
        TargetText::Connection(wanted) => is_of(tunnel, wanted),
        TargetText::Tunnel(wanted) => tunnel == wanted,
        TargetText::Child { connection, .. } => {
            connection.as_ref().is_none_or(|wanted| is_of(tunnel, wanted))
        }
        TargetText::Spi(_) => true,
    };
    match (occurred, what, target) {
        (Occurred::IkeRekeyed { .. }, RekeyWhat::Ike, TargetText::Spi(_)) => false,
        (Occurred::IkeRekeyed { tunnel, .. }, RekeyWhat::Ike, _) => of_target(tunnel),
        (Occurred::ChildUp { replaces: Some(old), .. }, RekeyWhat::Child, TargetText::Spi(wanted)) => {
            is_spi(old, *wanted)
        }
        (Occurred::ChildUp { replaces: Some(_), tunnel, child, .. }, RekeyWhat::Child, target) => {
            let is_wanted = !matches!(target, TargetText::Child { name, .. } if name != child);
            is_wanted && of_target(tunnel)
        }
        _ => false,
    }
}

fn is_spi(text: &str, wanted: u32) -> bool {
    crate::dpctl::sa::parse_spi(text) == Ok(wanted)
}

pub(in crate::dpctl) fn release(config: &Config, name: &str, output: Output) -> Result<(), DpctlError> {
    let done: Done = connect(config)?.request(&Request::Release { name: name.to_owned() })?;
    output.answer(&done, |out| writeln!(out, "{name} is no longer here"))
}
