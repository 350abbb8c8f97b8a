//! What the payload of a message must look like: JSON Schema.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use jsonschema::error::{TypeKind, ValidationErrorKind as Kind};
use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::{Map, Value};
use throng_protocol::{Code, Fault, Publish};

mod growth;

/// A compiled JSON Schema for the payload of one type of message.
///
/// Schemas are of draft 2020-12 unless their `$schema` says otherwise. `format` is checked, not
/// only noted. References lead to places within the schema; nothing is ever fetched. Patterns
/// are matched in time linear in the text, so they have no look-around and no back references.
///
/// A schema is the operator's; a payload is anybody's. A schema that leads to itself by more than
/// one way at the same value, such as two branches of an `anyOf`, is refused: a check would cost
/// twice as much for each level that a payload nests.
#[derive(Debug)]
pub struct Schema {
    validator: Validator,
}

impl Schema {
    /// Compiles the JSON text of a schema. Costs milliseconds: once for each configured type.
    ///
    /// Errors, each with the place: not JSON, not a schema, a reference that leads out of it, a
    /// pattern with look-around or back references or too large, an unknown `format`, a field
    /// that is there twice, an integer of more than 64 bits, more than one way back to itself.
    pub fn compile(text: &str) -> Result<Self, SchemaError> {
        let schema = serde_json::from_str(text)
            .map_err(|error| SchemaError(format!("the schema is not JSON: {error}")))?;
        judge_text(text, &schema)
            .map_err(|flaw| SchemaError(format!("the schema {}", flaw.text())))?;
        let patterns =
            PatternOptions::regex().size_limit(PATTERN_SIZE).dfa_size_limit(PATTERN_SIZE);
        let validator = jsonschema::options()
            .offline()
            .with_pattern_options(patterns)
            .should_validate_formats(true)
            .should_ignore_unknown_formats(false)
            .build(&schema)
            .map_err(|error| SchemaError::new(&error))?;
        growth::check(&schema).map_err(|flaw| SchemaError(format!("the schema {flaw}")))?;
        Ok(Self { validator })
    }

    /// Checks the payload of a message: an object of every field but `type`, `room`, `to`, and
    /// `ref`. Says the first thing found to be wrong.
    ///
    /// Numbers are compared as every receiver can read them: integers of 64 bits exactly, others
    /// as doubles. What is neither, and a field that is there twice in one object, is refused: it
    /// could be one thing for the check and another for a receiver.
    ///
    /// Cost: a tree of the payload is built, about five times its text, and thrown away.
    pub fn check(&self, message: &Publish<'_>) -> Result<(), Violation> {
        let payload = read_payload(message)?;
        self.validator.validate(&payload).map_err(|error| Violation::new(&error))
    }
}

/// Why a text is no schema that can be used, and where in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaError(String);

impl SchemaError {
    fn new(error: &ValidationError<'_>) -> Self {
        match error.instance_path().as_str() {
            "" => Self(format!("the schema is not valid: {error}")),
            place => Self(format!("the schema is not valid at {place}: {error}")),
        }
    }
}

impl fmt::Display for SchemaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for SchemaError {}

/// What is wrong with a payload: `invalid_payload`.
///
/// The text is a sentence for people with the place as a JSON pointer. Of what the client sent
/// it has only the place, and of that at most 64 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(String);

impl Violation {
    fn new(error: &ValidationError<'_>) -> Self {
        let place = error.instance_path().as_str();
        match error.kind() {
            // The field itself is the place, as for everything else that is wrong with it.
            Kind::AdditionalProperties { unexpected }
            | Kind::UnevaluatedProperties { unexpected } => {
                let name = unexpected.first().map_or("", String::as_str);
                Self::at(&join(place, name), "is not allowed")
            }
            kind => Self::at(place, &predicate(kind)),
        }
    }

