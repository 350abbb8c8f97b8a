import assert from 'node:assert/strict';
import { test } from 'node:test';
import { tab } from '../../src/tab.js';
import { Locks, Tab, browser, reload } from '../support/browser.js';
import { Rig, outcome, settle } from '../support/rig.js';

test('a reload of the tab resumes its session and sends what was not answered', async (t) => {
  const page = new Tab(browser(t));
  page.enter();
  const rig = new Rig(t);
  const client = await rig.online({ session: 'tab', outbox: 'local' });
  const room = client.join('r');
  await room.ready;
  rig.network.manual = true;
  outcome(room.send({ type: 'chat', n: 1 }));
  await settle();
  const before = rig.peer;
  before.flush(1, 0);
  await reload(page, client);
  rig.network.manual = false;

  const reloaded = await rig.online({ session: 'tab', outbox: 'local' });
  await settle();
  assert.equal(rig.peer.token, 't1');
  assert.equal(reloaded.sessionId, client.sessionId);
  assert.equal(reloaded.pending.length, 1);
  const again = reloaded.join('r');
  await again.ready;
  await again.send({ type: 'chat', n: 2 });
  assert.deepEqual(rig.model.room('r').log.map(({ n }) => n), [1, 2]);
  assert.equal(rig.peer.all('chat')[0]?.ref, before.last('chat').ref);
  assert.deepEqual(reloaded.pending, []);
});

test('a duplicated tab is somebody new and leaves the original alone', async (t) => {
  const locks = browser(t);
  const page = new Tab(locks);
  page.enter();
  const rig = new Rig(t);
  const options = /** @type {const} */ ({ session: 'tab', outbox: 'local' });
  const client = await rig.online(options);
  await settle();
  const copy = new Tab(locks, page);
  copy.enter();
  const duplicate = rig.client(options);
  await rig.pass(1_000);
  assert.equal(duplicate.status, 'online');
  assert.equal(rig.peer.token, null);
  assert.notEqual(duplicate.sessionId, client.sessionId);
  assert.equal(client.status, 'online');
  // And a reload of the duplicate is the duplicate.
  const { sessionId } = duplicate;
  await reload(copy, duplicate);
  const reloaded = rig.client(options);
  await rig.pass(1_000);
  assert.equal(reloaded.sessionId, sessionId);
});

test('a page whose predecessor is slow to go is not a duplicate', async (t) => {
  const page = new Tab(browser(t));
  page.enter();
  const rig = new Rig(t);
  const client = await rig.online({ session: 'tab' });
  await settle();
  const copy = new Tab(page.locks, page);
  copy.enter();
  const reloaded = rig.client({ session: 'tab' });
  await rig.pass(250);
  page.unload();
  await rig.pass(500);
  assert.equal(reloaded.sessionId, client.sessionId);
});

test('after `close` the next client of the page is somebody else, at once', async (t) => {
  const page = new Tab(browser(t));
  page.enter();
  const rig = new Rig(t);
  const client = await rig.online({ session: 'tab', outbox: 'local' });
  client.close();
  await settle();
  const next = await rig.online({ session: 'tab', outbox: 'local' });
  assert.equal(next.status, 'online');
  assert.equal(rig.peer.token, null);
});

test('without storage or locks there is nothing to keep, and no error', async (t) => {
  const rig = new Rig(t);
  const client = await rig.online({ session: 'tab', outbox: 'local' });
  client.on('error', (error) => assert.fail(error));
  await client.join('r').send({ type: 'chat' });
  assert.equal(client.status, 'online');
  browser(t);
  const page = new Tab(new Locks());
  page.enter();
  delete (/** @type {any} */ (globalThis).navigator.locks);
  page.values.set('k:session', 'not JSON');
  const { store, release } = tab('k');
  assert.equal(await store('session').load(), null);
  store('session').save({ a: 1 });
  assert.deepEqual(await store('session').load(), { a: 1 });
  const other = tab('k');
  assert.equal(await other.store('session').load(), null, 'one client at a time');
  release();
  assert.deepEqual(await tab('k').store('session').load(), { a: 1 });
});
