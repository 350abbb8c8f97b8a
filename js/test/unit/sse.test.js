import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { connect } from '../../src/index.js';
import '../../src/sse.js'; // so that it is there when it is wanted
import { EventServer } from '../support/events.js';
import { Network } from '../support/network.js';
import { note, outcome, settle } from '../support/rig.js';

/** @param {import('node:test').TestContext} t */
function start(t) {
  const server = new EventServer();
  mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1_700_000_000_000 });
  /** @type {import('../../src/index.js').Client[]} */ const clients = [];
  t.after(() => {
    for (const client of clients) client.close();
    mock.timers.reset();
  });
  const client = (/** @type {import('../../src/index.js').Options} */ options = {}) => {
    const made = connect('ws://test/base/ws', { transport: 'sse', fetch: server.fetch, backoff: { random: () => 1 }, ...options });
    clients.push(made);
    return made;
  };
  return { server, client };
}

/** @param {any[]} messages */
const numbers = (messages) => messages.map(({ n }) => n);

/** Streams need more turns than frames do. */
const happen = async () => {
  for (let i = 0; i < 25; i += 1) await settle();
};

const pass = async (/** @type {number} */ ms) => {
  await happen();
  for (; ms > 0; ms -= 250) {
    mock.timers.tick(Math.min(250, ms));
    await happen();
  }
};

test('rooms that are renewed: the stream goes on, at the new position', async (t) => {
  const { server, client: make } = start(t);
  const client = make();
  const [room, other] = [client.join('r', { presence: true }), client.join('s')];
  await happen();
  const [all, lost, elsewhere] = [note(room, 'chat'), note(room, 'lost'), note(other, 'lost')];
  for (let n = 1; n <= 3; n += 1) server.model.publish('r', 'u_x', { type: 'chat', n });
  await happen();
  const streams = server.streams.length;
  server.model.renew('r', { lose: 1 });
  server.model.publish('r', 'u_x', { type: 'chat', n: 4 });
  await happen();
  const { epoch } = server.model.room('r');
  assert.deepEqual([numbers(all), lost.length, elsewhere.length], [[1, 2, 3, 4], 1, 0]);
  assert.deepEqual([room.epoch, room.seq, server.streams.length], [epoch, 3, streams]);
  // Who is there has changed: the list comes with another stream, and nothing else is lost or doubled.
  server.model.room('r').users.set('u_new', 1);
  server.model.renew('r', { moved: true });
  server.model.publish('r', 'u_x', { type: 'chat', n: 5 });
  await happen();
  assert.equal(server.streams.length, streams + 1);
  assert.deepEqual([...room.users.keys()].sort(), [client.userId, 'u_new'].sort());
  assert.match(server.stream.url.searchParams.get('lastEventId') ?? '', new RegExp(`^${server.model.room('r').epoch}\\.`));
  server.model.publish('r', 'u_x', { type: 'chat', n: 6 });
  server.cut();
  server.model.publish('r', 'u_x', { type: 'chat', n: 7 });
  await pass(2_000);
  assert.deepEqual([numbers(all), lost.length, client.status], [[1, 2, 3, 4, 5, 6, 7], 2, 'online']);
});

test('a room that is renewed before the client was told that it is in', async (t) => {
  const { server, client: make } = start(t);
  for (let n = 1; n <= 3; n += 1) server.model.publish('r', 'u_x', { type: 'chat', n });
  const client = make();
  const room = client.join('r', { since: { epoch: server.model.room('r').epoch, seq: 1 } });
  const [all, lost] = [note(room, 'chat'), note(room, 'lost')];
  for (let i = 0; i < 40 && server.streams.length === 0; i += 1) await settle();
  server.model.renew('r');
  await happen();
  server.model.publish('r', 'u_x', { type: 'chat', n: 4 });
  await happen();
  assert.deepEqual([room.joined, room.epoch, room.seq], [true, server.model.room('r').epoch, 4]);
  assert.ok(numbers(all).at(-1) === 4 && new Set(numbers(all)).size === all.length, String(numbers(all)));
  assert.ok(lost.length === 1 || all.length === 3, 'all of it, or the word that it is not');
});

test('a draining server: the stream moves in its slot, to another address', async (t) => {
  const { server, client: make } = start(t);
  const client = make({ urls: ['ws://other/base/ws'] });
  const room = client.join('r');
  const all = note(room, 'chat');
  await happen();
  server.stream.say({ type: 'reconnect', after: 2_000 });
  await happen();
  server.model.publish('r', 'u_x', { type: 'chat', n: 1 });
  await pass(1_000);
  const before = server.streams.length;
  await pass(1_500);
  assert.ok(server.streams.length > before);
  assert.equal(server.stream.url.host, 'other');
  server.model.publish('r', 'u_x', { type: 'chat', n: 2 });
  await happen();
  assert.deepEqual([numbers(all), client.status], [[1, 2], 'online']);
});

