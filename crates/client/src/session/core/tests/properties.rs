//! Whatever the network and the server do: every acknowledged message is published once and in
//! order, no `ref` has two meanings, and readers miss nothing that they are not told of.

use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;

use super::model::Entry;
use super::world::{World, settings};
use crate::session::error::SessionError;
use crate::session::event::JoinOptions;

const ROOMS: [&str; 3] = ["a", "b", "c:quiet"];

#[derive(Clone, Debug)]
enum Step {
    Send(usize),
    SendDirect,
    Publish(usize),
    PublishToUs,
    Pass(usize, u8),
    ToServer(usize),
    ToClient(usize),
    Read(usize),
    Drop,
    /// The connection breaks, and the server forgets the session.
    Expire,
    /// The same, and we become somebody else.
    OtherUser,
    /// The past of a room is gone.
    NewEpoch(usize),
    /// The history becomes shorter.
    Trim(usize, u64),
    /// A room goes on from elsewhere: without its last messages, and with other users.
    Renew(usize, usize, Option<u8>),
    LoseMessage,
    Refuse(u32),
    /// The storage is away for so many publishes.
    Away(u32),
    RefuseQuestions(u32),
    /// The server says when to come back.
    Slot(u64),
    RefuseJoins(u32),
    Unreachable,
    Reachable,
    Advance(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let room = 0..ROOMS.len();
    prop_oneof![
        8 => room.clone().prop_map(Step::Send),
        1 => Just(Step::SendDirect),
        4 => room.clone().prop_map(Step::Publish),
        1 => Just(Step::PublishToUs),
        2 => (room.clone(), 0..3u8).prop_map(|(room, user)| Step::Pass(room, user)),
        8 => (1..6usize).prop_map(Step::ToServer),
        8 => (1..6usize).prop_map(Step::ToClient),
        3 => (1..9usize).prop_map(Step::Read),
        3 => Just(Step::Drop),
        1 => Just(Step::Expire),
        1 => Just(Step::OtherUser),
        1 => room.clone().prop_map(Step::NewEpoch),
        1 => (room.clone(), 0..4u64).prop_map(|(room, keep)| Step::Trim(room, keep)),
        2 => (room, 0..3usize, prop::option::of(0..3u8))
            .prop_map(|(room, lose, user)| Step::Renew(room, lose, user)),
        1 => Just(Step::LoseMessage),
        1 => (1..4u32).prop_map(Step::Refuse),
        2 => (1..6u32).prop_map(Step::Away),
        1 => (1..3u32).prop_map(Step::RefuseQuestions),
        1 => (0..20_000u64).prop_map(Step::Slot),
        1 => (1..3u32).prop_map(Step::RefuseJoins),
        1 => Just(Step::Unreachable),
        2 => Just(Step::Reachable),
        4 => (100..30_000u64).prop_map(Step::Advance),
    ]
}

fn perform(world: &mut World, step: &Step) {
    match *step {
        Step::Send(room) => {
            world.send(ROOMS[room]);
        }
        Step::SendDirect => {
            world.send_direct("friend");
        }
        Step::Publish(room) => world.publish(ROOMS[room]),
        Step::PublishToUs => {
            let own = format!("@u{}", world.server.user);
            world.publish(&own);
        }
        Step::Pass(room, user) => world.server.pass(ROOMS[room], &format!("v{user}")),
        Step::ToServer(count) => world.serve(count),
        Step::ToClient(count) => {
            world.deliver(count);
        }
        Step::Read(count) => world.read(count),
        Step::Drop => world.drop_connection(),
        Step::Expire => {
            world.server.expire();
            world.drop_connection();
        }
        Step::OtherUser => {
            world.server.user += 1;
            world.server.expire();
            world.drop_connection();
        }
        Step::NewEpoch(room) => {
            if let Some(room) = world.server.rooms.get_mut(ROOMS[room]) {
                room.epoch += 1;
                room.trimmed = 0;
            }
            world.drop_connection();
        }
        Step::Trim(room, keep) => {
            if let Some(room) = world.server.rooms.get_mut(ROOMS[room]) {
                room.trimmed = room.seq().saturating_sub(keep).max(room.trimmed);
            }
        }
        Step::Renew(room, lose, user) => {
            let user = user.map(|user| format!("v{user}"));
            world.server.renew(ROOMS[room], lose, user.as_deref());
        }
        Step::LoseMessage => world.lose_message(),
        Step::Refuse(count) => world.server.refuse = count,
        Step::Away(count) => world.server.away = count,
        Step::RefuseQuestions(count) => world.server.refuse_questions = count,
        Step::Slot(after) => world.server.slot(after),
        Step::RefuseJoins(count) => world.server.refuse_joins = count,
        Step::Unreachable => {
            world.reachable = false;
            world.drop_connection();
        }
        Step::Reachable => world.reachable = true,
        Step::Advance(millis) => {
            world.advance(Duration::from_millis(millis));
        }
    }
}

/// What has to hold in the end.
fn check(world: &World, steps: &[Step]) {
    // Each room's ids in the order they were published, over all its epochs.
    let mut published: HashMap<&str, Vec<u64>> = HashMap::new();
    for (name, room) in &world.server.rooms {
        let own = |(epoch, log): (&u32, &Vec<Entry>)| -> Vec<u64> {
            let carried = room.carried.get(epoch).copied().unwrap_or(0);
            log.iter().skip(carried).map(|entry| entry.id).collect()
        };
        published.insert(name, room.log.iter().flat_map(own).collect());
    }
    let refused = steps.iter().any(|step| matches!(step, Step::Refuse(_) | Step::Away(_)));
    let mut sent: Vec<_> = world.sent.iter().collect();
    sent.sort();
    let mut last: HashMap<&str, usize> = HashMap::new();
    for (token, (room, id)) in sent {
        if world.server.lost.contains(id) {
            continue;
        }
        let ids = published.get(&**room).map_or(&[][..], |ids| ids);
        let places: Vec<_> = (0..ids.len()).filter(|place| ids[*place] == *id).collect();
        match &world.answers[token] {
            Ok(sent) => {
                assert_eq!(places.len(), 1, "{id} was acknowledged");
                let log = world.server.rooms[room].log.values();
                let seq = sent.seq.unwrap() as usize - 1;
                assert!(
                    log.into_iter().any(|log| log.get(seq).is_some_and(|it| it.id == *id)),
                    "{id} is elsewhere"
                );
                let before = last.insert(room, places[0]);
                assert!(refused || before.is_none_or(|it| it < places[0]), "{id} is out of order");
            }
            Err(SessionError::Uncertain) => assert!(places.len() <= 1, "{id} is there twice"),
            Err(error) => panic!("{id}: {error}"),
        }
    }
    let forgetful = |step: &Step| {
        matches!(step, Step::NewEpoch(_) | Step::Trim(..) | Step::OtherUser | Step::Renew(..))
    };
    for reader in world.readers.values() {
        assert_eq!(reader.ended, None);
        assert!(steps.iter().any(forgetful) || reader.lost == 0, "{} was lost", reader.room);
    }
}

fn run(steps: &[Step]) {
    let mut world = World::new(settings());
    world.me();
    world.join(ROOMS[0], JoinOptions::default().presence(true));
    world.join(ROOMS[1], JoinOptions::default().rewind(5));
    world.join(ROOMS[2], JoinOptions::default().presence(true).echo(false));
    world.settle();
    assert_eq!(world.readers.len(), 4);
    for step in steps {
        perform(&mut world, step);
    }
    // A hole at the end shows when something comes behind it.
    for room in ROOMS {
        world.publish(room);
    }
    perform(&mut world, &Step::PublishToUs);
    world.settle();
    check(&world, steps);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn nothing_is_lost_doubled_or_reordered(steps in prop::collection::vec(step(), 1..120)) {
        run(&steps);
    }

    /// Where only connections break, and nothing is forgotten.
    #[test]
    fn sessions_that_are_resumed_lose_nothing_at_all(
        mut steps in prop::collection::vec(step(), 1..200)
    ) {
        steps.retain(|step| !matches!(step, Step::Expire | Step::OtherUser | Step::NewEpoch(_)
            | Step::Trim(..) | Step::Renew(..)));
        let mut world = World::new(settings());
        world.join(ROOMS[0], JoinOptions::default());
        world.settle();
        for step in &steps {
            perform(&mut world, step);
        }
        world.publish(ROOMS[0]);
        world.settle();
        check(&world, &steps);
        prop_assert!(world.answers.values().all(Result::is_ok));
    }
}
