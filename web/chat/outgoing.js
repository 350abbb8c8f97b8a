// What we send: from the conversation to the client's outbox, and what became of it.
import { text } from './field.js';

/**
 * @typedef {import('/js/index.js').Client} Client
 * @typedef {Pick<import('/js/index.js').Room, 'send'> & { epoch?: string }} Outlet
 * @typedef {import('./conversation.js').Conversation} Conversation
 * @typedef {import('./items.js').Chat} Chat
 */

/**
 * Sends one message; when offline, the client keeps it until that is over.
 * @param {Client} client @param {Conversation} conversation @param {Outlet} room where it goes @param {Chat} item
 * @param {string} name what we are called
 */
export async function send(client, conversation, room, item, name) {
  // The key comes back with the echo, and from the history after a reload: so a message is known for the one we wrote.
  const message = { type: 'chat', text: item.text, name, key: item.key };
  const direct = conversation.kind === 'direct';
  try {
    const { seq, timestamp } = (await room.send(message)) ?? {};
    const epoch = direct ? undefined : room.epoch;
    conversation.settle(item.key, { at: timestamp, position: epoch !== undefined && seq !== undefined ? { epoch, seq } : undefined });
    if (direct) copy(client, message, conversation.name);
  } catch (error) {
    conversation.fail(item.key, problemOf(error));
  }
}

/**
 * A copy for our own room: what we wrote is there after a reload, among the answers.
 * @param {Client} client @param {import('./conversation.js').Message} message @param {string} peer
 */
export function copy(client, message, peer) {
  client.me.send({ ...message, peer }).catch(() => {});
}

/** Unique enough among the messages of one author. */
export const newKey = () => `${Date.now().toString(36)}${Math.random().toString(36).slice(2, 10)}`;

/** Why a message did not get through, for people. @param {unknown} error */
export function problemOf(error) {
  const code = text(/** @type {any} */ (error)?.code);
  return PROBLEMS.get(code) ?? `Not delivered: ${error instanceof Error && error.message !== '' ? error.message : 'the server refused it'}`;
}

const PROBLEMS = new Map([
  ['not_joined', 'Not delivered: you are not in this room'],
  ['uncertain', 'Not confirmed: the connection was lost'],
  ['closed', 'Not sent: the connection was closed'],
  ['timeout', 'Not confirmed: the server does not answer'],
]);
