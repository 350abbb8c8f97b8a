// The field to write in.

export class Composer {
  /** Bytes a message may have in JSON. */
  #budget = 65_000;
  /** @type {Map<string, string>} what was begun elsewhere, by place */ #drafts = new Map();
  #place = '';

  /**
   * @param {object} parts
   * @param {HTMLFormElement} parts.form
   * @param {HTMLTextAreaElement} parts.field
   * @param {HTMLButtonElement} parts.button
   * @param {HTMLElement} parts.limit
   * @param {(text: string) => void} parts.onSend
   * @param {() => void} parts.onType somebody writes
   */
  constructor({ form, field, button, limit, onSend, onType }) {
    this.field = field;
    this.button = button;
    this.limit = limit;
    this.onSend = onSend;
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#send();
    });
    field.addEventListener('input', () => {
      this.#changed();
      if (field.value.trim() !== '') onType();
    });
    field.addEventListener('keydown', (event) => {
      // An Enter that ends an input method's composition is not ours; 229 is what Safari says instead.
      if (event.key !== 'Enter' || event.shiftKey || event.altKey || event.isComposing || event.keyCode === 229) return;
      event.preventDefault();
      this.#send();
    });
    window.addEventListener('resize', () => this.#changed());
    this.#changed();
  }

  /** @param {number} maxPayload bytes of a whole frame */
  allow(maxPayload) {
    const budget = Math.max(maxPayload - ENVELOPE, 0);
    if (budget === this.#budget) return;
    this.#budget = budget;
    this.#changed();
  }

  /** Each place has a draft of its own. @param {string} place @param {string} label */
  turnTo(place, label) {
    this.field.placeholder = label;
    if (place === this.#place) return;
    if (this.field.value === '') this.#drafts.delete(this.#place);
    else this.#drafts.set(this.#place, this.field.value);
    this.#place = place;
    this.field.value = this.#drafts.get(place) ?? '';
    this.#changed();
  }

  focus() {
    this.field.focus({ preventScroll: true });
  }

  #send() {
    const text = this.field.value.replace(/^(?:[^\S\n]*\n)+/, '').trimEnd();
    if (text.trim() === '' || this.#left() < 0) return;
    this.field.value = '';
    this.#changed();
    this.focus();
    this.onSend(text);
  }

  #left() {
    const value = this.field.value;
    if (value.length * 6 <= this.#budget) return this.#budget;
    return this.#budget - new TextEncoder().encode(JSON.stringify(value)).length;
  }

  #changed() {
    const { field } = this;
    field.style.height = 'auto';
    field.style.height = `${field.scrollHeight}px`;
    const left = this.#left();
    const tight = left < this.#budget / 10;
    this.limit.textContent = !tight ? '' : left < 0 ? `${-left} bytes too long` : `${left} bytes left`;
    this.limit.classList.toggle('over', left < 0);
    field.setAttribute('aria-invalid', String(left < 0));
    this.button.disabled = field.value.trim() === '' || left < 0;
  }
}

/** What surrounds the text in a frame, our name and the room's among it, in bytes, generously. */
const ENVELOPE = 640;
