// Show the elements that the server sends: replace a known one, insert a new one in order.

import { markFields } from "./fields.js";
import { belongs, sortKey } from "./tabs.js";
import { callShown, messageShown } from "./thread.js";

const find = (key) => document.querySelector(`[data-live="${CSS.escape(key)}"]`);

/** Show an element unless the page already has this version or a newer one. */
export function show(html, version, { mine = false } = {}) {
  const template = document.createElement("template");
  template.innerHTML = html;
  const fresh = template.content.firstElementChild;
  if (!fresh?.dataset.live) return;
  fresh.dataset.version = version ?? fresh.dataset.version;
  const known = find(fresh.dataset.live);
  if (known && Number(known.dataset.version) >= Number(fresh.dataset.version)) return;
  const kind = fresh.dataset.live.split(":", 1)[0];
  const current = fresh.matches(`a[href="${location.pathname}"]`);
  if (current) fresh.ariaCurrent = "page";
  const list = (known ?? document).closest?.("[data-live-list]") ?? listOf(kind);
  // The conversation that is open stays, so that it does not vanish while it is read.
  if (list && !current && !belongs(list, fresh)) {
    known?.remove();
    return;
  }
  const placed = known ? replace(known, fresh) : insert(list, fresh);
  if (!placed) return;
  htmx.process(fresh);
  markFields();
  if (kind === "message") messageShown(known, fresh, mine);
  if (kind === "call" || kind === "note") callShown(known, fresh);
}

function replace(known, fresh) {
  for (const details of fresh.querySelectorAll("details")) {
    const [name] = details.classList;
    const before = known.querySelector(name ? `details.${name}` : "details:not([class])");
    details.open = before?.open ?? false;
  }
  const result = fresh.querySelector(".test-result:empty");
  if (result) result.replaceChildren(...(known.querySelector(".test-result")?.childNodes ?? []));
  keepFile(known, fresh);
  fresh.classList.toggle("is-follow", known.classList.contains("is-follow"));
  const focused = known.contains(document.activeElement) ? document.activeElement : null;
  const list = known.parentElement;
  if (sortKey(list, known) === sortKey(list, fresh)) {
    known.replaceWith(fresh);
  } else {
    known.remove();
    place(list, fresh);
  }
  if (focused) {
    const key = focused.dataset.focus;
    ((key && fresh.querySelector(`[data-focus="${key}"]`)) || fresh).focus({ preventScroll: true });
  }
  return true;
}

/** Keep the file's element: a new status must not reload an image or stop playback. */
function keepFile(known, fresh) {
  const [before, after] = [known, fresh].map((element) => element.querySelector("[data-file]"));
  if (!before || !after || before.dataset.file !== after.dataset.file) return;
  if (before.dataset.fileState !== "stored" || after.dataset.fileState !== "stored") return;
  const player = before.querySelector("video, audio");
  const playing = player && !player.paused;
  after.replaceWith(before);
  if (playing) queueMicrotask(() => player.play());
}

const listOf = (kind) => document.querySelector(`[data-live-list~="${kind}"]`);

function insert(list, fresh) {
  if (!list) return false;
  const first = list.querySelector(":scope > [data-sort]");
  // Older than everything shown: it is loaded with the older elements.
  if (list.querySelector("[data-older]") && first && fresh.dataset.sort < first.dataset.sort) {
    return false;
  }
  const last = [...list.querySelectorAll(":scope > [data-sort]")].at(-1);
  if (list.querySelector(":scope > [data-more]") && last && sortKey(list, fresh) < sortKey(list, last)) {
    return false;
  }
  list.querySelectorAll(".list-empty, [data-empty]").forEach((element) => element.remove());
  fresh.classList.add("is-new");
  place(list, fresh);
  return fresh.isConnected;
}

function place(list, fresh) {
  const descending = list.dataset.order === "desc";
  const key = sortKey(list, fresh);
  const comesBefore = (element) =>
    descending ? sortKey(list, element) > key : sortKey(list, element) <= key;
  const items = [...list.querySelectorAll(":scope > [data-sort]")];
  // The position is nearly always at one end, so search from there.
  let before = descending ? items.filter(comesBefore).at(-1) : items.findLast(comesBefore);
  if (before) before.after(fresh);
  else if (items.length) items[0].before(fresh);
  else list.append(fresh);
  const most = Number(list.dataset.max || Infinity);
  [...list.querySelectorAll(":scope > [data-sort]")].slice(most).forEach((element) => element.remove());
}
