use std::borrow::Cow;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::{Code, Fault};
use crate::json;

/// The fields of an object inside of a command: names, and values as the JSON text they are.
#[derive(Debug)]
pub(crate) struct Members<'a> {
    list: Vec<(Cow<'a, str>, &'a str)>,
}

/// What an object must be, and what to tell a client whose object is not.
pub(crate) struct Shape {
    /// The most fields.
    pub(crate) limit: usize,
    pub(crate) not_an_object: &'static str,
    pub(crate) too_many: &'static str,
    pub(crate) twice: &'static str,
}

impl<'a> Members<'a> {
    /// Reads an object. `raw` must be well-formed, not nested too deeply, and free of lone
    /// surrogates.
    ///
    /// Errors: `bad_message` when it is not an object, or has too many fields or two of one
    /// name. Cost: two allocations, no more memory than the allowed number of fields takes.
    pub(crate) fn read(raw: &'a str, shape: &Shape) -> Result<Self, Fault> {
        let fault = |text| Err(Fault::new(Code::BadMessage).with_message(text));
        if !raw.starts_with('{') {
            return fault(shape.not_an_object);
        }
        let mut members = Self { list: Vec::new() };
        let filler = Filler { members: &mut members, limit: shape.limit };
        // From bytes, not from text: were the reader of the whole message used here, too, it would
        // no longer be inlined there, where every message passes.
        if serde_json::Deserializer::from_slice(raw.as_bytes()).deserialize_map(filler).is_err() {
            return fault(shape.too_many);
        }
        if members.has_twins() { fault(shape.twice) } else { Ok(members) }
    }

    /// The JSON text of one field.
    pub(crate) fn get(&self, name: &str) -> Option<&'a str> {
        self.list.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }

    fn has_twins(&self) -> bool {
        // Sorted, because comparing each with each would cost the square of their number.
        let mut names: Vec<_> = self.list.iter().map(|(name, _)| &**name).collect();
        names.sort_unstable();
        names.windows(2).any(|pair| pair[0] == pair[1])
    }
}

impl<'a> IntoIterator for Members<'a> {
    type Item = (Cow<'a, str>, &'a str);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.into_iter()
    }
}

struct Filler<'m, 'a> {
    members: &'m mut Members<'a>,
    limit: usize,
}

impl<'de> Visitor<'de> for Filler<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<&'de RawValue>()? {
            if self.members.list.len() == self.limit {
                return Err(A::Error::custom("too many fields"));
            }
            let name = json::decode_string(key.get())
                .ok_or_else(|| A::Error::custom("a name is not text"))?;
            self.members.list.push((name, map.next_value::<&'de RawValue>()?.get()));
        }
        Ok(())
    }
}
