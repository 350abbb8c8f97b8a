import assert from 'node:assert/strict';
import { test } from 'node:test';
import { note, outcome } from '../support/rig.js';
import { Cable, Server, client as make, is, until } from '../support/server.js';

/** @param {any[]} messages */
const numbers = (messages) => messages.map(({ n }) => n);

/** @param {number} count */
const range = (count, from = 1) => Array.from({ length: count }, (_, i) => from + i);

test('two people in a room: messages, presence, history, direct messages', async (t) => {
  const server = await Server.start(t);
  const [ada, bo] = [make(t, server, { name: 'Ada' }), make(t, server, { name: 'Bo' })];
  const [here, there] = [ada.join('chat:1', { presence: true }), bo.join('chat:1', { presence: true })];
  const [heard, seen, letters] = [note(there, 'chat'), note(there, 'user_joined'), note(bo.me, 'letter')];
  await Promise.all([here.ready, there.ready]);
  await until(() => here.users.size === 2 && there.users.size === 2, 'both to see both');
  assert.deepEqual([...here.users.keys()].sort(), [ada.userId, bo.userId].sort());
  assert.equal(here.userCount, 2);
  assert.deepEqual(here.users.get(bo.userId)?.info, bo.info);
  assert.equal((await here.send({ type: 'chat', n: 1 }))?.seq, 1);
  for (const n of range(9, 2)) await here.send({ type: 'chat', n });
  await until(() => heard.length === 10, 'ten messages');
  assert.deepEqual(numbers(heard), range(10));
  assert.deepEqual([heard[0].from, heard[0].seq, there.seq], [ada.userId, 1, 10]);
  const page = await there.history({ before: 9, limit: 3 });
  assert.deepEqual([numbers(page.messages), page.more, page.epoch], [[6, 7, 8], true, there.epoch]);
  assert.deepEqual(numbers((await there.history({ after: 8 })).messages), [9, 10]);
  assert.equal(await outcome(there.history({ epoch: 'another' })), 'stale_epoch');
  assert.equal(await outcome(there.history({ limit: 0 })), 'bad_message');
  await ada.direct(bo.userId).send({ type: 'letter', n: 1 });
  await until(() => letters.length === 1, 'the letter');
  assert.equal(letters[0].room, bo.me.name);
  assert.ok((await ada.ping()) >= 0);
  const eve = make(t, server);
  await eve.join('chat:1').ready;
  await until(() => here.users.size === 3 && there.users.size === 3, 'a third');
  eve.close();
  await until(() => here.users.size === 2 && there.users.size === 2, 'the third to be gone at once');
  assert.ok(seen.some(({ userId }) => userId === eve.userId));
  await there.leave();
  await until(() => here.users.size === 1, 'Bo to have left');
});

test('rewind, since, echo, volatile rooms, refusals', async (t) => {
  const server = await Server.start(t);
  const ada = make(t, server);
  const room = ada.join('r');
  for (const n of range(10)) await room.send({ type: 'chat', n });
  const bo = make(t, server);
  const rewound = bo.join('r', { rewind: 3 });
  const tail = note(rewound, 'chat');
  await until(() => tail.length === 3, 'the last three');
  assert.deepEqual(numbers(tail), [8, 9, 10]);
  await rewound.leave();
  const since = bo.join('r', { since: { epoch: room.epoch, seq: 6 }, echo: false });
  const [rest, recovered] = [note(since, 'chat'), note(since, 'recovered')];
  await until(() => rest.length === 4, 'the last four');
  assert.equal(recovered[0].missed, 4);
  await since.send({ type: 'chat', n: 11 });
  await room.send({ type: 'chat', n: 12 });
  await until(() => rest.length === 5, 'one more');
  assert.deepEqual(numbers(rest), [7, 8, 9, 10, 12]);
  assert.equal(since.seq, 12);
  const live = bo.join('live:r');
  const typing = note(live, 'typing');
  const other = ada.join('live:r', { echo: false });
  await Promise.all([live.ready, other.ready]);
  assert.deepEqual(Object.keys((await other.send({ type: 'typing' })) ?? {}).sort(), ['room', 'timestamp']);
  await other.send({ type: 'typing' }, { volatile: true });
  await until(() => typing.length === 2, 'typing');
  assert.equal(typing[0].seq, undefined);
  assert.equal(await outcome(bo.join('@somebody').ready), 'forbidden');
  assert.equal(await outcome(bo.join('no such name').ready.then(() => 'in')), 'bad_message');
  assert.equal(await outcome(live.send({ type: 'chat', seq: 7 })), 'reserved_field');
  assert.equal(await outcome(live.send({ type: 'chat', text: 'x'.repeat(70_000) })), 'too_large');
});

