//! `dpctl cluster`: what is asked of the cluster's daemon, and its certificates.

mod certificates;
mod status;

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use baton_ctx_transfer::config::{self, Config};
use baton_ctx_transfer::control::{Done, Metrics, MonitorRequest, Occurred, Reloaded, Request};
use baton_dataplane::config as gateway;
use baton_dataplane::control::{Client, ClientError, Daemon, Notice};
use baton_sad::{Name, Table};
use serde_json::{Value, json};

use super::cli::ClusterCommand;
use super::error::DpctlError;
use super::output::Output;
use super::sa;
use super::segments::{SegmentSet, text_of};

/// How long the daemon may take for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A witness has no gateway's configuration, so that these commands read their own part.
pub(super) fn run(path: &Path, command: &ClusterCommand, output: Output) -> Result<(), DpctlError> {
    let config = Config::load(path)?.ok_or_else(|| DpctlError::NoCluster(path.to_owned()))?;
    match command {
        ClusterCommand::Init { days, authority_days } => {
            certificates::init(&config, *days, *authority_days, output)
        }
        ClusterCommand::Invite(options) => certificates::invite(&config, options, output),
        ClusterCommand::Join { invitation } => certificates::join(&config, invitation, output),
        ClusterCommand::Certificates => certificates::show(&config, output),
        ClusterCommand::Status { watch, interval } => {
            status::run(&config, watch.then(|| Duration::from_secs(*interval)), output)
        }
        ClusterCommand::Metrics => metrics(&config, output),
        ClusterCommand::Monitor { count } => monitor(&config, *count, output),
        ClusterCommand::Maintenance { on } => maintenance(&config, *on, output),
        ClusterCommand::Resync => {
            done(&mut connect(&config)?, &Request::Resync, output, "standbys are filled again")
        }
        ClusterCommand::Reload => reload(&config, output),
    }
}

fn connect(config: &Config) -> Result<Client, DpctlError> {
    Ok(Client::connect_to(Daemon::Cluster, &config.control_socket(), PATIENCE)?)
}

