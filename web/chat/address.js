// Where in the chat the page is: `#/room/lobby`, `#/to/u_7f3kq2`.

/**
 * A room goes by the name people give it: `kitchen`. Only the server hears the whole one: `demo:kitchen`.
 * @typedef {{ kind: 'room' | 'direct', name: string }} Place
 */

/** The room of those who ask for none. */
export const LOBBY = 'lobby';

/** Where rooms are that anybody may enter. */
const OPEN = 'demo:';

/** The room of the server that is called so here: one without a namespace is one of the open ones. @param {string} name */
export const roomOf = (name) => (name === LOBBY || name.includes(':') ? name : OPEN + name);

/** What a room of the server is called here. @param {string} room */
export function nameOf(room) {
  const name = room.startsWith(OPEN) ? room.slice(OPEN.length) : room;
  return roomOf(name) === room ? name : room;
}

/**
 * The place that a hash names; undefined when it names none.
 * @param {string} hash `location.hash`
 * @returns {Place | undefined}
 */
export function placeOf(hash) {
  const match = /^#\/(room|to)\/(.+)$/s.exec(hash);
  if (match === null) return undefined;
  const [, way = '', encoded = ''] = match;
  let name = encoded;
  try {
    name = decodeURIComponent(encoded);
  } catch {
    // A stray percent sign is one.
  }
  if (way === 'to') return USER.test(name) ? { kind: 'direct', name } : undefined;
  return isRoom(name) ? { kind: 'room', name: nameOf(name) } : undefined;
}

/** @param {Place} place */
export function hashOf({ kind, name }) {
  return `#/${kind === 'room' ? 'room' : 'to'}/${name}`;
}

/** Whether this is the name of a room that can be chosen: personal rooms and those of the typing indicator cannot. @param {string} name */
export function isRoom(name) {
  return ROOM.test(name) && liveOf(name).length <= LONGEST && !name.startsWith('@') && !name.startsWith(LIVE);
}

/**
 * What somebody wrote to name a room: without the leading #, with a dash for white space; '' when it can be no name.
 * @param {string} raw
 */
export function roomFrom(raw) {
  const name = raw.trim().replace(/^#+/, '').trim().replace(/\s+/g, '-');
  return isRoom(name) ? nameOf(name) : '';
}

const LIVE = 'live:';

/** The volatile room of the server beside a room, where it is told who is typing. @param {string} name of the room, as it is called here */
export const liveOf = (name) => LIVE + roomOf(name);

/** Longest name of a room of the server. */
const LONGEST = 128;

const ROOM = /^[A-Za-z0-9_.:@/-]+$/;
const USER = /^[A-Za-z0-9_.:@/-]{1,127}$/;
