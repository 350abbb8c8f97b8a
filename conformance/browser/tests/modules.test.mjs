// The page's modules that need no browser: the connection against a scripted socket and clock, the state, names, rows.
import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { Connection } from '../../../web/chat/connection.js';
import { cleanName, hue, initials, nameFromQuery, randomName } from '../../../web/chat/names.js';
import { LONGEST, afterClose, backoff } from '../../../web/chat/policy.js';
import { KEPT, Store } from '../../../web/chat/store.js';
import { GAP, dayLabel, rows, together } from '../../../web/chat/timeline.js';

/** A socket whose server is the test. */
class Script {
  static OPEN = 1;
  static CLOSED = 3;
  /** @type {Script[]} */ static all = [];
  readyState = 0;
  /** @type {any[]} */ sent = [];
  /** @type {((event: { data: unknown }) => void) | null} */ onmessage = null;
  /** @type {((event: { code: number, reason: string }) => void) | null} */ onclose = null;

  /** @param {string} url */
  constructor(url) {
    this.url = url;
    Script.all.push(this);
  }

  static get last() {
    return /** @type {Script} */ (Script.all.at(-1));
  }

  /** @param {string} data */
  send(data) {
    this.sent.push(JSON.parse(data));
  }

  close() {
    this.readyState = 2;
  }

  /** @param {object} message */
  says(message) {
    this.readyState = 1;
    this.onmessage?.({ data: JSON.stringify(message) });
  }

  welcomes() {
    this.says({ type: 'connected', userId: 'u_1', heartbeat: 25_000 });
  }

  /** @param {number} code */
  hangsUp(code, reason = '') {
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }
}
Object.assign(globalThis, { WebSocket: Script });

beforeEach(() => { Script.all = []; });

/** @param {import('node:test').TestContext} context @param {number} [random] */
function connect(context, random = 0.5) {
  context.mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'Date'] });
  /** @type {string[]} */
  const states = [];
  /** @type {any[]} */
  const messages = [];
  const connection = new Connection({
    url: () => 'ws://host/ws', random: () => random,
    onMessage: (message) => messages.push(message), onStatus: (status) => states.push(status.state),
  });
  connection.open();
  /** In small steps: within one, the mocked clock stands at its end. */
  const tick = (/** @type {number} */ ms) => {
    for (let left = ms; left > 0; left -= 100) context.mock.timers.tick(Math.min(left, 100));
  };
  return { connection, states, messages, tick };
}

test('backoff: full jitter from 0.5 s, doubling to 30 s', () => {
  assert.deepEqual([0, 1, 2, 5, 6, 7, 1000].map((attempt) => backoff(attempt, () => 1)), [500, 1_000, 2_000, 16_000, LONGEST, LONGEST, LONGEST]);
  assert.equal(backoff(9, () => 0), 0);
});

test('close codes: who comes back and who stops', () => {
  const again = [1001, 1005, 1006, 1011, 1012, 1013, 3000, 4000, 4408, 4429, 4500, 4508, 4512];
  const stops = [1000, 1002, 1003, 1007, 1008, 1009, 1010, 4400, 4401, 4403, 4409, 4450];
  for (const code of again) assert.equal(afterClose(code, '').retry, true, String(code));
  for (const code of stops) assert.equal(afterClose(code, '').retry, false, String(code));
  assert.ok(afterClose(4429, '').floor > 0);
  assert.ok(afterClose(1013, '').floor > 0);
});

test('connection: online with `connected`, back after each loss, waits grow, a stable one starts afresh', (context) => {
  const { connection, states, tick } = connect(context, 1);
  assert.equal(connection.send({ type: 'chat' }), false);
  Script.last.welcomes();
  assert.deepEqual(states, ['connecting', 'online']);
  assert.equal(connection.send({ type: 'chat' }), true);
  Script.last.hangsUp(1006);
  assert.equal(connection.status.state, 'waiting');
  for (const wait of [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]) {
    const attempts = Script.all.length;
    tick(wait - 1);
    assert.equal(Script.all.length, attempts, `before ${wait}`);
    tick(1);
    assert.equal(Script.all.length, attempts + 1, `after ${wait}`);
    Script.last.hangsUp(1006);
  }
  connection.retryNow();
  Script.last.welcomes();
  tick(6_000);
  Script.last.hangsUp(1006);
  tick(500);
  assert.equal(connection.status.state, 'connecting');
});

test('connection: accepted and dropped at once does not spin', (context) => {
  const { tick } = connect(context, 1);
  for (let i = 0; i < 6; i += 1) {
    Script.last.welcomes();
    Script.last.hangsUp(1011);
    tick(500 * 2 ** i);
  }
  assert.equal(Script.all.length, 7);
});

