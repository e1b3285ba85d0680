//! docs/CONFIGURATION.md says what the code does.

use super::*;

const MANUAL: &str = include_str!("../../../../docs/CONFIGURATION.md");

#[test]
fn every_example_loads() {
    let blocks: Vec<&str> =
        MANUAL.split("```toml\n").skip(1).map(|b| b.split("```").next().unwrap()).collect();
    assert!(blocks.len() >= 3, "the manual has lost its examples");
    for block in blocks {
        if let Err(errors) = parse(block) {
            panic!("{errors}\nin\n{block}");
        }
    }
}

#[test]
fn every_key_is_described() {
    let sections = ["node", "table", "outer", "inner", "workers", "segments", "snapshot", "icmp", "acquire"];
    let mut texts: Vec<String> = sections.iter().map(|s| format!("[{s}]\nqqqqqqqqqqqqq = 1\n")).collect();
    texts.push("[[tunnel]]\nencapsulation = \"udp\"\nqqqqqqqqqqqqq = 1\n".to_owned());
    texts.push("[[policy]]\nqqqqqqqqqqqqq = 1\n".to_owned());
    texts.push("[[tunnel]]\n[tunnel.inbound]\nqqqqqqqqqqqqq = 1\n".to_owned());
    let mut described = 0;
    for text in texts {
        let complaint = complaint(&text);
        let known =
            complaint.split("remove it; known here: ").nth(1).expect("the keys").lines().next().unwrap();
        for key in known.split(", ") {
            let ends = ["`", "]"].map(|end| MANUAL.contains(&format!("{key}{end}")));
            assert!(ends.contains(&true), "`{key}` is not in the manual");
            described += 1;
        }
    }
    assert!(described > 60, "{described} keys are too few to be all");
}

#[test]
fn every_suite_is_described() {
    for suite in baton_sad::Suite::ALL.map(|suite| suite.to_string()) {
        let described = if let Some((cipher, integrity)) = suite.split_once('-') {
            MANUAL.contains(&format!("`{cipher}-...`")) && MANUAL.contains(&format!("`{integrity}`"))
        } else {
            // The shorter ICVs stand behind the longest one.
            let icv = ["gcm12", "gcm8", "ccm12", "ccm8"].into_iter().find(|icv| suite.ends_with(icv));
            MANUAL.contains(&format!("`{}`", icv.unwrap_or(&suite)))
        };
        assert!(described, "{suite} is not in the manual");
    }
}
