use std::time::{Duration, Instant};

use redis::Value;
use throng_hub::{Ban, Timestamp};

use super::super::ledger::{Counts, Edit};
use super::super::lists::Lists;
use super::text::{list, number, pairs, text, unhex};

/// What is kept in memory of what all nodes share, and how it stays the same.
///
/// Each change of the lists gives them another version, a random text, and is told with the version before. Who has
/// that one applies the change; who has another one has missed something and reads all anew.
#[derive(Default)]
pub(super) struct Held {
    pub(super) lists: Lists,
    /// Of the lists; nothing before they were read for the first time.
    version: Option<String>,
    /// The version of what is gone.
    gone: Option<String>,
    /// They are being read.
    loading: bool,
    /// Something was missed.
    stale: bool,
    /// The version there was when they were asked for.
    asked: Option<String>,
    /// When what is in Redis was made: another text after all of it was lost.
    made: Option<String>,
    /// What was signed with before the shared secrets were known, or before they were lost, and since when they are only
    /// known here. Those of the lists have these at the end.
    own: Vec<([u8; 32], Instant)>,
}

/// What follows from a message or an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Next {
    /// The owner of the vault is to be told.
    pub(super) tell: bool,
    /// They are to be read anew.
    pub(super) load: bool,
}

/// The versions before and behind a change.
pub(super) type Step = (String, String);

impl Held {
    pub(super) fn is_loaded(&self) -> bool {
        self.version.is_some()
    }

    pub(super) fn is_stale(&self) -> bool {
        self.stale || self.version.is_none()
    }

    /// Signs with this secret until the shared ones are known.
    pub(super) fn make_do(&mut self, secret: [u8; 32], now: Instant) {
        if self.version.is_none() {
            self.own = vec![(secret, now)];
            self.lists.secrets = vec![secret];
        }
    }

    /// The lists are to be read: the version that is known, and the secret to go on with should there be none. Nothing
    /// if that is being done.
    pub(super) fn begin_load(&mut self) -> Option<(String, Option<[u8; 32]>)> {
        if self.loading {
            return None;
        }
        (self.loading, self.stale) = (true, false);
        self.asked = self.version.clone();
        Some((self.version.clone().unwrap_or_default(), self.lists.secrets.first().copied()))
    }

    /// Something has changed, and is to be read.
    pub(super) fn doubt(&mut self) {
        self.stale = true;
    }

    pub(super) fn fail_load(&mut self) {
        (self.loading, self.stale) = (false, true);
    }

    /// They were read. Nothing if the answer makes no sense.
    pub(super) fn end_load(&mut self, told: Value, now: Instant) -> Option<(Next, Counts)> {
        self.loading = false;
        let mut told = list(told)?.into_iter();
        let (version, gone) = (text(told.next()?)?, text(told.next()?)?);
        let mut count = || i64::try_from(number(&told.next()?)?).ok();
        let counts = Counts { tickets: count()?, sessions: count()?, users: count()? };
        let lists = match told.next() {
            Some(members) => {
                let lists = read(members, told.next()?, told.next()?)?;
                Some((lists, text(told.next()?)?))
            }
            None => None,
        };
        let before = self.gone.replace(gone.clone());
        let mut tell = before.is_some_and(|before| before != gone);
        if self.version.as_ref() != Some(&version) {
            if self.version != self.asked {
                // Changed meanwhile: what was read may be older than that.
                self.stale = true;
            } else if let Some((lists, made)) = lists {
                tell |= !self.lists.secrets.is_empty();
                if self.made.replace(made.clone()).is_some_and(|before| before != made) {
                    // All was lost; whoever is connected need not be.
                    self.own.extend(self.lists.secrets.iter().map(|secret| (*secret, now)));
                }
                self.lists = lists;
                self.add_own();
                self.version = Some(version);
            } else {
                self.stale = true;
            }
        }
        tell |= self.forget_own(now);
        Some((Next { tell, load: self.stale }, counts))
    }

    fn add_own(&mut self) {
        let secrets = &mut self.lists.secrets;
        self.own.retain(|(secret, _)| !secrets.contains(secret));
        self.own.sort_unstable();
        self.own.dedup_by_key(|(secret, _)| *secret);
        secrets.extend(self.own.iter().map(|(secret, _)| secret));
    }

