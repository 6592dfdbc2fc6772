// A page around one message: it is shown, its words are marked, and the live list begins where the
// latest message is shown.

import { tidyDays } from "./live/days.js";

const thread = document.querySelector("[data-thread]");
const list = thread?.querySelector(".thread-list");

function reveal() {
  const target = document.getElementById(thread.dataset.target);
  if (!target) return;
  target.classList.add("is-found");
  target.focus({ preventScroll: true });
  target.scrollIntoView({ block: "center" });
  mark(target, (thread.dataset.marks ?? "").split(" ").filter(Boolean));
}

/** Mark these words, as they are written in the message. Where the browser cannot, it is framed only. */
function mark(element, words) {
  if (!words.length || !globalThis.Highlight || !CSS.highlights) return;
  const ranges = [];
  const walker = document.createTreeWalker(element.querySelector(".bubble") ?? element, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode;
    for (const match of node.data.matchAll(/[\p{L}\p{N}\p{M}]+/gu)) {
      if (!words.includes(match[0])) continue;
      const range = new Range();
      range.setStart(node, match.index);
      range.setEnd(node, match.index + match[0].length);
      ranges.push(range);
    }
  }
  CSS.highlights.set("found", new Highlight(...ranges));
}

const isPast = () => list.hasAttribute("data-live-list-later");
const toLatest = () => document.querySelector("[data-to-latest]");

if (thread?.dataset.target) reveal();

if (list && isPast()) {
  list.addEventListener("htmx:afterSettle", () => {
    if (!isPast()) return;
    tidyDays();
    if (!list.querySelector("[data-joins-live]")) return;
    list.setAttribute("data-live-list", list.getAttribute("data-live-list-later"));
    list.removeAttribute("data-live-list-later");
    toLatest()?.remove();
  });
  // What was sent is at the end, which this page does not show yet.
  document.addEventListener("htmx:afterRequest", ({ detail }) => {
    if (detail.successful && detail.elt.matches("[data-composer], [data-note-form]") && isPast()) toLatest().click();
  });
}
