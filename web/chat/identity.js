// Who this tab is. An anonymous visitor is a session, and a session belongs to one tab: a reload keeps it, a second
// tab is somebody else. After a long absence, or under a new name, the same tab gets a new user id.
import { cleanName, nameFromQuery, randomName } from './names.js';

/** @typedef {import('./places.js').Shelf} Shelf */

export class Identity {
  /** Who we are and were in this tab. @type {Set<string>} */ ids;
  name;

  /** @param {Shelf} shelf of the tab @param {string} search `location.search` */
  constructor(shelf, search) {
    this.shelf = shelf;
    this.ids = new Set(shelf.load(IDS).split(' ').filter((id) => id !== ''));
    this.name = nameFromQuery(search) || cleanName(shelf.load(NAME)) || randomName();
    shelf.save(NAME, this.name);
  }

  /** @param {string} userId */
  is(userId) {
    return this.ids.has(userId);
  }

  /** @param {string} userId */
  became(userId) {
    if (userId === '' || this.ids.has(userId)) return;
    this.ids.add(userId);
    this.shelf.save(IDS, [...this.ids].slice(-REMEMBERED).join(' '));
  }

  /** Whoever comes next in this tab is somebody else. */
  forget() {
    this.ids.clear();
    this.shelf.save(IDS, '');
  }

  /** @param {string} name clean */
  rename(name) {
    this.name = name;
    this.shelf.save(NAME, name);
  }
}

const IDS = 'throng.ids';
const NAME = 'name'; // the only thing of a tab that outlives signing out

/** How many of our user ids are kept. */
const REMEMBERED = 20;
