// What the page says about the connection: a word in the header, a banner when it is gone.

/**
 * @typedef {{ status: 'connecting' | 'online' | 'offline' | 'closed', reason?: string, retryIn?: number }} Status
 */

export class Banner {
  /** @type {Status} */ #status = { status: 'connecting' };
  /** When the next attempt is due, in ms since 1970. */
  #until = 0;
  #waiting = 0;
  #lostAt = 0;
  #wasOnline = false;
  /** @type {ReturnType<typeof setInterval> | undefined} */ #ticker;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #goodbye;

  /**
   * @param {object} parts
   * @param {HTMLElement} parts.banner
   * @param {HTMLElement} parts.text
   * @param {HTMLElement} parts.queue
   * @param {HTMLElement} parts.countdown
   * @param {HTMLButtonElement} parts.button
   * @param {HTMLElement} parts.link
   * @param {HTMLElement} parts.linkText
   * @param {() => void} parts.onTry
   */
  constructor({ banner, text, queue, countdown, button, link, linkText, onTry }) {
    this.banner = banner;
    this.text = text;
    this.queue = queue;
    this.countdown = countdown;
    this.button = button;
    this.link = link;
    this.linkText = linkText;
    button.addEventListener('click', onTry);
  }

  /** @param {Status} status */
  show(status) {
    this.#status = status;
    this.#until = Date.now() + (status.retryIn ?? 0);
    this.link.dataset.state = status.status;
    this.linkText.textContent = WORDS[status.status];
    clearInterval(this.#ticker);
    clearTimeout(this.#goodbye);
    if (status.status === 'online') {
      this.#online();
      return;
    }
    if (this.#lostAt === 0) this.#lostAt = Date.now();
    this.#ticker = setInterval(() => this.#tick(), 200);
    this.#tick();
  }

  /** How many messages of ours wait to be sent. @param {number} count */
  queued(count) {
    if (count === this.#waiting) return;
    this.#waiting = count;
    this.queue.textContent = count === 0 ? '' : count === 1 ? '1 message waits to be sent.' : `${count} messages wait to be sent.`;
  }

  #online() {
    const told = !this.banner.hidden;
    this.#lostAt = 0;
    if (told && this.#wasOnline) {
      this.banner.dataset.state = 'online';
      this.#say('Connected again.');
      this.countdown.textContent = '';
      this.button.hidden = true;
      this.#goodbye = setTimeout(() => this.#hide(), 1_800);
    } else {
      this.#hide();
    }
    this.#wasOnline = true;
  }

  #hide() {
    this.banner.hidden = true;
    this.#say('');
  }

  /** A connection that comes back within PATIENCE is not worth a banner. */
  #tick() {
    const { status, reason = '' } = this.#status;
    if (status === 'online') return;
    if (status !== 'closed' && Date.now() - this.#lostAt < PATIENCE) return;
    this.banner.hidden = false;
    this.banner.dataset.state = status;
    this.button.hidden = status === 'connecting';
    this.button.textContent = status === 'closed' ? 'Connect' : 'Try now';
    if (status === 'connecting') {
      if (this.text.textContent === '') this.#say('Connecting to the server.');
      this.countdown.textContent = 'Trying…';
      return;
    }
    this.#say(!navigator.onLine && status === 'offline' ? 'You are offline.' : sentence(status, reason));
    this.countdown.textContent = status === 'closed' ? '' : countdown(this.#until - Date.now());
  }

  /** Announced by screen readers, so only when it changes. @param {string} text */
  #say(text) {
    if (this.text.textContent !== text) this.text.textContent = text;
  }
}

/**
 * Why there is no connection, for people.
 * @param {'offline' | 'closed'} status
 * @param {string} reason a close code, a word of the client, or what the server said
 */
export function sentence(status, reason) {
  const known = REASONS.get(reason);
  if (known !== undefined) return known;
  if (reason === '' || /^\d+$/.test(reason)) return status === 'closed' ? 'The server hung up.' : 'Connection lost.';
  return status === 'closed' ? `The server hung up: ${reason}` : `Connection lost: ${reason}`;
}

/** @param {number} left milliseconds */
function countdown(left) {
  const seconds = Math.ceil(left / 1_000);
  return seconds <= 0 ? 'Trying…' : `Retrying in ${seconds} s`;
}

const WORDS = { connecting: 'Connecting', online: 'Connected', offline: 'Reconnecting', closed: 'Disconnected' };

const REASONS = new Map([
  ['1000', 'You are disconnected.'],
  ['1001', 'The server is restarting.'],
  ['1002', 'The server did not understand this page.'],
  ['1008', 'The server does not let you in.'],
  ['1009', 'A message was too big for the server, so it hung up.'],
  ['1012', 'The server is restarting.'],
  ['1013', 'The server is busy.'],
  ['4401', 'Your session is no longer valid.'],
  ['4403', 'The server does not let you in.'],
  ['4408', 'The connection went quiet.'],
  ['4409', 'This chat goes on in another tab.'],
  ['4429', 'You were sending too fast.'],
  ['4508', 'The connection was too slow.'],
  ['handshake', 'The server does not answer.'],
  ['silence', 'The connection went quiet.'],
]);

/** Milliseconds without a connection before the banner shows. */
const PATIENCE = 350;
