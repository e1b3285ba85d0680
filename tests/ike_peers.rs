//! Negotiation with strongSwan, as Debian ships it, with its ESP in userspace: two programs of different authors keep
//! agreeing on their keys, and packets say so.

#[path = "ike/authentication.rs"]
mod authentication;
#[path = "ike/cases.rs"]
mod cases;
#[path = "ike/client.rs"]
mod client;
#[path = "ike/control.rs"]
mod control;
#[path = "ike/life.rs"]
mod life;
#[path = "ike/messages.rs"]
mod messages;
#[path = "ike/moves.rs"]
mod moves;
#[path = "ike/moving.rs"]
mod moving;
#[path = "ike/operator.rs"]
mod operator;
#[path = "ike/radius.rs"]
mod radius;
#[path = "ike/refusals.rs"]
mod refusals;
#[path = "ike/road.rs"]
mod road;
#[path = "ike/roaming.rs"]
mod roaming;
#[path = "ike/stage.rs"]
mod stage;
#[path = "ike/strength.rs"]
mod strength;
#[path = "ike/suites.rs"]
mod suites;
mod support;
#[path = "ike/users.rs"]
mod users;
