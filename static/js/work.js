// Work on a conversation: the menus of the head, private notes, and the panel that follows changes.

const panelBody = () => document.querySelector("[data-panel-body]");

// --- menus -----------------------------------------------------------------------------------------

// A choice closes its menu, before the answer replaces the head.
document.addEventListener("htmx:beforeRequest", (event) => {
  if (!event.target.matches("[data-work], [data-menu-form]")) return;
  const menu = event.target.querySelector("details[data-menu][open]") ?? event.target.closest("details[data-menu]");
  if (menu) menu.open = false;
});

document.addEventListener("input", (event) => {
  if (!event.target.matches("[data-filter-people]")) return;
  const wanted = folded(event.target.value);
  for (const button of event.target.closest("[data-people]").querySelectorAll("[data-name]")) {
    button.hidden = !folded(button.dataset.name).includes(wanted);
  }
});

// Enter chooses who is found; it must not press the form's first button.
document.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !event.target.matches?.("[data-filter-people]")) return;
  event.preventDefault();
  event.target.closest("[data-people]").querySelector("[data-name]:not([hidden])")?.click();
});

const folded = (text) => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();

// --- private notes ---------------------------------------------------------------------------------

const form = document.querySelector("[data-note-form]");

class NoteForm {
  constructor() {
    this.text = form.querySelector("textarea");
    this.list = form.querySelector("[data-note-people]");
    this.error = form.querySelector("[data-note-error]");
    this.text.value ||= this.stored();
    this.text.addEventListener("input", () => this.changed());
    this.text.addEventListener("keydown", (event) => this.pressed(event));
    this.text.addEventListener("blur", () => setTimeout(() => this.close(), 150));
    this.list.addEventListener("mousedown", (event) => {
      event.preventDefault();
      this.choose(event.target.closest("[data-username]"));
    });
    form.addEventListener("htmx:beforeRequest", ({ target }) => (this.text.readOnly = target === form));
    form.addEventListener("htmx:afterRequest", (event) => this.after(event));
    if (this.text.value || location.hash === "#note-form") this.open(location.hash === "#note-form");
  }

  stored() {
    try {
      return sessionStorage.getItem(form.dataset.draft) ?? "";
    } catch {
      return "";
    }
  }

  store() {
    try {
      if (this.text.value) sessionStorage.setItem(form.dataset.draft, this.text.value);
      else sessionStorage.removeItem(form.dataset.draft);
    } catch {
      // The note is then lost with the page.
    }
  }

  toggle() {
    if (form.classList.contains("is-open")) this.hide();
    else this.open(true);
  }

  open(focus) {
    form.classList.add("is-open");
    if (focus) this.text.focus();
  }

  hide() {
    form.classList.remove("is-open");
    if (location.hash === "#note-form") history.replaceState(null, "", location.pathname + location.search);
    document.querySelector("[data-composer] textarea")?.focus();
  }

  async changed() {
    this.error.textContent = "";
    this.store();
    const [, wanted] = this.text.value.slice(0, this.text.selectionStart).match(/(?:^|[^\w@.])@([\w.+-]*)$/u) ?? [];
    if (wanted === undefined) return this.close();
    await this.load();
    const sought = folded(wanted);
    const found = this.options().filter((option) => {
      const { name, username } = option.dataset;
      option.hidden = ![username, ...name.split(" ")].some((word) => folded(word).startsWith(sought));
      return !option.hidden;
    });
    this.list.hidden = !found.length;
    this.text.ariaExpanded = String(found.length > 0);
    this.mark(found[0]);
  }

  async load() {
    this.loading ??= fetch(form.dataset.people, { headers: { "HX-Request": "true" } })
      .then((answer) => (answer.ok ? answer.text() : ""))
      .then((html) => (this.list.innerHTML = html))
      .catch(() => (this.loading = undefined));
    await this.loading;
  }

  options() {
    return [...this.list.querySelectorAll("[data-username]")];
  }

  mark(option) {
    for (const one of this.options()) one.ariaSelected = String(one === option);
    if (option) this.text.setAttribute("aria-activedescendant", option.id);
    else this.text.removeAttribute("aria-activedescendant");
    option?.scrollIntoView({ block: "nearest" });
  }

