//! A gateway between two hosts, each in a network namespace of its own, and a private bpffs. All of it goes away
//! on drop.
//!
//! ```text
//! lan host  10.2.0.9 -- lan0 10.2.0.1  gateway  203.0.113.2 wan0 -- 203.0.113.1, 10.1.0.5  wan host
//! ```
//! The gateway's kernel forwards, and there are no prohibit routes: only the filter stands in the way.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use baton_dataplane::steering::HashMode;
use baton_dataplane::xdp::{FilterPolicies, XdpOptions};
use rustix::mount::{UnmountFlags, unmount};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use socket2::{Domain, Protocol, Socket, Type};

use super::{address, prefix};

/// A port of the wan host on which nobody else talks.
const PORT: u16 = 7_777;

/// The segment of the network behind the wan host.
pub const SEGMENT: u8 = 42;

pub struct Lab {
    prefix: String,
    directory: tempfile::TempDir,
}

impl Lab {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("baton-ebpf-{}-{number}", std::process::id());
        let lab = Self { prefix, directory: tempfile::tempdir().expect("a directory") };
        for name in ["gw", "wan", "lan"] {
            ip(&["netns", "add", &lab.namespace(name)]);
        }
        lab.connect("wan", "wan0", "203.0.113.2/24", "203.0.113.1/24");
        lab.connect("lan", "lan0", "10.2.0.1/24", "10.2.0.9/24");
        lab.ip_in("wan", &["addr", "add", "10.1.0.5/32", "dev", "wan0"]);
        lab.ip_in("wan", &["route", "add", "10.2.0.0/24", "via", "203.0.113.2"]);
        lab.ip_in("lan", &["route", "add", "default", "via", "10.2.0.1"]);
        lab.ip_in("gw", &["route", "add", "10.1.0.0/24", "via", "203.0.113.1"]);
        lab.run_in("gw", "sysctl", &["-qw", "net.ipv4.ip_forward=1"]);
        lab
    }

    /// The full name of a namespace.
    pub fn namespace(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// A veth pair from the gateway's `interface` to the host `name`, where its end has the same name.
    pub fn connect(&self, name: &str, interface: &str, gateway: &str, host: &str) {
        let peer = self.namespace(name);
        let veth = ["link", "add", interface, "type", "veth", "peer", "name", interface, "netns", &peer];
        self.ip_in("gw", &veth);
        self.ip_in("gw", &["addr", "add", gateway, "dev", interface]);
        self.ip_in("gw", &["link", "set", interface, "up"]);
        self.ip_in(name, &["addr", "add", host, "dev", interface]);
        self.ip_in(name, &["link", "set", interface, "up"]);
        self.ip_in(name, &["link", "set", "lo", "up"]);
    }

    pub fn ip_in(&self, name: &str, arguments: &[&str]) {
        self.run_in(name, "ip", arguments);
    }

    pub fn run_in(&self, name: &str, program: &str, arguments: &[&str]) {
        run(Command::new("nsenter").arg(self.network(name)).arg(program).args(arguments));
    }

    /// nsenter's argument. It stays in our mount namespace, where the bpffs is.
    pub fn network(&self, name: &str) -> String {
        format!("--net=/run/netns/{}", self.namespace(name))
    }

    /// Runs `work` on a thread that lives in the namespace.
    pub fn within<T: Send>(&self, name: &str, work: impl FnOnce() -> T + Send) -> T {
        let path = Path::new("/run/netns").join(self.namespace(name));
        thread::scope(|scope| {
            let inside = scope.spawn(move || {
                let namespace = File::open(path).expect("the namespace");
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("to enter the namespace");
                work()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Not there yet; its parent becomes a bpffs.
    pub fn pin_directory(&self) -> PathBuf {
        self.directory.path().join("bpf/node")
    }

    pub fn options(&self) -> XdpOptions {
        XdpOptions {
            outer: Some("wan0".to_owned()),
            inner: Some("lan0".to_owned()),
            pin_directory: self.pin_directory(),
            hash_mode: HashMode::SourceIp,
            hash_seed: 0,
            outer_addresses: vec![address("203.0.113.2")],
            inner_addresses: vec![address("10.2.0.1")],
            policies: FilterPolicies {
                protected: vec![(prefix("10.1.0.0/16"), SEGMENT)],
                ..FilterPolicies::default()
            },
        }
    }

    /// A socket on the wan host that hears plaintext which escaped.
    pub fn listener(&self) -> UdpSocket {
        let socket = self.within("wan", || UdpSocket::bind(("10.1.0.5", PORT))).expect("a listener");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        socket
    }

    /// Sends `count` datagrams from the lan host to the protected prefix.
    pub fn send_plaintext(&self, count: usize) {
        self.within("lan", || {
            let socket = UdpSocket::bind(("10.2.0.9", 0)).expect("a sender");
            for _ in 0..count {
                socket.send_to(b"secret", ("10.1.0.5", PORT)).expect("to send");
            }
        });
    }

    /// Whether plaintext gets through: says yes as soon as one datagram does.
    pub fn leaks(&self, listener: &UdpSocket) -> bool {
        let deadline = Instant::now() + Duration::from_millis(600);
        let mut buffer = [0; 64];
        while Instant::now() < deadline {
            self.send_plaintext(1);
            if listener.recv(&mut buffer).is_ok() {
                return true;
            }
        }
        false
    }

    /// A socket in the gateway that hears ESP which the filter let through to the kernel.
    pub fn esp_listener(&self) -> Socket {
        let socket = self.within("gw", || Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(50))));
        let socket = socket.expect("a raw socket");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        socket
    }

    /// Sends ESP packets with this SPI from the wan host to the gateway.
    pub fn send_esp(&self, spi: u32, count: usize) {
        self.within("wan", || {
            let socket =
                Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(50))).expect("a raw socket");
            let gateway = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 2), 0));
            for _ in 0..count {
                socket.send_to(&super::packets::esp(spi), &gateway.into()).expect("to send");
            }
        });
    }

    /// Whether ESP with this SPI reaches the gateway's kernel.
    pub fn esp_passes(&self, listener: &Socket, spi: u32) -> bool {
        let deadline = Instant::now() + Duration::from_millis(600);
        let mut buffer = [std::mem::MaybeUninit::uninit(); 256];
        while Instant::now() < deadline {
            self.send_esp(spi, 1);
            if listener.recv(&mut buffer).is_ok() {
                return true;
            }
        }
        false
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in ["gw", "wan", "lan"] {
            let _ = Command::new("ip").args(["netns", "del", &self.namespace(name)]).status();
        }
        let _ = unmount(self.directory.path().join("bpf"), UnmountFlags::DETACH);
    }
}

fn ip(arguments: &[&str]) {
    run(Command::new("ip").args(arguments));
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
