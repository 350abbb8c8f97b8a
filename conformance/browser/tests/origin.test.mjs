// A page of another origin in the same browser: it can open nothing, send nothing and read nothing.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { after, afterEach, before, test } from 'node:test';
import { Browser, Club, Person, newRoom } from '../harness.mjs';

/** @type {Club} */ let club;
/** @type {Browser} */ let browser;
/** The other site, which asks for no policy of its own. @type {import('node:http').Server} */ let site;
/** Its address. */ let elsewhere = '';

before(async () => {
  site = createServer((_, response) => response.setHeader('content-type', 'text/html').end('<!doctype html><title>elsewhere</title>')).listen(0, '127.0.0.1');
  await once(site, 'listening');
  const { port } = /** @type {import('node:net').AddressInfo} */ (site.address());
  elsewhere = `http://127.0.0.1:${port}/`;
  club = await Club.open();
  browser = await Browser.launch();
});

afterEach(() => browser.clear());

after(async () => {
  await browser?.close();
  await club?.close();
  site?.close();
  site?.closeAllConnections();
});

/** The victim's chat, signed in, and a page of the other site beside it in the same browser. @param {string} room */
async function victim(room) {
  const { page, complaints } = await browser.page();
  await page.goto(new URL(`/#/room/${room}`, club.server.url).href);
  const ada = new Person(page, complaints);
  await ada.online();
  await page.locator('#sign-in').click();
  await ada.signIn('ada');
  await page.waitForFunction(() => document.getElementById('me-before')?.textContent === 'Signed in as ');
  await ada.online();
  const trap = await page.context().newPage();
  await trap.goto(elsewhere);
  return { ada, trap };
}

/** What the trap gets from an address of the server. @param {import('playwright-core').Page} trap @param {string} path @param {RequestInit} [init] */
const reads = (trap, path, init) => trap.evaluate(async ([url, request]) => {
  try {
    const response = await fetch(String(url), /** @type {RequestInit} */ (request));
    return `${response.type} ${response.status} ${(await response.text()).length}`;
  } catch (error) {
    return /** @type {Error} */ (error).name;
  }
}, /** @type {const} */ ([new URL(path, club.server.url).href, init ?? {}]));

test('WebSockets: of no path, with no subprotocol, with a good ticket neither; and the ticket stays good', async () => {
  const room = newRoom();
  const { ada, trap } = await victim(room);
  const { ticket } = await club.api('POST', '/tickets', { userId: 'ada' });
  const dial = (/** @type {import('playwright-core').Page} */ from, /** @type {string} */ path, /** @type {string[]} */ protocols) => from.evaluate(([url, all]) => new Promise((resolve) => {
    const socket = new WebSocket(String(url), /** @type {string[]} */ (all));
    socket.onopen = () => resolve('open');
    socket.onclose = ({ code }) => resolve(code);
  }), /** @type {const} */ ([new URL(path, club.server.url).href.replace('http', 'ws'), protocols]));
  for (const path of ['/ws', '/', '/ws/lobby', `/ws/demo:${room}`, `/ws?ticket=${ticket}`]) {
    for (const protocols of [[], ['throng.v1'], ['throng.v1', `ticket.${ticket}`]]) assert.equal(await dial(trap, path, protocols), 1006, `${path} ${protocols}`);
  }
  await ada.sees(1);
  assert.equal(await dial(ada.page, '/ws', ['throng.v1', `ticket.${ticket}`]), 'open', 'a refused origin uses no ticket up');
  assert.deepEqual(ada.complaints, []);
});

