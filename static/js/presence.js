// Who else has this conversation open and who writes, so that two people do not answer one customer.
// The page says so of itself over its live socket; the times are those of messaging/live/presence.py.

import { send } from "./live/socket.js";

const VIEWING_MS = 20_000;
const TYPING_MS = 3000;
const line = document.querySelector("[data-presence]");
const composer = document.querySelector("[data-composer] textarea");
let typedAt = -Infinity;
let stopTimer = null;

function sayViewing() {
  send({ viewing: !document.hidden });
}

function sayTyping() {
  clearTimeout(stopTimer);
  stopTimer = setTimeout(stopTyping, TYPING_MS * 1.5);
  if (performance.now() - typedAt < TYPING_MS) return;
  typedAt = performance.now();
  send({ typing: true });
}

function stopTyping() {
  clearTimeout(stopTimer);
  if (typedAt === -Infinity) return;
  typedAt = -Infinity;
  if (!document.hidden) send({ typing: false });
}

if (line) {
  document.addEventListener("alterna:ready", sayViewing);
  document.addEventListener("visibilitychange", () => {
    stopTyping();
    sayViewing();
  });
  sayViewing();
  setInterval(() => document.hidden || sayViewing(), VIEWING_MS);
  composer?.addEventListener("input", () => (composer.value.trim() ? sayTyping() : stopTyping()));
  composer?.form.addEventListener("htmx:afterRequest", stopTyping);
  document.addEventListener("alterna:frame", ({ detail: frame }) => {
    if (frame.kind === "presence") showPeople(frame.people);
  });
}

function showPeople(people) {
  const others = people.filter(({ id }) => String(id) !== line.dataset.me);
  const typing = others.filter((person) => person.typing);
  const shown = typing.length ? typing : others;
  line.hidden = !others.length;
  line.classList.toggle("is-typing", typing.length > 0);
  const names = new Intl.ListFormat(document.documentElement.lang).format(shown.map(({ name }) => name));
  const kind = typing.length ? "typing" : "viewing";
  const words = line.dataset[shown.length > 1 ? `${kind}More` : kind];
  line.replaceChildren(...others.map(face), text(words.replace(/\{names?\}/, () => names)));
}

function face({ initials, hue }) {
  const element = document.createElement("span");
  element.className = `avatar avatar-small hue-${Number(hue)}`;
  element.ariaHidden = "true";
  element.textContent = initials;
  return element;
}

function text(words) {
  const element = document.createElement("span");
  element.textContent = words;
  return element;
}