/// The cluster's daemon of a gateway, if one runs.
fn connect_if_running(config: &gateway::Config) -> Result<Option<Client>, DpctlError> {
    let socket = config.node.runtime_directory.join(config::SOCKET);
    match Client::connect_to(Daemon::Cluster, &socket, PATIENCE) {
        Ok(client) => Ok(Some(client)),
        Err(ClientError::NotReachable { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn done(client: &mut Client, request: &Request, output: Output, text: &str) -> Result<(), DpctlError> {
    let done: Done = client.request(request)?;
    output.answer(&done, |out| writeln!(out, "{text}; `dpctl cluster status` shows how far it is"))
}

/// Takes or drops segments where a cluster's daemon runs; says whether one does.
pub(super) fn change(
    config: &gateway::Config,
    segments: &[u8],
    take: bool,
    output: Output,
) -> Result<bool, DpctlError> {
    let Some(mut client) = connect_if_running(config)? else { return Ok(false) };
    let (text, segments) = (text_of(segments), segments.to_vec());
    let (request, text) = if take {
        (Request::SegmentTake { segments }, format!("segments {text} are asked for"))
    } else {
        (Request::SegmentDrop { segments }, format!("segments {text} are given away"))
    };
    done(&mut client, &request, output, &text).map(|()| true)
}

fn connect_to_gateway(config: &gateway::Config) -> Result<Client, DpctlError> {
    let socket = config.node.runtime_directory.join(config::SOCKET);
    Ok(Client::connect_to(Daemon::Cluster, &socket, PATIENCE)?)
}

pub(super) fn balance(config: &gateway::Config, output: Output) -> Result<(), DpctlError> {
    let mut client = connect_to_gateway(config)?;
    done(&mut client, &Request::Balance, output, "segments go to the nodes that they belong to")
}

pub(super) fn move_segments(
    config: &gateway::Config,
    segments: &SegmentSet,
    to: u8,
    output: Output,
) -> Result<(), DpctlError> {
    let text = format!("segments {} go to node {to}", text_of(&segments.0));
    let request = Request::SegmentMove { segments: segments.0.clone(), to };
    done(&mut connect_to_gateway(config)?, &request, output, &text)
}

/// The segment of a tunnel, with all that is in it.
pub(super) fn move_tunnel(
    config: &gateway::Config,
    table: &Table,
    tunnel: &str,
    to: u8,
    output: Output,
) -> Result<(), DpctlError> {
    let sa = sa::find(table, tunnel)?.swap_remove(0).sa;
    let beside: BTreeSet<Name> = table
        .iter()
        .filter(|other| other.sa.segment == sa.segment && other.sa.name != sa.name)
        .map(|other| other.sa.name)
        .collect();
    let request = Request::SegmentMove { segments: vec![sa.segment], to };
    let _: Done = connect_to_gateway(config)?.request(&request)?;
    let answer = json!({ "tunnel": sa.name.as_str(), "segment": sa.segment, "beside": beside.len() });
    output.answer(&answer, |out| {
        let (name, segment, others) = (sa.name, sa.segment, beside.len());
        write!(out, "{name} goes to node {to} with its segment {segment}")?;
        if others > 0 {
            write!(out, " and that one's {others} other tunnels")?;
        }
        writeln!(out, "; `dpctl cluster status` shows how far it is")
    })
}

fn maintenance(config: &Config, on: bool, output: Output) -> Result<(), DpctlError> {
    let text = if on { "segments are given away" } else { "this node takes segments again" };
    done(&mut connect(config)?, &Request::Maintenance { on }, output, text)
}

fn metrics(config: &Config, output: Output) -> Result<(), DpctlError> {
    let metrics: Metrics = connect(config)?.request(&Request::Metrics)?;
    output.answer(&metrics, |out| write!(out, "{}", metrics.text))
}

fn reload(config: &Config, output: Output) -> Result<(), DpctlError> {
    let reloaded: Reloaded = connect(config)?.request(&Request::Reload)?;
    output.answer(&reloaded, |out| {
        if reloaded.changed.is_empty() {
            writeln!(out, "nothing has changed that can be taken over")?;
        } else {
            writeln!(out, "taken over: {}", reloaded.changed.join(", "))?;
        }
        reloaded.needs_restart.iter().try_for_each(|sentence| writeln!(out, "{sentence}"))
    })
}

/// An event as its kind and its fields, segments in their shortest form.
fn sentence(notice: &Value) -> String {
    let mut words = vec![notice["kind"].as_str().unwrap_or_default().to_owned()];
    for (key, value) in notice.as_object().into_iter().flatten() {
        match (key.as_str(), value) {
            ("kind" | "time_ms", _) => {}
            ("segments", Value::Array(list)) => {
                let segments: Vec<u8> =
                    list.iter().filter_map(|s| s.as_u64().and_then(|s| u8::try_from(s).ok())).collect();
                words.push(format!("segments {}", text_of(&segments)));
            }
            (_, Value::String(text)) => words.push(text.clone()),
            (key, value) => words.push(format!("{key} {value}")),
        }
    }
    words.join(", ")
}

fn monitor(config: &Config, count: Option<u64>, output: Output) -> Result<(), DpctlError> {
    let request = Request::Monitor(MonitorRequest::default());
    let mut left = count.unwrap_or(u64::MAX);
    for notice in connect(config)?.lines::<Notice<Occurred>, _>(&request)? {
        let value = json!(notice?);
        let line = if output.is_json() { value.to_string() } else { sentence(&value) };
        writeln!(io::stdout().lock(), "{line}")?;
        left -= 1;
        if left == 0 {
            return Ok(());
        }
    }
    Err(DpctlError::MonitorEnded(Daemon::Cluster))
}
