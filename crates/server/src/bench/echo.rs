//! `throng bench echo`: every connection sends messages and gets each one back.

use hdrhistogram::Histogram;
use throng_wire::{Decoder, Kind};

use super::fleet::{Link, Work};
use super::frames::{Found, SlowPath, Template, stamp};
use super::order::{Faults, Place};
use super::report::{Failure, Report, progress, times};
use super::span::{Measured, Phase, Timer};
use super::{Common, Span};

/// Options of `throng bench echo`.
#[derive(clap::Args, Debug)]
pub(super) struct Options {
    /// Where the echo is
    #[arg(default_value = "ws://127.0.0.1:3000/echo")]
    url: String,
    /// Connections
    #[arg(long, short, value_name = "N", default_value_t = 64, value_parser = super::connections)]
    connections: usize,
    /// Bytes of each message
    #[arg(long, short, value_name = "BYTES", default_value_t = 32, value_parser = super::size)]
    size: usize,
    /// Messages in flight on each connection
    #[arg(long, short, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u16).range(1..=4096))]
    depth: u16,
    /// Send binary messages
    #[arg(long)]
    binary: bool,
    #[command(flatten)]
    span: Span,
    #[command(flatten)]
    pub(super) common: Common,
}

/// Runs the workload.
pub(super) fn run(options: &Options) -> Result<Report, Failure> {
    let kind = if options.binary { Kind::Binary } else { Kind::Text };
    let depth = usize::from(options.depth);
    let template = Template::new("{}", options.size, kind)?;
    let (mut fleet, server) = options.common.prepare(&options.url, options.connections)?;
    let mut echo = Echo::new(template, options.connections, depth);

    let bar = progress(options.connections as u64, "connecting");
    fleet.open_all(&mut echo, &bar)?;
    bar.finish_and_clear();

    for index in 0..options.connections {
        echo.sending = true;
        let now = fleet.now();
        echo.send(index, depth, fleet.link(index), now);
    }
    let mut timer = Timer::new(&options.span, fleet.now(), server);
    while timer.phase() != Phase::Over {
        fleet.turn(timer.timeout(), &mut echo)?;
        for (index, reason) in fleet.ended.drain(..) {
            echo.ended(index, &reason);
        }
        match timer.advance(fleet.now(), echo.received, fleet.open() == 0) {
            Some(Phase::Measuring) => echo.latency.reset(),
            Some(Phase::Draining) => echo.sending = false,
            _ => {}
        }
        if timer.phase() == Phase::Draining && echo.in_flight == 0 {
            break;
        }
    }
    let measured = timer.finish();
    Ok(echo.report(options, &measured))
}

/// All connections' echoes.
struct Echo {
    template: Template,
    depth: usize,
    peers: Vec<Peer>,
    /// When the messages in flight were sent: `depth` places for each connection.
    sent_at: Vec<u64>,
    slow_path: SlowPath,
    out: Vec<u8>,
    sending: bool,
    in_flight: u64,
    received: u64,
    latency: Histogram<u64>,
    faults: Faults,
}

struct Peer {
    sent: u64,
    place: Place,
    /// Bytes of the next frame that have come already.
    matched: usize,
    decoder: Option<Box<Decoder>>,
}

impl Echo {
    fn new(template: Template, connections: usize, depth: usize) -> Self {
        let peer = || Peer { sent: 0, place: Place::default(), matched: 0, decoder: None };
        Self {
            template,
            depth,
            peers: (0..connections).map(|_| peer()).collect(),
            sent_at: vec![0; connections * depth],
            slow_path: SlowPath::new(),
            out: Vec::new(),
            sending: false,
            in_flight: 0,
            received: 0,
            latency: times(),
            faults: Faults::default(),
        }
    }

    /// Sends `count` messages in one write.
    fn send(&mut self, index: usize, count: usize, link: &mut Link, now: u64) {
        let peer = &mut self.peers[index];
        self.out.clear();
        for _ in 0..count {
            self.sent_at[index * self.depth + peer.sent as usize % self.depth] = now;
            self.template.send(stamp(index as u32, peer.sent), &mut self.out);
            peer.sent += 1;
        }
        self.in_flight += count as u64;
        link.send(&self.out);
    }

