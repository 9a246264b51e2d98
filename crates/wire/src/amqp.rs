//! AMQP 0-9-1, as much of it as names the user and tells publishes, confirms, deliveries and acknowledgements apart (specification §2.3.5
//! for frames, §1.8 for `basic`).

use std::sync::Arc;

use crate::{
    Fault,
    fault::Who,
    injection::{Armed, aimed, hit},
    speech::{Split, Verdict, u32_at},
};

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;
/// Type (1 byte), channel (2) and size (4) come before the payload, one byte after it.
const HEAD_BYTES: usize = 7;
const END: u8 = 0xCE;
/// RabbitMQ's own limit is 128 KiB unless somebody asks for more.
const PAYLOAD_MAX_BYTES: usize = 64 * 1024 * 1024;
/// `AMQP` and a version, which a client begins with, and a broker answers with when it speaks another one.
const GREETING_BYTES: usize = 8;

/// Class and method.
const START_OK: [u8; 4] = [0, 10, 0, 11];
const CONSUME: [u8; 4] = [0, 60, 0, 20];
const PUBLISH: [u8; 4] = [0, 60, 0, 40];
const DELIVER: [u8; 4] = [0, 60, 0, 60];
const ACK: [u8; 4] = [0, 60, 0, 80];
const REJECT: [u8; 4] = [0, 60, 0, 90];
const NACK: [u8; 4] = [0, 60, 0, 120];

/// A connection to a broker.
#[derive(Debug, Default)]
pub(crate) struct Amqp {
    pub(crate) who: Who,
    /// The channel of the message after which it is cut, and what is missing of it; before its header nobody knows.
    last: Option<(u16, Option<u64>)>,
}

impl Amqp {
    pub(crate) fn split(bytes: &[u8]) -> Split {
        match bytes.first() {
            None => return Split::Part,
            Some(b'A') if bytes.len() < GREETING_BYTES => return Split::Part,
            Some(b'A') => return Split::Frame(GREETING_BYTES),
            Some(&(METHOD | HEADER | BODY | HEARTBEAT)) => {}
            Some(_) => return Split::Foreign,
        }
        let Some(size) = u32_at(bytes, 3) else { return Split::Part };
        match usize::try_from(size) {
            Ok(size) if size <= PAYLOAD_MAX_BYTES => match bytes.get(HEAD_BYTES + size) {
                None => Split::Part,
                Some(&END) => Split::Frame(HEAD_BYTES + size + 1),
                Some(_) => Split::Foreign,
            },
            _ => Split::Foreign,
        }
    }

    pub(crate) fn of_the_client(&mut self, frame: &[u8], faults: &[Arc<Armed>]) -> Verdict {
        match method(frame) {
            Some(START_OK) => {
                self.who.user = user(arguments(frame));
                let refused = aimed(faults, &self.who, |fault| (fault == Fault::Refuse).then_some(())).next();
                if let Some((armed, ())) = refused {
                    armed.bites();
                    return Verdict::Cut;
                }
            }
            Some(CONSUME) => self.who.consumes = true,
            Some(PUBLISH) => {
                self.who.publishes = true;
                let last = hit(faults, &self.who, |fault| match fault {
                    Fault::CutAfterPublishes(count) => Some((count.saturating_sub(1), 1)),
                    _ => None,
                });
                if last {
                    self.last = Some((channel(frame), None));
                }
            }
            Some(ACK | NACK | REJECT)
                if hit(faults, &self.who, |fault| (fault == Fault::LoseAck).then_some((0, 1))) =>
            {
                return Verdict::Cut;
            }
            _ => {}
        }
        self.after_the_last_message(frame)
    }

    pub(crate) fn of_the_server(&mut self, frame: &[u8], faults: &[Arc<Armed>]) -> Verdict {
        match method(frame) {
            // Whoever waits for the confirm of the message after which it is cut does not hear of it.
            Some(ACK | NACK) if self.last.is_some() => Verdict::Lose,
            Some(ACK | NACK) => {
                let lost = hit(faults, &self.who, |fault| match fault {
                    Fault::LoseConfirms { skip, times } => Some((skip, times)),
                    _ => None,
                });
                if lost { Verdict::Lose } else { Verdict::Pass }
            }
            Some(DELIVER) => {
                let late = aimed(faults, &self.who, |fault| match fault {
                    Fault::DelayDelivery(time) => Some(time),
                    _ => None,
                });
                late.into_iter()
                    .find(|(armed, _)| armed.has_its_turn(0, 1))
                    .map_or(Verdict::Pass, |(_, time)| Verdict::Wait(time))
            }
            _ => Verdict::Pass,
        }
    }

    /// A message is a method, a header that says how long its body is, and the body in pieces; other channels may speak between them.
    fn after_the_last_message(&mut self, frame: &[u8]) -> Verdict {
        let Some((of, left)) = &mut self.last else { return Verdict::Pass };
        if channel(frame) != *of {
            return Verdict::Pass;
        }
        let payload = &frame[HEAD_BYTES.min(frame.len())..];
        let size = payload.len().saturating_sub(1) as u64;
        match (frame.first(), *left) {
            // Class (2 bytes) and weight (2) come before the size.
            (Some(&HEADER), None) => {
                *left = payload.get(4..12).and_then(|size| size.try_into().ok()).map(u64::from_be_bytes);
            }
            (Some(&BODY), Some(missing)) => *left = Some(missing.saturating_sub(size)),
            _ => {}
        }
        if *left == Some(0) { Verdict::PassAndCut } else { Verdict::Pass }
    }
}

fn method(frame: &[u8]) -> Option<[u8; 4]> {
    if frame.first() != Some(&METHOD) {
        return None;
    }
    frame.get(HEAD_BYTES..HEAD_BYTES + 4)?.try_into().ok()
}

fn arguments(frame: &[u8]) -> &[u8] {
    frame.get(HEAD_BYTES + 4..).unwrap_or_default()
}

fn channel(frame: &[u8]) -> u16 {
    frame.get(1..3).and_then(|two| two.try_into().ok()).map_or(0, u16::from_be_bytes)
}

/// Of `connection.start-ok`: a table of properties, the mechanism, and its response, which in SASL PLAIN (RFC 4616) is an identity, the
/// user and the password with zeros between them.
fn user(arguments: &[u8]) -> Option<String> {
    let table = usize::try_from(u32_at(arguments, 0)?).ok()?;
    let rest = arguments.get(4..)?.get(table..)?;
    let (length, rest) = rest.split_first()?;
    let (mechanism, rest) = rest.split_at_checked(usize::from(*length))?;
    let response = usize::try_from(u32_at(rest, 0)?).ok()?;
    let response = rest.get(4..)?.get(..response)?;
    let user = response.split(|byte| *byte == 0).nth(1)?;
    (mechanism == b"PLAIN").then(|| String::from_utf8(user.to_vec()).ok())?
}

#[cfg(test)]
mod tests;
