//! What happened everywhere so far, and may not happen again.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use baton_ike_proto::host::{Account, Moment};
use baton_ike_proto::wire::{self, Datagram, ExchangeType, Header};

/// Where a key of a Child SA is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Use {
    pub node: usize,
    pub inbound: bool,
    pub spi: u32,
}

/// Which message of which IKE SA: its SPIs, who sent it, and whether it is a response; its Message ID; its fragment.
type Place = ((u64, u64, bool, bool), u32, (u16, u16));
/// Who sealed with which IV: the SPIs and the sender's role are a key.
type Sealing = ((u64, u64, bool), Vec<u8>);

#[derive(Default)]
pub struct History {
    keys: HashMap<Vec<u8>, Vec<Use>>,
    messages: HashMap<Place, Vec<u8>>,
    ivs: HashMap<Sealing, Vec<u8>>,
    /// Sessions of which something was told.
    sessions: HashSet<String>,
    /// Sequence numbers of ESP by key: the last one sent, and the last one taken.
    sequences: HashMap<Vec<u8>, (u64, u64)>,
    story: DefaultHasher,
}

impl History {
    /// A key is installed. It may be in use once at either end, and nowhere else, ever.
    pub fn install(&mut self, key: &[u8], this: Use, is_in_table: bool) -> Result<(), String> {
        let uses = self.keys.entry(key.to_vec()).or_default();
        if uses.contains(&this) {
            return if is_in_table {
                Ok(())
            } else {
                Err(format!("a key came back after its SA was removed: {this:x?}"))
            };
        }
        let may_be =
            |other: &Use| other.node != this.node && other.inbound != this.inbound && other.spi == this.spi;
        if let Some(other) = uses.iter().find(|other| !may_be(other)) {
            return Err(format!("one key in two SAs: {this:x?} and {other:x?}"));
        }
        uses.push(this);
        Ok(())
    }

    /// An SA was there before its node's standby knew of it, and never used.
    pub fn forget_use(&mut self, key: &[u8], this: Use) {
        self.keys.entry(key.to_vec()).or_default().retain(|other| *other != this);
    }

    /// Something is told of a session: it begins once, before all else, whatever happens to who tells of it.
    pub fn account(&mut self, account: &Account) -> Result<(), String> {
        let id = &account.session.id;
        account.session.id.hash(&mut self.story);
        let is_new = self.sessions.insert(id.clone());
        if account.moment == Moment::Start && !is_new {
            return Err(format!("session {id} begins late or twice"));
        }
        Ok(())
    }

    /// Somebody goes on with an older state of a tunnel: what was sent by it and never arrived may have the Message IDs
    /// that both agree upon (RFC 6311 section 5.1), and an IKE SA that it was about to delete, it deletes again.
    pub fn fail_over(&mut self) {
        self.messages.clear();
    }

    /// A packet of ESP leaves (I2).
    pub fn send(&mut self, key: &[u8], sequence: u64) -> Result<(), String> {
        let (sent, _) = self.sequences.entry(key.to_vec()).or_default();
        if sequence <= *sent {
            return Err(format!("sequence number {sequence} was sent already, {sent} is the last"));
        }
        *sent = sequence;
        Ok(())
    }

    /// A packet of ESP is taken (I3).
    pub fn take(&mut self, key: &[u8], sequence: u64) -> Result<(), String> {
        let (_, taken) = self.sequences.entry(key.to_vec()).or_default();
        if sequence <= *taken {
            return Err(format!("sequence number {sequence} was taken already, {taken} is the last"));
        }
        *taken = sequence;
        Ok(())
    }

    /// A number that another story would not have.
    pub fn story(&self) -> u64 {
        self.story.finish()
    }

    /// A datagram goes out.
    pub fn transmit(&mut self, octets: &[u8]) -> Result<(), String> {
        octets.hash(&mut self.story);
        match wire::parse(octets) {
            Err(error) => Err(format!("a datagram that nobody can read: {error}")),
            Ok(Datagram::Plain(header, _)) if header.exchange == ExchangeType::IKE_SA_INIT => {
                self.message(header, (0, 0), octets)
            }
            // A hint about an IKE SA that is lost, with which nothing is exchanged (RFC 7296 section 2.21.4).
            Ok(Datagram::Plain(..)) => Ok(()),
            Ok(Datagram::Encrypted(sealed)) => {
                self.sealing(sealed.header, sealed.body, octets)?;
                self.message(sealed.header, (0, 0), octets)
            }
            Ok(Datagram::Fragment(fragment)) => {
                self.sealing(fragment.sealed.header, fragment.sealed.body, octets)?;
                self.message(fragment.sealed.header, (fragment.number, fragment.total), octets)
            }
        }
    }

    /// One Message ID, one content (RFC 7296 section 2.1). IKE_SA_INIT begins again with a cookie or another group.
    fn message(&mut self, header: Header, fragment: (u16, u16), octets: &[u8]) -> Result<(), String> {
        if header.responder_spi == 0 {
            return Ok(());
        }
        // Those that agree about Message IDs have none of their own (RFC 6311 section 5.1).
        if header.message_id == 0 && header.exchange == ExchangeType::INFORMATIONAL {
            return Ok(());
        }
        let flags = header.flags;
        let place = (header.initiator_spi, header.responder_spi, flags.initiator, flags.response);
        let place = (place, header.message_id, fragment);
        let before = self.messages.entry(place).or_insert_with(|| octets.to_vec());
        if before == octets {
            Ok(())
        } else {
            Err(format!("a Message ID has two contents: {header:x?} {fragment:?}"))
        }
    }

    /// No key seals twice with one IV (I1). Eight octets are the whole IV with AEAD, and half of it with CBC.
    fn sealing(&mut self, header: Header, body: &[u8], octets: &[u8]) -> Result<(), String> {
        let iv = body[..8].to_vec();
        let sealing = ((header.initiator_spi, header.responder_spi, header.flags.initiator), iv);
        let before = self.ivs.entry(sealing).or_insert_with(|| octets.to_vec());
        if before == octets { Ok(()) } else { Err(format!("an IV is used twice: {header:x?}")) }
    }
}
