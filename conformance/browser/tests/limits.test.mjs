// Somebody who sends more than the server takes: told, and nothing is lost.
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { Browser, Person, Server, newRoom, roomOf } from '../harness.mjs';

/** @type {Browser} */ let browser;
/** Takes twenty messages a second after the first hundred. @type {Server} */ let server;

before(async () => {
  server = await Server.start(['--memory', '--set', 'rooms.rate=20/s burst 100']);
  browser = await Browser.launch();
});

afterEach(() => browser.clear());

after(async () => {
  await browser?.close();
  await server?.stop();
});

test('520 pasted messages all arrive, once; the page says that it waits, and a bystander waits for nothing', async () => {
  const room = newRoom();
  const [craig, ada] = [await Person.enter(browser, server, `/?Craig#/room/${room}`), await Person.enter(browser, server, `/?Ada#/room/${room}`)];
  await craig.sees(2);
  /** What is published, by a client that keeps all of it. */
  const { page: desk } = await browser.page();
  await desk.goto(new URL('/chat/icon.svg', server.url).href);
  await desk.evaluate(async (where) => {
    const { connect } = await import(/** @type {string} */ ('/js/index.js'));
    const heard = /** @type {string[]} */ ([]);
    const place = connect('/ws', {}).join(where);
    place.on('chat', (/** @type {{ text: string }} */ { text }) => heard.push(text));
    await place.ready;
    Object.assign(window, { heard });
  }, roomOf(room));
  const wanted = Array.from({ length: 520 }, (_, i) => `line ${i}`);
  await craig.sayAll(wanted);
  await craig.page.waitForSelector('#banner[data-state="limited"]');
  assert.equal(await craig.page.locator('#banner-text').innerText(), 'You are sending too fast. The rest goes out bit by bit.');
  assert.equal(await craig.page.locator('#link').getAttribute('data-state'), 'online');
  await craig.page.waitForFunction(() => /^\d+ messages wait to be sent\.$/.test(document.getElementById('banner-queue')?.textContent ?? ''));
  await ada.say('excuse me');
  await ada.delivered('excuse me');
  await desk.waitForFunction((count) => /** @type {any} */ (window).heard.length >= count, 521, { timeout: 120_000 });
  const heard = await desk.evaluate(() => /** @type {any} */ (window).heard);
  const lines = heard.filter((/** @type {string} */ text) => text.startsWith('line '));
  assert.deepEqual(lines.toSorted(), wanted.toSorted(), 'each once');
  const late = lines.filter((/** @type {string} */ text, /** @type {number} */ i) => i > 0 && Number(text.slice(5)) < Number(lines[i - 1].slice(5))).length;
  console.log(`# out of order: ${late} of 520`);
  await craig.page.waitForFunction(() => document.querySelectorAll('.mine:is([data-delivery="sending"], [data-delivery="waiting"], [data-delivery="failed"])').length === 0);
  await craig.page.locator('#banner').waitFor({ state: 'hidden' });
  assert.deepEqual([...craig.complaints, ...ada.complaints], []);
});

test('a server that is full says so, and the page claims nothing of a room it has not seen', async () => {
  const small = await Server.start(['--memory', '--set', 'limits.max_connections=1']);
  try {
    const first = await Person.enter(browser, small, '/?First');
    const { page } = await browser.page();
    await page.goto(new URL('/?Second', small.url).href);
    const second = new Person(page, []);
    await second.reads(/^The server is full at the moment\.$/);
    assert.equal(await page.locator('#empty').isVisible(), false);
    await first.leave();
    await second.online();
    await page.locator('#empty').waitFor({ state: 'visible' });
  } finally {
    await small.stop();
  }
});
