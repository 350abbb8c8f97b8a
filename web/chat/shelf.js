// The browser's storage, which may be refused or full; then what is put there lasts as long as the page.

export class Shelf {
  /** @type {Map<string, string>} */ #own = new Map();

  /** @param {'localStorage' | 'sessionStorage'} name */
  constructor(name) {
    this.name = name;
  }

  /** '' when there is nothing. @param {string} key */
  load(key) {
    try {
      return window[this.name].getItem(key) ?? this.#own.get(key) ?? '';
    } catch {
      return this.#own.get(key) ?? '';
    }
  }

  /** Forgets everything but this. @param {string} kept key */
  clear(kept) {
    const value = this.load(kept);
    this.#own.clear();
    try {
      window[this.name].clear();
    } catch {
      // Then there is nothing in it.
    }
    if (value !== '') this.save(kept, value);
  }

  /** @param {string} key @param {string} value */
  save(key, value) {
    try {
      window[this.name].setItem(key, value);
    } catch {
      this.#own.set(key, value);
    }
  }
}
