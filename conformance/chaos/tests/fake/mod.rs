//! A server of a few lines that keeps the promises, or breaks the one it is told to.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Map, Value, json};
use throng_chaos::victim::Victim;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{AbortHandle, JoinSet};
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{self, Message};

/// What it does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    None,
    /// The last message of each room is gone after a kill.
    LosesTheTail,
    /// What is sent again is published again.
    PublishesAgain,
    /// What was missed begins one message too late.
    SkipsOne,
    /// Sessions do not survive a kill.
    ForgetsSessions,
    /// Who was dropped stays in presence for ever.
    KeepsGhosts,
    /// A room begins anew, and those who are there are not told.
    SilentRenewal,
    /// Numbers go back when messages are lost, in the same epoch.
    SameEpoch,
    /// A message that was stored through one node is not known to be when it is sent to another.
    NodesApart,
    /// Now and then, a message also goes to somebody who is in another room.
    Leaks,
}

pub(crate) struct Fake {
    nodes: Vec<FakeNode>,
    world: Arc<Mutex<World>>,
    bug: Bug,
}

struct FakeNode {
    address: SocketAddr,
    running: Option<AbortHandle>,
}

struct World {
    bug: Bug,
    epoch: String,
    counter: u64,
    sessions: HashMap<String, String>,
    rooms: BTreeMap<String, Room>,
    out: HashMap<u64, UnboundedSender<String>>,
    /// Which node has a connection.
    at: HashMap<u64, usize>,
    attached: HashMap<String, u64>,
}

#[derive(Default)]
struct Room {
    log: Vec<Value>,
    /// By session, `ref`, and the node where that matters.
    seen: HashMap<(String, u64, usize), (u64, u64)>,
    members: HashMap<u64, String>,
    ghosts: Vec<(String, u64)>,
    presence: u64,
}

impl Fake {
    pub(crate) async fn new(bug: Bug) -> io::Result<Self> {
        Self::with_nodes(bug, 1).await
    }

    pub(crate) async fn with_nodes(bug: Bug, many: usize) -> io::Result<Self> {
        let mut nodes = Vec::new();
        for _ in 0..many {
            let address = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
            nodes.push(FakeNode { address, running: None });
        }
        let world = World {
            bug,
            epoch: "0000000000abc".into(),
            counter: 0,
            sessions: HashMap::new(),
            rooms: BTreeMap::new(),
            out: HashMap::new(),
            at: HashMap::new(),
            attached: HashMap::new(),
        };
        Ok(Self { nodes, world: Arc::new(Mutex::new(world)), bug })
    }

    /// Ends one of the nodes; those who were there have a moment to come back.
    pub(crate) fn kill_node(&mut self, node: usize) {
        if let Some(running) = self.nodes[node].running.take() {
            running.abort();
        }
        let mut world = lock(&self.world);
        let there: Vec<u64> =
            world.at.iter().filter(|(_, at)| **at == node).map(|(id, _)| *id).collect();
        for id in there {
            world.at.remove(&id);
            world.out.remove(&id);
            let user =
                world.attached.iter().find(|(_, at)| **at == id).map(|(user, _)| user.clone());
            if let Some(user) = user {
                world.attached.remove(&user);
                world.leave_all(id, &user, true);
                exorcise_later(&self.world, id);
            }
        }
    }

    /// What the nodes share fails: the last message of each room is lost, and they begin anew.
    pub(crate) fn renew(&mut self) {
        let mut world = lock(&self.world);
        world.counter += 1;
        if self.bug != Bug::SameEpoch {
            world.epoch = format!("{:013x}", world.counter);
        }
        world.lose_tails();
        let names: Vec<String> = world.rooms.keys().cloned().collect();
        for name in names {
            let list = world.list(&name);
            let Some(room) = world.rooms.get(&name) else { continue };
            let entry = json!({"recovered": false, "epoch": list["epoch"], "seq": list["seq"],
                "userCount": list["userCount"], "presenceSeq": list["presenceSeq"]});
            let told = json!({"type": "resumed", "rooms": {name.as_str(): entry}});
            for id in room.members.keys() {
                if !matches!(self.bug, Bug::SilentRenewal | Bug::SameEpoch) {
                    world.send(*id, &told);
                }
            }
        }
    }
}

