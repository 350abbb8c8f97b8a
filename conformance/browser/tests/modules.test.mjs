// The page's modules without a browser: conversations, the list of places, names, rows, addresses, the door.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Account } from '../../../web/chat/account.js';
import { hashOf, isRoom, liveOf, nameOf, placeOf, roomFrom, roomOf } from '../../../web/chat/address.js';
import { sentence } from '../../../web/chat/banner.js';
import { Conversation, KEPT, KEPT_BACK } from '../../../web/chat/conversation.js';
import { Door } from '../../../web/chat/door.js';
import { Identity } from '../../../web/chat/identity.js';
import { cleanName, hue, initials, nameFromQuery, randomName } from '../../../web/chat/names.js';
import { MOST_PEOPLE, Places } from '../../../web/chat/places.js';
import { Roster } from '../../../web/chat/roster.js';
import { GAP, dayLabel, rows, together } from '../../../web/chat/timeline.js';
import { BELIEVED, EVERY, Typing, typingText } from '../../../web/chat/typing.js';

/** A room that was entered at `seq`, with verbs for what happens in it. @param {number} [seq] @param {import('../../../web/chat/conversation.js').Position} [seen] */
function entered(seq = 0, seen) {
  const room = new Conversation('room', 'lobby', () => 1_000_000);
  room.seen = seen;
  room.entered('e1', seq);
  /** @param {number} number @param {object} [fields] @param {object} [context] */
  const say = (number, fields = {}, context = {}) => room.receive(
    { type: 'chat', from: 'u_2', text: `text ${number}`, seq: number, timestamp: number, ...fields },
    { epoch: 'e1', mine: false, looking: true, ...context },
  );
  return { room, say };
}

/** @param {Conversation} room */
const texts = (room) => room.all().map((item) => (item.kind === 'chat' ? `${item.text}${item.delivery ? ` (${item.delivery})` : ''}` : `[${item.sort}] ${item.text || item.names.join()}`));

test('conversation: an own message takes the place the room gave it, whichever comes first of answer and echo', () => {
  const { room, say } = entered();
  room.compose('k1', 'mine', 'u_me', 'Me');
  say(1);
  assert.deepEqual(texts(room), ['text 1', 'mine (sending)']);
  room.settle('k1', { at: 3, position: { epoch: 'e1', seq: 3 } });
  say(2);
  assert.deepEqual(texts(room), ['text 1', 'text 2', 'mine (sent)'], 'what was said before it comes after its answer');
  say(3, { from: 'u_me', text: 'mine', key: 'k1' }, { mine: true });
  room.compose('k2', 'again', 'u_me', 'Me');
  say(4, { from: 'u_me', text: 'again', key: 'k2' }, { mine: true });
  room.settle('k2', { at: 4, position: { epoch: 'e1', seq: 4 } });
  say(5);
  assert.deepEqual(texts(room), ['text 1', 'text 2', 'mine (sent)', 'again (sent)', 'text 5']);
  assert.equal(room.unread, 0);
});

test('conversation: in a room without numbers, too', () => {
  const { room, say } = entered();
  room.compose('k1', 'one', 'u_me', 'Me');
  room.settle('k1', { at: 5 });
  say(0, { from: 'u_me', text: 'one', key: 'k1', seq: undefined }, { mine: true });
  say(0, { text: 'two', seq: undefined });
  assert.deepEqual(texts(room), ['one (sent)', 'two']);
});

test('conversation: a refused one waits for a decision; one that was given up and is there after all was sent', () => {
  const { room, say } = entered();
  for (const key of ['a', 'b', 'c']) room.compose(key, key, 'u_me', 'Me');
  room.fail('a', 'Too large');
  room.fail('b', 'Not confirmed');
  room.fail('c', 'Not confirmed');
  assert.deepEqual(texts(room), ['a (failed)', 'b (failed)', 'c (failed)']);
  room.discard('a');
  assert.equal(room.retry('b')?.text, 'b');
  room.discard('b');
  assert.deepEqual(texts(room), ['c (failed)', 'b (sending)'], 'only failed ones are forgotten');
  say(1, { from: 'u_me', text: 'c', key: 'c' }, { mine: true });
  assert.deepEqual(texts(room), ['c (sent)', 'b (sending)']);
  assert.equal(room.retry('c'), undefined);
});

