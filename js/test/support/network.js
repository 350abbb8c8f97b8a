// A network in memory: WebSockets whose other end is in the hands of a test.

/** @typedef {{ type: string, [field: string]: any }} Frame */

/** The server's end of a connection. */
export class Peer {
  /** What the client sent, oldest first. @type {Frame[]} */ received = [];
  /** The code the client closed with, or we. @type {number | undefined} */ code;
  /** @type {Frame[]} */ #out = [];
  /** @type {Frame[]} */ #in = [];
  /** @type {(frame: Frame) => void} called for each frame that arrives */ onframe = () => {};
  /** @type {(code: number) => void} called once, at the end */ onend = () => {};

  /** @param {FakeSocket} socket @param {Network} network */
  constructor(socket, network) {
    this.socket = socket;
    this.network = network;
    this.url = new URL(socket.url);
  }

  /** The resume token. */
  get token() {
    return this.shown('resume');
  }

  /** What the handshake shows of a kind: among the subprotocols or in the query. @param {'ticket' | 'token' | 'resume'} kind */
  shown(kind) {
    return this.socket.protocols.find((protocol) => protocol.startsWith(`${kind}.`))?.slice(kind.length + 1) ?? this.url.searchParams.get(kind);
  }

  get open() {
    return this.code === undefined;
  }

  /** @param {string} type */
  all(type) {
    return this.received.filter((frame) => frame.type === type);
  }

  /** The latest frame of a type. @param {string} type @returns {any} */
  last(type) {
    return this.all(type).at(-1);
  }

  /** @param {Frame} frame */
  say(frame) {
    if (!this.open) return;
    this.#out.push(structuredClone(frame));
    this.#soon();
  }

  /** @param {string} text */
  heard(text) {
    this.#in.push(JSON.parse(text));
    this.#soon();
  }

  #soon() {
    if (!this.network.manual) queueMicrotask(() => this.flush());
  }

  /** How much is on its way. */
  get waiting() {
    return [this.#in.length, this.#out.length];
  }

  /** Everything arrives, or only so many frames of each direction. */
  flush(inwards = Infinity, outwards = Infinity) {
    for (; inwards > 0 && this.#in.length > 0 && this.open; inwards -= 1) {
      const frame = /** @type {Frame} */ (this.#in.shift());
      this.received.push(frame);
      this.onframe(frame);
    }
    for (; outwards > 0 && this.#out.length > 0 && this.socket.readyState === 1; outwards -= 1) {
      this.socket.onmessage?.({ data: JSON.stringify(this.#out.shift()) });
    }
  }

  /** Hangs up. What is still on its way arrives, unless the cable was cut. */
  hangUp(code = 1006, reason = '', cut = code === 1006) {
    if (!this.open) return;
    if (!cut) this.flush(0);
    this.code = code;
    this.socket.readyState = 3;
    this.onend(code);
    this.socket.onclose?.({ code, reason });
  }

  /** @param {number} code */
  left(code) {
    if (!this.open) return;
    if (!this.network.manual) this.flush(Infinity, 0);
    this.code = code;
    this.onend(code);
  }
}

class FakeSocket {
  readyState = 0;
  /** @type {((event: { data: string }) => void) | null} */ onmessage = null;
  /** @type {((event: { code: number, reason: string }) => void) | null} */ onclose = null;
  /** @type {Peer} */ peer;

  /** @param {Network} network @param {string} url @param {string[]} protocols */
  constructor(network, url, protocols) {
    this.url = url;
    /** @type {string[]} */
    this.protocols = protocols;
    this.peer = new Peer(this, network);
    network.dialled(this);
  }

  /** @param {string} text */
  send(text) {
    if (this.readyState === 1) this.peer.heard(text);
  }

  close(code = 1005) {
    if (this.readyState > 1) return;
    this.readyState = 3;
    this.peer.left(code);
  }
}

export class Network {
  /** Every connection that was tried, oldest first. @type {Peer[]} */ peers = [];
  /** `refuse`: nobody listens; `silent`: nobody answers. @type {'up' | 'refuse' | 'silent'} */ state = 'up';
  /** Frames arrive only when the test calls `flush`. */ manual = false;
  /** @type {(peer: Peer) => void} called for each connection that opens */ onconnect = () => {};

  constructor() {
    const network = this;
    this.WebSocket = class extends FakeSocket {
      /** @param {string} url @param {string[]} protocols */
      constructor(url, protocols) {
        super(network, url, protocols);
      }
    };
  }

  /** The latest connection. */
  get peer() {
    const peer = this.peers.at(-1);
    if (peer === undefined) throw new Error('nobody has dialled');
    return peer;
  }

  /** @param {FakeSocket} socket */
  dialled(socket) {
    const { peer } = socket;
    this.peers.push(peer);
    const { state } = this;
    if (state === 'silent') return;
    queueMicrotask(() => {
      if (socket.readyState !== 0) return;
      if (state === 'refuse') return peer.hangUp(1006);
      socket.readyState = 1;
      this.onconnect(peer);
    });
  }

  /** Cuts every connection. */
  cut() {
    for (const peer of this.peers) if (peer.open) peer.hangUp(1006);
  }
}

/** Lets everything happen that needs no time. */
export const settle = async () => {
  for (let i = 0; i < 3; i += 1) await new Promise((resolve) => { setImmediate(resolve); });
};
