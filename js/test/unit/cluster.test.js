// What several nodes with one storage behind them bring about.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { dice } from '../support/dice.js';
import { Rig, note, outcome, settle } from '../support/rig.js';

/** @param {any[]} messages */
const numbers = (messages) => messages.map(({ n }) => n);

/** @param {Rig} rig @param {string} room */
const published = (rig, room = 'r') => numbers(rig.model.room(room).log);

/** Publishes by somebody else. @param {Rig} rig @param {number[]} list @param {string} name */
const say = (rig, list, name = 'r') => list.forEach((n) => rig.model.publish(name, 'u_x', { type: 'chat', n }));

/** The storage is away: everything is refused. */
const away = () => ({ code: 'unavailable', temporary: true, retryAfter: 1_000 });

test('a room that is renewed goes on from where the server says, and tells what is lost', async (t) => {
  const rig = new Rig(t);
  const client = await rig.online();
  const room = client.join('r');
  await room.ready;
  const all = note(room, 'chat');
  const [joined, lost, recovered] = [note(room, 'joined'), note(room, 'lost'), note(room, 'recovered')];
  say(rig, [1, 2, 3, 4]);
  await settle();
  const since = { epoch: room.epoch, seq: 4 };
  rig.model.renew('r', { lose: 1 });
  say(rig, [5, 6]);
  await settle();
  const { epoch } = rig.model.room('r');
  assert.notEqual(epoch, since.epoch);
  assert.deepEqual(lost, [{ epoch, seq: 3, since }]);
  assert.deepEqual(joined, [{ epoch, seq: 3, recovered: false, userCount: 1 }]);
  assert.deepEqual([room.epoch, room.seq], [epoch, 5]);
  assert.deepEqual(numbers(all), [1, 2, 3, 4, 5, 6], 'the new one of a number is no repetition of the old one');
  assert.equal(rig.network.peers.length, 1, 'on the same connection');
  // The position is good for what follows.
  say(rig, []);
  rig.network.cut();
  say(rig, [7]);
  await rig.back();
  assert.deepEqual(numbers(all), [1, 2, 3, 4, 5, 6, 7]);
  assert.deepEqual([recovered.length, lost.length], [1, 1]);
});

test('all rooms of a frame are renewed, one’s own too; others and nonsense are not', async (t) => {
  const rig = new Rig(t);
  const client = await rig.online();
  const [a, b, left] = [client.join('a'), client.join('b'), client.join('left')];
  await left.ready;
  await left.leave();
  const [direct, errors] = [note(client.me, 'note'), note(client, 'error')];
  const rooms = [a, b, client.me];
  const lost = [...rooms, left].map((room) => note(room, 'lost'));
  const place = { recovered: false, epoch: 'e_new', seq: 40, userCount: 1, presenceSeq: 9 };
  const named = Object.fromEntries([...rooms, left].map(({ name }) => [name, place]));
  rig.peer.say({ type: 'resumed', rooms: { ...named, nowhere: place, constructor: place, wrong: { error: 'unavailable' } } });
  rig.peer.say({ type: 'resumed', rooms: { a: { error: 'unavailable' } } });
  rig.peer.say({ type: 'resumed' });
  await settle();
  assert.deepEqual(rooms.map(({ epoch, seq }) => [epoch, seq]), rooms.map(() => ['e_new', 40]));
  assert.deepEqual(lost.map((events) => events.length), [1, 1, 1, 0]);
  rig.peer.say({ type: 'note', room: client.me.name, from: 'u_x', seq: 41, timestamp: 1, n: 41 });
  await settle();
  assert.deepEqual(numbers(direct), [41]);
  // A room that is not in yet is not moved by what is said of it.
  rig.network.manual = true;
  const late = client.join('late', { since: { epoch: 'e_old', seq: 3 } });
  await settle();
  rig.peer.say({ type: 'resumed', rooms: { late: place } });
  rig.peer.flush(0, 1);
  await settle();
  assert.deepEqual([late.joined, late.epoch, late.seq], [false, 'e_old', 3]);
  assert.deepEqual(errors, []);
});

