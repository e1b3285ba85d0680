use std::collections::HashMap;

use super::*;
use proptest::prelude::*;

fn pool(first: &str, last: &str) -> Arc<Pool> {
    Arc::new(Pool {
        name: "clients".to_owned(),
        first: first.parse().unwrap(),
        last: last.parse().unwrap(),
        dns: vec![],
        subnets: vec![],
        lease_time: Duration::from_mins(1),
    })
}

fn pools(first: &str, last: &str, slicing: Slicing) -> Pools {
    Pools::new(&[pool(first, last)], slicing)
}

fn client(number: usize) -> Identity {
    Identity::Fqdn(format!("client-{number}"))
}

fn lease(pools: &mut Pools, segment: u8, number: usize, now: u64) -> Result<String, PoolError> {
    let leased = pools.lease("clients", segment, &client(number), None, Duration::from_secs(now));
    leased.map(|address| address.to_string())
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn addresses_are_given_in_order_until_none_is_left() {
    let mut pools = pools("10.9.0.1", "10.9.0.3", Slicing::Whole);
    let given: Vec<_> = (0..4).map(|n| lease(&mut pools, n as u8, n, 0)).collect();
    let full = PoolError::Full { pool: "clients".to_owned(), segment: 3 };
    let given_in_order = ["10.9.0.1", "10.9.0.2", "10.9.0.3"].map(|a| Ok(a.to_owned()));
    assert_eq!(given[..3], given_in_order);
    assert_eq!(given[3], Err(full));
    assert_eq!(
        pools.lease("other", 0, &client(0), None, Duration::ZERO),
        Err(PoolError::NoPool("other".to_owned()))
    );
}

#[test]
fn a_peer_that_comes_back_gets_what_it_had() {
    let mut pools = pools("10.9.0.1", "10.9.0.9", Slicing::Whole);
    for n in 0..4 {
        lease(&mut pools, 0, n, 0).unwrap();
    }
    pools.release(address("10.9.0.2"), Duration::from_secs(1));
    pools.release(address("10.9.0.2"), Duration::from_secs(1));
    assert_eq!(lease(&mut pools, 0, 9, 2).unwrap(), "10.9.0.5");
    assert_eq!(lease(&mut pools, 0, 1, 2).unwrap(), "10.9.0.2");
    // Its second device has another one.
    assert_eq!(lease(&mut pools, 0, 1, 2).unwrap(), "10.9.0.6");
    let status = pools.status().next().unwrap();
    assert_eq!((status.size, status.online, status.offline), (9, 6, 0));
}

#[test]
fn what_is_kept_is_free_after_its_time_or_when_nothing_else_is() {
    let mut pools = pools("10.9.0.1", "10.9.0.2", Slicing::Whole);
    lease(&mut pools, 0, 1, 0).unwrap();
    lease(&mut pools, 0, 2, 0).unwrap();
    pools.release(address("10.9.0.2"), Duration::from_secs(1));
    pools.release(address("10.9.0.1"), Duration::from_secs(2));
    assert_eq!(lease(&mut pools, 0, 3, 3).unwrap(), "10.9.0.2");
    assert_eq!(lease(&mut pools, 0, 4, 62).unwrap(), "10.9.0.1");
    assert!(lease(&mut pools, 0, 1, 62).is_err());
}

#[test]
fn what_a_peer_asks_for_it_gets_if_it_is_free() {
    let mut pools = pools("10.9.0.1", "10.9.0.9", Slicing::Whole);
    let mut ask = |n, wanted: &str| {
        pools.lease("clients", 0, &client(n), Some(address(wanted)), Duration::ZERO).unwrap().to_string()
    };
    assert_eq!(ask(1, "10.9.0.2"), "10.9.0.2");
    assert_eq!(ask(2, "10.9.0.2"), "10.9.0.1");
    assert_eq!(ask(3, "10.10.0.2"), "10.9.0.3");
    assert_eq!(ask(4, "::1"), "10.9.0.4");
    assert_eq!(ask(5, "0.0.0.0"), "10.9.0.5");
}

#[test]
fn segments_never_share_an_address_and_one_without_is_told() {
    let mut large = pools("10.9.0.0", "10.9.1.255", Slicing::BySegment);
    assert_eq!(
        [lease(&mut large, 7, 1, 0), lease(&mut large, 7, 2, 0)],
        ["10.9.0.7", "10.9.1.7"].map(|a| Ok(a.to_owned()))
    );
    assert!(matches!(lease(&mut large, 7, 3, 0), Err(PoolError::Full { .. })));
    assert_eq!(lease(&mut large, 8, 3, 0).unwrap(), "10.9.0.8");
    let foreign = large.lease("clients", 9, &client(4), Some(address("10.9.0.10")), Duration::ZERO);
    assert_eq!(foreign, Ok(address("10.9.0.9")));
    let mut small = pools("10.9.0.250", "10.9.1.5", Slicing::BySegment);
    assert_eq!(lease(&mut small, 3, 1, 0).unwrap(), "10.9.1.3");
    let none = lease(&mut small, 100, 1, 0).unwrap_err();
    assert_eq!(none, PoolError::NoShare { pool: "clients".to_owned(), segment: 100 });
    assert!(none.to_string().contains("256 addresses"));
}

#[test]
fn a_restored_lease_is_in_use_wherever_it_lies() {
    let mut pools = pools("10.9.0.1", "10.9.0.9", Slicing::Whole);
    let mut taken = |addresses: [&str; 2], who| {
        pools.taken(&addresses.map(address), &client(who)).map_err(|error| error.to_string())
    };
    assert_eq!(taken(["10.9.0.2", "192.0.2.1"], 1), Ok(()));
    assert_eq!(taken(["10.9.0.2", "192.0.2.1"], 1), Ok(()), "a tunnel and the one that takes its place");
    let refused = taken(["10.9.0.5", "10.9.0.2"], 2).unwrap_err();
    assert!(refused.contains("10.9.0.2 is leased to another peer"), "{refused}");
    assert_eq!(taken(["10.9.0.5", "10.9.0.6"], 5), Ok(()), "what is refused takes nothing");
    assert_eq!(lease(&mut pools, 0, 3, 0).unwrap(), "10.9.0.1");
    assert_eq!(lease(&mut pools, 0, 4, 0).unwrap(), "10.9.0.3");
    pools.release(address("10.9.0.2"), Duration::ZERO);
    assert_ne!(lease(&mut pools, 0, 1, 0).unwrap(), "10.9.0.2", "the other tunnel has it");
    pools.release(address("10.9.0.2"), Duration::ZERO);
    assert_eq!(lease(&mut pools, 0, 1, 0).unwrap(), "10.9.0.2");
}

#[test]
fn leases_outlive_another_configuration() {
    let mut pools = pools("10.9.0.1", "10.9.0.9", Slicing::Whole);
    for n in 1..=3 {
        lease(&mut pools, 0, n, 0).unwrap();
    }
    pools.release(address("10.9.0.2"), Duration::ZERO);
    pools.reconfigure(&[pool("10.9.0.2", "10.9.0.200")], Slicing::Whole);
    let mut leases: Vec<_> = pools.leases("clients").map(|(a, _, online)| (a.to_string(), online)).collect();
    leases.sort();
    assert_eq!(leases, [("10.9.0.2".to_owned(), false), ("10.9.0.3".to_owned(), true)]);
    assert_eq!(lease(&mut pools, 0, 9, 0).unwrap(), "10.9.0.4");
    assert_eq!(lease(&mut pools, 0, 2, 0).unwrap(), "10.9.0.2");
    pools.reconfigure(&[], Slicing::Whole);
    assert!(lease(&mut pools, 0, 2, 0).is_err());
}

#[test]
fn huge_pools_cost_nothing_and_their_ends_are_reached() {
    let mut huge = pools("2001:db8::", "2001:db8::ffff:ffff:ffff:ffff", Slicing::BySegment);
    assert_eq!(lease(&mut huge, 0xfe, 1, 0).unwrap(), "2001:db8::fe");
    assert_eq!(lease(&mut huge, 0xfe, 2, 0).unwrap(), "2001:db8::1fe");
    let mut all = pools("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Slicing::Whole);
    let end = address("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    assert_eq!(all.lease("clients", 0, &client(1), Some(end), Duration::ZERO), Ok(end));
    let mut edge = pools("255.255.255.254", "255.255.255.255", Slicing::BySegment);
    assert_eq!(lease(&mut edge, 255, 1, 0).unwrap(), "255.255.255.255");
    assert!(matches!(lease(&mut edge, 255, 2, 0), Err(PoolError::Full { .. })));
    assert!(matches!(lease(&mut edge, 0, 2, 0), Err(PoolError::NoShare { .. })));
}

#[test]
fn peers_that_are_gone_are_remembered_up_to_a_bound() {
    let mut pools = pools("10.0.0.0", "10.255.255.255", Slicing::Whole);
    for n in 0..70_000 {
        let leased = lease(&mut pools, 0, n, 0).unwrap();
        pools.release(address(&leased), Duration::ZERO);
    }
    let status = pools.status().next().unwrap();
    assert_eq!((status.online, status.offline), (0, 65_536));
    assert_eq!(pools.leases("clients").count(), 65_536);
}

proptest! {
    #[test]
    fn no_address_is_given_twice(
        by_segment in any::<bool>(),
        steps in prop::collection::vec((any::<bool>(), 0_usize..12, 0_u8..3, 0_u32..16, 0_u64..40), 1..200),
    ) {
        let slicing = if by_segment { Slicing::BySegment } else { Slicing::Whole };
        let mut pools = pools("10.0.0.254", "10.0.2.1", slicing);
        let (mut online, mut now): (HashMap<IpAddr, usize>, _) = (HashMap::new(), 0);
        for (gives, number, segment, offset, pause) in steps {
            now += pause;
            let wanted = IpAddr::V4((u32::from_be_bytes([10, 0, 0, 250]) + offset * 20).into());
            if gives {
                let leased = pools.lease("clients", segment, &client(number), Some(wanted), Duration::from_secs(now));
                let Ok(leased) = leased else { continue };
                prop_assert!(pools.pools[0].contains(leased) && online.insert(leased, number).is_none());
                prop_assert!(!by_segment || slice::bits(leased) as u8 == segment);
            } else if let Some(leased) = online.keys().min().copied() {
                online.remove(&leased);
                pools.release(leased, Duration::from_secs(now));
            }
            let status = pools.status().next().unwrap();
            prop_assert_eq!(status.online, online.len());
            prop_assert!(pools.leases("clients").all(|(a, _, is_online)| is_online == online.contains_key(&a)));
        }
    }
}
