//! What the kernel boots: its modules, a shell, `ip`, and a little program that sends and counts datagrams.
//!
//! All of it comes from packages of this machine and is packed anew in every process, which takes less time
//! than finding out whether an older image still holds.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::archive::Archive;
use super::daemons;
use crate::command;
use crate::error::{LabError, Result};

const INIT: &str = include_str!("../../../tests/kernel/init.sh");
const PEER: &str = include_str!("../../../tests/kernel/peer.c");
/// The kernel, from Debian's package user-mode-linux.
pub(super) const KERNEL: &str = "linux.uml";
const MODULES: &str = "/usr/lib/uml/modules";

/// XFRM itself and every algorithm of [`Suite`](super::Suite); what they depend on is found out.
/// The kernel has no `modprobe` to load an algorithm when a state asks for it.
const NEEDED: [&str; 25] = [
    "ipv6",
    "dummy",
    "xfrm_user",
    "af_key",
    "esp4",
    "esp6",
    "drbg",
    "seqiv",
    "echainiv",
    "authenc",
    "authencesn",
    "gcm",
    "ccm",
    "ghash-generic",
    "ctr",
    "cbc",
    "ecb",
    "crypto_null",
    "hmac",
    "cmac",
    "sha1_generic",
    "sha256_generic",
    "sha512_generic",
    "chacha20poly1305",
    "chacha_generic",
];
/// Found by alias alone: nothing names it as a dependency.
const ALSO_NEEDED: [&str; 3] = ["poly1305_generic", "jitterentropy_rng", "aes_generic"];

/// What a kernel has beside its own ESP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Daemons {
    /// A shell; its XFRM is configured by hand.
    #[default]
    None,
    /// strongSwan's and OpenBSD's IKE daemons too.
    Ike,
}

/// Whether a kernel can be booted here; else a sentence with a remedy.
///
/// # Errors
/// The sentence.
pub fn requirements() -> std::result::Result<(), String> {
    crate::requirements::lab()?;
    for tool in [KERNEL, "busybox", "ip", "gcc", "ldd", "unshare"] {
        if find(tool).is_none() {
            return Err(format!("{tool} is missing: run ./dev setup"));
        }
    }
    if !Path::new("/dev/net/tun").exists() {
        return Err("/dev/net/tun is missing: load the module tun".into());
    }
    module_folder().map(drop).map_err(|error| error.to_string())
}

/// The image, packed when it is first asked for.
///
/// # Errors
/// If a part is missing.
pub(super) fn image(scratch: &Path, with: Daemons) -> Result<&'static [u8]> {
    static PLAIN: OnceLock<Vec<u8>> = OnceLock::new();
    static IKE: OnceLock<Vec<u8>> = OnceLock::new();
    let image = if with == Daemons::Ike { &IKE } else { &PLAIN };
    if let Some(image) = image.get() {
        return Ok(image);
    }
    let packed = pack(scratch, with)?;
    Ok(image.get_or_init(|| packed))
}

fn pack(scratch: &Path, with: Daemons) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    archive.add(Path::new("/init"), INIT.as_bytes());
    for tool in ["busybox", "ip"] {
        let path =
            find(tool).ok_or_else(|| LabError::Missing(format!("{tool} is missing: run ./dev setup")))?;
        add_program(&mut archive, tool, &path)?;
    }
    add_program(&mut archive, "peer", &compile(scratch)?)?;
    if with == Daemons::Ike {
        add_daemons(&mut archive)?;
    }
    add_modules(&mut archive)?;
    Ok(archive.finish())
}

/// Adds the daemons and what they load by name.
fn add_daemons(archive: &mut Archive) -> Result<()> {
    for program in daemons::PROGRAMS {
        let name = program.rsplit('/').next().unwrap_or(program);
        add_program(archive, name, Path::new(program))?;
    }
    for plugin in daemons::plugins() {
        add_with_libraries(archive, &plugin, &plugin)?;
    }
    for (path, text) in daemons::FILES {
        archive.add(Path::new(path), text.as_bytes());
    }
    Ok(())
}

