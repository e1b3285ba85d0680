//! A gateway between two hosts, each in a network namespace of its own. All of it goes away on drop.
//!
//! ```text
//! inner host  10.2.0.9 -- lan0 10.2.0.1  gateway  203.0.113.2 wan0 -- 203.0.113.1  outer host
//! ```

// Each test binary uses its own part.
#![allow(dead_code)]

use std::fs::File;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use baton_dataplane::io::Side;
use baton_dataplane::io::af_xdp::AfXdpIo;
use baton_dataplane::next_hop::Mac;
use baton_dataplane::prefix::Prefix;
use baton_dataplane::steering::HashMode;
use baton_dataplane::xdp::{Attachment, FilterPolicies, XdpOptions};
use rustix::mount::{UnmountFlags, unmount};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use socket2::{Domain, Protocol, Socket, Type};

/// The gateway's outer address: what the filter protects.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
/// A prefix behind the outer host: what the policy protects.
pub const PROTECTED: &str = "10.1.0.0/24";
/// An address in it, on the outer host.
pub const BEHIND: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 5);
/// A protocol number for experiments (RFC 3692), for plaintext.
pub const EXPERIMENT: i32 = 253;
/// ESP's protocol number.
pub const ESP: i32 = 50;

pub fn address(text: &str) -> IpAddr {
    text.parse().expect("a test's address")
}

pub fn prefix(text: &str) -> Prefix {
    text.parse().expect("a test's prefix")
}

/// Whether this process may make namespaces; says so if not, past the test harness, which swallows what a
/// passing test prints.
pub fn privileged(test: &str) -> bool {
    let reason = if !rustix::process::geteuid().is_root() {
        "network namespaces and AF_XDP need root"
    } else if Command::new("ip").arg("-V").output().is_err() {
        "the program `ip` (iproute2) is not installed"
    } else {
        return true;
    };
    writeln!(std::io::stderr(), "SKIPPED {test}: {reason}").expect("stderr");
    false
}

pub struct Lab {
    prefix: String,
    directory: tempfile::TempDir,
}

impl Lab {
    /// A laboratory whose veth pairs have this many queues.
    pub fn new(queues: u32) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("baton-rim-{}-{number}", std::process::id());
        let lab = Self { prefix, directory: tempfile::tempdir().expect("a directory") };
        for name in ["gw", "outer", "inner"] {
            run(Command::new("ip").args(["netns", "add", &lab.namespace(name)]));
            lab.ip_in(name, "link set lo up");
        }
        lab.connect("outer", "wan0", queues, ["203.0.113.2/24", "203.0.113.1/24"]);
        lab.connect("inner", "lan0", queues, ["10.2.0.1/24", "10.2.0.9/24"]);
        lab.ip_in("outer", "addr add 10.1.0.5/32 dev lo");
        lab.ip_in("outer", "route add 10.2.0.0/24 via 203.0.113.2");
        lab.ip_in("inner", "route add default via 10.2.0.1");
        lab
    }

    fn namespace(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// A veth pair from the gateway's `interface` to a host, where its end has the same name.
    fn connect(&self, name: &str, interface: &str, queues: u32, addresses: [&str; 2]) {
        let peer = self.namespace(name);
        let count = format!("numrxqueues {queues} numtxqueues {queues}");
        let [gateway, host] = [mac("gw", interface), mac(name, interface)];
        self.ip_in(
            "gw",
            &format!(
                "link add {interface} address {gateway} {count} type veth \
                 peer name {interface} address {host} {count} netns {peer}"
            ),
        );
        for (end, address) in ["gw", name].into_iter().zip(addresses) {
            self.ip_in(end, &format!("addr add {address} dev {interface}"));
            self.ip_in(end, &format!("link set {interface} up"));
        }
    }

    /// Runs `ip` with these arguments, divided by spaces, in a namespace.
    pub fn ip_in(&self, name: &str, arguments: &str) -> String {
        self.run_in(name, "ip", arguments)
    }

    pub fn run_in(&self, name: &str, program: &str, arguments: &str) -> String {
        run(Command::new("nsenter").arg(self.network(name)).arg(program).args(arguments.split_whitespace()))
    }

    /// nsenter's argument.
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
    fn pin_directory(&self) -> PathBuf {
        self.directory.path().join("bpf/node")
    }

    /// The XDP filter, told to redirect ESP to the gateway and plaintext to the protected prefix.
    pub fn attach(&self, workers: &[AfXdpIo]) -> Attachment {
        self.attach_with(workers, vec![IpAddr::V4(GATEWAY)], vec![(prefix(PROTECTED), 0)])
    }

    /// The same for other addresses and networks.
    pub fn attach_with(
        &self,
        workers: &[AfXdpIo],
        outer_addresses: Vec<IpAddr>,
        protected: Vec<(Prefix, u8)>,
    ) -> Attachment {
        let options = XdpOptions {
            outer: Some("wan0".to_owned()),
            inner: Some("lan0".to_owned()),
            pin_directory: self.pin_directory(),
            hash_mode: HashMode::SourceIp,
            hash_seed: 0,
            inner_addresses: [&outer_addresses[..], &[address("10.2.0.1")]].concat(),
            outer_addresses,
            policies: FilterPolicies { protected, ..FilterPolicies::default() },
        };
        let mut filter = self.within("gw", || Attachment::install(&options)).expect("to attach the filter");
        filter
            .ownership()
            .and_then(|mut ownership| ownership.set([u64::MAX; 4]))
            .expect("to own all segments");
        for (side, queue, socket) in workers.iter().flat_map(AfXdpIo::sockets) {
            filter.register_socket(side, queue, socket).expect("to register a socket");
        }
        filter
    }

    /// A raw IP socket on a host, bound to one of its addresses.
    pub fn raw_socket(&self, name: &str, protocol: i32, own: Ipv4Addr) -> Socket {
        let socket = self.within(name, || {
            let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(protocol)));
            let socket = socket.expect("a raw socket");
            socket.bind(&SocketAddrV4::new(own, 0).into()).expect("to bind");
            socket
        });
        rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, 256 << 20).expect("a large buffer");
        socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
        socket
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in ["gw", "outer", "inner"] {
            let _ = Command::new("ip").args(["netns", "del", &self.namespace(name)]).status();
        }
        let _ = unmount(self.directory.path().join("bpf"), UnmountFlags::DETACH);
    }
}

/// The link address of an interface: the gateway's ends differ from the hosts'.
pub fn mac(name: &str, interface: &str) -> Mac {
    let side = if interface == "wan0" { 1 } else { 2 };
    Mac([2, 0, 0, 0, u8::from(name == "gw"), side])
}

/// The link address of the host on a side.
pub fn host_mac(side: Side) -> Mac {
    match side {
        Side::Outer => mac("outer", "wan0"),
        Side::Inner => mac("inner", "lan0"),
    }
}

/// The gateway's link address on a side.
pub fn own_mac(side: Side) -> Mac {
    match side {
        Side::Outer => mac("gw", "wan0"),
        Side::Inner => mac("gw", "lan0"),
    }
}

/// Waits until `condition` holds, at most for `limit`.
pub fn eventually(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        if condition() {
            return true;
        }
        thread::sleep(Duration::from_millis(5));
    }
    condition()
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
