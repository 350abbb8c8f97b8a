// Keeps a session and an outbox for as long as a tab of a browser lives. Loaded when it is wanted.

/**
 * @template T
 * @typedef {import('./storage.js').Store<T>} Store
 */

/** How long a page that is being reloaded may still hold its tab, in milliseconds. */
const RELOAD = 500;

/**
 * What a page knows: the keys its clients use, and whether what was stored under them is its own.
 * @type {WeakMap<object, { used: Set<string>, ours: Map<string, Promise<boolean>> }>}
 */
const pages = new WeakMap();

/**
 * Keeps values in `sessionStorage`: they survive a reload and belong to one tab, and in it to one client at a time. A
 * duplicated tab starts with a copy of them, which must not be used twice; a lock tells which one is the original.
 * @param {string} base
 * @returns {{ store: (part: string) => Store<any>, release: () => void }}
 */
export function tab(base) {
  const place = storage() ?? {};
  const page = pages.get(place) ?? { used: new Set(), ours: new Map() };
  pages.set(place, page);
  let key = base;
  while (page.used.has(key)) key += '+';
  page.used.add(key);
  const ours = page.ours.get(key) ?? claim(key);
  page.ours.set(key, ours.then(() => true)); // for the next client: what is there by then
  return {
    store: (part) => ({
      load: async () => ((await ours) ? read(`${key}:${part}`) : null),
      save: (value) => write(`${key}:${part}`, value),
    }),
    release: () => { page.used.delete(key); },
  };
}

/** Whether what this tab has stored is its own. @param {string} key @returns {Promise<boolean>} */
async function claim(key) {
  const locks = globalThis.navigator?.locks;
  if (locks === undefined) return true;
  let id = read(`${key}:tab`);
  if (id !== null && (await hold(locks, `${key}:${id}`))) return true;
  const copied = id !== null;
  write(`${key}:tab`, (id = crypto.randomUUID?.() ?? String(Math.random())));
  await hold(locks, `${key}:${id}`);
  return !copied;
}

/**
 * Takes a lock for the life of the page. False when another page keeps it.
 * @param {LockManager} locks
 * @param {string} name
 * @returns {Promise<boolean>}
 */
function hold(locks, name) {
  return new Promise((resolve) => {
    const giveUp = new AbortController();
    const timer = setTimeout(() => giveUp.abort(), RELOAD);
    locks
      .request(name, { signal: giveUp.signal }, () => {
        clearTimeout(timer);
        resolve(true);
        return new Promise(() => {});
      })
      .catch(() => resolve(false));
  });
}

/** Some settings forbid to look at it. */
function storage() {
  try {
    return globalThis.sessionStorage;
  } catch {
    return undefined;
  }
}

/** @param {string} key @returns {any} null when there is nothing, or no storage at all */
function read(key) {
  try {
    return JSON.parse(storage()?.getItem(key) ?? 'null');
  } catch {
    return null;
  }
}

/** Private windows and full storages refuse; then nothing survives. @param {string} key @param {unknown} value */
function write(key, value) {
  try {
    storage()?.setItem(key, JSON.stringify(value));
  } catch {}
}
