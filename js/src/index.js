// Client of a throng server. `connect` is all there is to begin with:
//
//   const client = connect('wss://chat.example.org/ws');
//   const room = client.join('chat:1', { rewind: 50, presence: true });
//   room.on('chat', ({ from, text }) => console.log(from, text));
//   await room.send({ type: 'chat', text: 'hi' });
import { Client } from './client.js';

export { Client };
export { CODES } from './codes.js';
export { ThrongError } from './error.js';

/** @typedef {import('./options.js').Options} Options */
/** @typedef {import('./session.js').Kept} Session */
/** @typedef {import('./options.js').Pending} Pending */
/** @typedef {import('./options.js').ClientEvents} ClientEvents */
/** @typedef {import('./connection.js').Status} Status */
/** @typedef {import('./outbox.js').Item} Item */
/** @typedef {import('./error.js').Code} Code */
/** @typedef {import('./room.js').Room} Room */
/** @typedef {import('./room.js').RoomEvents} RoomEvents */
/** @typedef {import('./room.js').JoinOptions} JoinOptions */
/** @typedef {import('./room.js').Message} Message */
/** @typedef {import('./room.js').User} User */
/** @typedef {import('./room.js').Ack} Ack */
/** @typedef {import('./room.js').Page} Page */

/**
 * @template T
 * @typedef {import('./storage.js').Store<T>} Store
 */

/**
 * Connects, and stays connected until `close()`. Returns at once; what is asked before the connection is there waits.
 * @param {string} url `ws://…/ws`, `wss://…/ws`, the same with `http(s)`, or in browsers a path such as `/ws`
 * @param {Options} [options]
 */
export const connect = (url, options = {}) => new Client(url, options);
