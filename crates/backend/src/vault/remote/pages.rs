//! Lists that are read in pages, so that no script runs for long.

use std::sync::Arc;

use redis::Value;
use throng_hub::Unavailable;

use super::super::Answer;
use super::Core;
use super::text::Args;
use crate::redis::remote::Script;

/// A list: what reads a page of it, and what its rows are.
pub(super) struct Pages<T> {
    /// Takes `of`, the last id that is known, and how many rows are wanted.
    pub(super) script: &'static Script,
    pub(super) of: Args,
    pub(super) rows: fn(Value) -> Option<Vec<T>>,
    pub(super) id: fn(&T) -> &str,
}

impl<T: Send + 'static> Pages<T> {
    /// Asks for pages behind `after` until there are `limit` rows, or no more.
    pub(super) fn read(
        self,
        core: &Arc<Core>,
        after: &str,
        limit: usize,
        done: impl FnOnce(Answer<Vec<T>>) + Send + 'static,
    ) {
        // Boxed, as what follows contains itself.
        self.behind(core, after, limit, Vec::new(), Box::new(done));
    }

    fn behind(
        self,
        core: &Arc<Core>,
        after: &str,
        limit: usize,
        mut found: Vec<T>,
        done: Box<dyn FnOnce(Answer<Vec<T>>) + Send>,
    ) {
        let wanted = limit.saturating_sub(found.len()).min(PAGE);
        let args = self.of.clone().text(after).number(wanted as u64);
        let (again, rows) = (core.clone(), self.rows);
        let read = move |_: &Arc<Core>, told: Value| rows(told).map(Ok);
        core.ask(self.script, args, read, move |page| {
            let page = match page {
                Ok(page) => page,
                Err(Unavailable) => return done(Err(Unavailable)),
            };
            let is_last = page.len() < PAGE;
            found.extend(page);
            match found.last().map(|last| (self.id)(last).to_owned()) {
                Some(last) if !is_last && found.len() < limit => {
                    self.behind(&again, &last, limit, found, done);
                }
                _ => done(Ok(found)),
            }
        });
    }
}

/// So many rows are read by one script.
const PAGE: usize = 1000;
