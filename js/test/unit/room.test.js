import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Rig, note, outcome, settle } from '../support/rig.js';

/** @param {any[]} messages */
const numbers = (messages) => messages.map(({ n }) => n);

test('a room is one object, joined when there is a connection', async (t) => {
  const rig = new Rig(t);
  const client = rig.client();
  const room = client.join('chat:1', { rewind: 3, presence: true, echo: false });
  assert.equal(client.join('chat:1'), room);
  assert.equal(room.joined, false);
  assert.equal(await room.ready, room);
  assert.equal(room.joined, true);
  assert.deepEqual({ ...rig.peer.last('join'), ref: 0 }, { type: 'join', room: 'chat:1', rewind: 3, presence: true, echo: false, ref: 0 });
  assert.equal(rig.peer.all('join').length, 1);
  assert.equal(room.epoch, rig.model.room('chat:1').epoch);
  const online = client.join('chat:2');
  await online.ready;
  assert.equal(online.seq, 0);
});

test('messages come by type, in order, to the room and to the client', async (t) => {
  const rig = new Rig(t);
  const client = await rig.online();
  const room = client.join('r');
  const [chats, all, messages] = [note(room, 'chat'), note(room, '*'), note(client, 'message')];
  await room.ready;
  const off = room.on('move', () => assert.fail('taken away'));
  off();
  room.on('chat', () => assert.equal(room.seq, chats.at(-1).seq, 'the position is the message at hand'));
  for (let n = 1; n <= 4; n += 1) rig.model.publish('r', 'u_x', { type: n === 3 ? 'move' : 'chat', n });
  await settle();
  assert.deepEqual(numbers(chats), [1, 2, 4]);
  assert.deepEqual(numbers(all), [1, 2, 3, 4]);
  assert.deepEqual(numbers(messages), [1, 2, 3, 4]);
  assert.deepEqual(chats[0], { type: 'chat', n: 1, room: 'r', from: 'u_x', seq: 1, timestamp: 1_001 });
});

test('what was missed comes first, once and in order', async (t) => {
  const rig = new Rig(t);
  const client = await rig.online();
  const room = client.join('r');
  const [all, recovered, lost] = [note(room, '*'), note(room, 'recovered'), note(room, 'lost')];
  await room.ready;
  rig.model.publish('r', 'u_x', { type: 'chat', n: 1 });
  await settle();
  rig.network.cut();
  for (let n = 2; n <= 5; n += 1) rig.model.publish('r', 'u_x', { type: 'chat', n });
  await rig.back();
  rig.model.publish('r', 'u_x', { type: 'chat', n: 6 });
  await settle();
  assert.deepEqual(numbers(all), [1, 2, 3, 4, 5, 6]);
  assert.deepEqual(recovered, [{ epoch: room.epoch, seq: 5, missed: 4 }]);
  assert.deepEqual(lost, []);
  assert.deepEqual(rig.peer.last('resume').rooms.r, { epoch: room.epoch, seq: 1 });
});

test('a message that was seen already is dropped, a volatile one is not numbered', async (t) => {
  const rig = new Rig(t);
  const client = await rig.online();
  const [room, live] = [client.join('r'), client.join('live:r')];
  const [all, moves] = [note(room, '*'), note(live, 'move')];
  await live.ready;
  for (const seq of [1, 1, 2, 1, 2, 3, 3]) rig.peer.say({ type: 'chat', room: 'r', from: 'u_x', seq, timestamp: 1, n: seq });
  for (let i = 0; i < 3; i += 1) rig.model.publish('live:r', 'u_x', { type: 'move', n: 0 });
  await settle();
  assert.deepEqual(numbers(all), [1, 2, 3]);
  assert.equal(moves.length, 3);
  assert.equal(live.seq, 0);
});

test('a hole is never handed out: the client comes back for what is missing', async (t) => {
  const rig = new Rig(t);
  const client = await rig.online();
  const room = client.join('r');
  const [all, status] = [note(room, '*'), note(client, 'status')];
  await room.ready;
  rig.model.publish('r', 'u_x', { type: 'chat', n: 1 });
  await settle();
  const log = rig.model.room('r');
  // The server forgets to pass one on.
  log.log.push({ type: 'chat', n: 2, room: 'r', from: 'u_x', seq: (log.seq += 1), timestamp: 1 });
  rig.model.publish('r', 'u_x', { type: 'chat', n: 3 });
  await settle();
  assert.equal(status.at(-1).reason, 'hole');
  assert.deepEqual(numbers(all), [1]);
  await rig.back();
  assert.deepEqual(numbers(all), [1, 2, 3]);
});

