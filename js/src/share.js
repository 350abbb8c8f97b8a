// Tab sharing: the tabs of one address (and name) use one connection. One tab is the host; its hub has the only real
// client. In each tab an ordinary client speaks to the hub as it would to a server, so that every tab has its own rooms,
// positions and outbox, and loses nothing when the host is closed and another tab takes over.
import { Client } from './client.js';
import { ThrongError } from './error.js';

/** @typedef {import('./websocket.js').Frame} Frame */
/** @typedef {import('./websocket.js').Target} Target */
/** @typedef {import('./websocket.js').Ears} Ears */
/** @typedef {import('./room.js').Room} Room */

/** What goes over the channel. @typedef {{ kind: string, pipe: string, [field: string]: any }} Note */

/** How long a room that no tab is in any more is kept, for tabs that come back, in milliseconds. */
const LINGER = 10_000;

/** The most messages of a page of history. */
const PAGE = 200;

/** Tabs of this page, by what they share. @type {WeakMap<object, Map<string, Tab>>} */
const pages = new WeakMap();

/** @type {import('./connection.js').Dial} */
export function share(target, ears) {
  const locks = /** @type {LockManager} */ (target.locks);
  const tabs = pages.get(locks) ?? new Map();
  pages.set(locks, tabs);
  const key = `throng:${target.urls[0]}:${target.name ?? ''}`;
  if (!tabs.has(key)) tabs.set(key, new Tab(key, locks, target));
  return tabs.get(key).dial(target, ears);
}

const random = () => Math.random().toString(36).slice(2);

/** Holds a lock for the life of the page. @param {LockManager} locks @param {string} name @param {() => void} [then] */
function hold(locks, name, then) {
  locks.request(name, () => {
    then?.();
    return new Promise(() => {});
  }).catch(() => {});
}

/** A page's end of the channel. */
class Tab {
  /** @type {Map<string, { target: Target, ears: Ears, hub: string }>} */ #pipes = new Map();
  /** @type {Set<() => void>} */ #wakers = new Set();
  #lock;
  /** The lock is ours: before that the hub would take us for gone. @type {Promise<void>} */ #held;
  #channel;

  /** @param {string} key @param {LockManager} locks @param {Target} target */
  constructor(key, locks, target) {
    this.#lock = `${key}:${random()}`;
    this.#channel = new BroadcastChannel(key);
    this.#channel.onmessage = ({ data }) => this.#note(data);
    this.#held = new Promise((resolve) => hold(locks, this.#lock, resolve));
    hold(locks, `${key}:host`, () => new Hub(new BroadcastChannel(key), locks, target));
  }

  /** @param {Target} target @param {Ears} ears @returns {import('./websocket.js').Transport} */
  dial(target, ears) {
    const pipe = random();
    this.#pipes.set(pipe, { target, ears, hub: '' });
    if (target.wake) this.#wakers.add(target.wake);
    void this.#hello(pipe, target);
    return {
      send: (frame) => this.#channel.postMessage({ kind: 'frame', pipe, frame }),
      close: (code) => {
        if (this.#pipes.delete(pipe)) this.#channel.postMessage({ kind: 'bye', pipe, code });
      },
    };
  }

  /** @param {string} pipe @param {Target} target */
  async #hello(pipe, { resume, sessionId, ticket, token }) {
    await this.#held;
    if (this.#pipes.has(pipe)) this.#channel.postMessage({ kind: 'hello', pipe, lock: this.#lock, resume, sessionId, ticket, token });
  }

  /** @param {Note} note */
  #note({ kind, pipe: id, hub, frame, code, reason }) {
    const pipe = this.#pipes.get(id);
    if (kind === 'say' && pipe) {
      pipe.hub = hub;
      pipe.ears.frame(frame);
    } else if (kind === 'closed' && pipe) this.#close(id, code, reason);
    else if (kind === 'hub') {
      for (const [each, { target, hub: old }] of [...this.#pipes]) {
        if (old === '') void this.#hello(each, target);
        else if (old !== hub) this.#close(each, 1006, 'host');
      }
      for (const wake of this.#wakers) wake();
    }
  }

  /** @param {string} id @param {number} code @param {string} reason */
  #close(id, code, reason) {
    const pipe = this.#pipes.get(id);
    this.#pipes.delete(id);
    pipe?.ears.closed(code, reason);
  }
}

/**
 * A client of the hub.
 * @typedef {object} Guest
 * @property {string} pipe
 * @property {string} lock free when its tab is gone
 * @property {string | undefined} sessionId what it thinks its session is
 * @property {number} slot
 * @property {Map<string, Place>} rooms
 */

/**
 * A guest in a room.
 * @typedef {object} Place
 * @property {Frame[] | undefined} held while it is there, what comes waits in it
 * @property {boolean | undefined} echo
 * @property {boolean} [placed] it is known where the guest begins
 */

class Hub {
  #id = random();
  #slot = Math.floor(Math.random() * 256);
  #channel;
  #locks;
  #target;
  /** @type {Map<string, Guest>} */ #guests = new Map();
  /** @type {Set<string>} */ #watched = new Set();
  /** Who waits for a reply. @type {Map<number, Guest>} */ #asked = new Map();
  /** @type {import('./options.js').Options} */ #options;
  /** @type {Client | undefined} */ #trunk;
  /** @type {Frame | undefined} */ #connected;
  /** @type {WeakSet<Room>} */ #known = new WeakSet();
  #sweeping = false;

