import assert from 'node:assert/strict';
import { test } from 'node:test';
import '../../src/share.js'; // so that it is there when it is wanted
import { Channel, Tab, browser } from '../support/browser.js';
import { settle as turn } from '../support/network.js';
import { Rig, note, outcome } from '../support/rig.js';

/** Notes go back and forth between tabs. */
const settle = async () => {
  for (let i = 0; i < 10; i += 1) await turn();
};

/** Several tabs of one browser. */
class Browser {
  /** @param {import('node:test').TestContext} t */
  constructor(t) {
    const globals = /** @type {any} */ (globalThis);
    const { BroadcastChannel } = globals;
    globals.BroadcastChannel = Channel;
    this.locks = browser(t);
    this.rig = new Rig(t);
    t.after(() => {
      globals.BroadcastChannel = BroadcastChannel;
      Channel.all.clear();
    });
  }

  get peers() {
    return this.rig.network.peers;
  }

  /** Connections that are open. */
  get open() {
    return this.peers.filter((peer) => peer.open).length;
  }

  /** @param {import('../../src/index.js').Options} [options] @param {number} [lag] */
  async tab(options = {}, lag = 0) {
    const { rig } = this;
    const tab = new Tab(this.locks);
    tab.lag = lag;
    tab.enter();
    /** @type {import('../support/network.js').Peer[]} */ const mine = [];
    const WebSocket = class extends rig.network.WebSocket {
      /** @param {string} address @param {string[]} protocols */
      constructor(address, protocols) {
        if (tab.dead) throw new Error('this page is gone');
        super(address, protocols);
        mine.push(this.peer);
      }
    };
    const client = rig.client({ share: true, WebSocket, ...options });
    await settle();
    return {
      client,
      /** Whether this is the tab with the connection. */
      get host() {
        return mine.some((peer) => peer.open);
      },
      /** The page goes without a word. */
      crash: async () => {
        tab.dead = true;
        for (const peer of mine) peer.hangUp(1006);
        tab.unload();
        rig.clients.splice(rig.clients.indexOf(client), 1);
        await settle();
      },
    };
  }

  /** @param {number} ms */
  async pass(ms) {
    await settle();
    for (; ms > 0; ms -= 250) {
      await this.rig.pass(250);
      await settle();
    }
  }
}

/** @param {any[]} messages */
const numbers = (messages) => messages.map(({ n }) => n);

test('two tabs, one connection, one user; each has its own rooms and acks', async (t) => {
  const browse = new Browser(t);
  const { model } = browse.rig;
  for (let n = 1; n <= 5; n += 1) model.publish('r', 'u_x', { type: 'chat', n });
  const [{ client: a }, { client: b }] = [await browse.tab(), await browse.tab()];
  assert.deepEqual([a.status, b.status, browse.peers.length], ['online', 'online', 1]);
  assert.deepEqual([b.userId, b.sessionId], [a.userId, a.sessionId]);
  const [first, second] = [a.join('r', { presence: true }), b.join('r', { presence: true, rewind: 3 })];
  const [one, two] = [note(first, 'chat'), note(second, 'chat')];
  const other = b.join('s');
  await settle();
  assert.deepEqual([first.joined, second.joined, other.joined], [true, true, true]);
  assert.deepEqual([numbers(one), numbers(two)], [[], [3, 4, 5]]);
  assert.deepEqual([[...first.users.keys()], [...second.users.keys()]], [[a.userId], [a.userId]]);
  const acks = await Promise.all([first.send({ type: 'chat', n: 6 }), second.send({ type: 'chat', n: 7 }), other.send({ type: 'chat', n: 1 })]);
  assert.deepEqual(acks.map((ack) => ack?.seq).sort(), [1, 6, 7]);
  await settle();
  assert.deepEqual(numbers(one), [6, 7]);
  assert.deepEqual(numbers(two), [3, 4, 5, 6, 7]);
  assert.deepEqual(numbers((await second.history({ limit: 2 })).messages), [6, 7]);
  assert.equal(await b.ping(), 0);
  assert.equal(await outcome(b.join('@somebody', {}).ready.then(() => 'in')), 'in', 'the model lets everybody in');
});

