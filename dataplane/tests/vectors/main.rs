//! Known answers that nobody here wrote, through every suite and both back ends.
//!
//! Each test says how many vectors it ran, so that a lost file cannot pass, and a suite that a back end does not have
//! fails. The data files name their sources. What ESP's packets cannot carry (associated data or messages of other
//! lengths) runs against the primitives, in the crypto module's own tests.

mod aead;
mod cipher;
mod data;
mod judge;
mod mac;
mod trial;
mod whole_packet;
