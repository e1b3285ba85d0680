//! EAP-MSCHAPv2's messages (draft-kamath-pppext-eap-mschapv2 section 2).

use crate::eap::packet::Malformed;

const CHALLENGE: u8 = 1;
const RESPONSE: u8 = 2;
const SUCCESS: u8 = 3;
const FAILURE: u8 = 4;
/// What a response has before the name: the peer's challenge, 8 reserved octets, the NT response, flags.
const VALUE: usize = 49;

/// What the server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FromServer<'a> {
    Challenge {
        id: u8,
        challenge: &'a [u8; 16],
    },
    /// `S=`, hexadecimal digits, and something for people.
    Success {
        message: &'a [u8],
    },
    /// `E=`, an error number, and more.
    Failure {
        message: &'a [u8],
    },
}

/// What the peer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FromPeer<'a> {
    Response {
        challenge: &'a [u8; 16],
        response: &'a [u8; 24],
        name: &'a [u8],
    },
    /// It has seen that the server knows the password.
    Success,
    /// It gives up.
    Failure,
}

/// Op-code, identifier and what follows the length.
fn head(data: &[u8]) -> Result<(u8, u8, &[u8]), Malformed> {
    let Some((&[op, id, high, low], rest)) = data.split_first_chunk::<4>() else {
        return Err(Malformed("an MSCHAPv2 message without its header"));
    };
    if usize::from(u16::from_be_bytes([high, low])) != data.len() {
        return Err(Malformed("an MSCHAPv2 message of another length than it says"));
    }
    Ok((op, id, rest))
}

impl<'a> FromServer<'a> {
    pub(super) fn parse(data: &'a [u8]) -> Result<Self, Malformed> {
        match head(data)? {
            (CHALLENGE, id, rest) => match rest.split_first_chunk::<17>() {
                Some((value, _)) if value[0] == 16 => {
                    let challenge = value[1..].first_chunk().ok_or(Malformed("a short challenge"))?;
                    Ok(Self::Challenge { id, challenge })
                }
                _ => Err(Malformed("a challenge that is not 16 octets long")),
            },
            (SUCCESS, _, message) => Ok(Self::Success { message }),
            (FAILURE, _, message) => Ok(Self::Failure { message }),
            _ => Err(Malformed("an MSCHAPv2 request of unknown kind")),
        }
    }
}

impl<'a> FromPeer<'a> {
    pub(super) fn parse(data: &'a [u8]) -> Result<Self, Malformed> {
        match data.first() {
            // Some peers send the identifier and the length as well.
            Some(&SUCCESS) => Ok(Self::Success),
            Some(&FAILURE) => Ok(Self::Failure),
            Some(&RESPONSE) => Self::parse_response(data),
            _ => Err(Malformed("an MSCHAPv2 response of unknown kind")),
        }
    }

    fn parse_response(data: &'a [u8]) -> Result<Self, Malformed> {
        let wrong = Malformed("an MSCHAPv2 response of another form");
        let (_, _, rest) = head(data)?;
        let (&[length], rest) = rest.split_first_chunk::<1>().ok_or(wrong)?;
        let (value, name) = rest.split_first_chunk::<VALUE>().ok_or(wrong)?;
        if usize::from(length) != VALUE {
            return Err(wrong);
        }
        let challenge = value.first_chunk().ok_or(wrong)?;
        let response = value[24..].first_chunk().ok_or(wrong)?;
        Ok(Self::Response { challenge, response, name })
    }
}

fn message(op: u8, id: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length = 4 + parts.iter().map(|part| part.len()).sum::<usize>();
    let [high, low] = (length as u16).to_be_bytes();
    let mut octets = vec![op, id, high, low];
    for part in parts {
        octets.extend_from_slice(part);
    }
    octets
}

pub(super) fn challenge(id: u8, challenge: &[u8; 16], name: &[u8]) -> Vec<u8> {
    message(CHALLENGE, id, &[&[16], challenge, name])
}

pub(super) fn response(id: u8, challenge: &[u8; 16], response: &[u8; 24], name: &[u8]) -> Vec<u8> {
    message(RESPONSE, id, &[&[VALUE as u8], challenge, &[0; 8], response, &[0], name])
}

/// RFC 2759 section 5.
pub(super) fn success(id: u8, proof: &[u8; 20]) -> Vec<u8> {
    message(SUCCESS, id, &[format!("S={} M=Welcome", uppercase(proof)).as_bytes()])
}

/// RFC 2759 section 6: error 691, wrong name or password.
pub(super) fn failure(id: u8, may_retry: bool, challenge: &[u8; 16]) -> Vec<u8> {
    let retry = u8::from(may_retry);
    let text = format!("E=691 R={retry} C={} V=3 M=Wrong name or password", uppercase(challenge));
    message(FAILURE, id, &[text.as_bytes()])
}

pub(super) const SUCCESS_RESPONSE: &[u8] = &[SUCCESS];
pub(super) const FAILURE_RESPONSE: &[u8] = &[FAILURE];

fn uppercase(octets: &[u8]) -> String {
    use std::fmt::Write as _;
    octets.iter().fold(String::new(), |mut text, octet| {
        let _ = write!(text, "{octet:02X}");
        text
    })
}

/// The octets that `S=` tells.
pub(super) fn proof(message: &[u8]) -> Option<[u8; 20]> {
    let digits = message.strip_prefix(b"S=")?.get(..40)?;
    let mut octets = [0; 20];
    for (pair, octet) in digits.chunks_exact(2).zip(&mut octets) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        *octet = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
    }
    Some(octets)
}

/// The number that `E=` tells.
pub(super) fn error_number(message: &[u8]) -> Option<u32> {
    let digits = message.strip_prefix(b"E=")?;
    let end = digits.iter().position(|digit| !digit.is_ascii_digit()).unwrap_or(digits.len());
    std::str::from_utf8(digits.get(..end.min(10))?).ok()?.parse().ok()
}
