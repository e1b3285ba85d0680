//! Gateways of a cluster and their peers, in virtual time: the real cores of `baton-cluster` and of `baton-ike`, driven as
//! their daemons drive them. Everything that happens follows from a seed.
//!
//! Two or three nodes, with and without a witness, share the tunnels of peers that know nothing of clusters: they set
//! tunnels up, rekey IKE SAs and Child SAs, ask whether the other lives, delete, and begin anew. Contexts are the ones
//! that the IKE machine encodes, and a message of IKE leaves when the standby has the state that it speaks of, or when it
//! has waited long enough. Links lose, delay, repeat and part; hosts, cluster daemons and IKE daemons die, these between
//! any two outputs, and are stopped for a while; segments are moved as planned.
//!
//! The data plane is a model that keeps its rules. What the IKE daemon holds back, it holds back by its own code; the rest
//! of the daemons is told over here, output by output.
//!
//! `BATON_SEED=7` runs one seed and prints what happened in it; `BATON_SOAK=1` runs many more, `BATON_FROM=5000` the usual
//! number from that one on.

mod agreement;
mod channel;
mod driver;
mod effects;
mod exchanges;
mod gateway;
mod hands;
mod invariants;
mod plane;
mod process;
mod runs;
mod scene;
mod script;
mod teeth;
mod traffic;
mod world;

// What both daemons' own simulations are made of.
#[allow(dead_code, reason = "a part of it is used here")]
#[path = "../../../ike/proto/tests/simulation/history.rs"]
mod history;
#[path = "../../../ike/proto/tests/simulation/host.rs"]
mod host;
#[allow(dead_code, reason = "a part of it is used here")]
#[path = "../../../ike/proto/tests/simulation/judge.rs"]
mod judge;
#[path = "../sim/network.rs"]
mod links;
#[allow(dead_code, reason = "a part of it is used here")]
#[path = "../../../ike/proto/tests/simulation/network.rs"]
mod network;
#[allow(dead_code, reason = "a part of it is used here")]
#[path = "../../../ike/proto/tests/simulation/node.rs"]
mod node;
#[allow(dead_code, reason = "a part of it is used here")]
#[path = "../../../ike/proto/tests/simulation/random.rs"]
mod random;
#[allow(dead_code, reason = "a part of it is used here")]
#[path = "../../../ike/proto/tests/simulation/setting.rs"]
mod setting;
#[allow(dead_code, reason = "a part of it is used here")]
#[path = "../../../ike/proto/tests/simulation/standby.rs"]
mod standby;
#[allow(dead_code, reason = "a part of it is used here")]
#[path = "../../../ike/proto/tests/simulation/table.rs"]
mod table;

// What the IKE daemon holds back, and what it waits for.
#[allow(dead_code, reason = "a part of it is used here")]
#[path = "../../../ike/src/effects/held.rs"]
mod held;
#[allow(dead_code, reason = "a part of it is used here")]
#[path = "../../../ike/src/replication/progress.rs"]
mod progress;
