//! The limits: the least programs that do the same, with sqlx and lapin alone. Nothing here may use anything of `messaging`.

pub(crate) mod commit;
pub(crate) mod consume;
pub(crate) mod mail;
pub(crate) mod path;
pub(crate) mod relay;
pub(crate) mod shop;
