//! The importer against its manual, the real parser and broken input.

use std::fs;
use std::path::{Path, PathBuf};

use baton_ike::config::Config;

use super::comparison::{Here, Row, rows};
use super::*;

/// One that every kind of secret may be.
const SECRET: &str = "0x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
/// What every option is tried with until one is accepted: words of all kinds of options.
const VALUES: [&str; 24] = [
    "ifasked",
    "allow",
    "ppk.example.org",
    SECRET,
    "p",
    "70m",
    "yes",
    "no",
    "1",
    "500",
    "1h",
    "30s",
    "1280",
    "192.0.2.1",
    "10.9.0.0/24",
    "default",
    "psk",
    "relaxed",
    "tunnel",
    "out",
    "start",
    "256",
    "file:///x.crl",
    "x.pem",
];

fn options(file: PathBuf) -> ImportOptions {
    let text = |text: &str| Some(text.to_owned());
    ImportOptions {
        file,
        output: None,
        node: Some(7),
        cluster: text("demo"),
        outer: text("eth0"),
        inner: text("eth1"),
        address: vec!["203.0.113.2".parse().expect("an address")],
    }
}

/// A directory with a swanctl.conf.
fn directory(text: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
    fs::write(directory.path().join("swanctl.conf"), text).expect("written");
    directory
}

fn try_import(text: &str) -> Result<Imported, ImportError> {
    import(&options(directory(text).path().join("swanctl.conf")))
}

/// Imports a text; what comes of it has to load.
fn imported(text: &str) -> Imported {
    let imported = try_import(text).unwrap_or_else(|error| panic!("{error}\nof\n{text}"));
    if let Err(errors) = Config::parse_as(&imported.text, Path::new("baton.toml"), true) {
        panic!("{errors}\nin\n{}", *imported.text);
    }
    imported
}

fn found<'i>(imported: &'i Imported, option: &str) -> Option<&'i Finding> {
    imported.findings.iter().find(|finding| finding.option == option)
}

fn has_line(imported: &Imported, line: &str) -> bool {
    imported.text.lines().any(|own| own == line)
}

/// A connection and secrets that everything fits into, with one option more at its place.
fn text_with(path: &[&str], value: &str) -> String {
    let line = |wanted: &[&str], own: &[&str]| match path.strip_prefix(wanted) {
        Some([key]) if !own.contains(key) => format!("{key} = {value}\n"),
        Some([section, key]) if wanted.len() > 1 && !["children", "local", "remote"].contains(section) => {
            format!("{section} {{\n {key} = {value}\n }}\n")
        }
        _ => String::new(),
    };
    let [local, remote] = ["local", "remote"].map(|end| line(&["connections", "a", end], &[]));
    let auth = |lines: &str| match lines {
        lines if lines.contains("aaa_id") => "eap-tls",
        lines if lines.contains("eap_id") => "eap-mschapv2",
        lines
            if lines.contains("certs")
                || lines.contains("revocation")
                || path.contains(&"eap_id")
                || path.contains(&"aaa_id") =>
        {
            "pubkey"
        }
        _ => "psk",
    };
    format!(
        "connections {{\n a {{\n {}local {{\n {}{local} }}\n remote {{\n {}{remote} }}\n children {{\n b {{\n {} }}\n }}\n }}\n }}\n\
         pools {{\n p {{\n {}{} }}\n }}\nauthorities {{\n x {{\n cacert = y.pem\n {} }}\n }}\n\
         secrets {{\n ike-a {{\n {}{} }}\n {} }}\n",
        line(&["connections", "a"], &[]),
        if path.last() == Some(&"auth") { String::new() } else { format!("auth = {}\n ", auth(&local)) },
        if path.last() == Some(&"auth") { String::new() } else { format!("auth = {}\n ", auth(&remote)) },
        line(&["connections", "a", "children", "b"], &[]),
        if path.last() == Some(&"addrs") { "" } else { "addrs = 10.8.0.0/24\n" },
        line(&["pools", "p"], &[]),
        line(&["authorities", "x"], &["cacert"]),
        if path.starts_with(&["secrets", "ike-a", "secret"]) { "" } else { "secret = 0x0102\n" },
        line(&["secrets", "ike-a"], &[]),
        match path {
            ["secrets", kind, key] if *kind != "ike-a" => {
                let others = [("id-z", "ppk.example.org"), ("secret", SECRET)];
                let others = others.iter().filter(|(other, _)| other.get(..2) != key.get(..2));
                let others: Vec<_> = others.map(|(other, value)| format!("{other} = {value}\n")).collect();
                let others = others.concat();
                format!("{kind} {{\n {key} = {value}\n {others} }}\n")
            }
            ["secrets", kind] => format!("{kind} {{\n }}\n"),
            [.., "eap_id"] => format!("eap {{\n id = u.example.org\n secret = {SECRET}\n }}\n"),
            [.., "ppk_id"] => format!("ppk {{\n id = ppk.example.org\n secret = {SECRET}\n }}\n"),
            _ => String::new(),
        },
    )
}

