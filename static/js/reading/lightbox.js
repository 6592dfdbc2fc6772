// A picture in full, over the page: arrows lead to the other pictures of the thread.

import { texts } from "../interface_texts.js";

const PICTURE = "[data-thread] a.bubble-picture";
let dialog = null;
let opened = null;

document.addEventListener("click", (event) => {
  const link = event.target.closest(PICTURE);
  if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  show(link);
});

function show(link) {
  dialog ??= make();
  opened = link;
  const picture = dialog.querySelector("img");
  picture.src = link.href;
  picture.alt = link.ariaLabel ?? "";
  dialog.querySelector("figcaption").textContent = link.ariaLabel ?? "";
  const save = dialog.querySelector("a");
  save.href = `${link.href}?download`;
  const links = pictures();
  dialog.querySelector("[data-lightbox-before]").disabled = links[0] === link;
  dialog.querySelector("[data-lightbox-after]").disabled = links.at(-1) === link;
  if (!dialog.open) dialog.showModal();
}

const pictures = () => [...document.querySelectorAll("[data-thread] a.bubble-picture")];

function move(by) {
  const links = pictures();
  const next = links[links.indexOf(opened) + by];
  if (next) show(next);
}

function make() {
  const made = document.createElement("dialog");
  made.className = "lightbox";
  const figure = document.createElement("figure");
  figure.append(document.createElement("img"), document.createElement("figcaption"));
  const save = Object.assign(document.createElement("a"), { className: "button", textContent: texts.download });
  save.setAttribute("download", "");
  const close = control(texts.close, "✕", () => made.close());
  const before = control(texts.previous, "‹", () => move(-1));
  const after = control(texts.next, "›", () => move(1));
  before.dataset.lightboxBefore = "";
  after.dataset.lightboxAfter = "";
  const bar = Object.assign(document.createElement("div"), { className: "lightbox-bar" });
  bar.append(before, after, save, close);
  made.append(figure, bar);
  made.addEventListener("click", (event) => {
    if (event.target === made || event.target === figure) made.close();
  });
  made.addEventListener("keydown", ({ key }) => {
    if (key === "ArrowLeft") move(-1);
    if (key === "ArrowRight") move(1);
  });
  made.addEventListener("close", () => opened?.focus());
  document.body.append(made);
  return made;
}

function control(name, shown, act) {
  const made = Object.assign(document.createElement("button"), { type: "button", className: "button", textContent: shown, title: name });
  made.ariaLabel = name;
  made.addEventListener("click", act);
  return made;
}
