//! The grammar of the header fields of the handshake: lists of tokens, and extensions with
//! parameters (RFC 6455 §9.1, RFC 9110 §5.6).
//!
//! Nothing here allocates: the parsers hand out slices of the header's value.

use http::header::{HeaderMap, HeaderName, HeaderValue};

/// A header field that does not follow its grammar, or is longer than [`MAX_LIST`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// A header field that may occur once and occurs more often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Repeated;

/// The value of a field that must not occur more than once.
pub(crate) fn single<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a HeaderValue>, Repeated> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (first, None) => Ok(first),
        _ => Err(Repeated),
    }
}

/// Whether one of the lists under `name`, over all its lines, has `token` in any letter case.
///
/// Elements that are no tokens do not match and do no harm: `Connection` and `Upgrade` belong
/// to every hop of HTTP.
pub(crate) fn lists_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers.get_all(name).iter().any(|value| {
        value.as_bytes().split(|&b| b == b',').any(|element| is(element, token.as_bytes()))
    })
}

/// Whether `value`, without the blanks around it, is `token` in any letter case.
pub(crate) fn is(value: &[u8], token: &[u8]) -> bool {
    trim(value).eq_ignore_ascii_case(token)
}

/// `value` without the blanks and tabs around it.
pub(crate) fn trim(value: &[u8]) -> &[u8] {
    let mut lexer = Lexer { rest: value };
    lexer.skip_blanks();
    let mut rest = lexer.rest;
    while let [head @ .., b' ' | b'\t'] = rest {
        rest = head;
    }
    rest
}

/// Whether the lines under `name` are too long in sum to be looked at.
pub(crate) fn too_long(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers.get_all(name).iter().map(HeaderValue::len).sum::<usize>() > MAX_LIST
}

/// Whether `text` is a token of RFC 9110 §5.6.2.
pub(crate) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|&b| is_token_byte(b))
}

/// The tokens of a `1#token` list in one line of a header, in order.
///
/// Empty elements are passed over (RFC 9110 §5.6.1.2); a list without any token ends at once.
pub(crate) struct Tokens<'a> {
    lexer: Lexer<'a>,
}

impl<'a> Tokens<'a> {
    pub(crate) fn new(value: &'a HeaderValue) -> Self {
        Self { lexer: Lexer { rest: value.as_bytes() } }
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Result<&'a str, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        self.lexer.skip_to_element()?;
        Some(self.lexer.token().and_then(|token| self.lexer.end_element().map(|()| token)))
    }
}

/// The extensions of one line of `Sec-WebSocket-Extensions`, in order.
pub(crate) struct Extensions<'a> {
    lexer: Lexer<'a>,
}

impl<'a> Extensions<'a> {
    pub(crate) fn new(value: &'a HeaderValue) -> Self {
        Self { lexer: Lexer { rest: value.as_bytes() } }
    }
}

impl<'a> Iterator for Extensions<'a> {
    type Item = Result<Extension<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        self.lexer.skip_to_element()?;
        Some(self.lexer.extension())
    }
}

/// One extension: its name and parameters, all of them known to follow the grammar.
pub(crate) struct Extension<'a> {
    pub(crate) name: &'a str,
    pub(crate) params: Params<'a>,
}

/// The parameters of an extension, in order.
pub(crate) struct Params<'a> {
    lexer: Lexer<'a>,
}

impl<'a> Iterator for Params<'a> {
    type Item = Param<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        // The text was parsed once before; an error would only end the list.
        self.lexer.param().ok().flatten()
    }
}

/// One parameter of an extension.
#[derive(Clone, Copy)]
pub(crate) struct Param<'a> {
    pub(crate) name: &'a str,
    pub(crate) value: Option<Value<'a>>,
}

/// The value of a parameter, as a token or between quotes.
#[derive(Clone, Copy)]
pub(crate) struct Value<'a> {
    /// What stands between the quotes, backslashes included, or the token.
    raw: &'a [u8],
}

impl Value<'_> {
    /// The value as a decimal number without sign or leading zeros, if it is one below 100.
    pub(crate) fn small_number(self) -> Option<u8> {
        let mut digits = self.bytes().map(|b| b.is_ascii_digit().then(|| b - b'0'));
        match (digits.next(), digits.next(), digits.next()) {
            (Some(Some(ones)), None, None) => Some(ones),
            (Some(Some(tens @ 1..)), Some(Some(ones)), None) => Some(tens * 10 + ones),
            _ => None,
        }
    }

    /// The bytes without the backslashes that quote them. A token has no backslash in it.
    fn bytes(self) -> impl Iterator<Item = u8> {
        let mut raw = self.raw.iter().copied();
        std::iter::from_fn(move || match raw.next() {
            Some(b'\\') => raw.next(),
            other => other,
        })
    }
}

