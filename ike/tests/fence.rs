//! What is possible inside the fence and what is not: each trial in a process of its own, this very program, because
//! there is no way out of a fence.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use baton_ike::fence::{self, Gates, User};
use rustix::net::{AddressFamily, SocketType};

const NAME: &str = "BATON_FENCE_TRIAL";
const PLACE: &str = "BATON_FENCE_PLACE";
const USER: &str = "BATON_FENCE_USER";
/// What the shell makes of SIGSYS.
const KILLED: i32 = 159;
const SIGSYS: i32 = 31;

type Trial = (&'static str, fn(&Path) -> io::Result<()>);

fn check(is_so: bool) -> io::Result<()> {
    if is_so { Ok(()) } else { Err(io::Error::other("not as expected")) }
}

const POSSIBLE: &[Trial] = &[
    ("contexts come and go", |place| {
        let owned = place.join("owned");
        fs::create_dir(owned.join("2a"))?;
        fs::write(owned.join("2a/new"), "context")?;
        fs::rename(owned.join("2a/new"), owned.join("2a/whole"))?;
        check(
            fs::read(owned.join("2a/whole"))? == b"context" && fs::read_dir(owned.join("2a"))?.count() == 1,
        )?;
        fs::remove_file(owned.join("2a/whole"))
    }),
    ("configuration is read", |place| check(fs::read(place.join("readable/file"))? == b"content")),
    ("locks are taken", |place| {
        let lock = fs::OpenOptions::new().read(true).write(true).open(place.join("writable/file"))?;
        lock.lock()?;
        lock.unlock()
    }),
    ("threads are started", |_| check(thread::spawn(|| 7).join().is_ok_and(|seven| seven == 7))),
    ("threads panic", |_| check(thread::spawn(|| panic!("as planned")).join().is_err())),
    ("routes are asked for", |_| {
        rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None).map(drop).map_err(Into::into)
    }),
    ("the data plane is asked", |place| {
        let mut client = UnixStream::connect(place.join("socket"))?;
        client.set_read_timeout(Some(Duration::from_secs(5)))?;
        client.write_all(b"hello")
    }),
    ("randomness is drawn", |_| {
        let mut octets = [0; 32];
        aws_lc_rs::rand::fill(&mut octets).map_err(|_| io::Error::other("none"))?;
        check(octets != [0; 32])
    }),
    ("much memory is used", |_| {
        let mut blocks: Vec<Vec<u8>> = Vec::new();
        for size in 0..24 {
            blocks.push(vec![1; 1 << size]);
        }
        check(blocks.iter().map(Vec::len).sum::<usize>() == (1 << 24) - 1)
    }),
];

/// The kernel says no.
const REFUSED: &[Trial] = &[
    ("other files are read", |_| fs::read("/etc/passwd").map(drop)),
    ("configuration is written", |place| fs::write(place.join("readable/file"), "changed")),
    ("configuration is removed", |place| fs::remove_file(place.join("readable/file"))),
    ("the table is removed", |place| fs::remove_file(place.join("writable/file"))),
    ("files are added beside the table", |place| fs::write(place.join("writable/new"), "x")),
    ("secrets are moved out", |place| fs::rename(place.join("readable/file"), place.join("owned/file"))),
    ("files are made elsewhere", |place| fs::write(place.join("elsewhere"), "x")),
];

/// The process is killed.
const KILLING: &[Trial] = &[
    ("programs are run", |_| Command::new("/bin/true").status().map(drop)),
    ("TCP is spoken", |_| TcpStream::connect("127.0.0.1:9").map(drop)),
    ("low ports are bound", |_| UdpSocket::bind("127.0.0.1:1").map(drop)),
    ("netlink is spoken", |_| {
        rustix::net::socket(AddressFamily::NETLINK, SocketType::RAW, None).map(drop).map_err(Into::into)
    }),
    ("packets are forged", |_| {
        rustix::net::socket(AddressFamily::INET, SocketType::RAW, None).map(drop).map_err(Into::into)
    }),
    ("others are signalled", |_| {
        let parent = rustix::process::getppid().unwrap_or(rustix::process::Pid::INIT);
        rustix::process::kill_process(parent, rustix::process::Signal::USR1).map_err(Into::into)
    }),
    ("permissions are changed", |place| {
        fs::set_permissions(place.join("owned"), fs::Permissions::from_mode(0o777))
    }),
    ("links are made", |place| symlink("/etc/passwd", place.join("owned/link"))),
    ("the directory is changed", |_| std::env::set_current_dir("/")),
    ("capabilities are asked for", |_| rustix::thread::capabilities(None).map(drop).map_err(Into::into)),
];

