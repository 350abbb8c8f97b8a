//! Warm-up, measurement and drain of a run, and what was counted in between.

use std::time::Duration;

use super::interrupt;
use super::process::Process;
use super::report::Report;
use super::{DRAIN, Span};

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Running, nothing counts yet.
    WarmingUp,
    /// What happens counts.
    Measuring,
    /// Nothing new is sent; what is under way may still arrive.
    Draining,
    /// Done.
    Over,
}

/// Leads a run through its phases by the fleet's clock.
#[derive(Debug)]
pub(super) struct Timer {
    phase: Phase,
    /// When this phase ends.
    until: u64,
    duration: u64,
    server: Option<Process>,
    generator: Process,
    start: Mark,
    end: Mark,
}

#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    at: u64,
    count: u64,
    server: u64,
    generator: u64,
}

/// What the measured span saw.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) elapsed: Duration,
    /// Messages or deliveries.
    pub(super) count: u64,
    server: Option<u64>,
    generator: u64,
}

impl Timer {
    /// Begins the warm-up.
    pub(super) fn new(span: &Span, now: u64, server: Option<Process>) -> Self {
        Self {
            phase: Phase::WarmingUp,
            until: now + span.warmup.as_nanos() as u64,
            duration: span.duration.as_nanos() as u64,
            server,
            generator: Process::own(),
            start: Mark::default(),
            end: Mark::default(),
        }
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// When measuring began, and when it ends.
    pub(super) fn measured_from(&self) -> u64 {
        self.start.at
    }

    /// How long a turn may wait for events.
    pub(super) fn timeout(&self) -> Option<Duration> {
        Some(Duration::from_millis(20))
    }

    /// Moves on when it is time; the phase that begins. `count` is what has happened so far, and
    /// `ended` whether there is no connection left.
    pub(super) fn advance(&mut self, now: u64, count: u64, ended: bool) -> Option<Phase> {
        let cut = (ended || interrupt::requested()) && self.phase != Phase::Draining;
        if now < self.until && !cut {
            return None;
        }
        self.phase = match self.phase {
            Phase::WarmingUp => {
                self.start = self.mark(now, count);
                self.until = now + self.duration;
                Phase::Measuring
            }
            Phase::Measuring => {
                self.end = self.mark(now, count);
                self.until = now + DRAIN.as_nanos() as u64;
                Phase::Draining
            }
            Phase::Draining | Phase::Over => Phase::Over,
        };
        Some(self.phase)
    }

    fn mark(&self, at: u64, count: u64) -> Mark {
        let server = self.server.as_ref().map_or(0, Process::cpu_ns);
        Mark { at, count, server, generator: self.generator.cpu_ns() }
    }

    /// What was measured.
    pub(super) fn finish(self) -> Measured {
        Measured {
            elapsed: Duration::from_nanos(self.end.at - self.start.at),
            count: self.end.count - self.start.count,
            // A server that is gone has no CPU time to compare.
            server: self.server.map(|_| self.end.server.saturating_sub(self.start.server)),
            generator: self.end.generator - self.start.generator,
        }
    }
}

impl Measured {
    /// Writes the counts, the rate and the CPU time for each.
    pub(super) fn report(
        &self,
        report: &mut Report,
        (count_key, count_label): (&'static str, &'static str),
        (rate_key, rate_label): (&'static str, &'static str),
        cpu: (&'static str, &'static str),
    ) {
        let seconds = self.elapsed.as_secs_f64();
        report.number("seconds", "measured for", seconds, "s");
        report.whole(count_key, count_label, self.count, "");
        report.number(rate_key, rate_label, self.count as f64 / seconds, "");
        report.cpu(self.server, self.generator, self.elapsed, self.count, cpu);
    }
}
