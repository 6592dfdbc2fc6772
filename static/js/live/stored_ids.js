// Ids stored in this browser, shared by its pages.

const MAX_STORED = 200;

export function storedIds(key) {
  try {
    return JSON.parse(localStorage.getItem(key) ?? "[]");
  } catch {
    return []; // storage may be blocked
  }
}

export function storeIds(key, ids) {
  const all = [...new Set([...storedIds(key), ...ids])].slice(-MAX_STORED);
  try {
    localStorage.setItem(key, JSON.stringify(all));
  } catch {
    // The page then works as if nothing had been stored.
  }
}
