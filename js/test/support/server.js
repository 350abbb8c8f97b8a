// The real server on a free port, and a cable that can be cut.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect as dial, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { WebSocket as Ws } from 'ws';
import { connect } from '../../src/index.js';

/** How long a thing may take on a slow machine before a test gives up, in milliseconds. */
const PATIENCE = 60_000;

/** @param {import('node:net').Server} server @returns {Promise<number>} */
async function listening(server, port = 0) {
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  return /** @type {import('node:net').AddressInfo} */ (server.address()).port;
}

let ports = 0;

/** A port that nobody has, below those that the system gives to whoever connects: it stays free while its server is down. */
async function freePort() {
  for (;;) {
    const port = 10_100 + ((process.pid * 911 + ports) % 20_000);
    ports += 1;
    const probe = createServer();
    const free = await listening(probe, port).then(() => true, () => false);
    if (!free) continue;
    probe.close();
    await once(probe, 'close');
    return port;
  }
}

/** A Redis that keeps nothing on disk, and ends with the test. */
export class Redis {
  /** @type {import('node:child_process').ChildProcess | undefined} */ #process;

  /** @param {number} port @param {string} folder */
  constructor(port, folder) {
    this.port = port;
    this.folder = folder;
    this.url = `redis://127.0.0.1:${port}`;
  }

  /** Undefined where there is none to start. @param {import('node:test').TestContext} test */
  static async start(test) {
    const redis = new Redis(await freePort(), await mkdtemp(join(tmpdir(), 'throng-js-redis-')));
    test.after(async () => {
      await redis.kill();
      await rm(redis.folder, { recursive: true, force: true });
    });
    return (await redis.start()) ? redis : undefined;
  }

  /** Starts it, without any data. */
  async start() {
    const child = spawn('redis-server', ['--port', `${this.port}`, '--bind', '127.0.0.1', '--save', '', '--dir', this.folder], { stdio: 'ignore' });
    let missing = false;
    child.on('error', () => { missing = true; });
    this.#process = child;
    await until(() => missing || this.#listens(), 'Redis to start');
    return !missing;
  }

  /** @returns {Promise<boolean>} */
  #listens() {
    return new Promise((resolve) => {
      const probe = dial(this.port, '127.0.0.1', () => {
        probe.destroy();
        resolve(true);
      });
      probe.on('error', () => resolve(false));
    });
  }

  /** With everything it has. */
  async kill() {
    const child = this.#process;
    this.#process = undefined;
    if (!child?.pid || child.exitCode !== null || child.signalCode !== null) return;
    const exit = once(child, 'exit');
    child.kill('SIGKILL');
    await exit;
  }
}

/** Waits until something is so. @param {() => unknown} is @param {string} what */
export async function until(is, what) {
  const end = Date.now() + PATIENCE;
  while (!(await is())) {
    if (Date.now() > end) throw new Error(`waited in vain: ${what}`);
    await new Promise((resolve) => { setTimeout(resolve, 10); });
  }
}

/** The binary under test. */
export class Server {
  /** @type {import('node:child_process').ChildProcess | undefined} */ #process;
  #output = '';

  /** @param {number} port @param {string[]} args */
  constructor(port, args) {
    this.port = port;
    this.args = args;
    this.http = `http://127.0.0.1:${port}/`;
  }

  /**
   * Starts one that ends with the test. With `durable` its rooms survive it.
   * @param {import('node:test').TestContext} test
   * @param {{ durable?: boolean, redis?: Redis, args?: string[] }} [options] `redis`: it is a node of many
   */
  static async start(test, { durable = false, redis, args = [] } = {}) {
    const port = await freePort();
    const data = durable ? await mkdtemp(join(tmpdir(), 'throng-js-')) : undefined;
    // Everybody may be in every room: what is tested here is the client.
    const place = redis ? ['--redis', redis.url] : data ? ['--data', data] : ['--memory'];
    const server = new Server(port, [...place, '--set', 'access.anonymous=*', ...args]);
    test.after(async () => {
      await server.kill();
      if (data) await rm(data, { recursive: true, force: true });
    });
    await server.start();
    return server;
  }

  async start() {
    const binary = process.env.THRONG_BIN;
    if (!binary) throw new Error('THRONG_BIN must name the throng binary: THRONG_BIN=…/target/debug/throng npm test');
    // THRONG_… variables are settings to the binary; it gets none of ours.
    const env = Object.fromEntries(Object.entries(process.env).filter(([key]) => !key.startsWith('THRONG_')));
    const child = spawn(binary, ['serve', '--listen', `127.0.0.1:${this.port}`, ...this.args], { stdio: ['ignore', 'pipe', 'pipe'], env });
    this.#process = child;
    child.stdout.on('data', (data) => { this.#output += data; });
    child.stderr.on('data', (data) => { this.#output += data; });
    /** @type {Error | undefined} */ let failed;
    child.on('error', (error) => { failed = error; });
    await until(async () => {
      if (failed || child.exitCode !== null) throw new Error(`the server did not start: ${failed ?? ''}\n${this.#output}`);
      try {
        return (await fetch(this.http)).status < 500;
      } catch {
        return false;
      }
    }, 'the server to start');
  }

  /** Asks it to send everybody away, and to stop. */
  stop() {
    this.#process?.kill('SIGTERM');
  }

  /** As a power cut would. */
  async kill() {
    const child = this.#process;
    this.#process = undefined;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const exit = once(child, 'exit');
    child.kill('SIGKILL');
    await exit;
  }
}

/** A TCP connection to the server that can be cut and plugged in again. */
export class Cable {
  /** @type {Set<import('node:net').Socket>} */ #ends = new Set();
  #plugged = true;
  /** What the server says is lost on the way. */ deaf = false;
  #listener;
  port = 0;

  /** @param {number} to */
  constructor(to) {
    this.#listener = createServer((near) => {
      if (!this.#plugged) {
        near.destroy();
        return;
      }
      const far = dial(to, '127.0.0.1');
      for (const [from, into, back] of /** @type {const} */ ([[near, far, false], [far, near, true]])) {
        this.#ends.add(from);
        from.on('error', () => {});
        from.on('data', (data) => { if (!back || !this.deaf) into.write(data); });
        from.on('close', () => {
          this.#ends.delete(from);
          into.destroy();
        });
      }
    });
  }

  /** @param {import('node:test').TestContext} test @param {Server} server */
  static async lay(test, server) {
    const cable = new Cable(server.port);
    cable.port = await listening(cable.#listener);
    test.after(() => {
      cable.cut();
      cable.#listener.close();
    });
    return cable;
  }

  /** Without a word to either side. */
  cut() {
    this.#plugged = false;
    this.sever();
  }

  plug() {
    this.#plugged = true;
    this.deaf = false;
  }

  /** Cuts what is there; new connections get through. */
  sever() {
    for (const end of this.#ends) end.destroy();
  }
}

/**
 * A client of the server that ends with the test.
 * @param {import('node:test').TestContext} test
 * @param {{ port: number }} at a server or a cable to it
 * @param {import('../../src/index.js').Options} [options]
 */
export function client(test, at, options = {}) {
  const made = connect(`ws://127.0.0.1:${at.port}/ws`, {
    WebSocket: globalThis.WebSocket ?? Ws, transport: 'websocket', backoff: { base: 50, max: 500 }, ...options,
  });
  test.after(() => made.close());
  return made;
}

/** @param {import('../../src/index.js').Client} client @param {import('../../src/index.js').Status['status']} status */
export const is = (client, status) => until(() => client.status === status, `the client to be ${status}`);