impl Victim for Fake {
    fn address(&self) -> SocketAddr {
        self.nodes[0].address
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.address).collect()
    }

    async fn start(&mut self) -> io::Result<()> {
        for (index, node) in self.nodes.iter_mut().enumerate() {
            if node.running.as_ref().is_some_and(|running| !running.is_finished()) {
                continue;
            }
            let listener = loop {
                match TcpListener::bind(node.address).await {
                    Ok(listener) => break listener,
                    Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    Err(error) => return Err(error),
                }
            };
            let world = Arc::clone(&self.world);
            let task = tokio::spawn(async move {
                let mut connections = JoinSet::new();
                while let Ok((stream, _)) = listener.accept().await {
                    connections.spawn(serve(stream, Arc::clone(&world), index));
                }
            });
            node.running = Some(task.abort_handle());
        }
        Ok(())
    }

    async fn kill(&mut self) -> io::Result<()> {
        for node in &mut self.nodes {
            if let Some(running) = node.running.take() {
                running.abort();
                while !running.is_finished() {
                    tokio::task::yield_now().await;
                }
            }
        }
        let mut world = lock(&self.world);
        world.out.clear();
        world.at.clear();
        world.attached.clear();
        if self.bug == Bug::ForgetsSessions {
            world.sessions.clear();
        }
        for room in world.rooms.values_mut() {
            room.members.clear();
            room.ghosts.clear();
            room.presence += 1000;
        }
        if self.bug == Bug::LosesTheTail {
            world.lose_tails();
        }
        Ok(())
    }

    async fn stop(&mut self) -> io::Result<Option<String>> {
        self.kill().await.map(|()| None)
    }

    fn ended(&mut self) -> Option<String> {
        None
    }
}

/// The grace of those who were on this connection ends in a second.
fn exorcise_later(world: &Arc<Mutex<World>>, id: u64) {
    let world = Arc::clone(world);
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        lock(&world).exorcise(id);
    });
}

fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(stream: TcpStream, world: Arc<Mutex<World>>, node: usize) {
    let _ = stream.set_nodelay(true);
    let (mut full, mut token, mut path, mut since) = (false, None, String::new(), None);
    let callback = |request: &Request, mut response: Response| {
        path = request.uri().path().to_owned();
        for pair in request.uri().query().unwrap_or_default().split('&') {
            match pair.split_once('=') {
                Some(("resume", value)) => token = Some(value.to_owned()),
                Some(("since", value)) => since = value.split_once('.').map(since_of),
                _ => {}
            }
        }
        let offered = request.headers().get("sec-websocket-protocol");
        for protocol in offered.and_then(|value| value.to_str().ok()).unwrap_or("").split(", ") {
            full |= protocol == "throng.v1";
            token = protocol.strip_prefix("resume.").map(str::to_owned).or(token.take());
        }
        if full {
            let chosen = HeaderValue::from_static("throng.v1");
            response.headers_mut().insert("sec-websocket-protocol", chosen);
        }
        Ok(response)
    };
    let Ok(socket) = tokio_tungstenite::accept_hdr_async(stream, callback).await else { return };
    let (sender, outbox) = unbounded_channel();
    let mut visit = Visit { id: 0, user: String::new(), room: None, node };
    {
        let mut world = lock(&world);
        world.counter += 1;
        visit.id = world.counter;
        world.out.insert(visit.id, sender);
        world.at.insert(visit.id, node);
        let known = token.filter(|token| world.sessions.contains_key(token));
        let resumed = known.is_some();
        visit.user = known.unwrap_or_else(|| format!("u_{}", visit.id));
        let user = visit.user.clone();
        world.sessions.insert(user.clone(), user.clone());
        if let Some(old) = world.attached.insert(user.clone(), visit.id) {
            world.out.remove(&old);
            world.at.remove(&old);
            world.leave_all(old, &user, true);
        }
        let mut hello = json!({"type": "connected", "userId": user, "sessionId": user,
            "resume": user, "resumed": resumed});
        if !full {
            let room = path.trim_start_matches("/ws/").to_owned();
            hello["room"] = room.as_str().into();
            hello["epoch"] = world.epoch.as_str().into();
            hello["recovered"] = world.knows(since.as_ref()).into();
            hello["seq"] = world.rooms.entry(room.clone()).or_default().log.len().into();
            visit.room = Some(room.clone());
            world.send(visit.id, &hello);
            world.enter(&visit, &room, since.as_ref());
            world.replay(visit.id, &room, since.as_ref());
        } else {
            world.send(visit.id, &hello);
            if !resumed {
                let own = format!("@{user}");
                let joined = world.enter(&visit, &own, None);
                world.send(visit.id, &Value::Object(joined));
            }
        }
    }
    let orderly = talk(socket, outbox, &visit, &world).await;
    let mut world_now = lock(&world);
    world_now.out.remove(&visit.id);
    world_now.at.remove(&visit.id);
    if world_now.attached.get(&visit.user) == Some(&visit.id) {
        world_now.attached.remove(&visit.user);
    }
    world_now.leave_all(visit.id, &visit.user, !orderly);
    if !orderly && world_now.bug != Bug::KeepsGhosts {
        exorcise_later(&world, visit.id);
    }
}

