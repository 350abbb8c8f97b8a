import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Rig, note, outcome, settle } from '../support/rig.js';

/** @param {Rig} rig @param {string} room */
const published = (rig, room = 'r') => rig.model.room(room).log.map(({ n }) => n);

/** What is published by a client is kept here, as a disk would. @param {any} [value] */
function store(value) {
  const kept = {
    /** @type {any} */ value,
    load: () => kept.value,
    save: (/** @type {any} */ next) => { kept.value = structuredClone(next); },
  };
  return kept;
}

test('offline messages wait and are sent in order', async (t) => {
  const rig = new Rig(t);
  const client = rig.client();
  const room = client.join('r');
  const message = { type: 'chat', n: 1, deep: { a: 1 } };
  const first = room.send(message);
  message.deep.a = 2;
  const second = room.send({ type: 'chat', n: 2 });
  assert.deepEqual(client.pending.map(({ room: name, message: { n }, sent }) => [name, n, sent]), [['r', 1, false], ['r', 2, false]]);
  assert.deepEqual(await first, { room: 'r', seq: 1, timestamp: 1_001 });
  assert.equal((await second)?.seq, 2);
  assert.equal(rig.model.room('r').log[0]?.deep.a, 1, 'as it was when it was sent');
  assert.deepEqual(client.pending, []);
});

test('the outbox tells its changes', async (t) => {
  const rig = new Rig(t);
  const client = await rig.online();
  const changes = note(client, 'outbox');
  const room = client.join('r');
  await room.ready;
  await room.send({ type: 'chat', n: 1 });
  await settle();
  assert.deepEqual(changes.map((pending) => pending.length), [1, 0]);
});

test('a lost answer: sent again under the same ref, published once', async (t) => {
  const rig = new Rig(t);
  const client = await rig.online();
  const room = client.join('r');
  const all = note(room, '*');
  await room.ready;
  rig.network.manual = true;
  const sent = [room.send({ type: 'chat', n: 1 }), room.send({ type: 'chat', n: 2 })];
  await settle();
  const old = rig.peer;
  old.flush(2, 0);
  assert.deepEqual(published(rig), [1, 2]);
  rig.network.manual = false;
  await rig.blink();
  const acks = await Promise.all(sent);
  assert.deepEqual(acks.map((ack) => [ack?.seq, ack?.duplicate]), [[1, true], [2, true]]);
  assert.deepEqual(rig.peer.all('chat').map(({ ref }) => ref), old.all('chat').map(({ ref }) => ref));
  assert.deepEqual(published(rig), [1, 2]);
  assert.deepEqual(all.map(({ n }) => n), [1, 2]);
});

test('a message that never arrived is sent again, after those before it', async (t) => {
  const rig = new Rig(t);
  const client = await rig.online();
  const room = client.join('r');
  await room.ready;
  rig.network.manual = true;
  const sent = [1, 2, 3].map((n) => room.send({ type: 'chat', n }));
  await settle();
  rig.peer.flush(1, 0);
  rig.network.manual = false;
  await rig.blink();
  assert.deepEqual((await Promise.all(sent)).map((ack) => ack?.seq), [1, 2, 3]);
  assert.deepEqual(published(rig), [1, 2, 3]);
});

test('an answer that comes twice settles once', async (t) => {
  const rig = new Rig(t);
  const client = await rig.online();
  const room = client.join('r');
  await room.ready;
  const errors = note(client, 'error');
  const ack = await room.send({ type: 'chat', n: 1 });
  const { ref } = rig.peer.last('chat');
  rig.peer.say({ type: 'ack', ref, room: 'r', seq: 99, timestamp: 1 });
  rig.peer.say({ type: 'error', ref, code: 'internal', message: 'late', temporary: true });
  await settle();
  assert.equal(ack?.seq, 1);
  assert.equal(errors.length, 1, 'an error nobody waits for is told');
  assert.equal(rig.peer.all('chat').length, 1);
});

test('the session is gone: what was sent is uncertain, what was not is sent', async (t) => {
  const rig = new Rig(t);
  const client = await rig.online();
  const room = client.join('r');
  await room.ready;
  rig.network.manual = true;
  const sent = outcome(room.send({ type: 'chat', n: 1 }));
  await settle();
  rig.network.manual = false;
  rig.network.cut();
  const waiting = room.send({ type: 'chat', n: 2 });
  rig.model.forget({ rooms: false });
  await rig.back();
  assert.equal(await sent, 'uncertain');
  assert.equal((await waiting)?.seq, 1);
  assert.deepEqual(published(rig), [2]);
});

test('uncertain: "resend" sends all of it again', async (t) => {
  const rig = new Rig(t);
  const client = await rig.online({ uncertain: 'resend' });
  const room = client.join('r');
  await room.ready;
  rig.network.manual = true;
  const sent = room.send({ type: 'chat', n: 1 });
  await settle();
  rig.network.manual = false;
  rig.model.forget({ rooms: false });
  await rig.blink();
  assert.equal((await sent)?.seq, 1);
});

