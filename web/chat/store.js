// What the page knows: people, messages, and what is still to be sent. No DOM, no socket.

/**
 * @typedef {import('./connection.js').Message} Message
 * @typedef {'waiting' | 'sending' | 'sent' | 'failed'} Delivery `waiting`: for a connection, or for a rate limit to pass
 * @typedef {{ userId: string, name: string }} Person
 * @typedef {{ kind: 'chat', key: string, revision: number, at: number, from: string, name: string, mine: boolean, text: string,
 *   delivery?: Delivery, problem?: string, ref?: number, seq?: number, sentAt?: number }} Chat `delivery` is there when it is ours
 * @typedef {{ kind: 'notice', key: string, revision: number, at: number, sort: 'joined' | 'left' | 'info', names: string[], text: string }} Notice
 * @typedef {Chat | Notice} Item
 */

export class Store {
  room = 'lobby';
  me = '';
  myName = '';
  userCount = 0;
  /** Largest frame the server takes, in bytes. */
  maxPayload = 65_536;
  /** @type {Map<string, string>} userId → name, of those who are here */
  people = new Map();
  /** Counts the changes of who is here. */
  peopleRevision = 0;
  /** @type {Item[]} in the room's order */
  items = [];
  /** @type {Chat[]} ours that have not come back yet; shown after everything else */
  pending = [];
  /** Messages of others so far; the page counts unread ones with it. */
  received = 0;

  /** @type {Map<string, string>} names of the departed too, for messages that arrive late */ #names = new Map();
  #keys = 0;
  #ref = 0;
  /** Our name in the connection before; '' before the first. */
  #was = '';

  /** @param {() => number} [now] ms since 1970 */
  constructor(now = Date.now) {
    this.now = now;
  }

  /** A `ref` that no command of this page has used. */
  nextRef() {
    this.#ref += 1;
    return this.#ref;
  }

  /**
   * Takes in a message of the server. Types it does not know are not its business.
   * @param {Message} message
   */
  receive(message) {
    if (PEOPLE.has(message.type)) this.peopleRevision += 1;
    switch (message.type) {
      case 'connected': return this.#connected(message);
      case 'presence': return this.#presence(message);
      case 'user_joined': return this.#joined(message);
      case 'user_left': return this.#left(message);
      case 'chat': return this.#chat(message);
      case 'ack': return this.#ack(message);
      case 'error': return this.#error(message);
    }
  }

  /** The connection is gone: what was on its way may or may not have arrived, and we do not guess. */
  lost() {
    for (const item of [...this.pending]) {
      if (item.delivery === 'sending') this.#mark(item, 'failed', 'Not confirmed: the connection was lost');
      if (item.delivery === 'sent') {
        // Safe, but its echo will not come any more: its place is here, and its number means nothing on the next connection.
        this.pending.splice(this.pending.indexOf(item), 1);
        this.#add(item);
      }
    }
  }

  /**
   * Ours that have been on their way for too long without an answer.
   * @param {number} patience milliseconds
   */
  overdue(patience) {
    for (const item of this.pending) {
      if (item.delivery === 'sending' && this.now() - (item.sentAt ?? 0) > patience) this.#mark(item, 'failed', 'Not confirmed: the server does not answer');
    }
  }

  /** Puts a message of ours in the queue. @param {string} text */
  compose(text) {
    /** @type {Chat} */
    const item = { kind: 'chat', key: this.#key(), revision: 0, at: this.now(), from: this.me, name: this.myName, mine: true, text, delivery: 'waiting' };
    this.pending.push(item);
    return item;
  }

  /** Ours that can go out now, oldest first. The caller sends each and says so with `sending`. */
  waiting() {
    return this.pending.filter((item) => item.delivery === 'waiting' && (item.sentAt ?? 0) <= this.now());
  }

  /** @param {Chat} item @param {number} ref */
  sending(item, ref) {
    item.ref = ref;
    item.sentAt = this.now();
    this.#mark(item, 'sending');
  }

  /** Sends a failed one again, as a new message. @param {string} key */
  retry(key) {
    const at = this.pending.findIndex((item) => item.key === key && item.delivery === 'failed');
    if (at < 0) return;
    const [item] = this.pending.splice(at, 1);
    item.ref = undefined;
    item.sentAt = undefined;
    item.at = this.now();
    this.#mark(item, 'waiting');
    this.pending.push(item);
  }

  /** Forgets a failed one. @param {string} key */
  discard(key) {
    this.pending = this.pending.filter((item) => item.key !== key || item.delivery !== 'failed');
  }

  /** A line of the page's own. @param {string} text */
  notice(text) {
    this.#add({ kind: 'notice', key: this.#key(), revision: 0, at: this.now(), sort: 'info', names: [], text });
  }

  /** Everyone who is here, ourselves first, then by name. @returns {Person[]} */
  present() {
    const all = [...this.people].map(([userId, name]) => ({ userId, name }));
    return all.sort((a, b) => Number(b.userId === this.me) - Number(a.userId === this.me)
      || BY_NAME.compare(a.name, b.name) || (a.userId < b.userId ? -1 : 1));
  }

  /** @param {Message} message */
  #connected(message) {
    this.me = text(message.userId);
    this.room = text(message.room) || this.room;
    this.userCount = count(message.userCount) ?? this.userCount;
    const limits = /** @type {Record<string, unknown>} */ (typeof message.limits === 'object' ? message.limits ?? {} : {});
    this.maxPayload = count(limits.maxPayload) ?? this.maxPayload;
    this.#remember(this.me, this.myName);
    for (const item of this.pending) item.from = this.me;
    if (this.#was === this.myName) this.notice('Connected again. What was said in the meantime is not shown.');
    else if (this.#was !== '') this.notice(`You are now called ${this.myName}`);
    this.#was = this.myName;
  }

  /** @param {Message} message */
  #presence(message) {
    if (!Array.isArray(message.users)) return;
    this.people = new Map();
    for (const user of message.users) {
      const userId = text(user?.userId);
      if (userId !== '') this.people.set(userId, this.#remember(userId, text(user?.info?.name)));
    }
    this.userCount = count(message.userCount) ?? this.people.size;
  }

  /** @param {Message} message */
  #joined(message) {
    const userId = text(message.userId);
    if (userId === '') return;
    const info = /** @type {{ name?: unknown } | undefined} */ (message.info);
    const name = this.#remember(userId, text(info?.name));
    const known = this.people.has(userId);
    this.people.set(userId, name);
    this.userCount = count(message.userCount) ?? this.people.size;
    if (!known && userId !== this.me) this.#passage('joined', name, message);
  }

  /** @param {Message} message */
  #left(message) {
    const userId = text(message.userId);
    const known = this.people.delete(userId);
    this.userCount = count(message.userCount) ?? this.people.size;
    if (known && userId !== this.me) this.#passage('left', this.#nameOf(userId), message);
  }