test('rewind: the last messages at the first join only', async (t) => {
  const rig = new Rig(t);
  for (let n = 1; n <= 10; n += 1) rig.model.publish('r', 'u_x', { type: 'chat', n });
  const client = await rig.online();
  const room = client.join('r', { rewind: 3 });
  const all = note(room, '*');
  await settle();
  assert.deepEqual(numbers(all), [8, 9, 10]);
  await rig.blink();
  rig.model.publish('r', 'u_x', { type: 'chat', n: 11 });
  await settle();
  assert.deepEqual(numbers(all), [8, 9, 10, 11]);
});

test('rewind beyond the history starts where that starts', async (t) => {
  const rig = new Rig(t);
  for (let n = 1; n <= 10; n += 1) rig.model.publish('r', 'u_x', { type: 'chat', n });
  rig.model.room('r').kept = 2;
  rig.model.room('r').log.splice(0, 8);
  const client = await rig.online();
  const [room, empty] = [client.join('r', { rewind: 5 }), client.join('empty', { rewind: 5 })];
  const [all, none] = [note(room, '*'), note(empty, '*')];
  await empty.ready;
  rig.model.publish('r', 'u_x', { type: 'chat', n: 11 });
  rig.model.publish('empty', 'u_x', { type: 'chat', n: 1 });
  await settle();
  assert.deepEqual(numbers(all), [9, 10, 11]);
  assert.deepEqual(numbers(none), [1]);
  assert.equal(rig.network.peers.length, 1);
});

test('a rewind that was cut off goes on where it was cut', async (t) => {
  const rig = new Rig(t);
  for (let n = 1; n <= 10; n += 1) rig.model.publish('r', 'u_x', { type: 'chat', n });
  const client = await rig.online();
  for (const arrived of [0, 1, 2]) {
    rig.network.manual = true;
    const room = client.join('r', { rewind: 4 });
    const all = note(room, '*');
    rig.peer.flush(1, 0);
    rig.peer.flush(0, 1 + arrived);
    assert.deepEqual([room.joined, all.length], [true, arrived]);
    rig.network.manual = false;
    await rig.blink();
    rig.model.publish('r', 'u_x', { type: 'chat', n: 0 });
    await settle();
    assert.deepEqual(numbers(all).slice(0, 4), [7, 8, 9, 10]);
    await room.leave();
    rig.model.room('r').log.length = 10;
    rig.model.room('r').seq = 10;
    await rig.pass(5_000);
  }
});

test('since: what came after a position that the application kept', async (t) => {
  const rig = new Rig(t);
  for (let n = 1; n <= 5; n += 1) rig.model.publish('r', 'u_x', { type: 'chat', n });
  const { epoch } = rig.model.room('r');
  const client = await rig.online();
  const room = client.join('r', { since: { epoch, seq: 3 } });
  const all = note(room, '*');
  await settle();
  assert.deepEqual(numbers(all), [4, 5]);
  await room.leave();
  const other = client.join('r', { since: { epoch: 'another', seq: 3 } });
  const lost = note(other, 'lost');
  await settle();
  assert.deepEqual(lost, [{ epoch, seq: 5, since: { epoch: 'another', seq: 3 } }]);
});

test('a past that is gone is a `lost` event, and the room goes on', async (t) => {
  const rig = new Rig(t);
  const client = await rig.online();
  const room = client.join('r');
  const [all, lost, recovered] = [note(room, '*'), note(room, 'lost'), note(room, 'recovered')];
  await room.ready;
  const { epoch } = room;
  rig.model.publish('r', 'u_x', { type: 'chat', n: 1 });
  await settle();
  // Beyond the history.
  rig.network.cut();
  for (let n = 2; n <= 5; n += 1) rig.model.publish('r', 'u_x', { type: 'chat', n });
  rig.model.room('r').kept = 2;
  await rig.back();
  assert.deepEqual(lost, [{ epoch, seq: 5, since: { epoch, seq: 1 } }]);
  assert.deepEqual(numbers(all), [1]);
  rig.model.publish('r', 'u_x', { type: 'chat', n: 6 });
  await settle();
  // Another epoch, with a smaller seq.
  rig.network.cut();
  rig.model.forget();
  await rig.back();
  assert.equal(lost.length, 2);
  assert.notEqual(lost[1].epoch, epoch);
  assert.deepEqual([lost[1].seq, lost[1].since], [0, { epoch, seq: 6 }]);
  rig.model.publish('r', 'u_x', { type: 'chat', n: 7 });
  await settle();
  assert.deepEqual(numbers(all), [1, 6, 7]);
  assert.deepEqual(recovered, []);
});

