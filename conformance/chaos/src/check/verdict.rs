//! What was checked, how often, and what was found.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, BufRead as _, BufReader, Write};
use std::path::Path;

/// A promise of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    /// Every member gets every message exactly once and in order.
    Delivered,
    /// All see the same order, without holes.
    Order,
    /// A message is published once at most, however often it is sent.
    Once,
    /// What an acknowledgement says is so, and stays so.
    Acks,
    /// Times never decrease in a room, and are the same for all.
    Time,
    /// Only members get messages, and only after they were told that they are.
    Members,
    /// Who is in a room.
    Presence,
    /// What one client publishes to a room keeps its order.
    Senders,
    /// Sessions, epochs and positions survive.
    Recovery,
    /// Messages are what was sent, by whom it was sent.
    Content,
    /// History says the same as delivery.
    History,
    /// Everything is answered in the end, and nothing goes wrong that nobody caused.
    Progress,
    /// The server ends only when it is told to, and does not panic.
    Server,
    /// When nothing can be stored, publishes are refused; afterwards they work again.
    Disk,
    /// Who is sent away goes in a slot of its own, and the other nodes are not overrun.
    Pace,
}

/// A broken promise.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Which one.
    pub check: Check,
    /// What happened.
    pub text: String,
    /// The lines of the log that show it.
    pub lines: Vec<usize>,
}

/// What the log shows.
#[derive(Debug, Default)]
pub struct Verdict {
    findings: Vec<Finding>,
    notes: Vec<(Check, String)>,
    counts: [Count; Check::ALL.len()],
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    looked: usize,
    found: usize,
    skipped: bool,
}

impl Verdict {
    /// The broken promises; of each only the first 20.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// How many promises were kept and broken.
    pub fn totals(&self) -> (usize, usize) {
        let made = self.counts.iter().filter(|count| !count.skipped);
        let broken = self.counts.iter().filter(|count| count.found > 0).count();
        (made.count() - broken, broken)
    }

    /// Whether all were kept.
    pub fn holds(&self) -> bool {
        self.totals().1 == 0
    }

    /// Prints everything, with the lines of the log that show what was found.
    ///
    /// # Errors
    /// When the log cannot be read again, or nobody reads the output.
    pub fn print(&self, log: &Path, out: &mut dyn Write) -> io::Result<()> {
        let wanted: BTreeSet<usize> =
            self.findings.iter().flat_map(|finding| finding.lines.iter().copied()).collect();
        let mut lines = Vec::new();
        if !wanted.is_empty() {
            for (index, line) in BufReader::new(std::fs::File::open(log)?).lines().enumerate() {
                if wanted.contains(&(index + 1)) {
                    lines.push((index + 1, line?));
                }
            }
        }
        for check in Check::ALL {
            let count = self.counts[check as usize];
            if count.skipped {
                continue;
            }
            let mark = if count.found == 0 { "ok    " } else { "FAILED" };
            write!(out, "{mark} {:<10} {:>9}  {check}", check.name(), count.looked)?;
            if count.found > 0 {
                write!(out, ": {} times not", count.found)?;
            }
            writeln!(out)?;
            for (_, text) in self.notes.iter().filter(|(of, _)| *of == check) {
                writeln!(out, "    {text}")?;
            }
            let of_this = self.findings.iter().filter(|finding| finding.check == check);
            for finding in of_this.take(SHOWN) {
                writeln!(out, "    {}", finding.text)?;
                for (number, line) in &lines {
                    if finding.lines.contains(number) {
                        let short: String = line.chars().take(LINE).collect();
                        writeln!(out, "      {number}: {short}")?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Something was looked at.
    pub(super) fn count(&mut self, check: Check) {
        self.count_many(check, 1);
    }

    /// As many were looked at.
    pub(super) fn count_many(&mut self, check: Check, many: usize) {
        self.counts[check as usize].looked += many;
    }

    /// Something that a reader wants to know, whether the promise was kept or not.
    pub(super) fn note(&mut self, check: Check, text: String) {
        self.notes.push((check, text));
    }

    /// The promise was not put to the test.
    pub(super) fn skip(&mut self, check: Check) {
        self.counts[check as usize].skipped = true;
    }

    /// A promise was broken.
    pub(super) fn found(
        &mut self,
        check: Check,
        text: String,
        lines: impl IntoIterator<Item = usize>,
    ) {
        let count = &mut self.counts[check as usize];
        count.found += 1;
        if count.found <= MOST {
            self.findings.push(Finding { check, text, lines: lines.into_iter().collect() });
        }
    }
}

impl Check {
    /// All of them, in the order of printing.
    pub const ALL: [Self; 15] = [
        Self::Delivered,
        Self::Order,
        Self::Once,
        Self::Acks,
        Self::Time,
        Self::Members,
        Self::Presence,
        Self::Senders,
        Self::Recovery,
        Self::Content,
        Self::History,
        Self::Progress,
        Self::Server,
        Self::Disk,
        Self::Pace,
    ];

    /// In one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Order => "order",
            Self::Once => "once",
            Self::Acks => "acks",
            Self::Time => "time",
            Self::Members => "members",
            Self::Presence => "presence",
            Self::Senders => "senders",
            Self::Recovery => "recovery",
            Self::Content => "content",
            Self::History => "history",
            Self::Progress => "progress",
            Self::Server => "server",
            Self::Disk => "disk",
            Self::Pace => "pace",
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Delivered => "times a member got what it had to, exactly once",
            Self::Order => "messages at the same place for all, without holes",
            Self::Once => "messages published once at most",
            Self::Acks => "acknowledgements true, and the same when repeated",
            Self::Time => "times that do not decrease",
            Self::Members => "deliveries to members only",
            Self::Presence => "lists of who is in a room, exact",
            Self::Senders => "messages in their sender's order",
            Self::Recovery => "sessions and positions recovered",
            Self::Content => "deliveries unchanged, from their sender",
            Self::History => "messages in history as delivered",
            Self::Progress => "messages acknowledged in the end, no unexplained trouble",
            Self::Server => "kills and stops, and no other end of the server, nor a panic",
            Self::Disk => "outages of the disk: refused meanwhile, published afterwards",
            Self::Pace => {
                "clients sent away in their slots, never twice as fast as they are spread"
            }
        })
    }
}

/// How many findings of a check are kept.
pub(super) const MOST: usize = 20;
/// How many are printed.
const SHOWN: usize = 6;
/// How much of a log line is printed.
const LINE: usize = 400;
