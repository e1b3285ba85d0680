//! docs/CONFIGURATION.md and docs/SWANCTL.md say what the code does.

use super::*;

const MANUAL: &str = include_str!("../../../../docs/CONFIGURATION.md");
const ROAD: &str = include_str!("../../../../docs/ROADWARRIOR.md");
const ROAD_EXAMPLE: &str = include_str!("../../../../examples/roadwarrior.toml");
const COMPARISON: &str = include_str!("../../../../docs/SWANCTL.md");
/// What swanctl.conf(5) of strongSwan 5.9.8 documents.
const SWANCTL: &str = include_str!("swanctl-5.9.8.txt");

/// Sections with a key that nobody knows, and what stands for the section in the comparison.
const SECTIONS: [(&str, &str); 12] = [
    ("[ike]", ""),
    ("[connections.a]", "connections.<conn>."),
    ("[connections.a.local]", "connections.<conn>.local<suffix>."),
    ("[connections.a.remote]", "connections.<conn>.remote<suffix>."),
    ("[connections.a.children.b]", "connections.<conn>.children.<child>."),
    ("[pools.a]", "pools.<name>."),
    ("[secrets.ike]", "secrets.ike<suffix>."),
    ("[secrets.ppk]", "secrets.ppk<suffix>."),
    ("[authorities.a]", "authorities.<name>."),
    ("[eap-radius]", ""),
    ("[eap-radius.servers.a]", ""),
    ("[eap-radius.dae]", ""),
];

fn keys_of(section: &str) -> Vec<String> {
    let complaint = complaint(&format!("{section}\nqqqqqqqqqqqqqqqq = 1\n"));
    let known = complaint.split("remove it; known here: ").nth(1).expect("the keys").lines().next();
    known.expect("a line").split(", ").map(str::to_owned).collect()
}

#[test]
fn every_example_loads() {
    let blocks: Vec<_> =
        MANUAL.split("```toml\n").skip(1).filter_map(|block| block.split("```").next()).collect();
    assert!(blocks.iter().filter(|block| block.contains("[connections.")).count() >= 2);
    let of_page =
        ROAD.split("```toml\n").nth(1).and_then(|block| block.split("```").next()).expect("an example");
    assert!(ROAD_EXAMPLE.ends_with(of_page), "the page shows another example than the one that is there");
    for block in blocks.into_iter().chain([ROAD_EXAMPLE]) {
        if let Err(errors) = Config::parse_as(block, Path::new("baton.toml"), true) {
            panic!("{errors}\nin\n{block}");
        }
    }
}

#[test]
fn every_key_is_described() {
    let mut described = 0;
    for (section, _) in SECTIONS {
        for key in keys_of(section) {
            let ends = ["`", "]"].map(|end| MANUAL.contains(&format!("{key}{end}")));
            assert!(ends.contains(&true), "`{key}` of {section} is not in the manual");
            described += 1;
        }
    }
    assert!(described > 75, "{described} keys are too few to be all");
}

#[test]
fn every_option_of_swanctl_is_compared() {
    for option in SWANCTL.lines() {
        assert!(COMPARISON.contains(&format!("`{option}`")), "{option} is not compared");
    }
}

/// The table says "not there" of no option that is, and of none that is there that it is not.
#[test]
fn the_comparison_knows_what_there_is() {
    for (section, prefix) in SECTIONS.iter().filter(|(_, prefix)| !prefix.is_empty()) {
        let keys = keys_of(section);
        for option in SWANCTL.lines() {
            let Some(key) = option.strip_prefix(prefix) else { continue };
            if key.contains('.') || key.starts_with('<') {
                continue;
            }
            let row =
                COMPARISON.lines().find(|line| line.contains(&format!("`{option}`"))).expect("compared");
            let key = key.trim_end_matches("<suffix>");
            assert_eq!(keys.iter().any(|known| known == key), !row.contains("| not there"), "{row}");
        }
    }
}
