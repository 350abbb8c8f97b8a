//! What a peer may do and make the server keep: every limit, over real sockets, with somebody beside it who
//! goes on.

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed
#![allow(dead_code, unreachable_pub)]

mod away;
mod memory;
mod partial;
mod rates;
mod renewed;
mod returns;
mod rig;
mod rooms;
mod slow;