test('connection: a final code stops until asked', (context) => {
  const { connection, tick } = connect(context);
  Script.last.welcomes();
  Script.last.hangsUp(4403, 'banned');
  assert.deepEqual(connection.status, { state: 'stopped', text: 'The server does not let you in (banned).' });
  tick(600_000);
  assert.equal(Script.all.length, 1);
  connection.retryNow();
  assert.equal(Script.all.length, 2);
});

test('connection: the network coming back ends a wait of ours, not one the server asked for, and no stop', (context) => {
  const { connection } = connect(context, 1);
  Script.last.hangsUp(1006);
  connection.wake();
  assert.equal(Script.all.length, 2);
  Script.last.hangsUp(4429);
  connection.wake();
  assert.equal(Script.all.length, 2);
  connection.retryNow();
  Script.last.hangsUp(4409);
  connection.wake();
  assert.equal(Script.all.length, 3);
});

test('connection: a handshake or a greeting that never comes is given up', (context) => {
  const { connection, tick } = connect(context);
  tick(10_000);
  assert.equal(connection.status.state, 'waiting');
  Script.all[0]?.welcomes();
  assert.equal(connection.status.state, 'waiting', 'the old socket has no say any more');
});

test('connection: silence is asked about after a heartbeat, given up after two', (context) => {
  const { connection, tick } = connect(context);
  Script.last.welcomes();
  tick(24_000);
  assert.equal(Script.last.sent.length, 0);
  tick(6_000);
  assert.equal(Script.last.sent[0].type, 'ping');
  Script.last.says({ type: 'pong', sent: 1 });
  tick(24_000);
  assert.equal(connection.status.state, 'online');
  tick(36_000);
  assert.equal(Script.all.length, 2);
});

test('connection: its slot in a drain is kept', (context) => {
  const { connection, tick } = connect(context, 0);
  Script.last.welcomes();
  Script.last.says({ type: 'reconnect', after: 8_000 });
  tick(2_000);
  Script.last.hangsUp(1012);
  assert.equal(connection.status.state, 'waiting');
  tick(5_900);
  assert.equal(Script.all.length, 1);
  tick(100);
  assert.equal(Script.all.length, 2);
});

test('connection: a server that asks to leave and does not hang up is left', (context) => {
  const { tick } = connect(context);
  Script.last.welcomes();
  Script.last.says({ type: 'reconnect', after: 3_000 });
  tick(3_000);
  Script.all[0]?.hangsUp(1000);
  assert.equal(Script.all.length, 2);
});

test('connection: overloaded waits as long as it was told', (context) => {
  const { tick } = connect(context, 0);
  Script.last.welcomes();
  Script.last.says({ type: 'error', code: 'overloaded', message: 'busy', temporary: true, retryAfter: 12_000 });
  Script.last.hangsUp(1013);
  tick(11_999);
  assert.equal(Script.all.length, 1);
  tick(1);
  assert.equal(Script.all.length, 2);
});

test('connection: opening again leaves first', (context) => {
  const { connection, tick } = connect(context);
  Script.last.welcomes();
  connection.open();
  assert.equal(Script.all.length, 1);
  Script.all[0]?.hangsUp(1000);
  assert.equal(Script.all.length, 2);
  tick(5_000);
  assert.equal(Script.all.length, 2, 'once');
  connection.open();
  tick(1_000);
  assert.equal(Script.all.length, 3, 'a farewell that is not answered does not hold it up');
});

test('connection: what is not a message of the protocol is ignored', (context) => {
  const { messages } = connect(context);
  for (const data of ['', '{', 'null', '[]', '7', '{"type":7}', new ArrayBuffer(3)]) Script.last.onmessage?.({ data });
  assert.deepEqual(messages, []);
});

/** A store that is connected as u_me. */
function connected() {
  let now = 1_000_000;
  const store = new Store(() => now);
  store.myName = 'Me';
  store.receive({ type: 'connected', userId: 'u_me', room: 'lobby', userCount: 1, limits: { maxPayload: 1_000 } });
  store.receive({ type: 'presence', users: [{ userId: 'u_me', info: { name: 'Me' } }], userCount: 1 });
  return { store, pass: (/** @type {number} */ ms) => { now += ms; } };
}

/** @param {Store} store */
const texts = (store) => [...store.items, ...store.pending].map((item) => (item.kind === 'chat' ? `${item.name}: ${item.text}${item.delivery ? ` (${item.delivery})` : ''}` : item.text || item.names.join()));

