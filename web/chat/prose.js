// Text into DOM nodes: always as text, with web addresses clickable.

/**
 * Replaces what is in `element` by `text`. Nothing in it is ever read as HTML; only http and https addresses become links.
 * @param {HTMLElement} element
 * @param {string} text
 */
export function setProse(element, text) {
  element.replaceChildren();
  let end = 0;
  for (const match of text.matchAll(ADDRESS)) {
    const shown = trimAddress(match[0]);
    const href = safeHref(shown);
    if (href === null) continue;
    element.append(text.slice(end, match.index));
    const link = document.createElement('a');
    link.href = href;
    link.target = '_blank';
    link.rel = 'noopener noreferrer nofollow';
    link.textContent = shown;
    element.append(link);
    end = match.index + shown.length;
  }
  element.append(text.slice(end));
}

/** Leaves out the punctuation that ends a sentence, and a bracket that was opened before the address. @param {string} address */
function trimAddress(address) {
  let shown = address.replace(/[.,;:!?'"*]+$/, '');
  if (shown.endsWith(')') && !shown.includes('(')) shown = shown.slice(0, -1);
  return shown;
}

/** @param {string} address @returns {string | null} */
function safeHref(address) {
  try {
    const url = new URL(address);
    return url.protocol === 'http:' || url.protocol === 'https:' ? url.href : null;
  } catch {
    return null;
  }
}

const ADDRESS = /\bhttps?:\/\/[^\s<>"\u200e\u200f\u202a-\u202e\u2066-\u2069]{1,2000}/giu;
