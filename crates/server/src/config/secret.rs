//! Files that the configuration names. What is secret is only ever in such a file, never in a value.

use std::path::{Path, PathBuf};

use super::ConfigError;
use super::units::{Expected, Unit, Value, quoted};

/// The path of a file, or an empty one for none. A relative path starts where the process does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FilePath(PathBuf);

/// Several of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FilePaths(Vec<FilePath>);

impl FilePath {
    /// The path, if there is one.
    pub(crate) fn path(&self) -> Option<&Path> {
        (!self.is_empty()).then_some(&self.0)
    }

    /// Whether no file is named.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.as_os_str().is_empty()
    }

    /// What the file holds; `None` when none is named. The error is a sentence with the key in it.
    pub(crate) fn read(&self, key: &str) -> Result<Option<Vec<u8>>, ConfigError> {
        let Some(path) = self.path() else { return Ok(None) };
        std::fs::read(path).map(Some).map_err(|error| {
            let (shown, reason) = (path.display(), crate::reason(&error));
            ConfigError::new(format!("{key}: cannot read {shown}: {reason}"))
        })
    }

    /// The secret that the file holds, a text without the line break at its end; `None` when none is named. The
    /// error says nothing of what is in it.
    pub(crate) fn secret(&self, key: &str) -> Result<Option<String>, ConfigError> {
        let Some(bytes) = self.read(key)? else { return Ok(None) };
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned())),
            Err(_) => {
                let shown = self.0.display();
                Err(ConfigError::new(format!("{key}: {shown} is not a text in UTF-8")))
            }
        }
    }

    /// Whether the file, if one is named, holds a secret of at least `least` bytes; a line break at its end
    /// does not count. The error says nothing of what is in it.
    pub(super) fn check_secret(&self, key: &str, least: usize) -> Result<(), ConfigError> {
        let Some(bytes) = self.read(key)? else { return Ok(()) };
        let end = bytes.iter().rposition(|byte| !b"\r\n".contains(byte)).map_or(0, |last| last + 1);
        if end >= least {
            return Ok(());
        }
        let shown = self.0.display();
        Err(ConfigError::new(format!(
            "{key}: the secret in {shown} must have at least {least} bytes, not {end}; draw one with \
             `openssl rand -hex 32`"
        )))
    }
}

impl FilePaths {
    /// Each of them.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &FilePath> {
        self.0.iter()
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Unit for FilePath {
    fn read(value: &Value) -> Result<Self, Expected> {
        value.word().map(|path| Self(path.into())).ok_or_else(|| "the path of a file".into())
    }

    fn write(&self) -> String {
        quoted(&self.0.to_string_lossy())
    }
}

impl Unit for FilePaths {
    fn read(value: &Value) -> Result<Self, Expected> {
        let paths: Vec<&str> = match value {
            Value::Text(text) => text.split(',').map(str::trim).collect(),
            Value::List(items) => items.iter().map(String::as_str).collect(),
            _ => return Err("a list of paths".into()),
        };
        let paths = paths.into_iter().filter(|path| !path.is_empty());
        Ok(Self(paths.map(|path| FilePath(path.into())).collect()))
    }

    fn write(&self) -> String {
        let paths: Vec<String> = self.0.iter().map(Unit::write).collect();
        format!("[{}]", paths.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_long_and_not_repeated() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        std::fs::write(&path, "correct horse battery staple\r\n").unwrap();
        let file = FilePath(path.clone());
        assert_eq!(file.check_secret("jwt.secret_file", 28), Ok(()));
        let short = file.check_secret("jwt.secret_file", 29).unwrap_err().to_string();
        assert!(short.starts_with("jwt.secret_file: the secret in "), "{short}");
        assert!(
            short.contains("at least 29 bytes, not 28;") && !short.contains("horse"),
            "{short}"
        );

        let missing = FilePath(directory.path().join("none")).read("tls.key").unwrap_err();
        assert!(missing.to_string().starts_with("tls.key: cannot read "), "{missing}");
        assert_eq!(FilePath::default().check_secret("x", 32), Ok(()));
    }

    #[test]
    fn lists_of_paths() {
        let read = |text: &str| FilePaths::read(&Value::text(text)).unwrap();
        assert_eq!(read("a.pem, b c.pem").write(), r#"["a.pem", "b c.pem"]"#);
        assert!(read("").is_empty());
    }
}
