/** @typedef {{ token: string, sessionId: string, userId: string, ref: number }} Kept what `session` stores keep */

/** From when the clock of shared refs counts: 2026, in milliseconds since 1970. */
const BEGIN = 1_767_225_600_000;

/** How many refs a stored session is ahead, so that not every message is a write. */
const AHEAD = 256;

/** Who we are to the server, across connections: the token that resumes it, and refs that are never used twice. */
export class Session {
  token = '';
  id = '';
  userId = '';
  /** How long the server remembers it after a loss, in milliseconds. */
  window = 120_000;
  /** Which of the numbers that a shared connection gives out are ours. @type {number | undefined} */ slot;
  #ref = 0;
  #reserved = 0;
  #lostAt = 0;

  /** @param {(kept: Kept) => void} save */
  constructor(save) {
    this.save = save;
  }

  /** @param {Kept | null | undefined} kept @param {number} ref the largest that is known to be used */
  restore(kept, ref) {
    if (kept) ({ token: this.token, sessionId: this.id, userId: this.userId } = kept);
    this.#ref = this.#reserved = Math.max(this.#ref, kept?.ref ?? 0, ref);
  }

  /** @param {string} [token] */
  keep(token = this.token) {
    this.save({ token, sessionId: this.id, userId: this.userId, ref: this.#reserved });
  }

  /** The next ref, larger than all before it. */
  nextRef() {
    if (this.slot !== undefined) {
      // Tabs that share a session must not share a ref, and grow together: by the clock.
      const now = Math.floor((Date.now() - BEGIN) / 16) * 256;
      return (this.#ref = Math.max(Math.floor(this.#ref / 256) + 1, now) * 256 + this.slot);
    }
    this.#ref += 1;
    if (this.#ref > this.#reserved) {
      this.#reserved = this.#ref + AHEAD;
      this.keep();
    }
    return this.#ref;
  }

  lost() {
    this.#lostAt = Date.now();
  }

  /** Whether the server has forgotten it by now, as far as we know. */
  get isOver() {
    return this.token === '' || (this.#lostAt > 0 && Date.now() - this.#lostAt > this.window);
  }
}
