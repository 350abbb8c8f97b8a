/** @typedef {import('./websocket.js').Frame} Frame */

/**
 * Server-sent events one way, POST the other, for where WebSocket does not get through. To the client it speaks the
 * same frames; of commands it knows `join`, `leave`, `resume`, `presence` and publishing.
 * @type {import('./connection.js').Dial}
 */
export const sse = (target, ears) => new EventStream(target, ears);

/**
 * What the stream knows of a room.
 * @typedef {object} Place
 * @property {string} epoch empty: no position
 * @property {number} seq
 * @property {number} rewind
 * @property {boolean} good the server has let us in before
 * @property {boolean} told the client knows that it is in
 * @property {boolean} lost the server could not give what came after the position
 * @property {Frame} [joined] what the server said, until the client asks
 * @property {Frame[]} held what came since
 * @property {number} [ref] of the client's `join`
 * @property {number} [asked] of the client's `presence`
 */

/** A stream is a stream of certain rooms: for others a new one is opened, of the same session and at the same positions. */
class EventStream {
  /** Silence cannot be probed: only comments of the server tell that it is there. */
  mute = true;
  #target;
  #ears;
  #base;
  #fetch;
  #own = '';
  /** @type {Map<string, Place>} */ #rooms = new Map();
  /** The client's `resume` that waits. @type {{ ref: number, names: string[], rooms: Record<string, object> } | undefined} */ #resume;
  /** @type {AbortController | undefined} */ #stream;
  #stale = false;
  /** One new room at a time: some room was refused, and nobody says which. */ #careful = false;
  /** Posts go one after the other. @type {Promise<unknown>} */ #post = Promise.resolve();

  /** @param {import('./websocket.js').Target} target @param {import('./websocket.js').Ears} ears */
  constructor(target, ears) {
    this.#target = { ...target };
    this.#ears = ears;
    this.#fetch = target.fetch ?? globalThis.fetch.bind(globalThis);
    this.#base = new URL(target.url);
    this.#base.protocol = this.#base.protocol.replace('ws', 'http');
    this.#base.search = '';
    for (const { room, since, rewind } of target.rooms) this.#add(room, since, rewind);
    this.#open();
  }