    fn at(place: &str, predicate: &str) -> Self {
        match place {
            "" => Self(format!("The payload {predicate}.")),
            place => Self(format!("`{}` {predicate}.", shorten(place))),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Violation {}

impl From<Violation> for Fault {
    fn from(violation: Violation) -> Self {
        Fault::new(Code::InvalidPayload).with_message(violation.0)
    }
}

/// The largest compiled pattern, in bytes.
const PATTERN_SIZE: usize = 1 << 20;

/// The most bytes of the client's text, or of one value of the schema, in a violation.
const MAX_QUOTE: usize = 64;

/// The payload as a tree.
fn read_payload(message: &Publish<'_>) -> Result<Value, Violation> {
    let mut payload = Map::new();
    for (key, text) in message.fields() {
        let name: String = serde_json::from_str(key)
            .map_err(|_| Violation::at("", "has a field whose name cannot be read"))?;
        let at = |predicate| Violation::at(&join("", &name), predicate);
        let value = serde_json::from_str(text).map_err(|_| at("has a number that is too large"))?;
        judge_text(text, &value).map_err(|flaw| at(flaw.text()))?;
        payload.insert(name, value);
    }
    Ok(Value::Object(payload))
}

/// How a tree may say something else than the text it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    Number,
    Twins,
}

impl Flaw {
    fn text(self) -> &'static str {
        match self {
            Self::Number => "has an integer of more than 64 bits",
            Self::Twins => "has an object with two fields of the same name",
        }
    }
}

/// Compares a JSON text with the tree it was read to.
fn judge_text(text: &str, tree: &Value) -> Result<(), Flaw> {
    let bytes = text.as_bytes();
    let mut fields = 0;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => at += string_len(&bytes[at..]),
            b'-' | b'0'..=b'9' => {
                let rest = text.get(at..).unwrap_or_default();
                let end = rest.find(|c| !is_numeric(c)).unwrap_or(rest.len());
                if !is_held(&rest[..end]) {
                    return Err(Flaw::Number);
                }
                at += end;
            }
            b':' => {
                fields += 1;
                at += 1;
            }
            _ => at += 1,
        }
    }
    if fields == count_fields(tree) { Ok(()) } else { Err(Flaw::Twins) }
}

/// The length of the string that a well-formed text starts with, quotes included.
fn string_len(bytes: &[u8]) -> usize {
    let mut at = 1;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn is_numeric(c: char) -> bool {
    matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E')
}

/// Whether a number is an integer of 64 bits, or written as what a double is for.
fn is_held(number: &str) -> bool {
    number.contains(['.', 'e', 'E'])
        || number.parse::<i64>().is_ok()
        || number.parse::<u64>().is_ok()
}

fn count_fields(tree: &Value) -> usize {
    match tree {
        Value::Array(items) => items.iter().map(count_fields).sum(),
        Value::Object(fields) => fields.len() + fields.values().map(count_fields).sum::<usize>(),
        _ => 0,
    }
}

/// What a value does that it must not, or does not that it must.
fn predicate(kind: &Kind) -> Cow<'static, str> {
    let text = match kind {
        Kind::Type { kind: TypeKind::Single(kind) } => format!("must be of type {kind}"),
        Kind::Type { kind: TypeKind::Multiple(kinds) } => {
            let kinds: Vec<_> = kinds.iter().map(|kind| kind.to_string()).collect();
            format!("must be of type {}", kinds.join(" or "))
        }
        Kind::Required { property } => match property.as_str() {
            Some(name) => format!("needs `{}`", shorten(name)),
            None => "lacks a field".into(),
        },
        Kind::Minimum { limit } => format!("must be at least {limit}"),
        Kind::Maximum { limit } => format!("must be at most {limit}"),
        Kind::ExclusiveMinimum { limit } => format!("must be more than {limit}"),
        Kind::ExclusiveMaximum { limit } => format!("must be less than {limit}"),
        Kind::MultipleOf { multiple_of } => format!("must be a multiple of {multiple_of}"),
        Kind::MinLength { limit } => format!("must have at least {limit} characters"),
        Kind::MaxLength { limit } => format!("must have at most {limit} characters"),
        Kind::MinItems { limit } => format!("must have at least {limit} items"),
        Kind::MaxItems { limit } => format!("must have at most {limit} items"),
        Kind::AdditionalItems { limit } => format!("must have at most {limit} items"),
        Kind::MinProperties { limit } => format!("must have at least {limit} fields"),
        Kind::MaxProperties { limit } => format!("must have at most {limit} fields"),
        Kind::Format { format } => format!("must be in the format {}", shorten(format)),
        Kind::Pattern { pattern } => format!("must match `{}`", shorten(pattern)),
        Kind::Constant { .. } => return "must be the one allowed value".into(),
        Kind::Enum { .. } => return "must be one of the allowed values".into(),
        Kind::UniqueItems => return "must not have an item twice".into(),
        Kind::Contains => return "must have, in the right number, items that it lacks".into(),
        Kind::UnevaluatedItems { .. } => return "has items that are not allowed".into(),
        Kind::PropertyNames { .. } => return "has a field whose name is not allowed".into(),
        Kind::FalseSchema => return "is not allowed".into(),
        Kind::AnyOf { .. } | Kind::OneOfNotValid { .. } => {
            return "has none of the allowed forms".into();
        }
        Kind::OneOfMultipleValid { .. } => return "has more than one of the forms".into(),
        _ => return "does not match the schema".into(),
    };
    text.into()
}

