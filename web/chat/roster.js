// Who is called what: everybody this page has met, the departed too, for messages that arrive late.
import { object, text } from './field.js';
import { cleanName } from './names.js';

/** @typedef {{ userId: string, name: string }} Person */

export class Roster {
  /** Counts the changes. */
  revision = 0;
  /** @type {Map<string, string>} */ #names = new Map();

  /**
   * Takes note of what the server says of somebody.
   * @param {string} userId @param {unknown} info
   */
  meet(userId, info) {
    const name = cleanName(text(object(info).name));
    if (name === '' || this.#names.get(userId) === name) return;
    this.#names.delete(userId);
    this.#names.set(userId, name);
    if (this.#names.size > REMEMBERED) this.#names.delete(this.#names.keys().next().value ?? '');
    this.revision += 1;
  }

  /**
   * What to call somebody: what the server says, else what they say of themselves, else a stand-in.
   * @param {string} userId @param {string} [claimed]
   */
  nameOf(userId, claimed = '') {
    return this.#names.get(userId) ?? (cleanName(claimed) || `Guest ${userId.slice(-4)}`);
  }

  /**
   * Those who are in a room, each once, ourselves first, then by name.
   * @param {Iterable<{ userId: string, info?: unknown }>} users @param {string} me
   * @returns {Person[]}
   */
  present(users, me) {
    /** @type {Map<string, Person>} */
    const people = new Map();
    for (const { userId, info } of users) {
      this.meet(userId, info);
      people.set(userId, { userId, name: this.nameOf(userId) });
    }
    return [...people.values()].sort((a, b) => Number(b.userId === me) - Number(a.userId === me)
      || BY_NAME.compare(a.name, b.name) || (a.userId < b.userId ? -1 : 1));
  }
}

const BY_NAME = new Intl.Collator(undefined, { numeric: true });

/** How many names are kept. */
const REMEMBERED = 5_000;
