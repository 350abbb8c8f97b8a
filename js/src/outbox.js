import { backoff } from './backoff.js';
import { ThrongError } from './error.js';

/** @typedef {import('./websocket.js').Frame} Frame */

/**
 * A message that has no answer yet. As kept in a store: without the functions.
 * @typedef {object} Item
 * @property {number} id ours, for the application
 * @property {string} room
 * @property {Frame} message as it was when it was given to us
 * @property {number} ref 0 until it is first sent; then for ever the same
 * @property {boolean} sent may have been published in this session
 * @property {boolean} [flying] handed to this connection
 * @property {number} [tries] temporary refusals so far
 * @property {boolean} [slow] nothing is sent beside it
 * @property {boolean} [orphan] its room was left
 * @property {(ack: any) => void} [resolve]
 * @property {(error: ThrongError) => void} [reject]
 */

/** The most unanswered messages of one room on a connection. */
const WINDOW = 64;

/** Messages on their way to the server: first in, first out in each room, each published once. */
export class Outbox {
  /** In the order they were given to us. @type {Set<Item>} */ #items = new Set();
  /** Those with a `ref`. @type {Map<number, Item>} */ #refs = new Map();
  /** Rooms that refused something for now, until a timer ends it. @type {Map<string, ReturnType<typeof setTimeout>>} */ #paused = new Map();
  #id = 0;

  /**
   * @param {object} options
   * @param {number} options.size how many messages at most
   * @param {import('./backoff.js').Backoff} [options.backoff]
   * @param {() => void} options.changed
   * @param {() => void} options.ready something may be sent again
   * @param {(item: Item, error: ThrongError) => void} options.failed nobody waits for this one
   * @param {(limit: { room: string, code: string, retryIn: number }) => void} options.limited a room takes no more for now
   */
  constructor(options) {
    this.options = options;
  }

  get items() {
    return [...this.#items];
  }

  /** Puts back what a store had, before what came since. @param {Item[]} items @returns {number} the largest ref */
  restore(items) {
    const later = this.items;
    this.#items.clear();
    let largest = 0;
    for (const { room, message, ref, sent } of items) {
      const item = { id: ++this.#id, room, message, ref, sent };
      this.#items.add(item);
      if (ref > 0) this.#refs.set(ref, item);
      largest = Math.max(largest, ref);
    }
    for (const item of later) this.#items.add(item);
    return largest;
  }

  /** @param {string} room @param {Frame} message @returns {Promise<import('./room.js').Ack>} */
  push(room, message) {
    return new Promise((resolve, reject) => {
      if (this.#items.size >= this.options.size) throw new ThrongError('overloaded', 'The outbox is full.', { room });
      const snapshot = JSON.parse(JSON.stringify(message) ?? 'null');
      if (typeof snapshot?.type !== 'string') throw new ThrongError('bad_message', 'A message needs a type.', { room });
      this.#items.add({ id: ++this.#id, room, message: snapshot, ref: 0, sent: false, resolve, reject });
      this.options.changed();
    });
  }

  /**
   * What may be sent now, marked as sent.
   * @param {(room: string) => boolean} open whether the room takes messages
   * @param {() => number} nextRef
   * @returns {Item[]}
   */
  take(open, nextRef) {
    /** @type {Map<string, number>} */ const flying = new Map();
    for (const { room, flying: flies } of this.#items) if (flies) flying.set(room, (flying.get(room) ?? 0) + 1);
    /** One at a time after a refusal, so that no message overtakes the refused one again. @type {Map<string, number>} */
    const windows = new Map();
    return this.items.filter((item) => {
      const { room } = item;
      const count = flying.get(room) ?? 0;
      const window = windows.get(room) ?? (item.slow ? 1 : WINDOW);
      windows.set(room, window);
      if (item.flying || item.orphan || count >= window || !open(room) || this.#paused.has(room)) return false;
      flying.set(room, count + 1);
      item.ref ||= nextRef();
      item.flying = item.sent = true;
      this.#refs.set(item.ref, item);
      return true;
    });
  }

  /** The answer to one of ours; false when it is not. @param {Frame} ack */
  ack({ type, ref, ...ack }) {
    const item = this.#refs.get(ref);
    if (item) {
      this.#remove(item);
      item.resolve?.(ack);
    }
    return item;
  }

  /**
   * A refusal of one of ours. For now: it stays, and its room waits.
   * @param {number} ref
   * @param {ThrongError} error
   * @returns {boolean} whether it was ours
   */
  fail(ref, error) {
    const item = this.#refs.get(ref);
    if (!item) return false;
    item.flying = false;
    item.sent = error.code === 'unavailable'; // a storage that went away may have it
    if (!error.temporary || item.orphan) {
      this.reject(item, error);
      return true;
    }
    item.tries = (item.tries ?? 0) + 1;
    const wait = Math.max(error.retryAfter ?? 0, backoff(item.tries, this.options.backoff));
    for (const each of this.#items) if (each.room === item.room) each.slow = true; // so that none overtakes it again
    this.options.limited({ room: item.room, code: error.code, retryIn: wait });
    clearTimeout(this.#paused.get(item.room));
    this.#paused.set(item.room, setTimeout(() => {
      this.#paused.delete(item.room);
      this.options.ready();
    }, wait));
    return true;
  }

  /** @param {Item} item @param {ThrongError} error */
  reject(item, error) {
    this.#remove(item);
    if (item.reject) item.reject(error);
    else this.options.failed(item, error);
  }

  /** The connection is gone: nothing is on its way any more. */
  landed() {
    for (const item of this.items) {
      item.flying = false;
      if (item.orphan) this.#uncertain(item);
    }
    for (const timer of this.#paused.values()) clearTimeout(timer);
    this.#paused.clear();
  }

  /** The session is gone, and with it the memory of what was published. @param {boolean} resend */
  forgotten(resend) {
    for (const item of this.items) if (item.sent && !resend) this.#uncertain(item);
  }

  /** Nothing of this room will be sent any more. @param {string} room @param {ThrongError} error */
  drop(room, error) {
    for (const item of this.items) {
      if (item.room !== room) continue;
      if (item.flying) item.orphan = true;
      else if (item.sent) this.#uncertain(item);
      else this.reject(item, error);
    }
  }

  /** The client is closed. */
  clear() {
    for (const item of this.items) {
      if (item.sent) this.#uncertain(item);
      else this.reject(item, new ThrongError('closed', 'The client is closed.', { room: item.room }));
    }
  }

  /** Takes one back that was never sent. @param {number} id */
  discard(id) {
    for (const item of this.#items) {
      if (item.id !== id || item.sent) continue;
      this.reject(item, new ThrongError('discarded', 'The message was taken back.', { room: item.room }));
      return true;
    }
    return false;
  }

  /** @param {Item} item */
  #uncertain(item) {
    const { room, ref, message: payload } = item;
    this.reject(item, new ThrongError('uncertain', 'The answer was lost: it may have been published.', { room, ref, payload }));
  }

  /** @param {Item} item */
  #remove(item) {
    this.#items.delete(item);
    this.#refs.delete(item.ref);
    this.options.changed();
  }
}
