// What `connect` takes and what a client tells, as types.

/** @typedef {import('./websocket.js').Frame} Frame */
/** @typedef {import('./connection.js').Dial} Dial */
/** @typedef {import('./outbox.js').Item} Item */
/** @typedef {import('./error.js').ThrongError} ThrongError */

/**
 * @template T
 * @typedef {import('./storage.js').Store<T>} Store
 */

/**
 * @typedef {object} Options
 * @property {(wanted: { refresh?: boolean, resumable: boolean }) => string | null | undefined | Promise<string | null | undefined>} [ticket]
 *   asked before each new session, with `refresh` before one expires, and with `resumable` when one could not be resumed so far.
 *   Nothing: there is none, and unless the session can be resumed we are signed out
 * @property {string | (() => string | null | undefined | Promise<string | null | undefined>)} [token] who we are, as a JWT or
 *   what else the server takes; shown with each new session
 * @property {number | false} [refresh] how long before its end a session is renewed with a ticket, in milliseconds. Default 60 000
 * @property {string[]} [urls] other addresses of the same server or cluster: each attempt to connect goes to the next, after the
 *   last to the first again
 * @property {string} [name] shown to others
 * @property {'memory' | 'local' | Store<Item[]>} [outbox] where unanswered messages are kept; `local` survives a reload of the
 *   tab. Default `memory`
 * @property {number} [outboxSize] the most unanswered messages; more are rejected with `overloaded`. Default 1000
 * @property {'memory' | 'tab' | Store<import('./session.js').Kept>} [session] where the session is kept; `tab` survives a reload. Default `memory`
 * @property {'reject' | 'resend'} [uncertain] messages that were sent and not answered when the session was lost: reject them
 *   with `uncertain`, or send them again at the risk of a duplicate. Default `reject`
 * @property {'auto' | 'websocket' | 'sse'} [transport] `auto`: server-sent events when WebSocket never opens. Default `auto`
 * @property {boolean} [share] one connection for all tabs of this address and `name`, where the browser can. Default false
 * @property {import('./backoff.js').Backoff} [backoff]
 * @property {number} [timeout] for `history`, `ping` and `leave`, offline time included, in milliseconds. Default 30 000
 * @property {any} [WebSocket] constructor; default the global one (browsers, Node 22)
 * @property {typeof globalThis.fetch} [fetch] default the global one
 * @property {Dial} [dial] a transport of your own instead of all others
 */

/**
 * @typedef {object} ClientEvents
 * @property {import('./connection.js').Status} status
 * @property {Frame} connected what the server said at the start of each connection; `resumed` tells whether the session lives on
 * @property {{ resumed: boolean }} reconnect back after a loss
 * @property {ThrongError} error refusals nobody waits for
 * @property {import('./room.js').Message} message every application message of every room, direct ones included
 * @property {{ room: string, code: string, retryIn: number }} limited the server takes no more for now: what is in the outbox is
 *   sent again in so many milliseconds
 * @property {{ reason?: string }} signedout the session is no longer valid, and there is no ticket for another
 * @property {Pending[]} outbox the outbox has changed
 */

/** @typedef {{ id: number, room: string, message: Frame, sent: boolean }} Pending */

export {};
