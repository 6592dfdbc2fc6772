// The draft is stored on the server for the person and conversation, so that another browser has it.
// The own list shows it. Where two tabs write, the later one counts; neither loses what it shows.

import { texts } from "./texts.js";

const AFTER_MS = 800;

export function attachDraft(form, text) {
  const row = () => document.querySelector('.pane-list .row[aria-current="page"]');
  const token = document.querySelector("meta[name=csrf-token]").content;
  const key = `draft:${form.dataset.user}:${form.dataset.draft}`;
  let stored = text.value;
  let timer = null;
  restore();

  /** After a reload: what was typed since the last save, unless another tab or browser changed it. */
  function restore() {
    try {
      const { words, base } = JSON.parse(sessionStorage.getItem(key)) ?? {};
      if (words && base === stored && words !== stored) {
        text.value = words;
        timer = setTimeout(save, AFTER_MS);
      }
    } catch {
      // Then the stored draft is what there is.
    }
  }

  function remember(base) {
    try {
      sessionStorage.setItem(key, JSON.stringify({ words: text.value, base }));
    } catch {
      // The server stores it soon.
    }
  }

  function save(keepalive = false) {
    clearTimeout(timer);
    timer = null;
    if (text.value === stored) return;
    stored = text.value;
    fetch(form.dataset.draft, {
      method: "PUT",
      keepalive,
      headers: { "Content-Type": "application/json", "X-CSRFToken": token },
      body: JSON.stringify({ text: stored.slice(0, 8000) }),
    }).then((response) => {
      if (response.ok) remember(stored);
      else stored = null; // the next change stores it
    }).catch(() => { stored = null; });
  }

  function show() {
    const shown = row();
    if (!shown) return;
    let draft = shown.querySelector("[data-draft-shown]");
    if (!text.value.trim()) {
      draft?.remove();
      return;
    }
    const place = shown.querySelector(".row-snippet, .row-text, .row-preview");
    if (!place) return;
    if (!draft) {
      draft = document.createElement("span");
      draft.dataset.draftShown = "";
      draft.className = "row-draft";
      place.prepend(draft);
    }
    draft.textContent = `${texts.draft} ${text.value.trim().slice(0, 80)} `;
  }

  text.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(save, AFTER_MS);
    remember(stored);
    show();
  });
  addEventListener("pagehide", () => save(true));
  form.addEventListener("htmx:beforeRequest", (event) => {
    if (event.target === form) clearTimeout(timer);
  });
  form.addEventListener("htmx:afterRequest", (event) => {
    if (event.target !== form) return;
    // A sent message ends the draft; a text that a file left behind is one again.
    if (event.detail.successful) {
      stored = "";
      remember("");
    }
    setTimeout(() => { save(); show(); });
  });
  show();
}
