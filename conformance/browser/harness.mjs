// A server on a free port, a browser, and pages that note every complaint of the browser.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

/** How long a thing may take on a slow machine before a test gives up, in milliseconds. */
export const PATIENCE = 60_000;

let ports = 0;

/**
 * A port that nobody has, below those that the system gives to whoever connects: it stays free while its server is down.
 * @returns {Promise<number>}
 */
async function freePort() {
  for (;;) {
    const port = 10_100 + ((process.pid * 911 + ports) % 20_000);
    ports += 1;
    const probe = createServer().listen(port, '127.0.0.1');
    const free = await once(probe, 'listening').then(() => true, () => false);
    if (!free) continue;
    probe.close();
    await once(probe, 'close');
    return port;
  }
}

/** The binary under test. */
function binary() {
  const file = process.env.THRONG_BIN;
  if (!file) throw new Error('THRONG_BIN must name the throng binary');
  return file;
}

/** Our variables without those that are settings to the binary. */
const ENV = Object.fromEntries(Object.entries(process.env).filter(([key]) => !key.startsWith('THRONG_')));

/**
 * Runs a command of the binary.
 * @param {string[]} args
 * @param {string} [input]
 * @returns {Promise<string>} what it prints
 */
export async function throng(args, input = '') {
  const child = spawn(binary(), args, { stdio: ['pipe', 'pipe', 'pipe'], env: ENV });
  let [out, complaint] = ['', ''];
  child.stdout.on('data', (data) => { out += data; });
  child.stderr.on('data', (data) => { complaint += data; });
  child.stdin.end(input);
  const [code] = await once(child, 'close');
  if (code !== 0) throw new Error(`throng ${args.join(' ')}: ${complaint}`);
  return out;
}

/** For rooms without the mapping of the page: everybody may be anywhere, as it is not by default. */
export const OPEN = ['--set', 'access.anonymous=*'];

/** The binary under test, started and stopped at will on one port. */
export class Server {
  /** @type {import('node:child_process').ChildProcess | null} */ #process = null;
  #output = '';

  /** @param {number} port @param {string[]} options */
  constructor(port, options) {
    this.port = port;
    this.options = options;
    this.url = `http://127.0.0.1:${port}/`;
  }

  /** @param {string[]} [options] of `throng serve` */
  static async start(options = ['--memory']) {
    const server = new Server(await freePort(), options);
    await server.start();
    return server;
  }

  /** What it has printed. */
  get output() {
    return this.#output;
  }

