//! The rules of rooms in what `throng config` prints.

use std::fmt::Write as _;

use super::super::print::comment;
use super::super::units::quoted;
use super::schema::bare;
use super::{ROOM_KEYS, RoomRule};

/// Appends every rule, after a comment that explains the keys.
pub(crate) fn print(out: &mut String, rules: &[RoomRule]) {
    out.push_str(HEAD);
    for key in ROOM_KEYS {
        let mut text = format!("{}: {}", key.name, key.doc);
        if !key.danger.is_empty() {
            let _ = write!(text, " Danger: {}", key.danger);
        }
        let default = if key.default.is_empty() { "none" } else { key.default };
        let _ = write!(text, " Default: {default}.");
        comment(out, &text);
    }
    out.push_str(TYPES);
    for rule in rules {
        let _ = write!(out, "\n[[room]]\nmatch = {}\n", quoted(&rule.pattern));
        for key in ROOM_KEYS {
            let _ = writeln!(out, "{} = {}", key.name, (key.get)(rule));
        }
        for (name, rule) in &rule.types {
            let _ = write!(out, "[room.types.{}]\n{}", bare(name), rule.lines());
        }
    }
}

const HEAD: &str = "
# Rules for rooms, in the file only: a list of [[room]], of which the first one that matches the name of a
# room counts. Built in are, after the list: rooms \"live:*\" are volatile and without presence, rooms
# \"@*\" (each user's own) are without presence, and all others have the defaults.
#
# match: which rooms. * stands for any run of characters, everything else for itself.
";

const TYPES: &str = "\
# [room.types.NAME]: a type that may be published; with cost = 5, one counts as five in rates. With
#   schema = { … } or schema_file = \"chat.json\" only with a payload that matches this JSON Schema (draft
#   2020-12), else it is answered invalid_payload.
#   A relative path starts at the configuration file.
#
# [[room]]
# match = \"chat:*\"
# history = 200
# other_types = false
# [room.types.chat]
# schema = { required = [\"text\"], properties = { text = { type = \"string\", maxLength = 4000 } } }
";
