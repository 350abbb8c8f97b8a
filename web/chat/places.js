// The rooms and people in the list on the left. Rooms and how far they were read are kept by the browser; people, who
// are somebody else after their tab is closed, for as long as the tab.
import { LOBBY, isRoom, nameOf } from './address.js';
import { count, object, text } from './field.js';

/**
 * @typedef {import('./conversation.js').Position} Position
 * @typedef {{ load(key: string): string, save(key: string, value: string): void }} Shelf
 */

export class Places {
  /** @type {Map<string, Position | undefined>} room → how far it was read */ rooms = new Map();
  /** @type {Map<string, { seen?: Position, closed: boolean }>} userId → how far it was read */ people = new Map();

  /** @param {{ lasting: Shelf, tab: Shelf }} shelves `lasting`: shared by all tabs; `tab`: of this one */
  constructor({ lasting, tab }) {
    this.lasting = lasting;
    this.tab = tab;
    this.rooms = this.#loadRooms();
    if (this.rooms.size === 0) this.rooms.set(LOBBY, undefined);
    for (const [userId, value] of entries(tab.load(PEOPLE))) {
      this.people.set(userId, { seen: position(object(value).seen), closed: object(value).closed === true });
    }
  }

  /** @param {string} room */
  add(room) {
    if (this.rooms.has(room)) return;
    this.rooms.set(room, undefined);
    this.#changeRooms((kept) => kept.set(room, undefined));
  }

  /** @param {string} room */
  remove(room) {
    this.rooms.delete(room);
    this.#changeRooms((kept) => kept.delete(room));
  }

  /** Whoever comes next has no business in rooms that are not open to all, and with our people. */
  forget() {
    for (const room of [...this.rooms.keys()].filter((name) => name.includes(':'))) this.remove(room);
    this.people.clear();
    this.tab.save(PEOPLE, '');
  }

  /** @param {string} room @param {Position} [seen] */
  read(room, seen) {
    if (seen === undefined || !this.rooms.has(room) || same(this.rooms.get(room), seen)) return;
    this.rooms.set(room, seen);
    this.#changeRooms((kept) => kept.has(room) && kept.set(room, seen));
  }

  /** @param {string} userId @param {{ seen?: Position, closed: boolean }} state */
  meet(userId, state) {
    const known = this.people.get(userId);
    if (known !== undefined && known.closed === state.closed && same(known.seen, state.seen)) return;
    this.people.set(userId, state);
    // Anybody can write to us under ever new names.
    if (this.people.size > MOST_PEOPLE) this.people.delete(this.people.keys().next().value ?? '');
    this.tab.save(PEOPLE, JSON.stringify(Object.fromEntries(this.people)));
  }

  /** Another tab may have changed the list meanwhile, so each change is made to what is there now. @param {(kept: Map<string, Position | undefined>) => void} change */
  #changeRooms(change) {
    const kept = this.#loadRooms();
    change(kept);
    this.lasting.save(ROOMS, JSON.stringify([...kept].map(([name, seen]) => ({ name, seen }))));
  }

  #loadRooms() {
    /** @type {Map<string, Position | undefined>} */
    const rooms = new Map();
    const kept = parse(this.lasting.load(ROOMS));
    for (const entry of Array.isArray(kept) ? kept.slice(0, MOST) : [{ name: LOBBY }]) {
      const name = text(object(entry).name);
      if (isRoom(name)) rooms.set(nameOf(name), position(object(entry).seen));
    }
    return rooms;
  }
}

/** @param {unknown} value @returns {Position | undefined} */
function position(value) {
  const { epoch, seq } = object(value);
  return typeof epoch === 'string' && count(seq) !== undefined ? { epoch, seq: count(seq) ?? 0 } : undefined;
}

/** @param {Position} [a] @param {Position} [b] */
const same = (a, b) => a?.epoch === b?.epoch && a?.seq === b?.seq;

/** @param {string} json */
const entries = (json) => Object.entries(object(parse(json)));

/** @param {string} json @returns {unknown} */
function parse(json) {
  try {
    return json === '' ? undefined : JSON.parse(json);
  } catch {
    return undefined;
  }
}

/** More rooms than this are not joined at once. */
const MOST = 40;

/** So many people are listed; then the first goes. */
export const MOST_PEOPLE = 200;

const ROOMS = 'throng.rooms';
const PEOPLE = 'throng.people';
