// Several rooms and direct messages: going from one to another, what is unread, who is typing, what was said before.
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { Browser, OPEN, Person, Server, newRoom } from '../harness.mjs';

/** @type {Server} */ let server;
/** @type {Browser} */ let browser;

before(async () => {
  server = await Server.start();
  browser = await Browser.launch();
});

afterEach(() => browser.clear());

after(async () => {
  await browser?.close();
  await server?.stop();
});

/** @param {string} name @param {string} room */
const enter = (name, room) => Person.enter(browser, server, `/?${name}#/room/${room}`);

/** Another person's entry in the list of people. @param {Person} person @param {string} name */
const linkTo = (person, name) => person.page.locator('#people-list a', { hasText: name });

/** Nobody's browser may have complained. @param {Person[]} people */
async function over(...people) {
  for (const person of people) {
    assert.deepEqual(person.complaints, []);
    await person.leave();
  }
}

test('two rooms: each has its talk, its people and its number of unread', async () => {
  const [one, two] = [newRoom(), newRoom()];
  const craig = await enter('Craig', one);
  const ada = await enter('Ada', one);
  await craig.sees(2);
  await craig.page.locator('#join-room').fill(` #${two} `);
  await craig.page.locator('#join-room').press('Enter');
  await craig.page.waitForFunction((hash) => location.hash === hash, `#/room/${two}`);
  assert.equal(await craig.page.locator('#room').innerText(), two);
  await craig.lists(['lobby', one, two]);
  await craig.sees(1);
  assert.deepEqual(await craig.people(), ['Craig']);
  await craig.say('to the second room');
  await craig.delivered('to the second room');
  await ada.say('to the first room');
  await ada.say('and again');
  await craig.unread(one, 2);
  assert.deepEqual(await craig.texts(), ['to the second room']);
  assert.equal(await craig.page.title(), `(2) ${two} · throng`);

  await craig.page.getByRole('link', { name: one }).click();
  await craig.hears('and again');
  assert.deepEqual(await craig.texts(), ['to the first room', 'and again']);
  assert.equal(await craig.page.locator('.unread').innerText(), 'New since you looked');
  assert.equal(await craig.page.locator('.unread + .message .text').innerText(), 'to the first room');
  await craig.unread(one, 0);
  assert.equal(await craig.page.title(), `${one} · throng`);
  await craig.page.goBack();
  await craig.hears('to the second room');
  await craig.page.goForward();
  await craig.hears('and again');
  assert.equal(await craig.page.locator('.unread').count(), 0, 'a mark that was seen is gone');
  await over(craig, ada);
});

test('a draft stays in its room', async () => {
  const [one, two] = [newRoom(), newRoom()];
  const craig = await enter('Craig', one);
  await craig.page.locator('#message').fill('half a sentence');
  await craig.go(`#/room/${two}`);
  assert.equal(await craig.page.locator('#message').inputValue(), '');
  await craig.page.locator('#message').fill('another');
  await craig.go(`#/room/${one}`);
  assert.equal(await craig.page.locator('#message').inputValue(), 'half a sentence');
  await over(craig);
});

test('the list of rooms and what is new in them survive a reload and another tab of the browser', async () => {
  const [one, two] = [newRoom(), newRoom()];
  const craig = await enter('Craig', one);
  const ada = await enter('Ada', one);
  await ada.say('old');
  await craig.hears('old');
  await craig.go(`#/room/${two}`);
  await ada.say('new, one');
  await craig.unread(one, 1);
  await craig.page.goto('about:blank');
  await ada.say('new, two');
  await ada.delivered('new, two');
  await craig.page.goto(`${server.url}#/room/${two}`);
  await craig.online();
  await craig.unread(one, 2);
  await craig.lists(['lobby', one + ' 2', two]);
  await craig.go(`#/room/${one}`);
  await craig.hears('new, two');
  assert.equal(await craig.page.locator('.unread + .message .text').innerText(), 'new, one');
  assert.deepEqual(await craig.texts(), ['old', 'new, one', 'new, two']);

  const tab = await craig.page.context().newPage();
  await tab.goto(`${server.url}?Dora`);
  const dora = new Person(tab, []);
  await dora.online();
  await dora.lists(['lobby', one, two]);
  await over(craig, ada);
});

test('leaving a room', async () => {
  const [one, two] = [newRoom(), newRoom()];
  const craig = await enter('Craig', one);
  await craig.go(`#/room/${two}`);
  const ada = await enter('Ada', two);
  await ada.sees(2);
  await craig.page.getByRole('button', { name: `Leave ${two}` }).click();
  await ada.sees(1);
  await craig.page.waitForFunction(() => location.hash === '#/room/lobby');
  await craig.lists(['lobby', one]);
  await craig.page.reload();
  await craig.online();
  await craig.lists(['lobby', one]);
  await craig.go(`#/room/${two}`);
  await ada.sees(2);
  await craig.say('back');
  await ada.hears('back');
  await over(craig, ada);
});

