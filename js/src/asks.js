import { ThrongError, refusal } from './error.js';

/** @typedef {import('./websocket.js').Frame} Frame */
/** @typedef {import('./room.js').Room} Room */

/**
 * A question on its way.
 * @typedef {object} Ask
 * @property {Frame} frame
 * @property {Room} [room] that must be joined first
 * @property {number} ref 0 while it is not sent
 * @property {(reply: Frame) => void} resolve
 * @property {(error: ThrongError) => void} reject
 * @property {ReturnType<typeof setTimeout>} timer
 */

/** Questions to the server that may be asked again: on this connection or a later one, until there is an answer. */
export class Asks {
  /** @type {Set<Ask>} */ #asks = new Set();

  /** @param {number} timeout in milliseconds @param {(frame: Frame) => number} send returns the ref, 0 while offline */
  constructor(timeout, send) {
    this.timeout = timeout;
    this.send = send;
  }

  /** @param {Frame} frame @param {Room} [room] @returns {Promise<any>} */
  add(frame, room) {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#settle(ask).reject(new ThrongError('timeout', 'No answer in time.', { room: room?.name })), this.timeout);
      /** @type {Ask} */
      const ask = { frame, room, ref: 0, resolve, reject, timer };
      this.#asks.add(ask);
      this.sendAll();
    });
  }

  /** Those that were not sent on this connection, and may be. */
  sendAll() {
    for (const ask of this.#asks) if (ask.ref === 0 && (!ask.room || ask.room.joined)) ask.ref = this.send(ask.frame);
  }

  /** Whether the frame is the answer to one. @param {Frame} frame */
  answered(frame) {
    const ask = [...this.#asks].find(({ ref }) => ref === frame.ref && ref > 0);
    if (!ask) return false;
    const { ref, type, ...answer } = frame;
    this.#settle(ask);
    if (type === 'error') ask.reject(refusal(frame));
    else ask.resolve(/** @type {Frame} */ (answer));
    return true;
  }

  /** The connection is gone. */
  landed() {
    for (const ask of this.#asks) ask.ref = 0;
  }

  /** No answer is to come any more, to those about a room or to all. @param {ThrongError} error @param {Room} [room] */
  end(error, room) {
    for (const ask of this.#asks) if (!room || ask.room === room) this.#settle(ask).reject(error);
  }

  /** @param {Ask} ask */
  #settle(ask) {
    clearTimeout(ask.timer);
    this.#asks.delete(ask);
    return ask;
  }
}
