// One room or one exchange with a person, as the page knows it: what was said, what is on its way, what is unread.
// No DOM, no socket.
import { count, stamp, text } from './field.js';
import { Items } from './items.js';

/**
 * @typedef {{ epoch: string, seq: number }} Position
 * @typedef {import('./items.js').Chat} Chat
 * @typedef {{ type: string, [field: string]: unknown }} Message
 */

export class Conversation {
  /** @type {Chat[]} ours that have no place in the room's order yet; shown after everything else */ pending = [];
  unread = 0;
  /** The key of the first item that was new when the reader last looked; '' without one. */
  marker = '';
  /** @type {Position | undefined} how far the reader has read */ seen;
  /** @type {Position | undefined} how far the page has heard */ position;
  /** @type {Position | undefined} where what the page knows begins */ oldest;
  /** Whether the reader is going back in it, which lifts the bound on what is kept. */
  readingBack = false;
  /** What keeps the page out of the room; '' when nothing does. */
  refused = '';

  /** Whether the room may have older messages. */ #older = false;
  /** @type {Position | undefined} the end of the replay that a `joined` announced */ #replay;
  #items;

  /**
   * @param {'room' | 'direct'} kind
   * @param {string} name of the room, or the userId of the person
   * @param {() => number} [now] ms since 1970
   */
  constructor(kind, name, now = Date.now) {
    this.kind = kind;
    this.name = name;
    this.now = now;
    this.#items = new Items(now);
  }

  /** In the room's order. */
  get items() {
    return this.#items.list;
  }

  /** What is said, in order; ours that have no place yet at the end. */
  all() {
    return [...this.items, ...this.pending];
  }

  /** Whether older messages can be asked for. */
  get earlier() {
    return this.#older && this.items.length <= KEPT_BACK - PAGE;
  }

  /** There is nothing older. */
  begins() {
    this.#older = false;
  }

  /**
   * The room was entered. What is up to `seq` and not here yet follows as a replay.
   * @param {string} epoch @param {number} seq
   */
  entered(epoch, seq) {
    this.refused = '';
    if (this.position === undefined) this.#replay = { epoch, seq };
    this.seen ??= { epoch, seq };
  }