test("conversation: somebody else's message with our key is theirs", () => {
  const { room, say } = entered();
  room.compose('k1', 'mine', 'u_me', 'Me');
  say(1, { text: 'forged', key: 'k1' });
  assert.deepEqual(texts(room), ['forged', 'mine (sending)']);
});

test('what a room has kept through a renewal is not shown twice', () => {
  const { room } = entered(0);
  const page = (/** @type {number[]} */ seqs) => seqs.map((seq) => ({ type: 'chat', from: 'u_2', text: `text ${seq}`, seq, timestamp: seq }));
  for (const message of page([1, 2, 3])) room.receive(message, { epoch: 'e1', mine: false, looking: true });
  room.lost();
  room.receive({ type: 'chat', from: 'u_2', text: 'another third', seq: 3, timestamp: 9 }, { epoch: 'e2', mine: false, looking: true });
  room.fill([...page([1, 2]), { type: 'chat', from: 'u_2', text: 'another third', seq: 3, timestamp: 9 }], { epoch: 'e2', mine: () => false, looking: false });
  assert.deepEqual(texts(room), ['text 1', 'text 2', 'text 3', '[gap] Messages may be missing here', 'another third']);
  assert.equal(room.unread, 0);
});

test('conversation: what comes twice is there once, a hole is told', () => {
  const { room, say } = entered();
  say(1);
  say(1);
  say(2);
  say(1);
  assert.deepEqual(texts(room), ['text 1', 'text 2']);
  say(5);
  room.lost();
  room.position = { epoch: 'e1', seq: 5 };
  assert.deepEqual(texts(room), ['text 1', 'text 2', '[gap] Messages may be missing here', 'text 5', '[gap] Messages may be missing here']);
  room.fill([3, 4, 5].map((seq) => ({ type: 'chat', from: 'u_2', text: `text ${seq}`, seq })), { epoch: 'e1', mine: () => false });
  assert.deepEqual(texts(room), ['text 1', 'text 2', '[gap] Messages may be missing here', 'text 3', 'text 4', 'text 5', '[gap] Messages may be missing here']);
  room.receive({ type: 'chat', from: 'u_2', text: 'new life', seq: 1 }, { epoch: 'e2', mine: false, looking: true });
  assert.deepEqual(texts(room).slice(-2), ['[gap] Messages may be missing here', 'new life']);
});

test('conversation: older ones go before, the beginning is known', () => {
  const { room, say } = entered(30);
  assert.equal(room.earlier, false, 'nothing is known yet');
  say(21);
  say(22);
  assert.equal(room.earlier, true);
  const page = (/** @type {number} */ from, /** @type {number} */ to) => Array.from({ length: to - from + 1 }, (_, i) => ({ type: 'chat', from: 'u_2', text: `text ${from + i}`, seq: from + i, timestamp: from + i }));
  room.fill(page(11, 20), { epoch: 'e1', more: true, mine: () => false });
  room.fill(page(1, 10), { epoch: 'e1', more: false, mine: () => false });
  assert.deepEqual(texts(room), page(1, 22).map(({ text }) => text));
  assert.equal(room.earlier, false);
  assert.deepEqual([room.oldest, room.position], [{ epoch: 'e1', seq: 1 }, { epoch: 'e1', seq: 22 }]);
});

test('conversation: memory is bounded, further while somebody reads back', () => {
  const { room, say } = entered();
  for (let seq = 1; seq <= 2_000; seq += 1) say(seq);
  assert.equal(room.items.length, KEPT);
  assert.equal(room.oldest?.seq, 2_000 - KEPT + 1);
  assert.equal(room.earlier, true, 'what was let go can be asked for again');
  room.readingBack = true;
  for (let seq = 2_001; seq <= 6_000; seq += 1) say(seq);
  assert.equal(room.items.length, KEPT_BACK);
  room.readingBack = false;
  say(6_001);
  assert.equal(room.items.length, KEPT);
  for (let i = 0; i < 2_000; i += 1) room.passage(i % 2 === 0 ? 'joined' : 'left', { userId: `u_${i}`, name: 'x' }, i * 100_000);
  assert.equal(room.items.length, KEPT);
});