/// An option's own name in such a text.
fn path_of(row: &Row) -> Vec<String> {
    let part = |part: &str| match part {
        "<conn>" => "a".to_owned(),
        "<child>" => "b".to_owned(),
        "<attr>" => "dns".to_owned(),
        "local<suffix>" | "remote<suffix>" => part.trim_end_matches("<suffix>").to_owned(),
        part => part.replace("<suffix>", "-a"),
    };
    let mut path: Vec<String> = row.option.split('.').map(part).collect();
    if path[1] == "<name>" {
        path[1] = if path[0] == "pools" { "p" } else { "x" }.to_owned();
    }
    path
}

/// Whether the option is in what comes out, and what is said of it.
fn result_of(row: &Row, value: &str) -> (bool, bool) {
    let path = path_of(row);
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    // An option may be a section of its own.
    let is_section = rows().iter().any(|other| other.option.starts_with(&format!("{}.", row.option)));
    let text =
        if is_section { text_with(&[&path[..], &["x"]].concat(), value) } else { text_with(&path, value) };
    let imported = imported(&text);
    let key = path.last().expect("a name").split("-a").next().expect("a name");
    let table = imported.draft.tables.iter().filter(|table| !table.left_out);
    let mut entries = table
        .flat_map(|table| &table.entries)
        .filter(|entry| comparison::find(&entry.path).is_some_and(|of| of.option == row.option));
    let carried = entries.any(|entry| entry.key == key);
    (carried, found(&imported, &path.join(".")).is_some())
}

#[test]
fn every_option_that_the_manual_calls_supported_is_carried() {
    let supported = rows().iter().filter(|row| row.here != Here::NotThere);
    // A section is carried as its options are.
    let options = supported
        .filter(|row| !rows().iter().any(|other| other.option.starts_with(&format!("{}.", row.option))));
    let lost: Vec<_> = options
        .filter(|row| !VALUES.iter().any(|value| result_of(row, value) == (true, false)))
        .map(|row| row.option)
        .collect();
    assert!(lost.is_empty(), "supported, but not carried with any of the values: {lost:?}");
}

#[test]
fn every_other_option_is_listed_and_not_carried() {
    let mut checked = 0;
    for row in
        rows().iter().filter(|row| row.here == Here::NotThere && !row.option.contains("<suffix>.round"))
    {
        let (carried, listed) = result_of(row, "something");
        assert!(!carried && listed, "{}: carried {carried}, listed {listed}", row.option);
        checked += 1;
    }
    assert!(checked > 40, "{checked} are too few to be all");
}

const ROADS: &str = r#"
defaults {
    version = 2
    proposals = aes256gcm16-prfsha384-ecp384, 3des-md5-modp1024
    keyingtries = 0
    local { certs = gateway.pem ; id = "ignored" }
}
connections {
    roads : defaults {
        local_addrs = 203.0.113.9
        pools = v4, gone
        encap = yes
        send_certreq = 0
        local {
            auth = pubkey
            certs = gateway.pem
            id = "C=CH, O=Example, CN=gateway"
        }
        remote { auth = pubkey-sha256 # constraint
            id = *@example.org }
        children {
            lan { local_ts = 10.2.0.0/16, 2001:db8:2::/48
                  esp_proposals = aes128gcm16-esn
                  rekey_packets = 1000000
                  updown = /usr/lib/updown
                  replay_window = 32 }
        }
    }
}
pools { v4 { addrs = 10.99.0.0/24
  dns = 10.2.0.53, 10.2.0.54 } }