test('store: an own message takes the place the room gave it', () => {
  const { store } = connected();
  assert.equal(store.maxPayload, 1_000);
  const item = store.compose('hi');
  store.sending(item, store.nextRef());
  store.receive({ type: 'chat', from: 'u_2', text: 'first', seq: 1, timestamp: 5 });
  assert.deepEqual(texts(store), ['Guest u_2: first', 'Me: hi (sending)']);
  store.receive({ type: 'ack', ref: item.ref, seq: 2, timestamp: 6 });
  store.receive({ type: 'chat', from: 'u_me', text: 'hi', seq: 2, timestamp: 6 });
  store.receive({ type: 'chat', from: 'u_2', text: 'last', seq: 3, timestamp: 7 });
  assert.deepEqual(texts(store), ['Guest u_2: first', 'Me: hi (sent)', 'Guest u_2: last']);
  assert.equal(store.received, 2);
});

test('store: the echo may come before the answer', () => {
  const { store } = connected();
  const [a, b] = [store.compose('same'), store.compose('same')];
  store.sending(a, 1);
  store.sending(b, 2);
  for (const seq of [1, 2]) {
    store.receive({ type: 'chat', from: 'u_me', text: 'same', seq, timestamp: seq });
    store.receive({ type: 'ack', ref: seq, seq, timestamp: seq });
  }
  assert.deepEqual(texts(store), ['Me: same (sent)', 'Me: same (sent)']);
});

test('store: what was on its way is not guessed about; what was not sent waits', () => {
  const { store } = connected();
  store.sending(store.compose('on its way'), 1);
  store.lost();
  store.compose('not sent');
  assert.deepEqual(texts(store), ['Me: on its way (failed)', 'Me: not sent (waiting)']);
  assert.deepEqual(store.waiting().map((item) => item.text), ['not sent']);
  store.retry(store.pending[0]?.key ?? '');
  assert.deepEqual(store.waiting().map((item) => item.text), ['not sent', 'on its way']);
  store.discard(store.pending[0]?.key ?? '');
  assert.equal(store.pending.length, 2, 'only failed ones are forgotten');
});

test('store: what was acknowledged keeps its place when its echo does not come', () => {
  const { store } = connected();
  store.sending(store.compose('safe'), 1);
  store.receive({ type: 'ack', ref: 1, seq: 1, timestamp: 5 });
  store.lost();
  assert.equal(store.pending.length, 0);
  const again = store.compose('after a restart');
  store.sending(again, 1);
  store.receive({ type: 'chat', from: 'u_me', text: 'after a restart', seq: 1, timestamp: 9 });
  assert.deepEqual(texts(store), ['Me: safe (sent)', 'Me: after a restart (sent)']);
});

test('store: a late echo is that of the message that was given up', () => {
  const { store, pass } = connected();
  store.sending(store.compose('slow'), 1);
  pass(20_000);
  store.overdue(15_000);
  store.receive({ type: 'chat', from: 'u_me', text: 'slow', seq: 1, timestamp: 9 });
  store.receive({ type: 'ack', ref: 1, seq: 1, timestamp: 9 });
  assert.deepEqual(texts(store), ['Me: slow (sent)']);
  assert.equal(store.pending.length, 0);
});

test('store: a rate limit delays, a refusal fails, silence fails', () => {
  const { store, pass } = connected();
  const [slow, bad, lost] = [store.compose('slow'), store.compose('bad'), store.compose('lost')];
  store.sending(slow, 1);
  store.sending(bad, 2);
  store.sending(lost, 3);
  store.receive({ type: 'error', ref: 1, code: 'rate_limited', message: 'slower', temporary: true, retryAfter: 400 });
  store.receive({ type: 'error', ref: 2, code: 'too_large', message: 'Too large', temporary: false });
  assert.deepEqual(store.waiting(), []);
  pass(400);
  assert.deepEqual(store.waiting(), [slow]);
  assert.equal(slow.ref, 1, 'the same ref, so that it can not be published twice');
  assert.deepEqual([bad.delivery, bad.problem], ['failed', 'Not delivered: Too large']);
  store.overdue(15_000);
  assert.equal(lost.delivery, 'sending');
  pass(15_000);
  store.overdue(15_000);
  assert.equal(lost.delivery, 'failed');
});

test('store: people', () => {
  const { store } = connected();
  store.receive({ type: 'user_joined', userId: 'u_z', info: { name: 'Zoe' }, userCount: 2 });
  store.receive({ type: 'user_joined', userId: 'u_a', info: { name: 'Ada' }, userCount: 3 });
  store.receive({ type: 'user_joined', userId: 'u_a', info: { name: 'Ada' }, userCount: 3 });
  store.receive({ type: 'user_joined', userId: 'u_q', userCount: 4 });
  assert.deepEqual(store.present().map((person) => person.name), ['Me', 'Ada', 'Guest u_q', 'Zoe']);
  assert.equal(store.userCount, 4);
  store.receive({ type: 'user_left', userId: 'u_z', userCount: 3 });
  store.receive({ type: 'user_left', userId: 'u_nobody', userCount: 3 });
  assert.deepEqual(texts(store), ['Zoe,Ada,Guest u_q', 'Zoe'], 'one line for those who came together');
  store.receive({ type: 'chat', from: 'u_late', text: 'hi', seq: 1 });
  store.receive({ type: 'user_joined', userId: 'u_late', info: { name: 'Late' } });
  assert.ok(texts(store).includes('Late: hi'), 'a name that comes after the message');
});

