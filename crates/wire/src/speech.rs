//! A conversation, taken apart into frames as it passes, whatever pieces it comes in. What a frame means is up to the protocol.

use std::{sync::Arc, time::Duration};

use crate::{amqp::Amqp, fault::Who, injection::Armed, postgres::Postgres};

/// Who says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// What the beginning of these bytes is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Split {
    /// A frame of this length, which is there, and not 0.
    Frame(usize),
    /// A frame of which more is to come.
    Part,
    /// Nothing that is understood: from here on everything passes.
    Foreign,
}

/// What is to be done with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass,
    Lose,
    /// Ask again after this time.
    Wait(Duration),
    /// Cut instead of passing it on.
    Cut,
    /// Pass it on, then cut.
    PassAndCut,
}

/// What is to be done when what was sifted is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Read,
    Wait(Duration),
    Cut,
}

/// Both sides of a conversation.
#[derive(Debug)]
pub(crate) struct Speech {
    protocol: Protocol,
    /// What the client says is not understood, or what the server says.
    foreign: [bool; 2],
}

#[derive(Debug)]
pub(crate) enum Protocol {
    Amqp(Amqp),
    Postgres(Postgres),
}

impl Speech {
    pub(crate) fn new(protocol: Protocol) -> Self {
        Self { protocol, foreign: [false; 2] }
    }

    pub(crate) fn who(&self) -> &Who {
        match &self.protocol {
            Protocol::Amqp(amqp) => &amqp.who,
            Protocol::Postgres(postgres) => &postgres.who,
        }
    }

    /// Appends to `out` what passes of these bytes, and says how many of them are done with.
    pub(crate) fn sift(&mut self, side: Side, bytes: &[u8], faults: &[Arc<Armed>], out: &mut Vec<u8>) -> (usize, Then) {
        let mut done = 0;
        loop {
            let rest = &bytes[done..];
            if self.foreign[side as usize] {
                out.extend_from_slice(rest);
                return (bytes.len(), Then::Read);
            }
            let length = match self.split(side, rest) {
                Split::Frame(length) => length,
                Split::Part => return (done, Then::Read),
                Split::Foreign => {
                    self.foreign[side as usize] = true;
                    continue;
                }
            };
            let frame = &rest[..length];
            match self.judge(side, frame, faults) {
                Verdict::Pass => out.extend_from_slice(frame),
                Verdict::Lose => {}
                Verdict::Wait(time) => return (done, Then::Wait(time)),
                Verdict::Cut => return (done, Then::Cut),
                Verdict::PassAndCut => {
                    out.extend_from_slice(frame);
                    return (done + length, Then::Cut);
                }
            }
            done += length;
        }
    }

    fn split(&self, side: Side, bytes: &[u8]) -> Split {
        match &self.protocol {
            Protocol::Amqp(_) => Amqp::split(bytes),
            Protocol::Postgres(postgres) => postgres.split(side, bytes),
        }
    }

    fn judge(&mut self, side: Side, frame: &[u8], faults: &[Arc<Armed>]) -> Verdict {
        match (&mut self.protocol, side) {
            (Protocol::Amqp(amqp), Side::Client) => amqp.of_the_client(frame, faults),
            (Protocol::Amqp(amqp), Side::Server) => amqp.of_the_server(frame, faults),
            (Protocol::Postgres(postgres), Side::Client) => postgres.of_the_client(frame, faults),
            (Protocol::Postgres(postgres), Side::Server) => postgres.of_the_server(frame, faults),
        }
    }
}

/// A number in network order, where there is one.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)
}
