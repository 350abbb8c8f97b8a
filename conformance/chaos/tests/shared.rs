//! The checker knows what may become of rooms that several nodes share, and what may not.

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

use std::collections::BTreeMap;

use throng_chaos::check::{Check, Checker};
use throng_chaos::record::{Event, Keeps, Position, Record, Return, Shared};

/// A room `a` with two members. After the first message the primary fails: what it acknowledged last is
/// lost, the members are told that the room begins anew as `f`, and it goes on.
const GOOD: &str = "
    0 connected; 1 connected
    0 joined e 0; 1 joined e 0
    0 sent 0-1; 0 acked 0-1 1; 0 got e 1 0-1; 1 got e 1 0-1
    @5000; struck
    0 sent 0-2; 0 acked 0-2 2; 0 got e 2 0-2
    0 renewed f 1; 1 renewed f 1
    1 sent 1-1; 1 acked 1-1 2; 0 got f 2 1-1; 1 got f 2 1-1
    mended
    0 history f 1 0-1 1-1; 1 history f 1 0-1 1-1
    0 list; 1 list";

const MAY: Shared = Shared { renews: true, loses: true, forgets: false };
const KEEPS_ALL: Shared = Shared { renews: true, loses: false, forgets: false };

#[test]
fn what_may_happen_is_no_fault() {
    let good: &[(&str, &str, Shared)] = &[
        ("", "", MAY),
        // Once more in the new epoch, where nobody knows it.
        ("0 list;", "0 sent 0-2; 0 got f 3 0-2; 1 got f 3 0-2; 0 list;", MAY),
        // Told with the answer to a resume instead.
        ("1 renewed f 1", "1 lost; 1 back; 1 resumed e 1 f 1 false", MAY),
        ("struck", "struck; 0 deferred", MAY),
        ("struck", "struck; 0 sent 0-9; 0 refused 0-9; 0 sent 0-9; 0 uncertain 0-9", FORGETS),
        ("struck", "struck; 1 silent; 1 back; 1 resumed e 1 e 1 true", MAY),
        ("struck", "struck; 1 lost; 1 new; 1 joined e 1", FORGETS),
        // The session had only just begun.
        ("@5000; struck", "@100; struck; 1 lost; 1 new; 1 joined e 1", MAY),
        // The publisher's message is in both epochs, at one number.
        ("0 got e 2 0-2", "0 got e 2 0-2; 1 got e 2 0-2", MAY),
    ];
    for (what, instead, shared) in good {
        assert_eq!(found(what, instead, *shared), [], "{what} → {instead}");
    }
}

const FORGETS: Shared = Shared { forgets: true, ..MAY };

#[test]
fn what_may_not_happen_is_found() {
    use Check::{Delivered, Members, Once, Order, Progress, Recovery};
    let bad: &[(&str, &str, Shared, Check)] = &[
        // What was acknowledged is gone, and its number is given again.
        ("", "", KEEPS_ALL, Check::Acks),
        // Nobody told client 1: what it receives contradicts what 0 has received, or history does.
        ("1 renewed f 1", "1 got e 2 1-1", MAY, Order),
        ("1 renewed f 1", "", MAY, Recovery),
        ("1 renewed f 1", "1 renewed f 1 recovered", MAY, Recovery),
        ("0 renewed f 1;", "0 left; 0 renewed f 1; 0 joined f 1;", MAY, Recovery),
        ("1 got f 2 1-1", "", MAY, Delivered),
        ("1 got f 2 1-1", "1 got f 2 1-1; 1 got f 2 1-1", MAY, Delivered),
        ("1 got f 2 1-1", "1 got e 2 1-1", MAY, Members),
        ("1 renewed f 1", "1 renewed f 3", MAY, Delivered),
        ("1 renewed f 1", "1 renewed g 1", MAY, Recovery),
        // An epoch that ends without need.
        ("@5000; struck", "", MAY, Recovery),
        ("", "", Shared::default(), Recovery),
        ("@5000; struck", "0 renewed e 1; @5000; struck", MAY, Recovery),
        // Twice in one epoch, or in two epochs though nothing was lost.
        ("0 list;", "0 got f 3 1-1; 1 got f 3 1-1; 0 list;", MAY, Once),
        ("0 list;", "0 got f 3 0-2; 1 got f 3 0-2; 0 list;", KEEPS_ALL, Once),
        // Nothing is wrong any more, or was yet.
        ("mended", "mended; @90000; 0 deferred", MAY, Progress),
        ("mended", "mended; @90000; 0 silent; 0 back; 0 resumed f 2 f 2 true", MAY, Progress),
        ("@5000; struck", "0 deferred; @5000; struck", MAY, Progress),
        ("mended", "mended; @90000; 0 sent 0-9; 0 refused 0-9", MAY, Progress),
        // A session that is forgotten.
        ("struck", "struck; 1 lost; 1 new; 1 joined e 1", MAY, Recovery),
    ];
    for (what, instead, shared, check) in bad {
        let checks = found(what, instead, *shared);
        assert!(checks.contains(check), "{what} → {instead}: {checks:?}");
    }
}

