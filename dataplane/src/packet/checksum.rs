//! The internet checksum (RFC 1071) and its incremental update (RFC 1624).

/// The one's complement sum of `bytes`, not yet complemented.
#[inline]
pub fn sum(bytes: &[u8]) -> u16 {
    let mut words = bytes.chunks_exact(4);
    let mut total: u64 = words
        .by_ref()
        .map(|word| word.first_chunk::<4>().map_or(0, |w| u64::from(u32::from_be_bytes(*w))))
        .sum();
    let mut tail = [0; 4];
    let rest = words.remainder();
    tail[..rest.len()].copy_from_slice(rest);
    total += u64::from(u32::from_be_bytes(tail));
    fold(total)
}

/// Folds carries until 16 bits are left.
#[inline]
pub fn fold(total: u64) -> u16 {
    let total = (total & 0xffff_ffff) + (total >> 32);
    let total = (total & 0xffff) + ((total >> 16) & 0xffff) + (total >> 32);
    let total = (total & 0xffff) + (total >> 16);
    let total = (total & 0xffff) + (total >> 16);
    total as u16
}

/// The sum of an upper layer's pseudo-header, to be folded (RFC 8200 section 8.1, RFC 9293 section 3.1): addresses as
/// numbers, IPv4's in the lowest 32 bits; `length` octets of `protocol` follow.
#[inline]
pub fn pseudo_header(source: u128, destination: u128, protocol: u8, length: usize) -> u64 {
    let halves = |bits: u128| [(bits >> 64) as u64, bits as u64];
    let words = |half: u64| (half >> 32) + (half & 0xffff_ffff);
    let [a, b] = halves(source);
    let [c, d] = halves(destination);
    words(a) + words(b) + words(c) + words(d) + u64::from(protocol) + length as u64
}

/// The checksum to put into a header whose checksum field is zero.
#[inline]
pub fn checksum(bytes: &[u8]) -> u16 {
    !sum(bytes)
}

/// The checksum after one 16-bit word of its data changed (RFC 1624 equation 3).
#[inline]
pub fn update(checksum: u16, old: u16, new: u16) -> u16 {
    !fold(u64::from(!checksum) + u64::from(!old) + u64::from(new))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rfc_1071_example() {
        assert_eq!(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2);
    }

    fn naive(bytes: &[u8]) -> u16 {
        let words = bytes.chunks(2).map(|c| u32::from(c[0]) << 8 | u32::from(*c.get(1).unwrap_or(&0)));
        let mut total: u32 = words.sum();
        while total > 0xffff {
            total = (total & 0xffff) + (total >> 16);
        }
        total as u16
    }

    proptest! {
        #[test]
        fn sum_equals_the_definition(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(sum(&bytes), naive(&bytes));
        }

        #[test]
        fn update_equals_computing_anew(mut words in proptest::collection::vec(any::<u16>(), 10), new: u16) {
            let bytes = |w: &[u16]| w.iter().flat_map(|x| x.to_be_bytes()).collect::<Vec<_>>();
            // A header is never all zero, so the two representations of zero do not meet.
            words[9] |= 0x4000;
            let before = checksum(&bytes(&words));
            let updated = update(before, words[3], new);
            words[3] = new;
            prop_assert_eq!(updated, checksum(&bytes(&words)));
        }
    }
}
