// Who is one person. An anonymous visitor is a session, and a session belongs to one tab: a reload keeps it, a second
// tab is somebody else, a duplicated tab too. Tabs are one person when they share a session, as the client's option
// `share` makes them, or when a ticket says so; the list of people then has them once.
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

test('two tabs of one person are in the list once, until both are gone', async () => {
  const room = newRoom();
  const craig = await Person.enter(browser, server, `/?Craig#/room/${room}`);
  const { page: first } = await browser.page();
  const second = await first.context().newPage();
  for (const tab of [first, second]) {
    await tab.goto(new URL('/chat/icon.svg', server.url).href);
    await tab.evaluate(async (name) => {
      const { connect } = await import(/** @type {string} */ ('/js/index.js'));
      const client = connect('/ws', { share: true, name: 'Twin' });
      const heard = /** @type {string[]} */ ([]);
      const room = client.join(name);
      Object.assign(window, { heard, client, room });
      room.on('chat', (/** @type {{ text: string }} */ { text }) => heard.push(text));
    }, roomOf(room));
    await tab.waitForFunction(() => /** @type {any} */ (window).room.joined);
  }
  await craig.sees(2);
  const ids = await Promise.all([first, second].map((tab) => tab.evaluate(() => /** @type {any} */ (window).client.userId)));
  assert.equal(ids[0], ids[1]);
  assert.deepEqual(await craig.people(), ['Craig', 'Twin']);
  await craig.say('to both of you');
  for (const tab of [first, second]) await tab.waitForFunction(() => /** @type {any} */ (window).heard.join() === 'to both of you');
  await first.close();
  await second.evaluate(() => { void /** @type {any} */ (window).room.send({ type: 'chat', text: 'one of us is left' }); });
  await craig.hears('one of us is left');
  assert.deepEqual(await craig.people(), ['Craig', 'Twin']);
  await second.close();
  await craig.sees(1);
  assert.deepEqual(craig.complaints, []);
});

test('a reload keeps the person, a second tab is another one', async () => {
  const room = newRoom();
  const craig = await Person.enter(browser, server, `/?Craig#/room/${room}`);
  const ada = await Person.enter(browser, server, `/?Ada#/room/${room}`);
  const link = () => ada.page.locator('#people-list a').evaluateAll((links) => links.map((node) => node.getAttribute('href')));
  await ada.sees(2);
  const was = await link();
  await craig.page.reload();
  await craig.online();
  await craig.sees(2);
  await craig.say('the same');
  await ada.hears('the same');
  assert.deepEqual(await link(), was);
  assert.deepEqual(await ada.people(), ['Ada', 'Craig']);
  const tab = await craig.page.context().newPage();
  await tab.goto(new URL(`/?Craig#/room/${room}`, server.url).href);
  await ada.sees(3);
  assert.deepEqual(await ada.people(), ['Ada', 'Craig', 'Craig']);
  assert.deepEqual([...craig.complaints, ...ada.complaints], []);
});

test('a duplicated tab is another person, and does not throw the first one out', async () => {
  const room = newRoom();
  const craig = await Person.enter(browser, server, `/?Craig#/room/${room}`);
  await craig.say('from the first');
  await craig.delivered('from the first');
  // The browser copies what the tab has stored, as it does when a tab is duplicated.
  const opened = craig.page.waitForEvent('popup');
  await craig.page.evaluate(() => { window.open(location.href); });
  const copy = new Person(await opened, []);
  await copy.online();
  await craig.sees(2);
  await copy.say('from the copy');
  await craig.hears('from the copy');
  await craig.say('still here');
  await copy.hears('still here');
  assert.deepEqual(await craig.people(), ['Craig', 'Craig']);
  assert.equal(await craig.page.locator('#link').getAttribute('data-state'), 'online');
  assert.deepEqual(craig.complaints, []);
});
