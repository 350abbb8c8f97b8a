// What the page says about the connection: a word in the header, a banner when it is gone.

/**
 * @typedef {{ status: 'connecting' | 'online' | 'offline' | 'closed', reason?: string, code?: number, retryIn?: number }} Status
 */

export class Banner {
  /** @type {Status} */ #status = { status: 'connecting' };
  /** When the next attempt is due, in ms since 1970. */
  #until = 0;
  #waiting = 0;
  #lostAt = 0;
  #wasOnline = false;
  /** Why nothing goes on until somebody signs in; '' otherwise. */ #over = '';
  /** The session ends soon. */ #ends = false;
  /** Until when the server takes no more of what we send, in ms since 1970. */ #limitedUntil = 0;
  /** Whether that is our own doing. */ #tooFast = true;
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
   * @param {() => void} parts.onSignIn
   */
  constructor({ banner, text, queue, countdown, button, link, linkText, onTry, onSignIn }) {
    this.banner = banner;
    this.text = text;
    this.queue = queue;
    this.countdown = countdown;
    this.button = button;
    this.link = link;
    this.linkText = linkText;
    button.addEventListener('click', () => (this.#over === '' && !this.#ends ? onTry() : onSignIn()));
  }

  /** @param {Status} status */
  show(status) {
    this.#status = status;
    this.#until = Date.now() + (status.retryIn ?? 0);
    this.#ends = false;
    if (status.status === 'online') this.#over = '';
    this.#head();
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

  /** Nothing goes on until somebody signs in. @param {string} why for people; '' ends it */
  over(why) {
    this.#over = why;
    this.#head();
    if (this.#status.status === 'online') return;
    this.#lostAt = 1; // worth a banner at once
    this.#tick();
  }

  /** The server takes no more for now. @param {number} wait in milliseconds @param {string} [code] why */
  limited(wait, code = 'rate_limited') {
    this.#limitedUntil = Date.now() + wait;
    this.#tooFast = code === 'rate_limited';
    if (this.#status.status !== 'online') return;
    clearTimeout(this.#goodbye);
    clearInterval(this.#ticker);
    this.#ticker = setInterval(() => this.#wait(), 200);
    this.#wait();
  }

  /** The session ends soon. @param {boolean} [soon] false: it does not any more */
  ending(soon = true) {
    if (this.#status.status !== 'online' || this.isLimited) return;
    this.#ends = soon;
    if (!soon) {
      this.#hide();
      return;
    }
    clearTimeout(this.#goodbye);
    this.banner.hidden = this.button.hidden = false;
    this.banner.dataset.state = 'ending';
    this.button.textContent = 'Sign in again';
    this.countdown.textContent = '';
    this.#say('Your session ends soon.');
  }

  /** Whether what we send goes out slowly. */
  get isLimited() {
    return this.#limitedUntil > 0;
  }

  /** How many messages of ours wait to be sent. @param {number} count */
  queued(count) {
    if (count === this.#waiting) return;
    this.#waiting = count;
    this.queue.textContent = count === 0 ? '' : count === 1 ? '1 message waits to be sent.' : `${count} messages wait to be sent.`;
  }

  #head() {
    const { status } = this.#status;
    this.link.dataset.state = this.#over === '' ? status : 'closed';
    this.linkText.textContent = this.#over === '' ? WORDS[status] : this.#wasOnline ? 'Signed out' : 'Not signed in';
  }

  /** Pauses that follow each other are one to the reader. */
  #wait() {
    const left = this.#limitedUntil - Date.now();
    if (left < -LINGER) {
      this.#limitedUntil = 0;
      clearInterval(this.#ticker);
      this.#hide();
      return;
    }
    this.banner.hidden = false;
    this.button.hidden = true;
    this.banner.dataset.state = 'limited';
    this.#say(this.#tooFast ? 'You are sending too fast. The rest goes out bit by bit.' : 'Messages cannot be delivered at the moment. Yours are kept, and go out as soon as they can.');
    this.countdown.textContent = left > 0 ? `Waiting ${Math.ceil(left / 1_000)} s` : 'Sending…';
  }

  #online() {
    this.#limitedUntil = 0;
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
    const { status, reason = '', code } = this.#status;
    if (status === 'online') return;
    if (this.#over !== '') {
      this.banner.hidden = this.button.hidden = false;
      this.banner.dataset.state = this.#wasOnline ? 'closed' : 'door';
      this.button.textContent = 'Sign in';
      this.countdown.textContent = '';
      this.#say(this.#over);
      return;
    }
    if (status !== 'closed' && Date.now() - this.#lostAt < PATIENCE) return;
    this.banner.hidden = false;
    this.banner.dataset.state = status;
    this.button.hidden = status === 'connecting';
    this.button.textContent = status === 'offline' ? 'Try now' : code === 4403 ? 'Try again' : 'Connect';
    if (status === 'connecting') {
      if (this.text.textContent === '') this.#say('Connecting to the server.');
      this.countdown.textContent = 'Trying…';
      return;
    }
    this.#say(!navigator.onLine && status === 'offline' ? 'You are offline.' : sentence(status, reason, code));
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
 * @param {number} [code] the close code
 */
export function sentence(status, reason, code) {
  const known = REASONS.get(reason);
  if (known !== undefined) return known;
  if (code === 4401) return `You were signed out: ${reason}.`;
  if (code === 4403) return `You were removed from this server: ${reason}.`;
  if (code === 4429) return 'You were sending too fast.';
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
  ['4401', 'You were signed out.'],
  ['session expired', 'You were signed out: your session had expired.'],
  ['session revoked', 'You were signed out: your session was revoked.'],
  ['unauthorized', 'You were signed out.'],
  ['rate_limited', 'The server is full at the moment.'],
  ['overloaded', 'The server is busy.'],
  ['unavailable', 'The server is not ready at the moment.'],
  ['no ticket', 'You are not signed in.'],
  ['session', 'The server does not know your session any more.'],
  ['ticket', 'The server does not answer.'],
  ['4403', 'The server does not let you in.'],
  ['forbidden', 'The server does not let you in.'],
  ['banned', 'You were banned from this server.'],
  ['4408', 'The connection went quiet.'],
  ['4409', 'This chat goes on in another tab.'],
  ['4429', 'You were sending too fast.'],
  ['4508', 'The connection was too slow.'],
  ['handshake', 'The server does not answer.'],
  ['silence', 'The connection went quiet.'],
]);

/** Milliseconds between two pauses that are told as one. */
const LINGER = 1_500;

/** Milliseconds without a connection before the banner shows. */
const PATIENCE = 350;
