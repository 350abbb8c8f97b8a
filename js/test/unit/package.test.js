import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { MOST, sizes } from '../../scripts/size.js';

const folder = fileURLToPath(new URL('../..', import.meta.url));
const run = promisify(execFile);

test('the core is small', async () => {
  const { core, sse, share } = await sizes();
  assert.ok(core > 1_000 && core <= MOST, `${core} bytes`);
  assert.ok(sse > 500 && share > 500, 'the other parts are loaded on demand');
});

test('the package has what it needs and nothing else', async () => {
  const { stdout } = await run('npm', ['pack', '--dry-run', '--json', '--loglevel=silent'], { cwd: folder });
  const answer = JSON.parse(stdout.slice(stdout.search(/^[[{]/m)));
  const [pack] = Array.isArray(answer) ? answer : Object.values(answer);
  assert.deepEqual([pack.name, pack.version], ['throng', '0.1.0']);
  const files = pack.files.map((/** @type {{ path: string }} */ { path }) => path).sort();
  const modules = ['asks', 'backoff', 'client', 'codes', 'connection', 'emitter', 'error', 'index', 'options', 'outbox', 'renewal', 'room', 'session', 'share', 'sse', 'storage', 'tab', 'transports', 'websocket'];
  assert.deepEqual(files, [...modules.map((name) => `dist/${name}.d.ts`), ...modules.map((name) => `src/${name}.js`), 'README.md', 'package.json'].sort());
});

test('both entries can be imported by name, and nothing is needed at run time', async () => {
  const manifest = JSON.parse(await readFile(`${folder}/package.json`, 'utf8'));
  assert.equal(manifest.dependencies, undefined);
  const script = "const { connect, ThrongError, CODES } = await import('throng'); const { share } = await import('throng/share'); console.log([connect, ThrongError, CODES, share].map((each) => typeof each).join());";
  const { stdout } = await run(process.execPath, ['--input-type=module', '-e', script], { cwd: folder });
  assert.equal(stdout.trim(), 'function,function,object,function');
});

test('the types are of use: a program against them is checked', async () => {
  await run('npm', ['run', 'build', '--loglevel=silent'], { cwd: folder });
  const flags = ['--noEmit', '--strict', '--ignoreConfig', '--target', 'es2022', '--module', 'nodenext', '--lib', 'es2022,dom', '--types', ''];
  await run('npx', ['tsc', ...flags, 'test/types/consumer.ts'], { cwd: folder }).catch((error) => assert.fail(error.stdout));
  const client = await readFile(`${folder}/dist/client.d.ts`, 'utf8');
  for (const hidden of ['stray', 'pass(', 'wake()']) assert.ok(!client.includes(hidden), `${hidden} is internal`);
});

test('the lock file names no registry', async () => {
  const lock = await readFile(`${folder}/package-lock.json`, 'utf8');
  assert.ok(!lock.includes('"resolved"') && !lock.includes('http'), 'no addresses');
});