test('presence is asked for once after a renewal, if it is wanted and has changed', async (t) => {
  const rig = new Rig(t);
  const client = await rig.online();
  const [room, plain] = [client.join('r', { presence: true }), client.join('plain')];
  await plain.ready;
  const asked = () => rig.peer.all('presence').length;
  rig.model.renew('r');
  rig.model.renew('plain', { moved: true });
  await settle();
  assert.equal(asked(), 0, 'nothing has changed, or nobody wants to know');
  const other = await rig.online();
  await other.join('r').ready;
  await settle();
  const peer = /** @type {import('../support/network.js').Peer} */ (rig.network.peers[0]);
  const lists = note(room, 'presence');
  // Somebody has gone, and the word of it is lost.
  const place = rig.model.room('r');
  place.users.delete(other.userId);
  rig.model.renew('r', { moved: true });
  await settle();
  assert.equal(peer.all('presence').length, 1);
  assert.deepEqual([[...room.users.keys()], room.exact, room.userCount, lists.length], [[client.userId], true, 1, 1]);
  // The list cannot be had at the moment: it is asked for again.
  const refuse = (/** @type {import('../support/network.js').Frame} */ frame) => {
    peer.say({ type: 'error', ref: frame.ref, room: 'r', code: 'unavailable', message: 'no', temporary: true, retryAfter: 2_000 });
  };
  const { onframe } = peer;
  let refusals = 0;
  peer.onframe = (frame) => {
    if (frame.type !== 'presence' || refusals === 2) return onframe(frame);
    refusals += 1;
    return refuse(frame);
  };
  place.users.set('u_new', 1);
  rig.model.renew('r', { moved: true });
  await settle();
  await rig.pass(1_750);
  assert.equal(refusals, 1);
  await rig.pass(2_500);
  assert.equal(refusals, 2);
  assert.deepEqual([...room.users.keys()].sort(), [client.userId, 'u_new'].sort());
});

test('what waits in the outbox survives a renewal, and what was sent is published once', async (t) => {
  const rig = new Rig(t);
  const client = await rig.online();
  const room = client.join('r');
  await room.ready;
  const all = note(room, 'chat');
  rig.model.gate = away;
  const sent = [1, 2, 3].map((n) => room.send({ type: 'chat', n }));
  await settle();
  rig.model.gate = () => undefined;
  rig.model.renew('r');
  await settle();
  assert.deepEqual(client.pending.map(({ message }) => message.n), [1, 2, 3]);
  await rig.pass(2_000);
  assert.deepEqual((await Promise.all(sent)).map((ack) => ack?.seq), [1, 2, 3]);
  assert.deepEqual([published(rig), numbers(all)], [[1, 2, 3], [1, 2, 3]]);
});

test('numbers begin again in a room without one’s own messages: none of the new ones is taken for an old one', async (t) => {
  const rig = new Rig(t);
  const client = await rig.online();
  const room = client.join('r', { echo: false });
  await room.ready;
  const all = note(room, 'chat');
  rig.network.manual = true;
  say(rig, [1, 2]);
  const own = room.send({ type: 'chat', n: 3 });
  await settle();
  rig.peer.flush(1, 0);
  // The answer overtakes what was said before it.
  const { ref } = rig.peer.last('chat');
  rig.network.manual = false;
  rig.peer.say({ type: 'ack', ref, room: 'r', seq: 3, timestamp: 1 });
  await own;
  rig.model.renew('r', { lose: 3 });
  say(rig, [4, 5, 6, 7]);
  await settle();
  assert.deepEqual(numbers(all).slice(-4), [4, 5, 6, 7]);
});

