//! The configuration: any text ends in problems that can be printed, or in a configuration whose every part the table,
//! the SPD and the filter take.
#![no_main]

use std::collections::HashSet;
use std::path::Path;

use baton_dataplane::config::Config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    // Key files are read relative to a directory that is not there; no other file is opened.
    if text.contains("key_file") && text.contains('/') {
        return;
    }
    let parse = |private| Config::parse_as(text, Path::new("/nonexistent/baton.toml"), private);
    match parse(true) {
        Ok(config) => check(&config),
        Err(errors) => assert!(!errors.to_string().is_empty(), "refused without a word"),
    }
    // In a file that others can read, no key may stand; all else is the same.
    if let Ok(config) = parse(false) {
        assert!(config.tunnels.iter().all(|tunnel| tunnel.inbound.is_none() && tunnel.outbound.is_none()));
    }
});

/// Unix time from which lifetimes count.
const NOW: u64 = 1_800_000_000;

fn check(config: &Config) {
    let (mut names, mut reqids, mut keys) = (HashSet::new(), HashSet::new(), HashSet::new());
    for tunnel in &config.tunnels {
        assert!(names.insert(tunnel.name.as_str()), "a name twice");
        assert!(reqids.insert(tunnel.reqid), "a reqid twice");
        for sa in [tunnel.inbound_sa(NOW), tunnel.outbound_sa(NOW)].into_iter().flatten() {
            sa.validate().expect("the table takes what validation lets through");
            assert!(keys.insert(sa.key.expose().to_vec()), "a key twice (I1)");
        }
    }
    let prefixes = config.inner_prefixes();
    let distinct: HashSet<_> = prefixes.iter().map(|(prefix, _)| prefix).collect();
    assert_eq!(distinct.len(), prefixes.len(), "one destination in two segments");
    assert_eq!(config.policies().len(), config.tunnels.len() + config.exceptions.len());
}
