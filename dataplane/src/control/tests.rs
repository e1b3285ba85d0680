//! A server with a made-up data plane, and clients good and bad.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;

use super::*;
use crate::config::PolicySpec;

#[derive(Default)]
struct Made {
    listeners: Listeners,
}

struct Packets(u32);

impl CaptureStream for Packets {
    fn next(&mut self) -> CaptureNext {
        self.0 += 1;
        match self.0 {
            1 => CaptureNext::Idle,
            n if n < 100 => CaptureNext::Packet(CapturedPacket {
                at: UNIX_EPOCH + Duration::from_secs(7),
                octets: [n as u8; 60].into(),
            }),
            _ => CaptureNext::End,
        }
    }
}

impl Handler for Made {
    fn status(&self) -> Result<Status, Refusal> {
        Ok(Status { node: 2, pid: 77, ..Status::default() })
    }
    fn counters(&self) -> Result<Counters, Refusal> {
        Ok(Counters::default())
    }
    fn policies(&self) -> Result<Policies, Refusal> {
        Ok(Policies::default())
    }
    fn segments(&self) -> Result<Segments, Refusal> {
        Ok(Segments { owned: Segments::members(&[1, 0, 0, 1 << 63]), ..Segments::default() })
    }
    fn segment_take(&self, segments: &[u8]) -> Result<Segments, Refusal> {
        Ok(Segments { owned: segments.to_vec(), ..Segments::default() })
    }
    fn segment_drop(&self, _: &[u8]) -> Result<Segments, Refusal> {
        Ok(Segments::default())
    }
    fn segment_follow(&self) -> Result<Segments, Refusal> {
        Ok(Segments { owned: vec![7], ..Segments::default() })
    }
    fn cluster_address(&self, shared: &ClusterAddress) -> Result<ClusterReport, Refusal> {
        Ok(ClusterReport { filtered: vec![format!("{:?} {:?}", shared.resolution, shared.outer.mac)] })
    }
    fn owner_macs(&self, _: &OwnerMacs) -> Result<ClusterReport, Refusal> {
        Ok(ClusterReport::default())
    }
    fn override_segment(&self, spis: &Override) -> Result<ClusterReport, Refusal> {
        Ok(ClusterReport { filtered: vec![format!("{spis:?}")] })
    }
    fn announce(&self, addresses: &Announce) -> Result<AnnounceReport, Refusal> {
        Ok(AnnounceReport { frames: addresses.outer.len() as u32 })
    }
    fn reload(&self) -> Result<ReloadReport, Refusal> {
        Err(Refusal::new(Code::Refused, "the file is bad", "repair it"))
    }
    fn freeze(&self, name: &str) -> Result<FreezeReport, Refusal> {
        Ok(FreezeReport { sas: name.len() as u64 })
    }
    fn thaw(&self, _: &str) -> Result<FreezeReport, Refusal> {
        Ok(FreezeReport::default())
    }
    fn capture(&self, _: &CaptureRequest) -> Result<Box<dyn CaptureStream>, Refusal> {
        Ok(Box::new(Packets(0)))
    }
    fn policy_add(&self, policies: &[PolicySpec]) -> Result<PolicyReport, Refusal> {
        let added = policies.iter().map(|policy| policy.name.clone()).collect();
        Ok(PolicyReport { added, ..PolicyReport::default() })
    }
    fn policy_remove(&self, names: &[String], keep_prohibited: bool) -> Result<PolicyReport, Refusal> {
        let unchanged = u64::from(keep_prohibited);
        Ok(PolicyReport { removed: names.to_vec(), unchanged, ..PolicyReport::default() })
    }
    fn inside(&self) -> Result<InsideReport, Refusal> {
        Ok(InsideReport::default())
    }
    fn inside_set(&self, entry: InsideEntry) -> Result<InsideReport, Refusal> {
        Ok(InsideReport { tunnels: vec![entry], problems: Vec::new() })
    }
    fn inside_remove(&self, tunnels: &[String]) -> Result<InsideReport, Refusal> {
        Ok(InsideReport { tunnels: Vec::new(), problems: tunnels.to_vec() })
    }
    fn resolve(&self, _: &str) -> Result<Resolved, Refusal> {
        Ok(Resolved { addresses: vec![[192, 0, 2, 1].into()] })
    }
    fn send_dummy(&self, _: &str, count: u32) -> Result<DummyReport, Refusal> {
        Ok(DummyReport { asked: count })
    }
    fn monitor(&self, request: &MonitorRequest) -> Result<Listening, Refusal> {
        let seat = self.listeners.listen(&request.kinds);
        seat.ok_or_else(|| Refusal::new(Code::Busy, "all seats are taken", "wait"))
    }
}

