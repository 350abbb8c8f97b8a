import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { STOP, afterClose, backoff } from '../../src/backoff.js';
import { CODES, ThrongError } from '../../src/index.js';

test('the wait is a random part of a ceiling that doubles from 0.5 s to 30 s', () => {
  const ceilings = Array.from({ length: 9 }, (_, attempt) => backoff(attempt, { random: () => 1 }));
  assert.deepEqual(ceilings, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
  assert.equal(backoff(3, { random: () => 0 }), 0);
  assert.equal(backoff(3, { random: () => 0.25 }), 1_000);
  assert.equal(backoff(1e9, { random: () => 1, base: 10, max: 70 }), 70);
  for (let i = 0; i < 100; i += 1) {
    const wait = backoff(2);
    assert.ok(wait >= 0 && wait < 2_000);
  }
});

test('close codes ask for what the protocol says', () => {
  const stop = [1000, 1002, 1003, 1007, 1008, 1009, 1010, 4400, 4403, 4409, 4410, 4499];
  const again = [1001, 1005, 1006, 1011, 1012, 1015, 3000, 4000, 4401, 4408, 4500, 4508, 4512, 4599];
  for (const code of stop) assert.equal(afterClose(code), STOP, String(code));
  for (const code of again) assert.equal(afterClose(code), 0, String(code));
  assert.ok(afterClose(1013) >= 1_000);
  assert.ok(afterClose(4429) >= 1_000);
});

test('the error table is the one of the server', async () => {
  const rust = await readFile(new URL('../../../crates/protocol/src/error.rs', import.meta.url), 'utf8');
  const rows = [...rust.matchAll(/^ {4}\w+\s+"([a-z_]+)"\s+\d{3} (temporary|permanent) "/gm)].map(([, name, kind]) => [name, kind === 'temporary']);
  assert.ok(rows.length >= 18, 'rows of the table were found');
  assert.deepEqual(Object.entries(CODES), rows);
});

test('an error says whether the same may succeed later', () => {
  assert.equal(new ThrongError('rate_limited').temporary, true);
  assert.equal(new ThrongError('forbidden').temporary, false);
  assert.equal(new ThrongError('forbidden', 'no', { temporary: true }).temporary, true);
  assert.equal(new ThrongError('something_new').temporary, false);
  assert.equal(new ThrongError('constructor').temporary, false);
  const error = new ThrongError('rate_limited', 'slow down', { retryAfter: 100, room: 'r', ref: 7 });
  assert.deepEqual([error.name, error.message, error.retryAfter, error.room, error.ref], ['ThrongError', 'slow down', 100, 'r', 7]);
  assert.ok(error instanceof Error);
});
