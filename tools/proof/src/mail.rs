//! Mails: whatever is announced that people are to be told of has one letter, and each letter arrived, unless the mail server refused it
//! for good. It arrived once, unless somebody died with it in hand.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    dumps::Notification,
    index::{Index, bare, only, rows},
    verdict::{Finding, Look},
};

/// What people are told of: the event, the letter, and what in the letter names the event's key.
const TOLD: [(&str, &str, Names); 6] = [
    ("orders.v1.OrderConfirmed", "order_confirmed", Names::Detail("order_id")),
    ("orders.v1.OrderCancelled", "order_cancelled", Names::Detail("order_id")),
    ("payments.v1.PaymentRefunded", "payment_refunded", Names::Detail("order_id")),
    ("inventory.v1.StockLow", "stock_low", Names::Detail("sku")),
    ("users.v1.EmailVerificationRequested", "verify_email", Names::User),
    ("users.v1.RegistrationRepeated", "account_exists", Names::User),
];

/// The state of a letter whose mail was refused for good.
const BOUNCED: &str = "bounced";

#[derive(Clone, Copy)]
enum Names {
    Detail(&'static str),
    User,
}

impl Names {
    fn of(self, notification: &Notification) -> Option<&str> {
        match self {
            Self::Detail(name) => notification.details.as_ref()?.get(name).and_then(Value::as_str),
            Self::User => notification.user_id.as_deref(),
        }
    }
}

/// Whatever people are to be told of has one letter, which went out to the right person.
pub(crate) fn letters(index: &Index<'_>) -> Finding {
    let mut look = Look::new(
        "letters",
        "everything that people are told of has one letter, which arrived where it should or was refused for good, and no other arrived",
    );
    let mut asked: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for (kind, template, _) in TOLD {
        for one in index.announced.iter().filter(|one| one.event.kind == kind) {
            *asked.entry((template, one.event.key.as_str())).or_default() += 1;
        }
    }
    let mut written: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for notification in &index.run.notifications {
        let Some((_, template, names)) = TOLD.iter().find(|(_, template, _)| *template == notification.template) else {
            continue;
        };
        *written.entry((template, names.of(notification).unwrap_or_default())).or_default() += 1;
    }
    for (about, expected) in &asked {
        let found = written.remove(about).unwrap_or(0);
        look.expect(found == *expected, &[about.1], || format!("{found} letters {} instead of {expected}", about.0));
    }
    for ((template, about), found) in written {
        look.expect(false, &[about], || format!("{found} letters {template} that nothing asked for"));
    }
    for notification in &index.run.notifications {
        arrived(&mut look, index, notification);
    }
    refused(&mut look, index);
    for mail in &index.run.mails {
        let known = index.notifications.contains_key(bare(&mail.message_id));
        look.expect(known, &[&mail.message_id], || format!("a mail that nobody wrote: {:?}", mail.subject));
    }
    look.done()
}

fn arrived(look: &mut Look, index: &Index<'_>, notification: &Notification) {
    let mails = rows(&index.mails, bare(&notification.message_id));
    let order = Names::Detail("order_id").of(notification).unwrap_or_default();
    let ids = [notification.id.as_str(), order];
    let came_back = notification.state == BOUNCED;
    look.expect(came_back || notification.state == "sent", &ids, || {
        format!("the letter {} is {:?}", notification.template, notification.state)
    });
    look.expect(came_back || !mails.is_empty(), &ids, || {
        format!("no mail arrived of the letter {}", notification.template)
    });
    let user = notification.user_id.as_deref().and_then(|user| only(&index.users, user));
    for mail in mails {
        if let Some(user) = user {
            look.expect(mail.recipient == user.email, &ids, || {
                format!("the mail went to {}, not to {}", mail.recipient, user.email)
            });
        }
        let told = mail.order_id.as_deref().unwrap_or_default();
        look.expect(order.is_empty() || told == order, &ids, || format!("the mail is about {told:?}"));
    }
}

/// No more letters came back than mails were refused, and of each that is said.
fn refused(look: &mut Look, index: &Index<'_>) {
    let bounced: Vec<&Notification> = index.run.notifications.iter().filter(|row| row.state == BOUNCED).collect();
    let refused: u64 = index.run.faults.iter().map(|fault| fault.mails_refused).sum();
    let ids: Vec<&str> = bounced.iter().map(|row| row.id.as_str()).collect();
    look.expect(bounced.len() as u64 <= refused, &ids, || {
        format!("{} letters came back, {refused} mails were refused", bounced.len())
    });
    for row in bounced {
        let said = index.announced_of("notifications.v1.EmailFailed", &row.id).len();
        look.expect(said == 1, &[&row.id], || format!("it came back, and that was said {said} times"));
    }
}

/// A mail arrives once, unless somebody died with it in hand.
pub(crate) fn copies(index: &Index<'_>) -> Finding {
    let mut look = Look::new(
        "copies",
        "a mail arrives once; again only where a fault hit its sender, and not more often than that",
    );
    let faults = index.run.faults.iter().filter(|fault| fault.mails_in_hand > 0).count();
    let allowed: u64 = index.run.faults.iter().map(|fault| fault.mails_in_hand).sum();
    let mut repeated = 0;
    for (id, mails) in &index.mails {
        let again = mails.len() - 1;
        repeated += again as u64;
        look.expect(again <= faults, &[id], || {
            format!("arrived {} times, with {faults} faults that can do that", mails.len())
        });
    }
    look.expect(repeated <= allowed, &[], || format!("{repeated} mails arrived again, {allowed} can be explained"));
    for (id, found) in &index.notifications {
        look.expect(found.len() == 1, &[id], || format!("{} letters with one Message-ID", found.len()));
    }
    look.done()
}