test('the storage is away: messages are held, and sent in their order when it is back', async (t) => {
  const rig = new Rig(t);
  const client = await rig.online({ outboxSize: 8 });
  const [room, live] = [client.join('r'), client.join('live:r')];
  await live.ready;
  const limits = note(client, 'limited');
  let refusals = 0;
  rig.model.gate = ({ room: name }) => {
    if (name !== 'r') return undefined;
    refusals += 1;
    return away();
  };
  const sent = [1, 2, 3, 4, 5].map((n) => outcome(room.send({ type: 'chat', n })));
  await rig.pass(750);
  assert.equal(refusals, 5, 'all were on their way');
  assert.ok(limits.length > 0 && limits.every(({ room: name, code, retryIn }) => name === 'r' && code === 'unavailable' && retryIn >= 1_000));
  await live.send({ type: 'move' });
  const later = [6, 7, 8].map((n) => outcome(room.send({ type: 'chat', n })));
  assert.equal(await outcome(room.send({ type: 'chat', n: 9 })), 'overloaded', 'no more than fits');
  assert.equal(refusals, 5, 'not before its time');
  // Then one at a time, ever more seldom, for as long as it takes.
  await rig.pass(120_000);
  assert.ok(refusals > 6 && refusals < 20, `asked ${refusals} times in two minutes`);
  assert.equal(client.status, 'online');
  assert.deepEqual(client.pending.map(({ message }) => message.n), [1, 2, 3, 4, 5, 6, 7, 8]);
  rig.model.gate = () => undefined;
  await rig.pass(31_000);
  assert.deepEqual((await Promise.all([...sent, ...later])).map(({ seq }) => seq), [1, 2, 3, 4, 5, 6, 7, 8]);
  assert.deepEqual(published(rig), [1, 2, 3, 4, 5, 6, 7, 8]);
});

test('refused, and yet stored: the same number is sent again, and it is published once', async (t) => {
  const rig = new Rig(t);
  const client = await rig.online();
  const room = client.join('r');
  await room.ready;
  const all = note(room, 'chat');
  let lies = 0;
  rig.model.gate = (frame, session) => {
    if (lies === 2) return undefined;
    lies += 1;
    // It waits too long for an answer that would have been yes.
    const { seq, timestamp } = rig.model.publish('r', session.userId, { type: 'chat', n: frame.n });
    session.refs.get('r')?.set(frame.ref, { type: 'ack', ref: frame.ref, room: 'r', seq, timestamp });
    return away();
  };
  const acks = Promise.all([1, 2, 3].map((n) => room.send({ type: 'chat', n })));
  await settle();
  await rig.pass(3_000);
  assert.deepEqual((await acks).map((ack) => [ack?.seq, ack?.duplicate]), [[1, true], [2, true], [3, undefined]]);
  assert.deepEqual([published(rig), numbers(all)], [[1, 2, 3], [1, 2, 3]]);
});

test('held, and then the session is gone: nobody knows whether it is stored', async (t) => {
  const rig = new Rig(t);
  const client = await rig.online();
  const room = client.join('r');
  await room.ready;
  rig.model.gate = ({ n }) => (n === 2 ? { code: 'rate_limited', temporary: true } : away());
  const [first, second] = [1, 2].map((n) => outcome(room.send({ type: 'chat', n })));
  await settle();
  const [item] = client.pending;
  assert.equal(item?.sent && client.discard(item.id), false, 'it may be published');
  rig.model.gate = () => undefined;
  rig.model.forget({ rooms: false });
  await rig.blink();
  assert.equal(await first, 'uncertain');
  assert.equal((await second).seq, 1, 'too fast is never stored');
  // The same when the room is left, at once.
  rig.model.gate = away;
  const third = outcome(room.send({ type: 'chat', n: 3 }));
  await settle();
  void room.leave();
  assert.equal(await third, 'uncertain');
});

