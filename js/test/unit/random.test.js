import assert from 'node:assert/strict';
import { test } from 'node:test';
import { dice } from '../support/dice.js';
import { Rig, note } from '../support/rig.js';

const SEEDS = Number(process.env.THRONG_SEEDS ?? 60);

test(`${SEEDS} runs with cuts at every moment: each message once and in order, each promise settled`, async (t) => {
  const rig = new Rig(t);
  let [cuts, duplicates] = [0, 0];
  for (let seed = 1; seed <= SEEDS; seed += 1) {
    const random = dice(seed);
    const pick = (/** @type {number} */ n) => Math.floor(random() * n);
    rig.model.forget();
    rig.network.peers.length = 0;
    const clients = [0, 1, 2].map(() => rig.client({ backoff: { random, base: 200, max: 400 } }));
    rig.clients.length = 0;
    const names = ['a', 'b'];
    const rooms = clients.map((client) => names.map((name) => client.join(name, { presence: true, echo: name === 'a' || client !== clients[2] })));
    const heard = rooms.map((own) => own.map((room) => note(room, 'chat')));
    const lost = rooms.flat().map((room) => note(room, 'lost'));
    await rig.pass(500);
    rig.network.manual = true;
    /** @type {Promise<any>[]} */ const sent = [];
    /** @type {string[][]} */ const expected = names.map(() => []);
    let n = 0;
    for (let step = 0; step < 120; step += 1) {
      const what = pick(10);
      if (what < 3) {
        const who = pick(3);
        const where = pick(2);
        n += 1;
        const id = `${who}:${n}`;
        expected[where]?.push(id);
        const room = /** @type {import('../../src/index.js').Room} */ (rooms[who]?.[where]);
        sent.push(room.send({ type: 'chat', id }).then((ack) => { duplicates += ack?.duplicate ? 1 : 0; }));
        if (pick(2)) await rig.pass(1);
      } else if (what < 9) {
        const open = rig.network.peers.filter((peer) => peer.open);
        open[pick(open.length)]?.flush(pick(4), pick(4));
      } else if (pick(2)) {
        const open = rig.network.peers.filter((peer) => peer.open);
        open[pick(open.length)]?.hangUp(1006);
        cuts += 1;
        await rig.pass(pick(500), 50);
      } else await rig.pass(pick(300), 50);
    }
    rig.network.manual = false;
    for (let i = 0; i < 40; i += 1) {
      for (const peer of rig.network.peers) peer.flush();
      await rig.pass(100, 50);
    }
    await Promise.all(sent);
    for (const [where, name] of names.entries()) {
      const log = rig.model.room(name).log.map(({ id }) => id);
      assert.deepEqual([...log].sort(), [...(expected[where] ?? [])].sort(), `seed ${seed}: published once each`);
      for (const who of [0, 1, 2]) {
        const own = log.filter((id) => id.startsWith(`${who}:`));
        assert.deepEqual(own, expected[where]?.filter((id) => id.startsWith(`${who}:`)), `seed ${seed}: in the order they were sent`);
        const silent = name === 'b' && who === 2;
        const all = silent ? log.filter((id) => !id.startsWith('2:')) : log;
        assert.deepEqual(heard[who]?.[where]?.map(({ id }) => id), all, `seed ${seed}: client ${who} heard all of ${name} once`);
        const room = /** @type {import('../../src/index.js').Room} */ (rooms[who]?.[where]);
        assert.deepEqual([...room.users.keys()].sort(), [...rig.model.room(name).users.keys()].sort(), `seed ${seed}: presence`);
        assert.equal(room.seq, log.length, `seed ${seed}: position`);
      }
    }
    assert.deepEqual(lost.flat(), []);
    for (const client of clients) {
      assert.deepEqual(client.pending, []);
      client.close();
    }
  }
  assert.ok(cuts > SEEDS && duplicates > SEEDS / 10, `there were ${cuts} cuts and ${duplicates} repeated messages`);
});
