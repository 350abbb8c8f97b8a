//! `throng bench fanout`: one connection publishes, all receive, the publisher included.

use std::collections::VecDeque;
use std::time::Duration;

use hdrhistogram::Histogram;
use throng_wire::{Decoder, Kind};

use super::fleet::{Link, SECOND, Work};
use super::frames::{Found, SlowPath, Template, stamp};
use super::order::{Arrival, Faults, Place};
use super::report::{Failure, Report, progress, times};
use super::span::{Measured, Phase, Timer};
use super::{Common, Span, interrupt};

/// Options of `throng bench fanout`.
#[derive(clap::Args, Debug)]
pub(super) struct Options {
    /// Where the room is [default: ws://127.0.0.1:3000/relay, or /ws with --typed]
    url: Option<String>,
    /// Connections; the first one publishes
    #[arg(long, short, value_name = "N", default_value_t = 1000,
          value_parser = super::connections)]
    connections: usize,
    /// Bytes of each message as it is sent
    #[arg(long, short, value_name = "BYTES", default_value_t = 128, value_parser = super::size)]
    size: usize,
    /// Closed loop: messages that may be under way at once; one is, until it has reached everyone
    #[arg(long, short, value_name = "N", default_value_t = 1, conflicts_with = "rate",
          value_parser = clap::value_parser!(u32).range(1..=65_536))]
    window: u32,
    /// Open loop: messages a second, whatever the server does; latency counts from when each was due
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// The server does not pass messages on as they are, but inside messages of its own
    #[arg(long)]
    typed: bool,
    /// Form of a message; `{}` becomes a counter and padding
    #[arg(long, value_name = "TEXT", default_value = r#"{"type":"chat","text":"{}"}"#)]
    template: String,
    /// Send binary messages
    #[arg(long, conflicts_with = "typed")]
    binary: bool,
    #[command(flatten)]
    span: Span,
    #[command(flatten)]
    pub(super) common: Common,
}

/// More than this under way, and the server has fallen behind for good.
const LARGEST_BACKLOG: usize = 256 * 1024 * 1024;
/// How long all receivers must have been quiet before the run begins; what a server tells them of
/// each other when they join does not count.
const QUIET: u64 = SECOND / 5;

/// Runs the workload.
pub(super) fn run(options: &Options) -> Result<Report, Failure> {
    let default = if options.typed { "/ws" } else { "/relay" };
    let url = options.url.clone().unwrap_or_else(|| format!("ws://127.0.0.1:3000{default}"));
    let (mut fleet, server) = options.common.prepare(&url, options.connections)?;
    let mut fanout = Fanout::new(options)?;

    let bar = progress(options.connections as u64, "connecting");
    fleet.open_all(&mut fanout, &bar)?;
    bar.finish_and_clear();
    let settled = fleet.now();
    while fleet.now() < fanout.last_data.max(settled) + QUIET && !interrupt::requested() {
        fleet.turn(Some(Duration::from_millis(50)), &mut fanout)?;
        if fleet.now() > settled + 60 * SECOND {
            return Err(Failure::new("the server has not been quiet for a minute"));
        }
    }

    let started = fleet.now();
    let mut timer = Timer::new(&options.span, started, server);
    let mut sending = true;
    while timer.phase() != Phase::Over {
        let now = fleet.now();
        while sending && fanout.publish_next(options, started, now, fleet.open()) {}
        if !fanout.out.is_empty() {
            fleet.link(0).send(&fanout.out);
            fanout.out.clear();
        }
        // A poll cannot wait for less than a millisecond: an open loop must not wait at all.
        let wait = options.rate.map_or_else(|| timer.timeout(), |_| Some(Duration::ZERO));
        fleet.turn(wait, &mut fanout)?;
        for (index, reason) in fleet.ended.drain(..) {
            fanout.ended(index, &reason);
        }
        let cut = fanout.backlog() > LARGEST_BACKLOG || !fleet.link(0).is_open();
        match timer.advance(fleet.now(), fanout.deliveries, cut) {
            Some(Phase::Measuring) => fanout.record_from = timer.measured_from(),
            Some(Phase::Draining) => sending = false,
            _ => {}
        }
        if timer.phase() == Phase::Draining && fanout.under_way.is_empty() {
            break;
        }
    }
    let measured = timer.finish();
    Ok(fanout.report(options, &url, &measured))
}