test('conversation: unread is what came while nobody looked; the marker stays until it was seen', () => {
  const { room, say } = entered();
  say(1);
  room.look();
  assert.deepEqual([room.unread, room.marker], [0, '']);
  say(2, {}, { looking: false });
  say(3, {}, { looking: false });
  const second = room.items[1]?.key;
  assert.deepEqual([room.unread, room.marker], [2, second]);
  room.look();
  assert.deepEqual([room.unread, room.marker, room.seen?.seq], [0, second, 3]);
  say(4);
  assert.equal(room.marker, second);
  room.lookAway();
  assert.equal(room.marker, '');
  say(5, { from: 'u_me', key: 'elsewhere' }, { mine: true, looking: false });
  assert.equal(room.unread, 0, 'our own from another tab is not unread');
  say(6, {}, { looking: false });
  room.compose('k', 'answer', 'u_me', 'Me');
  assert.equal(room.marker, '', 'who answers has read');
});

test('conversation: on entry only what is new since the last visit is unread', () => {
  const first = entered(20);
  for (let seq = 11; seq <= 20; seq += 1) first.say(seq);
  first.room.look();
  assert.deepEqual([first.room.unread, first.room.marker], [0, ''], 'a first visit has no past');

  const again = entered(20, { epoch: 'e1', seq: 17 });
  for (let seq = 11; seq <= 18; seq += 1) again.say(seq);
  again.room.look();
  again.say(19);
  again.say(20);
  assert.deepEqual([again.room.unread, again.room.items.findIndex(({ key }) => key === again.room.marker)], [3, 7]);
  again.room.look();
  assert.equal(again.room.unread, 0);

  const anew = entered(2, { epoch: 'e0', seq: 400 });
  anew.say(1);
  anew.say(2);
  assert.equal(anew.room.unread, 2, 'another epoch is all new');
  anew.room.look();
  assert.equal(anew.room.unread, 0);

  const restarted = entered(400);
  restarted.say(400);
  restarted.room.look();
  restarted.room.lost();
  restarted.room.entered('e2', 0);
  restarted.say(1, {}, { epoch: 'e2' });
  assert.equal(restarted.room.unread, 0, 'small numbers of a new epoch are live');
  restarted.room.lost();
  restarted.room.fill([{ type: 'chat', from: 'u_2', text: 'a', seq: 2 }, { type: 'chat', from: 'u_me', text: 'b', seq: 3 }], { epoch: 'e2', mine: (id) => id === 'u_me', looking: false });
  assert.equal(restarted.room.unread, 1, 'what was missed in a gap is unread');
  restarted.room.look();
  assert.equal(restarted.room.unread, 0);
});

test('conversation: between two people the numbers have holes, because others write to us, too', () => {
  const direct = new Conversation('direct', 'u_2', () => 5);
  for (const seq of [3, 9]) direct.receive({ type: 'chat', from: 'u_2', text: `${seq}`, seq }, { epoch: 'e', mine: false, looking: false });
  assert.deepEqual(texts(direct), ['3', '9']);
  assert.deepEqual([direct.unread, direct.earlier], [2, false]);
});

test('conversation: who comes and goes, and what is of another type, is told in few lines', () => {
  const { room, say } = entered();
  room.passage('joined', { userId: 'u_2', name: 'Zoe' }, 1);
  room.passage('joined', { userId: 'u_3', name: 'Ada' }, 2);
  room.passage('left', { userId: 'u_3', name: 'Ada' }, 3);
  room.passage('left', { userId: 'u_2', name: 'Zoe' }, 3);
  room.passage('joined', { userId: 'u_3', name: 'Ada' }, 4);
  assert.deepEqual(texts(room), ['[joined] Zoe,Ada', '[left] Zoe'], 'a reload is not a departure');
  room.passage('joined', { userId: 'u_2', name: 'Zoe' }, 5);
  assert.deepEqual(texts(room), ['[joined] Zoe,Ada']);
  for (let seq = 1; seq <= 3; seq += 1) say(seq, { type: 'move', text: undefined });
  const last = room.items.at(-1);
  assert.deepEqual([last?.kind === 'notice' && last.count, texts(room).at(-1)], [3, '[other] move']);
});

test('conversation: nonsense changes nothing', () => {
  const { room } = entered();
  for (const message of [{ type: 'chat' }, { type: 'chat', text: {} }, { type: 'chat', text: 5, seq: 'x' }]) room.receive(message, { epoch: 'e1', mine: false, looking: true });
  assert.deepEqual(texts(room), []);
  room.receive({ type: 'chat', text: 'x', seq: 1, timestamp: 1e300, from: {}, name: [], key: 7 }, { epoch: 'e1', mine: true, looking: true });
  assert.equal(room.items[0]?.at, 1_000_000, 'a time that is none');
  room.settle('nobody', {});
  room.fail('nobody', '');
  room.discard('nobody');
  assert.equal(room.retry('nobody'), undefined);
});