/// A cursor over the value of a header field.
#[derive(Clone, Copy)]
struct Lexer<'a> {
    rest: &'a [u8],
}

impl<'a> Lexer<'a> {
    fn skip_blanks(&mut self) {
        while let [b' ' | b'\t', tail @ ..] = self.rest {
            self.rest = tail;
        }
    }

    /// Goes to the next element of a list; `None` at its end.
    fn skip_to_element(&mut self) -> Option<()> {
        while let [b' ' | b'\t' | b',', tail @ ..] = self.rest {
            self.rest = tail;
        }
        (!self.rest.is_empty()).then_some(())
    }

    /// Only blanks may follow up to the next comma or the end.
    fn end_element(&mut self) -> Result<(), Malformed> {
        self.skip_blanks();
        match self.rest.first() {
            None | Some(b',') => Ok(()),
            Some(_) => {
                self.rest = &[];
                Err(Malformed)
            }
        }
    }

    fn token(&mut self) -> Result<&'a str, Malformed> {
        let len = self.rest.iter().take_while(|&&b| is_token_byte(b)).count();
        let (token, rest) = self.rest.split_at(len);
        match std::str::from_utf8(token) {
            Ok(token) if len > 0 => {
                self.rest = rest;
                Ok(token)
            }
            _ => {
                self.rest = &[];
                Err(Malformed)
            }
        }
    }

    fn extension(&mut self) -> Result<Extension<'a>, Malformed> {
        let name = self.token()?;
        let mut params = *self;
        while self.param()?.is_some() {}
        self.end_element()?;
        params.rest = &params.rest[..params.rest.len() - self.rest.len()];
        Ok(Extension { name, params: Params { lexer: params } })
    }

    /// `; name` or `; name = value`; `None` where no semicolon follows.
    fn param(&mut self) -> Result<Option<Param<'a>>, Malformed> {
        self.skip_blanks();
        let Some(b';') = self.rest.first() else { return Ok(None) };
        self.rest = &self.rest[1..];
        self.skip_blanks();
        let name = self.token()?;
        self.skip_blanks();
        let Some(b'=') = self.rest.first() else { return Ok(Some(Param { name, value: None })) };
        self.rest = &self.rest[1..];
        self.skip_blanks();
        let value = match self.rest.first() {
            Some(b'"') => self.quoted()?,
            _ => Value { raw: self.token()?.as_bytes() },
        };
        Ok(Some(Param { name, value: Some(value) }))
    }

    /// A quoted string; what it says must be a token as well (RFC 6455 §9.1).
    fn quoted(&mut self) -> Result<Value<'a>, Malformed> {
        let text = &self.rest[1..];
        self.rest = &[];
        let mut at = 0;
        loop {
            match text.get(at) {
                Some(b'"') => break,
                Some(b'\\') => at += 2,
                Some(_) => at += 1,
                None => return Err(Malformed),
            }
        }
        let value = Value { raw: &text[..at] };
        if at == 0 || !value.bytes().all(is_token_byte) {
            return Err(Malformed);
        }
        self.rest = &text[at + 1..];
        Ok(value)
    }
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The longest list worth reading, in bytes over all its lines. Browsers send some 50 bytes.
pub(crate) const MAX_LIST: usize = 4096;

#[cfg(test)]
mod tests {
    use http::header::{CONNECTION, SEC_WEBSOCKET_KEY};
    use proptest::prelude::*;

    use super::*;

    fn value(text: &str) -> HeaderValue {
        HeaderValue::from_bytes(text.as_bytes()).unwrap()
    }

    fn tokens(text: &str) -> Result<Vec<String>, Malformed> {
        Tokens::new(&value(text)).map(|token| token.map(str::to_owned)).collect()
    }

    /// The extensions written out in one fixed form.
    fn extensions(text: &str) -> Result<Vec<String>, Malformed> {
        Extensions::new(&value(text))
            .map(|extension| {
                let Extension { name, params } = extension?;
                Ok(params.fold(name.to_owned(), |mut out, param| {
                    out = out + ";" + param.name;
                    if let Some(value) = param.value {
                        out.push('=');
                        out.extend(value.bytes().map(char::from));
                    }
                    out
                }))
            })
            .collect()
    }

