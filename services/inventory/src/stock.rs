//! Stock: the only statements that move it, and the book in which every movement is written.
//!
//! Rows of `products` are always locked in the order of their SKUs, and a transaction takes one order's lines or one restock: so no two of
//! them can wait for each other. The number that is checked and the number that is taken are in one statement.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use events::orders::v1::order_placed::Line;
use failpoints::{hit, without};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::{reservation::Reason, sku::Sku};

/// The most pieces that can ever have been received of one product: 2^53 - 1, the largest number that every reader of JSON understands.
pub(crate) const MAX_RECEIVED: i64 = 9_007_199_254_740_991;

/// What an order wants: each SKU once, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lines(BTreeMap<Sku, i64>);

/// Why the lines of an event cannot be right. It names no SKU: what does not look like one can be anything.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadLines {
    #[error("the order has no lines")]
    None,
    #[error("line {0}: the SKU is not one")]
    Sku(usize),
    #[error("line {0}: the quantity is 0")]
    Quantity(usize),
    #[error("line {0}: the SKU stands in another line too")]
    Duplicate(usize),
}

impl Lines {
    /// Takes the lines of an event, or says what is wrong with them.
    pub(crate) fn of(lines: &[Line]) -> Result<Self, BadLines> {
        let mut all = BTreeMap::new();
        for (n, line) in (1..).zip(lines) {
            let sku = Sku::parse(line.sku.as_str()).map_err(|_| BadLines::Sku(n))?;
            if line.quantity == 0 {
                return Err(BadLines::Quantity(n));
            }
            if all.insert(sku, i64::from(line.quantity)).is_some() {
                return Err(BadLines::Duplicate(n));
            }
        }
        if all.is_empty() { Err(BadLines::None) } else { Ok(Self(all)) }
    }

    /// Takes lines as they were stored.
    pub(crate) fn stored(lines: impl IntoIterator<Item = (Sku, i64)>) -> Self {
        Self(lines.into_iter().collect())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Sku, i64)> {
        self.0.iter().map(|(sku, quantity)| (sku, *quantity))
    }

    /// As two columns.
    pub(crate) fn columns(&self) -> (Vec<String>, Vec<i64>) {
        self.iter().map(|(sku, quantity)| (sku.as_str().to_owned(), quantity)).unzip()
    }
}

/// For whom stock is moved, for the book.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cause<'a> {
    pub(crate) order_id: Uuid,
    pub(crate) trace_id: Option<&'a str>,
}

/// What became of the wish to hold an order's goods.
#[derive(Debug)]
pub(crate) enum Reserved {
    /// All of it is held. These products have just become few, and nobody knows it yet.
    All(Vec<Low>),
    /// Nothing is held, because of this product.
    Nothing { missing: Sku, reason: Reason },
}

/// A product of which there is little left.
#[derive(Debug)]
pub(crate) struct Low {
    pub(crate) sku: Sku,
    pub(crate) name: String,
    pub(crate) available: i64,
}

/// Holds everything, or nothing.
pub(crate) async fn reserve(
    db: &mut PgConnection,
    lines: &Lines,
    cause: Cause<'_>,
    low_stock_threshold: i64,
) -> Result<Reserved, sqlx::Error> {
    // A savepoint: what the first lines took goes back when a later one gets nothing, and the order can still be refused.
    let mut all = db.begin().await?;
    let mut low = Vec::new();
    for (n, (sku, quantity)) in lines.iter().enumerate() {
        if n > 0 {
            hit("inventory.between_lines").await?;
        }
        let Some(left) = take(&mut all, sku, quantity).await? else {
            let exists = sqlx::query!("select from products where sku = $1", sku.as_str());
            let exists = exists.fetch_optional(&mut *all).await?.is_some();
            all.rollback().await?;
            let reason = if exists { Reason::OutOfStock } else { Reason::UnknownProduct };
            return Ok(Reserved::Nothing { missing: sku.clone(), reason });
        };
        let falls = falls_to(low_stock_threshold, left.available + quantity, left.available);
        if falls && is_to_be_told(&mut all, sku).await? {
            low.push(Low { sku: sku.clone(), name: left.name, available: left.available });
        }
    }
    write_down(&mut all, lines, cause, Movement::Reserve).await?;
    all.commit().await?;
    Ok(Reserved::All(low))
}

/// What is left of a product.
#[derive(sqlx::FromRow)]
struct Left {
    name: String,
    available: i64,
}

