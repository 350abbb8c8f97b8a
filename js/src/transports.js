import { websocket } from './websocket.js';

/** @typedef {import('./connection.js').Dial} Dial */

/**
 * A transport that is loaded when it is first wanted.
 * @param {() => Promise<Dial>} load
 * @returns {Dial}
 */
const lazy = (load) => (target, ears) => {
  let over = false;
  /** @type {import('./websocket.js').Transport | undefined} */
  let transport;
  load().then((dial) => {
    if (!over) transport = dial(target, ears);
  }).catch((error) => ears.closed(1006, String(error)));
  return {
    get mute() { return transport?.mute; },
    send: (frame) => transport?.send(frame),
    close: (code) => {
      over = true;
      transport?.close(code);
    },
  };
};

/** Only once for all clients: it is recognised by what worked last. */
const sse = lazy(async () => (await import('./sse.js')).sse);
const share = lazy(async () => (await import('./share.js')).share);

/**
 * What to try, in this order, in one attempt.
 * @param {import('./options.js').Options} options
 * @param {LockManager | undefined} locks of the page; sharing needs them
 * @param {Dial | undefined} proven what worked last
 * @returns {Dial[]}
 */
export function transports({ dial, share: shared, transport = 'auto' }, locks, proven) {
  if (dial) return [dial];
  if (shared && locks && globalThis.BroadcastChannel) return [share];
  if (transport === 'sse') return [sse];
  if (transport === 'websocket' || proven === websocket) return [websocket];
  return proven === sse ? [sse, websocket] : [websocket, sse];
}