  /**
   * Takes in a message of the stream, oldest first. A repeated one changes nothing.
   * @param {Message} message
   * @param {{ epoch: string, mine: boolean, looking: boolean }} context
   * @returns {Chat | undefined} when it is new and something to read
   */
  receive(message, { epoch, mine, looking }) {
    const seq = count(message.seq);
    if (seq !== undefined && !this.#follow(epoch, seq)) return undefined;
    if (message.type !== 'chat') this.#items.other(message.type, message.timestamp);
    const item = message.type === 'chat' && typeof message.text === 'string' ? this.#place(message, epoch, mine) : undefined;
    this.#bound();
    if (item === undefined || mine) return undefined;
    if (!looking || before(item, this.#replay)) this.#news(item);
    return item;
  }

  /**
   * Takes in a page of history, whether older than what is here or from a gap.
   * @param {readonly Message[]} messages ascending
   * @param {{ epoch: string, more?: boolean, mine: (from: string) => boolean, looking?: boolean }} context `more`: still older
   *   ones can be asked for
   */
  fill(messages, { epoch, more, mine, looking = true }) {
    for (const message of messages) {
      const seq = count(message.seq);
      if (seq === undefined) continue;
      if (this.oldest === undefined || (this.oldest.epoch === epoch && seq < this.oldest.seq)) this.#startsAt(epoch, seq);
      if (this.position === undefined || this.position.epoch !== epoch || seq > this.position.seq) this.position = { epoch, seq };
      if (message.type !== 'chat' || typeof message.text !== 'string') continue;
      const item = this.#place(message, epoch, mine(text(message.from)));
      if (item !== undefined && !item.mine && !looking) this.#news(item);
    }
    if (more === false) this.begins();
    this.#bound();
  }

  /** Puts a message of ours at the end. @param {string} key unique @param {string} body @param {string} from @param {string} name */
  compose(key, body, from, name) {
    this.marker = '';
    /** @type {Chat} */
    const item = { kind: 'chat', key, revision: 0, at: this.now(), from, name, mine: true, text: body, delivery: 'sending' };
    this.pending.push(item);
    return item;
  }

  /**
   * One of ours was acknowledged. Without a position it keeps its place at the end.
   * @param {string} key
   * @param {{ at?: number, position?: Position }} where
   */
  settle(key, { at, position }) {
    const item = this.#own(key);
    if (item === undefined) return;
    if (item.seq === undefined && position !== undefined) ({ epoch: item.epoch, seq: item.seq } = position);
    item.at = at ?? item.at;
    mark(item, 'sent');
    if (this.#take(item)) this.#items.insert(item);
    this.#bound();
  }

  /** One of ours was refused. @param {string} key @param {string} problem */
  fail(key, problem) {
    const item = this.pending.find((other) => other.key === key);
    if (item !== undefined) mark(item, 'failed', problem);
  }

  /** A failed one is sent again, after those that wait. @param {string} key */
  retry(key) {
    const item = this.pending.find((other) => other.key === key && other.delivery === 'failed');
    if (item === undefined) return undefined;
    this.#take(item);
    item.at = this.now();
    mark(item, 'sending');
    this.pending.push(item);
    return item;
  }

  /** Forgets a failed one. @param {string} key */
  discard(key) {
    this.pending = this.pending.filter((item) => item.key !== key || item.delivery !== 'failed');
  }

  /** The reader sees the end of it now. While a replay still runs, what is new in it stays marked. */
  look() {
    if (this.unread > 0 && this.position !== undefined && this.position.seq !== this.#replay?.seq && before(this.position, this.#replay)) return;
    this.unread = 0;
    if (this.position !== undefined) this.seen = this.position;
  }

  /** The reader looks away; a marker that was seen has done its work. */
  lookAway() {
    if (this.unread === 0) this.marker = '';
  }

  /** The stream was broken off, and goes on elsewhere. */
  lost() {
    this.#items.gap();
    this.position = undefined;
  }

  /** A line of the page's own. @param {string} line */
  notice(line) {
    this.#items.notice(line);
    this.#bound();
  }

  /** @param {'joined' | 'left'} sort @param {{ userId: string, name: string }} who @param {unknown} [timestamp] */
  passage(sort, who, timestamp) {
    this.#items.passage(sort, who, timestamp);
    this.#bound();
  }

  /** Moves on to this number. False when it is not ahead. @param {string} epoch @param {number} seq */
  #follow(epoch, seq) {
    const { position } = this;
    if (before({ epoch, seq }, position)) return false;
    // The numbers of a room have no holes within an epoch, so one here is a hole in what we know.
    if (this.kind === 'room' && position !== undefined && (position.epoch !== epoch || seq > position.seq + 1)) this.#items.gap();
    this.position = { epoch, seq };
    if (this.oldest === undefined) this.#startsAt(epoch, seq);
    return true;
  }

  /** Unread, unless the reader has been further already. @param {Chat} item */
  #news(item) {
    if (before(item, this.seen)) return;
    if (this.unread === 0) this.marker = item.key;
    this.unread += 1;
  }

  /** @param {Message} message @param {string} epoch @param {boolean} mine @returns {Chat | undefined} undefined when it was there */
  #place(message, epoch, mine) {
    const key = mine ? text(message.key) : '';
    const at = stamp(message.timestamp) ?? this.now();
    const seq = count(message.seq);
    if (key !== '' && this.#own(key) !== undefined) {
      this.settle(key, { at, position: seq === undefined ? undefined : { epoch, seq } });
      return undefined;
    }
    /** @type {Chat} */
    const item = {
      kind: 'chat', key: key || this.#items.key(), revision: 0, at, from: text(message.from), name: text(message.name), mine,
      text: text(message.text), epoch: seq === undefined ? undefined : epoch, seq,
    };
    return this.#items.insert(item) ? item : undefined;
  }

  /** @param {string} key */
  #own(key) {
    return this.pending.find((item) => item.key === key) ?? this.#items.own(key);
  }

  /** Takes it out of those that wait. @param {Chat} item */
  #take(item) {
    const at = this.pending.indexOf(item);
    if (at >= 0) this.pending.splice(at, 1);
    return at >= 0;
  }

  /** @param {string} epoch @param {number} seq */
  #startsAt(epoch, seq) {
    this.oldest = { epoch, seq };
    this.#older = this.kind === 'room' && seq > 1;
  }

  /** Keeps the newest; more of them while somebody reads back. */
  #bound() {
    const first = this.#items.bound(this.readingBack ? KEPT_BACK : KEPT);
    if (first?.epoch !== undefined && first.seq !== undefined) this.#startsAt(first.epoch, first.seq);
  }
}

/** @param {Chat} item @param {import('./items.js').Delivery} delivery @param {string} [problem] */
function mark(item, delivery, problem) {
  item.delivery = delivery;
  item.problem = problem;
  item.revision += 1;
}

/** Whether something is at this position, or before it in the same epoch. @param {Partial<Position>} what @param {Position} [position] */
function before({ epoch, seq }, position) {
  return seq !== undefined && epoch === position?.epoch && seq <= (position?.seq ?? -1);
}

/** How many items a conversation keeps, and how many while its reader goes back in it. */
export const KEPT = 500;
export const KEPT_BACK = 3_000;

/** How many messages are asked for at a time. */
export const PAGE = 100;
