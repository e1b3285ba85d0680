//! Baton against scapy, an ESP implementation that nobody here wrote: every suite in every shape (mode, families, UDP
//! encapsulation), without and with extended sequence numbers, both directions; and what scapy forges.

#[path = "../common/mod.rs"]
mod common;
mod exchange;
mod forged;
mod forger;
mod nat;
mod python;
mod sample;