test('echo: false gets no messages of its own, and no false alarm', async (t) => {
  const rig = new Rig(t);
  const client = await rig.online();
  const room = client.join('r', { echo: false });
  const all = note(room, '*');
  await room.ready;
  rig.model.publish('r', 'u_x', { type: 'chat', n: 1 });
  await Promise.all([room.send({ type: 'chat', n: 2 }), room.send({ type: 'chat', n: 3 })]);
  assert.equal(room.seq, 3);
  rig.model.publish('r', 'u_x', { type: 'chat', n: 4 });
  await settle();
  await rig.blink();
  await room.send({ type: 'chat', n: 5 });
  rig.model.publish('r', 'u_x', { type: 'chat', n: 6 });
  await settle();
  assert.deepEqual(numbers(all), [1, 4, 6]);
  assert.equal(room.seq, 6);
});

test('nobody can forge an event', async (t) => {
  const rig = new Rig(t);
  const client = await rig.online();
  const room = client.join('r');
  for (const name of ['lost', 'recovered', 'error']) room.on(name, () => assert.fail(name));
  const all = note(room, '*');
  await room.ready;
  for (const type of ['lost', 'recovered', 'error2', '*', '__proto__', 'constructor']) rig.model.publish('r', 'u_x', { type, n: type });
  await settle();
  assert.deepEqual(numbers(all), ['lost', 'recovered', 'error2', '*', '__proto__', 'constructor']);
});

test('a handler that throws is reported and harms nobody', async (t) => {
  const rig = new Rig(t);
  const client = await rig.online();
  const room = client.join('r');
  await room.ready;
  /** @type {unknown[]} */ const uncaught = [];
  const listeners = process.listeners('uncaughtException');
  process.removeAllListeners('uncaughtException');
  process.on('uncaughtException', (error) => uncaught.push(error));
  room.on('chat', () => { throw new Error('mine'); });
  const all = note(room, 'chat');
  rig.model.publish('r', 'u_x', { type: 'chat', n: 1 });
  rig.model.publish('r', 'u_x', { type: 'chat', n: 2 });
  await settle();
  process.removeAllListeners('uncaughtException');
  for (const listener of listeners) process.on('uncaughtException', listener);
  assert.deepEqual(numbers(all), [1, 2]);
  assert.equal(uncaught.length, 2);
});

test('direct messages reach the own room, across sessions of one user', async (t) => {
  const rig = new Rig(t);
  const ada = rig.client({}, 'ws://test/ws?user=ada');
  const direct = note(ada.me, 'note');
  const bo = await rig.online();
  assert.equal(ada.me.name, '@ada');
  assert.deepEqual(await bo.direct('ada').send({ type: 'note', n: 1 }), { room: '@ada', seq: 1, timestamp: 1_001 });
  await settle();
  rig.network.cut();
  rig.model.publish('@ada', 'u_x', { type: 'note', n: 2 });
  await rig.back();
  assert.deepEqual(numbers(direct), [1, 2]);
  // The session is gone, the user and the room are not.
  rig.network.cut();
  rig.model.forget({ rooms: false });
  rig.model.publish('@ada', 'u_x', { type: 'note', n: 3 });
  await rig.back();
  rig.model.publish('@ada', 'u_x', { type: 'note', n: 4 });
  await settle();
  assert.deepEqual(numbers(direct), [1, 2, 3, 4]);
  await bo.direct('ada').send({ type: 'note', n: 5 });
  await settle();
  assert.deepEqual(numbers(direct), [1, 2, 3, 4, 5]);
});

test('a new user has a new room of their own', async (t) => {
  const rig = new Rig(t);
  const client = await rig.online();
  const { me } = client;
  const [direct, lost] = [note(me, 'note'), note(me, 'lost')];
  rig.model.publish(me.name, 'u_x', { type: 'note', n: 1 });
  await settle();
  rig.network.cut();
  rig.model.forget();
  await rig.back();
  assert.equal(client.me, me);
  assert.equal(me.name, `@${client.userId}`);
  assert.equal(me.joined, true);
  rig.model.publish(me.name, 'u_x', { type: 'note', n: 2 });
  await settle();
  assert.deepEqual(numbers(direct), [1, 2]);
  assert.deepEqual(lost, []);
});