/// The room as the generator sees it.
struct Fanout {
    template: Template,
    typed: bool,
    /// Distinguishes this run's messages from others'.
    sender: u32,
    receivers: Vec<Receiver>,
    /// Messages that have not reached everyone; the first has number `completed`.
    under_way: VecDeque<Message>,
    completed: u64,
    /// Frames of completed messages, to be used again.
    spare: Vec<Vec<u8>>,
    out: Vec<u8>,
    slow_path: SlowPath,
    record_from: u64,
    latency: Histogram<u64>,
    deliveries: u64,
    last_data: u64,
    faults: Faults,
}

struct Receiver {
    place: Place,
    /// Bytes of the next frame that have come already.
    matched: usize,
    decoder: Option<Box<Decoder>>,
}

struct Message {
    /// When it was due, which in a closed loop is when it was sent.
    due: u64,
    /// Receivers it has yet to reach.
    left: usize,
    /// The frame in which it arrives; empty until a typed one has been seen.
    frame: Vec<u8>,
}

impl Fanout {
    fn new(options: &Options) -> Result<Self, Failure> {
        let kind = if options.binary { Kind::Binary } else { Kind::Text };
        let receiver = || Receiver { place: Place::default(), matched: 0, decoder: None };
        Ok(Self {
            template: Template::new(&options.template, options.size, kind)?,
            typed: options.typed,
            sender: std::process::id() & 0xf_ffff,
            receivers: (0..options.connections).map(|_| receiver()).collect(),
            under_way: VecDeque::new(),
            completed: 0,
            spare: Vec::new(),
            out: Vec::new(),
            slow_path: SlowPath::new(),
            record_from: u64::MAX,
            latency: times(),
            deliveries: 0,
            last_data: 0,
            faults: Faults::default(),
        })
    }

    /// Publishes a message if one is due; whether it was.
    fn publish_next(&mut self, options: &Options, started: u64, now: u64, open: usize) -> bool {
        let number = self.completed + self.under_way.len() as u64;
        let due = match options.rate {
            None if self.under_way.len() < options.window as usize => now,
            None => return false,
            Some(rate) => {
                started + (u128::from(number) * u128::from(SECOND) / u128::from(rate)) as u64
            }
        };
        if due > now || self.backlog() > LARGEST_BACKLOG {
            return false;
        }
        let mut frame = self.spare.pop().unwrap_or_default();
        let stamp = stamp(self.sender, number);
        if !self.typed {
            frame.extend_from_slice(self.template.expect(stamp));
        }
        self.template.send(stamp, &mut self.out);
        self.under_way.push_back(Message { due, left: open, frame });
        true
    }

    /// Bytes kept for messages under way.
    fn backlog(&self) -> usize {
        self.under_way.len() * self.template.size()
    }

