//! From the protocol's words to RADIUS's, and back.

use std::time::Duration;

use baton_ike_proto::host::{Account, DownReason, Grant, Judgement, Moment, Thread, Traffic};
use baton_radius::access::{Accept, Answer};
use baton_radius::accounting::{Cause, Record, Status, Usage};
use baton_radius::attribute::Attributes;
use baton_radius::client::{Server, Settings};

use crate::config::Radius;
use crate::credentials::RadiusSecrets;

/// The shortest interval of interim records that a server may ask for (RFC 2869 section 5.16).
const SHORTEST: Duration = Duration::from_mins(1);

/// A server whose secret is not there was refused with the configuration.
pub(super) fn settings(config: &Radius, secrets: &RadiusSecrets) -> Settings {
    let servers = config.servers.iter().filter_map(|server| {
        let nas_identifier = server.nas_identifier.as_ref().unwrap_or(&config.nas_identifier);
        Some(Server {
            name: server.name.as_str().into(),
            address: server.address,
            auth_port: server.auth_port,
            acct_port: server.acct_port,
            preference: server.preference,
            sockets: server.sockets,
            secret: secrets.get(&server.secret)?.clone(),
            nas_identifier: nas_identifier.clone(),
        })
    });
    Settings {
        servers: servers.collect(),
        first: config.retransmit_timeout,
        base: config.retransmit_base,
        tries: config.retransmit_tries,
        dead_time: config.dead_time,
    }
}

/// `interval` of interim records is for those to whom the server gives none.
pub(super) fn judgement(answer: Answer, interval: Duration) -> Judgement {
    match answer {
        Answer::Challenge { eap, thread } => {
            let thread = Thread { server: thread.server.to_string(), state: thread.state };
            Judgement::Continue { eap, thread }
        }
        Answer::Accept(accept) => Judgement::Accept(Box::new(grant(*accept, interval))),
        Answer::Reject { eap, message } => {
            let said = message.map_or(String::new(), |message| format!(" and says \"{message}\""));
            let problem = format!("the RADIUS server refuses the user{said}; look at its log");
            Judgement::Reject { eap, problem }
        }
        Answer::Failed(problem) => Judgement::Unknown(problem),
    }
}

fn grant(accept: Accept, interval: Duration) -> Grant {
    let own = Some(interval).filter(|interval| !interval.is_zero());
    let theirs = accept.interim_interval.map(|interval| interval.max(SHORTEST));
    Grant {
        eap: accept.eap,
        key: accept.key,
        user: accept.user,
        class: accept.class,
        session_timeout: accept.session_timeout,
        idle_timeout: accept.idle_timeout,
        interim_interval: theirs.or(own),
        addresses: accept.addresses,
        dns: accept.dns,
    }
}

pub(super) fn record(account: &Account, attributes: Attributes, unix: Duration) -> Record {
    let Traffic { inbound, outbound } = account.traffic;
    Record {
        session: account.session.id.clone(),
        status: status(account.moment),
        time: account.time,
        usage: Usage {
            input_octets: inbound.octets,
            input_packets: inbound.packets,
            output_octets: outbound.octets,
            output_packets: outbound.packets,
        },
        unix,
        attributes,
    }
}

pub(super) fn status(moment: Moment) -> Status {
    match moment {
        Moment::Start => Status::Start,
        Moment::Interim => Status::Interim,
        Moment::Stop(reason) => Status::Stop(cause(reason)),
    }
}

fn cause(reason: DownReason) -> Cause {
    match reason {
        DownReason::Peer | DownReason::Crashed => Cause::UserRequest,
        DownReason::Unreachable => Cause::LostService,
        DownReason::Idle => Cause::IdleTimeout,
        DownReason::SessionTimeout | DownReason::Expired => Cause::SessionTimeout,
        DownReason::Command => Cause::AdminReset,
        DownReason::Failed => Cause::NasError,
        _ => Cause::NasRequest,
    }
}
