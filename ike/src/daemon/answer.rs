//! What the loop answers.

use std::collections::HashMap;

use baton_dataplane::control::{Code, Counter, Counters, Refusal};
use baton_ike_proto::host::Target;
use baton_ike_proto::machine::{Restoring, TunnelState};
use baton_ike_proto::wire::GatewayIdentity;
use baton_ike_proto::{Command, CommandError};
use tracing::info;

use super::desk::{Answer, Ask, Question, no_tunnel};
use super::reload::{self, Loaded};
use super::show;
use super::turn::Loop;
use crate::clock;
use crate::control::{
    Connections, Done, IkeList, IkeListRequest, MAX_LISTED, RekeyWhat, Request, RestoreAnswer, Status,
    TargetText,
};

impl Loop {
    pub(super) fn reply(&mut self, ask: Ask) {
        let is_restore = matches!(ask.question, Question::Request(Request::Restore { .. }));
        let answer = match ask.question {
            Question::Request(request) => self.answer(request),
            Question::Reconfigure(loaded) => Ok(self.reconfigure(*loaded)),
        };
        // Who asked may have left.
        let reply = move || drop(ask.answer.try_send(answer));
        // Whoever is told that a tunnel is here sends its packets here.
        if is_restore { self.effects.answer_in_force(reply) } else { reply() }
    }

    fn answer(&mut self, request: Request) -> Result<Answer, Refusal> {
        match request {
            Request::Status => Ok(Answer::Status(self.status())),
            Request::Counters => Ok(Answer::Counters(self.counters())),
            Request::ConnList => Ok(Answer::Connections(self.connections())),
            Request::IkeList(request) => Ok(Answer::Tunnels(self.list(&request))),
            Request::IkeShow { name } => self.show(&name),
            Request::Initiate { connection, child } => self.done(Command::Initiate { connection, child }),
            Request::Terminate { target } => self.done(Command::Terminate(target.into())),
            Request::Rekey { target, what: RekeyWhat::Ike } => self.done(Command::RekeyIke(target.into())),
            Request::Rekey { target, what: RekeyWhat::Child } => {
                self.done(Command::RekeyChild(target.into()))
            }
            Request::Redirect { target, gateway } => self.redirect(target, &gateway),
            Request::Synchronize { target } => self.done(Command::Synchronize(target.into())),
            Request::Freeze { name } => {
                // After the answer nothing of the tunnel leaves.
                self.effects.let_all_go();
                self.done(Command::Freeze(name))
            }
            Request::Thaw { name, advanced } => self.thaw(name, advanced),
            Request::Release { name } => self.done(Command::Release(name)),
            Request::Restore { context, advanced } => self.restore(&context, advanced),
            Request::StandbyPut { contexts } => Ok(self.put_standby(&contexts)),
            Request::StandbyRemove { names } => self.remove_standby(&names),
            Request::ContextList(request) => Ok(self.list_contexts(&request)),
            Request::Own { segments } => self.own(&segments),
            Request::FreezeSegments { segments } => self.freeze_segments(&segments),
            Request::ThawSegments { segments } => self.thaw_segments(&segments),
            Request::Advance { segments, packets } => Ok(self.advance(&segments, packets)),
            Request::RekeyTunnels { names } => Ok(self.rekey_tunnels(&names)),
            // The desk answers these itself.
            Request::Reload | Request::ContextGet { .. } | Request::Monitor(_) | Request::Log(_) => {
                Err(Refusal::new(Code::Internal, "this request was sent to the wrong place", "report this"))
            }
        }
    }

    fn done(&mut self, command: Command) -> Result<Answer, Refusal> {
        let concerned = self.command(command).map_err(|error| refused(&error))?;
        Ok(Answer::Done(Done { concerned: concerned as u64 }))
    }

    fn redirect(&mut self, target: Option<TargetText>, gateway: &str) -> Result<Answer, Refusal> {
        let gateway = gateway
            .parse::<GatewayIdentity>()
            .map_err(|error| split(Code::BadRequest, &error.to_string()))?;
        self.done(Command::Redirect { target: target.map(Into::into), gateway })
    }

    fn thaw(&mut self, name: String, advanced: u64) -> Result<Answer, Refusal> {
        let thawed = self.done(Command::Thaw(name.clone()))?;
        if advanced > 0 {
            self.done(Command::Advanced { tunnel: name, packets: advanced })?;
        }
        Ok(thawed)
    }

    fn restore(&mut self, context: &str, advanced: u64) -> Result<Answer, Refusal> {
        let context = hex::decode(context).map_err(|error| {
            let message = format!("the context is not in hexadecimal digits: {error}");
            Refusal::new(Code::BadRequest, message, "pass it as context-get gave it")
        })?;
        let restored = self.ike.restore(clock::now(), &context, Restoring::Move, &mut self.node);
        let result = restored.map(|name| RestoreAnswer { name: name.to_string() });
        if let Ok(answer) = &result {
            // With the rest of it, so that no restart comes between.
            let command = Command::Advanced { tunnel: answer.name.clone(), packets: advanced };
            let noted = self.ike.command(clock::now(), command, &mut self.node);
            debug_assert!(noted.is_ok(), "it was restored");
        }
        self.carry_out();
        let answer = result.map_err(|error| split(Code::Refused, &error.to_string()))?;
        info!(tunnel = answer.name, "taken over from another gateway");
        Ok(Answer::Restored(answer))
    }

