// One row of the log, in the DOM: a message, a day, a line of the page. Everything is put there as text.
import { hashOf } from './address.js';
import { make } from './element.js';
import { hue, initials } from './names.js';
import { setProse } from './prose.js';
import { clock, dayLabel, moment, together } from './timeline.js';

/**
 * @typedef {import('./timeline.js').Row} Row
 * @typedef {import('./items.js').Chat} Chat
 * @typedef {object} Surroundings what a row needs to know of the page
 * @property {(userId: string, claimed: string) => string} nameOf
 * @property {boolean} online
 * @property {boolean} linked whether authors are links to a direct conversation
 * @property {(key: string) => void} onRetry
 * @property {(key: string) => void} onDiscard
 */

export class RowView {
  node = document.createElement('li');
  #content = '';
  #delivery = '';

  /**
   * Brings the DOM to this row. What is unchanged stays untouched: a screen reader would read it again.
   * @param {Row} row
   * @param {Surroundings} around
   */
  show(row, around) {
    const { node } = this;
    const content = contentOf(row, around);
    if (this.#content !== content) {
      this.#content = content;
      this.#delivery = '';
      node.replaceChildren();
      if (row.kind === 'day') node.append(make('span', '', dayLabel(row.at, Date.now())));
      else if (row.kind === 'unread') node.append(make('span', '', 'New since you looked'));
      else if (row.kind === 'notice') node.append(make('span', '', noticeText(row.item)), time(row.item.at));
      else fill(node, row, around);
    }
    if (row.kind === 'day' || row.kind === 'unread') {
      node.className = row.kind;
    } else if (row.kind === 'notice') {
      node.className = `notice ${row.item.sort}`;
    } else {
      const { item, first, last } = row;
      node.className = `message${item.mine ? ' mine' : ''}${first ? ' first' : ''}${last ? ' last' : ''}`;
      this.#showDelivery(item, last, around);
    }
  }

  /** @param {Chat} item @param {boolean} last @param {Surroundings} around */
  #showDelivery(item, last, around) {
    const { node } = this;
    if (item.delivery === undefined) return;
    const state = item.delivery === 'sending' && !around.online ? 'waiting' : item.delivery;
    const delivery = `${state} ${last} ${item.problem ?? ''}`;
    if (this.#delivery === delivery) return;
    this.#delivery = delivery;
    node.dataset.delivery = state;
    node.querySelector(':scope > .delivery')?.remove();
    const line = make('p', 'delivery');
    line.setAttribute('aria-live', 'off');
    if (state === 'failed') {
      const retry = make('button', 'retry', 'Send again');
      const discard = make('button', 'discard', 'Remove');
      retry.type = discard.type = 'button';
      retry.addEventListener('click', () => around.onRetry(item.key));
      discard.addEventListener('click', () => around.onDiscard(item.key));
      const choices = make('span', 'choices');
      choices.append(retry, ' ', discard);
      line.append(make('span', 'problem', item.problem ?? 'Not delivered'), ' ', choices);
    } else if (last) {
      line.append(DELIVERY[state]);
    }
    node.append(line);
  }
}

/** @param {HTMLLIElement} node @param {Extract<Row, { kind: 'chat' }>} row @param {Surroundings} around */
function fill(node, { item, first }, around) {
  const name = item.mine ? 'You' : around.nameOf(item.from, item.name);
  node.style.setProperty('--hue', String(hue(item.from)));
  if (first) {
    const avatar = make('span', 'avatar', initials(name));
    avatar.setAttribute('aria-hidden', 'true');
    const head = make('p', 'head');
    head.append(author(item, name, around), ' ', time(item.at));
    node.append(avatar, head);
  } else {
    node.append(make('span', 'hidden', `${name}: `));
  }
  const bubble = make('div', 'bubble');
  const body = make('p', 'text');
  body.dir = 'auto';
  setProse(body, item.text);
  bubble.append(body);
  if (item.text.length > LONG || item.text.split('\n', LINES + 1).length > LINES) fold(bubble, body);
  node.append(bubble);
  if (!first) node.append(time(item.at));
}

/** The list of people has the same links for the keyboard. @param {Chat} item @param {string} name @param {Surroundings} around */
function author(item, name, around) {
  const label = make('bdi', 'author', name);
  if (item.mine) return label;
  label.title = name;
  if (!around.linked || item.from === '') return label;
  const link = make('a', 'write');
  link.href = hashOf({ kind: 'direct', name: item.from });
  link.tabIndex = -1;
  link.append(label);
  return link;
}

/** A wall of text shows its beginning. @param {HTMLElement} bubble @param {HTMLElement} body */
function fold(bubble, body) {
  body.classList.add('folded');
  const more = make('button', 'unfold', 'Show all of it');
  more.type = 'button';
  more.addEventListener('click', () => {
    body.classList.remove('folded');
    more.remove();
  });
  bubble.append(more);
}

/** What a row's content depends on; an item's text never changes. @param {Row} row @param {Surroundings} around */
function contentOf(row, around) {
  if (row.kind === 'day') return dayLabel(row.at, Date.now());
  if (row.kind === 'unread') return 'unread';
  if (row.kind === 'notice') return `notice ${row.item.revision}`;
  const { item, first } = row;
  return `${first} ${Math.floor(item.at / 60_000)} ${item.from} ${around.nameOf(item.from, item.name)}`;
}

/** @param {import('./items.js').Notice} item */
function noticeText(item) {
  if (item.sort === 'joined') return `${together(item.names)} entered the chat room`;
  if (item.sort === 'left') return `${together(item.names)} left`;
  if (item.sort === 'other') return `${item.count === 1 ? 'A message' : `${item.count} messages`} of type “${item.text}”, not shown here`;
  return item.text;
}

/** @param {number} at */
function time(at) {
  const node = make('time', 'time', clock(at));
  node.dateTime = new Date(at).toISOString();
  node.title = moment(at);
  return node;
}

const DELIVERY = { waiting: 'Waiting for the connection', sending: 'Sending', sent: 'Sent' };

/** Longer texts are folded: characters, lines. */
const LONG = 1_600;
const LINES = 24;
