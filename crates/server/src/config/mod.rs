//! The configuration: defaults, `throng.toml`, `THRONG_…` variables and flags, in this order.
//!
//! [`raw`] is what was written, [`checked`] what the server uses; [`keys`] is the one table that both, and
//! `throng config`, are made from. Every error is one sentence that names the place and what would be right.

mod address;
mod api_keys;
mod checked;
mod file;
mod fit;
mod keys;
mod lists;
mod machine;
mod near;
mod print;
mod rate;
mod raw;
pub(crate) mod redis;
mod rooms;
mod secret;
mod sections;
mod trust;
mod units;
mod words;

use std::fmt;
use std::path::{Path, PathBuf};

pub(crate) use self::address::Address;
pub(crate) use self::api_keys::{ApiKey, ApiKeys, Keyring, Scopes, is_name as is_key_name};
pub(crate) use self::checked::{Config, Endpoint, EndpointOptions, Limits, Listener, Machine};
pub(crate) use self::lists::{Cidrs, GrantWords, Hosts};
pub(crate) use self::machine::memory as machine_memory;
pub(crate) use self::print::print;
pub(crate) use self::rate::{Pace, Rate};
pub(crate) use self::raw::{Kind, ListenFlag};
pub(crate) use self::redis::RedisMode;
pub(crate) use self::rooms::{Presence, RoomRule, RoomSlow};
pub(crate) use self::secret::FilePath;
pub(crate) use self::sections::{Jwt, Login, Tls, Webhook};
pub(crate) use self::trust::{Algorithm, Algorithms, Amount, ClientAuth, TlsVersion};
pub(crate) use self::words::{Gather, LogFormat, LogLevel, Slow, Sources, Storage, Sync};

use self::keys::{CONFIG_VARIABLE, Setting};
use self::raw::{Place, RawConfig};
use self::units::Value;

/// The file that is read when nobody names one.
const DEFAULT_FILE: &str = "throng.toml";

/// What the command line says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flags {
    /// `--config`.
    pub(crate) file: Option<PathBuf>,
    /// The flag as written, the key it sets, and its value.
    pub(crate) settings: Vec<(String, String, String)>,
    /// `--listen` and `--endpoint`, in order.
    pub(crate) listen: Vec<ListenFlag>,
}

/// One sentence about a configuration that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConfigError(String);

impl Config {
    /// Reads all layers: the file named by the flags, by `THRONG_CONFIG`, or `./throng.toml` if it is there.
    pub(crate) fn load(
        flags: &Flags,
        variables: &[(String, String)],
        machine: Machine,
    ) -> Result<Self, ConfigError> {
        let named = variables
            .iter()
            .find(|(name, value)| name == CONFIG_VARIABLE && !value.is_empty())
            .map(|(_, value)| PathBuf::from(value));
        let named = flags.file.clone().or(named);
        let path = named.as_deref().unwrap_or(Path::new(DEFAULT_FILE));
        let text = match std::fs::read(path) {
            Ok(bytes) => Some(String::from_utf8(bytes).map_err(|_| {
                ConfigError::new(format!("{} is not a text file in UTF-8", path.display()))
            })?),
            Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                let reason = crate::reason(&error);
                let sentence = format!("cannot read {}: {reason}", path.display());
                return Err(ConfigError::new(sentence));
            }
        };
        let name = path.display().to_string();
        Self::build(text.as_deref().map(|text| (name.as_str(), text)), variables, flags, machine)
    }

    /// As [`Config::load`], with a file that has been read: a name and a text.
    fn build(
        file: Option<(&str, &str)>,
        variables: &[(String, String)],
        flags: &Flags,
        machine: Machine,
    ) -> Result<Self, ConfigError> {
        let mut raw = RawConfig::defaults();
        if let Some((name, text)) = file {
            raw.apply_file(name, text)?;
        }
        raw.apply_variables(variables)?;
        for (flag, path, text) in &flags.settings {
            let Some(setting) = Setting::find(path) else {
                let hint = near::suggestion(path, Setting::all().map(|setting| setting.path()));
                return Err(ConfigError::new(format!("{flag}: there is no key {path:?}{hint}")));
            };
            raw.set(&Place::Flag(flag.clone()), &setting, &Value::text(text))?;
        }
        raw.apply_listen_flags(&flags.listen)?;
        Self::check(raw, machine)
    }

    /// The value of a key as `throng config` prints it, and whether it is the default.
    pub(crate) fn shown(&self, path: &str) -> Option<(String, bool)> {
        let setting = Setting::find(path)?;
        let value = setting.get(self);
        let is_default = value == setting.written_default();
        Some((value, is_default))
    }
}

impl ConfigError {
    fn new(sentence: String) -> Self {
        Self(sentence)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests;
