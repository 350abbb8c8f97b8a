//! The protocol, feature by feature, as RFC 6455 and RFC 7692 order it.

mod chunking;
mod close;
mod control;
mod deflate;
mod fragmentation;
mod framing;
mod limits;
mod oracle;
mod peer;
mod prepared;
mod utf8;
