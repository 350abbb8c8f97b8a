// The protocol's server in a few lines and without sockets, as the client may expect it to be.

/** @typedef {import('./network.js').Frame} Frame */
/** @typedef {import('./network.js').Peer} Peer */
/** @typedef {{ userId?: string, expiresAt?: number }} Visa */
/** @typedef {{ token: string, userId: string, sessionId: string, expiresAt?: number, peer: Peer | null, refs: Map<string, Map<number, Frame>> }} Session */
/** @typedef {{ epoch: string, seq: number, log: Frame[], kept: number, members: Map<Session, { echo: boolean }>, presenceSeq: number, users: Map<string, number> }} Place */

/** @param {string} name */
const volatile = (name) => name.startsWith('live:');

export class Model {
  /** @type {Map<string, Session>} */ sessions = new Map();
  /** @type {Map<string, Place>} */ rooms = new Map();
  #count = 0;
  now = 1_000;
  heartbeat = 25_000;
  /** Room names that are refused, and the code. @type {Map<string, string>} */ refused = new Map();
  /** Called before a publish; a code refuses it. @type {(frame: Frame, session: Session) => Partial<Frame> | undefined} */ gate = () => undefined;
  /** What is good to come in with, a ticket once. Without it everything is, and nobody needs it. @type {Map<string, Visa> | undefined} */ visas;
  /** Users of a room are told with the `joined` frame up to here. */ most = 1_000;

  /** @param {import('./network.js').Network} network */
  constructor(network) {
    network.onconnect = (peer) => this.connect(peer);
  }

  /** As after a restart without a disk: sessions and rooms are gone. */
  forget({ sessions = true, rooms = true } = {}) {
    if (sessions) this.sessions.clear();
    if (rooms) this.rooms.clear();
    else for (const room of this.rooms.values()) [room.members, room.users] = [new Map(), new Map()];
  }

  /** @param {string} name @returns {Place} */
  room(name) {
    let room = this.rooms.get(name);
    if (!room) {
      this.#count += 1;
      room = { epoch: `e${this.#count}`, seq: 0, log: [], kept: Infinity, members: new Map(), presenceSeq: this.#count * 1_000, users: new Map() };
      this.rooms.set(name, room);
    }
    return room;
  }

  /**
   * A room goes on from elsewhere, as after a failover of its storage: without the last `lose` messages, or without any.
   * @param {string} name
   * @param {{ lose?: number, moved?: boolean }} [how] `moved`: who is there has changed meanwhile
   */
  renew(name, { lose = 0, moved = false } = {}) {
    const room = this.room(name);
    this.#count += 1;
    room.epoch = `e${this.#count}`;
    room.log = lose > 0 ? room.log.slice(0, -lose) : room.log;
    room.seq = Math.max(0, room.seq - lose);
    if (moved) room.presenceSeq += 1;
    for (const { refs } of this.sessions.values()) {
      for (const [ref, { seq }] of refs.get(name) ?? []) if (seq > room.seq) refs.get(name)?.delete(ref);
    }
    const { epoch, seq, presenceSeq, users } = room;
    const frame = { type: 'resumed', rooms: { [name]: { recovered: false, epoch, seq, userCount: users.size, presenceSeq } } };
    for (const member of room.members.keys()) member.peer?.say(frame);
  }

  /** @param {Peer} peer */
  connect(peer) {
    const known = this.sessions.get(peer.token ?? '');
    const visa = this.who(peer);
    if (!visa) return peer.hangUp(1006);
    this.visas?.delete(peer.shown('ticket') ?? '');
    this.#count += 1;
    const id = String(this.#count);
    /** @type {Session} */
    const session = known ?? { token: `t${id}`, userId: visa.userId ?? peer.url.searchParams.get('user') ?? `u_${id}`, sessionId: `s_${id}`, expiresAt: visa.expiresAt, peer: null, refs: new Map() };
    this.sessions.set(session.token, session);
    const older = session.peer;
    if (older) this.#gone(session, older);
    session.peer = peer;
    older?.hangUp(4409, 'replaced');
    peer.onframe = (frame) => this.handle(session, peer, frame);
    peer.onend = () => this.#gone(session, peer);
    peer.say({
      type: 'connected', userId: session.userId, sessionId: session.sessionId, resume: session.token, resumed: known !== undefined, resumeWindow: 120_000,
      userCount: this.sessions.size, heartbeat: this.heartbeat, timestamp: this.now, expiresAt: session.expiresAt, limits: { maxPayload: 65_536, maxRooms: 128, refWindow: 256 },
    });
    if (!known) this.#join(session, peer, { type: 'join', room: `@${session.userId}` });
  }

  /** Who somebody is that shows this; undefined: nobody, and that is not enough. @param {Peer} peer @returns {Visa | undefined} */
  who(peer) {
    if (!this.visas || this.sessions.has(peer.token ?? '')) return {};
    return this.visas.get(peer.shown('ticket') ?? peer.shown('token') ?? '');
  }

  /** @param {Session} session @param {Peer} peer */
  #gone(session, peer) {
    if (session.peer !== peer) return;
    session.peer = null;
    for (const [name, room] of this.rooms) if (room.members.has(session)) this.#leave(session, name, room);
  }

  /** @param {Session} session @param {string} name @param {Place} room */
  #leave(session, name, room) {
    room.members.delete(session);
    const left = (room.users.get(session.userId) ?? 1) - 1;
    if (left > 0) room.users.set(session.userId, left);
    else {
      room.users.delete(session.userId);
      this.#moved('user_left', session, name, room);
    }
  }

