//! What is told of sessions (RFC 2866, RFC 2869 section 2.1).

use std::time::Duration;

use crate::attribute::{Attributes, Kind};

/// What a record tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The session begins.
    Start,
    /// It goes on.
    Interim,
    /// It is over, because of this.
    Stop(Cause),
}

/// Why a session is over (RFC 2866 section 5.10).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The user has left.
    UserRequest = 1,
    /// The user is not reached any more.
    LostService = 3,
    /// It was idle for too long.
    IdleTimeout = 4,
    /// Its time is over.
    SessionTimeout = 5,
    /// An operator has ended it.
    AdminReset = 6,
    /// The protocol failed.
    NasError = 9,
    /// The access server has ended it for another reason.
    NasRequest = 10,
}

/// What a session has carried so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// From the user.
    pub input_octets: u64,
    /// As `input_octets`.
    pub input_packets: u64,
    /// To the user.
    pub output_octets: u64,
    /// As `output_octets`.
    pub output_packets: u64,
}

/// A record of a session.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its Acct-Session-Id.
    pub session: String,
    /// What it tells.
    pub status: Status,
    /// How long the session has lasted.
    pub time: Duration,
    /// What it has carried.
    pub usage: Usage,
    /// When that was so (unix time).
    pub unix: Duration,
    /// Whose session it is: all that is the same in its records.
    pub attributes: Attributes,
}

impl Record {
    /// Its attributes, but for what depends on when and to whom it is sent.
    pub(crate) fn attributes(&self) -> Attributes {
        let mut all = Attributes::default();
        let status = match self.status {
            Status::Start => 1,
            Status::Stop(_) => 2,
            Status::Interim => 3,
        };
        all.add_number(Kind::ACCT_STATUS_TYPE, status)
            .add_text(Kind::ACCT_SESSION_ID, &self.session)
            .add_seconds(Kind::EVENT_TIMESTAMP, self.unix)
            // Authenticated by RADIUS.
            .add_number(Kind::ACCT_AUTHENTIC, 1);
        if self.status != Status::Start {
            self.add_usage(&mut all);
        }
        if let Status::Stop(cause) = self.status {
            all.add_number(Kind::ACCT_TERMINATE_CAUSE, cause as u32);
        }
        all.extend(&self.attributes);
        all
    }

    fn add_usage(&self, all: &mut Attributes) {
        let Usage { input_octets, input_packets, output_octets, output_packets } = self.usage;
        all.add_seconds(Kind::ACCT_SESSION_TIME, self.time)
            .add_number(Kind::ACCT_INPUT_OCTETS, input_octets as u32)
            .add_number(Kind::ACCT_OUTPUT_OCTETS, output_octets as u32)
            .add_number(Kind::ACCT_INPUT_PACKETS, input_packets as u32)
            .add_number(Kind::ACCT_OUTPUT_PACKETS, output_packets as u32);
        // How often the numbers of 32 bits have gone around (RFC 2869 section 5.1).
        let gigawords = [
            (Kind::ACCT_INPUT_GIGAWORDS, input_octets >> 32),
            (Kind::ACCT_OUTPUT_GIGAWORDS, output_octets >> 32),
        ];
        for (kind, value) in gigawords.into_iter().filter(|(_, value)| *value > 0) {
            all.add_number(kind, value as u32);
        }
    }
}
