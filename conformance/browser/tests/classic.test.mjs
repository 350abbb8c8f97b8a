// A page as tutorials have it, with nothing but a WebSocket, in one room with the chat page.
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Browser, Person, Server, newRoom, roomOf } from '../harness.mjs';

const CLASSIC = fileURLToPath(new URL('../pages/classic.html', import.meta.url));

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

/** The page, from the server's own address: another site's page may not connect to rooms. @param {string} room */
async function classic(room) {
  const { page, complaints } = await browser.page();
  // Chromium takes a page that a test provides for one of the internet, which may not reach this machine unasked.
  await page.context().grantPermissions(['local-network-access']);
  await page.route('**/classic.html*', (route) => route.fulfill({ path: CLASSIC, contentType: 'text/html' }));
  await page.goto(new URL(`/classic.html?${roomOf(room)}`, server.url).href);
  await page.waitForFunction(() => /^Connected/.test(document.getElementById('status')?.textContent ?? ''));
  return { page, complaints };
}

/** @param {import('playwright-core').Page} page @param {string} ending */
const reads = (page, ending) => page.waitForFunction((end) => [...document.querySelectorAll('#messages li')].some((item) => item.textContent?.endsWith(end)), ending);

test('the classic page and the chat page talk', async () => {
  const room = newRoom();
  const { page, complaints } = await classic(room);
  assert.match(await page.locator('#status').innerText(), /^Connected as u_\w+, 1 here$/);
  const craig = await Person.enter(browser, server, `/?Craig#/room/${room}`);
  await craig.sees(2);
  await reads(page, 'joined, 2 here');
  await page.locator('#text').fill('hello from 2011');
  await page.locator('#send').click();
  await craig.hears('hello from 2011');
  await reads(page, 'me: hello from 2011');
  assert.match(await craig.page.locator('.message .author').innerText(), /^Guest \w{4}$/, 'a client without a name has a stand-in');
  await craig.say('hello from now');
  await craig.delivered('hello from now');
  await reads(page, ': hello from now');
  await craig.leave();
  await reads(page, 'left, 1 here');
  const lines = await page.locator('#messages li').allInnerTexts();
  assert.equal(lines.length, 4, lines.join('\n'));
  assert.deepEqual(complaints, []);
});

test('two classic pages are two people', async () => {
  const room = newRoom();
  const [one, two] = [await classic(room), await classic(room)];
  await reads(one.page, 'joined, 2 here');
  await two.page.locator('#text').fill('ping');
  await two.page.locator('#send').click();
  await reads(one.page, ': ping');
  await reads(two.page, 'me: ping');
  const craig = await Person.enter(browser, server, `/?Craig#/room/${room}`);
  await craig.hears('ping');
  await craig.sees(3);
  assert.deepEqual([...one.complaints, ...two.complaints, ...craig.complaints], []);
});
