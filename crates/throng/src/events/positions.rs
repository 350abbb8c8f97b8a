//! Where a reader is in each of its rooms.

use std::fmt::Write as _;

/// Where a stream is in each of its rooms: what event ids say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Positions(Vec<Option<(String, u64)>>);

impl Positions {
    /// From an event id: `epoch.seq` for each room, with commas. Whatever is not one says nothing.
    pub(super) fn read(id: Option<&str>, rooms: usize) -> Self {
        let read = |text: &str| {
            let (epoch, seq) = text.split_once('.')?;
            let sound = (1..=64).contains(&epoch.len());
            Some((epoch.to_owned(), seq.parse().ok()?)).filter(|_| sound)
        };
        let mut positions: Vec<_> =
            id.into_iter().flat_map(|id| id.split(',')).take(rooms).map(read).collect();
        positions.resize(rooms, None);
        Self(positions)
    }

    pub(super) fn at(&self, room: usize) -> Option<(&str, u64)> {
        let (epoch, seq) = self.0.get(room)?.as_ref()?;
        Some((epoch, *seq))
    }

    pub(super) fn set(&mut self, room: usize, epoch: &str, seq: u64) {
        self.0[room] = (!epoch.is_empty()).then(|| (epoch.to_owned(), seq));
    }

    pub(super) fn advance(&mut self, room: usize, seq: u64) {
        if let Some((_, last)) = &mut self.0[room] {
            *last = seq;
        }
    }

    /// `id: …` with its line break.
    pub(super) fn line(&self) -> String {
        let mut line = String::from("id: ");
        for (at, position) in self.0.iter().enumerate() {
            if at > 0 {
                line.push(',');
            }
            match position {
                // Writing to a string does not fail.
                Some((epoch, seq)) => drop(write!(line, "{epoch}.{seq}")),
                None => line.push('0'),
            }
        }
        line.push('\n');
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_survive_the_round_trip() {
        let mut positions = Positions::read(Some("abc.7,0,xyz.0"), 3);
        assert_eq!(positions.at(0), Some(("abc", 7)));
        assert_eq!((positions.at(1), positions.at(2)), (None, Some(("xyz", 0))));
        positions.advance(0, 8);
        positions.advance(1, 5);
        assert_eq!(positions.line(), "id: abc.8,0,xyz.0\n");
    }

    #[test]
    fn odd_positions_say_nothing() {
        for odd in ["", ",,,,,,", "abc", "abc.", ".7", "abc.-1", "abc.99999999999999999999", "é.1x"]
        {
            let positions = Positions::read(Some(odd), 2);
            assert_eq!((positions.at(0), positions.at(1)), (None, None), "{odd}");
        }
        assert_eq!(Positions::read(Some("a.1,b.2,c.3"), 1).0.len(), 1);
    }
}
