use std::fmt;

use crate::command::Publish;
use crate::push;
use crate::time::Timestamp;

/// An application message without its number and time, for those who store messages: these are
/// known later, and are spliced in when the message is written.
///
/// The text is one JSON object: `{"type":…,"room":…,"from":…` and then the payload fields.
///
/// ```
/// use throng_protocol::{Body, Command, Timestamp, parse};
///
/// let Ok(Command::Publish(message)) = parse(br#"{"type":"chat","text":"hi"}"#) else { panic!() };
/// let body = Body::new("lobby", "u_1", &message);
/// assert_eq!(body.text(), br#"{"type":"chat","room":"lobby","from":"u_1","text":"hi"}"#);
///
/// let mut out = Vec::new();
/// body.write(&mut out, Some(7), Timestamp(1000));
/// assert_eq!(
///     String::from_utf8(out).unwrap(),
///     r#"{"type":"chat","room":"lobby","from":"u_1","seq":7,"timestamp":1000,"text":"hi"}"#,
/// );
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Body {
    text: Box<[u8]>,
    head: u32,
}

impl Body {
    /// What `from` publishes to `room`. One allocation and a copy of the payload.
    pub fn new(room: &str, from: &str, message: &Publish<'_>) -> Self {
        let mut text = Vec::with_capacity(push::room_for(room, from, message));
        push::write_head(&mut text, room, from, message);
        let head = u32::try_from(text.len()).expect("invariant: a type and two names are short");
        push::write_payload(&mut text, message);
        Self { text: text.into_boxed_slice(), head }
    }

    /// What [`text`](Self::text) and [`head`](Self::head) once were. `None` when they cannot
    /// have been: a cheap look for what would make [`write`](Self::write) produce no object, not
    /// a check of the JSON. No allocation.
    pub fn from_parts(text: Box<[u8]>, head: u32) -> Option<Self> {
        let (before, behind) = text.split_at_checked(head as usize)?;
        let whole = before.starts_with(b"{\"") && behind.ends_with(b"}");
        let payload = matches!(behind, [b'}'] | [b',', b'"', ..]);
        (whole && payload && before.ends_with(b"\"")).then_some(Self { text, head })
    }

    /// The message as JSON, without `seq` and `timestamp`.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// Where in the text `seq` and `timestamp` belong.
    pub fn head(&self) -> u32 {
        self.head
    }

    /// The length of the text; a message is at most 60 bytes longer.
    #[expect(clippy::len_without_is_empty, reason = "it never is")]
    pub fn len(&self) -> usize {
        self.text.len()
    }

    /// Appends the message, byte by byte what [`push::message`] writes. Without a number, which
    /// volatile rooms do not give, `seq` is left out. Grows `out` at most once.
    pub fn write(&self, out: &mut Vec<u8>, seq: Option<u64>, timestamp: Timestamp) {
        out.reserve(self.text.len() + push::STAMP_LEN);
        let (before, behind) = self.text.split_at(self.head as usize);
        out.extend_from_slice(before);
        push::write_stamp(out, seq, timestamp);
        out.extend_from_slice(behind);
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy(&self.text);
        f.debug_struct("Body").field("text", &text).field("head", &self.head).finish()
    }
}
