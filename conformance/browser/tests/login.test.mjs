// Signing in with a password: a ticket, a session, its end and why; and what a ticket is not good for.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { after, afterEach, before, test } from 'node:test';
import { Browser, Club, Person, newRoom } from '../harness.mjs';

const axe = createRequire(import.meta.url).resolve('axe-core/axe.min.js');

/** Guests may be in the open rooms. @type {Club} */ let club;
/** Nobody gets in without a password. @type {Club} */ let strict;
/** @type {Browser} */ let browser;

before(async () => {
  club = await Club.open();
  strict = await Club.open(['--set', 'rooms.anonymous=false']);
  browser = await Browser.launch();
});

afterEach(() => browser.clear());

after(async () => {
  await browser?.close();
  await Promise.all([club?.close(), strict?.close()]);
});

/** @param {Club} where @param {string} [address] @param {import('playwright-core').BrowserContextOptions} [options] */
async function visit(where, address = '/', options = {}) {
  const { page, complaints } = await browser.page(options);
  await page.goto(new URL(address, where.server.url).href);
  return new Person(page, complaints);
}

/** Somebody who has signed in. @param {Club} where @param {string} user @param {string} [address] */
async function member(where, user, address = '/') {
  const person = await visit(where, address);
  const form = person.page.locator('#login-dialog');
  if (where === club) {
    await person.online();
    await person.page.locator('#sign-in').click();
  }
  await form.waitFor({ state: 'visible' });
  await person.signIn(user);
  await form.waitFor({ state: 'hidden' });
  await person.page.waitForFunction(() => document.getElementById('me-before')?.textContent === 'Signed in as ');
  await person.online();
  return person;
}

/** What the browser notes of an answer that is an expected refusal. @param {number} status */
const refused = (status) => (/** @type {string} */ complaint) => !complaint.startsWith(`${status} `) && !complaint.includes(`status of ${status} `) && !complaint.includes(`code: ${status}`);

test('signs in, gets a ticket, chats, is revoked and sees why; what was written meanwhile goes out after signing in again', async () => {
  const room = newRoom();
  const ada = await member(strict, 'ada', `/#/room/${room}`);
  const bo = await member(strict, 'bo', `/#/room/${room}`);
  assert.equal(await ada.page.locator('#me-name').innerText(), 'Ada Lovelace');
  await ada.sees(2);
  assert.deepEqual(await ada.people(), ['Ada Lovelace', 'Bo']);
  await ada.say('hello Bo');
  await bo.hears('hello Bo');
  assert.equal(await bo.page.locator('.message .author').innerText(), 'Ada Lovelace');

  const { sessions } = await strict.api('GET', '/users/ada/sessions');
  assert.equal(sessions.length, 1);
  assert.equal(sessions[0].userId, 'ada');
  const began = Date.now();
  await strict.api('DELETE', `/sessions/${encodeURIComponent(sessions[0].sessionId)}`);
  await ada.reads(/You were signed out: your session was revoked\./);
  console.log(`# told after ${Date.now() - began} ms`);
  assert.equal(await ada.page.locator('#link-text').innerText(), 'Signed out');
  await bo.sees(1);
  await ada.say('is anybody there?');
  await ada.page.waitForSelector('.mine[data-delivery="waiting"]');
  assert.deepEqual(await bo.texts(), ['hello Bo']);

  await ada.page.locator('#banner-button').click();
  assert.match(await ada.page.locator('#login-why').innerText(), /your session was revoked/);
  assert.equal(await ada.page.locator('#login-user').inputValue(), 'ada', 'who it was');
  await ada.signIn('ada');
  await ada.delivered('is anybody there?');
  await bo.hears('is anybody there?');
  await ada.page.locator('#banner').waitFor({ state: 'hidden' });
  assert.deepEqual(await ada.texts(), ['hello Bo', 'is anybody there?']);
  assert.deepEqual([...ada.complaints, ...bo.complaints], []);
});