/// The JSON pointer of a field of the object at `place`.
fn join(place: &str, name: &str) -> String {
    format!("{place}/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// At most [`MAX_QUOTE`] bytes of a text, cut between characters.
fn shorten(text: &str) -> Cow<'_, str> {
    const MORE: &str = "…";
    if text.len() <= MAX_QUOTE {
        return text.into();
    }
    let mut end = MAX_QUOTE - MORE.len();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{MORE}", &text[..end]).into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test that cannot go on has failed
mod tests {
    use throng_protocol::{Command, parse};

    use super::*;

    const CHAT: &str = r#"{
        "type": "object", "required": ["text"], "additionalProperties": false,
        "properties": {
            "text": { "type": "string", "minLength": 1, "maxLength": 5 },
            "to/~x": { "type": ["integer", "null"] },
            "n": { "minimum": 0, "exclusiveMaximum": 10, "multipleOf": 0.1 },
            "kind": { "enum": ["a", "b"] },
            "id": { "pattern": "^[a-z]+$" },
            "mail": { "format": "email" },
            "list": { "type": "array", "maxItems": 3, "uniqueItems": true,
                      "items": { "type": "object", "required": ["id"],
                                 "properties": { "id": { "const": 7 } } } },
            "any": { "anyOf": [{ "type": "string" }, { "type": "array" }] }
        }
    }"#;

    fn check(schema: &Schema, payload: &str) -> Result<(), Violation> {
        let fields = payload.trim().strip_prefix('{').unwrap();
        let comma = if fields.trim() == "}" { "" } else { "," };
        let text = format!(r#"{{"type":"chat","room":"r","ref":1{comma}{fields}"#);
        match parse(text.as_bytes()) {
            Ok(Command::Publish(message)) => schema.check(&message),
            other => panic!("{text} → {other:?}"),
        }
    }

    fn violation(schema: &str, payload: &str) -> String {
        let violation = check(&Schema::compile(schema).unwrap(), payload);
        violation.expect_err(payload).to_string()
    }

    fn refused(schema: &str) -> String {
        Schema::compile(schema).expect_err(schema).to_string()
    }

    #[test]
    fn only_the_payload_is_checked() {
        let schema = Schema::compile(CHAT).unwrap();
        for fine in [
            r#"{"text":"hello"}"#,
            r#"{"t\u0065xt":"h\u00e9llo","n":9.9,"kind":"b","to/~x":null,"any":[]}"#,
            r#"{"text":"x","list":[{"id":7,"more":1},{"id":7.0}],"mail":"a@example.org"}"#,
        ] {
            assert_eq!(check(&schema, fine), Ok(()), "{fine}");
        }
        // `type`, `room` and `ref` are there, and would not be allowed.
        assert_eq!(check(&Schema::compile(r#"{"maxProperties":0}"#).unwrap(), "{}"), Ok(()));
    }

    #[test]
    fn a_violation_names_the_place_and_the_reason() {
        for (payload, text) in [
            ("{}", "The payload needs `text`."),
            (r#"{"text":7}"#, "`/text` must be of type string."),
            (r#"{"text":""}"#, "`/text` must have at least 1 characters."),
            (r#"{"text":"123456"}"#, "`/text` must have at most 5 characters."),
            (r#"{"text":"x","extra":1}"#, "`/extra` is not allowed."),
            (r#"{"text":"x","a/~b":1}"#, "`/a~1~0b` is not allowed."),
            (r#"{"text":"x","to/~x":"1"}"#, "`/to~1~0x` must be of type null or integer."),
            (r#"{"text":"x","n":-1}"#, "`/n` must be at least 0."),
            (r#"{"text":"x","n":10}"#, "`/n` must be less than 10."),
            (r#"{"text":"x","n":0.25}"#, "`/n` must be a multiple of 0.1."),
            (r#"{"text":"x","kind":"c"}"#, "`/kind` must be one of the allowed values."),
            (r#"{"text":"x","id":"A"}"#, "`/id` must match `^[a-z]+$`."),
            (r#"{"text":"x","mail":"a"}"#, "`/mail` must be in the format email."),
            (r#"{"text":"x","list":{}}"#, "`/list` must be of type array."),
            (r#"{"text":"x","list":[{"id":7},{}]}"#, "`/list/1` needs `id`."),
            (r#"{"text":"x","list":[{"id":8}]}"#, "`/list/0/id` must be the one allowed value."),
            (r#"{"text":"x","list":[{"id":7},{"id":7}]}"#, "`/list` must not have an item twice."),
            (r#"{"text":"x","any":1}"#, "`/any` has none of the allowed forms."),
        ] {
            assert_eq!(violation(CHAT, payload), text, "{payload}");
        }
        let fault = Fault::from(check(&Schema::compile("false").unwrap(), "{}").unwrap_err());
        assert_eq!(
            (fault.code, &*fault.message),
            (Code::InvalidPayload, "The payload is not allowed.")
        );
    }

    #[test]
    fn a_violation_repeats_little_of_what_the_client_sent() {
        let long = "é".repeat(5000);
        let strict = r#"{"additionalProperties":false}"#;
        let items = r#"{"additionalProperties":{"additionalProperties":{"type":"null"}}}"#;
        let names = r#"{"propertyNames":{"maxLength":9}}"#;
        for (schema, payload) in [
            (CHAT, format!(r#"{{"text":"{long}"}}"#)),
            (CHAT, format!(r#"{{"text":"x","kind":"{long}"}}"#)),
            (CHAT, format!(r#"{{"text":"x","any":{{"{long}":"{long}"}}}}"#)),
            (strict, format!(r#"{{"{long}":1}}"#)),
            (items, format!(r#"{{"{long}":{{"{long}":"{long}"}}}}"#)),
            (names, format!(r#"{{"{long}":1}}"#)),
            (items, format!(r#"{{"{long}":123456789012345678901234567890}}"#)),
        ] {
            let text = violation(schema, &payload);
            let repeated: usize = text.matches('é').map(str::len).sum();
            assert!(repeated <= MAX_QUOTE && text.len() < 160, "{text}");
        }
    }

    #[test]
    fn numbers_are_what_they_are() {
        let range = r#"{"properties":{"n":{"type":"integer","maximum":18446744073709551614}}}"#;
        let schema = Schema::compile(range).unwrap();
        for fine in ["18446744073709551614", "-9223372036854775808", "-0", "1e3", "-1e300", "1.0"] {
            assert_eq!(check(&schema, &format!(r#"{{"n":{fine}}}"#)), Ok(()), "{fine}");
        }
        for (wrong, reason) in [
            ("18446744073709551615", "must be at most 18446744073709551614"),
            ("1e20", "must be at most 18446744073709551614"),
            ("0.5", "must be of type integer"),
            // As doubles these would be equal to others, or to nothing.
            ("18446744073709551616", "has an integer of more than 64 bits"),
            ("-9223372036854775809", "has an integer of more than 64 bits"),
            ("1e400", "has a number that is too large"),
            ("-1e400", "has a number that is too large"),
        ] {
            assert_eq!(violation(range, &format!(r#"{{"n":{wrong}}}"#)), format!("`/n` {reason}."));
        }
        let exact = Schema::compile(r#"{"properties":{"n":{"const":9007199254740993}}}"#).unwrap();
        assert!(check(&exact, r#"{"n":9007199254740993}"#).is_ok());
        assert!(check(&exact, r#"{"n":9007199254740992}"#).is_err());
        let text =
            r#"{"n":["-1e400 99999999999999999999 \" 1e400",{"\\":"99999999999999999999"}]}"#;
        assert_eq!(check(&exact, r#"{"x":[1e3]}"#), Ok(()));
        assert_eq!(check(&Schema::compile("true").unwrap(), text), Ok(()));
        let deep = r#"{"n":[{"a":[0,99999999999999999999]}]}"#;
        assert_eq!(violation("true", deep), "`/n` has an integer of more than 64 bits.");
    }

    #[test]
    fn a_field_that_is_there_twice_is_no_way_around_a_check() {
        let schema = r#"{"properties":{"a":{"properties":{"x":{"type":"string"}}}}}"#;
        let twice = "`/a` has an object with two fields of the same name.";
        assert_eq!(violation(schema, r#"{"a":{"x":7,"x":"fine"}}"#), twice);
        assert_eq!(violation(schema, r#"{"a":[[{"x":7,"\u0078":"fine"}]]}"#), twice);
        let schema = Schema::compile(schema).unwrap();
        assert_eq!(check(&schema, r#"{"a":{":":":","x":"a:\":b","y":{":":1,"::":[]}}}"#), Ok(()));
    }

    #[test]
    fn what_is_no_schema_is_refused_with_its_place() {
        for (schema, told) in [
            ("", "not JSON"),
            ("{", "line 1"),
            ("7", "not valid"),
            (r#"{"type":"text"}"#, "at /type"),
            (r#"{"properties":{"a":{"maxLength":-1}}}"#, "at /properties/a/maxLength"),
            (r#"{"properties":{"a":{"pattern":"("}}}"#, "at /properties/a/pattern"),
            (r#"{"properties":{"a":{"pattern":"(?=a)b"}}}"#, "at /properties/a/pattern"),
            (r#"{"patternProperties":{"(a)\\1":{}}}"#, "(a)\\1"),
            (r#"{"pattern":"((a{999}){999}){999}"}"#, "at /pattern"),
            (r#"{"format":"e-mail"}"#, "e-mail"),
            (r##"{"$ref":"#/$defs/none"}"##, "/$defs/none"),
            (r#"{"$ref":"http://localhost:1/x.json"}"#, "http://localhost:1/x.json"),
            (r#"{"$ref":"https://example.com/x.json"}"#, "https://example.com/x.json"),
            (r#"{"$ref":"file:///etc/passwd"}"#, "file:///etc/passwd"),
            (r#"{"$schema":"https://example.com/meta"}"#, "https://example.com/meta"),
            (r#"{"type":"string","type":"null"}"#, "two fields of the same name"),
            (r#"{"maximum":123456789012345678901234567890}"#, "more than 64 bits"),
            (r##"{"items":{"$ref":"#"},"contains":{"$ref":"#"}}"##, "at its root"),
        ] {
            let error = refused(schema);
            assert!(error.contains(told), "{schema}: {error}");
        }
        // Deeper than any schema; no stack is at risk.
        refused(&format!("{}{}", r#"{"not":"#.repeat(100_000), "}".repeat(100_000)));
    }

    #[test]
    fn places_within_the_schema_may_be_referred_to() {
        let tree = r##"{"$ref":"#/$defs/node","$defs":{"node":{
            "properties":{"next":{"$ref":"#/$defs/node"},"n":{"type":"integer"}}}}}"##;
        let nested =
            |depth, n| format!("{}{{\"n\":{n}}}{}", r#"{"next":"#.repeat(depth), "}".repeat(depth));
        assert_eq!(check(&Schema::compile(tree).unwrap(), &nested(62, "1")), Ok(()));
        let text = violation(tree, &nested(62, "\"\""));
        assert!(text.starts_with("`/next/next/next/"), "{text}");
        assert!(text.ends_with("…` must be of type integer."), "{text}");
        // One that leads nowhere but to itself says nothing.
        assert_eq!(check(&Schema::compile(r##"{"$ref":"#"}"##).unwrap(), r#"{"a":1}"#), Ok(()));
    }

    #[test]
    fn no_pattern_and_no_payload_takes_long() {
        let schema = r#"{"properties":{
            "a":{"pattern":"^(a+)+$"}, "b":{"pattern":"(x+x+)+y"}, "c":{"pattern":"^(.*?,){11}P"},
            "d":{"format":"email"}, "e":{"format":"uri"}, "f":{"format":"regex"},
            "g":{"format":"date-time"}, "h":{"format":"ipv6"}, "i":{"uniqueItems":true}}}"#;
        let schema = Schema::compile(schema).unwrap();
        let long = |text: &str| format!("\"{}!\"", text.repeat(60_000 / text.len()));
        let list: Vec<_> = (0..10_000).map(|n| n.to_string()).collect();
        let payloads = [
            ("a", long("a"), false),
            ("b", long("x"), false),
            ("c", long("1,"), false),
            ("d", long("a."), false),
            ("e", long("a:/%41"), true),
            ("f", long("(a{9})"), true),
            ("f", long("("), false),
            ("g", long("2026-"), false),
            ("h", long("1:"), false),
            ("i", format!("[{}]", list.join(",")), true),
        ];
        // Where time grew with the square of the text or worse, this would not end.
        for (name, value, valid) in payloads {
            let result = check(&schema, &format!(r#"{{"{name}":{value}}}"#));
            assert_eq!(result.is_ok(), valid, "{name}: {result:?}");
        }
    }

    #[test]
    fn a_schema_is_shared_by_threads() {
        fn assert<T: fmt::Debug + Send + Sync>() {}
        assert::<Schema>();
    }
}
