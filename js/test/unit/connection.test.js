import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { Rig, note, outcome, settle } from '../support/rig.js';

test('the handshake names the protocol, the user and the session', async (t) => {
  const rig = new Rig(t);
  const client = rig.client({ name: 'Ada L.', ticket: async () => 'k1' }, 'http://test:8080/base/ws?x=1');
  assert.equal(client.status, 'connecting');
  await settle();
  const { peer } = rig;
  assert.equal(peer.url.href, 'ws://test:8080/base/ws?x=1&refusal=close&name=Ada+L.');
  assert.deepEqual(peer.socket.protocols, ['throng.v1', 'ticket.k1']);
  assert.equal(client.status, 'online');
  assert.equal(client.userId, 'u_1');
  await rig.blink();
  assert.notEqual(rig.peer, peer);
  assert.equal(rig.peer.token, 't1');
  assert.deepEqual(rig.peer.socket.protocols, ['throng.v1', 'resume.t1'], 'a resumed session needs no ticket');
});

test('tells its status, and where the session stands', async (t) => {
  const rig = new Rig(t);
  const client = rig.client();
  const [status, connected, back] = [note(client, 'status'), note(client, 'connected'), note(client, 'reconnect')];
  await settle();
  assert.deepEqual(status, [{ status: 'online' }]);
  assert.equal(connected[0].resumed, false);
  assert.deepEqual(back, []);
  rig.peer.hangUp(1012, 'restart');
  assert.deepEqual(status.at(-1), { status: 'offline', reason: 'restart', code: 1012, retryIn: 500 });
  await rig.pass(500);
  assert.deepEqual(status.slice(-2), [{ status: 'connecting' }, { status: 'online' }]);
  assert.deepEqual(back, [{ resumed: true }]);
  client.close();
  assert.deepEqual(status.at(-1), { status: 'closed', reason: '' });
  assert.equal(rig.peer.code, 1000);
});

