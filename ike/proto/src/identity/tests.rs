use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

fn id(text: &str) -> Identity {
    Identity::parse(text).unwrap()
}

fn read(kind: u8, data: &[u8]) -> Result<Identity, IdentityError> {
    Identity::from_wire(&Identification::new(IdentificationType(kind), data.to_vec()))
}

#[test]
fn text_is_read_by_strongswans_rules() {
    for any in ["", "%any", "%any6", "0.0.0.0", "*", "::", "0::0"] {
        assert_eq!(id(any), Identity::Any, "{any}");
    }
    assert_eq!(id("192.0.2.1"), Identity::Ipv4(Ipv4Addr::new(192, 0, 2, 1)));
    assert_eq!(id("2001:db8::1"), Identity::Ipv6("2001:db8::1".parse().unwrap()));
    assert_eq!(id("moon.example.org"), Identity::Fqdn("moon.example.org".into()));
    assert_eq!(id("@192.0.2.1"), Identity::Fqdn("192.0.2.1".into()));
    assert_eq!(id("moon"), Identity::Fqdn("moon".into()));
    assert_eq!(id("carol@example.org"), Identity::Email("carol@example.org".into()));
    assert_eq!(id("@@carol@example.org"), Identity::Email("carol@example.org".into()));
    assert_eq!(id("@#00ff10"), Identity::KeyId(vec![0, 255, 16]));
    assert_eq!(id("a:b"), Identity::KeyId(b"a:b".to_vec()));
    assert_eq!(id("no=name"), Identity::KeyId(b"no=name".to_vec()));
}