test('what cannot be known at the moment is a temporary error', async (t) => {
  const rig = new Rig(t);
  const client = await rig.online();
  const room = client.join('r', { presence: true });
  await room.ready;
  const { peer } = rig;
  const { onframe } = peer;
  peer.onframe = (frame) => {
    if (frame.type !== 'history') return onframe(frame);
    return peer.say({ type: 'error', ref: frame.ref, room: 'r', code: 'unavailable', message: 'no', temporary: true, retryAfter: 1_000 });
  };
  const error = await room.history().then(() => assert.fail('an answer'), (reason) => reason);
  assert.deepEqual([error.code, error.temporary, error.retryAfter, error.room], ['unavailable', true, 1_000, 'r']);
  assert.equal(room.joined, true);
  // A room that cannot be opened yet is joined when it can.
  rig.model.refused.set('s', 'room_full');
  const late = client.join('s');
  await rig.pass(500);
  rig.model.refused.clear();
  await rig.pass(3_000);
  assert.equal(late.joined, true);
});

test('a slot: it goes on working until then, moves, and loses and doubles nothing', async (t) => {
  const rig = new Rig(t);
  const client = await rig.online();
  const room = client.join('r', { presence: true });
  await room.ready;
  const [all, lost] = [note(room, 'chat'), note(room, 'lost')];
  rig.peer.say({ type: 'reconnect', after: 300_000 });
  await settle();
  await rig.pass(30_000);
  await room.send({ type: 'chat', n: 1 });
  rig.peer.onframe({ type: 'ping' }); // whatever is said in between
  await rig.pass(269_000);
  assert.equal(rig.network.peers.length, 1, 'also when it is minutes away');
  // At the very moment something is under way in both directions.
  rig.network.manual = true;
  const [second, third] = [2, 3].map((n) => room.send({ type: 'chat', n }));
  await settle();
  rig.peer.flush(1, 0);
  say(rig, [4]);
  rig.network.manual = false;
  await rig.pass(1_000);
  await rig.back();
  assert.equal(rig.network.peers.length, 2);
  assert.deepEqual([(await second)?.seq, (await third)?.seq], [2, 4]);
  assert.deepEqual([published(rig), numbers(all)], [[1, 2, 4, 3], [1, 2, 4, 3]]);
  assert.deepEqual(lost, []);
  assert.deepEqual([...room.users.keys()], [client.userId]);
});

test('1012: in the slot that was given, else spread by chance', async (t) => {
  const rig = new Rig(t);
  const client = await rig.online({ backoff: { random: () => 0.5 } });
  const status = note(client, 'status');
  rig.peer.hangUp(1012);
  assert.equal(status.at(-1).retryIn, 250);
  await rig.back();
  rig.peer.say({ type: 'reconnect', after: 200_000 });
  await settle();
  rig.peer.hangUp(1012);
  assert.equal(status.at(-1).retryIn, 200_000);
  client.close();
});

test('several addresses: each attempt goes to the next', async (t) => {
  const rig = new Rig(t);
  const client = await rig.online({ urls: ['http://b/ws', 'ws://c/ws'] });
  const tried = () => rig.network.peers.map(({ url }) => url.host).join('');
  const room = client.join('r');
  await room.ready;
  assert.equal(tried(), 'test');
  rig.network.state = 'refuse';
  rig.network.cut();
  await rig.pass(4_000);
  assert.equal(tried().slice(0, 8), 'testbcte');
  rig.network.peers.length = 0;
  rig.network.state = 'up';
  await rig.back();
  const at = rig.peer.url.host;
  assert.equal(rig.peer.token, 't1', 'the session is the same everywhere');
  // A node that is drained is left for another one.
  rig.peer.say({ type: 'reconnect', after: 1_000 });
  await settle();
  await rig.pass(1_000);
  assert.notEqual(rig.peer.url.host, at);
  assert.equal(client.status, 'online');
  assert.equal((await room.send({ type: 'chat', n: 1 }))?.seq, 1);
});

const SEEDS = Number(process.env.THRONG_SEEDS ?? 60);