    /// Takes what is exactly as expected; what it leaves is for the slow path.
    fn match_expected<'a>(
        &mut self,
        index: usize,
        mut data: &'a mut [u8],
        now: u64,
    ) -> &'a mut [u8] {
        let receiver = &mut self.receivers[index];
        while !data.is_empty() {
            let ahead = (receiver.place.next - self.completed) as usize;
            let Some(message) = self.under_way.get_mut(ahead) else { break };
            let rest = &message.frame[receiver.matched..];
            let length = rest.len().min(data.len());
            if length == 0 || rest[..length] != data[..length] {
                break;
            }
            data = &mut data[length..];
            receiver.matched += length;
            if receiver.matched == message.frame.len() {
                receiver.matched = 0;
                receiver.place.next += 1;
                self.deliveries += 1;
                message.left -= 1;
                if message.due >= self.record_from {
                    self.latency.saturating_record(now - message.due);
                }
                if message.left == 0 {
                    Self::complete(&mut self.under_way, &mut self.completed, &mut self.spare);
                }
            }
        }
        data
    }

    /// Forgets the oldest messages that have reached everyone.
    fn complete(under_way: &mut VecDeque<Message>, completed: &mut u64, spare: &mut Vec<Vec<u8>>) {
        while under_way.front().is_some_and(|message| message.left == 0) {
            if let Some(mut message) = under_way.pop_front() {
                message.frame.clear();
                spare.push(message.frame);
                *completed += 1;
            }
        }
    }

    /// Decodes one event of what was not as expected; its length.
    fn decode(
        &mut self,
        index: usize,
        link: &mut Link,
        data: &mut [u8],
        now: u64,
    ) -> Result<usize, String> {
        let receiver = &mut self.receivers[index];
        let begins_here = receiver.decoder.is_none() && receiver.matched == 0;
        let mut decoder = receiver.decoder.take().unwrap_or_else(SlowPath::decoder);
        if receiver.matched > 0 {
            let ahead = (receiver.place.next - self.completed) as usize;
            let mut begun = self.under_way[ahead].frame[..receiver.matched].to_vec();
            receiver.matched = 0;
            // The beginning of one frame: there can be no event in it.
            self.slow_path.step(&mut decoder, link, &mut begun, |_, _| ())?;
        }
        let (template, typed, sender) = (&self.template, self.typed, self.sender);
        let faults = &mut self.faults;
        let look = |kind, payload: &[u8]| {
            if !typed {
                return template.verbatim(kind, payload, sender);
            }
            let number = template.inside(kind, payload, sender);
            let is_error = || payload.windows(14).any(|window| window == br#""type":"error""#);
            if number.is_none() && is_error() {
                faults.note(|| String::from_utf8_lossy(payload).into_owned());
            }
            number
        };
        let found = self.slow_path.step(&mut decoder, link, data, look)?;
        let whole = begins_here && decoder.is_idle();
        if !decoder.is_idle() {
            self.receivers[index].decoder = Some(decoder);
        }
        let end = self.completed + self.under_way.len() as u64;
        Ok(match found {
            Found::Nothing => data.len(),
            Found::Control(consumed) => consumed,
            Found::Message(consumed, Some(number)) if number < end => {
                self.arrived(index, number, now);
                if whole && self.typed && number >= self.completed {
                    let message = &mut self.under_way[(number - self.completed) as usize];
                    if message.frame.is_empty() {
                        message.frame.extend_from_slice(&data[..consumed]);
                    }
                }
                consumed
            }
            Found::Message(consumed, None) if self.typed => consumed,
            Found::Message(consumed, _) => {
                self.faults.altered += 1;
                self.faults.note(|| format!("connection {index} got what nobody had sent"));
                consumed
            }
        })
    }

    /// Counts a message that came over the slow path.
    fn arrived(&mut self, index: usize, number: u64, now: u64) {
        let place = &mut self.receivers[index].place;
        let first = place.next;
        match place.arrived(number, &mut self.faults) {
            Arrival::Stale => return,
            Arrival::Next | Arrival::Skipped(_) => {}
        }
        // Skipped ones are accounted for as lost, so that the window moves on.
        for number in first..=number {
            self.under_way[(number - self.completed) as usize].left -= 1;
        }
        let message = &self.under_way[(number - self.completed) as usize];
        self.deliveries += 1;
        if message.due >= self.record_from {
            self.latency.saturating_record(now - message.due);
        }
        Self::complete(&mut self.under_way, &mut self.completed, &mut self.spare);
    }

    fn ended(&mut self, index: usize, reason: &str) {
        self.faults.closed += 1;
        self.faults.note(|| format!("connection {index}: {reason}"));
        let place = &mut self.receivers[index].place;
        let from = (place.next - self.completed) as usize;
        for message in self.under_way.range_mut(from..) {
            message.left -= 1;
            self.faults.lost += 1;
            place.next += 1;
        }
        Self::complete(&mut self.under_way, &mut self.completed, &mut self.spare);
    }

    fn report(mut self, options: &Options, url: &str, measured: &Measured) -> Report {
        let undelivered: usize = self.under_way.iter().map(|message| message.left).sum();
        if undelivered > 0 {
            self.faults.lost += undelivered as u64;
            self.faults.note(|| format!("{undelivered} deliveries did not come in time"));
        }
        let mut report = options.common.report("fanout", url, options.connections);
        report.whole("size", "size", options.size as u64, "B");
        match options.rate {
            Some(rate) => report.whole("rate", "open loop, rate", u64::from(rate), "messages/s"),
            None => report.whole("window", "under way at once", u64::from(options.window), ""),
        }
        measured.report(
            &mut report,
            ("deliveries", "deliveries"),
            ("per_second", "deliveries/s"),
            ("us_per_delivery", "server CPU for a delivery"),
        );
        report.latency(&self.latency);
        report.faults(self.faults);
        report
    }
}

