//! MODP groups: modular exponentiation in constant time, in Montgomery form of fixed width.

use std::sync::LazyLock;

use crypto_bigint::modular::{FixedMontyForm, FixedMontyParams};
use crypto_bigint::{Odd, U512, Uint};
use zeroize::{Zeroize, Zeroizing};

use super::super::Group;
use super::super::prf::Secret;
use super::primes;

/// A private exponent.
pub(super) struct Exponent(Secret);

impl Exponent {
    /// The longest, in octets.
    const MAX: usize = U512::BYTES;

    /// `None` if it is longer than [`Self::MAX`], or zero.
    pub(super) fn new(octets: &[u8]) -> Option<Self> {
        let any = octets.iter().fold(0, |any, octet| any | octet);
        (octets.len() <= Self::MAX && any != 0).then(|| Self(Zeroizing::new(octets.to_vec())))
    }

    pub(super) fn octets(&self) -> &[u8] {
        &self.0
    }

    /// As a number, and its bits: that these are so many is no secret.
    fn number(&self) -> (Zeroizing<U512>, u32) {
        let mut wide = Zeroizing::new([0; Self::MAX]);
        wide[Self::MAX - self.0.len()..].copy_from_slice(&self.0);
        (Zeroizing::new(U512::from_be_slice(&*wide)), 8 * self.0.len() as u32)
    }
}

type Modulus<const LIMBS: usize> = LazyLock<FixedMontyParams<LIMBS>>;

static MODP_2048: Modulus<{ limbs(2048) }> = LazyLock::new(|| parameters(primes::MODP_2048));
static MODP_3072: Modulus<{ limbs(3072) }> = LazyLock::new(|| parameters(primes::MODP_3072));
static MODP_4096: Modulus<{ limbs(4096) }> = LazyLock::new(|| parameters(primes::MODP_4096));

const fn limbs(bits: u32) -> usize {
    (bits / crypto_bigint::Limb::BITS) as usize
}

fn parameters<const LIMBS: usize>(prime: &str) -> FixedMontyParams<LIMBS> {
    FixedMontyParams::new_vartime(Odd::<Uint<LIMBS>>::from_be_hex(prime))
}

/// 2^exponent mod p, as long as p.
pub(super) fn public(group: Group, exponent: &Exponent) -> Vec<u8> {
    let mut two = vec![0; group.public_length()];
    two.last_mut().into_iter().for_each(|octet| *octet = 2);
    agree(group, exponent, &two).map(|public| public.to_vec()).unwrap_or_default()
}

/// peer^exponent mod p, as long as p; `None` unless 1 < peer < p - 1 (RFC 6989 section 2.1).
pub(super) fn agree(group: Group, exponent: &Exponent, peer: &[u8]) -> Option<Secret> {
    match group {
        Group::Modp2048 => power(&MODP_2048, peer, exponent),
        Group::Modp3072 => power(&MODP_3072, peer, exponent),
        Group::Modp4096 => power(&MODP_4096, peer, exponent),
        _ => None,
    }
}

fn power<const LIMBS: usize>(modulus: &Modulus<LIMBS>, base: &[u8], exponent: &Exponent) -> Option<Secret> {
    let base = Uint::<LIMBS>::from_be_slice(base);
    let greatest = modulus.modulus().as_ref().wrapping_sub(&Uint::ONE);
    if base <= Uint::ONE || base >= greatest {
        return None;
    }
    let (number, bits) = exponent.number();
    let mut power = FixedMontyForm::new(&base, modulus).pow_bounded_exp(&number, bits).retrieve();
    let secret = Zeroizing::new(power.to_be_bytes().as_ref().to_vec());
    power.zeroize();
    Some(secret)
}
