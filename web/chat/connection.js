// One WebSocket that comes back by itself. Knows the protocol's connection rules and nothing of the page.
import { STABLE, afterClose, backoff } from './policy.js';

/**
 * @typedef {{ type: string, [field: string]: unknown }} Message
 * @typedef {{ state: 'connecting' }
 *   | { state: 'online' }
 *   | { state: 'waiting', until: number, text: string }
 *   | { state: 'stopped', text: string }} Status
 *   `waiting`: the next attempt is at `until` (ms since 1970). `stopped`: only `retryNow` brings it back.
 */

export class Connection {
  /** @type {WebSocket | null} */ #socket = null;
  /** @type {Status} */ #status = { state: 'stopped', text: '' };
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #timer;
  /** @type {ReturnType<typeof setInterval> | undefined} */ #pulse;
  #attempt = 0;
  #onlineSince = 0;
  #heartbeat = 25_000;
  #heard = 0;
  /** When a ping went out that nothing has answered yet, and how often the pulse has looked since. */
  #pinged = 0;
  #looks = 0;
  #patience = 0;
  /** Not before this time (from `reconnect` and `retryAfter`). */
  #notBefore = 0;

  /**
   * @param {object} options
   * @param {() => string} options.url asked at every attempt
   * @param {(message: Message) => void} options.onMessage `connected` is the first of every connection
   * @param {(status: Status) => void} options.onStatus
   * @param {() => number} [options.random]
   */
  constructor({ url, onMessage, onStatus, random = Math.random }) {
    this.url = url;
    this.onMessage = onMessage;
    this.onStatus = onStatus;
    this.random = random;
  }

  get status() {
    return this.#status;
  }

  /** Connects, or leaves and connects again under what `url` says now. */
  open() {
    const old = this.#socket;
    this.#drop();
    this.#attempt = 0;
    this.#notBefore = 0;
    if (old === null || old.readyState === WebSocket.CLOSED) {
      this.#dial();
      return;
    }
    // First out, then in: others are to see it in this order.
    this.#set({ state: 'connecting' });
    const next = () => {
      if (this.#socket === null && this.#status.state === 'connecting') this.#dial();
    };
    old.onclose = next;
    this.#timer = setTimeout(next, FAREWELL);
  }

  /** What the user asks for: ends the wait, or the stop. Does nothing while connecting or online. */
  retryNow() {
    if (this.#status.state === 'waiting' || this.#status.state === 'stopped') this.#dial();
  }

  /** The network or the page is back: ends a wait that is ours, not one the server asked for; looks after a live socket. */
  wake() {
    if (this.#status.state === 'waiting' && Date.now() >= this.#notBefore) this.#dial();
    else this.probe();
  }

  /** Asks whether the other side is still there; without any sign in `patience` ms the socket is given up. */
  probe(patience = 5_000) {
    if (this.#status.state !== 'online' || this.#pinged !== 0) return;
    this.#ping(patience);
    setTimeout(() => this.#look(), patience + 50);
  }

  /**
   * Hands a message to the socket. False when there is no live connection; true is not yet a delivery, the `ack` is.
   * @param {Message} message
   */
  send(message) {
    if (this.#status.state !== 'online' || this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify(message));
    return true;
  }

  #dial() {
    clearTimeout(this.#timer);
    this.#set({ state: 'connecting' });
    const socket = new WebSocket(this.url());
    this.#socket = socket;
    socket.onmessage = (event) => this.#receive(event.data);
    socket.onclose = (event) => this.#closed(event.code, event.reason);
    this.#timer = setTimeout(() => this.#giveUp(), HANDSHAKE);
  }

  /** @param {unknown} data */
  #receive(data) {
    this.#heard = Date.now();
    this.#pinged = 0;
    const message = parse(data);
    if (message === null) return;
    if (message.type === 'connected') this.#online(message);
    if (message.type === 'reconnect') this.#asked(Number(message.after) || 0);
    if (message.type === 'error' && message.ref === undefined) this.#notBefore = Date.now() + (Number(message.retryAfter) || 0);
    this.onMessage(message);
  }

  /** @param {Message} message */
  #online(message) {
    clearTimeout(this.#timer);
    this.#onlineSince = Date.now();
    this.#notBefore = 0;
    if (typeof message.heartbeat === 'number' && message.heartbeat >= 1_000) this.#heartbeat = message.heartbeat;
    clearInterval(this.#pulse);
    this.#pulse = setInterval(() => this.#look(), Math.min(this.#heartbeat / 4, 5_000));
    this.#set({ state: 'online' });
  }

  /** The server is draining and gave us a slot. It hangs up itself; if it does not, we do. @param {number} after */
  #asked(after) {
    const wait = Math.min(Math.max(after, 0), LONGEST_SLOT);
    this.#notBefore = Date.now() + wait;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.open(), wait);
  }

  /**
   * The browser answers the server's pings unseen, so silence is measured with pings of our own: one after a
   * heartbeat without a message, given up a heartbeat later. A throttled background tab looks rarely; it must have
   * looked twice, so that waking up is not mistaken for silence.
   */
  #look() {
    if (this.#status.state !== 'online') return;
    const now = Date.now();
    if (this.#pinged === 0) {
      if (now - this.#heard >= this.#heartbeat) this.#ping(this.#heartbeat);
      return;
    }
    this.#looks += 1;
    if (now - this.#pinged >= this.#patience && this.#looks >= 2) this.#giveUp();
    else if (now - this.#pinged >= this.#patience) setTimeout(() => this.#look(), 1_000);
  }

  /** @param {number} patience */
  #ping(patience) {
    this.#pinged = Date.now();
    this.#patience = patience;
    this.#looks = 0;
    this.send({ type: 'ping', sent: this.#pinged });
  }

  #giveUp() {
    this.#drop();
    this.#closed(1006, '');
  }

  /** Forgets the socket at once, whatever it still wants to say. */
  #drop() {
    clearTimeout(this.#timer);
    clearInterval(this.#pulse);
    const socket = this.#socket;
    this.#socket = null;
    this.#pinged = 0;
    if (socket === null) return;
    socket.onmessage = null;
    socket.onclose = null;
    socket.close(1000);
  }

  /** @param {number} code @param {string} reason */
  #closed(code, reason) {
    const now = Date.now();
    const lasted = this.#status.state === 'online' ? now - this.#onlineSince : 0;
    if (lasted >= STABLE) this.#attempt = 0;
    this.#drop();
    const verdict = afterClose(code, reason);
    if (!verdict.retry) {
      this.#set({ state: 'stopped', text: verdict.text });
      return;
    }
    this.#notBefore = Math.max(this.#notBefore, now + verdict.floor);
    const wait = Math.max(backoff(this.#attempt, this.random), this.#notBefore - now);
    this.#attempt += 1;
    this.#timer = setTimeout(() => this.#dial(), wait);
    this.#set({ state: 'waiting', until: now + wait, text: verdict.text });
  }

  /** @param {Status} status */
  #set(status) {
    this.#status = status;
    this.onStatus(status);
  }
}

/** @param {unknown} data @returns {Message | null} */
function parse(data) {
  if (typeof data !== 'string') return null;
  try {
    const value = JSON.parse(data);
    return typeof value === 'object' && value !== null && typeof value.type === 'string' ? value : null;
  } catch {
    return null;
  }
}

/** How long the closing handshake of the old connection may hold up the new one, in milliseconds. */
const FAREWELL = 1_000;

/** From the first byte to `connected`, in milliseconds. */
const HANDSHAKE = 10_000;

/** Longest slot we believe, in milliseconds. */
const LONGEST_SLOT = 120_000;
