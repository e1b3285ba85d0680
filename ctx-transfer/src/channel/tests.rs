//! Two members, or three, in one process, over the loopback interface.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tempfile::TempDir;
use tokio::sync::mpsc::{self, Receiver};
use tokio::time::{sleep, timeout};

use super::*;
use crate::authority::{Authority, store};
use crate::cluster::wire::{PROTOCOL, SPOKEN};

const DAY: Duration = Duration::from_hours(24);
/// Much longer than anything takes here.
const PATIENCE: Duration = Duration::from_secs(20);

fn node(id: u8) -> NodeId {
    NodeId::new(id).expect("not 0")
}

fn name(cluster: &str, role: Role, id: u8) -> Identity {
    Identity { cluster: cluster.to_owned(), role, node: node(id) }
}

/// An authority in a directory of its own, and credentials that it made.
struct Cluster {
    authority: Authority,
    directory: TempDir,
}

impl Cluster {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let authority = Authority::create(directory.path(), "demo", 10).expect("begun");
        Self { authority, directory }
    }

    fn credentials(&self, identity: &Identity) -> Arc<Credentials> {
        let issued = self.authority.issue(identity, 5).expect("issued");
        self.load(&issued)
    }

    /// Valid from so many days before now, for one day.
    fn expired(&self, identity: &Identity, days_ago: u32) -> Arc<Credentials> {
        let from = SystemTime::now() - DAY * days_ago;
        self.load(&self.authority.issue_for(identity, from.into(), (from + DAY).into()).expect("issued"))
    }

    fn load(&self, issued: &crate::authority::Issued) -> Arc<Credentials> {
        store(self.directory.path(), issued).expect("stored");
        Arc::new(Credentials::load(self.directory.path()).expect("whole"))
    }
}

fn socket() -> UdpSocket {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket")
}

fn address(socket: &UdpSocket) -> SocketAddr {
    socket.local_addr().expect("bound")
}

/// A member and what it has heard.
struct End {
    channel: Channel,
    events: Receiver<Event>,
}

fn open(socket: UdpSocket, credentials: &Arc<Credentials>, kind: Kind, other: Member) -> End {
    open_as(socket, credentials, kind, other, SPOKEN)
}

fn open_as(
    socket: UdpSocket,
    credentials: &Arc<Credentials>,
    kind: Kind,
    other: Member,
    versions: RangeInclusive<u8>,
) -> End {
    let (sender, events) = mpsc::channel(1024);
    let settings = Settings { credentials: Arc::clone(credentials), kind, members: vec![other], versions };
    let socket = Prepared::new(socket).expect("prepared");
    End { channel: Channel::open(socket, settings, sender).expect("open"), events }
}

impl End {
    async fn next(&mut self) -> Event {
        timeout(PATIENCE, self.events.recv()).await.expect("in time").expect("open")
    }

    async fn connected(&mut self) {
        match self.next().await {
            Event::Connected(_) => {}
            other => panic!("{other:?}"),
        }
    }

    /// The next message, whatever else comes.
    async fn message(&mut self) -> (NodeId, Lane, Vec<u8>) {
        loop {
            if let Event::Message { from, lane, octets } = self.next().await {
                return (from, lane, octets);
            }
        }
    }

