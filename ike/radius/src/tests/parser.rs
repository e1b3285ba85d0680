//! Whatever comes.

use proptest::collection::vec;
use proptest::prelude::*;
use zeroize::Zeroizing;

use crate::Secret;
use crate::attribute::{Attributes, Kind};
use crate::packet::{Code, Draft, MAX_PACKET, Packet};
use crate::secret::Demand;

proptest! {
    #[test]
    fn any_octets_are_read_or_refused(octets in vec(any::<u8>(), 0..300), secret in vec(any::<u8>(), 0..20)) {
        read_all(&octets, &secret);
    }

    /// Half of the length is right, so that attributes are reached.
    #[test]
    fn any_attributes_are_read_or_refused(code: u8, body in vec(any::<u8>(), 16..300), secret in vec(any::<u8>(), 0..80)) {
        let length = (body.len() as u16 + 4).to_be_bytes();
        let octets = [&[code, 0, length[0], length[1]], body.as_slice()].concat();
        read_all(&octets, &secret);
    }

    #[test]
    fn what_is_written_is_read(parts in vec((1_u8..=255, vec(any::<u8>(), 0..260)), 0..12)) {
        let mut attributes = Attributes::default();
        for (kind, value) in &parts {
            attributes.add(Kind(*kind), value);
        }
        let octets = draft(&attributes);
        let packet = Packet::parse(&octets).expect("our own packet");
        let read: Vec<_> = packet.attributes().map(|attribute| (attribute.kind.0, attribute.value.to_vec())).collect();
        let cut = |(kind, value): &(u8, Vec<u8>)| (*kind, value[..value.len().min(253)].to_vec());
        let written: Vec<_> = parts.iter().map(cut).filter(|(_, value)| !value.is_empty()).collect();
        prop_assert_eq!(read, written);
    }

    #[test]
    fn long_values_are_spread_and_joined(value in vec(any::<u8>(), 1..3900)) {
        let mut attributes = Attributes::default();
        attributes.add_spread(Kind::EAP_MESSAGE, &value);
        let octets = draft(&attributes);
        prop_assert_eq!(Packet::parse(&octets).unwrap().joined(Kind::EAP_MESSAGE), Some(value));
    }
}

fn draft(attributes: &Attributes) -> Vec<u8> {
    Draft::new((Code::ACCESS_REQUEST, 0), &[7; 16], false, attributes).expect("a short packet").finish()
}

fn read_all(octets: &[u8], secret: &[u8]) {
    let secret = Secret::new(Zeroizing::new(secret.to_vec()));
    let Ok(packet) = Packet::parse(octets) else { return };
    assert!(packet.octets().len() <= octets.len().min(MAX_PACKET));
    for demand in [Demand::Mac, Demand::AuthenticatorAlone] {
        let _ = secret.check_response(&packet, &[1; 16], demand);
    }
    let _ = crate::access::read(&secret, &[1; 16], &"a".into(), &packet);
}

#[test]
fn too_long_packets_are_not_written() {
    let mut attributes = Attributes::default();
    attributes.add_spread(Kind::EAP_MESSAGE, &[0; MAX_PACKET]);
    assert!(Draft::new((Code::ACCESS_REQUEST, 0), &[7; 16], true, &attributes).is_err());
}

#[test]
fn texts_are_cut_between_characters() {
    let mut attributes = Attributes::default();
    attributes.add_text(Kind::USER_NAME, &"é".repeat(200));
    let octets = draft(&attributes);
    let name = Packet::parse(&octets).unwrap().first(Kind::USER_NAME).unwrap();
    assert_eq!(std::str::from_utf8(name), Ok("é".repeat(126).as_str()));
}
