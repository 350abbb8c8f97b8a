// Narrow screens, the keyboard, and what assistive technology is told.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { after, afterEach, before, test } from 'node:test';
import { Browser, Person, Server, newRoom } from '../harness.mjs';

const axe = createRequire(import.meta.url).resolve('axe-core/axe.min.js');

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

/** @param {Person} person */
const overflow = ({ page }) => page.evaluate(() => {
  const wide = [...document.querySelectorAll('body *')].filter((node) => {
    const box = node.getBoundingClientRect();
    return box.width > 1 && box.right > innerWidth + 0.5 && !node.closest('[inert]');
  });
  return { scroll: document.documentElement.scrollWidth - innerWidth, wide: wide.map((node) => `${node.tagName}.${node.className}`) };
});

for (const width of [320, 360, 412, 768, 820, 1440]) {
  test(`nothing sticks out at ${width} px`, async () => {
    const room = `#/room/${newRoom()}${'W'.repeat(90)}`;
    const phone = await Person.enter(browser, server, `/?${'Wolfeschlegelsteinhausenbergerdorff'}${room}`, { viewport: { width, height: 640 } });
    assert.deepEqual(await overflow(phone), { scroll: 0, wide: [] });
    await phone.say('A sentence with a word that is much too long: ' + 'x'.repeat(300) + ' https://example.org/' + 'y'.repeat(300));
    const other = await Person.enter(browser, server, `/?${'M'.repeat(40)}${room}`);
    await other.say('W'.repeat(200));
    await phone.hears('W'.repeat(200));
    assert.deepEqual(await overflow(phone), { scroll: 0, wide: [] });
    const field = await phone.page.locator('#composer').boundingBox();
    assert.ok(field && field.y + field.height <= 640, 'the field is in sight');
    const link = await phone.page.locator('#people-list a').getAttribute('href') ?? '';
    await phone.go(link);
    await phone.say('x'.repeat(300));
    assert.deepEqual(await overflow(phone), { scroll: 0, wide: [] });
    await other.leave();
    await phone.leave();
  });
}

test('a long name of a room takes nothing from its neighbours', async () => {
  const room = `${newRoom()}-${'long-'.repeat(20)}name`;
  for (const width of [360, 700, 900]) {
    const guest = await Person.enter(browser, server, `/?Craig#/room/${room}`, { viewport: { width, height: 640 }, hasTouch: true, isMobile: true });
    const { page } = guest;
    await page.evaluate(() => { location.hash = '#/room/lobby'; });
    await guest.go(`#/room/${room}`);
    const pressed = await page.locator('.top-end > *').evaluateAll((nodes) => nodes.filter((node) => node.scrollWidth > node.clientWidth + 1).map(({ id }) => id));
    assert.deepEqual(pressed, [], `the buttons have their space at ${width} px`);
    const field = await page.locator('#message').boundingBox();
    assert.ok(field && field.height < 50, 'the hint in the empty field is one line');
    if (width < 820) await page.locator('#side-button').tap();
    const meets = await page.locator('.places li').evaluateAll((items) => items.some((item) => {
      const [name, close] = [item.querySelector('.who'), item.querySelector('.close')];
      return name !== null && close !== null && name.getBoundingClientRect().right > close.getBoundingClientRect().left + 1;
    }));
    assert.equal(meets, false, 'the name ends before the button to leave');
    await guest.leave();
  }
});

test('on a phone the lists are drawers that keep the focus', async () => {
  const phone = await Person.enter(browser, server, '/?Noor', { viewport: { width: 360, height: 640 }, hasTouch: true, isMobile: true });
  const { page } = phone;
  for (const [drawer, list] of [['people', 'people-list'], ['side', 'room-list']]) {
    assert.equal(await page.locator(`#${list}`).isVisible(), false);
    await page.locator(`#${drawer}-button`).tap();
    await page.locator(`#${list}`).waitFor({ state: 'visible' });
    assert.equal(await page.locator(`#${drawer}-button`).getAttribute('aria-expanded'), 'true');
    assert.equal(await page.evaluate(() => document.activeElement?.id), `${drawer}-close`);
    for (let i = 0; i < 4; i += 1) {
      await page.keyboard.press('Tab');
      assert.ok(await page.evaluate((id) => document.activeElement === document.body || document.getElementById(id ?? '')?.contains(document.activeElement), drawer));
    }
    await page.keyboard.press('Escape');
    await page.locator(`#${list}`).waitFor({ state: 'hidden' });
    assert.equal(await page.evaluate(() => document.activeElement?.id), `${drawer}-button`);
  }
  assert.deepEqual(phone.complaints, []);
  await phone.leave();
});

