//! A message as it comes in a body: who it is for, and the rest as it is.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use throng::{Code, Fault};

/// A message and where it goes. What the server does not need is not looked at; the façade does that.
#[derive(Debug, Default)]
pub(super) struct Letter<'a> {
    pub(super) room: Option<Cow<'a, str>>,
    pub(super) to: Option<Cow<'a, str>>,
    /// On whose behalf it is sent: the API only.
    pub(super) from: Option<Cow<'a, str>>,
    pub(super) reference: Option<u64>,
    /// The message without `from`.
    pub(super) text: Cow<'a, str>,
}

/// Who may say what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sender {
    /// A user: everything stays as it is, and `from` is for others to refuse.
    Session,
    /// A server with a key: `from` is taken out, `ref` has no meaning.
    Key,
}

impl<'a> Letter<'a> {
    /// Reads a message.
    ///
    /// Errors: `bad_json`; `bad_message` when it is not an object, names one of the fields that matter
    /// here twice, or has something else than text in them.
    pub(super) fn read(text: &'a str, sender: Sender) -> Result<Self, Fault> {
        let mut fields = Vec::new();
        let mut reader = serde_json::Deserializer::from_str(text);
        let read = reader.deserialize_map(Fields(&mut fields)).and_then(|()| reader.end());
        if read.is_err() {
            return Err(match serde_json::from_str::<IgnoredAny>(text) {
                Ok(_) => bad("A message is one JSON object."),
                Err(_) => Fault::new(Code::BadJson),
            });
        }
        let mut letter = Self { text: Cow::Borrowed(text), ..Self::default() };
        let mut rest = Vec::new();
        let mut has_reference = false;
        for (key, value) in fields {
            let name: Cow<'_, str> = decode(key).ok_or(Fault::new(Code::BadJson))?;
            match &*name {
                "room" => once(&mut letter.room, value, "`room`")?,
                "to" => once(&mut letter.to, value, "`to`")?,
                "from" if sender == Sender::Key => once(&mut letter.from, value, "`from`")?,
                "ref" if sender == Sender::Key => {
                    return Err(bad("`ref` is for connections; here there is Idempotency-Key."));
                }
                "ref" if !has_reference => {
                    has_reference = true;
                    // Whether it may be one is for the façade to say.
                    letter.reference = value.get().parse().ok();
                }
                _ => {}
            }
            if name != "from" {
                rest.push((key, value));
            }
        }
        if letter.from.is_some() {
            let rest: Vec<String> =
                rest.iter().map(|(key, value)| format!("{}:{}", key.get(), value.get())).collect();
            letter.text = Cow::Owned(format!("{{{}}}", rest.join(",")));
        }
        Ok(letter)
    }
}

/// Reads `{"messages":[…]}`: at most `limit` of them, each as it is.
///
/// Errors: `bad_json`, `bad_message`; `too_large` when there are more.
pub(super) fn read_batch(text: &str, limit: usize) -> Result<Vec<&RawValue>, Fault> {
    let mut fields = Vec::new();
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = reader.deserialize_map(Fields(&mut fields)).and_then(|()| reader.end());
    let expected = || bad("The body must be an object {\"messages\":[…]}.");
    if read.is_err() {
        return Err(match serde_json::from_str::<IgnoredAny>(text) {
            Ok(_) => expected(),
            Err(_) => Fault::new(Code::BadJson),
        });
    }
    let mut lists = fields.iter().filter(|(key, _)| decode(key).as_deref() == Some("messages"));
    let (Some((_, list)), None) = (lists.next(), lists.next()) else { return Err(expected()) };
    let mut messages = Vec::new();
    let items = Items { messages: &mut messages, limit };
    let read = serde_json::Deserializer::from_str(list.get()).deserialize_seq(items);
    match read {
        Ok(()) => Ok(messages),
        Err(_) if messages.len() > limit => {
            let text = format!("A batch has at most {limit} messages.");
            Err(Fault::new(Code::TooLarge).with_message(text))
        }
        Err(_) => Err(expected()),
    }
}

/// Whether a text can be the name of a room, or of a user with one byte less.
pub(super) fn is_name(text: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.:@/-".contains(&byte))
}

