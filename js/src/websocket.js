/**
 * What a transport is told.
 * @typedef {object} Target
 * @property {URL} url of the WebSocket endpoint, as `ws:` or `wss:`
 * @property {URL[]} urls all that may be tried, this one among them
 * @property {string} [name]
 * @property {string | null} [ticket]
 * @property {string | null} [token] that says who we are: a JWT, or what the server asks its webhook about
 * @property {string} [resume] stands for the session to resume
 * @property {string} [sessionId] of that session
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

/** What may be part of a subprotocol, and is all that tickets and JWTs are made of. Servers read only so much of the header. */
const WORD = /^[\w.-]{1,1900}$/;

/** @param {Target} target @param {Ears} ears @returns {Transport} */
export function websocket(target, ears) {
  const { name, ticket, token, resume } = target;
  const [url, protocols] = [new URL(target.url), ['throng.v1']];
  url.searchParams.set('refusal', 'close'); // else browsers keep to themselves why
  if (name) url.searchParams.set('name', name);
  for (const [kind, value] of Object.entries({ ticket, token, resume })) {
    if (!value) continue;
    if (WORD.test(value)) protocols.push(`${kind}.${value}`); // an address ends up in logs, a header does not
    else url.searchParams.set(kind, value);
  }
  /** @type {WebSocket} */
  const socket = new (target.WebSocket ?? globalThis.WebSocket)(url.href, protocols);
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
