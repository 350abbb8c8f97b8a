//! What the peer of a connection may make us do, and keep for it.

use std::time::Duration;

use throng_hub::{CountedMeter, Meter, Timestamp};
use throng_protocol::{Code, Fault};
use throng_wire::{CloseCode, ProtocolError};

use super::{Conn, Rare, Reading};
use crate::engine::Shared;
use crate::policy::{ABUSE, TRY_LATER};
use crate::tick::Out;
use crate::wheel::{Coarse, Wheel};

/// What is spent of an endpoint's rates.
#[derive(Default)]
pub(super) struct Meters {
    messages: Meter,
    bytes: Meter,
}

/// What few connections have: those of clients that go on although they are refused.
#[derive(Default)]
pub(super) struct Abuse {
    messages: Meter,
    bytes: Meter,
    /// Until when everything is refused.
    shut: u64,
}

/// A message of a client of the typed protocol, as far as its limits are concerned.
#[derive(Clone, Copy)]
pub(crate) struct Bill<'a> {
    /// In tokens of the rate.
    pub(crate) cost: u32,
    /// As long as it was.
    pub(crate) bytes: usize,
    /// Whether it may be handled while others have to wait: it does not matter in which order.
    pub(crate) urgent: bool,
    /// What all connections of its user have spent together.
    pub(crate) user: Option<&'a CountedMeter>,
}

impl Conn {
    /// Pays for what the peer has sent: whether it is to be handled. A client of the typed protocol is
    /// refused what it cannot pay; any other is not read from until it has paid.
    #[inline]
    pub(super) fn pay(&mut self, cost: u32, bytes: usize, out: &mut Out) -> bool {
        if self.unlimited {
            return true;
        }
        if self.session.refuses() {
            let bill = Bill { cost, bytes, urgent: true, user: None };
            return self.charge(&bill, out).is_ok();
        }
        self.spend(cost, bytes, out);
        true
    }

    /// Pays for a message of a client of the typed protocol.
    ///
    /// # Errors
    /// `rate_limited`. Then everything is refused for at least [`SHUT`], so that what was sent behind it does
    /// not overtake it. A client that goes on all the same is closed with `4429`.
    pub(crate) fn admit(&mut self, bill: &Bill<'_>, out: &mut Out) -> Result<(), Fault> {
        let free = self.unlimited && bill.user.is_none();
        if free || self.paid {
            return Ok(()); // it was paid for when it came in
        }
        self.charge(bill, out).map_err(|wait| {
            out.counters.rate_limited.add(1);
            Fault::new(Code::RateLimited).with_retry_after(wait)
        })
    }

    fn charge(&mut self, bill: &Bill<'_>, out: &mut Out) -> Result<(), Duration> {
        let (policy, now) = (&self.policy, out.now);
        let &Bill { cost, bytes, urgent, user } = bill;
        let weight = weight(bytes);
        let shut = self.rare.as_ref().and_then(|rare| rare.abuse.as_ref()).map_or(0, |a| a.shut);
        let mut paid = match shut.saturating_sub(now) {
            rest @ 1.. if !urgent => Err(Duration::from_nanos(rest)),
            _ => Ok(()),
        };
        if let Some(rate) = &policy.bytes_rate
            && paid.is_ok()
        {
            paid = self.meters.bytes.take(rate, weight, now);
        }
        if let Some(rate) = &policy.rate
            && paid.is_ok()
        {
            paid = self.meters.messages.take(rate, cost, now);
        }
        if let (Some(rate), Some(user)) = (&policy.user_rate, user)
            && paid.is_ok()
        {
            paid = user.take(rate, cost, now);
        }
        paid.map_err(|wait| self.refuse(bill, wait, shut, out))
    }

    /// Something was refused. As much as may be sent may also be refused; whoever sends more than that has
    /// been told, and does not listen.
    #[cold]
    fn refuse(&mut self, bill: &Bill<'_>, wait: Duration, shut: u64, out: &mut Out) -> Duration {
        let abuse = self.rare.get_or_insert_default().abuse.get_or_insert_default();
        let (rate, bytes_rate) = (&self.policy.rate, &self.policy.bytes_rate);
        let wait = match bill.urgent || shut > out.now {
            true => wait,
            false => {
                let wait = wait.max(SHUT);
                let nanos = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
                abuse.shut = out.now.saturating_add(nanos);
                wait
            }
        };
        let over = |meter: &mut Meter, rate: &Option<throng_hub::Rate>, cost| {
            rate.as_ref().is_some_and(|rate| meter.take(rate, cost, out.now).is_err())
        };
        let (cost, weight) = (bill.cost, weight(bill.bytes));
        if over(&mut abuse.messages, rate, cost) | over(&mut abuse.bytes, bytes_rate, weight)
            && self.is_open()
        {
            out.counters.rate_closed.add(1);
            self.begin_close(out, ABUSE, "too many messages, although they were refused");
        }
        wait
    }

    /// Pays whether it can or not; a peer in debt is not read from.
    fn spend(&mut self, cost: u32, bytes: usize, out: &mut Out) {
        let now = out.now;
        let mut wait = Duration::ZERO;
        if let Some(rate) = &self.policy.rate {
            wait = self.meters.messages.spend(rate, cost, now);
        }
        if let Some(rate) = &self.policy.bytes_rate {
            wait = wait.max(self.meters.bytes.spend(rate, weight(bytes), now));
        }
        if !wait.is_zero() {
            self.throttle(wait, out);
        }
    }

    #[cold]
    fn throttle(&mut self, wait: Duration, out: &mut Out) {
        if matches!(self.reading, Reading::On | Reading::Deferred) {
            self.reading = Reading::Throttled;
            self.rare.get_or_insert_default().until = out.coarse + Wheel::steps(wait);
            out.counters.throttled.add(1);
        }
    }