test('roster: each person once, ourselves first; the server knows names best', () => {
  const roster = new Roster();
  const present = roster.present([
    { userId: 'u_z', info: { name: 'Zoe' } }, { userId: 'u_a', info: { name: 'Ada' } }, { userId: 'u_me', info: { name: 'Me' } },
    { userId: 'u_a', info: { name: 'Ada' } }, { userId: '__proto__', info: null },
  ], 'u_me');
  assert.deepEqual(present.map(({ name }) => name), ['Me', 'Ada', 'Guest to__', 'Zoe']);
  assert.equal(roster.nameOf('u_a', 'Mallory'), 'Ada');
  assert.equal(roster.nameOf('u_gone', 'Bo\u202e\n'), 'Bo');
  assert.equal(roster.nameOf('u_gone', ' '), 'Guest gone');
  roster.meet('u_a', { name: 5 });
  assert.equal(roster.nameOf('u_a'), 'Ada');
});

/** A shelf that lasts as long as the test. */
const shelf = () => {
  const kept = new Map();
  return { kept, load: (/** @type {string} */ key) => kept.get(key) ?? '', save: (/** @type {string} */ key, /** @type {string} */ value) => void kept.set(key, value) };
};

test('places: kept, shared by tabs, and never taken at their word', () => {
  const [lasting, tab] = [shelf(), shelf()];
  const one = new Places({ lasting, tab });
  assert.deepEqual([...one.rooms.keys()], ['lobby']);
  const two = new Places({ lasting, tab: shelf() });
  one.add('design');
  two.add('games');
  one.read('design', { epoch: 'e', seq: 4 });
  one.meet('u_2', { seen: { epoch: 'e', seq: 9 }, closed: false });
  const again = new Places({ lasting, tab });
  assert.deepEqual([...again.rooms], [['lobby', undefined], ['design', { epoch: 'e', seq: 4 }], ['games', undefined]]);
  assert.deepEqual([...again.people], [['u_2', { seen: { epoch: 'e', seq: 9 }, closed: false }]]);
  again.remove('design');
  assert.deepEqual([...new Places({ lasting, tab }).rooms.keys()], ['lobby', 'games']);
  for (const bad of ['{', 'null', '7', '[null,{"name":"a b"},{"name":"@u_1"},{"name":"ok","seen":{"epoch":7}}]']) {
    lasting.save('throng.rooms', bad);
    tab.save('throng.people', bad);
    const rooms = [...new Places({ lasting, tab }).rooms];
    assert.deepEqual(rooms, bad.startsWith('[') ? [['ok', undefined]] : [['lobby', undefined]]);
  }
});

test('places: strangers without end do not fill the list', () => {
  const places = new Places({ lasting: shelf(), tab: shelf() });
  for (let i = 0; i < 1_000; i += 1) places.meet(`u_${i}`, { closed: false });
  assert.deepEqual([places.people.size, places.people.has('u_0'), places.people.has('u_999')], [MOST_PEOPLE, false, true]);
});

test('identity: a name from the address, from the tab, or a friendly one; every id we had is ours', () => {
  const tab = shelf();
  assert.match(new Identity(shelf(), '').name, /^\w+ \w+$/);
  const one = new Identity(tab, '?Craig');
  one.became('u_1');
  one.became('u_2');
  const two = new Identity(tab, '');
  assert.deepEqual([two.name, two.is('u_1'), two.is('u_2'), two.is(''), two.is('u_3')], ['Craig', true, true, false, false]);
});

test('addresses: rooms and people, and nothing else', () => {
  assert.deepEqual(placeOf('#/room/chat:1/a'), { kind: 'room', name: 'chat:1/a' });
  assert.deepEqual(placeOf('#/to/u_7f3'), { kind: 'direct', name: 'u_7f3' });
  for (const hash of ['', '#', '#/room/', '#/room/@u_1', '#/room/live:lobby', '#/room/a b', '#/room/%00', '#/room/%zz', '#/to/<b>', '#/else/x', `#/room/${'x'.repeat(119)}`, `#/room/a:${'x'.repeat(122)}`, '#/room/é']) {
    assert.equal(placeOf(hash), undefined, hash);
  }
  for (const place of /** @type {const} */ ([{ kind: 'room', name: 'a:b/c.d@e' }, { kind: 'direct', name: 'u_1' }])) assert.deepEqual(placeOf(hashOf(place)), place);
  assert.equal(roomFrom('  # the office '), 'the-office');
  assert.equal(roomFrom('#lobby'), 'lobby');
  for (const raw of ['', '#', '<script>', '@u_1', 'live:x', 'ü']) assert.equal(roomFrom(raw), '', raw);
  assert.deepEqual(['x'.repeat(118), `a:${'x'.repeat(121)}`].map(isRoom), [true, true]);
  assert.equal(liveOf('x'.repeat(118)).length, 128);
});