const WAIT: Duration = Duration::from_secs(5);

fn server() -> (tempfile::TempDir, Server) {
    let (directory, server, _) = server_and_made();
    (directory, server)
}

fn server_and_made() -> (tempfile::TempDir, Server, Arc<Made>) {
    let directory = tempfile::tempdir().unwrap();
    let made = Arc::new(Made::default());
    let service = Arc::new(DataPlane(Arc::<Made>::clone(&made)));
    let server = Server::bind(&directory.path().join("control.sock"), service).unwrap();
    (directory, server, made)
}

fn made() -> Arc<DataPlane> {
    Arc::new(DataPlane(Arc::new(Made::default())))
}

fn raw(server: &Server, text: &[u8]) -> String {
    let mut stream = UnixStream::connect(server.path()).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    let _ = stream.write_all(text);
    let mut line = String::new();
    let _ = BufReader::new(stream).read_line(&mut line);
    line
}

#[test]
fn questions_are_answered_on_one_connection() {
    let (_directory, server) = server();
    assert_eq!(fs::metadata(server.path()).unwrap().permissions().mode() & 0o777, 0o600);
    let mut client = Client::connect(server.path(), WAIT).unwrap();
    assert_eq!(client.request::<Status>(&Request::Status).unwrap().pid, 77);
    assert_eq!(client.request::<Segments>(&Request::Segments).unwrap().owned, [0, 255]);
    let take = Request::SegmentTake { segments: vec![3] };
    assert_eq!(client.request::<Segments>(&take).unwrap().owned, [3]);
    let refused = client.request::<ReloadReport>(&Request::Reload).unwrap_err();
    assert_eq!(refused.to_string(), "the file is bad (repair it)");
    let freeze = Request::Freeze { name: "site-a".to_owned() };
    assert_eq!(client.request::<FreezeReport>(&freeze).unwrap().sas, 6);
}

