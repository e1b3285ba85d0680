use std::fmt;

use super::{Header, Payload};

/// A message in one line of a log: `IKE_SA_INIT request 0 [ SA KE NONCE N(COOKIE) ]`.
pub struct Summary<'a> {
    /// Its header.
    pub header: &'a Header,
    /// Its payloads, decrypted.
    pub payloads: &'a [Payload],
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = if self.header.flags.response { "response" } else { "request" };
        write!(f, "{} {direction} {} [ ", self.header.exchange, self.header.message_id)?;
        for payload in self.payloads {
            match payload {
                Payload::Notify(notify) => write!(f, "N({}) ", notify.kind)?,
                payload => write!(f, "{} ", payload.kind())?,
            }
        }
        f.write_str("]")
    }
}
