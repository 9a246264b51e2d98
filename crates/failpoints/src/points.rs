//! Every point there is. A test compares the list with the code.

/// A place in the code where a process can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// Such as `relay.after_claim`: the part, and between which two steps of it.
    pub name: &'static str,
    /// A service in whose processes it is reached by every order.
    pub service: &'static str,
}

/// All of them, in the order in which an order meets them.
pub const POINTS: &[Point] = &[];
