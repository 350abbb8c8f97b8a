//! Rooms of many nodes, in Redis.

pub(crate) mod core;
pub(crate) mod step;
