//! The IKE parts of contexts, from and to the IKE daemon, which is asked only where a tunnel was negotiated.

use baton_ctx_transfer::IkePart;
use baton_dataplane::config::Config;
use baton_dataplane::control::{Client, ClientError, Code};
use baton_ike::control::{ContextAnswer, Done, IkeEntry, Request, RestoreAnswer};
use serde::de::DeserializeOwned;

use super::connect;
use crate::dpctl::error::DpctlError;

/// A connection to the IKE daemon from the first question on.
pub(in crate::dpctl) struct IkeContexts<'a> {
    config: &'a Config,
    client: Option<Client>,
    /// Tunnels that were frozen here, and are not where they belong yet: they are thawed in the end.
    frozen: Vec<String>,
}

impl<'a> IkeContexts<'a> {
    pub(in crate::dpctl) fn new(config: &'a Config) -> Self {
        Self { config, client: None, frozen: Vec::new() }
    }

    /// After a refusal the daemon may have hung up: the next question begins anew.
    fn request<T: DeserializeOwned>(&mut self, request: &Request) -> Result<T, DpctlError> {
        let mut client = match self.client.take() {
            Some(client) => client,
            None => connect(self.config)?,
        };
        let answer = client.request(request)?;
        self.client = Some(client);
        Ok(answer)
    }

    /// Its IKE part, as it is now.
    pub(in crate::dpctl) fn get(&mut self, name: &str) -> Result<IkePart, DpctlError> {
        let answer: ContextAnswer = self.request(&Request::ContextGet { name: name.to_owned() })?;
        let part = from_hexadecimal(&answer.context).and_then(IkePart::new);
        part.ok_or_else(|| DpctlError::IkePart(name.to_owned()))
    }

    /// From now on nothing is sent or answered for it, until this is dropped.
    pub(in crate::dpctl) fn freeze(&mut self, name: &str) -> Result<(), DpctlError> {
        let tunnel: IkeEntry = self.request(&Request::IkeShow { name: name.to_owned() })?;
        let _: Done = self.request(&Request::Freeze { name: name.to_owned() })?;
        // What another command has frozen before is not ours to thaw.
        if !tunnel.frozen {
            self.frozen.push(name.to_owned());
        }
        Ok(())
    }

    /// Goes on with a tunnel; one that the daemon does not have is nothing to go on with.
    pub(in crate::dpctl) fn thaw(&mut self, name: &str, advanced: u64) -> Result<bool, DpctlError> {
        let done = self.request::<Done>(&Request::Thaw { name: name.to_owned(), advanced });
        Ok(unless_absent(done)?.is_some())
    }

    /// What was frozen stays so: its context is out.
    pub(in crate::dpctl) fn keep_frozen(&mut self) {
        self.frozen.clear();
    }

    /// What was frozen is forgotten here: its context is safe.
    pub(in crate::dpctl) fn release(&mut self) -> Result<(), DpctlError> {
        for name in std::mem::take(&mut self.frozen) {
            let done: Result<Done, _> = self.request(&Request::Release { name: name.clone() });
            done.map_err(|error| DpctlError::NotReleased { name, problem: error.to_string() })?;
        }
        Ok(())
    }

    /// Whether a tunnel is here, and if so, whether it is frozen.
    pub(in crate::dpctl) fn state(&mut self, name: &str) -> Result<Option<bool>, DpctlError> {
        let found = self.request::<IkeEntry>(&Request::IkeShow { name: name.to_owned() });
        Ok(unless_absent(found)?.map(|tunnel| tunnel.frozen))
    }

    /// Takes a tunnel over, whose SAs are in the table, both edges advanced by so many packets.
    pub(in crate::dpctl) fn put(&mut self, part: &IkePart, advanced: u64) -> Result<(), DpctlError> {
        let context = to_hexadecimal(part.octets());
        self.request::<RestoreAnswer>(&Request::Restore { context, advanced }).map(drop)
    }
}

impl Drop for IkeContexts<'_> {
    fn drop(&mut self) {
        for name in std::mem::take(&mut self.frozen) {
            let _ = self.thaw(&name, 0);
        }
    }
}

fn unless_absent<T>(answer: Result<T, DpctlError>) -> Result<Option<T>, DpctlError> {
    match answer {
        Err(DpctlError::Client(ClientError::Refused(refusal))) if refusal.code == Code::NotFound => Ok(None),
        answer => answer.map(Some),
    }
}

fn to_hexadecimal(octets: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = octets.iter().flat_map(|octet| [octet >> 4, octet & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

fn from_hexadecimal(text: &str) -> Option<Vec<u8>> {
    let value = |digit: u8| char::from(digit).to_digit(16);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let octets = pairs.iter().map(|[high, low]| Some((value(*high)? << 4 | value(*low)?) as u8));
    octets.collect::<Option<Vec<u8>>>().filter(|_| rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_are_digits_and_back() {
        let octets: Vec<u8> = (0..=255).collect();
        let digits = to_hexadecimal(&octets);
        assert!(digits.starts_with("000102") && digits.ends_with("fdfeff"));
        assert_eq!(from_hexadecimal(&digits), Some(octets));
        assert_eq!((from_hexadecimal("0"), from_hexadecimal("0g")), (None, None));
    }
}
