// The connection goes, in every way it can, and comes back: nothing that was said is lost or there twice.
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { Browser, Person, Server, newRoom } from '../harness.mjs';

/** A server that keeps its rooms on disk. @type {Server} */ let server;
/** One that forgets everything with its process. @type {Server} */ let forgetful;
/** @type {Browser} */ let browser;
/** @type {string} */ let data;

before(async () => {
  data = await mkdtemp(join(tmpdir(), 'throng-data-'));
  [server, forgetful, browser] = await Promise.all([Server.start(['--data', data]), Server.start(), Browser.launch()]);
});

afterEach(async () => {
  await browser.clear();
  await Promise.all([server.start(), forgetful.start()]);
});

after(async () => {
  await browser?.close();
  await Promise.all([server?.stop(), forgetful?.stop()]);
  await rm(data, { recursive: true, force: true, maxRetries: 5 });
});

/** Two people in a room of their own. @param {Server} [where] */
async function two(where = server) {
  const room = newRoom();
  const craig = await Person.enter(browser, where, `/?Craig#/room/${room}`);
  const ada = await Person.enter(browser, where, `/?Ada#/room/${room}`);
  await craig.sees(2);
  return { craig, ada, room };
}

/** The network of a page is there again. @param {Person[]} people */
async function wake(...people) {
  for (const { page } of people) await page.evaluate(() => { window.dispatchEvent(new Event('online')); });
  for (const person of people) await person.online();
}

test('offline: what is written waits in sight, is sent once, and what was missed is there once', async () => {
  const { craig, ada } = await two();
  await craig.say('before');
  await ada.hears('before');
  await craig.page.context().setOffline(true);
  const banner = craig.page.locator('#banner');
  await banner.waitFor({ state: 'visible' });
  assert.match(await craig.page.locator('#banner-text').innerText(), /offline/);
  for (const text of ['one', 'two', 'three']) await craig.say(text);
  await craig.page.waitForFunction(() => document.getElementById('banner-queue')?.textContent === '3 messages wait to be sent.');
  assert.equal(await craig.page.locator('.mine[data-delivery="waiting"]').count(), 3);
  assert.equal(await craig.page.locator('.delivery').last().innerText(), 'Waiting for the connection');
  await ada.say('are you there?');
  await ada.delivered('are you there?');
  await craig.page.context().setOffline(false);
  await craig.online();
  await ada.hears('three');
  await craig.delivered('three');
  await banner.waitFor({ state: 'hidden' });
  assert.equal(await craig.page.locator('#banner-queue').textContent(), '');
  const talk = ['before', 'are you there?', 'one', 'two', 'three'];
  assert.deepEqual(await ada.texts(), talk);
  assert.deepEqual(await craig.texts(), talk);
  assert.deepEqual([...craig.complaints, ...ada.complaints], []);
});

test('killed and restarted on its data: the banner shows and goes, everybody catches up', async () => {
  const { craig, ada } = await two();
  await craig.say('before');
  await ada.hears('before');
  await server.stop('SIGKILL');
  const banner = craig.page.locator('#banner');
  await banner.waitFor({ state: 'visible' });
  assert.match(await craig.page.locator('#banner-text').innerText(), /Connection lost/);
  await craig.page.waitForFunction(() => /Retrying in \d+ s/.test(document.getElementById('banner-countdown')?.textContent ?? ''));
  await craig.say('while you were out, one');
  await craig.say('while you were out, two');
  assert.equal(await craig.page.locator('.mine[data-delivery="waiting"]').count(), 2);
  await ada.page.locator('#banner').waitFor({ state: 'visible' });

  await server.start();
  await wake(craig);
  await craig.delivered('while you were out, two');
  await wake(ada);
  await ada.hears('while you were out, two');
  await banner.waitFor({ state: 'hidden' });
  await ada.page.locator('#banner').waitFor({ state: 'hidden' });
  await craig.sees(2);
  await ada.sees(2);
  await ada.say('after');
  await craig.hears('after');
  const talk = ['before', 'while you were out, one', 'while you were out, two', 'after'];
  assert.deepEqual(await craig.texts(), talk);
  assert.deepEqual(await ada.texts(), talk);
  assert.equal(await ada.page.locator('.notice.gap').count(), 0, 'nothing was lost, and nothing is said to be');
  assert.deepEqual([...craig.complaints, ...ada.complaints], []);
});