test('leaving ends the room, and a later join begins a new one', async (t) => {
  const rig = new Rig(t);
  const client = await rig.online();
  const room = client.join('r');
  const all = note(room, '*');
  await room.ready;
  const gone = room.leave();
  const again = client.join('r');
  assert.notEqual(again, room);
  const later = note(again, '*');
  await Promise.all([gone, again.ready, room.leave()]);
  rig.model.publish('r', 'u_x', { type: 'chat', n: 1 });
  await settle();
  assert.deepEqual([all.length, later.length], [0, 1]);
  assert.equal(await outcome(room.send({ type: 'chat' })), 'not_joined');
  assert.equal(await outcome(room.history()), 'not_joined');
  assert.equal(room.left, true);
  // While the server is silent: resolved when the connection goes.
  rig.peer.onframe = () => {};
  const silent = again.leave();
  await rig.blink();
  await silent;
  assert.equal('r' in rig.peer.last('resume').rooms, false);
  // Offline, and before it was ever joined.
  rig.network.cut();
  const never = client.join('never');
  await never.leave();
  assert.equal(await outcome(never.ready), 'not_joined');
  await rig.pass(5_000);
  assert.equal(rig.peer.all('join').length, 0);
});

test('leaving while the answer to `resume` is on its way', async (t) => {
  const rig = new Rig(t);
  const client = await rig.online();
  const room = client.join('r');
  await room.ready;
  rig.network.cut();
  const { connect } = rig.model;
  rig.network.onconnect = (peer) => {
    rig.network.manual = true;
    connect.call(rig.model, peer);
  };
  await rig.pass(500);
  rig.peer.flush(0, 1);
  assert.equal(rig.peer.waiting[0], 1, 'resume is on its way');
  const left = room.leave();
  const again = client.join('r');
  rig.network.manual = false;
  rig.peer.flush();
  rig.peer.flush();
  await left;
  assert.equal((await again.ready).joined, true);
  assert.equal(room.joined, false);
  assert.equal(rig.model.room('r').members.size, 1);
});

test('a refusal ends the room, in a join and in a return; a temporary one does not', async (t) => {
  const rig = new Rig(t);
  rig.model.refused.set('secret', 'forbidden').set('full', 'room_full');
  const client = await rig.online();
  const errors = note(client, 'error');
  const [secret, full, room] = [client.join('secret'), client.join('full'), client.join('r')];
  const own = note(secret, 'error');
  assert.equal(await outcome(secret.ready), 'forbidden');
  assert.deepEqual(own, errors);
  assert.equal(errors[0].room, 'secret');
  await room.ready;
  assert.equal(full.joined, false);
  rig.model.refused.delete('full');
  await rig.pass(3_000);
  assert.equal(full.joined, true);
  rig.network.cut();
  rig.model.refused.set('r', 'unknown_room').set('full', 'room_full');
  await rig.back();
  assert.deepEqual([room.left, full.left, full.joined], [true, false, false]);
  assert.equal(errors.at(-1).code, 'unknown_room');
  rig.model.refused.clear();
  await rig.pass(3_000);
  assert.equal(full.joined, true);
  assert.notEqual(client.join('r'), room);
});

test('a room the server already has us in is joined anew', async (t) => {
  const rig = new Rig(t);
  const client = await rig.online();
  rig.peer.onframe({ type: 'join', room: 'r', ref: 999 });
  const room = client.join('r');
  await settle();
  assert.equal(room.joined, true);
});

test('rooms called like members of an object are rooms', async (t) => {
  const rig = new Rig(t);
  const client = await rig.online();
  const rooms = ['__proto__', 'constructor', 'toString'].map((name) => client.join(name));
  await settle();
  await rig.blink();
  for (const room of rooms) {
    const all = note(room, 'chat');
    rig.model.publish(room.name, 'u_x', { type: 'chat' });
    await settle();
    assert.equal(all.length, 1, room.name);
  }
});

test('history: pages, questions asked offline, refusals', async (t) => {
  const rig = new Rig(t);
  for (let n = 1; n <= 10; n += 1) rig.model.publish('r', 'u_x', { type: 'chat', n });
  const client = rig.client();
  const room = client.join('r');
  const newest = await room.history({ limit: 3 });
  assert.deepEqual(numbers(newest.messages), [8, 9, 10]);
  assert.deepEqual([newest.more, newest.epoch, newest.room], [true, room.epoch, 'r']);
  assert.deepEqual(numbers((await room.history({ before: 8, limit: 3 })).messages), [5, 6, 7]);
  assert.deepEqual(numbers((await room.history({ after: 8 })).messages), [9, 10]);
  rig.network.cut();
  const waiting = room.history({ limit: 1 });
  await rig.back();
  assert.deepEqual(numbers((await waiting).messages), [10]);
  rig.peer.onframe = (frame) => rig.peer.say({ type: 'error', ref: frame.ref, code: 'stale_epoch', message: 'gone', temporary: false });
  assert.equal(await outcome(room.history({ epoch: 'old' })), 'stale_epoch');
  assert.equal(rig.peer.last('history').epoch, 'old');
  rig.peer.onframe = () => {};
  const never = outcome(room.history());
  await rig.pass(30_000);
  assert.equal(await never, 'timeout');
});
