// Prints what the client costs a page: bundled, minified, gzipped.
import { build } from 'esbuild';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

/** The most the core may weigh after gzip, in bytes. */
export const MOST = 8_000;

/**
 * What each part weighs after gzip, in bytes. `core` is always loaded; the others when they are wanted.
 * @returns {Promise<Record<'core' | 'sse' | 'share', number>>}
 */
export async function sizes() {
  const weigh = async (/** @type {string} */ entry, /** @type {string[]} */ external) => {
    const { outputFiles } = await build({
      entryPoints: [fileURLToPath(new URL(`../src/${entry}.js`, import.meta.url))],
      bundle: true, minify: true, format: 'esm', target: 'es2022', write: false, logLevel: 'error', external,
    });
    return gzipSync(outputFiles[0]?.contents ?? '', { level: 9 }).length;
  };
  return {
    core: await weigh('index', ['./sse.js', './share.js', './renewal.js', './tab.js']),
    sse: await weigh('sse', ['./websocket.js']),
    share: await weigh('share', ['./client.js', './error.js']),
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const weights = await sizes();
  for (const [part, bytes] of Object.entries(weights)) console.log(`${part.padEnd(6)} ${bytes} bytes gzip`);
  if (weights.core > MOST) {
    console.error(`the core may have ${MOST} bytes`);
    process.exitCode = 1;
  }
}