/// A trial's own process: raises the fence and tries.
#[test]
#[ignore = "run by the other tests, in processes of its own"]
fn trial() {
    let (Ok(name), Ok(place)) = (std::env::var(NAME), std::env::var(PLACE)) else { return };
    let place = PathBuf::from(place);
    // The random generator looks at the system once.
    let _ = aws_lc_rs::rand::fill(&mut [0]);
    let user = std::env::var(USER).ok().map(|user| User::find(&user).expect("a user"));
    let gates = Gates {
        readable: vec![place.join("readable")],
        writable: vec![place.join("writable")],
        owned: vec![place.join("owned")],
        user,
    };
    let fence = fence::hide_memory().and_then(|hidden| hidden.raise(&gates)).expect("a fence");
    println!("FENCE {}", fence.in_force.join(" "));
    let outcome = match [POSSIBLE, REFUSED, KILLING].concat().iter().find(|(trial, _)| *trial == name) {
        Some((_, run)) => run(&place),
        None => io::stdin().read_exact(&mut [0]),
    };
    match outcome {
        Ok(()) => println!("OUTCOME done"),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => println!("OUTCOME refused"),
        Err(error) => println!("OUTCOME {error}"),
    }
}

fn place() -> tempfile::TempDir {
    let place = tempfile::tempdir_in("/dev/shm").expect("a directory");
    for directory in ["readable", "writable", "owned"] {
        fs::create_dir(place.path().join(directory)).expect("made");
    }
    for file in ["readable/file", "writable/file"] {
        fs::write(place.path().join(file), "content").expect("written");
    }
    place
}

fn command(name: &str, place: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", "trial", "--include-ignored", "--nocapture", "--test-threads", "1"]);
    command.env(NAME, name).env(PLACE, place);
    command
}

fn attempt(name: &str, place: &Path) -> (Output, String) {
    let output = command(name, place).output().expect("run");
    let text = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned();
    (output, text)
}

fn has_landlock(text: &str) -> bool {
    let has = text.lines().any(|line| line.contains("FENCE") && line.contains("landlock"));
    if !has {
        println!(
            "SKIPPED: this kernel has no landlock, so that files are open to whoever takes the daemon over"
        );
    }
    has
}

#[test]
fn what_the_daemon_does_is_possible() {
    for (name, _) in POSSIBLE {
        let place = place();
        let _listener = std::os::unix::net::UnixListener::bind(place.path().join("socket")).expect("bound");
        let (_, text) = attempt(name, place.path());
        assert!(text.contains("OUTCOME done"), "{name}: {text}");
    }
}

#[test]
fn other_files_do_not_exist() {
    for (name, _) in REFUSED {
        let place = place();
        let (_, text) = attempt(name, place.path());
        if !has_landlock(&text) {
            return;
        }
        assert!(text.contains("OUTCOME refused"), "{name}: {text}");
        assert_eq!(fs::read(place.path().join("readable/file")).expect("there"), b"content", "{name}");
    }
}

#[test]
fn other_system_calls_end_the_process_with_a_line() {
    for (name, _) in KILLING {
        let place = place();
        let (output, text) = attempt(name, place.path());
        assert!(!text.contains("OUTCOME"), "{name}: {text}");
        // Whoever starts a program blocks signals meanwhile, and then nothing is left to write the line.
        if output.status.signal() != Some(SIGSYS) {
            assert_eq!(output.status.code(), Some(KILLED), "{name}: {text}");
            assert!(text.contains("forbidden system call 000"), "{name}: {text}");
        }
    }
}

/// A process that stands in its fence until it is dropped.
struct Standing(Child);

impl Drop for Standing {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Standing {
    fn new(place: &Path, user: Option<&str>) -> Self {
        let mut command = command("stand", place);
        if let Some(user) = user {
            command.env(USER, user);
        }
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("run");
        let mut standing = Self(child);
        let stdout = standing.0.stdout.take().expect("piped");
        let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
        assert!(lines.any(|line| line.contains("FENCE")), "it did not raise the fence");
        standing
    }

    /// What the kernel says of the thread inside of the fence.
    fn status(&self) -> String {
        let tasks = format!("/proc/{}/task", self.0.id());
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            let tasks = fs::read_dir(&tasks).expect("tasks").flatten();
            let states = tasks.filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
            if let Some(state) = states.into_iter().find(|state| field(state, "Seccomp") == "2") {
                return state;
            }
        }
        panic!("no thread is inside of a fence");
    }
}

fn field<'s>(status: &'s str, name: &str) -> &'s str {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().trim()
}

#[test]
fn no_capability_is_left() {
    let place = place();
    let status = Standing::new(place.path(), None).status();
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(u64::from_str_radix(field(&status, set), 16), Ok(0), "{set}");
    }
    assert_eq!(field(&status, "NoNewPrivs"), "1");
    if rustix::process::geteuid().is_root() {
        assert_eq!(u64::from_str_radix(field(&status, "CapBnd"), 16), Ok(0));
    } else {
        println!("SKIPPED: the bounding set is root's to lower");
    }
}

#[test]
fn another_user_is_another_user_for_good() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: only root becomes somebody else");
        return;
    }
    let place = place();
    let status = Standing::new(place.path(), Some("65534")).status();
    for ids in ["Uid", "Gid"] {
        assert!(
            field(&status, ids).split_whitespace().all(|id| id == "65534"),
            "{ids}: {}",
            field(&status, ids)
        );
    }
    assert_eq!(field(&status, "Groups"), "");
    assert_eq!(u64::from_str_radix(field(&status, "CapPrm"), 16), Ok(0));
}
