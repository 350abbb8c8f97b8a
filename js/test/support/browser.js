// What a browser gives to its tabs: storage, locks, channels.
import { settle } from './network.js';

/** @param {number} turns @param {() => void} act */
function later(turns, act) {
  setImmediate(turns > 1 ? () => later(turns - 1, act) : act);
}

/** Whose code runs. @type {Tab | undefined} */
let current;

/** A tab, and the page in it. */
export class Tab {
  /** Its page is gone. */ dead = false;
  /** Turns of the event loop until the browser hears of its requests for locks. */ lag = 0;
  /** @type {Map<string, string>} */ values;
  /** @type {(() => void)[]} */ #held = [];

  /** @param {Locks} locks @param {Tab} [original] of which this is a duplicate */
  constructor(locks, original) {
    this.locks = locks;
    this.values = new Map(original?.values);
  }

  /** This tab is what the code runs in from now on. */
  enter() {
    current = this;
    const globals = /** @type {any} */ (globalThis);
    globals.sessionStorage = {
      getItem: (/** @type {string} */ key) => this.values.get(key) ?? null,
      setItem: (/** @type {string} */ key, /** @type {string} */ value) => { this.values.set(key, value); },
    };
    Object.defineProperty(globalThis, 'navigator', { configurable: true, value: { locks: { request: this.#request } } });
  }

  /** @param {string} name @param {any[]} rest options and callback, or the callback alone */
  #request = (name, ...rest) => new Promise((_, reject) => {
    const held = /** @type {() => Promise<void> | void} */ (rest.at(-1));
    const { signal } = /** @type {{ signal?: AbortSignal }} */ (rest[0]);
    const take = () => {
      this.locks.owners.set(name, this);
      this.#held.push(() => this.locks.release(name, this));
      const before = current;
      current = this;
      void Promise.resolve(held()).then(() => this.locks.release(name, this));
      current = before;
    };
    signal?.addEventListener('abort', () => reject(new Error('aborted')));
    const ask = () => {
      if (!this.locks.owners.has(name)) take();
      else this.locks.wait(name, () => !signal?.aborted && !this.dead && take());
    };
    if (this.lag === 0) ask();
    else later(this.lag, ask);
  });

  /** The page is gone; its storage stays. */
  unload() {
    for (const release of this.#held.splice(0)) release();
  }
}

export class Locks {
  /** @type {Map<string, Tab>} */ owners = new Map();
  /** @type {Map<string, (() => void)[]>} */ #waiting = new Map();

  /** @param {string} name @param {() => void} take */
  wait(name, take) {
    this.#waiting.set(name, [...(this.#waiting.get(name) ?? []), take]);
  }

  /** @param {string} name @param {Tab} owner */
  release(name, owner) {
    if (this.owners.get(name) !== owner) return;
    this.owners.delete(name);
    const waiting = this.#waiting.get(name) ?? [];
    while (!this.owners.has(name) && waiting.length > 0) waiting.shift()?.();
  }
}

/** @param {import('node:test').TestContext} t */
export function browser(t) {
  const navigator = Object.getOwnPropertyDescriptor(globalThis, 'navigator');
  t.after(() => {
    delete (/** @type {any} */ (globalThis).sessionStorage);
    if (navigator) Object.defineProperty(globalThis, 'navigator', navigator);
    else delete (/** @type {any} */ (globalThis).navigator);
  });
  return new Locks();
}

/** The page of a tab goes, without a word, and comes again. @param {Tab} page @param {import('../../src/index.js').Client} client */
export async function reload(page, client) {
  const kept = new Map(page.values);
  client.close();
  await settle();
  page.values = kept;
  page.unload();
  page.enter();
}


/** Messages reach all other channels of the name, soon. */
export class Channel {
  /** @type {Set<Channel>} */ static all = new Set();
  /** @type {((event: { data: any }) => void) | null} */ onmessage = null;

  page = current;

  /** @param {string} name */
  constructor(name) {
    this.name = name;
    Channel.all.add(this);
  }

  /** @param {unknown} message */
  postMessage(message) {
    if (this.page?.dead) return;
    for (const channel of Channel.all) {
      if (channel === this || channel.name !== this.name) continue;
      const data = structuredClone(message);
      queueMicrotask(() => !channel.page?.dead && channel.onmessage?.({ data }));
    }
  }
}
