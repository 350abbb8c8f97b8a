import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { connect } from '../../src/index.js';
import '../../src/renewal.js'; // so that it is there when it is wanted
import '../../src/sse.js';
import { EventServer } from '../support/events.js';
import { Rig, note, outcome, settle } from '../support/rig.js';

/** Everything that needs no time, an import too. */
const happen = async () => {
  for (let i = 0; i < 25; i += 1) await settle();
};

/**
 * A server that lets nobody in without a ticket, and who gives them.
 * @param {import('node:test').TestContext} t
 */
function guarded(t) {
  const rig = new Rig(t);
  rig.model.now = Date.now() - 3_600_000; // its clock is an hour behind ours
  const { visas } = Object.assign(rig.model, { visas: new Map() });
  const desk = {
    /** What the provider was asked. @type {boolean[]} */ asked: [],
    /** Until when the next one is good. @type {number | undefined} */ expiresAt: undefined,
    /** How many there are. */ left: Infinity,
    user: 'ada',
    /** @param {{ refresh?: boolean }} wanted */
    ticket: async ({ refresh = false }) => {
      desk.asked.push(refresh);
      if (desk.asked.length > desk.left) return undefined;
      const ticket = `t_${desk.asked.length}`;
      visas.set(ticket, { userId: desk.user, expiresAt: desk.expiresAt });
      return ticket;
    },
  };
  return { rig, desk, visas };
}

test('a ticket and a token are subprotocols, which no log has; what cannot be one is in the query', async (t) => {
  const rig = new Rig(t);
  const shown = async (/** @type {import('../../src/index.js').Options} */ options) => {
    await rig.online(options);
    const url = new URL(rig.peer.url);
    assert.equal(url.searchParams.get('refusal'), 'close', 'a page is not shown the status of a handshake');
    url.searchParams.delete('refusal');
    return [rig.peer.socket.protocols, url.search];
  };
  assert.deepEqual(await shown({ ticket: () => 't_abc2' }), [['throng.v1', 'ticket.t_abc2'], '']);
  assert.deepEqual(await shown({ token: 'eyJh.eyJz-_.c2ln' }), [['throng.v1', 'token.eyJh.eyJz-_.c2ln'], '']);
  assert.deepEqual(await shown({ token: async () => 'from a cookie, "quoted"' }), [['throng.v1'], '?token=from+a+cookie%2C+%22quoted%22']);
  assert.deepEqual(await shown({ token: 'a,b', ticket: () => 'c/d' }), [['throng.v1'], '?ticket=c%2Fd&token=a%2Cb']);
  const [long, longer] = ['x'.repeat(1_900), 'x'.repeat(1_901)];
  assert.deepEqual(await shown({ token: long }), [['throng.v1', `token.${long}`], '']);
  assert.deepEqual(await shown({ token: longer }), [['throng.v1'], `?token=${longer}`], 'a server reads only so much of the header');
  assert.deepEqual(await shown({}), [['throng.v1'], '']);
});

test('a ticket opens one session, which is resumed without another', async (t) => {
  const { rig, desk, visas } = guarded(t);
  const client = await rig.online({ ticket: desk.ticket });
  assert.deepEqual([client.status, client.userId, visas.size], ['online', 'ada', 0]);
  await rig.blink();
  assert.deepEqual([client.status, client.userId, rig.peer.token, desk.asked], ['online', 'ada', 't1', [false]]);
});

test('4401: another ticket first; without one we are signed out, and told why', async (t) => {
  const { rig, desk } = guarded(t);
  desk.left = 2;
  const client = await rig.online({ ticket: desk.ticket });
  const [status, signedout] = [note(client, 'status'), note(client, 'signedout')];
  const room = client.join('r');
  await room.ready;
  rig.peer.hangUp(4401, 'session expired');
  await rig.pass(500);
  assert.deepEqual([client.status, room.joined, desk.asked.length, signedout.length], ['online', true, 2, 0]);
  rig.peer.hangUp(4401, 'session revoked');
  const waiting = outcome(room.send({ type: 'chat' }));
  assert.deepEqual(status.at(-1), { status: 'offline', reason: 'session revoked', code: 4401, retryIn: 1_000 });
  await rig.pass(1_000);
  assert.deepEqual(status.at(-1), { status: 'closed', reason: 'no ticket', code: 4401 });
  assert.deepEqual(signedout.map(({ reason }) => reason), ['no ticket']);
  assert.equal(await waiting, 'closed');
  desk.left = Infinity;
  client.reconnect();
  await settle();
  assert.deepEqual([client.status, room.joined], ['online', true]);
});

test('4401 without a provider: the reason, and no more attempts', async (t) => {
  for (const options of [{}, { token: 'jwt' }]) {
    const rig = new Rig(t);
    const client = await rig.online(options);
    const signedout = note(client, 'signedout');
    rig.peer.hangUp(4401, 'session revoked');
    await rig.pass(60_000, 1_000);
    assert.deepEqual([client.status, signedout, rig.network.peers.length], ['closed', [{ status: 'closed', reason: 'session revoked', code: 4401 }], 1]);
    mock.timers.reset();
  }
});

