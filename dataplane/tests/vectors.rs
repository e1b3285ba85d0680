//! Known answers that nobody here wrote: McGrew and Viega's ESP packets, byte for byte, and NIST's for AES-GCM.

use std::collections::HashMap;

use baton_dataplane::crypto::{Backend, Job, NONCE, Outcome};
use baton_dataplane::drop_reason::DropReason;
use baton_dataplane::esp::payload::EspKey;

const BACKENDS: [Backend; 2] = [Backend::AwsLc, Backend::RustCrypto];

/// Blocks of `name = value` lines; a line without `=` is a flag.
fn blocks(text: &str) -> Vec<HashMap<&str, &str>> {
    text.split("\n\n")
        .map(|block| {
            let lines = block.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
            lines.map(|line| line.split_once(" =").map_or((line, ""), |(n, v)| (n, v.trim()))).collect()
        })
        .filter(|block: &HashMap<_, _>| !block.is_empty())
        .collect()
}

fn octets(block: &HashMap<&str, &str>, name: &str) -> Vec<u8> {
    hex::decode(block[name]).unwrap()
}

#[test]
fn mcgrew_viega_gcm_esp() {
    let cases = blocks(include_str!("data/mcgrew-viega-gcm-esp.txt"));
    assert_eq!(cases.len(), 14);
    for (backend, case) in BACKENDS.into_iter().flat_map(|b| cases.iter().map(move |case| (b, case))) {
        let packet = octets(case, "packet");
        let plaintext = octets(case, "plaintext");
        let sequence = u64::from_str_radix(case["sequence"], 16).unwrap();
        let icv = packet.len() - 16 - plaintext.len();
        let key = EspKey {
            spi: u32::from_str_radix(case["spi"], 16).unwrap(),
            salt: octets(case, "salt").try_into().unwrap(),
            icv,
            extended: case["sequence"].len() == 16,
            aead: backend.prepare(&octets(case, "key"), icv).unwrap(),
        };
        let [front @ .., pad, next_header] = plaintext.as_slice() else { panic!("a trailer") };
        let payload = &front[..front.len() - usize::from(*pad)];

        let mut buffer = vec![0; 256];
        let place = 64..64 + payload.len();
        buffer[place.clone()].copy_from_slice(payload);
        let iv = u64::from_str_radix(case["iv"], 16).unwrap();
        let esp = key.seal(&mut buffer, place, *next_header, sequence, iv).unwrap();
        assert_eq!(hex::encode(&buffer[esp]), hex::encode(&packet), "{backend:?} {case:?}");

        let mut received = packet.clone();
        let opened = key.open(&mut received, 0..packet.len(), sequence).unwrap();
        assert_eq!((&received[opened.range], opened.next_header), (payload, *next_header));

        let mut damaged = packet.clone();
        *damaged.last_mut().unwrap() ^= 1;
        assert_eq!(key.open(&mut damaged, 0..packet.len(), sequence), Err(DropReason::BadIcv));
    }
}

#[test]
fn nist_cavp_gcm() {
    let cases = blocks(include_str!("data/nist-cavp-gcm.txt"));
    assert_eq!(cases.len(), 81);
    for (backend, case) in BACKENDS.into_iter().flat_map(|b| cases.iter().map(move |case| (b, case))) {
        let nonce: [u8; NONCE] = octets(case, "IV").try_into().unwrap();
        let aad = octets(case, "AAD");
        let tag = octets(case, "Tag");
        let cipher = backend.prepare(&octets(case, "Key"), tag.len()).unwrap();
        let run = |open: bool, text: &mut [u8], icv: &mut [u8]| {
            let mut job = Job { nonce, aad: &aad, text, icv, outcome: Outcome::Pending };
            let jobs = std::slice::from_mut(&mut job);
            if open {
                cipher.open(jobs);
            } else {
                cipher.seal(jobs);
            }
            job.outcome
        };
        let mut text = octets(case, "CT");
        let mut icv = tag.clone();
        if case.contains_key("FAIL") {
            assert_eq!(run(true, &mut text, &mut icv), Outcome::BadIcv, "{backend:?} {case:?}");
            continue;
        }
        assert_eq!(run(true, &mut text, &mut icv), Outcome::Done, "{backend:?} {case:?}");
        assert_eq!(text, octets(case, "PT"));
        let mut icv = vec![0; tag.len()];
        assert_eq!(run(false, &mut text, &mut icv), Outcome::Done);
        assert_eq!((text, icv), (octets(case, "CT"), tag));
    }
}
