// What a conversation is made of, in the room's order: messages, and lines of the page's own.
import { stamp } from './field.js';

/**
 * @typedef {'sending' | 'sent' | 'failed'} Delivery
 * @typedef {{ kind: 'chat', key: string, revision: number, at: number, from: string, name: string, mine: boolean, text: string,
 *   delivery?: Delivery, problem?: string, epoch?: string, seq?: number }} Chat
 *   `name` is what the message says of its author; `delivery` is there when this page sent it
 * @typedef {{ kind: 'notice', key: string, revision: number, at: number, sort: 'joined' | 'left' | 'other' | 'gap' | 'info',
 *   names: string[], ids: string[], text: string, count: number }} Notice `text` of `other` is the type of the messages
 * @typedef {Chat | Notice} Item
 */

export class Items {
  /** @type {Item[]} */ list = [];
  #keys = 0;

  /** @param {() => number} now ms since 1970 */
  constructor(now) {
    this.now = now;
  }

  /** By its number among those of its epoch, else at the end. False when it is there already. @param {Chat} item */
  insert(item) {
    const { list } = this;
    let at = list.length;
    for (let i = at - 1; i >= 0 && item.seq !== undefined; i -= 1) {
      const other = list[i];
      if (other?.kind !== 'chat' || other.seq === undefined) continue;
      if (other.epoch !== item.epoch) {
        if (!same(other, item)) continue;
        other.epoch = item.epoch; // the room was renewed, and has kept it
        return false;
      }
      if (other.seq === item.seq) return false;
      if (other.seq < item.seq) break;
      at = i;
    }
    const [before, after] = [list[at - 1], list[at]];
    if (before !== undefined && item.at < before.at && item.seq === undefined) item.at = before.at;
    if (after !== undefined && item.at > after.at) item.at = after.at;
    list.splice(at, 0, item);
    return true;
  }

  /** One of ours. @param {string} key @returns {Chat | undefined} */
  own(key) {
    const item = this.list.findLast((other) => other.key === key);
    return item?.kind === 'chat' && item.mine ? item : undefined;
  }

  /** Says that something may be missing here; once for one place. */
  gap() {
    const last = this.list.at(-1);
    if (last === undefined || (last.kind === 'notice' && last.sort === 'gap')) return;
    this.#push('gap', { text: 'Messages may be missing here' });
  }

  /** A line of the page's own. @param {string} text */
  notice(text) {
    this.#push('info', { text });
  }

  /**
   * One line for a run of people who come or go. Who is back at once, after a reload say, has not been away.
   * @param {'joined' | 'left'} sort @param {{ userId: string, name: string }} who @param {unknown} [timestamp]
   */
  passage(sort, { userId, name }, timestamp) {
    const at = stamp(timestamp) ?? this.now();
    const last = this.list.at(-1);
    const line = last?.kind === 'notice' && at - last.at < TOGETHER ? last : undefined;
    if (sort === 'joined' && line?.sort === 'left' && line.ids.includes(userId)) {
      const place = line.ids.indexOf(userId);
      line.ids.splice(place, 1);
      line.names.splice(place, 1);
      line.revision += 1;
      if (line.ids.length === 0) this.list.pop();
    } else if (line?.sort === sort) {
      if (line.names.length < CROWD) {
        line.names.push(name);
        line.ids.push(userId);
      }
      line.revision += 1;
    } else {
      this.#push(sort, { at, names: [name], ids: [userId] });
    }
  }

  /** A message of a type that this page does not show: one line for a run of them. @param {string} type @param {unknown} timestamp */
  other(type, timestamp) {
    const line = this.list.at(-1);
    if (line?.kind === 'notice' && line.sort === 'other' && line.text === type) {
      line.count += 1;
      line.revision += 1;
    } else {
      this.#push('other', { at: stamp(timestamp) ?? this.now(), text: type });
    }
  }

  /** Lets go of the oldest. @param {number} kept @returns {Chat | undefined} the first numbered message that is left, when there were more */
  bound(kept) {
    if (this.list.length <= kept) return undefined;
    this.list.splice(0, this.list.length - kept);
    const first = this.list.find((item) => item.kind === 'chat' && item.seq !== undefined);
    return first?.kind === 'chat' ? first : undefined;
  }

  /** A key that no other item has. */
  key() {
    this.#keys += 1;
    return `item ${this.#keys}`;
  }

  /** @param {Notice['sort']} sort @param {Partial<Notice>} rest */
  #push(sort, rest) {
    /** @type {Notice} */
    const line = { kind: 'notice', key: this.key(), revision: 0, at: this.now(), sort, names: [], ids: [], text: '', count: 1, ...rest };
    line.at = Math.max(line.at, this.list.at(-1)?.at ?? 0);
    this.list.push(line);
  }
}

/** Whether they are one message under the same number of two epochs. @param {Chat} one @param {Chat} other */
const same = (one, other) => one.seq === other.seq && one.at === other.at && one.from === other.from && one.text === other.text;

/** Who comes or goes within this time of the first shares a line, in milliseconds. */
const TOGETHER = 60_000;

/** How many share one. */
const CROWD = 10_000;