    fn reconfigure(&mut self, loaded: Loaded) -> Answer {
        let report = reload::compare(&self.config, &loaded.config);
        self.effects.radius().reconfigure(loaded.config.radius.clone(), &loaded.radius_secrets);
        if let Some(dae) = &mut self.dae {
            let own = &loaded.config.daemon.listen;
            let radius = self.effects.radius_status();
            dae.set_policy(&loaded.config.radius, &loaded.radius_secrets, radius, own);
        }
        self.names.follow(&loaded.config);
        let protocol = self.names.resolved(&loaded.config);
        (self.config, self.credentials) = (loaded.config, loaded.credentials);
        let credentials = std::sync::Arc::clone(&self.credentials);
        self.ike.reconfigure(clock::now(), protocol, credentials, &mut self.node);
        self.carry_out();
        let restart = (!report.needs_restart.is_empty()).then(|| report.needs_restart.join("; "));
        self.alarms.set("restart", restart);
        info!(?report, "the configuration was read again");
        Answer::Reloaded(report)
    }

    fn status(&self) -> Status {
        let mut status = Status {
            release: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_seconds: self.started.elapsed().as_secs(),
            node: self.table.node().get(),
            cluster: self.config.gateway.node.cluster.clone(),
            listening: self.sockets.bound().map(|address| address.to_string()).collect(),
            data_plane: self.data_plane,
            connections: self.config.protocol.connections.len() as u64,
            policies_pending: self.effects.policies_waiting(),
            fence: self.fence.in_force.iter().map(|&word| word.to_owned()).collect(),
            alarms: self.alarms.sentences(),
            radius: self.effects.radius_status().status(),
            radius_records_pending: self.effects.radius_status().records_waiting(),
            ..Status::default()
        };
        for view in self.ike.tunnels(clock::now()) {
            match view.state {
                TunnelState::Waiting => {}
                TunnelState::Connecting => status.half_open += 1,
                TunnelState::Standby => status.standby += 1,
                _ => status.established += 1,
            }
            status.children += view.children.len() as u64;
        }
        status
    }

    fn counters(&self) -> Counters {
        let protocol = self.ike.counters();
        let protocol = protocol.iter().map(|(name, value)| Counter {
            group: "ike".to_owned(),
            name: name.replace('_', "-"),
            value,
            meaning: String::new(),
        });
        let radius = self.effects.radius_status().counters();
        let dae = self.dae.as_ref().map(crate::radius::Dae::counters).unwrap_or_default();
        let own = self.counted.entries().into_iter();
        Counters { counters: own.chain(protocol).chain(radius).chain(dae).collect() }
    }

    fn connections(&self) -> Connections {
        let mut tunnels: HashMap<String, u64> = HashMap::new();
        for view in self.ike.tunnels(clock::now()) {
            *tunnels.entry(view.connection).or_default() += 1;
        }
        let of = |name: &str| tunnels.get(name).copied().unwrap_or(0);
        let connections = self.config.protocol.connections.iter();
        Connections { connections: connections.map(|c| show::connection(c, of(&c.name))).collect() }
    }

    fn list(&self, request: &IkeListRequest) -> IkeList {
        let is_wanted =
            |connection: &str| request.connection.as_deref().is_none_or(|wanted| wanted == connection);
        let is_after = |name: &str| request.after.as_deref().is_none_or(|after| name > after);
        let views = self
            .ike
            .tunnels(clock::now())
            .filter(|view| is_wanted(&view.connection) && is_after(view.name.as_str()));
        let mut views: Vec<_> = views.collect();
        views.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let more = views.len() > MAX_LISTED;
        views.truncate(MAX_LISTED);
        let unix = clock::now().unix;
        IkeList { tunnels: views.iter().map(|view| show::tunnel(view, &self.table, unix)).collect(), more }
    }

    fn show(&self, name: &str) -> Result<Answer, Refusal> {
        let view = self.ike.tunnel(clock::now(), name).ok_or_else(|| no_tunnel(name))?;
        Ok(Answer::Tunnel(Box::new(show::tunnel(&view, &self.table, clock::now().unix))))
    }
}

impl From<TargetText> for Target {
    fn from(target: TargetText) -> Self {
        match target {
            TargetText::Connection(name) => Self::Connection(name),
            TargetText::Tunnel(name) => Self::Tunnel(name),
            TargetText::Child { connection, name } => Self::Child(connection, name),
            TargetText::Spi(spi) => Self::Spi(spi),
        }
    }
}

fn refused(error: &CommandError) -> Refusal {
    let code = match error {
        CommandError::NoConnection(_) | CommandError::NoChild(..) | CommandError::NoMatch(_) => {
            Code::NotFound
        }
        _ => Code::Refused,
    };
    split(code, &error.to_string())
}

/// The protocol's sentences end with what to do, behind a semicolon.
fn split(code: Code, sentence: &str) -> Refusal {
    let (message, remedy) = sentence.rsplit_once("; ").unwrap_or((sentence, "see the log of baton-ike"));
    Refusal::new(code, message, remedy)
}
