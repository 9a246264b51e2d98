//! The saga as a whole, without engines: the shipped transition functions of orders, inventory and payments, put together by a
//! model of what carries messages between them, and explored in every interleaving.
//!
//! In the model: messages of one producer about one order come in order to each consumer; deadlines, the reservation's alarm and the
//! customer come at any moment; the provider is asked and its answer recorded at two moments; a process may give a charge up without
//! knowing its outcome. Variants deliver messages twice, or late and out of order (dead letters that are redriven), or never.

use std::{
    collections::HashSet,
    hash::{Hash, Hasher},
};

use orders::saga::{
    Action, BEGINNING, By, FIRST, Fact, Reason, Rejection, Release, State, Transition, Waiting, transition,
};

#[expect(dead_code, reason = "the neighbour's file as it is; not all of it is needed here")]
#[path = "../../../inventory/src/reservation/state.rs"]
mod inventory;
#[expect(dead_code, reason = "the neighbour's file as it is; not all of it is needed here")]
#[path = "../../../payments/src/state.rs"]
mod payments;

/// A transition function of orders: the shipped one, or one with a mistake.
type Saga = fn(State, Fact) -> Transition;
/// What must hold in the end.
type Verdict = fn(&World) -> Result<(), &'static str>;

/// What orders says to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Said {
    Placed,
    Paid,
    Due,
    Cancelled,
}

/// Where a message is on its way to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Message {
    ToInventory(Said),
    ToPayments(Said),
    FromInventory(Fact),
    FromPayments(Fact),
}

/// What inventory knows of the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stock(Option<inventory::State>);

impl Hash for Stock {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.0.map(inventory::State::name).hash(hasher);
    }
}

/// A job of payments' workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Job {
    None,
    Waiting,
    /// The provider has answered; nobody knows it yet.
    Asked(Answered),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Answered {
    Charged,
    Declined,
    GaveUp,
    Returned,
    NothingHeld,
    Over,
}

/// How often something unusual may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Budget {
    cancels: u8,
    refunds: u8,
    /// Messages that come once more, at any later time.
    duplicates: u8,
    /// Messages that become dead letters and are redriven at any later time.
    redrives: u8,
    /// Messages that become dead letters for good.
    losses: u8,
}

const CUSTOMER: Budget = Budget { cancels: 1, refunds: 0, duplicates: 0, redrives: 0, losses: 0 };

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    order: State,
    reason: Option<Reason>,
    stock: Stock,
    payment: Option<payments::State>,
    /// Payments heard of the cancellation first.
    remembered: bool,
    /// The provider's book: money is held; nothing is taken any more.
    money_held: bool,
    voided: bool,
    charge: Job,
    give_back: Job,
    /// One after the other.
    to_inventory: Vec<Said>,
    to_payments: Vec<Said>,
    from_inventory: Vec<Fact>,
    from_payments: Vec<Fact>,
    /// At any time.
    deadlines: Vec<Waiting>,
    alarm: bool,
    aside: Vec<Message>,
    refund_asked: bool,
    budget: Budget,
}

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
enum Step {
    Deliver(Message),
    DeliverAndKeep(Message),
    SetAside(Message),
    Lose(Message),
    Redrive(usize),
    Deadline(usize),
    Alarm,
    Cancel,
    AskForRefund,
    Charge(Answered),
    RecordCharge,
    GiveBack,
    RecordGiveBack,
}

impl World {
    fn begin(budget: Budget) -> Self {
        let mut world = Self {
            order: FIRST,
            reason: None,
            stock: Stock(None),
            payment: None,
            remembered: false,
            money_held: false,
            voided: false,
            charge: Job::None,
            give_back: Job::None,
            to_inventory: vec![],
            to_payments: vec![],
            from_inventory: vec![],
            from_payments: vec![],
            deadlines: vec![],
            alarm: false,
            aside: vec![],
            refund_asked: false,
            budget,
        };
        world.order_moves(Transition::To { state: FIRST, reason: None, actions: BEGINNING });
        world
    }

    /// Everything that is still to come has come.
    fn is_quiet(&self) -> bool {
        self.heads().is_empty()
            && self.deadlines.is_empty()
            && !self.alarm
            && self.aside.is_empty()
            && self.charge == Job::None
            && self.give_back == Job::None
    }

