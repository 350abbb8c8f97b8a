//! What may be a name: of a room, of a user, and what people see of a visitor.

/// The longest name of a room, in bytes.
pub const MAX_ROOM: usize = 128;

/// The longest id of a user, in bytes: `@` and the id are the name of the user's own room.
pub const MAX_USER: usize = MAX_ROOM - 1;

/// The longest display name, in characters.
pub const MAX_DISPLAY: usize = 64;

/// Whether `name` may be the name of a room: 1–128 bytes of `[A-Za-z0-9_.:@/-]`, compared byte
/// by byte.
///
/// A name for which this is false can never exist and is a `bad_message` (on HTTP, `404` like
/// any other path nobody serves); a well-formed name that the configuration does not allow is
/// an `unknown_room`.
pub fn is_room(name: &str) -> bool {
    (1..=MAX_ROOM).contains(&name.len()) && name.bytes().all(is_name_byte)
}

/// Whether `id` may be the id of a user: 1–127 bytes of the alphabet of rooms, so that `@{id}`
/// is the name of a room.
pub fn is_user(id: &str) -> bool {
    (1..=MAX_USER).contains(&id.len()) && id.bytes().all(is_name_byte)
}

/// What becomes of the name an anonymous visitor asks for (`?name=`, already percent-decoded).
///
/// Control, bidirectional-override, zero-width and blank-looking characters are removed, runs
/// of white space become one space, at most 64 characters remain. `None` when nothing does.
/// The result is text, never markup: whoever shows it must escape it. One allocation.
pub fn display_name(raw: &str) -> Option<String> {
    let mut name = String::with_capacity(raw.len().min(4 * MAX_DISPLAY));
    let mut left = MAX_DISPLAY;
    let mut space = false;
    for c in raw.chars() {
        if c.is_whitespace() {
            space = !name.is_empty();
        } else if !is_invisible(c) {
            let needed = 1 + usize::from(space);
            if left < needed {
                break;
            }
            left -= needed;
            if std::mem::take(&mut space) {
                name.push(' ');
            }
            name.push(c);
        }
    }
    (!name.is_empty()).then_some(name)
}

fn is_name_byte(byte: u8) -> bool {
    matches!(byte, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b':' | b'@' | b'/' | b'-')
}

fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{00AD}'                  // soft hyphen
            | '\u{034F}'                // combining grapheme joiner
            | '\u{061C}'                // Arabic letter mark
            | '\u{115F}' | '\u{1160}'   // Hangul fillers
            | '\u{17B4}' | '\u{17B5}'   // Khmer inherent vowels
            | '\u{180B}'..='\u{180F}'   // Mongolian selectors
            | '\u{200B}'..='\u{200F}'   // zero width, direction marks
            | '\u{202A}'..='\u{202E}'   // direction embeddings and overrides
            | '\u{2060}'..='\u{206F}'   // word joiner, isolates, deprecated formats
            | '\u{2800}'                // blank Braille pattern
            | '\u{3164}' | '\u{FFA0}'   // Hangul fillers
            | '\u{FE00}'..='\u{FE0F}'   // variation selectors
            | '\u{FEFF}'                // byte order mark
            | '\u{FFF0}'..='\u{FFFB}'   // unassigned, interlinear annotations
            | '\u{E0000}'..='\u{E0FFF}' // tags, variation selectors
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms() {
        for name in ["lobby", "chat:1", "a", "@u_7f3kq2", "A-Z_0.9/x", &"x".repeat(128)] {
            assert!(is_room(name), "{name}");
        }
        for name in ["", " ", "a b", "é", "a\0", "a\n", "a?b", "{x}", "a\"", &"x".repeat(129)] {
            assert!(!is_room(name), "{name}");
        }
    }

    #[test]
    fn users_have_a_room_of_their_own() {
        for id in ["u_1", "craig@example.org", &"x".repeat(127)] {
            assert!(is_user(id) && is_room(&format!("@{id}")), "{id}");
        }
        for id in ["", "a b", "<b>", &"x".repeat(128)] {
            assert!(!is_user(id), "{id}");
        }
    }

    #[test]
    fn display_names_lose_what_cannot_be_seen() {
        for (raw, name) in [
            ("Craig", Some("Craig")),
            ("  Craig \t Smith\r\n", Some("Craig Smith")),
            ("Cra\u{200B}ig\u{202E}", Some("Craig")),
            ("\u{FEFF}\u{2066}x\u{2069}", Some("x")),
            ("a\0b\u{1b}[31m\u{9b}", Some("ab[31m")),
            ("Zoë 🦀", Some("Zoë 🦀")),
            ("<script>alert(1)</script>", Some("<script>alert(1)</script>")),
            ("a\u{2028}b\u{a0}c", Some("a b c")),
            ("\u{3164}\u{2800}\u{115F}", None),
            ("", None),
            (" \u{200D}\u{3000} ", None),
        ] {
            assert_eq!(display_name(raw).as_deref(), name, "{raw:?}");
        }
    }

    #[test]
    fn display_names_are_cut_between_characters() {
        let long = display_name(&"é".repeat(1000)).unwrap();
        assert_eq!(long, "é".repeat(64));
        let spaced = display_name(&format!("{} x", "é".repeat(63))).unwrap();
        assert_eq!(spaced, "é".repeat(63));
        let fits = display_name(&format!("{} x", "é".repeat(62))).unwrap();
        assert_eq!(fits.chars().count(), 64);
        assert_eq!(display_name(&fits).as_deref(), Some(fits.as_str()));
    }
}
