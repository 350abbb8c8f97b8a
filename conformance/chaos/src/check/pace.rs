//! Whoever a node sends away: each in a slot of its own, and no rush to the other nodes.
//!
//! A drain spreads the slots of `n` clients over the time `spread`, so an eighth of that is for `n / 8` of them: the
//! paced share. In no window of that length, wherever it begins, may there be more than twice as many
//!
//! - slots, as clients were told them. This is what the server decides, and always counts.
//! - arrivals at the other nodes together. They follow the slots, and a machine without a free processor can
//!   only delay and so bunch them: when a Redis that has nothing else to do took a tenth of the window or longer to
//!   answer meanwhile, they are noted, and not judged.
//!
//! And nobody is sent away without a slot or before it: without that, slots would say nothing. Delays can break
//! neither: a slot is not earlier than what was told, counted from before the node knew of its end.

use std::collections::{BTreeMap, BTreeSet};

use super::{Check, Checker};

/// Where clients are, and how they were sent away.
#[derive(Debug, Default)]
pub(super) struct Pace {
    homes: BTreeMap<u32, u32>,
    /// Who has come at all: whoever comes for the first time was sent away by nobody.
    comers: BTreeSet<u32>,
    drains: Vec<Drain>,
}

/// One node sends its clients away.
#[derive(Debug)]
struct Drain {
    line: usize,
    node: u32,
    spread: u64,
    began: u64,
    /// Absent until the node has ended.
    stall: Option<u64>,
    /// Who was there.
    guests: BTreeMap<u32, Guest>,
    /// When clients were to go, and came to other nodes.
    slots: Vec<u64>,
    arrivals: Vec<u64>,
}

#[derive(Debug, Default)]
struct Guest {
    /// What it was told last.
    after: Option<u64>,
    gone: bool,
}

impl Pace {
    pub(super) fn begin(&mut self, now: u64, line: usize, node: u32, spread: u64) {
        let here = self.homes.iter().filter(|(_, home)| **home == node);
        let guests = here.map(|(client, _)| (*client, Guest::default())).collect();
        self.drains.push(Drain {
            line,
            node,
            spread,
            began: now,
            stall: None,
            guests,
            slots: Vec::new(),
            arrivals: Vec::new(),
        });
    }

    pub(super) fn end(&mut self, stall: u64) {
        if let Some(drain) = self.drains.last_mut() {
            drain.stall = Some(stall);
        }
    }

    pub(super) fn arrived(&mut self, now: u64, client: u32, node: u32) {
        let is_first = self.comers.insert(client);
        self.homes.insert(client, node);
        let Some(drain) = self.drains.last_mut() else { return };
        if drain.node != node || drain.stall.is_some() {
            if !is_first {
                drain.arrivals.push(now);
            }
        } else {
            // It was let in just before, and is told in a moment.
            drain.guests.insert(client, Guest::default());
        }
    }

    pub(super) fn told(&mut self, now: u64, client: u32, after: u64) {
        let Some(drain) = self.drains.last_mut() else { return };
        if let Some(guest) = drain.guests.get_mut(&client).filter(|guest| !guest.gone) {
            guest.after = Some(after);
            drain.slots.push(now + after);
        }
    }

    /// The client goes by its own decision.
    pub(super) fn gave_up(&mut self, client: u32) {
        self.homes.remove(&client);
        if let Some(guest) = self.guest(client) {
            guest.gone = true;
        }
    }

    /// The client was sent away, or its connection has ended. What is wrong with that, and since which line.
    fn went(&mut self, now: u64, client: u32) -> Option<Result<(), (String, usize)>> {
        self.homes.remove(&client);
        let (began, line) = self.drains.last().map(|drain| (drain.began, drain.line))?;
        let guest = self.guest(client).filter(|guest| !guest.gone)?;
        guest.gone = true;
        let wrong = match guest.after {
            None => Some("without a slot".to_owned()),
            Some(after) if now + CLOCKS < began + after => {
                Some(format!("after {} ms, before its slot at {after} ms", now - began))
            }
            Some(_) => None,
        };
        let wrong = wrong.map(|how| (format!("client {client} was sent away {how}"), line));
        Some(wrong.map_or(Ok(()), Err))
    }

    fn guest(&mut self, client: u32) -> Option<&mut Guest> {
        self.drains.last_mut()?.guests.get_mut(&client)
    }
}

impl Drain {
    fn window(&self) -> u64 {
        self.spread / PARTS
    }

    /// As many may come within one window.
    fn most(&self) -> usize {
        2 * self.guests.len() / PARTS as usize
    }

    /// Whether arrivals show what the server does.
    fn is_punctual(&self) -> bool {
        self.stall.is_some_and(|stall| stall < self.window() / 10)
    }
}

impl Checker {
    /// A connection has ended, but not because the client gave it up.
    pub(super) fn went(&mut self, client: u32, line: usize) {
        let Some(went) = self.pace.went(self.now, client) else { return };
        self.verdict.count(Check::Pace);
        if let Err((text, since)) = went {
            self.verdict.found(Check::Pace, text, [since, line]);
        }
    }

    /// Judges how evenly clients were sent away.
    pub(super) fn paced(&mut self) {
        if self.pace.drains.is_empty() {
            return self.verdict.skip(Check::Pace);
        }
        for drain in &mut self.pace.drains {
            let (clients, most, window) = (drain.guests.len(), drain.most(), drain.window());
            if clients < FEWEST {
                let text = format!("node {}: {clients} clients, too few to say", drain.node);
                self.verdict.note(Check::Pace, text);
                continue;
            }
            let slots = crowd(&mut drain.slots, window);
            let arrivals = crowd(&mut drain.arrivals, window);
            let share = clients as f64 / PARTS as f64;
            self.verdict.note(
                Check::Pace,
                format!(
                    "node {}: {clients} clients within {} ms, {share:.1} in {window} ms; at most {slots} slots and \
                     {arrivals} arrivals, {most} may be{}",
                    drain.node,
                    drain.spread,
                    match drain.is_punctual() {
                        true => String::new(),
                        false => format!(
                            " (arrivals are not judged: Redis took {} ms for nothing)",
                            drain.stall.unwrap_or_default()
                        ),
                    }
                ),
            );
            let judged = [("slots", slots, true), ("arrivals", arrivals, drain.is_punctual())];
            for (what, count, is_judged) in judged {
                self.verdict.count_many(Check::Pace, usize::from(is_judged));
                if is_judged && count > most {
                    let node = drain.node;
                    let text =
                        format!("node {node}: {count} {what} within {window} ms, {most} may be");
                    self.verdict.found(Check::Pace, text, [drain.line]);
                }
            }
        }
    }
}

/// The most of these times within one window, wherever it begins.
fn crowd(times: &mut [u64], window: u64) -> usize {
    times.sort_unstable();
    let (mut most, mut first) = (0, 0);
    for (index, time) in times.iter().enumerate() {
        while times[first] + window <= *time {
            first += 1;
        }
        most = most.max(index + 1 - first);
    }
    most
}

/// A window is this part of the spread.
const PARTS: u64 = 8;
/// Of fewer clients nothing can be said: two more in a window are twice as many.
const FEWEST: usize = 16;
/// How far a timer may be early, in milliseconds.
const CLOCKS: u64 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_is_found_wherever_it_is() {
        assert_eq!(crowd(&mut [], 10), 0);
        assert_eq!(crowd(&mut [5, 0, 10, 20], 10), 2);
        assert_eq!(crowd(&mut [0, 9, 11, 12, 18, 21], 10), 4);
        assert_eq!(crowd(&mut [7, 7, 7], 1), 3);
    }
}