test('offline and online again: nothing lost, nothing twice, presence exact', async (t) => {
  const server = await Server.start(t);
  const cable = await Cable.lay(t, server);
  const [ada, bo] = [make(t, cable), make(t, server)];
  const [here, there] = [ada.join('r', { presence: true }), bo.join('r', { presence: true })];
  const [mine, theirs, left, back] = [note(here, 'chat'), note(there, 'chat'), note(there, 'user_left'), note(ada, 'reconnect')];
  await Promise.all([here.ready, there.ready]);
  /** @type {Promise<any>[]} */ const sent = [];
  for (const round of range(8)) {
    for (const n of range(5, round * 100)) sent.push(here.send({ type: 'chat', n }), there.send({ type: 'chat', n: -n }));
    if (round % 2) cable.deaf = true; // what is sent now arrives, and no answer does
    for (const n of range(5, round * 100 + 5)) sent.push(here.send({ type: 'chat', n }));
    await there.send({ type: 'mark' });
    cable.cut();
    await is(ada, 'offline');
    for (const n of range(5, round * 100 + 10)) sent.push(here.send({ type: 'chat', n }), there.send({ type: 'chat', n: -n }));
    cable.plug();
    await is(ada, 'online');
  }
  const acks = await Promise.all(sent);
  assert.ok(acks.some((ack) => ack.duplicate), 'some answers were lost');
  const expected = range(8).flatMap((round) => range(15, round * 100));
  const theirOwn = range(8).flatMap((round) => [...range(5, round * 100), ...range(5, round * 100 + 10)]).map((n) => -n);
  await until(() => mine.length >= expected.length + theirOwn.length && theirs.length >= mine.length, 'all messages');
  assert.deepEqual(numbers(mine), numbers(theirs));
  assert.deepEqual(numbers(mine).filter((n) => n > 0), expected);
  assert.deepEqual(numbers(mine).filter((n) => n < 0), theirOwn);
  assert.ok(back.length === 8 && back.every(({ resumed }) => resumed));
  assert.deepEqual(left, [], 'a lost connection has its grace');
  await until(() => here.users.size === 2 && there.users.size === 2, 'exact presence');
});

test('kill -9 and a restart on the same data: each message once', async (t) => {
  const server = await Server.start(t, { durable: true });
  const [ada, bo] = [make(t, server, { uncertain: 'reject' }), make(t, server)];
  const [here, there] = [ada.join('r', { presence: true }), bo.join('r', { presence: true })];
  const [mine, theirs, lost] = [note(here, 'chat'), note(there, 'chat'), note(there, 'lost')];
  await Promise.all([here.ready, there.ready]);
  /** @type {Map<number, any>} */ const results = new Map();
  let n = 0;
  const say = () => {
    const id = (n += 1);
    void outcome(here.send({ type: 'chat', n: id })).then((result) => results.set(id, result));
  };
  for (let round = 0; round < 3; round += 1) {
    for (let i = 0; i < 20; i += 1) say();
    await until(() => results.size > round * 50 + 5, 'some answers');
    for (let i = 0; i < 20; i += 1) say();
    await server.kill();
    await is(ada, 'offline');
    for (let i = 0; i < 10; i += 1) say();
    await server.start();
    await Promise.all([is(ada, 'online'), is(bo, 'online')]);
  }
  await until(() => results.size === n, 'every promise to settle');
  const published = [...results].filter(([, result]) => typeof result === 'object').map(([id]) => id);
  assert.ok([...results.values()].every((result) => typeof result === 'object' || result === 'uncertain'));
  await until(() => numbers(mine).includes(n) && numbers(theirs).includes(n), 'the last message');
  assert.deepEqual(numbers(theirs), numbers(mine));
  assert.equal(new Set(numbers(mine)).size, mine.length, 'nothing twice');
  for (const id of published) assert.ok(numbers(mine).includes(id), `message ${id} was acknowledged`);
  assert.deepEqual([...numbers(mine)].sort((a, b) => a - b), numbers(mine), 'in the order they were sent');
  assert.deepEqual(lost, []);
  const page = await there.history({ limit: 200 });
  assert.deepEqual(numbers(page.messages), numbers(mine));
  await until(() => here.exact && here.users.size === 2 && there.users.size === 2, 'exact presence');
});

test('a restart without data: a new epoch is told', async (t) => {
  const server = await Server.start(t);
  const ada = make(t, server);
  const room = ada.join('r');
  const [all, lost] = [note(room, 'chat'), note(room, 'lost')];
  await room.send({ type: 'chat', n: 1 });
  await until(() => all.length === 1, 'the first message');
  const { epoch } = room;
  await server.kill();
  await is(ada, 'offline');
  const waiting = room.send({ type: 'chat', n: 2 });
  await server.start();
  assert.equal((await waiting)?.seq, 1);
  await until(() => all.length === 2, 'the message');
  assert.deepEqual(lost.map(({ since }) => since), [{ epoch, seq: 1 }]);
  assert.notEqual(room.epoch, epoch);
});

