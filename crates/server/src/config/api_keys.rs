//! Who may use the HTTP API: names and hashes of keys, as `throng key new` prints them.
//!
//! A key is 160 random bits, so nobody can guess it from its hash however fast the hash is: plain SHA-256
//! is enough at rest. A slow password hash would only make every request slow.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};

use super::ConfigError;
use super::units::{Expected, Unit, Value, quoted};

/// The keys of the API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ApiKeys(Vec<ApiKey>);

/// One key: what it is called, and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiKey {
    /// 1–64 characters of `A-Z a-z 0-9 _ . -`.
    pub(crate) name: String,
    /// SHA-256 of the key.
    pub(crate) hash: [u8; 32],
    /// What it may do.
    pub(crate) scopes: Scopes,
}

/// Parts of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scopes(u8);

/// The keys as they are at the moment; those of the file can be read again.
#[derive(Debug, Default)]
pub(crate) struct Keyring {
    listed: ApiKeys,
    file: KeysFile,
    current: RwLock<Arc<ApiKeys>>,
}

/// A file with keys, or an empty path for none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeysFile(PathBuf);

impl ApiKeys {
    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The key with this hash. Takes as long for every hash, whether it is one or not.
    pub(crate) fn find(&self, hash: &[u8; 32]) -> Option<&ApiKey> {
        let mut found = u32::MAX;
        for (index, key) in (0..u32::MAX).zip(&self.0) {
            let same: Choice = key.hash.ct_eq(hash);
            found.conditional_assign(&index, same);
        }
        self.0.get(usize::try_from(found).ok()?)
    }

    /// These and those of a file; a name stands for one key only.
    pub(super) fn joined_with(&self, others: Self) -> Result<Self, ConfigError> {
        let mut all = self.clone();
        all.0.extend(others.0);
        let mut names: Vec<&str> = all.0.iter().map(|key| key.name.as_str()).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => {
                let sentence = format!("api.keys: two keys are called {:?}", pair[0]);
                Err(ConfigError::new(sentence))
            }
            None => Ok(all),
        }
    }
}

impl Keyring {
    /// Those of the configuration, and of its file.
    ///
    /// Errors: as [`Keyring::reload`].
    pub(crate) fn new(listed: ApiKeys, file: KeysFile) -> Result<Self, ConfigError> {
        let keyring = Self { listed, file, current: RwLock::default() };
        keyring.reload()?;
        Ok(keyring)
    }

    /// The keys of this moment.
    pub(crate) fn current(&self) -> Arc<ApiKeys> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the file again, and returns how many keys there are now.
    ///
    /// Errors: one sentence about what is wrong with the file. The keys stay as they were.
    pub(crate) fn reload(&self) -> Result<usize, ConfigError> {
        let keys = self.listed.joined_with(self.file.load()?)?;
        let count = keys.0.len();
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        Ok(count)
    }
}

impl Scopes {
    /// To publish: messages, to rooms and users.
    pub(crate) const PUBLISH: Self = Self(1);
    /// To look: rooms, their past, who is there, counts.
    pub(crate) const READ: Self = Self(2);
    /// To let people in: tickets.
    pub(crate) const TICKETS: Self = Self(4);
    /// To see sessions and to end them: of sessions, users, tokens; bans from the server.
    pub(crate) const SESSIONS: Self = Self(8);
    /// To say who is in a room: members, kicks, bans from a room.
    pub(crate) const ROOMS: Self = Self(16);
    /// To run the servers: sending their clients away.
    pub(crate) const NODES: Self = Self(32);
    /// Everything.
    pub(crate) const ALL: Self = Self(63);

    /// Whether all of `others` are among them.
    pub(crate) fn has(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// Reads `publish+read`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        text.split('+').try_fold(Self(0), |all, word| {
            let (_, scope) = SCOPES.iter().find(|(name, _)| *name == word)?;
            Some(Self(all.0 | scope.0))
        })
    }

    /// As [`Scopes::parse`] reads them.
    pub(crate) fn words(self) -> String {
        let among = SCOPES.iter().filter(|(_, scope)| self.has(*scope));
        among.map(|(name, _)| *name).collect::<Vec<_>>().join("+")
    }
}

