use std::borrow::Cow;

use serde::de::IgnoredAny;

/// How deep arrays and objects of a message may nest, the message itself included.
pub const MAX_DEPTH: usize = 64;

/// Whether `text` is exactly one JSON value that every receiver can read: well-formed, not
/// deeper than [`MAX_DEPTH`], no lone surrogate in any string. No allocation for flat values.
pub fn is_value(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok() && check(text, MAX_DEPTH).is_ok()
}

/// Appends `text` as a JSON string, quotes included. No allocation but the growth of `out`.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("invariant: writing to a Vec does not fail");
}

/// Appends `number` in decimal. No allocation but the growth of `out`.
pub(crate) fn write_number(out: &mut Vec<u8>, number: u64) {
    serde_json::to_writer(out, &number).expect("invariant: writing to a Vec does not fail");
}

/// What is wrong with a JSON text that is well-formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    TooDeep,
    LoneSurrogate,
}

/// Looks for what well-formed JSON may still hide from a parser that only skips over it.
///
/// `raw` must be well-formed and without space in front of it. Flat values without a
/// backslash cost one `memchr`; the others one pass over their bytes.
pub(crate) fn check(raw: &str, depth: usize) -> Result<(), Flaw> {
    let bytes = raw.as_bytes();
    match bytes.first() {
        Some(b'[' | b'{') => check_nested(bytes, depth),
        Some(b'"') if bytes.contains(&b'\\') => check_string(bytes, 1).map(|_| ()),
        _ => Ok(()),
    }
}

/// The text of a JSON string given with its quotes; `None` if it is not a string or not text
/// (a lone surrogate). Borrowed unless there is an escape in it. `raw` must be well-formed.
pub(crate) fn decode_string(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if inner.as_bytes().contains(&b'\\') {
        serde_json::from_str(raw).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

fn check_nested(bytes: &[u8], limit: usize) -> Result<(), Flaw> {
    let mut depth = 0;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'[' | b'{' => {
                depth += 1;
                if depth > limit {
                    return Err(Flaw::TooDeep);
                }
            }
            b']' | b'}' => depth -= 1,
            b'"' => at = check_string(bytes, at)?,
            _ => {}
        }
    }
    Ok(())
}

/// Goes on from just behind an opening quote to just behind the closing one.
fn check_string(bytes: &[u8], mut at: usize) -> Result<usize, Flaw> {
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'"' => return Ok(at),
            b'\\' => {
                at += 1; // the letter of the escape
                match escaped_unit(bytes, at - 1) {
                    Some(0xD800..=0xDBFF) => {
                        let low = match bytes.get(at + 4) {
                            Some(b'\\') => escaped_unit(bytes, at + 5),
                            _ => None,
                        };
                        if !matches!(low, Some(0xDC00..=0xDFFF)) {
                            return Err(Flaw::LoneSurrogate);
                        }
                        at += 10;
                    }
                    Some(0xDC00..=0xDFFF) => return Err(Flaw::LoneSurrogate),
                    _ => {}
                }
            }
            _ => {}
        }
    }
    Ok(at)
}

/// The UTF-16 unit of a `uXXXX` at `at`; `None` when another escape is there.
fn escaped_unit(bytes: &[u8], at: usize) -> Option<u16> {
    let [b'u', digits @ ..] = bytes.get(at..at + 5)? else { return None };
    let digits = std::str::from_utf8(digits).ok()?;
    u16::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_counted_outside_of_strings_only() {
        assert_eq!(check("[[[1]]]", 3), Ok(()));
        assert_eq!(check("[[[1]]]", 2), Err(Flaw::TooDeep));
        assert_eq!(check(r#"[[],[],["[[[[\"[["]]"#, 2), Ok(()));
        assert_eq!(check(r#"{"a":{"b":{}}}"#, 2), Err(Flaw::TooDeep));
        assert_eq!(check(r#""[[[[""#, 0), Ok(()));
    }

    #[test]
    fn lone_surrogates_are_found() {
        for lone in [
            r#""\ud800""#,
            r#""\uDFFF""#,
            r#""a\ud800b""#,
            r#""\ud800\n""#,
            r#""\ud800\ud800\udc00""#,
            r#""\udc00\ud800""#,
            r#"["\\\ud800"]"#,
            r#"{"\ud83d":1}"#,
        ] {
            assert_eq!(check(lone, 8), Err(Flaw::LoneSurrogate), "{lone}");
            assert!(!is_value(lone), "{lone}");
        }
        for fine in [
            r#""\ud83d\ude00""#,
            r#""\\ud800""#,
            r#""\u00e9\"\\""#,
            r#"["\ud83d\ude00\ud83d\ude00","\\"]"#,
            "1e999",
        ] {
            assert_eq!(check(fine, 8), Ok(()), "{fine}");
            assert!(is_value(fine), "{fine}");
        }
    }

    #[test]
    fn the_check_agrees_with_a_full_parse() {
        // Strings of all combinations of these pieces: `check` must refuse exactly those
        // that a parser cannot turn into text.
        let pieces = ["", "a", r"\n", r"\\", r"\ud83d", r"\ude00", r"\u0041", "é", r#"\""#];
        for a in pieces {
            for b in pieces {
                for c in pieces {
                    let raw = format!("\"{a}{b}{c}\"");
                    let parsed = serde_json::from_str::<String>(&raw);
                    assert_eq!(check(&raw, 1).is_ok(), parsed.is_ok(), "{raw}");
                    assert_eq!(decode_string(&raw).map(Cow::into_owned), parsed.ok(), "{raw}");
                }
            }
        }
    }

    #[test]
    fn is_value_wants_exactly_one() {
        assert!(is_value(r#"{"name":"Craig"}"#));
        assert!(!is_value(r#"{"name":"Craig"} {}"#));
        assert!(!is_value(""));
        assert!(!is_value(r#"{"name":"Craig""#));
        assert!(!is_value(&"[".repeat(100_000)));
        assert!(!is_value(&format!("{}{}", "[".repeat(65), "]".repeat(65))));
        assert!(is_value(&format!("{}{}", "[".repeat(64), "]".repeat(64))));
    }
}