test(`${SEEDS} runs with a storage that comes and goes: each message once, holes only where they are told`, async (t) => {
  const rig = new Rig(t);
  let [renewals, refusals, repeated] = [0, 0, 0];
  for (let seed = 1; seed <= SEEDS; seed += 1) {
    const random = dice(seed);
    const pick = (/** @type {number} */ n) => Math.floor(random() * n);
    rig.model.forget();
    rig.network.peers.length = 0;
    const clients = [0, 1].map(() => rig.client({ backoff: { random, base: 200, max: 400 }, urls: ['ws://b/ws', 'ws://c/ws'] }));
    rig.clients.length = 0;
    const rooms = clients.map((client) => client.join('r', { presence: true }));
    // What each has been told, in order: a message, or a jump to a position.
    const told = rooms.map((room) => {
      /** @type {any[]} */ const events = [];
      room.on('chat', ({ id }) => events.push({ id, epoch: room.epoch, seq: room.seq }));
      room.on('lost', ({ epoch, seq }) => events.push({ epoch, seq }));
      return events;
    });
    await rig.pass(500);
    let down = 0;
    rig.model.gate = ({ ref, id }, session) => {
      if (down === 0) return undefined;
      down -= 1;
      refusals += 1;
      if (pick(2)) {
        const { seq, timestamp } = rig.model.publish('r', session.userId, { type: 'chat', id });
        session.refs.get('r')?.set(ref, { type: 'ack', ref, room: 'r', seq, timestamp });
      }
      return { code: 'unavailable', temporary: true, retryAfter: 100 };
    };
    rig.network.manual = true;
    /** @type {Promise<any>[]} */ const sent = [];
    /** @type {string[]} */ const expected = [];
    for (let step = 0; step < 120; step += 1) {
      const what = pick(12);
      const open = rig.network.peers.filter((peer) => peer.open);
      if (what < 3) {
        const id = `${expected.length}`;
        expected.push(id);
        const room = /** @type {import('../../src/index.js').Room} */ (rooms[pick(2)]);
        sent.push(room.send({ type: 'chat', id }).then((ack) => { repeated += ack?.duplicate ? 1 : 0; }));
        if (pick(2)) await rig.pass(1);
      } else if (what < 8) open[pick(open.length)]?.flush(pick(4), pick(4));
      else if (what === 8) down = pick(6);
      else if (what === 9) {
        rig.model.renew('r', { moved: true });
        renewals += 1;
      } else if (pick(3)) await rig.pass(pick(300), 50);
      else if (pick(2)) open[pick(open.length)]?.hangUp(1006);
      else open[pick(open.length)]?.say({ type: 'reconnect', after: pick(500) });
    }
    down = 0;
    rig.network.manual = false;
    for (let i = 0; i < 60; i += 1) {
      for (const peer of rig.network.peers) peer.flush();
      await rig.pass(100, 50);
    }
    await Promise.all(sent);
    const log = rig.model.room('r').log.map(({ id }) => id);
    assert.deepEqual([...log].sort(), [...expected].sort(), `seed ${seed}: published once each`);
    for (const [who, events] of told.entries()) {
      let [epoch, seq] = ['', 0];
      for (const event of events) {
        if (event.id !== undefined) {
          assert.equal(event.seq, seq + 1, `seed ${seed}: client ${who} was not told of a hole`);
          assert.equal(event.id, log[event.seq - 1], `seed ${seed}: client ${who} heard what is at ${event.seq}`);
        } else assert.notEqual(event.epoch, epoch, `seed ${seed}: client ${who} lost nothing of this epoch`);
        ({ epoch, seq } = event);
      }
      const room = /** @type {import('../../src/index.js').Room} */ (rooms[who]);
      assert.deepEqual([room.epoch, room.seq], [rig.model.room('r').epoch, log.length], `seed ${seed}: position`);
      assert.deepEqual([...room.users.keys()].sort(), [...rig.model.room('r').users.keys()].sort(), `seed ${seed}: presence`);
    }
    for (const client of clients) {
      assert.deepEqual(client.pending, []);
      client.close();
    }
  }
  assert.ok(renewals > SEEDS && refusals > SEEDS && repeated > SEEDS / 2, `${renewals} renewals, ${refusals} refusals, ${repeated} repeated`);
});