test('banned: told so in words, here, with the password, and in a handshake, after which nothing is tried again', async () => {
  const ada = await member(strict, 'ada', `/#/room/${newRoom()}`);
  const { ticket } = await strict.api('POST', '/tickets', { userId: 'ada' });
  await strict.api('POST', '/bans', { user: 'ada', reason: '' });
  try {
    await ada.reads(/^You were banned from this server\.$/);

    const again = await visit(strict);
    await again.page.locator('#login-dialog').waitFor({ state: 'visible' });
    await again.signIn('ada');
    await again.page.waitForFunction(() => document.getElementById('login-problem')?.textContent === 'You were banned from this server.');

    // Whose ticket is older than the ban meets it in the handshake.
    let sockets = 0;
    ada.page.on('websocket', () => { sockets += 1; });
    const status = await ada.page.evaluate(async (shown) => {
      const { Client } = await import(/** @type {string} */ ('/js/index.js'));
      const client = new Client(new URL('/ws', location.href).href, { ticket: () => shown });
      return new Promise((done) => client.on('status', (/** @type {{ status: string }} */ now) => now.status === 'closed' && done(now)));
    }, ticket);
    assert.deepEqual(status, { status: 'closed', reason: 'banned', code: 4403 });
    await ada.page.waitForTimeout(2_000);
    assert.equal(sockets, 1, 'nor is anything tried again');
  } finally {
    await strict.api('DELETE', '/bans/ada');
  }
});

test('revoked by user id: every tab of the user, at once; nobody else', async () => {
  const room = newRoom();
  const [one, two, bo] = [await member(club, 'ada', `/#/room/${room}`), await member(club, 'ada', `/#/room/${room}`), await member(club, 'bo', `/#/room/${room}`)];
  await bo.sees(2);
  assert.deepEqual(await bo.people(), ['Bo', 'Ada Lovelace'], 'two sessions are one person');
  await club.api('POST', '/users/ada/revoke');
  await Promise.all([one.reads(/revoked/), two.reads(/revoked/)]);
  await bo.sees(1);
  await bo.say('still here');
  await bo.delivered('still here');
});

test('a session that ends soon: told, goes on with the password on the same connection; without, it ends, and that is told', async () => {
  const brief = await Club.open(['--set', 'rooms.anonymous=false', '--set', 'login.session_ttl=12s']);
  try {
    const ada = await member(brief, 'ada', `/#/room/${newRoom()}`);
    let sockets = 0;
    ada.page.on('websocket', () => { sockets += 1; });
    await ada.reads(/Your session ends soon\./);
    await ada.page.getByRole('button', { name: 'Sign in again' }).click();
    assert.match(await ada.page.locator('#login-why').innerText(), /With your password it goes on/);
    await ada.signIn('ada');
    await ada.page.locator('#banner').waitFor({ state: 'hidden' });
    await ada.say('still me');
    await ada.delivered('still me');
    assert.equal(sockets, 0);
    await ada.reads(/You were signed out: your session had expired\./);
    await ada.page.locator('#banner-button').click();
    await ada.signIn('ada');
    await ada.online();
    await ada.hears('still me');
    assert.deepEqual(ada.complaints, []);
  } finally {
    await brief.close();
  }
});

test('a wrong password is said plainly, also a user there is not; in the same words', async () => {
  const ada = await visit(strict);
  const problem = ada.page.locator('#login-problem');
  await ada.page.locator('#login-dialog').waitFor({ state: 'visible' });
  for (const user of ['ada', 'nobody-of-this-name']) {
    await ada.signIn(user, 'guess');
    await problem.waitFor({ state: 'visible' });
    assert.equal(await problem.innerText(), 'That user name and password do not go together.', user);
    assert.equal(await ada.page.locator('#login-password').getAttribute('aria-invalid'), 'true');
    assert.equal(await ada.page.evaluate(() => document.activeElement?.id), 'login-password');
    await ada.page.locator('#login-password').fill('');
    assert.equal(await problem.isVisible(), false);
  }
  await ada.signIn('ada');
  await ada.online();
  assert.deepEqual(ada.complaints.filter(refused(401)), []);
});