test('everything can be done with the keyboard alone', async () => {
  const room = newRoom();
  const craig = await Person.enter(browser, server, `/?Craig#/room/${room}`);
  const ada = await Person.enter(browser, server, `/?Ada#/room/${room}`);
  const { page } = craig;
  await craig.sees(2);
  const focused = () => page.evaluate(() => document.activeElement?.id || document.activeElement?.getAttribute('href') || document.activeElement?.getAttribute('aria-label'));
  assert.equal(await focused(), 'message', 'ready to write');
  await page.keyboard.type('no mouse');
  await page.keyboard.press('Enter');
  await ada.hears('no mouse');

  await page.locator('.skip').focus();
  const order = ['skip'];
  for (let i = 0; i < 12 && order.at(-1) !== 'message'; i += 1) {
    await page.keyboard.press('Tab');
    order.push(await focused() ?? '');
    if (!['message', 'join-room'].includes(order.at(-1) ?? '')) {
      const ring = await page.evaluate(() => {
        const style = getComputedStyle(/** @type {Element} */ (document.activeElement));
        return style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2;
      });
      assert.ok(ring, `the focus on ${order.at(-1)} can be seen`);
    }
  }
  assert.deepEqual(order, ['skip', 'me', '#/room/lobby', 'Leave lobby', `#/room/${room}`, `Leave ${room}`, 'join-room', 'log', 'message']);
  await page.keyboard.press('Tab');
  assert.match(await focused() ?? '', /^#\/to\/u_/, 'then those who are here');
  await page.locator('#message').focus();

  for (let i = 0; i < 30; i += 1) await ada.say(`line ${i}`);
  await craig.hears('line 29');
  await page.keyboard.press('Shift+Tab');
  assert.equal(await focused(), 'log');
  await page.keyboard.press('Home');
  await page.waitForFunction(() => document.getElementById('log')?.scrollTop === 0);
  await ada.say('news');
  await craig.hears('news');
  await page.keyboard.press('Tab');
  assert.equal(await focused(), 'jump');
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => document.getElementById('jump')?.hidden);
  assert.equal(await focused(), 'log', 'the focus is not lost with the button');

  await page.locator('#me').focus();
  await page.keyboard.press('Enter');
  assert.equal(await focused(), 'name');
  await page.keyboard.press('Escape');
  assert.equal(await focused(), 'me');
  assert.deepEqual(craig.complaints, []);
  await craig.leave();
  await ada.leave();
});

test('screen readers: roles, labels, and an own message is announced once', async () => {
  const craig = await Person.enter(browser, server, `/?Craig#/room/${newRoom()}`);
  const { page } = craig;
  const log = page.getByRole('log', { name: 'Messages' });
  assert.equal(await log.getAttribute('aria-live'), 'polite');
  assert.ok(await page.getByRole('textbox', { name: 'Message' }).isVisible());
  assert.ok(await page.getByRole('button', { name: 'Send' }).isVisible());
  assert.ok(await page.getByRole('button', { name: /You are Craig.*change your name/ }).isVisible());
  assert.ok(await page.getByRole('complementary', { name: /Here now/ }).isVisible());
  assert.ok(await page.getByRole('navigation', { name: 'Rooms and people' }).isVisible());
  assert.ok(await page.getByRole('textbox', { name: 'Enter another room' }).isVisible());
  await page.evaluate(() => {
    const seen = /** @type {string[]} */ ([]);
    Object.assign(window, { seen });
    new MutationObserver((records) => {
      for (const record of records) {
        for (const node of record.addedNodes) {
          const element = node instanceof Element ? node : node.parentElement;
          if (element !== null && element.closest('[aria-live="off"]') === null) seen.push(element.textContent ?? '');
        }
      }
    }).observe(/** @type {Node} */ (document.getElementById('rows')), { childList: true, subtree: true });
  });
  await craig.say('only once');
  await craig.delivered('only once');
  const seen = await page.evaluate(() => /** @type {{ seen: string[] }} */ (/** @type {unknown} */ (window)).seen);
  assert.equal(seen.filter((text) => text.includes('only once')).length, 1, JSON.stringify(seen));
  await craig.sayAll(Array.from({ length: 20 }, (_, i) => `line ${i}`));
  await craig.delivered('line 19');
  await page.waitForFunction(() => document.getElementById('log')?.getAttribute('aria-live') === 'polite');
  await page.evaluate(() => {
    const spoken = /** @type {string[]} */ ([]);
    Object.assign(window, { spoken });
    new MutationObserver((records) => {
      const silent = document.getElementById('log')?.getAttribute('aria-live') === 'off';
      for (const { addedNodes } of records) for (const node of addedNodes) if (!silent) spoken.push(node.textContent ?? '');
    }).observe(/** @type {Node} */ (document.getElementById('rows')), { childList: true });
  });
  const room = new URL(page.url()).hash;
  await craig.go(`#/room/${newRoom()}`);
  await craig.go(room);
  await craig.hears('line 19');
  const spoken = await page.evaluate(() => /** @type {{ spoken: string[] }} */ (/** @type {unknown} */ (window)).spoken);
  assert.deepEqual(spoken.filter((text) => text.includes('line')), [], 'the past is not read out again');
  await craig.leave();
});