test('a room that lets nobody in says so', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'throng-rules-'));
  const rules = join(folder, 'throng.toml');
  await writeFile(rules, '[[room]]\nmatch = "closed:*"\nallow = false\n');
  const strict = await Server.start(['--memory', '--config', rules]);
  try {
    const craig = await Person.enter(browser, strict, '/?Craig#/room/closed:office');
    await craig.page.waitForFunction(() => document.getElementById('empty-title')?.textContent === 'This room is closed to you');
    assert.match(await craig.page.locator('#empty-text').innerText(), /^You cannot enter this room: /);
    await craig.say('let me in');
    await craig.page.waitForSelector('.mine[data-delivery="failed"]');
    await craig.go('#/room/lobby');
    await craig.say('the lobby is open');
    await craig.delivered('the lobby is open');
    assert.deepEqual(craig.complaints, []);
  } finally {
    await strict.stop();
    await rm(folder, { recursive: true, force: true });
  }
});

test('a room with a namespace is that room; one without is an open one, in the address and the list by its short name', async () => {
  const wide = await Server.start(['--memory', ...OPEN]);
  try {
    const craig = await Person.enter(browser, wide, '/?Craig#/room/chat:1');
    const ada = await Person.enter(browser, wide, '/?Ada#/room/demo:kitchen');
    await ada.lists(['lobby', 'kitchen']);
    assert.equal(await ada.page.locator('#room').innerText(), 'kitchen');
    await craig.say('with a namespace');
    await craig.delivered('with a namespace');
    await craig.go('#/room/kitchen');
    await craig.sees(2);
    await ada.say('in the kitchen');
    await craig.hears('in the kitchen');
    await craig.page.locator('#message').pressSequentially('hm');
    await ada.page.waitForFunction(() => document.getElementById('typing')?.textContent === 'Craig is typing…');
    await craig.lists(['lobby', 'chat:1', 'kitchen']);
    const past = await fetch(new URL('/sse?room=demo:kitchen&rewind=1', wide.url)).then(async (response) => {
      const reader = response.body?.getReader();
      let text = '';
      while (reader && !text.includes('in the kitchen')) text += new TextDecoder().decode((await reader.read()).value);
      await reader?.cancel();
      return text;
    });
    assert.match(past, /"room":"demo:kitchen"/);
    await over(craig, ada);
  } finally {
    await wide.stop();
  }
});

test('what can be no room is said, and not entered', async () => {
  const craig = await enter('Craig', newRoom());
  const field = craig.page.locator('#join-room');
  await field.fill('ä <b>');
  await field.press('Enter');
  assert.match(await craig.page.locator('#join-problem').innerText(), /Letters a to z/);
  assert.equal(await field.getAttribute('aria-invalid'), 'true');
  await field.fill('x');
  assert.equal(await craig.page.locator('#join-problem').textContent(), '');
  await craig.page.evaluate(() => { location.hash = '#/room/@u_1'; });
  await craig.page.waitForFunction(() => document.getElementById('room')?.textContent === 'lobby');
  await over(craig);
});

test('direct messages: there and back, unread, and still there after a reload', async () => {
  const room = newRoom();
  const craig = await enter('Craig', room);
  const ada = await enter('Ada', room);
  const bo = await enter('Bo', room);
  await ada.sees(3);
  await linkTo(ada, 'Craig').click();
  assert.equal(await ada.page.locator('#room').innerText(), 'Craig');
  assert.match(await ada.page.locator('#empty-title').innerText(), /You and Craig/);
  await ada.say('psst');
  await ada.delivered('psst');
  await craig.unread('Ada', 1);
  assert.match(await craig.page.title(), /^\(1\)/);
  assert.deepEqual(await craig.texts(), []);
  await craig.page.locator('#direct-list a').click();
  await craig.hears('psst');
  await craig.unread('Ada', 0);
  await craig.say('yes?');
  await ada.hears('yes?');
  await craig.delivered('yes?');
  assert.deepEqual(await ada.texts(), ['psst', 'yes?']);
  assert.deepEqual(await bo.texts(), []);
  await bo.lists(['lobby', room]);

  await ada.page.reload();
  await ada.online();
  await ada.hears('yes?');
  assert.deepEqual(await ada.texts(), ['psst', 'yes?']);
  assert.deepEqual(await ada.page.locator('.mine .text').allTextContents(), ['psst']);
  await craig.say('still you?');
  await ada.hears('still you?');
  await ada.say('still me');
  await craig.hears('still me');
  assert.deepEqual(await craig.texts(), ['psst', 'yes?', 'still you?', 'still me']);

  await ada.page.getByRole('button', { name: 'Remove Craig from the list' }).click();
  await ada.lists(['lobby', room]);
  await craig.say('hello?');
  await ada.unread('Craig', 1);
  await over(craig, ada, bo);
});