  /** @param {string} type @param {Session} session @param {string} name @param {Place} room */
  #moved(type, session, name, room) {
    if (name.startsWith('@')) return;
    room.presenceSeq += 1;
    const frame = { type, room: name, userId: session.userId, userCount: room.users.size, presenceSeq: room.presenceSeq, timestamp: this.now };
    for (const member of room.members.keys()) if (member !== session) member.peer?.say(frame);
  }

  /** @param {Place} room */
  #users(room) {
    return room.users.size > this.most ? undefined : [...room.users.keys()].map((userId) => ({ userId }));
  }

  /** @param {Session} session @param {string} name @param {Place} room @param {{ echo?: boolean }} options */
  #enter(session, name, room, { echo = true }) {
    room.members.set(session, { echo });
    const count = room.users.get(session.userId) ?? 0;
    room.users.set(session.userId, count + 1);
    if (count === 0) this.#moved('user_joined', session, name, room);
  }

  /** What a position still gets; undefined when it is not within the history. @param {Place} room @param {{ epoch?: string, seq?: number }} since */
  #missed(room, { epoch, seq = 0 }) {
    if (epoch !== room.epoch || seq > room.seq || seq < room.seq - Math.min(room.kept, room.log.length)) return undefined;
    return room.log.filter((message) => message.seq > seq);
  }

  /** @param {Session} session @param {Peer} peer @param {Frame} frame */
  #join(session, peer, { ref, room: name, since, rewind = 0, echo, presence }) {
    const code = this.refused.get(name) ?? (this.rooms.get(name)?.members.has(session) ? 'already_joined' : undefined);
    if (code) return peer.say({ type: 'error', ref, room: name, code, message: code, temporary: code === 'room_full' });
    const room = this.room(name);
    const missed = since ? this.#missed(room, since) : [];
    const replay = missed ?? [];
    if (rewind > 0 && (!since || !missed)) replay.push(...room.log.slice(-Math.min(rewind, room.kept)));
    this.#enter(session, name, room, { echo });
    peer.say({
      type: 'joined', ref, room: name, epoch: room.epoch, seq: room.seq, recovered: missed !== undefined, userCount: room.users.size,
      presenceSeq: room.presenceSeq, users: presence ? this.#users(room) : undefined,
    });
    for (const message of replay) peer.say(message);
  }

  /** @param {Session} session @param {Peer} peer @param {Frame} frame */
  #resume(session, peer, { ref, rooms }) {
    /** @type {Record<string, object>} */ const answers = Object.create(null);
    /** @type {Frame[]} */ const after = [];
    const own = `@${session.userId}`;
    const wanted = Object.entries(rooms);
    if (!this.room(own).members.has(session) && !(own in rooms)) wanted.push([own, {}]);
    for (const [name, position] of wanted) {
      const room = this.room(name);
      const code = this.refused.get(name) ?? (room.members.has(session) ? 'already_joined' : undefined);
      if (code) {
        answers[name] = { error: code };
        continue;
      }
      const missed = position.epoch === undefined ? [] : this.#missed(room, position);
      this.#enter(session, name, room, position);
      if (name in rooms) answers[name] = { recovered: missed !== undefined, epoch: room.epoch, seq: room.seq, userCount: room.users.size, presenceSeq: room.presenceSeq };
      after.push(...(missed ?? []).filter((message) => position.echo !== false || message.from !== session.userId));
      if (position.presenceSeq !== undefined && position.presenceSeq !== room.presenceSeq) {
        after.push({ type: 'presence', room: name, userCount: room.users.size, presenceSeq: room.presenceSeq, users: this.#users(room) });
      }
    }
    peer.say({ type: 'resumed', ref, rooms: answers });
    for (const frame of after) peer.say(frame);
  }

  /** @param {Session} session @param {Peer} peer @param {Frame} frame */
  handle(session, peer, frame) {
    const { type, ref, room: name } = frame;
    /** @param {Frame} reply */
    const reply = (reply) => peer.say({ ...reply, ref });
    /** @param {string} code */
    const refuse = (code) => reply({ type: 'error', room: name, code, message: code, temporary: false });
    const room = name === undefined ? undefined : this.rooms.get(name);
    const inside = room?.members.has(session) === true;
    switch (type) {
      case 'ping':
        return reply({ type: 'pong', sent: frame.sent, timestamp: this.now });
      case 'auth': {
        const visa = this.visas?.get(frame.ticket ?? frame.token);
        if (visa?.userId !== session.userId) return refuse('unauthorized');
        this.visas?.delete(frame.ticket);
        session.expiresAt = visa.expiresAt;
        return reply({ type: 'authed', expiresAt: visa.expiresAt });
      }
      case 'join':
        return this.#join(session, peer, frame);
      case 'resume':
        return this.#resume(session, peer, frame);
      case 'leave':
        if (!room || !inside) return refuse('not_joined');
        this.#leave(session, name, room);
        return reply({ type: 'left', room: name });
      case 'history': {
        if (!room || !inside) return refuse('not_joined');
        const { before = Infinity, after, limit = 50 } = frame;
        const all = room.log.slice(-Math.min(room.kept, room.log.length || 1)).filter(({ seq }) => seq < before && seq > (after ?? 0));
        const messages = after === undefined ? all.slice(-limit) : all.slice(0, limit);
        return reply({ type: 'history', room: name, epoch: room.epoch, messages, more: all.length > messages.length });
      }
      case 'presence':
        if (!room || !inside) return refuse('not_joined');
        return reply({ type: 'presence', room: name, userCount: room.users.size, presenceSeq: room.presenceSeq, users: this.#users(room) });
      default:
        return this.#publish(session, peer, frame);
    }
  }

  /** @param {Session} session @param {Peer} peer @param {Frame} frame */
  #publish(session, peer, frame) {
    const { ref, to, room: name = `@${to}`, type, ...payload } = frame;
    /** @param {Frame} error */
    const refuse = (error) => ref && peer.say({ ...error, type: 'error', ref, room: name });
    if (to === undefined && !this.rooms.get(name)?.members.has(session)) return refuse({ type: 'error', code: 'not_joined', message: 'not joined', temporary: false });
    let refs = session.refs.get(name);
    if (!refs) session.refs.set(name, (refs = new Map()));
    const first = refs.get(ref);
    if (ref && first) return peer.say({ ...first, duplicate: true });
    const fault = this.gate(frame, session);
    if (fault) return refuse({ type: 'error', message: 'no', temporary: false, ...fault });
    const message = this.publish(name, session.userId, { type, ...payload }, session);
    if (!ref) return;
    const ack = { type: 'ack', ref, room: name, seq: message.seq, timestamp: message.timestamp };
    refs.set(ref, ack);
    peer.say(ack);
  }

  /** @param {string} name @param {string} from @param {Frame} payload @param {Session} [sender] @returns {Frame} */
  publish(name, from, payload, sender) {
    const room = this.room(name);
    this.now += 1;
    const message = { ...payload, room: name, from, seq: volatile(name) ? undefined : (room.seq += 1), timestamp: this.now };
    if (!volatile(name)) room.log.push(message);
    for (const [member, { echo }] of room.members) if (echo || member !== sender) member.peer?.say(message);
    return message;
  }
}
