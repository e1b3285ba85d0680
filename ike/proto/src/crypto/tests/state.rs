use super::super::{Group, IkeKeys, KeyShare, OpenStateError, SealedState as _, WrapKey};
use super::{fill, keys, suites};

fn random(mut seed: u64) -> impl FnMut(&mut [u8]) {
    move |octets| fill(&mut seed, octets)
}

#[test]
fn keys_of_every_suite_come_back() {
    let wrap = WrapKey::new([7; 32]);
    for suite in suites() {
        let keys = keys(suite, 1);
        let sealed = keys.seal_state(&wrap, b"context", &mut random(1));
        let opened = IkeKeys::open_state(&wrap, b"context", &sealed).unwrap();
        assert_eq!((opened.suite(), opened.material()), (keys.suite(), keys.material()));
        let front = &keys.material()[..16];
        assert!(sealed.windows(16).all(|window| window != front), "not in clear");
    }
}

#[test]
fn key_shares_of_every_group_come_back() {
    let wrap = WrapKey::derive(&[7; 32], "store");
    for group in Group::ALL {
        let share = KeyShare::generate(group, &mut random(2));
        let sealed = share.seal_state(&wrap, b"context", &mut random(1));
        let opened = KeyShare::open_state(&wrap, b"context", &sealed).unwrap();
        assert_eq!((opened.group(), opened.public()), (group, share.public()));
    }
}

#[test]
fn what_is_not_quite_right_is_refused() {
    let wrap = WrapKey::new([7; 32]);
    let keys = keys(suites().next().unwrap(), 1);
    let sealed = keys.seal_state(&wrap, b"context", &mut random(1));
    let refused = |wrap: &WrapKey, associated: &[u8], sealed: &[u8]| {
        assert_eq!(IkeKeys::open_state(wrap, associated, sealed).unwrap_err(), OpenStateError::Refused);
    };
    refused(&WrapKey::new([8; 32]), b"context", &sealed);
    refused(&WrapKey::derive(&[7; 32], "store"), b"context", &sealed);
    refused(&wrap, b"another", &sealed);
    for length in 0..sealed.len() {
        refused(&wrap, b"context", &sealed[..length]);
    }
    for place in 0..sealed.len() {
        let mut damaged = sealed.clone();
        damaged[place] ^= 1;
        refused(&wrap, b"context", &damaged);
    }
}

#[test]
fn one_kind_is_not_taken_for_the_other() {
    let wrap = WrapKey::new([7; 32]);
    let keys = keys(suites().next().unwrap(), 1).seal_state(&wrap, b"", &mut random(1));
    let share = KeyShare::generate(Group::Ecp256, &mut random(2)).seal_state(&wrap, b"", &mut random(3));
    assert_eq!(KeyShare::open_state(&wrap, b"", &keys).unwrap_err(), OpenStateError::Unknown);
    assert_eq!(IkeKeys::open_state(&wrap, b"", &share).unwrap_err(), OpenStateError::Unknown);
}

#[test]
fn authentic_nonsense_is_no_panic() {
    let wrap = WrapKey::new([7; 32]);
    for length in 0..80 {
        for kind in 0..4 {
            let inside = vec![kind; length].into();
            let sealed = wrap.seal(b"", &mut random(1), inside);
            assert_eq!(IkeKeys::open_state(&wrap, b"", &sealed).unwrap_err(), OpenStateError::Unknown);
            assert_eq!(KeyShare::open_state(&wrap, b"", &sealed).unwrap_err(), OpenStateError::Unknown);
        }
    }
}

#[test]
fn no_two_seals_are_the_same() {
    let wrap = WrapKey::new([7; 32]);
    let keys = keys(suites().next().unwrap(), 1);
    let mut random = random(1);
    let [one, two] = [0, 0].map(|_| keys.seal_state(&wrap, b"", &mut random));
    assert!(one.chunks(16).zip(two.chunks(16)).all(|(one, two)| one != two));
    assert_eq!(format!("{wrap:?}"), "WrapKey(redacted)");
}
