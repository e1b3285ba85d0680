//! Clusters over a bad network, in virtual time: everything that happens follows from a seed.
//!
//! Two to four nodes, with and without a witness, share tunnels whose peers send numbered packets and receive
//! ours, while links lose, delay, repeat, reorder and part, clocks run apart, and nodes, their cluster daemons and the
//! witness crash and pause at any moment; and now and then the witness lies. Standbys are slow, their tables are full, and
//! operators move segments about. What a daemon's threads are handed they do in their order some time later; leases do not
//! wait for them. The data plane is a model that keeps its rules: lease per packet, reservation, floor, mark, replay window.
//! After every packet and every lease the invariants are checked, and at the end every segment has one owner that has its
//! tunnels, and a standby in good order.
//!
//! `BATON_SEED=7` runs one seed and prints what happened in it; `BATON_SOAK=1` runs 100,000 of
//! them, `BATON_SEEDS=20000` that many, `BATON_FROM=5000` those from that one on.

mod driver;
mod judge;
mod lies;
mod network;
mod node;
mod random;
mod runs;
mod script;
mod setting;
mod table;
mod teeth;
mod threads;
mod traffic;
mod world;
