// Makes the screenshots of the README from the real server: `THRONG_BIN=… node screenshots.mjs`.
// The page uses the fonts of the system; with the font Inter installed the pictures look as they do in the repository.
import assert from 'node:assert/strict';
import { mkdir, stat } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { Browser, Person, Server } from './harness.mjs';

const CROWD = ['Ada Lovelace', 'Bo Nilsson', 'Céline Dubois', 'Dmitri', 'Eko Prasetyo', 'Fatima Zahra', 'Grace', 'Hedy L.', 'Ines Romero', 'Jun'];

/** Who says what; an empty name is the one whose screen we see. @type {[string, string][]} */
const TALK = [
  ['Ada Lovelace', 'Morning! Is the new build up?'],
  ['Bo Nilsson', 'Since 8:40, two nodes at a time.'],
  ['', 'I kept a window open the whole time.'],
  ['', 'Not one message out of order.'],
  ['Céline Dubois', 'Rien vu de spécial non plus 🎉'],
  ['Grace', 'Notes: https://example.org/fan-out, in short\n  1. encode once\n  2. one write per socket'],
  ['Dmitri', 'What if somebody is called <script>alert(1)</script>?'],
  ['Bo Nilsson', 'Then that is what you read.'],
  ['', 'Lovely. Lunch at 12:30?'],
];

const LARGEST = 150_000;
const folder = fileURLToPath(new URL('../../docs/images/', import.meta.url));
await mkdir(folder, { recursive: true });

const server = await Server.start();
const browser = await Browser.launch();
try {
  const viewport = { width: 1024, height: 660 };
  const craig = await Person.enter(browser, server, '/?Craig', { viewport, colorScheme: 'light', deviceScaleFactor: 1.5 });
  const noor = await Person.enter(browser, server, '/?Noor', { viewport: { width: 380, height: 760 }, isMobile: true, hasTouch: true, deviceScaleFactor: 2 });

  // The crowd: sockets of one page, each a person of its own.
  const { page: stage } = await browser.page();
  await stage.goto(`${server.url}chat/icon.svg`);
  await stage.evaluate(async (names) => {
    /** @type {Record<string, WebSocket>} */
    const sockets = {};
    for (const name of names) {
      const socket = new WebSocket(`ws://${location.host}/ws?name=${encodeURIComponent(name)}`);
      await new Promise((resolve, reject) => {
        socket.onmessage = resolve;
        socket.onerror = reject;
      });
      sockets[name] = socket;
    }
    Object.assign(window, { sockets });
  }, CROWD);
  await craig.sees(CROWD.length + 2);

  for (const [name, text] of TALK) {
    if (name === '') await craig.say(text);
    else {
      await stage.evaluate(([who, what]) => {
        const { sockets } = /** @type {{ sockets: Record<string, WebSocket> }} */ (/** @type {unknown} */ (window));
        sockets[who ?? '']?.send(JSON.stringify({ type: 'chat', text: what }));
      }, [name, text]);
    }
    await craig.hears(text);
    await noor.hears(text);
  }
  await craig.delivered(TALK.at(-1)?.[1] ?? '');
  await noor.say('I am in 👋');
  await craig.hears('I am in 👋');
  await noor.delivered('I am in 👋');
  await stage.evaluate(() => {
    const { sockets } = /** @type {{ sockets: Record<string, WebSocket> }} */ (/** @type {unknown} */ (window));
    sockets.Jun?.close(1000);
  });
  await craig.sees(CROWD.length + 1);
  await noor.sees(CROWD.length + 1);
  await craig.page.locator('#message').fill('See you at the usual place');

  await save(craig, 'chat-light.png');
  await craig.page.emulateMedia({ colorScheme: 'dark' });
  await save(craig, 'chat-dark.png');
  await save(noor, 'chat-phone.png');
  assert.deepEqual([...craig.complaints, ...noor.complaints], []);
} finally {
  await browser.close();
  await server.stop();
}

/** @param {Person} person @param {string} name */
async function save(person, name) {
  const path = `${folder}${name}`;
  await person.page.mouse.move(1, 1);
  await person.page.screenshot({ path, animations: 'disabled', caret: 'hide' });
  const { size } = await stat(path);
  console.log(`docs/images/${name} ${Math.round(size / 1000)} kB`);
  assert.ok(size < LARGEST, `${name} is too large`);
}
