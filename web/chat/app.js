// The chat page: wires the chat to what is shown of it.
import { connect } from '/js/index.js';
import { Account } from './account.js';
import { LOBBY, hashOf, placeOf } from './address.js';
import { Banner } from './banner.js';
import { Chat } from './chat.js';
import { Composer } from './composer.js';
import { Door } from './door.js';
import { Drawer } from './drawer.js';
import { part } from './element.js';
import { Entrance } from './entrance.js';
import { Identity } from './identity.js';
import { Log } from './log.js';
import { NameDialog } from './name-dialog.js';
import { hue, initials } from './names.js';
import { People } from './people.js';
import { Places } from './places.js';
import { Roster } from './roster.js';
import { Shelf } from './shelf.js';
import { Sidebar } from './sidebar.js';
import { rows } from './timeline.js';
import { typingText } from './typing.js';

/** From this many people on the list follows with a delay. */
const CROWD = 1_000;

let scheduled = false;

const tab = new Shelf('sessionStorage');
const identity = new Identity(tab, location.search);
const roster = new Roster();

const banner = new Banner({
  banner: part('banner'), text: part('banner-text'), queue: part('banner-queue'), countdown: part('banner-countdown'),
  button: part('banner-button', HTMLButtonElement), link: part('link'), linkText: part('link-text'),
  onTry: () => {
    chat.client.reconnect();
    composer.focus();
  },
  onSignIn: () => entrance.signIn(),
});

const door = new Door('/login');
const account = new Account({ shelf: tab, door, onOver: () => entrance.over(), onEnding: () => entrance.ending() });
const entrance = new Entrance({
  account, tab, door, rules: (await door.rules()) ?? { login: false, anonymous: true }, banner, chat: () => chat,
  onStranger: () => {
    chat.forget();
    log.clear();
    location.hash = hashOf({ kind: 'room', name: LOBBY });
  },
});
if (account.signedIn) identity.name = account.name;

const chat = new Chat({
  identity, roster, places: new Places({ lasting: new Shelf('localStorage'), tab }),
  dial: (name) => connect('/ws', { name, outbox: 'local', session: 'tab', ...entrance.credentials() }),
  looking: () => !document.hidden,
  onChange: schedule,
  onStatus: (status) => {
    banner.show(status);
    entrance.followed(status);
  },
  onConnected: () => entrance.arrived(),
  onLimited: (wait, code) => banner.limited(wait, code),
});

const log = new Log({
  log: part('log'), list: part('rows'), jump: part('jump', HTMLButtonElement), jumpText: part('jump-text'),
  earlier: part('earlier', HTMLButtonElement), onEarlier: async () => {
    const worked = await chat.loadEarlier();
    render();
    return worked;
  },
});

/** @type {Omit<import('./row.js').Surroundings, 'online' | 'linked'>} */
const around = {
  nameOf: (userId, claimed) => roster.nameOf(userId, claimed),
  onRetry: (key) => {
    chat.retry(key);
    composer.focus();
  },
  onDiscard: (key) => {
    chat.current.discard(key);
    schedule();
    composer.focus();
  },
};

const people = new People({ list: part('people-list'), more: part('people-more'), counts: [part('people-count'), part('people-button-count')] });

const sidebar = new Sidebar({
  rooms: part('room-list'), people: part('direct-list'), peopleHead: part('direct-title'),
  form: part('join', HTMLFormElement), field: part('join-room', HTMLInputElement), problem: part('join-problem'),
  onEnter: (name) => {
    location.hash = hashOf({ kind: 'room', name });
    drawers.forEach((drawer) => drawer.toggle(false));
  },
  onClose: (place) => {
    const shown = hashOf(place) === hashOf(chat.current);
    chat.close(place);
    if (shown) location.hash = hashOf({ kind: 'room', name: chat.list().rooms[0]?.name ?? LOBBY });
  },
});

const drawers = [
  new Drawer({
    panel: part('side'), opener: part('side-button', HTMLButtonElement), closer: part('side-close', HTMLButtonElement), scrim: part('scrim'),
    role: 'navigation', below: 820,
  }),
  new Drawer({
    panel: part('people'), opener: part('people-button', HTMLButtonElement), closer: part('people-close', HTMLButtonElement), scrim: part('scrim'),
    role: 'complementary', below: 1_080,
  }),
];

const composer = new Composer({
  form: part('composer', HTMLFormElement), field: part('message', HTMLTextAreaElement), button: part('send', HTMLButtonElement),
  limit: part('composer-limit'),
  onSend: (text) => {
    chat.say(text);
    render();
    log.toEnd();
  },
  onType: () => chat.type(),
});

const dialog = new NameDialog({
  dialog: part('name-dialog', HTMLDialogElement), form: part('name-form', HTMLFormElement), field: part('name', HTMLInputElement),
  cancel: part('name-cancel', HTMLButtonElement), signIn: part('name-sign-in', HTMLButtonElement), onSignIn: () => entrance.signIn(),
  onName: (name) => {
    if (name === identity.name) return;
    history.replaceState(null, '', `${location.pathname}?${encodeURIComponent(name)}${location.hash}`);
    void chat.rename(name);
  },
});

/** One rendering for all that happens in a frame. A hidden page has no frames and renders by a timer. */
function schedule() {
  if (scheduled) return;
  scheduled = true;
  if (document.hidden) setTimeout(render, 250);
  else requestAnimationFrame(render);
}

/** Whom the list of people was made for, and when. */
let crowd = { users: /** @type {unknown} */ (null), at: 0 };

