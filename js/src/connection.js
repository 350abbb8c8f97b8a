import { STOP, afterClose, backoff } from './backoff.js';

/** @typedef {import('./websocket.js').Target} Target */
/** @typedef {import('./websocket.js').Ears} Ears */
/** @typedef {import('./websocket.js').Transport} Transport */
/** @typedef {import('./websocket.js').Frame} Frame */
/** @typedef {(target: Target, ears: Ears) => Transport} Dial */

/**
 * `offline`: the next attempt is in `retryIn` milliseconds. `closed`: only `reconnect()` brings it back.
 * `code`: the close code, where there was one.
 * @typedef {{ status: 'connecting' | 'online' | 'offline' | 'closed', reason?: string, code?: number, retryIn?: number }} Status
 */

/**
 * Who uses a connection.
 * @typedef {object} Owner
 * @property {(failures: number) => Promise<Target | undefined>} target asked before every attempt; without one there is none
 * @property {(frame: Frame) => void} frame the first of every connection is `connected`
 * @property {() => void} lost the connection is gone, whatever happens next
 * @property {() => boolean} again whether to come back after 4401
 * @property {(status: Status) => void} status
 * @property {(error: unknown) => void} failed an attempt did not even start
 */

/** How long a connection must have lasted before the backoff starts afresh, in milliseconds. */
const STABLE = 5_000;

/** From the start of an attempt to `connected`, in milliseconds. */
const HANDSHAKE = 10_000;

/** How long a server has to answer when there is doubt, in milliseconds. */
const DOUBT = 5_000;

/** A timer that is this late was held up: the page slept or is throttled. In milliseconds. */
const LATE = 1_000;

/** Longest wait a server may ask for, in milliseconds. */
const LONGEST = 3_600_000;

/** We close with this when we mean to come back: to the server that is no farewell. */
const BACK_SOON = 4000;

/** One connection that comes back by itself. Knows when to dial, and whether the other side still lives. */
export class Connection {
  /** @type {Status['status']} */ #status = 'closed';
  /** @type {Transport | null} */ #transport = null;
  /** @type {Dial[]} what this attempt may still try */ #dials = [];
  /** @type {Dial | undefined} what worked last */ #proven;
  #attempt = 0;
  /** Attempts in a row that never got as far as `connected`. */
  #failures = 0;
  /** Tells late callbacks of an earlier attempt. */
  #turn = 0;
  #onlineSince = 0;
  #notBefore = 0;
  #heartbeat = 25_000;
  #heard = 0;
  #pinged = false;
  #again = false;
  #due = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} dial, handshake, or the server's slot */ #timer;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #watch;

  /**
   * @param {Owner} owner
   * @param {(proven: Dial | undefined) => Dial[]} dials the transports to try, in order
   * @param {import('./backoff.js').Backoff} [options]
   */
  constructor(owner, dials, options) {
    this.owner = owner;
    this.dials = dials;
    this.options = options;
  }

  get status() {
    return this.#status;
  }

  /** Connects at once, or leaves and connects again. */
  open() {
    this.#notBefore = this.#attempt = 0;
    this.#start();
  }

  /** Says goodbye. */
  close(reason = '') {
    this.#drop(1000);
    this.#set({ status: 'closed', reason });
  }

  /** Something is wrong with this connection: come back on a new one. @param {string} reason */
  restart(reason) {
    this.#closed(BACK_SOON, reason);
  }

