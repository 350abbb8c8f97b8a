// Who is signed in, until when, and the way out.

export class AccountDialog {
  /**
   * @param {object} parts
   * @param {HTMLDialogElement} parts.dialog
   * @param {HTMLElement} parts.name
   * @param {HTMLElement} parts.userId
   * @param {HTMLElement} parts.until
   * @param {HTMLButtonElement} parts.close
   * @param {HTMLButtonElement} parts.leave
   * @param {() => void} parts.onLeave
   */
  constructor({ dialog, name, userId, until, close, leave, onLeave }) {
    this.dialog = dialog;
    this.name = name;
    this.userId = userId;
    this.until = until;
    close.addEventListener('click', () => dialog.close());
    dialog.addEventListener('click', (event) => {
      if (event.target === dialog) dialog.close();
    });
    leave.addEventListener('click', () => {
      dialog.close();
      onLeave();
    });
  }

  /** @param {{ name: string, userId: string }} account @param {number} end of the session, in ms since 1970; 0: not known */
  open({ name, userId }, end) {
    this.name.textContent = name;
    this.userId.textContent = `User name: ${userId}`;
    this.userId.hidden = name === userId;
    this.until.textContent = end > 0 ? `Signed in until ${moment(end)}.` : '';
    this.dialog.showModal();
  }
}

/** @param {number} at @param {number} [now] */
function moment(at, now = Date.now()) {
  const clock = new Date(at).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
  const days = Math.round((new Date(at).setHours(0, 0, 0, 0) - new Date(now).setHours(0, 0, 0, 0)) / 86_400_000);
  return days === 0 ? clock : days === 1 ? `tomorrow, ${clock}` : `${new Date(at).toLocaleDateString()}, ${clock}`;
}