function render() {
  scheduled = false;
  const { current } = chat;
  const online = chat.client.status === 'online';
  chat.look();
  const unread = chat.unread();
  const title = titleOf(current);
  if (log.atEnd) current.readingBack = false;
  document.title = `${unread > 0 ? `(${unread}) ` : ''}${title} · throng`;
  document.body.dataset.kind = current.kind;
  part('room-sign').textContent = current.kind === 'room' ? '#' : '@';
  part('room').textContent = title;
  part('me-name').textContent = identity.name;
  part('me-avatar').textContent = initials(identity.name);
  part('me-avatar').style.setProperty('--hue', String(hue(chat.me)));
  part('me-before').textContent = account.signedIn ? 'Signed in as ' : 'You are ';
  part('me-after').textContent = account.signedIn ? ', your account' : ', change your name';
  part('me').hidden = entrance.isClosed;
  part('sign-in').hidden = !entrance.isOpen || entrance.isClosed; // then the banner has it
  document.getElementById('me-pen')?.toggleAttribute('hidden', account.signedIn);
  part('second-window', HTMLAnchorElement).href = `/${location.hash}`;
  composer.allow(chat.maxPayload);
  composer.turnTo(hashOf(current), current.kind === 'room' ? `Message #${title}` : `Message ${title}`);
  banner.queued(online && !banner.isLimited ? 0 : chat.waiting());
  renderPeople();
  renderSide(unread);
  const items = current.all();
  renderEmpty(items.some((item) => item.kind === 'chat'), title);
  log.render(rows(items, current.marker), { ...around, online, linked: current.kind === 'room' }, current.earlier);
  renderTyping();
}

/** A crowd that comes and goes is sorted once in a while, not in every frame. */
function renderPeople() {
  const { users, count } = chat.users();
  const now = Date.now();
  if (crowd.users === users && users.size >= CROWD && now - crowd.at < 1_000) return;
  crowd = { users, at: now };
  people.render(roster.present(users.values(), chat.me), count, chat.me);
}

/** @param {number} unread everywhere */
function renderSide(unread) {
  const { rooms, people: others } = chat.list();
  const entry = (/** @type {import('./conversation.js').Conversation} */ conversation) => ({
    place: { kind: conversation.kind, name: conversation.name }, current: conversation === chat.current, unread: conversation.unread,
    name: titleOf(conversation),
    here: conversation.kind === 'direct' && chat.isHere(conversation.name),
  });
  sidebar.render(rooms.map(entry), others.map(entry));
  part('side-badge').hidden = unread === 0;
  part('side-badge').textContent = unread > 99 ? '99+' : String(unread);
}

/** The room's name or the person's. @param {import('./conversation.js').Conversation} conversation */
function titleOf({ kind, name, items }) {
  if (kind === 'room') return name;
  const last = items.findLast((item) => item.kind === 'chat' && !item.mine);
  return roster.nameOf(name, last?.kind === 'chat' ? last.name : '');
}

/** @param {boolean} talking @param {string} title */
function renderEmpty(talking, title) {
  const { current } = chat;
  const others = Math.max(chat.users().count - 1, 0);
  const unknown = current.kind === 'room' && current.refused === '' && chat.client.status !== 'online' && chat.users().count === 0;
  part('empty').hidden = talking || unknown;
  part('empty-sign-in').hidden = current.refused === '' || !entrance.isOpen;
  part('second-window').hidden = current.kind === 'direct' || current.refused !== '';
  const [head, body] = current.refused !== '' && entrance.isOpen ? ['This room is closed to guests', 'Sign in, and you may be let in.']
    : current.refused !== '' ? ['This room is closed to you', current.refused]
    : current.kind === 'direct' ? [`You and ${title}`, 'Only the two of you see what is written here.']
      : others === 0 ? ['You are the first one here', 'Open this page in a second window and talk to yourself, or send the address to somebody.']
        : ['Nobody has said anything yet', `${others === 1 ? 'One other person is' : `${others} other people are`} here. Say hello, or open this page in a second window.`];
  part('empty-title').textContent = head ?? '';
  part('empty-text').textContent = body ?? '';
}

/** @type {ReturnType<typeof setTimeout> | undefined} */
let typingTimer;

/** Who stops without a word is forgotten by the clock. */
function renderTyping() {
  const who = chat.typing.current();
  const line = typingText(who.map(({ userId, name }) => roster.nameOf(userId, name)));
  if (part('typing').textContent !== line) part('typing').textContent = line;
  clearTimeout(typingTimer);
  if (who.length > 0) typingTimer = setTimeout(schedule, 500);
}

/** For screen readers. @param {string} words */
function announce(words) {
  part('announce').textContent = words;
}

/** Goes where the address says; to the lobby when it says nothing that is a place. */
function go() {
  const place = placeOf(location.hash);
  if (place === undefined && location.hash !== '') announce('There is no such room.');
  const { current } = chat;
  chat.open(place ?? { kind: 'room', name: LOBBY });
  if (chat.current !== current) {
    log.clear();
    drawers.forEach((drawer) => drawer.toggle(false));
  }
  render();
  log.toUnread();
  if (window.matchMedia('(hover: hover)').matches) composer.focus();
}

part('me').addEventListener('click', () => (account.signedIn ? entrance.show() : dialog.open(identity.name, entrance.isOpen)));
window.addEventListener('hashchange', go);
document.addEventListener('visibilitychange', () => {
  if (document.hidden) chat.current.lookAway();
  scheduled = false;
  schedule();
});

go();
