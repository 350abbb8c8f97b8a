import { Asks } from './asks.js';
import { Connection } from './connection.js';
import { Emitter } from './emitter.js';
import { ThrongError, refusal } from './error.js';
import { Outbox } from './outbox.js';
import { Room } from './room.js';
import { Session } from './session.js';
import { Saves, memory } from './storage.js';
import { transports } from './transports.js';

/** @typedef {import('./websocket.js').Frame} Frame */
/** @typedef {import('./websocket.js').Target} Target */
/** @typedef {import('./outbox.js').Item} Item */

/**
 * @template T
 * @typedef {import('./storage.js').Store<T>} Store
 */

/** @typedef {import('./options.js').Options} Options */
/** @typedef {import('./options.js').ClientEvents} ClientEvents */
/** @typedef {import('./options.js').Pending} Pending */

/** A session with a server, for as long as it takes. @extends {Emitter<ClientEvents>} */
export class Client extends Emitter {
  /** What the ticket said about us. @type {any} */ info = undefined;
  /** Users of the server, when we connected. */
  userCount = 0;
  /** When the session ends unless a ticket renews it, in milliseconds since 1970 by our clock; 0 when that is not known. */
  expiresAt = 0;
  /** Our own room: direct messages arrive here. @type {Room} */ me;