test('a token function is asked again after 4401', async (t) => {
  const { rig, visas } = guarded(t);
  visas.set('jwt1', { userId: 'ada' }).set('jwt2', { userId: 'ada' });
  let count = 0;
  const client = await rig.online({ token: () => `jwt${(count += 1)}` });
  assert.equal(rig.peer.shown('token'), 'jwt1');
  rig.peer.hangUp(4401, 'session expired');
  await rig.pass(500);
  assert.deepEqual([client.status, rig.peer.shown('token'), rig.peer.token], ['online', 'jwt2', null]);
});

test('4403 and 4429: never again, and not too soon; both say why', async (t) => {
  const rig = new Rig(t);
  const client = await rig.online();
  const status = note(client, 'status');
  rig.peer.hangUp(4429, 'too many messages');
  const { retryIn, reason } = status.at(-1);
  assert.ok(retryIn >= 5_000, String(retryIn));
  assert.equal(reason, 'too many messages');
  await rig.pass(5_000);
  assert.equal(client.status, 'online');
  rig.peer.hangUp(4403, 'banned: spam');
  assert.deepEqual(status.at(-1), { status: 'closed', reason: 'banned: spam', code: 4403 });
});

test('a session that is gone is not replaced by one of nobody', async (t) => {
  const { rig, desk } = guarded(t);
  const client = await rig.online({ ticket: desk.ticket });
  const connected = note(client, 'connected');
  const room = client.join('r');
  await room.ready;
  rig.model.forget({ rooms: false });
  rig.model.visas = undefined; // who has lost his session is let in as anybody is
  rig.network.cut();
  await rig.pass(500);
  assert.deepEqual([client.userId, connected], ['ada', []], 'not even for a moment');
  rig.model.visas = new Map([['t_2', { userId: 'ada' }]]);
  await rig.back();
  assert.deepEqual([client.status, client.userId, desk.asked, room.joined], ['online', 'ada', [false, false], true]);
});

test('authenticate: rights and expiry in place, of the same user only', async (t) => {
  const { rig, desk, visas } = guarded(t);
  const client = await rig.online({ ticket: desk.ticket, refresh: false });
  assert.equal(client.expiresAt, 0);
  const { now } = rig.model;
  visas.set('mine', { userId: 'ada', expiresAt: now + 60_000 }).set('theirs', { userId: 'bo' });
  assert.deepEqual(await client.authenticate('mine'), { expiresAt: now + 60_000 });
  assert.equal(client.expiresAt, Date.now() + 60_000, 'by our clock');
  assert.equal(await outcome(client.authenticate('mine')), 'unauthorized', 'once');
  assert.equal(await outcome(client.authenticate('theirs')), 'unauthorized');
  assert.deepEqual([client.status, client.expiresAt], ['online', Date.now() + 60_000], 'the old one stays');
  rig.peer.onframe = () => {};
  const lost = outcome(client.authenticate('x'));
  rig.network.cut();
  assert.equal(await lost, 'uncertain');
  assert.equal(await outcome(client.authenticate('x')), 'unavailable');
});

test('a session is renewed a minute before it expires, and stays the same', async (t) => {
  const { rig, desk } = guarded(t);
  desk.expiresAt = rig.model.now + 600_000;
  const client = await rig.online({ ticket: desk.ticket });
  await happen();
  assert.equal(client.expiresAt, Date.now() + 600_000);
  const { peer } = rig;
  await rig.pass(539_750, 4_750);
  assert.deepEqual(desk.asked, [false]);
  desk.expiresAt = rig.model.now + 1_200_000;
  await rig.pass(250);
  assert.deepEqual([desk.asked, peer.all('auth').map(({ ticket }) => ticket)], [[false, true], ['t_2']]);
  assert.deepEqual([client.status, rig.peer === peer], ['online', true]);
  await rig.pass(599_750, 4_750);
  assert.equal(desk.asked.length, 2);
  client.close();
  await happen();
  await rig.pass(60_000, 5_000);
  assert.equal(desk.asked.length, 2, 'a closed client renews nothing');
});

test('when it cannot be renewed it is tried again, ever sooner, until it ends', async (t) => {
  const { rig, desk } = guarded(t);
  desk.expiresAt = rig.model.now + 64_000;
  desk.left = 1;
  const client = await rig.online({ ticket: desk.ticket, refresh: 32_000 });
  await happen();
  await rig.pass(63_000, 500);
  assert.deepEqual(desk.asked, [false, true, true, true, true, true, true], 'after 32, 48, 56, 60, 62, 63 seconds');
  assert.equal(client.status, 'online');
});