    fn heads(&self) -> Vec<Message> {
        let mut heads = Vec::new();
        heads.extend(self.to_inventory.first().map(|said| Message::ToInventory(*said)));
        heads.extend(self.to_payments.first().map(|said| Message::ToPayments(*said)));
        heads.extend(self.from_inventory.first().map(|fact| Message::FromInventory(*fact)));
        heads.extend(self.from_payments.first().map(|fact| Message::FromPayments(*fact)));
        heads
    }

    /// Everything that can happen next, with what inventory decides if it has to.
    fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for message in self.heads() {
            steps.push(Step::Deliver(message));
            if self.budget.duplicates > 0 {
                steps.push(Step::DeliverAndKeep(message));
            }
            if self.budget.redrives > 0 {
                steps.push(Step::SetAside(message));
            }
            if self.budget.losses > 0 {
                steps.push(Step::Lose(message));
            }
        }
        steps.extend((0..self.aside.len()).map(Step::Redrive));
        steps.extend((0..self.deadlines.len()).map(Step::Deadline));
        if self.alarm {
            steps.push(Step::Alarm);
        }
        if self.budget.cancels > 0 {
            steps.push(Step::Cancel);
        }
        if self.budget.refunds > 0 && self.payment.is_some() {
            steps.push(Step::AskForRefund);
        }
        match self.charge {
            Job::Waiting => {
                steps.extend([Answered::Charged, Answered::Declined, Answered::GaveUp].map(Step::Charge));
                // The payment is read before the provider is asked, so a charge that nobody waits for may be asked for or not.
                if self.payment != Some(payments::State::Pending) {
                    steps.push(Step::Charge(Answered::Over));
                }
            }
            Job::Asked(_) => steps.push(Step::RecordCharge),
            Job::None => {}
        }
        match self.give_back {
            Job::Waiting => steps.push(Step::GiveBack),
            Job::Asked(_) => steps.push(Step::RecordGiveBack),
            Job::None => {}
        }
        steps
    }

    /// The worlds that a step leads to: more than one where stock is there or not.
    fn after(&self, step: Step, saga: Saga) -> Vec<Self> {
        let mut next = self.clone();
        match step {
            Step::Deliver(message) => {
                next.take_head(message);
                return next.deliver(message, saga);
            }
            Step::DeliverAndKeep(message) => {
                next.take_head(message);
                next.budget.duplicates -= 1;
                next.aside.push(message);
                return next.deliver(message, saga);
            }
            Step::SetAside(message) => {
                next.take_head(message);
                next.budget.redrives -= 1;
                next.aside.push(message);
            }
            Step::Lose(message) => {
                next.take_head(message);
                next.budget.losses -= 1;
            }
            Step::Redrive(index) => {
                let message = next.aside.remove(index);
                return next.deliver(message, saga);
            }
            Step::Deadline(index) => {
                let waiting = next.deadlines.remove(index);
                next.order_hears(Fact::DeadlineReached(waiting), saga);
            }
            Step::Alarm => {
                next.alarm = false;
                return next.inventory_hears(inventory::Event::Due { is_over: true });
            }
            Step::Cancel => {
                next.budget.cancels -= 1;
                next.order_hears(Fact::CancellationRequested(By::Customer), saga);
            }
            Step::AskForRefund => {
                next.budget.refunds -= 1;
                next.refund_asked = true;
                next.payment_hears(payments::Fact::RefundAsked);
            }
            Step::Charge(answered) => next.ask_for_money(answered),
            Step::RecordCharge => {
                let Job::Asked(answered) = std::mem::replace(&mut next.charge, Job::None) else { unreachable!() };
                match answered {
                    Answered::Charged => next.payment_hears(payments::Fact::Charged),
                    Answered::Declined => {
                        next.payment_hears(payments::Fact::Declined(payments::DeclineReason::CardDeclined));
                    }
                    Answered::GaveUp => next.payment_hears(payments::Fact::GaveUp),
                    Answered::Over | Answered::Returned | Answered::NothingHeld => {}
                }
            }
            Step::GiveBack => {
                let returned = std::mem::take(&mut next.money_held);
                next.voided = true;
                next.give_back = Job::Asked(if returned { Answered::Returned } else { Answered::NothingHeld });
            }
            Step::RecordGiveBack => {
                let Job::Asked(answered) = std::mem::replace(&mut next.give_back, Job::None) else { unreachable!() };
                next.payment_hears(match answered {
                    Answered::Returned => payments::Fact::MoneyBack,
                    _ => payments::Fact::NothingHeld,
                });
            }
        }
        vec![next]
    }

    fn take_head(&mut self, message: Message) {
        match message {
            Message::ToInventory(_) => drop(self.to_inventory.remove(0)),
            Message::ToPayments(_) => drop(self.to_payments.remove(0)),
            Message::FromInventory(_) => drop(self.from_inventory.remove(0)),
            Message::FromPayments(_) => drop(self.from_payments.remove(0)),
        }
    }

    fn deliver(mut self, message: Message, saga: Saga) -> Vec<Self> {
        match message {
            Message::ToInventory(said) => {
                return self.inventory_hears(match said {
                    Said::Placed => inventory::Event::Placed,
                    Said::Paid => inventory::Event::Paid,
                    Said::Cancelled => inventory::Event::Cancelled,
                    Said::Due => unreachable!("payments hears that"),
                });
            }
            Message::ToPayments(Said::Due) => {
                if !self.remembered && self.payment.is_none() {
                    self.payment = Some(payments::State::Pending);
                    self.charge = Job::Waiting;
                }
            }
            Message::ToPayments(_) if self.payment.is_none() => self.remembered = true,
            Message::ToPayments(_) => self.payment_hears(payments::Fact::OrderCancelled),
            Message::FromInventory(fact) | Message::FromPayments(fact) => self.order_hears(fact, saga),
        }
        vec![self]
    }

    fn order_hears(&mut self, fact: Fact, saga: Saga) {
        self.order_moves(saga(self.order, fact));
    }

    fn order_moves(&mut self, transition: Transition) {
        let Transition::To { state, reason, actions } = transition else { return };
        (self.order, self.reason) = (state, reason);
        for action in actions {
            match action {
                Action::AskForStock => self.to_inventory.push(Said::Placed),
                Action::AskForPayment => self.to_payments.push(Said::Due),
                Action::AskForGoods => self.to_inventory.push(Said::Paid),
                Action::AnnounceConfirmed => {}
                Action::AnnounceCancelled => {
                    self.to_inventory.push(Said::Cancelled);
                    self.to_payments.push(Said::Cancelled);
                }
                Action::SetDeadline => self.deadlines.extend(state.waiting()),
            }
        }
    }

    fn inventory_hears(mut self, event: inventory::Event) -> Vec<Self> {
        use inventory::{State as S, Step as Do};
        match inventory::step(self.stock.0, event) {
            Do::Reserve => {
                let mut worlds = Vec::new();
                for rejection in [Rejection::OutOfStock, Rejection::UnknownProduct] {
                    let mut without = self.clone();
                    without.stock = Stock(Some(S::Rejected));
                    without.from_inventory.push(Fact::StockRejected(rejection));
                    worlds.push(without);
                }
                self.stock = Stock(Some(S::Held));
                self.from_inventory.push(Fact::StockReserved);
                self.alarm = true;
                worlds.push(self);
                return worlds;
            }
            Do::Commit => {
                self.stock = Stock(Some(S::Committed));
                self.from_inventory.push(Fact::StockCommitted);
            }
            Do::Release(reason) => {
                self.stock = Stock(Some(S::Released));
                let expired = reason == inventory::Reason::Expired;
                let release = if expired { Release::Expired } else { Release::Cancelled };
                self.from_inventory.push(Fact::StockReleased(release));
            }
            Do::TakeBack => {
                self.stock = Stock(Some(S::Released));
                self.from_inventory.push(Fact::StockReleased(Release::Cancelled));
            }
            Do::Remember => self.stock = Stock(Some(S::Cancelled)),
            // The first is the alarm that rang too early, the last a dead letter.
            Do::WaitOn | Do::Nothing | Do::NeverHeardOf => {}
        }
        vec![self]
    }

    fn payment_hears(&mut self, fact: payments::Fact) {
        use payments::{Effect, Transition as Payment};
        let Some(state) = self.payment else { return };
        let Payment::To(next, effects) = payments::transition(state, fact) else { return };
        self.payment = Some(next);
        for effect in effects {
            match effect {
                Effect::AnnounceAuthorized => self.from_payments.push(Fact::PaymentAuthorized),
                Effect::AnnounceDeclined => self.from_payments.push(Fact::PaymentDeclined),
                Effect::AnnounceRefunded => self.from_payments.push(Fact::PaymentRefunded),
                Effect::GiveBack => self.give_back = Job::Waiting,
            }
        }
    }

    /// The provider takes nothing under a key that was voided; whoever gave up does not know whether it took something.
    fn ask_for_money(&mut self, answered: Answered) {
        self.charge = Job::Asked(match answered {
            Answered::Charged | Answered::Declined if self.voided => Answered::GaveUp,
            Answered::Charged => {
                self.money_held = true;
                Answered::Charged
            }
            Answered::GaveUp => {
                self.money_held |= !self.voided;
                Answered::GaveUp
            }
            other => other,
        });
    }

    /// What must hold when everything has come that comes.
    fn has_ended(&self) -> Result<(), &'static str> {
        if self.order.is_final() { Ok(()) } else { Err("the order waits for ever") }
    }

    /// What must hold when everything has come.
    fn verdict(&self) -> Result<(), &'static str> {
        let has_goods = self.stock.0 == Some(inventory::State::Committed);
        let keeps_goods = has_goods || self.stock.0 == Some(inventory::State::Held);
        match self.order {
            State::Placed | State::Reserved | State::Paid => Err("the order waits for ever"),
            State::Confirmed if !has_goods => Err("confirmed without goods"),
            State::Confirmed if !self.money_held && !self.refund_asked => Err("confirmed without money"),
            State::Cancelled if keeps_goods => Err("cancelled, but goods are kept for it"),
            State::Cancelled if self.money_held => Err("cancelled, but its money is kept"),
            State::Confirmed | State::Cancelled => Ok(()),
        }
    }
}

