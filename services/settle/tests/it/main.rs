//! Settle on the embedded log, with both databases, dying between any two effects.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "tests fail by panicking, and share their helpers"
)]

mod crashes;
mod database;
mod restores;
mod settles;
mod world;

/// Runs each case on SQLite and on PostgreSQL.
macro_rules! on_both {
    ($($case:ident)*) => {
        mod on_sqlite {
            $(#[test]
            fn $case() {
                super::$case($crate::world::World::new($crate::database::Place::sqlite()));
            })*
        }
        mod on_postgres {
            $(#[test]
            fn $case() {
                super::$case($crate::world::World::new($crate::database::Place::postgres()));
            })*
        }
    };
}
pub(crate) use on_both;
