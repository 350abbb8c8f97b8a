// The server's door: whether people can sign in here, and signing in. No DOM.
import { count, object, text } from './field.js';

/**
 * @typedef {{ login: boolean, anonymous: boolean }} Rules whether one can sign in, and whether one can come in without
 * @typedef {{ ticket: string, userId: string, name: string, expiresAt: number }} Admission `expiresAt` of the ticket
 * @typedef {object} Refusal
 * @property {'wrong' | 'throttled' | 'busy' | 'away' | 'banned' | 'closed'} why
 * @property {number} [wait] until another attempt makes sense, in milliseconds
 */

export class Door {
  /** @param {string} address of `/login` @param {typeof fetch} [send] */
  constructor(address, send = fetch.bind(globalThis)) {
    this.address = address;
    this.send = send;
  }

  /** What the server says; undefined when it does not answer. A server that knows no `/login` lets everybody in. @returns {Promise<Rules | undefined>} */
  async rules() {
    try {
      const response = await this.#ask({ headers: { Accept: 'application/json' } });
      if (response.status === 404) return { login: false, anonymous: true };
      if (!response.ok) return undefined;
      const { login, anonymous } = object(await response.json());
      return { login: login === true, anonymous: anonymous !== false };
    } catch {
      return undefined;
    }
  }

  /** @param {string} user @param {string} password @returns {Promise<Admission | Refusal>} */
  async enter(user, password) {
    /** @type {Response} */ let response;
    try {
      response = await this.#ask({ method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ user, password }) });
    } catch {
      return { why: 'away' };
    }
    const { status } = response;
    const wait = (count(Number(response.headers.get('retry-after') ?? Number.NaN)) ?? 0) * 1_000 || undefined;
    if (status === 429) return { why: 'throttled', wait: wait ?? 10_000 };
    if (status >= 500) return { why: 'busy', wait };
    if (status === 400 || status === 401) return { why: 'wrong' };
    const answer = object(await response.json().catch(() => undefined));
    if (status === 403 && /banned/.test(text(object(answer.error).message))) return { why: 'banned' };
    if (!response.ok || text(answer.ticket) === '') return { why: 'closed' };
    return { ticket: text(answer.ticket), userId: text(answer.userId), name: text(answer.name), expiresAt: count(answer.expiresAt) ?? 0 };
  }

  /** @param {RequestInit} request */
  #ask(request) {
    return this.send(this.address, { cache: 'no-store', credentials: 'omit', redirect: 'error', signal: AbortSignal.timeout(PATIENCE), ...request });
  }
}

/** How long the server may take, in milliseconds. */
const PATIENCE = 15_000;