/// The publisher is told of the next epoch first, and then that its message was stored before: as a duplicate of what its
/// node has tried itself.
#[test]
fn an_answer_may_come_behind_the_end_of_its_epoch() {
    let (_, tail) = GOOD.split_once("@5000; struck").unwrap();
    let story = |acked: &str| {
        format!(
            "@5000; struck
            0 sent 0-2; 0 sent 0-3; 0 acked 0-3 3
            0 renewed f 3; 1 renewed f 3
            {acked}
            1 sent 1-1; 1 acked 1-1 4; 0 got f 4 1-1; 1 got f 4 1-1
            mended
            0 history f 4 1-1; 1 history f 4 1-1
            0 list; 1 list"
        )
    };
    let what = format!("@5000; struck{tail}");
    assert_eq!(found(&what, &story("0 acked 0-2 2"), KEEPS_ALL), []);
    assert_eq!(found(&what, &story(""), KEEPS_ALL), [Check::Order, Check::Progress]);
}

/// What is found when a part of the good log is replaced.
fn found(what: &str, instead: &str, shared: Shared) -> Vec<Check> {
    assert!(GOOD.contains(what), "{what}");
    let mut story = Story::default();
    let keeps = Keeps { durable: true, history: 100, little: false, shared: Some(shared) };
    story.run(Event::Begun { seed: 1, clients: 2, command: String::new(), keeps });
    let text = GOOD.replacen(what, instead, 1);
    for line in text.split([';', '\n']).map(str::trim).filter(|line| !line.is_empty()) {
        story.tell(line);
    }
    story.run(Event::Finished { cuts: 0 });
    let verdict = story.checker.finish();
    let mut checks: Vec<Check> = verdict.findings().iter().map(|finding| finding.check).collect();
    checks.dedup();
    checks
}

#[derive(Default)]
struct Story {
    checker: Checker,
    now: u64,
    line: usize,
    connections: BTreeMap<u32, u32>,
    sessions: u32,
}

impl Story {
    fn run(&mut self, event: Event) {
        self.write(None, event);
    }

    fn write(&mut self, client: Option<u32>, event: Event) {
        self.line += 1;
        self.now += 10;
        let connection = client.map_or(0, |client| self.connections[&client]);
        self.checker.read(self.line, Record { at: self.now, client, connection, event });
    }

    fn tell(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        if let Some(time) = line.strip_prefix('@') {
            self.now = time.parse().unwrap();
            return;
        }
        match line {
            "struck" => return self.run(Event::Struck { what: "the primary".into() }),
            "mended" => return self.run(Event::Mended),
            _ => {}
        }
        let client: u32 = words[0].parse().unwrap();
        let room = || "a".to_owned();
        let seq = |index: usize| words[index].parse::<u64>().unwrap();
        let at = |index: usize| Position { epoch: words[index].into(), seq: seq(index + 1) };
        let event = match words[1] {
            how @ ("connected" | "back" | "new") => {
                *self.connections.entry(client).or_default() += 1;
                self.sessions += u32::from(how == "new");
                let (user, session) = match how {
                    "new" => (format!("n{}", self.sessions), format!("t{}", self.sessions)),
                    _ => (format!("u{client}"), format!("s{client}")),
                };
                Event::Connected {
                    user,
                    session,
                    asked: how != "connected",
                    resumed: how == "back",
                }
            }
            "joined" => Event::Joined { room: room(), now: at(2), since: None, recovered: true },
            "left" => Event::Left { room: room() },
            "lost" => Event::Lost { why: "cut".into() },
            "renewed" => {
                let recovered = words.get(4) == Some(&"recovered");
                Event::Renewed { room: room(), now: at(2), recovered }
            }
            "resumed" => {
                let recovered = words[6] == "true";
                let back = Return::Back { since: Some(at(2)), recovered, now: at(4) };
                Event::Resumed { rooms: BTreeMap::from([(room(), back)]) }
            }
            "sent" => {
                Event::Sent { room: room(), id: words[2].into(), reference: number(words[2]) }
            }
            "acked" => {
                let (seq, ts) = (seq(3), 1000 + seq(3));
                let id = words[2].to_owned();
                Event::Acked { room: room(), id, seq: Some(seq), ts, duplicate: false }
            }
            "got" => Event::Received {
                room: room(),
                epoch: words[2].into(),
                seq: seq(3),
                ts: 1000 + seq(3),
                from: match (&words[4][..1], self.sessions) {
                    ("1", 1..) => "n1".into(),
                    (client, _) => format!("u{client}"),
                },
                id: words[4].into(),
                intact: true,
            },
            "history" => {
                let ids = (seq(3)..).zip(&words[4..]);
                let messages = ids.map(|(seq, id)| (seq, 1000 + seq, (*id).to_owned())).collect();
                Event::History { room: room(), epoch: words[2].into(), messages }
            }
            "deferred" => Event::Deferred { what: "history".into(), code: "unavailable".into() },
            "silent" => Event::Silent { what: "a join".into() },
            "refused" => Event::Refused {
                room: room(),
                id: words[2].into(),
                code: "unavailable".into(),
                temporary: true,
            },
            "uncertain" => Event::Uncertain { id: words[2].into() },
            "list" => {
                let users = match self.sessions {
                    0 => vec!["u0".into(), "u1".into()],
                    _ => vec!["u0".into(), "n1".into()],
                };
                Event::Presence { room: room(), users }
            }
            _ => panic!("{line}"),
        };
        self.write(Some(client), event);
    }
}

fn number(id: &str) -> u64 {
    id.split_once('-').unwrap().1.parse().unwrap()
}
