//! A run from the first connection to the last line of the log.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::board::{Board, Phase, Status};
use crate::client::{Client, Stream};
use crate::dice::Dice;
use crate::doors::Doors;
use crate::plan::{Blow, Ending, Kind, Part, Size};
use crate::proxy::Proxy;
use crate::record::{Event, Log, Position};
use crate::victim::Victim;

/// A server, a proxy and clients.
#[derive(Debug)]
pub struct Run<V> {
    /// The server.
    pub victim: V,
    /// What everybody does and how far they are.
    pub board: Arc<Board>,
    /// What is random in the run itself.
    pub dice: Dice,
    size: Size,
    log: Log,
    proxies: Vec<Proxy>,
    parts: Vec<Part>,
    clients: JoinSet<()>,
}

impl<V: Victim> Run<V> {
    /// Starts the server and the clients, which begin to publish. Nothing is harmed yet.
    ///
    /// # Errors
    /// When the server does not start.
    pub async fn begin(size: Size, mut victim: V, log: Log) -> io::Result<Self> {
        let command = std::env::args().collect::<Vec<_>>().join(" ");
        let (seed, clients, keeps) = (size.seed, size.clients, size.keeps);
        log.run(Event::Begun { seed, clients, command, keeps });
        victim.start().await?;
        log.run(Event::Started);
        let mut proxies = Vec::new();
        for (node, address) in (0..).zip(victim.addresses()) {
            proxies.push(Proxy::start(address, Dice::new(size.seed, 3 + 100 * node)).await?);
        }
        let doors = Doors::new(proxies.iter().map(Proxy::address));
        let board = Arc::new(Board::new(size.clients));
        let parts = size.parts();
        let pause = Duration::from_secs_f64(f64::from(size.clients) / size.rate.max(0.1));
        let mut clients = JoinSet::new();
        for part in &parts {
            let dice = Dice::new(size.seed, 1000 + u64::from(part.index));
            let (part, doors, log, board) =
                (part.clone(), doors.clone(), log.clone(), Arc::clone(&board));
            match part.kind {
                Kind::Stream => {
                    clients.spawn(Stream::new(part, doors, log, board, dice, pause).run())
                }
                Kind::Full | Kind::Plain => {
                    clients.spawn(Client::new(part, doors, log, board, dice, pause).run())
                }
            };
        }
        let dice = Dice::new(size.seed, 4);
        Ok(Self { victim, board, dice, size, log, proxies, parts, clients })
    }

    /// Cuts connections and kills the server for the run's duration.
    ///
    /// # Errors
    /// When the server does not start again.
    pub async fn harm(&mut self) -> io::Result<()> {
        let began = Instant::now();
        self.set_harmful(self.size.cuts > 0.0);
        let pause = Duration::from_secs_f64(1.0 / self.size.cuts.max(1e-6));
        let mut next_cut = began + self.dice.wait(pause);
        let mut blows = self.size.blows().into_iter().peekable();
        let end = began + self.size.duration;
        while Instant::now() < end {
            let next_blow = blows.peek().map_or(end, |(time, _)| began + *time);
            sleep_until(next_cut.min(next_blow).min(end).min(Instant::now() + TICK)).await;
            self.look_after().await?;
            if Instant::now() >= next_cut {
                self.cut_one();
                next_cut = Instant::now() + self.dice.wait(pause);
            }
            if Instant::now() >= next_blow
                && let Some((_, blow)) = blows.next()
            {
                match blow {
                    Blow::Kill => self.kill().await?,
                    Blow::Stop => self.stop().await?,
                }
                sleep(self.dice.between(Duration::ZERO, DOWN)).await;
                self.start().await?;
                if blow == Blow::Kill && self.dice.percent(30) {
                    // Again, while everybody is coming back.
                    sleep(self.dice.between(Duration::ZERO, Duration::from_millis(400))).await;
                    self.kill_and_start().await?;
                }
            }
        }
        self.set_harmful(false);
        Ok(())
    }