  /** @param {Message} message */
  #chat(message) {
    if (typeof message.text !== 'string') return;
    const from = text(message.from);
    const at = stamp(message.timestamp) ?? this.now();
    const seq = count(message.seq);
    if (from === this.me) {
      const own = this.pending.find((item) => item.seq !== undefined && item.seq === seq)
        ?? this.pending.find((item) => item.delivery === 'sending' && item.text === message.text)
        // Given up too early.
        ?? this.pending.find((item) => item.delivery === 'failed' && item.ref !== undefined && item.text === message.text);
      if (own !== undefined) {
        this.pending.splice(this.pending.indexOf(own), 1);
        own.at = at;
        own.seq = seq;
        this.#mark(own, 'sent');
        this.#add(own);
        return;
      }
    } else {
      this.received += 1;
    }
    this.#add({ kind: 'chat', key: this.#key(), revision: 0, at, from, name: this.#nameOf(from), mine: from === this.me, text: message.text, seq });
  }

  /** The echo takes it out of `pending`; an answer that comes before it only says that it is safe. @param {Message} message */
  #ack(message) {
    const own = this.pending.find((item) => item.ref === message.ref);
    if (own === undefined) return;
    own.seq = count(message.seq);
    own.at = stamp(message.timestamp) ?? own.at;
    this.#mark(own, 'sent');
  }

  /** @param {Message} message */
  #error(message) {
    const own = message.ref === undefined ? undefined : this.pending.find((item) => item.ref === message.ref);
    if (own === undefined) return;
    if (message.temporary === true && count(message.retryAfter) !== undefined) {
      own.sentAt = this.now() + (count(message.retryAfter) ?? 0);
      this.#mark(own, 'waiting', 'Sending too fast, waiting a moment');
    } else {
      this.#mark(own, 'failed', `Not delivered: ${text(message.message) || 'the server refused it'}`);
    }
  }

  /** One line for a run of people who come or go. @param {'joined' | 'left'} sort @param {string} name @param {Message} message */
  #passage(sort, name, message) {
    const at = stamp(message.timestamp) ?? this.now();
    const line = this.items.at(-1);
    if (line?.kind === 'notice' && line.sort === sort && at - line.at < TOGETHER) {
      if (line.names.length < 10_000) line.names.push(name);
      line.revision += 1;
      return;
    }
    this.#add({ kind: 'notice', key: this.#key(), revision: 0, at, sort, names: [name], text: '' });
  }

  /** @param {Item} item */
  #add(item) {
    const last = this.items.at(-1);
    if (last !== undefined && item.at < last.at) item.at = last.at;
    this.items.push(item);
    if (this.items.length > KEPT) this.items.splice(0, this.items.length - KEPT);
  }

  /** @param {Chat} item @param {Delivery} delivery @param {string} [problem] */
  #mark(item, delivery, problem) {
    item.delivery = delivery;
    item.problem = problem;
    item.revision += 1;
  }

  /** @param {string} userId @param {string} name */
  #remember(userId, name) {
    const shown = name.trim() || this.#names.get(userId) || guest(userId);
    this.#names.delete(userId);
    this.#names.set(userId, shown);
    if (this.#names.size > REMEMBERED) this.#names.delete(this.#names.keys().next().value ?? '');
    for (const item of this.items) {
      if (item.kind === 'chat' && item.from === userId && item.name !== shown) {
        item.name = shown;
        item.revision += 1;
      }
    }
    return shown;
  }

  /** @param {string} userId */
  #nameOf(userId) {
    return this.#names.get(userId) ?? guest(userId);
  }

  #key() {
    this.#keys += 1;
    return `item ${this.#keys}`;
  }
}

/** @param {string} userId */
const guest = (userId) => `Guest ${userId.slice(-4)}`;

/** @param {unknown} value */
const text = (value) => (typeof value === 'string' ? value : '');

/** @param {unknown} value @returns {number | undefined} */
const count = (value) => (typeof value === 'number' && Number.isFinite(value) && value >= 0 ? value : undefined);

const BY_NAME = new Intl.Collator();

/** Messages that change who is here. */
const PEOPLE = new Set(['connected', 'presence', 'user_joined', 'user_left']);

/** A time that a Date can hold. @param {unknown} value @returns {number | undefined} */
const stamp = (value) => (typeof value === 'number' && value >= 0 && value <= 8.64e15 ? value : undefined);

/** How many items the page keeps. */
export const KEPT = 500;

/** How many names it remembers, of people and of the departed. */
const REMEMBERED = 5_000;

/** Who comes or goes within this time of the first shares a line, in milliseconds. */
const TOGETHER = 60_000;
