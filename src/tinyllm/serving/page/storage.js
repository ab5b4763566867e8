/** What outlives a reload. Storage can be forbidden, full or hold nonsense: the page goes on. */

const KEY = "tinyllm.page";
const SECRET = "tinyllm.key";

/** Return what `save` kept, or an empty object. */
export function load() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEY) ?? "{}");
    return kept !== null && typeof kept === "object" ? kept : {};
  } catch {
    return {};
  }
}

/**
 * Keep these values and return whether that worked. Where all is too much, the odds of the tokens
 * go first: they are the bulk, and a conversation can be read without them.
 */
export function save(values) {
  return write(values) || write(withoutOdds(values));
}

function write(values) {
  try {
    localStorage.setItem(KEY, JSON.stringify(values, shortNumbers));
    return true;
  } catch {
    return false;
  }
}

const shortNumbers = (name, value) =>
  name === "logprob" && Number.isFinite(value) ? Number(value.toFixed(4)) : value;

function withoutOdds(values) {
  return JSON.parse(JSON.stringify(values, (name, value) => (name === "odds" ? [] : value)));
}

/** The API key lives as long as the tab and no longer. */
export function loadKey() {
  try {
    return sessionStorage.getItem(SECRET) ?? "";
  } catch {
    return "";
  }
}

export function saveKey(key) {
  try {
    sessionStorage.setItem(SECRET, key);
  } catch {
    // Without storage the key is asked for again after a reload.
  }
}
