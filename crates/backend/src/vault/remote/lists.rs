use std::sync::Arc;

use redis::Value;
use throng_hub::{Ban, Unavailable};

use super::super::ledger::Edit;
use super::super::{Answer, Member, lock, secrets};
use super::access::step;
use super::held::{place, read_secrets, terms};
use super::text::{Args, hex, list, number, some};
use super::{Core, Shared, script};

/// What is kept in memory, too.
impl Shared {
    pub(in super::super) fn members(&self) -> Vec<Member> {
        lock(&self.core.held).lists.members()
    }

    pub(in super::super) fn bans(&self) -> Vec<Ban> {
        lock(&self.core.held).lists.bans()
    }

    pub(in super::super) fn set_member(
        &self,
        room: &str,
        user: &str,
        rights: Option<String>,
        done: impl FnOnce(Answer<()>) + Send + 'static,
    ) {
        let args = Args::new().text("members").text(&place(room, user)).maybe(rights.as_deref());
        let edit = Edit::Member((room.to_owned(), user.to_owned()), rights);
        self.edit(args, edit, |_| (), done);
    }

    pub(in super::super) fn set_ban(
        &self,
        ban: Ban,
        done: impl FnOnce(Answer<()>) + Send + 'static,
    ) {
        let args = Args::new().text("bans").text(&place(&ban.room, &ban.user));
        self.edit(args.maybe(Some(&terms(&ban))), Edit::Ban(ban), |_| (), done);
    }

    pub(in super::super) fn lift_ban(
        &self,
        room: &str,
        user: &str,
        done: impl FnOnce(Answer<bool>) + Send + 'static,
    ) {
        let args = Args::new().text("bans").text(&place(room, user)).maybe(None);
        let edit = Edit::Lifted((room.to_owned(), user.to_owned()));
        self.edit(args, edit, |there_was| there_was, done);
    }

    pub(in super::super) fn rotate_secret(&self, done: impl FnOnce(Answer<()>) + Send + 'static) {
        let Some(secret) = secrets::draw() else { return done(Err(Unavailable)) };
        let args = self.signed(Args::new().text(&hex(&secret)));
        let read = |core: &Arc<Core>, told: Value| {
            let [versions, secrets] = some(told)?;
            let (step, secrets) = (step(versions)?, read_secrets(secrets)?);
            let next = lock(&core.held).edited(Edit::Secrets(secrets), Some(step));
            core.follow(next);
            Some(Ok(()))
        };
        self.change(&script::ROTATE, args, read, done);
    }

    /// Removes what is left of what has expired, in steps.
    pub(in super::super) fn sweep(&self) {
        sweep(&self.core);
    }

    /// Changes an entry of a list; the answer is made of whether there was one before.
    fn edit<T: 'static>(
        &self,
        args: Args,
        edit: Edit,
        answer: impl FnOnce(bool) -> T + Send + 'static,
        done: impl FnOnce(Answer<T>) + Send + 'static,
    ) {
        let read = move |core: &Arc<Core>, told: Value| {
            let mut told = list(told)?.into_iter();
            let before = number(&told.next()?)? > 0;
            let step = told.next().map(step);
            let step = match step {
                Some(step) => Some(step?),
                None => None,
            };
            let next = lock(&core.held).edited(edit, step);
            core.follow(next);
            Some(Ok(answer(before)))
        };
        self.change(&script::EDIT, self.signed(args), read, done);
    }
}

fn sweep(core: &Arc<Core>) {
    let args = Args::new().number(STEP).text(&core.run).text(&super::text::nonce());
    let again = core.clone();
    // What fails is for the next sweep.
    core.ask(
        &script::SWEEP,
        args,
        |_, told| Some(Ok(number(&told)?)),
        move |more| match more {
            Ok(0) => again.load(), // what it has counted is right
            Ok(_) => sweep(&again),
            Err(Unavailable) => {}
        },
    );
}

/// The most sessions that one step of a sweep removes.
const STEP: u64 = 1000;
