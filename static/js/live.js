// Keeps a page up to date through one socket, whose frames replace or insert elements by key.
//
// Each part of the page names what it shows in data-watch ("conversation=7") and, in data-since, the
// time as of which it is up to date; the socket watches all parts.
// An element has data-live="message:<id>" and data-version; a list has data-live-list with the
// kinds of its elements, data-order ("asc" or "desc", by data-sort) and optionally data-max.
// After a reconnect, the server sends the changes since the time as of which the page is up to date.
// It sends changes whose push was lost with the next ping.

const texts = JSON.parse(document.getElementById("interface-texts").textContent);
const RETRY_FIRST_MS = 500;
const RETRY_MOST_MS = 10_000;
const SILENCE_MS = 60_000; // the server pings every 25 s
const HINT_AFTER_MS = 400;
const NOT_ALLOWED = 4003; // signed out, or the user's permission was removed
const AT_BOTTOM_PX = 60;

// --- elements --------------------------------------------------------------------------------------

const find = (key) => document.querySelector(`[data-live="${CSS.escape(key)}"]`);

/** Show an element unless the page already has this version or a newer one. */
function show(html, version, { mine = false } = {}) {
  const template = document.createElement("template");
  template.innerHTML = html;
  const fresh = template.content.firstElementChild;
  if (!fresh?.dataset.live) return;
  fresh.dataset.version = version ?? fresh.dataset.version;
  const known = find(fresh.dataset.live);
  if (known && Number(known.dataset.version) >= Number(fresh.dataset.version)) return;
  const kind = fresh.dataset.live.split(":", 1)[0];
  const placed = known ? replace(known, fresh) : insert(kind, fresh);
  if (!placed) return;
  if (fresh.matches(`a[href="${location.pathname}"]`)) fresh.ariaCurrent = "page";
  htmx.process(fresh);
  markFields();
  if (kind === "message") messageShown(known, fresh, mine);
  if (kind === "call") callShown(known, fresh);
}

/** Repeat a problem next to the field that fixes it, as long as a card shows it. */
function markFields() {
  for (const repeated of document.querySelectorAll(".field-trouble")) repeated.remove();
  for (const trouble of document.querySelectorAll("[data-mended-by]")) {
    const input = document.getElementById(trouble.dataset.mendedBy);
    const repeated = document.createElement("p");
    repeated.className = "errors field-trouble";
    repeated.id = `${trouble.dataset.mendedBy}_trouble`;
    repeated.textContent = trouble.textContent;
    input?.closest(".field")?.append(repeated);
    const ids = new Set((input?.getAttribute("aria-describedby") ?? "").split(" ").filter(Boolean));
    input?.setAttribute("aria-describedby", [...ids.add(repeated.id)].join(" "));
  }
}

