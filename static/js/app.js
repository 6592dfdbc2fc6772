// Behaviour shared by all pages: times, toasts, copying, menus, the composer.

const texts = JSON.parse(document.getElementById("interface-texts").textContent);
const language = document.documentElement.lang;
const NEAR_THE_LIMIT = 0.9;
const TOAST_MS = 7000;

// --- htmx requests ---------------------------------------------------------------------------------

document.addEventListener("htmx:configRequest", (event) => {
  event.detail.headers["X-CSRFToken"] = document.querySelector("meta[name=csrf-token]").content;
});

document.addEventListener("htmx:responseError", (event) => {
  if (event.target.closest("[data-composer]")) return; // shows the error beside the text
  if (event.target.closest("[data-polls]")) return; // retries automatically
  if (event.detail.xhr.status !== 401) toast(texts.requestFailed, "error");
});

document.addEventListener("htmx:sendError", (event) => {
  if (!event.target.closest("[data-composer], [data-polls], #summary, [data-window]")) {
    toast(texts.requestFailed, "error");
  }
});

document.addEventListener("toast", (event) => toast(event.detail.text, event.detail.level));

// --- toasts ----------------------------------------------------------------------------------------

function toast(text, level = "info") {
  const template = document.querySelector("[data-toast-template]");
  const element = template.content.firstElementChild.cloneNode(true);
  element.classList.add(`toast-${level}`);
  element.querySelector("p").textContent = text;
  document.querySelector("[data-toasts]").append(element);
  goAway(element);
}

function goAway(element) {
  // An error stays until it is closed.
  if (element.matches(".toast-error, .toast-warning")) return;
  setTimeout(() => element.remove(), TOAST_MS);
}

document.querySelectorAll("[data-toasts] .toast").forEach(goAway);

// --- clicks ----------------------------------------------------------------------------------------

