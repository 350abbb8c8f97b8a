//! What is written down during a run, one JSON object a line. All that the checker ever sees.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Milliseconds since the run began.
    pub at: u64,
    /// The client; absent for what the run itself does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<u32>,
    /// Which of the client's connections, counted from 1.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub connection: u32,
    /// What happened.
    pub event: Event,
}

/// How much of a room survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keeps {
    /// Sessions and rooms survive the end of the server.
    pub durable: bool,
    /// So many messages of a room can be recovered.
    pub history: u64,
    /// So little waits for a slow reader that it is often disconnected (4508).
    pub little: bool,
    /// Several nodes share the rooms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<Shared>,
}

/// What may become of rooms that several nodes share, once something was [struck](Event::Struck).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shared {
    /// Rooms may begin anew, with another epoch; whoever is there is told.
    pub renews: bool,
    /// Messages may be lost, also acknowledged ones, when their epoch ends.
    pub loses: bool,
    /// Sessions may be lost.
    pub forgets: bool,
}

/// A place in a room's order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The epoch.
    pub epoch: String,
    /// The number of the last message that is known; 0 before the first.
    pub seq: u64,
}

/// What happened to a client, or what the run did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    // --- the run
    /// The first line.
    Begun {
        /// The seed of all choices.
        seed: u64,
        /// How many clients.
        clients: u32,
        /// In words, for readers.
        command: String,
        /// What the server promises to keep.
        keeps: Keeps,
    },
    /// The server was killed with SIGKILL.
    Killed,
    /// The server was asked to stop (SIGTERM).
    Stopping,
    /// The server is there (again).
    Started,
    /// The server ended although nobody killed it.
    Died {
        /// Its exit status.
        status: String,
    },
    /// The server refused to start, as it should: nothing could be stored.
    StartRefused {
        /// Its exit status.
        status: String,
    },
    /// The server wrote a line that no healthy server writes.
    Panicked {
        /// The line.
        line: String,
    },
    /// Something is being done to the nodes, or to what they share.
    Struck {
        /// What.
        what: String,
    },
    /// Everything is as it should be again; it may take a while until that shows.
    Mended,
    /// A node is told to send its clients away, each in a slot of its own.
    Draining {
        /// Which node.
        node: u32,
        /// Over how long their slots are spread, in milliseconds.
        spread: u64,
    },
    /// That node has ended.
    Drained {
        /// Which node.
        node: u32,
        /// How long Redis took at most meanwhile to answer a question that costs nothing, in milliseconds.
        stall: u64,
    },
    /// Storing began to fail, or works again.
    Disk {
        /// Whether messages can be stored.
        works: bool,
    },
    /// The last line of a complete run: all clients have stopped.
    Finished {
        /// Connections cut by the proxy.
        cuts: u64,
    },

    // --- connections
    /// The handshake succeeded.
    Arrived {
        /// At this node, counted from 0.
        node: u32,
    },
    /// The client was told when to go.
    Slot {
        /// In so many milliseconds.
        after: u64,
    },
    /// The server's first message arrived.
    Connected {
        /// The client's user id.
        user: String,
        /// The session's id.
        session: String,
        /// Whether a token was shown.
        asked: bool,
        /// Whether it was accepted.
        resumed: bool,
    },
    /// The connection ended.
    Lost {
        /// Why, in words.
        why: String,
    },
    /// The server closed the connection with this code.
    Closed {
        /// The close code; 1005 when there was none.
        code: u16,
    },
    /// The handshake was refused.
    TurnedAway {
        /// The HTTP status.
        status: u16,
    },
    /// The client has left for good.
    Departed {
        /// With a close frame; else the connection just ended.
        orderly: bool,
    },

    // --- rooms
    /// The client is a member from now on: after a join, or because the endpoint's room is its own.
    Joined {
        /// The room.
        room: String,
        /// The room's position as the server told it.
        now: Position,
        /// The position the client gave.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        since: Option<Position>,
        /// As the server told it; true when it says nothing.
        recovered: bool,
    },
    /// The client is no longer a member.
    Left {
        /// The room.
        room: String,
    },
    /// The answer to a `resume` frame: what became of the rooms in it.
    Resumed {
        /// Room by room.
        rooms: BTreeMap<String, Return>,
    },

    /// The server says unasked that a room does not go on from where it was.
    Renewed {
        /// The room.
        room: String,
        /// Where it goes on.
        now: Position,
        /// As the server told it; there is no reason for true.
        recovered: bool,
    },

    // --- messages
    /// A publish was written to the connection.
    Sent {
        /// The room, as the acknowledgement will name it.
        room: String,
        /// The message's unique id.
        id: String,
        /// Its `ref`.
        reference: u64,
    },
    /// It was acknowledged.
    Acked {
        /// The room.
        room: String,
        /// The message's id.
        id: String,
        /// Its number.
        seq: Option<u64>,
        /// Its time.
        ts: u64,
        /// Whether the server says that it knew it.
        duplicate: bool,
    },
    /// It was refused.
    Refused {
        /// The room.
        room: String,
        /// The message's id.
        id: String,
        /// The error's code.
        code: String,
        /// Whether the error says that it will pass.
        temporary: bool,
    },
    /// The client's session is gone: what it had sent may or may not be published.
    Uncertain {
        /// The message's id.
        id: String,
    },
    /// A message of a room arrived.
    Received {
        /// The room.
        room: String,
        /// The epoch the client believes in.
        epoch: String,
        /// The message's number.
        seq: u64,
        /// Its time.
        ts: u64,
        /// Who published it.
        from: String,
        /// Its id.
        id: String,
        /// Whether its payload is as it was published.
        intact: bool,
    },

    // --- at the end
    /// A page of a room's history.
    History {
        /// The room.
        room: String,
        /// Its epoch.
        epoch: String,
        /// Its messages: number, time, id.
        messages: Vec<(u64, u64, String)>,
    },
    /// Who is in a room, as the server told it when asked.
    Presence {
        /// The room.
        room: String,
        /// User ids.
        users: Vec<String>,
    },
    /// Who is in a room, as the client knows it from what it was told all along.
    Roster {
        /// The room.
        room: String,
        /// User ids.
        users: Vec<String>,
    },

    // --- faults seen by the client
    /// An error that nothing in the run explains.
    Trouble {
        /// The error's code, or a word of the client.
        code: String,
        /// More about it.
        text: String,
    },
    /// Something other than a publish was refused for now, and is tried again.
    Deferred {
        /// What.
        what: String,
        /// The error's code.
        code: String,
    },
    /// An answer did not come in time, and the client goes to another node.
    Silent {
        /// To what.
        what: String,
    },
    /// Something did not happen in time.
    Stalled {
        /// What.
        what: String,
    },
}