test('waits longer and longer while there is no server, and afresh after a stable connection', async (t) => {
  const rig = new Rig(t);
  rig.network.state = 'refuse';
  const client = rig.client();
  const status = note(client, 'status');
  await settle();
  await rig.pass(70_000);
  const waits = () => status.filter((event) => event.status === 'offline').map((event) => event.retryIn);
  assert.deepEqual(waits().slice(0, 8), [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
  rig.network.state = 'up';
  while (client.status !== 'online') await rig.pass(1_000);
  rig.network.cut();
  assert.equal(waits().at(-1), 30_000, 'it did not last');
  await rig.pass(30_000);
  await rig.pass(5_000);
  rig.network.cut();
  assert.equal(waits().at(-1), 500);
});

test('gives up a handshake that leads to nothing', async (t) => {
  const rig = new Rig(t);
  rig.network.state = 'silent';
  const client = rig.client();
  await settle();
  await rig.pass(9_750);
  assert.equal(client.status, 'connecting');
  await rig.pass(250);
  assert.equal(client.status, 'offline');
  rig.network.state = 'up';
  await rig.pass(500);
  assert.equal(client.status, 'online');
});

for (const code of [1000, 1002, 1003, 1007, 1008, 1009, 1010, 4400, 4403, 4409]) {
  test(`stays away after ${code}, until it is told to come back`, async (t) => {
    const rig = new Rig(t);
    const client = await rig.online();
    const room = client.join('r');
    await room.ready;
    rig.peer.hangUp(code, 'because');
    assert.equal(client.status, 'closed');
    await rig.pass(120_000, 5_000);
    assert.equal(rig.network.peers.length, 1);
    assert.equal(await outcome(room.send({ type: 'chat' })), 'closed');
    assert.equal(await outcome(client.ping()), 'closed');
    client.reconnect();
    await settle();
    assert.equal(client.status, 'online');
    assert.equal(room.joined, true);
  });
}

for (const [code, least] of [[1001, 500], [1006, 500], [1011, 500], [1012, 500], [4408, 500], [4508, 500], [4512, 500], [1013, 2_000], [4429, 5_000]]) {
  test(`comes back after ${code}`, async (t) => {
    const rig = new Rig(t);
    const client = await rig.online();
    rig.peer.hangUp(code);
    await rig.pass(Number(least) - 250);
    assert.equal(client.status, 'offline');
    await rig.pass(250);
    assert.equal(client.status, 'online');
    assert.equal(rig.peer.token, 't1');
  });
}

test('4401: another ticket and another session, or none at all', async (t) => {
  const rig = new Rig(t);
  let tickets = 0;
  const client = await rig.online({ ticket: () => `k${(tickets += 1)}` });
  rig.peer.hangUp(4401, 'revoked');
  await rig.pass(500);
  assert.equal(client.status, 'online');
  assert.equal(rig.peer.token, null);
  assert.equal(rig.peer.shown('ticket'), 'k2');
  const anonymous = await rig.online();
  rig.peer.hangUp(4401);
  assert.equal(anonymous.status, 'closed');
});

test('a ticket that cannot be had is an error and another attempt', async (t) => {
  const rig = new Rig(t);
  let tickets = 0;
  const client = rig.client({
    ticket: async () => {
      tickets += 1;
      if (tickets === 1) throw new Error('no ticket today');
      return 'k';
    },
  });
  const errors = note(client, 'error');
  await settle();
  assert.equal(errors[0].message, 'no ticket today');
  assert.equal(client.status, 'offline');
  await rig.pass(500);
  assert.equal(client.status, 'online');
});

test('a session too old to resume takes a ticket along', async (t) => {
  const rig = new Rig(t);
  let tickets = 0;
  await rig.online({ ticket: () => `k${(tickets += 1)}` });
  rig.network.state = 'silent';
  rig.network.cut();
  await rig.sleep(130_000);
  rig.network.state = 'up';
  await rig.pass(30_000);
  assert.equal(rig.peer.token, 't1');
  assert.equal(rig.peer.shown('ticket'), 'k2');
});

test('a draining server gives a slot: not before, and at once then', async (t) => {
  const rig = new Rig(t);
  const client = await rig.online();
  const first = rig.peer;
  first.say({ type: 'reconnect', after: 4_000 });
  await settle();
  await rig.pass(1_000);
  first.hangUp(1012);
  await rig.pass(2_750);
  assert.equal(rig.network.peers.length, 1);
  await rig.pass(250);
  assert.equal(client.status, 'online');
  // And when the server does not hang up itself:
  rig.peer.say({ type: 'reconnect', after: 1_000 });
  await settle();
  const second = rig.peer;
  await rig.pass(750);
  assert.equal(rig.peer, second);
  await rig.pass(250);
  assert.notEqual(rig.peer, second);
  assert.ok(second.code !== undefined && second.code !== 1000 && second.code !== 1001, 'no farewell: the user stays present');
  assert.equal(client.status, 'online');
});

test('retryAfter of an error holds the next attempt up', async (t) => {
  const rig = new Rig(t);
  const client = await rig.online();
  const errors = note(client, 'error');
  rig.peer.say({ type: 'error', code: 'overloaded', message: 'full', temporary: true, retryAfter: 7_000 });
  await settle();
  assert.equal(errors[0].retryAfter, 7_000);
  rig.peer.hangUp(1013);
  await rig.pass(6_750);
  assert.equal(client.status, 'offline');
  await rig.pass(250);
  assert.equal(client.status, 'online');
});

test('a silent server is asked after one heartbeat and left after two', async (t) => {
  const rig = new Rig(t);
  const client = await rig.online();
  const { peer } = rig;
  peer.onframe = () => {};
  await rig.pass(24_750);
  assert.equal(peer.all('ping').length, 0);
  await rig.pass(250);
  assert.equal(peer.all('ping').length, 1);
  await rig.pass(24_750);
  assert.equal(client.status, 'online');
  await rig.pass(250);
  assert.equal(client.status, 'offline');
  assert.equal(peer.code, 4000);
});

test('any frame is life: an answer of the last moment keeps the connection', async (t) => {
  const rig = new Rig(t);
  const client = await rig.online();
  const { peer } = rig;
  peer.onframe = () => {};
  for (let i = 0; i < 5; i += 1) {
    await rig.pass(49_750);
    peer.say(i % 2 ? { type: 'pong' } : { type: 'chat', room: 'elsewhere' });
    await settle();
  }
  assert.equal(client.status, 'online');
  assert.equal(rig.network.peers.length, 1);
});

test('a page that slept asks before it believes the connection dead', async (t) => {
  const rig = new Rig(t);
  const client = await rig.online();
  await rig.sleep(3_600_000);
  mock.timers.tick(1); // the timer is an hour late
  await settle();
  assert.equal(rig.peer.all('ping').length, 1);
  await rig.pass(6_000);
  assert.equal(client.status, 'online', 'the server had answered');
  // Asleep with a ping on its way: the pong may still wait in the socket.
  rig.peer.onframe = () => {};
  await rig.pass(26_000);
  assert.equal(rig.peer.all('ping').length, 2);
  await rig.sleep(3_600_000);
  mock.timers.tick(1);
  await settle();
  assert.equal(client.status, 'online', 'a late timer alone proves nothing');
  assert.equal(rig.peer.all('ping').length, 3);
  await rig.pass(4_750);
  assert.equal(client.status, 'online');
  await rig.pass(250);
  assert.equal(client.status, 'offline', 'but silence after it does');
});

test('a throttled page, whose timers are all late, still finds a dead server', async (t) => {
  const rig = new Rig(t);
  const client = await rig.online();
  rig.peer.onframe = () => {};
  rig.network.state = 'silent';
  for (let minute = 0; minute < 4; minute += 1) {
    await rig.sleep(60_000);
    mock.timers.tick(1);
    await settle();
  }
  assert.notEqual(client.status, 'online');
});

test('the network and the page wake the client', async (t) => {
  const browser = new EventTarget();
  const page = Object.assign(new EventTarget(), { visibilityState: 'visible' });
  const globals = /** @type {any} */ (globalThis);
  globals.addEventListener = browser.addEventListener.bind(browser);
  globals.removeEventListener = browser.removeEventListener.bind(browser);
  globals.document = page;
  t.after(() => {
    delete globals.addEventListener;
    delete globals.removeEventListener;
    delete globals.document;
  });
  const rig = new Rig(t);
  const client = await rig.online();
  rig.network.state = 'refuse';
  rig.network.cut();
  await rig.pass(20_000);
  assert.equal(client.status, 'offline');
  rig.network.state = 'up';
  browser.dispatchEvent(new Event('online'));
  await settle();
  assert.equal(client.status, 'online', 'no more waiting');

  // "offline" is a suspicion: the server is asked, with little patience.
  browser.dispatchEvent(new Event('offline'));
  await rig.pass(5_500);
  assert.equal(client.status, 'online');
  const { peer } = rig;
  assert.equal(peer.all('ping').length, 1);
  peer.onframe = () => {};
  browser.dispatchEvent(new Event('offline'));
  browser.dispatchEvent(new Event('offline'));
  await settle();
  assert.equal(peer.all('ping').length, 2, 'one question at a time');
  await rig.pass(5_000);
  assert.notEqual(rig.peer, undefined);
  assert.equal(peer.code, 4000);

  await rig.pass(500);
  assert.equal(client.status, 'online');
  page.visibilityState = 'hidden';
  page.dispatchEvent(new Event('visibilitychange'));
  await settle();
  assert.equal(rig.peer.all('ping').length, 0);
  page.visibilityState = 'visible';
  page.dispatchEvent(new Event('visibilitychange'));
  await settle();
  assert.equal(rig.peer.all('ping').length, 1);

  // A slot the server gave is not ours to shorten.
  rig.peer.say({ type: 'reconnect', after: 10_000 });
  await settle();
  rig.peer.hangUp(1012);
  browser.dispatchEvent(new Event('online'));
  browser.dispatchEvent(new Event('pageshow'));
  await settle();
  assert.equal(client.status, 'offline');
  await rig.pass(10_000);
  assert.equal(client.status, 'online');

  client.close();
  browser.dispatchEvent(new Event('online'));
  await settle();
  assert.equal(client.status, 'closed', 'a closed client sleeps well');
});

test('a heartbeat of the server is taken over', async (t) => {
  const rig = new Rig(t);
  rig.model.heartbeat = 4_000;
  await rig.online();
  await rig.pass(4_000);
  assert.equal(rig.peer.all('ping').length, 1);
});

test('frames of an older connection, and what is no frame, change nothing', async (t) => {
  const rig = new Rig(t);
  const client = await rig.online();
  const [messages, old] = [note(client, 'message'), rig.peer];
  const { onmessage, onclose } = old.socket;
  const room = client.join('r');
  await room.ready;
  await rig.blink();
  onmessage?.({ data: JSON.stringify({ type: 'chat', room: 'r', seq: 1 }) });
  onclose?.({ code: 1000, reason: '' });
  for (const data of ['', 'nonsense', 'null', '7', '[]', '{}', '{"type":7}', '"chat"']) rig.peer.socket.onmessage?.({ data });
  await settle();
  assert.deepEqual(messages, []);
  assert.equal(client.status, 'online');
});

test('a constructor that throws is an attempt that failed', async (t) => {
  const rig = new Rig(t);
  const client = rig.client({ WebSocket: class { constructor() { throw new SyntaxError('no such address'); } } });
  const errors = note(client, 'error');
  await settle();
  assert.equal(client.status, 'offline');
  assert.equal(errors[0].message, 'no such address');
});

test('close during each stage of an attempt leaves nothing behind', async (t) => {
  const rig = new Rig(t);
  const early = rig.client();
  early.close();
  await settle();
  assert.equal(rig.network.peers.length, 0);
  rig.network.state = 'silent';
  const dialling = rig.client();
  await settle();
  dialling.close();
  await rig.pass(20_000);
  rig.network.state = 'refuse';
  const waiting = rig.client();
  await settle();
  waiting.close();
  waiting.close();
  const dialled = rig.network.peers.length;
  await rig.pass(60_000, 1_000);
  assert.equal(rig.network.peers.length, dialled);
  for (const client of [early, dialling, waiting]) assert.equal(client.status, 'closed');
});

test('ping measures the way there and back, and survives a loss', async (t) => {
  const rig = new Rig(t);
  const client = await rig.online();
  rig.network.manual = true;
  const time = client.ping();
  await rig.pass(1_000);
  rig.peer.flush();
  rig.peer.flush();
  assert.equal(await time, 1_000);
  const again = client.ping();
  rig.network.manual = false;
  await rig.pass(2_000);
  await rig.blink();
  assert.equal(await again, 0, 'counted from the second question');
  rig.peer.onframe = () => {};
  const late = outcome(client.ping());
  await rig.pass(30_000);
  assert.equal(await late, 'timeout');
});