secrets { ike-x { id-a = moon.example.org
   id-b = "C=CH, CN=sun"
   secret = "sec\"ret # \\ 1" } }
"#;

#[test]
fn a_gateway_for_road_warriors_is_carried_with_what_it_inherits() {
    let imported = imported(&ROADS.replace(" ; id = \"ignored\"", ""));
    for line in [
        "proposals = [\"aes256gcm16-prfsha384-ecp384\"]",
        "keyingtries = 0",
        "local_addrs = [\"203.0.113.9\"]",
        "pools = [\"v4\"]",
        "send_certreq = false",
        "id = \"C=CH, O=Example, CN=gateway\"",
        "id = \"*@example.org\"",
        "auth = \"pubkey\"",
        "local_ts = [\"10.2.0.0/16\", \"2001:db8:2::/48\"]",
        "rekey_packets = 1000000",
        "id = [\"moon.example.org\", \"C=CH, CN=sun\"]",
        "secret = \"sec\\\"ret # \\\\ 1\"",
        "dns = [\"10.2.0.53\", \"10.2.0.54\"]",
    ] {
        assert!(has_line(&imported, line), "{line} in\n{}", *imported.text);
    }
    for option in [
        "connections.roads.proposals",
        "connections.roads.pools",
        "connections.roads.remote.auth",
        "connections.roads.children.lan.updown",
        "connections.roads.children.lan.replay_window",
    ] {
        assert!(found(&imported, option).is_some(), "{option} of {:?}", imported.findings);
    }
    assert_eq!(imported.findings.len(), 5, "{:?}", imported.findings);
    assert!(found(&imported, "connections.roads.version").is_none());
}

#[test]
fn findings_name_file_and_line() {
    let imported = imported("connections {\n a {\n  nonsense = 1\n  children {\n   b {\n   }\n  }\n }\n}\n");
    let finding = found(&imported, "connections.a.nonsense").expect("listed");
    assert_eq!(finding.origin.line, 3);
    assert!(imported.paths[finding.origin.file].ends_with("swanctl.conf"));
}

#[test]
fn what_would_let_more_in_is_left_out() {
    for (end, why) in [
        ("remote { id = \"asn1dn:C=\" }", "connections.a.remote.id"),
        ("remote { groups = staff }", "connections.a.remote.groups"),
        ("remote { auth = xauth }", "connections.a.remote.auth"),
        ("remote { id = a.org }\nremote-2 { id = b.org }", "connections.a.remote-2"),
        ("remote_addrs = 203.0.113.0/33", "connections.a.remote_addrs"),
        ("version = 1", "connections.a.version"),
    ] {
        let imported = imported(&format!("connections {{ a {{ {end}\n children {{ b {{ }} }} }} }}"));
        assert!(found(&imported, why).is_some(), "{why} of {:?}", imported.findings);
        assert!(has_line(&imported, "# [connections.a]"), "{}", *imported.text);
        assert_eq!(imported.report(None).connections, 0);
        assert_eq!(imported.report(None).left_out[0], "connections.a");
    }
}

#[test]
fn a_secret_without_one_of_its_owners_is_left_out_and_never_told() {
    let secret = "Kq7-very-secret";
    let text = format!(
        "secrets {{ ike-a {{ id = \"C=\\\"\"\n secret = {secret}\n }} ike-b {{ id = a.org\n secret = 0x{secret}\n }}\n\
         ike-c {{ secret = {secret}\n {secret} = 1 }} eap-d {{ id = d\n secret = {secret} }} }}"
    );
    let imported = imported(&text);
    let told = format!("{:?}", imported.findings) + &json!(imported.report(None)).to_string();
    assert!(!told.contains("Kq7"), "{told}");
    assert!(found(&imported, "secrets.ike-b.secret").is_some(), "{told}");
    assert_eq!(imported.text.matches(secret).count(), imported.report(None).secrets);
}

