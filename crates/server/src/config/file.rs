//! The layer of `throng.toml`: TOML with the place of everything, so that errors can name the line.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ConfigError;
use super::address::Address;
use super::keys::Setting;
use super::near::suggestion;
use super::print::sections;
use super::raw::{Place, RawConfig, RawListener, RawMount, wrong};
use super::rooms::RawRoom;
use super::units::{Unit, Value};

/// A file being read.
pub(super) struct File<'a> {
    name: &'a str,
    text: &'a str,
}

impl RawConfig {
    /// Applies the text of a file; `name` is how errors call it.
    pub(crate) fn apply_file(&mut self, name: &str, text: &str) -> Result<(), ConfigError> {
        let file = File { name, text };
        let root = DeTable::parse(text).map_err(|error| {
            let line = file.line(error.span().map_or(0, |span| span.start));
            let what = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
            ConfigError::new(format!("{}, line {line}: not valid TOML: {what}", file.name))
        })?;
        for (key, value) in root.get_ref() {
            match key.get_ref().as_ref() {
                "listener" => self.listeners = Some(file.listeners(value)?),
                "room" => self.rooms = file.rooms(value)?,
                section if sections().any(|known| known == section) => {
                    let DeValue::Table(table) = value.get_ref() else {
                        let sentence =
                            format!("{}: {section} must be a table: [{section}]", file.place(key));
                        return Err(ConfigError::new(sentence));
                    };
                    for (key, value) in table {
                        self.apply_key(&file, &format!("{section}.{}", key.get_ref()), key, value)?;
                    }
                }
                path => self.apply_key(&file, path, key, value)?,
            }
        }
        Ok(())
    }

    fn apply_key<K>(
        &mut self,
        file: &File<'_>,
        path: &str,
        key: &Spanned<K>,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<(), ConfigError> {
        let Some(setting) = Setting::find(path) else {
            let known = Setting::all()
                .map(|setting| setting.path())
                .chain(sections().map(str::to_owned))
                .chain(["listener", "room"].map(str::to_owned));
            let hint = suggestion(path, known);
            let sentence = format!("{}: there is no key {path:?}{hint}", file.place(key));
            return Err(ConfigError::new(sentence));
        };
        self.set(&file.place(key), &setting, &file.value(value))
    }
}

impl File<'_> {
    fn rooms(&self, value: &Spanned<DeValue<'_>>) -> Result<Vec<RawRoom>, ConfigError> {
        let must_be = || {
            let place = self.place(value);
            ConfigError::new(format!("{place}: room must be a list of tables: [[room]]"))
        };
        let DeValue::Array(list) = value.get_ref() else { return Err(must_be()) };
        let tables = list.iter().map(|item| match item.get_ref() {
            DeValue::Table(table) => self.room(item, table),
            _ => Err(must_be()),
        });
        tables.collect()
    }

    fn room(
        &self,
        item: &Spanned<DeValue<'_>>,
        table: &DeTable<'_>,
    ) -> Result<RawRoom, ConfigError> {
        let Some((key, pattern)) = table.iter().find(|(key, _)| key.get_ref().as_ref() == "match")
        else {
            let sentence = format!("{}: a room needs a match such as \"chat:*\"", self.place(item));
            return Err(ConfigError::new(sentence));
        };
        let mut room = RawRoom::new(self.place(key), &self.value(pattern))?;
        for (key, value) in table {
            match (key.get_ref().as_ref(), value.get_ref()) {
                ("match", _) => {}
                ("types", DeValue::Table(types)) => {
                    for (name, value) in types {
                        let table = match value.get_ref() {
                            DeValue::Table(table) => Some(table),
                            _ => None,
                        };
                        room.set_type(self, name, table)?;
                    }
                }
                ("types", _) => {
                    let place = self.place(key);
                    let sentence = format!("{place}: types must be tables: [room.types.NAME]");
                    return Err(ConfigError::new(sentence));
                }
                (name, _) => room.set(&self.place(key), name, &self.value(value))?,
            }
        }
        Ok(room)
    }

