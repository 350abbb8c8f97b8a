//! Who knows where the primaries are: sentinels, nodes of a cluster.

use std::rc::Rc;
use std::time::Duration;

use redis::Value;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::redis::link::{News, Post, Server, Stream, Trouble};

/// Asks one sentinel after the other where the primary is, twice a second. What one says that knows less than another
/// did before does not count, as long as somebody is `content` with what is known.
pub(super) async fn sentinels(
    servers: Vec<Server>,
    master: String,
    content: Rc<dyn Fn() -> bool>,
    post: Post,
) {
    let mut streams: Vec<Option<Stream>> = servers.iter().map(|_| None).collect();
    let mut best = 0;
    let mut silent = 0;
    for turn in (0..servers.len()).cycle() {
        match ask_sentinel(&servers[turn], &mut streams[turn], &master).await {
            Ok((host, port, epoch)) => {
                silent = 0;
                if epoch >= best || !content() {
                    best = epoch;
                    let _ = post.send((0, News::Primary { host, port })).await;
                }
            }
            Err(trouble) => {
                streams[turn] = None;
                silent += 1;
                if silent >= servers.len() {
                    let _ = post.send((0, News::Lost(trouble))).await;
                } else {
                    continue;
                }
            }
        }
        sleep(POLL).await;
    }
}

async fn ask_sentinel(
    server: &Server,
    stream: &mut Option<Stream>,
    master: &str,
) -> Result<(String, u16, u64), Trouble> {
    let known = match stream {
        Some(known) => known,
        None => stream.insert(server.connect().await?),
    };
    let answer = ask(known, &["SENTINEL", "MASTER", master]).await?;
    let fields: Vec<(String, String)> = match answer {
        Value::Map(fields) => {
            fields.iter().filter_map(|(k, v)| Some((text(k)?, text(v)?))).collect()
        }
        Value::Array(fields) => {
            let pairs = fields.chunks_exact(2);
            pairs.filter_map(|pair| Some((text(&pair[0])?, text(&pair[1])?))).collect()
        }
        _ => Vec::new(),
    };
    let field = |name| fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let strange = || Trouble::Away("a sentinel does not say where the primary is".to_owned());
    let host = field("ip").ok_or_else(strange)?.to_owned();
    let port = field("port").and_then(|port| port.parse().ok()).ok_or_else(strange)?;
    let epoch = field("config-epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or(0);
    Ok((host, port, epoch))
}

/// Asks one node of the cluster after the other who has which slots: every few seconds, and when there is a `hurry`.
pub(super) async fn cluster(seeds: Vec<Server>, hurry: Rc<Notify>, post: Post) {
    let mut known: Vec<Server> = Vec::new();
    let mut turn = 0;
    loop {
        let candidates: Vec<&Server> = known.iter().chain(&seeds).collect();
        let mut found = None;
        let mut trouble = Trouble::Away("there is nobody to ask".to_owned());
        for step in 0..candidates.len() {
            let server = candidates[(turn + step) % candidates.len()];
            match ask_cluster(server).await {
                Ok(slots) => {
                    found = Some((slots, server.clone()));
                    break;
                }
                Err(error) => trouble = error,
            }
        }
        turn = turn.wrapping_add(1);
        match found {
            Some((slots, server)) => {
                known.clear();
                for (_, _, host, port) in &slots {
                    let address = server.at(host, *port);
                    if known.iter().all(|known| known.address() != address.address()) {
                        known.push(address);
                    }
                }
                let _ = post.send((0, News::Slots(slots))).await;
            }
            None => {
                let _ = post.send((0, News::Lost(trouble))).await;
            }
        }
        sleep(SOONEST).await;
        let _ = timeout(REFRESH, hurry.notified()).await;
    }
}

async fn ask_cluster(server: &Server) -> Result<Vec<(u16, u16, String, u16)>, Trouble> {
    let mut stream = server.connect().await?;
    if !stream.hello.cluster {
        return Err(Trouble::Mode("is no node of a cluster"));
    }
    // One that is cut off from the others knows only how it was.
    let state = ask(&mut stream, &["CLUSTER", "INFO"]).await?;
    if !text(&state).is_some_and(|state| state.contains("cluster_state:ok")) {
        return Err(Trouble::Away(format!("{} says that the cluster is down", server.address())));
    }
    let answer = ask(&mut stream, &["CLUSTER", "SLOTS"]).await?;
    let Value::Array(ranges) = answer else {
        return Err(Trouble::Mode("is no node of a cluster"));
    };
    let mut slots = Vec::new();
    for range in ranges {
        let Value::Array(parts) = range else { continue };
        let [Value::Int(first), Value::Int(last), Value::Array(primary), ..] = parts.as_slice()
        else {
            continue;
        };
        let [host, Value::Int(port), ..] = primary.as_slice() else { continue };
        let host = text(host).filter(|host| !host.is_empty() && host != "?");
        let host = host.unwrap_or_else(|| server.host.clone());
        let (Ok(first), Ok(last), Ok(port)) =
            (u16::try_from(*first), u16::try_from(*last), u16::try_from(*port))
        else {
            continue;
        };
        slots.push((first, last, host, port));
    }
    Ok(slots)
}

async fn ask(stream: &mut Stream, command: &[&str]) -> Result<Value, Trouble> {
    let answer = timeout(ANSWER, stream.ask(command)).await;
    answer.unwrap_or_else(|_| Err(Trouble::Away("no answer".to_owned())))
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text.clone()),
        _ => None,
    }
}

/// How often sentinels are asked.
const POLL: Duration = Duration::from_millis(500);
/// How often a cluster is asked when nothing happens, and how often at most.
const REFRESH: Duration = Duration::from_secs(5);
const SOONEST: Duration = Duration::from_millis(200);
const ANSWER: Duration = Duration::from_secs(2);
