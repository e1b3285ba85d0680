//! Connections, tunnels and the log.

use std::io::{self, Write};
use std::net::SocketAddr;

use baton_dataplane::config::Config;
use baton_dataplane::control::Daemon;
use baton_ike::control::{
    ConnectionEntry, Connections, IkeEntry, IkeList, IkeListRequest, LogLine, LogRequest, Request,
};
use serde_json::json;

use super::connect;
use crate::dpctl::cli::LogOptions;
use crate::dpctl::error::DpctlError;
use crate::dpctl::output::Output;
use crate::dpctl::sa::print_fields;

pub(in crate::dpctl) fn connections(config: &Config, output: Output) -> Result<(), DpctlError> {
    let answer: Connections = connect(config)?.request(&Request::ConnList)?;
    output.answer(&answer, |out| {
        let heading =
            ["CONNECTION", "LOCAL", "REMOTE", "IDENTITY", "PEER", "AUTHENTICATION", "TUNNELS", "CHILDREN"];
        let rows: Vec<_> = answer.connections.iter().map(connection_row).collect();
        output.table(out, &heading, &rows)
    })
}

fn connection_row(connection: &ConnectionEntry) -> Vec<String> {
    let addresses = |list: &[String]| if list.is_empty() { "any".to_owned() } else { list.join(",") };
    let children: Vec<&str> = connection.children.iter().map(|child| child.name.as_str()).collect();
    let (ours, theirs) = (&connection.local_authentication, &connection.remote_authentication);
    vec![
        connection.name.clone(),
        addresses(&connection.local_addresses),
        addresses(&connection.remote_addresses),
        connection.local_identity.clone(),
        connection.remote_identity.clone(),
        if ours == theirs { ours.clone() } else { format!("{ours}/{theirs}") },
        connection.tunnels.to_string(),
        children.join(" "),
    ]
}

/// All tunnels, or those of a connection; the daemon gives them in pieces.
pub(in crate::dpctl) fn tunnels(
    config: &Config,
    connection: Option<&str>,
) -> Result<Vec<IkeEntry>, DpctlError> {
    let mut client = connect(config)?;
    let mut request = IkeListRequest { connection: connection.map(str::to_owned), after: None };
    let mut tunnels: Vec<IkeEntry> = Vec::new();
    loop {
        let piece: IkeList = client.request(&Request::IkeList(request.clone()))?;
        let is_empty = piece.tunnels.is_empty();
        tunnels.extend(piece.tunnels);
        if is_empty || !piece.more {
            return Ok(tunnels);
        }
        request.after = tunnels.last().map(|tunnel| tunnel.name.clone());
    }
}

pub(in crate::dpctl) fn list(
    config: &Config,
    connection: Option<&str>,
    output: Output,
) -> Result<(), DpctlError> {
    let tunnels = tunnels(config, connection)?;
    output.answer(&json!({ "tunnels": tunnels }), |out| {
        let heading = ["TUNNEL", "STATE", "ROLE", "LOCAL", "REMOTE", "PEER", "INSIDE", "UP", "CHILDREN"];
        let rows: Vec<_> = tunnels.iter().map(tunnel_row).collect();
        output.table(out, &heading, &rows)
    })
}

fn tunnel_row(tunnel: &IkeEntry) -> Vec<String> {
    let place = |place: Option<SocketAddr>| place.map_or_else(|| "-".to_owned(), |place| place.to_string());
    let words = |mut list: Vec<String>| {
        if list.is_empty() {
            list.push("-".to_owned());
        }
        list.join(" ")
    };
    let inner = tunnel.virtual_addresses.iter().map(ToString::to_string).collect();
    let children =
        tunnel.children.iter().map(|child| format!("{}:{}", child.name, child.inbound_spi)).collect();
    let state = if tunnel.frozen { "frozen" } else { &tunnel.state };
    vec![
        tunnel.name.clone(),
        state.to_owned(),
        tunnel.role.clone(),
        place(tunnel.local),
        place(tunnel.remote),
        words(vec![tunnel.remote_identity.clone()]),
        words(inner),
        tunnel.established_seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds}s")),
        words(children),
    ]
}

pub(in crate::dpctl) fn show(config: &Config, name: &str, output: Output) -> Result<(), DpctlError> {
    let tunnel: IkeEntry = connect(config)?.request(&Request::IkeShow { name: name.to_owned() })?;
    output.answer(&tunnel, |out| {
        let mut fields = json!(tunnel);
        let children = fields["children"].take();
        print_fields(out, &fields)?;
        children.as_array().into_iter().flatten().try_for_each(|child| print_child(out, child))
    })
}

/// Selectors one a line, like those of an SA.
fn print_child(out: &mut dyn Write, child: &serde_json::Value) -> io::Result<()> {
    let mut fields = child.clone();
    let selectors = fields["selectors"].take();
    for side in ["local", "remote"] {
        fields[format!("{side}_selectors")] = selectors[side].clone();
    }
    print_fields(out, &fields)
}

pub(in crate::dpctl) fn log(config: &Config, options: &LogOptions, output: Output) -> Result<(), DpctlError> {
    let request = Request::Log(LogRequest { lines: options.lines as usize, follow: options.follow });
    for line in connect(config)?.lines::<LogLine, _>(&request)? {
        print(&line?, output)?;
    }
    // A stream that was to go on has an end only if the daemon has.
    if options.follow { Err(DpctlError::MonitorEnded(Daemon::Ike)) } else { Ok(()) }
}

/// One line, at once.
fn print(line: &LogLine, output: Output) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if output.is_json() {
        serde_json::to_writer(&mut out, line)?;
        writeln!(out)?;
    } else {
        writeln!(out, "{}", line.line)?;
    }
    out.flush()
}