test('too many attempts: a countdown, and no attempt before its end', async () => {
  const bo = await visit(strict);
  await bo.page.locator('#login-dialog').waitFor({ state: 'visible' });
  const submit = bo.page.locator('#login-submit');
  let asked = 0;
  bo.page.on('request', (request) => { if (request.method() === 'POST') asked += 1; });
  for (let i = 0; i < 40 && !/^Wait/.test(await submit.innerText()); i += 1) {
    const answer = bo.page.waitForResponse((response) => response.request().method() === 'POST');
    await bo.signIn('throttled', `guess ${i}`);
    await answer;
    await bo.page.waitForFunction(() => document.getElementById('login-dialog')?.ariaBusy !== 'true');
  }
  assert.match(await submit.innerText(), /^Wait (\d+ s|\d+:\d\d)$/);
  assert.match(await bo.page.locator('#login-problem').innerText(), /^Too many attempts\. You can try again in \d+ (second|minute)s?\.$/);
  assert.ok(await submit.isDisabled());
  const before = asked;
  await bo.page.locator('#login-password').press('Enter');
  assert.equal(asked, before);
});

test('the server is away: said, and the form stays', async () => {
  const ada = await visit(strict);
  await ada.page.locator('#login-dialog').waitFor({ state: 'visible' });
  await ada.page.route('**/login', (route) => route.abort('connectionrefused'));
  await ada.signIn('ada');
  await ada.page.locator('#login-problem', { hasText: 'The server does not answer.' }).waitFor();
  await ada.page.unroute('**/login');
  await ada.page.locator('#login-submit').click();
  await ada.online();
  assert.deepEqual(ada.complaints, []);
});

test('a guest sees what is open, is told what is not, and signs in there', async () => {
  const guest = await visit(club, '/?Craig#/room/team:plans');
  await guest.online();
  await guest.page.waitForFunction(() => document.getElementById('empty-title')?.textContent === 'This room is closed to guests');
  await guest.go('#/room/lobby');
  await guest.say('from a guest');
  await guest.delivered('from a guest');
  await guest.go('#/room/team:plans');
  await guest.page.locator('#empty-sign-in').click();
  await guest.signIn('ada');
  await guest.page.waitForFunction(() => document.getElementById('me-name')?.textContent === 'Ada Lovelace');
  await guest.sees(1);
  await guest.say('for the team');
  await guest.delivered('for the team');
  const bo = await member(club, 'bo', '/#/room/team:plans');
  await bo.page.waitForFunction(() => document.getElementById('empty-title')?.textContent === 'This room is closed to you');
  assert.deepEqual(await bo.texts(), []);
  assert.deepEqual([...guest.complaints, ...bo.complaints], []);
});

test('a reload keeps the session; signing out leaves nothing of it', async () => {
  const room = newRoom();
  const ada = await member(club, 'ada', `/?Craig#/room/${room}`);
  await ada.go('#/room/team:secret');
  await ada.say('among us');
  await ada.delivered('among us');
  await ada.page.reload();
  await ada.online();
  await ada.hears('among us');
  assert.equal(await ada.page.locator('#me-name').innerText(), 'Ada Lovelace');
  await ada.page.locator('#me').click();
  const account = ada.page.locator('#account-dialog');
  assert.match(await account.innerText(), /Signed in as Ada Lovelace[^]*User name: ada[^]*Signed in until /);
  await ada.page.getByRole('button', { name: 'Sign out' }).click();
  await ada.page.waitForFunction(() => document.getElementById('me-name')?.textContent === 'Craig');
  await ada.online();
  await ada.lists(['lobby', room]);
  assert.ok(!(await ada.texts()).includes('among us'));
  const kept = await ada.page.evaluate(() => JSON.stringify([{ ...sessionStorage }, { ...localStorage }]));
  for (const trace of ['ada', 'Ada', 'secret', 't_', 'horse']) assert.ok(!kept.includes(trace), `${trace} in ${kept}`);
  const { sessions } = await club.api('GET', '/users/ada/sessions');
  assert.deepEqual(sessions.filter((/** @type {{ state: string }} */ { state }) => state === 'connected'), [], 'the session is over');
  assert.deepEqual(ada.complaints, []);
});

