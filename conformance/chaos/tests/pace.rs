//! The checker knows whether a node that ends sends its clients away one by one.

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

use throng_chaos::check::{Check, Checker};
use throng_chaos::record::{Event, Keeps, Record};

/// Forty clients of node 0, which spreads them over 8 s from 10 s on: five in a second.
struct Story {
    /// When each is told to go, from the beginning of the drain, and how long after that it does.
    slots: Vec<(Option<u64>, i64)>,
    stall: u64,
}

impl Story {
    fn good() -> Self {
        Self { slots: (0..40).map(|n| (Some(n * 200), 30)).collect(), stall: 10 }
    }

    /// What the checker finds.
    fn found(&self) -> Vec<String> {
        let mut log: Vec<(u64, Option<u32>, Event)> = Vec::new();
        let keeps = Keeps { durable: true, history: 100, little: false, shared: None };
        log.push((0, None, Event::Begun { seed: 1, clients: 40, command: String::new(), keeps }));
        log.push((10_000, None, Event::Draining { node: 0, spread: 8000 }));
        for (client, (slot, late)) in (0..).zip(&self.slots) {
            log.push((u64::from(client), Some(client), Event::Arrived { node: 0 }));
            if let Some(after) = slot {
                // Some hear of it later, and count from there.
                let heard = 10_005 + u64::from(client % 5);
                log.push((heard, Some(client), Event::Slot { after: *after }));
            }
            let gone = (10_000 + slot.unwrap_or_default()).saturating_add_signed(*late);
            log.push((gone, Some(client), Event::Lost { why: "the end".into() }));
            log.push((gone + 20, Some(client), Event::Arrived { node: 1 + client % 2 }));
        }
        log.push((20_100, None, Event::Drained { node: 0, stall: self.stall }));
        log.push((20_200, None, Event::Finished { cuts: 0 }));
        log.sort_by_key(|(at, ..)| *at);
        let mut checker = Checker::default();
        for (line, (at, client, event)) in (1..).zip(log) {
            checker.read(line, Record { at, client, connection: 1, event });
        }
        let verdict = checker.finish();
        let findings = verdict.findings().iter().filter(|finding| finding.check == Check::Pace);
        findings.map(|finding| finding.text.clone()).collect()
    }
}

#[test]
fn even_slots_are_no_fault_however_late_clients_are() {
    assert_eq!(Story::good().found(), [""; 0]);
    let mut late = Story::good();
    for (client, (_, late)) in late.slots.iter_mut().enumerate() {
        *late += if client % 8 == 7 { 2000 } else { 0 };
    }
    assert_eq!(late.found(), [""; 0]);
    // Nobody gets a processor for four seconds.
    for (slot, late) in &mut late.slots {
        *late = (5000 - slot.unwrap().cast_signed()).max(30);
    }
    late.stall = 900;
    assert_eq!(late.found(), [""; 0]);
}

#[test]
fn a_rush_is_found() {
    let mut story = Story::good();
    story.slots.iter_mut().for_each(|(slot, _)| *slot = slot.map(|slot| slot / 3));
    assert_eq!(
        story.found(),
        [
            "node 0: 15 slots within 1000 ms, 10 may be",
            "node 0: 15 arrivals within 1000 ms, 10 may be"
        ]
    );
    // Even slots, and nobody is let in for two seconds although there is nothing else to do.
    let mut story = Story::good();
    for (slot, late) in &mut story.slots {
        *late = (4000 - slot.unwrap().cast_signed()).max(30);
    }
    assert_eq!(story.found(), ["node 0: 25 arrivals within 1000 ms, 10 may be"]);
}

#[test]
fn who_goes_before_its_slot_or_has_none_is_found() {
    let mut story = Story::good();
    story.slots[30].1 = -600;
    assert_eq!(
        story.found(),
        ["client 30 was sent away after 5400 ms, before its slot at 6000 ms"]
    );
    story.slots[30] = (None, 700);
    assert_eq!(story.found(), ["client 30 was sent away without a slot"]);
}
