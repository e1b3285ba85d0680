//! What a machine must have for a lab, and how a test says that it lacks it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The Python with scapy that `./dev setup` makes.
pub fn python() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "target", "venv", "bin", "python"].iter().collect()
}

/// Whether labs can be made here; else a sentence with a remedy.
///
/// # Errors
/// The sentence.
pub fn lab() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("network namespaces need root: run it with sudo".into());
    }
    for tool in ["ip", "nsenter", "tcpdump", "ethtool", "python3"] {
        if !has_tool(tool) {
            return Err(format!("{tool} is missing: run ./dev setup"));
        }
    }
    Ok(())
}

/// Whether scapy is there to judge; else a sentence with a remedy.
///
/// # Errors
/// The sentence.
pub fn scapy() -> Result<(), String> {
    if python().exists() { Ok(()) } else { Err("scapy is missing: run ./dev setup".into()) }
}

fn has_tool(tool: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|folder| folder.join(tool).exists())
}

/// Says on stderr, past the test harness's capture, that a test did not run and why.
pub fn skipped(test: &str, reason: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {reason}");
}

/// The folder of the binaries that were built with the running test, bench or example.
pub fn binary_directory() -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    let folder = own.parent()?;
    let is_nested = folder.ends_with("deps") || folder.ends_with("examples");
    if is_nested { folder.parent().map(Path::to_owned) } else { Some(folder.to_owned()) }
}

/// A command for one of the project's binaries, as built with the running test, bench or example.
pub fn binary(name: &str) -> PathBuf {
    binary_directory().unwrap_or_default().join(name)
}

/// What machine this is, for the foot of a table of figures.
pub fn machine() -> String {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let kernel = Command::new("uname").arg("-r").output().map(|output| output.stdout).unwrap_or_default();
    let kernel = String::from_utf8_lossy(&kernel).trim().to_owned();
    format!("{count} x {}, Linux {kernel}", model.unwrap_or("unknown CPU"))
}