  /** @type {Options} */ #options;
  /** @type {URL[]} */ #urls;
  /** Attempts so far: each goes to the next address. */ #turn = -1;
  /** @type {Connection} */ #connection;
  /** @type {Outbox} */ #outbox;
  /** @type {Map<string, Room>} */ #rooms = new Map();
  /** @type {Session} */ #session;
  /** @type {Asks} */ #asks;
  /** What else waits for a reply on this connection. @type {Map<number, (reply: Frame) => void>} */ #replies = new Map();
  /** Rooms that wait for their part of `resumed`. @type {Set<Room>} */ #returning = new Set();
  #maxPayload = Infinity;
  /** @type {Promise<import('./renewal.js').Renewal> | undefined} */ #renewal;
  /** How far our clock is ahead of the server's, in milliseconds. */ #ahead = 0;
  /** Whether this connection has shown who we are, if we are anybody. @type {unknown} */ #shown;
  #wasOnline = false;
  #closed = false;
  /** @type {Store<import('./session.js').Kept>} */ #identity = memory;
  /** @type {Store<Item[]>} */ #store = memory;
  /** Gives the tab's storage to the next client of the page. @type {(() => void) | undefined} */ #release;
  /** @type {Promise<void> | undefined} */ #loading;
  #loaded = false;
  #saving = false;
  #saves = new Saves((error) => this.emit('error', error));
  #flushing = false;
  /** What the server last complained of by itself: why it puts us out of a room. */ #complaint = new ThrongError('forbidden');
  /** @type {() => void} */ #someRoom = () => {};
  /** @type {Promise<void>} */ #roomy = new Promise((resolve) => { this.#someRoom = resolve; });
  /** @type {import('./room.js').Host} */ #host = {
    publish: (room, message, options) => this.#publish(room.name, message, options, room),
    ask: (frame, room) => this.#ask(frame, room),
    leave: (room) => this.#leave(room),
  };

  #locks = globalThis.navigator?.locks;
  #up = () => this.wake();

  /** @internal @param {string} url @param {Options} options */
  constructor(url, options) {
    super();
    this.#options = options;
    this.#urls = [url, ...(options.urls ?? [])].map((text) => {
      const address = new URL(text, globalThis.location?.href);
      address.protocol = address.protocol.replace('http', 'ws');
      return address;
    });
    this.#session = new Session((kept) => this.#saves.add(() => this.#identity.save(kept)));
    this.#asks = new Asks(options.timeout ?? 30_000, (frame) => {
      if (this.status !== 'online') return 0;
      const ref = this.#session.nextRef();
      this.#connection.send({ ...frame, ref });
      return ref;
    });
    this.#outbox = new Outbox({
      size: options.outboxSize ?? 1_000,
      backoff: options.backoff,
      changed: () => this.#changed(),
      ready: () => void this.#flush(),
      failed: (item, error) => {
        error.payload = item.message;
        this.emit('error', error);
      },
      limited: (limit) => this.emit('limited', limit),
    });
    this.me = new Room('@', {}, this.#host);
    this.#connection = new Connection({
      target: (failures) => this.#target(failures),
      frame: (frame) => this.#frame(frame),
      lost: () => this.#lost(),
      again: () => this.#expired(),
      status: (status) => this.#status(status),
      failed: (error) => this.emit('error', /** @type {any} */ (error)),
    }, (proven) => transports(this.#options, this.#locks, proven), options.backoff);
    this.#connection.open();
    this.#listen('addEventListener');
  }

  /** Who we are; empty before the first connection. */
  get userId() {
    return this.#session.userId;
  }

  get sessionId() {
    return this.#session.id;
  }

  /** `connecting`, `online`, `offline` (comes back by itself), or `closed`. */
  get status() {
    return this.#connection.status;
  }

  /** Messages without an answer, oldest first. @returns {Pending[]} */
  get pending() {
    return this.#outbox.items.map(({ id, room, message, sent }) => ({ id, room, message, sent }));
  }

  /**
   * The room of this name, joined from now on and again after every loss. The same object until it is left.
   * @param {string} name
   * @param {import('./room.js').JoinOptions} [options]
   */
  join(name, options = {}) {
    let room = this.#rooms.get(name);
    if (room) room.widen(options);
    else {
      this.#rooms.set(name, (room = new Room(name, options, this.#host)));
      this.#someRoom();
      if (this.status === 'online' && this.#loaded) this.#join(room);
    }
    return room;
  }

  /** Sends to one user, wherever they are. @param {string} userId */
  direct(userId) {
    return {
      /** @param {{ type: string, [field: string]: any }} message @param {{ volatile?: boolean }} [options] */
      send: (message, options) => this.#publish(`@${userId}`, message, options),
    };
  }

  /** Milliseconds to the server's application and back. */
  async ping() {
    let start = Date.now();
    await this.#ask({ type: 'ping', get sent() { return (start = Date.now()); } });
    return Date.now() - start;
  }

  /**
   * Shows a new ticket of the same user, or a token instead: the session goes on, with the rights and the expiry of that.
   * @param {string | null | undefined} ticket
   * @param {string | null} [token]
   * @returns {Promise<{ expiresAt?: number }>}
   */
  authenticate(ticket, token) {
    return new Promise((resolve, reject) => {
      if (this.status !== 'online') throw new ThrongError('unavailable');
      this.#command({ type: 'auth', ticket, token }, ({ type, ref, ...reply }) => {
        if (type === 'authed') resolve(reply);
        else reject(refusal(reply));
      });
    });
  }

  /** Takes back a message that was never sent; its promise is rejected with `discarded`. @param {number} id of `pending` */
  discard(id) {
    return this.#outbox.discard(id);
  }

  /** Connects at once: ends a wait, reopens after `close` or a stop, replaces a connection that is there. */
  reconnect() {
    if (this.#closed) this.#listen('addEventListener');
    this.#closed = false;
    this.#connection.open();
  }

  /** Says goodbye and stays away. What was not answered is rejected. */
  close() {
    if (this.#closed) return;
    this.#connection.close();
    void this.#loading?.then(() => {
      this.#session.keep(''); // whoever comes next in this tab is somebody else
      this.#release?.();
    });
  }

  /** @internal */
  get rooms() {
    return [...this.#rooms.values()];
  }

  /** Hands a frame to the connection as it is. @internal @param {Frame} frame */
  pass(frame) {
    this.#connection.send(frame);
  }

  /** Connects now, if it is only waiting by itself. @internal */
  wake() {
    this.#connection.wake();
  }

  /** Called with replies to frames that were passed on. @internal @type {((reply: Frame) => void) | undefined} */ stray;

  /** @param {number} failures @returns {Promise<Target | undefined>} */
  async #target(failures) {
    await (this.#loading ??= this.#load());
    const { name, transport, WebSocket, fetch, ticket: ask, token: word } = this.#options;
    if (transport === 'sse') await this.#roomy; // a stream is a stream of rooms
    const { token: resume, id: sessionId, isOver } = this.#session;
    const [ticket, token] = await Promise.all(isOver || failures > 2 ? [ask?.({ resumable: !isOver }), typeof word === 'function' ? word() : word] : []);
    this.#shown = !(ask ?? word) || ticket || token;
    if (isOver && !this.#shown) return undefined;
    return {
      urls: this.#urls, url: /** @type {URL} */ (this.#urls[this.#turn % this.#urls.length]), name, transport, WebSocket, fetch, wake: this.#up, locks: this.#locks, ticket, token, resume, sessionId,
      rooms: [...this.#rooms.values()].filter((room) => room !== this.me).map((room) => room.request()),
    };
  }

  /** @param {number} [end] of the session, by the server's clock */
  #expires(end) {
    this.expiresAt = end ? end + this.#ahead : 0;
    if (end && this.#options.refresh !== false) this.#renewal ??= import('./renewal.js').then(({ Renewal }) => new Renewal(this, this.#options));
    this.#renewal?.then((renewal) => renewal.arm(), () => {}); // without it the session ends, and another begins
  }

  async #load() {
    try {
      const { session, outbox } = this.#options;
      const own = session === 'tab' || outbox === 'local' ? (await import('./tab.js')).tab(`throng:${this.#urls[0]}`) : undefined;
      /** @param {string | Store<any> | undefined} wanted @param {string} part @returns {Store<any>} */
      const store = (wanted = 'memory', part) => (typeof wanted === 'object' ? wanted : wanted === 'memory' ? memory : /** @type {any} */ (own).store(part));
      this.#release = own?.release;
      this.#identity = store(session, 'session');
      this.#store = store(outbox, 'outbox');
      const [kept, items] = await Promise.all([this.#identity.load(), this.#store.load()]);
      this.#session.restore(kept, this.#outbox.restore(items ?? []));
    } catch (error) {
      this.emit('error', /** @type {any} */ (error));
    }
    this.#loaded = true;
    this.#changed();
  }

  /** The outbox has changed: keep it, tell it, send it; once for all changes of this turn. */
  #changed() {
    if (this.#saving || !this.#loaded) return;
    this.#saving = true;
    queueMicrotask(() => {
      this.#saving = false;
      this.#flush();
      this.#keepOutbox();
      this.emit('outbox', this.pending);
    });
  }

  #keepOutbox() {
    if (this.#store === memory) return;
    this.#saves.add(() => this.#store.save(this.#outbox.items.map(({ id, room, message, ref, sent }) => ({ id, room, message, ref, sent }))));
  }

  /** Sends what may be sent. */
  async #flush() {
    if (this.#flushing || this.status !== 'online') return;
    const items = this.#outbox.take((room) => room[0] === '@' || this.#rooms.get(room)?.joined === true, () => this.#session.nextRef());
    if (items.length === 0) return;
    this.#keepOutbox(); // before it is sent: the ref must not be forgotten
    if (this.#saves.running) {
      this.#flushing = true;
      await this.#saves.running;
      this.#flushing = false;
    }
    for (const item of items) {
      if (!item.flying) continue; // the connection was lost while we saved
      const frame = this.#address(item.room, item.message, item.ref);
      if (tooLarge(frame, this.#maxPayload)) {
        this.#outbox.reject(item, new ThrongError('too_large', `A message may have ${this.#maxPayload} bytes.`, item));
      } else this.#connection.send(frame);
    }
    this.#flush();
  }

  /** @param {string} room @param {Frame} message @param {number} [ref] @returns {Frame} */
  #address(room, message, ref) {
    return { ...message, ...(room[0] === '@' ? { to: room.slice(1) } : { room }), ref };
  }

  /** @param {string} name @param {Frame} message @param {{ volatile?: boolean }} [options] @param {Room} [room] */
  async #publish(name, message, { volatile } = {}, room) {
    this.#check(name, room);
    if (!volatile) return this.#outbox.push(name, message);
    if (!room || room.joined) this.#connection.send(this.#address(name, message));
    return undefined;
  }

  /** @param {Frame} frame @param {Room} [room] @returns {Promise<any>} */
  async #ask(frame, room) {
    this.#check(room?.name, room);
    return this.#asks.add(frame, room);
  }

  /** Whether there is still somebody to speak to. @param {string} [name] @param {Room} [room] */
  #check(name, room) {
    if (room?.left) throw new ThrongError('not_joined', 'The room was left.', { room: name });
    if (this.status === 'closed') throw new ThrongError('closed', 'The client is closed.', { room: name });
  }

  /** Sends a frame whose reply matters only on this connection. @param {Frame} frame @param {(reply: Frame) => void} replied */
  #command(frame, replied) {
    const ref = this.#session.nextRef();
    this.#replies.set(ref, replied);
    this.#connection.send({ ...frame, ref });
  }

  /** @param {Frame} frame */
  #frame(frame) {
    const { type, ref } = frame;
    const room = this.#rooms.get(frame.room);
    const reply = this.#replies.get(ref);
    switch (type) {
      case 'connected':
        return this.#connected(frame);
      case 'ack': {
        if (this.#outbox.ack(frame)) room?.acked(frame.seq);
        else this.stray?.(frame);
        return;
      }
      case 'presence':
        if (room?.joined) room.present(frame);
        break;
      case 'user_joined':
      case 'user_left':
        if (room?.joined) room.moved(frame);
        return;
      case 'reconnect':
        return this.#connection.slot(frame.after);
      case 'authed':
        this.#expires(frame.expiresAt);
        break;
      case 'joined':
        if (ref === undefined && room && !room.joined && !this.#returning.has(room)) this.#enter(room, frame);
        break;
      case 'error': {
        const error = refusal(frame);
        if (this.#outbox.fail(ref, error)) return;
        if (reply || this.#asks.answered(frame)) break;
        if (ref !== undefined && this.stray) return this.stray(frame);
        this.#connection.hold(frame.retryAfter);
        this.#complaint = error;
        return this.emit('error', error);
      }
      case 'left':
        if (ref === undefined && room) this.#refused(room, this.#complaint);
        break;
      case 'resumed':
        // Unasked: these rooms go on from elsewhere.
        for (const [name, answer] of Object.entries((!ref && frame.rooms) || {})) {
          const renewed = this.#rooms.get(name);
          if (renewed?.joined && !answer.error) this.#enter(renewed, answer);
        }
        break;
      case 'history':
      case 'pong':
        break;
      default:
        if (room?.joined) this.#message(room, frame);
        return;
    }
    if (ref === undefined) return;
    this.#replies.delete(ref);
    if (reply) reply(frame);
    else if (!this.#asks.answered(frame)) this.stray?.(frame);
  }

  /** @param {Room} room @param {Frame} frame */
  #message(room, frame) {
    const fresh = room.accept(frame);
    if (fresh === undefined) return this.#connection.restart('hole');
    if (!fresh) return;
    const message = /** @type {import('./room.js').Message} */ (frame);
    room.deliver(message);
    this.emit('message', message);
  }

  /** @param {Frame} frame */
  #connected(frame) {
    const { resumed, userId, limits } = frame;
    const session = this.#session;
    session.slot = frame.slot;
    if (!resumed && !this.#shown && session.slot === undefined) {
      session.token = ''; // the server has forgotten us, and took us for nobody
      return this.#connection.restart('session');
    }
    const back = this.#wasOnline;
    this.#wasOnline = true;
    this.#ahead = Date.now() - frame.timestamp || 0;
    if (!resumed || frame.expiresAt) this.#expires(frame.expiresAt);
    session.token = frame.resume ?? '';
    session.id = frame.sessionId;
    session.userId = userId;
    session.window = frame.resumeWindow ?? session.window;
    this.info = frame.info;
    this.userCount = frame.userCount;
    this.#maxPayload = limits?.maxPayload ?? Infinity;
    if (!resumed) this.#outbox.forgotten(this.#options.uncertain === 'resend');
    const { me } = this;
    this.#rooms.delete(me.name);
    me.rename(`@${userId}`);
    if (!me.left) this.#rooms.set(me.name, me);
    session.keep();
    this.#rejoin(resumed === true);
    this.emit('connected', frame);
    if (back) this.emit('reconnect', { resumed: resumed === true });
    this.#asks.sendAll();
    this.#flush();
  }

  /** One `resume` for the rooms that have a past, and a `join` for each of the others. @param {boolean} resumed */
  #rejoin(resumed) {
    /** @type {Record<string, object>} */ const rooms = Object.create(null); // `__proto__` is a room like any other
    /** @type {Room[]} */ const fresh = [];
    for (const room of this.#rooms.values()) {
      const position = room.position() ?? (resumed && room === this.me ? {} : undefined);
      if (position) {
        rooms[room.name] = position;
        this.#returning.add(room);
      } else if (room !== this.me) fresh.push(room);
    }
    // A new session is put into its own room at once, but without the past we have.
    if (!resumed && this.#returning.has(this.me)) this.#command({ type: 'leave', room: this.me.name }, () => {});
    if (resumed || this.#returning.size > 0) {
      this.#command({ type: 'resume', rooms }, (reply) => {
        const returning = [...this.#returning];
        this.#returning.clear();
        if (reply.type === LOST) return;
        for (const room of returning) {
          const answer = Object.hasOwn(reply.rooms ?? {}, room.name) ? reply.rooms[room.name] : undefined;
          if (room.left) continue;
          if (!answer) this.#join(room);
          else if (answer.error) this.#refused(room, new ThrongError(answer.error, answer.message, { ...answer, room: room.name }));
          else this.#enter(room, answer);
        }
      });
    }
    for (const room of fresh) this.#join(room);
  }

  /** @param {Room} room */
  #join(room) {
    this.#command(room.request(), (reply) => {
      if (room.left || reply.type === LOST) return;
      if (reply.type === 'joined') this.#enter(room, reply);
      else this.#refused(room, refusal(reply));
    });
  }

  /** @param {Room} room @param {Frame} answer */
  #enter(room, answer) {
    room.enter(answer);
    this.#asks.sendAll();
    this.#flush();
  }

  /** @param {Room} room @param {ThrongError} error */
  #refused(room, error) {
    if (error.code === 'already_joined') {
      this.#command({ type: 'leave', room: room.name }, () => {});
      this.#join(room);
    } else if (error.temporary) {
      setTimeout(() => {
        if (!room.left && !room.joined && this.status === 'online') this.#join(room);
      }, error.retryAfter ?? AGAIN * (1 + Math.random()));
    } else {
      this.#forget(room, error);
      room.emit('error', error);
      this.emit('error', error);
    }
  }

  /** @param {Room} room @param {ThrongError} error what its promises are rejected with */
  #forget(room, error) {
    this.#rooms.delete(room.name);
    room.end(error);
    this.#outbox.drop(room.name, error);
    this.#asks.end(error, room);
  }

  /** @param {Room} room @returns {Promise<void>} */
  async #leave(room) {
    if (room.left) return;
    this.#forget(room, new ThrongError('not_joined', 'The room was left.', { room: room.name }));
    // Whatever the answer is, we are out.
    if (this.status === 'online') await new Promise((resolve) => this.#command({ type: 'leave', room: room.name }, resolve));
  }

  #lost() {
    this.#session.lost();
    for (const room of this.#rooms.values()) room.offline();
    this.#asks.landed();
    this.#outbox.landed();
    const replies = [...this.#replies.values()];
    this.#replies.clear();
    for (const reply of replies) reply({ type: LOST, code: 'uncertain' });
  }

  /** The server does not know our session any more. */
  #expired() {
    this.#session.token = '';
    const { ticket, token } = this.#options;
    return typeof (ticket ?? token) === 'function';
  }

  /** @param {import('./connection.js').Status} status */
  #status(status) {
    if (status.status === 'connecting') this.#turn += 1;
    if (status.status !== 'closed') return this.emit('status', status);
    this.#closed = true;
    this.#listen('removeEventListener');
    this.#outbox.clear();
    this.#asks.end(new ThrongError('closed', 'The client is closed.'));
    this.#expires();
    this.emit('status', status);
    if (status.code === 4401) this.emit('signedout', status);
  }

  /** @param {'addEventListener' | 'removeEventListener'} change */
  #listen(change) {
    for (const type of ['online', 'offline', 'pageshow']) globalThis[change]?.(type, this.#wake);
    globalThis.document?.[change]('visibilitychange', this.#wake);
  }

  /** @param {Event} event */
  #wake = ({ type }) => {
    if (type === 'offline') this.#connection.probe(); // often wrong
    else if (globalThis.document?.visibilityState !== 'hidden') this.#connection.wake();
  };
}

/** The `type` of a reply that will not come. */
const LOST = 'lost';

/** The least wait after a temporary refusal to join, in milliseconds. */
const AGAIN = 1_000;

/** @param {Frame} frame @param {number} most in bytes */
function tooLarge(frame, most) {
  const text = JSON.stringify(frame);
  return text.length * 3 > most && new TextEncoder().encode(text).length > most;
}
