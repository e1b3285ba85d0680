//! IP prefixes and the longest-prefix match that SPD and routes share.

use std::cmp::Reverse;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use thiserror::Error;

/// An IP prefix in canonical form: host bits are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

/// Why a text or a pair is not a prefix.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PrefixError {
    /// Not `address/length`.
    #[error("`{0}` is not a prefix; write it as address/length, for example 10.2.0.0/16")]
    Syntax(String),
    /// More bits than the address family has.
    #[error("a prefix of {0} has at most {max} bits, not {1}", max = if .0.is_ipv4() { 32 } else { 128 })]
    Length(IpAddr, u8),
    /// Bits set behind the prefix length.
    #[error("{0}/{1} has host bits set; write the network's own address")]
    HostBits(IpAddr, u8),
}

impl Prefix {
    /// A prefix of `length` bits; host bits must be zero.
    ///
    /// # Errors
    /// [`PrefixError::Length`] and [`PrefixError::HostBits`].
    pub fn new(address: IpAddr, length: u8) -> Result<Self, PrefixError> {
        let width = if address.is_ipv4() { 32 } else { 128 };
        if length > width {
            return Err(PrefixError::Length(address, length));
        }
        let prefix = Self { address, length };
        if prefix.first() == address { Ok(prefix) } else { Err(PrefixError::HostBits(address, length)) }
    }

    /// The prefix that holds exactly one address.
    pub const fn host(address: IpAddr) -> Self {
        let length = if address.is_ipv4() { 32 } else { 128 };
        Self { address, length }
    }

    /// The network of that length that holds this one; this one if it is no longer than that.
    #[must_use]
    pub fn truncated(&self, length: u8) -> Self {
        let length = length.min(self.length);
        let address = Self { address: self.address, length }.first();
        Self { address, length }
    }

    /// The network's address.
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// Bits of the network part.
    pub const fn length(&self) -> u8 {
        self.length
    }

    /// The lowest address.
    pub fn first(&self) -> IpAddr {
        match self.address {
            IpAddr::V4(a) => Ipv4Addr::from_bits(a.to_bits() & !host_mask_v4(self.length)).into(),
            IpAddr::V6(a) => Ipv6Addr::from_bits(a.to_bits() & !host_mask_v6(self.length)).into(),
        }
    }

    /// The highest address.
    pub fn last(&self) -> IpAddr {
        match self.address {
            IpAddr::V4(a) => Ipv4Addr::from_bits(a.to_bits() | host_mask_v4(self.length)).into(),
            IpAddr::V6(a) => Ipv6Addr::from_bits(a.to_bits() | host_mask_v6(self.length)).into(),
        }
    }

    /// Whether `address` lies in this prefix; never across families.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.first() <= address && address <= self.last() && self.address.is_ipv4() == address.is_ipv4()
    }
}

fn host_mask_v4(length: u8) -> u32 {
    u32::MAX.checked_shr(u32::from(length)).unwrap_or(0)
}

fn host_mask_v6(length: u8) -> u128 {
    u128::MAX.checked_shr(u32::from(length)).unwrap_or(0)
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let syntax = || PrefixError::Syntax(text.to_owned());
        let (address, length) = text.split_once('/').ok_or_else(syntax)?;
        Self::new(address.parse().map_err(|_| syntax())?, length.parse().map_err(|_| syntax())?)
    }
}

/// An immutable longest-prefix match: the address line cut into intervals, each with the value of its longest
/// prefix, so that a lookup is one binary search whatever the mix of lengths.
#[derive(Clone, Debug)]
pub struct PrefixTable<T> {
    v4: Intervals<u32>,
    v6: Intervals<u128>,
    values: Vec<T>,
}

impl<T> Default for PrefixTable<T> {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl<T> PrefixTable<T> {
    /// A table of the given prefixes. Of two equal prefixes the first one counts.
    pub fn new(entries: Vec<(Prefix, T)>) -> Self {
        let mut v4 = Vec::new();
        let mut v6 = Vec::new();
        let mut values = Vec::with_capacity(entries.len());
        for (value, (prefix, payload)) in (0_u32..).zip(entries) {
            match (prefix.first(), prefix.last()) {
                (IpAddr::V4(a), IpAddr::V4(b)) => v4.push((a.to_bits(), b.to_bits(), value)),
                (IpAddr::V6(a), IpAddr::V6(b)) => v6.push((a.to_bits(), b.to_bits(), value)),
                _ => unreachable!("both ends of a prefix are of its family"),
            }
            values.push(payload);
        }
        Self {
            v4: Intervals::new(v4, |a| a.checked_add(1)),
            v6: Intervals::new(v6, |a| a.checked_add(1)),
            values,
        }
    }

