//! Pairs of machines and a virtual clock.

mod addresses;
mod ending;
mod moving;
mod pair;
mod rekey;
mod setup;
mod side;
