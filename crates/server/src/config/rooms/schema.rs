//! `[room.types.NAME]`: a type of message, and the JSON Schema that its payload must match.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Map, Number, Value as Json};
use throng::Schema;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::super::ConfigError;
use super::super::file::File;
use super::super::near::suggestion;
use super::super::raw::wrong;
use super::super::units::{self, quoted};

/// What holds for one type of message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TypeRule {
    schema: Option<Written>,
    /// How many messages one of this type counts for, in rates.
    pub(crate) cost: u32,
}

/// A schema and how it came to be.
#[derive(Clone, Debug)]
struct Written {
    /// The file as named, or `None` for one that stands in the configuration.
    file: Option<PathBuf>,
    json: Json,
    compiled: Arc<Schema>,
}

impl TypeRule {
    /// The schema, ready for use; `None`: any payload.
    pub(crate) fn schema(&self) -> Option<Arc<Schema>> {
        self.schema.as_ref().map(|written| Arc::clone(&written.compiled))
    }

    /// The lines that say so in a file, or none.
    pub(super) fn lines(&self) -> String {
        let cost = match self.cost {
            1 => String::new(),
            cost => format!("cost = {cost}\n"),
        };
        cost + &match &self.schema {
            None => String::new(),
            Some(Written { file: Some(path), .. }) => {
                format!("schema_file = {}\n", quoted(&path.to_string_lossy()))
            }
            Some(Written { json, .. }) => format!("schema = {}\n", inline(json)),
        }
    }

    /// Reads the table of a type.
    pub(super) fn read(
        file: &File<'_>,
        name: &str,
        table: &DeTable<'_>,
    ) -> Result<Self, ConfigError> {
        let mut schema: Option<Written> = None;
        let mut cost = 1;
        for (key, value) in table {
            let place = file.place(key);
            let found = match key.get_ref().as_ref() {
                "schema" => Written::inline(file, name, value)?,
                "schema_file" => Written::of_file(file, name, value)?,
                "cost" => {
                    let value = file.value(value);
                    let number = units::number(&value, 1..=1_000_000)
                        .map_err(|e| wrong(&format!("{place}: cost of {name}"), &e, &value))?;
                    cost = u32::try_from(number).unwrap_or(u32::MAX);
                    continue;
                }
                other => {
                    let known = ["schema", "schema_file", "cost"].map(str::to_owned);
                    let hint = suggestion(other, known.into_iter());
                    let sentence = format!("{place}: a type has no key {other:?}{hint}");
                    return Err(ConfigError::new(sentence));
                }
            };
            if schema.is_some() {
                return Err(ConfigError::new(format!(
                    "{place}: {name} has a schema and a schema_file; take one of them away"
                )));
            }
            schema = Some(found);
        }
        Ok(Self { schema, cost })
    }
}

impl Written {
    fn inline(
        file: &File<'_>,
        name: &str,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<Self, ConfigError> {
        let place = file.place(value);
        let json = to_json(file, value)?;
        if !json.is_object() {
            let sentence = format!(
                "{place}: schema of {name} must be a table such as {{ type = \"object\" }}; for a file \
                 there is schema_file"
            );
            return Err(ConfigError::new(sentence));
        }
        let compiled = compile(&json.to_string())
            .map_err(|error| ConfigError::new(format!("{place}: schema of {name} {error}")))?;
        Ok(Self { file: None, json, compiled })
    }

    fn of_file(
        file: &File<'_>,
        name: &str,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<Self, ConfigError> {
        let place = file.place(value);
        let DeValue::String(path) = value.get_ref() else {
            let sentence = format!("{place}: schema_file of {name} must be the path of a file");
            return Err(ConfigError::new(sentence));
        };
        let path = PathBuf::from(path.as_ref());
        let shown = path.display();
        let wrong = |what: String| {
            ConfigError::new(format!("{place}: schema_file of {name}: {shown} {what}"))
        };
        let text = std::fs::read_to_string(file.directory().join(&path))
            .map_err(|error| wrong(format!("cannot be read: {}", crate::reason(&error))))?;
        let json: Json = serde_json::from_str(&text)
            .map_err(|error| wrong(format!("is not valid JSON: {error}")))?;
        let compiled = compile(&text).map_err(wrong)?;
        Ok(Self { file: Some(path), json, compiled })
    }
}

impl PartialEq for Written {
    fn eq(&self, other: &Self) -> bool {
        (&self.file, &self.json) == (&other.file, &other.json)
    }
}

impl Eq for Written {}

fn compile(text: &str) -> Result<Arc<Schema>, String> {
    let compiled = Schema::compile(text);
    compiled.map(Arc::new).map_err(|error| format!("cannot be used: {error}"))
}

/// The JSON of a TOML value. A schema has no use for dates, nor for numbers that JSON does not have.
fn to_json(file: &File<'_>, value: &Spanned<DeValue<'_>>) -> Result<Json, ConfigError> {
    let wrong = |what: &str| {
        let place = file.place(value);
        Err(ConfigError::new(format!("{place}: a schema cannot hold {what}")))
    };
    Ok(match value.get_ref() {
        DeValue::String(text) => Json::from(text.as_ref()),
        DeValue::Boolean(value) => Json::from(*value),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Json::from(number),
            Err(_) => return wrong("an integer of more than 64 bits"),
        },
        DeValue::Float(number) => match number.as_str().parse().ok().and_then(Number::from_f64) {
            Some(number) => Json::Number(number),
            None => return wrong("a number that is not finite"),
        },
        DeValue::Array(items) => {
            let items = items.iter().map(|item| to_json(file, item));
            Json::Array(items.collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => {
            let fields = table
                .iter()
                .map(|(key, value)| Ok((key.get_ref().to_string(), to_json(file, value)?)));
            Json::Object(fields.collect::<Result<Map<_, _>, ConfigError>>()?)
        }
        DeValue::Datetime(_) => return wrong("a date"),
    })
}

/// A JSON value without nulls as TOML in one line; what was read from TOML has none.
fn inline(json: &Json) -> String {
    match json {
        Json::Null => quoted(""),
        Json::String(text) => quoted(text),
        Json::Bool(value) => value.to_string(),
        Json::Number(number) => number.to_string(),
        Json::Array(items) => {
            format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", "))
        }
        Json::Object(fields) if fields.is_empty() => "{}".into(),
        Json::Object(fields) => {
            let fields =
                fields.iter().map(|(key, value)| format!("{} = {}", bare(key), inline(value)));
            format!("{{ {} }}", fields.collect::<Vec<_>>().join(", "))
        }
    }
}

/// A key, with quotes if it needs them.
pub(super) fn bare(key: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    match !key.is_empty() && key.bytes().all(plain) {
        true => key.to_owned(),
        false => quoted(key),
    }
}