/** The context must bypass the page's policy, which would not let axe in. @param {Person} person @param {string} what */
async function audit(person, what) {
  await person.page.evaluate(() => Promise.all(document.getAnimations().map((animation) => animation.finished.catch(() => {}))).then(() => {}));
  await person.page.addScriptTag({ path: axe });
  const found = await person.page.evaluate(async () => {
    // @ts-expect-error axe is a global of its script
    const { violations } = await axe.run(document, { resultTypes: ['violations'] });
    return violations.map((/** @type {any} */ violation) => `${violation.id}: ${violation.nodes.map((/** @type {any} */ node) => `${node.target} ${node.failureSummary}`).join(' | ')}`);
  });
  assert.deepEqual(found, [], what);
}

for (const colorScheme of /** @type {const} */ (['light', 'dark'])) {
  for (const width of [360, 1100]) {
    test(`axe finds nothing: ${colorScheme}, ${width} px`, async () => {
      const room = `#/room/${newRoom()}`;
      const craig = await Person.enter(browser, server, `/?Craig${room}`, { colorScheme, reducedMotion: 'reduce', bypassCSP: true, viewport: { width, height: 720 } });
      await audit(craig, 'empty');
      for (const name of ['Ada', 'Bo', 'Cy', 'Di', 'Eli']) {
        const other = await Person.enter(browser, server, `/?${name}${room}`);
        await other.say(`I am ${name}, see https://example.org/`);
        await craig.hears(`I am ${name}, see https://example.org/`);
      }
      await craig.say('And I am Craig, see https://example.org/');
      await craig.delivered('And I am Craig, see https://example.org/');
      await audit(craig, 'busy');
      const ada = await Person.enter(browser, server, `/?Ada${room}`);
      await ada.hears('And I am Craig, see https://example.org/');
      await craig.hide(true);
      await ada.say('news');
      await craig.hears('news');
      await craig.hide(false);
      await ada.page.locator('#people-list a', { hasText: 'Craig' }).click();
      await ada.say('psst');
      await craig.page.waitForSelector('#direct-list .badge', { state: 'attached' });
      await audit(craig, 'unread');
      await craig.page.locator('#me').click();
      await audit(craig, 'the name dialog');
      await craig.page.locator('#name-cancel').click();
      if (width < 820) {
        for (const drawer of ['people', 'side']) {
          await craig.page.locator(`#${drawer}-button`).click();
          await audit(craig, `the drawer ${drawer}`);
          await craig.page.keyboard.press('Escape');
        }
      }
      await server.stop();
      await craig.page.locator('#banner').waitFor({ state: 'visible' });
      await craig.say('waiting');
      await craig.page.waitForSelector('.mine[data-delivery="waiting"]');
      await audit(craig, 'disconnected');
      await craig.go(await craig.page.locator('#direct-list a').getAttribute('href') ?? '');
      await audit(craig, 'a direct conversation');
    });
  }
}

test('a strict policy protects the page', async () => {
  const response = await fetch(server.url);
  const policy = response.headers.get('content-security-policy') ?? '';
  assert.match(policy, /default-src 'none'/);
  assert.match(policy, /script-src 'self'/);
  assert.doesNotMatch(policy, /unsafe-inline|unsafe-eval/);
  assert.match(response.headers.get('content-type') ?? '', /text\/html/);
  for (const [path, type] of [['chat/app.js', /javascript/], ['js/index.js', /javascript/], ['chat/chat.css', /text\/css/], ['chat/icon.svg', /image\/svg\+xml/]]) {
    const asset = await fetch(new URL(`/${path}`, server.url));
    assert.equal(asset.status, 200, String(path));
    assert.match(asset.headers.get('content-type') ?? '', /** @type {RegExp} */ (type));
  }
  const craig = await Person.enter(browser, server, '/?Craig');
  await craig.page.evaluate(() => {
    try {
      const script = document.createElement('script');
      script.textContent = 'window.hacked = true';
      document.body.append(script);
    } catch {
      // Where trusted types are enforced, the text does not even get into the element.
    }
  });
  assert.equal(await craig.page.evaluate(() => 'hacked' in window), false, 'inline script does not run');
  while (craig.complaints.length === 0) await craig.page.waitForEvent('console');
  assert.match(craig.complaints.join('\n'), /CSP|Content Security Policy/, 'and a violation is noticed by this harness');
  await craig.leave();
});
