// Two people talk; what they write stays text; the keys do what they should.
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { Browser, Person, Server, newRoom, roomOf } from '../harness.mjs';

/** @type {Server} */ let server;
/** @type {Browser} */ let browser;
/** The room of the scene that is on. */ let room = '';

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

/** Opens people one after the other in a room of their own, runs the scene, and lets them leave; nobody's browser may have complained. */
async function scene(/** @type {string[]} */ queries, /** @type {(...people: Person[]) => Promise<void>} */ act) {
  const people = [];
  room = newRoom();
  for (const query of queries) people.push(await Person.enter(browser, server, `${query}#/room/${room}`));
  await act(...people);
  for (const person of people) {
    assert.deepEqual(person.complaints, []);
    await person.leave();
  }
}

test('two pages chat both ways', () => scene(['/?Craig', '/?name=Ada%20Lovelace'], async (craig, ada) => {
  await craig.sees(2);
  await ada.sees(2);
  assert.deepEqual(await craig.people(), ['Craig', 'Ada Lovelace']);
  assert.deepEqual(await ada.people(), ['Ada Lovelace', 'Craig']);
  assert.ok((await craig.notices()).includes('Ada Lovelace entered the chat room'));
  await craig.say('Hello Ada');
  await ada.hears('Hello Ada');
  await ada.say('Hello Craig');
  await craig.hears('Hello Craig');
  await craig.delivered('Hello Ada');
  assert.deepEqual(await craig.texts(), ['Hello Ada', 'Hello Craig']);
  assert.deepEqual(await ada.texts(), ['Hello Ada', 'Hello Craig']);
  assert.equal(await craig.page.locator('.message.mine .text').innerText(), 'Hello Ada');
  assert.equal(await craig.page.locator('.message:not(.mine) .author').innerText(), 'Ada Lovelace');
  const at = await craig.page.locator('.message.mine time').first().getAttribute('datetime');
  assert.ok(Math.abs(Date.parse(at ?? '') - Date.now()) < 60_000, `stamped ${at}`);
  assert.equal(await craig.page.locator('#empty').isVisible(), false);
}));

test('an own message is there once, also when many are sent at once', () => scene(['/?Craig', '/?Ada'], async (craig, ada) => {
  const wanted = Array.from({ length: 30 }, (_, i) => `line ${i}`);
  for (const text of wanted) await craig.say(text);
  await craig.delivered('line 29');
  await ada.hears('line 29');
  assert.deepEqual(await craig.texts(), wanted);
  assert.deepEqual(await ada.texts(), wanted);
  assert.equal(await craig.page.locator('.delivery').filter({ hasText: 'Sent' }).count(), 1, 'said once for the group');
}));

test('leaving is told', () => scene(['/?Craig'], async (craig) => {
  const bo = await Person.enter(browser, server, `/?Bo#/room/${room}`);
  await craig.sees(2);
  await bo.leave();
  await craig.sees(1);
  assert.deepEqual(await craig.notices(), ['Bo entered the chat room', 'Bo left']);
}));

test('a name with HTML in it stays text', async () => {
  const names = ['<script>alert(1)</script>', '<img src=x onerror=alert(2)>', '"><svg onload=alert(3)>'];
  await scene(['/?Craig', ...names.map((name) => `/?${encodeURIComponent(name)}`)], async (craig, ...others) => {
    await craig.sees(4);
    const shown = await craig.people();
    for (const name of names) assert.ok(shown.includes(name), name);
    for (const [i, other] of others.entries()) {
      await other.say(`from ${i}`);
      await craig.hears(`from ${i}`);
    }
    assert.deepEqual(await craig.page.locator('.message .author').allTextContents(), names);
    assert.equal(await craig.page.locator('#rows script, #rows img, #rows svg, #people-list script, #people-list img, #people-list svg').count(), 0);
  });
});

test('a message with HTML in it stays text, an address becomes a safe link', () => scene(['/?Craig', '/?Ada'], async (craig, ada) => {
  const html = '<script>alert(1)</script><img src=x onerror=alert(2)><a href="javascript:alert(3)">x</a> &lt;b&gt;';
  await craig.say(html);
  await ada.hears(html);
  await craig.say('see https://example.org/a?b=c&d=%22, or javascript:alert(4)');
  await ada.hears('see https://example.org/a?b=c&d=%22, or javascript:alert(4)');
  for (const { page } of [craig, ada]) {
    assert.equal(await page.locator('#rows script, #rows img').count(), 0);
    const links = page.locator('#rows .text a');
    assert.equal(await links.count(), 1);
    assert.equal(await links.getAttribute('href'), 'https://example.org/a?b=c&d=%22');
    assert.match(await links.getAttribute('rel') ?? '', /noopener/);
  }
}));

