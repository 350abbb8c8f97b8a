//! Who may come in: each ticket once, revocations at once, and nothing forgotten by a sudden end. What holds wherever
//! the vault is, then what is special about a file and about Redis.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

mod answers;
mod file;
mod lists;
mod outage;
mod process;
mod replicas;
mod rig;
mod sessions;
mod shared;
mod speed;
mod tickets;
