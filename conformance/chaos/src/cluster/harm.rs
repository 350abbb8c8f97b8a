//! How each fault is made.

use std::io;
use std::time::Duration;

use throng_redis_rig::{Data, Server};
use tokio::time::{Instant, sleep};

use super::inside;
use super::witness::Witness;
use super::{Fault, NODES, Node, Nodes, Store};
use crate::link::Weather;
use crate::record::Event;
use crate::run::Run;
use crate::victim::Victim as _;

/// How long a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Each fault once, as short as it makes sense.
    Short,
    /// Several times, and a pause of a node takes half a minute.
    Long,
}

/// Makes a fault while clients publish.
///
/// # Errors
/// When it cannot be made, or a node does not start again.
pub async fn harm(run: &mut Run<Nodes>, fault: Fault, pace: Pace) -> io::Result<()> {
    works(run).await?;
    let times = if pace == Pace::Long { 5 } else { 1 };
    if fault == Fault::Clocks {
        // From the beginning.
        strike(run, "the clocks of two nodes are wrong");
    }
    for _ in 0..times {
        once(run, fault, pace).await?;
        run.write(Event::Mended);
        works(run).await?;
        rest(run, 1000).await?;
    }
    Ok(())
}

async fn once(run: &mut Run<Nodes>, fault: Fault, pace: Pace) -> io::Result<()> {
    match fault {
        Fault::Cuts => cuts(run).await,
        Fault::KillNode => kill_nodes(run).await,
        Fault::PauseNode => pause_node(run, pace).await,
        Fault::RestartRedis | Fault::DoubtRedis => restart(run, Data::Kept).await,
        Fault::EmptyRedis => restart(run, Data::Lost).await,
        Fault::Sentinel => fail_over(run, false).await,
        Fault::PausePrimary => fail_over(run, true).await,
        Fault::MoveSlots => move_slots(run).await,
        Fault::KillPrimary => kill_primary(run).await,
        Fault::KillEvents => kill_connections(run, "pubsub").await,
        Fault::KillCommands => kill_connections(run, "normal").await,
        Fault::CutLink => weather(run, Weather::Cut, Duration::from_secs(2), Which::One).await,
        Fault::SilentLink => {
            let span = if pace == Pace::Long { 30 } else { 7 };
            weather(run, Weather::Silent, Duration::from_secs(span), Which::One).await
        }
        Fault::SlowLink => {
            let slow = Weather::Slow(Duration::from_millis(100), Duration::from_millis(80));
            weather(run, slow, Duration::from_secs(4), Which::All).await
        }
        Fault::Loss => loss(run).await,
        Fault::Clocks => rest(run, 4000).await,
        Fault::Rolling => rolling(run).await,
        Fault::FullRedis => full(run).await,
    }
}

async fn cuts(run: &mut Run<Nodes>) -> io::Result<()> {
    strike(run, "connections of clients are cut");
    run.set_harmful(true);
    for _ in 0..20 {
        run.cut_one();
        rest(run, 200).await?;
    }
    run.set_harmful(false);
    Ok(())
}

async fn kill_nodes(run: &mut Run<Nodes>) -> io::Result<()> {
    let first = any(run);
    for (node, down) in [(first, 300), ((first + 1) % NODES, 6000)] {
        strike(run, &format!("node {node} is killed"));
        run.victim.nodes[node].process.kill().await?;
        run.write(Event::Killed);
        rest(run, down).await?;
        run.start().await?;
        rest(run, 1000).await?;
    }
    Ok(())
}

async fn pause_node(run: &mut Run<Nodes>, pace: Pace) -> io::Result<()> {
    let node = any(run);
    strike(run, &format!("node {node} stands still"));
    run.victim.nodes[node].process.pause()?;
    rest(run, if pace == Pace::Long { 30_000 } else { 8000 }).await?;
    run.victim.nodes[node].process.go_on()
}

async fn restart(run: &mut Run<Nodes>, data: Data) -> io::Result<()> {
    for down in [0, 2000] {
        strike(run, "Redis is killed");
        one(run)?.kill();
        rest(run, down).await?;
        one(run)?.start_again(data)?;
        strike(run, "Redis is back");
        rest(run, 2000).await?;
    }
    Ok(())
}

async fn fail_over(run: &mut Run<Nodes>, pause: bool) -> io::Result<()> {
    strike(run, "the primary fails");
    let Store::Sentinels(rig) = &mut run.victim.store else { return Err(unsuitable()) };
    let before = if pause { rig.pause_primary()? } else { rig.kill_primary()? };
    rest(run, 2000).await?;
    let Store::Sentinels(rig) = &mut run.victim.store else { return Err(unsuitable()) };
    rig.wait_for_another(before)?;
    strike(run, "another primary takes writes");
    rest(run, 500).await?;
    let Store::Sentinels(rig) = &mut run.victim.store else { return Err(unsuitable()) };
    rig.bring_back(before)?;
    rest(run, 2000).await
}

async fn move_slots(run: &mut Run<Nodes>) -> io::Result<()> {
    strike(run, "slots move");
    for round in 0..2 {
        for room in 0..4 {
            let key = format!("throng:{{room-{room}}}");
            let Store::Cluster(rig) = &run.victim.store else { return Err(unsuitable()) };
            let to = (rig.owner_of(&key)? + 1 + round) % 3;
            rig.move_slot(&key, to)?;
            rest(run, 300).await?;
        }
    }
    Ok(())
}