test('killed without data: the past is gone, and the page says so', async () => {
  const { craig, ada } = await two(forgetful);
  await craig.say('before');
  await ada.hears('before');
  await forgetful.stop('SIGKILL');
  await ada.page.locator('#banner').waitFor({ state: 'visible' });
  await craig.page.locator('#banner').waitFor({ state: 'visible' });
  await forgetful.start();
  await wake(craig);
  await craig.say('a new life');
  await craig.delivered('a new life');
  await wake(ada);
  await ada.hears('a new life');
  for (const person of [craig, ada]) {
    assert.deepEqual(await person.texts(), ['before', 'a new life']);
    await person.page.waitForSelector('.notice.gap');
    assert.equal(await person.page.locator('.notice.gap').count(), 1);
    assert.match(await person.page.locator('.notice.gap').innerText(), /may be missing here/);
    assert.equal(await person.page.locator('.badge:visible').count(), 0, 'and nothing is unread that is in sight');
  }
  assert.deepEqual(await craig.page.locator('.mine .text').allTextContents(), ['before', 'a new life'], 'what one was called before is still oneself');
  assert.deepEqual([...craig.complaints, ...ada.complaints], []);
});

test('"Try now" does not wait', async () => {
  const craig = await Person.enter(browser, server, `/?Craig#/room/${newRoom()}`);
  await server.stop('SIGKILL');
  await craig.page.locator('#banner').waitFor({ state: 'visible' });
  // Far into the backoff, so that the wait is longer than the click.
  await craig.page.waitForFunction(() => Number(/\d+/.exec(document.getElementById('banner-countdown')?.textContent ?? '')?.[0]) >= 4);
  await server.start();
  await craig.page.locator('#banner-button').click();
  await craig.online();
  assert.deepEqual(craig.complaints, []);
});

test('on its way when the server died and forgot everything: it is said, and can be sent again or removed', async () => {
  const { craig, ada } = await two(forgetful);
  // The frames are swallowed on their way: the socket takes them, the server never sees them.
  await craig.page.evaluate(() => {
    const { send } = WebSocket.prototype;
    WebSocket.prototype.send = function (data) {
      if (!String(data).includes('"chat"')) send.call(this, data);
    };
    window.addEventListener('heal', () => { WebSocket.prototype.send = send; });
  });
  await craig.say('keep');
  await craig.say('drop');
  await craig.page.waitForFunction(() => document.querySelectorAll('.mine[data-delivery="sending"]').length === 2);
  await forgetful.stop('SIGKILL');
  await craig.page.waitForFunction(() => document.querySelectorAll('.mine[data-delivery="waiting"]').length === 2);
  await forgetful.start();
  await craig.page.evaluate(() => { window.dispatchEvent(new Event('heal')); });
  await wake(craig, ada);
  await craig.page.waitForFunction(() => document.querySelectorAll('.mine[data-delivery="failed"]').length === 2);
  assert.match(await craig.page.locator('#rows .problem').first().innerText(), /Not confirmed/);
  await craig.sees(2);
  await craig.page.locator('.mine', { hasText: 'drop' }).getByRole('button', { name: 'Remove' }).click();
  await craig.page.locator('.mine', { hasText: 'keep' }).getByRole('button', { name: 'Send again' }).click();
  await ada.hears('keep');
  await craig.delivered('keep');
  assert.deepEqual(await craig.texts(), ['keep']);
  assert.deepEqual(await ada.texts(), ['keep']);
  assert.deepEqual([...craig.complaints, ...ada.complaints], []);
});