test('refusals: for good, and for now', async (t) => {
  const rig = new Rig(t);
  const client = await rig.online();
  const room = client.join('r');
  await room.ready;
  rig.model.gate = ({ n }) => (n === 1 ? { code: 'invalid_payload' } : undefined);
  const sent = [1, 2].map((n) => outcome(room.send({ type: 'chat', n })));
  assert.equal(await sent[0], 'invalid_payload');
  assert.equal((await sent[1]).seq, 1);
  // For now: the message waits as long as it was told, and nothing overtakes it twice.
  let refusals = 0;
  rig.model.gate = ({ n }) => {
    if (n !== 3 || refusals === 2) return undefined;
    refusals += 1;
    return { code: 'rate_limited', temporary: true, retryAfter: 3_000 };
  };
  const third = outcome(room.send({ type: 'chat', n: 3 }));
  await settle();
  const fourth = outcome(room.send({ type: 'chat', n: 4 }));
  await rig.pass(2_750);
  assert.equal(refusals, 1);
  await rig.pass(500);
  assert.equal(refusals, 2);
  await rig.pass(3_250);
  assert.deepEqual([(await third).seq, (await fourth).seq], [2, 3]);
  assert.equal(new Set(rig.peer.all('chat').filter(({ n }) => n === 3).map(({ ref }) => ref)).size, 1);
});

test('at most 64 of a room are on their way, and other rooms do not wait for it', async (t) => {
  const rig = new Rig(t);
  const client = await rig.online();
  const [room, other] = [client.join('r'), client.join('other')];
  await other.ready;
  rig.network.manual = true;
  const sent = Array.from({ length: 200 }, (_, n) => room.send({ type: 'chat', n }));
  await settle();
  const free = other.send({ type: 'chat', n: 0 });
  await settle();
  assert.equal(rig.peer.waiting[0], 65);
  rig.network.manual = false;
  while (rig.peer.waiting.some((count) => count > 0)) {
    rig.peer.flush();
    assert.ok(client.pending.filter((item) => item.room === 'r' && item.sent).length <= 64);
    await settle();
  }
  await free;
  assert.deepEqual((await Promise.all(sent)).map((ack) => ack?.seq), sent.map((_, i) => i + 1));
  assert.deepEqual(published(rig), sent.map((_, i) => i));
});

test('an outbox that is full refuses more', async (t) => {
  const rig = new Rig(t);
  const client = rig.client({ outboxSize: 2 });
  const room = client.join('r');
  const sent = [1, 2, 3].map((n) => outcome(room.send({ type: 'chat', n })));
  assert.equal(await sent[2], 'overloaded');
  await settle();
  assert.deepEqual(published(rig), [1, 2]);
});

test('what cannot be sent is refused at once', async (t) => {
  const rig = new Rig(t);
  const client = await rig.online();
  const room = client.join('r');
  await room.ready;
  /** @type {any} */ const cyclic = { type: 'chat' };
  cyclic.self = cyclic;
  assert.match(await outcome(room.send(cyclic)), /TypeError/);
  for (const message of /** @type {any[]} */ ([{}, { type: 7 }, null, undefined, 'chat'])) assert.equal(await outcome(room.send(message)), 'bad_message');
  assert.equal(await outcome(room.send({ type: 'chat', text: 'é'.repeat(32_768) })), 'too_large');
  assert.equal((await room.send({ type: 'chat', text: 'e'.repeat(60_000) }))?.seq, 1);
});

test('close settles everything', async (t) => {
  const rig = new Rig(t);
  const client = await rig.online();
  const room = client.join('r');
  await room.ready;
  rig.network.manual = true;
  const sent = outcome(room.send({ type: 'chat', n: 1 }));
  const asked = outcome(room.history());
  await settle();
  const unsent = outcome(client.join('other').send({ type: 'chat', n: 2 }));
  client.close();
  assert.deepEqual(await Promise.all([sent, unsent, asked]), ['uncertain', 'closed', 'closed']);
  assert.equal(await outcome(room.send({ type: 'chat' })), 'closed');
  assert.deepEqual(client.pending, []);
});

test('volatile messages: at once or never, and no promise to keep', async (t) => {
  const rig = new Rig(t);
  const client = rig.client();
  const room = client.join('live:r');
  assert.equal(await room.send({ type: 'typing' }, { volatile: true }), undefined);
  await room.ready;
  await room.send({ type: 'typing', n: 1 }, { volatile: true });
  await settle();
  assert.deepEqual(rig.peer.all('typing'), [{ type: 'typing', n: 1, room: 'live:r' }]);
  rig.network.cut();
  await room.send({ type: 'typing', n: 2 }, { volatile: true });
  await rig.back();
  assert.equal(rig.peer.all('typing').length, 0);
  assert.deepEqual(await room.send({ type: 'move' }), { room: 'live:r', timestamp: rig.model.now }, 'a volatile room acks without seq');
  assert.equal(await client.direct('u_9').send({ type: 'typing' }, { volatile: true }), undefined);
});

