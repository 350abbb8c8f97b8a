//! A reader of server-sent events.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use serde_json::Value;

use super::Server;

/// An open stream of events.
pub(crate) struct Events {
    reader: BufReader<TcpStream>,
    pub(crate) head: String,
    text: String,
    /// What came in lines that start with a colon.
    pub(crate) comments: usize,
    /// The last id.
    pub(crate) id: String,
}

impl Server {
    /// Opens `/sse?…`, which must be answered 200.
    pub(crate) fn events(&self, query: &str, headers: &[(&str, &str)]) -> Events {
        let mut stream = self.connect();
        let mut request = format!("GET /sse?{query} HTTP/1.1\r\nhost: {}\r\n", self.address());
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        stream.write_all((request + "\r\n").as_bytes()).unwrap();
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(reader.read_line(&mut head).unwrap(), 0, "{head}");
        }
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let head = head.to_ascii_lowercase();
        Events { reader, head, text: String::new(), comments: 0, id: String::new() }
    }
}

impl Events {
    /// The data of the next event; `None` when the stream has ended.
    pub(crate) fn next(&mut self) -> Option<Value> {
        loop {
            let Some((block, rest)) = self.text.split_once("\n\n") else {
                self.read_chunk()?;
                continue;
            };
            let (block, rest) = (block.to_owned(), rest.to_owned());
            self.text = rest;
            let mut data = None;
            for line in block.lines() {
                match line.split_once(':') {
                    Some(("", _)) => self.comments += 1,
                    Some(("data", text)) => data = Some(serde_json::from_str(text).expect(text)),
                    Some(("id", text)) => self.id = text.trim_start().to_owned(),
                    Some(("retry", _)) => {}
                    _ => panic!("{line}"),
                }
            }
            if data.is_some() {
                return data;
            }
        }
    }

    /// The next event of a type; others are skipped.
    pub(crate) fn next_of(&mut self, kind: &str) -> Value {
        loop {
            let event = self.next().unwrap_or_else(|| panic!("the stream ended before {kind}"));
            if event["type"] == kind {
                return event;
            }
        }
    }

    fn read_chunk(&mut self) -> Option<()> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => return None,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
            result => drop(result.unwrap()),
        }
        let size = usize::from_str_radix(line.trim(), 16).expect(&line);
        let mut chunk = vec![0; size + 2];
        self.reader.read_exact(&mut chunk).unwrap();
        chunk.truncate(size);
        self.text += std::str::from_utf8(&chunk).unwrap();
        (size > 0).then_some(())
    }
}
