import { Emitter } from './emitter.js';
import { ThrongError } from './error.js';

/** @typedef {import('./websocket.js').Frame} Frame */

/**
 * @typedef {object} JoinOptions
 * @property {number} [rewind] how many of the last messages to get at the first join, 1–1000
 * @property {{ epoch: string, seq: number }} [since] the last message already known; what came after it follows
 * @property {boolean} [presence] keep `users` up to date; default false
 * @property {boolean} [echo] get one's own messages, too; default true
 */

/** @typedef {{ userId: string, info?: any }} User */

/**
 * An application message: `type` and payload fields are the sender's, the others the server's. Volatile rooms have no `seq`.
 * @typedef {{ type: string, room: string, from: string, seq?: number, timestamp: number, [field: string]: any }} Message
 */

/** @typedef {{ room: string, seq?: number, timestamp: number, duplicate?: boolean }} Ack */

/** @typedef {{ room: string, epoch: string, messages: Message[], more: boolean }} Page */

/**
 * Events of a room: these, application messages by their `type`, and `*` for every application message.
 * @typedef {object} RoomEvents
 * @property {{ epoch: string, seq: number, recovered: boolean, userCount: number }} joined at the first join, after every
 *   return, and when the room goes on from elsewhere
 * @property {{ epoch: string, seq: number, missed: number }} recovered back without a gap: `missed` messages follow
 * @property {{ epoch: string, seq: number, since: { epoch: string, seq: number } }} lost what came after `since` is gone or no
 *   longer kept: found after a return, or said by the server; the next message is the one after `seq`
 * @property {{ userId: string, info?: any, userCount: number }} user_joined
 * @property {{ userId: string, userCount: number }} user_left
 * @property {{ userCount: number, users?: User[], presenceSeq: number }} presence the list or the count is new as a whole
 * @property {ThrongError} error the server does not let us in, or has put us out; the room is over
 */

/**
 * What a room needs of its client.
 * @typedef {object} Host
 * @property {(room: Room, message: Frame, options?: { volatile?: boolean }) => Promise<Ack | undefined>} publish
 * @property {(frame: Frame, room: Room) => Promise<any>} ask
 * @property {(room: Room) => Promise<void>} leave
 */

/** Names of our own events: a message of such a type reaches only `*`, so that nobody can forge an event. */
const OURS = new Set(['*', 'recovered', 'lost', 'error']);

/**
 * A room the client wants to be in, until `leave()`. Handlers get every message exactly once and in order, across
 * reconnects; where that is impossible there is a `lost` event.
 * @extends {Emitter<RoomEvents & Record<string, any>>}
 */
export class Room extends Emitter {
  /** Who is here. Exact while `exact` is true; else empty. @type {Map<string, User>} */ users = new Map();
  /** Whether `users` is the whole list: with `presence: true`, at most 1000 users, joined at least once. */
  exact = false;
  userCount = 0;
  /** Name of the sequence that `seq` belongs to. Empty before the first join. */
  epoch = '';
  /** Number of the last message that handlers got, or where they start. */
  seq = 0;
  /** Whether the server has us in this room on this connection. */
  joined = false;
  /** @internal */ left = false;

  /** @type {Host} */ #host;
  /** @type {JoinOptions} */ #options;
  /** It was never joined. */ #first = true;
  /** The number of the list as we have it. @type {number | undefined} */ #presenceSeq;
  /** The list is an old one, and a `presence` of whatever number will follow. */ #unsure = false;
  /** The first message after a rewind may come from anywhere up to here. */ #open = 0;
  /** What we published ourselves and get no echo of. @type {Set<number>} */ #own = new Set();
  /** @type {(room: Room) => void} */ #resolve = () => {};
  /** @type {(error: ThrongError) => void} */ #reject = () => {};

  /**
   * @internal
   * @param {string} name
   * @param {JoinOptions} options
   * @param {Host} host
   */
  constructor(name, options, host) {
    super();
    this.name = name;
    this.#options = options;
    this.#host = host;
    if (options.since) ({ epoch: this.epoch, seq: this.seq } = options.since);
    /** Settles at the first answer of the server to the join. @type {Promise<Room>} */
    this.ready = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.ready.catch(() => {}); // nobody has to wait for it
  }

  /**
   * Publishes. Resolves when the server has the message; while offline it waits in the outbox.
   * Rejects with a `ThrongError` for good reasons only: refused, `uncertain`, `closed`, `overloaded`.
   * @param {{ type: string, [field: string]: any }} message a snapshot is taken
   * @param {{ volatile?: boolean }} [options] `volatile`: at most once, dropped while offline, resolves at once to nothing
   */
  send(message, options) {
    return this.#host.publish(this, message, options);
  }

  /**
   * A page of the past, oldest first. Without `before` and `after`: the newest.
   * @param {{ before?: number, after?: number, limit?: number, epoch?: string }} [query] `limit` 1–200, default 50;
   *   `epoch`: refuse with `stale_epoch` when the room has another one by now
   * @returns {Promise<Page>}
   */
  history({ before, after, limit, epoch } = {}) {
    return this.#host.ask({ type: 'history', room: this.name, before, after, limit, epoch }, this);
  }

  /** Leaves for good; this object is over. Messages that were never sent are rejected. @returns {Promise<void>} */
  leave() {
    return this.#host.leave(this);
  }

