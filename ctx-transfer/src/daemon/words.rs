//! The core's alarms and notices as sentences and events.

use crate::cluster::{Alarm, Cause, Notice, Refusal, Segments, Side};
use crate::control::Occurred;

/// A sentence that says what to do.
pub(super) fn alarm(alarm: &Alarm) -> String {
    match alarm {
        Alarm::Silent(member) => format!(
            "member {} is not heard; see why under its entry of `dpctl cluster status`, and whether it runs",
            member.get()
        ),
        Alarm::Unprotected => {
            "segments of this node have no standby that has everything: were this node lost now, \
             their tunnels would be; bring another node back, or wait until it is filled"
                .to_owned()
        }
        Alarm::Stale(member) => format!(
            "node {} did not follow in time, and would have to rekey what it takes over; look at its load and at the \
             network between",
            member.get()
        ),
        Alarm::Refused(member, refusal) => {
            format!("node {} refuses contexts: {}", member.get(), self::refusal(*refusal))
        }
        Alarm::NoMajority => {
            "this node hears less than half of the members, and owns nothing until it hears more; \
             look at its network, and at the others"
                .to_owned()
        }
        Alarm::Version(member, version) => format!(
            "member {} speaks version {version} of the cluster's protocol, which this release does not; upgrade one \
             release at a time",
            member.get()
        ),
        Alarm::NotTheOwner(member) => format!(
            "member {} spoke of segments that it does not own, which had no effect; look at it, and make its certificate \
             anew if somebody else may have its key",
            member.get()
        ),
        Alarm::Differs(member, sections) => format!(
            "the configuration of member {} differs in [{}]; make both agree, or its tunnels behave otherwise after a \
             takeover",
            member.get(),
            sections.join("], [")
        ),
        Alarm::TooManyTunnels => {
            "there are more tunnels than are replicated; the others are lost with this node".to_owned()
        }
        Alarm::NoLink(side) => format!(
            "the {} interface has no link: this node owns nothing that another one can serve; look at its cable, its \
             switch, and whether it is set up (`ip link`)",
            self::side(*side)
        ),
    }
}

pub(super) fn side(side: Side) -> &'static str {
    match side {
        Side::Outer => "outer",
        Side::Inner => "inner",
    }
}

/// A clause that says what to do.
pub(super) fn refusal(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Full => "its table is full; raise [table] capacity there",
        Refusal::Malformed => "it does not understand them; upgrade it",
        Refusal::Policy => {
            "its configuration has no such tunnel or connection; make both configurations agree"
        }
        Refusal::Unavailable => "its data plane or its IKE daemon does not run; look at it there",
    }
}

pub(super) fn cause(cause: Cause) -> &'static str {
    match cause {
        Cause::First => "first",
        Cause::Takeover => "takeover",
        Cause::Stale => "stale",
        Cause::Planned => "planned",
    }
}

pub(super) fn list(segments: Segments) -> Vec<u8> {
    segments.iter().collect()
}

/// What monitors are told.
pub(super) fn occurred(notice: &Notice) -> Occurred {
    match *notice {
        Notice::Paused(gap) => Occurred::Paused { milliseconds: gap.as_millis() as u64 },
        Notice::Took(segments, why) => {
            Occurred::Took { segments: list(segments), cause: cause(why).to_owned() }
        }
        Notice::Lost(segments) => Occurred::Lost { segments: list(segments) },
        Notice::Yielded(segments, to) => Occurred::Yielded { segments: list(segments), to: to.get() },
        Notice::Moved(segments, to, done) => Occurred::Moved { segments: list(segments), to: to.get(), done },
        Notice::Filled(member) => Occurred::Filled { member: member.get() },
        Notice::Late(tunnel) => Occurred::Late { tunnel: tunnel.to_string() },
        Notice::Malformed(member) => Occurred::Malformed { member: member.get() },
    }
}