async fn kill_primary(run: &mut Run<Nodes>) -> io::Result<()> {
    strike(run, "a primary is killed");
    let key = "throng:{room-0}";
    let Store::Cluster(rig) = &mut run.victim.store else { return Err(unsuitable()) };
    let before = rig.owner_of(key)?;
    rig.server_mut(before).kill();
    rest(run, 1500).await?;
    let Store::Cluster(rig) = &mut run.victim.store else { return Err(unsuitable()) };
    rig.wait_for_another(key, before)?;
    strike(run, "its replica takes writes");
    rest(run, 500).await?;
    let Store::Cluster(rig) = &mut run.victim.store else { return Err(unsuitable()) };
    rig.server_mut(before).start_again(Data::Kept)?;
    rest(run, 1000).await
}

async fn kill_connections(run: &mut Run<Nodes>, kind: &str) -> io::Result<()> {
    strike(run, &format!("connections of the kind {kind} are killed"));
    let mut killed = 0;
    for _ in 0..12 {
        let pause = run.dice.below(600);
        rest(run, pause).await?;
        let reply = one(run)?.order(&["CLIENT", "KILL", "TYPE", kind])?;
        killed += reply.number().unwrap_or_default();
    }
    match killed {
        0 => Err(io::Error::other(format!("there is no connection of the kind {kind}"))),
        _ => Ok(()),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    One,
    All,
}

async fn weather(
    run: &mut Run<Nodes>,
    weather: Weather,
    span: Duration,
    which: Which,
) -> io::Result<()> {
    let chosen = any(run);
    strike(run, &format!("the way of node {chosen} (or of all) to Redis is {weather:?}"));
    let concerned = |(index, _): &(usize, &Node)| which == Which::All || *index == chosen;
    let set = |nodes: &[Node], weather| {
        let nodes = nodes.iter().enumerate().filter(concerned);
        nodes.filter_map(|(_, node)| node.link.as_ref()).for_each(|link| link.set(weather));
    };
    set(&run.victim.nodes, weather);
    rest(run, span.as_millis() as u64).await?;
    set(&run.victim.nodes, Weather::Fair);
    rest(run, 500).await
}

async fn loss(run: &mut Run<Nodes>) -> io::Result<()> {
    strike(run, "a part of all packets from and to Redis is lost");
    let port = one(run)?.port();
    inside::lose(port, 5)?;
    rest(run, 5000).await?;
    inside::lose_none()
}

async fn rolling(run: &mut Run<Nodes>) -> io::Result<()> {
    for node in 0..NODES {
        strike(run, &format!("node {node} is stopped in order"));
        let spread = Fault::Rolling.drain_spread().as_millis() as u64;
        run.write(Event::Draining { node: node as u32, spread });
        run.write(Event::Stopping);
        let witness = Witness::start(one(run)?.address());
        if let Some(what) = run.victim.nodes[node].process.stop().await? {
            run.write(Event::Stalled { what });
        }
        let stall = witness.end();
        run.write(Event::Drained { node: node as u32, stall });
        rest(run, 200).await?;
        run.start().await?;
        rest(run, 700).await?;
    }
    Ok(())
}

async fn full(run: &mut Run<Nodes>) -> io::Result<()> {
    strike(run, "Redis is out of memory");
    one(run)?.order(&["CONFIG", "SET", "maxmemory", "1"])?;
    run.write(Event::Disk { works: false });
    let (_, before) = run.board.answers();
    let board = std::sync::Arc::clone(&run.board);
    let refused = move |_: &[_]| board.answers().1 > before;
    run.until("a publish to be refused", Duration::from_secs(15), refused).await?;
    rest(run, 2000).await?;
    one(run)?.order(&["CONFIG", "SET", "maxmemory", "0"])?;
    run.write(Event::Disk { works: true });
    Ok(())
}

/// Waits until messages are acknowledged again.
async fn works(run: &mut Run<Nodes>) -> io::Result<()> {
    let (before, _) = run.board.answers();
    let board = std::sync::Arc::clone(&run.board);
    let acked = move |_: &[_]| board.answers().0 > before + 20;
    run.until("messages to be acknowledged", Duration::from_secs(30), acked).await
}

fn strike(run: &Run<Nodes>, what: &str) {
    run.write(Event::Struck { what: what.to_owned() });
}

/// Lets time pass; a node that ends by itself meanwhile is written down.
async fn rest(run: &mut Run<Nodes>, milliseconds: u64) -> io::Result<()> {
    let end = Instant::now() + Duration::from_millis(milliseconds);
    while Instant::now() < end {
        if let Some(status) = run.victim.ended() {
            run.write(Event::Died { status });
            run.start().await?;
        }
        sleep(Duration::from_millis(20).min(end - Instant::now())).await;
    }
    Ok(())
}

fn any(run: &mut Run<Nodes>) -> usize {
    usize::try_from(run.dice.below(NODES as u64)).unwrap_or_default()
}

fn one(run: &mut Run<Nodes>) -> io::Result<&mut Server> {
    match &mut run.victim.store {
        Store::One(server) => Ok(server),
        _ => Err(unsuitable()),
    }
}

fn unsuitable() -> io::Error {
    io::Error::other("the fault needs another Redis than there is")
}
