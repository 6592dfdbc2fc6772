// A new message cannot be missed: how many conversations wait stands in the title, in the rail and as
// a dot on the page's icon; if the person wants it, a tone sounds and a notification is shown.

import { chosen } from "./choices.js";
import { renewPush } from "./settings.js";
import { play } from "./sound.js";

// The tab that shows the conversation claims a message first; the others wait this long.
const CLAIM_MS = 250;
const RECENT_MS = 10 * 60_000;
const CLAIM = "notify:claimed";
const MOST = 99;
const place = document.querySelector("[data-notify]");
const icon = document.querySelector("[data-favicon]");
const plainIcon = icon?.href;
const plainTitle = document.title;
const unread = new Map(); // the assignee of each unread conversation
const known = new Map(); // the number of unread messages of each one
let complete = false;

if (place) {
  document.addEventListener("alterna:frame", ({ detail }) => {
    if (detail.kind === "unread") receive(detail.data);
  });
}

function receive({ all, row, ...message }) {
  if (all) {
    unread.clear();
    known.clear();
    for (const one of all) set(one);
    complete = true;
  } else {
    const before = known.get(row[0]) ?? 0;
    set(row);
    const isNew = Date.now() - Date.parse(message.at) < RECENT_MS; // or it was marked as unread
    if (complete && row[1] > before && isNew && concerns(row[2])) signalOnce(row[0], message);
  }
  show();
}

function set([id, count, assignee]) {
  if (count && !isRead(id)) {
    unread.set(id, assignee);
    known.set(id, count);
  } else {
    unread.delete(id);
    known.delete(id);
  }
}

const concerns = (assignee) => assignee === null || String(assignee) === place.dataset.user;
const addressOf = (id) => `/conversations/${id}/`;
/** Whether this page shows the conversation to somebody: it marks what arrives as read. */
const isRead = (id) => location.pathname === addressOf(id) && document.visibilityState === "visible" && document.hasFocus();

function show() {
  const count = [...unread.values()].filter(concerns).length;
  const shown = count > MOST ? `${MOST}+` : String(count);
  document.title = count ? `(${shown}) ${plainTitle}` : plainTitle;
  const badge = document.querySelector("[data-unread-badge]");
  if (badge) {
    badge.textContent = count ? shown : "";
    if (count) badge.setAttribute("aria-label", `${shown} ${place.dataset.unreadLabel}`);
    else badge.removeAttribute("aria-label");
  }
  if (icon) icon.href = count ? icon.dataset.dot : plainIcon;
  if (count) navigator.setAppBadge?.(count).catch(() => {});
  else navigator.clearAppBadge?.().catch(() => {});
}

/** Signal a message once in this browser, and not at all if it is being read. */
async function signalOnce(id, { message, name, text }) {
  if (isRead(id)) {
    claim(message);
    return;
  }
  if (!chosen("sound") && !chosen("desktop")) return;
  await new Promise((done) => setTimeout(done, CLAIM_MS));
  if (!navigator.locks) {
    if (claim(message)) signal(id, name, text);
    return;
  }
  await navigator.locks.request("alterna:notify", () => claim(message) && signal(id, name, text));
}

/** Return whether no other tab has signaled this message. */
function claim(message) {
  try {
    const claimed = (localStorage.getItem(CLAIM) ?? "").split(",");
    if (claimed.includes(message)) return false;
    localStorage.setItem(CLAIM, [...claimed, message].slice(-50).join(","));
  } catch {
    // Without a storage, each tab signals it.
  }
  return true;
}

function signal(id, name, text) {
  if (chosen("sound")) play().catch(() => {});
  if (chosen("desktop") && globalThis.Notification?.permission === "granted") notify(id, name, text);
}

async function notify(id, name, text) {
  const hidden = chosen("private");
  const title = hidden ? "Alterna" : name;
  const options = {
    body: hidden ? place.dataset.hiddenText : text,
    tag: `conversation-${id}`,
    icon: place.dataset.icon,
    data: { url: addressOf(id) },
  };
  const worker = await navigator.serviceWorker?.getRegistration("/").catch(() => null);
  if (worker?.active) {
    await worker.showNotification(title, options).catch(() => {});
    return;
  }
  const shown = new Notification(title, options);
  shown.addEventListener("click", () => {
    window.focus();
    shown.close();
    location.assign(addressOf(id));
  });
}

// A notification that was clicked leads an open page to its conversation.
navigator.serviceWorker?.addEventListener("message", ({ data }) => {
  if (/^\/conversations\/\d+\/$/.test(data?.open ?? "")) location.assign(data.open);
});

if (place) {
  addEventListener("focus", () => {
    for (const id of [...unread.keys()]) if (isRead(id)) set([id, 0, null]);
    show();
  });
  // The page's icon and home screen need it; it asks for nothing.
  navigator.serviceWorker?.register("/service-worker.js", { scope: "/" }).then(() => renewPush()).catch(() => {});
}
