// The server dies and comes back; the talk goes on.
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { Browser, Person, Server } from '../harness.mjs';

/** @type {Server} */ let server;
/** @type {Browser} */ let browser;

before(async () => {
  server = await Server.start();
  browser = await Browser.launch();
});

afterEach(async () => {
  await browser.clear();
  await server.start();
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

test('killed and restarted: the banner shows and goes, what was not sent is delivered', async () => {
  const craig = await Person.enter(browser, server, '/?Craig');
  const ada = await Person.enter(browser, server, '/?Ada');
  await craig.sees(2);
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
  await ada.page.evaluate(() => window.dispatchEvent(new Event('online')));
  await ada.online();
  await craig.online();
  await ada.hears('while you were out, two');
  await craig.delivered('while you were out, one');
  await craig.delivered('while you were out, two');
  await banner.waitFor({ state: 'hidden' });
  await ada.page.locator('#banner').waitFor({ state: 'hidden' });
  await craig.sees(2);
  await ada.sees(2);
  await ada.say('after');
  await craig.hears('after');
  assert.deepEqual(await craig.texts(), ['before', 'while you were out, one', 'while you were out, two', 'after']);
  assert.deepEqual(await ada.texts(), ['before', 'while you were out, one', 'while you were out, two', 'after']);
  assert.deepEqual(craig.complaints, []);
  assert.deepEqual(ada.complaints, []);
  await craig.leave();
  await ada.leave();
});

test('"Try now" does not wait', async () => {
  const craig = await Person.enter(browser, server, '/?Craig');
  await server.stop('SIGKILL');
  await craig.page.locator('#banner').waitFor({ state: 'visible' });
  // Far into the backoff, so that the wait is longer than the click.
  await craig.page.waitForFunction(() => Number(/\d+/.exec(document.getElementById('banner-countdown')?.textContent ?? '')?.[0]) >= 4);
  await server.start();
  await craig.page.locator('#banner-button').click();
  await craig.online();
  assert.deepEqual(craig.complaints, []);
  await craig.leave();
});

test('what was on its way when the server died is neither lost nor doubled: it can be sent again or removed', async () => {
  const craig = await Person.enter(browser, server, '/?Craig');
  const ada = await Person.enter(browser, server, '/?Ada');
  // The frames are swallowed on their way: the socket takes them, the server never sees them.
  await craig.page.evaluate(() => {
    const send = WebSocket.prototype.send;
    let swallow = true;
    WebSocket.prototype.send = function (data) {
      if (!swallow || !String(data).includes('"chat"')) send.call(this, data);
    };
    window.addEventListener('deliver', () => { swallow = false; });
  });
  await craig.say('keep');
  await craig.say('drop');
  await craig.page.waitForSelector('.mine[data-delivery="sending"]');
  await server.stop('SIGKILL');
  await craig.page.waitForFunction(() => document.querySelectorAll('.mine[data-delivery="failed"]').length === 2);
  await server.start();
  await craig.page.evaluate(() => {
    window.dispatchEvent(new Event('deliver'));
    window.dispatchEvent(new Event('online'));
  });
  await ada.page.evaluate(() => window.dispatchEvent(new Event('online')));
  await craig.online();
  await ada.online();
  await craig.sees(2);
  await craig.page.locator('.mine', { hasText: 'drop' }).getByRole('button', { name: 'Remove' }).click();
  await craig.page.locator('.mine', { hasText: 'keep' }).getByRole('button', { name: 'Send again' }).click();
  await ada.hears('keep');
  await craig.delivered('keep');
  assert.deepEqual(await craig.texts(), ['keep']);
  assert.deepEqual(await ada.texts(), ['keep']);
  await craig.leave();
  await ada.leave();
});

test('an orderly shutdown is told as such and the page comes back', async () => {
  const craig = await Person.enter(browser, server, '/?Craig');
  await server.stop('SIGTERM');
  await craig.page.locator('#banner').waitFor({ state: 'visible' });
  assert.match(await craig.page.locator('#banner-text').innerText(), /restarting|lost/);
  await server.start();
  await craig.online();
  assert.deepEqual(craig.complaints, []);
  await craig.leave();
});