  /** @param {BroadcastChannel} channel @param {LockManager} locks @param {Target} target */
  constructor(channel, locks, target) {
    this.#channel = channel;
    this.#locks = locks;
    this.#target = target;
    const { name, transport, WebSocket, fetch } = target;
    this.#options = { name, transport, WebSocket, fetch, refresh: false, urls: target.urls.slice(1).map(String) };
    channel.onmessage = ({ data }) => this.#note(data);
    this.#announce();
  }

  #announce() {
    this.#channel.postMessage({ kind: 'hub', pipe: '', hub: this.#id });
  }

  /** @param {Guest} guest @param {Frame} frame */
  #say(guest, frame) {
    if (this.#guests.get(guest.pipe) === guest) this.#channel.postMessage({ kind: 'say', pipe: guest.pipe, hub: this.#id, frame });
  }

  /** @param {Note} note */
  #note(note) {
    const guest = this.#guests.get(note.pipe);
    if (note.kind === 'hello' && !guest) this.#hello(note);
    else if (note.kind === 'bye' && guest) this.#gone(guest, note.code === 1000);
    else if (note.kind === 'frame') {
      if (guest) this.#frame(guest, note.frame);
      else this.#channel.postMessage({ kind: 'closed', pipe: note.pipe, code: 1006, reason: 'host' }); // not ours, or not any more
    }
  }

  /** @param {Note} hello */
  #hello({ pipe, lock, resume, sessionId, ticket, token }) {
    const taken = new Set([...this.#guests.values()].map(({ slot }) => slot));
    do this.#slot = (this.#slot + 1) % 256; while (taken.has(this.#slot) && taken.size < 256);
    /** @type {Guest} */
    const guest = { pipe, lock, sessionId, slot: this.#slot, rooms: new Map() };
    this.#guests.set(pipe, guest);
    if (!this.#watched.has(lock)) {
      this.#watched.add(lock);
      this.#locks.request(lock, () => {
        this.#watched.delete(lock);
        for (const each of [...this.#guests.values()]) if (each.lock === lock) this.#gone(each, true);
      }).catch(() => {});
    }
    // Each is good for one session: without another one there is none, rather than one of nobody.
    if (ticket && !this.#connected) {
      this.#options.ticket = () => {
        const once = ticket;
        ticket = undefined;
        return once;
      };
    }
    if (token) this.#options.token = token;
    if (this.#connected) this.#greet(guest, this.#connected);
    else if (!this.#trunk) this.#open({ token: resume, sessionId, userId: '', ref: 0 });
    else if (this.#trunk.status === 'closed') this.#trunk.reconnect();
    else this.#trunk.wake();
  }

  /** @param {import('./session.js').Kept} session */
  #open(session) {
    this.#options.session = { load: () => (session.token ? session : null), save: () => {} };
    const trunk = (this.#trunk = new Client(String(this.#target.urls[0]), this.#options));
    trunk.stray = (frame) => {
      const guest = this.#asked.get(frame.ref);
      this.#asked.delete(frame.ref);
      if (frame.type === 'authed' && this.#connected) {
        const { ref, ...news } = frame;
        this.#connected = { ...this.#connected, expiresAt: news.expiresAt };
        for (const each of this.#guests.values()) if (each !== guest) this.#say(each, news);
      }
      if (guest) this.#say(guest, frame);
    };
    trunk.on('connected', (frame) => {
      this.#connected = frame;
      for (const guest of this.#guests.values()) this.#greet(guest, frame);
      this.#announce();
    });
    trunk.on('status', ({ status, code, reason }) => {
      if (status === 'online') return;
      if (this.#connected || status === 'closed') this.#dismiss(status === 'closed' ? code ?? 1000 : 1006, reason ?? '');
      this.#connected = undefined;
    });
  }

  /** They come back when they can be served again. @param {number} code @param {string} reason */
  #dismiss(code, reason) {
    this.#asked.clear();
    for (const pipe of this.#guests.keys()) this.#channel.postMessage({ kind: 'closed', pipe, code, reason });
    this.#guests.clear();
    this.#sweep();
  }

  /** @param {Guest} guest @param {boolean} orderly */
  #gone(guest, orderly) {
    this.#guests.delete(guest.pipe);
    if (orderly) this.#tidy();
    else this.#sweep();
  }

  #sweep() {
    if (this.#sweeping) return;
    this.#sweeping = true;
    setTimeout(() => {
      this.#sweeping = false;
      this.#tidy();
    }, LINGER);
  }

  /** Leaves what nobody needs. */
  #tidy() {
    const trunk = this.#trunk;
    if (!trunk) return;
    if (this.#guests.size === 0) {
      this.#trunk = this.#connected = undefined;
      trunk.close();
      return;
    }
    for (const room of trunk.rooms) if (room !== trunk.me && !this.#inside(room.name)) void room.leave();
  }

  /** @param {string} name */
  #inside(name) {
    return [...this.#guests.values()].some(({ rooms }) => rooms.has(name));
  }

  /** @param {Guest} guest @param {Frame} connected */
  #greet(guest, connected) {
    const resumed = guest.sessionId === connected.sessionId;
    this.#say(guest, { ...connected, resumed, slot: guest.slot });
    if (!resumed) void this.#join(guest, { type: 'join', room: `@${connected.userId}` });
  }

  /** @param {Guest} guest @param {Frame} frame */
  #frame(guest, frame) {
    const { type, ref, room } = frame;
    if (type === 'join') void this.#join(guest, frame);
    else if (type === 'resume') void this.#resume(guest, frame);
    else if (type === 'leave') {
      guest.rooms.delete(room);
      this.#tidy();
      this.#say(guest, { type: 'left', room, ref });
    } else if (type === 'ping' && !ref) this.#say(guest, { type: 'pong' });
    else {
      if (ref) this.#asked.set(ref, guest);
      this.#trunk?.pass(frame);
    }
  }

  /** @param {Guest} guest @param {Frame} frame */
  async #join(guest, { ref, room, since, rewind, echo }) {
    const { answer, past, place } = await this.#enter(guest, room, since, rewind, echo);
    this.#say(guest, answer.error ? { type: 'error', ref, room, ...answer, code: answer.error } : { type: 'joined', ref, ...answer });
    this.#release(guest, place, past);
  }

  /** @param {Guest} guest @param {Frame} frame */
  async #resume(guest, { ref, rooms }) {
    const names = Object.keys(rooms);
    const entries = await Promise.all(names.map((name) => {
      const { epoch, seq, echo } = rooms[name];
      return this.#enter(guest, name, epoch === undefined ? undefined : { epoch, seq }, 0, echo);
    }));
    this.#say(guest, { type: 'resumed', ref, rooms: Object.fromEntries(names.map((name, i) => [name, entries[i]?.answer])) });
    for (const [i, { answer, past, place }] of entries.entries()) {
      const known = rooms[names[i] ?? ''].presenceSeq;
      if (known !== undefined && known !== answer.presenceSeq && !answer.error) past.push({ type: 'presence', ...answer });
      this.#release(guest, place, past);
    }
  }

  /**
   * Puts a guest into a room, and finds what it has missed there.
   * @param {Guest} guest
   * @param {string} name
   * @param {{ epoch: string, seq: number }} [since]
   * @param {number} [rewind]
   * @param {boolean} [echo]
   * @returns {Promise<{ answer: Record<string, any>, past: Frame[], place: Place }>}
   */
  async #enter(guest, name, since, rewind = 0, echo) {
    /** @type {Place} */
    const place = { held: [], echo };
    guest.rooms.set(name, place);
    try {
      const room = this.#room(name);
      await inside(room);
      const { seq: head, epoch } = room;
      place.placed = true;
      let recovered = since === undefined || since.epoch === epoch;
      /** @type {Frame[]} */
      let past = [];
      if (since && recovered && since.seq < head) {
        past = await between(room, epoch, since.seq, head);
        recovered = past[0]?.seq === since.seq + 1;
      }
      if (rewind > 0 && (!since || !recovered)) past = await latest(room, epoch, rewind, head);
      else if (!recovered) past = [];
      const seq = since && recovered ? Math.max(head, since.seq) : head;
      const users = room.exact ? [...room.users.values()] : undefined;
      return { answer: { room: name, epoch, seq, recovered, userCount: room.userCount, presenceSeq: room.presenceSeq, users }, past, place };
    } catch (error) {
      guest.rooms.delete(name);
      const { code = 'internal', message, temporary, retryAfter } = /** @type {any} */ (error);
      return { answer: { error: code, message, temporary, retryAfter }, past: [], place };
    }
  }

  /** What was missed, then what came meanwhile, then what comes. @param {Guest} guest @param {Place} place @param {Frame[]} past */
  #release(guest, place, past) {
    const held = place.held ?? [];
    place.held = undefined;
    for (const frame of [...past, ...held]) this.#hand(guest, place, frame);
  }

  /** @param {Guest} guest @param {Place} place @param {Frame} frame */
  #hand(guest, place, frame) {
    if (place.held) place.held.push(frame);
    else if (place.echo !== false || frame.from === undefined || frame.from !== this.#trunk?.userId) this.#say(guest, frame);
  }

  /** The trunk's room, and everything it hears goes to the guests. @param {string} name @returns {Room} */
  #room(name) {
    const trunk = /** @type {Client} */ (this.#trunk);
    const room = name === trunk.me.name ? trunk.me : trunk.join(name, { presence: true });
    if (this.#known.has(room)) return room;
    this.#known.add(room);
    const pass = (/** @type {Frame} */ frame) => {
      for (const guest of this.#guests.values()) {
        const place = guest.rooms.get(room.name);
        if (place) this.#hand(guest, place, frame);
      }
    };
    room.on('*', pass);
    for (const type of ['user_joined', 'user_left']) room.on(type, pass);
    room.on('presence', (list) => pass({ type: 'presence', room: room.name, ...list }));
    room.on('lost', ({ epoch, seq }) => {
      const { userCount, presenceSeq } = room;
      const renewed = { type: 'resumed', rooms: { [room.name]: { recovered: false, epoch, seq, userCount, presenceSeq } } };
      for (const guest of this.#guests.values()) {
        const place = guest.rooms.get(room.name);
        if (place?.placed) this.#hand(guest, place, renewed);
      }
    });
    return room;
  }
}