const SCOPES: [(&str, Scopes); 6] = [
    ("publish", Scopes::PUBLISH),
    ("read", Scopes::READ),
    ("tickets", Scopes::TICKETS),
    ("sessions", Scopes::SESSIONS),
    ("rooms", Scopes::ROOMS),
    ("nodes", Scopes::NODES),
];

impl ApiKey {
    /// Reads `NAME:HASH` or `NAME:HASH:SCOPE+SCOPE`.
    fn parse(text: &str) -> Option<Self> {
        let (name, rest) = text.trim().split_once(':')?;
        let (hash, scopes) = match rest.split_once(':') {
            Some((hash, scopes)) => (hash, Scopes::parse(scopes)?),
            None => (rest, Scopes::ALL),
        };
        let mut key = Self { name: name.to_owned(), hash: [0; 32], scopes };
        if !is_name(name) || hash.len() != 64 || !hash.is_ascii() {
            return None;
        }
        for (byte, digits) in key.hash.iter_mut().zip(hash.as_bytes().chunks(2)) {
            // `from_str_radix` would take a sign.
            if !digits.iter().all(u8::is_ascii_hexdigit) {
                return None;
            }
            *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        }
        Some(key)
    }

    /// `NAME:HASH`, as in the configuration; with the scopes unless it may do everything.
    pub(crate) fn line(&self) -> String {
        let hash: String = self.hash.iter().map(|byte| format!("{byte:02x}")).collect();
        match self.scopes {
            Scopes::ALL => format!("{}:{hash}", self.name),
            some => format!("{}:{hash}:{}", self.name, some.words()),
        }
    }
}

/// Whether a key may be called so.
pub(crate) fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

impl KeysFile {
    /// Where it is, if there is one.
    pub(crate) fn path(&self) -> Option<&Path> {
        (!self.0.as_os_str().is_empty()).then_some(&self.0)
    }

    /// Reads the file, if there is one.
    pub(super) fn load(&self) -> Result<ApiKeys, ConfigError> {
        let Some(path) = self.path() else { return Ok(ApiKeys::default()) };
        let shown = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| {
            let reason = crate::reason(&error);
            ConfigError::new(format!("api.keys_file: cannot read {shown}: {reason}"))
        })?;
        let mut keys = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            // What stands there instead may be a key: it is not repeated.
            keys.push(ApiKey::parse(line).ok_or_else(|| {
                ConfigError::new(format!("{shown}, line {number}: a line must be {EXPECTED}"))
            })?);
        }
        Ok(ApiKeys(keys))
    }
}

impl Unit for ApiKeys {
    fn read(value: &Value) -> Result<Self, Expected> {
        let items: Vec<&str> = match value {
            Value::Text(text) => text
                .split(|c: char| c.is_whitespace() || c == ',')
                .filter(|item| !item.is_empty())
                .collect(),
            Value::List(items) => items.iter().map(String::as_str).collect(),
            _ => return Err(format!("a list, each item {EXPECTED}")),
        };
        let keys: Option<Vec<ApiKey>> = items.into_iter().map(ApiKey::parse).collect();
        keys.map(Self).ok_or_else(|| format!("a list, each item {EXPECTED}"))
    }

    fn write(&self) -> String {
        let items: Vec<String> = self.0.iter().map(|key| quoted(&key.line())).collect();
        format!("[{}]", items.join(", "))
    }
}

impl Unit for KeysFile {
    fn read(value: &Value) -> Result<Self, Expected> {
        value.word().map(|path| Self(path.into())).ok_or_else(|| "the path of a file".into())
    }

    fn write(&self) -> String {
        quoted(&self.0.to_string_lossy())
    }
}

