// The form to sign in.

/** @typedef {import('./door.js').Admission} Admission */

export class LoginDialog {
  /** @type {ReturnType<typeof setInterval> | undefined} */ #ticker;
  /** Counts the attempts; an answer to an earlier one is not wanted any more. */ #attempt = 0;
  #needed = false;
  #guest = false;

  /**
   * @param {object} parts
   * @param {HTMLDialogElement} parts.dialog
   * @param {HTMLFormElement} parts.form
   * @param {HTMLElement} parts.why
   * @param {HTMLInputElement} parts.user
   * @param {HTMLInputElement} parts.password
   * @param {HTMLElement} parts.problem
   * @param {HTMLElement} parts.plain that what is sent can be read on its way
   * @param {HTMLButtonElement} parts.submit
   * @param {HTMLButtonElement} parts.cancel
   * @param {import('./door.js').Door} parts.door
   * @param {(admission: Admission) => void} parts.onEnter
   * @param {() => void} parts.onGuest the user goes on without
   */
  constructor({ dialog, form, why, user, password, problem, plain, submit, cancel, door, onEnter, onGuest }) {
    this.dialog = dialog;
    this.why = why;
    this.user = user;
    this.password = password;
    this.problem = problem;
    this.submit = submit;
    this.cancel = cancel;
    this.door = door;
    this.onEnter = onEnter;
    plain.hidden = window.isSecureContext;
    cancel.addEventListener('click', () => {
      dialog.close();
      if (this.#guest) onGuest();
    });
    dialog.addEventListener('click', (event) => {
      if (event.target === dialog && !this.#needed) dialog.close();
    });
    dialog.addEventListener('close', () => {
      this.#attempt += 1;
      password.value = '';
      this.#busy(false);
      if (this.#ticker === undefined) this.#say('');
    });
    dialog.addEventListener('cancel', (event) => {
      if (this.#needed) event.preventDefault();
    });
    for (const field of [user, password]) field.addEventListener('input', () => this.#ticker === undefined && this.#say(''));
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      void this.#enter();
    });
  }

  /**
   * @param {object} options
   * @param {string} [options.why] what it is for
   * @param {string} [options.user] who was signed in before
   * @param {boolean} [options.needed] nothing else can be done
   * @param {boolean} [options.guest] one can go on without
   */
  open({ why = '', user = '', needed = false, guest = false } = {}) {
    this.#needed = needed;
    this.#guest = guest;
    this.cancel.textContent = guest ? 'Go on as a guest' : 'Cancel';
    this.why.textContent = why;
    this.why.hidden = why === '';
    this.cancel.hidden = needed;
    if (user !== '') this.user.value = user;
    if (!this.dialog.open) this.dialog.showModal();
    (this.user.value === '' ? this.user : this.password).focus();
  }

  async #enter() {
    if (this.#ticker !== undefined || this.submit.disabled) return;
    const attempt = ++this.#attempt;
    this.#say('');
    this.#busy(true);
    const answer = await this.door.enter(this.user.value.trim(), this.password.value);
    if (attempt !== this.#attempt) return;
    this.#busy(false);
    if ('ticket' in answer) {
      this.#needed = false;
      this.dialog.close();
      this.onEnter(answer);
      return;
    }
    const { why, wait = 0 } = answer;
    if (why === 'throttled') this.#hold(wait);
    else this.#say(PROBLEMS[why]);
    if (why !== 'wrong') return;
    this.password.setAttribute('aria-invalid', 'true');
    this.password.focus();
    this.password.select();
  }

  /** Too many attempts: counts down, and lets nobody try before that. @param {number} wait in milliseconds */
  #hold(wait) {
    const until = Date.now() + wait;
    const tick = () => {
      const left = Math.ceil((until - Date.now()) / 1_000);
      this.submit.disabled = left > 0;
      this.submit.textContent = left > 0 ? `Wait ${time(left)}` : SUBMIT;
      if (left > 0) return;
      clearInterval(this.#ticker);
      this.#ticker = undefined;
      this.#say('');
    };
    this.#say(`Too many attempts. You can try again in ${spoken(Math.ceil(wait / 1_000))}.`);
    this.#ticker = setInterval(tick, 250);
    tick();
  }

  /** @param {boolean} busy */
  #busy(busy) {
    if (this.#ticker !== undefined) return;
    this.submit.disabled = busy;
    this.submit.textContent = busy ? 'Signing in…' : SUBMIT;
    this.dialog.setAttribute('aria-busy', String(busy));
  }

  /** @param {string} words */
  #say(words) {
    this.problem.textContent = words;
    this.problem.hidden = words === '';
    this.password.removeAttribute('aria-invalid');
  }
}

const SUBMIT = 'Sign in';

/** @type {Record<'wrong' | 'busy' | 'away' | 'banned' | 'closed', string>} */
const PROBLEMS = {
  wrong: 'That user name and password do not go together.',
  busy: 'The server is too busy to check that. Try again in a moment.',
  away: 'The server does not answer. Check your connection and try again.',
  banned: 'You were banned from this server.',
  closed: 'This server does not let people sign in here.',
};

/** @param {number} seconds */
const time = (seconds) => (seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`);

/** @param {number} seconds */
function spoken(seconds) {
  const [number, unit] = seconds < 100 ? [seconds, 'second'] : [Math.ceil(seconds / 60), 'minute'];
  return `${number} ${unit}${number === 1 ? '' : 's'}`;
}
