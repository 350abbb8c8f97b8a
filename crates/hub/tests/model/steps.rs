//! What may happen in a room.

use proptest::prelude::*;
use throng_hub::{Ending, Presence, Span};

pub(crate) const USERS: usize = 4;
pub(crate) const WORKERS: usize = 3;

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Join {
        user: usize,
        worker: usize,
        since: Since,
        rewind: u32,
    },
    /// One of the connections goes.
    Go {
        which: prop::sample::Index,
        ending: Ending,
    },
    /// Somebody goes who is not here.
    Intrude {
        ending: Ending,
    },
    /// With a `ref` among few, so that some come again.
    Publish {
        user: usize,
        reference: Option<u64>,
    },
    /// Many messages with fresh `ref`s.
    Burst {
        user: usize,
    },
    /// A member that is behind takes so many messages.
    Replay {
        which: prop::sample::Index,
        chunk: usize,
    },
    History {
        span: Span,
        limit: usize,
    },
    /// The clock jumps, also backwards.
    Clock {
        now: u64,
    },
    /// The clock goes on to when the room wants to be looked at.
    Look,
}

/// What somebody who joins says to know.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Since {
    Nothing,
    /// What the user's last connection knew of the room.
    Last,
    /// So many messages before the last one, or beyond it.
    Behind(i64),
    OtherEpoch(u64),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    pub(crate) presence: Presence,
    pub(crate) size: usize,
    pub(crate) ttl: u64,
    pub(crate) grace: u64,
    pub(crate) max_members: usize,
}

pub(crate) fn any_setting() -> impl Strategy<Value = Setting> {
    let presence = prop_oneof![
        3 => Just(Presence::Full),
        2 => Just(Presence::Count),
        1 => Just(Presence::Off)
    ];
    let sizes = prop::sample::select(vec![0, 1, 4, 1000]);
    let ttls = prop::sample::select(vec![500, 1_000_000]);
    let graces = prop::sample::select(vec![0, 300, 1500]);
    let members = prop::sample::select(vec![0, 0, 0, 3]);
    (presence, sizes, ttls, graces, members).prop_map(
        |(presence, size, ttl, grace, max_members)| Setting {
            presence,
            size,
            ttl,
            grace,
            max_members,
        },
    )
}

pub(crate) fn any_ending() -> impl Strategy<Value = Ending> {
    prop_oneof![1 => Just(Ending::Orderly), 2 => Just(Ending::Lost)]
}

pub(crate) fn any_since() -> impl Strategy<Value = Since> {
    prop_oneof![
        2 => Just(Since::Nothing),
        3 => Just(Since::Last),
        3 => (-2i64..8).prop_map(Since::Behind),
        1 => (0u64..9).prop_map(Since::OtherEpoch),
    ]
}

pub(crate) fn any_span() -> impl Strategy<Value = Span> {
    prop_oneof![
        Just(Span::Newest),
        (0u64..20).prop_map(Span::Before),
        (0u64..20).prop_map(Span::After)
    ]
}

pub(crate) fn any_step() -> impl Strategy<Value = Step> {
    let index = any::<prop::sample::Index>;
    let join = (0..USERS, 0..WORKERS, any_since(), 0u32..5);
    prop_oneof![
        6 => join.prop_map(|(user, worker, since, rewind)| Step::Join { user, worker, since, rewind }),
        5 => (index(), any_ending()).prop_map(|(which, ending)| Step::Go { which, ending }),
        1 => any_ending().prop_map(|ending| Step::Intrude { ending }),
        6 => (0..USERS, prop::option::of(1u64..6))
            .prop_map(|(user, reference)| Step::Publish { user, reference }),
        1 => (0..USERS).prop_map(|user| Step::Burst { user }),
        3 => (index(), 1usize..4).prop_map(|(which, chunk)| Step::Replay { which, chunk }),
        2 => (any_span(), 1usize..6).prop_map(|(span, limit)| Step::History { span, limit }),
        3 => (1u64..4000).prop_map(|now| Step::Clock { now }),
        3 => Just(Step::Look),
    ]
}
