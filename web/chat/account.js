// Who has signed in, in this tab: known until it signs out or the session is over. No DOM.
import { object, text } from './field.js';
import { cleanName } from './names.js';

/** @typedef {import('./places.js').Shelf} Shelf */
/** @typedef {import('./door.js').Admission} Admission */

export class Account {
  /** The user id; '' for anonymous visitors. */ userId = '';
  /** What the user is called. */ name = '';
  /** Whether the session is over and nobody has signed in again. */ over = false;

  /** @type {Admission | undefined} not used yet */ #admission;
  /** How often its ticket was given to the connection. */ #given = 0;
  /** @type {((ticket: string | undefined) => void) | undefined} the connection waits for a ticket */ #waiting;
  /** It could not be resumed although the server answers. */ #doubts = 0;

  /**
   * @param {object} options
   * @param {Shelf} options.shelf of the tab
   * @param {import('./door.js').Door} options.door
   * @param {() => void} options.onOver nobody comes in now without signing in
   * @param {() => void} options.onEnding the session ends soon
   */
  constructor({ shelf, door, onOver, onEnding }) {
    this.shelf = shelf;
    this.door = door;
    this.onOver = onOver;
    this.onEnding = onEnding;
    const { userId, name } = object(parse(shelf.load(KEY)));
    if (text(userId) === '') return;
    this.userId = text(userId);
    this.name = cleanName(text(name));
  }

  get signedIn() {
    return this.userId !== '';
  }

  /** The user has shown a password. Whoever waits for a ticket gets it. @param {Admission} admission */
  enter(admission) {
    this.userId = admission.userId;
    this.called(admission.name || admission.userId);
    this.over = false;
    this.#doubts = 0;
    this.#given = this.#waiting === undefined ? 0 : 1;
    this.#admission = admission;
    this.#waiting?.(admission.ticket);
    this.#waiting = undefined;
  }

  /** What the server calls the user. @param {string} name */
  called(name) {
    this.name = cleanName(name) || this.userId;
    this.shelf.save(KEY, JSON.stringify({ userId: this.userId, name: this.name }));
  }

  /** We are connected: the ticket is used, the session good. */
  arrived() {
    this.over = false;
    this.#doubts = 0;
    this.#admission = undefined;
  }

  /** The server has said that the session is over, or the ticket no good. */
  ended() {
    this.#admission = undefined;
    this.over = true;
  }

  /**
   * For the client: the ticket of a password that was just given. Else it waits until somebody signs in; but not where the
   * session may yet be resumed, nor while the server is away.
   * @param {{ refresh?: boolean, resumable: boolean }} wanted
   * @returns {Promise<string | undefined>}
   */
  async ticket({ refresh = false, resumable }) {
    if (refresh) {
      this.onEnding();
      return undefined;
    }
    if (this.#admission !== undefined && (this.#given += 1) <= TRIES) return this.#admission.ticket;
    if (resumable) {
      if ((await this.door.rules()) === undefined) return undefined;
      this.#doubts += 1;
      if (this.#doubts < DOUBTS) return undefined;
    }
    this.over = true;
    this.#waiting?.(undefined); // an attempt that was given up
    const ticket = new Promise((resolve) => { this.#waiting = resolve; });
    this.onOver();
    return /** @type {Promise<string | undefined>} */ (ticket);
  }
}

/** @param {string} json @returns {unknown} */
function parse(json) {
  try {
    return json === '' ? undefined : JSON.parse(json);
  } catch {
    return undefined;
  }
}

/** A ticket is good once, and not for long; but an attempt may have failed on its way. */
const TRIES = 4;

/** So many times a server that answers may refuse a session before we take it for gone. */
const DOUBTS = 2;

const KEY = 'throng.account';
