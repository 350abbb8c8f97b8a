// Fields of messages: whatever a peer put there, what comes out has the type that the page counts on.

/** @param {unknown} value */
export const text = (value) => (typeof value === 'string' ? value : '');

/** A number that can be counted with. @param {unknown} value @returns {number | undefined} */
export const count = (value) => (typeof value === 'number' && Number.isFinite(value) && value >= 0 ? value : undefined);

/** A time that a Date can hold. @param {unknown} value @returns {number | undefined} */
export const stamp = (value) => (typeof value === 'number' && value >= 0 && value <= 8.64e15 ? value : undefined);

/** @param {unknown} value @returns {Record<string, unknown>} */
export const object = (value) => (typeof value === 'object' && value !== null ? /** @type {Record<string, unknown>} */ (value) : {});
