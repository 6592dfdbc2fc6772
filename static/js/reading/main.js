// What a person sees and hears in a conversation: sounds with their own player, pictures in full.
// Without this module the browser's controls and a new tab do the same.

import "./lightbox.js";
import { makePlayer } from "./player.js";

const thread = document.querySelector("[data-thread]");

function enhance(root) {
  root.querySelectorAll("audio.bubble-sound:not([data-player])").forEach(makePlayer);
}

if (thread) {
  enhance(thread);
  new MutationObserver((changes) => {
    for (const { addedNodes } of changes) {
      for (const node of addedNodes) if (node.nodeType === Node.ELEMENT_NODE) enhance(node);
    }
  }).observe(thread, { childList: true, subtree: true });
}