test('the answers are lost with the connection: what arrived is not sent again, what did not is', async () => {
  const { craig, ada } = await two();
  // The answers are swallowed on their way; the next frames, too.
  await craig.page.evaluate(() => {
    const { send } = WebSocket.prototype;
    let kept = 0;
    WebSocket.prototype.send = function (data) {
      if (!String(data).includes('"chat"')) return send.call(this, data);
      if (kept === 0) {
        this.onmessage = null;
        send.call(this, data);
      }
      kept += 1;
      if (kept === 2) setTimeout(() => this.close(4_000), 200);
    };
    window.addEventListener('heal', () => { WebSocket.prototype.send = send; });
  });
  await craig.say('it arrived');
  await ada.hears('it arrived');
  await craig.say('it did not');
  await craig.page.waitForSelector('.mine[data-delivery="sending"], .mine[data-delivery="waiting"]');
  await craig.page.evaluate(() => { window.dispatchEvent(new Event('heal')); });
  await ada.hears('it did not');
  await craig.delivered('it did not');
  assert.deepEqual(await ada.texts(), ['it arrived', 'it did not']);
  assert.deepEqual(await craig.texts(), ['it arrived', 'it did not']);
  assert.deepEqual([...craig.complaints, ...ada.complaints], []);
});

test('a reload in the middle of sending: nothing is lost, nothing doubled', async () => {
  const { craig, ada } = await two();
  const wanted = Array.from({ length: 40 }, (_, i) => `line ${i}`);
  const loaded = craig.page.waitForEvent('load');
  await craig.page.evaluate((texts) => {
    const field = /** @type {HTMLTextAreaElement} */ (document.getElementById('message'));
    for (const text of texts) {
      field.value = text;
      field.form?.requestSubmit();
    }
    location.reload();
  }, wanted);
  await loaded;
  await craig.online();
  await ada.hears('line 39');
  await craig.hears('line 39');
  await craig.page.waitForFunction(() => document.querySelectorAll('.mine[data-delivery="sending"], .mine[data-delivery="waiting"]').length === 0);
  assert.deepEqual(await ada.texts(), wanted);
  assert.deepEqual(await craig.texts(), wanted);
  assert.equal(await craig.page.locator('.message.mine').count(), wanted.length);
  assert.equal(await craig.page.locator('[data-delivery="failed"]').count(), 0);
  assert.deepEqual([...craig.complaints, ...ada.complaints], []);
});

test('a reload in the middle of a direct message: it arrives once, and stays in sight', async () => {
  const { craig, ada } = await two();
  await craig.page.locator('#people-list a').click();
  const loaded = craig.page.waitForEvent('load');
  await craig.page.evaluate(() => {
    // No answer comes in time; whether the message leaves is a matter of luck.
    const { send } = WebSocket.prototype;
    let chats = 0;
    WebSocket.prototype.send = function (data) {
      this.onmessage = null;
      if (String(data).includes('"chat"') && (chats += 1) > 1) return;
      send.call(this, data);
    };
    const field = /** @type {HTMLTextAreaElement} */ (document.getElementById('message'));
    for (const text of ['psst, one', 'psst, two', 'psst, three']) {
      field.value = text;
      field.form?.requestSubmit();
    }
    location.reload();
  });
  await loaded;
  await craig.online();
  await craig.delivered('psst, three');
  await ada.unread('Craig', 3);
  await ada.page.locator('#direct-list a').click();
  const letters = ['psst, one', 'psst, two', 'psst, three'];
  await ada.hears('psst, three');
  assert.deepEqual(await ada.texts(), letters);
  assert.deepEqual(await craig.texts(), letters);
  await ada.say('got it');
  await craig.hears('got it');
  await craig.page.reload();
  await craig.hears('got it');
  assert.deepEqual((await craig.texts()).toSorted(), [...letters, 'got it'].toSorted(), 'the copies are in our own room');
  assert.deepEqual([...craig.complaints, ...ada.complaints], []);
});

test('a tab in the background, frozen or with timers that hardly run, stays in and catches up', async () => {
  const { craig, ada } = await two();
  const sockets = /** @type {unknown[]} */ ([]);
  craig.page.on('websocket', (socket) => sockets.push(socket));
  const devtools = await craig.page.context().newCDPSession(craig.page);
  await craig.hide(true);
  await devtools.send('Page.setWebLifecycleState', { state: 'frozen' });
  for (let i = 0; i < 5; i += 1) await ada.say(`frozen ${i}`);
  await ada.delivered('frozen 4');
  await devtools.send('Page.setWebLifecycleState', { state: 'active' });
  await craig.page.waitForFunction(() => document.title.startsWith('(5) '));
  // Timers that fire an age late, as in a tab that was long away.
  await craig.page.evaluate(() => {
    const real = Date.now;
    const started = real();
    Date.now = () => real() + (real() - started > 50 ? 3_600_000 : 0);
  });
  await ada.say('an hour later');
  await craig.page.waitForFunction(() => document.title.startsWith('(6) '));
  await craig.hide(false);
  await craig.hears('an hour later');
  assert.equal(await craig.page.locator('.unread + .message .text').innerText(), 'frozen 0');
  await craig.say('here I am');
  await ada.hears('here I am');
  assert.equal(sockets.length, 0, 'the connection it had is the one it has');
  assert.deepEqual(await craig.texts(), [...Array.from({ length: 5 }, (_, i) => `frozen ${i}`), 'an hour later', 'here I am']);
  assert.deepEqual([...craig.complaints, ...ada.complaints], []);
});

