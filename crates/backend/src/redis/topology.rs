//! Which server a key is on: one of several alone, the primary that the sentinels name, or the one of a cluster that
//! has the key's slot; and what becomes of commands and channels when that changes.

mod place;
mod plan;
mod slot;
mod watch;

use std::cell::Cell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use redis::Value;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use place::Place;
pub(super) use plan::Plan;

use super::link::{Answer, Expect, Link, LinkId, News, Post, REPLICA, Sent, Server, Trouble};
use super::options::{RedisError, RedisMode};
use super::script::Call;
use super::step::Failure;
use super::{RedisServer, RedisStatus};

/// All servers.
pub(super) struct Topology {
    plan: Plan,
    post: Post,
    places: HashMap<LinkId, Place>,
    next: LinkId,
    routes: Routes,
    channels: HashMap<Rc<str>, Channel>,
    /// Commands that are tried again a little later.
    later: VecDeque<(Instant, Sent)>,
    happenings: VecDeque<Happening>,
    hurry: Rc<Notify>,
    /// Whether the primary that the sentinels have named is there.
    content: Rc<Cell<bool>>,
    watch: Option<JoinHandle<()>>,
    /// Why nobody says where the primaries are.
    lost: Option<String>,
    /// Why there is no point in waiting, if nothing has ever worked.
    hopeless: Option<RedisError>,
    pub(super) cuts: u64,
}

/// What follows for the rooms.
#[derive(Debug)]
pub(super) enum Happening {
    /// How a command ended.
    Answered { id: u64, result: Result<Value, Failure> },
    /// A channel is heard from here on.
    Heard(Rc<str>),
    /// It no longer is.
    Deaf(Rc<str>),
    /// Something came on it.
    Said { channel: String, payload: Vec<u8> },
    /// Other rooms than before can be reached.
    Routes,
}

enum Routes {
    /// The address by which rooms are shared, and the link.
    Alone(Vec<(String, LinkId)>),
    Primary(Option<LinkId>),
    Slots(Vec<Option<LinkId>>),
}

#[derive(Default)]
struct Channel {
    link: Option<LinkId>,
    heard: bool,
}

impl Topology {
    /// Begins to connect. Must be called where local tasks can be started.
    pub(super) fn new(plan: Plan, post: Post) -> Self {
        let mut topology = Self {
            routes: Routes::Primary(None),
            post,
            places: HashMap::new(),
            next: 1,
            channels: HashMap::new(),
            later: VecDeque::new(),
            happenings: VecDeque::new(),
            hurry: Rc::new(Notify::new()),
            content: Rc::new(Cell::new(false)),
            watch: None,
            lost: None,
            hopeless: None,
            cuts: 0,
            plan,
        };
        let (servers, post) = (topology.plan.servers.clone(), topology.post.clone());
        match topology.plan.mode.clone() {
            RedisMode::Single => {
                let link = |server: Server| {
                    let name = format!("{}/{}", server.address(), server.database);
                    (name, topology.link(server))
                };
                topology.routes = Routes::Alone(servers.into_iter().map(link).collect());
            }
            RedisMode::Sentinel { master, auth } => {
                let ours = |server: Server| Server { auth: auth.clone(), database: 0, ..server };
                let sentinels = servers.into_iter().map(ours).collect();
                let content = topology.content.clone();
                let content: Rc<dyn Fn() -> bool> = Rc::new(move || content.get());
                let watch = watch::sentinels(sentinels, master, content, post);
                topology.watch = Some(tokio::task::spawn_local(watch));
            }
            RedisMode::Cluster => {
                topology.routes = Routes::Slots(vec![None; slot::SLOTS.into()]);
                let watch = watch::cluster(servers, topology.hurry.clone(), post);
                topology.watch = Some(tokio::task::spawn_local(watch));
            }
        }
        topology
    }

    /// Where a key is.
    fn route(&self, key: &[u8]) -> Option<LinkId> {
        let tag = slot::tag(key);
        match &self.routes {
            Routes::Alone(servers) => match servers.as_slice() {
                [(_, link)] => Some(*link),
                servers => {
                    let best = servers.iter().max_by_key(|(name, _)| slot::score(name, tag));
                    best.map(|(_, link)| *link)
                }
            },
            Routes::Primary(link) => *link,
            Routes::Slots(slots) => slots.get(usize::from(slot::slot(tag))).copied().flatten(),
        }
    }

    /// Whether commands for a key reach a server.
    pub(super) fn reaches(&self, key: &[u8]) -> bool {
        self.route(key).is_some_and(|link| self.is_up(link))
    }

