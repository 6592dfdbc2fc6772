// The thread of a conversation: scrolling, announcements, and what counts as seen.

import { texts } from "../interface_texts.js";
import { tidyDays } from "./days.js";

const AT_BOTTOM_PX = 60;
const thread = document.querySelector("[data-thread]");
const toBottom = document.querySelector("[data-to-bottom]");
const announcer = document.querySelector("[data-announcer]");
let atBottom = true;
let unseen = false;

function entryShown(known, mine) {
  if (!known) tidyDays();
  if (thread) {
    if (atBottom || mine) scrollDown();
    else if (!known) toBottom.hidden = false;
  }
}

export function messageShown(known, fresh, mine) {
  entryShown(known, mine);
  const received = fresh.classList.contains("message-in");
  if (!known && received) {
    announce(texts.newMessage.replace("{text}", fresh.dataset.preview));
    unseen = true;
    markSeen();
  } else if (!received && known?.dataset.status !== fresh.dataset.status) {
    announce(`${fresh.querySelector("[data-icon]").textContent.trim()}: ${fresh.dataset.preview}`);
  }
}

export function callShown(known, fresh) {
  entryShown(known, false);
  if (!("incoming" in fresh.dataset)) return;
  announce(fresh.querySelector("span").textContent);
  if (known) return;
  unseen = true;
  markSeen();
}

function announce(words) {
  announcer.textContent = words;
}

function markSeen() {
  const target = document.querySelector("[data-window]");
  if (!unseen || document.hidden || !target) return;
  unseen = false;
  htmx.trigger(target, "alterna:seen");
}

function scrollDown() {
  thread.scrollTop = thread.scrollHeight;
  atBottom = true;
  toBottom.hidden = true;
}

if (thread) {
  tidyDays();
  const target = location.hash && document.getElementById(location.hash.slice(1));
  const newLine = thread.querySelector("[data-new-line]");
  if (target) target.focus();
  else scrollDown();
  if (!target && newLine) {
    newLine.scrollIntoView({ block: "center" });
    atBottom = thread.scrollHeight - thread.scrollTop - thread.clientHeight < AT_BOTTOM_PX;
  }
  thread.addEventListener("scroll", () => {
    atBottom = thread.scrollHeight - thread.scrollTop - thread.clientHeight < AT_BOTTOM_PX;
    if (atBottom) toBottom.hidden = true;
  }, { passive: true });
  // Stay at the bottom when an image has loaded (these events do not bubble).
  for (const event of ["load", "loadedmetadata"]) {
    thread.addEventListener(event, () => atBottom && scrollDown(), true);
  }
  // Keep the last message visible when the composer grows or a phone's keyboard opens.
  new ResizeObserver(() => atBottom && scrollDown()).observe(thread);
  toBottom.addEventListener("click", scrollDown);

  let fromEnd = 0;
  thread.addEventListener("htmx:beforeSwap", (event) => {
    if (event.target.matches("[data-older]")) fromEnd = thread.scrollHeight - thread.scrollTop;
  });
  thread.addEventListener("htmx:afterSettle", () => {
    if (!fromEnd) return;
    tidyDays();
    thread.scrollTop = thread.scrollHeight - fromEnd;
    fromEnd = 0;
    thread.focus({ preventScroll: true });
  });
}

document.addEventListener("visibilitychange", markSeen);
