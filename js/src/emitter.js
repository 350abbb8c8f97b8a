/**
 * Calls handlers by event name.
 * @template {Record<string, any>} Events
 */
export class Emitter {
  /** @type {Map<string, Set<(event: any) => void>>} */ #handlers = new Map();

  /**
   * Calls `handler` at every event of this name. The same function is called once, however often it is given.
   * @template {keyof Events & string} Name
   * @param {Name} name
   * @param {(event: Events[Name]) => void} handler
   * @returns {() => void} takes it away again
   */
  on(name, handler) {
    let set = this.#handlers.get(name);
    if (set === undefined) this.#handlers.set(name, (set = new Set()));
    set.add(handler);
    return () => this.off(name, handler);
  }

  /**
   * @template {keyof Events & string} Name
   * @param {Name} name
   * @param {(event: Events[Name]) => void} handler
   */
  off(name, handler) {
    this.#handlers.get(name)?.delete(handler);
  }

  /**
   * A handler that throws stops neither the others nor us; the error is reported as uncaught.
   * @internal
   * @param {string} name
   * @param {unknown} [event]
   */
  emit(name, event) {
    for (const handler of [...(this.#handlers.get(name) ?? [])]) {
      try {
        handler(event);
      } catch (error) {
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
}
