//! Pairs of machines and a virtual clock.

mod addresses;
mod client;
mod crash;
mod elsewhere;
mod ending;
mod everything;
mod follow_up;
mod inside;
mod intermediate;
mod moving;
mod pair;
mod puzzles;
mod redirect;
mod rekey;
mod replay_counters;
mod resumption;
mod roaming;
mod sessions;
mod setup;
mod side;
mod signatures;
mod standby;
mod strength;
mod synchronization;
mod users;