test('a late tab gets what it asks for from the past, however long', async (t) => {
  const browse = new Browser(t);
  const { model } = browse.rig;
  const { client: a } = await browse.tab();
  await a.join('r').ready;
  const { epoch } = model.room('r');
  for (let n = 1; n <= 700; n += 1) model.publish('r', 'u_x', { type: 'chat', n });
  await settle();
  const { client: b } = await browse.tab();
  const since = b.join('r', { since: { epoch, seq: 150 } });
  const [all, recovered] = [note(since, 'chat'), note(since, 'recovered')];
  model.publish('r', 'u_x', { type: 'chat', n: 701 });
  await settle();
  await settle();
  assert.deepEqual(numbers(all), Array.from({ length: 551 }, (_, i) => i + 151));
  assert.equal(recovered.length, 1);
  const { client: c } = await browse.tab();
  const rewound = note(c.join('r', { rewind: 450 }), 'chat');
  await settle();
  await settle();
  assert.deepEqual(numbers(rewound), Array.from({ length: 450 }, (_, i) => i + 252));
  model.room('r').kept = 10;
  const { client: d } = await browse.tab();
  const room = d.join('r', { since: { epoch, seq: 150 } });
  const lost = note(room, 'lost');
  await settle();
  assert.deepEqual(lost, [{ epoch, seq: 701, since: { epoch, seq: 150 } }]);
  assert.equal(browse.peers.length, 1);
});

test('presence reaches every tab and is exact in each', async (t) => {
  const browse = new Browser(t);
  const [{ client: a }, { client: b }] = [await browse.tab(), await browse.tab()];
  const rooms = [a, b].map((client) => client.join('r', { presence: true }));
  await settle();
  const others = [];
  for (let i = 0; i < 3; i += 1) {
    const other = browse.rig.client();
    await settle();
    await other.join('r').ready;
    others.push(other);
  }
  others[0]?.close();
  await settle();
  const here = [...browse.rig.model.room('r').users.keys()].sort();
  assert.equal(here.length, 3);
  for (const room of rooms) assert.deepEqual([room.exact, [...room.users.keys()].sort()], [true, here]);
  browse.rig.network.cut();
  others[1]?.close();
  await browse.pass(2_000);
  const after = [...browse.rig.model.room('r').users.keys()].sort();
  for (const room of rooms) assert.deepEqual([room.exact, [...room.users.keys()].sort()], [true, after]);
});

test('a room that is renewed: every tab goes on from there, without a new connection', async (t) => {
  const browse = new Browser(t);
  const { model } = browse.rig;
  const tabs = [await browse.tab({ urls: ['ws://other/ws'] }), await browse.tab({ urls: ['ws://other/ws'] })];
  const rooms = tabs.map(({ client }) => client.join('r', { presence: true }));
  await settle();
  const heard = rooms.map((room) => note(room, 'chat'));
  const lost = rooms.map((room) => note(room, 'lost'));
  const status = tabs.flatMap(({ client }) => note(client, 'status'));
  for (let n = 1; n <= 3; n += 1) model.publish('r', 'u_x', { type: 'chat', n });
  await settle();
  model.room('r').users.set('u_new', 1);
  model.renew('r', { lose: 1, moved: true });
  model.publish('r', 'u_x', { type: 'chat', n: 4 });
  await settle();
  const { epoch } = model.room('r');
  for (const [i, room] of rooms.entries()) {
    assert.deepEqual(numbers(heard[i] ?? []), [1, 2, 3, 4]);
    assert.deepEqual(lost[i]?.map(({ seq }) => seq), [2]);
    assert.deepEqual([room.epoch, room.seq, room.exact], [epoch, 3, true]);
    assert.deepEqual([...room.users.keys()].sort(), [...model.room('r').users.keys()].sort());
  }
  assert.deepEqual(status, []);
  // Later the tabs take up where they are, at the next address.
  browse.rig.network.cut();
  model.publish('r', 'u_x', { type: 'chat', n: 5 });
  await browse.pass(3_000);
  for (const own of heard) assert.deepEqual(numbers(own), [1, 2, 3, 4, 5]);
  assert.deepEqual([lost.map((events) => events.length), browse.open], [[1, 1], 1]);
  assert.deepEqual(browse.peers.map(({ url }) => url.host), ['test', 'other']);
});