test('a stream of the rooms, and posts the other way', async (t) => {
  const { server, client: make } = start(t);
  for (let n = 1; n <= 5; n += 1) server.model.publish('r', 'u_x', { type: 'chat', n });
  const client = make({ name: 'Ada' });
  const [room, other] = [client.join('r', { rewind: 2, presence: true }), client.join('s')];
  const [all, direct] = [note(room, 'chat'), note(client.me, 'note')];
  await happen();
  assert.equal(client.status, 'online');
  const { url } = server.streams[0] ?? assert.fail('no stream');
  assert.equal(url.href, 'http://test/base/sse?name=Ada&room=r&room=s&rewind=2');
  assert.deepEqual(all.map(({ n }) => n), [4, 5]);
  assert.equal(room.users.has(client.userId), true);
  assert.equal(room.exact, true);
  assert.deepEqual(await room.send({ type: 'chat', n: 6 }), { room: 'r', seq: 6, timestamp: 1_006 });
  await other.send({ type: 'chat', n: 1 });
  assert.deepEqual(server.posts.map((post) => post.room), ['r', 's']);
  await client.direct(client.userId).send({ type: 'note', n: 1 });
  await happen();
  assert.deepEqual(all.map(({ n }) => n), [4, 5, 6]);
  assert.deepEqual(direct.map(({ n }) => n), [1]);
  assert.equal(await outcome(room.history()), 'unsupported_data');
});

test('a room more or less is a new stream without a gap', async (t) => {
  const { server, client: make } = start(t);
  const client = make();
  const room = client.join('r', { presence: true });
  const [all, status] = [note(room, 'chat'), note(client, 'status')];
  await happen();
  server.model.publish('r', 'u_x', { type: 'chat', n: 1 });
  await happen();
  const before = server.streams.length;
  const [second, third] = [client.join('s', { rewind: 5 }), client.join('live:t')];
  const typing = note(third, 'typing');
  server.model.publish('r', 'u_x', { type: 'chat', n: 2 });
  await happen();
  server.model.publish('r', 'u_x', { type: 'chat', n: 3 });
  server.model.publish('live:t', 'u_x', { type: 'typing' });
  await happen();
  assert.equal(server.streams.length, before + 1, 'one stream for both');
  assert.deepEqual([second.joined, third.joined], [true, true]);
  assert.deepEqual(all.map(({ n }) => n), [1, 2, 3]);
  assert.equal(typing.length, 1);
  await second.leave();
  await happen();
  server.model.publish('r', 'u_x', { type: 'chat', n: 4 });
  await happen();
  assert.deepEqual(all.map(({ n }) => n), [1, 2, 3, 4]);
  assert.equal(server.stream.url.searchParams.getAll('room').includes('s'), false);
  assert.deepEqual(status.map((event) => event.status), ['online']);
});

test('a lost stream comes back with what was missed, and posts are not repeated', async (t) => {
  const { server, client: make } = start(t);
  const client = make();
  const [room, other] = [client.join('r', { presence: true }), client.join('s')];
  const [all, others, recovered, presence] = [note(room, 'chat'), note(other, 'chat'), note(room, 'recovered'), note(room, 'presence')];
  await happen();
  await room.send({ type: 'chat', n: 1 });
  await happen();
  server.deaf = true;
  const sent = room.send({ type: 'chat', n: 2 });
  await happen();
  assert.equal(client.status, 'offline');
  server.deaf = false;
  server.model.publish('r', 'u_x', { type: 'chat', n: 3 });
  server.model.publish('s', 'u_x', { type: 'chat', n: 1 });
  await pass(1_000);
  const ack = await sent;
  assert.deepEqual([ack?.seq, ack?.duplicate], [2, true]);
  server.model.publish('r', 'u_x', { type: 'chat', n: 4 });
  await happen();
  assert.deepEqual(all.map(({ n }) => n), [1, 2, 3, 4]);
  assert.deepEqual(others.map(({ n }) => n), [1]);
  assert.deepEqual(recovered.map(({ missed }) => missed), [2]);
  assert.ok(presence.length > 0);
  assert.deepEqual([...room.users.keys()], [client.userId]);
});

test('a server that has forgotten everything: lost, and a new session', async (t) => {
  const { server, client: make } = start(t);
  const client = make();
  const room = client.join('r');
  const [all, lost] = [note(room, 'chat'), note(room, 'lost')];
  await happen();
  await room.send({ type: 'chat', n: 1 });
  await happen();
  const { userId } = client;
  server.cut();
  server.model.forget();
  await pass(1_000);
  assert.notEqual(client.userId, userId);
  assert.equal(lost.length, 1);
  await room.send({ type: 'chat', n: 2 });
  await happen();
  assert.deepEqual(all.map(({ n }) => n), [1, 2]);
  // Between two streams, too.
  server.model.forget({ sessions: false });
  client.join('s');
  await pass(1_000);
  assert.equal(lost.length, 2);
});