impl Work for Fanout {
    fn opened(&mut self, _: usize, _: &mut Link, _: u64) {}

    fn received(
        &mut self,
        index: usize,
        link: &mut Link,
        mut data: &mut [u8],
        now: u64,
    ) -> Result<(), String> {
        self.last_data = now;
        while !data.is_empty() {
            if self.receivers[index].decoder.is_none() {
                data = self.match_expected(index, data, now);
            }
            if !data.is_empty() {
                let consumed = self.decode(index, link, data, now)?;
                data = &mut data[consumed..];
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use throng_wire::{OpCode, encode};

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    /// Three receivers to which a full window of four messages is under way.
    fn published(arguments: &str) -> Fanout {
        let line = format!("fanout --connections 3 --size 64 --window 4 {arguments}");
        let Cli { options } = Cli::parse_from(line.split_whitespace());
        let mut fanout = Fanout::new(&options).expect("valid");
        while fanout.publish_next(&options, 0, 0, 3) {}
        assert_eq!(fanout.under_way.len(), 4);
        fanout
    }

    fn frame(fanout: &Fanout, number: u64) -> Vec<u8> {
        let mut frame = Vec::new();
        encode(&mut frame, OpCode::Text, &payload(fanout, number), None);
        frame
    }

    fn payload(fanout: &Fanout, number: u64) -> Vec<u8> {
        let mut template =
            Template::new(r#"{"type":"chat","text":"{}"}"#, 64, Kind::Text).expect("large enough");
        template.expect(stamp(fanout.sender, number))[2..].to_vec()
    }

    fn deliver(fanout: &mut Fanout, index: usize, bytes: &[u8]) {
        let mut link = Link::new();
        fanout.received(index, &mut link, &mut bytes.to_vec(), 1).expect("valid frames");
    }

    fn deliver_all(fanout: &mut Fanout, index: usize, numbers: &[u64]) {
        for &number in numbers {
            let frame = frame(fanout, number);
            deliver(fanout, index, &frame);
        }
    }

    fn counts(fanout: &Fanout) -> (u64, u64, u64, u64, u64) {
        let faults = &fanout.faults;
        (fanout.deliveries, faults.lost, faults.duplicated, faults.reordered, faults.altered)
    }

    #[test]
    fn everything_arrives_however_it_is_cut() {
        for size in [1, 2, 5, 65, 66, 67, 131, 264] {
            let mut fanout = published("");
            let stream: Vec<u8> = (0..4).flat_map(|number| frame(&fanout, number)).collect();
            for index in 0..3 {
                stream.chunks(size).for_each(|chunk| deliver(&mut fanout, index, chunk));
            }
            assert_eq!(counts(&fanout), (12, 0, 0, 0, 0), "in chunks of {size}");
            assert!(fanout.faults.is_clean());
            assert!(fanout.under_way.is_empty());
        }
    }

    #[test]
    fn each_fault_is_found() {
        for (numbers, expected) in [
            (&[0, 1, 2, 3][..], (12, 0, 0, 0, 0)),
            (&[0, 2, 3], (11, 1, 0, 0, 0)),
            (&[1, 2, 3], (11, 1, 0, 0, 0)),
            (&[0, 1, 1, 2, 3], (12, 0, 1, 0, 0)),
            (&[0, 2, 1, 3], (11, 0, 0, 1, 0)),
            (&[0, 1, 2, 3, 9], (12, 0, 0, 0, 1)),
        ] {
            let mut fanout = published("");
            deliver_all(&mut fanout, 1, numbers);
            deliver_all(&mut fanout, 0, &[0, 1, 2, 3]);
            deliver_all(&mut fanout, 2, &[0, 1, 2, 3]);
            assert_eq!(counts(&fanout), expected, "{numbers:?}");
            assert!(fanout.under_way.is_empty(), "the window must move on: {numbers:?}");
        }
    }

    #[test]
    fn one_wrong_bit_is_found() {
        for at in [0, 2, 20, 26, 50, 65] {
            let mut fanout = published("");
            let mut frame = frame(&fanout, 0);
            // The first byte becomes that of a binary message.
            frame[at] ^= if at == 0 { 3 } else { 1 };
            deliver(&mut fanout, 0, &frame);
            assert!(!fanout.faults.is_clean(), "byte {at}");
            assert_eq!(fanout.deliveries, 0, "byte {at}");
        }
    }

    #[test]
    fn fragments_and_pings_are_no_faults() {
        let mut fanout = published("");
        let message = payload(&fanout, 0);
        let mut stream = vec![0x01, 10];
        stream.extend(&message[..10]);
        encode(&mut stream, OpCode::Ping, b"there?", None);
        stream.extend([0x80, 54]);
        stream.extend(&message[10..]);
        stream.extend(frame(&fanout, 1));
        for chunk in stream.chunks(7) {
            deliver(&mut fanout, 0, chunk);
        }
        assert_eq!(counts(&fanout), (2, 0, 0, 0, 0));
        assert!(fanout.receivers[0].decoder.is_none(), "back on the fast path");
    }

    #[test]
    fn typed_messages_are_known_by_their_text() {
        let mut fanout = published("--typed");
        let mut stream = Vec::new();
        encode(&mut stream, OpCode::Text, br#"{"type":"connected","userCount":3}"#, None);
        for number in 0..4 {
            let payload = String::from_utf8(payload(&fanout, number)).expect("text");
            let typed = payload.replace(r#""text""#, r#""from":"u_1","seq":7,"text""#);
            encode(&mut stream, OpCode::Text, typed.as_bytes(), None);
        }
        for index in 0..3 {
            deliver(&mut fanout, index, &stream);
        }
        assert_eq!(counts(&fanout), (12, 0, 0, 0, 0));
        let mut fanout = published("--typed");
        let mut error = Vec::new();
        encode(&mut error, OpCode::Text, br#"{"type":"error","code":"rate_limited"}"#, None);
        deliver(&mut fanout, 0, &error);
        assert!(!fanout.faults.is_clean());
    }

    #[test]
    fn a_closed_receiver_is_not_waited_for() {
        let mut fanout = published("");
        deliver_all(&mut fanout, 0, &[0, 1, 2, 3]);
        deliver_all(&mut fanout, 1, &[0]);
        deliver_all(&mut fanout, 2, &[0, 1, 2, 3]);
        fanout.ended(1, "gone");
        assert_eq!((fanout.faults.lost, fanout.faults.closed), (3, 1));
        assert!(fanout.under_way.is_empty());
    }
}
