import { CODES } from './codes.js';

/**
 * A code of the error table, or one of our own:
 * `closed` the client was closed; `uncertain` sent, but the answer was lost with the session: it may have been
 * published; `timeout` no answer in time; `discarded` taken back with `client.discard`.
 * @typedef {keyof typeof CODES | 'closed' | 'uncertain' | 'timeout' | 'discarded'} Code
 */

/** Why something was refused or could not be done. */
export class ThrongError extends Error {
  /**
   * @param {Code | (string & {})} code
   * @param {string} [message] for people
   * @param {{ temporary?: unknown, retryAfter?: unknown, room?: unknown, ref?: unknown, payload?: unknown }} [details]
   */
  constructor(code, message = code, { temporary, retryAfter, room, ref, payload } = {}) {
    super(message);
    this.name = 'ThrongError';
    /** @type {string} */
    this.code = code;
    /** Whether the same may succeed later. */
    this.temporary = typeof temporary === 'boolean' ? temporary : /** @type {Record<string, boolean>} */ (CODES)[code] === true;
    /** Milliseconds to wait before that, when the server said so. @type {number | undefined} */
    this.retryAfter = typeof retryAfter === 'number' ? retryAfter : undefined;
    /** @type {string | undefined} */
    this.room = typeof room === 'string' ? room : undefined;
    /** @type {number | undefined} */
    this.ref = typeof ref === 'number' ? ref : undefined;
    /** The message that was not published, when nobody waits for its promise (it was queued before a reload). */
    this.payload = payload;
  }
}

/** The error in an `error` message of the server. @param {Record<string, unknown>} frame */
export const refusal = (frame) => new ThrongError(String(frame.code), typeof frame.message === 'string' ? frame.message : undefined, frame);
