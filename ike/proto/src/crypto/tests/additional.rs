//! ML-KEM and additional key exchanges. The answers of ML-KEM itself are AWS-LC's, which NIST has validated.

use super::super::SealedState as _;
use super::super::prf::{prf, prf_plus};
use super::super::{
    AdditionalMethods, AdditionalSecrets, AdditionalShare, Group, IkeKeys, IkeSuite, KeyExchangeError,
    KeyExchangeMethod, MlKem, Role, Shared, WrapKey, answer_additional,
};
use super::{fill, keys, suites};

fn random(mut seed: u64) -> impl FnMut(&mut [u8]) {
    move |octets| fill(&mut seed, octets)
}

fn share(method: KeyExchangeMethod) -> AdditionalShare {
    AdditionalShare::generate(method, &mut random(1)).unwrap()
}

#[test]
fn numbers_and_sizes_of_ml_kem_are_those_of_iana_and_fips_203() {
    for (kem, id, name, key, ciphertext) in [
        (MlKem::MlKem512, 35, "mlkem512", 800, 768),
        (MlKem::MlKem768, 36, "mlkem768", 1184, 1088),
        (MlKem::MlKem1024, 37, "mlkem1024", 1568, 1568),
    ] {
        let method = KeyExchangeMethod::MlKem(kem);
        assert_eq!((method.id(), method.keyword()), (id, name));
        assert_eq!(KeyExchangeMethod::from_id(id), Some(method));
        let share = share(method);
        let (answer, _) = answer_additional(method, share.public(), &mut random(2)).unwrap();
        assert_eq!((share.public().len(), answer.len()), (key, ciphertext));
    }
    assert_eq!(KeyExchangeMethod::from_id(38), None);
}

#[test]
fn both_ends_have_the_same_secret_by_every_method() {
    for method in KeyExchangeMethod::all() {
        let share = share(method);
        let (answer, theirs) = answer_additional(method, share.public(), &mut random(2)).unwrap();
        let ours = share.agree(&answer).unwrap();
        assert_eq!(ours.expose(), theirs.expose(), "{share:?}");
        assert_eq!(format!("{share:?}"), format!("AdditionalShare({}, redacted)", method.keyword()));
    }
}

#[test]
fn public_values_of_another_length_are_refused() {
    for method in KeyExchangeMethod::all() {
        let share = share(method);
        let (answer, _) = answer_additional(method, share.public(), &mut random(2)).unwrap();
        for length in [0, 1, answer.len() - 1] {
            let refused = share.agree(&answer[..length]).unwrap_err();
            assert!(matches!(refused, KeyExchangeError::Length { got, .. } if got == length), "{refused}");
        }
        for length in [0, 1, share.public().len() - 1] {
            let refused = answer_additional(method, &share.public()[..length], &mut random(2));
            assert!(matches!(refused.unwrap_err(), KeyExchangeError::Length { got, .. } if got == length));
        }
        assert!(share.agree(&[answer, vec![0]].concat()).is_err());
        assert!(answer_additional(method, &[share.public(), &[0]].concat(), &mut random(2)).is_err());
    }
}

/// FIPS 203 section 7.2: coefficients of 3329 and more; section 6.3: another ciphertext has another secret.
#[test]
fn damaged_values_of_ml_kem_agree_on_nothing() {
    for kem in MlKem::ALL {
        let method = KeyExchangeMethod::MlKem(kem);
        let share = share(method);
        let refused = answer_additional(method, &vec![0xff; kem.key_length()], &mut random(2));
        assert_eq!(refused.unwrap_err(), KeyExchangeError::Value(method));
        let (mut answer, theirs) = answer_additional(method, share.public(), &mut random(2)).unwrap();
        answer[7] ^= 1;
        assert_ne!(share.agree(&answer).unwrap().expose(), theirs.expose());
    }
}

fn additional() -> AdditionalMethods {
    let kem = Some(KeyExchangeMethod::MlKem(MlKem::MlKem768));
    AdditionalMethods::new([kem, None, Some(KeyExchangeMethod::Group(Group::Ecp384)), None, None, None, None])
}

