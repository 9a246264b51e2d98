//! Places where a process can be made to fail, and guarantees that can be taken away from it, each by its name: what a proof is made with,
//! and what proves that the proof can fail.
//!
//! Without the feature `enabled`, which nothing but `cargo dev test` and `cargo dev prove` turns on, [`without`] is `false`, [`hit`] does
//! nothing, and the compiler removes what depends on them. With it:
//!
//! - `WITHOUT=inbox,leases` takes guarantees away for the life of the process.
//! - `FAILPOINTS=<folder>` has every point look into the folder for a file of its name, `relay.after_claim` say. The file says what
//!   happens and at which hit: `abort 1`, `error 2`, `panic 1`, `hang 3 20` (for 20 seconds, then it goes on). Exactly one process takes
//!   it: it renames the file to `relay.after_claim.<pid>.hit` first, which is the evidence that the fault bit.
//!
//! The crate decides nothing about what is right afterwards.

#[cfg(feature = "enabled")]
mod armed;
mod points;

pub use points::{POINTS, Point, Reached};

/// Whether the guarantee of this name is taken away.
#[must_use]
#[cfg(feature = "enabled")]
pub fn without(guarantee: &str) -> bool {
    armed::without(guarantee)
}

/// Never, in a normal build.
#[must_use]
#[cfg(not(feature = "enabled"))]
pub const fn without(_guarantee: &str) -> bool {
    false
}

/// Fails here, if it is wanted: ends the process, panics, waits, or gives the error.
///
/// # Errors
/// The one that was asked for.
#[cfg(feature = "enabled")]
pub async fn hit(point: &'static str) -> std::io::Result<()> {
    armed::hit(point).await
}

/// Does nothing, in a normal build.
///
/// # Errors
/// None.
#[cfg(not(feature = "enabled"))]
#[expect(clippy::unused_async, reason = "it waits in the build that can fail")]
pub async fn hit(_point: &'static str) -> std::io::Result<()> {
    Ok(())
}