    /// Kills the server, and starts it again after a while.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn kill_and_start(&mut self) -> io::Result<()> {
        self.kill().await?;
        sleep(self.dice.between(Duration::ZERO, DOWN)).await;
        self.start().await
    }

    /// Asks the server to stop, and waits until it has.
    ///
    /// # Errors
    /// When that is not possible.
    pub async fn stop(&mut self) -> io::Result<()> {
        self.log.run(Event::Stopping);
        if let Some(what) = self.victim.stop().await? {
            self.log.run(Event::Stalled { what });
        }
        Ok(())
    }

    /// Kills the server.
    ///
    /// # Errors
    /// When that is not possible.
    pub async fn kill(&mut self) -> io::Result<()> {
        self.victim.kill().await?;
        self.log.run(Event::Killed);
        Ok(())
    }

    /// Starts the server.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(&mut self) -> io::Result<()> {
        self.victim.start().await?;
        self.log.run(Event::Started);
        Ok(())
    }

    /// Starts the server where nothing can be stored. It may refuse with a sentence and exit status 2;
    /// false then.
    ///
    /// # Errors
    /// When it ends in another way.
    pub async fn start_or_be_refused(&mut self) -> io::Result<bool> {
        let Err(error) = self.victim.start().await else {
            self.log.run(Event::Started);
            return Ok(true);
        };
        let status = error.to_string();
        if !status.ends_with("exit status: 2") {
            return Err(error);
        }
        self.victim.kill().await?;
        self.log.run(Event::StartRefused { status });
        Ok(false)
    }

    /// Writes a line about the run.
    pub fn write(&self, event: Event) {
        self.log.run(event);
    }

    /// How many connections were cut.
    pub fn cuts(&self) -> u64 {
        self.proxies.iter().map(Proxy::cuts).sum()
    }

    /// Cuts a client's connection, soon.
    pub fn cut_one(&mut self) {
        if let Some(proxy) = self.dice.pick(&self.proxies) {
            proxy.cut_one();
        }
    }

    /// From now on a part of all handshakes is cut; or nothing is any more.
    pub fn set_harmful(&self, harmful: bool) {
        self.proxies.iter().for_each(|proxy| proxy.set_harmful(harmful));
    }

    /// Lets everything come to rest, compares, and stops the clients.
    ///
    /// # Errors
    /// When the server has ended and does not start again.
    pub async fn finish(&mut self) -> io::Result<()> {
        self.set_harmful(false);
        let settled = |status: &Status| status.settled || status.gone;
        self.board.set_phase(Phase::Draining);
        let patience = self.size.patience;
        self.everybody("to settle", patience * 2, settled).await?;
        self.board.set_phase(Phase::Comparing);
        let level = |status: &Status| (status.settled && status.level) || status.gone;
        self.everybody("to receive everything", patience, level).await?;
        self.until("all to be at the same position", patience, positions_agree).await?;
        self.board.set_phase(Phase::Departing);
        let leaving: Vec<bool> =
            self.parts.iter().map(|part| part.ending != Ending::Stays).collect();
        let left = |statuses: &[Status]| {
            statuses.iter().zip(&leaving).all(|(status, leaving)| status.gone || !leaving)
        };
        self.until("somebody to leave", patience, left).await?;
        self.list().await?;
        self.board.set_phase(Phase::Stopping);
        while self.clients.join_next().await.is_some() {}
        self.victim.kill().await?;
        self.log.run(Event::Finished { cuts: self.cuts() });
        self.log.flush()
    }

    /// Asks who is in the rooms until everybody says what is right, or long enough.
    async fn list(&mut self) -> io::Result<()> {
        let end = Instant::now() + self.size.patience;
        for round in 1.. {
            self.board.set_phase(Phase::Listing(round));
            let listed = |status: &Status| status.listed >= round || status.gone;
            self.everybody("to be told who is there", self.size.patience, listed).await?;
            if self.board.look(lists_are_exact) || Instant::now() >= end {
                break;
            }
            sleep(Duration::from_millis(250)).await;
        }
        Ok(())
    }

    async fn everybody(
        &mut self,
        what: &str,
        most: Duration,
        done: impl Fn(&Status) -> bool,
    ) -> io::Result<()> {
        self.until(what, most, |statuses| statuses.iter().all(&done)).await
    }

    /// Waits until this is so, and writes it down when it never is.
    ///
    /// # Errors
    /// When the server has ended and does not start again.
    pub async fn until(
        &mut self,
        what: &str,
        most: Duration,
        done: impl Fn(&[Status]) -> bool,
    ) -> io::Result<()> {
        let end = Instant::now() + most;
        while !self.board.look(&done) {
            if Instant::now() >= end {
                let what = format!("waited {most:?} in vain for {what}");
                self.log.run(Event::Stalled { what });
                break;
            }
            self.look_after().await?;
            sleep(TICK).await;
        }
        Ok(())
    }

    /// Starts a server that has ended by itself, and writes that down.
    async fn look_after(&mut self) -> io::Result<()> {
        if let Some(status) = self.victim.ended() {
            self.log.run(Event::Died { status });
            self.start().await?;
        }
        Ok(())
    }
}

/// Whether all members of each room have received the same.
fn positions_agree(statuses: &[Status]) -> bool {
    let mut rooms: BTreeMap<&str, &Position> = BTreeMap::new();
    let there = statuses.iter().filter(|status| !status.gone);
    there
        .flat_map(|status| &status.positions)
        .all(|(room, position)| *rooms.entry(room).or_insert(position) == position)
}

/// Whether all lists name exactly those who are in the rooms.
fn lists_are_exact(statuses: &[Status]) -> bool {
    let mut members: BTreeMap<&str, usize> = BTreeMap::new();
    let mut lists: BTreeMap<&str, BTreeSet<&BTreeSet<String>>> = BTreeMap::new();
    for status in statuses.iter().filter(|status| !status.gone) {
        for (room, told) in &status.rooms {
            *members.entry(room).or_default() += 1;
            let lists = lists.entry(room).or_default();
            lists.extend(&told.asked);
            lists.extend(&told.known);
        }
    }
    // Everybody names the same users, and as many as there are.
    lists.iter().all(|(room, lists)| {
        lists.len() == 1 && lists.iter().all(|list| Some(&list.len()) == members.get(room))
    })
}

/// How long the server is down at most.
const DOWN: Duration = Duration::from_millis(800);
const TICK: Duration = Duration::from_millis(20);
