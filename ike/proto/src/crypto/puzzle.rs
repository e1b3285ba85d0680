//! Client puzzles (RFC 8019): keys of a PRF that make a string into something with zeros at its end.

use std::fmt;

use super::Prf;
use super::prf::Keyed;

/// How many keys a solution has: more of them, and luck matters less (RFC 8019 section 4.4).
pub const KEYS: usize = 4;
/// Keys are tried in their order, of so many octets: enough for every difficulty that anybody solves.
const KEY: usize = 4;
/// Whether anybody still wants the solution is asked once in so many tries.
const TRIES: u32 = 1 << 10;

/// A puzzle: a PRF, and what it is applied to.
#[derive(Clone, PartialEq, Eq)]
pub struct Puzzle {
    /// The PRF.
    pub prf: Prf,
    /// The cookie, without a header (RFC 8019 section 7.1.3); or the responder's nonce and SPI (section 7.2.3).
    pub octets: Vec<u8>,
}

impl fmt::Debug for Puzzle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Puzzle({} over {} octets)", self.prf.keyword(), self.octets.len())
    }
}

impl Puzzle {
    /// How many zero bits each of the keys gives at least; `None` if it is no solution at all: four different keys of
    /// one length, from one octet to what the PRF prefers (RFC 8019 section 8.2). It takes four times the PRF, whatever
    /// comes.
    pub fn judge(&self, solution: &[u8]) -> Option<u32> {
        let length = solution.len() / KEYS;
        if !solution.len().is_multiple_of(KEYS) || !(1..=self.prf.length()).contains(&length) {
            return None;
        }
        let keys: Vec<&[u8]> = solution.chunks_exact(length).collect();
        let is_repeated = (1..KEYS).any(|at| keys[..at].contains(&keys[at]));
        let zeros = keys.iter().map(|key| self.zeros(key)).min();
        zeros.filter(|_| !is_repeated)
    }

    /// The first keys that give so many zero bits, or `None` as soon as nobody wants them any more.
    pub fn solve(&self, zeros: u32, is_wanted: &dyn Fn() -> bool) -> Option<Vec<u8>> {
        self.search(zeros, KEY, is_wanted)
    }

    fn search(&self, zeros: u32, length: usize, is_wanted: &dyn Fn() -> bool) -> Option<Vec<u8>> {
        let mut found = Vec::with_capacity(KEYS * length);
        for number in 0..=u32::MAX {
            if number.is_multiple_of(TRIES) && !is_wanted() {
                return None;
            }
            let key = &number.to_be_bytes()[KEY - length..];
            if self.zeros(key) >= zeros {
                found.extend_from_slice(key);
            }
            if found.len() == KEYS * length {
                return Some(found);
            }
        }
        None
    }

    fn zeros(&self, key: &[u8]) -> u32 {
        trailing_zeros(Keyed::prf(self.prf, key).mac(&[&self.octets]).as_ref())
    }
}

fn trailing_zeros(octets: &[u8]) -> u32 {
    let zeros = octets.iter().rev().take_while(|octet| **octet == 0).count();
    let rest = octets.iter().rev().nth(zeros).map_or(0, |octet| octet.trailing_zeros());
    8 * zeros as u32 + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cookie of RFC 8019's examples.
    fn puzzle() -> Puzzle {
        let octets = hex::decode("739ae7492d8a810cf5e8dc0f9626c9dda773c5a3").unwrap();
        Puzzle { prf: Prf::HmacSha2_256, octets }
    }

    /// Found by Python's hmac over the cookie of RFC 8019's examples. The keys that the RFC itself gives for that cookie
    /// do not have the results that it prints, neither here nor there.
    #[test]
    fn the_first_keys_are_those_that_another_program_finds() {
        let known = [
            (Prf::HmacSha2_256, 14, 3, "00499b00cd8a01b4dc01c244"),
            (Prf::HmacSha1, 12, 4, "00000134000015e30000362500003aa5"),
            (Prf::HmacSha2_384, 12, 4, "00002b810000344a00004c6800005e58"),
            (Prf::HmacSha2_512, 12, 4, "00001c3400002bf30000440d000052a8"),
        ];
        for (prf, zeros, length, keys) in known {
            let puzzle = Puzzle { prf, ..puzzle() };
            let found = puzzle.search(zeros, length, &|| true).unwrap();
            assert_eq!((hex::encode(&found), puzzle.judge(&found)), (keys.to_owned(), Some(zeros)));
        }
    }

    #[test]
    fn each_key_is_judged_and_the_worst_counts() {
        let zeros =
            ["00499b", "00cd8a", "01b4dc", "01c244"].map(|key| puzzle().zeros(&hex::decode(key).unwrap()));
        assert_eq!(zeros, [14, 18, 15, 16]);
    }

    #[test]
    fn what_is_solved_is_a_solution_for_this_cookie_alone() {
        for prf in [Prf::HmacSha1, Prf::HmacSha2_256, Prf::HmacSha2_384, Prf::HmacSha2_512] {
            let puzzle = Puzzle { prf, ..puzzle() };
            let solution = puzzle.solve(8, &|| true).unwrap();
            assert!(puzzle.judge(&solution).unwrap() >= 8);
            let other = Puzzle { octets: vec![7; 20], prf };
            assert!(other.judge(&solution).is_none_or(|zeros| zeros < 8));
        }
    }

    #[test]
    fn keys_are_four_different_ones_of_a_length_that_the_prf_takes() {
        let puzzle = puzzle();
        let solution = puzzle.solve(8, &|| true).unwrap();
        for wrong in [&[][..], &solution[..15], &solution[..3], &[solution.clone(), vec![0]].concat()] {
            assert_eq!(puzzle.judge(wrong), None, "{} octets", wrong.len());
        }
        let (first, second) = (&solution[..4], &solution[4..8]);
        assert_eq!(puzzle.judge(&[first, second, first, second].concat()), None);
        assert_eq!(puzzle.judge(&first.repeat(4)), None);
        assert!(puzzle.judge(&(0..128).collect::<Vec<_>>()).is_some());
        assert_eq!(puzzle.judge(&(0..132).collect::<Vec<_>>()), None);
        assert!(puzzle.judge(&[1, 2, 3, 4]).is_some());
    }

    #[test]
    fn nobody_solves_what_nobody_wants() {
        assert_eq!(puzzle().solve(255, &|| false), None);
        let left = std::cell::Cell::new(3);
        let is_wanted = || left.replace(left.get() - 1) > 0;
        assert_eq!(puzzle().solve(255, &is_wanted), None);
        assert_eq!(puzzle().solve(0, &|| true).map(|keys| keys.len()), Some(16));
    }

    #[test]
    fn zeros_are_counted_from_the_end() {
        for (octets, zeros) in [(&[0x80][..], 7), (&[1], 0), (&[0], 8), (&[], 0), (&[0xff, 0x10, 0, 0], 20)] {
            assert_eq!(trailing_zeros(octets), zeros);
        }
    }
}
