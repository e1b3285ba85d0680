use proptest::prelude::*;

use super::super::key_exchange::primes;
use super::super::{Group, KeyExchangeError, KeyExchangeMethod, KeyShare};
use super::{fill, lines, octets};

fn group(keyword: &str) -> Group {
    Group::ALL.into_iter().find(|group| group.keyword() == keyword).unwrap()
}

fn share(group: Group, private: &str) -> KeyShare {
    KeyShare::from_private(group, &octets(private)).expect("a private value")
}

fn random(mut seed: u64) -> impl FnMut(&mut [u8]) {
    move |octets| fill(&mut seed, octets)
}

#[test]
fn whole_exchanges_are_those_of_the_vectors() {
    let mut groups = Vec::new();
    for line in lines(include_str!("../../../tests/data/key-exchange.txt")) {
        let group = group(line[0]);
        let (ours, theirs) = (share(group, line[1]), share(group, line[3]));
        assert_eq!((ours.public(), theirs.public()), (&*octets(line[2]), &*octets(line[4])), "{}", line[0]);
        let secret = octets(line[5]);
        assert_eq!(ours.agree(theirs.public()).unwrap().expose(), secret, "{}", line[0]);
        assert_eq!(theirs.agree(ours.public()).unwrap().expose(), secret, "{}", line[0]);
        groups.push(group);
    }
    assert_eq!(groups.len(), 11);
    assert!(Group::ALL.iter().all(|group| groups.contains(group)));
}

fn check_agreement(file: &'static str) -> (usize, usize) {
    let (mut count, mut refused) = (0, 0);
    for line in lines(file) {
        let group = group(line[0]);
        let peer = if line[2] == "-" { Vec::new() } else { octets(line[2]) };
        let agreed = share(group, line[1]).agree(&peer);
        match line[3] {
            "refused" => assert!(agreed.is_err(), "{line:?}"),
            "not" => assert_ne!(agreed.unwrap().expose(), octets(line[4]), "{line:?}"),
            secret => assert_eq!(agreed.unwrap().expose(), octets(secret), "{line:?}"),
        }
        count += 1;
        refused += usize::from(line[3] == "refused");
    }
    (count, refused)
}

#[test]
fn wycheproofs_traps_are_seen() {
    let checked = check_agreement(include_str!("../../../tests/data/wycheproof-key-exchange.txt"));
    assert_eq!(checked, (879, 104));
}

#[test]
fn nists_validity_test_is_passed() {
    assert_eq!(check_agreement(include_str!("../../../tests/data/nist-cavp-ecdh.txt")), (72, 12));
}

#[test]
fn values_that_generate_nothing_are_refused() {
    let groups = [
        (Group::Modp2048, primes::MODP_2048),
        (Group::Modp3072, primes::MODP_3072),
        (Group::Modp4096, primes::MODP_4096),
    ];
    for (group, prime) in groups {
        let share = KeyShare::generate(group, &mut random(1));
        let length = group.public_length();
        let small = |last: u8| {
            let mut value = vec![0; length];
            value[length - 1] = last;
            value
        };
        let mut prime = octets(prime);
        for bad in [small(0), small(1), prime.clone(), vec![0xff; length]] {
            assert_eq!(
                share.agree(&bad).unwrap_err(),
                KeyExchangeError::Value(KeyExchangeMethod::Group(group))
            );
        }
        prime[length - 1] -= 1;
        assert_eq!(
            share.agree(&prime).unwrap_err(),
            KeyExchangeError::Value(KeyExchangeMethod::Group(group)),
            "p - 1"
        );
        prime[length - 1] -= 1;
        assert!(share.agree(&prime).is_ok() && share.agree(&small(2)).is_ok());
    }
}

#[test]
fn values_of_another_length_are_refused() {
    for group in Group::ALL {
        let share = KeyShare::generate(group, &mut random(2));
        let length = group.public_length();
        assert_eq!(share.public().len(), length);
        for got in [0, length - 1, length + 1] {
            let peer = vec![1; got];
            assert_eq!(
                share.agree(&peer).unwrap_err(),
                KeyExchangeError::Length { method: KeyExchangeMethod::Group(group), got, wanted: length }
            );
        }
    }
}

#[test]
fn the_same_randomness_gives_the_same_share() {
    for group in Group::ALL {
        let [one, two, other] = [3, 3, 4].map(|seed| KeyShare::generate(group, &mut random(seed)));
        assert_eq!(one.public(), two.public());
        assert_ne!(one.public(), other.public());
        assert_eq!(format!("{one:?}"), format!("KeyShare({}, redacted)", group.keyword()));
    }
}

#[test]
fn randomness_that_makes_no_key_is_drawn_again() {
    for group in Group::ALL {
        if group == Group::Curve25519 {
            continue;
        }
        let mut draws = 0;
        let share = KeyShare::generate(group, &mut |octets| {
            draws += 1;
            octets.fill(if draws < 3 { 0 } else { 0x55 });
        });
        assert_eq!((draws, share.public().len()), (3, group.public_length()), "zero is no private key");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn both_sides_agree(seed: u64, place in 0..Group::ALL.len()) {
        let group = Group::ALL[place];
        let ours = KeyShare::generate(group, &mut random(seed));
        let theirs = KeyShare::generate(group, &mut random(!seed));
        let secrets = [ours.agree(theirs.public()).unwrap(), theirs.agree(ours.public()).unwrap()];
        prop_assert_eq!(secrets[0].expose(), secrets[1].expose());
    }

    #[test]
    fn any_public_value_is_refused_or_agreed_on(peer in prop::collection::vec(any::<u8>(), 0..600), place in 0..Group::ALL.len()) {
        let group = Group::ALL[place];
        let agreed = KeyShare::generate(group, &mut random(5)).agree(&peer);
        prop_assert!(agreed.is_err() || peer.len() == group.public_length());
    }
}
