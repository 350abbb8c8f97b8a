// The dialog to change one's name.
import { cleanName } from './names.js';

export class NameDialog {
  /**
   * @param {object} parts
   * @param {HTMLDialogElement} parts.dialog
   * @param {HTMLFormElement} parts.form
   * @param {HTMLInputElement} parts.field
   * @param {HTMLButtonElement} parts.cancel
   * @param {(name: string) => void} parts.onName
   */
  constructor({ dialog, form, field, cancel, onName }) {
    this.dialog = dialog;
    this.field = field;
    cancel.addEventListener('click', () => dialog.close());
    dialog.addEventListener('click', (event) => {
      if (event.target === dialog) dialog.close();
    });
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      const name = cleanName(field.value);
      if (name === '') {
        field.value = '';
        field.reportValidity();
        return;
      }
      dialog.close();
      onName(name);
    });
  }

  /** @param {string} name as it is now */
  open(name) {
    this.field.value = name;
    this.dialog.showModal();
    this.field.select();
  }
}
