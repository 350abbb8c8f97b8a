// Makes the screenshots of the README from the real server: `THRONG_BIN=… node screenshots.mjs [folder]`, by default docs/images.
// The page uses the fonts of the system; with the font Inter installed the pictures look as they do in the repository. Needs pngquant.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
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
  ['Eko Prasetyo', 'Count me in'],
];

const LARGEST = 150_000;
const folder = process.argv[2] ?? fileURLToPath(new URL('../../docs/images/', import.meta.url));
await mkdir(folder, { recursive: true });

const server = await Server.start(['--memory', '--set', 'login.enabled=true']);
const browser = await Browser.launch();
try {
  const viewport = { width: 1180, height: 720 };
  const craig = await Person.enter(browser, server, '/?Craig', { viewport, colorScheme: 'light', deviceScaleFactor: 2 });
  const noor = await Person.enter(browser, server, '/?Noor', { viewport: { width: 380, height: 760 }, isMobile: true, hasTouch: true, deviceScaleFactor: 2 });

  // The crowd: clients of one page, each a person of its own.
  const { page: stage } = await browser.page();
  await stage.goto(`${server.url}chat/icon.svg`);
  await stage.evaluate(async (names) => {
    const { connect } = await import(/** @type {string} */ ('/js/index.js'));
    /** @type {Record<string, any>} */
    const crowd = {};
    for (const name of names) {
      const client = connect('/ws', { name });
      client.join('lobby');
      if (name !== 'Jun') client.join('demo:design');
      await client.join('live:lobby', { echo: false }).ready;
      crowd[name] = client;
    }
    Object.assign(window, { crowd });
  }, CROWD);
  await craig.sees(CROWD.length + 2);
  /** @param {string} who @param {string} room @param {string} text */
  const says = (who, room, text) => stage.evaluate(async ([name, where, what]) => {
    await /** @type {any} */ (window).crowd[name ?? ''].join(where).send({ type: 'chat', text: what, name });
  }, [who, room, text]);

  // Other rooms, one of them with something new.
  for (const room of ['design', 'alerts']) {
    await craig.page.locator('#join-room').fill(room);
    await craig.page.locator('#join-room').press('Enter');
    await craig.page.waitForFunction((hash) => location.hash === hash, `#/room/${room}`);
  }
  await craig.go('#/room/lobby');
  for (const [name, text] of TALK) {
    if (name === '') await craig.say(text);
    else await says(name, 'lobby', text);
    await craig.hears(text);
    await noor.hears(text);
  }
  await craig.delivered(TALK.findLast(([name]) => name === '')?.[1] ?? '');

  // Craig looks away for a moment.
  await craig.hide(true);
  await noor.say('I am in 👋');
  await craig.hears('I am in 👋');
  await noor.delivered('I am in 👋');
  await stage.evaluate(() => /** @type {any} */ (window).crowd.Jun.close());
  await craig.sees(CROWD.length + 1);
  await noor.sees(CROWD.length + 1);
  await says('Hedy L.', 'demo:design', 'The new icons are in the folder.');
  await says('Ines Romero', 'demo:design', 'Love the orange one.');
  await says('Hedy L.', 'demo:design', 'Then orange it is.');
  await craig.unread('design', 3);
  const link = await craig.page.locator('#people-list a', { hasText: 'Ada Lovelace' }).getAttribute('href') ?? '';
  const me = await craig.page.evaluate(() => sessionStorage.getItem('throng.ids') ?? '');
  await stage.evaluate((to) => /** @type {any} */ (window).crowd['Ada Lovelace'].direct(to).send({ type: 'chat', text: 'Have a minute?', name: 'Ada Lovelace' }), me);
  await craig.unread('Ada Lovelace', 1);
  await craig.hide(false);
  assert.match(link, /^#\/to\//);
  await stage.evaluate(() => /** @type {any} */ (window).crowd.Grace.join('live:lobby').send({ type: 'typing', name: 'Grace' }, { volatile: true }));
  for (const { page } of [craig, noor]) await page.waitForFunction(() => document.getElementById('typing')?.textContent === 'Grace is typing…');
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
  const path = join(folder, name);
  await person.page.mouse.move(1, 1);
  await person.page.screenshot({ path, animations: 'disabled', caret: 'hide' });
  execFileSync('pngquant', ['--force', '--strip', '--quality=70-98', '--output', path, path]);
  const { size } = await stat(path);
  console.log(`${name} ${Math.round(size / 1000)} kB`);
  assert.ok(size < LARGEST, `${name} is too large`);
}
