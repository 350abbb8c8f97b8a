// Narrow screens, the keyboard, and what assistive technology is told.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { after, afterEach, before, test } from 'node:test';
import { Browser, Person, Server } from '../harness.mjs';

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
    const phone = await Person.enter(browser, server, `/?${'Wolfeschlegelsteinhausenbergerdorff'}`, { viewport: { width, height: 640 } });
    assert.deepEqual(await overflow(phone), { scroll: 0, wide: [] });
    await phone.say('A sentence with a word that is much too long: ' + 'x'.repeat(300) + ' https://example.org/' + 'y'.repeat(300));
    const other = await Person.enter(browser, server, `/?${'M'.repeat(40)}`);
    await other.say('W'.repeat(200));
    await phone.hears('W'.repeat(200));
    assert.deepEqual(await overflow(phone), { scroll: 0, wide: [] });
    const field = await phone.page.locator('#composer').boundingBox();
    assert.ok(field && field.y + field.height <= 640, 'the field is in sight');
    await other.leave();
    await phone.leave();
  });
}

test('on a phone the list is a drawer that keeps the focus', async () => {
  const phone = await Person.enter(browser, server, '/?Noor', { viewport: { width: 360, height: 640 }, hasTouch: true, isMobile: true });
  const { page } = phone;
  assert.equal(await page.locator('#people-list').isVisible(), false);
  await page.locator('#people-button').tap();
  await page.locator('#people-list').waitFor({ state: 'visible' });
  assert.equal(await page.locator('#people-button').getAttribute('aria-expanded'), 'true');
  assert.equal(await page.evaluate(() => document.activeElement?.id), 'people-close');
  for (let i = 0; i < 4; i += 1) {
    await page.keyboard.press('Tab');
    assert.ok(await page.evaluate(() => document.activeElement === document.body || document.getElementById('people')?.contains(document.activeElement)));
  }
  await page.keyboard.press('Escape');
  await page.locator('#people-list').waitFor({ state: 'hidden' });
  assert.equal(await page.evaluate(() => document.activeElement?.id), 'people-button');
  assert.deepEqual(phone.complaints, []);
  await phone.leave();
});

test('everything can be done with the keyboard alone', async () => {
  const craig = await Person.enter(browser, server, '/?Craig');
  const ada = await Person.enter(browser, server, '/?Ada');
  const { page } = craig;
  const focused = () => page.evaluate(() => document.activeElement?.id);
  assert.equal(await focused(), 'message', 'ready to write');
  await page.keyboard.type('no mouse');
  await page.keyboard.press('Enter');
  await ada.hears('no mouse');

  await page.locator('.skip').focus();
  const order = ['skip'];
  for (let i = 0; i < 8 && order.at(-1) !== 'message'; i += 1) {
    await page.keyboard.press('Tab');
    order.push(await focused() ?? '');
    if (order.at(-1) !== 'message') {
      const ring = await page.evaluate(() => {
        const style = getComputedStyle(/** @type {Element} */ (document.activeElement));
        return style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2;
      });
      assert.ok(ring, `the focus on ${order.at(-1)} can be seen`);
    }
  }
  assert.deepEqual(order, ['skip', 'me', 'log', 'message']);

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
  const craig = await Person.enter(browser, server, '/?Craig');
  const { page } = craig;
  const log = page.getByRole('log', { name: 'Messages' });
  assert.equal(await log.getAttribute('aria-live'), 'polite');
  assert.ok(await page.getByRole('textbox', { name: 'Message' }).isVisible());
  assert.ok(await page.getByRole('button', { name: 'Send' }).isVisible());
  assert.ok(await page.getByRole('button', { name: /You are Craig.*change your name/ }).isVisible());
  assert.ok(await page.getByRole('complementary', { name: /Here now/ }).isVisible());
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
      const craig = await Person.enter(browser, server, '/?Craig', { colorScheme, reducedMotion: 'reduce', bypassCSP: true, viewport: { width, height: 720 } });
      await audit(craig, 'empty');
      for (const name of ['Ada', 'Bo', 'Cy', 'Di', 'Eli']) {
        const other = await Person.enter(browser, server, `/?${name}`);
        await other.say(`I am ${name}, see https://example.org/`);
        await craig.hears(`I am ${name}, see https://example.org/`);
      }
      await craig.say('And I am Craig, see https://example.org/');
      await craig.delivered('And I am Craig, see https://example.org/');
      await audit(craig, 'busy');
      await craig.page.locator('#me').click();
      await audit(craig, 'the name dialog');
      await craig.page.locator('#name-cancel').click();
      if (width < 820) {
        await craig.page.locator('#people-button').click();
        await audit(craig, 'the drawer');
        await craig.page.keyboard.press('Escape');
      }
      await server.stop();
      await craig.page.locator('#banner').waitFor({ state: 'visible' });
      await craig.say('waiting');
      await craig.page.waitForSelector('.mine[data-delivery="waiting"]');
      await audit(craig, 'disconnected');
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
  for (const [path, type] of [['app.js', /javascript/], ['chat.css', /text\/css/], ['icon.svg', /image\/svg\+xml/]]) {
    const asset = await fetch(new URL(`/chat/${path}`, server.url));
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
