// Who is typing where. Told at most every few seconds, believed for a little longer. No DOM, no socket, no timer.

export class Typing {
  /** @type {Map<string, { until: number, name: string }>} userId → until when to believe it, and what they call themselves */ #who = new Map();
  #told = -Infinity;

  /** @param {() => number} [now] milliseconds */
  constructor(now = Date.now) {
    this.now = now;
  }

  /** Whether to tell the others now that we are typing. */
  due() {
    if (this.now() - this.#told < EVERY) return false;
    this.#told = this.now();
    return true;
  }

  /** We sent what we typed, or gave it up: the next key is news again. */
  done() {
    this.#told = -Infinity;
  }

  /** @param {string} userId @param {string} name as claimed */
  heard(userId, name) {
    if (this.#who.size < CROWD) this.#who.set(userId, { until: this.now() + BELIEVED, name });
  }

  /** They sent it, or left. @param {string} userId */
  stopped(userId) {
    this.#who.delete(userId);
  }

  /** Another room. */
  clear() {
    this.#who.clear();
    this.done();
  }

  /** Those who are typing now. @returns {{ userId: string, name: string }[]} */
  current() {
    const now = this.now();
    for (const [userId, { until }] of this.#who) if (until <= now) this.#who.delete(userId);
    return [...this.#who].map(([userId, { name }]) => ({ userId, name }));
  }
}

/**
 * "Ada is typing…", "Ada and Bo are typing…", "Several people are typing…"; '' for nobody.
 * @param {readonly string[]} names
 */
export function typingText(names) {
  if (names.length === 0) return '';
  if (names.length === 1) return `${names[0]} is typing…`;
  if (names.length === 2) return `${names[0]} and ${names[1]} are typing…`;
  return 'Several people are typing…';
}

/** How often we tell, and how long we believe, in milliseconds. */
export const EVERY = 3_000;
export const BELIEVED = 5_000;

/** How many are kept track of. */
const CROWD = 50;