  /** @param {Frame} frame */
  send(frame) {
    const { type, room, ref } = frame;
    if (type === 'join') {
      const place = this.#rooms.get(room) ?? this.#add(room, frame.since, frame.rewind);
      place.ref = ref;
      this.#give(room, place);
    } else if (type === 'leave') {
      this.#rooms.delete(room);
      this.#renew();
      this.#soon({ type: 'left', room, ref });
    } else if (type === 'resume') {
      const names = Object.keys(frame.rooms);
      this.#resume = { ref, names, rooms: Object.create(null) };
      for (const name of names) if (!this.#rooms.has(name)) this.#add(name, frame.rooms[name]);
      for (const name of names) this.#give(name, /** @type {Place} */ (this.#rooms.get(name)));
      this.#resumed();
    } else if (type === 'presence' && this.#rooms.has(room)) {
      /** @type {Place} */ (this.#rooms.get(room)).asked = ref;
      this.#renew(); // a new stream begins with the list
    } else if (type === 'history' || type === 'presence' || type === 'ping' || type === 'auth') {
      const message = 'Server-sent events have no such command.';
      if (ref) this.#soon({ type: 'error', ref, room, code: 'unsupported_data', message, temporary: false });
    } else this.#post = this.#post.then(() => this.#publish(frame));
  }

  close() {
    this.#stream?.abort();
    this.#ears = { frame() {}, heard() {}, closed() {} };
  }

  /** @param {string} name @param {{ epoch?: string, seq?: number }} [since] @param {number} [rewind] @returns {Place} */
  #add(name, { epoch = '', seq = 0 } = {}, rewind = 0) {
    /** @type {Place} */
    const place = { epoch, seq, rewind, good: false, told: false, lost: false, held: [] };
    this.#rooms.set(name, place);
    if (this.#stream) this.#renew();
    return place;
  }

  /** A new stream, once for all changes of this turn. */
  #renew() {
    if (this.#stale) return;
    this.#stale = true;
    queueMicrotask(() => {
      this.#stale = false;
      this.#stream?.abort();
      this.#open();
    });
  }

  async #open() {
    const stream = (this.#stream = new AbortController());
    const doubtful = [...this.#rooms.values()].filter(({ good }) => !good);
    const rooms = [...this.#rooms].filter(([, place]) => place.good || !this.#careful || place === doubtful[0]);
    try {
      if (rooms.length === 0) throw new Error('no room');
      const url = new URL('sse', this.#base);
      const query = new URLSearchParams();
      const { name, ticket, token, resume } = this.#target;
      for (const [key, value] of Object.entries({ name, resume })) if (value) query.set(key, value);
      for (const [room] of rooms) query.append('room', room);
      const rewind = Math.max(...rooms.map(([, place]) => place.rewind));
      if (rewind > 0) query.set('rewind', String(rewind));
      if (rooms.some(([, { epoch }]) => epoch)) query.set('lastEventId', rooms.map(([, { epoch, seq }]) => (epoch ? `${epoch}.${seq}` : '0')).join());
      url.search = query.toString();
      /** @type {Record<string, string>} */
      const headers = { Accept: 'text/event-stream' };
      if (ticket || token) headers.Authorization = `Bearer ${ticket || token}`; // an address ends up in logs
      const response = await this.#fetch(url.href, { signal: stream.signal, cache: 'no-store', headers });
      if (response.ok && response.body) await this.#read(response.body, stream.signal);
      else await this.#refused(response, doubtful);
    } catch (error) {
      if (!stream.signal.aborted) this.#fail(1006, String(error));
    }
  }

  /** @param {ReadableStream<any>} body @param {AbortSignal} signal */
  async #read(body, signal) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let [rest, data] = ['', ''];
    for (;;) {
      const { done, value } = await reader.read();
      if (signal.aborted) return;
      if (done) throw new Error('the stream has ended');
      this.#ears.heard();
      const lines = (rest + value).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) {
        if (line.startsWith('data:')) data += line.slice(5);
        else if (line.trim() === '' && data !== '') {
          const frame = JSON.parse(data);
          data = '';
          this.#event(frame);
          if (signal.aborted) return;
        }
      }
    }
  }

  /** @param {Frame} frame */
  #event(frame) {
    const place = this.#rooms.get(frame.room);
    if (frame.type === 'connected') return this.#connected(frame);
    if (frame.type === 'joined' && place) {
      if (!frame.recovered || place.epoch !== frame.epoch) {
        // The client cannot be told of a gap in a room it is in; when it comes back it can.
        if (place.told && (frame.seq || place.seq)) return this.#fail(1006, 'gap');
        [place.epoch, place.seq] = [frame.epoch, Math.max(0, frame.seq - place.rewind)];
      }
      const proven = place.good;
      place.good = true;
      place.rewind = 0;
      place.lost ||= !frame.recovered; // even if the next stream, opened before the client was told, is whole
      place.joined = { ...frame, recovered: !place.lost };
      if (this.#careful && !proven && [...this.#rooms.values()].some(({ good }) => !good)) this.#renew();
      this.#give(frame.room, place);
      this.#resumed();
    } else if (frame.type === 'resumed') this.#renewed(frame);
    else if (place && !place.told) place.held.push(frame);
    else if (place || !frame.room) this.#tell(frame, place);
  }

  /** Rooms go on from elsewhere. @param {Frame} frame */
  #renewed(frame) {
    for (const [name, { epoch, seq }] of Object.entries(frame.rooms)) {
      const place = this.#rooms.get(name);
      if (!place) continue;
      [place.epoch, place.seq] = [epoch, seq];
      if (place.told) continue;
      // The client has not heard where it was in: it will be in from here, and that is a gap.
      place.lost = true;
      place.held = [];
      place.joined = undefined;
      if (this.#resume) delete this.#resume.rooms[name];
      this.#renew();
    }
    this.#ears.frame(frame);
  }

  /** @param {Frame} frame */
  #connected(frame) {
    const first = this.#own === '';
    const own = `@${frame.userId}`;
    Object.assign(this.#target, { resume: frame.resume, ticket: undefined, token: undefined });
    if (!first && (!frame.resumed || own !== this.#own)) return this.#fail(1006, 'session');
    this.#own = own;
    if (!first) return;
    this.#ears.frame(frame);
    if (!this.#rooms.has(own)) this.#add(own); // direct messages
  }

  /** What the client has asked for and the server has answered. @param {string} name @param {Place} place */
  #give(name, place) {
    const { joined, ref } = place;
    if (!joined) return;
    const back = this.#resume?.names.includes(name);
    if (back) /** @type {any} */ (this.#resume).rooms[name] = joined;
    else if (ref) this.#ears.frame({ ...joined, ref });
    else if (name === this.#own && !place.told) this.#ears.frame(joined);
    else if (!place.told) return; // the client has not asked yet
    const { asked } = place;
    place.joined = place.ref = undefined;
    if (back) return;
    this.#release(place);
    if (!joined.users && !asked) return;
    place.asked = undefined;
    if (!ref) this.#ears.frame({ ...joined, type: 'presence', ref: asked });
  }

  /** Answers the client's `resume` when all rooms are there. */
  #resumed() {
    const { ref, names, rooms } = this.#resume ?? {};
    if (!names || !rooms || !names.every((name) => name in rooms || !this.#rooms.has(name))) return;
    this.#resume = undefined;
    this.#ears.frame({ type: 'resumed', ref, rooms });
    for (const name of names) {
      const place = this.#rooms.get(name);
      if (place) this.#release(place);
      const { users, ...joined } = /** @type {Frame} */ (rooms[name]);
      if (users) this.#ears.frame({ ...joined, users, type: 'presence' });
    }
  }

  /** @param {Place} place */
  #release(place) {
    place.told = true;
    place.lost = false;
    for (const frame of place.held.splice(0)) this.#tell(frame, place);
  }

  /** @param {Frame} frame @param {Place} [place] */
  #tell(frame, place) {
    if (place && frame.seq > place.seq) place.seq = frame.seq;
    this.#ears.frame(frame);
  }

  /** @param {Frame} frame */
  #soon(frame) {
    queueMicrotask(() => this.#ears.frame(frame));
  }

  /** @param {Response} response @param {Place[]} doubtful */
  async #refused(response, doubtful) {
    const { status } = response;
    const error = await answerOf(response);
    if (status === 401) return this.#fail(4401, error.code);
    const alone = !this.#own && this.#rooms.size < 2; // then it is not about one of several rooms
    if (alone || doubtful.length === 0 || (status !== 400 && status !== 403 && status !== 404 && status !== 409)) {
      return this.#fail(1006, error.code, error.retryAfter);
    }
    if (doubtful.length === 1 || this.#careful) {
      for (const [name, place] of this.#rooms) {
        if (place !== doubtful[0]) continue;
        this.#rooms.delete(name);
        if (this.#resume?.names.includes(name)) this.#resume.rooms[name] = { error: error.code };
        else if (place.ref) this.#ears.frame({ ...error, type: 'error', ref: place.ref, room: name });
      }
      this.#resumed();
    }
    this.#careful = true;
    this.#renew();
  }

  /** @param {Frame} frame */
  async #publish(frame) {
    try {
      const response = await this.#fetch(new URL('send', this.#base).href, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${this.#target.resume}` },
        body: JSON.stringify(frame),
      });
      const answer = await answerOf(response);
      if (response.status === 401) this.#fail(1006, 'session');
      else if (frame.ref) this.#ears.frame({ ...answer, ref: frame.ref });
    } catch (error) {
      this.#fail(1006, String(error));
    }
  }

  /** @param {number} code @param {string} reason @param {number} [wait] */
  #fail(code, reason, wait) {
    const ears = this.#ears;
    this.close();
    ears.closed(code, reason, wait);
  }
}

/** An `ack`, or what a refusal says; a proxy may speak no JSON. @param {Response} response @returns {Promise<Frame>} */
async function answerOf(response) {
  const { status, statusText: message, headers } = response;
  const { error, ...body } = await response.json().catch(() => ({}));
  const retryAfter = Number(headers.get('retry-after')) * 1_000 || undefined;
  const temporary = status === 429 || status >= 500;
  return { type: 'error', ...(!response.ok && { code: `http_${status}`, message, temporary, retryAfter }), ...(typeof error === 'object' ? error : body) };
}