    #[test]
    fn tokens_are_found_over_several_lines_in_any_case() {
        let mut headers = HeaderMap::new();
        headers.append(CONNECTION, value("keep-alive, \tfoo bar"));
        assert!(!lists_token(&headers, &CONNECTION, "upgrade"));
        headers.append(CONNECTION, value(" ,,close , uPGRADE\t"));
        assert!(lists_token(&headers, &CONNECTION, "upgrade"));
        assert!(!lists_token(&headers, &CONNECTION, "upgrad"));
        assert!(!lists_token(&headers, &CONNECTION, "bar"));
    }

    #[test]
    fn a_single_field_is_not_repeated() {
        let mut headers = HeaderMap::new();
        assert_eq!(single(&headers, &SEC_WEBSOCKET_KEY), Ok(None));
        headers.append(SEC_WEBSOCKET_KEY, value("a"));
        assert_eq!(single(&headers, &SEC_WEBSOCKET_KEY), Ok(Some(&value("a"))));
        headers.append(SEC_WEBSOCKET_KEY, value("a"));
        assert_eq!(single(&headers, &SEC_WEBSOCKET_KEY), Err(Repeated));
    }

    #[test]
    fn token_lists() {
        assert_eq!(tokens("a, b\t ,c").unwrap(), ["a", "b", "c"]);
        assert_eq!(tokens(",a,, b,").unwrap(), ["a", "b"]);
        assert_eq!(tokens("").unwrap(), [""; 0]);
        for bad in ["a b", "a;b", "\"a\"", "a,b c,d", "ä", "a,(b)"] {
            assert_eq!(tokens(bad), Err(Malformed), "{bad}");
        }
    }

    #[test]
    fn extension_lists() {
        assert_eq!(
            extensions("a, permessage-deflate ; x; y = 1 ;z=\"1\\5\" ,b;c=d").unwrap(),
            ["a", "permessage-deflate;x;y=1;z=15", "b;c=d"]
        );
        for bad in [
            "a;",
            "a;;b",
            "a;b=",
            "a;b=\"",
            "a;b=\"\"",
            "a;b=\"c d\"",
            "a;b=\"c\\\"",
            "a;b=\"c\"d",
            "a b",
            "a;b c",
            ";b",
            "=",
            "a=b",
            "a;=b",
            "a;b==c",
            "a;b=\"c\\\u{7f}\"",
        ] {
            let Ok(value) = HeaderValue::from_bytes(bad.as_bytes()) else { continue };
            assert!(Extensions::new(&value).any(|e| e.is_err()), "{bad}");
        }
    }

    #[test]
    fn small_numbers() {
        let number = |text: &'static str| Value { raw: text.as_bytes() }.small_number();
        assert_eq!(number("0"), Some(0));
        assert_eq!(number("8"), Some(8));
        assert_eq!(number("15"), Some(15));
        assert_eq!(number("\\1\\5"), Some(15));
        for bad in ["", "08", "+8", "-8", "100", "8.", "1e1", "0x8", "٨"] {
            assert_eq!(number(bad), None, "{bad}");
        }
    }

    fn params() -> impl Strategy<Value = Vec<(String, Option<String>)>> {
        prop::collection::vec(("[a-z_]{1,8}", prop::option::of("[a-z0-9]{1,4}")), 0..4)
    }

    proptest! {
        #[test]
        fn any_value_ends(bytes in prop::collection::vec(prop_oneof![
            prop::sample::select(b"ab1;,=\"\\ \t".to_vec()), 0x20..=0xffu8], 0..60))
        {
            let Ok(value) = HeaderValue::from_bytes(&bytes) else { return Ok(()) };
            prop_assert!(Tokens::new(&value).count() <= bytes.len());
            let parsed: Vec<_> = Extensions::new(&value).collect();
            prop_assert!(parsed.len() <= bytes.len());
            // After the first error there is nothing more.
            prop_assert!(parsed.iter().rev().skip(1).all(Result::is_ok));
        }

        #[test]
        fn what_follows_the_grammar_is_read(
            list in prop::collection::vec(("[a-z-]{1,8}", params()), 1..4),
            quoted in any::<bool>(),
        ) {
            let mut text = Vec::new();
            let mut plain = Vec::new();
            for (name, params) in list {
                let (mut wire, mut want) = (name.clone(), name);
                for (param, value) in params {
                    wire += &format!(" ;{param}");
                    want += &format!(";{param}");
                    if let Some(value) = value {
                        wire += &if quoted { format!("=\"{value}\"") } else { format!("={value}") };
                        want += &format!("={value}");
                    }
                }
                text.push(wire);
                plain.push(want);
            }
            prop_assert_eq!(extensions(&text.join(" , ")).unwrap(), plain);
        }
    }
}
