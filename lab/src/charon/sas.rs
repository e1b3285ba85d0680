//! What `swanctl --list-sas` shows.

use crate::error::{LabError, Result};

use super::Section;

/// An IKE SA of charon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IkeSa {
    /// Its connection.
    pub name: String,
    /// `ESTABLISHED` when it stands.
    pub state: String,
    /// SPIs of initiator and responder, in hexadecimal.
    pub spis: (String, String),
    /// Own address and port.
    pub local: (String, String),
    /// The peer's address and port.
    pub remote: (String, String),
    /// The peer's identity.
    pub remote_identity: String,
    /// Own inner addresses that the peer gave.
    pub local_virtual: Vec<String>,
    /// Inner addresses that were given to the peer.
    pub remote_virtual: Vec<String>,
    /// Everything that swanctl says of it.
    pub all: Section,
    /// Its Child SAs.
    pub children: Vec<ChildSa>,
}

/// A Child SA of charon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildSa {
    /// Its configured name.
    pub name: String,
    /// `INSTALLED` when it stands.
    pub state: String,
    /// Own SPI.
    pub inbound_spi: u32,
    /// The peer's SPI.
    pub outbound_spi: u32,
    /// Its own selectors.
    pub local_selectors: Vec<String>,
    /// The peer's selectors.
    pub remote_selectors: Vec<String>,
    /// Everything that swanctl says of it.
    pub all: Section,
}

pub(crate) fn parse(raw: &str) -> Result<Vec<IkeSa>> {
    let events = Section::parse_events(raw, "list-sa")?;
    events.iter().flat_map(Section::sections).map(|(name, section)| ike_sa(name, section)).collect()
}

fn ike_sa(name: &str, section: &Section) -> Result<IkeSa> {
    let text = |key: &str| section.get(key).unwrap_or_default().to_owned();
    let children = section.section("child-sas").into_iter().flat_map(Section::sections);
    Ok(IkeSa {
        name: name.to_owned(),
        state: text("state"),
        spis: (text("initiator-spi"), text("responder-spi")),
        local: (text("local-host"), text("local-port")),
        remote: (text("remote-host"), text("remote-port")),
        remote_identity: text("remote-id"),
        local_virtual: section.list("local-vips").to_vec(),
        remote_virtual: section.list("remote-vips").to_vec(),
        all: section.clone(),
        children: children.map(|(_, section)| child_sa(section)).collect::<Result<_>>()?,
    })
}

fn child_sa(section: &Section) -> Result<ChildSa> {
    let text = |key: &str| section.get(key).unwrap_or_default().to_owned();
    Ok(ChildSa {
        name: text("name"),
        state: text("state"),
        inbound_spi: spi(section, "spi-in")?,
        outbound_spi: spi(section, "spi-out")?,
        local_selectors: section.list("local-ts").to_vec(),
        remote_selectors: section.list("remote-ts").to_vec(),
        all: section.clone(),
    })
}

/// An SPI; 0 while it has none.
fn spi(section: &Section, key: &str) -> Result<u32> {
    section.get(key).map_or(Ok(0), |text| {
        u32::from_str_radix(text, 16).map_err(|_| LabError::Unexpected(format!("{text} is not an SPI")))
    })
}
