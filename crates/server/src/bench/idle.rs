//! `throng bench idle`: many connections that do nothing.

use std::time::Duration;

use throng_wire::{Decoder, Kind};

use super::fleet::{Fleet, Link, SECOND, Work};
use super::frames::{Found, SlowPath, Template, stamp};
use super::order::Faults;
use super::process::Process;
use super::report::{Failure, Report, progress, times};
use super::{Common, interrupt};

/// Options of `throng bench idle`.
#[derive(clap::Args, Debug)]
pub(super) struct Options {
    /// Where to connect
    #[arg(default_value = "ws://127.0.0.1:3000/relay")]
    url: String,
    /// Connections
    #[arg(long, short, value_name = "N", default_value_t = 10_000,
          value_parser = super::connections)]
    connections: usize,
    /// Send one message on each connection first and wait for its echo
    #[arg(long)]
    echo: bool,
    /// Seconds to hold the connections before the server's memory is read
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = super::seconds)]
    hold: Duration,
    #[command(flatten)]
    pub(super) common: Common,
}

/// Runs the workload.
pub(super) fn run(options: &Options) -> Result<Report, Failure> {
    let (mut fleet, server) = options.common.prepare(&options.url, options.connections)?;
    let mut idle = Idle::new(options.connections)?;
    let memory = || server.as_ref().and_then(Process::resident);
    let cpu = || server.as_ref().map(Process::cpu_ns);
    let own = Process::own();

    let (memory_before, cpu_before, own_before) = (memory(), cpu(), own.cpu_ns());
    let begun = fleet.now();
    let bar = progress(options.connections as u64, "connecting");
    fleet.open_all(&mut idle, &bar)?;
    let opened = fleet.now();
    let (cpu_after, own_after) = (cpu(), own.cpu_ns());
    bar.finish_and_clear();

    if options.echo {
        idle.echo_all(&mut fleet)?;
    }
    let held = fleet.now();
    while fleet.now() - held < options.hold.as_nanos() as u64 && !interrupt::requested() {
        idle.turn(&mut fleet)?;
    }

    let elapsed = Duration::from_nanos(opened - begun);
    let count = options.connections as u64;
    let mut report = options.common.report("idle", &options.url, options.connections);
    report.text("echo", "one echo each first", if options.echo { "yes" } else { "no" });
    report.number(
        "handshakes_per_second",
        "handshakes/s",
        count as f64 / elapsed.as_secs_f64(),
        "",
    );
    let spent = cpu_before.zip(cpu_after).map(|(before, after)| after.saturating_sub(before));
    let label = ("us_per_handshake", "server CPU for a handshake");
    report.cpu(spent, own_after - own_before, elapsed, count, label);
    if let Some((before, after)) = memory_before.zip(memory()) {
        let growth = after as f64 - before as f64;
        report.number("bytes_per_connection", "server memory for each", growth / count as f64, "B");
        report.number("resident_before", "server memory before", before as f64 / 1e6, "MB");
        report.number("resident_after", "server memory after", after as f64 / 1e6, "MB");
    }
    report.latency(&idle.handshakes);
    report.faults(idle.faults);
    Ok(report)
}

struct Idle {
    template: Template,
    slow_path: SlowPath,
    decoders: Vec<Option<Box<Decoder>>>,
    handshakes: hdrhistogram::Histogram<u64>,
    echoed: u64,
    echoes: bool,
    faults: Faults,
}

impl Idle {
    fn new(connections: usize) -> Result<Self, Failure> {
        Ok(Self {
            template: Template::new("{}", 32, Kind::Text)?,
            slow_path: SlowPath::new(),
            decoders: (0..connections).map(|_| None).collect(),
            handshakes: times(),
            echoed: 0,
            echoes: false,
            faults: Faults::default(),
        })
    }

    fn turn(&mut self, fleet: &mut Fleet) -> Result<(), Failure> {
        fleet.turn(Some(Duration::from_millis(50)), self)?;
        for (index, reason) in fleet.ended.drain(..) {
            self.faults.closed += 1;
            self.faults.note(|| format!("connection {index}: {reason}"));
        }
        Ok(())
    }

    fn echo_all(&mut self, fleet: &mut Fleet) -> Result<(), Failure> {
        self.echoes = true;
        let mut frame = Vec::new();
        for index in 0..self.decoders.len() {
            frame.clear();
            self.template.send(stamp(index as u32, 0), &mut frame);
            fleet.link(index).send(&frame);
            if index % 64 == 63 {
                self.turn(fleet)?;
            }
        }
        let begun = fleet.now();
        while self.echoed + self.faults.closed < self.decoders.len() as u64 {
            self.turn(fleet)?;
            if fleet.now() - begun > 10 * SECOND || interrupt::requested() {
                self.faults.lost += self.decoders.len() as u64 - self.echoed;
                self.faults.note(|| "not every echo came".to_owned());
                break;
            }
        }
        Ok(())
    }
}

impl Work for Idle {
    fn opened(&mut self, _: usize, link: &mut Link, now: u64) {
        self.handshakes.saturating_record(now - link.since);
    }

    fn received(
        &mut self,
        index: usize,
        link: &mut Link,
        mut data: &mut [u8],
        _: u64,
    ) -> Result<(), String> {
        let mut decoder = self.decoders[index].take().unwrap_or_else(SlowPath::decoder);
        while !data.is_empty() {
            let template = &self.template;
            let look = |kind, payload: &[u8]| template.verbatim(kind, payload, index as u32);
            let consumed = match self.slow_path.step(&mut decoder, link, data, look)? {
                Found::Nothing => break,
                Found::Control(consumed) => consumed,
                Found::Message(consumed, number) => {
                    // Whatever else a server says to its idle connections is its own affair.
                    self.echoed += u64::from(self.echoes && number == Some(0));
                    consumed
                }
            };
            data = &mut data[consumed..];
        }
        if !decoder.is_idle() {
            self.decoders[index] = Some(decoder);
        }
        Ok(())
    }
}