/// What was seen on the way: an exploration that never meets the hard cases proves nothing.
#[derive(Debug, Default)]
struct Seen {
    worlds: usize,
    ends: usize,
    confirmed: usize,
    reasons: HashSet<Reason>,
    /// The reservation lapsed after the payment was authorized and before the order was confirmed.
    lapsed_while_paid: bool,
    /// The order was cancelled after its goods had become the customer's.
    cancelled_after_commit: bool,
    /// The money was taken after the order had been cancelled.
    charged_after_cancel: bool,
    /// Payments heard of the cancellation before it heard of the order.
    remembered: bool,
}

/// Goes through every world once. The error tells how to get to the bad one.
fn explore(budget: Budget, saga: Saga, verdict: Verdict) -> Result<Seen, String> {
    let mut seen = Seen::default();
    let mut known = HashSet::new();
    let mut trail = Vec::new();
    visit(&World::begin(budget), saga, verdict, &mut known, &mut seen, &mut trail)?;
    seen.worlds = known.len();
    Ok(seen)
}

fn visit(
    world: &World,
    saga: Saga,
    verdict: Verdict,
    known: &mut HashSet<World>,
    seen: &mut Seen,
    trail: &mut Vec<Step>,
) -> Result<(), String> {
    if !known.insert(world.clone()) {
        return Ok(());
    }
    seen.lapsed_while_paid |= world.order == State::Paid
        && world.stock.0 == Some(inventory::State::Released)
        && world.from_inventory.contains(&Fact::StockReleased(Release::Expired));
    seen.cancelled_after_commit |=
        world.order == State::Cancelled && world.stock.0 == Some(inventory::State::Committed);
    seen.charged_after_cancel |=
        world.order == State::Cancelled && world.charge == Job::Asked(Answered::Charged) && world.money_held;
    seen.remembered |= world.remembered;
    if world.is_quiet() {
        verdict(world).map_err(|what| format!("{what}, after {trail:#?}: {world:#?}"))?;
        seen.ends += 1;
        seen.confirmed += usize::from(world.order == State::Confirmed);
        seen.reasons.extend(world.reason);
    }
    for step in world.steps() {
        for next in world.after(step, saga) {
            trail.push(step);
            visit(&next, saga, verdict, known, seen, trail)?;
            trail.pop();
        }
    }
    Ok(())
}

