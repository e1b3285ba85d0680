//! The headers of a tunnel: what the outer one gets at encapsulation, what the inner one keeps at decapsulation
//! (RFC 4301 section 5.1.2.1, RFC 6040).

use std::net::Ipv4Addr;

use baton_sad::{DfPolicy, DscpPolicy};

use crate::drop_reason::DropReason;
use crate::packet::ecn;
use crate::packet::ipv4::{self, HEADER, Ipv4Fields, Ipv4Header, Ipv4Template};

/// TTL of the outer header: the gateway is its sender (RFC 4301 section 5.1.2.1).
const OUTER_TTL: u8 = 64;

/// How an SA's outer headers are made.
#[derive(Clone, Copy, Debug)]
pub struct OuterHeader {
    template: Ipv4Template,
    dscp: DscpPolicy,
    df: DfPolicy,
}

impl OuterHeader {
    /// For an SA between these addresses.
    pub fn new(source: Ipv4Addr, destination: Ipv4Addr, dscp: DscpPolicy, df: DfPolicy) -> Self {
        Self { template: Ipv4Template::new(source, destination, ipv4::ESP, OUTER_TTL), dscp, df }
    }

    /// Writes the header in front of the ESP packet at `esp` (an offset into `buffer`) of `length` octets.
    /// Returns its offset.
    ///
    /// # Errors
    /// [`DropReason::Oversized`] when there is no room in front, or too much behind.
    #[inline(always)]
    pub fn emit_before(
        &self,
        buffer: &mut [u8],
        esp: usize,
        length: usize,
        inner: &Ipv4Header,
        identification: u16,
    ) -> Result<usize, DropReason> {
        let start = esp.checked_sub(HEADER).ok_or(DropReason::Oversized)?;
        let room = buffer.get_mut(start..esp).ok_or(DropReason::Oversized)?;
        let total_length = u16::try_from(HEADER + length).map_err(|_| DropReason::Oversized)?;
        room.copy_from_slice(&self.template.emit(Ipv4Fields {
            total_length,
            traffic_class: self.traffic_class(inner.traffic_class),
            identification,
            dont_fragment: self.dont_fragment(inner),
        }));
        Ok(start)
    }

    /// ECN is copied whatever the DSCP does (RFC 6040 section 4.1).
    #[inline]
    fn traffic_class(&self, inner: u8) -> u8 {
        match self.dscp {
            DscpPolicy::Copy => inner,
            DscpPolicy::Set(dscp) => dscp << 2 | ecn::encapsulate(inner),
        }
    }

    /// RFC 4301 section 8.1.
    #[inline]
    fn dont_fragment(&self, inner: &Ipv4Header) -> bool {
        match self.df {
            DfPolicy::Copy => inner.dont_fragment(),
            DfPolicy::Set => true,
            DfPolicy::Clear => false,
        }
    }
}

/// The inner ECN field after decapsulation, put in place. Returns whether the combination was unexpected.
///
/// # Errors
/// [`DropReason::EcnDrop`] (RFC 6040 section 4.2).
#[inline(always)]
pub fn combine_ecn(packet: &mut [u8], inner: u8, outer: u8) -> Result<bool, DropReason> {
    let (field, unexpected) = match ecn::decapsulate(inner, outer) {
        ecn::Decapsulated::Forward(field) => (field, false),
        ecn::Decapsulated::Unexpected(field) => (field, true),
        ecn::Decapsulated::Drop => return Err(DropReason::EcnDrop),
    };
    if field != inner & ecn::MASK {
        ipv4::set_traffic_class(packet, inner & !ecn::MASK | field);
    }
    Ok(unexpected)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inner(class: u8, dont_fragment: bool) -> Vec<u8> {
        let template = Ipv4Template::new([10, 1, 0, 1].into(), [10, 2, 0, 1].into(), ipv4::UDP, 64);
        let fields = Ipv4Fields { total_length: 20, traffic_class: class, identification: 1, dont_fragment };
        template.emit(fields).to_vec()
    }

    fn outer(dscp: DscpPolicy, df: DfPolicy, class: u8, dont_fragment: bool) -> Ipv4Header {
        let header = OuterHeader::new([192, 0, 2, 1].into(), [192, 0, 2, 2].into(), dscp, df);
        let about = Ipv4Header::parse(&inner(class, dont_fragment)).unwrap();
        let mut buffer = [0; 64];
        let start = header.emit_before(&mut buffer, 24, 40, &about, 7).unwrap();
        Ipv4Header::parse(&buffer[start..]).unwrap()
    }

    #[test]
    fn outer_fields_follow_the_policies() {
        for class in [0, 0b1011_1001, 0b1011_1011] {
            let copied = outer(DscpPolicy::Copy, DfPolicy::Copy, class, true);
            assert_eq!((copied.traffic_class, copied.ttl, copied.dont_fragment()), (class, 64, true));
            let set = outer(DscpPolicy::Set(46), DfPolicy::Clear, class, true);
            assert_eq!((set.traffic_class, set.dont_fragment()), (46 << 2 | class & 3, false));
        }
        assert!(!outer(DscpPolicy::Copy, DfPolicy::Copy, 0, false).dont_fragment());
        assert!(outer(DscpPolicy::Copy, DfPolicy::Set, 0, false).dont_fragment());
    }

    #[test]
    fn the_inner_header_stays_right() {
        for dscp in [0, 46 << 2] {
            for (inner_ecn, outer_ecn) in (0..4).flat_map(|i| (0..4).map(move |o| (i, o))) {
                let mut packet = inner(dscp | inner_ecn, false);
                let result = combine_ecn(&mut packet, dscp | inner_ecn, outer_ecn);
                match ecn::decapsulate(inner_ecn, outer_ecn) {
                    ecn::Decapsulated::Drop => assert_eq!(result, Err(DropReason::EcnDrop)),
                    ecn::Decapsulated::Forward(field) | ecn::Decapsulated::Unexpected(field) => {
                        assert_eq!(Ipv4Header::parse(&packet).unwrap().traffic_class, dscp | field);
                    }
                }
            }
        }
    }
}
