//! The called end: members only, each at its address, and a bounded number of handshakes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use baton_sad::NodeId;
use quinn::{Connection, ConnectionError, Endpoint, Incoming, VarInt};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use super::endpoint::Shared;
use super::problem::code;
use super::streams::{self, Purpose};
use super::{LinkProblem, Member, link};

/// Handshakes of one member at once; it gives up some of them itself.
const HALF_OPEN: usize = 24;
/// How long one may take.
const HANDSHAKE: Duration = Duration::from_secs(1);

/// Judges every call, forever.
pub(super) async fn accept(
    endpoint: Endpoint,
    shared: Arc<Shared>,
    callers: HashMap<NodeId, mpsc::Sender<Connection>>,
) {
    let half_open: HashMap<NodeId, Arc<Semaphore>> =
        callers.keys().map(|id| (*id, Arc::new(Semaphore::new(HALF_OPEN)))).collect();
    while let Some(incoming) = endpoint.accept().await {
        let counted = &shared.counted;
        let Some(member) = shared.member_at(incoming.remote_address()) else {
            counted.strangers.fetch_add(1, Ordering::Relaxed);
            incoming.ignore();
            continue;
        };
        // Who sends from a forged address does not see what it has to answer.
        if !incoming.remote_address_validated() {
            counted.retries.fetch_add(1, Ordering::Relaxed);
            let _ = incoming.retry();
            continue;
        }
        let (Some(calls), Some(half_open)) = (callers.get(&member.id), half_open.get(&member.id)) else {
            counted.refused.fetch_add(1, Ordering::Relaxed);
            incoming.refuse();
            continue;
        };
        let Ok(permit) = Arc::clone(half_open).try_acquire_owned() else {
            counted.refused.fetch_add(1, Ordering::Relaxed);
            incoming.refuse();
            continue;
        };
        let (shared, calls) = (Arc::clone(&shared), calls.clone());
        tokio::spawn(async move {
            let _permit = permit;
            match timeout(HANDSHAKE, answer(incoming, &shared, member)).await {
                Ok(Ok(connection)) => drop(calls.send(connection).await),
                Ok(Err(problem)) => {
                    shared.counted.failed.fetch_add(1, Ordering::Relaxed);
                    if let Some(problem) = problem {
                        shared.note_problem(member.id, problem);
                    }
                }
                Err(_) => drop(shared.counted.failed.fetch_add(1, Ordering::Relaxed)),
            }
        });
    }
}

/// A connection that its caller has begun. A failure without a problem is one of those calls that it gave up.
async fn answer(
    incoming: Incoming,
    shared: &Shared,
    member: Member,
) -> Result<Connection, Option<LinkProblem>> {
    let (config, judge) =
        shared.tls().server(member).map_err(|error| Some(LinkProblem::Network(error.to_string())))?;
    let refused = |error: ConnectionError| match (judge.problem(), error.into()) {
        (Some(problem), _) => Some(problem.into()),
        (None, problem @ (LinkProblem::RefusesUs(_) | LinkProblem::Version)) => Some(problem),
        // A call that was given up.
        (None, _) => None,
    };
    let connection = incoming.accept_with(Arc::new(config)).map_err(refused)?.await.map_err(refused)?;
    let mut stream = connection.accept_uni().await.map_err(refused)?;
    match streams::read_purpose(&mut stream).await {
        Ok(Purpose::Begin) => Ok(connection),
        Err(streams::StreamError::Ended) => Err(None),
        _ => Err(Some(LinkProblem::Protocol("it does not begin with the beginning".to_owned()))),
    }
}

/// Uses a member's latest connection, forever: one that it begins while there is one comes from its next life.
pub(super) async fn keep_serving(shared: Arc<Shared>, member: Member, mut calls: mpsc::Receiver<Connection>) {
    shared.note_problem(member.id, LinkProblem::Silent);
    let mut next = calls.recv().await;
    while let Some(connection) = next.take() {
        if confirm(&connection).await.is_err() {
            next = calls.recv().await;
            continue;
        }
        let current = connection.clone();
        let mut running = std::pin::pin!(link::run(&shared, member.id, connection));
        let problem = tokio::select! {
            problem = &mut running => problem,
            Some(another) = calls.recv() => {
                next = Some(another);
                current.close(VarInt::from_u32(code::REPLACED), b"");
                running.await;
                LinkProblem::Restarted
            }
        };
        shared.note_problem(member.id, problem);
        if next.is_none() {
            next = calls.recv().await;
        }
    }
}

/// Tells the caller that its connection is used.
async fn confirm(connection: &Connection) -> Result<(), LinkProblem> {
    let mut stream = connection.open_uni().await?;
    let written = timeout(HANDSHAKE, streams::write_purpose(&mut stream, Purpose::Begin)).await;
    if !matches!(written, Ok(Ok(()))) {
        return Err(LinkProblem::Silent);
    }
    let _ = stream.finish();
    Ok(())
}
