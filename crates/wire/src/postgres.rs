//! PostgreSQL's protocol 3, as much of it as names the user and tells what became of transactions ("Frontend/Backend Protocol" in its
//! manual). What the server says is enough for that: its `CommandComplete` names what was done, whichever way it was asked for, and that of
//! a `COMMIT` is sent when the commit is durable. How somebody proves who they are passes unread.

use std::sync::Arc;

use crate::{
    Fault,
    fault::Who,
    injection::{Armed, aimed, hit},
    speech::{Side, Split, Verdict, u32_at},
};

/// A StartupMessage is not longer (`MAX_STARTUP_PACKET_LENGTH`).
const STARTUP_MAX_BYTES: usize = 10_000;
/// A message is not (`MaxAllocSize`).
const MESSAGE_MAX_BYTES: usize = 0x3fff_ffff;
const VERSION_3: u32 = 3;
/// In place of a version: a client asks for TLS, or for GSSAPI's encryption.
const WISHES: [u32; 2] = [80_877_103, 80_877_104];
/// Length (4 bytes) and code (4) of such a wish.
pub(crate) const WISH_BYTES: usize = 8;
/// "No": the client goes on without, or goes away.
pub(crate) const NO: u8 = b'N';

/// Of the client.
const QUERY: u8 = b'Q';
const SYNC: u8 = b'S';
const EXECUTE: u8 = b'E';
/// Of the server.
const COMMAND_COMPLETE: u8 = b'C';
const READY_FOR_QUERY: u8 = b'Z';
/// What ReadyForQuery says outside of a transaction.
const IDLE: u8 = b'I';

/// A connection to a database.
#[derive(Debug, Default)]
pub(crate) struct Postgres {
    pub(crate) who: Who,
    started: bool,
    in_transaction: bool,
    /// The transaction has changed rows.
    wrote: bool,
    /// Something was asked and nothing has come back.
    asked: bool,
}

/// Whether these bytes, which a client begins with, wish for encryption.
pub(crate) fn is_a_wish(bytes: [u8; WISH_BYTES]) -> bool {
    u32_at(&bytes, 0) == Some(8) && u32_at(&bytes, 4).is_some_and(|code| WISHES.contains(&code))
}

impl Postgres {
    pub(crate) fn split(&self, side: Side, bytes: &[u8]) -> Split {
        let starts = side == Side::Client && !self.started;
        // Only the first message has no type before its length. The length counts itself.
        let (kind, least, most) = if starts { (0, 8, STARTUP_MAX_BYTES) } else { (1, 4, MESSAGE_MAX_BYTES) };
        let Some(length) = u32_at(bytes, kind) else { return Split::Part };
        match usize::try_from(length) {
            Ok(length) if (least..=most).contains(&length) => {
                // What cancels a statement, or is of another version, is no conversation that is understood here.
                if starts && u32_at(bytes, 4).is_some_and(|version| version >> 16 != VERSION_3) {
                    Split::Foreign
                } else if bytes.len() < kind + length {
                    Split::Part
                } else {
                    Split::Frame(kind + length)
                }
            }
            _ => Split::Foreign,
        }
    }

    pub(crate) fn of_the_client(&mut self, message: &[u8], faults: &[Arc<Armed>]) -> Verdict {
        if !self.started {
            self.started = true;
            self.who.user = user(message);
            let refused = aimed(faults, &self.who, |fault| (fault == Fault::Refuse).then_some(())).next();
            if let Some((armed, ())) = refused {
                armed.bites();
                return Verdict::Cut;
            }
        } else if let Some(&(QUERY | SYNC | EXECUTE)) = message.first() {
            self.asked = true;
        }
        Verdict::Pass
    }

    pub(crate) fn of_the_server(&mut self, message: &[u8], faults: &[Arc<Armed>]) -> Verdict {
        let once = |which: Fault, who: &Who| hit(faults, who, |fault| (fault == which).then_some((0, 1)));
        if self.asked {
            self.asked = false;
            if once(Fault::CutReply, &self.who) {
                return Verdict::Cut;
            }
        }
        match message.first() {
            Some(&READY_FOR_QUERY) => {
                self.in_transaction = message.get(5) != Some(&IDLE);
                self.wrote &= self.in_transaction;
            }
            Some(&COMMAND_COMPLETE) => {
                let tag = message.get(5..).unwrap_or_default();
                let tag = tag.strip_suffix(&[0]).unwrap_or(tag);
                if tag == b"BEGIN" {
                    self.in_transaction = true;
                } else if tag == b"COMMIT" {
                    if std::mem::take(&mut self.wrote) && once(Fault::LoseCommitReply, &self.who) {
                        return Verdict::Cut;
                    }
                } else if tag == b"ROLLBACK" {
                    self.wrote = false;
                } else if self.in_transaction && changes_rows(tag) {
                    self.wrote = true;
                    if once(Fault::CutTransaction, &self.who) {
                        return Verdict::Cut;
                    }
                }
            }
            _ => {}
        }
        Verdict::Pass
    }
}

/// Of a StartupMessage: names and values, each with a zero after it. Without a user there is no conversation.
fn user(startup: &[u8]) -> Option<String> {
    let mut words = startup.get(8..)?.split(|byte| *byte == 0);
    while let (Some(name), Some(value)) = (words.next(), words.next()) {
        if name == b"user" {
            return String::from_utf8(value.to_vec()).ok();
        }
    }
    None
}

/// A command's tag such as `UPDATE 3` or `INSERT 0 1`: what was done, and to how many rows.
fn changes_rows(tag: &[u8]) -> bool {
    let mut words = tag.split(|byte| *byte == b' ');
    let changing = matches!(words.next(), Some(b"INSERT" | b"UPDATE" | b"DELETE" | b"MERGE"));
    changing && words.next_back().is_some_and(|count| count != b"0")
}

#[cfg(test)]
mod tests;