    /// Tokens are good for a day. Whether any was forgotten.
    fn forget_own(&mut self, now: Instant) -> bool {
        let Self { own, lists, .. } = self;
        let is_over = |since: &Instant| now.saturating_duration_since(*since) >= DAY;
        let over: Vec<_> =
            own.extract_if(.., |(_, since)| is_over(since)).map(|(secret, _)| secret).collect();
        lists.secrets.retain(|secret| !over.contains(secret));
        !over.is_empty()
    }

    /// Something that this vault did is done. Without a step nothing has changed.
    pub(super) fn edited(&mut self, edit: Edit, step: Option<Step>) -> Next {
        let next = step.map_or_else(Next::default, |step| self.advance(step));
        let is_secret = matches!(edit, Edit::Secrets(_));
        // Also out of step: it has to be seen as soon as it is answered.
        self.lists.apply(edit);
        if is_secret {
            self.add_own();
        }
        next
    }

    /// This vault has revoked something.
    pub(super) fn revoked(&mut self, (before, after): Step) {
        if self.gone.as_ref() == Some(&before) {
            self.gone = Some(after);
        }
    }

    /// A message: what somebody else did. `me`: as whom this vault speaks.
    pub(super) fn hear(&mut self, message: &[u8], me: &str) -> Next {
        let Ok(said) = serde_json::from_slice::<Vec<String>>(message) else {
            return Next { tell: false, load: true };
        };
        match said.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            [origin, ..] if origin == me => Next::default(),
            [_, "gone", _, after] => {
                self.gone = Some(after.to_owned());
                Next { tell: true, load: false }
            }
            [_, "lists", before, after, which, place, value] => {
                let (Some(edit), true) =
                    (read_edit(which, place, value), self.version.as_deref() == Some(before))
                else {
                    return self.miss(after);
                };
                self.version = Some(after.to_owned());
                self.lists.apply(edit);
                Next { tell: true, load: false }
            }
            [_, "lists", _, after] => self.miss(after),
            _ => Next { tell: false, load: true },
        }
    }

    fn advance(&mut self, (before, after): Step) -> Next {
        if self.version.as_ref() == Some(&before) {
            self.version = Some(after);
            return Next::default();
        }
        self.miss(&after)
    }

    fn miss(&mut self, after: &str) -> Next {
        let missed = self.version.as_deref() != Some(after);
        self.stale |= missed;
        Next { tell: false, load: missed }
    }
}

/// Room and user, as they stand in Redis.
pub(super) fn place(room: &str, user: &str) -> String {
    serde_json::json!([room, user]).to_string()
}

/// A ban besides whom it is for.
pub(super) fn terms(ban: &Ban) -> String {
    serde_json::json!({ "until": ban.until.map(|until| until.0), "reason": ban.reason }).to_string()
}

fn read_place(place: &str) -> Option<(String, String)> {
    serde_json::from_str(place).ok()
}

fn read_ban(place: &str, terms: &str) -> Option<Ban> {
    let (room, user) = read_place(place)?;
    let terms: serde_json::Value = serde_json::from_str(terms).ok()?;
    let until = terms.get("until")?.as_u64().map(Timestamp);
    Some(Ban { room, user, until, reason: terms.get("reason")?.as_str()?.to_owned() })
}

fn read_edit(which: &str, place: &str, value: &str) -> Option<Edit> {
    let value = value.strip_prefix('=');
    Some(match (which, value) {
        ("members", rights) => Edit::Member(read_place(place)?, rights.map(str::to_owned)),
        ("bans", Some(terms)) => Edit::Ban(read_ban(place, terms)?),
        ("bans", None) => Edit::Lifted(read_place(place)?),
        _ => return None,
    })
}

/// The newest first.
pub(super) fn read_secrets(secrets: Value) -> Option<Vec<[u8; 32]>> {
    list(secrets)?.into_iter().map(|secret| unhex(&text(secret)?)).collect()
}

