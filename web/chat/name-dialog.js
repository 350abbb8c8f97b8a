// The dialog to change one's name.
import { cleanName } from './names.js';

export class NameDialog {
  /**
   * @param {object} parts
   * @param {HTMLDialogElement} parts.dialog
   * @param {HTMLFormElement} parts.form
   * @param {HTMLInputElement} parts.field
   * @param {HTMLButtonElement} parts.cancel
   * @param {HTMLButtonElement} parts.signIn
   * @param {(name: string) => void} parts.onName
   * @param {() => void} parts.onSignIn
   */
  constructor({ dialog, form, field, cancel, signIn, onName, onSignIn }) {
    this.dialog = dialog;
    this.field = field;
    this.signIn = signIn;
    signIn.addEventListener('click', () => {
      dialog.close();
      onSignIn();
    });
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

  /** @param {string} name as it is now @param {boolean} login whether one can sign in */
  open(name, login) {
    this.signIn.hidden = !login;
    this.field.value = name;
    this.dialog.showModal();
    this.field.select();
  }
}
