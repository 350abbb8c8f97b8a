// Two nodes with one Redis behind them.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { note } from '../support/rig.js';
import { Redis, Server, client, is, until } from '../support/server.js';

const NO_REDIS = 'redis-server is not installed';

/** @param {any[]} messages */
const numbers = (messages) => messages.map(({ n }) => n);

test('Redis goes and comes back without its data: messages are held, and everybody is told what is lost', async (t) => {
  const redis = await Redis.start(t);
  if (!redis) return t.skip(NO_REDIS);
  const nodes = [await Server.start(t, { redis }), await Server.start(t, { redis })];
  const clients = nodes.map((node) => client(t, node));
  const rooms = clients.map((own) => own.join('r', { presence: true }));
  const heard = rooms.map((room) => note(room, 'chat'));
  const lost = rooms.map((room) => note(room, 'lost'));
  await Promise.all(rooms.map((room) => room.ready));
  for (const n of [1, 2, 3]) await rooms[n % 2]?.send({ type: 'chat', n });
  await until(() => heard.every((own) => own.length === 3), 'all to hear all');
  const before = rooms.map(({ epoch, seq }) => ({ epoch, seq }));
  assert.deepEqual(before[0], before[1], 'one order');

  await redis.kill();
  const sent = rooms.map((room, i) => room.send({ type: 'chat', n: 4 + i }));
  await until(() => rooms[0]?.history().then(() => false, ({ code, temporary }) => code === 'unavailable' && temporary), 'the past to be unavailable');
  assert.deepEqual(clients.map(({ status, pending }) => [status, pending.length]), [['online', 1], ['online', 1]]);
  await redis.start();
  const acks = await Promise.all(sent);
  await until(() => heard.every((own) => own.length === 5), 'what was held to be heard');
  assert.deepEqual(acks.map((ack) => ack?.seq).sort(), [1, 2], 'numbers begin again');
  assert.deepEqual(heard[0], heard[1], 'in one order again');
  assert.deepEqual(numbers(heard[0] ?? []).sort(), [1, 2, 3, 4, 5]);
  for (const [i, room] of rooms.entries()) {
    assert.deepEqual(lost[i]?.map(({ since }) => since), [before[i]], 'told once');
    assert.notEqual(room.epoch, before[i]?.epoch);
  }
  const here = clients.map(({ userId }) => userId).sort();
  await until(() => rooms.every((room) => room.exact && [...room.users.keys()].sort().join() === here.join()), 'presence to be exact');
});

test('a node is stopped: its clients go to another one in their slots, and lose nothing', async (t) => {
  const redis = await Redis.start(t);
  if (!redis) return t.skip(NO_REDIS);
  const args = ['--set', 'cluster.drain_spread=1s'];
  const [first, second] = [await Server.start(t, { redis, args }), await Server.start(t, { redis, args })];
  const urls = [`ws://127.0.0.1:${second.port}/ws`];
  const movers = [client(t, first, { urls }), client(t, first, { urls, transport: 'sse' })];
  const steady = client(t, second);
  const rooms = [...movers, steady].map((own) => own.join('r', { presence: true }));
  const heard = rooms.map((room) => note(room, 'chat'));
  const lost = rooms.flatMap((room) => note(room, 'lost'));
  await Promise.all(rooms.map((room) => room.ready));
  const sessions = movers.map(({ sessionId }) => sessionId);
  const moved = movers.map((own) => note(own, 'reconnect'));

  first.stop();
  /** @type {Promise<any>[]} */ const acks = [];
  for (let n = 0; n < 60 || moved.some((events) => events.length === 0); n += 1) {
    acks.push(/** @type {any} */ (rooms[n % 3]).send({ type: 'chat', n }));
    await new Promise((resolve) => { setTimeout(resolve, 50); });
    assert.ok(n < 1_000, 'they move');
  }
  await Promise.all(acks);
  for (const own of movers) await is(own, 'online');
  await until(() => heard.every((own) => own.length >= acks.length), 'all to hear all');
  assert.deepEqual(numbers(heard[2] ?? []).sort((a, b) => a - b), acks.map((_, n) => n), 'each once');
  for (const own of heard) assert.deepEqual(numbers(own), numbers(heard[2] ?? []), 'in one order');
  assert.deepEqual(lost, []);
  assert.deepEqual(movers.map(({ sessionId }) => sessionId), sessions, 'as who they were');
});
