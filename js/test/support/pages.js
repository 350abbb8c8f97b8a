// Chromium, and pages of the server in it.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

/**
 * A browser that ends with the test. Its pages count their WebSockets in `sockets`, and fail the test with what goes wrong.
 * @param {import('node:test').TestContext} test
 */
export async function launch(test) {
  const profile = await mkdtemp(join(tmpdir(), 'throng-js-browser-'));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    headless: true,
    args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  });
  test.after(async () => {
    await context.close();
    await rm(profile, { recursive: true, force: true, maxRetries: 5 });
  });
  /** @type {string[]} */ const complaints = [];
  context.on('page', (page) => { page.on('pageerror', (error) => complaints.push(String(error))); });
  await context.addInitScript(() => {
    const page = /** @type {any} */ (globalThis);
    page.sockets = 0;
    page.WebSocket = class extends WebSocket {
      /** @param {string} url @param {string[]} protocols */
      constructor(url, protocols) {
        super(url, protocols);
        page.sockets += 1;
      }
    };
  });
  return {
    context,
    complaints,
    /** A tab on the server, without a program of its own. @param {{ port: number }} at */
    tab: async (at) => {
      const page = await context.newPage();
      await page.goto(`http://127.0.0.1:${at.port}/chat/icon.svg`);
      return page;
    },
  };
}

/**
 * Connects in a page, and joins a room there: `client`, `room` and `heard` (what came of type `chat`, its `n`) are its globals.
 * @param {import('playwright-core').Page} page
 * @param {import('../../src/index.js').Options} options
 * @param {import('../../src/index.js').Room['name']} name
 * @param {import('../../src/room.js').JoinOptions} [join]
 */
export const enter = (page, options, name, join) => page.evaluate(async ([settings, room, how]) => {
  const path = '/js/index.js';
  const { connect } = /** @type {typeof import('../../src/index.js')} */ (await import(path));
  const globals = /** @type {any} */ (globalThis);
  globals.client = connect('/ws', /** @type {any} */ (settings));
  globals.room = globals.client.join(room, how);
  globals.heard = [];
  globals.room.on('chat', (/** @type {{ n: number }} */ { n }) => globals.heard.push(n));
  await globals.room.ready;
  return { userId: globals.client.userId, sessionId: globals.client.sessionId };
}, /** @type {const} */ ([options, name, join]));

/** Sends numbers; waits for the answers unless told otherwise. @param {import('playwright-core').Page} page @param {number[]} numbers */
export const send = (page, numbers, wait = true) => page.evaluate(async ([list, waits]) => {
  const { room } = /** @type {any} */ (globalThis);
  const sent = Promise.all(list.map((n) => room.send({ type: 'chat', n })));
  if (waits) await sent;
  else sent.catch(() => {});
}, /** @type {const} */ ([numbers, wait]));

/** What the page has heard. @param {import('playwright-core').Page} page @returns {Promise<number[]>} */
export const heard = (page) => page.evaluate(() => /** @type {any} */ (globalThis).heard);

/** @param {import('playwright-core').Page} page @returns {Promise<string>} */
export const status = (page) => page.evaluate(() => /** @type {any} */ (globalThis).client.status);
