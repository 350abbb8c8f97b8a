// When to come back: close codes (protocol §6) and full-jitter backoff (§7). Pure.

/**
 * @typedef {object} Backoff
 * @property {number} [base] ceiling of the first wait, in milliseconds; default 500
 * @property {number} [max] ceiling of all waits, in milliseconds; default 30 000
 * @property {() => number} [random] in [0, 1); default `Math.random`
 */

/**
 * Anything from 0 to the doubled ceiling, so that clients do not come back together.
 * @param {number} attempt 0 for the first wait
 * @param {Backoff} [options]
 * @returns {number} milliseconds
 */
export const backoff = (attempt, { base = 500, max = 30_000, random = Math.random } = {}) =>
  random() * Math.min(max, base * 2 ** Math.min(attempt, 20));

/** `afterClose`: do not come back. */
export const STOP = -1;

/**
 * @param {number} code a WebSocket close code
 * @returns {number} the least wait in milliseconds before coming back, or `STOP`
 */
export function afterClose(code) {
  if (code === 1013) return 2_000;
  if (code === 4429) return 5_000;
  if (code === 4401 || code === 4408) return 0;
  return /^(44..|100[023789]|1010)$/.test(String(code)) ? STOP : 0;
}
