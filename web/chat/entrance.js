// Signing in and out: brings together the door, who is signed in, the dialogs, and the connection.
import { AccountDialog } from './account-dialog.js';
import { sentence } from './banner.js';
import { part } from './element.js';
import { LoginDialog } from './login-dialog.js';

/**
 * @typedef {import('./account.js').Account} Account
 * @typedef {import('./door.js').Door} Door
 * @typedef {import('./door.js').Rules} Rules
 * @typedef {import('./door.js').Admission} Admission
 * @typedef {import('./chat.js').Chat} Chat
 */

export class Entrance {
  /** The connection was made for somebody who signs in. */ #guarded = false;
  /** Attempts in a row that led to nothing. */ #failures = 0;
  /** What the server last said of a session that is over. */ #reason = '';
  /** The page has been connected. */ #wasIn = false;

  /**
   * @param {object} options
   * @param {Account} options.account
   * @param {import('./shelf.js').Shelf} options.tab
   * @param {Door} options.door
   * @param {Rules} options.rules
   * @param {import('./banner.js').Banner} options.banner
   * @param {() => Chat} options.chat
   * @param {() => void} options.onStranger another user than before has signed in
   */
  constructor({ account, tab, door, rules, banner, chat, onStranger }) {
    this.account = account;
    this.tab = tab;
    this.door = door;
    this.rules = rules;
    this.banner = banner;
    this.chat = chat;
    this.onStranger = onStranger;
    this.login = new LoginDialog({
      dialog: part('login-dialog', HTMLDialogElement), form: part('login-form', HTMLFormElement), why: part('login-why'),
      user: part('login-user', HTMLInputElement), password: part('login-password', HTMLInputElement), problem: part('login-problem'),
      plain: part('login-plain'), submit: part('login-submit', HTMLButtonElement), cancel: part('login-cancel', HTMLButtonElement),
      door, onEnter: (admission) => void this.#enter(admission), onGuest: () => this.leave(),
    });
    this.dialog = new AccountDialog({
      dialog: part('account-dialog', HTMLDialogElement), name: part('account-name'), userId: part('account-id'), until: part('account-until'),
      close: part('account-close', HTMLButtonElement), leave: part('account-leave', HTMLButtonElement), onLeave: () => this.leave(),
    });
    for (const id of ['sign-in', 'empty-sign-in']) part(id).addEventListener('click', () => this.signIn());
  }

  /** Whether there is a way in that was not taken. */
  get isOpen() {
    return this.rules.login && !this.account.signedIn;
  }

  /** Whether it is the only one. */
  get isClosed() {
    return !this.rules.anonymous && !this.account.signedIn;
  }

  /** For a new connection: how it is to show who we are. Without anything, it is an anonymous one. */
  credentials() {
    this.#guarded = this.account.signedIn || !this.rules.anonymous;
    return this.#guarded ? { ticket: (/** @type {{ refresh?: boolean, resumable: boolean }} */ wanted) => this.account.ticket(wanted) } : {};
  }

  signIn() {
    const { account, rules } = this;
    const why = account.over && this.#reason !== '' ? sentence('closed', this.#reason, 4401)
      : account.signedIn && !account.over ? 'Your session ends soon. With your password it goes on.'
      : this.isClosed ? 'This server lets in only those who sign in.' : '';
    this.login.open({ why, user: account.userId, needed: !rules.anonymous && !this.#wasIn, guest: account.over && rules.anonymous });
  }

  /** Who is signed in, and until when. */
  show() {
    this.dialog.open(this.account, this.chat().client.expiresAt);
  }

  /** Signs out. The page begins anew, so that nothing of the user stays on it or in the tab. */
  leave() {
    const { client, places } = this.chat();
    client.close();
    places.forget();
    setTimeout(() => { // by then the client has written its last
      this.tab.clear('name');
      history.replaceState(null, '', location.pathname + location.search);
      location.reload();
    });
  }

  /** @param {import('/js/index.js').Status} status */
  followed({ status, code, reason = '' }) {
    if (code === 4401) {
      this.#reason = reason;
      this.account.ended();
    }
    if (status === 'online') this.#failures = 0;
    else if (status === 'offline' && (this.#failures += 1) === DOUBTS) void this.#doubt();
    if (status === 'closed' && code === 4401 && (this.#guarded || this.rules.login)) this.over();
  }

  /** The connection is there. */
  arrived() {
    const { account } = this;
    const { client, identity } = this.chat();
    this.#wasIn = true;
    this.#reason = '';
    account.arrived();
    if (!account.signedIn) return;
    const { name } = /** @type {{ name?: unknown }} */ (client.info ?? {});
    if (typeof name === 'string') account.called(name);
    identity.name = account.name;
  }

  /** Nothing goes on until somebody signs in. */
  over() {
    this.banner.over(this.#reason !== '' ? sentence('closed', this.#reason, 4401) : this.#wasIn ? 'Your session is over.' : 'Sign in to take part.');
    if (!this.#wasIn) this.signIn();
  }

  /** The session ends soon, and only a password makes it longer. */
  ending() {
    this.banner.ending();
  }

  /** @param {Admission} admission */
  async #enter(admission) {
    const { account, banner } = this;
    const chat = this.chat();
    const known = account.signedIn;
    const stranger = known && admission.userId !== account.userId;
    if (known && !stranger && chat.client.status === 'online') {
      await chat.client.authenticate(admission.ticket).then(() => banner.ending(false), () => {});
      return;
    }
    banner.over('');
    if (stranger) this.onStranger();
    const guarded = this.#guarded && !stranger;
    account.enter(admission);
    chat.identity.name = account.name;
    if (!guarded) await chat.restart();
    else if (chat.client.status === 'closed') chat.client.reconnect();
    chat.onChange();
  }

  /** Perhaps it is not the network: the server may let nobody in any more who has not signed in. */
  async #doubt() {
    this.rules = (await this.door.rules()) ?? this.rules;
    if (!this.#guarded && !this.rules.anonymous) await this.chat().restart();
  }
}

/** So many attempts may fail before we ask whether it is us. */
const DOUBTS = 3;
