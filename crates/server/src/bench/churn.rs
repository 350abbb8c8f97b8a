//! `throng bench churn`: connect, shake hands, do the closing handshake, and again.

use hdrhistogram::Histogram;
use throng_wire::Decoder;

use super::fleet::{Fleet, Link, SECOND, Work};
use super::frames::{Found, SlowPath, close_frame};
use super::order::Faults;
use super::report::{Failure, Report, times};
use super::span::{Phase, Timer};
use super::{Common, Span};

/// Options of `throng bench churn`.
#[derive(clap::Args, Debug)]
pub(super) struct Options {
    /// Where to connect
    #[arg(default_value = "ws://127.0.0.1:3000/echo")]
    url: String,
    /// Clients, each with one connection at a time
    #[arg(long, short, value_name = "N", default_value_t = 64, value_parser = super::connections)]
    connections: usize,
    #[command(flatten)]
    span: Span,
    #[command(flatten)]
    pub(super) common: Common,
}

/// A connection that takes longer than this from beginning to end is a fault.
const STUCK: u64 = 5 * SECOND;

/// Runs the workload.
pub(super) fn run(options: &Options) -> Result<Report, Failure> {
    let (mut fleet, server) = options.common.prepare(&options.url, options.connections)?;
    let mut churn = Churn {
        close: close_frame(),
        slow_path: SlowPath::new(),
        clients: (0..options.connections).map(|_| None).collect(),
        ready: times(),
        whole: times(),
        connections: 0,
        faults: Faults::default(),
    };
    for index in 0..options.connections {
        fleet.begin(index)?;
    }
    let mut timer = Timer::new(&options.span, fleet.now(), server);
    let mut checked = fleet.now();
    while matches!(timer.phase(), Phase::WarmingUp | Phase::Measuring) {
        fleet.turn(timer.timeout(), &mut churn)?;
        let now = fleet.now();
        for (index, reason) in std::mem::take(&mut fleet.ended) {
            churn.ended(index, fleet.link(index).since, now, &reason)?;
            fleet.begin(index)?;
        }
        if now - checked > SECOND {
            checked = now;
            churn.look_for_stuck(&mut fleet, now)?;
        }
        if timer.advance(now, churn.connections, false) == Some(Phase::Measuring) {
            churn.ready.reset();
            churn.whole.reset();
        }
    }
    let measured = timer.finish();
    let mut report = options.common.report("churn", &options.url, options.connections);
    measured.report(
        &mut report,
        ("done", "connections made"),
        ("per_second", "connections/s"),
        ("us_per_connection", "server CPU for a connection"),
    );
    let milliseconds = |quantile| churn.whole.value_at_quantile(quantile) as f64 / 1e6;
    if !churn.whole.is_empty() {
        report.number("whole_p50_ms", "connect to end p50", milliseconds(0.5), "ms");
        report.number("whole_p99_ms", "connect to end p99", milliseconds(0.99), "ms");
    }
    report.text("latency_of", "latency of", "connect to ready");
    report.latency(&churn.ready);
    report.faults(churn.faults);
    Ok(report)
}

struct Churn {
    close: Vec<u8>,
    slow_path: SlowPath,
    /// A decoder for each client whose closing handshake is under way; the server's close frame.
    clients: Vec<Option<(Box<Decoder>, bool)>>,
    ready: Histogram<u64>,
    whole: Histogram<u64>,
    connections: u64,
    faults: Faults,
}

impl Churn {
    /// A connection has ended: as it should, after the server's close frame; or not.
    fn ended(&mut self, index: usize, since: u64, now: u64, reason: &str) -> Result<(), Failure> {
        match self.clients[index].take() {
            Some((_, true)) => {
                self.connections += 1;
                self.whole.saturating_record(now - since);
            }
            other => {
                self.faults.closed += 1;
                let when = if other.is_some() { "before its close frame" } else { "unopened" };
                self.faults.note(|| format!("a connection ended {when}: {reason}"));
                if self.connections == 0 && self.faults.closed > self.clients.len() as u64 {
                    return Err(Failure::new(reason.to_owned()));
                }
            }
        }
        Ok(())
    }

    fn look_for_stuck(&mut self, fleet: &mut Fleet, now: u64) -> Result<(), Failure> {
        for index in 0..self.clients.len() {
            if now.saturating_sub(fleet.link(index).since) > STUCK {
                self.clients[index] = None;
                self.faults.lost += 1;
                self.faults.note(|| "a connection was stuck for five seconds".to_owned());
                fleet.begin(index)?;
            }
        }
        Ok(())
    }
}

impl Work for Churn {
    fn opened(&mut self, index: usize, link: &mut Link, now: u64) {
        self.ready.saturating_record(now - link.since);
        self.clients[index] = Some((SlowPath::decoder(), false));
        link.send(&self.close);
    }

    fn received(
        &mut self,
        index: usize,
        link: &mut Link,
        mut data: &mut [u8],
        _: u64,
    ) -> Result<(), String> {
        let Some((decoder, closed)) = &mut self.clients[index] else { return Ok(()) };
        while !data.is_empty() && !*closed {
            match self.slow_path.step(decoder, link, data, |_, _| ())? {
                Found::Nothing => break,
                Found::Control(consumed) | Found::Message(consumed, ()) => {
                    data = &mut data[consumed..];
                }
            }
            *closed = link.is_closing();
        }
        Ok(())
    }
}
