//! What the steering tests share.

/// Whether this process may load BPF programs; says so if not.
pub fn privileged(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("SKIPPED {test}: loading an XDP program needs root");
    }
    root
}
