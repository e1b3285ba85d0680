//! The IKEv2 daemon of Baton: sockets, timers, stored contexts and the fence around the protocol, which is
//! [`baton_ike_proto`].

pub mod config;
pub mod control;
pub mod credentials;