const EXPECTED: &str =
    "NAME:HASH as `throng key new` prints it: the hash of 64 hexadecimal digits, not the key";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ApiKeys, Expected> {
        ApiKeys::read(&Value::text(text))
    }

    #[test]
    fn keys_are_names_and_hashes() {
        let (a, b) = ("0a".repeat(32), "FF".repeat(32));
        let keys = read(&format!("ci:{a}, web-1:{b}")).unwrap();
        let web = ApiKey { name: "web-1".into(), hash: [255; 32], scopes: Scopes::ALL };
        assert_eq!(keys.0[1], web);
        assert_eq!(keys.find(&[10; 32]).unwrap().name, "ci");
        assert_eq!(keys.find(&[255; 32]), Some(&web));
        assert_eq!(keys.find(&[0; 32]), None);
        assert_eq!(read(&keys.write()[1..1]), Ok(ApiKeys::default()));
        assert_eq!(keys.0[0].line(), format!("ci:{a}"));
        assert!(read("").unwrap().is_empty());
        for wrong in [
            "ci",
            &a,
            &format!("ci:{}", &a[1..]),
            &format!("ci:+{}", &a[1..]),
            &format!("c i:{a}"),
            &format!(":{a}"),
            &format!("ci:é{}", &a[2..]),
            "tk_abcdefghijklmnopqrstuvwxyz234567",
            &format!("ci:{a}:"),
            &format!("ci:{a}:read+"),
            &format!("ci:{a}:Read"),
            &format!("ci:{a}:read:publish"),
            &format!("ci:{a}:all"),
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn scopes_are_what_a_key_may_do() {
        let line = format!("ci:{}:tickets+read", "0a".repeat(32));
        let keys = read(&line).unwrap();
        let scopes = keys.0[0].scopes;
        assert!(scopes.has(Scopes::READ) && scopes.has(Scopes::TICKETS));
        for other in [Scopes::PUBLISH, Scopes::SESSIONS, Scopes::ROOMS, Scopes::ALL] {
            assert!(!scopes.has(other));
        }
        assert_eq!(keys.0[0].line(), line.replace("tickets+read", "read+tickets"));
        assert_eq!(Scopes::parse(&Scopes::ALL.words()), Some(Scopes::ALL));
    }

    #[test]
    fn a_file_is_read_again_and_a_wrong_one_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        let (a, b) = ("0a".repeat(32), "0b".repeat(32));
        std::fs::write(&path, format!("file:{a}")).unwrap();
        let listed = read(&format!("listed:{}", "0c".repeat(32))).unwrap();
        let keyring = Keyring::new(listed, KeysFile(path.clone())).unwrap();
        let knows = |byte: u8| keyring.current().find(&[byte; 32]).is_some();
        assert!(knows(10) && !knows(11) && knows(12));

        std::fs::write(&path, format!("file:{b}")).unwrap();
        assert_eq!(keyring.reload(), Ok(2));
        assert!(!knows(10) && knows(11) && knows(12));
        for wrong in ["nonsense".to_owned(), format!("listed:{a}")] {
            std::fs::write(&path, wrong).unwrap();
            assert!(keyring.reload().is_err());
            assert!(!knows(10) && knows(11) && knows(12));
        }
    }

    #[test]
    fn a_file_adds_keys_and_names_its_wrong_lines() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        let hash = "0a".repeat(32);
        std::fs::write(&path, format!("# ours\n\nci:{hash} # of the build\n")).unwrap();
        let file = KeysFile(path.clone());
        let keys = file.load().unwrap();
        assert_eq!(keys.find(&[10; 32]).unwrap().name, "ci");
        let twice = keys.joined_with(keys.clone()).unwrap_err().to_string();
        assert_eq!(twice, "api.keys: two keys are called \"ci\"");

        std::fs::write(&path, "\ntk_secret\n").unwrap();
        let sentence = file.load().unwrap_err().to_string();
        assert!(sentence.contains("keys, line 2: a line must be NAME:HASH"), "{sentence}");
        assert!(!sentence.contains("tk_secret"), "{sentence}");
        let missing = KeysFile(directory.path().join("none")).load().unwrap_err().to_string();
        assert!(missing.starts_with("api.keys_file: cannot read "), "{missing}");
        assert!(KeysFile("".into()).load().unwrap().is_empty());
    }
}
