//! Errors and what else there is to tell (RFC 7296 section 3.10).

use super::numbers::registry;
use super::octets::Hexadecimal;
use super::reader::Reader;
use super::{ParseError, ProtocolId};

/// Types below are errors, the others are status.
const FIRST_STATUS: u16 = 16_384;

registry! {
    /// What is told (RFC 7296 section 3.10.1 unless said otherwise).
    NotifyType(u16) {
        /// A critical payload is unknown; the data is its type.
        1 UNSUPPORTED_CRITICAL_PAYLOAD,
        /// The IKE SA is unknown.
        4 INVALID_IKE_SPI,
        /// The data is the version that is spoken.
        5 INVALID_MAJOR_VERSION,
        /// A message is malformed.
        7 INVALID_SYNTAX,
        /// The number is outside of the window; the data is that number.
        9 INVALID_MESSAGE_ID,
        /// An SA is unknown; the data is its SPI.
        11 INVALID_SPI,
        /// None of the offered algorithms will do.
        14 NO_PROPOSAL_CHOSEN,
        /// Another group is wanted; the data is its number.
        17 INVALID_KE_PAYLOAD,
        /// The peer has not proved itself.
        24 AUTHENTICATION_FAILED,
        /// Only single addresses will do.
        34 SINGLE_PAIR_REQUIRED,
        /// No further Child SAs on this IKE SA.
        35 NO_ADDITIONAL_SAS,
        /// No address, now.
        36 INTERNAL_ADDRESS_FAILURE,
        /// A configuration payload is wanted.
        37 FAILED_CP_REQUIRED,
        /// None of the traffic will do.
        38 TS_UNACCEPTABLE,
        /// Selectors of a packet do not fit its SA.
        39 INVALID_SELECTORS,
        /// RFC 4555.
        40 UNACCEPTABLE_ADDRESSES,
        /// RFC 4555.
        41 UNEXPECTED_NAT_DETECTED,
        /// RFC 5026.
        42 USE_ASSIGNED_HOA,
        /// Try later.
        43 TEMPORARY_FAILURE,
        /// The SA to rekey is unknown.
        44 CHILD_SA_NOT_FOUND,
        /// The key exchange that an IKE_FOLLOWUP_KE goes on with is unknown (RFC 9370).
        47 STATE_NOT_FOUND,
        /// No further Child SAs with these selectors (RFC 9611).
        48 TS_MAX_QUEUE,

        /// The first IKE SA with this identity.
        16384 INITIAL_CONTACT,
        /// How many requests may be outstanding.
        16385 SET_WINDOW_SIZE,
        /// Other traffic would do too, in another SA.
        16386 ADDITIONAL_TS_POSSIBLE,
        /// IPComp (RFC 3173) may be used.
        16387 IPCOMP_SUPPORTED,
        /// Hash of the source address and port.
        16388 NAT_DETECTION_SOURCE_IP,
        /// Hash of the destination address and port.
        16389 NAT_DETECTION_DESTINATION_IP,
        /// RFC 7296 section 2.6.
        16390 COOKIE,
        /// Transport mode is wanted, or accepted.
        16391 USE_TRANSPORT_MODE,
        /// Certificates by hash and URL.
        16392 HTTP_CERT_LOOKUP_SUPPORTED,
        /// The SA that this one replaces.
        16393 REKEY_SA,
        /// No TFC padding (RFC 4303 section 2.7) will be accepted.
        16394 ESP_TFC_PADDING_NOT_SUPPORTED,
        /// Fragments without ports too.
        16395 NON_FIRST_FRAGMENTS_ALSO,
        /// RFC 4555.
        16396 MOBIKE_SUPPORTED,
        /// RFC 4555.
        16397 ADDITIONAL_IP4_ADDRESS,
        /// RFC 4555.
        16398 ADDITIONAL_IP6_ADDRESS,
        /// RFC 4555.
        16399 NO_ADDITIONAL_ADDRESSES,
        /// RFC 4555.
        16400 UPDATE_SA_ADDRESSES,
        /// RFC 4555.
        16401 COOKIE2,
        /// RFC 4555.
        16402 NO_NATS_ALLOWED,
        /// RFC 4478.
        16403 AUTH_LIFETIME,
        /// RFC 4739.
        16404 MULTIPLE_AUTH_SUPPORTED,
        /// RFC 4739.
        16405 ANOTHER_AUTH_FOLLOWS,
        /// RFC 5685.
        16406 REDIRECT_SUPPORTED,
        /// RFC 5685.
        16407 REDIRECT,
        /// RFC 5685.
        16408 REDIRECTED_FROM,
        /// RFC 5723.
        16409 TICKET_LT_OPAQUE,
        /// RFC 5723.
        16410 TICKET_REQUEST,
        /// RFC 5723.
        16411 TICKET_ACK,
        /// RFC 5723.
        16412 TICKET_NACK,
        /// RFC 5723.
        16413 TICKET_OPAQUE,
        /// RFC 5739.
        16414 LINK_ID,
        /// RFC 5840.
        16415 USE_WESP_MODE,
        /// RFC 5857.
        16416 ROHC_SUPPORTED,
        /// RFC 5998.
        16417 EAP_ONLY_AUTHENTICATION,
        /// RFC 6023.
        16418 CHILDLESS_IKEV2_SUPPORTED,
        /// RFC 6290.
        16419 QUICK_CRASH_DETECTION,
        /// RFC 6311.
        16420 IKEV2_MESSAGE_ID_SYNC_SUPPORTED,
        /// RFC 6311.
        16421 IPSEC_REPLAY_COUNTER_SYNC_SUPPORTED,
        /// RFC 6311.
        16422 IKEV2_MESSAGE_ID_SYNC,
        /// RFC 6311.
        16423 IPSEC_REPLAY_COUNTER_SYNC,
        /// RFC 6467.
        16424 SECURE_PASSWORD_METHODS,
        /// RFC 6631.
        16425 PSK_PERSIST,
        /// RFC 6631.
        16426 PSK_CONFIRM,
        /// RFC 6867.
        16427 ERX_SUPPORTED,
        /// RFC 7383.
        16430 IKEV2_FRAGMENTATION_SUPPORTED,
        /// RFC 7427.
        16431 SIGNATURE_HASH_ALGORITHMS,
        /// RFC 7791.
        16432 CLONE_IKE_SA_SUPPORTED,
        /// RFC 7791.
        16433 CLONE_IKE_SA,
        /// RFC 8019.
        16434 PUZZLE,
        /// RFC 8784.
        16435 USE_PPK,
        /// RFC 8784.
        16436 PPK_IDENTITY,
        /// RFC 8784.
        16437 NO_PPK_AUTH,
        /// RFC 9242.
        16438 INTERMEDIATE_EXCHANGE_SUPPORTED,
        /// RFC 8983.
        16439 IP4_ALLOWED,
        /// RFC 8983.
        16440 IP6_ALLOWED,
        /// RFC 9370.
        16441 ADDITIONAL_KEY_EXCHANGE,
        /// RFC 9347.
        16442 USE_AGGFRAG,
        /// RFC 9593.
        16443 SUPPORTED_AUTH_METHODS,
        /// RFC 9611.
        16444 SA_RESOURCE_INFO,
    }
}

