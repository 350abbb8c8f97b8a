//! Words about who is trusted and how: algorithms of signatures, addresses of services, versions of TLS.

use super::units::{Expected, Size, Unit, Value, quoted};

/// An algorithm by which a JWT may be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    /// HMAC with SHA-256: who can check can also sign.
    Hs256,
    /// RSA with SHA-256.
    Rs256,
    /// ECDSA on P-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

/// Those that are accepted; none: no JWT is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Algorithms(Vec<Algorithm>);

/// The `http` or `https` URL of a service, or an empty one for none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServiceUrl(String);

/// Any text in one line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line(pub(crate) String);

/// Whether clients show certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientAuth {
    /// They are not asked.
    Off,
    /// They may.
    Optional,
    /// They must.
    Required,
}

/// The oldest version of TLS that is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    V1_2,
    /// TLS 1.3 (RFC 8446).
    V1_3,
}

/// How much memory: a size, or found out from the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Amount {
    /// As the machine, or the other limits, allow.
    Auto,
    /// This much.
    Fixed(Size),
}

impl Algorithm {
    const ALL: [Self; 4] = [Self::Hs256, Self::Rs256, Self::Es256, Self::EdDsa];

    /// As in the header of a token.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }
}

impl Algorithms {
    /// Each of them.
    pub(crate) fn as_slice(&self) -> &[Algorithm] {
        &self.0
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether some need a public key.
    pub(crate) fn has_asymmetric(&self) -> bool {
        self.0.iter().any(|algorithm| *algorithm != Algorithm::Hs256)
    }
}

impl ServiceUrl {
    /// The URL, if there is one.
    pub(crate) fn url(&self) -> Option<&str> {
        (!self.is_empty()).then_some(&self.0)
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether what is sent there can be read and changed on the way.
    pub(crate) fn is_plain(&self) -> bool {
        self.0.starts_with("http://")
    }
}

impl Unit for Algorithms {
    fn read(value: &Value) -> Result<Self, Expected> {
        let expected = || "a list of HS256, RS256, ES256, EdDSA".to_owned();
        let items: Vec<&str> = match value {
            Value::Text(text) => text
                .split(|c: char| c.is_whitespace() || c == ',')
                .filter(|item| !item.is_empty())
                .collect(),
            Value::List(items) => items.iter().map(|item| item.trim()).collect(),
            _ => return Err(expected()),
        };
        let mut read = Vec::with_capacity(items.len());
        for item in items {
            let known = Algorithm::ALL.into_iter().find(|known| known.name() == item);
            let algorithm = known.ok_or_else(expected)?;
            if !read.contains(&algorithm) {
                read.push(algorithm);
            }
        }
        Ok(Self(read))
    }

    fn write(&self) -> String {
        let names: Vec<String> = self.0.iter().map(|algorithm| quoted(algorithm.name())).collect();
        format!("[{}]", names.join(", "))
    }
}

impl Unit for ServiceUrl {
    fn read(value: &Value) -> Result<Self, Expected> {
        let expected = || {
            "a URL such as https://auth.example.org/check, without name and password in it"
                .to_owned()
        };
        let text = value.word().ok_or_else(expected)?;
        if text.is_empty() {
            return Ok(Self::default());
        }
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let rest = rest.ok_or_else(expected)?;
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let valid = text.bytes().all(|byte| byte.is_ascii_graphic())
            && !authority.is_empty()
            && !authority.contains(['@', '\\'])
            && !text.contains('#');
        if valid { Ok(Self(text.to_owned())) } else { Err(expected()) }
    }

    fn write(&self) -> String {
        quoted(&self.0)
    }
}

impl Unit for Line {
    fn read(value: &Value) -> Result<Self, Expected> {
        let fits = |text: &&str| text.len() <= 1024 && !text.contains(char::is_control);
        value
            .word()
            .filter(fits)
            .map(|text| Self(text.to_owned()))
            .ok_or_else(|| "one line of text".into())
    }

    fn write(&self) -> String {
        quoted(&self.0)
    }
}

impl Unit for ClientAuth {
    fn read(value: &Value) -> Result<Self, Expected> {
        match value.word().map(str::to_ascii_lowercase).as_deref() {
            Some("off") => Ok(Self::Off),
            Some("optional") => Ok(Self::Optional),
            Some("required") => Ok(Self::Required),
            _ => Err("\"off\", \"optional\" or \"required\"".into()),
        }
    }

    fn write(&self) -> String {
        quoted(match self {
            Self::Off => "off",
            Self::Optional => "optional",
            Self::Required => "required",
        })
    }
}

impl Unit for TlsVersion {
    fn read(value: &Value) -> Result<Self, Expected> {
        match value.word() {
            Some("1.2") => Ok(Self::V1_2),
            Some("1.3") => Ok(Self::V1_3),
            _ => Err("\"1.2\" or \"1.3\"".into()),
        }
    }

    fn write(&self) -> String {
        quoted(match self {
            Self::V1_2 => "1.2",
            Self::V1_3 => "1.3",
        })
    }
}

impl Unit for Amount {
    fn read(value: &Value) -> Result<Self, Expected> {
        match value.word() {
            Some(word) if word.eq_ignore_ascii_case("auto") => Ok(Self::Auto),
            _ => Size::read(value).map(Self::Fixed),
        }
    }

    fn write(&self) -> String {
        match self {
            Self::Auto => "\"auto\"".into(),
            Self::Fixed(size) => size.write(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: Unit>(text: &str) -> Result<T, Expected> {
        T::read(&Value::text(text))
    }

    #[test]
    fn algorithms_are_named_exactly() {
        let algorithms = read::<Algorithms>("HS256, EdDSA HS256").unwrap();
        assert_eq!(algorithms.write(), r#"["HS256", "EdDSA"]"#);
        assert!(algorithms.has_asymmetric());
        for wrong in ["none", "hs256", "HS512", "RS256;ES256"] {
            assert!(read::<Algorithms>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn urls_have_no_secrets_in_them() {
        let url = read::<ServiceUrl>("https://auth.example/check?x=1").unwrap();
        assert_eq!((url.url(), url.is_plain()), (Some("https://auth.example/check?x=1"), false));
        assert!(read::<ServiceUrl>("http://127.0.0.1:80").unwrap().is_plain());
        assert!(read::<ServiceUrl>("").unwrap().is_empty());
        for wrong in [
            "auth.example",
            "ftp://a",
            "https://",
            "https://a:b@c/",
            "https://a/#b",
            "https://a b",
            "https://a\\@b",
        ] {
            assert!(read::<ServiceUrl>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn words_come_back_the_same() {
        for word in ["off", "optional", "required"] {
            assert_eq!(read::<ClientAuth>(word).unwrap().write(), quoted(word));
        }
        for word in ["1.2", "1.3"] {
            assert_eq!(read::<TlsVersion>(word).unwrap().write(), quoted(word));
        }
        for word in ["auto", "64MiB"] {
            assert_eq!(read::<Amount>(word).unwrap().write(), quoted(word));
        }
        assert!(read::<TlsVersion>("1.1").is_err() && read::<Line>("a\nb").is_err());
    }
}
