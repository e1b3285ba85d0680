//! The filter in the kernel and its twin in Rust, side by side.

use std::os::fd::AsRawFd as _;

use baton_dataplane::io::Side;
use baton_dataplane::steering::{Decision, classify};
use baton_dataplane::xdp::{Action, DryRun, Verdict};

use super::{World, af_xdp_socket};

/// A filter and its twin, told the same.
pub struct Pair {
    pub filter: DryRun,
    pub world: World,
    socket: bool,
}

impl Pair {
    pub fn new(world: World) -> Self {
        let mut filter = DryRun::load().unwrap_or_else(|error| panic!("{error}"));
        world.tell(filter.maps(), None);
        Self { filter, world, socket: false }
    }

    /// As `new`, with an AF_XDP socket behind queue 0 of both sides.
    pub fn with_socket(world: World) -> Self {
        let mut pair = Self::new(world);
        pair.set_socket(true);
        pair
    }

    pub fn retell(&mut self, world: World) {
        world.tell(self.filter.maps(), Some(&self.world));
        self.world = world;
    }

    pub fn set_socket(&mut self, socket: bool) {
        for side in Side::ALL {
            let maps = self.filter.maps();
            if socket {
                // An XSKMAP entry lives as long as its socket; these may live as long as the test.
                let socket = std::mem::ManuallyDrop::new(af_xdp_socket());
                maps.register_socket(side, 0, socket.as_raw_fd()).unwrap();
            } else {
                maps.unregister_socket(side, 0).unwrap();
            }
        }
        self.socket = socket;
    }

    /// The verdict on which both agree.
    pub fn verdict(&mut self, side: Side, frame: &[u8]) -> Decision {
        let expected = classify(frame, &self.world.view(side, self.socket));
        if frame.len() < 14 {
            // Less than an Ethernet header: the kernel neither runs a program on it nor receives it.
            return expected;
        }
        let result = self.filter.run(side, frame).unwrap();
        assert_eq!(result.decision, expected, "{side:?}, {}, {:?}", text(frame), self.world);
        let action = match expected.verdict.action() {
            Action::Drop => 1,
            Action::Pass => 2,
            Action::Forward | Action::Answer => 3,
            Action::Socket => 4,
        };
        assert_eq!(result.action, action, "{side:?} {expected:?}");
        expected
    }

    /// The frame that the filter sends out again under this verdict.
    pub fn sent_back(&mut self, side: Side, frame: &[u8], verdict: Verdict) -> Vec<u8> {
        assert_eq!(self.verdict(side, frame).verdict, verdict, "{}", text(frame));
        self.afterwards(side, frame)
    }

    /// The frame as the filter leaves it.
    pub fn afterwards(&mut self, side: Side, frame: &[u8]) -> Vec<u8> {
        let mut out = vec![0; frame.len() + 64];
        self.filter.run_into(side, frame, &mut out).unwrap();
        out
    }

    pub fn expect(&mut self, side: Side, frame: &[u8], verdict: Verdict, segment: Option<u8>) {
        assert_eq!(self.verdict(side, frame), Decision { verdict, segment }, "{}", text(frame));
    }
}

pub fn text(frame: &[u8]) -> String {
    hex::encode(frame)
}
