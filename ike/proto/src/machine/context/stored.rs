//! What a context is made of.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use super::resumption::StoredResumption;
use crate::machine::window::Window;

/// The outer map.
#[derive(Encode, Decode)]
#[cbor(map)]
pub(super) struct Envelope {
    #[n(0)]
    pub(super) version: u32,
    #[n(1)]
    pub(super) public: ByteVec,
    #[n(2)]
    pub(super) sealed: Vec<ByteVec>,
}

/// Unix time.
#[derive(Encode, Decode, Clone, Copy)]
pub(super) struct Time {
    #[n(0)]
    pub(super) seconds: u64,
    #[n(1)]
    pub(super) nanoseconds: u32,
}

/// A tunnel.
#[derive(Encode, Decode)]
#[cbor(map)]
pub(super) struct Stored {
    /// The name's number.
    #[n(0)]
    pub(super) number: u32,
    #[n(1)]
    pub(super) connection: String,
    #[n(2)]
    pub(super) path: StoredPath,
    /// In front of us, in front of the peer.
    #[n(3)]
    pub(super) nat: (bool, bool),
    /// Body of our ID payload.
    #[n(4)]
    pub(super) local: ByteVec,
    /// Body of the peer's.
    #[n(5)]
    pub(super) remote: ByteVec,
    #[n(6)]
    pub(super) established: Time,
    #[n(7)]
    pub(super) rekey_at: Option<Time>,
    #[n(8)]
    pub(super) expires_at: Option<Time>,
    #[n(9)]
    pub(super) virtual_addresses: Vec<String>,
    /// Whether they are of our pools.
    #[n(10)]
    pub(super) is_leased: bool,
    #[n(11)]
    pub(super) dynamic_local: Vec<String>,
    #[n(12)]
    pub(super) dynamic_remote: Vec<String>,
    /// The one in use first.
    #[n(13)]
    pub(super) sas: Vec<StoredIkeSa>,
    #[n(14)]
    pub(super) children: Vec<StoredChild>,
    #[n(15)]
    pub(super) tasks: Vec<StoredTask>,
    /// Inbound SPIs that are to leave the table then.
    #[n(16)]
    pub(super) remnants: Vec<(Time, u32)>,
    /// Why it is being deleted, if it is.
    #[n(17)]
    pub(super) ending: Option<u8>,
    #[n(18)]
    pub(super) is_frozen: bool,
    /// Body of an ID payload: the postquantum preshared key in its keys.
    #[n(30)]
    pub(super) ppk: Option<ByteVec>,
    /// Body of an ID payload that says whom EAP has found the peer to be.
    #[n(35)]
    pub(super) user: Option<ByteVec>,
    #[n(45)]
    pub(super) redirection: Option<StoredRedirection>,
    /// If both ends speak RFC 4555.
    #[n(40)]
    pub(super) mobility: Option<StoredMobility>,
    /// Whether both sides agree about Message IDs after a failover (RFC 6311).
    #[n(46)]
    pub(super) can_synchronize: Option<bool>,
    /// Whether both sides skip sequence numbers after one.
    #[n(70)]
    pub(super) can_synchronize_counters: Option<bool>,
    #[n(65)]
    pub(super) resumption: Option<StoredResumption>,
    /// Of a user who was judged elsewhere.
    #[n(55)]
    pub(super) session: Option<StoredSession>,
    /// DNS servers that we were told of.
    #[n(60)]
    pub(super) dns: Option<Vec<String>>,
    /// Tunnels in a row, before this one, that ended soon after they stood.
    #[n(61)]
    pub(super) short_lived: Option<u32>,
    /// Above that of every context of this tunnel before. Of nodes that own its segment one after the other the later
    /// one has the higher top half.
    #[n(80)]
    pub(super) version: Option<u64>,
}

/// A user's session.
#[derive(Encode, Decode)]
#[cbor(map)]
pub(super) struct StoredSession {
    /// Acct-Session-Id.
    #[n(0)]
    pub(super) id: String,
    /// User-Name.
    #[n(1)]
    pub(super) user: ByteVec,
    /// Class.
    #[n(2)]
    pub(super) class: Vec<ByteVec>,
    #[n(3)]
    pub(super) ends: Option<Time>,
    /// In seconds.
    #[n(4)]
    pub(super) idle_timeout: Option<u64>,
    /// In seconds.
    #[n(5)]
    pub(super) interim_interval: Option<u64>,
    /// What SAs have carried that are gone: octets and packets from the peer, octets and packets to it.
    #[n(6)]
    pub(super) past: (u64, u64, u64, u64),
}

