//! Connections: what is on its way, what breaks, what comes back.

use super::{Input, Thing, World};
use crate::redis::core::AskId;
use crate::redis::core::sim::server::{Data, Server};
use crate::redis::step::{Ask, Event, Failure, Name, Told};

impl World {
    /// Something is told on a room's channel.
    pub(super) fn publish(&mut self, server: usize, name: Name, event: Event) {
        for node in 0..self.nodes.len() {
            let delay = self.delay();
            let leaks = self.rng.below(1000) < self.leak;
            let there = &mut self.nodes[node];
            let link = &mut there.channel;
            if !there.up || !link.up || link.server != server || !link.heard.contains(&name) {
                continue;
            }
            if leaks {
                there.failures += 1;
                there.leaked = self.now;
                self.count("events that got lost");
                continue;
            }
            link.here = link.here.max(self.now + delay);
            let (at, round) = (link.here, link.round);
            self.at(at, Thing::Event { node, round, name: name.clone(), event: event.clone() });
        }
    }

    /// The connection for commands breaks.
    pub(in crate::redis::core::sim) fn cut_commands(&mut self, node: usize) {
        let (notice, back) = (self.rng.range(0, 300), self.rng.range(0, 2500));
        let told = self.rng.percent(70);
        self.fail(node);
        let there = &mut self.nodes[node];
        if !there.commands.up {
            return;
        }
        there.commands.round += 1;
        there.commands.up = false;
        let round = there.commands.round;
        let asked = std::mem::take(&mut there.asked);
        if told {
            self.input(node, notice, Input::Away);
        }
        for id in asked {
            self.input(node, notice, Input::Told(id, Told::Failed(Failure::Unknown)));
        }
        self.at(self.now + notice + back, Thing::Connect { node, round, commands: true });
    }

    /// The connection for channels breaks.
    pub(in crate::redis::core::sim) fn cut_channel(&mut self, node: usize) {
        let (notice, back) = (self.rng.range(0, 1500), self.rng.range(0, 2500));
        self.fail(node);
        let there = &mut self.nodes[node];
        if !there.channel.up {
            return;
        }
        there.channel.round += 1;
        there.channel.up = false;
        let round = there.channel.round;
        for name in std::mem::take(&mut there.channel.heard) {
            self.input(node, notice, Input::Unsubscribed(name));
        }
        self.at(self.now + notice + back, Thing::Connect { node, round, commands: false });
    }

    /// Another server takes over, with what it has; nodes come to it one by one.
    pub(in crate::redis::core::sim) fn replace_server(
        &mut self,
        data: Data,
        skew: i64,
        at_once: bool,
    ) {
        let owner = self.servers.len() as u64 + 1;
        self.servers.push(Server::new(owner, data, skew));
        (0..self.nodes.len()).for_each(|node| self.fail(node));
        for node in 0..self.nodes.len() {
            let most = if at_once { 0 } else { 3000 };
            for commands in [true, false] {
                let at = self.now + self.rng.range(0, most);
                self.at(at, Thing::Cut { node, commands });
            }
        }
    }

    pub(super) fn connect(&mut self, node: usize, round: u64, commands: bool) {
        let server = self.servers.len() - 1;
        let there = &mut self.nodes[node];
        let link = if commands { &mut there.commands } else { &mut there.channel };
        if link.round != round || !there.up {
            return;
        }
        (link.up, link.server) = (true, server);
        if commands {
            return self.handle(node, Input::Back);
        }
        for name in there.wants.clone() {
            self.subscribe(node, name, true);
        }
    }

    pub(super) fn subscribe(&mut self, node: usize, name: Name, on: bool) {
        let delay = self.delay();
        let link = &mut self.nodes[node].channel;
        if link.up {
            link.there = link.there.max(self.now + delay);
            let (at, round) = (link.there, link.round);
            self.at(at, Thing::Subscribe { node, round, name, on });
        }
    }

    pub(super) fn send(&mut self, node: usize, id: AskId, ask: Ask) {
        let (delay, slow) = (self.delay(), self.rng.below(1000) < self.slow);
        let now = self.now;
        let link = &mut self.nodes[node].commands;
        if !link.up {
            return self.input(node, delay, Input::Told(id, Told::Failed(Failure::Away)));
        }
        let (round, server) = (link.round, link.server);
        if slow {
            // Its answer is not waited for; when it is done, nobody knows.
            self.fail(node);
            self.count("questions without an answer");
            let at = now + self.rng.range(0, 3000);
            self.at(at, Thing::Ask { node, round, server, id, ask, mute: true });
            return self.input(node, 500, Input::Told(id, Told::Failed(Failure::Unknown)));
        }
        let at = now + delay;
        let at = if self.jumbled { at } else { at.max(link.there) };
        link.there = at;
        self.nodes[node].asked.insert(id);
        self.at(at, Thing::Ask { node, round, server, id, ask, mute: false });
    }
}
