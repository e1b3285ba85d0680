use std::time::Duration;

use super::super::wire::{OLDEST, PROTOCOL, write_as};
use super::super::*;
use super::*;

fn id(number: u8) -> NodeId {
    NodeId::new(number).unwrap()
}

fn node() -> Cluster {
    let member = |number, role| Member { id: id(number), role, priority: 100 };
    let members = vec![member(1, Role::Node), member(2, Role::Node), member(9, Role::Witness)];
    let digests = digests(&[("segments", 1), ("connections", 2), ("cluster", 3)]);
    let config = Configuration { digests, ..Configuration::new(id(1), members) };
    Cluster::new(config, Duration::ZERO, 1, &[]).unwrap()
}

fn digests(sections: &[(&str, u64)]) -> Vec<(String, u64)> {
    sections.iter().map(|(name, digest)| ((*name).to_owned(), *digest)).collect()
}

fn hello(sections: &[(&str, u64)]) -> Vec<u8> {
    let release = "0.0.9\u{1b}[31m".to_owned();
    ControlMessage::Hello { incarnation: 5, release, digests: digests(sections) }.encode().to_vec()
}

fn greet(cluster: &mut Cluster, from: u8, octets: &[u8]) -> Vec<Alarm> {
    cluster.handle_message(Duration::ZERO, id(from), Lane::Control, octets);
    cluster.status().alarms
}

#[test]
fn a_standby_with_another_configuration_is_told_by_section() {
    let mut cluster = node();
    let same = [("segments", 1), ("connections", 2), ("cluster", 3)];
    assert_eq!(greet(&mut cluster, 2, &hello(&same)), []);
    let other = [("segments", 1), ("connections", 7), ("pools", 8), ("cluster", 3)];
    let differs = Alarm::Differs(id(2), vec!["connections".to_owned(), "pools".to_owned()]);
    assert_eq!(greet(&mut cluster, 2, &hello(&other)), [differs]);
    assert_eq!(greet(&mut cluster, 2, &hello(&same)), [], "it was mended");
    assert_eq!(greet(&mut cluster, 9, &hello(&[("cluster", 3)])), [], "a witness has less to say");
    let differs = Alarm::Differs(id(9), vec!["cluster".to_owned()]);
    assert_eq!(greet(&mut cluster, 9, &hello(&[("cluster", 4)])), [differs]);
}

#[test]
fn the_release_before_is_understood_and_others_are_named() {
    let mut cluster = node();
    let mut octets = hello(&[("segments", 1), ("connections", 2), ("cluster", 3)]);
    write_as(OLDEST, &mut octets);
    assert_eq!(greet(&mut cluster, 2, &octets), []);
    let release = cluster.status().members[0].release.clone();
    assert_eq!(release.as_deref(), Some("0.0.9[31m"), "nothing in it commands a terminal");
    for version in [OLDEST.wrapping_sub(1), PROTOCOL + 1, PROTOCOL + 2] {
        write_as(version, &mut octets);
        let named = Alarm::Version(id(2), version.into());
        assert!(greet(&mut cluster, 2, &octets).contains(&named));
    }
    write_as(PROTOCOL, &mut octets);
    assert_eq!(greet(&mut cluster, 2, &octets), [], "upgraded");
}
