// When to come back: close codes (protocol §6) and backoff (§7). Pure.

/** First and longest wait between two attempts, in milliseconds. */
export const FIRST = 500;
export const LONGEST = 30_000;

/** How long a connection must have lasted before the backoff starts afresh, in milliseconds. */
export const STABLE = 5_000;

/**
 * What a close code asks of the client.
 * @typedef {{ retry: boolean, floor: number, text: string }} Verdict
 *   `floor` is the least wait in milliseconds; `text` is shown to the user.
 */

/**
 * @param {number} code
 * @param {string} reason what the server said; shown when the client stops
 * @returns {Verdict}
 */
export function afterClose(code, reason) {
  const said = reason === '' ? '' : ` (${reason})`;
  switch (code) {
    case 1000: return stop('You are disconnected.');
    case 1002: case 1003: case 1007: case 1010: return stop(`The server did not understand this page${said}.`);
    case 1008: case 4403: return stop(`The server does not let you in${said}.`);
    case 1009: return stop('A message was too big for the server, so it hung up.');
    case 1012: case 1001: return again('The server is restarting.');
    case 1013: return again('The server is busy.', 2_000);
    case 4401: return stop('Your session is no longer valid.');
    case 4408: return again('The connection went quiet.');
    case 4409: return stop('The chat was opened somewhere else.');
    case 4429: return again('You were sending too fast.', 5_000);
    case 4508: return again('The connection was too slow.');
    default:
      if (code >= 4400 && code <= 4499) return stop(`The server hung up${said}.`);
      return again('Connection lost.');
  }
}

/**
 * Full jitter: anything from 0 to the doubled ceiling, so that clients do not come back together.
 * @param {number} attempt 0 for the first wait
 * @param {() => number} random in [0, 1)
 * @returns {number} milliseconds
 */
export function backoff(attempt, random) {
  return random() * Math.min(LONGEST, FIRST * 2 ** Math.min(attempt, 16));
}

/** @param {string} text @returns {Verdict} */
const stop = (text) => ({ retry: false, floor: 0, text });

/** @param {string} text @param {number} [floor] @returns {Verdict} */
const again = (text, floor = 0) => ({ retry: true, floor, text });
