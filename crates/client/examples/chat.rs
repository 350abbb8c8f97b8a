//! A small chat in the terminal. What is typed while there is no connection goes out later, and
//! what others say meanwhile comes in later; nothing is lost and nothing comes twice.
//!
//! `cargo run -p throng-client --example chat -- [ws://localhost:3000/ws [room [name]]]`

use std::error::Error;

use serde::Deserialize;
use throng_client::{HistoryQuery, JoinOptions, Publisher, Room, RoomEvent, Session, Status, User};
use tokio::io::{AsyncBufReadExt as _, BufReader};

/// The payload of a message.
#[derive(Deserialize)]
struct Chat {
    text: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let arg = |place: usize, other: &str| args.get(place).map_or(other, String::as_str).to_owned();
    let (url, name) = (arg(0, "ws://localhost:3000/ws"), arg(1, "lobby"));

    let session = Session::builder(&url).name(arg(2, "Ada")).connect()?;
    let mut status = session.watch();
    println!("· {:?}", session.status());
    let mut room = session.join(&name, JoinOptions::default().rewind(20).presence(true)).await?;
    println!("· in {name}; /users, /history, /quit");

    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    loop {
        tokio::select! {
            event = room.next() => match event {
                Some(event) => show(&event),
                None => break,
            },
            changed = status.changed() => match changed {
                Some(Status::Online(me)) => println!("· online as {}", me.user_id),
                Some(Status::Offline { retry_in }) => println!("· offline for {retry_in:.1?}"),
                Some(Status::Closed(reason)) => println!("· closed: {reason}"),
                _ => {}
            },
            line = lines.next_line() => match line?.as_deref() {
                None | Some("/quit") => break,
                Some("/users") => users(&room),
                Some("/history") => history(&room).await,
                Some("") => {}
                Some(text) => send(room.publisher(), text.to_owned()),
            },
        }
    }
    session.close().await;
    Ok(())
}

/// Sends in a task of its own, because offline the answer takes its time.
fn send(room: Publisher, text: String) {
    tokio::spawn(async move {
        let message = serde_json::json!({"type": "chat", "text": text});
        if let Err(error) = room.send(&message).await {
            println!("! {text:?} was not sent: {error}");
        }
    });
}

fn show(event: &RoomEvent) {
    match event {
        RoomEvent::Message(message) => {
            if let Ok(chat) = message.parse::<Chat>() {
                println!("{}: {}", message.from, printable(&chat.text));
            }
        }
        RoomEvent::Joined(joined) => println!("· {} here", joined.user_count),
        RoomEvent::Lost(_) => println!("· some messages are lost"),
        RoomEvent::UserJoined { user, .. } => println!("· {} comes", who(user)),
        RoomEvent::UserLeft { user, .. } => println!("· {} goes", who(user)),
        RoomEvent::Presence { user_count, .. } => println!("· {user_count} here"),
        RoomEvent::Refused(refusal) => println!("! {refusal}"),
        RoomEvent::Ended(error) => println!("! {error}"),
        _ => {}
    }
}

fn users(room: &Room) {
    let users: Vec<_> = room.users().into_iter().flatten().map(who).collect();
    println!("· {}", users.join(", "));
}

async fn history(room: &Room) {
    match room.history(HistoryQuery::newest().limit(10)).await {
        Ok(page) => page.messages.into_iter().for_each(|it| show(&RoomEvent::Message(it))),
        Err(error) => println!("! {error}"),
    }
}

fn who(user: &User) -> String {
    #[derive(Deserialize)]
    struct Info {
        name: String,
    }
    let info = user.info.as_deref().and_then(|info| serde_json::from_str::<Info>(info).ok());
    info.map_or_else(|| user.id.clone(), |info| printable(&info.name))
}

/// Without what could take the terminal over.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}
