// The actions of a message: by its button, a right click, a long press or "r"; a swipe quotes it.

import { toast } from "../app/toasts.js";
import { showEmoji } from "./emoji.js";
import { setQuote } from "./quote.js";

const SWIPE_PX = 60;

export function attachMenu(form) {
  const menu = document.querySelector("[data-message-actions]");
  const thread = document.querySelector("[data-thread]");
  let message = null;
  let opener = null;

  const token = () => document.querySelector("meta[name=csrf-token]").content;
  const items = () => [...menu.querySelectorAll("[role=menuitem]")].filter((one) => one.offsetParent);

  function open(article, near) {
    message = article;
    opener = article.querySelector("[data-message-menu]");
    const outgoing = article.classList.contains("message-out");
    menu.querySelector("[data-do=history]").hidden = !outgoing;
    menu.hidden = false;
    const place = near.getBoundingClientRect();
    const { offsetWidth: width, offsetHeight: height } = menu;
    const left = Math.min(Math.max(8, outgoing ? place.right - width : place.left), innerWidth - width - 8);
    const below = place.bottom + 4;
    const top = below + height < innerHeight ? below : Math.max(8, place.top - height - 4);
    menu.style.left = `${left}px`;
    menu.style.top = `${top}px`;
    opener?.setAttribute("aria-expanded", "true");
    items()[0]?.focus();
  }

  function close() {
    if (menu.hidden) return;
    const inside = menu.contains(document.activeElement);
    menu.hidden = true;
    opener?.removeAttribute("aria-expanded");
    if (inside) opener?.focus();
  }

  function react(article, emoji) {
    htmx.ajax("POST", `/messages/${article.dataset.message}/react/`, {
      swap: "none", source: article, values: { emoji }, headers: { "X-CSRFToken": token() },
    });
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-message-menu]");
    if (button) {
      if (!menu.hidden && opener === button) close();
      else open(button.closest("[data-message]"), button);
      return;
    }
    if (!menu.contains(event.target)) close();
  });
  thread?.addEventListener("scroll", close);

  menu.addEventListener("click", async (event) => {
    const item = event.target.closest("button");
    if (!item || !message) return;
    const chosen = message;
    close();
    if (item.dataset.react) react(chosen, item.dataset.react);
    else if ("reactMore" in item.dataset) {
      showEmoji(form, (emoji) => {
        react(chosen, emoji);
        form.dispatchEvent(new CustomEvent("compose:close-emoji"));
      });
    } else if (item.dataset.do === "reply") setQuote(form, chosen);
    else if (item.dataset.do === "history") location.assign(`/messages/${chosen.dataset.message}/`);
    else if (item.dataset.do === "forward") {
      htmx.ajax("GET", `/messages/${chosen.dataset.message}/forward/`, { target: "[data-dialog]", swap: "innerHTML" });
    } else if (item.dataset.do === "copy") {
      const words = [...chosen.querySelectorAll(".bubble-text")].map((one) => one.innerText).join("\n");
      const { texts } = await import("../interface_texts.js");
      navigator.clipboard?.writeText(words).then(() => toast(texts.copied), () => toast(texts.copyFailed, "error"));
    }
  });
  menu.addEventListener("keydown", (event) => {
    const all = items();
    const at = all.indexOf(document.activeElement);
    const moves = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 };
    if (event.key in moves) all[(at + moves[event.key] + all.length) % all.length].focus();
    else if (event.key === "Escape") close();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });

  thread?.addEventListener("keydown", (event) => {
    const article = event.target.closest("[data-message]");
    if (event.target.closest("input, textarea, select") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "ArrowUp" || event.key === "ArrowDown") {
      const all = [...thread.querySelectorAll("[data-message]")];
      const at = article ? all.indexOf(article) + (event.key === "ArrowUp" ? -1 : 1) : all.length - 1;
      if (!all[at]) return;
      event.preventDefault();
      all[at].focus();
    } else if (event.key.toLowerCase() === "r" && article && form.elements.reply_to) {
      event.preventDefault();
      setQuote(form, article);
    }
  });

  // On a phone: a swipe to the right quotes, a long press opens the menu.
  let start = null;
  let press = null;
  const end = () => {
    clearTimeout(press);
    start?.bubble.style.removeProperty("transform");
    start = null;
  };
  thread?.addEventListener("touchstart", (event) => {
    const article = event.target.closest("[data-message]");
    if (!article || event.touches.length > 1 || event.target.closest("a, button, audio, video, input")) return;
    const [{ clientX, clientY }] = event.touches;
    start = { article, x: clientX, y: clientY, bubble: article.querySelector(".bubble"), by: 0 };
    press = setTimeout(() => open(article, article.querySelector(".bubble")), 550);
  }, { passive: true });
  thread?.addEventListener("touchmove", (event) => {
    if (!start) return;
    const by = event.touches[0].clientX - start.x;
    const down = Math.abs(event.touches[0].clientY - start.y);
    if (Math.abs(by) > 8 || down > 8) clearTimeout(press);
    if (down > 30) {
      end();
      return;
    }
    start.by = by;
    if (by > 12) start.bubble.style.transform = `translateX(${Math.min(by, SWIPE_PX + 12)}px)`;
  }, { passive: true });
  thread?.addEventListener("touchend", () => {
    if (start?.by > SWIPE_PX && form.elements.reply_to) setQuote(form, start.article);
    end();
  });
  thread?.addEventListener("touchcancel", end);
}
