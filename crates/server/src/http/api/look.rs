//! Looking: rooms in use, their past, how much there is.

use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use throng::{Code, Page};

use super::super::answer::{Problem, json, written};
use super::super::query::Query;
use super::{Call, Listed, room};

impl Call<'_> {
    pub(super) fn list_rooms(&self) -> Result<Response, Problem> {
        let (after, limit) = self.which()?;
        // One more than wanted tells whether there are more.
        let rooms = self.http.server.rooms(after.as_deref(), limit + 1);
        let rooms = rooms.into_iter().map(Room::from).collect();
        Ok(Listed::new("rooms", rooms, limit, |room: &Room| &room.room).response())
    }

    pub(super) fn show_room(&self) -> Result<Response, Problem> {
        match self.http.server.room(room(self.found.name())?) {
            Some(info) => Ok(json(StatusCode::OK, &Room::from(info))),
            None => Err(Problem::new(Code::UnknownRoom, "Nobody is in a room of this name.")),
        }
    }

    pub(super) async fn show_history(&self) -> Result<Response, Problem> {
        let page = self.page()?;
        let text = self.http.server.history(room(self.found.name())?, &page).await?;
        Ok(written(StatusCode::OK, text))
    }

    pub(super) async fn show_presence(&self) -> Result<Response, Problem> {
        let text = self.http.server.presence(room(self.found.name())?).await?;
        Ok(written(StatusCode::OK, text))
    }

    pub(super) fn show_counts(&self) -> Response {
        let counts = self.http.server.counts();
        let (connections, users, rooms) = (counts.connections, counts.users, counts.rooms);
        json(StatusCode::OK, &Counts { connections, users, rooms })
    }

    fn page(&self) -> Result<Page, Problem> {
        let query = Query::of(&self.parts.uri);
        let page = Page {
            before: query.number("before", 0..=MAX_INTEGER)?,
            after: query.number("after", 0..=MAX_INTEGER)?,
            epoch: query.text("epoch"),
            limit: u32::try_from(query.number("limit", 1..=MOST_PAGE)?.unwrap_or(USUAL_PAGE))
                .unwrap_or(u32::MAX),
        };
        match (page.before, page.after) {
            (Some(_), Some(_)) => {
                let text = "A page is `before` or `after` a number, not both.";
                Err(Problem::new(Code::BadMessage, text))
            }
            _ => Ok(page),
        }
    }
}

const MOST_PAGE: u64 = 200;
const USUAL_PAGE: u64 = 50;
/// The largest integer that every JSON reader keeps exact.
const MAX_INTEGER: u64 = (1 << 53) - 1;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Room {
    room: String,
    user_count: usize,
    connections: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
}

impl From<throng::RoomInfo> for Room {
    fn from(info: throng::RoomInfo) -> Self {
        let throng::RoomInfo { room, user_count, connections, seq, .. } = info;
        Self { room, user_count, connections, seq }
    }
}

#[derive(Serialize)]
struct Counts {
    connections: usize,
    users: usize,
    rooms: usize,
}
