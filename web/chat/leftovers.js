// What an earlier life of this page left in the outbox: shown again, and followed to its end.
import { text } from './field.js';
import { copy, problemOf } from './outgoing.js';

/**
 * @typedef {import('/js/index.js').Client} Client
 * @typedef {import('./conversation.js').Conversation} Conversation
 * @typedef {{ conversation: Conversation, message: import('./conversation.js').Message }} Leftover
 */

export class Leftovers {
  /** @type {Map<string, Leftover> | null} by key; null until the client has looked */ #all = null;

  /**
   * @param {object} options
   * @param {Client} options.client
   * @param {(room: string) => Conversation} options.conversation of a room, or of `@` and a person
   * @param {() => void} options.onChange
   */
  constructor({ client, conversation, onChange }) {
    client.on('outbox', (pending) => {
      this.#all ??= found(pending, client, conversation);
      const keys = new Set(pending.map(({ message }) => message.key));
      for (const [key, leftover] of this.#all) if (!keys.has(key)) this.#gone(key, leftover, client);
      onChange();
    });
    client.on('error', (error) => {
      const key = text(/** @type {any} */ (error.payload)?.key);
      this.#all?.get(key)?.conversation.fail(key, problemOf(error));
      this.#all?.delete(key);
      onChange();
    });
  }

  /** It was published: a room shows that itself. @param {string} key @param {Leftover} leftover @param {Client} client */
  #gone(key, { conversation, message }, client) {
    this.#all?.delete(key);
    if (conversation.kind !== 'direct') return;
    conversation.settle(key, {});
    copy(client, message, conversation.name);
  }
}

/**
 * Puts what is in the outbox, and not ours already, into its conversations.
 * @param {readonly import('/js/index.js').Pending[]} pending @param {Client} client @param {(room: string) => Conversation} conversationOf
 */
function found(pending, client, conversationOf) {
  /** @type {Map<string, Leftover>} */
  const all = new Map();
  for (const { room, message } of pending) {
    const key = text(message.key);
    if (message.type !== 'chat' || key === '' || text(message.peer) !== '') continue;
    const conversation = conversationOf(room);
    if (conversation.pending.some((item) => item.key === key)) continue;
    conversation.compose(key, text(message.text), client.userId, text(message.name));
    all.set(key, { conversation, message });
  }
  return all;
}
