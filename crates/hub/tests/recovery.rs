//! Clients that lose their connection, servers that end, backends that fail: nothing that was
//! acknowledged is lost, nothing comes twice, nothing is missing without being told.
//!
//! The server is a queue for each connection around the real hub; the clients do what the protocol
//! tells them to do. Both are compared with lists of what was published.

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

mod support;
mod world;

use std::cell::Cell;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use world::{Step, Tally, World};

fn any_step() -> impl Strategy<Value = Step> {
    let client = || 0..world::CLIENTS;
    let room = || 0..world::ROOMS;
    prop_oneof![
        8 => client().prop_map(|client| Step::Connect { client }),
        6 => (client(), room(), 0u32..4)
            .prop_map(|(client, room, rewind)| Step::Join { client, room, rewind }),
        1 => (client(), room()).prop_map(|(client, room)| Step::Leave { client, room }),
        3 => (client(), any::<bool>()).prop_map(|(client, lost)| Step::Drop { client, lost }),
        12 => (client(), room(), 1usize..4)
            .prop_map(|(client, room, count)| Step::Publish { client, room, count }),
        2 => client().prop_map(|client| Step::Repeat { client }),
        6 => (client(), 1usize..12).prop_map(|(client, count)| Step::Read { client, count }),
        3 => (client(), 1usize..5).prop_map(|(client, chunk)| Step::CatchUp { client, chunk }),
        8 => (0usize..4, prop::bool::weighted(0.85))
            .prop_map(|(pick, well)| Step::Store { pick, well }),
        6 => prop::bool::weighted(0.85).prop_map(|well| Step::Open { well }),
        1 => any::<bool>().prop_map(|refusing| Step::Refuse { refusing }),
        2 => (-300i64..900).prop_map(|by| Step::Clock { by }),
        2 => Just(Step::Look),
        1 => (0usize..4).prop_map(|stored| Step::Restart { stored }),
        1 => client().prop_map(|client| Step::NewSession { client }),
    ]
}

#[test]
fn nothing_is_lost_and_nothing_comes_twice() {
    let config = ProptestConfig { cases: 2500, failure_persistence: None, ..ProptestConfig::default() };
    let tally = Cell::new(Tally::default());
    let histories = prop::collection::vec(any_step(), 0..200);
    let result = TestRunner::new(config).run(&histories, |steps| {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        tally.set(tally.get() + world.settle());
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    println!("{:#?}", tally.get());
}