fn read(members: Value, bans: Value, secrets: Value) -> Option<Lists> {
    let mut lists = Lists::default();
    lists.apply(Edit::Secrets(read_secrets(secrets)?));
    for (place, rights) in pairs(members)? {
        lists.apply(Edit::Member(read_place(&place)?, Some(rights)));
    }
    for (place, terms) in pairs(bans)? {
        lists.apply(Edit::Ban(read_ban(&place, &terms)?));
    }
    Some(lists)
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn texts(texts: &[&str]) -> Value {
        Value::Array(texts.iter().map(|text| bulk(text)).collect())
    }

    /// What the script says: versions, and members of the room `a` if they are to be told.
    fn told(lists: &str, gone: &str, members: Option<&[&str]>) -> Value {
        let mut told = vec![bulk(lists), bulk(gone), Value::Int(1), Value::Int(2), Value::Int(3)];
        if let Some(members) = members {
            let pairs: Vec<_> =
                members.iter().flat_map(|user| [place("a", user), "join".into()]).collect();
            told.push(texts(&pairs.iter().map(String::as_str).collect::<Vec<_>>()));
            told.push(texts(&[]));
            told.push(texts(&[&"5a".repeat(32), &format!("{} 17", "a5".repeat(32))]));
            told.push(bulk("made"));
        }
        Value::Array(told)
    }

    fn member(user: &str, before: &str, after: &str) -> Vec<u8> {
        let place = place("a", user);
        serde_json::to_vec(&["other", "lists", before, after, "members", &place, "=join"]).unwrap()
    }

    fn users(held: &Held) -> Vec<String> {
        held.lists.members().into_iter().map(|member| member.user).collect()
    }

    fn load(held: &mut Held, said: Value) -> Next {
        held.begin_load().expect("none is under way");
        held.end_load(said, Instant::now()).expect("it makes sense").0
    }

    /// As it is behind the first answer.
    fn held() -> Held {
        let mut held = Held::default();
        assert!(!held.is_loaded());
        let next = load(&mut held, told("v1", "g1", Some(&["ada"])));
        assert_eq!(next, Next::default(), "nobody has to be told of what there was before");
        assert!(held.is_loaded() && !held.is_stale());
        assert_eq!(held.lists.secrets, [[0x5a; 32], [0xa5; 32]]);
        held
    }

    const TOLD: Next = Next { tell: true, load: false };
    const LOAD: Next = Next { tell: false, load: true };

    #[test]
    fn one_change_behind_the_other() {
        let mut held = held();
        assert_eq!(held.hear(&member("bob", "v1", "v2"), "me"), TOLD);
        let edit = Edit::Member(("a".into(), "cy".into()), Some("join".into()));
        let step = Some(("v2".to_owned(), "v3".to_owned()));
        assert_eq!(held.edited(edit, step), Next::default(), "its own is not told");
        let own = serde_json::to_vec(&["me", "lists", "v2", "v3"]).unwrap();
        assert_eq!(held.hear(&own, "me"), Next::default());
        assert_eq!(held.hear(&member("dan", "v3", "v4"), "me"), TOLD);
        assert_eq!(users(&held), ["ada", "bob", "cy", "dan"]);
        assert!(!held.is_stale());
    }

    #[test]
    fn a_change_that_was_missed() {
        let mut held = held();
        assert_eq!(held.hear(&member("cy", "v2", "v3"), "me"), LOAD);
        assert!(held.is_stale());
        assert_eq!(users(&held), ["ada"], "not beyond a hole");
        assert_eq!(load(&mut held, told("v3", "g1", Some(&["ada", "bob", "cy"]))), TOLD);
        assert_eq!(users(&held), ["ada", "bob", "cy"]);
        // Its own is seen at once all the same.
        let edit = Edit::Member(("a".into(), "eve".into()), Some("join".into()));
        assert_eq!(held.edited(edit, Some(("v4".into(), "v5".into()))), LOAD);
        assert_eq!(users(&held), ["ada", "bob", "cy", "eve"]);
        assert_eq!(held.hear(b"what is this", "me"), LOAD);
    }

    #[test]
    fn a_change_while_all_is_read() {
        let mut held = held();
        assert_eq!(held.begin_load(), Some(("v1".to_owned(), Some([0x5a; 32]))));
        assert_eq!(held.begin_load(), None, "one at a time");
        // The answer is older than the message, and the message older than the answer.
        assert_eq!(held.hear(&member("bob", "v1", "v2"), "me"), TOLD);
        let (next, _) = held.end_load(told("v1", "g1", None), Instant::now()).unwrap();
        assert_eq!(next, LOAD, "to be sure");
        assert_eq!(users(&held), ["ada", "bob"]);
        assert_eq!(load(&mut held, told("v2", "g1", None)), Next::default());
        assert!(!held.is_stale());
        held.begin_load().unwrap();
        held.hear(&member("cy", "v2", "v3"), "me");
        let (next, _) = held.end_load(told("v4", "g1", Some(&["dan"])), Instant::now()).unwrap();
        assert_eq!((next, users(&held).len()), (LOAD, 3));
        assert_eq!(load(&mut held, told("v4", "g1", Some(&["dan"]))), TOLD);
        assert_eq!(users(&held), ["dan"]);
    }

    #[test]
    fn revocations_that_were_missed() {
        let mut held = held();
        let gone = serde_json::to_vec(&["other", "gone", "g1", "g2"]).unwrap();
        assert_eq!(held.hear(&gone, "me"), TOLD);
        assert_eq!(load(&mut held, told("v1", "g2", None)), Next::default());
        held.revoked(("g2".into(), "g3".into()));
        assert_eq!(load(&mut held, told("v1", "g3", None)), Next::default(), "its own");
        assert_eq!(load(&mut held, told("v1", "g4", None)), TOLD);
        // Out of step: rather once too often.
        held.revoked(("g5".into(), "g6".into()));
        assert_eq!(load(&mut held, told("v1", "g6", None)), TOLD);
    }

    #[test]
    fn secrets_before_the_shared_ones_are_known() {
        let mut held = Held::default();
        held.make_do([7; 32], Instant::now());
        assert_eq!(held.lists.secrets, [[7; 32]]);
        assert_eq!(load(&mut held, told("v1", "g1", Some(&[]))), TOLD, "there are others now");
        assert_eq!(held.lists.secrets, [[0x5a; 32], [0xa5; 32], [7; 32]]);
        held.make_do([8; 32], Instant::now());
        held.edited(Edit::Secrets(vec![[1; 32]]), Some(("v1".into(), "v2".into())));
        assert_eq!(held.lists.secrets, [[1; 32], [7; 32]]);
        // For a day.
        held.begin_load().unwrap();
        let later = Instant::now() + DAY;
        assert_eq!(held.end_load(told("v2", "g1", None), later).unwrap().0, TOLD);
        assert_eq!(held.lists.secrets, [[1; 32]]);
    }

    #[test]
    fn all_was_lost() {
        let mut held = held();
        // Somebody else was there before, with another secret.
        let mut said = told("w1", "", Some(&[]));
        let Value::Array(list) = &mut said else { unreachable!() };
        list[7] = texts(&[&"11".repeat(32)]);
        list[8] = bulk("made again");
        assert_eq!(load(&mut held, said), TOLD);
        assert_eq!(held.lists.secrets, [[0x11; 32], [0x5a; 32], [0xa5; 32]], "in use still");
        assert_eq!(users(&held), [""; 0]);
        // A secret that was retired for good in the meantime is one of these no more.
        let mut said = told("w2", "", Some(&[]));
        let Value::Array(list) = &mut said else { unreachable!() };
        list[7] = texts(&[&"5a".repeat(32)]);
        list[8] = bulk("made again");
        load(&mut held, said);
        assert_eq!(held.lists.secrets, [[0x5a; 32], [0xa5; 32]]);
    }

    #[test]
    fn answers_that_make_no_sense() {
        let mut held = held();
        for nonsense in [
            Value::Nil,
            Value::Array(vec![]),
            Value::Array(vec![bulk("v2"), bulk("g"), Value::Int(-1)]),
            Value::Array(vec![bulk("v2"), Value::Int(1)]),
        ] {
            held.begin_load().unwrap();
            assert!(held.end_load(nonsense, Instant::now()).is_none());
            held.fail_load();
            assert!(held.is_stale());
        }
        assert_eq!(users(&held), ["ada"]);
    }
}
