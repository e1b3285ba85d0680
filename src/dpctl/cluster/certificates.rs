//! A cluster's certificates: made where it was begun, used where they were invited to.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use baton_ctx_transfer::authority::{Authority, Invitation, store};
use baton_ctx_transfer::channel::{AUTHORITY_KEY, Credentials, Identity};
use baton_ctx_transfer::config::Config;
use baton_ctx_transfer::private_file::PrivateFile;
use serde_json::json;
use zeroize::Zeroizing;

use crate::dpctl::cli::InviteOptions;
use crate::dpctl::error::DpctlError;
use crate::dpctl::output::Output;

/// An invitation has a few thousand.
const MAX_OCTETS: u64 = 64 << 10;
const DAY: u64 = 86_400;

pub(super) fn init(
    config: &Config,
    days: u32,
    authority_days: u32,
    output: Output,
) -> Result<(), DpctlError> {
    let own = config.identity();
    let authority = Authority::create(&config.directory, &own.cluster, authority_days)?;
    store(&config.directory, &authority.issue(&own, days)?)?;
    let directory = config.directory.display();
    let value = json!({ "identity": own.to_string(), "directory": directory.to_string() });
    output.answer(&value, |out| {
        writeln!(out, "cluster {} has begun; {directory} holds its certificates", own.cluster)?;
        writeln!(out, "keep a copy of {directory}/{AUTHORITY_KEY}: without it no member can be added")?;
        let others = config.cluster.others().map(|member| member.id.get());
        others.into_iter().try_for_each(|id| {
            writeln!(out, "next: dpctl cluster invite {id} | ssh MEMBER-{id} dpctl cluster join -")
        })
    })
}

pub(super) fn invite(config: &Config, options: &InviteOptions, output: Output) -> Result<(), DpctlError> {
    let member = config.cluster.members.iter().find(|member| member.id.get() == options.member);
    let member = member.ok_or(DpctlError::NoMember(options.member))?;
    let cluster = config.node.cluster.clone();
    let identity = Identity { cluster, role: member.role, node: member.id };
    let authority = Authority::load(&config.directory, &identity.cluster)?;
    let text = authority.invite(&identity, options.days)?.text();
    let file = options.output.as_deref().filter(|path| *path != Path::new("-"));
    let value = json!({ "identity": identity.to_string(), "days": options.days, "file": file });
    let Some(path) = file else {
        io::Write::write_all(&mut io::stdout().lock(), text.as_bytes())?;
        output.aside(&value, "delete what holds this when it is used");
        return Ok(());
    };
    let mut file = PrivateFile::create(path)?;
    file.write_all(text.as_bytes())?;
    file.publish()?;
    output.answer(&value, |out| {
        writeln!(
            out,
            "{} invites {identity} for {} days; delete it when it is used",
            path.display(),
            options.days
        )
    })
}

pub(super) fn join(config: &Config, path: &Path, output: Output) -> Result<(), DpctlError> {
    let mut text = Zeroizing::new(String::with_capacity(MAX_OCTETS as usize));
    let source: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(path).map_err(DpctlError::file("open", path))?)
    };
    source.take(MAX_OCTETS).read_to_string(&mut text).map_err(DpctlError::file("read", path))?;
    let own = config.identity();
    Invitation::parse(&text)?.accept(&config.directory, &own)?;
    let value = json!({ "identity": own.to_string(), "directory": config.directory });
    output.answer(&value, |out| {
        writeln!(out, "this is {own} now; start baton-cluster, or `dpctl cluster reload` if it runs")
    })
}

pub(super) fn show(config: &Config, output: Output) -> Result<(), DpctlError> {
    let credentials = Credentials::load(&config.directory)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let days = |ends: std::time::Duration| ends.saturating_sub(now).as_secs() / DAY;
    let own = config.identity();
    let value = json!({
        "identity": credentials.identity.to_string(),
        "is_ours": credentials.identity == own,
        "expires": credentials.expires.as_secs(),
        "days_left": days(credentials.expires),
        "authority_expires": credentials.authority_expires.as_secs(),
        "authority_days_left": days(credentials.authority_expires),
        "has_authority_key": config.directory.join(AUTHORITY_KEY).exists(),
    });
    output.answer(&value, |out| {
        writeln!(out, "{}: {} days left", credentials.identity, days(credentials.expires))?;
        writeln!(out, "authority: {} days left", days(credentials.authority_expires))?;
        if credentials.identity != own {
            writeln!(out, "this member is {own}: correct [node] and [cluster], or join again")?;
        }
        Ok(())
    })
}
