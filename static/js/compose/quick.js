// Quick replies: "/" at the start of the text, or the bolt. Their variables are filled in by the server.

import { insert } from "./insert.js";
import { texts } from "./texts.js";

export function attachQuickReplies(form, text) {
  const list = form.querySelector("[data-quick-options]");
  const button = form.querySelector("[data-quick]");
  let loaded = null;
  let options = [];
  let current = 0;

  const isOpen = () => !list.hidden;
  const search = () => (text.value.startsWith("/") ? text.value.slice(1).toLowerCase() : null);

  async function load() {
    const found = [];
    let url = form.dataset.quickReplies;
    while (url) {
      const response = await fetch(url, { headers: { Accept: "application/json" } });
      if (!response.ok) break;
      const page = await response.json();
      found.push(...(page.results ?? page));
      url = page.next ? new URL(page.next, location.href).pathname + new URL(page.next, location.href).search : null;
    }
    return found;
  }

  function close() {
    list.hidden = true;
    text.removeAttribute("aria-activedescendant");
    text.removeAttribute("aria-controls");
  }

  async function open() {
    loaded ??= load();
    const replies = await loaded.catch(() => []);
    const words = search();
    if (words === null || /\s/.test(words)) {
      close();
      return;
    }
    const begins = replies.filter((one) => one.shortcut.startsWith(words));
    const contains = replies.filter((one) => !begins.includes(one) && `${one.shortcut} ${one.text}`.toLowerCase().includes(words));
    options = [...begins, ...contains].slice(0, 8);
    current = 0;
    draw();
  }

  function draw() {
    list.replaceChildren(...options.map((one, at) => {
      const item = document.createElement("li");
      item.id = `quick-${at}`;
      item.role = "option";
      item.ariaSelected = String(at === current);
      const name = document.createElement("strong");
      name.textContent = `/${one.shortcut}`;
      const words = document.createElement("span");
      words.textContent = one.filled ?? one.text;
      item.append(name, words);
      if (one.missing?.length) {
        const missing = document.createElement("small");
        missing.textContent = texts.missing.replace("{names}", one.missing.join(", "));
        item.append(missing);
      }
      item.addEventListener("mousedown", (event) => {
        event.preventDefault();
        choose(at);
      });
      return item;
    }));
    const foot = document.createElement("li");
    foot.role = "presentation";
    foot.className = "quick-foot";
    const link = document.createElement("a");
    link.href = "/quick-replies/";
    link.textContent = texts.manage;
    if (!options.length) foot.append(`${texts.noReplies} `);
    foot.append(link);
    list.append(foot);
    list.hidden = false;
    text.setAttribute("aria-controls", list.id);
    if (options.length) text.setAttribute("aria-activedescendant", `quick-${current}`);
  }

  function choose(at) {
    const one = options[at];
    close();
    insert(text, one.filled ?? one.text, 0, text.value.length);
  }

  text.addEventListener("input", () => {
    if (search() === null) close();
    else open();
  });
  text.addEventListener("blur", () => setTimeout(() => {
    if (!list.contains(document.activeElement)) close();
  }, 150));
  // Before the composer, for which Enter sends.
  form.addEventListener("keydown", (event) => {
    if (!isOpen() || event.target !== text || event.isComposing) return;
    const moves = { ArrowDown: 1, ArrowUp: -1 };
    if (event.key in moves && options.length) {
      current = (current + moves[event.key] + options.length) % options.length;
      draw();
    } else if ((event.key === "Enter" || event.key === "Tab") && options.length) {
      choose(current);
    } else if (event.key === "Escape") {
      close();
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }, true);
  button.addEventListener("click", () => {
    if (text.value.startsWith("/") || !text.value) insert(text, "/", 0, text.value.length);
    else text.focus();
  });
}