#[test]
fn in_every_interleaving_an_order_ends_with_goods_and_money_or_with_neither() {
    let seen = explore(CUSTOMER, transition, World::verdict).unwrap();
    assert!(seen.worlds > 1_000 && seen.ends > 10 && seen.confirmed > 0, "{seen:?}");
    assert_eq!(seen.reasons.len(), Reason::ALL.len(), "{seen:?}");
    assert!(seen.lapsed_while_paid && seen.cancelled_after_commit && seen.charged_after_cancel, "{seen:?}");
}

#[test]
fn messages_that_come_twice_change_nothing_of_that() {
    let seen = explore(Budget { duplicates: 2, ..CUSTOMER }, transition, World::verdict).unwrap();
    assert!(seen.worlds > 10_000, "{seen:?}");
}

#[test]
fn dead_letters_that_are_redriven_late_change_nothing_of_that() {
    let seen = explore(Budget { redrives: 2, ..CUSTOMER }, transition, World::verdict).unwrap();
    assert!(seen.worlds > 10_000 && seen.remembered, "{seen:?}");
    let seen = explore(Budget { duplicates: 1, redrives: 1, ..CUSTOMER }, transition, World::verdict).unwrap();
    assert!(seen.worlds > 10_000 && seen.remembered, "{seen:?}");
}