test('password and ticket are in no address, no storage and no log of requests', async () => {
  const { page, complaints } = await browser.page();
  /** @type {string[]} */ const addresses = [];
  page.on('request', (request) => addresses.push(request.url()));
  page.on('websocket', (socket) => addresses.push(socket.url()));
  const ada = new Person(page, complaints);
  await page.goto(strict.server.url);
  await page.locator('#login-dialog').waitFor({ state: 'visible' });
  const answer = page.waitForResponse((response) => response.request().method() === 'POST');
  await ada.signIn('ada');
  const { ticket } = await (await answer).json();
  assert.match(ticket, /^t_/);
  await ada.online();
  assert.ok(addresses.some((address) => address.startsWith('ws:')));
  const kept = await page.evaluate(() => JSON.stringify([{ ...sessionStorage }, { ...localStorage }, document.cookie, location.href]));
  for (const secret of [ticket, 'horse']) {
    assert.ok(!addresses.some((address) => address.includes(secret)));
    assert.ok(!kept.includes(secret) && !strict.server.output.includes(secret));
  }
  assert.equal(await page.locator('#login-password').inputValue(), '', 'nor in the form');
});

test('a ticket is good once, and for nothing else', async () => {
  const { page } = await browser.page();
  await page.goto(new URL('/chat/icon.svg', strict.server.url).href);
  const { ticket } = await strict.api('POST', '/tickets', { userId: 'cy', info: { name: 'Cy' } });
  const dial = (/** @type {string[]} */ protocols) => page.evaluate((all) => new Promise((resolve) => {
    const socket = new WebSocket(`ws://${location.host}/ws`, all);
    socket.onmessage = ({ data }) => {
      resolve(JSON.parse(data).userId);
      socket.close();
    };
    socket.onclose = ({ code }) => resolve(code);
  }), protocols);
  const all = await Promise.all(Array.from({ length: 8 }, () => dial(['throng.v1', `ticket.${ticket}`])));
  assert.deepEqual(all.map(String).sort(), ['1006', '1006', '1006', '1006', '1006', '1006', '1006', 'cy'], 'of many attempts at once one gets in');
  assert.equal(await dial(['throng.v1', `ticket.${ticket}`]), 1006);
  assert.equal(await dial(['throng.v1']), 1006, 'nor does anybody without one');
  const status = await page.evaluate(async (used) => (await fetch('/sse?room=lobby', { headers: { Authorization: `Bearer ${used}` } })).status, ticket);
  assert.equal(status, 401);
});

test('put out of a room, and out of the server: told as it is', async () => {
  const room = newRoom();
  const ada = await member(club, 'ada', `/#/room/${room}`);
  const bo = await member(club, 'bo', `/#/room/${room}`);
  await ada.sees(2);
  await ada.say('before');
  await bo.hears('before');
  await club.api('POST', `/rooms/${encodeURIComponent(`demo:${room}`)}/kick`, { user: 'bo' });
  await bo.page.waitForFunction(() => [...document.querySelectorAll('.notice')].some((node) => node.textContent?.includes('You were removed from this room.')));
  await ada.sees(1);
  await ada.say('without Bo');
  await ada.delivered('without Bo');
  await bo.say('let me back');
  await bo.page.waitForSelector('.mine[data-delivery="failed"]');
  assert.deepEqual(await bo.texts(), ['before', 'let me back']);
  assert.equal(await bo.page.locator('#link').getAttribute('data-state'), 'online');

  await club.api('POST', '/bans', { user: 'bo', reason: 'enough' });
  await bo.reads(/You were banned from this server\./);
  assert.equal(await bo.page.locator('#link').getAttribute('data-state'), 'closed');
  await club.api('DELETE', '/bans/bo');
  await bo.page.getByRole('button', { name: 'Try again' }).click();
  await bo.reads(/Your session is over\./); // the ban has ended it
  await bo.page.locator('#banner-button').click();
  await bo.signIn('bo');
  await bo.online();
});

