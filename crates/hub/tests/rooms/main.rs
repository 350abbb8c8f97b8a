//! Rooms, one behaviour at a time.

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

#[path = "../support/mod.rs"]
mod support;

mod history;
mod limits;
mod membership;
mod presence;
mod refs;
mod rules;
mod shared;
mod start;
mod storing;