    fn is_up(&self, link: LinkId) -> bool {
        self.places.get(&link).is_some_and(|place| place.up)
    }

    /// Sends a command; [`Happening::Answered`] says how it ended.
    pub(super) fn send(&mut self, id: u64, call: Call) {
        let since = Instant::now();
        self.dispatch(Sent { id, call, asking: false, since, again: false, hops: 0 }, None);
    }

    fn dispatch(&mut self, sent: Sent, to: Option<LinkId>) {
        let link = to.or_else(|| self.route(sent.call.key()));
        match link.and_then(|link| self.places.get(&link)) {
            Some(place) if place.up => place.link.send(sent),
            _ if sent.again && sent.since.elapsed() < PATIENCE => {
                self.later.push_back((Instant::now() + PAUSE, sent));
            }
            _ => self.answered(sent.id, Err(Failure::Away)),
        }
    }

    /// Hears a channel until it is left; [`Happening::Heard`] says from when on, each time.
    pub(super) fn hear(&mut self, channel: &str) {
        let channel: Rc<str> = channel.into();
        let link = self.route(channel.as_bytes());
        if let Some(place) = link.and_then(|link| self.places.get(&link)) {
            place.link.hear(channel.clone());
        }
        self.channels.insert(channel, Channel { link, heard: false });
    }

    pub(super) fn leave(&mut self, channel: &str) {
        let Some((channel, state)) = self.channels.remove_entry(channel) else { return };
        if let Some(place) = state.link.and_then(|link| self.places.get(&link)) {
            place.link.leave(channel);
        }
    }

    /// Something was heard of a link.
    pub(super) fn handle(&mut self, id: LinkId, news: News) {
        match news {
            News::Primary { host, port } => return self.primary(&host, port),
            News::Slots(slots) => return self.slots(&slots),
            News::Lost(trouble) => {
                self.despair(&trouble, None);
                self.lost = Some(trouble.to_string());
                return;
            }
            News::Answer { sent, answer } => return self.answer(id, sent, answer),
            _ => {}
        }
        let Some(place) = self.places.get_mut(&id) else { return };
        match news {
            News::Up => {
                tracing::info!(address = place.address, "Redis is there");
                (place.up, place.since, place.trouble) = (true, Instant::now(), None);
                self.reached();
            }
            News::Down(trouble) => {
                if place.up {
                    tracing::warn!(address = place.address, %trouble, "Redis is away");
                    self.cuts += 1;
                    place.since = Instant::now();
                }
                (place.up, place.trouble) = (false, Some(trouble.to_string()));
                let address = place.address.clone();
                self.despair(&trouble, Some(address));
                self.hurry.notify_one();
                self.reached();
            }
            News::Ears => {
                place.ears = true;
                self.happenings.push_back(Happening::Routes);
            }
            News::Deaf(trouble) => {
                if std::mem::take(&mut place.ears) {
                    tracing::warn!(address = place.address, %trouble, "Redis is not heard");
                    self.cuts += 1;
                    self.happenings.push_back(Happening::Routes);
                }
                for (channel, state) in &mut self.channels {
                    if state.link == Some(id) && std::mem::take(&mut state.heard) {
                        self.happenings.push_back(Happening::Deaf(channel.clone()));
                    }
                }
                self.hurry.notify_one();
            }
            News::Heard(channel) => {
                let state = self.channels.get_mut(&channel).filter(|state| state.link == Some(id));
                if let Some(state) = state {
                    state.heard = true;
                    self.happenings.push_back(Happening::Heard(channel));
                }
            }
            News::Moved(channel) => {
                let state = self.channels.get_mut(&channel).filter(|state| state.link == Some(id));
                if let Some(state) = state {
                    state.link = None;
                    if std::mem::take(&mut state.heard) {
                        self.happenings.push_back(Happening::Deaf(channel));
                    }
                }
                self.hurry.notify_one();
            }
            News::Said { channel, payload } => {
                let ours = self.channels.get(channel.as_str());
                if ours.is_some_and(|state| state.link == Some(id) && state.heard) {
                    self.happenings.push_back(Happening::Said { channel, payload });
                }
            }
            News::Answer { .. } | News::Primary { .. } | News::Slots(_) | News::Lost(_) => {}
        }
    }

