//! Clients that lose their connection, servers that end, backends that fail: nothing that was
//! acknowledged is lost, nothing comes twice, nothing is missing without being told.
//!
//! The server is a queue for each connection around the real hub; the clients do what the protocol
//! tells them to do. Both are compared with lists of what was published.

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

mod support;
mod world;

use std::cell::Cell;
use std::iter;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use world::{Step, Tally, World};

fn any_step() -> impl Strategy<Value = Step> {
    let client = || 0..world::CLIENTS;
    let room = || 0..world::ROOMS;
    prop_oneof![
        6 => client().prop_map(|client| Step::Connect { client }),
        3 => (client(), room(), 0u32..4)
            .prop_map(|(client, room, rewind)| Step::Join { client, room, rewind }),
        1 => (client(), room()).prop_map(|(client, room)| Step::Leave { client, room }),
        4 => (client(), prop::bool::weighted(0.8))
            .prop_map(|(client, lost)| Step::Drop { client, lost }),
        14 => (client(), room(), 1usize..4)
            .prop_map(|(client, room, count)| Step::Publish { client, room, count }),
        2 => client().prop_map(|client| Step::Repeat { client }),
        8 => (client(), 1usize..20).prop_map(|(client, count)| Step::Read { client, count }),
        3 => (client(), 1usize..4).prop_map(|(client, chunk)| Step::CatchUp { client, chunk }),
        14 => (0usize..4, prop::bool::weighted(0.9))
            .prop_map(|(pick, well)| Step::Store { pick, well }),
        5 => prop::bool::weighted(0.9).prop_map(|well| Step::Open { well }),
        1 => prop::bool::weighted(0.3).prop_map(|refusing| Step::Refuse { refusing }),
        3 => (-300i64..900).prop_map(|by| Step::Clock { by }),
        3 => Just(Step::Look),
        1 => (0usize..4).prop_map(|stored| Step::Restart { stored }),
        1 => client().prop_map(|client| Step::NewSession { client }),
    ]
}

/// Everybody comes to all rooms, and these are opened.
fn opening() -> impl Iterator<Item = Step> {
    let clients = (0..world::CLIENTS).flat_map(|client| {
        let joins = (0..world::ROOMS).map(move |room| Step::Join { client, room, rewind: 0 });
        iter::once(Step::Connect { client }).chain(joins)
    });
    clients.chain([Step::Open { well: true }, Step::Open { well: true }])
}

#[test]
fn nothing_is_lost_and_nothing_comes_twice() {
    let config =
        ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() };
    let tally = Cell::new(Tally::default());
    let histories = (any::<bool>(), prop::collection::vec(any_step(), 0..160));
    let result = TestRunner::new(config).run(&histories, |(opened, steps)| {
        let mut world = World::new();
        for step in opening().filter(|_| opened).chain(steps) {
            world.step(&step);
        }
        tally.set(tally.get() + world.settle());
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    // A test that never comes to what it is for has shown nothing.
    let tally = tally.get();
    println!("{tally:#?}");
    assert!(tally.delivered > 20_000 && tally.acknowledged > 10_000, "{tally:?}");
    let rare = [
        tally.recovered,
        tally.not_recovered,
        tally.behind,
        tally.overtaken,
        tally.published_before,
        tally.repeated_while_stored,
        tally.failed,
        tally.not_opened,
        tally.survived_a_crash,
        tally.graces,
        tally.lists,
    ];
    assert!(rare.iter().all(|times| *times > 30), "{tally:?}");
}
