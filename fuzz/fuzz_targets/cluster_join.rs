//! What a machine that joins a cluster is given: an invitation, and the names in certificates.
#![no_main]

use baton_ctx_transfer::authority::Invitation;
use baton_ctx_transfer::channel::name_of;
use libfuzzer_sys::fuzz_target;
use rustls_pki_types::CertificateDer;

fuzz_target!(|input: &[u8]| {
    if let Ok(text) = std::str::from_utf8(input)
        && let Ok(invitation) = Invitation::parse(text)
    {
        let _ = invitation.member();
        let again = Invitation::parse(&invitation.text()).expect("just written");
        assert_eq!(again.text().as_str(), invitation.text().as_str());
    }
    let _ = name_of(&CertificateDer::from(input));
});