    /// Takes what is exactly as expected; what it leaves is for the slow path.
    fn match_expected<'a>(
        &mut self,
        index: usize,
        mut data: &'a mut [u8],
        now: u64,
    ) -> &'a mut [u8] {
        let peer = &mut self.peers[index];
        while !data.is_empty() && peer.place.next < peer.sent {
            let expected = self.template.expect(stamp(index as u32, peer.place.next));
            let rest = &expected[peer.matched..];
            let length = rest.len().min(data.len());
            if rest[..length] != data[..length] {
                break;
            }
            data = &mut data[length..];
            peer.matched += length;
            if peer.matched == expected.len() {
                let slot = index * self.depth + peer.place.next as usize % self.depth;
                self.latency.saturating_record(now - self.sent_at[slot]);
                peer.place.next += 1;
                peer.matched = 0;
                self.received += 1;
                self.in_flight -= 1;
            }
        }
        data
    }

    /// Decodes one event of what was not as expected; its length.
    fn decode(&mut self, index: usize, link: &mut Link, data: &mut [u8]) -> Result<usize, String> {
        let peer = &mut self.peers[index];
        let mut decoder = peer.decoder.take().unwrap_or_else(SlowPath::decoder);
        if peer.matched > 0 {
            let expected = self.template.expect(stamp(index as u32, peer.place.next));
            let mut begun = expected[..peer.matched].to_vec();
            peer.matched = 0;
            // The beginning of one frame: there can be no event in it.
            self.slow_path.step(&mut decoder, link, &mut begun, |_, _| ())?;
        }
        let look = |kind, payload: &[u8]| self.template.verbatim(kind, payload, index as u32);
        let consumed = match self.slow_path.step(&mut decoder, link, data, look)? {
            Found::Nothing => data.len(),
            Found::Control(consumed) => consumed,
            Found::Message(consumed, Some(number)) if number < peer.sent => {
                let before = peer.place.next;
                peer.place.arrived(number, &mut self.faults);
                self.received += 1;
                self.in_flight -= peer.place.next - before;
                consumed
            }
            Found::Message(consumed, _) => {
                self.faults.altered += 1;
                self.faults.note(|| format!("connection {index} got what it had not sent"));
                consumed
            }
        };
        if !decoder.is_idle() {
            peer.decoder = Some(decoder);
        }
        Ok(consumed)
    }

    fn ended(&mut self, index: usize, reason: &str) {
        let peer = &mut self.peers[index];
        self.faults.closed += 1;
        self.faults.note(|| format!("connection {index}: {reason}"));
        self.faults.lost += peer.sent - peer.place.next;
        self.in_flight -= peer.sent - peer.place.next;
        peer.place.next = peer.sent;
    }

    fn report(mut self, options: &Options, measured: &Measured) -> Report {
        let lost: u64 = self.peers.iter().map(|peer| peer.sent - peer.place.next).sum();
        if lost > 0 {
            self.faults.note(|| format!("{lost} messages never came back"));
        }
        self.faults.lost += lost;
        let mut report = options.common.report("echo", &options.url, options.connections);
        report.whole("size", "size", options.size as u64, "B");
        report.whole("depth", "in flight on each", u64::from(options.depth), "");
        measured.report(
            &mut report,
            ("messages", "messages"),
            ("per_second", "messages/s"),
            ("us_per_message", "server CPU for a message"),
        );
        report.latency(&self.latency);
        report.faults(self.faults);
        report
    }
}

impl Work for Echo {
    fn opened(&mut self, _: usize, _: &mut Link, _: u64) {}

    fn received(
        &mut self,
        index: usize,
        link: &mut Link,
        mut data: &mut [u8],
        now: u64,
    ) -> Result<(), String> {
        let before = self.peers[index].place.next;
        while !data.is_empty() {
            if self.peers[index].decoder.is_none() {
                data = self.match_expected(index, data, now);
            }
            if !data.is_empty() {
                let consumed = self.decode(index, link, data)?;
                data = &mut data[consumed..];
            }
        }
        let done = (self.peers[index].place.next - before) as usize;
        if self.sending && done > 0 {
            self.send(index, done.min(self.depth), link, now);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two connections with three messages in flight on each.
    fn sent() -> Echo {
        let template = Template::new("{}", 40, Kind::Text).expect("large enough");
        let mut echo = Echo::new(template, 2, 3);
        for index in 0..2 {
            echo.send(index, 3, &mut Link::new(), 0);
        }
        echo
    }

    fn frame(echo: &mut Echo, index: u32, number: u64) -> Vec<u8> {
        echo.template.expect(stamp(index, number)).to_vec()
    }

    fn deliver(echo: &mut Echo, index: usize, bytes: &[u8]) {
        let mut link = Link::new();
        echo.received(index, &mut link, &mut bytes.to_vec(), 1).expect("valid frames");
    }

    #[test]
    fn everything_comes_back_however_it_is_cut() {
        for size in [1, 3, 41, 42, 43, 200] {
            let mut echo = sent();
            for index in 0..2 {
                let stream: Vec<u8> = (0..3).flat_map(|n| frame(&mut echo, index, n)).collect();
                stream.chunks(size).for_each(|chunk| deliver(&mut echo, index as usize, chunk));
            }
            assert_eq!((echo.received, echo.in_flight), (6, 0), "in chunks of {size}");
            assert!(echo.faults.is_clean());
        }
    }

    #[test]
    fn each_fault_is_found() {
        for (numbers, lost, duplicated, reordered) in
            [(&[0, 2][..], 1, 0, 0), (&[0, 0, 1, 2], 0, 1, 0), (&[1, 0, 2], 0, 0, 1)]
        {
            let mut echo = sent();
            for &number in numbers {
                let frame = frame(&mut echo, 0, number);
                deliver(&mut echo, 0, &frame);
            }
            let faults = &echo.faults;
            let found = (faults.lost, faults.duplicated, faults.reordered);
            assert_eq!(found, (lost, duplicated, reordered), "{numbers:?}");
            assert_eq!(echo.in_flight, 3, "{numbers:?}");
        }
    }

    #[test]
    fn anothers_message_is_no_echo() {
        let mut echo = sent();
        let foreign = frame(&mut echo, 1, 0);
        deliver(&mut echo, 0, &foreign);
        assert_eq!((echo.faults.altered, echo.received), (1, 0));
        let early = frame(&mut echo, 0, 3);
        deliver(&mut echo, 0, &early);
        assert_eq!(echo.faults.altered, 2, "it had not been sent yet");
    }

    #[test]
    fn a_closed_connection_loses_what_was_in_flight() {
        let mut echo = sent();
        let first = frame(&mut echo, 0, 0);
        deliver(&mut echo, 0, &first);
        echo.ended(0, "gone");
        assert_eq!((echo.faults.lost, echo.faults.closed, echo.in_flight), (2, 1, 3));
    }
}