test('odd texts arrive unchanged', () => scene(['/?Craig', '/?Ada'], async (craig, ada) => {
  const texts = ['two\nlines', '  indented', '\u{1F469}\u200D\u{1F680} 👋🏽', 'مرحبا', '"quotes" \\ and \\u0000', '\u2028', '{"type":"chat"}'];
  for (const text of texts) {
    await craig.say(text);
    await ada.hears(text.trimEnd() === '' ? texts[0] : text);
  }
  assert.deepEqual(await ada.texts(), texts.filter((text) => text.trim() !== ''));
}));

test('Enter sends, Shift+Enter starts a line, blank is not sent', () => scene(['/?Craig'], async (craig) => {
  const field = craig.page.locator('#message');
  assert.ok(await craig.page.locator('#send').isDisabled());
  await field.press('Enter');
  await field.pressSequentially('one');
  await field.press('Shift+Enter');
  await field.pressSequentially('two');
  assert.equal(await field.inputValue(), 'one\ntwo');
  const [low, high] = [await field.evaluate((node) => node.clientHeight), 24 * 2];
  assert.ok(low >= high, 'the field grew');
  await field.press('Enter');
  await craig.delivered('one\ntwo');
  assert.equal(await field.inputValue(), '');
  await field.fill('   \n ');
  await field.press('Enter');
  await field.fill('by the button');
  await craig.page.locator('#send').click();
  await craig.delivered('by the button');
  assert.deepEqual(await craig.texts(), ['one\ntwo', 'by the button']);
}));