test('a room that is renewed while a tab catches up there', async (t) => {
  const browse = new Browser(t);
  const { rig } = browse;
  const { client: a } = await browse.tab();
  await a.join('r').ready;
  const { epoch } = rig.model.room('r');
  for (let n = 1; n <= 9; n += 1) rig.model.publish('r', 'u_x', { type: 'chat', n });
  await settle();
  const { client: b } = await browse.tab();
  rig.network.manual = true;
  const room = b.join('r', { since: { epoch, seq: 4 } });
  const [all, lost] = [note(room, 'chat'), note(room, 'lost')];
  await settle();
  rig.model.renew('r', { lose: 2 });
  rig.model.publish('r', 'u_x', { type: 'chat', n: 10 });
  rig.network.manual = false;
  rig.peer.flush();
  await browse.pass(3_000);
  assert.deepEqual([room.joined, room.epoch, room.seq], [true, rig.model.room('r').epoch, 8]);
  assert.equal(lost.length, 1);
  rig.model.publish('r', 'u_x', { type: 'chat', n: 11 });
  await settle();
  assert.deepEqual(numbers(all), [11], 'nothing of one epoch under the numbers of the other');
});

test('the past cannot be had at the moment: the tab joins when it can', async (t) => {
  const browse = new Browser(t);
  const { rig } = browse;
  const { client: a } = await browse.tab();
  await a.join('r').ready;
  for (let n = 1; n <= 3; n += 1) rig.model.publish('r', 'u_x', { type: 'chat', n });
  await settle();
  const { peer } = rig;
  const { onframe } = peer;
  let refusals = 0;
  peer.onframe = (frame) => {
    if (frame.type !== 'history' || refusals === 2) return onframe(frame);
    refusals += 1;
    return peer.say({ type: 'error', ref: frame.ref, room: 'r', code: 'unavailable', message: 'no', temporary: true, retryAfter: 1_000 });
  };
  const { client: b } = await browse.tab();
  const room = b.join('r', { rewind: 2 });
  const all = note(room, 'chat');
  await browse.pass(4_000);
  assert.deepEqual([refusals, room.joined, numbers(all)], [2, true, [2, 3]]);
});

test('the tab with the connection goes: another takes over, nothing is lost or doubled', async (t) => {
  const browse = new Browser(t);
  const { rig } = browse;
  const tabs = [await browse.tab(), await browse.tab(), await browse.tab()];
  const rooms = tabs.map(({ client }) => client.join('r', { presence: true }));
  const heard = rooms.map((room) => note(room, 'chat'));
  const lost = rooms.flatMap((room) => note(room, 'lost'));
  await settle();
  await Promise.all(rooms.map((room, i) => room.send({ type: 'chat', n: i })));
  await settle();
  // Published, and the answers do not get through.
  rig.network.manual = true;
  const sent = [1, 2].flatMap((i) => [0, 1, 2].map((n) => rooms[i]?.send({ type: 'chat', n: 10 * i + n })));
  await settle();
  rig.peer.flush(4, 0);
  rig.network.manual = false;
  assert.equal(tabs[0]?.host, true);
  await tabs[0]?.crash();
  rig.model.publish('r', 'u_x', { type: 'chat', n: 99 });
  await browse.pass(3_000);
  assert.equal(browse.open, 1);
  assert.equal(tabs[1]?.host || tabs[2]?.host, true);
  assert.deepEqual(tabs.slice(1).map(({ client }) => client.status), ['online', 'online']);
  const acks = await Promise.all(sent);
  assert.equal(acks.filter((ack) => ack?.duplicate).length, 4);
  const log = rig.model.room('r').log.map(({ n }) => n);
  assert.deepEqual([...log].sort((a, b) => a - b), [0, 1, 2, 10, 11, 12, 20, 21, 22, 99]);
  for (const own of [heard[1], heard[2]]) assert.deepEqual(numbers(own ?? []), log);
  assert.deepEqual(lost, []);
  assert.equal(rig.peer.token, 't1', 'the session lives on');
  assert.equal(tabs[1]?.client.sessionId, tabs[0]?.client.sessionId);
});