/// Holds so many of a product, if there are so many: the check and the change are one statement.
async fn take(db: &mut PgConnection, sku: &Sku, quantity: i64) -> Result<Option<Left>, sqlx::Error> {
    if without("one-statement") {
        return read_then_write(db, sku, quantity).await;
    }
    sqlx::query_as!(
        Left,
        "update products
         set available = available - $2, reserved = reserved + $2, version = version + 1, updated_at = clock_timestamp()
         where sku = $1 and available >= $2
         returning name, available",
        sku.as_str(),
        quantity
    )
    .fetch_optional(db)
    .await
}

/// For the switch `one-statement`: looks, decides, and writes what it has computed, whatever happened in between.
async fn read_then_write(db: &mut PgConnection, sku: &Sku, quantity: i64) -> Result<Option<Left>, sqlx::Error> {
    let seen = sqlx::query_as::<_, Left>("select name, available from products where sku = $1").bind(sku.as_str());
    let Some(seen) = seen.fetch_optional(&mut *db).await?.filter(|seen| seen.available >= quantity) else {
        return Ok(None);
    };
    let left = Left { available: seen.available - quantity, ..seen };
    let write = sqlx::query(
        "update products set available = $2, reserved = received - sold - $2, version = version + 1, updated_at = clock_timestamp()
         where sku = $1",
    );
    write.bind(sku.as_str()).bind(left.available).execute(db).await?;
    Ok(Some(left))
}

/// Whether a change brings a number down to the threshold. One that is there already does not fall to it again.
fn falls_to(threshold: i64, before: i64, after: i64) -> bool {
    before > threshold && after <= threshold
}

/// Whether nobody was told that there is little left of a product since it was restocked, or not for a day. From now on somebody was.
async fn is_to_be_told(db: &mut PgConnection, sku: &Sku) -> Result<bool, sqlx::Error> {
    let told = sqlx::query!(
        "update products set low_told_at = clock_timestamp()
         where sku = $1 and (low_told_at is null or low_told_at < clock_timestamp() - interval '1 day')",
        sku.as_str()
    );
    Ok(told.execute(db).await?.rows_affected() == 1)
}

/// What happens to goods that are held, or were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Movement {
    /// Free → held.
    Reserve,
    /// Held → free.
    Release,
    /// Held → the customer's.
    Commit,
    /// The customer's → free.
    TakeBack,
}

impl Movement {
    fn name(self) -> &'static str {
        match self {
            Self::Reserve => "reserve",
            Self::Release => "release",
            Self::Commit => "commit",
            Self::TakeBack => "take_back",
        }
    }

    /// What one piece adds to (available, reserved, sold).
    fn signs(self) -> (i64, i64, i64) {
        match self {
            Self::Reserve => (-1, 1, 0),
            Self::Release => (1, -1, 0),
            Self::Commit => (0, -1, 1),
            Self::TakeBack => (1, 0, -1),
        }
    }
}

/// Moves goods that the order has: this cannot fail for want of them, and if it does, the numbers are wrong and the constraints of the
/// table refuse it.
pub(crate) async fn shift(
    db: &mut PgConnection,
    lines: &Lines,
    cause: Cause<'_>,
    movement: Movement,
) -> Result<(), sqlx::Error> {
    let (available, reserved, sold) = movement.signs();
    for (sku, quantity) in lines.iter() {
        let moved = sqlx::query!(
            "update products
             set available = available + $2, reserved = reserved + $3, sold = sold + $4, version = version + 1,
                 updated_at = clock_timestamp()
             where sku = $1",
            sku.as_str(),
            available * quantity,
            reserved * quantity,
            sold * quantity
        )
        .execute(&mut *db)
        .await?;
        if moved.rows_affected() != 1 {
            return Err(sqlx::Error::RowNotFound);
        }
    }
    write_down(db, lines, cause, movement).await
}

async fn write_down(
    db: &mut PgConnection,
    lines: &Lines,
    cause: Cause<'_>,
    movement: Movement,
) -> Result<(), sqlx::Error> {
    let (skus, quantities) = lines.columns();
    let (available, reserved, sold) = movement.signs();
    sqlx::query!(
        "insert into stock_movements (sku, available, reserved, sold, received, cause, order_id, trace_id)
         select sku, $3 * quantity, $4 * quantity, $5 * quantity, 0, $6, $7, $8
         from unnest($1::text[], $2::bigint[]) with ordinality as line (sku, quantity, n) order by n",
        &skus,
        &quantities,
        available,
        reserved,
        sold,
        movement.name(),
        cause.order_id,
        cause.trace_id
    )
    .execute(db)
    .await
    .map(drop)
}