test('rooms: what people call kitchen is demo:kitchen to the server; a namespace stays', () => {
  for (const [name, room] of [['kitchen', 'demo:kitchen'], ['a/b.c', 'demo:a/b.c'], ['lobby', 'lobby'], ['chat:1', 'chat:1'], ['demo:lobby', 'demo:lobby'], ['demo:a:b', 'demo:a:b']]) {
    assert.equal(roomOf(name ?? ''), room);
    assert.equal(nameOf(room ?? ''), name);
  }
  assert.deepEqual([placeOf('#/room/demo:kitchen'), roomFrom('#demo:kitchen')], [{ kind: 'room', name: 'kitchen' }, 'kitchen'], 'one room has one address');
  assert.deepEqual(['lobby', 'kitchen', 'chat:1'].map(liveOf), ['live:lobby', 'live:demo:kitchen', 'live:chat:1']);
});

test('typing: told seldom, believed for a while', () => {
  let now = 0;
  const typing = new Typing(() => now);
  assert.equal(typing.due(), true);
  assert.equal(typing.due(), false);
  now += EVERY;
  assert.equal(typing.due(), true);
  typing.done();
  assert.equal(typing.due(), true, 'after a message the next one is news');
  typing.heard('u_1', 'Ada');
  typing.heard('u_2', 'Bo');
  typing.stopped('u_2');
  assert.deepEqual(typing.current(), [{ userId: 'u_1', name: 'Ada' }]);
  now += BELIEVED;
  assert.deepEqual(typing.current(), []);
  for (let i = 0; i < 1_000; i += 1) typing.heard(`u_${i}`, 'x');
  assert.ok(typing.current().length <= 50);
  assert.deepEqual([[], ['a'], ['a', 'b'], ['a', 'b', 'c']].map(typingText), ['', 'a is typing…', 'a and b are typing…', 'Several people are typing…']);
});

test('the banner explains', () => {
  assert.equal(sentence('offline', '1006'), 'Connection lost.');
  assert.equal(sentence('offline', '1001'), 'The server is restarting.');
  assert.equal(sentence('closed', '4403'), 'The server does not let you in.');
  assert.equal(sentence('closed', '4499'), 'The server hung up.');
  assert.equal(sentence('closed', 'spam', 4499), 'The server hung up: spam');
  assert.equal(sentence('closed', 'session revoked', 4401), 'You were signed out: your session was revoked.');
  assert.equal(sentence('closed', 'a new reason', 4401), 'You were signed out: a new reason.');
  assert.equal(sentence('closed', 'banned', 4403), 'You were banned from this server.');
  assert.equal(sentence('closed', 'spam', 4403), 'You were removed from this server: spam.');
  assert.equal(sentence('offline', 'too many messages', 4429), 'You were sending too fast.');
});