impl NotifyType {
    /// Whether it tells of an error (RFC 7296 section 3.10.1). Unknown errors fail their exchange, unknown status is
    /// ignored.
    pub fn is_error(self) -> bool {
        self.0 < FIRST_STATUS
    }
}

/// The body of an N payload.
#[derive(Clone, PartialEq, Eq)]
pub struct Notify {
    /// Of the SA that `spi` names, if it names one.
    pub protocol: ProtocolId,
    /// The SA it is about; empty if none, or the IKE SA.
    pub spi: Vec<u8>,
    /// What is told.
    pub kind: NotifyType,
    /// As its type says.
    pub data: Vec<u8>,
}

impl Notify {
    /// One that is about no Child SA.
    pub fn new(kind: NotifyType, data: Vec<u8>) -> Self {
        Self { protocol: ProtocolId::NONE, spi: Vec::new(), kind, data }
    }

    /// One about an ESP SA.
    pub fn about_esp(kind: NotifyType, spi: u32) -> Self {
        Self { protocol: ProtocolId::ESP, spi: spi.to_be_bytes().to_vec(), kind, data: Vec::new() }
    }

    /// The SPI of the ESP SA that it is about.
    pub fn esp_spi(&self) -> Option<u32> {
        let spi = <[u8; 4]>::try_from(self.spi.as_slice()).ok()?;
        (self.protocol == ProtocolId::ESP).then_some(u32::from_be_bytes(spi))
    }

    pub(super) fn parse(body: &[u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new("Notify payload", body);
        let protocol = ProtocolId(reader.u8()?);
        let spi_length = reader.u8()?;
        let kind = NotifyType(reader.u16()?);
        let spi = reader.take(spi_length.into())?.to_vec();
        Ok(Self { protocol, spi, kind, data: reader.rest().to_vec() })
    }

    pub(super) fn emit(&self, out: &mut Vec<u8>) {
        let spi = &self.spi[..self.spi.len().min(255)];
        out.extend_from_slice(&[self.protocol.0, spi.len() as u8]);
        out.extend_from_slice(&self.kind.0.to_be_bytes());
        out.extend_from_slice(spi);
        out.extend_from_slice(&self.data);
    }
}

impl std::fmt::Debug for Notify {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.kind)?;
        if !self.spi.is_empty() {
            write!(f, " of {} {:?}", self.protocol, Hexadecimal(&self.spi))?;
        }
        if self.data.is_empty() { Ok(()) } else { write!(f, ": {:?}", Hexadecimal(&self.data)) }
    }
}
