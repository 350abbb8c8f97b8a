// Conversations of `ws` with a server: node client.mjs NAME ECHO-URL CLOSES-URL. Exits with 1 and a message when one goes wrong.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { WebSocket } from 'ws';

const [name, echo, closes] = process.argv.slice(2);
setTimeout(() => { throw new Error('no answer within 60 s'); }, 60_000).unref();

async function connect(url = echo, options = {}) {
  const socket = new WebSocket(url, { maxPayload: 32 << 20, ...options });
  const inbox = [];
  let wake = () => {};
  socket.on('message', (data, binary) => { inbox.push(binary ? data : data.toString()); wake(); });
  socket.on('close', (code, reason) => { inbox.push({ code, reason: reason.toString() }); wake(); });
  socket.next = async () => {
    while (!inbox.length) await new Promise((resolve) => { wake = resolve; });
    return inbox.shift();
  };
  await once(socket, 'open');
  return socket;
}

async function comesBack(socket, message, options) {
  socket.send(message, options);
  const got = await socket.next();
  assert.equal(typeof got, typeof message);
  assert.ok(typeof got === 'string' ? got === message : Buffer.compare(got, message) === 0, `${message.length} bytes came back different`);
}

const codes = [[1000, ''], [1000, 'done'], [1001, 'going'], [1008, 'no'], [1011, 'trouble'], [3000, 'für alle'], [4999, 'the last one']];
const prose = 'Manches davon wiederholt sich, manches nicht. '.repeat(2000);
const noise = Buffer.from(Array.from({ length: 100_000 }, (_, n) => Math.imul(n, 2654435761) >>> 24));

const conversations = {
  async texts_and_binaries() {
    const socket = await connect();
    for (const text of ['', 'a', 'grüße, 世界 😀', '\0', prose]) await comesBack(socket, text);
    for (const size of [0, 1, 125, 126, 127, 65_535, 65_536, 300_000]) await comesBack(socket, Buffer.alloc(size, 'binary'));
    await comesBack(socket, noise);
  },
  async many_in_a_row() {
    const socket = await connect();
    for (let n = 0; n < 5000; n++) socket.send(`message ${n}`);
    for (let n = 0; n < 5000; n++) assert.equal(await socket.next(), `message ${n}`);
  },
  async sixteen_mebibytes() {
    const socket = await connect(echo, { perMessageDeflate: false });
    await comesBack(socket, Buffer.alloc(16 << 20, noise));
    await comesBack(socket, '0123456789abcdef'.repeat(1 << 20));
  },
  async fragments() { await inFragments({ perMessageDeflate: false }); },
  async fragments_with_deflate() { await inFragments({ perMessageDeflate: { threshold: 0 } }); },
  async pings() {
    const socket = await connect();
    for (const payload of ['', 'x', 'p'.repeat(125)]) {
      socket.ping(payload);
      assert.equal((await once(socket, 'pong'))[0].toString(), payload);
    }
    await comesBack(socket, 'still there');
  },
  async closed_by_the_client() {
    for (const [code, reason] of codes) {
      const socket = await connect();
      await comesBack(socket, 'first');
      socket.close(code, reason);
      assert.equal((await socket.next()).code, code);
    }
    const socket = await connect();
    socket.close();
    assert.equal((await socket.next()).code, 1005);
  },
  async closed_by_the_server() {
    for (const [code, reason] of codes) {
      const socket = await connect(closes);
      socket.send(`close ${code} ${reason}`);
      assert.deepEqual(await socket.next(), { code, reason });
    }
  },
  async deflate() {
    for (const options of [{ threshold: 0 }, { threshold: 0, serverNoContextTakeover: true, clientNoContextTakeover: true }, { threshold: 0, clientMaxWindowBits: 10 }]) {
      const socket = await connect(echo, { perMessageDeflate: options });
      assert.match(socket.extensions, /permessage-deflate/);
      for (let round = 0; round < 3; round++) {
        for (const message of [prose, noise, '', 'short', Buffer.alloc(200_000), prose]) await comesBack(socket, message);
        await comesBack(socket, prose, { compress: false });
      }
    }
  },
  async deflate_with_small_windows() {
    for (const bits of [9, 10, 12, 15]) {
      const socket = await connect(echo, { perMessageDeflate: { threshold: 0, serverMaxWindowBits: bits, clientMaxWindowBits: bits } });
      for (const message of [prose, noise, Buffer.concat([noise, noise]), prose]) await comesBack(socket, message);
    }
  },
  async without_deflate() {
    const socket = await connect(echo, { perMessageDeflate: false });
    assert.equal(socket.extensions, '');
    await comesBack(socket, prose);
  },
};

async function inFragments(options) {
  const socket = await connect(echo, options);
  for (const parts of [['one ', 'two ', 'three'], ['', '', 'x', ''], [prose, prose, 'end']]) {
    parts.forEach((part, at) => socket.send(part, { fin: at === parts.length - 1 }));
    assert.equal(await socket.next(), parts.join(''));
  }
}

await conversations[name]();
process.exit(0);