test('rows: days, the mark of the unread, groups, notices', () => {
  const day = new Date(2026, 10, 20, 10).getTime();
  /** @returns {import('../../../web/chat/items.js').Chat} */
  const chat = (/** @type {string} */ key, /** @type {string} */ from, /** @type {number} */ at) => ({ kind: 'chat', key, revision: 0, at, from, name: from, mine: false, text: key });
  const out = rows([
    chat('1', 'a', day - 86_400_000), chat('2', 'a', day), chat('3', 'a', day + 10), chat('4', 'b', day + 20), chat('5', 'b', day + 30 + GAP),
    { kind: 'notice', key: '6', revision: 0, at: day + 40 + GAP, sort: 'joined', names: ['x'], ids: ['u'], text: '', count: 1 },
    chat('7', 'b', day + 50 + GAP), chat('8', 'b', day + 60 + GAP),
  ], '8');
  assert.deepEqual(out.map((row) => (row.kind === 'chat' ? `${row.key}${row.first ? 'f' : ''}${row.last ? 'l' : ''}` : row.kind)),
    ['day', '1fl', 'day', '2f', '3l', '4fl', '5fl', 'notice', '7fl', 'unread', '8fl']);
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

/** A server's answers, one after the other. @param {(Response | Error)[]} answers */
function door(...answers) {
  /** @type {{ url: string, init?: RequestInit }[]} */ const asked = [];
  const send = /** @type {typeof fetch} */ (async (url, init) => {
    asked.push({ url: String(url), init });
    const answer = answers.shift();
    if (answer instanceof Error || answer === undefined) throw answer ?? new Error('no more');
    return answer;
  });
  return { door: new Door('/login', send), asked };
}

test('door: who may come in', async () => {
  const { door: it } = door(
    Response.json({ login: true, anonymous: false }), new Response('', { status: 404 }), new Response('', { status: 502 }), new TypeError('away'), Response.json('nonsense'),
  );
  assert.deepEqual(await it.rules(), { login: true, anonymous: false });
  assert.deepEqual(await it.rules(), { login: false, anonymous: true }, 'a server that knows nothing of it');
  assert.equal(await it.rules(), undefined);
  assert.equal(await it.rules(), undefined);
  assert.deepEqual(await it.rules(), { login: false, anonymous: true });
});

test('door: a ticket, or why not', async () => {
  const { door: it, asked } = door(
    Response.json({ ticket: 't_1', expiresAt: 5, userId: 'ada', name: 'Ada' }), new Response('{}', { status: 401 }), new Response('', { status: 429, headers: { 'retry-after': '7' } }),
    new Response('', { status: 503, headers: { 'retry-after': '2' } }), new Response('', { status: 403 }), new TypeError('away'), Response.json({}), new Response('', { status: 429, headers: { 'retry-after': 'soon' } }),
  );
  assert.deepEqual(await it.enter('ada', 'pw'), { ticket: 't_1', userId: 'ada', name: 'Ada', expiresAt: 5 });
  const { method, body, credentials } = asked[0]?.init ?? {};
  assert.deepEqual([method, body, credentials], ['POST', '{"user":"ada","password":"pw"}', 'omit']);
  const whys = [];
  for (let i = 0; i < 7; i += 1) whys.push(await it.enter('a', 'b'));
  assert.deepEqual(whys, [
    { why: 'wrong' }, { why: 'throttled', wait: 7_000 }, { why: 'busy', wait: 2_000 }, { why: 'closed' }, { why: 'away' }, { why: 'closed' }, { why: 'throttled', wait: 10_000 },
  ]);
});

test('account: the ticket of a password, once; else the connection waits, unless the session may be resumed or the server is away', async () => {
  const tab = shelf();
  let [overs, endings] = [0, 0];
  const { door: it } = door(new TypeError('away'), Response.json({ login: true }), Response.json({ login: true }));
  const make = () => new Account({ shelf: tab, door: it, onOver: () => { overs += 1; }, onEnding: () => { endings += 1; } });
  const account = make();
  assert.equal(account.signedIn, false);
  const admission = { ticket: 't_1', userId: 'ada', name: 'Ada', expiresAt: 0 };
  const stale = account.ticket({ resumable: false });
  const waiting = account.ticket({ resumable: false });
  assert.deepEqual([overs, account.over, await stale], [2, true, undefined], 'only the latest attempt gets it');
  account.enter(admission);
  assert.deepEqual([await waiting, account.over, account.name], ['t_1', false, 'Ada']);
  account.arrived();
  assert.equal(await account.ticket({ refresh: true, resumable: true }), undefined);
  assert.equal(endings, 1);
  assert.equal(await account.ticket({ resumable: true }), undefined, 'away');
  assert.equal(await account.ticket({ resumable: true }), undefined, 'one doubt is none');
  const gone = account.ticket({ resumable: true });
  await new Promise((resolve) => { setTimeout(resolve); });
  assert.deepEqual([overs, account.over], [3, true]);
  account.enter({ ...admission, ticket: 't_2' });
  assert.equal(await gone, 't_2');
  for (let i = 0; i < 3; i += 1) assert.equal(await account.ticket({ resumable: false }), 't_2', 'it may have been lost on its way');
  void account.ticket({ resumable: false });
  assert.equal(overs, 4, 'but not for ever');
  assert.deepEqual([make().userId, make().name], ['ada', 'Ada'], 'known after a reload');
  for (const bad of ['{', '7', '{"userId":7}', 'null']) {
    tab.save('throng.account', bad);
    assert.equal(make().signedIn, false);
  }
});