/// What became of a room in a `resume` frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Return {
    /// Joined again.
    Back {
        /// The position the client gave.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        since: Option<Position>,
        /// Whether what was missed follows.
        recovered: bool,
        /// The room's position.
        now: Position,
    },
    /// Not joined.
    Error(String),
}

/// Where records go. Clones write to the same file.
#[derive(Clone, Debug)]
pub struct Log {
    began: Instant,
    file: Arc<Mutex<BufWriter<File>>>,
}

impl Log {
    /// Creates the file.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = BufWriter::with_capacity(1 << 20, File::create(path)?);
        Ok(Self { began: Instant::now(), file: Arc::new(Mutex::new(file)) })
    }

    /// Writes what a client saw.
    pub fn client(&self, client: u32, connection: u32, event: Event) {
        self.write(Some(client), connection, event);
    }

    /// Writes what the run did.
    pub fn run(&self, event: Event) {
        self.write(None, 0, event);
    }

    /// Makes the file complete.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn flush(&self) -> io::Result<()> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).flush()
    }

    fn write(&self, client: Option<u32>, connection: u32, event: Event) {
        let at = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let record = Record { at, client, connection, event };
        let mut line = serde_json::to_vec(&record).expect("invariant: a record is plain data");
        line.push(b'\n');
        // A log that cannot be written has no last line, which the checker complains about.
        let _ = self.file.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line);
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_a_short_line() {
        let event = Event::Acked {
            room: "room-1".into(),
            id: "3-17".into(),
            seq: Some(9),
            ts: 1_700_000_000_000,
            duplicate: false,
        };
        let record = Record { at: 5, client: Some(3), connection: 2, event };
        let line = serde_json::to_string(&record).unwrap();
        assert_eq!(
            line,
            r#"{"at":5,"client":3,"connection":2,"event":{"acked":{"room":"room-1","id":"3-17","seq":9,"ts":1700000000000,"duplicate":false}}}"#
        );
        assert_eq!(serde_json::from_str::<Record>(&line).unwrap(), record);
        let killed = r#"{"at":7,"event":"killed"}"#;
        let record: Record = serde_json::from_str(killed).unwrap();
        assert_eq!(serde_json::to_string(&record).unwrap(), killed);
    }
}
