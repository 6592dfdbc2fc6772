// How loud a sound is along its length, for its picture. Computed once per file and browser session.

const MOST_BYTES = 2_000_000;
let before = Promise.resolve();

/** Return `count` numbers from 0 to 1; null if the file is long or cannot be decoded. */
export function loudness(audio, count) {
  // One file after the other: a thread may have many.
  before = before.then(() => compute(audio.currentSrc || audio.src, count)).catch(() => null);
  return before;
}

async function compute(address, count) {
  const key = `loudness:${count}:${new URL(address, location.href).pathname}`;
  try {
    const stored = JSON.parse(sessionStorage.getItem(key));
    if (stored?.length === count) return stored;
  } catch {
    // Storage may be blocked; it is then computed again.
  }
  const answer = await fetch(address);
  if (!answer.ok || Number(answer.headers.get("Content-Length")) > MOST_BYTES) return null;
  const context = new OfflineAudioContext(1, 1, 16_000);
  const decoded = await context.decodeAudioData(await answer.arrayBuffer());
  const samples = decoded.getChannelData(0);
  const step = Math.max(1, Math.floor(samples.length / count));
  const heights = Array.from({ length: count }, (_, part) => {
    let sum = 0;
    for (let n = part * step; n < (part + 1) * step && n < samples.length; n += 8) sum += samples[n] ** 2;
    return Math.sqrt(sum / (step / 8));
  });
  const most = Math.max(...heights) || 1;
  const shown = heights.map((height) => Math.round((height / most) * 100) / 100);
  try {
    sessionStorage.setItem(key, JSON.stringify(shown));
  } catch {
    // As above.
  }
  return shown;
}