#[test]
fn a_refund_by_an_operator_at_any_moment_leaves_no_order_half_done() {
    let seen = explore(Budget { refunds: 1, redrives: 1, ..CUSTOMER }, transition, World::verdict).unwrap();
    assert!(seen.worlds > 10_000, "{seen:?}");
}

#[test]
fn whatever_is_lost_for_good_no_order_waits_for_ever() {
    let seen = explore(Budget { losses: 2, ..CUSTOMER }, transition, World::has_ended).unwrap();
    assert!(seen.worlds > 1_000, "{seen:?}");
}

/// Mistakes that the model must find; with each, the variant in which it shows.
#[test]
fn the_model_finds_mistakes() {
    const fn to(state: State, actions: &'static [Action]) -> Transition {
        Transition::To { state, reason: None, actions }
    }
    fn skips_paid(state: State, fact: Fact) -> Transition {
        match (state, fact) {
            (State::Reserved, Fact::PaymentAuthorized) => {
                to(State::Confirmed, &[Action::AskForGoods, Action::AnnounceConfirmed])
            }
            _ => transition(state, fact),
        }
    }
    fn confirms_what_is_cancelled(state: State, fact: Fact) -> Transition {
        match (state, fact) {
            (State::Cancelled, Fact::StockCommitted) => to(State::Confirmed, &[Action::AnnounceConfirmed]),
            _ => transition(state, fact),
        }
    }
    fn cancels_silently(state: State, fact: Fact) -> Transition {
        match transition(state, fact) {
            Transition::To { state: State::Cancelled, reason, .. } if matches!(fact, Fact::DeadlineReached(_)) => {
                Transition::To { state: State::Cancelled, reason, actions: &[] }
            }
            other => other,
        }
    }
    fn pays_without_asking(state: State, fact: Fact) -> Transition {
        match (state, fact) {
            (State::Placed, Fact::StockReserved) => to(State::Paid, &[Action::AskForGoods, Action::SetDeadline]),
            _ => transition(state, fact),
        }
    }
    fn forgets_the_deadline_of_reserved(state: State, fact: Fact) -> Transition {
        match (state, fact) {
            (State::Placed, Fact::StockReserved) => to(State::Reserved, &[Action::AskForPayment]),
            _ => transition(state, fact),
        }
    }
    let losing = Budget { losses: 2, ..CUSTOMER };
    for (name, budget, mutant, verdict, finding) in [
        ("skips paid", CUSTOMER, skips_paid as Saga, World::verdict as Verdict, "confirmed without goods"),
        ("confirms what is cancelled", CUSTOMER, confirms_what_is_cancelled, World::verdict, "confirmed without"),
        ("cancels silently", CUSTOMER, cancels_silently, World::verdict, "is kept"),
        ("pays without asking", CUSTOMER, pays_without_asking, World::verdict, "confirmed without money"),
        ("forgets a deadline", losing, forgets_the_deadline_of_reserved, World::has_ended, "waits for ever"),
    ] {
        let found = explore(budget, mutant, verdict).expect_err(name);
        assert!(found.lines().next().is_some_and(|line| line.contains(finding)), "{name}: {found}");
    }
}
