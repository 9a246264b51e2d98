use std::time::Duration;

use super::*;
use crate::{
    Aim, Injection, Role,
    injection::Faults,
    speech::{Protocol, Side, Speech, Then},
};

fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![kind];
    frame.extend(channel.to_be_bytes());
    frame.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
    frame.extend(payload);
    frame.push(END);
    frame
}

fn method_frame(channel: u16, method: [u8; 4], arguments: &[u8]) -> Vec<u8> {
    frame(METHOD, channel, &[&method, arguments].concat())
}

/// What a client says first: the greeting and who it is.
fn opening() -> Vec<u8> {
    let response = b"\0orders\0secret";
    let mut arguments = vec![0, 0, 0, 3, 9, 9, 9, 5];
    arguments.extend(b"PLAIN");
    arguments.extend(u32::try_from(response.len()).unwrap().to_be_bytes());
    arguments.extend(response);
    arguments.extend(b"\x05en_US");
    [b"AMQP\0\0\x09\x01".to_vec(), method_frame(0, START_OK, &arguments)].concat()
}

/// A message with a body in two pieces.
fn message(channel: u16) -> Vec<u8> {
    let mut header = vec![0, 60, 0, 0];
    header.extend(5_u64.to_be_bytes());
    header.extend([0, 0]);
    [
        method_frame(channel, PUBLISH, &[0; 9]),
        frame(HEADER, channel, &header),
        frame(BODY, channel, b"he"),
        frame(BODY, channel, b"llo"),
    ]
    .concat()
}

fn ack(tag: u8) -> Vec<u8> {
    method_frame(1, ACK, &[0, 0, 0, 0, 0, 0, 0, tag, 0])
}

/// What passes of this, and what is done then, when it comes in two pieces.
fn passes(speech: &mut Speech, side: Side, all: &[u8], cut: usize, faults: &Faults) -> (Vec<u8>, Then) {
    let (mut out, mut held) = (Vec::new(), Vec::new());
    for piece in [&all[..cut], &all[cut..]] {
        held.extend_from_slice(piece);
        let (done, then) = speech.sift(side, &held, &faults.watch().borrow(), &mut out);
        held.drain(..done);
        if then != Then::Read {
            return (out, then);
        }
    }
    assert!(held.is_empty(), "whole frames leave nothing behind");
    (out, Then::Read)
}

/// The same, wherever the pieces part, with a fault of its own each time.
fn wherever(fault: Option<(Aim, Fault)>, side: Side, all: &[u8], look: impl Fn(Vec<u8>, Then, u64, &Who)) {
    for cut in 0..=all.len() {
        let faults = Faults::default();
        let injection: Option<Injection> = fault.clone().map(|(aim, fault)| faults.add(&aim, fault));
        let mut speech = Speech::new(Protocol::Amqp(Amqp::default()));
        if side == Side::Server {
            passes(&mut speech, Side::Client, &[opening(), message(1)].concat(), 0, &faults);
        }
        let (out, then) = passes(&mut speech, side, all, cut, &faults);
        look(out, then, injection.map_or(0, |injection| injection.count()), speech.who());
    }
}

#[test]
fn what_is_not_to_be_lost_passes_as_it_is_and_says_whose_it_is() {
    let said =
        [opening(), message(1), method_frame(2, CONSUME, &[0; 8]), frame(HEARTBEAT, 0, b""), message(3)].concat();
    wherever(None, Side::Client, &said, |out, then, _, who| {
        assert_eq!((out, then), (said.clone(), Then::Read));
        assert_eq!(*who, Who { user: Some("orders".into()), publishes: true, consumes: true });
    });
}

