//! A server with a made-up data plane, and clients good and bad.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;

use super::*;

struct Made;

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
}

const WAIT: Duration = Duration::from_secs(5);

fn server() -> (tempfile::TempDir, Server) {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::bind(&directory.path().join("control.sock"), Arc::new(Made)).unwrap();
    (directory, server)
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
    let answer = raw(&server, b"{\"version\":1,\"request\":\"reload\"}\n");
    assert_eq!(
        answer,
        "{\"version\":1,\"error\":{\"code\":\"refused\",\"message\":\"the file is bad\",\"remedy\":\"repair it\"}}\n"
    );
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
fn only_a_dead_socket_is_replaced() {
    let (directory, server) = server();
    let path = server.path().to_owned();
    assert!(matches!(Server::bind(&path, Arc::new(Made)), Err(BindError::InUse(_))));
    drop(server);
    assert!(!path.exists(), "removed at the end");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    drop(Server::bind(&path, Arc::new(Made)).unwrap());
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(Server::bind(&file, Arc::new(Made)), Err(BindError::NotASocket(_))));
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
        let _ = server::parse(&line);
    }
}
