// Changes to the text at the cursor; undo works where the browser can.

export function insert(text, words, from = text.selectionStart, to = text.selectionEnd) {
  text.focus();
  text.setRangeText(words, from, to, "end");
  text.dispatchEvent(new Event("input", { bubbles: true }));
}
