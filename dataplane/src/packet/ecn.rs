//! ECN at both ends of a tunnel (RFC 6040).

/// Mask of the two ECN bits in the traffic class.
pub const MASK: u8 = 3;
/// Not ECN-capable.
pub const NOT_ECT: u8 = 0;
/// ECN-capable, codepoint 1.
pub const ECT_1: u8 = 1;
/// ECN-capable, codepoint 0.
pub const ECT_0: u8 = 2;
/// Congestion experienced.
pub const CE: u8 = 3;

/// What a decapsulator does with the inner ECN field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decapsulated {
    /// Forward with this field.
    Forward(u8),
    /// Forward with this field; the combination should not occur and is counted (the RFC's potentially
    /// dangerous ones).
    Unexpected(u8),
    /// Congestion was signalled on a packet whose ends cannot react: drop it.
    Drop,
}

/// The outer field at encapsulation: the normal mode copies (RFC 6040 section 4.1).
#[inline]
pub const fn encapsulate(inner: u8) -> u8 {
    inner & MASK
}

/// Figure 4 of RFC 6040 section 4.2.
#[inline]
pub const fn decapsulate(inner: u8, outer: u8) -> Decapsulated {
    use Decapsulated::{Drop, Forward, Unexpected};
    match (inner & MASK, outer & MASK) {
        (NOT_ECT, NOT_ECT) => Forward(NOT_ECT),
        (NOT_ECT, ECT_0 | ECT_1) => Unexpected(NOT_ECT),
        (NOT_ECT, _) => Drop,
        (ECT_0, NOT_ECT | ECT_0) => Forward(ECT_0),
        (ECT_0 | ECT_1, CE) => Forward(CE),
        (ECT_0 | ECT_1, _) => Forward(ECT_1),
        (_, ECT_1) => Unexpected(CE),
        _ => Forward(CE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figure_4_of_rfc_6040() {
        use Decapsulated::{Drop, Forward, Unexpected};
        let outer = [NOT_ECT, ECT_0, ECT_1, CE];
        let table = [
            (NOT_ECT, [Forward(NOT_ECT), Unexpected(NOT_ECT), Unexpected(NOT_ECT), Drop]),
            (ECT_0, [Forward(ECT_0), Forward(ECT_0), Forward(ECT_1), Forward(CE)]),
            (ECT_1, [Forward(ECT_1), Forward(ECT_1), Forward(ECT_1), Forward(CE)]),
            (CE, [Forward(CE), Forward(CE), Unexpected(CE), Forward(CE)]),
        ];
        for (inner, row) in table {
            for (outer, expected) in outer.into_iter().zip(row) {
                assert_eq!(decapsulate(inner, outer), expected, "inner {inner} outer {outer}");
            }
        }
    }
}
