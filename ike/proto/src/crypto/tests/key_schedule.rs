use super::super::keys::first_seed;
use super::super::prf::prf_plus;
use super::super::{
    AdditionalMethods, AdditionalSecrets, Encryption, Group, IkeKeys, IkeSuite, Integrity, Prf, Role, Shared,
};
use super::{lines, octets};
use crate::proposal::{EspCipher, EspEncryption, EspIntegrity, EspSuite};

/// One vector of NIST's.
struct Vector {
    suite: IkeSuite,
    nonces: Vec<u8>,
    spis: (u64, u64),
    shared: Shared,
    rest: Vec<&'static str>,
}

fn vectors() -> Vec<Vector> {
    let file = include_str!("../../../tests/data/nist-ikev2-kdf.txt");
    lines(file)
        .map(|mut line| {
            let rest = line.split_off(4);
            let (spi_i, spi_r) = line[3].split_at(16);
            let spi = |text| u64::from_str_radix(text, 16).unwrap();
            Vector {
                suite: suite(line[0]),
                nonces: octets(line[1]),
                shared: Shared::for_test(&octets(line[2])),
                spis: (spi(spi_i), spi(spi_r)),
                rest,
            }
        })
        .collect()
}

/// With the hash as PRF and the shortest keys, so that all of them are in the vector's material.
fn suite(hash: &str) -> IkeSuite {
    let prf = Prf::ALL.into_iter().find(|prf| prf.keyword().ends_with(hash)).unwrap();
    IkeSuite {
        encryption: Encryption::AesCbc128,
        integrity: Some(Integrity::HmacSha1_96),
        prf,
        group: Group::Modp2048,
        additional: AdditionalMethods::default(),
    }
}

impl Vector {
    fn nonces(&self) -> (&[u8], &[u8]) {
        self.nonces.split_at(self.nonces.len() / 2)
    }

    fn keys(&self) -> IkeKeys {
        let (initiator, responder) = self.nonces();
        IkeKeys::derive(self.suite, initiator, responder, &self.shared, self.spis.0, self.spis.1)
    }

    /// A column behind the inputs, if it is given.
    fn column(&self, place: usize) -> Option<Vec<u8>> {
        (self.rest[place] != "-").then(|| octets(self.rest[place]))
    }
}

#[test]
fn keys_of_ike_sas_are_those_of_nist() {
    let vectors = vectors();
    assert_eq!(vectors.len(), 9);
    for vector in &vectors {
        let (seed, material) = (vector.column(0).unwrap(), vector.column(1).unwrap());
        let (prf, spis) =
            (vector.suite.prf, [vector.spis.0.to_be_bytes(), vector.spis.1.to_be_bytes()].concat());
        assert_eq!(*first_seed(prf, &vector.nonces, &vector.shared), seed);
        assert_eq!(*prf_plus(prf, &seed, &[&vector.nonces, &spis], material.len()), material);
        let keys = vector.keys();
        let common = keys.material().len().min(material.len());
        assert_eq!(keys.material()[..common], material[..common]);
    }
}

#[test]
fn keys_are_taken_in_the_order_of_rfc_7296() {
    for vector in vectors().iter().filter(|vector| vector.rest[1].len() == 512) {
        let (keys, material) = (vector.keys(), vector.column(1).unwrap());
        let prf = vector.suite.prf.length();
        assert_eq!(keys.integrity_key(Role::Initiator), &material[prf..][..20]);
        assert_eq!(keys.integrity_key(Role::Responder), &material[prf + 20..][..20]);
        assert_eq!(keys.encryption_key(Role::Initiator), &material[prf + 40..][..16]);
        assert_eq!(keys.encryption_key(Role::Responder), &material[prf + 56..][..16]);
    }
}

#[test]
fn keys_of_child_sas_are_those_of_nist() {
    let esp = EspSuite {
        encryption: EspEncryption::new(EspCipher::AesCbc, 16).unwrap(),
        integrity: Some(EspIntegrity::HmacSha1_96),
        extended_sequence: false,
        group: None,
        additional: AdditionalMethods::default(),
    };
    let mut checked = 0;
    for vector in &vectors() {
        let (initiator, responder) = vector.nonces();
        for (new, expected) in [(None, vector.column(3)), (vector.column(2), vector.column(4))] {
            let Some(expected) = expected else { continue };
            let new = new.map(|new| Shared::for_test(&new));
            let keys = vector.keys().child_keys(&esp, initiator, responder, new.as_ref());
            assert_eq!(keys.initiator_to_responder.expose(), &expected[..36]);
            assert_eq!(keys.responder_to_initiator.expose(), &expected[36..72]);
            checked += 1;
        }
    }
    assert_eq!(checked, 6);
}

#[test]
fn seeds_of_rekeyed_ike_sas_are_those_of_nist() {
    let mut checked = 0;
    for vector in &vectors() {
        let (Some(new), Some(expected)) = (vector.column(2), vector.column(5)) else { continue };
        assert_eq!(
            *vector.keys().next_seed(&vector.nonces, &Shared::for_test(&new), &AdditionalSecrets::default()),
            expected
        );
        checked += 1;
    }
    assert_eq!(checked, 2);
}

#[test]
fn a_rekeyed_ike_sa_is_seeded_by_the_old_prf_and_expanded_by_the_new() {
    let old = super::keys(suite("sha1"), 1);
    let (shared, spis) = (Shared::for_test(&[9; 32]), [0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 8]);
    let new = old.rekey(suite("sha512"), &shared, b"initiator", b"responder", 7, 8);
    let seed = old.next_seed(b"initiatorresponder", &shared, &AdditionalSecrets::default());
    assert_eq!(seed.len(), 20);
    let material = prf_plus(Prf::HmacSha2_512, &seed, &[b"initiatorresponder", &spis], new.material().len());
    assert_eq!(new.material(), &**material);
}

/// RFC 8784 section 3: SK_d = prf+ (PPK, SK_d'), and SK_pi and SK_pr likewise; nothing else changes.
#[test]
fn a_postquantum_key_is_mixed_into_three_keys() {
    for hash in ["sha1", "sha256", "sha384", "sha512"] {
        let plain = super::keys(suite(hash), 1);
        let mixed = plain.with_postquantum_key(b"postquantum");
        let (prf, length) = (suite(hash).prf, suite(hash).prf.length());
        let (old, new) = (plain.material(), mixed.material());
        assert_eq!(old.len(), new.len());
        for place in [0, old.len() - 2 * length, old.len() - length] {
            let expected = prf_plus(prf, b"postquantum", &[&old[place..place + length]], length);
            assert_eq!(new[place..place + length], **expected);
        }
        assert_eq!(new[length..old.len() - 2 * length], old[length..old.len() - 2 * length]);
    }
}

#[test]
fn debug_output_has_no_key() {
    let suite = suite("sha256");
    let keys = super::keys(suite, 1);
    assert_eq!(format!("{keys:?}"), "IkeKeys(aes128-sha1-prfsha256-modp2048, redacted)");
    assert_eq!(format!("{:?}", Shared::for_test(&[1; 32])), "Shared(redacted)");
    let esp = "aes128gcm16".parse::<crate::proposal::EspProposal>().unwrap();
    let offer = crate::proposal::offer_esp(&[esp], &[0; 4], false);
    let esp =
        crate::proposal::select_esp(&crate::proposal::EspProposal::defaults(), &offer, false).unwrap().suite;
    let child = keys.child_keys(&esp, &[1; 32], &[2; 32], None);
    assert_eq!(format!("{:?}", child.initiator_to_responder), "KeyMaterial(20 octets, redacted)");
}