test('the connection is lost: all tabs come back, with what they missed', async (t) => {
  const browse = new Browser(t);
  const { rig } = browse;
  const tabs = [await browse.tab(), await browse.tab()];
  const rooms = tabs.map(({ client }) => client.join('r'));
  const heard = rooms.map((room) => note(room, 'chat'));
  await settle();
  rig.network.state = 'refuse';
  rig.network.cut();
  await browse.pass(3_000);
  assert.deepEqual(tabs.map(({ client }) => client.status === 'online'), [false, false]);
  const sent = rooms.map((room, n) => room.send({ type: 'chat', n }));
  rig.model.publish('r', 'u_x', { type: 'chat', n: 9 });
  rig.network.state = 'up';
  await browse.pass(30_000);
  await Promise.all(sent);
  await settle();
  for (const own of heard) assert.deepEqual(numbers(own).sort(), [0, 1, 9]);
  assert.equal(browse.open, 1);
});

test('a tab whose locks are slow is not taken for one that has gone', async (t) => {
  const browse = new Browser(t);
  const [{ client: a }, { client: b }] = [await browse.tab(), await browse.tab({}, 12)];
  const rooms = [a, b].map((client) => client.join('r'));
  await settle();
  assert.deepEqual(rooms.map(({ joined }) => joined), [true, true]);
  assert.equal((await rooms[1]?.send({ type: 'chat' }))?.seq, 1);
});

test('a tab the hub does not know is told so', async (t) => {
  const browse = new Browser(t);
  const { client } = await browse.tab();
  const status = note(client, 'status');
  const stranger = new Channel('throng:ws://test/ws:');
  /** @type {any[]} */ const notes = [];
  stranger.onmessage = ({ data }) => notes.push(data);
  stranger.postMessage({ kind: 'frame', pipe: 'p', frame: { type: 'join', room: 'r', ref: 1 } });
  await settle();
  assert.deepEqual(notes, [{ kind: 'closed', pipe: 'p', code: 1006, reason: 'host' }]);
  assert.deepEqual(status, []);
});

test('a draining server: all tabs move to the new connection', async (t) => {
  const browse = new Browser(t);
  const { rig } = browse;
  const tabs = [await browse.tab(), await browse.tab()];
  const rooms = tabs.map(({ client }) => client.join('r'));
  const heard = rooms.map((room) => note(room, 'chat'));
  await settle();
  rig.network.manual = true;
  const sent = rooms.map((room, n) => room.send({ type: 'chat', n }));
  await settle();
  rig.peer.flush(1, 0);
  rig.network.manual = false;
  rig.peer.say({ type: 'reconnect', after: 1_000 });
  await browse.pass(3_000);
  assert.equal(browse.peers.length, 2);
  await Promise.all(sent);
  await settle();
  for (const own of heard) assert.deepEqual(numbers(own), [0, 1]);
});

test('the session is gone: what was sent is uncertain in each tab', async (t) => {
  const browse = new Browser(t);
  const { rig } = browse;
  const tabs = [await browse.tab(), await browse.tab()];
  const rooms = tabs.map(({ client }) => client.join('r'));
  await settle();
  rig.network.manual = true;
  const sent = rooms.map((room) => outcome(room.send({ type: 'chat' })));
  await settle();
  rig.network.manual = false;
  rig.model.forget();
  rig.network.cut();
  await browse.pass(3_000);
  assert.deepEqual(await Promise.all(sent), ['uncertain', 'uncertain']);
  assert.equal(tabs[0]?.client.userId, tabs[1]?.client.userId);
  await settle();
  assert.deepEqual(rooms.map((room) => room.joined), [true, true]);
});

test('a room is left when the last tab leaves it, and the server when the last tab goes', async (t) => {
  const browse = new Browser(t);
  const tabs = [await browse.tab(), await browse.tab()];
  const rooms = tabs.map(({ client }) => client.join('r'));
  await settle();
  const members = () => browse.rig.model.room('r').members.size;
  assert.equal(members(), 1);
  await rooms[0]?.leave();
  await settle();
  assert.equal(members(), 1);
  await rooms[1]?.leave();
  await settle();
  assert.equal(members(), 0);
  tabs[1]?.client.join('s');
  await settle();
  await tabs[1]?.crash();
  await settle();
  assert.equal(browse.rig.model.room('s').members.size, 0, 'a tab that crashed is in no room');
  tabs[0]?.client.close();
  await settle();
  assert.equal(browse.rig.peer.code, 1000);
  const { client } = await browse.tab();
  assert.equal(client.status, 'online');
  assert.equal(browse.open, 1);
});

