// Where the session and the outbox are kept.

/**
 * @template T
 * @typedef {object} Store
 * @property {() => T | null | undefined | Promise<T | null | undefined>} load asked once, before the first connection
 * @property {(value: T) => void | Promise<void>} save called with the whole value after every change; when it returns a
 *   promise, messages wait for it before they are sent
 */

/** Nothing is kept. @type {Store<any>} */
export const memory = { load: () => null, save: () => {} };

/** Saves, one after the other. */
export class Saves {
  /** Settles when the last one has ended; undefined when none is under way. @type {Promise<void> | undefined} */ running;

  /** @param {(error: any) => void} failed */
  constructor(failed) {
    this.failed = failed;
  }

  /** Begins at once when no other is under way. @param {() => void | Promise<void>} save */
  add(save) {
    const { running: before } = this;
    /** @type {void | Promise<void> | undefined} */ let saved = undefined;
    try {
      saved = before ? before.then(save) : save();
    } catch (error) {
      this.failed(error);
    }
    if (!saved) return;
    const mine = (this.running = saved.catch(this.failed).then(() => {
      if (this.running === mine) this.running = undefined;
    }));
  }
}
