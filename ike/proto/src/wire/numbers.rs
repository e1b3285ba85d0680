//! Numbers that IANA keeps for IKEv2, with the names that RFCs give them.

/// A number of one of IANA's registries: any value is possible, some have names.
macro_rules! registry {
    ($(#[$about:meta])* $name:ident($number:ty) { $($(#[$what:meta])* $value:literal $constant:ident,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $number);

        impl $name {
            $($(#[$what])* pub const $constant: Self = Self($value);)*

            /// Its name in the RFC that made it, if this release knows it.
            pub fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some(stringify!($constant)),)*
                    _ => None,
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self.name() {
                    Some(name) => f.write_str(name),
                    None => write!(f, "{}", self.0),
                }
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(self, f)
            }
        }
    };
}
pub(crate) use registry;

registry! {
    /// What a message is about (RFC 7296 section 3.1).
    ExchangeType(u8) {
        /// RFC 7296 section 1.2.
        34 IKE_SA_INIT,
        /// RFC 7296 section 1.2.
        35 IKE_AUTH,
        /// RFC 7296 section 1.3.
        36 CREATE_CHILD_SA,
        /// RFC 7296 section 1.4.
        37 INFORMATIONAL,
        /// RFC 5723.
        38 IKE_SESSION_RESUME,
        /// RFC 9242.
        43 IKE_INTERMEDIATE,
        /// RFC 9370.
        44 IKE_FOLLOWUP_KE,
    }
}

registry! {
    /// What a payload is (RFC 7296 section 3.2). The names are the RFC's notations.
    PayloadType(u8) {
        /// The end of a chain.
        0 NO_NEXT_PAYLOAD,
        /// Security Association.
        33 SA,
        /// Key Exchange.
        34 KE,
        /// Identification of the initiator.
        35 IDI,
        /// Identification of the responder.
        36 IDR,
        /// Certificate.
        37 CERT,
        /// Certificate Request.
        38 CERTREQ,
        /// Authentication.
        39 AUTH,
        /// Nonce.
        40 NONCE,
        /// Notify.
        41 N,
        /// Delete.
        42 D,
        /// Vendor ID.
        43 V,
        /// Traffic Selectors of the initiator.
        44 TSI,
        /// Traffic Selectors of the responder.
        45 TSR,
        /// Encrypted and Authenticated.
        46 SK,
        /// Configuration.
        47 CP,
        /// Extensible Authentication.
        48 EAP,
        /// Encrypted and Authenticated Fragment (RFC 7383).
        53 SKF,
        /// Puzzle Solution (RFC 8019).
        54 PS,
    }
}

registry! {
    /// Whose SPI it is (RFC 7296 section 3.3.1).
    ProtocolId(u8) {
        /// In a Notify that is about no SA, or about the IKE SA.
        0 NONE,
        /// The IKE SA.
        1 IKE,
        /// Authentication Header (RFC 4302).
        2 AH,
        /// Encapsulating Security Payload (RFC 4303).
        3 ESP,
    }
}

registry! {
    /// What a transform chooses (RFC 7296 section 3.3.2).
    TransformType(u8) {
        /// Encryption Algorithm.
        1 ENCR,
        /// Pseudorandom Function.
        2 PRF,
        /// Integrity Algorithm.
        3 INTEG,
        /// Key Exchange Method, once Diffie-Hellman Group.
        4 KE,
        /// Extended Sequence Numbers.
        5 ESN,
        /// Additional Key Exchange 1 (RFC 9370), and so on.
        6 ADDKE1,
        /// The next.
        7 ADDKE2,
        /// The next.
        8 ADDKE3,
        /// The next.
        9 ADDKE4,
        /// The next.
        10 ADDKE5,
        /// The next.
        11 ADDKE6,
        /// The last.
        12 ADDKE7,
    }
}

impl PayloadType {
    /// Whether this release knows what such a payload says; if so its critical bit means nothing (RFC 7296 section
    /// 2.5).
    pub fn is_known(self) -> bool {
        self != Self::NO_NEXT_PAYLOAD && self.name().is_some()
    }
}