  pressed(event) {
    if (event.isComposing) return;
    if (!this.list.hidden) {
      const shown = this.options().filter((option) => !option.hidden);
      const at = shown.findIndex((option) => option.ariaSelected === "true");
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (step) this.mark(shown[(at + step + shown.length) % shown.length]);
      else if (event.key === "Enter" || event.key === "Tab") this.choose(shown[at]);
      else if (event.key === "Escape") this.close();
      else return;
      event.preventDefault();
      event.stopPropagation();
    } else if (event.key === "Escape") {
      this.hide();
    } else if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      if (this.text.value.trim()) form.requestSubmit();
    }
  }

  choose(option) {
    if (!option) return;
    const end = this.text.selectionStart;
    const start = this.text.value.lastIndexOf("@", end - 1);
    this.text.setRangeText(`@${option.dataset.username} `, start, end, "end");
    this.close();
    this.store();
    this.text.focus();
  }

  close() {
    this.list.hidden = true;
    this.text.ariaExpanded = "false";
    this.mark(null);
  }

  after(event) {
    if (event.target !== form) return;
    this.text.readOnly = false;
    const { successful, xhr } = event.detail;
    if (successful) {
      this.text.value = "";
      this.store();
      this.hide();
    } else if (xhr.status === 400) {
      this.error.textContent = xhr.responseText;
    }
  }
}

if (form) {
  const note = new NoteForm();
  document.addEventListener("click", (event) => {
    if (!event.target.closest("[data-note-toggle]")) return;
    event.preventDefault();
    event.target.closest("details[data-menu]")?.removeAttribute("open");
    const panel = document.querySelector("[data-panel]");
    if (matchMedia("(max-width: 75rem)").matches && panel?.contains(event.target)) {
      panel.querySelector("[data-panel-toggle]").click();
    }
    note.toggle();
  });
}

// --- what others do --------------------------------------------------------------------------------

let late = false;

/** Load the panel again, unless somebody writes in it: then as soon as they have left it. */
function refreshPanel() {
  const body = panelBody();
  const field = document.activeElement;
  const isWritten = [...(body?.querySelectorAll("input, textarea") ?? [])].some(({ value, defaultValue }) => value !== defaultValue);
  late = isWritten || Boolean(body?.contains(field) && field.matches("input, textarea"));
  if (body && !late) htmx.trigger(body, "alterna:panel");
}

document.addEventListener("focusout", () => late && setTimeout(refreshPanel, 200));

const answered = document.querySelector("[data-answered]");
const me = document.querySelector("[data-presence]")?.dataset.me;
const latest = () => [...document.querySelectorAll("[data-message]")].at(-1)?.dataset.sort ?? "";
let newest = latest();

document.addEventListener("alterna:frame", ({ detail: frame }) => {
  if (frame.kind === "work" || frame.kind === "note") refreshPanel();
  if (frame.kind === "message") {
    const text = document.querySelector("[data-composer] textarea")?.value.trim();
    const isNew = frame.sort > newest;
    if (isNew) newest = frame.sort;
    const isAnswer = isNew && frame.html.includes("message-out");
    if (isAnswer && text && answered && String(frame.by?.id ?? "") !== me) sayAnswered(frame);
  }
});

/** Say that somebody else has answered while a text is being written here. */
function sayAnswered(frame) {
  answered.textContent = answered.dataset.text.replace("{name}", () => frame.by?.name ?? answered.dataset.somebody);
  answered.hidden = false;
}

document.querySelector("[data-composer]")?.addEventListener("htmx:afterRequest", () => {
  if (answered) answered.hidden = true;
});

// The answer to a menu's form is the head's part, as of a frame.
document.addEventListener("htmx:responseError", (event) => {
  if (event.target.matches("[data-work], [data-menu-form], .label-add, .panel-form") && event.detail.xhr.status === 400) {
    document.dispatchEvent(new CustomEvent("toast", { detail: { text: event.detail.xhr.responseText, level: "error" } }));
  }
});