    fn answer(&mut self, link: LinkId, mut sent: Sent, answer: Answer) {
        let (code, detail) = match answer {
            Answer::Value(value) => return self.answered(sent.id, Ok(value)),
            Answer::Failed(failure) => return self.answered(sent.id, Err(failure)),
            Answer::Error(code, detail) => (code, detail),
        };
        sent.asking = false;
        sent.again = true;
        let in_time = sent.since.elapsed() < PATIENCE;
        match code.as_str() {
            "MOVED" | "ASK" if in_time => {
                self.hurry.notify_one();
                let Some(target) = self.redirected(link, &detail) else {
                    return self.answered(sent.id, Err(Failure::Refused));
                };
                sent.hops += 1;
                if sent.hops > MOST_HOPS {
                    // They send it to and fro: until they agree, not as fast as they can.
                    sent.hops = 0;
                    return self.later.push_back((Instant::now() + PAUSE, sent));
                }
                sent.asking = code == "ASK";
                self.dispatch(sent, Some(target));
            }
            "TRYAGAIN" if in_time => self.later.push_back((Instant::now() + PAUSE, sent)),
            _ => {
                self.hurry.notify_one();
                if let Some(place) = self.places.get_mut(&link) {
                    place.refuses(&code, &detail);
                }
                self.answered(sent.id, Err(Failure::Refused));
            }
        }
    }

    /// Where `MOVED` or `ASK` points: slot, host and port.
    fn redirected(&mut self, from: LinkId, detail: &str) -> Option<LinkId> {
        let (_, address) = detail.split_once(' ')?;
        let (host, port) = address.trim().rsplit_once(':')?;
        let port = port.parse().ok()?;
        let host = host.trim_matches(['[', ']']);
        if host.is_empty() {
            let address = self.places.get(&from)?.address.clone();
            let same = address.rsplit_once(':')?.0.trim_matches(['[', ']']).to_owned();
            return Some(self.link_to(&same, port));
        }
        Some(self.link_to(host, port))
    }

    fn primary(&mut self, host: &str, port: u16) {
        self.lost = None;
        let Some(server) = self.plan.servers.first() else { return };
        let server = server.at(host, port);
        let Routes::Primary(now) = &self.routes else { return };
        let now = *now;
        if now
            .is_some_and(|now| self.places.get(&now).is_some_and(|p| p.address == server.address()))
        {
            return;
        }
        tracing::info!(address = server.address(), "the sentinels name the primary");
        let link = self.link(server);
        self.routes = Routes::Primary(Some(link));
        self.reroute();
        self.reached();
        if let Some(now) = now {
            self.places.remove(&now);
        }
    }

    fn slots(&mut self, ranges: &[(u16, u16, String, u16)]) {
        self.lost = None;
        let mut slots = vec![None; slot::SLOTS.into()];
        for (first, last, host, port) in ranges {
            let link = self.link_to(host, *port);
            for slot in *first..=*last {
                if let Some(slot) = slots.get_mut(usize::from(slot)) {
                    *slot = Some(link);
                }
            }
        }
        let Routes::Slots(before) = &mut self.routes else { return };
        let same = *before == slots;
        *before = slots;
        // Even if nothing has changed, channels may look for a place.
        self.reroute();
        if !same {
            self.reached();
        }
        self.forget_idle(same);
    }

    /// Lets go of servers that have no slots and are away: they were taken out, or are replicas now. One that takes slots
    /// just now has none yet, but is there. `patient`: nor is one given up that has just been thought of.
    fn forget_idle(&mut self, patient: bool) {
        let Routes::Slots(slots) = &self.routes else { return };
        let used: HashSet<LinkId> = slots.iter().flatten().copied().collect();
        self.places.retain(|link, place| {
            let recent = patient && place.since.elapsed() < IDLE;
            place.up || recent || used.contains(link)
        });
    }

    /// Brings all channels to where they belong.
    fn reroute(&mut self) {
        let mut moved = Vec::new();
        for (channel, state) in &self.channels {
            let link = self.route(channel.as_bytes());
            if link != state.link {
                moved.push((channel.clone(), link));
            }
        }
        for (channel, link) in moved {
            let Some(state) = self.channels.get_mut(&channel) else { continue };
            let before = std::mem::replace(&mut state.link, link);
            if std::mem::take(&mut state.heard) {
                self.happenings.push_back(Happening::Deaf(channel.clone()));
            }
            if let Some(place) = before.and_then(|link| self.places.get(&link)) {
                place.link.leave(channel.clone());
            }
            if let Some(place) = link.and_then(|link| self.places.get(&link)) {
                place.link.hear(channel);
            }
        }
    }

