use super::numbers::registry;

registry! {
    /// How a proof was made (RFC 7296 section 3.8).
    AuthenticationMethod(u8) {
        /// RSA with PKCS#1 v1.5 padding, usually over SHA-1.
        1 RSA_DIGITAL_SIGNATURE,
        /// RFC 7296 section 2.15.
        2 SHARED_KEY_MESSAGE_INTEGRITY_CODE,
        /// DSA over SHA-1.
        3 DSS_DIGITAL_SIGNATURE,
        /// ECDSA with SHA-256 on P-256 (RFC 4754).
        9 ECDSA_SHA256_P256,
        /// ECDSA with SHA-384 on P-384 (RFC 4754).
        10 ECDSA_SHA384_P384,
        /// ECDSA with SHA-512 on P-521 (RFC 4754).
        11 ECDSA_SHA512_P521,
        /// RFC 7619.
        13 NULL_AUTHENTICATION,
        /// With the algorithm in front (RFC 7427).
        14 DIGITAL_SIGNATURE,
    }
}

registry! {
    /// What a certificate payload carries (RFC 7296 section 3.6).
    CertificateEncoding(u8) {
        /// PKCS #7 wrapped X.509 certificate.
        1 PKCS7_WRAPPED_X509,
        /// An X.509 certificate as DER.
        4 X509_SIGNATURE,
        /// A certificate revocation list as DER.
        7 CERTIFICATE_REVOCATION_LIST,
        /// SHA-1 hash and URL of an X.509 certificate.
        12 HASH_AND_URL_X509,
        /// SHA-1 hash and URL of a bundle.
        13 HASH_AND_URL_X509_BUNDLE,
        /// OCSP Content (RFC 4806).
        14 OCSP_CONTENT,
        /// Raw public key (RFC 7670).
        15 RAW_PUBLIC_KEY,
    }
}
