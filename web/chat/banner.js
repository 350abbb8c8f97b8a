// What the page says about the connection: a word in the header, a banner when it is gone.

/** @typedef {import('./connection.js').Status} Status */

export class Banner {
  /** @type {Status} */ #status = { state: 'connecting' };
  #lostAt = 0;
  #wasOnline = false;
  /** @type {ReturnType<typeof setInterval> | undefined} */ #ticker;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #goodbye;

  /**
   * @param {object} parts
   * @param {HTMLElement} parts.banner
   * @param {HTMLElement} parts.text
   * @param {HTMLElement} parts.countdown
   * @param {HTMLButtonElement} parts.button
   * @param {HTMLElement} parts.link
   * @param {HTMLElement} parts.linkText
   * @param {() => void} parts.onTry
   */
  constructor({ banner, text, countdown, button, link, linkText, onTry }) {
    this.banner = banner;
    this.text = text;
    this.countdown = countdown;
    this.button = button;
    this.link = link;
    this.linkText = linkText;
    button.addEventListener('click', onTry);
  }

  /** @param {Status} status */
  show(status) {
    this.#status = status;
    this.link.dataset.state = status.state;
    this.linkText.textContent = WORDS[status.state];
    clearInterval(this.#ticker);
    clearTimeout(this.#goodbye);
    if (status.state === 'online') {
      this.#online();
      return;
    }
    if (this.#lostAt === 0) this.#lostAt = Date.now();
    this.#ticker = setInterval(() => this.#tick(), 200);
    this.#tick();
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
    const status = this.#status;
    if (status.state === 'online') return;
    if (status.state !== 'stopped' && Date.now() - this.#lostAt < PATIENCE) return;
    this.banner.hidden = false;
    this.banner.dataset.state = status.state;
    this.button.hidden = status.state === 'connecting';
    this.button.textContent = status.state === 'stopped' ? 'Connect' : 'Try now';
    if (status.state === 'connecting') {
      if (this.text.textContent === '') this.#say('Connecting to the server.');
      this.countdown.textContent = 'Trying…';
      return;
    }
    this.#say(!navigator.onLine && status.state === 'waiting' ? 'You are offline.' : status.text);
    this.countdown.textContent = status.state === 'stopped' ? '' : countdown(status.until - Date.now());
  }

  /** Announced by screen readers, so only when it changes. @param {string} text */
  #say(text) {
    if (this.text.textContent !== text) this.text.textContent = text;
  }
}

/** @param {number} left milliseconds */
function countdown(left) {
  const seconds = Math.ceil(left / 1_000);
  return seconds <= 0 ? 'Trying…' : `Retrying in ${seconds} s`;
}

const WORDS = { connecting: 'Connecting', online: 'Connected', waiting: 'Reconnecting', stopped: 'Disconnected' };

/** Milliseconds without a connection before the banner shows. */
const PATIENCE = 350;
