import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Rig, note, settle } from '../support/rig.js';

/** @param {Rig} rig @param {import('../../src/index.js').Room} room */
function exact(rig, room) {
  const { users } = rig.model.room(room.name);
  assert.equal(room.exact, true);
  assert.deepEqual([...room.users.keys()].sort(), [...users.keys()].sort());
  assert.equal(room.userCount, users.size);
}

test('the list follows who comes and goes', async (t) => {
  const rig = new Rig(t);
  const ada = rig.client({}, 'ws://test/ws?user=ada');
  const room = ada.join('r', { presence: true });
  const [joined, left] = [note(room, 'user_joined'), note(room, 'user_left')];
  await room.ready;
  exact(rig, room);
  const bo = rig.client({}, 'ws://test/ws?user=bo');
  await bo.join('r').ready;
  const second = rig.client({}, 'ws://test/ws?user=bo');
  await second.join('r').ready;
  await settle();
  exact(rig, room);
  assert.deepEqual(joined.map(({ userId }) => userId), ['bo']);
  bo.close();
  await settle();
  exact(rig, room);
  assert.deepEqual(left, []);
  second.close();
  await settle();
  exact(rig, room);
  assert.deepEqual(left.map(({ userId }) => userId), ['bo']);
});

test('without presence there is a count and no list', async (t) => {
  const rig = new Rig(t);
  const room = (await rig.online()).join('r');
  const joined = note(room, 'user_joined');
  await room.ready;
  await (await rig.online()).join('r').ready;
  await settle();
  assert.deepEqual([room.exact, room.users.size, room.userCount, joined.length], [false, 0, 2, 1]);
});

test('asked for later, the list comes later', async (t) => {
  const rig = new Rig(t);
  const client = await rig.online();
  const room = client.join('r');
  await room.ready;
  client.join('r', { presence: true });
  await settle();
  exact(rig, room);
  client.join('r', { presence: true });
  await settle();
  assert.equal(rig.peer.all('presence').length, 1);
});

test('news older than the list are dropped', async (t) => {
  const rig = new Rig(t);
  const room = (await rig.online()).join('r', { presence: true });
  const events = ['user_joined', 'user_left', 'presence'].map((name) => note(room, name));
  await room.ready;
  const { presenceSeq } = rig.model.room('r');
  rig.peer.say({ type: 'user_joined', room: 'r', userId: 'ghost', userCount: 9, presenceSeq });
  rig.peer.say({ type: 'user_left', room: 'r', userId: 'u_1', userCount: 0, presenceSeq: presenceSeq - 1 });
  rig.peer.say({ type: 'presence', room: 'r', userCount: 0, users: [], presenceSeq: presenceSeq - 1 });
  await settle();
  exact(rig, room);
  assert.deepEqual(events, [[], [], []]);
  rig.peer.say({ type: 'presence', room: 'r', userCount: 1, users: [{ userId: 'u_7', info: { name: 'Bo' } }], presenceSeq: presenceSeq + 5 });
  rig.peer.say({ type: 'user_joined', room: 'r', userId: 'ghost', userCount: 9, presenceSeq: presenceSeq + 5 });
  await settle();
  assert.deepEqual([...room.users.values()], [{ userId: 'u_7', info: { name: 'Bo' } }]);
});

test('after a loss the list is exact again, whether or not it changed', async (t) => {
  const rig = new Rig(t);
  const ada = await rig.online();
  const room = ada.join('r', { presence: true });
  const bo = await rig.online();
  const other = bo.join('r');
  await other.ready;
  await settle();
  const mine = rig.network.peers[0];
  mine?.hangUp(1006);
  await rig.back();
  exact(rig, room);
  const again = rig.peer;
  again.hangUp(1006);
  await other.leave();
  await (await rig.online()).join('r').ready;
  await rig.back();
  exact(rig, room);
  // A server that starts anew counts anew.
  rig.model.forget({ rooms: false });
  rig.model.room('r').presenceSeq = 0;
  rig.model.room('r').users.clear();
  await rig.blink();
  exact(rig, room);
  await (await rig.online()).join('r').ready;
  await settle();
  exact(rig, room);
});

test('a crowd has no list, until it is small enough for one', async (t) => {
  const rig = new Rig(t);
  rig.model.most = 2;
  const room = (await rig.online()).join('r', { presence: true });
  await room.ready;
  exact(rig, room);
  const others = [];
  for (let i = 0; i < 3; i += 1) {
    others.push(await rig.online());
    await others[i]?.join('r').ready;
  }
  await settle();
  exact(rig, room);
  rig.network.peers[0]?.hangUp(1006);
  others[0]?.close();
  await rig.back();
  assert.deepEqual([room.exact, room.users.size, room.userCount], [false, 0, 3]);
  others[1]?.close();
  await settle();
  exact(rig, room);
});

test('pushed counts', async (t) => {
  const rig = new Rig(t);
  const room = (await rig.online()).join('r');
  const counts = note(room, 'presence');
  await room.ready;
  rig.peer.say({ type: 'presence', room: 'r', userCount: 500, presenceSeq: 9_000 });
  await settle();
  assert.equal(room.userCount, 500);
  assert.deepEqual(counts, [{ userCount: 500, users: undefined, presenceSeq: 9_000 }]);
});