  /** The network or the page is back: ends a wait that is ours, not one the server asked for; looks after a live connection. */
  wake() {
    if (this.#status === 'offline' && Date.now() >= this.#notBefore) this.#start();
    else this.probe();
  }

  /** Asks whether the other side is still there. */
  probe() {
    if (this.#status === 'online' && !(this.#pinged && this.#due - Date.now() <= DOUBT)) this.#ping(DOUBT);
  }

  /** Not before this many milliseconds from now: the server said so. @param {unknown} wait */
  hold(wait) {
    if (typeof wait === 'number' && wait > 0) this.#notBefore = Math.max(this.#notBefore, Date.now() + Math.min(wait, LONGEST));
  }

  /** The server is draining and gave us a slot. It hangs up itself; if it does not, we do. @param {unknown} after */
  slot(after) {
    this.hold(after);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.open(), Math.max(this.#notBefore - Date.now(), 0));
  }

  /** Hands a frame to the transport when there is a live one. That is not yet a delivery. @param {Frame} frame */
  send(frame) {
    if (this.#status === 'online') this.#transport?.send(frame);
  }

  #start() {
    this.#drop(BACK_SOON);
    this.#dials = this.dials(this.#proven);
    this.#set({ status: 'connecting' });
    this.#next();
  }

  async #next() {
    const dial = /** @type {Dial} */ (this.#dials.shift());
    const turn = ++this.#turn;
    /** @type {Target | undefined} */
    let target;
    try {
      target = await this.owner.target(this.#failures);
    } catch (error) {
      if (turn !== this.#turn) return;
      this.owner.failed(error);
      this.#dials = [];
      return this.#closed(1006, 'ticket');
    }
    if (turn !== this.#turn) return;
    if (!target) return this.#set({ status: 'closed', reason: 'no ticket', code: 4401 });
    /** @param {() => void} act @returns {void} only while this attempt is the current one */
    const mine = (act) => {
      if (turn === this.#turn) act();
    };
    this.#timer = setTimeout(() => this.#closed(1006, 'handshake'), HANDSHAKE);
    try {
      this.#transport = dial(target, {
        frame: (frame) => mine(() => this.#frame(dial, frame)),
        heard: () => mine(() => this.#hear()),
        closed: (code, reason, retryAfter) => mine(() => {
          this.hold(retryAfter);
          this.#transport = null;
          this.#closed(code, reason);
        }),
      });
    } catch (error) {
      this.owner.failed(error); // no such constructor, or not an address
      this.#closed(1006, 'handshake');
    }
  }

  /** @param {Dial} dial @param {unknown} value */
  #frame(dial, value) {
    this.#hear();
    const frame = /** @type {Frame} */ (value);
    if (typeof frame?.type !== 'string') return;
    if (frame.type === 'connected') {
      clearTimeout(this.#timer);
      this.#proven = dial;
      this.#onlineSince = Date.now();
      this.#failures = this.#notBefore = 0;
      if (frame.heartbeat >= 1_000) this.#heartbeat = frame.heartbeat;
      this.#status = 'online'; // the owner may send from now on, and tells when it is ready
      this.#arm(this.#heartbeat);
      this.owner.frame(frame);
      if (this.#transport !== null) this.#set({ status: 'online' });
    } else if (this.#status === 'online') this.owner.frame(frame);
  }

  #hear() {
    this.#heard = Date.now();
    if (!this.#pinged) return;
    this.#pinged = this.#again = false;
    this.#arm(this.#heartbeat);
  }

  /** @param {number} delay */
  #arm(delay) {
    clearTimeout(this.#watch);
    this.#due = Date.now() + delay;
    this.#watch = setTimeout(() => this.#look(), delay);
  }

  /**
   * Browsers answer the server's pings unseen, so silence is measured with pings of our own: one after a heartbeat
   * without a frame, given up a heartbeat later. A timer that fires late proves nothing but that we were asleep:
   * then the server gets a second, short chance.
   */
  #look() {
    const now = Date.now();
    const late = now - this.#due > LATE;
    if (!this.#pinged) {
      const silent = now - this.#heard;
      if (silent >= this.#heartbeat) this.#ping(late ? DOUBT : this.#heartbeat);
      else this.#arm(this.#heartbeat - Math.max(silent, 0)); // clocks are set back
    } else if (late && !this.#again) {
      this.#again = true;
      this.#ping(DOUBT);
    } else this.restart('silence');
  }

  /** @param {number} patience */
  #ping(patience) {
    this.#pinged = true;
    this.#arm(this.#transport?.mute ? this.#heartbeat : patience);
    this.send({ type: 'ping' });
  }

  /** Forgets the transport at once, whatever it still wants to say. @param {number} code */
  #drop(code) {
    this.#turn += 1;
    clearTimeout(this.#timer);
    clearTimeout(this.#watch);
    const [transport, status] = [this.#transport, this.#status];
    this.#transport = null;
    this.#pinged = this.#again = false;
    transport?.close(code);
    if (status === 'online') {
      this.#status = 'offline';
      this.owner.lost();
    }
  }

  /** @param {number} code @param {string} reason */
  #closed(code, reason) {
    const online = this.#status === 'online';
    this.#drop(BACK_SOON);
    const least = code === 4401 && !this.owner.again() ? STOP : afterClose(code);
    if (least === STOP) {
      this.#set({ status: 'closed', reason: reason || String(code), code });
      return;
    }
    if (!online && this.#dials.length > 0) {
      this.#next();
      return;
    }
    const now = Date.now();
    if (!online) this.#failures += 1;
    else if (now - this.#onlineSince >= STABLE) this.#attempt = 0;
    this.#notBefore = Math.max(this.#notBefore, now + least);
    const wait = Math.round(Math.max(backoff(this.#attempt, this.options), Math.min(this.#notBefore - now, LONGEST)));
    this.#attempt += 1;
    this.#timer = setTimeout(() => this.#start(), wait);
    this.#set({ status: 'offline', reason: reason || String(code), code, retryIn: wait });
  }

  /** @param {Status} status */
  #set(status) {
    this.#status = status.status;
    this.owner.status(status);
  }
}