    /// Whether it is not read from because it has sent too fast.
    pub(crate) fn is_throttled(&self) -> bool {
        self.reading == Reading::Throttled
    }

    /// Whether it has paid.
    pub(crate) fn may_go_on(&self, now: Coarse) -> bool {
        self.is_throttled() && self.rare.as_ref().is_none_or(|rare| rare.until <= now)
    }

    /// Looks at what is incomplete after input was handled.
    #[inline]
    pub(super) fn check_partial(&mut self, out: &mut Out, shared: &Shared) {
        if self.decoder.is_idle() {
            self.partial = 0;
            return;
        }
        if self.partial == 0 {
            self.partial = out.coarse.max(1);
        }
        if self.is_open() && self.is_over_budget() {
            out.counters.budget_exceeded.add(1);
            self.fail(&ProtocolError::MessageTooBig { limit: self.policy.budget }, out, shared);
        }
    }

    /// Whether more is kept for the peer than its endpoint allows.
    #[inline]
    pub(super) fn is_over_budget(&self) -> bool {
        self.policy.budget > 0 && self.held() > self.policy.budget
    }

    /// A message takes too long: ends the connection if so. What is not read for reasons of ours does not
    /// count.
    pub(crate) fn check_overdue(&mut self, out: &mut Out) {
        if self.partial == 0 || !self.is_open() {
            return;
        }
        if self.reading != Reading::On || self.queued {
            self.partial = out.coarse.max(1);
        } else if self.partial_due() <= out.coarse {
            out.counters.partial_timeouts.add(1);
            self.break_off(out, CloseCode::POLICY, "the message took too long");
        }
    }

    fn partial_due(&self) -> Coarse {
        self.partial.saturating_add(Wheel::steps(self.policy.partial_timeout))
    }

    /// Whether the worker has to [account](Conn::account) for something, or to look at it later.
    #[inline]
    pub(crate) fn is_remarkable(&self) -> bool {
        self.partial != 0
            || self.reading == Reading::Throttled
            || self.homeless
            || self.held() != self.accounted
    }

    /// When the worker is to look at it, if it does not do so anyway.
    pub(crate) fn next_look(&mut self, now: Coarse) -> Option<Coarse> {
        let throttled = self.is_throttled().then(|| self.rare.as_ref().map_or(0, |r| r.until));
        let partial = (self.partial != 0).then(|| self.partial_due());
        // Not all at once.
        let home =
            self.homeless.then(|| now + Wheel::steps(HOME + HOME * (self.id.serial % 8) / 8));
        let due = throttled.into_iter().chain(partial).chain(home).min();
        let due = due.filter(|_| self.is_open())?;
        if self.watched != 0 && self.watched <= due {
            return None;
        }
        self.watched = due.max(1);
        Some(due)
    }

    /// It is not in its user's own room, which could not be opened; that is tried again.
    #[cold]
    pub(crate) fn set_homeless(&mut self, since: Timestamp) {
        self.homeless = true;
        self.rare.get_or_insert_default().homeless.get_or_insert(since);
    }

    /// Since when it has not been in its user's own room.
    pub(crate) fn homeless_since(&self) -> Option<Timestamp> {
        self.rare.as_ref()?.homeless.filter(|_| self.homeless)
    }

    /// It is in its user's own room, or will not be.
    pub(crate) fn come_home(&mut self) {
        self.homeless = false;
        if let Some(rare) = &mut self.rare {
            rare.homeless = None;
        }
    }

    /// The worker looks at it.
    pub(crate) fn looked_at(&mut self, now: Coarse) {
        if self.watched <= now {
            self.watched = 0;
        }
    }

    /// Whether it is slow enough to be given only the latest messages.
    pub(crate) fn is_behind_enough(&self) -> bool {
        self.owed() > LAG.min(self.policy.outbox)
    }

    /// Bytes that are kept for the peer.
    #[inline]
    pub(crate) fn held(&self) -> usize {
        self.decoder.held() + self.owed() + self.rare.as_ref().map_or(0, |rare| rare.held())
    }

    /// Tells the budget what is kept. A connection that would keep more when nothing is left is closed, and
    /// lets go of what it can.
    pub(crate) fn account(&mut self, out: &mut Out) {
        let held = self.held();
        out.budget.change(self.accounted, held);
        let grown = held > self.accounted;
        self.accounted = held;
        if grown && out.budget.is_spent() && self.is_open() {
            out.counters.memory_closed.add(1);
            if let Some(outbox) = &mut self.outbox {
                outbox.shed();
            }
            self.break_off(out, TRY_LATER, "the server is out of memory");
            out.budget.change(self.accounted, self.held());
            self.accounted = self.held();
        }
    }

    /// The connection is gone, and with it all it kept.
    pub(crate) fn give_back(&mut self, out: &Out) {
        out.budget.change(self.accounted, 0);
        self.accounted = 0;
    }
}

impl Rare {
    fn held(&self) -> usize {
        let parked = self.parked.as_ref().map_or(0, Vec::capacity);
        let deflater = if self.deflater.is_some() { DEFLATER } else { 0 };
        self.stash.capacity() + parked + deflater
    }
}

/// What a message costs of a rate in bytes.
fn weight(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX).saturating_add(HEADER)
}

/// How long after a failure, or up to twice as long, a client's own room is tried again.
const HOME: Duration = Duration::from_secs(1);

/// After a refusal nothing is taken for at least so long.
const SHUT: Duration = Duration::from_millis(250);

/// A frame is not for nothing even when it is empty.
const HEADER: u32 = 8;

/// A hiccup of this many bytes makes nobody a slow reader.
const LAG: usize = 16 << 10;

/// About what a compressor takes.
const DEFLATER: usize = 256 << 10;
