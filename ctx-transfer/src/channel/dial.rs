//! The calling end: a member that comes back is connected as soon as it answers.

use std::sync::Arc;
use std::time::Duration;

use quinn::{Connection, Endpoint};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::endpoint::Shared;
use super::streams::{self, Purpose};
use super::{LinkProblem, Member, link};

/// QUIC repeats a first packet less and less often; beginning anew as often as this, a member is heard soon after it is
/// back.
const EVERY: Duration = Duration::from_millis(50);
/// How long one attempt may take: as long as a machine that has much to do needs for a handshake.
const ATTEMPT: Duration = Duration::from_secs(1);
/// Attempts at once.
const AT_ONCE: usize = 20;
/// After a refusal, which somebody has to do something about.
const AFTER_REFUSAL: Duration = Duration::from_secs(1);
/// TLS checks no name of ours here: [`super::trust`] does.
const SERVER_NAME: &str = "baton";

/// Keeps a connection with a member, forever.
pub(super) async fn keep_calling(endpoint: Endpoint, shared: Arc<Shared>, member: Member) {
    loop {
        let problem = match call(&endpoint, &shared, member).await {
            Ok(connection) => {
                let problem = link::run(&shared, member.id, connection).await;
                shared.note_problem(member.id, problem);
                continue;
            }
            Err(problem) => problem,
        };
        shared.note_problem(member.id, problem);
        sleep(AFTER_REFUSAL).await;
    }
}

/// Calls until somebody answers: a connection, or a refusal.
async fn call(endpoint: &Endpoint, shared: &Arc<Shared>, member: Member) -> Result<Connection, LinkProblem> {
    let mut attempts = JoinSet::new();
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let connection = loop {
        tokio::select! {
            _ = ticks.tick() => if attempts.len() < AT_ONCE {
                attempts.spawn(attempt(endpoint.clone(), Arc::clone(shared), member));
            },
            Some(done) = attempts.join_next() => match done {
                Ok(Ok(connection)) => break connection,
                Ok(Err(LinkProblem::Silent)) | Err(_) => shared.note_problem(member.id, LinkProblem::Silent),
                Ok(Err(problem)) => return Err(problem),
            }
        }
    };
    // The others are given up before this one is begun, so that the called one sees one beginning.
    drop(attempts);
    begin(connection).await
}

async fn attempt(endpoint: Endpoint, shared: Arc<Shared>, member: Member) -> Result<Connection, LinkProblem> {
    let refused = |error: String| LinkProblem::Network(error);
    let (config, judge) = shared.tls().client(member).map_err(|error| refused(error.to_string()))?;
    let connecting = endpoint
        .connect_with(config, member.address, SERVER_NAME)
        .map_err(|error| refused(error.to_string()))?;
    match timeout(ATTEMPT, connecting).await {
        Err(_) => Err(LinkProblem::Silent),
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(judge.problem().map_or_else(|| error.into(), LinkProblem::Certificate)),
    }
}

/// Says that this connection is the one, and waits until the other end agrees: only then has it accepted our
/// certificate.
async fn begin(connection: Connection) -> Result<Connection, LinkProblem> {
    let agree = async {
        let mut stream = connection.open_uni().await?;
        let closed = || connection.close_reason().map_or(LinkProblem::Silent, LinkProblem::from);
        streams::write_purpose(&mut stream, Purpose::Begin).await.map_err(|_| closed())?;
        let _ = stream.finish();
        let mut answer = connection.accept_uni().await?;
        match streams::read_purpose(&mut answer).await {
            Ok(Purpose::Begin) => Ok(()),
            Err(streams::StreamError::Ended) => Err(closed()),
            _ => Err(LinkProblem::Protocol("it does not begin with the beginning".to_owned())),
        }
    };
    match timeout(ATTEMPT, agree).await {
        Ok(Ok(())) => Ok(connection),
        Ok(Err(problem)) => Err(problem),
        Err(_) => Err(LinkProblem::Silent),
    }
}
