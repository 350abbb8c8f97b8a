//! The query of a request.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use http::Uri;
use throng::Code;

use super::answer::Problem;

/// Names and values, decoded as forms are. What nobody asks for is ignored.
pub(super) struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    /// Of this request. Linear in its length, which the head of a request limits.
    pub(super) fn of(uri: &'a Uri) -> Self {
        let query = uri.query().unwrap_or_default();
        Self(form_urlencoded::parse(query.as_bytes()).collect())
    }

    /// The first value of a name; an empty one is none.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.all(name).next().filter(|value| !value.is_empty()).map(str::to_owned)
    }

    /// All values of a name.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| &**value)
    }

    /// A number, or `bad_message` when it is none or outside of the range.
    pub(super) fn number(
        &self,
        name: &str,
        range: RangeInclusive<u64>,
    ) -> Result<Option<u64>, Problem> {
        let Some(text) = self.all(name).next() else { return Ok(None) };
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|number| digits && range.contains(number));
        number.map(Some).ok_or_else(|| {
            let (from, to) = (range.start(), range.end());
            Problem::new(
                Code::BadMessage,
                format!("`{name}` must be a number from {from} to {to}."),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_and_numbers_checked() {
        let uri: Uri =
            "/x?room=a%2Fb&room=c+d&n=007&m=-1&e=&z=99999999999999999999&p=%2B1".parse().unwrap();
        let query = Query::of(&uri);
        assert_eq!(query.all("room").collect::<Vec<_>>(), ["a/b", "c d"]);
        assert_eq!((query.text("room"), query.text("e")), (Some("a/b".into()), None));
        assert_eq!(query.number("n", 0..=10), Ok(Some(7)));
        assert_eq!(query.number("none", 0..=10), Ok(None));
        for name in ["m", "e", "z", "p"] {
            assert!(query.number(name, 0..=u64::MAX).is_err(), "{name}");
        }
        assert!(query.number("n", 8..=10).is_err());
    }
}