/// What there is of redirects.
#[derive(Encode, Decode)]
#[cbor(map)]
pub(super) struct StoredRedirection {
    #[n(0)]
    pub(super) is_follower: bool,
    #[n(1)]
    pub(super) can_send: bool,
    /// When redirects were followed.
    #[n(2)]
    pub(super) trail: Vec<Time>,
    /// The gateway that a tunnel in the place of this one is being set up with.
    #[n(3)]
    pub(super) following: Option<String>,
    /// When the peer, which was sent elsewhere, is to be gone.
    #[n(4)]
    pub(super) leave_at: Option<Time>,
    #[n(5)]
    pub(super) was_sent: bool,
}

/// What RFC 4555 adds.
#[derive(Encode, Decode)]
#[cbor(map)]
pub(super) struct StoredMobility {
    /// Whether we have set the tunnel up.
    #[n(0)]
    pub(super) leads: bool,
    /// Further addresses of the peer.
    #[n(1)]
    pub(super) additional: Vec<String>,
    /// Those of ours that the peer knows.
    #[n(2)]
    pub(super) announced: Vec<String>,
    /// SPI and Message ID of the newest update.
    #[n(3)]
    pub(super) newest_update: Option<(u64, u32)>,
    /// Of the newest list.
    #[n(4)]
    pub(super) newest_list: Option<(u64, u32)>,
    #[n(5)]
    pub(super) changes: u32,
    /// Our address as the peer saw it last, hashed.
    #[n(6)]
    pub(super) seen: Option<ByteVec>,
    #[n(7)]
    pub(super) refusals: u32,
    /// Where the Child SAs stay until the present path is proven, with the NATs in front of us and of the peer.
    #[n(8)]
    pub(super) held: Option<(StoredPath, bool, bool)>,
    /// How many changes are confirmed.
    #[n(9)]
    pub(super) confirmed: u32,
    /// Where the peer was shown to receive, if the Child SAs have followed it before it is at the present path.
    #[n(70)]
    pub(super) allowed: Option<(StoredPath, bool, bool)>,
}

/// Outer addresses and ports.
#[derive(Encode, Decode)]
pub(super) struct StoredPath {
    #[n(0)]
    pub(super) local: String,
    #[n(1)]
    pub(super) remote: String,
    #[n(2)]
    pub(super) marked: bool,
}

/// An IKE SA.
#[derive(Encode, Decode)]
#[cbor(map)]
pub(super) struct StoredIkeSa {
    /// Whether we are its initiator.
    #[n(0)]
    pub(super) is_initiator: bool,
    #[n(1)]
    pub(super) initiator_spi: u64,
    #[n(2)]
    pub(super) responder_spi: u64,
    #[n(3)]
    pub(super) window: Window,
    #[n(4)]
    pub(super) peer_reassembles: bool,
    /// 0 lives, 1 undecided, 2 doomed, 3 deleting, 4 awaits its deletion, 5 gone.
    #[n(5)]
    pub(super) fate: u8,
    #[n(6)]
    pub(super) fate_at: Option<Time>,
    #[n(7)]
    pub(super) pending: Vec<StoredPending>,
    /// Digest of the peer's token (RFC 6290).
    #[n(45)]
    pub(super) peer_token: Option<ByteVec>,
    /// The highest Message ID that the peer has synchronized with (RFC 6311).
    #[n(46)]
    pub(super) synchronized: Option<u32>,
    /// Whether a synchronization of ours is not answered.
    #[n(47)]
    pub(super) is_synchronizing: Option<bool>,
    /// How many of ours were.
    #[n(48)]
    pub(super) failovers: Option<u32>,
}

/// What an outstanding request is about.
#[derive(Encode, Decode)]
#[cbor(map)]
pub(super) struct StoredPending {
    #[n(0)]
    pub(super) message_id: u32,
    /// 0 liveness, 1 deletion of the IKE SA, 2 of Child SAs, 3 a new pair, 4 a pair in the place of another, 5 an IKE
    /// SA, 45 another gateway for the peer, 65 a ticket, 70 sequence numbers to skip; 40 return routability, 41 an
    /// update of addresses, 42 a list of them, with the cookie as nonce and the number of changes of the path as
    /// detours.
    #[n(1)]
    pub(super) kind: u8,
    /// Child SAs to delete.
    #[n(2)]
    pub(super) spis: Vec<u32>,
    #[n(3)]
    pub(super) offer: Option<StoredOffer>,
    /// The SPI of the pair to be replaced.
    #[n(4)]
    pub(super) old: Option<u32>,
    /// The SPI of what the peer has made meanwhile, and the lower nonce of its exchange.
    #[n(5)]
    pub(super) rival: Option<(u64, ByteVec)>,
    /// Of an IKE SA on offer.
    #[n(6)]
    pub(super) ike_spi: Option<u64>,
    #[n(7)]
    pub(super) nonce: Option<ByteVec>,
    #[n(8)]
    pub(super) detours: u32,
    /// If additional key exchanges are being done: of the answer to CREATE_CHILD_SA the type of the first payload and
    /// all of them, and how many exchanges were done before. Their secrets and the private value are sealed.
    #[n(9)]
    pub(super) follow_up: Option<(u8, ByteVec, u32)>,
}