test('tickets: one for a connection, another when it is asked for', async (t) => {
  const browse = new Browser(t);
  let tickets = 0;
  const ticket = () => `k${(tickets += 1)}`;
  const tabs = [await browse.tab({ ticket }), await browse.tab({ ticket })];
  assert.equal(browse.peers.length, 1);
  assert.equal(browse.rig.peer.shown('ticket'), 'k1');
  browse.rig.peer.hangUp(4401);
  await browse.pass(2_000);
  assert.deepEqual(tabs.map(({ client }) => client.status), ['online', 'online']);
  assert.ok(['k3', 'k4'].includes(browse.rig.peer.shown('ticket') ?? ''));
  browse.rig.peer.hangUp(4403, 'out');
  await settle();
  assert.deepEqual(tabs.map(({ client }) => client.status), ['closed', 'closed']);
});

test('one tab renews the session for all', async (t) => {
  const browse = new Browser(t);
  const { model } = browse.rig;
  const visa = { userId: 'ada', expiresAt: model.now + 3_600_000 };
  model.visas = new Map([['t_1', visa], ['t_2', { ...visa, expiresAt: model.now + 7_200_000 }]]);
  const [{ client: a }, { client: b }] = [await browse.tab({ ticket: () => 't_1' }), await browse.tab({ ticket: () => 't_9' })];
  assert.deepEqual([a.userId, b.userId], ['ada', 'ada']);
  const end = a.expiresAt;
  assert.ok(end > Date.now() && b.expiresAt === end);
  await b.authenticate('t_2');
  await settle();
  assert.deepEqual([a.expiresAt, b.expiresAt], [end + 3_600_000, end + 3_600_000]);
  const { client: c } = await browse.tab({ ticket: () => 't_9' });
  assert.equal(c.expiresAt, a.expiresAt, 'also for who comes later');
});

test('a session that is gone is not replaced by one of nobody in shared tabs either', async (t) => {
  const browse = new Browser(t);
  const { model } = browse.rig;
  model.visas = new Map([['t_1', { userId: 'ada' }], ['t_3', { userId: 'ada' }], ['t_4', { userId: 'ada' }]]);
  let tickets = 0;
  const ticket = () => `t_${(tickets += 1)}`;
  const tabs = [await browse.tab({ ticket }), await browse.tab({ ticket })];
  const seen = tabs.map(({ client }) => note(client, 'connected'));
  const { visas } = model;
  model.forget();
  model.visas = undefined;
  browse.rig.peer.hangUp(1006);
  await browse.pass(400);
  model.visas = visas;
  await browse.pass(6_000);
  assert.deepEqual(tabs.map(({ client }) => [client.status, client.userId]), [['online', 'ada'], ['online', 'ada']]);
  assert.ok(seen.flat().every(({ userId }) => userId === 'ada'));
});

test('echo: false, volatile messages and direct ones', async (t) => {
  const browse = new Browser(t);
  const [{ client: a }, { client: b }] = [await browse.tab(), await browse.tab()];
  const [mute, loud] = [a.join('live:r', { echo: false }), b.join('live:r')];
  const [one, two, letters] = [note(mute, 'typing'), note(loud, 'typing'), note(b.me, 'letter')];
  await settle();
  await mute.send({ type: 'typing' }, { volatile: true });
  browse.rig.model.publish('live:r', 'u_x', { type: 'typing' });
  await a.direct(a.userId).send({ type: 'letter' });
  await settle();
  assert.deepEqual([one.length, two.length, letters.length], [1, 2, 1]);
});

test('without locks every tab has a connection of its own', async (t) => {
  const rig = new Rig(t);
  rig.client({ share: true });
  rig.client({ share: true });
  await settle();
  assert.equal(rig.network.peers.length, 2);
});

test('refs of different tabs never meet and grow together', async (t) => {
  const browse = new Browser(t);
  const tabs = [await browse.tab(), await browse.tab(), await browse.tab()];
  const rooms = tabs.map(({ client }) => client.join('r'));
  await settle();
  await Promise.all(Array.from({ length: 300 }, (_, n) => rooms[n % 3]?.send({ type: 'chat', n })));
  const refs = browse.rig.peer.all('chat').map(({ ref }) => ref);
  assert.equal(new Set(refs).size, 300);
  assert.ok(refs.every(Number.isSafeInteger));
  assert.equal(new Set(refs.map((ref) => ref % 256)).size, 3);
});