test('a token renews a session, too', async (t) => {
  const { rig, visas } = guarded(t);
  const { now } = rig.model;
  visas.set('j1', { userId: 'ada', expiresAt: now + 10_000 }).set('j2', { userId: 'ada', expiresAt: now + 90_000 });
  let count = 0;
  const client = await rig.online({ token: () => `j${(count += 1)}` });
  await happen();
  await rig.pass(5_000);
  assert.deepEqual([rig.peer.last('auth').token, client.expiresAt - Date.now()], ['j2', 85_000]);
  const fixed = await rig.online({ token: 'j1' });
  await happen();
  await rig.pass(5_000);
  assert.deepEqual([fixed.status, rig.peer.all('auth')], ['online', []], 'the same one again would change nothing');
});

test('a renewal that is refused is an error and no more', async (t) => {
  const { rig, desk } = guarded(t);
  desk.expiresAt = rig.model.now + 10_000;
  const client = await rig.online({ ticket: desk.ticket });
  await happen();
  const errors = note(client, 'error');
  desk.user = 'bo';
  await rig.pass(5_000);
  assert.deepEqual([errors.map(({ code }) => code), client.status, client.userId], [['unauthorized'], 'online', 'ada']);
});

test('refresh: false, and a session without an end: nothing is asked', async (t) => {
  const { rig, desk } = guarded(t);
  await rig.online({ ticket: desk.ticket });
  desk.expiresAt = rig.model.now + 10_000;
  await rig.online({ ticket: desk.ticket, refresh: false });
  await happen();
  await rig.pass(20_000, 500);
  assert.deepEqual(desk.asked, [false, false]);
});

test('put out of a room: it is over, and says why', async (t) => {
  const rig = new Rig(t);
  const client = await rig.online();
  const [room, other] = [client.join('r'), client.join('s')];
  await other.ready;
  const [errors, all] = [note(room, 'error'), note(room, '*')];
  rig.peer.say({ type: 'error', room: 'r', code: 'forbidden', message: 'You were removed from this room.', temporary: false });
  await settle();
  assert.equal(room.joined, true, 'a complaint alone may be about a volatile message');
  rig.peer.say({ type: 'left', room: 'r' });
  rig.peer.say({ type: 'chat', room: 'r', from: 'u_x', seq: 1, timestamp: 1 });
  await settle();
  assert.deepEqual(errors.map(({ code, message }) => [code, message]), [['forbidden', 'You were removed from this room.']]);
  assert.deepEqual([room.joined, other.joined, all, client.status], [false, true, [], 'online']);
  assert.equal(await outcome(room.send({ type: 'chat' })), 'not_joined');
  await rig.blink();
  assert.deepEqual(Object.keys(rig.peer.last('resume').rooms).sort(), [client.me.name, 's'], 'nor is it asked for again');
});

test('rate limits: the outbox waits and sends again, in order, nothing lost, nothing twice', async (t) => {
  const rig = new Rig(t);
  const client = await rig.online();
  const room = client.join('r');
  const limited = note(client, 'limited');
  await room.ready;
  let [tokens, at, refusals] = [100, Date.now(), 0];
  rig.model.gate = () => {
    tokens = Math.min(100, tokens + (Date.now() - at) / 5);
    at = Date.now();
    if (tokens >= 1) {
      tokens -= 1;
      return undefined;
    }
    refusals += 1;
    return { code: 'rate_limited', temporary: true, retryAfter: 5 };
  };
  const sent = Array.from({ length: 520 }, (_, n) => room.send({ type: 'chat', n }));
  await rig.pass(10_000, 100);
  const seqs = (await Promise.all(sent)).map((ack) => ack?.seq);
  assert.deepEqual(seqs, Array.from({ length: 520 }, (_, n) => n + 1));
  assert.equal(client.pending.length, 0);
  assert.ok(limited.length > 0 && limited.every(({ room: name, code, retryIn }) => name === 'r' && code === 'rate_limited' && retryIn >= 5));
  assert.ok(refusals < 120, `${refusals} refusals for 420 messages too many`);
});

test('events: a token or ticket is a header, and is shown once', async (t) => {
  const server = new EventServer();
  mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1_700_000_000_000 });
  t.after(() => mock.timers.reset());
  server.model.visas = new Map([['jwt', { userId: 'ada' }], ['t_1', { userId: 'bo' }]]);
  const make = (/** @type {import('../../src/index.js').Options} */ options) => {
    const client = connect('ws://test/ws', { transport: 'sse', fetch: server.fetch, ...options });
    t.after(() => client.close());
    client.join('r');
    return client;
  };
  const ada = make({ token: 'jwt' });
  await happen();
  assert.deepEqual([ada.userId, server.streams[0]?.bearer, server.streams[0]?.url.search], ['ada', 'jwt', '?room=r']);
  const bo = make({ ticket: () => 't_1' });
  await happen();
  assert.deepEqual([bo.userId, bo.status, server.stream.bearer, server.stream.url.searchParams.get('ticket')], ['bo', 'online', null, null]);
  assert.equal(await outcome(bo.authenticate('t_2')), 'unsupported_data');
  const nobody = make({});
  const signedout = note(nobody, 'signedout');
  await happen();
  assert.deepEqual([nobody.status, signedout.length], ['closed', 1]);
});