function replace(known, fresh) {
  const details = fresh.querySelector("details");
  if (details) details.open = known.querySelector("details")?.open ?? false;
  const result = fresh.querySelector(".test-result:empty");
  if (result) result.replaceChildren(...(known.querySelector(".test-result")?.childNodes ?? []));
  keepFile(known, fresh);
  const focused = known.contains(document.activeElement) ? document.activeElement : null;
  if (known.dataset.sort === fresh.dataset.sort) {
    known.replaceWith(fresh);
  } else {
    const list = known.parentElement;
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

function insert(kind, fresh) {
  const list = document.querySelector(`[data-live-list~="${kind}"]`);
  if (!list) return false;
  const first = list.querySelector(":scope > [data-sort]");
  // Older than everything shown: it is loaded with the older elements.
  if (list.querySelector("[data-older]") && first && fresh.dataset.sort < first.dataset.sort) {
    return false;
  }
  list.querySelectorAll(".list-empty, [data-empty]").forEach((element) => element.remove());
  fresh.classList.add("is-new");
  place(list, fresh);
  return fresh.isConnected;
}

function place(list, fresh) {
  const descending = list.dataset.order === "desc";
  const comesBefore = (element) =>
    descending ? element.dataset.sort > fresh.dataset.sort : element.dataset.sort <= fresh.dataset.sort;
  const items = [...list.querySelectorAll(":scope > [data-sort]")];
  // The position is nearly always at one end, so search from there.
  let before = descending ? items.filter(comesBefore).at(-1) : items.findLast(comesBefore);
  if (before) before.after(fresh);
  else if (items.length) items[0].before(fresh);
  else list.append(fresh);
  const most = Number(list.dataset.max || Infinity);
  [...list.querySelectorAll(":scope > [data-sort]")].slice(most).forEach((element) => element.remove());
}

// --- the thread of a conversation ------------------------------------------------------------------

const thread = document.querySelector("[data-thread]");
const toBottom = document.querySelector("[data-to-bottom]");
const announcer = document.querySelector("[data-announcer]");
let atBottom = true;
let unseen = false;

function entryShown(known, mine) {
  if (!known) tidyDays();
  if (thread) {
    if (atBottom || mine) scrollDown();
    else if (!known) toBottom.hidden = false;
  }
}

function messageShown(known, fresh, mine) {
  entryShown(known, mine);
  const received = fresh.classList.contains("message-in");
  if (!known && received) {
    announce(texts.newMessage.replace("{text}", fresh.dataset.preview));
    unseen = true;
    markSeen();
  } else if (!received && known?.dataset.status !== fresh.dataset.status) {
    announce(`${fresh.querySelector("[data-icon]").textContent.trim()}: ${fresh.dataset.preview}`);
  }
}

function callShown(known, fresh) {
  entryShown(known, false);
  if (!("incoming" in fresh.dataset)) return;
  announce(fresh.querySelector("span").textContent);
  if (known) return;
  unseen = true;
  markSeen();
}

function announce(words) {
  announcer.textContent = words;
}

function markSeen() {
  const target = document.querySelector("[data-window]");
  if (!unseen || document.hidden || !target) return;
  unseen = false;
  htmx.trigger(target, "alterna:seen");
}

function scrollDown() {
  thread.scrollTop = thread.scrollHeight;
  atBottom = true;
  toBottom.hidden = true;
}

/** Ensure that each day has one separator, before its first message. */
function tidyDays() {
  const list = document.querySelector('[data-live-list~="message"]');
  let day = null;
  for (const node of [...(list?.children ?? [])]) {
    const label = node.dataset.dayLabel;
    if (label) {
      if (label === day || node.nextElementSibling?.dataset.day !== label) node.remove();
    } else if (node.dataset.day && node.dataset.day !== day) {
      day = node.dataset.day;
      if (node.previousElementSibling?.dataset.dayLabel !== day) node.before(separator(day));
    }
  }
  document.dispatchEvent(new Event("alterna:times"));
}

function separator(day) {
  const element = document.createElement("p");
  element.className = "day";
  element.dataset.dayLabel = day;
  return element;
}

if (thread) {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  if (target) target.focus();
  else scrollDown();
  thread.addEventListener("scroll", () => {
    atBottom = thread.scrollHeight - thread.scrollTop - thread.clientHeight < AT_BOTTOM_PX;
    if (atBottom) toBottom.hidden = true;
  }, { passive: true });
  // Stay at the bottom when an image has loaded (these events do not bubble).
  for (const event of ["load", "loadedmetadata"]) {
    thread.addEventListener(event, () => atBottom && scrollDown(), true);
  }
  // Keep the last message visible when the composer grows or a phone's keyboard opens.
  new ResizeObserver(() => atBottom && scrollDown()).observe(thread);
  toBottom.addEventListener("click", scrollDown);

  let fromEnd = 0;
  thread.addEventListener("htmx:beforeSwap", (event) => {
    if (event.target.matches("[data-older]")) fromEnd = thread.scrollHeight - thread.scrollTop;
  });
  thread.addEventListener("htmx:afterSettle", () => {
    if (!fromEnd) return;
    tidyDays();
    thread.scrollTop = thread.scrollHeight - fromEnd;
    fromEnd = 0;
    thread.focus({ preventScroll: true });
  });
}

document.addEventListener("visibilitychange", markSeen);

// A form's response is an element like those of the socket, and may arrive after a newer one.
document.addEventListener("htmx:afterRequest", (event) => {
  const { elt, successful, xhr } = event.detail;
  if (successful && elt.closest("[data-live-response]")) {
    const answer = document.createElement("template");
    answer.innerHTML = xhr.responseText;
    for (const element of answer.content.children) {
      show(element.outerHTML, undefined, { mine: elt.matches("form") });
    }
  }
});

// --- alerts ----------------------------------------------------------------------------------------

const alarmList = document.querySelector("[data-alarms]");
const alarmAnnouncer = document.querySelector("[data-alarm-announcer]");
const MOST_REMEMBERED = 200;

/** Ids of alerts stored in this browser, so that an alert is announced only once across pages. */
const remembered = (key) => {
  try {
    return JSON.parse(localStorage.getItem(key) ?? "[]");
  } catch {
    return []; // storage may be blocked
  }
};
const remember = (key, ids) => {
  const all = [...new Set([...remembered(key), ...ids])].slice(-MOST_REMEMBERED);
  try {
    localStorage.setItem(key, JSON.stringify(all));
  } catch {
    // Then the alert is announced again on the next page.
  }
};

let alarms = [];

function focusPage() {
  document.querySelector("main[tabindex]")?.focus();
}

/** Show all open alerts that were not dismissed in this browser, and remove the others. */
function showAlarms() {
  if (!alarmList) return;
  const dismissed = new Set(remembered("alarms:dismissed"));
  const wanted = new Map(alarms.filter(({ id }) => !dismissed.has(id)).map((alarm) => [String(alarm.id), alarm]));
  for (const element of [...alarmList.children]) {
    if (!wanted.has(element.dataset.alarmId)) {
      if (element.contains(document.activeElement)) focusPage();
      element.remove();
    }
  }
  for (const [id, alarm] of wanted) {
    const known = alarmList.querySelector(`[data-alarm-id="${id}"]`);
    const template = document.createElement("template");
    template.innerHTML = alarm.html;
    const fresh = template.content.firstElementChild;
    if (!known) alarmList.append(fresh);
    else if (known.querySelector("p").textContent !== fresh.querySelector("p").textContent) {
      known.querySelector("p").replaceWith(fresh.querySelector("p"));
    }
  }
  const said = new Set(remembered("alarms:said"));
  const unsaid = [...wanted.values()].filter(({ id }) => !said.has(id));
  if (unsaid.length) {
    alarmAnnouncer.textContent = unsaid.map(({ text }) => text).join("\n");
    remember("alarms:said", unsaid.map(({ id }) => id));
  }
}

alarmList?.addEventListener("click", (event) => {
  const alarm = event.target.closest("[data-dismiss]")?.closest("[data-alarm-id]");
  if (!alarm) return;
  remember("alarms:dismissed", [Number(alarm.dataset.alarmId)]);
  alarm.remove(); // even if the dismissal cannot be stored
  const next = alarmList.querySelector("[data-dismiss]");
  if (next) next.focus();
  else focusPage();
});
// Dismissed in another tab.
addEventListener("storage", (event) => event.key === "alarms:dismissed" && showAlarms());

// --- the socket ------------------------------------------------------------------------------------

class Socket {
  constructor(query, since) {
    this.tries = 0;
    this.watch(query, since);
  }

  watch(query, since) {
    this.query = query;
    this.since = since;
    this.open();
  }

  open() {
    clearTimeout(this.timer);
    this.drop();
    const url = new URL(`/ws/live/?${this.query}`, location.href);
    url.protocol = url.protocol.replace("http", "ws");
    if (this.since) url.searchParams.set("since", this.since);
    const socket = new WebSocket(url);
    this.socket = socket;
    this.receivedAt = Date.now();
    socket.onmessage = (event) => this.frame(JSON.parse(event.data));
    socket.onclose = ({ code }) => {
      if (socket !== this.socket) return;
      if (code === NOT_ALLOWED) location.reload(); // shows the login page or the reason
      else this.later();
    };
  }

  frame(frame) {
    this.receivedAt = Date.now();
    if (frame.kind === "reload") {
      location.reload();
      return;
    }
    if (frame.html) {
      show(frame.html, frame.version);
      refreshSoon();
    }
    if (frame.kind === "refresh") refreshSoon();
    if (frame.kind === "alarms") {
      if (this.heardAlarms) refreshSoon();
      this.heardAlarms = true;
      alarms = frame.alarms;
      showAlarms();
    }
    if (frame.kind === "ready") {
      if (this.lost) refreshSoon();
      this.lost = false;
      this.tries = 0;
      this.hint(false);
      document.dispatchEvent(new Event("alterna:times"));
    }
    // Only these frames prove the page up to date: a push before another frame may have been lost.
    if (frame.kind === "ready" || frame.kind === "ping") this.since = frame.at;
  }

  later() {
    this.socket = null;
    this.lost = true;
    this.hint(true);
    const most = Math.min(RETRY_MOST_MS, RETRY_FIRST_MS * 2 ** this.tries);
    this.tries += 1;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.open(), most * (0.5 + Math.random() / 2));
  }

  /** Check the connection when it may work again or may have failed silently. */
  check() {
    const silent = Date.now() - this.receivedAt > SILENCE_MS;
    if (!this.socket) {
      this.tries = 0;
      this.open();
    } else if (silent) {
      this.drop();
      this.later();
    }
  }

  drop() {
    const socket = this.socket;
    this.socket = null;
    socket?.close();
  }

  stop() {
    clearTimeout(this.timer);
    this.drop();
    this.hint(false);
  }

  hint(lost) {
    clearTimeout(this.hintTimer);
    if (lost) this.hintTimer = setTimeout(() => (hint.hidden = false), HINT_AFTER_MS);
    else hint.hidden = true;
  }
}

const hint = document.querySelector("[data-connection]");
let socket = null;

/** Make the socket watch what the parts of the page request; a filtered list requests nothing. */
function connect() {
  const parts = [...document.querySelectorAll("[data-watch]")];
  const query = parts.map((part) => part.dataset.watch).sort().join("&");
  if (query === (socket?.query ?? "")) return;
  if (!query) {
    socket.stop();
    socket = null;
    return;
  }
  // Use the oldest part's time: the server may then repeat some changes.
  const moments = [socket?.since, ...parts.map((part) => part.dataset.since)].filter(Boolean);
  const since = moments.sort((one, other) => Date.parse(one) - Date.parse(other))[0];
  if (socket) socket.watch(query, since);
  else socket = new Socket(query, since);
}

const each = (act) => () => socket && act(socket);

let refreshTimer = null;

/** Reload the figures that no frame contains, at most every two seconds. */
function refreshSoon() {
  refreshTimer ??= setTimeout(() => {
    refreshTimer = null;
    window.htmx?.trigger(document.body, "alterna:refresh"); // the admin site has no htmx
  }, 2000);
}

markFields();
connect();
document.addEventListener("htmx:afterSettle", connect);
document.addEventListener("visibilitychange", each((socket) => document.hidden || socket.check()));
addEventListener("online", each((socket) => socket.check()));
addEventListener("offline", each((socket) => socket.socket && (socket.drop(), socket.later())));
addEventListener("pagehide", each((socket) => socket.stop()));
addEventListener("pageshow", (event) => event.persisted && each((socket) => socket.open())());
setInterval(each((socket) => socket.socket && socket.check()), SILENCE_MS / 6);
