// The message log: rows that are added, changed and dropped, and a scroll position that belongs to the reader.
import { hue, initials } from './names.js';
import { setProse } from './prose.js';
import { clock, dayLabel, moment, together } from './timeline.js';

/**
 * @typedef {import('./timeline.js').Row} Row
 * @typedef {{ node: HTMLLIElement, content: string, delivery: string }} Shown `content` and `delivery`: what is in the DOM now
 */

export class Log {
  /** @type {Map<string, Shown>} */ #shown = new Map();
  #atEnd = true;
  #unseen = 0;

  /**
   * @param {object} parts
   * @param {HTMLElement} parts.log what scrolls
   * @param {HTMLElement} parts.list
   * @param {HTMLButtonElement} parts.jump "3 new messages"
   * @param {HTMLElement} parts.jumpText
   * @param {(key: string) => void} parts.onRetry
   * @param {(key: string) => void} parts.onDiscard
   */
  constructor({ log, list, jump, jumpText, onRetry, onDiscard }) {
    this.log = log;
    this.list = list;
    this.jump = jump;
    this.jumpText = jumpText;
    this.onRetry = onRetry;
    this.onDiscard = onDiscard;
    log.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    jump.addEventListener('click', () => {
      this.toEnd();
      log.focus({ preventScroll: true });
    });
    new ResizeObserver(() => this.#atEnd && this.toEnd()).observe(log);
  }

  /** Whether the newest message is in sight. */
  get atEnd() {
    return this.#atEnd;
  }

  /**
   * Brings the DOM to these rows. Touches only what differs; keeps the place of a reader who has scrolled up.
   * @param {readonly Row[]} rows
   */
  render(rows) {
    const first = this.list.firstElementChild;
    const last = this.list.lastElementChild;
    const anchor = this.#atEnd ? null : this.#anchor();
    const wanted = new Set(rows.map((row) => row.key));
    for (const [key, { node }] of this.#shown) {
      if (wanted.has(key)) continue;
      node.remove();
      this.#shown.delete(key);
    }
    let news = 0;
    let next = this.list.firstElementChild;
    for (const row of rows) {
      let shown = this.#shown.get(row.key);
      if (shown === undefined) {
        shown = { node: document.createElement('li'), content: '', delivery: '' };
        this.#shown.set(row.key, shown);
        if (first !== null && row.kind === 'chat' && !row.item.mine) news += 1;
      }
      this.#update(shown, row);
      if (shown.node === next) next = next.nextElementSibling;
      else this.list.insertBefore(shown.node, next);
    }
    if (this.#atEnd) {
      this.toEnd();
    } else {
      if (anchor !== null && anchor.node.isConnected) this.log.scrollTop += anchor.node.getBoundingClientRect().top - anchor.top;
      if (this.list.lastElementChild !== last && news > 0) this.#count(this.#unseen + news);
    }
  }

  toEnd() {
    this.log.scrollTop = this.log.scrollHeight;
    this.#atEnd = true;
    this.#count(0);
  }

  #scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.log;
    this.#atEnd = scrollHeight - scrollTop - clientHeight < NEAR;
    if (this.#atEnd) this.#count(0);
    else this.#button();
  }

  /** @param {number} unseen */
  #count(unseen) {
    this.#unseen = unseen;
    this.#button();
  }

  #button() {
    const { scrollHeight, scrollTop, clientHeight } = this.log;
    const far = scrollHeight - scrollTop - clientHeight > clientHeight;
    this.jump.hidden = this.#atEnd || (this.#unseen === 0 && !far);
    this.jump.classList.toggle('news', this.#unseen > 0);
    this.jumpText.textContent = this.#unseen === 0 ? 'To the newest' : this.#unseen === 1 ? '1 new message' : `${this.#unseen} new messages`;
  }

