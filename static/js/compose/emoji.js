// The emoji: names and search words come from our own static files, at the first use.

import { insert } from "./insert.js";
import { texts } from "./texts.js";

const GROUPS = ["😀", "👋", null, "🐻", "🍔", "✈️", "⚽", "💡", "🔣", "🏁"]; // 2: parts of others
const MOST = 400;
const fold = (words) => words.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();
let loaded = null;

function load(form) {
  loaded ??= fetch(form.dataset.emojiData).then((response) => response.json()).then((all) => all
    .filter((one) => one.group !== 2 && one.version <= 15)
    .map((one) => ({ ...one, words: fold([one.annotation, ...(one.tags ?? [])].join(" ")) })));
  return loaded;
}

/** Show the emoji in the panel; `chosen` gets the one that is chosen. */
export async function showEmoji(form, chosen) {
  const panel = form.querySelector("[data-emoji-panel]");
  const all = await load(form);
  const search = document.createElement("input");
  search.type = "search";
  search.placeholder = texts.searchEmoji;
  search.ariaLabel = texts.searchEmoji;
  const tabs = document.createElement("p");
  tabs.className = "emoji-groups";
  const grid = document.createElement("div");
  grid.className = "emoji-grid";

  function draw(list) {
    grid.replaceChildren(...list.slice(0, MOST).map((one) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = one.emoji;
      button.title = one.annotation;
      button.ariaLabel = one.annotation;
      button.dataset.emojiChoice = one.emoji;
      return button;
    }));
    grid.scrollTop = 0;
  }

  GROUPS.forEach((sign, group) => {
    if (!sign) return;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = sign;
    button.addEventListener("click", () => draw(all.filter((one) => one.group === group)));
    tabs.append(button);
  });
  search.addEventListener("input", () => {
    const words = fold(search.value.trim());
    draw(words ? all.filter((one) => one.words.includes(words)) : all.filter((one) => one.group === 0));
  });
  search.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    grid.querySelector("button")?.click();
  });
  grid.addEventListener("click", (event) => {
    const button = event.target.closest("[data-emoji-choice]");
    if (button) chosen(button.dataset.emojiChoice);
  });
  draw(all.filter((one) => one.group === 0));
  panel.replaceChildren(search, tabs, grid);
  panel.hidden = false;
  search.focus();
}

export function attachEmoji(form, text) {
  const panel = form.querySelector("[data-emoji-panel]");
  const button = form.querySelector("[data-emoji]");
  const close = () => {
    panel.hidden = true;
    button.ariaExpanded = "false";
  };
  button.addEventListener("click", () => {
    if (!panel.hidden) {
      close();
      return;
    }
    button.ariaExpanded = "true";
    showEmoji(form, (emoji) => {
      insert(text, emoji);
    });
  });
  form.addEventListener("compose:close-emoji", close);
  document.addEventListener("pointerdown", (event) => {
    if (!panel.hidden && !panel.contains(event.target) && !button.contains(event.target)) close();
  });
  panel.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    close();
    text.focus();
  });
}