    async fn problem(&mut self, member: NodeId, wanted: impl Fn(&LinkProblem) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.channel.sender().problem(member) {
                Some(problem) if wanted(&problem) => return problem.to_string(),
                found => assert!(Instant::now() < deadline, "only {found:?}"),
            }
            sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Members 1 and 2 with these credentials.
fn pair(kind: Kind, first: &Arc<Credentials>, second: &Arc<Credentials>) -> (End, End) {
    let (one, two) = (socket(), socket());
    let first_member = Member { id: node(1), role: Role::Node, address: address(&one) };
    let second_member = Member { id: node(2), role: Role::Node, address: address(&two) };
    (open(one, first, kind, second_member), open(two, second, kind, first_member))
}

fn good_pair(kind: Kind) -> (End, End) {
    let cluster = Cluster::new();
    let first = cluster.credentials(&name("demo", Role::Node, 1));
    let second = cluster.credentials(&name("demo", Role::Node, 2));
    pair(kind, &first, &second)
}

#[tokio::test]
async fn messages_of_all_lanes_arrive() {
    let (mut one, mut two) = good_pair(Kind::Bulk);
    one.connected().await;
    two.connected().await;
    for (lane, octets) in
        [(Lane::Contexts, 1 << 20), (Lane::Control, 3), (Lane::Control, 0), (Lane::Counters, 1150)]
    {
        let message = vec![7; octets];
        one.channel.send(node(2), lane, message.clone()).expect("taken");
        assert_eq!(two.message().await, (node(1), lane, message.clone()));
        two.channel.send(node(1), lane, message.clone()).expect("taken");
        assert_eq!(one.message().await, (node(2), lane, message));
    }
}

#[tokio::test]
async fn a_stream_keeps_its_order() {
    let (mut one, mut two) = good_pair(Kind::Bulk);
    one.connected().await;
    two.connected().await;
    for number in 0..2000_u32 {
        one.channel.send(node(2), Lane::Contexts, number.to_be_bytes().to_vec()).expect("taken");
    }
    for number in 0..2000_u32 {
        assert_eq!(two.message().await.2, number.to_be_bytes());
    }
}

#[tokio::test]
async fn heartbeats_pass_while_nobody_reads_contexts() {
    let cluster = Cluster::new();
    let first = cluster.credentials(&name("demo", Role::Node, 1));
    let second = cluster.credentials(&name("demo", Role::Node, 2));
    let (mut one, mut two) = pair(Kind::Bulk, &first, &second);
    let (mut beat_one, mut beat_two) = pair(Kind::Heartbeat, &first, &second);
    for end in [&mut one, &mut two, &mut beat_one, &mut beat_two] {
        end.connected().await;
    }
    let mut taken = 0;
    while one.channel.send(node(2), Lane::Contexts, vec![1; 1 << 20]).is_ok() {
        taken += 1;
        assert!(taken < 10_000, "without bound");
        sleep(Duration::from_millis(1)).await;
    }
    for number in 0..50_u8 {
        beat_one.channel.send(node(2), Lane::Heartbeat, vec![number]).expect("taken");
        assert_eq!(beat_two.message().await, (node(1), Lane::Heartbeat, vec![number]));
    }
    // Nothing may be missing in between: both ends begin anew.
    loop {
        match one.next().await {
            Event::Disconnected(member, _) => break assert_eq!(member, node(2)),
            other => drop(other),
        }
    }
    one.connected().await;
    let mut messages = 0;
    loop {
        match two.next().await {
            // The next connection may come before the end of this one is seen.
            Event::Disconnected(_, LinkProblem::Overflow | LinkProblem::Restarted) => break,
            Event::Disconnected(_, problem) => panic!("{problem}"),
            Event::Message { .. } => messages += 1,
            Event::Connected(_) => panic!("connected before the end"),
        }
    }
    assert!(messages <= taken);
    two.connected().await;
    one.channel.send(node(2), Lane::Contexts, vec![9]).expect("taken");
    assert_eq!(two.message().await.2, [9]);
}

#[tokio::test]
async fn what_is_too_long_or_for_nobody_is_refused() {
    let (mut one, _two) = good_pair(Kind::Bulk);
    one.connected().await;
    let sent = |lane: Lane, octets| one.channel.send(node(2), lane, vec![0; octets]);
    assert_eq!(sent(Lane::Counters, 1151), Err(SendError::TooLong));
    assert_eq!(sent(Lane::Contexts, Lane::Contexts.most_octets() + 1), Err(SendError::TooLong));
    assert_eq!(one.channel.send(node(9), Lane::Control, vec![]), Err(SendError::NotConnected));
}

#[tokio::test]
async fn a_member_that_was_killed_is_connected_soon_after() {
    let cluster = Cluster::new();
    let credentials = [1, 2].map(|id| cluster.credentials(&name("demo", Role::Node, id)));
    for killed in [1, 2] {
        let (one, two) = (socket(), socket());
        let at = [address(&one), address(&two)];
        let member = |id: u8| Member { id: node(id), role: Role::Node, address: at[usize::from(id) - 1] };
        let mut ends = [
            open(one, &credentials[0], Kind::Heartbeat, member(2)),
            open(two, &credentials[1], Kind::Heartbeat, member(1)),
        ]
        .map(Some);
        for end in ends.iter_mut().flatten() {
            end.connected().await;
        }
        // As a kill does: without a word, and with another socket at the same address.
        let index = killed - 1;
        let dead = ends[index].take().expect("alive");
        dead.channel.forget();
        sleep(Duration::from_millis(300)).await;
        let again = UdpSocket::bind(at[index]).expect("free again");
        let other = member(if killed == 1 { 2 } else { 1 });
        let begun = Instant::now();
        let mut back = open(again, &credentials[index], Kind::Heartbeat, other);
        back.connected().await;
        let took = begun.elapsed();
        assert!(took < Duration::from_millis(1500), "member {killed} took {took:?}");
        let survivor = ends[1 - index].as_mut().expect("alive");
        assert!(matches!(survivor.next().await, Event::Disconnected(..)));
        survivor.connected().await;
    }
}

#[tokio::test]
async fn the_end_of_a_member_is_heard() {
    let (mut one, mut two) = good_pair(Kind::Bulk);
    one.connected().await;
    two.connected().await;
    two.channel.close().await;
    match one.next().await {
        Event::Disconnected(member, problem) => assert_eq!((member, problem), (node(2), LinkProblem::Ended)),
        other => panic!("{other:?}"),
    }
}

/// A pair that must not come together, and what each of them says.
async fn refused(first: &Arc<Credentials>, second: &Arc<Credentials>) -> [String; 2] {
    let (mut one, mut two) = pair(Kind::Bulk, first, second);
    let told = |problem: &LinkProblem| !matches!(problem, LinkProblem::Silent);
    let sentences = [one.problem(node(2), told).await, two.problem(node(1), told).await];
    assert!(one.events.try_recv().is_err() && two.events.try_recv().is_err(), "nobody was connected");
    sentences
}

#[tokio::test]
async fn certificates_that_are_not_good_are_refused_with_a_sentence() {
    let (cluster, other) = (Cluster::new(), Cluster::new());
    let one = name("demo", Role::Node, 1);
    let good = cluster.credentials(&one);
    let two = name("demo", Role::Node, 2);
    for (bad, sentence, answer) in [
        (cluster.expired(&two, 3), "its certificate has expired", "it has expired there"),
        (other.credentials(&two), "not from this cluster's authority", "from another authority"),
        (cluster.credentials(&name("demo", Role::Node, 3)), "is for member 3, where", "another member"),
        (cluster.credentials(&name("demo", Role::Witness, 2)), "is for a witness, where", "another member"),
        (cluster.credentials(&name("other", Role::Node, 2)), "is for cluster other", "another cluster"),
    ] {
        let [said, heard] = refused(&good, &bad).await;
        assert!(said.contains(sentence), "{said}");
        // A foreign member refuses ours, too, and may be first to say so.
        assert!(heard.contains(answer) || heard.contains("its certificate"), "{heard}");
    }
    // The called end is as strict as the calling one.
    let called = cluster.credentials(&two);
    for (bad, sentence) in [
        (cluster.expired(&one, 3), "its certificate has expired"),
        // Who comes from elsewhere believes the called one no more than the other way round, and says so first.
        (other.credentials(&one), "refuses our certificate: it is from another authority"),
        (cluster.credentials(&name("other", Role::Node, 1)), "or another cluster than is configured there"),
        (cluster.credentials(&name("demo", Role::Witness, 1)), "is for a witness, where"),
    ] {
        let (_one, mut two) = pair(Kind::Bulk, &bad, &called);
        let said = two.problem(node(1), |problem| !matches!(problem, LinkProblem::Silent)).await;
        assert!(said.contains(sentence), "{said}");
    }
}

/// A release that speaks these versions, and one of ours; each of them calls once.
fn releases(theirs: RangeInclusive<u8>, we_call: bool) -> (End, End) {
    let cluster = Cluster::new();
    let credentials = [1, 2].map(|id| cluster.credentials(&name("demo", Role::Node, id)));
    let sockets = [socket(), socket()];
    let at = [address(&sockets[0]), address(&sockets[1])];
    let member = |id: u8| Member { id: node(id), role: Role::Node, address: at[usize::from(id) - 1] };
    let [one, two] = sockets;
    let versions = if we_call { [SPOKEN, theirs] } else { [theirs, SPOKEN] };
    let [first, second] = versions;
    let one = open_as(one, &credentials[0], Kind::Bulk, member(2), first);
    let two = open_as(two, &credentials[1], Kind::Bulk, member(1), second);
    if we_call { (one, two) } else { (two, one) }
}

#[tokio::test]
async fn releases_next_to_each_other_agree_on_what_both_speak() {
    for we_call in [true, false] {
        let other = if we_call { node(2) } else { node(1) };
        for (theirs, agreed) in
            [(PROTOCOL - 1..=PROTOCOL - 1, PROTOCOL - 1), (PROTOCOL..=PROTOCOL + 1, PROTOCOL)]
        {
            let (mut ours, mut older) = releases(theirs, we_call);
            ours.connected().await;
            older.connected().await;
            assert_eq!(ours.channel.sender().version(other), Some(agreed));
        }
        for theirs in [PROTOCOL + 1..=PROTOCOL + 2, 200..=201] {
            let (mut ours, _other) = releases(theirs, we_call);
            let said = ours.problem(other, |problem| *problem == LinkProblem::Version).await;
            assert!(said.contains("upgrade one release at a time"), "{said}");
        }
    }
}

#[tokio::test]
async fn garbage_and_strangers_cost_nothing() {
    let cluster = Cluster::new();
    let credentials = [1, 2].map(|id| cluster.credentials(&name("demo", Role::Node, id)));
    let (one, two, stranger) = (socket(), socket(), socket());
    let (first, second) = (address(&one), address(&two));
    let mut called =
        open(two, &credentials[1], Kind::Bulk, Member { id: node(1), role: Role::Node, address: first });
    let mut octets = [0; 1300];
    for round in 0..2000_u32 {
        getrandom::fill(&mut octets).expect("random");
        // Some look like the first packet of a connection (RFC 9000 section 17.2.2).
        if round % 2 == 0 {
            octets[..6].copy_from_slice(&[0xc0, 0, 0, 0, 1, 8]);
        }
        let _ = stranger.send_to(&octets[..(round as usize % 1300)], second);
        if round % 100 == 0 {
            sleep(Duration::from_millis(1)).await;
        }
    }
    // A stranger with good credentials is not at a member's address.
    let elsewhere = Member { id: node(2), role: Role::Node, address: second };
    let mut uninvited = open(stranger, &credentials[0], Kind::Bulk, elsewhere);
    uninvited.problem(node(2), |problem| *problem == LinkProblem::Silent).await;
    assert!(called.channel.sender().counted().strangers.load(std::sync::atomic::Ordering::Relaxed) > 0);
    let mut good = open(one, &credentials[0], Kind::Bulk, elsewhere);
    good.connected().await;
    called.connected().await;
    assert!(called.channel.sender().counted().retries.load(std::sync::atomic::Ordering::Relaxed) > 0);
}

#[test]
fn credentials_show_no_key() {
    let cluster = Cluster::new();
    let shown = format!("{:?}", cluster.credentials(&name("demo", Role::Node, 1)));
    assert!(shown.contains("demo") && !shown.contains("key"), "{shown}");
}
