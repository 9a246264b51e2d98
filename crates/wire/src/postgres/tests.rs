use super::*;
use crate::{
    Aim,
    injection::Faults,
    speech::{Protocol, Speech, Then},
};

fn startup(user: &str) -> Vec<u8> {
    let words = format!("database\0shop\0user\0{user}\0\0");
    let mut message = u32::try_from(8 + words.len()).unwrap().to_be_bytes().to_vec();
    message.extend([0, 3, 0, 0]);
    message.extend(words.bytes());
    message
}

fn message(kind: u8, content: &[u8]) -> Vec<u8> {
    let mut message = vec![kind];
    message.extend(u32::try_from(4 + content.len()).unwrap().to_be_bytes());
    message.extend(content);
    message
}

fn complete(tag: &str) -> Vec<u8> {
    message(COMMAND_COMPLETE, format!("{tag}\0").as_bytes())
}

fn ready(state: u8) -> Vec<u8> {
    message(READY_FOR_QUERY, &[state])
}

/// `begin`, an insert and `commit`, as a server answers them.
fn transaction() -> [Vec<u8>; 3] {
    [
        [complete("BEGIN"), ready(b'T')].concat(),
        [message(b'2', b""), message(b'D', &[7; 300]), complete("INSERT 0 1"), ready(b'T')].concat(),
        [complete("COMMIT"), ready(b'I')].concat(),
    ]
}

/// What passes, what is done then and how often the fault bit: the same wherever the pieces part.
fn wherever(aim: &Aim, fault: Fault, said: &[u8]) -> (Vec<u8>, Then, u64) {
    let outcomes: Vec<_> = (0..=said.len())
        .map(|cut| {
            let faults = Faults::default();
            let injection = faults.add(aim, fault);
            let mut speech = Speech::new(Protocol::Postgres(Postgres::default()));
            let (mut out, mut held, mut then) = (Vec::new(), Vec::new(), Then::Read);
            let asked = [startup("orders"), message(QUERY, b"begin\0")].concat();
            speech.sift(Side::Client, &asked, &faults.watch().borrow(), &mut out);
            assert_eq!(std::mem::take(&mut out), asked);
            for piece in [&said[..cut], &said[cut..]] {
                held.extend_from_slice(piece);
                if then == Then::Read {
                    let done;
                    (done, then) = speech.sift(Side::Server, &held, &faults.watch().borrow(), &mut out);
                    held.drain(..done);
                }
            }
            (out, then, injection.count())
        })
        .collect();
    assert!(outcomes.windows(2).all(|pair| pair[0] == pair[1]));
    outcomes.into_iter().next().unwrap()
}

#[test]
fn the_answer_to_a_commit_is_cut_off_and_nothing_before_it() {
    let said = transaction().concat();
    let before = transaction()[..2].concat();
    assert_eq!(wherever(&Aim::at("orders"), Fault::LoseCommitReply, &said), (before, Then::Cut, 1));
    assert_eq!(wherever(&Aim::at("users"), Fault::LoseCommitReply, &said), (said, Then::Read, 0));
}

#[test]
fn a_transaction_that_wrote_nothing_or_was_rolled_back_is_no_ambiguous_commit() {
    let [begin, insert, commit] = transaction();
    let select = [complete("SELECT 4"), complete("UPDATE 0"), ready(b'T')].concat();
    let rollback = [complete("ROLLBACK"), ready(b'I')].concat();
    let alone = [complete("INSERT 0 1"), ready(b'I')].concat();
    for said in [
        [begin.clone(), select, commit.clone()].concat(),
        [begin.clone(), insert, rollback, begin, commit.clone()].concat(),
        [alone, commit].concat(),
    ] {
        assert_eq!(wherever(&Aim::everybody(), Fault::LoseCommitReply, &said), (said, Then::Read, 0));
    }
}

#[test]
fn a_transaction_is_cut_where_it_wrote() {
    let said = transaction().concat();
    let before = [transaction()[0].clone(), message(b'2', b""), message(b'D', &[7; 300])].concat();
    assert_eq!(wherever(&Aim::everybody(), Fault::CutTransaction, &said), (before, Then::Cut, 1));
}

#[test]
fn the_next_answer_is_cut_off_whole() {
    let said = transaction().concat();
    assert_eq!(wherever(&Aim::everybody(), Fault::CutReply, &said), (Vec::new(), Then::Cut, 1));
}

#[test]
fn a_client_says_who_it_is_and_the_rest_passes() {
    let said = [startup("orders"), message(b'p', b"a secret\0"), message(QUERY, b"select 1\0")].concat();
    for cut in 0..=said.len() {
        let faults = Faults::default();
        let mut speech = Speech::new(Protocol::Postgres(Postgres::default()));
        let (mut out, mut held) = (Vec::new(), Vec::new());
        for piece in [&said[..cut], &said[cut..]] {
            held.extend_from_slice(piece);
            let (done, then) = speech.sift(Side::Client, &held, &faults.watch().borrow(), &mut out);
            assert_eq!(then, Then::Read);
            held.drain(..done);
        }
        assert_eq!(out, said);
        assert_eq!(speech.who().user.as_deref(), Some("orders"));
    }
}

#[test]
fn who_is_refused_gets_no_further_than_the_name() {
    let faults = Faults::default();
    let refused = faults.add(&Aim::at("orders"), Fault::Refuse);
    for (user, then) in [("orders", Then::Cut), ("users", Then::Read)] {
        let mut speech = Speech::new(Protocol::Postgres(Postgres::default()));
        let found = speech.sift(Side::Client, &startup(user), &faults.watch().borrow(), &mut Vec::new());
        assert_eq!(found.1, then);
    }
    assert_eq!(refused.end(), 1);
}

#[test]
fn a_request_to_cancel_and_another_version_pass_unread() {
    let cancel = [0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 0, 1, 0, 0, 0, 2];
    let version_2 = [&[0, 0, 1, 40, 0, 2, 0, 0][..], &[0; 288]].concat();
    for said in [&cancel[..], &version_2] {
        let mut speech = Speech::new(Protocol::Postgres(Postgres::default()));
        let mut out = Vec::new();
        let faults = Faults::default();
        let (done, then) = speech.sift(Side::Client, said, &faults.watch().borrow(), &mut out);
        assert_eq!((done, then, out.as_slice()), (said.len(), Then::Read, said));
        assert_eq!(speech.who().user, None);
    }
}

#[test]
fn wishes_for_encryption_are_known() {
    assert!(is_a_wish([0, 0, 0, 8, 4, 210, 22, 47]));
    assert!(is_a_wish([0, 0, 0, 8, 4, 210, 22, 48]));
    // The beginning of a StartupMessage.
    assert!(!is_a_wish([0, 0, 0, 41, 0, 3, 0, 0]));
}
