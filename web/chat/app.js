// The chat page: wires the connection, what is known and what is shown.
import { Banner } from './banner.js';
import { Composer } from './composer.js';
import { Connection } from './connection.js';
import { Log } from './log.js';
import { NameDialog } from './name-dialog.js';
import { cleanName, hue, initials, nameFromQuery, randomName } from './names.js';
import { People } from './people.js';
import { Store } from './store.js';
import { rows } from './timeline.js';

/** From this many people on the list follows with a delay. */
const CROWD = 1_000;

/** Milliseconds a message of ours may be on its way. */
const OVERDUE = 15_000;

const store = new Store();
store.myName = nameFromQuery(location.search) || cleanName(remembered()) || randomName();
remember(store.myName);

const connection = new Connection({
  url: () => {
    const url = new URL('/ws', location.href);
    url.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';
    url.search = new URLSearchParams({ name: store.myName }).toString();
    return url.href;
  },
  onMessage: received,
  onStatus: (status) => {
    if (status.state !== 'online') store.lost();
    banner.show(status);
    schedule();
  },
});

const log = new Log({
  log: part('log'), list: part('rows'), jump: button('jump'), jumpText: part('jump-text'),
  onRetry: (key) => {
    store.retry(key);
    flush();
    composer.focus();
  },
  onDiscard: (key) => {
    store.discard(key);
    schedule();
    composer.focus();
  },
});

const people = new People({
  panel: part('people'), list: part('people-list'), more: part('people-more'), counts: [part('people-count'), part('people-button-count')],
  opener: button('people-button'), closer: button('people-close'), scrim: part('scrim'),
});

const composer = new Composer({
  form: /** @type {HTMLFormElement} */ (part('composer')), field: /** @type {HTMLTextAreaElement} */ (part('message')),
  button: button('send'), limit: part('composer-limit'),
  onSend: (text) => {
    store.compose(text);
    flush();
    render();
    log.toEnd();
  },
});

const banner = new Banner({
  banner: part('banner'), text: part('banner-text'), countdown: part('banner-countdown'), button: button('banner-button'),
  link: part('link'), linkText: part('link-text'),
  onTry: () => {
    connection.retryNow();
    composer.focus();
  },
});

const dialog = new NameDialog({
  dialog: /** @type {HTMLDialogElement} */ (part('name-dialog')), form: /** @type {HTMLFormElement} */ (part('name-form')),
  field: /** @type {HTMLInputElement} */ (part('name')), cancel: button('name-cancel'),
  onName: (name) => {
    if (name === store.myName) return;
    store.myName = name;
    remember(name);
    history.replaceState(null, '', `${location.pathname}?${encodeURIComponent(name)}`);
    connection.open();
  },
});

/** @param {import('./connection.js').Message} message */
function received(message) {
  store.receive(message);
  if (message.type === 'connected') {
    connection.send({ type: 'presence', ref: store.nextRef() });
    composer.allow(store.maxPayload);
    flush();
  }
  if (message.type === 'error') {
    announce(`The server says: ${typeof message.message === 'string' ? message.message : message.code}`);
    if (message.temporary === true && typeof message.retryAfter === 'number') setTimeout(flush, message.retryAfter + 10);
  }
  schedule();
}

/** Sends what waits, in order. */
function flush() {
  for (const item of store.waiting()) {
    const ref = item.ref ?? store.nextRef();
    if (!connection.send({ type: 'chat', text: item.text, ref })) break;
    store.sending(item, ref);
  }
  schedule();
}

let scheduled = false;

/** One rendering for all that happens in a frame. A hidden page has no frames and renders by a timer. */
function schedule() {
  if (scheduled) return;
  scheduled = true;
  if (document.hidden) setTimeout(render, 250);
  else requestAnimationFrame(render);
}

let seen = 0;
let peopleRevision = -1;
let peopleAt = 0;

function render() {
  scheduled = false;
  if (!document.hidden) seen = store.received;
  const unread = store.received - seen;
  document.title = `${unread > 0 ? `(${unread}) ` : ''}${store.room} · throng`;
  part('room').textContent = store.room;
  part('me-name').textContent = store.myName;
  part('me-avatar').textContent = initials(store.myName);
  part('me-avatar').style.setProperty('--hue', String(hue(store.me)));
  // A crowd that comes and goes is sorted once in a while, not in every frame.
  if (peopleRevision !== store.peopleRevision && (store.people.size < CROWD || Date.now() - peopleAt > 1_000)) {
    peopleRevision = store.peopleRevision;
    peopleAt = Date.now();
    people.render(store.present(), store.userCount, store.me);
  }
  const items = [...store.items, ...store.pending];
  renderEmpty(items.some((item) => item.kind === 'chat'));
  log.render(rows(items));
}

/** @param {boolean} talking */
function renderEmpty(talking) {
  const others = Math.max(store.userCount - 1, 0);
  part('empty').hidden = talking;
  part('empty-title').textContent = others === 0 ? 'You are the first one here' : 'Nobody has said anything yet';
  part('empty-text').textContent = others === 0
    ? 'Open this page in a second window and talk to yourself, or send the address to somebody.'
    : `${others === 1 ? 'One other person is' : `${others} other people are`} here. Say hello, or open this page in a second window.`;
}

/** For screen readers. @param {string} text */
function announce(text) {
  part('announce').textContent = text;
}

/** @param {string} id @returns {HTMLElement} */
function part(id) {
  const node = document.getElementById(id);
  if (node === null) throw new Error(`the page has no #${id}`);
  return node;
}

/** @param {string} id */
function button(id) {
  return /** @type {HTMLButtonElement} */ (part(id));
}

/** A browser may refuse storage; then the name lasts as long as the page. */
function remembered() {
  try {
    return sessionStorage.getItem('name') ?? '';
  } catch {
    return '';
  }
}

/** @param {string} name */
function remember(name) {
  try {
    sessionStorage.setItem('name', name);
  } catch {
    // Nothing to do: see `remembered`.
  }
}

part('me').addEventListener('click', () => dialog.open(store.myName));
window.addEventListener('online', () => connection.wake());
window.addEventListener('offline', () => connection.probe());
document.addEventListener('visibilitychange', () => {
  if (!document.hidden) connection.wake();
  scheduled = false;
  schedule();
});
setInterval(() => {
  store.overdue(OVERDUE);
  schedule();
}, 5_000);

render();
connection.open();
if (window.matchMedia('(hover: hover)').matches) composer.focus();