test('what tickets say of users stays text wherever it is shown', async () => {
  const room = newRoom();
  const bad = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>';
  const ada = await member(club, 'ada', `/#/room/${room}`);
  const { ticket } = await club.api('POST', '/tickets', { userId: 'mallory', info: { name: bad, avatar: 'javascript:window.hacked=1', toString: bad, [bad]: bad } });
  const { page } = await browser.page();
  await page.goto(new URL('/chat/icon.svg', club.server.url).href);
  await page.evaluate(async ([where, shown, text]) => {
    const { connect } = await import(/** @type {string} */ ('/js/index.js'));
    const client = connect('/ws', { ticket: () => shown });
    const place = client.join(where);
    await place.send({ type: 'chat', text, name: text });
    Object.assign(window, { client });
  }, [`demo:${room}`, ticket, bad]);
  await ada.hears(bad);
  await ada.sees(2);
  assert.ok((await ada.people())[1]?.startsWith('<img src=x'), 'the name is shown as it is');
  await ada.page.locator('#people-list a').click();
  await ada.page.waitForFunction(() => document.body.dataset.kind === 'direct');
  assert.equal(await ada.page.locator('body img, body script').count(), 0);
  assert.equal(await ada.page.evaluate(() => 'hacked' in window), false);

  // And of oneself.
  await club.api('POST', '/users/mallory/revoke');
  const own = await visit(club, `/?${encodeURIComponent(bad)}#/room/${room}`);
  await own.online();
  await own.page.route('**/login', async (route) => {
    if (route.request().method() === 'GET') return route.continue();
    const { ticket: mine } = await club.api('POST', '/tickets', { userId: 'eve', info: { name: bad } });
    return route.fulfill({ json: { ticket: mine, expiresAt: Date.now() + 30_000, userId: 'eve', name: bad } });
  });
  await own.page.locator('#sign-in').click();
  await own.signIn('eve');
  await own.page.waitForFunction(() => document.getElementById('me-before')?.textContent === 'Signed in as ');
  await own.online();
  await own.page.locator('#me').click();
  assert.ok((await own.page.locator('#account-name').innerText()).startsWith('<img src=x'));
  assert.equal(await own.page.locator('body img, body script').count(), 0);
  assert.equal(await own.page.evaluate(() => 'hacked' in window), false);
  assert.deepEqual([...ada.complaints, ...own.complaints], []);
});

for (const colorScheme of /** @type {const} */ (['light', 'dark'])) {
  test(`axe finds nothing about signing in: ${colorScheme}`, async () => {
    for (const width of [320, 1100]) {
      const bo = await visit(strict, '/', { colorScheme, reducedMotion: 'reduce', bypassCSP: true, viewport: { width, height: 640 } });
      const audit = async (/** @type {string} */ what) => {
        await bo.page.addScriptTag({ path: axe });
        const found = await bo.page.evaluate(async () => {
          // @ts-expect-error axe is a global of its script
          const { violations } = await axe.run(document, { resultTypes: ['violations'] });
          return violations.map((/** @type {any} */ violation) => `${violation.id}: ${violation.nodes.map((/** @type {any} */ node) => `${node.target} ${node.failureSummary}`).join(' | ')}`);
        });
        assert.deepEqual(found, [], `${what}, ${width} px`);
        const wide = await bo.page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        assert.equal(wide, 0, `${what}, ${width} px`);
      };
      await bo.page.locator('#login-dialog').waitFor({ state: 'visible' });
      assert.equal(await bo.page.evaluate(() => document.activeElement?.id), 'login-user');
      await audit('the form');
      await bo.signIn('bo', 'wrong');
      await bo.page.locator('#login-problem').waitFor({ state: 'visible' });
      await audit('a wrong password');
      await bo.signIn('bo');
      await bo.online();
      await bo.page.locator('#me').click();
      await audit('the account');
      await bo.page.locator('#account-close').click();
      await strict.api('POST', '/users/bo/revoke');
      await bo.reads(/revoked/);
      await audit('signed out');
      await bo.leave();
    }
  });
}