test('a tab in the background whose server was restarted meanwhile catches up', async () => {
  const { craig, ada } = await two();
  const devtools = await craig.page.context().newCDPSession(craig.page);
  await craig.hide(true);
  await devtools.send('Page.setWebLifecycleState', { state: 'frozen' });
  await server.stop('SIGKILL');
  await server.start();
  await wake(ada);
  await ada.say('you missed the fire alarm');
  await ada.delivered('you missed the fire alarm');
  await devtools.send('Page.setWebLifecycleState', { state: 'active' });
  await craig.hide(false);
  await craig.hears('you missed the fire alarm');
  await craig.online();
  await craig.say('all well');
  await ada.hears('all well');
  assert.deepEqual(await craig.texts(), ['you missed the fire alarm', 'all well']);
  assert.deepEqual([...craig.complaints, ...ada.complaints], []);
});

test('where WebSocket does not get through, server-sent events do', async () => {
  const room = newRoom();
  const { page, complaints } = await browser.page();
  await page.addInitScript(() => {
    // As behind a proxy that knows no upgrades.
    Object.assign(window, {
      WebSocket: class extends EventTarget {
        readyState = 3;
        constructor() {
          super();
          setTimeout(() => {
            for (const name of /** @type {const} */ (['error', 'close'])) {
              const event = name === 'close' ? new CloseEvent('close', { code: 1006 }) : new Event('error');
              /** @type {any} */ (this)[`on${name}`]?.(event);
              this.dispatchEvent(event);
            }
          });
        }
        send() {}
        close() {}
      },
    });
  });
  await page.goto(new URL(`/?Craig#/room/${room}`, server.url).href);
  const craig = new Person(page, complaints);
  await craig.online();
  const ada = await Person.enter(browser, server, `/?Ada#/room/${room}`);
  await ada.sees(2);
  await craig.sees(2);
  await ada.say('do you hear me?');
  await craig.hears('do you hear me?');
  for (const text of ['loud', 'and', 'clear']) await craig.say(text);
  await ada.hears('clear');
  await craig.delivered('clear');
  await ada.page.locator('#people-list a').click();
  await ada.say('in private, too?');
  await craig.unread('Ada', 1);
  await craig.go(`#/room/${newRoom()}`);
  await craig.sees(1);
  await craig.go(`#/room/${room}`);
  assert.deepEqual(await craig.texts(), ['do you hear me?', 'loud', 'and', 'clear']);

  await server.stop('SIGKILL');
  await craig.page.locator('#banner').waitFor({ state: 'visible' });
  await craig.say('after the fall');
  await server.start();
  await wake(craig, ada);
  await craig.delivered('after the fall');
  await ada.go(`#/room/${room}`);
  await ada.hears('after the fall');
  assert.deepEqual(await ada.texts(), ['do you hear me?', 'loud', 'and', 'clear', 'after the fall']);
  assert.deepEqual(await craig.texts(), ['do you hear me?', 'loud', 'and', 'clear', 'after the fall']);
  assert.deepEqual([...craig.complaints, ...ada.complaints], []);
});

test('an orderly shutdown is told as such and the page comes back', async () => {
  const craig = await Person.enter(browser, server, `/?Craig#/room/${newRoom()}`);
  await server.stop('SIGTERM');
  await craig.page.locator('#banner').waitFor({ state: 'visible' });
  assert.match(await craig.page.locator('#banner-text').innerText(), /restarting|lost/);
  await server.start();
  await craig.online();
  assert.deepEqual(craig.complaints, []);
});
