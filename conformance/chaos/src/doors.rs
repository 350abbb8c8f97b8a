//! Where clients find the server, or one of its nodes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::dice::Dice;

/// One address for each node. With several, a client that is not answered goes to another one.
#[derive(Clone, Debug)]
pub struct Doors(Arc<[SocketAddr]>);

impl Doors {
    /// These; at least one.
    pub fn new(addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self(addresses.into_iter().collect())
    }

    /// One of them; another than `failed`, if there is one.
    pub fn choose(&self, dice: &mut Dice, failed: Option<SocketAddr>) -> SocketAddr {
        let chosen = match self.0.len() {
            1 => 0,
            many => usize::try_from(dice.below(many as u64)).unwrap_or_default(),
        };
        let next = if Some(self.0[chosen]) == failed { 1 } else { 0 };
        self.0[(chosen + next) % self.0.len()]
    }

    /// The number of the node at this address.
    pub fn number(&self, address: SocketAddr) -> u32 {
        (0..).zip(self.0.iter()).find(|(_, door)| **door == address).map_or(0, |(number, _)| number)
    }

    /// Whether there is another one to go to.
    pub fn are_many(&self) -> bool {
        self.0.len() > 1
    }

    /// How long an answer may take on a connection that lives. With one server nothing stands still that
    /// long; a node may, and there are others.
    pub fn patience(&self) -> Duration {
        Duration::from_secs(if self.are_many() { 5 } else { 10 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_failed_at_one_goes_to_another() {
        let addresses: Vec<SocketAddr> =
            (1..=3).map(|n| SocketAddr::from(([127, 0, 0, n], 80))).collect();
        let doors = Doors::new(addresses.clone());
        let mut dice = Dice::new(1, 0);
        for failed in addresses.iter().cycle().take(100) {
            assert_ne!(doors.choose(&mut dice, Some(*failed)), *failed);
        }
        let one = Doors::new(addresses[..1].to_vec());
        assert_eq!(one.choose(&mut dice, Some(addresses[0])), addresses[0]);
    }
}
