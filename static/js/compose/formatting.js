// Ctrl+B and Ctrl+I put WhatsApp's marks around the selection, or remove them.

import { insert } from "./insert.js";

const MARKS = { b: "*", i: "_" };

export function attachFormatting(text) {
  text.addEventListener("keydown", (event) => {
    const mark = MARKS[event.key.toLowerCase()];
    if (!mark || !(event.ctrlKey || event.metaKey) || event.shiftKey || event.altKey) return;
    event.preventDefault();
    const { selectionStart: from, selectionEnd: to, value } = text;
    const chosen = value.slice(from, to);
    if (value[from - 1] === mark && value[to] === mark) {
      insert(text, chosen, from - 1, to + 1);
      text.setSelectionRange(from - 1, to - 1);
      return;
    }
    insert(text, mark + chosen + mark, from, to);
    text.setSelectionRange(from + 1, to + 1);
  });
}