    fn reached(&mut self) {
        if let Routes::Primary(link) = &self.routes {
            self.content.set(link.is_some_and(|link| self.is_up(link)));
        }
        if self.is_ready() {
            self.hopeless = None;
        }
        self.happenings.push_back(Happening::Routes);
    }

    fn link_to(&mut self, host: &str, port: u16) -> LinkId {
        let Some(server) = self.plan.servers.first().map(|server| server.at(host, port)) else {
            return 0;
        };
        let address = server.address();
        let known = self.places.iter().find(|(_, place)| place.address == address);
        match known {
            Some((link, _)) => *link,
            None => self.link(server),
        }
    }

    fn link(&mut self, server: Server) -> LinkId {
        let id = self.next;
        self.next += 1;
        let address = server.address();
        let expect = Expect { cluster: self.plan.mode == RedisMode::Cluster };
        let link = Link::new(id, server, expect, self.post.clone());
        self.places.insert(id, Place::new(link, address));
        id
    }

    fn answered(&mut self, id: u64, result: Result<Value, Failure>) {
        self.happenings.push_back(Happening::Answered { id, result });
    }

    /// What waiting would not mend.
    fn despair(&mut self, trouble: &Trouble, address: Option<String>) {
        let address = address
            .unwrap_or_else(|| self.plan.servers.first().map(Server::address).unwrap_or_default());
        self.hopeless = match trouble {
            Trouble::Away(_) => return,
            Trouble::Denied(detail) => {
                Some(RedisError::Denied { address, detail: detail.trim().to_owned() })
            }
            Trouble::TooOld(version) => {
                Some(RedisError::TooOld { address, version: version.clone() })
            }
            // Who is the primary changes.
            Trouble::Mode(REPLICA) if self.plan.mode != RedisMode::Single => return,
            Trouble::Mode(detail) => {
                Some(RedisError::Mode { address, detail: (*detail).to_owned() })
            }
        };
    }

    /// Why nothing works and nothing will; `None` as long as there is hope.
    pub(super) fn hopeless(&self) -> Option<&RedisError> {
        self.hopeless.as_ref()
    }

    /// Whether commands reach every server.
    pub(super) fn is_ready(&self) -> bool {
        match &self.routes {
            Routes::Alone(servers) => servers.iter().all(|(_, link)| self.is_up(*link)),
            Routes::Primary(link) => link.is_some_and(|link| self.is_up(link)),
            Routes::Slots(slots) => slots.iter().all(|link| link.is_some_and(|l| self.is_up(l))),
        }
    }

    /// What is the matter, for whoever waits.
    pub(super) fn trouble(&self) -> Option<(String, String)> {
        let place = self.places.values().find(|place| !place.up);
        let of_place = place
            .map(|p| (p.address.clone(), p.trouble.clone().unwrap_or_else(|| "no answer".into())));
        let first = || self.plan.servers.first().map(Server::address).unwrap_or_default();
        of_place.or_else(|| self.lost.clone().map(|lost| (first(), lost)))
    }

    /// The next thing that follows.
    pub(super) fn poll(&mut self) -> Option<Happening> {
        self.happenings.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.later.front().map(|(when, _)| *when)
    }

    pub(super) fn handle_timeout(&mut self) {
        let now = Instant::now();
        while self.later.front().is_some_and(|(when, _)| *when <= now) {
            let Some((_, sent)) = self.later.pop_front() else { break };
            self.dispatch(sent, None);
        }
    }

    pub(super) fn report(&self, status: &mut RedisStatus) {
        let mut places: Vec<_> = self.places.values().collect();
        places.sort_by(|a, b| a.address.cmp(&b.address));
        status.servers = places.iter().map(|place| place.report()).collect();
        status.cuts = self.cuts;
        if let Some(lost) = self.lost.clone().filter(|_| status.servers.is_empty()) {
            let address = self.plan.servers.first().map(Server::address).unwrap_or_default();
            status.servers.push(RedisServer {
                address,
                role: "unknown",
                trouble: Some(lost),
                ..RedisServer::default()
            });
        }
    }
}

impl Drop for Topology {
    fn drop(&mut self) {
        if let Some(watch) = &self.watch {
            watch.abort();
        }
    }
}

/// For how long a command follows a slot that moves.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long it waits in between.
const PAUSE: Duration = Duration::from_millis(25);
/// How often it is sent on at once.
const MOST_HOPS: u8 = 4;
/// How long a server that has no slots and is away is not given up.
const IDLE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
