use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// Declares the codes: one row each, from which everything else is generated.
macro_rules! codes {
    ($($variant:ident $name:literal $status:literal $temporary:ident $text:literal;)*) => {
        /// What went wrong, as a client is told in `code` of an `error` message.
        ///
        /// Every code is one row of a table in this module: wire name, default text, whether
        /// the same request may succeed later, and the HTTP status of the same refusal.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $(#[doc = concat!("`", $name, "`: ", $text, " (HTTP ", stringify!($status), ")")] $variant,)*
        }

        const ROWS: &[Row] = &[
            $(Row { code: Code::$variant, name: $name, text: $text, temporary: temporary!($temporary), status: $status },)*
        ];
    };
}

macro_rules! temporary {
    (temporary) => {
        true
    };
    (permanent) => {
        false
    };
}

codes! {
    BadJson         "bad_json"         400 permanent "The message is not valid JSON.";
    BadMessage      "bad_message"      400 permanent "The message is not one the protocol knows.";
    UnknownRoom     "unknown_room"     404 permanent "There is no such room.";
    ReservedField   "reserved_field"   400 permanent "Only the server may set this.";
    InvalidPayload  "invalid_payload"  422 permanent "The payload does not match the schema of its type.";
    NotJoined       "not_joined"       409 permanent "Join the room first.";
    AlreadyJoined   "already_joined"   409 permanent "This connection is already in the room.";
    Forbidden       "forbidden"        403 permanent "You may not do this.";
    Unauthorized    "unauthorized"     401 permanent "The ticket or session is not valid.";
    RateLimited     "rate_limited"     429 temporary "Too many messages; slow down.";
    TooLarge        "too_large"        413 permanent "The message is too large.";
    TooManyRooms    "too_many_rooms"   409 permanent "This connection is in as many rooms as it may be.";
    RoomFull        "room_full"        409 temporary "The room is full.";
    StaleEpoch      "stale_epoch"      410 permanent "The room's past is gone; start from its present.";
    Unavailable     "unavailable"      503 temporary "This cannot be done at the moment; try again.";
    Overloaded      "overloaded"       503 temporary "The server is overloaded; try again later.";
    UnsupportedData "unsupported_data" 415 permanent "This kind of data is not understood here.";
    Internal        "internal"         500 temporary "Something went wrong on the server.";
}

impl Code {
    /// Every code, in the order of the table.
    pub fn all() -> impl ExactSizeIterator<Item = Code> {
        ROWS.iter().map(|row| row.code)
    }

    /// The code with this wire name.
    pub fn from_name(name: &str) -> Option<Code> {
        ROWS.iter().find(|row| row.name == name).map(|row| row.code)
    }

    /// The name on the wire, such as `bad_json`.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The text for people when there is nothing more precise to say.
    pub fn text(self) -> &'static str {
        self.row().text
    }

    /// Whether the same request may succeed later.
    pub fn is_temporary(self) -> bool {
        self.row().temporary
    }

    /// The HTTP status of the same refusal.
    pub fn status(self) -> u16 {
        self.row().status
    }

    fn row(self) -> &'static Row {
        &ROWS[self as usize] // the enum and the table come from the same rows
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a message of a client was refused, and which one: what [`push::error`](crate::push::error)
/// needs to tell it. The connection stays open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The row of the error table.
    pub code: Code,
    /// What to tell a person; never contains more than 64 bytes of the client's own text.
    pub message: Cow<'static, str>,
    /// The `ref` of the refused message, when it could be read.
    pub reference: Option<u64>,
    /// When the same may succeed, in milliseconds, where that is known.
    pub retry_after: Option<u64>,
}

impl Fault {
    /// A fault with the default text of its code and without a `ref`.
    pub fn new(code: Code) -> Self {
        Self { code, message: Cow::Borrowed(code.text()), reference: None, retry_after: None }
    }

    /// The same with another text.
    pub fn with_message(mut self, message: impl Into<Cow<'static, str>>) -> Self {
        self.message = message.into();
        self
    }

    /// The same about the message with this `ref`.
    pub fn with_reference(mut self, reference: Option<u64>) -> Self {
        self.reference = reference;
        self
    }

    /// The same for a request that may succeed after this long, rounded up to milliseconds.
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        let millis = wait.as_nanos().div_ceil(1_000_000);
        self.retry_after = Some(u64::try_from(millis).unwrap_or(u64::MAX));
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Fault {}

struct Row {
    code: Code,
    name: &'static str,
    text: &'static str,
    temporary: bool,
    status: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The list of the protocol page, word by word.
    const PAGE: &str = "bad_json bad_message unknown_room reserved_field invalid_payload
        not_joined already_joined forbidden unauthorized rate_limited too_large too_many_rooms
        room_full stale_epoch unavailable overloaded unsupported_data internal";

    #[test]
    fn table_is_the_list_of_the_protocol_page() {
        let names: Vec<_> = Code::all().map(Code::name).collect();
        assert_eq!(names, PAGE.split_whitespace().collect::<Vec<_>>());
    }

    #[test]
    fn every_row_belongs_to_its_code() {
        for code in Code::all() {
            assert_eq!(code.row().code, code);
            assert_eq!(Code::from_name(code.name()), Some(code));
            assert!((400..600).contains(&code.status()));
            assert!(code.text().ends_with('.'));
        }
        assert_eq!(Code::from_name("nonsense"), None);
        assert!(Code::RateLimited.is_temporary());
        assert!(!Code::BadJson.is_temporary());
    }
}
