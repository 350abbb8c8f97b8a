// Who is here, each once however many tabs they have; a click writes to them.
import { hashOf } from './address.js';
import { make } from './element.js';
import { hue, initials } from './names.js';

/** @typedef {import('./roster.js').Person} Person */

export class People {
  /** @type {string} */ #stamp = '';

  /**
   * @param {object} parts
   * @param {HTMLElement} parts.list
   * @param {HTMLElement} parts.more
   * @param {HTMLElement[]} parts.counts
   */
  constructor({ list, more, counts }) {
    this.list = list;
    this.more = more;
    this.counts = counts;
  }

  /**
   * @param {readonly Person[]} people
   * @param {number} count may be more than are listed
   * @param {string} me
   */
  render(people, count, me) {
    for (const node of this.counts) node.textContent = String(count);
    const shown = people.slice(0, SHOWN);
    const stamp = JSON.stringify([me, shown]);
    if (stamp !== this.#stamp) {
      this.#stamp = stamp;
      const focused = document.activeElement;
      const held = focused instanceof HTMLAnchorElement && this.list.contains(focused) ? focused.hash : undefined;
      this.list.replaceChildren(...shown.map((person) => entry(person, person.userId === me)));
      if (held !== undefined) [...this.list.querySelectorAll('a')].find((link) => link.hash === held)?.focus({ preventScroll: true });
    }
    const rest = Math.max(count, people.length) - shown.length;
    this.more.hidden = rest <= 0;
    this.more.textContent = people.length === 0 ? `${rest} people` : `and ${rest} more`;
  }
}

/** @param {Person} person @param {boolean} me */
function entry({ userId, name }, me) {
  const item = make('li');
  item.style.setProperty('--hue', String(hue(userId)));
  const avatar = make('span', 'avatar', initials(name));
  avatar.setAttribute('aria-hidden', 'true');
  const label = make('bdi', 'who', name);
  label.title = name;
  if (me) {
    item.append(avatar, label, ' ', make('span', 'you', 'you'));
    return item;
  }
  const link = make('a', 'person');
  link.href = hashOf({ kind: 'direct', name: userId });
  link.append(avatar, make('span', 'hidden', 'Write to '), label);
  item.append(link);
  return item;
}

/** How many entries the list has at most. */
const SHOWN = 200;