#[test]
fn the_wire_is_as_documented() {
    let (_directory, server) = server();
    let answer = raw(&server, b"{\"version\":1,\"request\":\"freeze\",\"name\":\"abc\"}\n");
    assert_eq!(answer, "{\"version\":1,\"ok\":{\"sas\":3}}\n");
    let request = r#"{"version":1,"request":"cluster-address","resolution":"shared-mac","outer":{"addresses":["192.0.2.1"],"mac":"01:00:5e:00:53:01"}}"#;
    let answer = raw(&server, &[request.as_bytes(), b"\n"].concat());
    let shared = r"SharedMac Some(Mac([1, 0, 94, 0, 83, 1]))";
    assert_eq!(answer, format!("{{\"version\":1,\"ok\":{{\"filtered\":[\"{shared}\"]}}}}\n"));
    let request = r#"{"version":1,"request":"override","ike":[18446744073709551615],"segment":7}"#;
    let answer = raw(&server, &[request.as_bytes(), b"\n"].concat());
    assert!(
        answer.contains("Override { esp: [], ike: [18446744073709551615], segment: Some(7) }"),
        "{answer}"
    );
    for misspelt in
        [r#""request":"announce","outter":[]"#, r#""request":"owner-macs","owners":[],"members":["02:00"]"#]
    {
        let answer = raw(&server, format!("{{\"version\":1,{misspelt}}}\n").as_bytes());
        assert!(answer.contains("bad-request"), "{answer}");
    }
    let answer = raw(&server, b"{\"version\":1,\"request\":\"reload\"}\n");
    assert_eq!(
        answer,
        "{\"version\":1,\"error\":{\"code\":\"refused\",\"message\":\"the file is bad\",\"remedy\":\"repair it\"}}\n"
    );
}

#[test]
fn policies_come_and_go_as_documented() {
    let (_directory, server) = server();
    let policy = "{\"name\":\"a\",\"action\":\"protect\",\"local_selectors\":[\"10.2.0.0/16\"],\
                  \"remote_selectors\":[\"10.1.0.0/16\"],\"reqid\":7,\"segment\":42}";
    let add = format!("{{\"version\":1,\"request\":\"policy-add\",\"policies\":[{policy}]}}\n");
    let answer = raw(&server, add.as_bytes());
    assert_eq!(answer, "{\"version\":1,\"ok\":{\"added\":[\"a\"],\"removed\":[],\"unchanged\":0}}\n");
    let answer = raw(&server, b"{\"version\":1,\"request\":\"policy-remove\",\"names\":[\"a\"]}\n");
    assert!(answer.contains("\"unchanged\":1"), "prohibit routes stay unless told otherwise: {answer}");
    let misspelt = add.replace("\"reqid\"", "\"reqids\"");
    assert!(raw(&server, misspelt.as_bytes()).contains("bad-request"));
}

#[test]
fn bad_requests_are_refused_and_the_server_lives_on() {
    let (_directory, server) = server();
    for (text, code) in [
        ("{}\n".to_owned(), "unsupported-version"),
        ("{\"version\":2,\"request\":\"status\"}\n".to_owned(), "unsupported-version"),
        ("{\"version\":1,\"request\":\"dance\"}\n".to_owned(), "bad-request"),
        ("{\"version\":1,\"request\":\"segment-take\",\"segments\":[256]}\n".to_owned(), "bad-request"),
        (
            "{\"version\":1,\"request\":\"capture\",\"side\":\"decrypted\",\"limit\":0}\n".to_owned(),
            "bad-request",
        ),
        (
            "{\"version\":1,\"request\":\"capture\",\"side\":\"decrypted\",\"limit\":1,\"hst\":1}\n"
                .to_owned(),
            "bad-request",
        ),
        ("{\"version\":1,\"request\":\"monitor\",\"kinds\":[\"weather\"]}\n".to_owned(), "bad-request"),
        ("[1]\n".to_owned(), "bad-request"),
        ("no json\n".to_owned(), "bad-request"),
        ("[".repeat(5000) + "\n", "bad-request"),
        (" ".repeat(MAX_REQUEST_OCTETS + 1), "bad-request"),
    ] {
        let answer = raw(&server, text.as_bytes());
        assert!(answer.contains(code), "{} -> {answer}", &text[..text.len().min(80)]);
    }
    assert!(Client::connect(server.path(), WAIT).unwrap().request::<Status>(&Request::Status).is_ok());
}

#[test]
fn clients_are_bounded() {
    let (_directory, server) = server();
    let mut clients: Vec<_> =
        (0..MAX_CLIENTS).map(|_| Client::connect(server.path(), WAIT).unwrap()).collect();
    for client in &mut clients {
        client.request::<Status>(&Request::Status).unwrap();
    }
    assert!(raw(&server, b"").contains("\"busy\""));
    clients.clear();
    let free = || Client::connect(server.path(), WAIT).unwrap().request::<Status>(&Request::Status).is_ok();
    assert!((0..100).any(|_| free() || {
        std::thread::sleep(Duration::from_millis(10));
        false
    }));
}

#[test]
fn captures_are_pcap_and_bounded() {
    let (_directory, server) = server();
    let request = CaptureRequest {
        side: CaptureSide::Decrypted,
        host: None,
        spi: None,
        protocol: None,
        port: None,
        limit: 3,
    };
    let mut octets = Vec::new();
    let client = Client::connect(server.path(), WAIT).unwrap();
    client.capture(&request).unwrap().read_to_end(&mut octets).unwrap();
    assert_eq!(octets.len(), 24 + 3 * (16 + 60));
    let mut reader = pcap_file::pcap::PcapReader::new(&octets[..]).unwrap();
    let packet = reader.next_packet().unwrap().unwrap();
    assert_eq!(packet.data().len(), 60);
}

#[test]
fn a_monitor_hears_what_happens_until_it_leaves() {
    let (_directory, server, made) = server_and_made();
    let listen = |kinds: Vec<Kind>| {
        Client::connect(server.path(), WAIT).unwrap().monitor(&MonitorRequest { kinds }).unwrap()
    };
    let (mut all, mut alarms) = (listen(vec![]), listen(vec![Kind::Alarm]));
    let changed = Happening::SegmentsChanged { owned: vec![7] };
    let alarm = Happening::Alarm { raised: true, alarm: "water".to_owned() };
    made.listeners.tell(changed.clone());
    made.listeners.tell(alarm.clone());
    let mut next = || all.next().unwrap().unwrap().happening;
    assert_eq!([next(), next()], [changed, alarm.clone()]);
    assert_eq!(alarms.next().unwrap().unwrap().happening, alarm);
    drop(server);
    assert!(all.next().is_none(), "the end of the data plane is the end of the stream");
}

#[test]
fn the_wire_of_a_monitor_is_as_documented() {
    let (_directory, server, made) = server_and_made();
    let mut stream = BufReader::new(UnixStream::connect(server.path()).unwrap());
    stream.get_mut().write_all(b"{\"version\":1,\"request\":\"monitor\",\"kinds\":[\"alarm\"]}\n").unwrap();
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    assert_eq!(line, "{\"version\":1,\"ok\":{}}\n");
    made.listeners.tell(Happening::Alarm { raised: true, alarm: "water".to_owned() });
    line.clear();
    stream.read_line(&mut line).unwrap();
    assert!(line.starts_with("{\"time_ms\":1"), "{line}");
    assert!(line.ends_with(",\"kind\":\"alarm\",\"raised\":true,\"alarm\":\"water\"}\n"), "{line}");
}

#[test]
fn a_monitor_that_does_not_read_is_cut_off_and_others_are_not() {
    let (_directory, server, made) = server_and_made();
    let listen =
        || Client::connect(server.path(), WAIT).unwrap().monitor(&MonitorRequest::default()).unwrap();
    let (slow, mut quick) = (listen(), listen());
    let alarm = Happening::Alarm { raised: true, alarm: "water ".repeat(2000) };
    for _ in 0..1200 {
        made.listeners.tell(alarm.clone());
        assert!(quick.next().unwrap().is_ok());
    }
    assert_eq!(made.listeners.cut(), 1);
    assert!(slow.take_while(Result::is_ok).count() < 1200);
}

#[test]
fn only_a_dead_socket_is_replaced() {
    let (directory, server) = server();
    let path = server.path().to_owned();
    assert!(matches!(Server::bind(&path, made()), Err(BindError::InUse(_))));
    drop(server);
    assert!(!path.exists(), "removed at the end");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    drop(Server::bind(&path, made()).unwrap());
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(Server::bind(&file, made()), Err(BindError::NotASocket(_))));
    assert!(matches!(Client::connect(&path, WAIT), Err(ClientError::NotReachable { .. })));
}

#[test]
fn selectors_are_shown_as_prefixes_where_they_are() {
    let range =
        |a: &str, b: &str| baton_sad::AddressRange::new(a.parse().unwrap(), b.parse().unwrap()).unwrap();
    let text = |a, b| SelectorText::from(&baton_sad::Selector::addresses(range(a, b), range(a, b))).local;
    assert_eq!(text("10.1.0.0", "10.1.255.255"), "10.1.0.0/16");
    assert_eq!(text("10.1.0.1", "10.1.0.1"), "10.1.0.1/32");
    assert_eq!(text("0.0.0.0", "255.255.255.255"), "0.0.0.0/0");
    assert_eq!(text("10.0.0.1", "10.0.0.2"), "10.0.0.1-10.0.0.2");
}

proptest! {
    #[test]
    fn no_request_line_panics(line in any::<Vec<u8>>()) {
        let _ = service::parse::<DataPlane>(&line);
    }
}
