// Our own room: direct messages of others arrive there, and copies of what we wrote to them.
import { PAGE } from './conversation.js';
import { text } from './field.js';

/**
 * @typedef {import('/js/index.js').Room} Room
 * @typedef {import('./conversation.js').Message} Message
 */

export class Letters {
  /** @type {Room | null} */ #room = null;
  /** Its name when we last looked through it. */ #read = '';

  /**
   * @param {object} options
   * @param {(peer: string) => import('./conversation.js').Conversation} options.conversation with somebody
   * @param {import('./feed.js').Ear} options.ear
   * @param {(peer: string, news: boolean) => void} options.onLetter
   */
  constructor({ conversation, ear, onLetter }) {
    this.conversation = conversation;
    this.ear = ear;
    this.onLetter = onLetter;
  }

  /** Follows the room of a client. After a long absence we are somebody else, and the room another one. @param {Room} room */
  follow(room) {
    this.#room = room;
    room.on('*', (message) => this.#receive(message, room));
    room.on('joined', () => room.name !== this.#read && void this.#catchUp(room));
    room.on('lost', () => void this.#catchUp(room));
  }

  /** @param {Message} message @param {Room} room */
  #receive(message, room) {
    if (message.type !== 'chat' || room !== this.#room) return;
    const from = text(message.from);
    const mine = this.ear.mine(from);
    const peer = mine ? text(message.peer) : from;
    if (peer === '' || peer.length > LONGEST) return;
    const conversation = this.conversation(peer);
    const news = conversation.receive(message, { epoch: room.epoch ?? '', mine, looking: this.ear.looking(conversation) });
    this.onLetter(peer, news !== undefined && conversation.unread > 0);
    this.ear.onChange();
  }

  /** @param {Room} room */
  async #catchUp(room) {
    this.#read = room.name;
    try {
      const { messages } = await room.history({ limit: PAGE });
      for (const message of messages) this.#receive(message, room);
    } catch {
      // They are still there the next time.
    }
  }
}

/** Longest user id. */
const LONGEST = 127;
