//! Whether a receiver gets every message exactly once and in order.

/// What went wrong, over all receivers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Faults {
    /// Never arrived, or not before the end of the run's grace.
    pub(super) lost: u64,
    /// Arrived again.
    pub(super) duplicated: u64,
    /// Arrived after a later one.
    pub(super) reordered: u64,
    /// Not what was sent, or never sent at all.
    pub(super) altered: u64,
    /// Connections that the server ended.
    pub(super) closed: u64,
    /// The first fault in words.
    pub(super) first: Option<String>,
}

/// One receiver's place in the sequence 0, 1, 2, …
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    /// The message that must come next.
    pub(super) next: u64,
    /// Skipped messages that may still come; the newest [`Place::REMEMBERED`].
    missing: Vec<u64>,
}

/// What an arrival out of the fast path turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// The expected one.
    Next,
    /// A later one; this many were skipped.
    Skipped(u64),
    /// An earlier one.
    Stale,
}

impl Faults {
    pub(super) fn is_clean(&self) -> bool {
        *self == Self::default()
    }

    /// Keeps the first explanation.
    pub(super) fn note(&mut self, explain: impl FnOnce() -> String) {
        self.first.get_or_insert_with(explain);
    }
}

impl Place {
    const REMEMBERED: usize = 1024;

    /// Counts message `number`, whatever it is.
    pub(super) fn arrived(&mut self, number: u64, faults: &mut Faults) -> Arrival {
        if number == self.next {
            self.next += 1;
            return Arrival::Next;
        }
        if number > self.next {
            let skipped = number - self.next;
            faults.lost += skipped;
            faults.note(|| format!("message {number} came where {} was due", self.next));
            let oldest = number.saturating_sub(Self::REMEMBERED as u64).max(self.next);
            self.missing.extend(oldest..number);
            let excess = self.missing.len().saturating_sub(Self::REMEMBERED);
            self.missing.drain(..excess);
            self.next = number + 1;
            return Arrival::Skipped(skipped);
        }
        if let Some(found) = self.missing.iter().position(|&missing| missing == number) {
            self.missing.swap_remove(found);
            faults.lost -= 1;
            faults.reordered += 1;
        } else {
            faults.duplicated += 1;
            faults.note(|| format!("message {number} came again, {} was due", self.next));
        }
        Arrival::Stale
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn play(numbers: &[u64]) -> (Faults, u64) {
        let (mut place, mut faults) = (Place::default(), Faults::default());
        for &number in numbers {
            place.arrived(number, &mut faults);
        }
        faults.first = None;
        (faults, place.next)
    }

    #[test]
    fn each_fault_is_told_from_the_others() {
        let none = Faults::default();
        assert_eq!(play(&[0, 1, 2]), (none.clone(), 3));
        assert_eq!(play(&[0, 2, 3]), (Faults { lost: 1, ..none.clone() }, 4));
        assert_eq!(play(&[0, 2, 1, 3]), (Faults { reordered: 1, ..none.clone() }, 4));
        assert_eq!(play(&[0, 1, 1, 2]), (Faults { duplicated: 1, ..none.clone() }, 3));
        let both = Faults { reordered: 1, duplicated: 1, ..none };
        assert_eq!(play(&[0, 2, 1, 1, 3]), (both, 4));
    }

    #[test]
    fn a_hole_of_any_size_is_bounded_in_memory() {
        let (mut place, mut faults) = (Place::default(), Faults::default());
        assert_eq!(place.arrived(1 << 40, &mut faults), Arrival::Skipped(1 << 40));
        assert_eq!(place.missing.len(), Place::REMEMBERED);
        place.arrived((1 << 40) - 1, &mut faults);
        assert_eq!((faults.lost, faults.reordered), ((1 << 40) - 1, 1));
        place.arrived((1 << 40) + 10, &mut faults);
        assert_eq!(place.missing.len(), Place::REMEMBERED);
    }
}
