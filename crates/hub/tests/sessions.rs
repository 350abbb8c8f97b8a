//! Who is connected and who may come back, against a list; and what they come back with.

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use throng_hub::{Asker, Ending, Identity, MAX_WINDOW, Sessions, Standing, Timestamp, Tokens};

const WINDOW: u64 = 1000;

#[derive(Clone, Debug)]
enum Step {
    Arrive {
        who: usize,
    },
    Depart {
        which: prop::sample::Index,
        ending: Ending,
    },
    /// The clock goes on.
    Wait {
        millis: u64,
    },
}

fn any_step() -> impl Strategy<Value = Step> {
    let ending = prop_oneof![Just(Ending::Orderly), Just(Ending::Lost), Just(Ending::Lost)];
    prop_oneof![
        4 => (0..PEOPLE.len()).prop_map(|who| Step::Arrive { who }),
        4 => (any::<prop::sample::Index>(), ending)
            .prop_map(|(which, ending)| Step::Depart { which, ending }),
        2 => (0u64..1500).prop_map(|millis| Step::Wait { millis }),
    ]
}

/// User and session.
const PEOPLE: [(&str, &str); 5] =
    [("u_1", "s_1"), ("u_1", "s_2"), ("u_2", "s_3"), ("u_2", "s_1"), ("u_3", "s_4")];

fn identity(who: usize) -> Arc<Identity> {
    let (user, session) = PEOPLE[who];
    Arc::new(Identity::anonymous(user, session, None))
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Connected(Asker),
    Lost(u64),
    Unknown,
}

fn run(steps: &[Step]) {
    let sessions = Sessions::new(Duration::from_millis(WINDOW), Timestamp(0));
    let mut states = [State::Unknown; PEOPLE.len()];
    // Every connection there ever was and has not ended, also those that were replaced.
    let mut connections: Vec<(usize, Asker)> = Vec::new();
    let mut now = 0;
    for (token, step) in (1..).zip(steps) {
        match step {
            Step::Arrive { who } => {
                let place = Asker { worker: 0, token };
                let older = sessions.arrive(&identity(*who), None, place, Timestamp(now)).unwrap();
                let expected = match states[*who] {
                    State::Connected(older) => Some(older),
                    _ => None,
                };
                assert_eq!(older, expected);
                states[*who] = State::Connected(place);
                connections.push((*who, place));
            }
            Step::Depart { .. } if connections.is_empty() => {}
            Step::Depart { which, ending } => {
                let (who, place) = connections.swap_remove(which.index(connections.len()));
                sessions.depart(&identity(who), place, *ending, Timestamp(now));
                if states[who] == State::Connected(place) {
                    states[who] = match ending {
                        Ending::Lost => State::Lost(now + WINDOW),
                        Ending::Orderly => State::Unknown,
                    };
                }
            }
            Step::Wait { millis } => now += millis,
        }
        for (who, state) in states.iter().enumerate() {
            let expected = match *state {
                State::Connected(place) => Standing::Connected(place),
                State::Lost(until) if now < until => Standing::Lost,
                _ => Standing::Unknown,
            };
            let (user, session) = PEOPLE[who];
            assert_eq!(sessions.standing(user, session, Timestamp(now)), expected);
        }
        let mut users = 0;
        for user in ["u_1", "u_2", "u_3"] {
            let here = (0..PEOPLE.len()).filter(|who| PEOPLE[*who].0 == user);
            let mut places: Vec<_> = here
                .filter_map(|who| match states[who] {
                    State::Connected(place) => Some(place.token),
                    _ => None,
                })
                .collect();
            users += usize::from(!places.is_empty());
            let mut told: Vec<_> = sessions.places(user).iter().map(|at| at.token).collect();
            places.sort_unstable();
            told.sort_unstable();
            assert_eq!(told, places);
        }
        assert_eq!(sessions.user_count(), users);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sessions_are_what_the_list_says(steps in prop::collection::vec(any_step(), 0..80)) {
        run(&steps);
    }

    #[test]
    fn a_token_brings_back_exactly_who_it_was_made_for(
        name in prop::option::of("\\PC{1,40}"),
        secret in any::<[u8; 32]>(),
        issued in 0u64..1 << 50,
        flip in any::<prop::sample::Index>(),
    ) {
        let who = Identity::anonymous("u_1", "s_1", name.as_deref());
        let tokens = Tokens::new(&[secret], 7);
        let token = tokens.issue(&who, false, Timestamp(issued));
        let claim = tokens.read(&token, Timestamp(issued)).unwrap();
        prop_assert_eq!(&claim.who, &who);
        prop_assert!(claim.issued == Timestamp(issued) && claim.ours);
        let mut forged = token.into_bytes();
        let at = flip.index(forged.len());
        forged[at] = if forged[at] == b'x' { b'y' } else { b'x' };
        let forged = String::from_utf8(forged).unwrap();
        prop_assert_eq!(tokens.read(&forged, Timestamp(issued)), None);
    }

    #[test]
    fn no_text_is_a_token_by_chance(text in "\\PC{0,200}|[A-Za-z0-9_-]{0,200}") {
        prop_assert_eq!(Tokens::new(&[[7; 32]], 1).read(&text, Timestamp(0)), None);
    }
}

#[test]
fn nobody_is_away_for_longer_than_the_longest_window() {
    let sessions = Sessions::new(MAX_WINDOW * 3, Timestamp(0));
    assert_eq!(sessions.window(), MAX_WINDOW);
}

#[test]
fn a_server_is_young_as_long_as_sessions_of_the_one_before_may_come_back() {
    let sessions = Sessions::new(Duration::from_millis(WINDOW), Timestamp(500));
    assert!(sessions.is_young(Timestamp(1499)));
    assert!(!sessions.is_young(Timestamp(1500)));
}

/// A session that outlives the server: its token is genuine and of another run.
#[test]
fn a_session_comes_back_to_the_next_server() {
    let who = Identity::anonymous("u_1", "s_1", Some("Ada"));
    let token = Tokens::new(&[[7; 32]], 1).issue(&who, false, Timestamp(100));
    let claim = Tokens::new(&[[7; 32]], 2).read(&token, Timestamp(200)).unwrap();
    assert!(!claim.ours);
    let sessions = Sessions::new(Duration::from_millis(WINDOW), Timestamp(150));
    assert_eq!(sessions.standing("u_1", "s_1", Timestamp(200)), Standing::Unknown);
    assert!(sessions.is_young(Timestamp(200)), "so it is let in all the same");
    let place = Asker { worker: 0, token: 1 };
    assert!(sessions.arrive(&Arc::new(claim.who), None, place, Timestamp(200)).is_ok());
    assert_eq!(sessions.standing("u_1", "s_1", Timestamp(200)), Standing::Connected(place));
}