document.addEventListener("click", async (event) => {
  const close = event.target.closest("[data-close]");
  if (close) close.closest(".toast").remove();

  const copy = event.target.closest("[data-copy]");
  if (copy) await copyFrom(document.querySelector(copy.dataset.copy));

  for (const menu of document.querySelectorAll("details[data-menu][open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of document.querySelectorAll("details[data-menu][open]")) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});

document.addEventListener("focusin", (event) => {
  if (event.target.matches("[data-select]")) event.target.select();
});

async function copyFrom(input) {
  input.select();
  try {
    // Without TLS the clipboard API is missing; the old command still works.
    if (navigator.clipboard) await navigator.clipboard.writeText(input.value);
    else if (!document.execCommand("copy")) throw new Error("refused");
    toast(texts.copied);
  } catch {
    toast(texts.copyFailed, "error");
  }
}

// Prevents a double click from submitting a form twice.
document.addEventListener("submit", (event) => {
  if (event.target.matches("[data-once]")) {
    event.target.querySelectorAll("button:not([type=button])").forEach((b) => (b.disabled = true));
  }
});
addEventListener("pageshow", () => {
  document.querySelectorAll("[data-once] button").forEach((b) => (b.disabled = false));
});

// Focus the field that the server rejected.
document.querySelector(".field [aria-invalid=true]")?.focus();
// --- pop-up window ---------------------------------------------------------------------------------

// The response to such a form opens in its own window beside the page, or in a new tab without this
// script or if pop-ups are blocked.
document.addEventListener("submit", (event) => {
  const name = event.target.dataset.smallWindow;
  if (!name) return;
  const small = window.open("", name, "popup,width=500,height=700");
  event.target.target = small ? name : "_blank";
  if (small) small.opener = null; // the window shows an external page
});

// --- the dialog ------------------------------------------------------------------------------------

// Fetched content opens the dialog. Closing empties it, so that its content stops polling.
document.addEventListener("htmx:afterSwap", (event) => {
  const { target } = event.detail;
  if (target.matches?.("[data-dialog]") && !target.open) target.showModal();
});
document.addEventListener("dialog:close", () => document.querySelector("[data-dialog]")?.close());
document.addEventListener("click", (event) => {
  const dialog = event.target.closest("[data-dialog]");
  if (dialog && (event.target === dialog || event.target.closest("[data-close-dialog]"))) {
    dialog.close();
  }
});
document.addEventListener("close", (event) => {
  if (event.target.matches("[data-dialog]")) event.target.replaceChildren();
}, true); // does not bubble

// --- times -----------------------------------------------------------------------------------------

const isoDay = new Intl.DateTimeFormat("en-CA", {
  timeZone: texts.timeZone, year: "numeric", month: "2-digit", day: "2-digit",
});
const shortDate = new Intl.DateTimeFormat(language, {
  timeZone: texts.timeZone, year: "numeric", month: "2-digit", day: "2-digit",
});
const longDate = new Intl.DateTimeFormat(language, { timeZone: "UTC", dateStyle: "long" });
const DAY_MS = 24 * 3600 * 1000;
const HALF_A_DAY = 12 * 3600; // seconds

/** Uses the same texts as `relative` in templatetags/alterna.py. */
function relative(moment, now) {
  const seconds = (now - moment) / 1000;
  if (seconds < 60) return texts.now;
  if (seconds < 3600) return texts.minutes.replace("{n}", Math.floor(seconds / 60));
  if (seconds < HALF_A_DAY || isoDay.format(moment) === isoDay.format(now)) {
    return texts.hours.replace("{n}", Math.floor(seconds / 3600));
  }
  if (isoDay.format(moment) === isoDay.format(now - DAY_MS)) return texts.yesterday;
  return shortDate.format(moment);
}

function dayLabel(day) {
  const now = Date.now();
  if (day === isoDay.format(now)) return texts.dayToday;
  if (day === isoDay.format(now - DAY_MS)) return texts.dayYesterday;
  return longDate.format(new Date(`${day}T00:00:00Z`));
}

function refreshTimes() {
  const now = Date.now();
  for (const element of document.querySelectorAll("time[data-relative]")) {
    const words = relative(Date.parse(element.dateTime), now);
    if (words !== element.textContent) element.textContent = words;
  }
  for (const element of document.querySelectorAll("[data-day-label]")) {
    const words = dayLabel(element.dataset.dayLabel);
    if (words !== element.textContent) element.textContent = words;
  }
}

setInterval(refreshTimes, 30_000);
document.addEventListener("visibilitychange", () => document.hidden || refreshTimes());
document.addEventListener("alterna:times", refreshTimes);

// --- a text with a limit ---------------------------------------------------------------------------

function count(field, output, max) {
  const length = [...field.value].length;
  output.hidden = length < max * NEAR_THE_LIMIT;
  output.textContent = `${length} / ${max}`;
  output.classList.toggle("counter-over", length > max);
  return length;
}

// --- composer --------------------------------------------------------------------------------------

class Composer {
  constructor(form) {
    this.form = form;
    this.text = form.querySelector("textarea");
    this.button = form.querySelector("button:not([type=button])");
    this.error = form.querySelector("[data-error]");
    this.counter = form.querySelector("[data-count]");
    this.max = Number(form.dataset.max);
    this.draft = `draft:${location.pathname}`;
    if (this.text.disabled) return;

    this.text.value ||= sessionStorage.getItem(this.draft) ?? "";
    this.grow();
    this.text.addEventListener("input", () => this.changed());
    this.text.addEventListener("keydown", (event) => this.pressed(event));
    form.addEventListener("htmx:beforeRequest", (event) => this.before(event));
    form.addEventListener("htmx:afterRequest", (event) => this.after(event));
  }

  changed() {
    this.say("");
    this.newKey(); // a different text is a different message
    sessionStorage.setItem(this.draft, this.text.value);
    this.grow();
    count(this.text, this.counter, this.max);
  }

  pressed(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    if (!this.text.readOnly) this.form.requestSubmit();
  }

  before(event) {
    if (event.target !== this.form) return;
    const tooLong = count(this.text, this.counter, this.max) > this.max;
    // A file (files.js) may be sent without a text.
    const empty = !this.text.value.trim() && !this.form.elements.media.value;
    if (tooLong || empty) {
      event.preventDefault();
      if (tooLong) this.say(texts.tooLong.replace("{max}", this.max));
      this.text.focus();
      return;
    }
    this.say("");
    this.busy(true);
  }

  after(event) {
    if (event.target !== this.form) return;
    this.busy(false);
    const { successful, xhr } = event.detail;
    if (successful) {
      this.text.value = "";
      sessionStorage.removeItem(this.draft);
      this.newKey();
      this.grow();
      count(this.text, this.counter, this.max);
    } else if (xhr.status === 400) {
      this.say(xhr.responseText);
    } else {
      // Reuse the key: if the first request arrived, the second is recognized as the same.
      this.say(xhr.status ? texts.requestFailed : texts.offline);
    }
    this.text.focus();
  }

  busy(yes) {
    // Not `disabled`: that would remove the focus and close a phone's keyboard.
    this.text.readOnly = yes;
    this.button.disabled = yes;
    this.form.ariaBusy = String(yes);
  }

  say(words) {
    this.error.textContent = words;
    this.text.ariaInvalid = words ? "true" : "false";
  }

  newKey() {
    // `randomUUID` requires a secure context, which a plain-HTTP LAN address is not.
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    this.form.elements.key.value = [...bytes].map((b) => b.toString(16).padStart(2, "0")).join("");
  }

  grow() {
    if (CSS.supports("field-sizing", "content")) return;
    this.text.style.height = "auto";
    this.text.style.height = `${this.text.scrollHeight + 2}px`;
  }
}

document.querySelectorAll("[data-composer]").forEach((form) => new Composer(form));
