// A column on a wide screen that is a drawer on a narrow one.

export class Drawer {
  /** @type {Drawer[]} */ static #all = [];

  #open = false;

  /**
   * @param {object} parts
   * @param {HTMLElement} parts.panel
   * @param {HTMLButtonElement} parts.opener
   * @param {HTMLButtonElement} parts.closer
   * @param {HTMLElement} parts.scrim
   * @param {string} parts.role of the panel when it is a column
   * @param {number} parts.below width from which on it is one, in pixels
   */
  constructor({ panel, opener, closer, scrim, role, below }) {
    this.panel = panel;
    this.opener = opener;
    this.closer = closer;
    this.role = role;
    this.narrow = window.matchMedia(`(max-width: ${below - 1}px)`);
    Drawer.#all.push(this);
    opener.addEventListener('click', () => this.toggle(!this.#open));
    closer.addEventListener('click', () => this.toggle(false));
    scrim.addEventListener('click', () => this.toggle(false));
    document.addEventListener('keydown', (event) => {
      if (event.key === 'Escape' && this.#open) this.toggle(false);
    });
    this.narrow.addEventListener('change', () => this.#apply());
    this.#apply();
  }

  /** Opens or closes it and moves the focus with it. @param {boolean} open */
  toggle(open) {
    const moved = this.#open !== open;
    this.#open = open;
    this.#apply();
    if (!moved || !this.narrow.matches) return;
    if (open) this.closer.focus();
    else this.opener.focus();
  }

  #apply() {
    const drawer = this.narrow.matches;
    this.panel.setAttribute('role', drawer ? 'dialog' : this.role);
    if (drawer) this.panel.setAttribute('aria-modal', 'true');
    else this.panel.removeAttribute('aria-modal');
    Drawer.#arrange();
  }

  get #shown() {
    return this.#open && this.narrow.matches;
  }

  /** Whatever is not in the open drawer is out of reach. */
  static #arrange() {
    const open = Drawer.#all.find((drawer) => drawer.#shown);
    document.body.classList.toggle('drawer-open', open !== undefined);
    for (const drawer of Drawer.#all) {
      drawer.panel.classList.toggle('open', drawer === open);
      drawer.panel.inert = drawer !== open && (open !== undefined || drawer.narrow.matches);
      drawer.opener.setAttribute('aria-expanded', String(drawer === open));
    }
    for (const other of document.querySelectorAll('body > .top, body > main, body > .skip')) {
      if (other instanceof HTMLElement) other.inert = open !== undefined;
    }
  }
}