#[test]
fn prefixes_say_what_it_is() {
    assert_eq!(id("fqdn:carol@example.org"), Identity::Fqdn("carol@example.org".into()));
    assert_eq!(id("dns:192.0.2.1"), Identity::Fqdn("192.0.2.1".into()));
    assert_eq!(id("email:carol"), Identity::Email("carol".into()));
    assert_eq!(id("keyid:moon"), Identity::KeyId(b"moon".to_vec()));
    assert_eq!(id("keyid:#6d6f"), Identity::KeyId(b"mo".to_vec()));
    assert_eq!(id("ipv4:0.0.0.0"), Identity::Ipv4(Ipv4Addr::UNSPECIFIED));
    assert_eq!(id("asn1dn:CN=moon"), id("CN=moon"));
    for wrong in ["ipv4:moon", "ipv6:192.0.2.1", "asn1dn:moon", "keyid:#6", "keyid:", "fqdn:", "@#xy", "@"] {
        assert!(Identity::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn networks_and_ranges_are_patterns() {
    let network = id("192.0.2.128/25");
    assert!(network.is_pattern() && network.to_wire().is_none());
    assert!(network.matches(&id("192.0.2.129")).is_some());
    assert_eq!(network.matches(&id("192.0.2.127")), None);
    assert_eq!(network.matches(&id("@192.0.2.129")), None);
    assert!(id("0.0.0.0/0").matches(&id("203.0.113.9")).is_some());
    assert_eq!(id("0.0.0.0/0").matches(&id("2001:db8::1")), None);
    assert!(id("::/0").matches(&id("2001:db8::1")).is_some());
    assert!(id("2001:db8::/32").matches(&id("2001:db8::1")) > id("2001::/16").matches(&id("2001:db8::1")));
    assert!(id("10.0.0.1-10.0.0.3").matches(&id("10.0.0.2")).is_some());
    // What is no range is a name.
    assert_eq!(id("10.0.0.3-10.0.0.1"), Identity::Fqdn("10.0.0.3-10.0.0.1".into()));
    assert_eq!(id("10.0.0.0/33"), Identity::Fqdn("10.0.0.0/33".into()));
}

#[test]
fn names_are_matched_without_their_case_and_by_their_end() {
    assert_eq!(id("Moon.Example.ORG").matches(&id("moon.example.org")), Some(20));
    assert!(id("*.example.org").matches(&id("moon.EXAMPLE.org")).is_some());
    assert_eq!(id("*.example.org").matches(&id("example.org")), None);
    assert_eq!(id("*.example.org").matches(&id("moon.example.net")), None);
    assert_eq!(id("*.example.org").matches(&id("carol@x.example.org")), None);
    assert!(id("*@example.org").matches(&id("carol@example.org")).is_some());
    assert!(id("*.b.c").matches(&id("a.b.c")) > id("*.c").matches(&id("a.b.c")));
    // A name is no pattern for the one whom it is compared with.
    assert_eq!(id("moon.example.org").matches(&id("*.example.org")), None);
}

#[test]
fn everything_fits_any_and_worse_than_all_else() {
    for text in ["192.0.2.1", "moon", "a@b", "@#00", "CN=moon"] {
        assert_eq!(Identity::Any.matches(&id(text)), Some(1), "{text}");
    }
    let least = id("C=*, O=*, CN=*").matches(&id("C=CH, O=x, CN=y")).unwrap();
    assert!(least > 1 && least < 20);
}

#[test]
fn distinguished_names_are_compared_value_by_value() {
    let moon = id("C=CH, O=Linux strongSwan, CN=moon.strongswan.org");
    assert_eq!(id("/C=ch/O=LINUX strongSwan/CN=moon.strongswan.org"), moon);
    assert_eq!(id("c=CH,o=Linux strongSwan,cn=moon.strongswan.org").matches(&moon), Some(20));
    assert_eq!(id("C=CH, O=Linux strongSwan, CN=*").matches(&moon), Some(19));
    assert_eq!(id("C=CH, O=*, CN=*").matches(&moon), Some(18));
    assert_eq!(id("C=CH, CN=*").matches(&moon), None, "fewer steps");
    assert_eq!(id("O=Linux strongSwan, C=CH, CN=*").matches(&moon), None, "another order");
    assert_eq!(id("C=CH, O=Linux strongSwan, OU=*").matches(&moon), None, "another type");
    assert_eq!(moon.matches(&id("C=CH, O=Linux strongSwan, CN=*")), None);
}

#[test]
fn a_name_is_the_same_in_every_string_type() {
    // O=x as PrintableString, UTF8String, T61String, IA5String; BMPString has two octets per character.
    let name = |tag: u8, value: &[u8]| {
        let length = value.len() as u8;
        let mut der =
            vec![0x30, 11 + length - 2, 0x31, 9 + length - 2, 0x30, 7 + length - 2, 6, 3, 0x55, 4, 10];
        der.extend([tag, length]);
        der.extend(value);
        der[1] = 2 + 2 + 5 + 2 + length;
        der[3] = 2 + 5 + 2 + length;
        der[5] = 5 + 2 + length;
        read(9, &der).unwrap()
    };
    for tag in [12, 19, 20, 22] {
        assert_eq!(name(tag, b"x"), id("O=X"), "tag {tag}");
    }
    assert_eq!(name(30, &[0, b'x']), id("O=x"));
    assert_ne!(name(4, b"x"), id("O=x"), "an octet string is none");
}

#[test]
fn values_may_be_quoted_escaped_or_have_signs_in_them() {
    assert_eq!(id(r#"O="Mueller, Meier", CN=a"#), id(r"O=Mueller\, Meier, CN=a"));
    assert_eq!(id("O=C++, CN=a").to_string(), r#"O="C++", CN=a"#);
    assert_eq!(id("OU=Sales+CN=J Smith, DC=example").to_string(), "OU=Sales+CN=J Smith, DC=example");
    assert_eq!(id("1.2.3.4=x").to_string(), "1.2.3.4=x");
    assert_eq!(id("CN=Zürich").to_string(), "CN=Zürich");
}

#[test]
fn payloads_are_read_and_written() {
    for (text, kind) in [
        ("192.0.2.1", 1),
        ("moon.example.org", 2),
        ("carol@example.org", 3),
        ("2001:db8::1", 5),
        ("C=CH, CN=moon", 9),
        ("@#0001ff", 11),
    ] {
        let payload = id(text).to_wire().unwrap();
        assert_eq!(payload.kind.0, kind, "{text}");
        assert_eq!(Identity::from_wire(&payload).unwrap(), id(text));
    }
    for pattern in ["%any", "*.example.org", "*@example.org", "CN=*", "10.0.0.0/8"] {
        assert_eq!(id(pattern).to_wire(), None, "{pattern}");
    }
}

#[test]
fn payloads_that_are_nobody_are_refused() {
    let refused: [(u8, &[u8]); 9] = [
        (1, &[1, 2, 3]),
        (5, &[0; 15]),
        (2, b""),
        (2, b"moon\n[ERR] forged"),
        (3, b"a\0b"),
        (2, &[0xff, 0xfe]),
        (9, b"moon"),
        (10, b"x"),
        (200, b"x"),
    ];
    for (kind, data) in refused {
        assert!(read(kind, data).is_err(), "type {kind}");
    }
    assert!(read(11, &[0; 1025]).is_err());
    assert!(read(11, &[0; 1024]).is_ok());
}

#[test]
fn text_is_unambiguous() {
    for (identity, text) in [
        (Identity::Fqdn("192.0.2.1".into()), "fqdn:192.0.2.1"),
        (Identity::Fqdn("moon".into()), "moon"),
        (Identity::Email("carol".into()), "email:carol"),
        (Identity::Email("@x".into()), "email:@x"),
        (Identity::Email("#x".into()), "email:#2378"),
        (Identity::Fqdn("#x".into()), "#x"),
        (Identity::Ipv4(Ipv4Addr::UNSPECIFIED), "ipv4:0.0.0.0"),
        (Identity::KeyId(b"moon".to_vec()), "keyid:moon"),
        (Identity::KeyId(vec![1, 2]), "@#0102"),
        (id("10.1.0.0/16"), "10.1.0.0/16"),
        (id("10.1.0.1-10.1.0.2"), "10.1.0.1-10.1.0.2"),
        (id("2001:db8::/32"), "2001:db8::/32"),
    ] {
        assert_eq!(identity.to_string(), text);
        assert_eq!(id(text), identity);
    }
}

/// Names of certificates are as their authors like them.
#[test]
fn no_identity_forges_a_line_of_a_log() {
    assert_eq!(Identity::Fqdn("moon\n[ERR] x".into()).to_string(), "fqdn:#6d6f6f6e0a5b4552525d2078");
    assert_eq!(Identity::Email("\u{1b}[2J".into()).to_string(), "email:#1b5b324a");
    let name = DistinguishedName::parse("CN=ab").unwrap();
    let forged: Vec<u8> = name.iter().map(|octet| if *octet == b'b' { b'\n' } else { *octet }).collect();
    assert!(Identity::DistinguishedName(forged).to_string().starts_with("asn1dn:#30"));
}

#[test]
fn the_longest_identity_is_written_and_read() {
    let longest = Identity::KeyId(vec![0xff; MAX_IDENTITY]);
    assert_eq!(id(&longest.to_string()), longest);
    for long in [format!("@#{}", "ff".repeat(1025)), "x".repeat(1025), "x=".repeat(513), "x".repeat(9000)] {
        assert!(Identity::parse(&long).is_err());
    }
}

#[test]
fn equal_identities_hash_alike() {
    let set: HashSet<Identity> = ["CN=Moon", "/CN=moon", "Moon", "mOOn", "a@B", "A@b"].map(id).into();
    assert_eq!(set.len(), 3);
}

fn any_identity() -> impl Strategy<Value = Identity> {
    let name = "[a-zA-Z0-9@#:=%*. ,/\"\\\\+-]{1,20}";
    prop_oneof![
        any::<[u8; 4]>().prop_map(|octets| Identity::Ipv4(octets.into())),
        any::<[u8; 16]>().prop_map(|octets| Identity::Ipv6(octets.into())),
        name.prop_map(Identity::Fqdn),
        name.prop_map(Identity::Email),
        proptest::collection::vec(any::<u8>(), 1..20).prop_map(Identity::KeyId),
        (name, name).prop_map(|(o, cn)| {
            let quoted = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"");
            id(&format!("asn1dn:O=\"{}\", CN=\"{}\"", quoted(&o), quoted(&cn)))
        }),
        (any::<u32>(), any::<u32>()).prop_map(|(a, b)| {
            Identity::AddressRange(Ipv4Addr::from_bits(a.min(b)).into(), Ipv4Addr::from_bits(a.max(b)).into())
        }),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(identity in any_identity()) {
        prop_assert_eq!(Identity::parse(&identity.to_string()), Ok(identity));
    }

    #[test]
    fn nothing_panics(text in ".{0,60}", kind in any::<u8>(), data: Vec<u8>) {
        let _ = Identity::parse(&text);
        if let Ok(identity) = read(kind, &data) {
            let _ = (identity.to_string(), identity.matches(&identity), identity.is_pattern());
        }
    }
}