/// A position, as its epoch and number.
type Since = (String, u64);

fn since_of((epoch, seq): (&str, &str)) -> Since {
    (epoch.to_owned(), seq.parse().unwrap_or_default())
}

fn since_in(entry: &Value) -> Option<Since> {
    Some((entry.get("epoch")?.as_str()?.to_owned(), entry.get("seq")?.as_u64()?))
}

struct Visit {
    id: u64,
    node: usize,
    user: String,
    room: Option<String>,
}

/// Until the end; true when the client closed in order.
async fn talk(
    mut socket: tokio_tungstenite::WebSocketStream<TcpStream>,
    mut outbox: UnboundedReceiver<String>,
    visit: &Visit,
    world: &Mutex<World>,
) -> bool {
    loop {
        tokio::select! {
            out = outbox.recv() => {
                let Some(out) = out else {
                    let code = tungstenite::protocol::frame::coding::CloseCode::from(4409);
                    let frame = tungstenite::protocol::CloseFrame { code, reason: "".into() };
                    let _ = socket.close(Some(frame)).await;
                    return false;
                };
                if socket.send(Message::text(out)).await.is_err() {
                    return false;
                }
            }
            frame = socket.next() => match frame {
                Some(Ok(Message::Text(text))) => {
                    if let Ok(Value::Object(command)) = serde_json::from_str(&text) {
                        lock(world).command(visit, command);
                    }
                }
                Some(Ok(Message::Close(_))) => return true,
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return false,
            },
        }
    }
}

impl World {
    fn send(&self, id: u64, message: &Value) {
        if let Some(out) = self.out.get(&id) {
            let _ = out.send(message.to_string());
        }
    }

    fn command(&mut self, visit: &Visit, mut command: Map<String, Value>) {
        if !self.out.contains_key(&visit.id) {
            return; // replaced
        }
        let kind = command.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        let reference = command.remove("ref").unwrap_or(Value::Null);
        let to = command.remove("to");
        let room = match (command.get("room"), to) {
            (Some(room), _) => room.as_str().unwrap_or_default().to_owned(),
            (None, Some(user)) => format!("@{}", user.as_str().unwrap_or_default()),
            (None, None) => visit.room.clone().unwrap_or_default(),
        };
        let mut answer = json!({"type": kind, "ref": reference, "room": room});
        match kind.as_str() {
            "join" => {
                let since = command.get("since").and_then(since_in);
                let mut joined = self.enter(visit, &room, since.as_ref());
                joined.insert("ref".into(), reference);
                self.send(visit.id, &Value::Object(joined));
                self.replay(visit.id, &room, since.as_ref());
            }
            "leave" => {
                self.leave(&room, visit.id, &visit.user, false);
                answer["type"] = "left".into();
                self.send(visit.id, &answer);
            }
            "resume" => {
                let rooms = command.get("rooms").and_then(Value::as_object).cloned();
                let rooms = rooms.unwrap_or_default();
                let mut entries = Map::new();
                for (name, entry) in &rooms {
                    let entered = self.enter(visit, name, since_in(entry).as_ref());
                    entries.insert(name.clone(), Value::Object(entered));
                }
                let resumed = json!({"type": "resumed", "ref": reference, "rooms": entries});
                self.send(visit.id, &resumed);
                for (name, entry) in &rooms {
                    self.replay(visit.id, name, since_in(entry).as_ref());
                    let list = self.list(name);
                    if entry.get("presenceSeq").is_some_and(|seq| *seq != list["presenceSeq"]) {
                        self.send(visit.id, &list);
                    }
                }
            }
            "history" => {
                let limit = command.get("limit").and_then(Value::as_u64).unwrap_or(50) as usize;
                answer["epoch"] = self.epoch.as_str().into();
                let log = &self.rooms.entry(room).or_default().log;
                answer["messages"] = log[log.len().saturating_sub(limit)..].into();
                self.send(visit.id, &answer);
            }
            "presence" => {
                let mut list = self.list(&room);
                list["ref"] = reference;
                self.send(visit.id, &list);
            }
            _ => self.publish(visit, &room, reference, command),
        }
    }

