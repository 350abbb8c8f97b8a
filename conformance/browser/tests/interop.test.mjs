// Chromium's WebSocket against the endpoints: text, binary, compression, close codes, 16 MiB.
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { Browser, Server } from '../harness.mjs';

/** @type {Server} */ let server;
/** @type {Browser} */ let browser;

before(async () => {
  server = await Server.start();
  browser = await Browser.launch();
});

afterEach(async () => {
  await browser.clear();
  await server.start();
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

/** A page of the server without sockets of its own. It gets `connect(path)`, whose result has `next()`. */
async function blank() {
  const { page } = await browser.page();
  await page.goto(new URL('/healthz', server.url).href);
  await page.evaluate(() => {
    /** @param {string} path */
    const connect = async (path) => {
      const socket = new WebSocket(new URL(path, location.href.replace('http', 'ws')));
      socket.binaryType = 'arraybuffer';
      /** @type {unknown[]} */ const inbox = [];
      let wake = () => {};
      socket.onmessage = ({ data }) => { inbox.push(data); wake(); };
      socket.onclose = ({ code, reason, wasClean }) => { inbox.push({ code, reason, wasClean }); wake(); };
      await new Promise((resolve, reject) => { socket.onopen = resolve; socket.onerror = reject; });
      const next = async () => {
        while (inbox.length === 0) {
          if (socket.readyState === WebSocket.CLOSED) throw new Error('nothing more will come');
          await new Promise((resolve) => { wake = () => resolve(undefined); });
        }
        return inbox.shift();
      };
      return { socket, next };
    };
    Object.assign(globalThis, { connect });
  });
  return page;
}

/**
 * @typedef {{ socket: WebSocket, next: () => Promise<any> }} Connected
 * @typedef {{ connect: (path: string) => Promise<Connected> }} Page
 */

test('texts come back as texts', async () => {
  const page = await blank();
  const texts = ['', 'a', 'grüße, 世界 😀', '\0', 'x'.repeat(125), 'x'.repeat(126), 'ä'.repeat(70_000)];
  const echoes = await page.evaluate(async (wanted) => {
    const { socket, next } = await /** @type {Page} */ (/** @type {unknown} */ (globalThis)).connect('/echo');
    const got = [];
    for (const text of wanted) {
      socket.send(text);
      got.push(await next());
    }
    return got;
  }, texts);
  assert.deepEqual(echoes, texts);
});

test('binary messages come back as binary, byte for byte', async () => {
  const page = await blank();
  const same = await page.evaluate(async () => {
    const { socket, next } = await /** @type {Page} */ (/** @type {unknown} */ (globalThis)).connect('/echo');
    const outcomes = [];
    for (const size of [0, 1, 125, 126, 65_535, 65_536, 500_000]) {
      const sent = Uint8Array.from({ length: size }, (_, n) => n * 31 % 251);
      socket.send(sent);
      const got = await next();
      outcomes.push(got instanceof ArrayBuffer && got.byteLength === size && new Uint8Array(got).every((byte, n) => byte === sent[n]));
    }
    return outcomes;
  });
  assert.deepEqual(same, same.map(() => true));
});

test('compression is agreed and understood both ways', async () => {
  const page = await blank();
  const { extensions, same } = await page.evaluate(async () => {
    const { socket, next } = await /** @type {Page} */ (/** @type {unknown} */ (globalThis)).connect('/echo');
    const same = [];
    for (let round = 0; round < 5; round++) {
      const text = `round ${round}: ${'much of this is said again and again. '.repeat(5000)}`;
      socket.send(text);
      same.push(await next() === text);
    }
    return { extensions: socket.extensions, same };
  });
  assert.match(extensions, /permessage-deflate/);
  assert.deepEqual(same, [true, true, true, true, true]);
});

test('16 MiB, binary and text', async () => {
  const page = await blank();
  const same = await page.evaluate(async () => {
    const { socket, next } = await /** @type {Page} */ (/** @type {unknown} */ (globalThis)).connect('/echo');
    const sent = new Uint32Array(4 << 20).map((_, n) => Math.imul(n, 2654435761));
    socket.send(sent);
    const got = await next();
    const binary = got instanceof ArrayBuffer ? new Uint32Array(got).every((word, n) => word === sent[n]) : got;
    const text = '0123456789abcdef'.repeat(1 << 20);
    socket.send(text);
    return [binary, await next() === text];
  });
  assert.deepEqual(same, [true, true]);
});

test('close codes of the page are answered', async () => {
  const page = await blank();
  const codes = /** @type {[number, string][]} */ ([[1000, ''], [1000, 'done'], [3000, 'für alle'], [4999, 'r'.repeat(123)]]);
  const ends = await page.evaluate(async (wanted) => {
    const got = [];
    for (const [code, reason] of wanted) {
      const { socket, next } = await /** @type {Page} */ (/** @type {unknown} */ (globalThis)).connect('/echo');
      socket.close(code, reason);
      got.push(await next());
    }
    return got;
  }, codes);
  assert.deepEqual(ends.map(({ code, wasClean }) => [code, wasClean]), codes.map(([code]) => [code, true]));
});

test('close codes of the server reach the page', async () => {
  const page = await blank();
  const tooBig = await page.evaluate(async () => {
    const { socket, next } = await /** @type {Page} */ (/** @type {unknown} */ (globalThis)).connect('/relay');
    socket.send(new Uint8Array((1 << 20) + 1));
    return next();
  });
  assert.deepEqual([tooBig.code, tooBig.wasClean], [1009, true]);

  const ending = page.evaluate(async () => {
    const { socket, next } = await /** @type {Page} */ (/** @type {unknown} */ (globalThis)).connect('/echo');
    socket.send('connected');
    document.title = await next();
    return next();
  });
  await page.waitForFunction(() => document.title === 'connected');
  await server.stop('SIGTERM');
  const restarting = await ending;
  assert.deepEqual([restarting.code, restarting.wasClean], [1012, true]);
});

test('a relay passes text and binary on to another page as they are', async () => {
  const [sender, reader] = [await blank(), await blank()];
  const heard = reader.evaluate(async () => {
    const { next } = await /** @type {Page} */ (/** @type {unknown} */ (globalThis)).connect('/relay/pair');
    document.title = 'connected';
    const got = [await next(), await next()];
    return [got[0], got[1] instanceof ArrayBuffer && [...new Uint8Array(got[1])]];
  });
  await reader.waitForFunction(() => document.title === 'connected');
  await sender.evaluate(async () => {
    const { socket, next } = await /** @type {Page} */ (/** @type {unknown} */ (globalThis)).connect('/relay/pair');
    socket.send('{"name":"Craig","msg":"hello"}');
    socket.send(Uint8Array.of(0, 255, 7));
    await next();
    await next();
  });
  assert.deepEqual(await heard, ['{"name":"Craig","msg":"hello"}', [0, 255, 7]]);
});