    fn listeners(&self, value: &Spanned<DeValue<'_>>) -> Result<Vec<RawListener>, ConfigError> {
        let must_be = || {
            let place = self.place(value);
            ConfigError::new(format!("{place}: listener must be a list of tables: [[listener]]"))
        };
        let DeValue::Array(list) = value.get_ref() else { return Err(must_be()) };
        let mut listeners = Vec::with_capacity(list.len());
        for item in list.iter() {
            let DeValue::Table(table) = item.get_ref() else { return Err(must_be()) };
            listeners.push(self.listener(item, table)?);
        }
        Ok(listeners)
    }

    fn listener(
        &self,
        item: &Spanned<DeValue<'_>>,
        table: &DeTable<'_>,
    ) -> Result<RawListener, ConfigError> {
        let Some((key, address)) =
            table.iter().find(|(key, _)| key.get_ref().as_ref() == "address")
        else {
            let sentence = format!("{}: a listener needs an address", self.place(item));
            return Err(ConfigError::new(sentence));
        };
        let place = self.place(key);
        let value = self.value(address);
        let address = Address::read(&value)
            .map_err(|expected| wrong(&format!("{place}: address"), &expected, &value))?;
        let mut listener = RawListener::at(place, address);
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "address" => {}
                "endpoints" => {
                    let DeValue::Table(endpoints) = value.get_ref() else {
                        let sentence =
                            format!("{}: endpoints must be a table of paths", self.place(key));
                        return Err(ConfigError::new(sentence));
                    };
                    for (path, value) in endpoints {
                        listener.mounts.push(self.mount(path, value)?);
                    }
                }
                name => listener.set(&self.place(key), name, &self.value(value))?,
            }
        }
        Ok(listener)
    }

    /// `"/ws" = "rooms"` or `"/ws" = { kind = "rooms", … }`.
    fn mount<K: AsRef<str>>(
        &self,
        path: &Spanned<K>,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<RawMount, ConfigError> {
        let place = self.place(path);
        let mut mount = RawMount::new(place.clone(), path.get_ref().as_ref())?;
        let DeValue::Table(table) = value.get_ref() else {
            mount.set(&place, "kind", &self.value(value))?;
            return Ok(mount);
        };
        // The kind first, whatever the order: beside `kind = "off"` other keys have no effect, and the
        // sentence that says so needs to know it.
        let is_kind = |key: &str| key == "kind";
        let kind = table.iter().filter(|(key, _)| is_kind(key.get_ref()));
        let others = table.iter().filter(|(key, _)| !is_kind(key.get_ref()));
        for (key, value) in kind.chain(others) {
            mount.set(&self.place(key), key.get_ref(), &self.value(value))?;
        }
        Ok(mount)
    }

    /// Where something stands.
    pub(super) fn place<T>(&self, spanned: &Spanned<T>) -> Place {
        Place::File(self.name.to_owned(), self.line(spanned.span().start))
    }

    /// The directory in which relative paths start.
    pub(super) fn directory(&self) -> &Path {
        Path::new(self.name).parent().unwrap_or(Path::new(""))
    }

    /// The line of a byte offset, counted from 1.
    fn line(&self, offset: usize) -> usize {
        let before = self.text.as_bytes().iter().take(offset);
        1 + before.filter(|byte| **byte == b'\n').count()
    }

    pub(super) fn value(&self, value: &Spanned<DeValue<'_>>) -> Value {
        let other = || Value::Other(self.text.get(value.span()).unwrap_or_default().to_owned());
        match value.get_ref() {
            DeValue::String(text) => Value::text(text),
            DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix())
                .map_or_else(|_| other(), Value::Integer),
            DeValue::Boolean(value) => Value::Boolean(*value),
            DeValue::Array(items) => items
                .iter()
                .map(|item| match item.get_ref() {
                    DeValue::String(text) => Some(text.to_string()),
                    _ => None,
                })
                .collect::<Option<Vec<_>>>()
                .map_or_else(other, Value::List),
            _ => other(),
        }
    }
}
