//! Requests with a key and a body.

use std::io::Write as _;

use serde_json::Value;

use super::{Answer, Server, answer};

/// A key and the line by which a server knows it.
pub(crate) const KEY: &str = "tk_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
pub(crate) const LINE: &str = "a:574c57412736ac28ef4168effe8a4c7c40df0a7454055245ea825e15fd94e641";
/// And another one.
pub(crate) const KEY_B: &str = "tk_bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
pub(crate) const LINE_B: &str =
    "b:feea5d5239c1034005af29bb2555db1871eb3b18d6257f2dd25478936df982fb";

/// A server that knows both keys and where everybody may do everything, with more in its file.
pub(crate) fn server(file: &str) -> Server {
    let file = format!("{file}\n[api]\nkeys = [\"{LINE}\", \"{LINE_B}\"]\n");
    Server::start_with(&["--listen", "127.0.0.1:0", "--set", "access.anonymous=*"], &file)
}

/// The same where nobody may do anything who is not let in.
pub(crate) fn closed_server(file: &str) -> Server {
    let file = format!("{file}\n[api]\nkeys = [\"{LINE}\", \"{LINE_B}\"]\n");
    Server::start_with(&["--listen", "127.0.0.1:0", "--set", "access.anonymous="], &file)
}

impl Server {
    /// A request with a body, and nothing said that `headers` does not say but the length.
    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut stream = self.connect();
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: {}\r\n",
            self.address(),
            body.len()
        );
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        // The server may answer and hang up before it has read everything.
        let _ = stream.write_all((head + "\r\n").as_bytes());
        let _ = stream.write_all(body);
        answer(stream)
    }

    /// `POST /api/v1…` with the key.
    pub(crate) fn post(&self, path: &str, body: &str) -> Answer {
        self.post_once(path, body, None)
    }

    /// The same, with an `Idempotency-Key`.
    pub(crate) fn post_once(&self, path: &str, body: &str, once: Option<&str>) -> Answer {
        let bearer = format!("Bearer {KEY}");
        let mut headers = vec![("authorization", &*bearer), ("content-type", "application/json")];
        headers.extend(once.map(|key| ("idempotency-key", key)));
        self.send("POST", &format!("/api/v1{path}"), &headers, body.as_bytes())
    }

    /// Any request to `/api/v1…` with the key.
    pub(crate) fn call(&self, method: &str, path: &str, body: &str) -> Answer {
        let bearer = format!("Bearer {KEY}");
        let headers = [("authorization", &*bearer), ("content-type", "application/json")];
        self.send(method, &format!("/api/v1{path}"), &headers, body.as_bytes())
    }

    /// A ticket.
    pub(crate) fn ticket(&self, wanted: Value) -> String {
        let issued = self.post("/tickets", &wanted.to_string());
        assert_eq!(issued.status, 200, "{issued:?}");
        issued.json()["ticket"].as_str().unwrap().to_owned()
    }

    /// `GET /api/v1…` with the key.
    pub(crate) fn read(&self, path: &str) -> Answer {
        let bearer = format!("Bearer {KEY}");
        self.ask("GET", &format!("/api/v1{path}"), &[("authorization", &bearer)])
    }
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Status and code of a refusal, which must be complete.
    pub(crate) fn refusal(&self) -> (u16, String) {
        let body = self.json();
        let error = &body["error"];
        assert!(error["message"].as_str().is_some_and(|text| text.ends_with(['.', ']'])), "{body}");
        let temporary = error["temporary"].as_bool().unwrap();
        assert_eq!(!self.header("retry-after").is_empty(), temporary, "{self:?}");
        (self.status, error["code"].as_str().unwrap().to_owned())
    }
}
