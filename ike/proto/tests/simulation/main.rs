//! IKE SAs between gateways over a bad network, in virtual time: everything that happens follows from a seed.
//!
//! Two to five machines set up tunnels with each other, rekey and delete them from both ends at once, crash between
//! any two outputs and go on from their contexts, while the network loses, repeats, delays, cuts, damages and replays
//! what they send and a NAT forgets its mappings. They roam, send each other elsewhere, lose everything, or go on with an
//! older state of a tunnel. Some have a standby, which goes on in their place when they die, at any output, or when they hand
//! over. All along nothing may happen twice that may not (keys, IVs, Message
//! IDs); and when the network has healed and time has passed, both ends of every tunnel agree on what stands.
//!
//! `BATON_SEED=7` runs one seed and prints what happened in it; `BATON_SOAK=1` runs many more.

mod agreement;
mod attacks;
mod history;
mod host;
mod judge;
mod network;
mod node;
mod random;
mod runs;
mod script;
mod setting;
mod standby;
mod table;
mod takeover;
mod world;
