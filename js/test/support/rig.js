import { mock } from 'node:test';
import { connect } from '../../src/index.js';
import { Model } from './model.js';
import { Network, settle } from './network.js';

export { settle };

/** A network, a server on it, and clients, in a time of our own. */
export class Rig {
  network = new Network();
  model = new Model(this.network);
  /** @type {import('../../src/index.js').Client[]} */ clients = [];

  /** @param {{ after: (end: () => Promise<void>) => void }} test */
  constructor(test) {
    mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1_700_000_000_000 });
    test.after(async () => {
      for (const client of this.clients) client.close();
      for (let i = 0; i < 5; i += 1) await settle();
      mock.timers.reset();
    });
  }

  /** A client that waits the whole ceiling between attempts. @param {import('../../src/index.js').Options} [options] */
  client(options = {}, url = 'ws://test/ws') {
    const client = connect(url, { WebSocket: this.network.WebSocket, transport: 'websocket', backoff: { random: () => 1 }, ...options });
    this.clients.push(client);
    return client;
  }

  /** A client that is online. @param {import('../../src/index.js').Options} [options] */
  async online(options, url = 'ws://test/ws') {
    const client = this.client(options, url);
    await settle();
    return client;
  }

  get peer() {
    return this.network.peer;
  }

  /** Time passes in small steps, and everything that it brings happens. @param {number} ms */
  async pass(ms, step = 250) {
    for (let left = ms; left > 0; left -= step) {
      mock.timers.tick(Math.min(step, left));
      await settle();
    }
  }

  /** The machine sleeps: time has passed, and then all timers are late. @param {number} ms */
  async sleep(ms) {
    mock.timers.setTime(Date.now() + ms);
    await settle();
  }

  /** The connection is lost, and the client comes back as soon as it may. */
  async blink() {
    this.network.cut();
    await this.back();
  }

  /** Until everybody is online. */
  async back() {
    await this.pass(500);
    for (let i = 0; i < 200 && this.clients.some(({ status }) => status === 'connecting' || status === 'offline'); i += 1) await this.pass(250);
  }
}

/**
 * Notes what a room or a client tells.
 * @param {{ on: (name: any, handler: (event: any) => void) => unknown }} emitter
 * @param {string} name
 * @returns {any[]}
 */
export function note(emitter, name) {
  /** @type {any[]} */ const events = [];
  emitter.on(name, (event) => { events.push(event); });
  return events;
}

/** How a promise ends: its value, or the code of its error. @param {Promise<any>} promise */
export const outcome = (promise) => promise.then((value) => value, (error) => error.code ?? String(error));
