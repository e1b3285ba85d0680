//! charon's control protocol, as far as starting exchanges without waiting for them needs it: swanctl would be a process
//! for each. A packet is its length (32 bits), a type and what the type says; messages are trees of elements.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::error::{LabError, Result};

const REQUEST: u8 = 0;
const RESPONSE: u8 = 1;
const KEY_VALUE: u8 = 3;
const PATIENCE: Duration = Duration::from_secs(30);
const MAX_PACKET: u32 = 512 * 1024;

/// An open connection to a charon.
#[derive(Debug)]
pub struct Vici(UnixStream);

impl Vici {
    pub(super) fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).map_err(LabError::path("connect to", socket))?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(LabError::path("set up", socket))?;
        Ok(Self(stream))
    }

    /// Begins to set up a Child SA, and its IKE SA if there is none; does not wait for it.
    ///
    /// # Errors
    /// If charon refuses.
    pub fn initiate(&mut self, connection: &str, child: &str) -> Result<()> {
        let message = [("ike", connection), ("child", child), ("timeout", "-1")];
        let answer = self.exchange("initiate", &message).map_err(LabError::io("speak with charon"))?;
        let succeeded = element("success", "yes");
        if answer.windows(succeeded.len()).any(|window| window == succeeded) {
            return Ok(());
        }
        Err(LabError::Unexpected(format!(
            "charon did not begin {child}: {}",
            String::from_utf8_lossy(&answer)
        )))
    }

    fn exchange(&mut self, command: &str, values: &[(&str, &str)]) -> std::io::Result<Vec<u8>> {
        let mut packet = vec![REQUEST, command.len() as u8];
        packet.extend_from_slice(command.as_bytes());
        for (key, value) in values {
            packet.extend_from_slice(&element(key, value));
        }
        self.0.write_all(&(packet.len() as u32).to_be_bytes())?;
        self.0.write_all(&packet)?;
        self.response()
    }

    /// The message of the next response; events are passed over.
    fn response(&mut self) -> std::io::Result<Vec<u8>> {
        loop {
            let mut length = [0; 4];
            self.0.read_exact(&mut length)?;
            let mut packet = vec![0; u32::from_be_bytes(length).min(MAX_PACKET) as usize];
            self.0.read_exact(&mut packet)?;
            if packet.first() == Some(&RESPONSE) {
                return Ok(packet.split_off(1));
            }
        }
    }
}

fn element(key: &str, value: &str) -> Vec<u8> {
    let mut octets = vec![KEY_VALUE, key.len() as u8];
    octets.extend_from_slice(key.as_bytes());
    octets.extend_from_slice(&(value.len() as u16).to_be_bytes());
    octets.extend_from_slice(value.as_bytes());
    octets
}
