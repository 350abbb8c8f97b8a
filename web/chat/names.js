// Names: from the address, from last time, or a friendly random one.

/** Longest name in code points. */
export const MAX_NAME = 40;

/**
 * Makes a name fit to show: one line, no control or direction-override characters, at most MAX_NAME code points.
 * Returns '' when nothing is left.
 * @param {string} raw
 * @returns {string}
 */
export function cleanName(raw) {
  const text = raw
    .toWellFormed?.() ?? raw;
  const plain = text
    .normalize('NFC')
    .replace(/[\p{Cc}\u2028\u2029]+/gu, ' ')
    .replace(/[\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]/g, '')
    .replace(/\s+/g, ' ')
    .trim();
  return [...plain].slice(0, MAX_NAME).join('').trim();
}

/**
 * The name in a query string: `?Craig` or `?name=Craig`; '' when there is none.
 * @param {string} search `location.search`
 * @returns {string}
 */
export function nameFromQuery(search) {
  const named = new URLSearchParams(search).get('name');
  if (named !== null) return cleanName(named);
  const bare = search.replace(/^\?/, '').replace(/=$/, '');
  if (bare.includes('=') || bare.includes('&')) return '';
  const spaced = bare.replaceAll('+', ' ');
  try {
    return cleanName(decodeURIComponent(spaced));
  } catch {
    return cleanName(spaced);
  }
}

/**
 * "Amber Otter" and about 1,600 others.
 * @param {() => number} [random] in [0, 1)
 * @returns {string}
 */
export function randomName(random = Math.random) {
  const pick = (/** @type {string[]} */ list) => list[Math.floor(random() * list.length)] ?? list[0];
  return `${pick(COLOURS)} ${pick(ANIMALS)}`;
}

/**
 * At most two letters that stand for a name.
 * @param {string} name
 * @returns {string}
 */
export function initials(name) {
  const words = name.split(/[\s_.\-]+/).map((word) => [...word].find((c) => /[\p{L}\p{N}]/u.test(c))).filter((c) => c !== undefined);
  const letters = words.length > 1 ? `${words[0]}${words[words.length - 1]}` : words[0] ?? [...name][0] ?? '?';
  return letters.toLocaleUpperCase();
}

/**
 * A hue for a user id, the same on every screen (FNV-1a, mixed).
 * @param {string} userId
 * @returns {number} degrees
 */
export function hue(userId) {
  let hash = 0x811c9dc5;
  for (let i = 0; i < userId.length; i += 1) hash = Math.imul(hash ^ userId.charCodeAt(i), 0x01000193);
  hash ^= hash >>> 15;
  hash = Math.imul(hash, 0x2c1b3c6d);
  hash ^= hash >>> 13;
  return (hash >>> 0) % 360;
}

const COLOURS = ('Amber,Azure,Bright,Brisk,Bronze,Calm,Clever,Copper,Coral,Crimson,Daring,Dapper,Dusky,Eager,Fern,Gentle,Golden,'
  + 'Hazel,Indigo,Ivory,Jade,Jolly,Keen,Lemon,Lilac,Lively,Lucky,Mellow,Merry,Misty,Nimble,Olive,Pearl,Plucky,Quiet,Rosy,Russet,'
  + 'Silver,Sunny,Velvet').split(',');

const ANIMALS = ('Badger,Beaver,Bison,Curlew,Dolphin,Egret,Falcon,Ferret,Finch,Fox,Gecko,Hare,Hedgehog,Heron,Ibex,Jackdaw,Kestrel,'
  + 'Kingfisher,Koala,Lark,Lemur,Lynx,Magpie,Marmot,Marten,Newt,Otter,Owl,Panda,Pelican,Plover,Puffin,Raven,Robin,Seal,Sparrow,'
  + 'Stoat,Swift,Tapir,Wombat').split(',');