/// How much there is of a product, and where.
#[derive(Clone, Debug)]
pub(crate) struct Stock {
    pub(crate) sku: String,
    pub(crate) available: i64,
    pub(crate) reserved: i64,
    pub(crate) sold: i64,
    pub(crate) received: i64,
    pub(crate) version: i64,
    pub(crate) updated_at: DateTime<Utc>,
}

/// What became of a restock.
#[derive(Debug)]
pub(crate) enum Restocked {
    /// The pieces are there.
    Done(Stock),
    /// There would be more than [`MAX_RECEIVED`].
    TooMuch,
    /// There is no such product.
    NoProduct,
}

impl Stock {
    /// The stock as it is.
    pub(crate) async fn load(db: &mut PgConnection, sku: &Sku) -> Result<Option<Self>, sqlx::Error> {
        sqlx::query_as!(
            Self,
            "select sku, available, reserved, sold, received, version, updated_at from products where sku = $1",
            sku.as_str()
        )
        .fetch_optional(db)
        .await
    }

    /// More pieces have come in.
    pub(crate) async fn receive(
        db: &mut PgConnection,
        sku: &Sku,
        quantity: i64,
        trace_id: Option<&str>,
    ) -> Result<Restocked, sqlx::Error> {
        let received = sqlx::query_as!(
            Self,
            "update products
             set available = available + $2, received = received + $2, version = version + 1, updated_at = clock_timestamp(),
                 low_told_at = null
             where sku = $1 and received <= $3::bigint - $2
             returning sku, available, reserved, sold, received, version, updated_at",
            sku.as_str(),
            quantity,
            MAX_RECEIVED
        )
        .fetch_optional(&mut *db)
        .await?;
        let Some(stock) = received else {
            let exists = Self::load(db, sku).await?.is_some();
            return Ok(if exists { Restocked::TooMuch } else { Restocked::NoProduct });
        };
        sqlx::query!(
            "insert into stock_movements (sku, available, reserved, sold, received, cause, trace_id)
             values ($1, $2, 0, 0, $2, 'restock', $3)",
            sku.as_str(),
            quantity,
            trace_id
        )
        .execute(db)
        .await?;
        Ok(Restocked::Done(stock))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(lines: &[(&str, u32)]) -> Result<Lines, BadLines> {
        let line = |(sku, quantity): &(&str, u32)| Line { sku: (*sku).to_owned(), quantity: *quantity };
        Lines::of(&lines.iter().map(line).collect::<Vec<_>>())
    }

    #[test]
    fn lines_are_in_the_order_of_their_skus_however_they_came() {
        let lines = lines(&[("B", 2), ("A-1", u32::MAX), ("A", 1), ("0", 3)]).unwrap();
        assert_eq!(lines.columns().0, ["0", "A", "A-1", "B"]);
        assert_eq!(lines.columns().1, [3, 1, i64::from(u32::MAX), 2]);
    }

    #[test]
    fn lines_that_cannot_be_right_are_refused() {
        assert_eq!(lines(&[]), Err(BadLines::None));
        assert_eq!(lines(&[("A", 1), ("a", 1)]), Err(BadLines::Sku(2)));
        assert_eq!(lines(&[("", 1)]), Err(BadLines::Sku(1)));
        assert_eq!(lines(&[("A", 1), ("B", 0)]), Err(BadLines::Quantity(2)));
        assert_eq!(lines(&[("A", 1), ("B", 1), ("A", 1)]), Err(BadLines::Duplicate(3)));
    }

    #[test]
    fn little_left_is_told_when_it_becomes_so_and_not_while_it_stays_so() {
        for (before, after, told) in
            [(7, 6, false), (6, 5, true), (9, 0, true), (5, 4, false), (5, 5, false), (0, 0, false), (4, 6, false)]
        {
            assert_eq!(falls_to(5, before, after), told, "from {before} to {after}");
        }
        assert!(falls_to(0, 1, 0) && !falls_to(0, 0, 0));
    }

    #[test]
    fn no_movement_invents_or_loses_a_piece() {
        for movement in [Movement::Reserve, Movement::Release, Movement::Commit, Movement::TakeBack] {
            let (available, reserved, sold) = movement.signs();
            assert_eq!(available + reserved + sold, 0, "{movement:?}");
        }
    }
}
