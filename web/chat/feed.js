// One room of the client, followed into a conversation: what is said, who comes and goes, what is missing.
import { PAGE } from './conversation.js';
import { count, text } from './field.js';

/**
 * @typedef {import('/js/index.js').Room} Room
 * @typedef {import('./conversation.js').Conversation} Conversation
 * @typedef {import('./conversation.js').Message} Message
 * @typedef {object} Ear what the feeds of a chat share
 * @property {(userId: string) => boolean} mine whether this is us
 * @property {(conversation: Conversation) => boolean} looking whether the reader sees it now
 * @property {import('./roster.js').Roster} roster
 * @property {(userId: string) => void} onQuiet somebody said something or left, so is not typing any more
 * @property {() => void} onChange
 */

export class Feed {
  #over = false;
  #entered = false;

  /** @param {Room} room joined @param {Conversation} conversation @param {Ear} ear */
  constructor(room, conversation, ear) {
    this.room = room;
    this.conversation = conversation;
    this.ear = ear;
    room.on('error', (error) => this.#while(() => {
      if (this.#entered) conversation.notice(error.message);
      conversation.refused = this.#entered ? error.message : `You cannot enter this room: ${error.message}`;
    }));
    room.on('joined', ({ epoch, seq }) => this.#while(() => {
      this.#entered = true;
      conversation.entered(epoch, seq);
      this.#meet();
    }));
    room.on('lost', () => this.#while(() => {
      const { position } = conversation;
      conversation.lost();
      void this.#mend(position);
    }));
    room.on('*', (message) => this.#while(() => this.#hear(message)));
    room.on('user_joined', (message) => this.#while(() => this.#passage('joined', message)));
    room.on('user_left', (message) => this.#while(() => this.#passage('left', message)));
    room.on('presence', () => this.#while(() => this.#meet()));
  }

  /** Whether the server may let us in. */
  get open() {
    return !this.#over && this.conversation.refused === '';
  }

  /** Leaves the room; what still comes is not heard. */
  end() {
    this.#over = true;
    this.room.leave().catch(() => {});
  }

  /** Asks for what was said before. False when that failed. */
  async earlier() {
    const { conversation } = this;
    const { oldest } = conversation;
    if (!conversation.earlier || oldest === undefined) return true;
    try {
      const { messages, more, epoch } = await this.room.history({ before: oldest.seq, limit: PAGE });
      conversation.readingBack = true;
      if (epoch === oldest.epoch) conversation.fill(messages, { epoch, more, mine: this.ear.mine });
      else conversation.begins();
      return true;
    } catch {
      return false;
    } finally {
      this.ear.onChange();
    }
  }

  /** Puts what the room still has behind a gap. @param {import('./conversation.js').Position} [from] where the gap begins */
  async #mend(from) {
    const { conversation, room } = this;
    try {
      /** @type {number | undefined} */ let before;
      for (let pages = 0; pages < 3; pages += 1) {
        const page = await room.history({ before, limit: PAGE });
        if (this.#over) return;
        conversation.fill(page.messages, { epoch: page.epoch, mine: this.ear.mine, looking: this.ear.looking(conversation) });
        before = count(page.messages[0]?.seq);
        if (!page.more || before === undefined || (from?.epoch === page.epoch && before <= from.seq + 1)) break;
      }
    } catch {
      // The marker of the gap stays, and says it.
    }
    this.ear.onChange();
  }

  /** Learns the names of those who are there. */
  #meet() {
    for (const { userId, info } of this.room.users.values()) this.ear.roster.meet(userId, info);
  }

  /** @param {Message} message */
  #hear(message) {
    const { conversation, ear } = this;
    const from = text(message.from);
    conversation.receive(message, { epoch: this.room.epoch ?? '', mine: ear.mine(from), looking: ear.looking(conversation) });
    ear.onQuiet(from);
  }

  /** @param {'joined' | 'left'} sort @param {{ userId: string, info?: unknown, timestamp?: unknown }} who */
  #passage(sort, { userId, info, timestamp }) {
    const { roster } = this.ear;
    roster.meet(userId, info);
    if (sort === 'left') this.ear.onQuiet(userId);
    if (!this.ear.mine(userId)) this.conversation.passage(sort, { userId, name: roster.nameOf(userId) }, timestamp);
  }

  /** @param {() => void} change */
  #while(change) {
    if (this.#over) return;
    change();
    this.ear.onChange();
  }
}