test('a reload: the session lives on, and nothing is published twice', async (t) => {
  const server = await Server.start(t);
  const cable = await Cable.lay(t, server);
  /** @type {any} */ const kept = {};
  const store = (/** @type {string} */ name) => ({ load: () => structuredClone(kept[name]), save: (/** @type {any} */ value) => { kept[name] = structuredClone(value); } });
  const ada = make(t, cable, { session: store('session'), outbox: store('outbox') });
  const room = ada.join('r');
  await room.send({ type: 'chat', n: 1 });
  cable.deaf = true;
  for (const n of range(5, 2)) void outcome(room.send({ type: 'chat', n }));
  const bo = make(t, server);
  const watched = bo.join('r', { rewind: 10 });
  const all = note(watched, 'chat');
  await until(() => all.length === 6, 'all six to be published');
  const frozen = structuredClone(kept);
  cable.cut();
  ada.close();
  await until(() => kept.outbox.length === 0, 'the old page to be gone');
  Object.assign(kept, frozen);
  cable.plug();
  const again = make(t, cable, { session: store('session'), outbox: store('outbox') });
  await is(again, 'online');
  assert.equal(again.sessionId, ada.sessionId);
  assert.equal(again.userId, ada.userId);
  assert.equal(again.pending.length, 5);
  await again.join('r').send({ type: 'chat', n: 7 });
  await until(() => all.length >= 7, 'the seventh');
  assert.deepEqual(numbers(all), range(7));
  assert.deepEqual(again.pending, []);
});

test('a second connection of a session replaces the first', async (t) => {
  const server = await Server.start(t);
  /** @type {any} */ let session;
  const ada = make(t, server, { session: { load: () => null, save: (value) => { session = value; } } });
  await is(ada, 'online');
  const status = note(ada, 'status');
  const copy = make(t, server, { session: { load: () => session, save: () => {} } });
  await is(copy, 'online');
  await is(ada, 'closed');
  assert.ok(status.at(-1).reason.length > 0);
  assert.equal(copy.userId, ada.userId);
});

test('many messages at once in both directions', async (t) => {
  const server = await Server.start(t);
  const [ada, bo] = [make(t, server), make(t, server)];
  const [here, there] = [ada.join('r'), bo.join('r')];
  const [mine, theirs] = [note(here, 'chat'), note(there, 'chat')];
  await Promise.all([here.ready, there.ready]);
  const acks = await Promise.all(range(1_000).flatMap((n) => [here.send({ type: 'chat', n }), there.send({ type: 'chat', n: -n })]));
  await until(() => mine.length >= 2_000 && theirs.length >= 2_000, 'all messages');
  assert.deepEqual(numbers(mine), numbers(theirs));
  assert.deepEqual(numbers(mine).filter((n) => n > 0), range(1_000));
  assert.deepEqual(acks.map((ack) => ack?.seq).sort((a, b) => (a ?? 0) - (b ?? 0)), range(2_000));
});

for (const transport of /** @type {const} */ (['sse', 'auto'])) {
  test(`server-sent events (${transport})`, async (t) => {
    const server = await Server.start(t, { durable: true });
    const cable = await Cable.lay(t, server);
    const blocked = class { constructor() { throw new Error('no WebSocket here'); } };
    const ada = make(t, cable, { transport, WebSocket: transport === 'auto' ? blocked : undefined });
    const bo = make(t, server);
    const [here, there] = [ada.join('r', { presence: true }), bo.join('r')];
    const [mine, theirs, letters] = [note(here, 'chat'), note(there, 'chat'), note(ada.me, 'letter')];
    await Promise.all([here.ready, there.ready, is(ada, 'online')]);
    await until(() => here.users.size === 2, 'both to be seen');
    await here.send({ type: 'chat', n: 1 });
    await there.send({ type: 'chat', n: 2 });
    await until(() => mine.length === 2 && theirs.length === 2, 'both messages');
    await until(() => ada.me.joined, 'the own room');
    await bo.direct(ada.userId).send({ type: 'letter', n: 1 });
    await until(() => letters.length === 1, 'the letter');
    // A room more.
    const more = ada.join('s');
    await there.send({ type: 'chat', n: 3 });
    await more.ready;
    assert.equal(here.joined, true);
    // A loss, with an answer that never came.
    cable.deaf = true;
    const sent = here.send({ type: 'chat', n: 4 });
    await until(() => theirs.length === 4, 'the fourth');
    cable.cut();
    await is(ada, 'offline');
    await there.send({ type: 'chat', n: 5 });
    cable.plug();
    assert.equal((await sent)?.duplicate, true);
    // A server that is killed.
    await is(ada, 'online');
    await server.kill();
    await is(ada, 'offline');
    await server.start();
    await Promise.all([is(ada, 'online'), is(bo, 'online')]);
    await there.ready;
    await there.send({ type: 'chat', n: 6 });
    await until(() => mine.length >= 6 && theirs.length >= 6, 'the sixth');
    assert.deepEqual(numbers(mine), range(6));
    assert.deepEqual(numbers(theirs), range(6));
    await until(() => here.exact && here.users.size === 2, 'exact presence');
  });
}
