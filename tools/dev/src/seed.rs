//! What a stack has from the beginning: a catalogue with stock, and a customer whose address is proven. It comes through the shop's
//! public doors, and only where it is missing.

use anyhow::{Context, Result};

use crate::{
    console::Step,
    shop::{Money, Person, Shop},
    state::State,
};

/// A product that every stack has.
struct Seed {
    sku: &'static str,
    name: &'static str,
    cents: i64,
    quantity: u32,
}

const fn seed(sku: &'static str, name: &'static str, cents: i64, quantity: u32) -> Seed {
    Seed { sku, name, cents, quantity }
}

pub(crate) const MUG: &str = "MUG-01";
pub(crate) const TEA: &str = "TEA-01";
pub(crate) const LAMP: &str = "LAMP-01";
pub(crate) const CLOCK: &str = "CLOCK-01";
pub(crate) const CHAIR: &str = "CHAIR-01";
/// There are only three.
pub(crate) const VASE: &str = "VASE-01";

const CATALOGUE: [Seed; 8] = [
    seed(MUG, "Enamel mug", 1_490, 5_000),
    seed(TEA, "Black tea, 250 g", 850, 8_000),
    seed(LAMP, "Reading lamp", 4_900, 1_200),
    seed(CLOCK, "Kitchen clock", 3_950, 800),
    seed(CHAIR, "Folding chair", 8_900, 600),
    seed("BOOK-01", "Notebook, squared", 620, 10_000),
    seed("BAG-01", "Canvas bag", 2_400, 2_000),
    seed(VASE, "Vase, one of three", 12_000, 3),
];

/// The people that the seeds know.
pub(crate) struct People {
    pub(crate) operator: Person,
    pub(crate) customer: Person,
}

/// Makes what is missing. Doing so again changes nothing.
pub(crate) async fn plant(shop: &Shop, state: &mut State) -> Result<People> {
    let operator = shop.operator().await.context("the operator cannot log in")?;
    let step = Step::start("catalogue", "looking for it");
    let mut new = 0;
    for Seed { sku, name, cents, quantity } in CATALOGUE {
        new += u32::from(shop.add_product(&operator, sku, name, &Money::cents(cents)).await?);
        // Goods that ever came are not sent again, whatever became of them.
        if shop.stock(&operator, sku).await?.received == 0 {
            shop.restock(&operator, sku, quantity, &format!("seed-{sku}")).await?;
        }
    }
    step.done(match new {
        0 => format!("{} products are there", CATALOGUE.len()),
        _ => format!("{new} products with stock"),
    });
    let step = Step::start("customer", "logging in");
    let account = state.customer()?;
    let customer = shop.customer(&account, "Ada Sample").await.context("the sample customer")?;
    step.done(format_args!("{}, registered and verified", account.email));
    Ok(People { operator, customer })
}