fn once<'a>(
    slot: &mut Option<Cow<'a, str>>,
    value: &'a RawValue,
    name: &'static str,
) -> Result<(), Fault> {
    if slot.is_some() {
        return Err(bad("Two fields have the same name."));
    }
    *slot = Some(decode(value).ok_or_else(|| {
        Fault::new(Code::BadMessage).with_message(format!("{name} must be a string."))
    })?);
    Ok(())
}

/// The text of a JSON string, if it is one and has no lone surrogates.
fn decode(raw: &RawValue) -> Option<Cow<'_, str>> {
    let inner = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    match inner.contains('\\') {
        true => serde_json::from_str(raw.get()).ok().map(Cow::Owned),
        false => Some(Cow::Borrowed(inner)),
    }
}

fn bad(text: &'static str) -> Fault {
    Fault::new(Code::BadMessage).with_message(text)
}

/// Collects the fields of an object, twice the same name included.
struct Fields<'v, 'a>(&'v mut Vec<(&'a RawValue, &'a RawValue)>);

impl<'de> Visitor<'de> for Fields<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key()? {
            self.0.push((key, map.next_value()?));
        }
        Ok(())
    }
}

/// Collects the items of a list, and stops with an error behind one too many.
struct Items<'v, 'a> {
    messages: &'v mut Vec<&'a RawValue>,
    limit: usize,
}

impl<'de> Visitor<'de> for Items<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(item) = list.next_element()? {
            self.messages.push(item);
            if self.messages.len() > self.limit {
                return Err(serde::de::Error::custom("too many"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str, sender: Sender) -> &'static str {
        Letter::read(text, sender).unwrap_err().code.name()
    }

    #[test]
    fn from_is_taken_out_and_the_rest_stays_as_it_is() {
        let text = r#" {"type":"a", "fr\u006fm" : "u_1", "n":1e400, "n":2, "\ud83e\udd80":[ 1 ]} "#;
        let letter = Letter::read(text, Sender::Key).unwrap();
        assert_eq!(letter.from.as_deref(), Some("u_1"));
        assert_eq!(letter.text, r#"{"type":"a","n":1e400,"n":2,"\ud83e\udd80":[ 1 ]}"#);
        let letter = Letter::read(text, Sender::Session).unwrap();
        assert_eq!((letter.from, letter.text), (None, text.into()));
        let plain = Letter::read(r#"{"room":"a","to":"b","ref":7}"#, Sender::Session).unwrap();
        assert_eq!((plain.room.as_deref(), plain.to.as_deref()), (Some("a"), Some("b")));
        assert_eq!(plain.reference, Some(7));
    }

    #[test]
    fn what_is_no_letter() {
        for (text, expected) in [
            ("", "bad_json"),
            ("{", "bad_json"),
            ("{}x", "bad_json"),
            ("[]", "bad_message"),
            ("7", "bad_message"),
            (r#"{"from":"a","from":"b"}"#, "bad_message"),
            (r#"{"room":"a","r\u006fom":"a"}"#, "bad_message"),
            (r#"{"room":7}"#, "bad_message"),
            (r#"{"\ud800":1}"#, "bad_json"),
            (r#"{"ref":1}"#, "bad_message"),
        ] {
            assert_eq!(code(text, Sender::Key), expected, "{text}");
        }
        // Nesting costs nothing here, however deep.
        let deep = format!("{{\"from\":\"a\",\"x\":{}{}}}", "[".repeat(30_000), "]".repeat(30_000));
        assert!(Letter::read(&deep, Sender::Key).is_ok());
    }

    #[test]
    fn batches_are_bounded() {
        assert_eq!(read_batch(r#"{"messages":[{}, 1 ,"x"],"more":1}"#, 3).unwrap().len(), 3);
        let code = |text: &str| read_batch(text, 3).unwrap_err().code.name();
        assert_eq!(code(r#"{"messages":[1,2,3,4"#), "bad_json");
        assert_eq!(code(r#"{"messages":[1,2,3,4]}"#), "too_large");
        assert_eq!(code(r#"{"messages":{}}"#), "bad_message");
        assert_eq!(code(r#"{"messages":[],"messages":[]}"#), "bad_message");
        assert_eq!(code("[]"), "bad_message");
        assert_eq!(code("{}"), "bad_message");
        assert!(read_batch(r#"{"messages":[]}"#, 3).unwrap().is_empty());
    }
}
