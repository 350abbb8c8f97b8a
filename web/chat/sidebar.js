// The list on the left: our rooms, the people we write with, and a field to enter another room.
import { hashOf, roomFrom } from './address.js';
import { make } from './element.js';
import { hue, initials } from './names.js';

/**
 * @typedef {import('./address.js').Place} Place
 * @typedef {{ place: Place, name: string, unread: number, current: boolean, here: boolean }} Entry
 */

export class Sidebar {
  #stamp = '';

  /**
   * @param {object} parts
   * @param {HTMLElement} parts.rooms
   * @param {HTMLElement} parts.people
   * @param {HTMLElement} parts.peopleHead
   * @param {HTMLFormElement} parts.form
   * @param {HTMLInputElement} parts.field
   * @param {HTMLElement} parts.problem
   * @param {(room: string) => void} parts.onEnter
   * @param {(place: Place) => void} parts.onClose
   */
  constructor({ rooms, people, peopleHead, form, field, problem, onEnter, onClose }) {
    this.rooms = rooms;
    this.people = people;
    this.peopleHead = peopleHead;
    this.onClose = onClose;
    const say = (/** @type {string} */ words) => {
      problem.textContent = words;
      field.setAttribute('aria-invalid', String(words !== ''));
    };
    field.addEventListener('input', () => say(''));
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      if (field.value.trim() === '') return;
      const room = roomFrom(field.value);
      if (room === '') {
        say('Letters a to z, digits and . _ - : / only');
        return;
      }
      field.value = '';
      say('');
      onEnter(room);
    });
  }

  /** @param {readonly Entry[]} rooms @param {readonly Entry[]} people */
  render(rooms, people) {
    const stamp = JSON.stringify([rooms, people]);
    if (stamp === this.#stamp) return;
    this.#stamp = stamp;
    // The focus stays with the place, whatever happens around it.
    const focused = document.activeElement;
    const held = focused instanceof HTMLElement && (this.rooms.contains(focused) || this.people.contains(focused)) ? focused.dataset.focus : undefined;
    this.rooms.replaceChildren(...rooms.map((entry) => this.#entry(entry, rooms.length > 1)));
    this.people.replaceChildren(...people.map((entry) => this.#entry(entry, true)));
    this.people.hidden = this.peopleHead.hidden = people.length === 0;
    if (held === undefined) return;
    const all = [...this.rooms.querySelectorAll('[data-focus]'), ...this.people.querySelectorAll('[data-focus]')];
    const again = all.find((node) => node instanceof HTMLElement && node.dataset.focus === held) ?? this.rooms.querySelector('a');
    if (again instanceof HTMLElement) again.focus({ preventScroll: true });
  }

  /** @param {Entry} entry @param {boolean} closable */
  #entry({ place, name, unread, current, here }, closable) {
    const item = make('li', unread > 0 ? 'news' : '');
    const link = make('a', 'place');
    const hash = hashOf(place);
    link.href = hash;
    link.dataset.focus = hash;
    if (current) link.setAttribute('aria-current', 'page');
    if (place.kind === 'room') {
      const sign = make('span', 'hash', '#');
      sign.setAttribute('aria-hidden', 'true');
      link.append(sign);
    } else {
      item.style.setProperty('--hue', String(hue(place.name)));
      const avatar = make('span', `avatar${here ? ' here' : ''}`, initials(name));
      avatar.setAttribute('aria-hidden', 'true');
      link.append(avatar);
    }
    const label = make('bdi', 'who', name);
    label.title = name;
    link.append(label);
    if (unread > 0) {
      const badge = make('span', 'badge', unread > 99 ? '99+' : String(unread));
      badge.append(make('span', 'hidden', ' unread'));
      link.append(' ', badge);
    }
    item.append(link);
    if (closable) item.append(this.#closer(place, name, hash));
    return item;
  }

  /** @param {Place} place @param {string} name @param {string} hash */
  #closer(place, name, hash) {
    const close = make('button', 'close', '×');
    close.type = 'button';
    close.dataset.focus = `close ${hash}`;
    close.setAttribute('aria-label', place.kind === 'room' ? `Leave ${name}` : `Remove ${name} from the list`);
    close.title = place.kind === 'room' ? 'Leave' : 'Remove';
    close.addEventListener('click', () => this.onClose(place));
    return close;
  }
}
