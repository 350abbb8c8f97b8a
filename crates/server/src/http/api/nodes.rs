//! The servers that share rooms: which there are, and sending their clients to the others.

use std::time::Duration;

use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use throng::{Code, Draining};

use super::super::answer::{Problem, json};
use super::{Call, object};

impl Call<'_> {
    pub(super) fn list_nodes(&self) -> Response {
        let draining = self.http.server.draining();
        let nodes = self.http.server.nodes();
        let nodes = nodes.into_iter().map(|node| Node::of(node, draining)).collect();
        json(StatusCode::OK, &Nodes { nodes })
    }

    pub(super) fn show_node(&self) -> Result<Response, Problem> {
        let id = self.node();
        let found = self.http.server.nodes().into_iter().find(|node| node.id == id);
        let node = found.ok_or_else(Problem::no_node)?;
        Ok(json(StatusCode::OK, &Node::of(node, self.http.server.draining())))
    }

    pub(super) fn drain_node(&self, text: &Bytes) -> Result<Response, Problem> {
        let wanted: Drain = match text.is_empty() {
            true => Drain::default(),
            false => object(text, "an object with `spread`, a number of milliseconds, or {}")?,
        };
        let spread = wanted.spread.map_or(self.http.drain_spread, Duration::from_millis);
        if spread > LONGEST_SPREAD {
            let text = "`spread` may be an hour at most, 3600000.";
            return Err(Problem::new(Code::BadMessage, text));
        }
        let node = self.node();
        let server = &self.http.server;
        let is_new = node != server.node_id() || server.draining().is_none();
        if !server.drain_node(&node, spread) {
            return Err(Problem::no_node());
        }
        if is_new {
            tracing::info!(%node, ?spread, by = self.key, "asked by the API to send everybody away");
        }
        let drain = server.draining().filter(|_| node == server.node_id());
        let spread = drain.map_or(spread, |drain| drain.spread).as_millis() as u64;
        Ok(json(StatusCode::OK, &Begun { node, spread, drain: drain.map(Progress::from) }))
    }

    pub(super) fn undrain_node(&self) -> Result<Response, Problem> {
        let (node, server) = (self.node(), &self.http.server);
        let is_new = node != server.node_id() || server.draining().is_some();
        match server.undrain_node(&node) {
            None => return Err(Problem::no_node()),
            Some(false) => {
                let text = "This server is about to end; that cannot be taken back.";
                return Err(Problem::new(Code::Unavailable, text));
            }
            Some(true) if is_new => {
                tracing::info!(%node, by = self.key, "asked by the API to take clients again");
            }
            Some(true) => {}
        }
        Ok(json(StatusCode::OK, &Undrained { node }))
    }

    /// The node of the path; `self` is the one that is asked.
    fn node(&self) -> String {
        match self.found.name() {
            "self" => self.http.server.node_id(),
            id => id.to_owned(),
        }
    }
}

/// What `GET /nodes` answers, in lines.
pub(crate) fn shown_nodes(nodes: Vec<throng::Node>) -> String {
    let nodes = nodes.into_iter().map(|node| Node::of(node, None)).collect();
    let text = serde_json::to_string_pretty(&Nodes { nodes });
    text.unwrap_or_default() + "\n"
}

/// The longest time that a request may spread departures over.
const LONGEST_SPREAD: Duration = Duration::from_secs(3600);

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Drain {
    spread: Option<u64>,
}

#[derive(Serialize)]
struct Begun {
    node: String,
    spread: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    drain: Option<Progress>,
}

#[derive(Serialize)]
struct Undrained {
    node: String,
}

#[derive(Serialize)]
struct Nodes {
    nodes: Vec<Node>,
}

/// A node, as the API and `throng nodes` show it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    id: String,
    #[serde(rename = "self")]
    is_self: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    address: String,
    version: String,
    started_at: u64,
    connections: u64,
    users: u64,
    rooms: u64,
    load: f64,
    draining: bool,
    /// Milliseconds ago.
    last_beat: u64,
    /// Of the one that is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    drain: Option<Progress>,
}

/// How far a drain is.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Progress {
    total: usize,
    left: usize,
    spread: u64,
    since: u64,
    ends_in: u64,
}

impl Node {
    fn of(node: throng::Node, draining: Option<Draining>) -> Self {
        let report = node.report;
        Self {
            drain: draining.filter(|_| node.is_self).map(Progress::from),
            id: node.id,
            is_self: node.is_self,
            address: report.address,
            version: report.version,
            started_at: report.started,
            connections: report.connections,
            users: report.users,
            rooms: report.rooms,
            // Two digits are what it is worth.
            load: (report.load * 100.0).round() / 100.0,
            draining: report.draining,
            last_beat: node.last_beat.as_millis() as u64,
        }
    }
}

impl From<Draining> for Progress {
    fn from(draining: Draining) -> Self {
        let millis = |time: Duration| time.as_millis() as u64;
        Self {
            total: draining.total,
            left: draining.left,
            spread: millis(draining.spread),
            since: millis(draining.since),
            ends_in: millis(draining.ends_in),
        }
    }
}
