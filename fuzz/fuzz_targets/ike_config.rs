//! IKE's configuration: any text ends in problems that can be printed, or in a configuration that fits itself and gives
//! no secret away.
#![no_main]

use std::collections::HashSet;
use std::path::Path;

use baton_ike::config::{Config, SecretSource};
use baton_ike_proto::host::TunnelName;
use libfuzzer_sys::fuzz_target;

/// What the data plane asks for.
const HEAD: &str = "node = { id = 1, cluster = \"c\" }\ninner = { interface = \"lan0\" }\n\
                    outer = { interface = \"wan0\", addresses = [\"203.0.113.2\", \"2001:db8::2\"] }\n";

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    // Key files of the data plane are read relative to a directory that is not there; no other file is opened.
    if text.contains("key_file") && text.contains('/') {
        return;
    }
    let text = HEAD.to_owned() + text;
    let parse = |private| Config::parse_as(&text, Path::new("/nonexistent/baton.toml"), private);
    match parse(true) {
        Ok(config) => check(&config),
        Err(errors) => assert!(!errors.to_string().is_empty(), "refused without a word"),
    }
    if let Ok(config) = parse(false) {
        let is_file = |source: &SecretSource| matches!(source, SecretSource::File(_));
        assert!(config.credentials.secrets.iter().all(|secret| is_file(&secret.source)));
    }
});

fn check(config: &Config) {
    let protocol = &config.protocol;
    let pools: HashSet<&str> = protocol.pools.iter().map(|pool| pool.name.as_str()).collect();
    for connection in &protocol.connections {
        assert!(connection.name.len() <= TunnelName::MAX_CONNECTION);
        assert!(!connection.children.is_empty() && !connection.ike_proposals.is_empty());
        assert!(connection.pools.iter().all(|pool| pools.contains(pool.as_str())));
        assert!(connection.local_addresses.iter().all(|address| config.daemon.listen.contains(address)));
        for child in &connection.children {
            assert!(!child.local.is_empty() && !child.remote.is_empty() && !child.esp_proposals.is_empty());
            assert!(child.life_time.is_zero() || child.rekey_time < child.life_time);
        }
    }
    let mut ranges: Vec<_> = protocol.pools.iter().map(|pool| (pool.first, pool.last)).collect();
    ranges.sort_unstable();
    assert!(ranges.windows(2).all(|pair| pair[0].1 < pair[1].0), "an address in two pools");
}
