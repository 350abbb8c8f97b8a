// From items to rows: day separators, the mark of the unread, and groups. Pure.

/**
 * @typedef {import('./items.js').Item} Item
 * @typedef {{ kind: 'day', key: string, at: number }
 *   | { kind: 'notice', key: string, item: import('./items.js').Notice }
 *   | { kind: 'unread', key: string }
 *   | { kind: 'chat', key: string, item: import('./items.js').Chat, first: boolean, last: boolean }} Row
 *   `unread`: what follows is new since the reader last looked.
 *   `first` and `last` of a group: messages of one author in a run, none more than GAP after the one before.
 */

/** A pause longer than this starts a new group, in milliseconds. */
export const GAP = 5 * 60_000;

/**
 * @param {readonly Item[]} items in order
 * @param {string} [marker] key of the first unread one
 * @returns {Row[]}
 */
export function rows(items, marker = '') {
  /** @type {Row[]} */
  const out = [];
  let day = '';
  /** @type {Extract<Row, { kind: 'chat' }> | null} */
  let before = null;
  let until = -Infinity;
  for (const item of items) {
    // Items never go back in time, so a day ends once.
    if (item.at >= until) {
      const midnight = new Date(item.at);
      day = midnight.toDateString();
      midnight.setHours(24, 0, 0, 0);
      until = midnight.getTime();
      before = null;
      out.push({ kind: 'day', key: `day ${day}`, at: item.at });
    }
    if (item.key === marker) {
      before = null;
      out.push({ kind: 'unread', key: 'unread' });
    }
    if (item.kind === 'notice') {
      before = null;
      out.push({ kind: 'notice', key: item.key, item });
      continue;
    }
    /** @type {boolean} */
    const first = before === null || before.item.from !== item.from || before.item.mine !== item.mine || item.at - before.item.at > GAP;
    if (!first && before !== null) before.last = false;
    before = { kind: 'chat', key: item.key, item, first, last: true };
    out.push(before);
  }
  return out;
}

/**
 * "Today", "Yesterday", "Friday 20 November".
 * @param {number} at
 * @param {number} now
 * @param {string} [locale]
 */
export function dayLabel(at, now, locale) {
  const day = new Date(at);
  const distance = Math.round((new Date(now).setHours(0, 0, 0, 0) - new Date(at).setHours(0, 0, 0, 0)) / 86_400_000);
  if (distance === 0) return 'Today';
  if (distance === 1) return 'Yesterday';
  const year = day.getFullYear() === new Date(now).getFullYear() ? undefined : /** @type {const} */ ('numeric');
  return day.toLocaleDateString(locale, { weekday: 'long', day: 'numeric', month: 'long', year });
}

/** "12:34" in the manner of the reader. @param {number} at */
export const clock = (at) => CLOCK.format(at);

/** Date and time in full. @param {number} at */
export const moment = (at) => MOMENT.format(at);

/**
 * "Ada", "Ada and Bo", "Ada, Bo and 3 others".
 * @param {readonly string[]} names
 */
export function together(names) {
  if (names.length <= 1) return names[0] ?? 'Somebody';
  if (names.length === 2) return `${names[0]} and ${names[1]}`;
  if (names.length === 3) return `${names[0]}, ${names[1]} and ${names[2]}`;
  return `${names[0]}, ${names[1]} and ${names.length - 2} others`;
}

// Made once: making one costs more than a hundred uses.
const CLOCK = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const MOMENT = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'medium' });
