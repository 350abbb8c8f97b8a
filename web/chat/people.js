// Who is here: a column on a wide screen, a drawer on a narrow one.
import { hue, initials } from './names.js';

/** @typedef {import('./store.js').Person} Person */

export class People {
  #open = false;
  #narrow = window.matchMedia('(max-width: 819px)');
  /** @type {string} */ #stamp = '';

  /**
   * @param {object} parts
   * @param {HTMLElement} parts.panel
   * @param {HTMLElement} parts.list
   * @param {HTMLElement} parts.more
   * @param {HTMLElement[]} parts.counts
   * @param {HTMLButtonElement} parts.opener
   * @param {HTMLButtonElement} parts.closer
   * @param {HTMLElement} parts.scrim
   */
  constructor({ panel, list, more, counts, opener, closer, scrim }) {
    this.panel = panel;
    this.list = list;
    this.more = more;
    this.counts = counts;
    this.opener = opener;
    opener.addEventListener('click', () => this.toggle(!this.#open));
    closer.addEventListener('click', () => this.toggle(false));
    scrim.addEventListener('click', () => this.toggle(false));
    document.addEventListener('keydown', (event) => {
      if (event.key === 'Escape' && this.#open) this.toggle(false);
    });
    this.closer = closer;
    this.#narrow.addEventListener('change', () => this.#apply());
    this.#apply();
  }

  /** Opens or closes the drawer and moves the focus with it. @param {boolean} open */
  toggle(open) {
    const moved = this.#open !== open;
    this.#open = open;
    this.#apply();
    if (!moved || !this.#narrow.matches) return;
    if (open) this.closer.focus();
    else this.opener.focus();
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
      this.list.replaceChildren(...shown.map((person) => entry(person, person.userId === me)));
    }
    const rest = Math.max(count, people.length) - shown.length;
    this.more.hidden = rest <= 0;
    this.more.textContent = `and ${rest} more`;
  }

  #apply() {
    const drawer = this.#narrow.matches;
    const open = drawer && this.#open;
    this.panel.inert = drawer && !open;
    document.body.classList.toggle('drawer-open', open);
    for (const other of document.querySelectorAll('body > .top, body > main, body > .skip')) {
      if (other instanceof HTMLElement) other.inert = open;
    }
    this.opener.setAttribute('aria-expanded', String(open));
    if (drawer) {
      this.panel.setAttribute('role', 'dialog');
      this.panel.setAttribute('aria-modal', 'true');
    } else {
      this.panel.setAttribute('role', 'complementary');
      this.panel.removeAttribute('aria-modal');
    }
  }
}

/** @param {Person} person @param {boolean} me */
function entry({ userId, name }, me) {
  const item = document.createElement('li');
  item.style.setProperty('--hue', String(hue(userId)));
  const avatar = document.createElement('span');
  avatar.className = 'avatar';
  avatar.textContent = initials(name);
  avatar.setAttribute('aria-hidden', 'true');
  const label = document.createElement('bdi');
  label.className = 'who';
  label.textContent = name;
  label.title = name;
  item.append(avatar, label);
  if (me) {
    const you = document.createElement('span');
    you.className = 'you';
    you.textContent = 'you';
    item.append(' ', you);
  }
  return item;
}

/** How many entries the list has at most. */
const SHOWN = 200;
