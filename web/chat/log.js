// The message log: rows that are added, changed and dropped, and a scroll position that belongs to the reader.
import { RowView } from './row.js';

/** @typedef {import('./timeline.js').Row} Row */

export class Log {
  /** @type {Map<string, RowView>} */ #shown = new Map();
  #atEnd = true;
  #unseen = 0;
  #loading = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #hush;

  /**
   * @param {object} parts
   * @param {HTMLElement} parts.log what scrolls
   * @param {HTMLElement} parts.list
   * @param {HTMLButtonElement} parts.jump "3 new messages"
   * @param {HTMLElement} parts.jumpText
   * @param {HTMLButtonElement} parts.earlier
   * @param {() => Promise<boolean>} parts.onEarlier resolves with whether it worked
   */
  constructor({ log, list, jump, jumpText, earlier, onEarlier }) {
    this.log = log;
    this.list = list;
    this.jump = jump;
    this.jumpText = jumpText;
    this.earlier = earlier;
    this.onEarlier = onEarlier;
    log.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    jump.addEventListener('click', () => {
      this.toEnd();
      log.focus({ preventScroll: true });
    });
    earlier.addEventListener('click', () => void this.#load());
    new ResizeObserver(() => this.#atEnd && this.toEnd()).observe(log);
  }

  /** Whether the newest message is in sight. */
  get atEnd() {
    return this.#atEnd;
  }

  /** Another conversation: nothing of this one stays, and the reader is at its end. */
  clear() {
    this.#shown.clear();
    this.list.replaceChildren();
    this.#atEnd = true;
    this.#count(0);
    this.#label('Load earlier messages');
  }

  /**
   * Brings the DOM to these rows. Touches only what differs; keeps the place of a reader who has scrolled up.
   * @param {readonly Row[]} rows
   * @param {import('./row.js').Surroundings} around
   * @param {boolean} earlier whether older ones can be asked for
   */
  render(rows, around, earlier) {
    const first = this.list.firstElementChild;
    const last = this.list.lastElementChild;
    const anchor = this.#atEnd ? null : this.#anchor();
    this.earlier.hidden = !earlier;
    const wanted = new Set(rows.map((row) => row.key));
    for (const [key, { node }] of this.#shown) {
      if (wanted.has(key)) continue;
      node.remove();
      this.#shown.delete(key);
    }
    if (rows.length - this.#shown.size > MANY) this.#quiet();
    let news = 0;
    let next = this.list.firstElementChild;
    for (const row of rows) {
      let shown = this.#shown.get(row.key);
      if (shown === undefined) {
        shown = new RowView();
        this.#shown.set(row.key, shown);
        // News come after what is there; before it is what was asked for.
        if (first !== null && next === null && row.kind === 'chat' && !row.item.mine) news += 1;
      }
      shown.show(row, around);
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

  /** The end, or the first unread message if that would be out of sight there. */
  toUnread() {
    this.toEnd();
    const mark = this.list.querySelector(':scope > .unread');
    if (mark === null) return;
    const over = this.log.getBoundingClientRect().top + 24 - mark.getBoundingClientRect().top;
    if (over <= 0) return;
    this.log.scrollTop -= over;
    this.#scrolled();
  }

  /** The reader keeps the place, so that what comes above it does not move it. */
  async #load() {
    if (this.#loading) return;
    this.#loading = true;
    this.#label('Loading…');
    this.#atEnd = false;
    const worked = await this.onEarlier();
    this.#loading = false;
    this.#label(worked ? 'Load earlier messages' : 'That did not work. Try again');
    this.#scrolled();
    if (this.earlier.hidden && document.activeElement === document.body) this.log.focus({ preventScroll: true });
  }

  /** What was said before is no news: a screen reader does not read it out. */
  #quiet() {
    clearTimeout(this.#hush);
    this.log.setAttribute('aria-live', 'off');
    this.#hush = setTimeout(() => this.log.setAttribute('aria-live', 'polite'), HUSH);
  }

  /** @param {string} words */
  #label(words) {
    this.earlier.textContent = words;
  }

  #scrolled() {
    if (this.#loading) return;
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
      if (box.bottom > edge && !node.classList.contains('day')) return { node, top: box.top };
    }
    return null;
  }
}

/** So many rows at once are the past, a page of it or a room that is entered. */
const MANY = 5;

/** How long a screen reader may take to notice them, in milliseconds. */
const HUSH = 500;

/** This close to the end counts as there, in pixels. */
const NEAR = 40;
