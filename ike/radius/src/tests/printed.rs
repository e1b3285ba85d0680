//! The examples of RFC 2865 section 7: requests, answers and their authenticators.

use zeroize::Zeroizing;

use crate::Secret;
use crate::attribute::Kind;
use crate::packet::{Code, Packet};
use crate::secret::{Demand, Forged};

const SECRET: &[u8] = b"xyzzy5461";
/// Section 7.1: a user asks for Telnet, by a password.
const TELNET: [&str; 2] = [
    "010000380f403f9473978057bd83d5cb98f4227a01066e656d6f02120dbe708d93d413ce3196e43f782a0aee0406c0a80110050600000003",
    "0200002686fe220e7624ba2a1005f6bf9b55e0b20606000000010f06000000000e06c0a80103",
];
/// Section 7.2: a user asks for PPP, by CHAP.
const FRAMED: [&str; 2] = [
    "010100472aee86f08d0d55969ca5978e0d3367a20108666c6f707379031316e97557c316185895f293ff6344077275\
     0406c0a80110050600000014060600000002070600000001",
    "0201003815efbc7dab26cfa3dc34d9c03c8601a40606000000020706000000010806fffffffe0a06000000020d06000000010c06000005dc",
];

fn octets(text: &str) -> Vec<u8> {
    hex::decode(text).expect("hexadecimal digits")
}

fn secret() -> Secret {
    Secret::new(Zeroizing::new(SECRET.to_vec()))
}

#[test]
fn answers_of_the_rfc_are_authentic() {
    for [request, response] in [TELNET, FRAMED] {
        let (request, response) = (octets(request), octets(response));
        let (request, response) = (Packet::parse(&request).unwrap(), Packet::parse(&response).unwrap());
        assert_eq!((request.code(), response.code()), (Code::ACCESS_REQUEST, Code::ACCESS_ACCEPT));
        assert_eq!(request.identifier(), response.identifier());
        let authenticator = request.authenticator();
        let check = |demand| secret().check_response(&response, &authenticator, demand);
        assert_eq!(check(Demand::AuthenticatorAlone), Ok(()));
        assert_eq!(check(Demand::Mac), Err(Forged::NoMac));
        let other = Secret::new(Zeroizing::new(b"xyzzy5462".to_vec()));
        let wrong = other.check_response(&response, &authenticator, Demand::AuthenticatorAlone);
        assert_eq!(wrong, Err(Forged::Authenticator));
    }
}

#[test]
fn any_flipped_bit_of_an_answer_shows() {
    let (request, response) = (octets(FRAMED[0]), octets(FRAMED[1]));
    let authenticator = Packet::parse(&request).unwrap().authenticator();
    for bit in 0..response.len() * 8 {
        let mut flipped = response.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let Ok(packet) = Packet::parse(&flipped) else { continue };
        let checked = secret().check_response(&packet, &authenticator, Demand::AuthenticatorAlone);
        assert_eq!(checked, Err(Forged::Authenticator), "bit {bit}");
    }
}

#[test]
fn attributes_of_the_rfc_are_read() {
    let request = octets(TELNET[0]);
    let packet = Packet::parse(&request).unwrap();
    assert_eq!(packet.first(Kind::USER_NAME), Some(b"nemo".as_slice()));
    assert_eq!(packet.first(Kind::NAS_PORT), Some([0, 0, 0, 3].as_slice()));
    assert_eq!(packet.first(Kind::NAS_IP_ADDRESS), Some([192, 168, 1, 16].as_slice()));
    assert_eq!(packet.attributes().count(), 4);
    assert_eq!(packet.first(Kind::STATE), None);
}