/// A pair of Child SAs on offer.
#[derive(Encode, Decode)]
#[cbor(map)]
pub(super) struct StoredOffer {
    #[n(0)]
    pub(super) child: String,
    #[n(1)]
    pub(super) reqid: u32,
    #[n(2)]
    pub(super) spi: u32,
    #[n(3)]
    pub(super) nonce: ByteVec,
    /// Whether a key exchange of its own is on offer, whose private value is sealed.
    #[n(4)]
    pub(super) has_share: bool,
    #[n(5)]
    pub(super) local: Vec<StoredSelector>,
    #[n(6)]
    pub(super) remote: Vec<StoredSelector>,
    #[n(7)]
    pub(super) is_transport: bool,
    #[n(8)]
    pub(super) detours: u32,
    /// SPIs that the peer has deleted before we heard of them.
    #[n(9)]
    pub(super) gone: Vec<u32>,
}

/// A traffic selector: protocol, ports, addresses.
#[derive(Encode, Decode)]
pub(super) struct StoredSelector {
    #[n(0)]
    pub(super) protocol: u8,
    #[n(1)]
    pub(super) start_port: u16,
    #[n(2)]
    pub(super) end_port: u16,
    #[n(3)]
    pub(super) first: String,
    #[n(4)]
    pub(super) last: String,
}

/// Algorithms by their numbers; 0 where there is none.
#[derive(Encode, Decode)]
pub(super) struct StoredSuite {
    #[n(0)]
    pub(super) encryption: u16,
    #[n(1)]
    pub(super) key_length: u16,
    #[n(2)]
    pub(super) integrity: u16,
    #[n(3)]
    pub(super) extended_sequence: bool,
    #[n(4)]
    pub(super) group: u16,
    /// Additional key exchanges by their places; absent if there are none.
    #[n(5)]
    pub(super) additional: Option<Vec<u16>>,
}

/// A pair of Child SAs.
#[derive(Encode, Decode)]
#[cbor(map)]
pub(super) struct StoredChild {
    #[n(0)]
    pub(super) child: String,
    #[n(1)]
    pub(super) reqid: u32,
    #[n(2)]
    pub(super) inbound_spi: u32,
    #[n(3)]
    pub(super) outbound_spi: u32,
    #[n(4)]
    pub(super) suite: StoredSuite,
    #[n(5)]
    pub(super) is_transport: bool,
    #[n(6)]
    pub(super) local: Vec<StoredSelector>,
    #[n(7)]
    pub(super) remote: Vec<StoredSelector>,
    /// Whether we were the initiator of the exchange that made it.
    #[n(8)]
    pub(super) is_initiator: bool,
    #[n(9)]
    pub(super) no_tfc: bool,
    /// 0 installed, 1 to be installed then, with sealed keys, 2 never.
    #[n(10)]
    pub(super) outbound: u8,
    #[n(11)]
    pub(super) outbound_at: Option<Time>,
    /// 0 live, 1 replaced, 2 doomed, 3 deleting.
    #[n(12)]
    pub(super) stage: u8,
    #[n(13)]
    pub(super) stage_at: Option<Time>,
    #[n(14)]
    pub(super) established: Time,
    #[n(15)]
    pub(super) rekey_at: Option<Time>,
    #[n(16)]
    pub(super) expires_at: Option<Time>,
    /// Why it is being deleted, if it is.
    #[n(17)]
    pub(super) ending: Option<u8>,
    /// How many sequence numbers our inbound edge is ahead of where the peer may be.
    #[n(70)]
    pub(super) gap: Option<u64>,
}

/// Something to ask of the peer.
#[derive(Encode, Decode)]
#[cbor(map)]
pub(super) struct StoredTask {
    /// 0 a new pair, 1 a pair in the place of another, 2 an IKE SA, 3 deletion of an unwanted pair, 4 the window; 40
    /// return routability, 41 an update of addresses, 42 a list of them; 45 another gateway for the peer; 65 a ticket;
    /// 70 sequence numbers to skip.
    #[n(0)]
    pub(super) kind: u8,
    #[n(1)]
    pub(super) spi: Option<u32>,
    #[n(2)]
    pub(super) child: Option<String>,
    #[n(3)]
    pub(super) reqid: Option<u32>,
    #[n(45)]
    pub(super) gateway: Option<String>,
}
