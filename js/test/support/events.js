// The model as a server of events: `fetch` for /sse and /send.
import { Model } from './model.js';
import { Network } from './network.js';

/** @typedef {import('./network.js').Frame} Frame */

/** A stream is a connection of the model, joined by the query. */
class Stream {
  /** @type {(frame: Frame) => void} */ onframe = () => {};
  /** @type {(code: number) => void} */ onend = () => {};
  /** @type {ReadableStreamDefaultController<Uint8Array> | undefined} */ #out;
  open = true;
  #quiet = false;

  /** @param {URL} url @param {AbortSignal | null | undefined} signal @param {string | null} [bearer] */
  constructor(url, signal, bearer = null) {
    this.url = url;
    this.bearer = bearer;
    this.body = new ReadableStream({ start: (out) => { this.#out = out; } });
    signal?.addEventListener('abort', () => this.hangUp());
  }

  get token() {
    return this.shown('resume');
  }

  /** @param {'ticket' | 'token' | 'resume'} kind */
  shown(kind) {
    return kind === 'resume' ? this.url.searchParams.get(kind) : this.bearer;
  }

  /** @param {string} text */
  write(text) {
    if (this.open) this.#out?.enqueue(new TextEncoder().encode(text));
  }

  /** @param {Frame} frame */
  say({ ref, ...frame }) {
    if (this.#quiet || frame.type === 'left') return;
    // In pieces, as a network does.
    const text = `id: 0\ndata: ${JSON.stringify(frame)}\n\n`;
    for (let at = 0; at < text.length; at += 50) this.write(text.slice(at, at + 50));
  }

  hangUp() {
    if (!this.open) return;
    this.open = false;
    this.onend(1006);
    try {
      this.#out?.close();
    } catch {}
  }

  /** The unasked room of a new WebSocket client is not for streams. @param {() => void} act */
  quietly(act) {
    this.#quiet = true;
    act();
    this.#quiet = false;
  }
}

export class EventServer {
  model = new Model(new Network());
  /** @type {Stream[]} */ streams = [];
  /** What was posted. @type {Frame[]} */ posts = [];
  up = true;
  /** The next posts arrive, but their answers do not. */ deaf = false;

  get stream() {
    const stream = this.streams.at(-1);
    if (!stream) throw new Error('no stream was opened');
    return stream;
  }

  cut() {
    for (const stream of this.streams) stream.hangUp();
  }

  /** @type {typeof globalThis.fetch} */
  fetch = async (input, init) => {
    const url = new URL(String(input));
    await Promise.resolve();
    if (!this.up) throw new TypeError('fetch failed');
    return url.pathname.endsWith('/sse') ? this.#events(url, init) : this.#send(init);
  };

  /** @param {URL} url @param {RequestInit} [init] */
  #events(url, init) {
    const rooms = url.searchParams.getAll('room');
    const user = this.model.sessions.get(url.searchParams.get('resume') ?? '')?.userId;
    for (const room of rooms) {
      const code = this.model.refused.get(room) ?? (room[0] === '@' && room !== `@${user}` ? 'forbidden' : undefined);
      if (code) return Response.json({ error: { code, message: code, temporary: false } }, { status: 403 });
    }
    const bearer = new Headers(init?.headers).get('authorization')?.slice(7);
    const stream = new Stream(url, init?.signal, bearer);
    if (!this.model.who(/** @type {any} */ (stream))) return Response.json({ error: { code: 'unauthorized', message: 'no', temporary: false } }, { status: 401 });
    this.streams.push(stream);
    stream.write('retry: 2000\n\n');
    this.model.connect(/** @type {any} */ (stream));
    const ids = (url.searchParams.get('lastEventId') ?? '').split(',');
    const rewind = Number(url.searchParams.get('rewind') ?? 0);
    stream.quietly(() => {
      for (const [name, room] of this.model.rooms) if (name[0] === '@') for (const member of room.members.keys()) if (member.peer === /** @type {any} */ (stream)) room.members.delete(member);
    });
    for (const [i, room] of rooms.entries()) {
      const [epoch, seq] = (ids[i] ?? '0').split('.');
      stream.onframe({ type: 'join', room, since: seq === undefined ? undefined : { epoch, seq: Number(seq) }, rewind, presence: true });
    }
    return new Response(stream.body, { headers: { 'Content-Type': 'text/event-stream' } });
  }

  /** @param {RequestInit} [init] */
  async #send(init) {
    const frame = JSON.parse(String(init?.body));
    const token = new Headers(init?.headers).get('authorization')?.slice(7) ?? '';
    const session = this.model.sessions.get(token);
    if (!session) return Response.json({ type: 'error', code: 'unauthorized', message: 'no', temporary: false }, { status: 401 });
    this.posts.push(frame);
    /** @type {Frame | undefined} */ let answer;
    const place = this.model.room(frame.room ?? `@${frame.to}`);
    const inside = place.members.get(session);
    place.members.set(session, { echo: true });
    const { peer } = session;
    /** @type {Frame[]} */ const said = [];
    session.peer = /** @type {any} */ ({ say: (/** @type {Frame} */ reply) => said.push(reply) });
    this.model.handle(session, /** @type {any} */ (session.peer), frame);
    session.peer = peer;
    if (!inside) place.members.delete(session);
    for (const reply of said) {
      if (reply.type === 'ack' || reply.type === 'error') answer = reply;
      else if (inside) peer?.say(reply);
    }
    if (this.deaf) throw new TypeError('fetch failed');
    return Response.json(answer ?? {});
  }
}