test('events, messages, the API, metrics: nothing can be read', async () => {
  const { ada, trap } = await victim(newRoom());
  for (const [path, init] of /** @type {[string, RequestInit?][]} */ ([
    ['/sse?room=lobby'], ['/sse?room=lobby', { credentials: 'include' }], ['/send', { method: 'POST', body: '{}' }],
    ['/send', { method: 'POST', body: '{}', headers: { 'Content-Type': 'application/json', Authorization: 'Bearer x' } }],
    ['/api/v1/rooms'], ['/api/v1/rooms', { headers: { Authorization: `Bearer ${club.key}` } }], ['/api/v1/openapi.json'],
    ['/api/v1/tickets', { method: 'POST', body: '{"userId":"ada"}', headers: { Authorization: `Bearer ${club.key}`, 'Content-Type': 'application/json' } }],
    ['/login'], ['/metrics'], ['/'], ['/js/index.js'],
  ])) assert.equal(await reads(trap, path, init), 'TypeError', path);
  const events = await trap.evaluate((url) => new Promise((resolve) => {
    const source = new EventSource(url);
    source.onopen = () => resolve('open');
    source.onmessage = ({ data }) => resolve(data);
    source.onerror = () => resolve(source.readyState);
  }), new URL('/sse?room=lobby', club.server.url).href);
  assert.equal(events, 2, 'closed for good');
  assert.deepEqual(ada.complaints, []);
});

test('signing in: a page of another site cannot even try a password', async () => {
  const { ada, trap } = await victim(newRoom());
  const before = (await club.api('GET', '/users/bo/sessions')).sessions.length;
  const body = JSON.stringify({ user: 'bo', password: 'correct horse' });
  for (const type of ['application/json', 'text/plain', 'application/x-www-form-urlencoded']) {
    assert.equal(await reads(trap, '/login', { method: 'POST', body, headers: { 'Content-Type': type }, credentials: 'include' }), 'TypeError', type);
  }
  // What needs nobody's leave arrives, and must have no effect.
  await trap.evaluate(([url, text]) => fetch(String(url), { method: 'POST', mode: 'no-cors', body: text }).catch(() => {}), [new URL('/login', club.server.url).href, body]);
  for (const type of ['application/json', 'text/plain']) {
    const { status } = await fetch(new URL('/login', club.server.url), { method: 'POST', body, headers: { Origin: new URL(elsewhere).origin, 'Content-Type': type } });
    assert.equal(status, 403, `what they are answered: ${type}`);
  }
  await trap.evaluate(([url, text]) => {
    const form = document.createElement('form');
    form.method = 'POST';
    form.action = String(url);
    form.enctype = 'text/plain';
    const field = document.createElement('input');
    field.name = String(text).slice(0, -1) + ',"x":"';
    field.value = '"}';
    form.append(field);
    document.body.append(form);
    form.submit();
  }, [new URL('/login', club.server.url).href, body]);
  await trap.waitForURL(/\/login$/);
  assert.doesNotMatch(await trap.locator('body').innerText(), /t_/);
  assert.equal((await club.api('GET', '/users/bo/sessions')).sessions.length, before);
  assert.deepEqual(ada.complaints, []);
});

test('the chat shows in no frame, and its files are no resource of others', async () => {
  const { trap } = await victim(newRoom());
  /** @type {string[]} */ const refused = [];
  trap.on('console', (message) => refused.push(message.text()));
  const framed = await trap.evaluate((url) => new Promise((resolve) => {
    const frame = document.createElement('iframe');
    frame.src = url;
    frame.onload = () => resolve(frame.contentWindow?.length);
    document.body.append(frame);
  }), club.server.url);
  assert.equal(framed, 0);
  assert.equal(await trap.frames()[1]?.locator('#message').count().catch(() => 0), 0);
  const script = await trap.evaluate((url) => new Promise((resolve) => {
    const node = document.createElement('script');
    node.src = url;
    node.onload = () => resolve('loaded');
    node.onerror = () => resolve('refused');
    document.body.append(node);
  }), new URL('/chat/icon.svg', club.server.url).href);
  assert.equal(script, 'refused');
  const opened = await trap.evaluate((url) => window.open(url) === null, club.server.url);
  assert.equal(typeof opened, 'boolean');
  const popup = trap.context().pages().at(-1);
  assert.equal(await popup?.evaluate(() => window.opener), null, 'nor does it know who opened it');
  assert.ok(refused.some((text) => /frame-ancestors|X-Frame|Framing/i.test(text)), refused.join('\n'));
});
