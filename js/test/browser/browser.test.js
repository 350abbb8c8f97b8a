import assert from 'node:assert/strict';
import { test } from 'node:test';
import { enter, heard, launch, send, status } from '../support/pages.js';
import { note } from '../support/rig.js';
import { Cable, Server, client as make, until } from '../support/server.js';

/** @param {import('playwright-core').Page} page */
const pending = (page) => page.evaluate(() => /** @type {any} */ (globalThis).client.pending.length);

/** @param {import('playwright-core').Page} page */
const sockets = (page) => page.evaluate(() => /** @type {any} */ (globalThis).sockets);

test('a reload resumes the session and sends again what was not answered', async (t) => {
  const server = await Server.start(t);
  const cable = await Cable.lay(t, server);
  const { tab, complaints } = await launch(t);
  const page = await tab(cable);
  const options = /** @type {const} */ ({ session: 'tab', outbox: 'local', backoff: { base: 50, max: 500 } });
  const before = await enter(page, options, 'r');
  await send(page, [1]);
  const watcher = make(t, server).join('r', { rewind: 10 });
  const all = note(watcher, 'chat');
  await watcher.ready;
  cable.deaf = true;
  await send(page, [2, 3], false);
  await until(() => all.length === 3, 'both to be published');
  cable.cut();
  await until(async () => (await status(page)) !== 'online', 'the page to notice');
  await send(page, [4], false);
  cable.plug();
  await page.reload();
  const after = await enter(page, options, 'r', { rewind: 10 });
  assert.deepEqual(after, before);
  await send(page, [5]);
  await until(async () => all.length === 5 && (await heard(page)).length === 5, 'all five');
  assert.deepEqual(await heard(page), [1, 2, 3, 4, 5]);
  assert.deepEqual(all.map(({ n }) => n), [1, 2, 3, 4, 5]);
  assert.equal(await pending(page), 0);
  assert.deepEqual(complaints, []);
});

test('a duplicated tab is somebody else, and the original stays', async (t) => {
  const server = await Server.start(t);
  const { tab, context, complaints } = await launch(t);
  const page = await tab(server);
  const original = await enter(page, { session: 'tab', outbox: 'local' }, 'r');
  const [copy] = await Promise.all([context.waitForEvent('page'), page.evaluate(() => { window.open(location.href); })]);
  await copy.waitForLoadState();
  const stored = await copy.evaluate(() => Object.keys(sessionStorage).length);
  assert.ok(stored > 0, 'the browser has copied the storage');
  const duplicate = await enter(copy, { session: 'tab', outbox: 'local' }, 'r');
  assert.notEqual(duplicate.sessionId, original.sessionId);
  await send(page, [1]);
  assert.equal(await status(page), 'online');
  assert.equal(await sockets(page), 1);
  assert.deepEqual(complaints, []);
});

test('tabs share one connection, and survive the one that has it', async (t) => {
  const server = await Server.start(t);
  const { tab, complaints } = await launch(t);
  const pages = [await tab(server), await tab(server), await tab(server)];
  const options = { share: true, backoff: { base: 50, max: 500 } };
  const identities = [];
  for (const page of pages) identities.push(await enter(page, options, 'r', { presence: true }));
  assert.equal(new Set(identities.map(({ sessionId }) => sessionId)).size, 1);
  assert.deepEqual(await Promise.all(pages.map(sockets)), [1, 0, 0]);
  const watcher = make(t, server).join('r', { presence: true });
  const all = note(watcher, 'chat');
  await watcher.ready;
  assert.equal(watcher.users.size, 2);
  await Promise.all(pages.map((page, i) => send(page, [10 * i, 10 * i + 1])));
  await until(() => all.length === 6, 'all six');
  for (const page of pages) await until(async () => (await heard(page)).length === 6, 'all six in each tab');
  const [host, second, third] = /** @type {[import('playwright-core').Page, import('playwright-core').Page, import('playwright-core').Page]} */ (/** @type {unknown} */ (pages));
  const closing = host.close();
  await Promise.all([send(second, [100, 101]), send(third, [200, 201]), closing]);
  await until(() => all.length === 10, 'all ten');
  for (const page of [second, third]) await until(async () => (await heard(page)).length === 10, 'all ten in each tab');
  assert.equal((await sockets(second)) + (await sockets(third)), 1);
  const order = all.map(({ n }) => n);
  assert.deepEqual(await heard(second), order);
  assert.deepEqual(await heard(third), order);
  assert.equal(watcher.users.size, 2);
  assert.deepEqual(complaints, []);
});

test('server-sent events in a browser, across a restart', async (t) => {
  const server = await Server.start(t, { durable: true });
  const { tab, complaints } = await launch(t);
  const page = await tab(server);
  await enter(page, { transport: 'sse', backoff: { base: 50, max: 500 } }, 'r', { presence: true });
  await send(page, [1, 2]);
  await server.kill();
  await until(async () => (await status(page)) === 'offline', 'the page to notice');
  await send(page, [3], false);
  await server.start();
  await send(page, [4]);
  await until(async () => (await heard(page)).length === 4, 'all four');
  assert.deepEqual(await heard(page), [1, 2, 3, 4]);
  assert.equal(await sockets(page), 0);
  assert.deepEqual(complaints, []);
});