    fn publish(
        &mut self,
        visit: &Visit,
        name: &str,
        reference: Value,
        mut message: Map<String, Value>,
    ) {
        self.counter += 1;
        let leak = self.bug == Bug::Leaks && self.counter.is_multiple_of(50);
        let again = self.bug == Bug::PublishesAgain;
        let room = self.rooms.entry(name.to_owned()).or_default();
        let node = if self.bug == Bug::NodesApart { visit.node } else { 0 };
        let key = (visit.user.clone(), reference.as_u64().unwrap_or_default(), node);
        let known = room.seen.get(&key).copied().filter(|_| !again);
        let (seq, ts) =
            known.unwrap_or((room.log.len() as u64 + 1, 1_700_000_000_000 + self.counter));
        let mut ack =
            json!({"type": "ack", "ref": reference, "room": name, "seq": seq, "timestamp": ts});
        if known.is_some() {
            ack["duplicate"] = true.into();
            return self.send(visit.id, &ack);
        }
        message.insert("room".into(), name.into());
        message.insert("from".into(), visit.user.as_str().into());
        message.insert("seq".into(), seq.into());
        message.insert("timestamp".into(), ts.into());
        let message = Value::Object(message);
        room.log.push(message.clone());
        room.seen.insert(key, (seq, ts));
        let mut members: Vec<u64> = room.members.keys().copied().collect();
        if leak {
            members = self.out.keys().copied().collect();
        }
        for member in members {
            self.send(member, &message);
        }
        self.send(visit.id, &ack);
    }

    /// Makes a connection a member; the answer says so.
    fn enter(&mut self, visit: &Visit, name: &str, since: Option<&Since>) -> Map<String, Value> {
        let room = self.rooms.entry(name.to_owned()).or_default();
        let there = room.users().contains(&visit.user);
        room.ghosts.retain(|(user, _)| *user != visit.user);
        room.members.insert(visit.id, visit.user.clone());
        if !there {
            self.moved(name, "user_joined", &visit.user, visit.id);
        }
        let mut list = self.list(name);
        list["type"] = "joined".into();
        list["recovered"] = self.knows(since).into();
        match list {
            Value::Object(list) => list,
            _ => Map::new(),
        }
    }

    fn leave_all(&mut self, id: u64, user: &str, haunts: bool) {
        let names: Vec<String> = self.rooms.keys().cloned().collect();
        for name in names {
            self.leave(&name, id, user, haunts);
        }
    }

    fn leave(&mut self, name: &str, id: u64, user: &str, haunts: bool) {
        let Some(room) = self.rooms.get_mut(name) else { return };
        if room.members.remove(&id).is_none() {
            return;
        }
        if haunts {
            room.ghosts.push((user.to_owned(), id));
        } else if !room.users().contains(user) {
            self.moved(name, "user_left", user, id);
        }
    }

    /// The grace of those who were on this connection is over.
    fn exorcise(&mut self, id: u64) {
        let names: Vec<String> = self.rooms.keys().cloned().collect();
        for name in names {
            let Some(room) = self.rooms.get_mut(&name) else { continue };
            let Some(at) = room.ghosts.iter().position(|(_, of)| *of == id) else { continue };
            let (user, _) = room.ghosts.remove(at);
            if !room.users().contains(&user) {
                self.moved(&name, "user_left", &user, id);
            }
        }
    }

    fn moved(&mut self, name: &str, what: &str, user: &str, except: u64) {
        let Some(room) = self.rooms.get_mut(name) else { return };
        room.presence += 1;
        let push =
            json!({"type": what, "room": name, "userId": user, "presenceSeq": room.presence});
        let members: Vec<u64> = room.members.keys().copied().filter(|id| *id != except).collect();
        for member in members {
            self.send(member, &push);
        }
    }

    /// Whether what is behind this position is known.
    fn knows(&self, since: Option<&Since>) -> bool {
        since.is_none_or(|(epoch, _)| *epoch == self.epoch)
    }

    fn lose_tails(&mut self) {
        for room in self.rooms.values_mut() {
            if let Some(lost) = room.log.pop() {
                room.seen.retain(|_, (seq, _)| Some(*seq) != lost["seq"].as_u64());
            }
        }
    }

    fn replay(&self, id: u64, name: &str, since: Option<&Since>) {
        let (Some((_, seq)), Some(room)) = (since, self.rooms.get(name)) else { return };
        if !self.knows(since) {
            return;
        }
        let skip = *seq as usize + usize::from(self.bug == Bug::SkipsOne);
        for message in room.log.iter().skip(skip) {
            self.send(id, message);
        }
    }

    fn list(&mut self, name: &str) -> Value {
        let room = self.rooms.entry(name.to_owned()).or_default();
        let users = room.users();
        let users: Vec<Value> = users.iter().map(|user| json!({"userId": user})).collect();
        json!({"type": "presence", "room": name, "epoch": self.epoch, "seq": room.log.len(),
            "presenceSeq": room.presence, "userCount": users.len(), "users": users})
    }
}

impl Room {
    fn users(&self) -> HashSet<String> {
        let ghosts = self.ghosts.iter().map(|(user, _)| user);
        self.members.values().chain(ghosts).cloned().collect()
    }
}
