//! The IKEv2 daemon of Baton.
