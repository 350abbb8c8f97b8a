//! Which message takes the place of which, for members that get only the latest ones.

use std::hash::{Hash, Hasher};

/// Hashes what a message of a typed room is known by: the value of the payload field `named`, or sender and
/// type. A user who comes or goes is known by the user, whatever happened last.
///
/// `text` is one of our own messages: a JSON object. One pass, no allocation.
pub(super) fn hash_key(text: &[u8], named: &str, into: &mut impl Hasher) {
    let (mut kind, mut from, mut user, mut value) = (None, None, None, None);
    for (name, content) in Fields::of(text) {
        match name {
            b"type" => kind = Some(content),
            b"from" => from = Some(content),
            b"userId" => user = Some(content),
            _ => {}
        }
        if !named.is_empty() && name == named.as_bytes() {
            value = Some(content);
        }
    }
    match (kind, value) {
        (Some(br#""user_joined""# | br#""user_left""#), _) => (1, user).hash(into),
        (_, Some(value)) => (2, value).hash(into),
        _ => (3, from, kind).hash(into),
    }
}

/// The fields of an object at its top level: names without quotes and values, as text.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn of(text: &'a [u8]) -> Self {
        let start = text.iter().position(|byte| *byte == b'{').map_or(text.len(), |at| at + 1);
        Self { rest: &text[start..] }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.rest.iter().position(|byte| *byte == b'"')?;
        let name = self.rest.get(start..)?;
        let (name, rest) = name.split_at(string_len(name)?);
        let colon = rest.iter().position(|byte| *byte == b':')?;
        let value = rest.get(colon + 1..)?.trim_ascii_start();
        let len = value_len(value);
        self.rest = &value[len..];
        Some((&name[1..name.len() - 1], value[..len].trim_ascii_end()))
    }
}

/// The length of the string that begins here, with its quotes.
fn string_len(text: &[u8]) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in text.iter().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// How far the value goes that begins here: to the comma or brace behind it.
fn value_len(text: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0u32);
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => {
                let Some(len) = string_len(&text[at..]) else { return text.len() };
                at += len;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' | b',' if depth == 0 => return at,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use std::hash::DefaultHasher;

    use super::*;

    fn key(text: &str, named: &str) -> u64 {
        let mut hasher = DefaultHasher::new();
        hash_key(text.as_bytes(), named, &mut hasher);
        hasher.finish()
    }

    #[test]
    fn fields_are_found_whatever_is_in_them() {
        let text =
            r#"{"type":"a","from":"u,\"}","x": {"id":[1,{"id":2}],"y":"}"} ,"id": 7 , "z":"\\"}"#;
        let fields: Vec<_> = Fields::of(text.as_bytes())
            .map(|(name, value)| {
                (std::str::from_utf8(name).unwrap(), std::str::from_utf8(value).unwrap())
            })
            .collect();
        let expected = [
            ("type", r#""a""#),
            ("from", r#""u,\"}""#),
            ("x", r#"{"id":[1,{"id":2}],"y":"}"}"#),
            ("id", "7"),
            ("z", r#""\\""#),
        ];
        assert_eq!(fields, expected);
    }

    #[test]
    fn sender_and_type_unless_named() {
        let ada = r#"{"type":"move","from":"u_a","seq":1,"id":"x"}"#;
        let bob = r#"{"type":"move","from":"u_b","seq":2,"id":"x"}"#;
        let later = r#"{"type":"move","from":"u_a","seq":3,"id":"y"}"#;
        assert_eq!(key(ada, ""), key(later, ""));
        assert_ne!(key(ada, ""), key(bob, ""));
        assert_eq!(key(ada, "id"), key(bob, "id"));
        assert_ne!(key(ada, "id"), key(later, "id"));
        assert_eq!(key(ada, "none"), key(later, "none"));
    }

    #[test]
    fn a_user_who_comes_and_goes_is_one() {
        let came = r#"{"type":"user_joined","userId":"u_a","userCount":2}"#;
        let went = r#"{"type":"user_left","userId":"u_a","userCount":1}"#;
        let other = r#"{"type":"user_left","userId":"u_b","userCount":1}"#;
        assert_eq!(key(came, ""), key(went, ""));
        assert_ne!(key(went, ""), key(other, ""));
    }

    #[test]
    fn what_is_no_object_is_no_trouble() {
        for text in ["", "{", "{\"", "{\"a", "{\"a\"", "{\"a\":", "{\"a\":\"", "]]}}", "{\"a\":]"] {
            key(text, "a");
        }
    }
}