#[test]
fn files_are_included_where_they_are_named() {
    let directory = directory("connections { include conf.d/*.conf\n }\ninclude gone.conf\n");
    fs::create_dir(directory.path().join("conf.d")).expect("made");
    let write = |name: &str, text: &str| {
        fs::write(directory.path().join("conf.d").join(name), text).expect("written");
    };
    write("1.conf", "a { children { b { mode = tunnel } } }\n");
    write("2.conf", "a { encap = yes\n children { b { mode = transport } } }\n");
    let imported = import(&options(directory.path().join("swanctl.conf"))).expect("read");
    assert!(has_line(&imported, "mode = \"transport\"") && has_line(&imported, "encap = \"yes\""));
    assert_eq!(found(&imported, "include").map(|finding| finding.origin.line), Some(3));
    assert_eq!(imported.paths.len(), 3);
}

#[test]
fn loops_end() {
    let directory = directory("include other.conf\n");
    fs::write(directory.path().join("other.conf"), "a {\n include swan*.conf\n}\n").expect("written");
    let looped = import(&options(directory.path().join("swanctl.conf")));
    assert!(matches!(looped, Err(ImportError::Loop { line: 2, .. })));
    for text in [
        "connections { a : connections { } }",
        "connections { a : connections.b { }\n b : connections.a { } }",
        "a : a, a { }\nconnections { c : a { children { d { } } } }",
        "a : b, c { }\nb : a, c { }\nc : a, b { }\nconnections { c : a, b, c { children { d { } } } }",
    ] {
        if let Ok(imported) = try_import(text) {
            assert!(Config::parse_as(&imported.text, Path::new("a"), true).is_ok());
        }
    }
}

#[test]
fn bounds_hold() {
    let deep = "a {\n".repeat(MAX_DEPTH + 1) + &"}\n".repeat(MAX_DEPTH + 1);
    assert!(matches!(try_import(&deep), Err(ImportError::Syntax { .. })));
    // Each section inherits twice what the one before has.
    let mut text = String::from("t0 {\n x { a = 1\n } }\n");
    for n in 1..=14 {
        let layer = format!(
            "t{n} {{\n a : t{m} {{ }}\n b : t{m} {{ }}\n c : t{m} {{ }}\n d : t{m} {{ }} }}\n",
            m = n - 1
        );
        text.push_str(&layer);
    }
    assert!(matches!(try_import(&text), Err(ImportError::TooMuchInherited)));
    assert!(matches!(try_import("include /**\n"), Err(ImportError::Pattern { .. })));
}

#[test]
fn no_text_makes_it_panic() {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).expect("small")
    };
    let pieces =
        ["{", "}", "\"", "\\", "=", ":", ",", "\n", "#", " ", "include ", "é", "::", "connections", "a", "%"];
    for _ in 0..300 {
        let mut text = ROADS.to_owned();
        for _ in 0..=random(6) {
            let mut at = random(text.len());
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            if random(3) == 0 {
                text.truncate(at);
            } else {
                text.insert_str(at, pieces[random(pieces.len())]);
            }
            if text.is_empty() {
                text.push('a');
            }
        }
        if let Ok(imported) = try_import(&text) {
            assert!(Config::parse_as(&imported.text, Path::new("a"), true).is_ok(), "{text}");
        }
    }
}

#[test]
fn sections_alone_load_behind_a_gateway() {
    let directory = directory("connections { a { local_addrs = 203.0.113.9\n children { b { } } } }");
    let sections = ImportOptions { node: None, ..options(directory.path().join("swanctl.conf")) };
    let imported = import(&sections).expect("read");
    assert!(!imported.text.contains("\n[node]") && imported.text.contains("\"203.0.113.9\""));
    let gateway = "[node]\nid = 3\ncluster = \"c\"\n[outer]\ninterface = \"o\"\naddresses = [\"203.0.113.9\"]\n\
                   [inner]\ninterface = \"i\"\n";
    let whole = format!("{gateway}{}", *imported.text);
    assert!(Config::parse_as(&whole, Path::new("baton.toml"), true).is_ok(), "{whole}");
}