test('one room that is refused does not take the others along', async (t) => {
  const { server, client: make } = start(t);
  server.model.refused.set('secret', 'forbidden');
  const client = make();
  const room = client.join('r');
  await happen();
  const more = ['a', 'secret', 'b'].map((name) => client.join(name));
  await happen();
  assert.deepEqual(await Promise.all(more.map((each) => outcome(each.ready.then(() => 'in')))), ['in', 'forbidden', 'in']);
  assert.equal(room.joined, true);
  assert.equal(client.status, 'online');
  server.model.refused.set('b', 'unknown_room');
  const [lost] = [note(client, 'error')];
  server.cut();
  await pass(5_000);
  assert.equal(client.status, 'online', 'nor at the start of a connection');
  assert.deepEqual([room.joined, lost.map((error) => [error.code, error.room])], [true, [['unknown_room', 'b']]]);
});

test('a stream is waited for until there is a room', async (t) => {
  const { server, client: make } = start(t);
  const client = make();
  await pass(30_000);
  assert.deepEqual([client.status, server.streams.length], ['connecting', 0]);
  client.join('r');
  await happen();
  assert.equal(client.status, 'online');
});

test('comments are life, and without them the stream is left', async (t) => {
  const { server, client: make } = start(t);
  const client = make();
  client.join('r');
  await happen();
  for (let i = 0; i < 4; i += 1) {
    await pass(25_000);
    server.stream.write(': hb\n\n');
    await happen();
  }
  assert.equal(client.status, 'online');
  const { streams: { length } } = server;
  await pass(50_000);
  assert.equal(client.status, 'offline');
  assert.equal(server.streams.length, length);
  assert.equal(server.stream.open, false);
});

test('refusals of the server: 401 stops, 503 waits as told', async (t) => {
  const { server, client: make } = start(t);
  let answer = new Response('{}', { status: 503, headers: { 'retry-after': '7' } });
  const client = make({ fetch: async (url, init) => (answer ? answer.clone() : server.fetch(url, init)) });
  const status = note(client, 'status');
  client.join('r');
  await happen();
  assert.deepEqual(status.at(-1), { status: 'offline', reason: 'http_503', code: 1006, retryIn: 7_000 });
  answer = new Response(JSON.stringify({ error: { code: 'unauthorized' } }), { status: 401 });
  await pass(7_000);
  assert.deepEqual(status.at(-1), { status: 'closed', reason: 'unauthorized', code: 4401 });
});

test('a post that is refused for now is sent again, whoever refuses it', async (t) => {
  const { server, client: make } = start(t);
  /** @type {Response[]} */ const answers = [
    Response.json({ error: { code: 'rate_limited', message: 'slowly', temporary: true } }, { status: 429, headers: { 'retry-after': '2' } }),
    new Response('<h1>busy</h1>', { status: 503, headers: { 'retry-after': '3' } }),
  ];
  const client = make({ fetch: async (url, init) => (init?.method === 'POST' && answers.shift()) || server.fetch(url, init) });
  const limited = note(client, 'limited');
  const room = client.join('r');
  await happen();
  const sent = [room.send({ type: 'chat', n: 1 }), room.send({ type: 'chat', n: 2 })];
  await pass(6_000);
  assert.deepEqual(limited.map(({ code, retryIn }) => [code, retryIn]), [['rate_limited', 2_000], ['http_503', 3_000]]);
  assert.deepEqual((await Promise.all(sent)).map((ack) => ack?.seq), [1, 2]);
  assert.equal(client.status, 'online');
});

test('auto: when WebSocket never opens there are events; once it did, never', async (t) => {
  const { server, client: make } = start(t);
  const network = new Network();
  network.state = 'refuse';
  const client = make({ transport: 'auto', WebSocket: network.WebSocket });
  const room = client.join('r');
  await happen();
  assert.equal(client.status, 'online');
  assert.equal((await room.send({ type: 'chat' }))?.seq, 1);
  // What worked goes first, and the other one gets its chance when it fails.
  const dialled = network.peers.length;
  server.cut();
  await pass(500);
  assert.equal(client.status, 'online');
  assert.equal(network.peers.length, dialled);
  network.onconnect = (peer) => server.model.connect(peer);
  network.state = 'up';
  server.up = false;
  server.cut();
  await pass(1_000);
  assert.equal(client.status, 'online');
  assert.equal(network.peers.length, dialled + 1);
  server.up = true;
  const streams = server.streams.length;
  network.state = 'refuse';
  network.cut();
  await pass(30_000);
  assert.equal(client.status, 'offline');
  assert.equal(server.streams.length, streams);
});