    /// The value of the longest prefix that holds `address`.
    #[inline]
    pub fn lookup(&self, address: IpAddr) -> Option<&T> {
        let value = match address {
            IpAddr::V4(a) => self.v4.find(a.to_bits()),
            IpAddr::V6(a) => self.v6.find(a.to_bits()),
        };
        value.and_then(|v| self.values.get(v as usize))
    }

    /// All values, in the order in which they were given.
    pub fn values(&self) -> &[T] {
        &self.values
    }
}

/// Interval `i` runs from `starts[i]` to just before `starts[i + 1]`.
#[derive(Clone, Debug)]
struct Intervals<A> {
    starts: Vec<A>,
    values: Vec<Option<u32>>,
}

impl<A: Copy + Ord> Intervals<A> {
    /// Sweeps over (first, last, value) ranges of which any two are nested or disjoint, as prefixes are.
    fn new(mut ranges: Vec<(A, A, u32)>, next: impl Fn(A) -> Option<A>) -> Self {
        // Outer ranges before the inner ones that start with them; of equals the first given stays innermost.
        ranges.sort_by_key(|&(first, last, value)| (first, Reverse(last), Reverse(value)));
        let mut table = Self { starts: Vec::new(), values: Vec::new() };
        let mut open: Vec<(A, u32)> = Vec::new();
        for (first, last, value) in ranges {
            table.close(&mut open, Some(first), &next);
            table.cut(first, Some(value));
            open.push((last, value));
        }
        table.close(&mut open, None, &next);
        table
    }

    /// Ends the open ranges that lie wholly before `until`.
    fn close(&mut self, open: &mut Vec<(A, u32)>, until: Option<A>, next: &impl Fn(A) -> Option<A>) {
        while let Some(&(last, _)) = open.last() {
            if until.is_some_and(|u| u <= last) {
                break;
            }
            open.pop();
            if let Some(after) = next(last) {
                self.cut(after, open.last().map(|&(_, value)| value));
            }
        }
    }

    fn cut(&mut self, start: A, value: Option<u32>) {
        if self.starts.last() == Some(&start) {
            self.values.pop();
        } else {
            self.starts.push(start);
        }
        self.values.push(value);
    }

    #[inline]
    fn find(&self, address: A) -> Option<u32> {
        let after = self.starts.partition_point(|start| *start <= address);
        after.checked_sub(1).and_then(|i| self.values[i])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parses_and_refuses() {
        assert_eq!("10.2.0.0/16".parse::<Prefix>().unwrap().to_string(), "10.2.0.0/16");
        assert_eq!("::/0".parse::<Prefix>().unwrap().length(), 0);
        assert!(matches!("10.2.0.1/16".parse::<Prefix>(), Err(PrefixError::HostBits(..))));
        assert!(matches!("10.2.0.0/33".parse::<Prefix>(), Err(PrefixError::Length(..))));
        assert!(matches!("10.2.0.0".parse::<Prefix>(), Err(PrefixError::Syntax(_))));
    }

    fn prefix() -> impl Strategy<Value = Prefix> {
        // Few distinct bits, so that prefixes nest and meet often; both ends of the address line occur.
        (any::<u8>(), any::<bool>(), 0_u8..=32).prop_map(|(top, low, length)| {
            let bits = u32::from(top & 0b1110_0001) << 24 | if low { 0xff } else { 0 };
            let address = Ipv4Addr::from_bits(bits & !host_mask_v4(length));
            Prefix::new(address.into(), length).unwrap()
        })
    }

    proptest! {
        #[test]
        fn lookup_is_the_longest_match(
            prefixes in proptest::collection::vec(prefix(), 0..20),
            probes in proptest::collection::vec(any::<u32>(), 1..20),
        ) {
            let table = PrefixTable::new(prefixes.iter().copied().enumerate().map(|(i, p)| (p, i)).collect());
            let edges = prefixes.iter().flat_map(|p| [p.first(), p.last()]);
            let probes = probes.into_iter().map(|p| IpAddr::from(Ipv4Addr::from_bits(p))).chain(edges);
            for address in probes {
                let naive = (0..prefixes.len())
                    .filter(|&i| prefixes[i].contains(address))
                    .min_by_key(|&i| (Reverse(prefixes[i].length()), i));
                prop_assert_eq!(table.lookup(address).copied(), naive);
            }
        }
    }
}