test('leaving a room takes its messages back, those on their way apart', async (t) => {
  const rig = new Rig(t);
  const client = await rig.online();
  const room = client.join('r');
  await room.ready;
  rig.network.manual = true;
  const sent = Array.from({ length: 66 }, (_, n) => outcome(room.send({ type: 'chat', n })));
  await settle();
  room.leave();
  assert.equal(await sent[64], 'not_joined');
  rig.peer.flush(1, Infinity);
  rig.peer.flush(0, Infinity);
  assert.equal((await sent[0]).seq, 1);
  rig.network.manual = false;
  await rig.blink();
  assert.equal(await sent[1], 'uncertain', 'there is no way back into the room');
});

test('discard takes back what was never sent', async (t) => {
  const rig = new Rig(t);
  const client = await rig.online();
  const room = client.join('r');
  await room.ready;
  rig.network.cut();
  const sent = [1, 2].map((n) => outcome(room.send({ type: 'chat', n })));
  const id = client.pending[0]?.id ?? 0;
  assert.equal(client.discard(id), true);
  assert.equal(client.discard(id), false);
  assert.equal(await sent[0], 'discarded');
  await rig.back();
  assert.equal((await sent[1]).seq, 1);
  assert.deepEqual(published(rig), [2]);
});

for (const kind of ['sync', 'async']) {
  test(`a reload: the same session, the same refs, and new refs for new messages (${kind} stores)`, async (t) => {
    const rig = new Rig(t);
    const [session, outbox] = [store(), store()];
    if (kind === 'async') {
      for (const kept of [session, outbox]) {
        const { load, save } = kept;
        kept.load = async () => { await settle(); return load(); };
        kept.save = async (/** @type {any} */ value) => { await settle(); save(value); };
      }
    }
    const client = await rig.online({ session, outbox });
    await settle();
    await settle();
    const room = client.join('r');
    await room.ready;
    await room.send({ type: 'chat', n: 0 });
    rig.network.manual = true;
    for (let n = 1; n <= 3; n += 1) outcome(room.send({ type: 'chat', n }));
    for (let i = 0; i < 8; i += 1) await settle();
    const before = rig.peer;
    before.flush(2, 0); // published, but the page never hears of it
    assert.deepEqual(published(rig), [0, 1, 2]);
    const refs = before.all('chat').map(({ ref }) => ref);
    const [keptSession, keptOutbox] = [structuredClone(session.value), structuredClone(outbox.value)];
    before.hangUp(1001);
    client.close();
    await settle();
    rig.network.manual = false;

    const reloaded = rig.client({ session: { ...session, load: () => keptSession }, outbox: { ...outbox, load: () => keptOutbox } });
    const again = reloaded.join('r');
    const waiting = [again.send({ type: 'chat', n: 4 }), again.send({ type: 'chat', n: 5 })];
    for (let i = 0; i < 12; i += 1) await settle();
    assert.equal(rig.peer.token, before.token ?? 't1');
    assert.deepEqual((await Promise.all(waiting)).map((ack) => ack?.seq), [5, 6]);
    assert.deepEqual(published(rig), [0, 1, 2, 3, 4, 5]);
    const later = rig.peer.all('chat').map(({ ref }) => ref);
    assert.deepEqual(later.slice(0, 3), [refs[1], refs[2], later[2]]);
    assert.ok(later[2] > (refs[2] ?? 0), 'message 3 had a ref already, or a later one');
    assert.equal(new Set([...refs, ...later]).size, 6, 'no ref means two messages');
    assert.deepEqual(reloaded.pending, []);
    assert.deepEqual(outbox.value, []);
  });
}

test('a reload after the session has gone: what was sent is told as uncertain', async (t) => {
  const rig = new Rig(t);
  const items = [
    { id: 1, room: 'r', message: { type: 'chat', n: 1 }, ref: 7, sent: true },
    { id: 2, room: 'r', message: { type: 'chat', n: 2 }, ref: 0, sent: false },
  ];
  const client = rig.client({ session: store({ token: 'gone', sessionId: 's', userId: 'u', ref: 300 }), outbox: store(items) });
  const errors = note(client, 'error');
  client.join('r');
  await settle();
  assert.deepEqual(errors.map(({ code, payload }) => [code, payload]), [['uncertain', { type: 'chat', n: 1 }]]);
  assert.deepEqual(published(rig), [2]);
  assert.ok(rig.peer.last('chat').ref > 300);
});

test('a store that fails is told, and everything goes on', async (t) => {
  const rig = new Rig(t);
  const fails = (/** @type {boolean} */ later) => ({
    load: () => null,
    save: () => {
      if (later) return Promise.reject(new Error('disk'));
      throw new Error('disk');
    },
  });
  for (const later of [false, true]) {
    const client = rig.client({ outbox: fails(later), session: fails(later) });
    const errors = note(client, 'error');
    const room = client.join(`r${later}`);
    assert.equal((await room.send({ type: 'chat' }))?.seq, 1);
    assert.ok(errors.length > 0 && errors.every(({ message }) => message === 'disk'));
  }
});