/** Waits until the server has the trunk in. @param {Room} room @returns {Promise<void>} */
function inside(room) {
  if (room.joined) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const end = () => {
      joined();
      refused();
    };
    const joined = room.on('joined', () => {
      end();
      resolve();
    });
    const refused = room.on('error', (error) => {
      end();
      reject(error);
    });
    room.ready.catch((error) => {
      end();
      reject(error);
    });
  });
}

/** Messages after one, up to another. @param {Room} room @param {string} epoch @param {number} after @param {number} last @returns {Promise<Frame[]>} */
async function between(room, epoch, after, last) {
  /** @type {Frame[]} */ const past = [];
  for (let more = true; more && after < last;) {
    const page = await pageOf(room, epoch, { after, limit: PAGE });
    past.push(...page.messages);
    more = page.more && page.messages.length > 0;
    after = past.at(-1)?.seq ?? last;
  }
  return past;
}

/** The last messages up to one. @param {Room} room @param {string} epoch @param {number} count @param {number} last @returns {Promise<Frame[]>} */
async function latest(room, epoch, count, last) {
  /** @type {Frame[]} */ let past = [];
  for (let more = last > 0; more && past.length < count;) {
    const page = await pageOf(room, epoch, { before: past[0]?.seq ?? last + 1, limit: Math.min(PAGE, count - past.length) });
    past = [...page.messages, ...past];
    more = page.more && page.messages.length > 0;
  }
  return past;
}

/** @param {Room} room @param {string} epoch @param {{ after?: number, before?: number, limit: number }} query */
async function pageOf(room, epoch, query) {
  const page = await room.history(query);
  // The room has begun anew, and the word of that is on its way.
  if (page.epoch !== epoch) throw new ThrongError('unavailable');
  return page;
}
