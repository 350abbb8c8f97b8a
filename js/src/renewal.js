/** How long before the end it is renewed, in milliseconds. */
const LEAD = 60_000;

/** Longest wait of a timer, in milliseconds. */
const LONGEST = 2 ** 31 - 1;

/** Below this many milliseconds another attempt would come too late. */
const SHORTEST = 1_000;

/** Shows a new ticket or token before the session expires; when there is none, or it is refused, tries again at half of what is left. */
export class Renewal {
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #timer;

  /**
   * @param {import('./client.js').Client} client
   * @param {import('./options.js').Options} options
   */
  constructor(client, { ticket, token, refresh }) {
    this.client = client;
    this.ticket = ticket;
    this.token = typeof token === 'function' ? token : undefined;
    this.lead = refresh || LEAD;
  }

  /** The end of the session has become known, or another. */
  arm() {
    clearTimeout(this.#timer);
    const left = this.client.expiresAt - Date.now();
    if (!(left > SHORTEST)) return;
    const wait = Math.max(left - this.lead, left / 2);
    this.#timer = setTimeout(async () => {
      if (wait <= LONGEST) await this.#renew();
      this.arm();
    }, Math.min(wait, LONGEST));
  }

  async #renew() {
    const { client } = this;
    if (client.status !== 'online') return;
    try {
      const ticket = await this.ticket?.({ refresh: true, resumable: true });
      if (ticket) await client.authenticate(ticket);
      else {
        const token = await this.token?.();
        if (token) await client.authenticate(undefined, token);
      }
    } catch (error) {
      client.emit('error', /** @type {any} */ (error));
    }
  }
}
