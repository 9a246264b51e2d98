//! Switches that take one guarantee away each, so that the test of the guarantee can be seen to fail.
//!
//! They exist only with the feature `mutants`, which nothing but `cargo dev test --mutants` turns on; in every other build this is `false`
//! and the compiler removes what depends on it.

/// Whether the guarantee of this name is switched off, by `MESSAGING_WITHOUT=<name>`.
#[cfg(feature = "mutants")]
pub(crate) fn without(guarantee: &str) -> bool {
    #[expect(clippy::disallowed_methods, reason = "a switch of the test build, not configuration")]
    static WITHOUT: std::sync::LazyLock<Option<String>> =
        std::sync::LazyLock::new(|| std::env::var("MESSAGING_WITHOUT").ok());
    WITHOUT.as_deref() == Some(guarantee)
}

/// Never, in a normal build.
#[cfg(not(feature = "mutants"))]
pub(crate) const fn without(_guarantee: &str) -> bool {
    false
}
