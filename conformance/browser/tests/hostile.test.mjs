// Whatever somebody puts into a field, it stays text wherever the page shows it.
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { Browser, Person, Server, newRoom, roomOf } from '../harness.mjs';

/** @type {Server} */ let server;
/** @type {Browser} */ let browser;

before(async () => {
  server = await Server.start();
  browser = await Browser.launch();
});

afterEach(() => browser.clear());

after(async () => {
  await browser?.close();
  await server?.stop();
});

const BAD = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>';

/** A plain client that sends what it likes. @param {string} room @param {string} name @param {object[]} messages */
async function stranger(room, name, messages) {
  const { page } = await browser.page();
  await page.goto(new URL('/chat/icon.svg', server.url).href);
  await page.evaluate(async ([where, who, all]) => {
    const socket = new WebSocket(`ws://${location.host}/ws/${where}?name=${encodeURIComponent(String(who))}`);
    Object.assign(window, { socket });
    await new Promise((resolve, reject) => {
      socket.onmessage = resolve;
      socket.onerror = reject;
    });
    for (const message of /** @type {object[]} */ (all)) socket.send(JSON.stringify(message));
  }, [roomOf(room), name, messages]);
  return page;
}

test('names, texts, types, keys, peers: nothing becomes markup', async () => {
  const room = newRoom();
  const craig = await Person.enter(browser, server, `/?Craig#/room/${room}`);
  await stranger(room, BAD, [
    { type: BAD.slice(0, 60), text: BAD },
    { type: 'chat', text: BAD, name: BAD, key: BAD, peer: BAD },
    { type: 'chat', text: `https://example.org/"onmouseover="window.hacked=1" ${BAD}`, name: { toString: BAD } },
    { type: 'chat', text: { html: BAD } },
    { type: 'chat' },
    { type: 'chat', text: 'javascript:window.hacked=1 data:text/html,<script>1</script>' },
    { type: 'chat', text: 'last' },
  ]);
  await craig.hears('last');
  await craig.sees(2);
  const shown = await craig.page.evaluate(() => document.body.innerText);
  assert.ok(shown.includes(BAD), 'the text is shown as it is');
  assert.ok(shown.includes('of type “<img src=x'), 'and so is the type');
  const links = await craig.page.locator('#rows .text a').evaluateAll((all) => all.map((node) => /** @type {HTMLAnchorElement} */ (node).protocol));
  assert.deepEqual(links, ['https:']);
  await craig.page.locator('#people-list a').click();
  await craig.page.waitForFunction(() => document.body.dataset.kind === 'direct');
  await craig.say(BAD);
  await craig.delivered(BAD);
  await clean(craig);
});

test('a direct message and a typing indicator of somebody hostile', async () => {
  const room = newRoom();
  const craig = await Person.enter(browser, server, `/?Craig#/room/${room}`);
  const me = await craig.page.evaluate(() => sessionStorage.getItem('throng.ids') ?? '');
  assert.match(me, /^u_/);
  const { page } = await browser.page();
  await page.goto(new URL('/chat/icon.svg', server.url).href);
  await page.evaluate(async ([where, to, bad]) => {
    const { connect } = await import(/** @type {string} */ ('/js/index.js'));
    const client = connect('/ws', { name: bad });
    void client.direct(to).send({ type: 'chat', text: bad, name: bad, key: bad, peer: bad });
    void client.direct(to).send({ type: bad?.slice(0, 60), text: bad });
    const live = client.join(`live:${where}`);
    live.ready.then(() => live.send({ type: 'typing', name: bad }, { volatile: true }));
  }, [roomOf(room), me, BAD]);
  await craig.page.waitForFunction(() => document.getElementById('typing')?.textContent !== '');
  await craig.page.locator('#direct-list a').click();
  await craig.hears(BAD);
  assert.equal(await craig.page.locator('.message').count(), 1);
  await clean(craig);
});

test('addresses that name no place', async () => {
  for (const hash of [`#/room/${encodeURIComponent(BAD)}`, `#/to/${encodeURIComponent(BAD)}`, '#/room/%', `#${BAD}`, '#/room/../../etc']) {
    const craig = await Person.enter(browser, server, `/?Craig${hash}`);
    assert.match(await craig.page.locator('#room').innerText(), /^lobby$|^\.\.\//, hash);
    await clean(craig);
    await craig.leave();
  }
});

test('a storage full of nonsense', async () => {
  const { page, complaints } = await browser.page();
  const craig = new Person(page, complaints);
  await page.addInitScript((bad) => {
    for (const key of ['throng.rooms', 'throng.people', 'throng.ids', 'name']) {
      sessionStorage.setItem(key, bad);
      localStorage.setItem(key, bad);
    }
    localStorage.setItem('throng.rooms', JSON.stringify([{ name: bad }, { name: 'fine', seen: { epoch: bad, seq: 'x' } }]));
    sessionStorage.setItem('throng.people', JSON.stringify({ [bad]: { closed: false }, __proto__: { x: 1 } }));
  }, BAD);
  await page.goto(server.url);
  await craig.online();
  await craig.say('hello');
  await craig.delivered('hello');
  assert.ok((await craig.places()).includes('fine'));
  await clean(craig);
});

/** @param {Person} person */
async function clean({ page, complaints }) {
  assert.equal(await page.locator('body img, body script, #rows svg, #people-list svg, #room-list svg, #direct-list svg').count(), 0);
  assert.equal(await page.evaluate(() => 'hacked' in window), false);
  assert.deepEqual(complaints, []);
}