  /** Turns the list of users on later. @internal @param {JoinOptions} options */
  widen({ presence }) {
    if (!presence || this.#options.presence) return;
    this.#options = { ...this.#options, presence };
    if (this.joined) this.#refresh();
  }

  /** A room of another name from now on, without a past. @internal @param {string} name */
  rename(name) {
    if (name === this.name) return;
    this.name = name;
    this.epoch = '';
    this.seq = 0;
    this.#first = true;
    this.#presenceSeq = undefined;
  }

  /** The connection is gone. @internal */
  offline() {
    this.joined = false;
    if (this.#open) this.#first = true; // the replay that did not come starts at `seq`
    this.#open = 0;
  }

  /** @internal */
  get presenceSeq() {
    return this.#unsure ? undefined : this.#presenceSeq;
  }

  /** How to come back with a `resume` frame; undefined: only `join` will do. @internal */
  position() {
    const { echo, presence } = this.#options;
    return this.#first ? undefined : { epoch: this.epoch, seq: this.seq, presenceSeq: presence ? this.#presenceSeq : undefined, echo };
  }

  /** @internal @returns {Frame} */
  request() {
    const { rewind, echo, presence } = this.#options;
    const since = this.epoch === '' ? undefined : { epoch: this.epoch, seq: this.seq };
    return { type: 'join', room: this.name, since, rewind: this.#first ? rewind : undefined, echo, presence };
  }

  /** The server has us in, or has us go on from elsewhere. @internal @param {Frame} answer `joined`, or our part of `resumed` */
  enter({ epoch = '', seq = 0, recovered = true, userCount = 0, presenceSeq, users, type }) {
    const since = { epoch: this.epoch, seq: this.seq };
    const inside = this.joined; // nobody sends us a list then
    const kept = recovered && epoch === since.epoch && seq >= since.seq;
    const rewind = (this.#first && this.#options.rewind) || 0;
    this.joined = true;
    this.epoch = epoch;
    if (!kept) {
      this.seq = Math.max(0, seq - rewind);
      this.#open = rewind && seq + 1;
      this.#own.clear();
    }
    this.userCount = userCount;
    if (type === 'joined') this.#list(presenceSeq, users);
    else if (!this.#options.presence) this.#presenceSeq = presenceSeq;
    else if ((this.#unsure = presenceSeq !== this.#presenceSeq) && inside) this.#refresh();
    this.#first = false;
    this.#resolve(this);
    this.emit('joined', { epoch, seq, recovered, userCount });
    if (since.epoch === '') return;
    if (kept) this.emit('recovered', { epoch, seq, missed: seq - since.seq });
    else this.emit('lost', { epoch, seq, since });
  }

  /** It is over. @internal @param {ThrongError} error */
  end(error) {
    this.left = true;
    this.offline();
    this.#reject(error);
  }

  /** Whether the message is a new one: false for one we had, undefined when one before it is missing. @internal @param {Frame} message */
  accept({ seq }) {
    if (seq === undefined) return true;
    if (seq <= this.seq || this.#own.has(seq)) return false;
    if (seq > this.seq + 1 && seq > this.#open && this.#options.echo !== false) return undefined;
    this.#open = 0;
    this.#advance(seq);
    return true;
  }

  /** A message of ours was published. @internal @param {number | undefined} seq */
  acked(seq) {
    if (this.#options.echo !== false || seq === undefined || seq <= this.seq) return;
    this.#own.add(seq);
    if (seq === this.seq + 1) this.#advance(seq);
  }

  /** @param {number} seq */
  #advance(seq) {
    this.seq = seq;
    for (const own of this.#own) if (own <= seq) this.#own.delete(own);
    if (this.#own.has(seq + 1)) this.#advance(seq + 1);
  }

  /** @internal @param {Message} message */
  deliver(message) {
    if (!OURS.has(message.type)) this.emit(message.type, message);
    this.emit('*', message);
  }

  /** `user_joined`, `user_left`. @internal @param {Frame} frame */
  moved(frame) {
    const { type, userId, info, userCount, presenceSeq } = frame;
    if (!this.#unsure) {
      if (presenceSeq <= (this.#presenceSeq ?? -1)) return;
      this.#presenceSeq = presenceSeq;
    }
    this.userCount = userCount ?? this.userCount;
    if (this.exact) {
      if (type === 'user_joined') this.users.set(userId, info === undefined ? { userId } : { userId, info });
      else this.users.delete(userId);
    } else if (this.#options.presence && type === 'user_left' && userCount <= 1_000) this.#refresh();
    this.emit(type, frame);
  }

  /** `presence`, pushed or asked for. @internal @param {Frame} frame */
  present({ userCount, presenceSeq, users }) {
    if (!this.#unsure && presenceSeq < (this.#presenceSeq ?? 0)) return;
    this.userCount = userCount;
    if (users || this.#unsure || presenceSeq !== this.#presenceSeq) this.#list(presenceSeq, users);
    this.emit('presence', { userCount, users, presenceSeq });
  }

  #refresh() {
    this.#host.ask({ type: 'presence', room: this.name }, this).catch(({ temporary, retryAfter = 1_000 }) => {
      if (temporary) setTimeout(() => this.#refresh(), retryAfter);
    });
  }

  /** @param {number | undefined} presenceSeq @param {User[] | undefined} users */
  #list(presenceSeq, users) {
    this.#unsure = false;
    this.#presenceSeq = presenceSeq ?? this.#presenceSeq;
    this.exact = users !== undefined && this.#options.presence === true;
    this.users.clear();
    if (this.exact) for (const user of /** @type {User[]} */ (users)) this.users.set(user.userId, user);
  }
}
