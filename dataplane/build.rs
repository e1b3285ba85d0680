//! Compiles the XDP filter and derives its Rust twins' constants and verdict names from the very files that C
//! includes, so that neither list exists twice.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the build needs beyond Rust, in one sentence for whoever lacks it.
const REMEDY: &str = "Baton's XDP filter is written in C: install clang and libbpf's headers \
                      (Debian: apt-get install clang libbpf-dev linux-libc-dev; or run ./dev setup), \
                      or name another clang in the environment variable CLANG";

fn main() {
    println!("cargo::rerun-if-env-changed=CLANG");
    if let Err(message) = build() {
        println!("cargo::error={}", message.replace('\n', " "));
        std::process::exit(1);
    }
}

fn build() -> Result<(), String> {
    let out = PathBuf::from(variable("OUT_DIR")?);
    let sources = Path::new(&variable("CARGO_MANIFEST_DIR")?).join("../ebpf");
    println!("cargo::rerun-if-changed={}", sources.display());
    compile(&sources, &out.join("baton.bpf.o"))?;
    write(&out.join("filter_shared.rs"), &constants(&read(&sources.join("shared.h"))?))?;
    write(&out.join("filter_verdicts.rs"), &verdicts(&read(&sources.join("verdicts.def"))?)?)
}

fn compile(sources: &Path, object: &Path) -> Result<(), String> {
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    let output = Command::new(&clang)
        .args(["-target", "bpf", "-mcpu=v3", "-O2", "-g", "-Wall", "-Wextra", "-Werror"])
        // Debian keeps <asm/types.h> under the architecture's name, where a BPF compile does not look.
        .arg(format!("-I/usr/include/{}-linux-gnu", variable("CARGO_CFG_TARGET_ARCH")?))
        .arg(format!("-ffile-prefix-map={}=ebpf", sources.display()))
        .arg("-c")
        .arg(sources.join("baton.bpf.c"))
        .arg("-o")
        .arg(object)
        .output()
        .map_err(|error| format!("{REMEDY}. ({clang}: {error})"))?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    if complaint.contains("file not found") || complaint.contains("No available targets") {
        return Err(format!("{REMEDY}. ({complaint})"));
    }
    Err(format!("clang refused the XDP filter: {complaint}"))
}

/// `#define BATON_X 1` becomes `pub const X: u32 = 1;`.
fn constants(header: &str) -> String {
    let mut code = String::new();
    for line in header.lines() {
        let mut words = line.split_whitespace();
        let (Some("#define"), Some(name), Some(value)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        if let (Some(name), Ok(value)) = (name.strip_prefix("BATON_"), value.parse::<u32>()) {
            writeln!(code, "/// `BATON_{name}` of `ebpf/shared.h`.\npub const {name}: u32 = {value};")
                .expect("a String takes any text");
        }
    }
    code
}

/// One `VERDICT(C_NAME, "name", ACTION, "sides", "meaning")`.
struct Entry<'a> {
    name: &'a str,
    action: &'a str,
    sides: &'a str,
    meaning: &'a str,
}

fn verdicts(list: &str) -> Result<String, String> {
    let entries = list
        .lines()
        .filter(|line| line.starts_with("VERDICT("))
        .map(|line| entry(line).ok_or_else(|| format!("ebpf/verdicts.def: cannot read `{line}`")))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(enumeration(&entries))
}

fn entry(line: &str) -> Option<Entry<'_>> {
    let quoted: Vec<&str> = line.split('"').collect();
    let &[_, name, action, sides, _, meaning, ")"] = quoted.as_slice() else { return None };
    let action = action.trim_matches([',', ' ']);
    matches!(action, "PASS" | "DROP" | "SOCKET" | "FORWARD" | "ANSWER").then_some(Entry {
        name,
        action,
        sides,
        meaning,
    })
}

fn enumeration(entries: &[Entry<'_>]) -> String {
    let mut code = String::from(
        "/// How the filter disposed of a packet; the number is the counter's index.\n\
         #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]\n#[repr(u32)]\npub enum Verdict {\n",
    );
    let mut rows = String::new();
    for Entry { name, action, sides, meaning } in entries {
        let (variant, action) = (camel_case(name), camel_case(&action.to_lowercase()));
        let (outer, inner) = (*sides != "inner", *sides != "outer");
        write!(code, "    /// {}.\n    {variant},\n", capitalised(meaning)).expect("a String takes any text");
        writeln!(
            rows,
            "    Row {{ verdict: Verdict::{variant}, name: {name:?}, action: Action::{action}, outer: {outer}, inner: {inner}, meaning: {meaning:?} }},"
        )
        .expect("a String takes any text");
    }
    let count = entries.len();
    write!(code, "}}\n\nstatic ROWS: [Row; {count}] = [\n{rows}];\n").expect("a String takes any text");
    code
}

fn camel_case(name: &str) -> String {
    name.split('-').map(capitalised).collect()
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|error| format!("{name}: {error}; build with cargo"))
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}
