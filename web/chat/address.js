// Where in the chat the page is: `#/room/lobby`, `#/to/u_7f3kq2`.

/** @typedef {{ kind: 'room' | 'direct', name: string }} Place */

/** The room of those who ask for none. */
export const LOBBY = 'lobby';

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
  return isRoom(name) ? { kind: 'room', name } : undefined;
}

/** @param {Place} place */
export function hashOf({ kind, name }) {
  return `#/${kind === 'room' ? 'room' : 'to'}/${name}`;
}

/** Whether this is the name of a room that can be chosen: personal rooms and those of the typing indicator cannot. @param {string} name */
export function isRoom(name) {
  return ROOM.test(name) && !name.startsWith('@') && !name.startsWith(liveOf(''));
}

/**
 * What somebody wrote to name a room: without the leading #, with a dash for white space; '' when it can be no name.
 * @param {string} raw
 */
export function roomFrom(raw) {
  const name = raw.trim().replace(/^#+/, '').trim().replace(/\s+/g, '-');
  return isRoom(name) ? name : '';
}

/** The volatile room beside a room, where it is told who is typing. @param {string} room */
export const liveOf = (room) => `live:${room}`;

const ROOM = /^[A-Za-z0-9_.:@/-]{1,123}$/;
const USER = /^[A-Za-z0-9_.:@/-]{1,127}$/;