/// Adds a program to `/bin`, and its shared libraries where it looks for them.
fn add_program(archive: &mut Archive, name: &str, path: &Path) -> Result<()> {
    add_with_libraries(archive, &Path::new("/bin").join(name), path)
}

fn add_with_libraries(archive: &mut Archive, target: &Path, path: &Path) -> Result<()> {
    archive.add(target, &read(path)?);
    // ldd fails on a static program, which needs no library.
    let listing = command::output(Command::new("ldd").arg(path))?;
    for library in String::from_utf8_lossy(&listing.stdout).split_whitespace() {
        if library.starts_with('/') {
            archive.add(Path::new(library), &read(Path::new(library))?);
        }
    }
    Ok(())
}

fn compile(scratch: &Path) -> Result<PathBuf> {
    let program = scratch.join("peer");
    let mut compiler = Command::new("gcc");
    compiler.args(["-O2", "-x", "c", "-", "-o"]).arg(&program);
    command::run_with_input(&mut compiler, PEER.as_bytes())?;
    Ok(program)
}

/// Adds all modules that are needed and `order`, their names in the order in which they can be loaded.
fn add_modules(archive: &mut Archive) -> Result<()> {
    let folder = module_folder()?;
    let dependencies = read_text(&folder.join("modules.dep"))?;
    let builtin = read_text(&folder.join("modules.builtin"))?;
    let mut order: Vec<&str> = Vec::new();
    for name in NEEDED.into_iter().chain(ALSO_NEEDED) {
        let chain = load_chain(&dependencies, name);
        if chain.is_empty() && !builtin.contains(&format!("/{name}.ko")) {
            let folder = folder.display();
            return Err(LabError::Missing(format!(
                "{folder} has no module {name}: install user-mode-linux anew"
            )));
        }
        for path in chain {
            if !order.contains(&path) {
                order.push(path);
            }
        }
    }
    for path in &order {
        archive.add(&Path::new("/modules").join(path), &read(&folder.join(path))?);
    }
    archive.add(Path::new("/modules/order"), format!("{}\n", order.join("\n")).as_bytes());
    Ok(())
}

/// The paths to load for a module, itself last: `modules.dep` lists what it needs nearest first.
fn load_chain<'a>(dependencies: &'a str, name: &str) -> Vec<&'a str> {
    let file = format!("/{name}.ko");
    let line =
        dependencies.lines().find_map(|line| line.split_once(':').filter(|(path, _)| path.ends_with(&file)));
    line.map_or(Vec::new(), |(path, needs)| needs.split_whitespace().rev().chain([path]).collect())
}

/// The folder of the kernel's modules; the package holds one version.
fn module_folder() -> Result<PathBuf> {
    let missing = || LabError::Missing(format!("{MODULES} is missing: run ./dev setup"));
    let mut entries = std::fs::read_dir(MODULES).map_err(|_| missing())?.flatten().map(|entry| entry.path());
    entries.find(|path| path.join("modules.dep").exists()).ok_or_else(missing)
}

fn find(tool: &str) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).map(|folder| folder.join(tool)).find(|path| path.exists())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(LabError::path("read", path))
}

fn read_text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(LabError::path("read", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_loaded_after_what_it_needs() {
        let dependencies =
            "net/esp4.ko: net/xfrm_algo.ko\nnet/esp6.ko: net/ipv6.ko lib/crc.ko\nlib/crc.ko:\n";
        assert_eq!(load_chain(dependencies, "esp6"), ["lib/crc.ko", "net/ipv6.ko", "net/esp6.ko"]);
        assert_eq!(load_chain(dependencies, "crc"), ["lib/crc.ko"]);
        assert!(load_chain(dependencies, "esp").is_empty());
    }
}