  /** Starts it unless it runs. */
  async start() {
    if (this.#process !== null) return;
    const child = spawn(binary(), ['serve', ...this.options, '--listen', `127.0.0.1:${this.port}`], { stdio: ['ignore', 'pipe', 'pipe'], env: ENV });
    this.#process = child;
    child.stdout.on('data', (data) => { this.#output += data; });
    child.stderr.on('data', (data) => { this.#output += data; });
    const failed = once(child, 'error').then(([error]) => { throw error; });
    failed.catch(() => {});
    const end = Date.now() + PATIENCE;
    while (!(await Promise.race([this.#answers(), failed]))) {
      if (child.exitCode !== null || Date.now() > end) throw new Error(`the server did not start:\n${this.#output}`);
      await new Promise((resolve) => { setTimeout(resolve, 30); });
    }
  }

  /** Kills it as a power cut would. @param {NodeJS.Signals} [signal] */
  async stop(signal = 'SIGKILL') {
    const child = this.#process;
    this.#process = null;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    const exit = once(child, 'exit');
    child.kill(signal);
    await exit;
  }

  async #answers() {
    try {
      return (await fetch(this.url)).ok;
    } catch {
      return false;
    }
  }
}

/** A server with users who log in, in a data directory of its own, and a key for its API. */
export class Club {
  /** @param {Server} server @param {string} folder @param {string} key */
  constructor(server, folder, key) {
    this.server = server;
    this.folder = folder;
    this.key = key;
  }

  /**
   * Ada and Bo have the password `correct horse`; Ada may be in `team:*`.
   * @param {string[]} [options] of `throng serve`
   */
  static async open(options = []) {
    const folder = await mkdtemp(join(tmpdir(), 'throng-club-'));
    const add = (/** @type {string[]} */ ...args) => throng(['user', 'add', ...args, '--password-stdin', '--data', folder], 'correct horse\n');
    await add('ada', '--name', 'Ada Lovelace', '--room', 'team:*', '--room', 'live:team:*');
    await add('bo', '--name', 'Bo');
    const [key = '', line = ''] = (await throng(['key', 'new', '--name', 'test'])).trim().split('\n');
    const server = await Server.start(['--data', folder, '--set', 'login.enabled=true', '--set', 'login.attempts=10/m burst 10', '--set', `api.keys=${line}`, ...options]);
    return new Club(server, folder, key);
  }

  /** Asks the HTTP API. @param {string} method @param {string} path below /api/v1 @param {object} [body] */
  async api(method, path, body) {
    const headers = { Authorization: `Bearer ${this.key}`, ...(body && { 'Content-Type': 'application/json' }) };
    const response = await fetch(new URL(`/api/v1${path}`, this.server.url), { method, headers, body: body && JSON.stringify(body) });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return text === '' ? undefined : JSON.parse(text);
  }

  async close() {
    await this.server.stop();
    await rm(this.folder, { recursive: true, force: true });
  }
}

export class Browser {
  /** @param {import('playwright-core').BrowserContext} base @param {string} profile */
  constructor(base, profile) {
    this.browser = /** @type {import('playwright-core').Browser} */ (base.browser());
    this.base = base;
    this.profile = profile;
  }

  static async launch() {
    const profile = await mkdtemp(join(tmpdir(), 'throng-browser-'));
    const base = await chromium.launchPersistentContext(profile, {
      executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
      headless: true,
      args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
        '--disable-component-update', '--disable-sync', '--font-render-hinting=none'],
    });
    return new Browser(base, profile);
  }

  /**
   * A page in a context of its own: another person at another machine.
   * @param {import('playwright-core').BrowserContextOptions} [options]
   */
  async page(options = {}) {
    const context = await this.browser.newContext({ viewport: { width: 1100, height: 720 }, locale: 'en-GB', ...options });
    context.setDefaultTimeout(PATIENCE);
    const page = await context.newPage();
    const complaints = watch(page);
    await page.addInitScript(() => {
      document.addEventListener('securitypolicyviolation', (event) => {
        console.error(`CSP: ${event.violatedDirective} ${event.blockedURI}`);
      });
    });
    return { page, complaints };
  }

  /** Closes all pages, so that one test leaves nobody behind for the next. */
  async clear() {
    await Promise.all(this.browser.contexts().filter((context) => context !== this.base).map((context) => context.close()));
  }

  async close() {
    await this.base.close();
    await rm(this.profile, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** What a browser says of a server that is down. */
const EXPECTED = /WebSocket connection to .* failed|net::ERR_(?:CONNECTION_REFUSED|CONNECTION_RESET|EMPTY_RESPONSE|INTERNET_DISCONNECTED|INCOMPLETE_CHUNKED_ENCODING|NETWORK_CHANGED)/;

let rooms = 0;

/** A room that no other test has used: rooms remember what was said in them. */
export function newRoom() {
  rooms += 1;
  return `room-${rooms}`;
}

/** What the server calls a room that people call so. @param {string} name */
export const roomOf = (name) => `demo:${name}`;

/** Everything the page has to complain of, but for the failed connections of a server that is down. @param {import('playwright-core').Page} page */
function watch(page) {
  /** @type {string[]} */
  const complaints = [];
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type()) && !EXPECTED.test(message.text())) complaints.push(message.text());
  });
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('dialog', (dialog) => {
    complaints.push(`dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on('response', (response) => {
    if (response.status() >= 400) complaints.push(`${response.status()} ${response.url()}`);
  });
  page.on('request', (request) => {
    const { origin } = new URL(request.url());
    if (origin !== 'null' && page.url().startsWith('http') && origin !== new URL(page.url()).origin) complaints.push(`foreign request: ${request.url()}`);
  });
  return complaints;
}

/**
 * A person in the chat, with the verbs of a test.
 */
export class Person {
  /** @param {import('playwright-core').Page} page @param {string[]} complaints */
  constructor(page, complaints) {
    this.page = page;
    this.complaints = complaints;
  }

  /**
   * @param {Browser} browser
   * @param {Server} server
   * @param {string} address with a question mark, and a hash for the room: the lobby without one
   * @param {import('playwright-core').BrowserContextOptions} [options]
   */
  static async enter(browser, server, address, options) {
    const { page, complaints } = await browser.page(options);
    await page.goto(new URL(address, server.url).href);
    const person = new Person(page, complaints);
    await person.online();
    return person;
  }

  /** By the form that is open. @param {string} user @param {string} [password] */
  async signIn(user, password = 'correct horse') {
    await this.page.locator('#login-user').fill(user);
    await this.page.locator('#login-password').fill(password);
    await this.page.locator('#login-password').press('Enter');
  }

  /** Waits until the page says so about the connection. @param {RegExp} words */
  async reads(words) {
    await this.page.waitForFunction((source) => {
      const banner = document.getElementById('banner');
      return banner?.hidden === false && new RegExp(source).test(document.getElementById('banner-text')?.textContent ?? '');
    }, words.source);
  }

  online() {
    return this.page.waitForSelector('#link[data-state="online"]', { state: 'attached' });
  }

  /** @param {string} text */
  async say(text) {
    await this.page.locator('#message').fill(text);
    await this.page.locator('#message').press('Enter');
  }

  /** All at once, as fast as the page takes them. @param {string[]} texts */
  async sayAll(texts) {
    await this.page.evaluate((all) => {
      const field = /** @type {HTMLTextAreaElement} */ (document.getElementById('message'));
      for (const text of all) {
        field.value = text;
        field.form?.requestSubmit();
      }
    }, texts);
  }

  /** Waits until a message with exactly this text is there. @param {string} text */
  async hears(text) {
    await this.page.waitForFunction((wanted) => [...document.querySelectorAll('.message .text')].some((node) => node.textContent === wanted), text);
  }

  /** Goes to a room, or to a person. @param {string} hash */
  async go(hash) {
    await this.page.evaluate((to) => { location.hash = to; }, hash);
    await this.page.waitForFunction((to) => document.querySelector('.place[aria-current]')?.getAttribute('href') === to, hash);
  }

  /** The list on the left, with what is unread: `lobby`, `design 2`. */
  places() {
    return this.page.locator('.places li').evaluateAll((items) => items.map((item) => {
      const unread = item.querySelector('.badge')?.firstChild?.textContent ?? '';
      return `${item.querySelector('.who')?.textContent}${unread === '' ? '' : ` ${unread}`}`;
    }));
  }

  /** Waits until that list is this. @param {string[]} expected */
  async lists(expected) {
    const end = Date.now() + PATIENCE;
    while (JSON.stringify(await this.places()) !== JSON.stringify(expected) && Date.now() < end) await this.page.waitForTimeout(20);
    assert.deepEqual(await this.places(), expected);
  }

  /** Waits for an entry of that list, or for its number of unread messages. @param {string} name @param {number} unread */
  async unread(name, unread) {
    await this.page.waitForFunction(([wanted, number]) => [...document.querySelectorAll('.places li')].some((item) =>
      item.querySelector('.who')?.textContent === wanted && (item.querySelector('.badge')?.firstChild?.textContent ?? '0') === number), [name, String(unread)]);
  }

  /** As if the tab went to the background or came back. @param {boolean} hidden */
  async hide(hidden) {
    await this.page.evaluate((value) => {
      Object.defineProperty(document, 'hidden', { configurable: true, get: () => value });
      Object.defineProperty(document, 'visibilityState', { configurable: true, get: () => (value ? 'hidden' : 'visible') });
      document.dispatchEvent(new Event('visibilitychange'));
    }, hidden);
  }

  /** All texts, in order. */
  texts() {
    return this.page.locator('.message .text').allTextContents();
  }

  /** The lines the page says itself, without their time. */
  notices() {
    return this.page.locator('.notice > span:first-child').allTextContents();
  }

  /** Who is here, ourselves first. */
  people() {
    return this.page.locator('#people-list .who').allTextContents();
  }

  /** @param {number} count */
  async sees(count) {
    await this.page.waitForFunction((wanted) => document.querySelectorAll('#people-list li').length === wanted, count);
  }

  /** Waits until the last of our messages is confirmed. @param {string} text */
  async delivered(text) {
    await this.page.waitForFunction((wanted) => [...document.querySelectorAll('.message.mine')].some((node) => node instanceof HTMLElement
      && node.dataset.delivery === 'sent' && node.querySelector('.text')?.textContent === wanted), text);
  }

  leave() {
    return this.page.context().close();
  }
}