test('an Enter that ends a composition does not send', () => scene(['/?Craig'], async (craig) => {
  const field = craig.page.locator('#message');
  await field.focus();
  const input = await craig.page.context().newCDPSession(craig.page);
  await input.send('Input.imeSetComposition', { text: 'かな', selectionStart: 2, selectionEnd: 2 });
  await field.evaluate((node) => node.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', isComposing: true, bubbles: true, cancelable: true })));
  assert.equal(await field.inputValue(), 'かな');
  await input.send('Input.insertText', { text: 'かな' });
  assert.deepEqual(await craig.texts(), []);
  await field.press('Enter');
  await craig.delivered('かな');
}));

test('too long is said before it is sent', () => scene(['/?Craig', '/?Ada'], async (craig, ada) => {
  const field = craig.page.locator('#message');
  await field.fill('x'.repeat(70_000));
  assert.match(await craig.page.locator('#composer-limit').innerText(), /too long/);
  assert.ok(await craig.page.locator('#send').isDisabled());
  await field.press('Enter');
  assert.deepEqual(await craig.texts(), []);
  const long = `${'ä'.repeat(32_000)} end`;
  await craig.say(long);
  await ada.hears(long);
  assert.ok(await ada.page.locator('.folded').isVisible(), 'a wall of text is folded');
  await ada.page.getByRole('button', { name: 'Show all of it' }).click();
  assert.equal(await ada.page.locator('.folded').count(), 0);
}));

test('who brings no name gets a friendly one and keeps it', async () => {
  const somebody = await Person.enter(browser, server, '/');
  const name = await somebody.page.locator('#me-name').innerText();
  assert.match(name, /^[A-Z][a-z]+ [A-Z][a-z]+$/);
  await somebody.page.reload();
  await somebody.online();
  assert.equal(await somebody.page.locator('#me-name').innerText(), name);
  assert.deepEqual(somebody.complaints, []);
  await somebody.leave();
});

test('names from the address: decoded, cleaned, cut', async () => {
  const cases = [
    ['/?J%C3%BCrgen%20M%C3%BCller', 'Jürgen Müller'], ['/?Ada+L', 'Ada L'], ['/?name=A%26B', 'A&B'], ['/?100%', '100%'],
    ['/?a%0Ab%00c', 'a b c'], ['/?%E2%80%AEevil', 'evil'], [`/?${'x'.repeat(99)}`, 'x'.repeat(40)],
  ];
  for (const [query, name] of cases) {
    const person = await Person.enter(browser, server, `${query}#/room/${newRoom()}`);
    assert.equal(await person.page.locator('#me-name').innerText(), name, query);
    await person.sees(1);
    assert.deepEqual(await person.people(), [name], query);
    await person.leave();
  }
});

test('changing the name comes back under it', () => scene(['/?Craig', '/?Ada'], async (craig, ada) => {
  await craig.page.locator('#me').click();
  await craig.page.locator('#name').fill('  Craig the Second ');
  await craig.page.keyboard.press('Enter');
  await ada.page.waitForFunction(() => [...document.querySelectorAll('#people-list .who')].some((node) => node.textContent === 'Craig the Second'));
  await craig.online();
  await ada.sees(2);
  assert.deepEqual(await ada.notices(), ['Craig left', 'Craig the Second entered the chat room']);
  await craig.say('it is me');
  await ada.hears('it is me');
  assert.equal(new URL(craig.page.url()).search, '?Craig%20the%20Second');
  await craig.page.reload();
  await craig.online();
  await craig.hears('it is me');
  assert.deepEqual(await craig.people(), ['Craig the Second', 'Ada'], 'a reload does not bring the old name back');
}));

test('reading upwards is respected', () => scene(['/?Craig', '/?Ada'], async (craig, ada) => {
  for (let i = 0; i < 40; i += 1) await ada.say(`old ${i}`);
  await craig.hears('old 39');
  const log = craig.page.locator('#log');
  const gap = () => log.evaluate((node) => node.scrollHeight - node.scrollTop - node.clientHeight);
  assert.ok(await gap() < 2, 'follows the newest');
  await log.evaluate((node) => { node.scrollTop = 200; });
  await craig.page.waitForFunction(() => !document.getElementById('jump')?.hidden);
  for (let i = 0; i < 3; i += 1) await ada.say(`new ${i}`);
  await craig.hears('new 2');
  assert.equal(await log.evaluate((node) => node.scrollTop), 200, 'stays where the reader is');
  assert.equal(await craig.page.locator('#jump-text').innerText(), '3 new messages');
  await craig.page.locator('#jump').click();
  assert.ok(await gap() < 2);
  assert.equal(await craig.page.locator('#jump').isVisible(), false);
  await log.evaluate((node) => { node.scrollTop = 0; });
  await craig.page.waitForFunction(() => !document.getElementById('jump')?.hidden);
  await craig.say('own');
  await craig.delivered('own');
  assert.ok(await gap() < 2, 'own messages are shown');
}));

test('the page keeps its last 500 items and the reader keeps the place', () => scene(['/?Craig', '/?Ada'], async (craig, ada) => {
  /** Plain sends from the page's console, as PROTOCOL invites to. */
  const flood = (/** @type {number} */ from, /** @type {number} */ to) => ada.page.evaluate(([first, last, where]) => new Promise((resolve, reject) => {
    const socket = new WebSocket(`ws://${location.host}/ws/${where}?name=Flood`);
    socket.onerror = reject;
    socket.onopen = () => {
      for (let i = first; i < last; i += 1) socket.send(JSON.stringify({ type: 'chat', text: `flood ${i}` }));
    };
    socket.onmessage = (event) => {
      if (JSON.parse(event.data).text !== `flood ${last - 1}`) return;
      socket.close(1000);
      resolve(undefined);
    };
  }), /** @type {const} */ ([from, to, roomOf(room)]));
  await flood(0, 520);
  await craig.hears('flood 519');
  assert.ok((await craig.texts()).length <= 500);
  const place = () => craig.page.evaluate(() => {
    const top = document.getElementById('log')?.getBoundingClientRect().top ?? 0;
    const node = [...document.querySelectorAll('.message')].find((row) => row.getBoundingClientRect().bottom > top);
    return { text: node?.querySelector('.text')?.textContent, offset: Math.round((node?.getBoundingClientRect().top ?? 0) - top) };
  });
  await craig.page.locator('#log').evaluate((node) => { node.scrollTop = node.scrollHeight / 2; });
  await craig.page.waitForFunction(() => !document.getElementById('jump')?.hidden);
  const was = await place();
  await flood(520, 600);
  await craig.hears('flood 599');
  const is = await place();
  assert.equal(is.text, was.text);
  assert.ok(Math.abs(is.offset - was.offset) <= 2, `${was.offset} → ${is.offset}`);
}));

test('the title counts what a hidden page missed', () => scene(['/?Craig', '/?Ada'], async (craig, ada) => {
  assert.equal(await craig.page.title(), `${room} · throng`);
  await craig.hide(true);
  await ada.say('psst');
  await ada.say('psst!');
  await craig.page.waitForFunction((title) => document.title === title, `(2) ${room} · throng`);
  await craig.hide(false);
  await craig.page.waitForFunction((title) => document.title === title, `${room} · throng`);
}));
