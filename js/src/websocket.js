/**
 * What a transport is told.
 * @typedef {object} Target
 * @property {URL} url of the WebSocket endpoint, as `ws:` or `wss:`
 * @property {string} [name]
 * @property {string} [ticket]
 * @property {string} [token] of the session to resume
 * @property {string} [sessionId] the session of the token
 * @property {Frame[]} rooms the `join` frames of all rooms the client wants to be in
 * @property {'auto' | 'websocket' | 'sse'} [transport]
 * @property {LockManager} [locks] of the page
 * @property {() => void} [wake] for a transport that knows when to try again
 * @property {any} [WebSocket] constructor; default the global one
 * @property {typeof globalThis.fetch} [fetch] default the global one
 */

/**
 * What a transport tells. Nothing is called after `closed`.
 * @typedef {object} Ears
 * @property {(frame: unknown) => void} frame a JSON value the server sent
 * @property {() => void} heard a sign of life that is no frame
 * @property {(code: number, reason: string, retryAfter?: number) => void} closed
 */

/**
 * @typedef {object} Transport
 * @property {(frame: Frame) => void} send
 * @property {(code: number) => void} close 1000 says goodbye; any other code means to come back
 * @property {boolean} [mute] cannot ask whether the server is there
 */

/** @typedef {{ type: string, [field: string]: any }} Frame */

/** The query of a handshake. @param {Target} target @returns {URLSearchParams} */
export function handshake({ name, ticket, token }) {
  const query = new URLSearchParams();
  if (name) query.set('name', name);
  if (ticket) query.set('ticket', ticket);
  if (token) query.set('resume', token);
  return query;
}

/** @param {Target} target @param {Ears} ears @returns {Transport} */
export function websocket(target, ears) {
  const url = new URL(target.url);
  for (const [key, value] of handshake(target)) url.searchParams.set(key, value);
  /** @type {WebSocket} */
  const socket = new (target.WebSocket ?? globalThis.WebSocket)(url.href, ['throng.v1']);
  socket.onmessage = ({ data }) => {
    /** @type {unknown} */
    let frame;
    try {
      frame = JSON.parse(data);
    } catch {
      return ears.heard();
    }
    ears.frame(frame);
  };
  socket.onerror = () => {}; // `close` follows
  socket.onclose = ({ code, reason }) => ears.closed(code, reason);
  return {
    send: (frame) => {
      if (socket.readyState === 1) socket.send(JSON.stringify(frame));
    },
    close: (code) => {
      socket.onmessage = socket.onclose = null;
      socket.close(code);
    },
  };
}