test('an author is a way to write to them', async () => {
  const room = newRoom();
  const craig = await enter('Craig', room);
  const ada = await enter('Ada', room);
  await ada.say('here I am');
  await craig.hears('here I am');
  await craig.page.locator('.message .write').click();
  await craig.say('seen');
  await ada.unread('Craig', 1);
  await over(craig, ada);
});

test('who is typing is told, not too often, and forgotten', async () => {
  const room = newRoom();
  const craig = await enter('Craig', room);
  const ada = await enter('Ada', room);
  await ada.sees(2);
  const line = craig.page.locator('#typing');
  await ada.page.evaluate(() => {
    const send = WebSocket.prototype.send;
    Object.assign(window, { told: 0 });
    WebSocket.prototype.send = function (data) {
      if (String(data).includes('"typing"')) /** @type {any} */ (window).told += 1;
      send.call(this, data);
    };
  });
  await ada.page.locator('#message').pressSequentially('a long thought');
  await craig.page.waitForFunction(() => document.getElementById('typing')?.textContent === 'Ada is typing…');
  assert.equal(await ada.page.evaluate(() => /** @type {any} */ (window).told), 1, 'fourteen keys, told once');
  assert.equal(await ada.page.locator('#typing').innerText(), '', 'not to herself');
  await craig.page.waitForFunction(() => document.getElementById('typing')?.textContent === '');
  await ada.page.locator('#message').press('!');
  await craig.page.waitForFunction(() => document.getElementById('typing')?.textContent === 'Ada is typing…');
  await ada.page.locator('#message').press('Enter');
  await craig.hears('a long thought!');
  await craig.page.waitForFunction(() => document.getElementById('typing')?.textContent === '');
  assert.deepEqual(await craig.notices(), ['Ada entered the chat room'], 'and it is no message');
  assert.equal(await line.getAttribute('aria-hidden'), 'true', 'nor is it read out');
  await over(craig, ada);
});

test('what was said before is there on entry; earlier ones on request, and the reader keeps the place', async () => {
  const room = newRoom();
  const ada = await enter('Ada', room);
  await ada.sayAll(Array.from({ length: 170 }, (_, i) => `line ${i + 1}`));
  await ada.delivered('line 170');
  const craig = await enter('Craig', room);
  await craig.hears('line 170');
  const { page } = craig;
  assert.equal((await craig.texts()).length, 50);
  assert.equal(await page.locator('.unread').count(), 0, 'a newcomer has missed nothing');
  assert.equal(await page.locator('#jump').isVisible(), false, 'and stands at the newest');
  const log = page.locator('#log');
  await log.evaluate((node) => { node.scrollTop = 0; });
  const place = () => page.locator('.message .text', { hasText: /^line 121$/ }).evaluate((node) => Math.round(node.getBoundingClientRect().top));
  const was = await place();
  const earlier = page.getByRole('button', { name: 'Load earlier messages' });
  await earlier.click();
  await craig.hears('line 21');
  assert.ok(Math.abs(await place() - was) <= 40, 'what was read stays where it was');
  assert.equal((await craig.texts()).length, 150);
  await ada.say('meanwhile');
  await craig.hears('meanwhile');
  assert.match(await page.locator('#jump-text').innerText(), /^1 new message$/);
  await earlier.click();
  await craig.hears('line 1');
  assert.equal(await earlier.isVisible(), false, 'there is nothing before the first');
  assert.deepEqual(await craig.texts(), [...Array.from({ length: 170 }, (_, i) => `line ${i + 1}`), 'meanwhile']);
  assert.deepEqual(await page.locator('.message:not(.mine) .author').first().innerText(), 'Ada');
  await page.locator('#jump').click();
  await over(craig, ada);
});

test('names in old messages are those their authors gave', async () => {
  const room = newRoom();
  const ada = await enter('Ada', room);
  await ada.say('I will be gone');
  await ada.delivered('I will be gone');
  await ada.leave();
  const craig = await enter('Craig', room);
  await craig.hears('I will be gone');
  assert.equal(await craig.page.locator('.message .author').innerText(), 'Ada');
  await over(craig);
});

test('what the history remembers of us is ours after a reload', async () => {
  const craig = await enter('Craig', newRoom());
  await craig.say('mine');
  await craig.delivered('mine');
  await craig.page.reload();
  await craig.hears('mine');
  assert.equal(await craig.page.locator('.message.mine .text').innerText(), 'mine');
  await craig.say('mine, too');
  await craig.delivered('mine, too');
  assert.equal(await craig.page.locator('.message.mine').count(), 2);
  await over(craig);
});