#[test]
fn the_confirm_that_is_meant_is_lost_and_no_other() {
    let said = [ack(1), ack(2), frame(HEARTBEAT, 0, b""), ack(3)].concat();
    let rest = [ack(1), frame(HEARTBEAT, 0, b""), ack(3)].concat();
    let fault = Fault::LoseConfirms { skip: 1, times: 1 };
    wherever(Some((Aim::at("orders"), fault)), Side::Server, &said, |out, then, count, _| {
        assert_eq!((out, then, count), (rest.clone(), Then::Read, 1));
    });
    for other in [Aim::at("users"), Aim::at("orders").that(Role::Consumes)] {
        wherever(Some((other, fault)), Side::Server, &said, |out, _, count, _| {
            assert_eq!((out, count), (said.clone(), 0));
        });
    }
}

#[test]
fn a_connection_is_cut_behind_the_last_piece_of_the_message_that_is_meant() {
    let before = [opening(), message(1), message(2)].concat();
    let said = [before.clone(), message(1)].concat();
    let fault = Fault::CutAfterPublishes(2);
    wherever(Some((Aim::at("orders"), fault)), Side::Client, &said, |out, then, count, _| {
        assert_eq!((out, then, count), (before.clone(), Then::Cut, 1));
    });
}

#[test]
fn the_confirm_of_the_message_after_which_it_is_cut_does_not_pass() {
    let faults = Faults::default();
    let _injection = faults.add(&Aim::everybody(), Fault::CutAfterPublishes(1));
    let mut speech = Speech::new(Protocol::Amqp(Amqp::default()));
    let (_, then) = passes(&mut speech, Side::Client, &[opening(), message(1)].concat(), 0, &faults);
    assert_eq!(then, Then::Cut);
    assert_eq!(passes(&mut speech, Side::Server, &ack(1), 0, &faults).0, b"");
}

#[test]
fn an_acknowledgement_is_lost_with_everything_behind_it() {
    let said = [opening(), method_frame(1, CONSUME, &[0; 8]), ack(1), ack(2)].concat();
    let before = [opening(), method_frame(1, CONSUME, &[0; 8])].concat();
    wherever(Some((Aim::at("orders"), Fault::LoseAck)), Side::Client, &said, |out, then, count, _| {
        assert_eq!((out, then, count), (before.clone(), Then::Cut, 1));
    });
}

#[test]
fn one_delivery_waits_and_passes_then() {
    let faults = Faults::default();
    let late = faults.add(&Aim::everybody(), Fault::DelayDelivery(Duration::from_secs(2)));
    let said = [ack(1), method_frame(1, DELIVER, b"one"), method_frame(1, DELIVER, b"two")].concat();
    let mut speech = Speech::new(Protocol::Amqp(Amqp::default()));
    let mut out = Vec::new();
    let (done, then) = speech.sift(Side::Server, &said, &faults.watch().borrow(), &mut out);
    assert_eq!((out.as_slice(), then), (ack(1).as_slice(), Then::Wait(Duration::from_secs(2))));
    let (rest, then) = speech.sift(Side::Server, &said[done..], &faults.watch().borrow(), &mut out);
    assert_eq!((done + rest, then, out), (said.len(), Then::Read, said.clone()));
    assert_eq!(late.end(), 1);
}

#[test]
fn what_is_not_understood_passes_and_is_not_asked_for_again() {
    let faults = Faults::default();
    let _injection = faults.add(&Aim::everybody(), Fault::LoseConfirms { skip: 0, times: 9 });
    for strange in
        [b"GET / HTTP/1.1\r\n".to_vec(), frame(METHOD, 1, b"x")[..8].to_vec(), vec![1, 0, 0, 255, 255, 255, 255]]
    {
        let said = [strange, b"whatever comes".to_vec(), ack(1)].concat();
        let mut speech = Speech::new(Protocol::Amqp(Amqp::default()));
        assert_eq!(passes(&mut speech, Side::Server, &said, said.len(), &faults), (said, Then::Read));
    }
}

#[test]
fn who_proves_it_in_another_way_has_no_name() {
    let mut arguments = vec![0, 0, 0, 0, 8];
    arguments.extend(b"EXTERNAL\0\0\0\0");
    assert_eq!(user(&arguments), None);
    assert_eq!(user(&[0, 0, 0, 9]), None);
}
