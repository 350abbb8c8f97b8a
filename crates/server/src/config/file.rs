//! The layer of `throng.toml`: TOML with the place of everything, so that errors can name the line.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ConfigError;
use super::address::Address;
use super::keys::{self, Setting};
use super::print::sections;
use super::raw::{Mounted, Place, RawConfig, RawListener, RawMount, wrong};
use super::units::{Unit, Value};

/// A file being read.
struct File<'a> {
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
                .chain(["listener".to_owned()]);
            let hint = keys::suggestion(path, known);
            let sentence = format!("{}: there is no key {path:?}{hint}", file.place(key));
            return Err(ConfigError::new(sentence));
        };
        self.set(&file.place(key), &setting, &file.value(value))
    }
}

impl File<'_> {
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
        for (key, value) in table {
            // `kind = "off"` beside other keys, in whatever order, is a contradiction.
            if matches!(mount.what, Mounted::Off) {
                break;
            }
            mount.set(&self.place(key), key.get_ref(), &self.value(value))?;
        }
        Ok(mount)
    }

    fn place<T>(&self, spanned: &Spanned<T>) -> Place {
        Place::File(self.name.to_owned(), self.line(spanned.span().start))
    }

    /// The line of a byte offset, counted from 1.
    fn line(&self, offset: usize) -> usize {
        let before = self.text.as_bytes().iter().take(offset);
        1 + before.filter(|byte| **byte == b'\n').count()
    }

    fn value(&self, value: &Spanned<DeValue<'_>>) -> Value {
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