  /** The first row in sight and where it is. */
  #anchor() {
    const edge = this.log.getBoundingClientRect().top;
    for (const node of this.list.children) {
      const box = node.getBoundingClientRect();
      if (box.bottom > edge) return { node, top: box.top };
    }
    return null;
  }

  /**
   * What is unchanged stays untouched: a screen reader would read it again.
   * @param {Shown} shown
   * @param {Row} row
   */
  #update(shown, row) {
    const { node } = shown;
    const content = contentOf(row);
    if (shown.content !== content) {
      shown.content = content;
      shown.delivery = '';
      node.replaceChildren();
      if (row.kind === 'day') node.append(make('span', '', dayLabel(row.at, Date.now())));
      else if (row.kind === 'notice') node.append(make('span', '', noticeText(row.item)), time(row.item.at));
      else this.#fill(node, row);
    }
    if (row.kind === 'day') {
      node.className = 'day';
    } else if (row.kind === 'notice') {
      node.className = `notice ${row.item.sort}`;
    } else {
      const { item, first, last } = row;
      node.className = `message${item.mine ? ' mine' : ''}${first ? ' first' : ''}${last ? ' last' : ''}`;
      const delivery = `${item.delivery} ${last} ${item.problem ?? ''}`;
      if (item.delivery === undefined || shown.delivery === delivery) return;
      shown.delivery = delivery;
      node.dataset.delivery = item.delivery;
      node.querySelector(':scope > .delivery')?.remove();
      node.append(this.#delivery(item, last));
    }
  }

  /** @param {HTMLLIElement} node @param {Extract<Row, { kind: 'chat' }>} row */
  #fill(node, { item, first }) {
    node.style.setProperty('--hue', String(hue(item.from)));
    if (first) {
      const avatar = make('span', 'avatar', initials(item.name));
      avatar.setAttribute('aria-hidden', 'true');
      const head = make('p', 'head');
      const author = make('bdi', 'author', item.mine ? 'You' : item.name);
      if (!item.mine) author.title = item.name;
      head.append(author, ' ', time(item.at));
      node.append(avatar, head);
    } else {
      node.append(make('span', 'hidden', `${item.mine ? 'You' : item.name}: `));
    }
    const bubble = make('div', 'bubble');
    const body = make('p', 'text');
    body.dir = 'auto';
    setProse(body, item.text);
    bubble.append(body);
    if (item.text.length > LONG || item.text.split('\n', LINES + 1).length > LINES) this.#fold(bubble, body);
    node.append(bubble);
    if (!first) node.append(time(item.at));
  }

  /** A wall of text shows its beginning. @param {HTMLElement} bubble @param {HTMLElement} body */
  #fold(bubble, body) {
    body.classList.add('folded');
    const more = make('button', 'unfold', 'Show all of it');
    more.type = 'button';
    more.addEventListener('click', () => {
      body.classList.remove('folded');
      more.remove();
    });
    bubble.append(more);
  }

  /** @param {import('./store.js').Chat} item @param {boolean} last */
  #delivery(item, last) {
    const line = make('p', 'delivery');
    line.setAttribute('aria-live', 'off');
    if (item.delivery === 'failed') {
      const retry = make('button', 'retry', 'Send again');
      const discard = make('button', 'discard', 'Remove');
      retry.type = discard.type = 'button';
      retry.addEventListener('click', () => this.onRetry(item.key));
      discard.addEventListener('click', () => this.onDiscard(item.key));
      line.append(make('span', 'problem', item.problem ?? 'Not delivered'), ' ', retry, ' ', discard);
    } else if (last) {
      line.append(item.problem ?? DELIVERY[item.delivery ?? 'sent']);
    }
    return line;
  }
}

/** What a row's content depends on; an item's text never changes. @param {Row} row */
function contentOf(row) {
  if (row.kind === 'day') return dayLabel(row.at, Date.now());
  if (row.kind === 'notice') return `notice ${row.item.revision}`;
  return `${row.first} ${Math.floor(row.item.at / 60_000)} ${row.item.from} ${row.item.name}`;
}

/** @param {import('./store.js').Notice} item */
function noticeText(item) {
  if (item.sort === 'joined') return `${together(item.names)} entered the chat room`;
  if (item.sort === 'left') return `${together(item.names)} left`;
  return item.text;
}

/** @param {number} at */
function time(at) {
  const node = make('time', 'time', clock(at));
  node.dateTime = new Date(at).toISOString();
  node.title = moment(at);
  return node;
}

/**
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {string} [name] class
 * @param {string} [content] as text
 * @returns {HTMLElementTagNameMap[T]}
 */
function make(tag, name, content) {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (content !== undefined) node.textContent = content;
  return node;
}

const DELIVERY = { waiting: 'Waiting for the connection', sending: 'Sending', sent: 'Sent' };

/** This close to the end counts as there, in pixels. */
const NEAR = 40;

/** Longer texts are folded: characters, lines. */
const LONG = 1_600;
const LINES = 24;
