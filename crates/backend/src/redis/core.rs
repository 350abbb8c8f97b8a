//! The rooms of one node, without IO.
