//! Pairs of machines and a virtual clock.

mod pair;
mod setup;
mod side;