test('store: nonsense changes nothing, memory is bounded', () => {
  const { store } = connected();
  for (const message of [
    { type: 'chat' }, { type: 'chat', text: {} }, { type: 'ack' }, { type: 'ack', ref: 77 }, { type: 'error', ref: 77 }, { type: 'error' },
    { type: 'presence' }, { type: 'user_joined' }, { type: 'user_joined', userId: 5 }, { type: 'user_left' }, { type: '__proto__' }, { type: 'unknown', text: 'x' },
  ]) store.receive(message);
  assert.deepEqual(texts(store), []);
  assert.deepEqual([...store.people.keys()], ['u_me']);
  store.receive({ type: 'presence', users: [null, 5, {}, { userId: '__proto__', info: null }] });
  assert.deepEqual(store.present(), [{ userId: '__proto__', name: 'Guest to__' }]);
  store.receive({ type: 'chat', from: 'u_2', text: 'x', seq: 1e300, timestamp: 1e300 });
  assert.equal(store.items.at(-1)?.at, 1_000_000, 'a time that is none');
  for (let i = 0; i < 2_000; i += 1) store.receive({ type: 'chat', from: 'u_2', text: String(i), seq: i, timestamp: i });
  assert.equal(store.items.length, KEPT);
});

test('rows: days, groups, notices', () => {
  const day = new Date(2026, 10, 20, 10).getTime();
  /** @returns {import('../../../web/chat/store.js').Chat} */
  const chat = (/** @type {string} */ key, /** @type {string} */ from, /** @type {number} */ at) => ({ kind: 'chat', key, revision: 0, at, from, name: from, mine: false, text: key });
  const out = rows([
    chat('1', 'a', day - 86_400_000), chat('2', 'a', day), chat('3', 'a', day + 10), chat('4', 'b', day + 20), chat('5', 'b', day + 30 + GAP),
    { kind: 'notice', key: '6', revision: 0, at: day + 40 + GAP, sort: 'joined', names: ['x'], text: '' }, chat('7', 'b', day + 50 + GAP),
  ]);
  assert.deepEqual(out.map((row) => (row.kind === 'chat' ? `${row.key}${row.first ? 'f' : ''}${row.last ? 'l' : ''}` : row.kind)),
    ['day', '1fl', 'day', '2f', '3l', '4fl', '5fl', 'notice', '7fl']);
  assert.equal(dayLabel(day, day, 'en-GB'), 'Today');
  assert.equal(dayLabel(day - 86_400_000, day, 'en-GB'), 'Yesterday');
  assert.equal(dayLabel(day - 5 * 86_400_000, day, 'en-GB'), 'Sunday 15 November');
  assert.deepEqual([['a'], ['a', 'b'], ['a', 'b', 'c'], ['a', 'b', 'c', 'd']].map(together), ['a', 'a and b', 'a, b and c', 'a, b and 2 others']);
});

test('names', () => {
  assert.equal(nameFromQuery('?Craig'), 'Craig');
  assert.equal(nameFromQuery('?Craig='), 'Craig');
  assert.equal(nameFromQuery('?name=A+B%21'), 'A B!');
  assert.equal(nameFromQuery(''), '');
  assert.equal(nameFromQuery('?utm_source=x'), '');
  assert.equal(nameFromQuery('?%zz'), '%zz');
  assert.equal(cleanName('\u202e a\u0000 \n b \ud800'), 'a b \ufffd');
  assert.equal([...cleanName('👋'.repeat(99))].length, 40);
  assert.equal(randomName(() => 0), 'Amber Badger');
  assert.match(randomName(() => 0.999_999), /^\w+ \w+$/);
  assert.deepEqual(['Craig', 'Ada Lovelace', 'jean-luc', '<script>', '小林', '👋', '', 'a b c'].map(initials), ['C', 'AL', 'JL', 'S', '小', '👋', '?', 'AC']);
  assert.equal(hue('u_1'), hue('u_1'));
  const hues = new Set(Array.from({ length: 200 }, (_, i) => Math.floor(hue(`u_${i}`) / 30)));
  assert.equal(hues.size, 12, 'all around the circle');
});