#[test]
fn all_of_it_comes_back_from_a_seal() {
    let wrap = WrapKey::new([7; 32]);
    for method in KeyExchangeMethod::all() {
        let share = share(method);
        let sealed = share.seal_state(&wrap, b"context", &mut random(3));
        let opened = AdditionalShare::open_state(&wrap, b"context", &sealed).unwrap();
        assert_eq!((opened.method(), opened.public()), (method, share.public()));
        let (answer, theirs) = answer_additional(method, share.public(), &mut random(2)).unwrap();
        assert_eq!(opened.agree(&answer).unwrap().expose(), theirs.expose());
        assert!(AdditionalShare::open_state(&wrap, b"another", &sealed).is_err());
        assert!(AdditionalSecrets::open_state(&wrap, b"context", &sealed).is_err());
    }
    let mut secrets = AdditionalSecrets::default();
    secrets.push(&Shared::for_test(b"one"));
    secrets.push(&Shared::for_test(b"two"));
    let sealed = secrets.seal_state(&wrap, b"context", &mut random(3));
    assert_eq!(AdditionalSecrets::open_state(&wrap, b"context", &sealed).unwrap().expose(), b"onetwo");
    let suite = IkeSuite { additional: additional(), ..suites().next().unwrap() };
    let keys = keys(suite, 1);
    let sealed = keys.seal_state(&wrap, b"context", &mut random(3));
    let opened = IkeKeys::open_state(&wrap, b"context", &sealed).unwrap();
    assert_eq!((opened.suite(), opened.material()), (suite, keys.material()));
    assert!(suite.to_string().ends_with("-ke1_mlkem768-ke3_ecp384"), "{suite}");
}

/// RFC 9370 section 2.2.2: SKEYSEED(n) = prf(SK_d(n-1), SK(n) | Ni | Nr), expanded as that of IKE_SA_INIT.
#[test]
fn keys_after_ike_intermediate_go_on_from_those_before() {
    for suite in suites() {
        let before = keys(suite, 1);
        let after = before.after_intermediate(&Shared::for_test(b"SK(1)"), (b"Ni", b"Nr"), (7, 8));
        let derivation = &before.material()[..suite.prf.length()];
        let seed = prf(suite.prf, derivation, &[b"SK(1)", b"Ni", b"Nr"]);
        let spis = [0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 8];
        let expected = prf_plus(suite.prf, &seed, &[b"Ni", b"Nr", &spis], before.material().len());
        assert_eq!(after.material(), &**expected);
    }
}

/// RFC 9370 section 2.2.4: SKEYSEED = prf(SK_d, SK(0) | Ni | Nr | SK(1) | SK(2)), KEYMAT = prf+(SK_d, the same).
#[test]
fn keys_after_ike_followup_ke_have_all_secrets_in_them() {
    let suite = suites().next().unwrap();
    let old = keys(suite, 1);
    let derivation = &old.material()[..suite.prf.length()];
    let mut secrets = AdditionalSecrets::default();
    secrets.push(&Shared::for_test(b"SK(1)"));
    secrets.push(&Shared::for_test(b"SK(2)"));
    let first = Shared::for_test(b"SK(0)");
    let parts: [&[u8]; 5] = [b"SK(0)", b"Ni", b"Nr", b"SK(1)", b"SK(2)"];
    let new = old.rekey_additionally(suite, (&first, &secrets), (b"Ni", b"Nr"), (7, 8));
    let seed = prf(suite.prf, derivation, &parts);
    let spis = [0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 8];
    let expected = prf_plus(suite.prf, &seed, &[b"Ni", b"Nr", &spis], old.material().len());
    assert_eq!(new.material(), &**expected);
    let esp: crate::proposal::EspProposal = "aes128gcm16".parse().unwrap();
    let offer = crate::proposal::offer_esp(std::slice::from_ref(&esp), &[0; 4], false);
    let esp = crate::proposal::select_esp(&[esp], &offer, false).unwrap().suite;
    let child = old.child_keys_additionally(&esp, (b"Ni", b"Nr"), (Some(&first), &secrets));
    let expected = prf_plus(suite.prf, derivation, &parts, 40);
    assert_eq!(child.initiator_to_responder.expose(), &expected[..20]);
    assert_eq!(child.responder_to_initiator.expose(), &expected[20..]);
}

/// RFC 9242 section 3.3.1: IntAuth_i2 = prf(SK_pi2, IntAuth_i1 | IntAuth_i2A | IntAuth_i2P).
#[test]
fn what_auth_covers_of_ike_intermediate_is_chained() {
    for suite in suites() {
        let keys = keys(suite, 1);
        let length = suite.prf.length();
        let material = keys.material();
        let (ours, theirs) = (material.len() - 2 * length, material.len() - length);
        for (side, start) in [(Role::Initiator, ours), (Role::Responder, theirs)] {
            let expected = prf(suite.prf, &material[start..start + length], &[b"before", b"A", b"P"]);
            assert_eq!(keys.intermediate_auth(side, b"before", b"A", b"P"), *expected);
        }
    }
}
