// The chat without its looks: the client on one side, conversations on the other. No DOM.
import { LOBBY, hashOf, liveOf, nameOf, roomOf } from './address.js';
import { Conversation } from './conversation.js';
import { Feed } from './feed.js';
import { count, object, text } from './field.js';
import { Leftovers } from './leftovers.js';
import { Letters } from './letters.js';
import { newKey, send } from './outgoing.js';
import { Typing } from './typing.js';

/**
 * @typedef {import('/js/index.js').Client} Client
 * @typedef {import('/js/index.js').Room} Room
 * @typedef {import('./address.js').Place} Place
 * @typedef {import('./conversation.js').Message} Message
 */

export class Chat {
  /** @type {Client} */ client;
  /** @type {Conversation} the one that is shown */ current;
  typing = new Typing();
  /** Largest message the server takes, in bytes. */
  maxPayload = 65_536;

  /** @type {Map<string, Conversation>} by hash */ #all = new Map();
  /** @type {Map<string, Feed>} by room */ #feeds = new Map();
  /** @type {Room | null} where those in the room that is shown tell that they are typing */ #live = null;
  /** @type {import('./feed.js').Ear} */ #ear;
  /** @type {Letters} */ #letters;

  /**
   * @param {object} options
   * @param {(name: string) => Client} options.dial
   * @param {import('./identity.js').Identity} options.identity
   * @param {import('./places.js').Places} options.places
   * @param {import('./roster.js').Roster} options.roster
   * @param {() => boolean} options.looking whether the reader sees the page
   * @param {() => void} options.onChange
   * @param {(status: import('/js/index.js').Status) => void} options.onStatus
   * @param {() => void} options.onConnected we are somebody
   * @param {(wait: number, code: string) => void} options.onLimited the server takes no more for so many milliseconds, and why
   */
  constructor({ dial, identity, places, roster, looking, onChange, onStatus, onConnected, onLimited }) {
    this.dial = dial;
    this.identity = identity;
    this.places = places;
    this.looking = looking;
    this.onChange = onChange;
    this.onStatus = onStatus;
    this.onConnected = onConnected;
    this.onLimited = onLimited;
    this.#ear = {
      mine: (userId) => identity.is(userId), looking: (conversation) => conversation === this.current && looking(), roster, onChange,
      onQuiet: (userId) => this.typing.stopped(userId),
    };
    this.#letters = new Letters({
      conversation: (name) => this.conversation({ kind: 'direct', name }), ear: this.#ear, onLetter: (peer, news) => this.#listed(peer, news),
    });
    this.current = this.conversation({ kind: 'room', name: LOBBY });
    this.client = this.#start();
  }

  /** Who we are now; '' before the first connection. */
  get me() {
    return this.client.userId ?? '';
  }

  /** Shows a place, and enters it if it is a room that we are not in. @param {Place} place */
  open(place) {
    const next = this.conversation(place);
    if (next !== this.current) this.current.lookAway();
    this.current = next;
    if (place.kind === 'room') {
      this.places.add(place.name);
      this.#enter(place.name);
    } else {
      this.places.meet(place.name, { seen: next.seen, closed: false });
    }
    this.#listen();
    this.onChange();
  }

  /** Leaves a room, or takes a person off the list. @param {Place} place */
  close(place) {
    if (place.kind === 'room') {
      this.places.remove(place.name);
      this.#feeds.get(place.name)?.end();
      this.#feeds.delete(place.name);
      this.#all.delete(hashOf(place));
    } else {
      const conversation = this.conversation(place);
      conversation.look();
      this.places.meet(place.name, { seen: conversation.seen, closed: true });
    }
    this.onChange();
  }

  /** The conversation of a place, made when there is none. @param {Place} place */
  conversation(place) {
    const hash = hashOf(place);
    let found = this.#all.get(hash);
    if (found === undefined) {
      found = new Conversation(place.kind, place.name);
      found.seen = place.kind === 'room' ? this.places.rooms.get(place.name) : this.places.people.get(place.name)?.seen;
      this.#all.set(hash, found);
    }
    return found;
  }

  /** The list on the left: our rooms, and the people we talk with. */
  list() {
    const rooms = [...this.places.rooms.keys()].map((name) => this.conversation({ kind: 'room', name }));
    const people = [...this.places.people].filter(([, { closed }]) => !closed).map(([name]) => this.conversation({ kind: 'direct', name }));
    return { rooms, people };
  }

  /** Unread messages everywhere. */
  unread() {
    const { rooms, people } = this.list();
    return [...rooms, ...people].reduce((sum, { unread }) => sum + unread, 0);
  }

  /** How many of ours wait for the connection or for an answer. */
  waiting() {
    return [...this.#all.values()].reduce((sum, { pending }) => sum + pending.filter((item) => item.delivery === 'sending').length, 0);
  }

  /** Who is in the room that is shown. */
  users() {
    const room = this.current.kind === 'room' ? this.#feeds.get(this.current.name)?.room : undefined;
    return { users: room?.users ?? new Map(), count: room?.userCount ?? 0 };
  }

  /** Whether somebody is in any of our rooms. @param {string} userId */
  isHere(userId) {
    return [...this.#feeds.values()].some(({ room }) => room.users.has(userId));
  }

  /** Sends to the conversation that is shown. @param {string} body */
  say(body) {
    this.typing.done();
    this.#send(this.current, this.current.compose(newKey(), body, this.me, this.identity.name));
  }

  /** @param {string} key of one that failed */
  retry(key) {
    const item = this.current.retry(key);
    if (item !== undefined) this.#send(this.current, item);
  }

  /** Something is being written. */
  type() {
    if (this.#live === null || this.client.status !== 'online' || !this.typing.due()) return;
    Promise.resolve(this.#live.send({ type: 'typing', name: this.identity.name }, { volatile: true })).catch(() => {});
  }

  /** The reader sees the conversation that is shown, if he sees anything. */
  look() {
    const { current } = this;
    if (!this.looking()) return;
    current.look();
    if (current.kind === 'room') this.places.read(current.name, current.seen);
    else if (current.seen !== undefined) this.places.meet(current.name, { seen: current.seen, closed: this.places.people.get(current.name)?.closed === true });
  }

  /** Asks for what was said before. False when that failed. */
  async loadEarlier() {
    return this.current.kind === 'direct' || (await this.#feeds.get(this.current.name)?.earlier()) === true;
  }

  /** Comes back under another name, which is a new session: others see one go and the other come. @param {string} name */
  async rename(name) {
    await this.#drained();
    this.identity.rename(name);
    await this.restart();
    this.current.notice(`You are now called ${name}`);
    this.onChange();
  }

  /** Another person than before uses this page: nothing of the one before is shown. */
  forget() {
    this.#all.clear();
    this.#feeds.clear();
    this.identity.forget();
    this.places.forget();
    this.current = this.conversation({ kind: 'room', name: LOBBY });
  }

  /** Leaves, and comes back as somebody else. */
  async restart() {
    this.client.close();
    await undefined; // by then the client has let go of the tab's storage
    this.#feeds.clear();
    this.#live = null;
    this.client = this.#start();
    this.#listen();
    this.onChange();
  }

  #start() {
    const client = this.dial(this.identity.name);
    this.client = client;
    const status = (/** @type {import('/js/index.js').Status} */ now) => {
      if (client !== this.client) return;
      this.onStatus(now);
      this.onChange();
    };
    client.on('status', status);
    client.on('connected', (message) => client === this.client && this.#connected(message));
    client.on('limited', ({ retryIn, code }) => client === this.client && this.onLimited(retryIn, code));
    new Leftovers({ client, conversation: (room) => this.#addressed(room), onChange: this.onChange });
    this.#letters.follow(client.me);
    for (const name of this.places.rooms.keys()) this.#enter(name);
    status({ status: client.status });
    return client;
  }

  /** @param {Message} message */
  #connected(message) {
    this.identity.became(this.me);
    this.onConnected();
    this.maxPayload = count(object(message.limits).maxPayload) ?? this.maxPayload;
    this.onChange();
  }

  /** @param {string} name */
  #enter(name) {
    if (this.#feeds.get(name)?.open) return;
    const room = this.client.join(roomOf(name), { rewind: REWIND, presence: true });
    this.#feeds.set(name, new Feed(room, this.conversation({ kind: 'room', name }), this.#ear));
  }

  /** The conversation of what is sent to a room, or to `@` and a person. @param {string} room */
  #addressed(room) {
    if (!room.startsWith('@')) return this.conversation({ kind: 'room', name: nameOf(room) });
    const peer = room.slice(1);
    this.#listed(peer, true);
    return this.conversation({ kind: 'direct', name: peer });
  }

  /** Who writes to us, or is written to, is in the list. @param {string} peer @param {boolean} news */
  #listed(peer, news) {
    const known = this.places.people.get(peer);
    if (known !== undefined && !(known.closed && news)) return;
    this.places.meet(peer, { seen: known?.seen, closed: false });
    for (const [hash, { kind, name }] of this.#all) {
      if (kind === 'direct' && !this.places.people.has(name) && name !== this.current.name) this.#all.delete(hash);
    }
  }

  /** Follows who is typing in the room that is shown. */
  #listen() {
    const { current } = this;
    const name = current.kind === 'room' ? liveOf(current.name) : '';
    if (this.#live?.name === name) return;
    this.#live?.leave().catch(() => {});
    this.#live = null;
    this.typing.clear();
    if (name === '') return;
    const live = this.client.join(name, { echo: false });
    this.#live = live;
    live.ready.catch(() => {});
    live.on('typing', (message) => {
      if (live !== this.#live || this.identity.is(text(message.from))) return;
      this.typing.heard(text(message.from), text(message.name));
      this.onChange();
    });
  }

  /** @param {Conversation} conversation @param {import('./items.js').Chat} item */
  #send(conversation, item) {
    const room = conversation.kind === 'direct' ? this.client.direct(conversation.name) : this.#feeds.get(conversation.name)?.room;
    if (room === undefined) conversation.fail(item.key, 'Not sent: you left the room');
    else void send(this.client, conversation, room, item, this.identity.name).then(this.onChange);
    this.onChange();
  }

  /** Waits a little for what is on its way. */
  #drained() {
    const { client } = this;
    return new Promise((resolve) => {
      const done = () => {
        if (client.pending.length > 0 && client.status === 'online') return;
        off();
        resolve(undefined);
      };
      const off = client.on('outbox', done);
      setTimeout(() => { off(); resolve(undefined); }, FAREWELL);
      done();
    });
  }
}

/** How much is asked for on entry. */
const REWIND = 50;

/** Longest wait for what is on its way before a change of name, in milliseconds. */
const FAREWELL = 3_000;
